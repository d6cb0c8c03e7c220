/* SPDX-License-Identifier: MIT */
/* Doorbells: writes that only say "look", by register or, without the VMM, by the eventfds of the first ones. */
#ifndef DOORBELLS_H
#define DOORBELLS_H

#include <stdint.h>

#include <tenon/error.h>

#include "registers.h"

struct doorbells {
	int fds[TD_DOORBELL_FAST];
	int poll; /* an epoll of them: one descriptor to wait for */
	uint32_t counts[TD_DOORBELL_COUNT];
	uint32_t irqs; /* TD_DOORBELL_IRQS */
	uint64_t woken_ns;
};

struct testdev;

int doorbells_init(struct doorbells *doorbells, struct tenon_error *err);
void doorbells_finish(struct doorbells *doorbells);
void doorbells_reset(struct testdev *device);

void doorbells_ring(struct testdev *device, unsigned bell);
/** Takes what the eventfds have. */
void doorbells_take(struct testdev *device);

#endif

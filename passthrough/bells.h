/* SPDX-License-Identifier: MIT */
/*
 * Doorbells: writes to a BAR that signal an eventfd of the device's server, which so wakes without this process. They follow the
 * BAR; where the hypervisor refuses one, it works trapped.
 */
#ifndef BELLS_H
#define BELLS_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>

#include "transport.h"

#define BELLS_MAX 8 /* of a BAR */

struct tenon_device;
struct bar;

struct bells {
	struct transport_doorbell bell[BELLS_MAX];
	unsigned count;
	uint64_t base;     /* where the BAR is that they are attached at; 0: nowhere */
	unsigned attached; /* a bit each */
	bool told;         /* the user, that one could not be */
};

/** Asks for those of a BAR, again at a device that came back. None where device, BAR or VMM has no use for them. */
int bells_query(struct tenon_device *device, unsigned bar, struct tenon_error *err);

/** Detaches them, unless they are wanted where they are. */
void bells_withdraw(struct tenon_device *device, struct bar *bar, uint64_t wanted_base);
void bells_place(struct tenon_device *device, struct bar *bar, uint64_t wanted_base);

#endif

/* SPDX-License-Identifier: MIT */
/* The load: the device keeps writing to pages of a window, at a rate or step by step, and knows what it wrote last to each. */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "registers.h"

#define LOAD_DUE_MAX (1u << 20)

struct load {
	uint64_t address;
	uint32_t pages;
	uint32_t rate;
	uint32_t page; /* TD_LOAD_PAGE */
	uint32_t faults;
	uint64_t written;
	uint64_t due;     /* pages to write now */
	uint64_t last_ns; /* when the rate was looked at last; 0: not running */
	uint64_t carry;   /* of pages times nanoseconds */
	uint32_t writing; /* the page in hand */
	bool waits;       /* for the answer to a message */
	uint64_t stamp[4];
	uint32_t *sequence; /* TD_LOAD_PAGES_MAX */
};

struct testdev;

void load_reset(struct testdev *device);
/** Writes this many more pages. */
void load_step(struct testdev *device, uint32_t pages);
/** Does what is due. @return whether there is more to do at once */
bool load_run(struct testdev *device);
/** When the rate wants it next; UINT64_MAX: never. */
uint64_t load_deadline_ns(const struct testdev *device);

#endif

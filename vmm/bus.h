/* SPDX-License-Identifier: MIT */
/*
 * One address space of the guest (ports, or memory that is not RAM): which handler owns which range.
 * Threads: any. A handler is called without the bus's lock, so it may add and remove ranges itself (a BAR that moves).
 * What a handler points to must outlive the last vCPU that runs, or say with `in_use` who is inside it.
 */
#ifndef BUS_H
#define BUS_H

#include <pthread.h>
#include <stdint.h>

#include <tenon/error.h>

#include "in_use.h"

struct bus_handler {
	/* offset is from the range's start; data has size_bytes bytes (1, 2, 4 or 8), little-endian. A read fills all of it. */
	void (*read)(void *context, uint64_t offset, void *data, unsigned size_bytes);
	void (*write)(void *context, uint64_t offset, const void *data, unsigned size_bytes);
	void *context;
	struct in_use *in_use; /* entered around every call; NULL: stays as long as the machine */
};

struct bus_range {
	uint64_t first;
	uint64_t size_bytes;
	struct bus_handler handler;
};

#define BUS_RANGES_MAX 256

struct bus {
	const char *name; /* for messages: "port", "memory" */
	pthread_rwlock_t lock;
	unsigned count;
	struct bus_range ranges[BUS_RANGES_MAX]; /* those that answer, ascending */
	unsigned waiting_count;
	struct bus_range waiting[BUS_RANGES_MAX]; /* each overlaps one that answers; in the order in which they came */
};

void bus_init(struct bus *bus, const char *name);
void bus_finish(struct bus *bus);

/** For the machine's own parts. @return 0; -EEXIST when the range overlaps another; -ENOSPC */
int bus_add(struct bus *bus, const struct bus_range *range, struct tenon_error *err);
/** For what a guest may place anywhere: while the range overlaps one that came before, it does not answer. @return 0; -ENOSPC */
int bus_add_or_wait(struct bus *bus, const struct bus_range *range, struct tenon_error *err);
/** Removes the range that starts at `first` and whose handler has this context, if there is one. What waited for it answers. */
void bus_remove(struct bus *bus, uint64_t first, const void *context);

/** Context of the handler that answers in all of a range; NULL: none does. */
const void *bus_owner(struct bus *bus, uint64_t first, uint64_t size_bytes);

/** Reads give ones where nobody answers, or where an access crosses a range's end. */
void bus_read(struct bus *bus, uint64_t address, void *data, unsigned size_bytes);
void bus_write(struct bus *bus, uint64_t address, const void *data, unsigned size_bytes);

#endif

// SPDX-License-Identifier: MIT
/*
 * Dispatch of trapped guest accesses by address: a sorted array and a binary search. Ranges that overlap one which answers
 * wait in the order in which they came.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "bus.h"

void bus_init(struct bus *bus, const char *name)
{
	bus->name = name;
	bus->count = bus->waiting_count = 0;
	pthread_rwlock_init(&bus->lock, NULL);
}

void bus_finish(struct bus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
}

/* Index of the first range that starts above `address`. */
static unsigned upper_bound(const struct bus *bus, uint64_t address)
{
	unsigned low = 0, high = bus->count;
	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (bus->ranges[middle].first <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool overlaps(const struct bus_range *a, const struct bus_range *b)
{
	return a->first <= b->first + (b->size_bytes - 1) && b->first <= a->first + (a->size_bytes - 1);
}

/* Where a range would go; -1: another one answers there. */
static int place_of(const struct bus *bus, const struct bus_range *range)
{
	unsigned at = upper_bound(bus, range->first);
	if ((at > 0 && overlaps(range, &bus->ranges[at - 1])) || (at < bus->count && overlaps(range, &bus->ranges[at])))
		return -1;
	return (int)at;
}

static void insert(struct bus *bus, unsigned at, const struct bus_range *range)
{
	memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(*range));
	bus->ranges[at] = *range;
	bus->count++;
}

static int add(struct bus *bus, const struct bus_range *range, bool may_wait, struct tenon_error *err)
{
	int code = 0;
	pthread_rwlock_wrlock(&bus->lock);
	int at = place_of(bus, range);
	if (bus->count + bus->waiting_count >= BUS_RANGES_MAX)
		code = tenon_fail(err, -ENOSPC, "%s 0x%llx: more than %d ranges; assign fewer devices", bus->name,
				  (unsigned long long)range->first, BUS_RANGES_MAX);
	else if (at >= 0)
		insert(bus, (unsigned)at, range);
	else if (may_wait)
		bus->waiting[bus->waiting_count++] = *range;
	else
		code = tenon_fail(err, -EEXIST, "%s 0x%llx: already taken; place it elsewhere", bus->name,
				  (unsigned long long)range->first);
	pthread_rwlock_unlock(&bus->lock);
	return code;
}

int bus_add(struct bus *bus, const struct bus_range *range, struct tenon_error *err)
{
	return add(bus, range, false, err);
}

int bus_add_or_wait(struct bus *bus, const struct bus_range *range, struct tenon_error *err)
{
	return add(bus, range, true, err);
}

static void stop_waiting(struct bus *bus, unsigned at)
{
	bus->waiting_count--;
	memmove(&bus->waiting[at], &bus->waiting[at + 1], (bus->waiting_count - at) * sizeof(bus->waiting[0]));
}

/* Those that came first go first. */
static void end_waits(struct bus *bus)
{
	for (unsigned i = 0; i < bus->waiting_count;) {
		int at = place_of(bus, &bus->waiting[i]);
		if (at < 0) {
			i++;
			continue;
		}
		insert(bus, (unsigned)at, &bus->waiting[i]);
		stop_waiting(bus, i);
	}
}

static bool is_range(const struct bus_range *range, uint64_t first, const void *context)
{
	return range->first == first && range->handler.context == context;
}

void bus_remove(struct bus *bus, uint64_t first, const void *context)
{
	pthread_rwlock_wrlock(&bus->lock);
	unsigned at = upper_bound(bus, first), waiting = 0;
	while (waiting < bus->waiting_count && !is_range(&bus->waiting[waiting], first, context))
		waiting++;
	if (at > 0 && is_range(&bus->ranges[at - 1], first, context)) {
		bus->count--;
		memmove(&bus->ranges[at - 1], &bus->ranges[at], (bus->count - (at - 1)) * sizeof(bus->ranges[0]));
		end_waits(bus);
	} else if (waiting < bus->waiting_count) {
		stop_waiting(bus, waiting);
	}
	pthread_rwlock_unlock(&bus->lock);
}

const void *bus_owner(struct bus *bus, uint64_t first, uint64_t size_bytes)
{
	const void *owner = NULL;
	pthread_rwlock_rdlock(&bus->lock);
	unsigned at = upper_bound(bus, first);
	if (at > 0 && first - bus->ranges[at - 1].first < bus->ranges[at - 1].size_bytes &&
	    size_bytes <= bus->ranges[at - 1].size_bytes - (first - bus->ranges[at - 1].first))
		owner = bus->ranges[at - 1].handler.context;
	pthread_rwlock_unlock(&bus->lock);
	return owner;
}

/* Copied out, because the handler may change the bus; entered, because another thread may take it away. */
static bool find(struct bus *bus, uint64_t address, unsigned size_bytes, struct bus_handler *handler, uint64_t *offset)
{
	bool found = false;
	pthread_rwlock_rdlock(&bus->lock);
	unsigned at = upper_bound(bus, address);
	if (at > 0) {
		const struct bus_range *range = &bus->ranges[at - 1];
		*offset = address - range->first;
		found = *offset < range->size_bytes && size_bytes <= range->size_bytes - *offset;
		*handler = range->handler;
		if (found)
			in_use_enter(handler->in_use);
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

void bus_read(struct bus *bus, uint64_t address, void *data, unsigned size_bytes)
{
	struct bus_handler handler;
	uint64_t offset;
	if (!find(bus, address, size_bytes, &handler, &offset)) {
		memset(data, 0xff, size_bytes);
		return;
	}
	handler.read(handler.context, offset, data, size_bytes);
	in_use_leave(handler.in_use);
}

void bus_write(struct bus *bus, uint64_t address, const void *data, unsigned size_bytes)
{
	struct bus_handler handler;
	uint64_t offset;
	if (!find(bus, address, size_bytes, &handler, &offset))
		return;
	handler.write(handler.context, offset, data, size_bytes);
	in_use_leave(handler.in_use);
}

// SPDX-License-Identifier: MIT
/* Dispatch of trapped guest accesses by address: a sorted array and a binary search. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "bus.h"

void bus_init(struct bus *bus, const char *name)
{
	bus->name = name;
	bus->count = 0;
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

int bus_add(struct bus *bus, const struct bus_range *range, struct tenon_error *err)
{
	int code = 0;
	pthread_rwlock_wrlock(&bus->lock);
	unsigned at = upper_bound(bus, range->first);
	if (bus->count == BUS_RANGES_MAX)
		code = tenon_fail(err, -ENOSPC, "%s 0x%llx: more than %d ranges; assign fewer devices", bus->name,
				  (unsigned long long)range->first, BUS_RANGES_MAX);
	else if ((at > 0 && overlaps(range, &bus->ranges[at - 1])) ||
		 (at < bus->count && overlaps(range, &bus->ranges[at])))
		code = tenon_fail(err, -EEXIST, "%s 0x%llx: already taken; place it elsewhere", bus->name,
				  (unsigned long long)range->first);
	if (code == 0) {
		memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(*range));
		bus->ranges[at] = *range;
		bus->count++;
	}
	pthread_rwlock_unlock(&bus->lock);
	return code;
}

void bus_remove(struct bus *bus, uint64_t first)
{
	pthread_rwlock_wrlock(&bus->lock);
	unsigned at = upper_bound(bus, first);
	if (at > 0 && bus->ranges[at - 1].first == first) {
		bus->count--;
		memmove(&bus->ranges[at - 1], &bus->ranges[at], (bus->count - (at - 1)) * sizeof(bus->ranges[0]));
	}
	pthread_rwlock_unlock(&bus->lock);
}

/* Copied out, because the handler may change the bus. */
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
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

void bus_read(struct bus *bus, uint64_t address, void *data, unsigned size_bytes)
{
	struct bus_handler handler;
	uint64_t offset;
	if (find(bus, address, size_bytes, &handler, &offset))
		handler.read(handler.context, offset, data, size_bytes);
	else
		memset(data, 0xff, size_bytes);
}

void bus_write(struct bus *bus, uint64_t address, const void *data, unsigned size_bytes)
{
	struct bus_handler handler;
	uint64_t offset;
	if (find(bus, address, size_bytes, &handler, &offset))
		handler.write(handler.context, offset, data, size_bytes);
}

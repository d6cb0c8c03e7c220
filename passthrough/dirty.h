/* SPDX-License-Identifier: MIT */
/*
 * Which pages the devices of a space write. Each device is asked in the way that it has: by itself, else by its IOMMU.
 *
 * Calls on one space do not overlap (<tenon/space.h>). Of devices, only a vfio-user device's lock is taken, one at a time.
 */
#ifndef DIRTY_H
#define DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/migration.h>

#define DIRTY_REGIONS_MAX 64

struct space_member;

/* How a member's writes are logged at the moment. */
enum dirty_logging {
	DIRTY_LOGGING_OFF,   /* not at all; while the space logs: the member came later */
	DIRTY_LOGGING_NONE,  /* nobody can */
	DIRTY_LOGGING_SELF,  /* by the device */
	DIRTY_LOGGING_IOMMU, /* by the space's backend */
	DIRTY_LOGGING_LOST,  /* by the device until that failed */
};

struct dirty_region {
	uint64_t gpa, size_bytes;
	uint64_t *written; /* pages to be told of at the next fetch, beside what is asked then */
	bool any;          /* a bit of it is set */
	bool read_only;    /* no device writes it, and no log covers it */
};

struct space_dirty {
	bool on;
	struct dirty_region regions[DIRTY_REGIONS_MAX];
	unsigned region_count;
};

/**
 * Who knows which pages a device writes; of a vfio-user device, with its lock held.
 *
 * @param why  gets a line when nobody does; else ""
 */
enum tenon_dirty_tracking dirty_tracking(struct tenon_device *device, char *why, size_t capacity);

/** RAM came. What is logged covers it from now on. On failure it is not there, and a device's log may be lost. */
int dirty_add(struct tenon_space *space, const struct tenon_space_region *region, struct tenon_error *err);
/** RAM went. */
void dirty_remove(struct tenon_space *space, uint64_t gpa);
/** A device leaves, with what is not asked of it yet: all RAM counts as written. */
void dirty_leave(struct tenon_space *space, struct space_member *member);

#endif

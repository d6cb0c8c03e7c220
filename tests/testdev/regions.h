/* SPDX-License-Identifier: MIT */
/* The device's regions, by VFIO's numbers: BARs, ROM and config space; who may access them when, and what is behind them. */
#ifndef REGIONS_H
#define REGIONS_H

#include <stdbool.h>
#include <stdint.h>

#define REGION_COUNT 9 /* VFIO_PCI_NUM_REGIONS, the last of VFIO's: VGA */

struct region {
	uint64_t bytes; /* 0: not implemented */
	bool writable;
	/* Mappable; the file is struct bar_memory's. Without areas the whole region is. */
	bool mappable;
	uint64_t file_offset;
	struct {
		uint64_t offset;
		uint64_t bytes;
	} areas[2];
	unsigned area_count;
};

struct testdev;

void region_describe(const struct testdev *device, unsigned index, struct region *out);

/*
 * Whole or not at all. What a driver must not do is answered as hardware would, all ones or nothing, and recorded.
 * @return 0; -EINVAL no such region, or not that large; -EPERM a write to a region that cannot be written
 */
int region_read(struct testdev *device, unsigned index, uint64_t offset, uint8_t *data, uint32_t bytes);
int region_write(struct testdev *device, unsigned index, uint64_t offset, const uint8_t *data, uint32_t bytes);

#endif

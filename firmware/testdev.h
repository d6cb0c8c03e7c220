/* SPDX-License-Identifier: MIT */
/* The test device's copy engine, for the self-test and the load. */
#ifndef TESTDEV_H
#define TESTDEV_H

#include <stdbool.h>

#include "pci.h"

struct testdev_copy {
	uint64_t source, target;
	uint32_t bytes, flags; /* TD_DESC_* */
};

uint32_t testdev_read(const struct function *function, unsigned offset);
void testdev_write(const struct function *function, unsigned offset, uint32_t value);
void testdev_write64(const struct function *function, unsigned offset, uint64_t value);

/** Writes descriptor `index` of a list in memory. */
void testdev_describe(uint64_t list, unsigned index, const struct testdev_copy *copy);

/** Runs a list of `count` descriptors to its end. @return NULL, or what went wrong */
const char *testdev_run(const struct function *function, uint64_t list, unsigned count, bool by_doorbell);

/** The checksum that the device makes; `crc` is 0, or what the bytes before gave. */
uint32_t testdev_crc(uint32_t crc, const void *bytes, uint64_t count);

#endif

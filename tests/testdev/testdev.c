// SPDX-License-Identifier: MIT
/* The device as a whole: its parts' beginning, end and reset, and what several of them use. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "testdev.h"

uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Four bits at a time: a table of 64 bytes, no set-up. Polynomial 0xedb88320, IEEE 802.3 reflected. */
uint32_t checksum(uint32_t before, const void *data, uint64_t bytes)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const uint8_t *at = data;
	uint32_t value = ~before;
	for (uint64_t i = 0; i < bytes; i++) {
		value ^= at[i];
		value = table[value & 15] ^ value >> 4;
		value = table[value & 15] ^ value >> 4;
	}
	return ~value;
}

bool testdev_may_dma(const struct testdev *device)
{
	return migration_touchable(device->migration.state);
}

void testdev_reset(struct testdev *device)
{
	copy_engine_reset(device);
	load_reset(device);
	doorbells_reset(device);
	irqs_reset(device);
	config_space_reset(device);
	memset(device->memory.bytes, 0, MEMORY_FILE_BYTES);
	memset(device->scratch, 0, sizeof(device->scratch));
	memset(device->msix_table, 0, sizeof(device->msix_table));
	/* Vectors are masked after a reset: PCI Local Bus 3.0, 6.8.2.9. */
	for (unsigned i = 0; i < TD_MSIX_VECTORS; i++)
		device->msix_table[16 * i + 12] = 1;
	device->port_index = device->port_scratch = 0;
}

int testdev_create(const struct testdev_options *options, struct testdev **out, struct tenon_error *err)
{
	struct testdev *device = calloc(1, sizeof(*device));
	if (!device)
		return tenon_fail(err, -ENOMEM, "test device: out of memory; free some memory");
	if (options)
		device->options = *options;
	device->memory.fd = -1;
	irqs_init(device);
	device->load.sequence = calloc(TD_LOAD_PAGES_MAX, sizeof(uint32_t));
	int code = device->load.sequence ? 0 : tenon_fail(err, -ENOMEM, "test device: out of memory; free some memory");
	/* All eventfds are -1 or open before anything fails. */
	int bells = doorbells_init(&device->doorbells, err);
	if (code == 0)
		code = bells;
	if (code == 0)
		code = bar_memory_init(&device->memory, err);
	if (code == 0)
		code = migration_init(device, err);
	if (code < 0) {
		testdev_destroy(device);
		return code;
	}
	testdev_reset(device);
	migration_reset(device);
	*out = device;
	return 0;
}

void testdev_destroy(struct testdev *device)
{
	if (!device)
		return;
	irqs_release(device);
	dma_finish(device);
	doorbells_finish(&device->doorbells);
	bar_memory_finish(&device->memory);
	migration_finish(device);
	free(device->load.sequence);
	free(device);
}

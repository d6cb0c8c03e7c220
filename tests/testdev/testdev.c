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

/* IEEE 802.3, reflected. The first table is for one byte, each further one for a byte that is followed by one more. */
#define POLYNOMIAL 0xedb88320u

static uint32_t tables[8][256];

__attribute__((constructor)) static void make_tables(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t value = byte;
		for (unsigned bit = 0; bit < 8; bit++)
			value = value >> 1 ^ (value & 1 ? POLYNOMIAL : 0);
		tables[0][byte] = value;
	}
	for (unsigned i = 1; i < 8; i++)
		for (unsigned byte = 0; byte < 256; byte++)
			tables[i][byte] = tables[0][tables[i - 1][byte] & 255] ^ tables[i - 1][byte] >> 8;
}

/* Eight bytes at a time: devices with much state are moved again and again. */
uint32_t checksum(uint32_t before, const void *data, uint64_t bytes)
{
	const uint8_t *at = data;
	uint32_t value = ~before;
	for (; bytes >= 8; at += 8, bytes -= 8) {
		uint32_t low = value ^
			       ((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24);
		value = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^ tables[5][low >> 16 & 255] ^
			tables[4][low >> 24] ^ tables[3][at[4]] ^ tables[2][at[5]] ^ tables[1][at[6]] ^
			tables[0][at[7]];
	}
	for (; bytes; at++, bytes--)
		value = tables[0][(value ^ *at) & 255] ^ value >> 8;
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

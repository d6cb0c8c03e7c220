// SPDX-License-Identifier: MIT
/*
 * BAR placement. A device on the root bus goes straight into the host bridge's windows; behind a root port its BARs are first
 * packed into the port's windows, which are then placed as blocks (bridge windows: 1 MiB for memory, 4 KiB for I/O;
 * non-prefetchable 64-bit BARs go below 4 GiB there, since a bridge has no other window for them).
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../layout.h"
#include "placement.h"

#define MIB             (1ull << 20)
#define GIB             (1ull << 30)
#define IO_BRIDGE_BYTES 4096u

enum space { SPACE_IO, SPACE_32, SPACE_64, SPACES };

static const char *const space_names[SPACES] = {"the I/O window of 60 KiB", "the 32-bit window of 512 MiB",
						"the guest's physical address space"};

/* Something to place: one BAR, or one window of a root port. */
struct block {
	uint64_t size_bytes, alignment;
	enum space space;
	unsigned device;
	int bar; /* -1: the port's window */
	uint64_t address;
};

#define PLACES     (TENON_DEVICE_BARS + 1) /* BARs and the expansion ROM */
#define BLOCKS_MAX (PLACEMENT_DEVICES_MAX * PLACES)

static enum space space_of(const struct tenon_bar_info *bar, bool behind_port)
{
	if (bar->io)
		return SPACE_IO;
	return bar->is_64bit && (bar->prefetchable || !behind_port) ? SPACE_64 : SPACE_32;
}

static int by_alignment(const void *a, const void *b)
{
	const struct block *left = a, *right = b;
	if (left->alignment != right->alignment)
		return left->alignment < right->alignment ? 1 : -1;
	if (left->device != right->device)
		return left->device < right->device ? -1 : 1;
	return left->bar - right->bar;
}

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

/* Lays the blocks of one space out from `first`; returns the end. Blocks are sorted by falling alignment. */
static uint64_t lay_out(struct block *blocks, unsigned count, enum space space, uint64_t first)
{
	uint64_t at = first;
	for (unsigned i = 0; i < count; i++) {
		if (blocks[i].space != space)
			continue;
		at = align_up(at, blocks[i].alignment);
		blocks[i].address = at;
		at += blocks[i].size_bytes;
	}
	return at;
}

static struct tenon_bar_info info_of(const struct placement_device *device, unsigned bar)
{
	if (bar == TENON_DEVICE_ROM)
		return (struct tenon_bar_info){.size_bytes = device->rom_bytes};
	return device->bars ? device->bars[bar] : (struct tenon_bar_info){0};
}

static unsigned collect_bars(const struct placement_device *device, unsigned index, struct block *blocks)
{
	unsigned count = 0;
	for (int bar = 0; bar < PLACES; bar++) {
		const struct tenon_bar_info info = info_of(device, (unsigned)bar);
		if (!info.size_bytes)
			continue;
		/* A page at least, so that no two memory BARs share one and each can be mapped. */
		uint64_t alignment = info.io || info.size_bytes >= 4096 ? info.size_bytes : 4096;
		blocks[count++] = (struct block){
			.size_bytes = info.size_bytes,
			.alignment = alignment,
			.space = space_of(&info, device->port),
			.device = index,
			.bar = bar,
		};
	}
	qsort(blocks, count, sizeof(*blocks), by_alignment);
	return count;
}

/* Bytes and alignment that a device's BARs of one space take together, in a bridge's window. */
static struct block pack(struct block *bars, unsigned count, enum space space)
{
	uint64_t unit = space == SPACE_IO ? IO_BRIDGE_BYTES : MIB, alignment = unit;
	for (unsigned i = 0; i < count; i++) {
		if (bars[i].space == space && bars[i].alignment > alignment)
			alignment = bars[i].alignment;
	}
	return (struct block){.size_bytes = align_up(lay_out(bars, count, space, 0), unit),
			      .alignment = alignment,
			      .space = space,
			      .bar = -1};
}

/* The windows of a root port as blocks: sized by packing the device's BARs from address 0, or reserved. */
static unsigned collect_port(const struct placement_device *device, unsigned index, const uint64_t reserved[SPACES],
			     struct block *blocks)
{
	struct block bars[PLACES];
	unsigned bar_count = collect_bars(device, index, bars), count = 0;
	for (enum space space = SPACE_IO; space < SPACES; space++) {
		struct block window = pack(bars, bar_count, space);
		window.device = index;
		if (device->reserve) {
			/* As aligned as it is large, so that one BAR can fill it. */
			window.size_bytes = window.alignment = reserved[space];
		}
		if (window.size_bytes)
			blocks[count++] = window;
	}
	return count;
}

static void place_behind_port(struct placement_device *device, unsigned index, const struct block *window)
{
	struct block bars[PLACES];
	unsigned count = collect_bars(device, index, bars);
	lay_out(bars, count, window->space, window->address);
	for (unsigned i = 0; i < count; i++) {
		if (bars[i].space == window->space)
			device->address[bars[i].bar] = bars[i].address;
	}
	struct pci_bridge_windows *windows = &device->port_windows;
	switch (window->space) {
	case SPACE_IO:
		windows->io_first = (uint32_t)window->address;
		windows->io_bytes = (uint32_t)window->size_bytes;
		break;
	case SPACE_32:
		windows->memory_first = (uint32_t)window->address;
		windows->memory_bytes = (uint32_t)window->size_bytes;
		break;
	default:
		windows->prefetch_first = window->address;
		windows->prefetch_bytes = window->size_bytes;
	}
}

/* The device whose block ends beyond `limit`: the one to name. */
static const char *first_beyond(const struct placement_device *devices, const struct block *blocks, unsigned count,
				enum space space, uint64_t limit)
{
	for (unsigned i = 0; i < count; i++) {
		if (blocks[i].space == space && blocks[i].address + blocks[i].size_bytes > limit)
			return devices[blocks[i].device].name;
	}
	return devices[0].name;
}

/* A BAR that fits nowhere is refused before sizes are added up, which then cannot overflow. */
static int check_sizes(const struct placement_device *device, const uint64_t *first, const uint64_t *limit,
		       struct tenon_error *err)
{
	for (unsigned bar = 0; bar < PLACES; bar++) {
		const struct tenon_bar_info info = info_of(device, bar);
		enum space space = space_of(&info, device->port);
		uint64_t room = limit[space] > first[space] ? limit[space] - first[space] : 0;
		if (info.size_bytes > room)
			return tenon_fail(err, -ENOSPC, "%s: BAR %u does not fit into %s; it cannot be assigned",
					  device->name, bar, space_names[space]);
	}
	return 0;
}

/* How much 64-bit space each reserving port gets. */
static uint64_t reserved_prefetch(const struct placement_device *devices, unsigned count, uint64_t room)
{
	uint64_t bytes = PLACEMENT_RESERVED_PREFETCH_BYTES, ports = 0;
	for (unsigned i = 0; i < count; i++)
		ports += devices[i].reserve;
	while (ports && bytes > MIB && ports * bytes > room / 2)
		bytes /= 2;
	return bytes;
}

int placement_compute(struct placement_device *devices, unsigned count, uint64_t first64, unsigned physical_bits,
		      struct placement *out, struct tenon_error *err)
{
	struct block blocks[BLOCKS_MAX];
	unsigned block_count = 0;
	if (count > PLACEMENT_DEVICES_MAX)
		return tenon_fail(err, -ENOSPC, "%u devices: a VM can have %d at most; assign fewer", count,
				  PLACEMENT_DEVICES_MAX);
	const uint64_t first[SPACES] = {LAYOUT_PCI_IO, LAYOUT_PCI32, align_up(first64, GIB)};
	const uint64_t limit[SPACES] = {LAYOUT_PCI_IO + LAYOUT_PCI_IO_BYTES,
					LAYOUT_PCI32 + (uint64_t)LAYOUT_PCI32_BYTES, 1ull << physical_bits};
	const uint64_t reserved[SPACES] = {
		PLACEMENT_RESERVED_IO_BYTES, PLACEMENT_RESERVED_MEMORY_BYTES,
		reserved_prefetch(devices, count,
				  limit[SPACE_64] > first[SPACE_64] ? limit[SPACE_64] - first[SPACE_64] : 0)};
	for (unsigned i = 0; i < count; i++) {
		int code = check_sizes(&devices[i], first, limit, err);
		if (code < 0)
			return code;
	}
	for (unsigned i = 0; i < count; i++)
		block_count += devices[i].port ? collect_port(&devices[i], i, reserved, blocks + block_count)
					       : collect_bars(&devices[i], i, blocks + block_count);
	qsort(blocks, block_count, sizeof(*blocks), by_alignment);

	struct placement_window windows[SPACES];
	for (enum space space = SPACE_IO; space < SPACES; space++) {
		uint64_t end = lay_out(blocks, block_count, space, first[space]);
		if (end > first[space] && end > limit[space])
			return tenon_fail(err, -ENOSPC, "%s: its BARs do not fit into %s; assign fewer devices",
					  first_beyond(devices, blocks, block_count, space, limit[space]),
					  space_names[space]);
		uint64_t unit = space == SPACE_IO ? IO_BRIDGE_BYTES : MIB;
		windows[space] = (struct placement_window){first[space], align_up(end - first[space], unit)};
	}
	for (unsigned i = 0; i < block_count; i++) {
		struct placement_device *device = &devices[blocks[i].device];
		if (blocks[i].bar < 0)
			place_behind_port(device, blocks[i].device, &blocks[i]);
		else
			device->address[blocks[i].bar] = blocks[i].address;
	}
	*out = (struct placement){
		.io = windows[SPACE_IO], .memory32 = windows[SPACE_32], .memory64 = windows[SPACE_64]};
	return 0;
}

int placement_inside(struct placement_device *device, struct tenon_error *err)
{
	static const char *const names[SPACES] = {"I/O", "32-bit memory", "prefetchable memory"};
	const struct pci_bridge_windows *windows = &device->port_windows;
	const struct placement_window given[SPACES] = {{windows->io_first, windows->io_bytes},
						       {windows->memory_first, windows->memory_bytes},
						       {windows->prefetch_first, windows->prefetch_bytes}};
	struct block bars[PLACES];
	unsigned count = collect_bars(device, 0, bars);
	for (unsigned i = 0; i < count; i++) {
		const struct placement_window *window = &given[bars[i].space];
		/* A huge BAR is refused here, before sizes are added up. */
		if (bars[i].size_bytes > window->size_bytes ||
		    lay_out(bars, i + 1, bars[i].space, window->first) > window->first + window->size_bytes)
			return tenon_fail(err, -ENOSPC,
					  "%s: BAR %d of %llu KiB does not fit into the %s window of its root port, "
					  "which has %llu KiB; assign it when the VM starts",
					  device->name, bars[i].bar,
					  (unsigned long long)(bars[i].size_bytes + 1023) >> 10, names[bars[i].space],
					  (unsigned long long)window->size_bytes >> 10);
		device->address[bars[i].bar] = bars[i].address;
	}
	return 0;
}

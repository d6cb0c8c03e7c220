// SPDX-License-Identifier: MIT
/*
 * BAR placement. What is on the root bus goes straight into the host bridge's windows; the BARs of all that is behind one bridge
 * are first packed into the bridge's windows, which are then placed as blocks (bridge windows: 1 MiB for memory, 4 KiB for I/O;
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
#define ROOT_BUS        (-1)

enum space { SPACE_IO, SPACE_32, SPACE_64, SPACES };

static const char *const space_names[SPACES] = {"the I/O window of 60 KiB", "the 32-bit window of 512 MiB",
						"the guest's physical address space"};

/* Something to place on a bus: one BAR, or one window of a bridge. */
struct block {
	uint64_t size_bytes, alignment, address;
	enum space space;
	int bus;    /* which it is on; a window is on the root bus */
	int bridge; /* whose window it is; NOT_A_WINDOW: a BAR */
	unsigned device, bar;
};

#define NOT_A_WINDOW (-1)
#define PLACES       (TENON_DEVICE_BARS + 1) /* BARs and the expansion ROM */
#define BLOCKS_MAX   (PLACEMENT_DEVICES_MAX * PLACES + PLACEMENT_BUSES_MAX * SPACES)

struct blocks {
	struct block block[BLOCKS_MAX]; /* by falling alignment, once sorted */
	unsigned count;
};

static enum space space_of(const struct tenon_bar_info *bar, bool behind_bridge)
{
	if (bar->io)
		return SPACE_IO;
	return bar->is_64bit && (bar->prefetchable || !behind_bridge) ? SPACE_64 : SPACE_32;
}

/* A total order, so that the same input always gives the same addresses. */
static int by_alignment(const void *a, const void *b)
{
	const struct block *left = a, *right = b;
	if (left->alignment != right->alignment)
		return left->alignment < right->alignment ? 1 : -1;
	if (left->bridge != right->bridge)
		return left->bridge < right->bridge ? -1 : 1;
	if (left->device != right->device)
		return left->device < right->device ? -1 : 1;
	if (left->bar != right->bar)
		return left->bar < right->bar ? -1 : 1;
	return (int)left->space - (int)right->space;
}

static void sort(struct blocks *blocks)
{
	qsort(blocks->block, blocks->count, sizeof(blocks->block[0]), by_alignment);
}

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

/* Lays what one bus has of one space out from `first`; returns the end. */
static uint64_t lay_out(struct block *blocks, unsigned count, int bus, enum space space, uint64_t first)
{
	uint64_t at = first;
	for (unsigned i = 0; i < count; i++) {
		if (blocks[i].bus != bus || blocks[i].space != space)
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
	for (unsigned bar = 0; bar < PLACES; bar++) {
		const struct tenon_bar_info info = info_of(device, bar);
		if (!info.size_bytes)
			continue;
		blocks[count++] = (struct block){
			.size_bytes = info.size_bytes,
			/* A page at least, so that no two memory BARs share one and each can be mapped. */
			.alignment = info.io || info.size_bytes >= 4096 ? info.size_bytes : 4096,
			.space = space_of(&info, device->bus != ROOT_BUS),
			.bus = device->bus,
			.bridge = NOT_A_WINDOW,
			.device = index,
			.bar = bar,
		};
	}
	return count;
}

/* The bridge's window for what is behind it: sized by packing that from address 0. `blocks` are sorted. */
static struct block pack(struct blocks *blocks, int bridge, enum space space)
{
	uint64_t unit = space == SPACE_IO ? IO_BRIDGE_BYTES : MIB, alignment = unit;
	for (unsigned i = 0; i < blocks->count; i++) {
		const struct block *block = &blocks->block[i];
		if (block->bus == bridge && block->space == space && block->alignment > alignment)
			alignment = block->alignment;
	}
	uint64_t end = lay_out(blocks->block, blocks->count, bridge, space, 0);
	return (struct block){.size_bytes = align_up(end, unit),
			      .alignment = alignment,
			      .space = space,
			      .bus = ROOT_BUS,
			      .bridge = bridge};
}

/* Adds the windows of all bridges. Those of a bridge that reserves are as aligned as they are large: one BAR can fill them. */
static void add_windows(struct blocks *blocks, const struct placement_bus *buses, unsigned bus_count,
			const uint64_t reserved[SPACES])
{
	struct block windows[PLACEMENT_BUSES_MAX * SPACES];
	unsigned count = 0;
	for (unsigned bus = 0; bus < bus_count; bus++) {
		for (enum space space = SPACE_IO; space < SPACES; space++) {
			struct block window = pack(blocks, (int)bus, space);
			if (buses[bus].reserve && window.size_bytes < reserved[space])
				window.size_bytes = reserved[space];
			if (buses[bus].reserve && window.alignment < reserved[space])
				window.alignment = reserved[space];
			if (window.size_bytes)
				windows[count++] = window;
		}
	}
	for (unsigned i = 0; i < count; i++)
		blocks->block[blocks->count++] = windows[i];
}

static void set_window(struct pci_bridge_windows *windows, const struct block *window)
{
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

/* Whom to name for a block: its device, or of a window the first device that needs it, or its bridge. */
static const char *name_of(const struct block *block, const struct blocks *blocks,
			   const struct placement_device *devices, const struct placement_bus *buses)
{
	if (block->bridge == NOT_A_WINDOW)
		return devices[block->device].name;
	for (unsigned i = 0; i < blocks->count; i++) {
		if (blocks->block[i].bus == block->bridge && blocks->block[i].space == block->space)
			return devices[blocks->block[i].device].name;
	}
	return buses[block->bridge].name;
}

/* The first block of the root bus that ends beyond `limit`. There is one. */
static const struct block *first_beyond(const struct blocks *blocks, enum space space, uint64_t limit)
{
	const struct block *block = blocks->block;
	while (block->bus != ROOT_BUS || block->space != space || block->address + block->size_bytes <= limit)
		block++;
	return block;
}

/* A BAR that fits nowhere is refused before sizes are added up, which then cannot overflow. */
static int check_sizes(const struct placement_device *device, const uint64_t *first, const uint64_t *limit,
		       struct tenon_error *err)
{
	for (unsigned bar = 0; bar < PLACES; bar++) {
		const struct tenon_bar_info info = info_of(device, bar);
		enum space space = space_of(&info, device->bus != ROOT_BUS);
		uint64_t room = limit[space] > first[space] ? limit[space] - first[space] : 0;
		if (info.size_bytes > room)
			return tenon_fail(
				err, -ENOSPC,
				"%s: BAR %u does not fit into %s; try --topology flat, else it cannot be assigned",
				device->name, bar, space_names[space]);
	}
	return 0;
}

/* How much 64-bit space each reserving bridge gets. */
static uint64_t reserved_prefetch(const struct placement_bus *buses, unsigned count, uint64_t room)
{
	uint64_t bytes = PLACEMENT_RESERVED_PREFETCH_BYTES, ports = 0;
	for (unsigned i = 0; i < count; i++)
		ports += buses[i].reserve;
	while (ports && bytes > MIB && ports * bytes > room / 2)
		bytes /= 2;
	return bytes;
}

static int check_counts(unsigned device_count, unsigned bus_count, struct tenon_error *err)
{
	if (device_count > PLACEMENT_DEVICES_MAX)
		return tenon_fail(err, -ENOSPC, "%u devices: a VM can have %d at most; assign fewer", device_count,
				  PLACEMENT_DEVICES_MAX);
	if (bus_count > PLACEMENT_BUSES_MAX)
		return tenon_fail(err, -ENOSPC, "%u ports: a VM can have %d at most; assign fewer devices", bus_count,
				  PLACEMENT_BUSES_MAX);
	return 0;
}

int placement_compute(struct placement_device *devices, unsigned device_count, struct placement_bus *buses,
		      unsigned bus_count, uint64_t first64, unsigned physical_bits, struct placement *out,
		      struct tenon_error *err)
{
	struct blocks blocks = {.count = 0};
	int code = check_counts(device_count, bus_count, err);
	const uint64_t first[SPACES] = {LAYOUT_PCI_IO, LAYOUT_PCI32, align_up(first64, GIB)};
	const uint64_t limit[SPACES] = {LAYOUT_PCI_IO + LAYOUT_PCI_IO_BYTES,
					LAYOUT_PCI32 + (uint64_t)LAYOUT_PCI32_BYTES, 1ull << physical_bits};
	const uint64_t room64 = limit[SPACE_64] > first[SPACE_64] ? limit[SPACE_64] - first[SPACE_64] : 0;
	for (unsigned i = 0; code == 0 && i < device_count; i++)
		code = check_sizes(&devices[i], first, limit, err);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < device_count; i++)
		blocks.count += collect_bars(&devices[i], i, blocks.block + blocks.count);
	sort(&blocks);
	const uint64_t reserved[SPACES] = {PLACEMENT_RESERVED_IO_BYTES, PLACEMENT_RESERVED_MEMORY_BYTES,
					   reserved_prefetch(buses, bus_count, room64)};
	add_windows(&blocks, buses, bus_count, reserved);
	sort(&blocks);

	struct placement_window windows[SPACES];
	for (enum space space = SPACE_IO; space < SPACES; space++) {
		uint64_t end = lay_out(blocks.block, blocks.count, ROOT_BUS, space, first[space]);
		if (end > first[space] && end > limit[space])
			return tenon_fail(
				err, -ENOSPC,
				"%s: its BARs do not fit into %s; assign fewer devices, or try --topology flat",
				name_of(first_beyond(&blocks, space, limit[space]), &blocks, devices, buses),
				space_names[space]);
		uint64_t unit = space == SPACE_IO ? IO_BRIDGE_BYTES : MIB;
		windows[space] = (struct placement_window){first[space], align_up(end - first[space], unit)};
	}
	for (unsigned bus = 0; bus < bus_count; bus++)
		buses[bus].windows = (struct pci_bridge_windows){0};
	for (unsigned i = 0; i < blocks.count; i++) {
		const struct block *block = &blocks.block[i];
		if (block->bridge == NOT_A_WINDOW)
			continue;
		set_window(&buses[block->bridge].windows, block);
		lay_out(blocks.block, blocks.count, block->bridge, block->space, block->address);
	}
	for (unsigned i = 0; i < blocks.count; i++) {
		const struct block *block = &blocks.block[i];
		if (block->bridge == NOT_A_WINDOW)
			devices[block->device].address[block->bar] = block->address;
	}
	*out = (struct placement){
		.io = windows[SPACE_IO], .memory32 = windows[SPACE_32], .memory64 = windows[SPACE_64]};
	return 0;
}

int placement_inside(struct placement_device *device, const struct pci_bridge_windows *windows, struct tenon_error *err)
{
	static const char *const names[SPACES] = {"I/O", "32-bit memory", "prefetchable memory"};
	const struct placement_window given[SPACES] = {{windows->io_first, windows->io_bytes},
						       {windows->memory_first, windows->memory_bytes},
						       {windows->prefetch_first, windows->prefetch_bytes}};
	struct block bars[PLACES];
	unsigned count = collect_bars(device, 0, bars);
	qsort(bars, count, sizeof(bars[0]), by_alignment);
	for (unsigned i = 0; i < count; i++) {
		const struct placement_window *window = &given[bars[i].space];
		/* A huge BAR is refused here, before sizes are added up. */
		if (bars[i].size_bytes > window->size_bytes ||
		    lay_out(bars, i + 1, device->bus, bars[i].space, window->first) >
			    window->first + window->size_bytes)
			return tenon_fail(err, -ENOSPC,
					  "%s: BAR %u of %llu KiB does not fit into the %s window of its root port, "
					  "which has %llu KiB; assign it when the VM starts",
					  device->name, bars[i].bar,
					  (unsigned long long)(bars[i].size_bytes + 1023) >> 10, names[bars[i].space],
					  (unsigned long long)window->size_bytes >> 10);
		device->address[bars[i].bar] = bars[i].address;
	}
	return 0;
}

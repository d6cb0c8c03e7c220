// SPDX-License-Identifier: MIT
/* Windows and BAR addresses, by place on the root bus. They are told to the guest and written into registers: no access goes by them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../layout.h"
#include "places.h"

#define ADDRESS_END (1ull << 52) /* of what a CPU can address */
#define IO_UNIT     0x1000u
#define MEMORY_UNIT 0x100000u

#define PLACES (TENON_DEVICE_BARS + 1)

static int by_place(const void *a, const void *b)
{
	const struct slot *left = *(struct slot *const *)a, *right = *(struct slot *const *)b;
	int difference = (int)(left->device << 3 | left->function) - (int)(right->device << 3 | right->function);
	return difference ? difference : (int)left->devfn - (int)right->devfn;
}

unsigned places_devices(struct slots *slots, struct slot *out[SLOTS_MAX])
{
	unsigned count = 0;
	for (unsigned i = 0; i < slots->count; i++) {
		if (slots->slot[i].assigned)
			out[count++] = &slots->slot[i];
	}
	qsort(out, count, sizeof(struct slot *), by_place);
	return count;
}

/* ---- Out ---- */

static void put_window(struct bytes_out *out, const struct placement_window *window)
{
	bytes_put_u64(out, window->first);
	bytes_put_u64(out, window->size_bytes);
}

static void put_bridge(struct bytes_out *out, const struct slot *leader)
{
	const struct pci_bridge_windows *windows = &leader->windows;
	bytes_put_u8(out, (uint8_t)(leader->device << 3 | leader->function));
	bytes_put_u32(out, windows->io_first);
	bytes_put_u32(out, windows->io_bytes);
	bytes_put_u32(out, windows->memory_first);
	bytes_put_u32(out, windows->memory_bytes);
	bytes_put_u64(out, windows->prefetch_first);
	bytes_put_u64(out, windows->prefetch_bytes);
}

static void put_device(struct bytes_out *out, const struct slot *slot)
{
	bytes_put_u8(out, (uint8_t)(slot->device << 3 | slot->function));
	bytes_put_u8(out, (uint8_t)slot->devfn);
	for (unsigned i = 0; i < PLACES; i++)
		bytes_put_u64(out, slot->address[i]);
}

/* The leaders that have a bridge. */
static unsigned find_bridges(struct slots *slots, struct slot *out[SLOTS_MAX])
{
	struct slot *leaders[SLOTS_MAX];
	unsigned count = slots_leaders(slots, leaders), bridges = 0;
	for (unsigned i = 0; i < count; i++) {
		if (leaders[i]->bridge)
			out[bridges++] = leaders[i];
	}
	return bridges;
}

void places_save(struct slots *slots, const struct placement *placement, struct bytes_out *out)
{
	struct slot *list[SLOTS_MAX];
	put_window(out, &placement->io);
	put_window(out, &placement->memory32);
	put_window(out, &placement->memory64);
	unsigned count = find_bridges(slots, list);
	bytes_put_u8(out, (uint8_t)count);
	for (unsigned i = 0; i < count; i++)
		put_bridge(out, list[i]);
	count = places_devices(slots, list);
	bytes_put_u8(out, (uint8_t)count);
	for (unsigned i = 0; i < count; i++)
		put_device(out, list[i]);
}

/* ---- In ---- */

/* What is read before any of it is taken. */
struct places {
	struct slot *bridge[SLOTS_MAX], *device[SLOTS_MAX];
	unsigned bridge_count, device_count;
	struct pci_bridge_windows windows[SLOTS_MAX];
	uint64_t address[SLOTS_MAX][PLACES];
	struct placement placement;
	bool wrong;
};

/* A window in [low, end), of whole units; or none. */
static bool is_window(uint64_t first, uint64_t bytes, uint64_t low, uint64_t end, uint64_t unit)
{
	return bytes == 0 || (first >= low && bytes <= end - low && first - low <= end - low - bytes &&
			      first % unit == 0 && bytes % unit == 0);
}

static bool is_io_window(uint64_t first, uint64_t bytes)
{
	return is_window(first, bytes, LAYOUT_PCI_IO, LAYOUT_PCI_IO + LAYOUT_PCI_IO_BYTES, IO_UNIT);
}

static bool is_memory_window(uint64_t first, uint64_t bytes)
{
	return is_window(first, bytes, LAYOUT_PCI32, (uint64_t)LAYOUT_PCI32 + LAYOUT_PCI32_BYTES, MEMORY_UNIT);
}

static bool is_prefetch_window(uint64_t first, uint64_t bytes)
{
	return is_window(first, bytes, LAYOUT_RAM_ABOVE_4G, ADDRESS_END, MEMORY_UNIT);
}

static void get_window(struct bytes_in *in, struct placement_window *window, bool (*is_right)(uint64_t, uint64_t),
		       struct places *places)
{
	window->first = bytes_get_u64(in);
	window->size_bytes = bytes_get_u64(in);
	places->wrong |= !is_right(window->first, window->size_bytes);
}

static void get_bridge(struct bytes_in *in, struct places *places, unsigned i)
{
	const struct slot *leader = places->bridge[i];
	struct pci_bridge_windows *windows = &places->windows[i];
	places->wrong |= bytes_get_u8(in) != (leader->device << 3 | leader->function);
	windows->io_first = bytes_get_u32(in);
	windows->io_bytes = bytes_get_u32(in);
	windows->memory_first = bytes_get_u32(in);
	windows->memory_bytes = bytes_get_u32(in);
	windows->prefetch_first = bytes_get_u64(in);
	windows->prefetch_bytes = bytes_get_u64(in);
	places->wrong |= !is_io_window(windows->io_first, windows->io_bytes) ||
			 !is_memory_window(windows->memory_first, windows->memory_bytes) ||
			 !is_prefetch_window(windows->prefetch_first, windows->prefetch_bytes);
}

static void get_device(struct bytes_in *in, struct places *places, unsigned i)
{
	const struct slot *slot = places->device[i];
	places->wrong |= bytes_get_u8(in) != (slot->device << 3 | slot->function);
	places->wrong |= bytes_get_u8(in) != slot->devfn;
	for (unsigned bar = 0; bar < PLACES; bar++) {
		places->address[i][bar] = bytes_get_u64(in);
		places->wrong |= places->address[i][bar] >= ADDRESS_END;
	}
}

static void get_all(struct bytes_in *in, struct places *places)
{
	get_window(in, &places->placement.io, is_io_window, places);
	get_window(in, &places->placement.memory32, is_memory_window, places);
	get_window(in, &places->placement.memory64, is_prefetch_window, places);
	places->wrong |= bytes_get_u8(in) != places->bridge_count;
	for (unsigned i = 0; i < places->bridge_count; i++)
		get_bridge(in, places, i);
	places->wrong |= bytes_get_u8(in) != places->device_count;
	for (unsigned i = 0; i < places->device_count; i++)
		get_device(in, places, i);
}

int places_load(struct slots *slots, struct placement *placement, struct bytes_in *in, struct tenon_error *err)
{
	struct places places = {.wrong = false};
	places.bridge_count = find_bridges(slots, places.bridge);
	places.device_count = places_devices(slots, places.device);
	get_all(in, &places);
	if (places.wrong)
		return tenon_fail(
			err, -EINVAL,
			"PCI addresses: those of the source are for another machine, or none at all; give this "
			"machine the same devices at the same places");
	int code = bytes_get_end(in, "PCI addresses", err);
	if (code < 0)
		return code;
	*placement = places.placement;
	for (unsigned i = 0; i < places.bridge_count; i++)
		places.bridge[i]->windows = places.windows[i];
	for (unsigned i = 0; i < places.device_count; i++)
		memcpy(places.device[i]->address, places.address[i], sizeof(places.address[i]));
	return 0;
}

// SPDX-License-Identifier: MIT
/*
 * Where BARs and the windows of bridges go. Most tests only say what must hold of any placement (check_placement); a random
 * one asks it of many machines.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "layout.h"
#include "pci/placement.h"

#define KIB  (UINT64_C(1) << 10)
#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)
#define TIB  (UINT64_C(1) << 40)
#define BITS 40u /* the guest's physical addresses, unless a test says otherwise */

#define IO(bytes)                                                                                                      \
	{                                                                                                              \
		.size_bytes = (bytes), .io = true                                                                      \
	}
#define MEM32(bytes)                                                                                                   \
	{                                                                                                              \
		.size_bytes = (bytes)                                                                                  \
	}
#define PREFETCH32(bytes)                                                                                              \
	{                                                                                                              \
		.size_bytes = (bytes), .prefetchable = true                                                            \
	}
#define MEM64(bytes)                                                                                                   \
	{                                                                                                              \
		.size_bytes = (bytes), .is_64bit = true                                                                \
	}
#define PREFETCH64(bytes)                                                                                              \
	{                                                                                                              \
		.size_bytes = (bytes), .is_64bit = true, .prefetchable = true                                          \
	}

struct card {
	struct tenon_bar_info bars[TENON_DEVICE_BARS];
};

/* The buses of the machine of a test; those of the highest number that a device is behind, at least. */
static struct placement_bus buses[PLACEMENT_BUSES_MAX];
static unsigned bus_count;

static struct placement_device on_root_bus(const char *name, const struct card *card)
{
	return (struct placement_device){.name = name, .bars = card->bars, .bus = -1};
}

static struct placement_device behind(unsigned bus, const char *name, const struct card *card)
{
	if (bus >= bus_count)
		bus_count = bus + 1;
	return (struct placement_device){.name = name, .bars = card->bars, .bus = (int)bus};
}

/* ---- What must hold of any placement ---- */

struct span {
	uint64_t first, size_bytes;
	unsigned device, bar;
	bool io;
};

static bool inside(uint64_t first, uint64_t size_bytes, uint64_t window_first, uint64_t window_bytes)
{
	return first >= window_first && first - window_first <= window_bytes &&
	       size_bytes <= window_bytes - (first - window_first);
}

/* Whole pages of memory, because the machine maps and traps by page. */
static struct span span_of(const struct placement_device *device, unsigned number, unsigned bar)
{
	struct span span = {device->address[bar], device->bars[bar].size_bytes, number, bar, device->bars[bar].io};
	if (!span.io && span.size_bytes < 4096)
		span.size_bytes = 4096;
	return span;
}

static void check_bar(const struct placement_device *device, unsigned bar, const struct placement *placement,
		      uint64_t first64, unsigned bits)
{
	const struct tenon_bar_info *info = &device->bars[bar];
	uint64_t address = device->address[bar];
	cr_assert_eq(address % info->size_bytes, 0, "%s BAR %u at %#lx is not aligned", device->name, bar,
		     (unsigned long)address);
	if (info->io) {
		cr_assert(inside(address, info->size_bytes, LAYOUT_PCI_IO, LAYOUT_PCI_IO_BYTES));
		cr_assert(inside(address, info->size_bytes, placement->io.first, placement->io.size_bytes));
		return;
	}
	bool low = inside(address, info->size_bytes, placement->memory32.first, placement->memory32.size_bytes);
	bool high = inside(address, info->size_bytes, placement->memory64.first, placement->memory64.size_bytes);
	cr_assert(low || high, "%s BAR %u at %#lx is in no window", device->name, bar, (unsigned long)address);
	cr_assert(low || info->is_64bit, "%s BAR %u has 32 bits and lies at %#lx", device->name, bar,
		  (unsigned long)address);
	if (low)
		cr_assert(inside(address, info->size_bytes, LAYOUT_PCI32, LAYOUT_PCI32_BYTES));
	if (high)
		cr_assert(inside(address, info->size_bytes, first64, (UINT64_C(1) << bits) - first64));
}

static void check_bus(const struct placement_bus *bus, const struct placement *placement)
{
	const struct pci_bridge_windows *windows = &bus->windows;
	cr_assert_eq(windows->io_first % (4 * KIB) + windows->io_bytes % (4 * KIB), 0);
	cr_assert_eq(windows->memory_first % MIB + windows->memory_bytes % MIB, 0);
	cr_assert_eq(windows->prefetch_first % MIB + windows->prefetch_bytes % MIB, 0);
	if (windows->io_bytes)
		cr_assert(inside(windows->io_first, windows->io_bytes, placement->io.first, placement->io.size_bytes));
	if (windows->memory_bytes)
		cr_assert(inside(windows->memory_first, windows->memory_bytes, placement->memory32.first,
				 placement->memory32.size_bytes));
	if (windows->prefetch_bytes)
		cr_assert(inside(windows->prefetch_first, windows->prefetch_bytes, placement->memory64.first,
				 placement->memory64.size_bytes));
	if (bus->reserve)
		cr_assert(windows->io_bytes >= PLACEMENT_RESERVED_IO_BYTES &&
			  windows->memory_bytes >= PLACEMENT_RESERVED_MEMORY_BYTES && windows->prefetch_bytes >= MIB);
}

static void check_behind(const struct placement_device *device, unsigned bar)
{
	const struct pci_bridge_windows *windows = &buses[device->bus].windows;
	const struct tenon_bar_info *info = &device->bars[bar];
	uint64_t address = device->address[bar];
	bool fits = info->io ? inside(address, info->size_bytes, windows->io_first, windows->io_bytes)
			     : inside(address, info->size_bytes, windows->memory_first, windows->memory_bytes) ||
				       (info->prefetchable && inside(address, info->size_bytes, windows->prefetch_first,
								     windows->prefetch_bytes));
	cr_assert(fits, "%s BAR %u at %#lx is in no fitting window of its bridge", device->name, bar,
		  (unsigned long)address);
}

static void check_apart(const struct span *a, const struct span *b)
{
	cr_assert(a->io != b->io || a->first + (a->size_bytes - 1) < b->first ||
			  b->first + (b->size_bytes - 1) < a->first,
		  "device %u BAR %u and device %u BAR %u overlap at %#lx", a->device, a->bar, b->device, b->bar,
		  (unsigned long)b->first);
}

/* All BARs of one bus, which no two may share an address of; of the root bus the bridges' windows, too. */
static unsigned collect(const struct placement_device *devices, unsigned count, int bus, struct span *spans)
{
	unsigned found = 0;
	for (unsigned i = 0; i < count; i++) {
		for (unsigned bar = 0; devices[i].bus == bus && bar < TENON_DEVICE_BARS; bar++) {
			if (devices[i].bars[bar].size_bytes)
				spans[found++] = span_of(&devices[i], i, bar);
		}
	}
	for (unsigned i = 0; bus < 0 && i < bus_count; i++) {
		const struct pci_bridge_windows *its = &buses[i].windows;
		const struct span windows[] = {{its->io_first, its->io_bytes, i, 100, true},
					       {its->memory_first, its->memory_bytes, i, 101, false},
					       {its->prefetch_first, its->prefetch_bytes, i, 102, false}};
		for (unsigned kind = 0; kind < 3; kind++) {
			if (windows[kind].size_bytes)
				spans[found++] = windows[kind];
		}
	}
	return found;
}

static void check_placement(const struct placement_device *devices, unsigned count, const struct placement *placement,
			    uint64_t first64, unsigned bits)
{
	static struct span spans[PLACEMENT_DEVICES_MAX * TENON_DEVICE_BARS + PLACEMENT_BUSES_MAX * 3];
	for (unsigned i = 0; i < count; i++) {
		for (unsigned bar = 0; bar < TENON_DEVICE_BARS; bar++) {
			if (!devices[i].bars[bar].size_bytes)
				continue;
			check_bar(&devices[i], bar, placement, first64, bits);
			if (devices[i].bus >= 0)
				check_behind(&devices[i], bar);
		}
	}
	for (int bus = -1; bus < (int)bus_count; bus++) {
		unsigned span_count = collect(devices, count, bus, spans);
		for (unsigned i = 0; i < span_count; i++) {
			for (unsigned j = 0; j < i; j++)
				check_apart(&spans[j], &spans[i]);
		}
		if (bus >= 0)
			check_bus(&buses[bus], placement);
	}
}

static struct placement place(struct placement_device *devices, unsigned count)
{
	struct placement placement;
	struct tenon_error err = {0};
	cr_assert_eq(placement_compute(devices, count, buses, bus_count, 4 * GIB, BITS, &placement, &err), 0, "%s",
		     err.message);
	check_placement(devices, count, &placement, 4 * GIB, BITS);
	return placement;
}

static void expect_refused(struct placement_device *devices, unsigned count, const char *device, const char *window)
{
	struct placement placement;
	struct tenon_error err = {0};
	cr_assert_eq(placement_compute(devices, count, buses, bus_count, 4 * GIB, BITS, &placement, &err), -ENOSPC);
	cr_expect(strstr(err.message, device) == err.message, "%s", err.message);
	cr_expect(strstr(err.message, window), "%s", err.message);
	cr_expect(strstr(err.message, "; "), "%s", err.message);
}

/* ---- On the root bus ---- */

Test(placement, nothing_to_place_needs_no_window)
{
	struct placement placement;
	cr_assert_eq(placement_compute(NULL, 0, NULL, 0, 4 * GIB, BITS, &placement, NULL), 0);
	cr_expect_eq(placement.io.size_bytes, 0);
	cr_expect_eq(placement.memory32.size_bytes, 0);
	cr_expect_eq(placement.memory64.size_bytes, 0);

	const struct card bare = {0};
	struct placement_device devices[] = {on_root_bus("bare", &bare), behind(0, "bare behind a port", &bare)};
	placement = place(devices, 2);
	cr_expect_eq(placement.io.size_bytes + placement.memory32.size_bytes + placement.memory64.size_bytes, 0);
	cr_expect_eq(buses[0].windows.memory_bytes, 0);
}

Test(placement, each_kind_goes_to_its_window)
{
	const struct card card = {
		{IO(32), MEM32(4 * KIB), PREFETCH32(MIB), MEM64(16 * KIB), {0}, PREFETCH64(256 * MIB)}};
	struct placement_device device = on_root_bus("card", &card);
	struct placement placement = place(&device, 1);
	cr_expect_geq(device.address[3], 4 * GIB);
	cr_expect_geq(device.address[5], 4 * GIB);
	cr_expect_eq(device.address[4], 0, "not implemented, so not placed");
	cr_expect_leq(placement.memory32.size_bytes, 2 * MIB, "windows are as large as what they hold demands");
	cr_expect_leq(placement.memory64.size_bytes, 257 * MIB);
}

Test(placement, small_memory_bars_do_not_share_a_page)
{
	const struct card card = {{MEM32(16), MEM32(128), MEM32(256), MEM32(2 * KIB), MEM32(16), MEM32(4 * KIB)}};
	struct placement_device devices[] = {on_root_bus("one", &card), on_root_bus("two", &card),
					     behind(0, "three", &card)};
	place(devices, 3);
}

Test(placement, bars_of_64_bits_lie_above_ram)
{
	const struct card card = {{PREFETCH64(4 * KIB), {0}, PREFETCH64(8 * GIB)}};
	const uint64_t ends[] = {4 * GIB, 4 * GIB + 2 * MIB, 6 * GIB, 100 * GIB + 514 * MIB};
	for (unsigned i = 0; i < 4; i++) {
		struct placement_device device = on_root_bus("card", &card);
		struct placement placement;
		struct tenon_error err = {0};
		cr_assert_eq(placement_compute(&device, 1, buses, bus_count, ends[i], BITS, &placement, &err), 0, "%s",
			     err.message);
		check_placement(&device, 1, &placement, ends[i], BITS);
	}
}

Test(placement, the_same_input_gives_the_same_addresses)
{
	const struct card card = {{MEM32(64 * KIB), MEM32(64 * KIB), PREFETCH64(MIB), {0}, IO(64)}};
	struct placement_device first[] = {on_root_bus("one", &card), behind(0, "two", &card)};
	struct placement_device second[] = {on_root_bus("one", &card), behind(0, "two", &card)};
	place(first, 2);
	place(second, 2);
	for (unsigned i = 0; i < 2; i++)
		cr_expect_arr_eq(first[i].address, second[i].address, sizeof(first[i].address));
}

Test(placement, a_window_can_be_filled_to_its_last_byte)
{
	const struct card card = {
		{MEM32(LAYOUT_PCI32_BYTES / 2), MEM32(LAYOUT_PCI32_BYTES / 4), MEM32(LAYOUT_PCI32_BYTES / 4)}};
	struct placement_device device = on_root_bus("card", &card);
	struct placement placement = place(&device, 1);
	cr_expect_eq(placement.memory32.first, LAYOUT_PCI32);
	cr_expect_eq(placement.memory32.size_bytes, LAYOUT_PCI32_BYTES);
}

Test(placement, as_many_devices_as_a_vm_can_have_fit)
{
	const struct card card = {{IO(256), MEM32(64 * KIB), PREFETCH64(64 * MIB), {0}, MEM64(MIB)}};
	struct placement_device devices[30];
	for (unsigned i = 0; i < 30; i++)
		devices[i] = i % 2 && i < 16 ? behind(i / 2, "card", &card) : on_root_bus("card", &card);
	place(devices, 30);
}

/* ---- Behind a root port ---- */

Test(placement, a_port_has_windows_for_what_is_behind_it_and_no_others)
{
	const struct card card = {{MEM32(16 * KIB)}};
	struct placement_device device = behind(0, "card", &card);
	place(&device, 1);
	cr_expect_eq(buses[0].windows.memory_bytes, MIB);
	cr_expect_eq(buses[0].windows.io_bytes, 0);
	cr_expect_eq(buses[0].windows.prefetch_bytes, 0);
}

Test(placement, non_prefetchable_64_bit_bars_go_below_4_gib_behind_a_port_only)
{
	const struct card card = {{MEM64(16 * KIB), {0}, PREFETCH64(16 * KIB)}};
	struct placement_device devices[] = {behind(0, "behind", &card), on_root_bus("root", &card)};
	place(devices, 2);
	cr_expect_lt(devices[0].address[0], 4 * GIB);
	cr_expect_geq(devices[0].address[2], 4 * GIB);
	cr_expect_geq(devices[1].address[0], 4 * GIB);
}

Test(placement, large_prefetchable_bars_fit_behind_a_port)
{
	const struct card card = {{PREFETCH64(64 * GIB), {0}, PREFETCH64(32 * MIB), {0}, MEM32(16 * MIB), IO(128)}};
	struct placement_device devices[] = {behind(0, "gpu 1", &card), behind(1, "gpu 2", &card)};
	place(devices, 2);
	cr_expect_eq(buses[0].windows.prefetch_bytes, 64 * GIB + 32 * MIB);
}

/* ---- Several devices behind one bridge ---- */

Test(placement, devices_behind_one_bridge_share_its_windows)
{
	const struct card card = {{MEM32(64 * KIB), IO(256), PREFETCH64(256 * MIB)}};
	struct placement_device devices[] = {behind(0, "one", &card), behind(0, "two", &card),
					     behind(1, "other", &card)};
	place(devices, 3);
	cr_expect_eq(buses[0].windows.memory_bytes, MIB, "both fit into the least that a bridge has");
	cr_expect_eq(buses[0].windows.io_bytes, 4 * KIB);
	cr_expect_eq(buses[0].windows.prefetch_bytes, 512 * MIB);
	cr_expect_eq(buses[1].windows.prefetch_bytes, 256 * MIB);
}

Test(placement, a_bridge_that_reserves_keeps_room_beside_what_is_behind_it)
{
	const struct card small = {{MEM32(64 * KIB)}}, large = {{MEM32(2 * PLACEMENT_RESERVED_MEMORY_BYTES)}};
	struct placement_device devices[] = {behind(0, "small", &small), behind(1, "large", &large)};
	buses[0].reserve = buses[1].reserve = true;
	place(devices, 2);
	cr_expect_eq(buses[0].windows.memory_bytes, PLACEMENT_RESERVED_MEMORY_BYTES);
	cr_expect_eq(buses[1].windows.memory_bytes, 2 * PLACEMENT_RESERVED_MEMORY_BYTES);
}

Test(placement, as_many_devices_and_buses_as_there_can_be_fit)
{
	const struct card card = {{MEM32(64 * KIB), {0}, PREFETCH64(64 * MIB)}};
	static struct placement_device devices[PLACEMENT_DEVICES_MAX];
	for (unsigned i = 0; i < PLACEMENT_DEVICES_MAX; i++)
		devices[i] = behind(i, "card", &card);
	place(devices, PLACEMENT_DEVICES_MAX);
	for (unsigned i = 0; i < PLACEMENT_DEVICES_MAX; i++)
		devices[i] = behind(0, "card", &card);
	place(devices, PLACEMENT_DEVICES_MAX);
	cr_expect_eq(buses[0].windows.prefetch_bytes, PLACEMENT_DEVICES_MAX * 64 * MIB);
}

Test(placement, devices_that_only_together_are_too_large_for_their_bridge_are_refused)
{
	const struct card card = {{MEM32(256 * MIB)}};
	struct placement_device devices[] = {behind(0, "0000:05:00.0", &card), behind(0, "0000:05:00.1", &card)};
	place(devices, 2);
	struct placement_device three[] = {devices[0], devices[1], behind(0, "0000:05:00.2", &card)};
	expect_refused(three, 3, "0000:05:00.0", "32-bit");
}

Test(placement, a_bridge_for_which_there_is_no_room_is_named_itself)
{
	struct placement placement;
	struct tenon_error err = {0};
	for (unsigned i = 0; i < 16; i++)
		buses[i] = (struct placement_bus){.name = "--hotplug-ports", .reserve = true};
	cr_assert_eq(placement_compute(NULL, 0, buses, 16, 4 * GIB, BITS, &placement, &err), -ENOSPC);
	cr_expect(strstr(err.message, "--hotplug-ports: ") == err.message, "%s", err.message);
	cr_expect(strstr(err.message, "; "), "%s", err.message);
}

Test(placement, more_buses_than_it_takes_are_refused)
{
	static struct placement_bus many[PLACEMENT_BUSES_MAX + 1];
	struct placement placement;
	struct tenon_error err = {0};
	cr_assert_eq(placement_compute(NULL, 0, many, PLACEMENT_BUSES_MAX + 1, 4 * GIB, BITS, &placement, &err),
		     -ENOSPC);
	cr_expect(strstr(err.message, "65 ports: ") == err.message && strstr(err.message, "; "), "%s", err.message);
	cr_expect_eq(placement_compute(NULL, 0, many, PLACEMENT_BUSES_MAX, 4 * GIB, BITS, &placement, &err), 0);
}

/* ---- Too large ---- */

Test(placement, a_device_that_is_too_large_is_named_with_the_window)
{
	const struct card small = {{IO(16), MEM32(4 * KIB), PREFETCH64(4 * KIB)}};
	const struct {
		struct card card;
		const char *window;
	} cases[] = {
		{{{IO(64 * KIB)}}, "I/O"},
		{{{MEM32(GIB)}}, "32-bit"},
		{{{MEM32(512 * MIB), MEM32(512 * MIB)}}, "32-bit"},
		{{{PREFETCH64(TIB)}}, "physical address space"},
		{{{PREFETCH64(512 * GIB), {0}, PREFETCH64(512 * GIB)}}, "physical address space"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned port = 0; port < 2; port++) {
			struct placement_device devices[] = {on_root_bus("0000:01:00.0", &small),
							     on_root_bus("0000:3b:00.0", &cases[i].card)};
			if (port)
				devices[1] = behind(0, devices[1].name, &cases[i].card);
			/* Alone it is too large already, so no other can be to blame. */
			expect_refused(devices + 1, 1, "0000:3b:00.0", cases[i].window);
			struct placement placement;
			cr_expect_eq(placement_compute(devices, 2, buses, bus_count, 4 * GIB, BITS, &placement, NULL),
				     -ENOSPC);
		}
	}
}

Test(placement, sizes_that_no_address_space_holds_are_refused_and_do_not_wrap_around)
{
	const struct card small = {{MEM32(4 * KIB)}};
	const struct card cards[] = {
		{{PREFETCH64(UINT64_C(1) << 63)}},
		{{PREFETCH64(UINT64_C(1) << 63), {0}, PREFETCH64(UINT64_C(1) << 63)}},
		{{PREFETCH64(UINT64_C(1) << 62),
		  {0},
		  PREFETCH64(UINT64_C(1) << 62),
		  {0},
		  PREFETCH64(UINT64_C(1) << 63)}},
		{{MEM32(UINT64_C(1) << 63), MEM32(UINT64_C(1) << 63)}},
		{{IO(UINT64_C(1) << 63), IO(UINT64_C(1) << 63)}},
	};
	for (size_t i = 0; i < sizeof(cards) / sizeof(cards[0]); i++) {
		for (unsigned port = 0; port < 2; port++) {
			struct placement_device devices[] = {on_root_bus("0000:01:00.0", &small),
							     on_root_bus("0000:3b:00.0", &cards[i])};
			if (port)
				devices[1] = behind(0, devices[1].name, &cards[i]);
			struct placement placement;
			struct tenon_error err = {0};
			cr_expect_eq(placement_compute(devices, 2, buses, bus_count, 4 * GIB, BITS, &placement, &err),
				     -ENOSPC, "case %zu, port %u", i, port);
			cr_expect(strstr(err.message, "0000:3b:00.0"), "case %zu, port %u: %s", i, port, err.message);
		}
	}
}

Test(placement, many_small_devices_that_fill_the_io_window_are_refused_with_advice)
{
	const struct card card = {{IO(16)}};
	struct placement_device devices[16];
	for (unsigned i = 0; i < 16; i++)
		devices[i] = behind(i, "0000:05:00.0", &card);
	bus_count = 15;
	place(devices, 15);
	bus_count = 16;
	/* Each bridge window has 4 KiB at least, and there are 60. */
	expect_refused(devices, 16, "0000:05:00.0", "I/O window");
}

Test(placement, more_devices_than_it_takes_are_refused)
{
	static struct placement_device devices[PLACEMENT_DEVICES_MAX + 1];
	const struct card card = {{MEM32(4 * KIB)}};
	for (unsigned i = 0; i <= PLACEMENT_DEVICES_MAX; i++)
		devices[i] = on_root_bus("card", &card);
	expect_refused(devices, PLACEMENT_DEVICES_MAX + 1, "65 devices", "");
	place(devices, PLACEMENT_DEVICES_MAX);
}

/* ---- Any set of BARs ---- */

static uint64_t random_state;

static uint64_t random_below(uint64_t end)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (random_state >> 33) % end;
}

static struct card random_card(void)
{
	struct card card = {0};
	for (unsigned bar = 0; bar < TENON_DEVICE_BARS; bar++) {
		struct tenon_bar_info *info = &card.bars[bar];
		switch (random_below(5)) {
		case 0:
			break;
		case 1:
			*info = (struct tenon_bar_info)IO(UINT64_C(1) << (2 + random_below(7)));
			break;
		case 2:
			*info = (struct tenon_bar_info)MEM32(UINT64_C(1) << (4 + random_below(21)));
			info->prefetchable = random_below(2);
			break;
		default:
			if (bar + 1 == TENON_DEVICE_BARS)
				break;
			*info = (struct tenon_bar_info)MEM64(UINT64_C(1) << (4 + random_below(32)));
			info->prefetchable = random_below(4);
			bar++;
		}
	}
	return card;
}

static struct card cards[PLACEMENT_DEVICES_MAX];

/* Devices on the root bus and on buses of any number of devices, some of which have none and some of which reserve. */
static unsigned random_machine(struct placement_device *devices, bool large)
{
	unsigned count = 1 + (unsigned)random_below(large ? PLACEMENT_DEVICES_MAX : 6);
	bus_count = (unsigned)random_below(large ? 40 : 5);
	for (unsigned i = 0; i < bus_count; i++)
		buses[i] = (struct placement_bus){.name = "0000:01:00.0", .reserve = random_below(8) == 0};
	for (unsigned i = 0; i < count; i++) {
		cards[i] = random_card();
		devices[i] = bus_count && random_below(3)
				     ? behind((unsigned)random_below(bus_count), "0000:01:00.0", &cards[i])
				     : on_root_bus("0000:01:00.0", &cards[i]);
	}
	return count;
}

/* The same machine again: nothing of the first answer may show in the second. */
static void check_same(const struct placement_device *devices, unsigned count, uint64_t first64, unsigned bits,
		       const struct placement *placement)
{
	static struct placement_device again[PLACEMENT_DEVICES_MAX];
	static struct placement_bus its_buses[PLACEMENT_BUSES_MAX];
	struct placement other;
	for (unsigned i = 0; i < count; i++) {
		again[i] = devices[i];
		memset(again[i].address, 0, sizeof(again[i].address));
	}
	for (unsigned i = 0; i < bus_count; i++)
		its_buses[i] = (struct placement_bus){.name = buses[i].name, .reserve = buses[i].reserve};
	cr_assert_eq(placement_compute(again, count, its_buses, bus_count, first64, bits, &other, NULL), 0);
	for (unsigned i = 0; i < count; i++)
		cr_assert_arr_eq(again[i].address, devices[i].address, sizeof(again[i].address));
	for (unsigned i = 0; i < bus_count; i++)
		cr_assert_eq(memcmp(&its_buses[i].windows, &buses[i].windows, sizeof(buses[i].windows)), 0);
	cr_assert_eq(memcmp(&other, placement, sizeof(other)), 0);
}

Test(placement, any_machine_is_placed_without_overlap_or_refused_in_words, .timeout = 300)
{
	static struct placement_device devices[PLACEMENT_DEVICES_MAX];
	unsigned placed = 0, rounds = 12000;
	for (unsigned round = 0; round < rounds; round++) {
		random_state = round;
		unsigned count = random_machine(devices, round % 4 == 0);
		uint64_t first64 = 4 * GIB + random_below(64 * 1024) * 2 * MIB;
		unsigned bits = 36 + (unsigned)random_below(17);
		struct placement placement;
		struct tenon_error err = {0};
		int code = placement_compute(devices, count, buses, bus_count, first64, bits, &placement, &err);
		if (code == 0) {
			placed++;
			check_placement(devices, count, &placement, first64, bits);
			check_same(devices, count, first64, bits, &placement);
		} else {
			cr_assert_eq(code, -ENOSPC, "round %u", round);
			cr_assert(strstr(err.message, "0000:01:00.0: ") == err.message, "round %u: %s", round,
				  err.message);
		}
	}
	cr_expect_gt(placed, rounds / 4, "only %u of %u could be placed, which proves little", placed, rounds);
	cr_expect_lt(placed, rounds, "no refusal was seen");
}

/* ---- Expansion ROMs ---- */

Test(placement, expansion_rom_goes_below_4_gib_and_overlaps_nothing)
{
	const struct card card = {.bars = {MEM32(64 * KIB), MEM64(1 * MIB)}};
	for (unsigned port = 0; port < 2; port++) {
		struct placement_device device = port ? behind(0, "card", &card) : on_root_bus("card", &card);
		struct placement placement;
		struct tenon_error err = {0};
		device.rom_bytes = 128 * KIB;
		cr_assert_eq(placement_compute(&device, 1, buses, bus_count, 4 * GIB, BITS, &placement, &err), 0, "%s",
			     err.message);
		uint64_t rom = device.address[TENON_DEVICE_ROM], bar = device.address[0];
		cr_expect_eq(rom % (128 * KIB), 0);
		cr_expect(rom >= placement.memory32.first &&
			  rom + 128 * KIB <= placement.memory32.first + placement.memory32.size_bytes);
		cr_expect(rom + 128 * KIB <= bar || bar + 64 * KIB <= rom);
		const struct pci_bridge_windows *windows = &buses[0].windows;
		if (port)
			cr_expect(rom >= windows->memory_first &&
				  rom + 128 * KIB <= windows->memory_first + windows->memory_bytes);
	}
}

Test(placement, device_without_expansion_rom_gets_no_place_for_one)
{
	const struct card card = {.bars = {MEM32(64 * KIB)}};
	struct placement_device device = on_root_bus("card", &card);
	struct placement placement;
	cr_assert_eq(placement_compute(&device, 1, buses, bus_count, 4 * GIB, BITS, &placement, NULL), 0);
	cr_expect_eq(device.address[TENON_DEVICE_ROM], 0);
}

/* ---- Ports for devices that come later ---- */

static struct placement reserve(struct placement_device *devices, unsigned count, unsigned ports, unsigned bits)
{
	struct placement placement;
	struct tenon_error err = {0};
	bus_count = ports;
	for (unsigned i = 0; i < ports; i++)
		buses[i] = (struct placement_bus){.name = "--hotplug-ports", .reserve = true};
	cr_assert_eq(placement_compute(devices, count, buses, bus_count, 4 * GIB, bits, &placement, &err), 0,
		     "%u bits: %s", bits, err.message);
	check_placement(devices, count, &placement, 4 * GIB, bits);
	return placement;
}

Test(placement, empty_ports_get_windows_that_do_not_overlap)
{
	enum { PORTS = 8 };
	static const struct card card = {{MEM64(1 * MIB), {0}, PREFETCH64(8 * GIB)}};
	struct placement_device device = on_root_bus("card", &card);
	reserve(&device, 1, PORTS, BITS);
	for (unsigned i = 0; i < PORTS; i++) {
		const struct pci_bridge_windows *windows = &buses[i].windows;
		cr_expect_eq(windows->io_bytes, PLACEMENT_RESERVED_IO_BYTES);
		cr_expect_eq(windows->memory_bytes, PLACEMENT_RESERVED_MEMORY_BYTES);
		cr_expect_geq(windows->prefetch_bytes, 1 * GIB);
		cr_expect_eq(windows->prefetch_first % windows->prefetch_bytes, 0, "one BAR can fill it");
	}
}

Test(placement, reserved_windows_shrink_until_they_take_half_of_the_address_space_at_most)
{
	static const unsigned bits[] = {36, 39, 40, 46, 52};
	for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		reserve(NULL, 0, 8, bits[i]);
		uint64_t bytes = buses[0].windows.prefetch_bytes;
		cr_expect_leq(8 * bytes, ((1ull << bits[i]) - 4 * GIB) / 2, "%u bits", bits[i]);
		cr_expect_leq(bytes, PLACEMENT_RESERVED_PREFETCH_BYTES);
		cr_expect(bytes == PLACEMENT_RESERVED_PREFETCH_BYTES || 16 * bytes > ((1ull << bits[i]) - 4 * GIB) / 2,
			  "%u bits: as large as that allows", bits[i]);
	}
}

Test(placement, a_late_device_is_placed_inside_its_ports_windows)
{
	static const struct card card = {{MEM64(16 * 1024), {0}, PREFETCH64(256 * MIB), {0}, IO(64), MEM32(4096)}};
	struct placement_device late = behind(0, "late", &card);
	struct tenon_error err = {0};
	reserve(NULL, 0, 1, BITS);
	late.rom_bytes = 64 * 1024;
	const struct pci_bridge_windows *windows = &buses[0].windows;
	cr_assert_eq(placement_inside(&late, windows, &err), 0, "%s", err.message);
	cr_expect(inside(late.address[0], 16 * 1024, windows->memory_first, windows->memory_bytes));
	cr_expect(inside(late.address[2], 256 * MIB, windows->prefetch_first, windows->prefetch_bytes));
	cr_expect(inside(late.address[4], 64, windows->io_first, windows->io_bytes));
	cr_expect(inside(late.address[5], 4096, windows->memory_first, windows->memory_bytes));
	cr_expect(inside(late.address[6], 64 * 1024, windows->memory_first, windows->memory_bytes));
	cr_expect_eq(late.address[2] % (256 * MIB), 0);
}

Test(placement, a_late_device_that_does_not_fit_is_refused_with_the_windows_size)
{
	static const struct card large[] = {
		{{MEM32(PLACEMENT_RESERVED_MEMORY_BYTES), MEM32(4096)}},
		{{PREFETCH64(2 * PLACEMENT_RESERVED_PREFETCH_BYTES)}},
		{{PREFETCH64(1ull << 63), {0}, PREFETCH64(1ull << 63)}},
	};
	for (unsigned i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
		struct placement_device late = behind(0, "late", &large[i]);
		struct tenon_error err = {0};
		reserve(NULL, 0, 1, BITS);
		cr_expect_eq(placement_inside(&late, &buses[0].windows, &err), -ENOSPC);
		cr_expect(strstr(err.message, "late: BAR ") && strstr(err.message, "KiB; "), "%s", err.message);
	}
}

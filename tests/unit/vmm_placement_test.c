// SPDX-License-Identifier: MIT
/*
 * Where BARs and the windows of root ports go. Most tests only say what must hold of any placement (check_placement); a random
 * one asks it of many sets of BARs.
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

/* Stands for a root port: placement only asks whether there is one. */
static struct pci_bridge *const a_port = (struct pci_bridge *)(void *)"port";

static struct placement_device on_root_bus(const char *name, const struct card *card)
{
	return (struct placement_device){.name = name, .bars = card->bars};
}

static struct placement_device behind_port(const char *name, const struct card *card)
{
	return (struct placement_device){.name = name, .bars = card->bars, .port = a_port};
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

static void check_port(const struct placement_device *device)
{
	const struct pci_bridge_windows *port = &device->port_windows;
	cr_assert_eq(port->io_first % (4 * KIB) + port->io_bytes % (4 * KIB), 0);
	cr_assert_eq(port->memory_first % MIB + port->memory_bytes % MIB, 0);
	cr_assert_eq(port->prefetch_first % MIB + port->prefetch_bytes % MIB, 0);
	for (unsigned bar = 0; bar < TENON_DEVICE_BARS; bar++) {
		const struct tenon_bar_info *info = &device->bars[bar];
		uint64_t address = device->address[bar];
		if (!info->size_bytes)
			continue;
		bool fits =
			info->io ? inside(address, info->size_bytes, port->io_first, port->io_bytes)
				 : inside(address, info->size_bytes, port->memory_first, port->memory_bytes) ||
					   (info->prefetchable && inside(address, info->size_bytes,
									 port->prefetch_first, port->prefetch_bytes));
		cr_assert(fits, "%s BAR %u at %#lx is in no fitting window of its port", device->name, bar,
			  (unsigned long)address);
	}
}

static void check_apart(const struct span *a, const struct span *b)
{
	cr_assert(a->io != b->io || a->first + (a->size_bytes - 1) < b->first ||
			  b->first + (b->size_bytes - 1) < a->first,
		  "device %u BAR %u and device %u BAR %u overlap at %#lx", a->device, a->bar, b->device, b->bar,
		  (unsigned long)b->first);
}

/* Memory and I/O that one device's port, or one BAR on the root bus, takes for itself. */
static unsigned collect(const struct placement_device *device, unsigned number, struct span *spans)
{
	unsigned count = 0;
	if (device->port) {
		const struct pci_bridge_windows *port = &device->port_windows;
		const struct span windows[] = {{port->io_first, port->io_bytes, number, 100, true},
					       {port->memory_first, port->memory_bytes, number, 101, false},
					       {port->prefetch_first, port->prefetch_bytes, number, 102, false}};
		for (unsigned i = 0; i < 3; i++) {
			if (windows[i].size_bytes)
				spans[count++] = windows[i];
		}
		return count;
	}
	for (unsigned bar = 0; bar < TENON_DEVICE_BARS; bar++) {
		if (device->bars[bar].size_bytes)
			spans[count++] = span_of(device, number, bar);
	}
	return count;
}

static void check_placement(const struct placement_device *devices, unsigned count, const struct placement *placement,
			    uint64_t first64, unsigned bits)
{
	static struct span spans[PLACEMENT_DEVICES_MAX * TENON_DEVICE_BARS];
	unsigned span_count = 0;
	for (unsigned i = 0; i < count; i++) {
		struct span own[TENON_DEVICE_BARS];
		unsigned own_count = 0;
		for (unsigned bar = 0; bar < TENON_DEVICE_BARS; bar++) {
			if (!devices[i].bars[bar].size_bytes)
				continue;
			check_bar(&devices[i], bar, placement, first64, bits);
			own[own_count++] = span_of(&devices[i], i, bar);
			for (unsigned other = 0; other + 1 < own_count; other++)
				check_apart(&own[other], &own[own_count - 1]);
		}
		if (devices[i].port)
			check_port(&devices[i]);
		span_count += collect(&devices[i], i, spans + span_count);
	}
	for (unsigned i = 0; i < span_count; i++) {
		for (unsigned j = 0; j < i; j++)
			check_apart(&spans[j], &spans[i]);
	}
}

static struct placement place(struct placement_device *devices, unsigned count)
{
	struct placement placement;
	struct tenon_error err = {0};
	cr_assert_eq(placement_compute(devices, count, 4 * GIB, BITS, &placement, &err), 0, "%s", err.message);
	check_placement(devices, count, &placement, 4 * GIB, BITS);
	return placement;
}

static void expect_refused(struct placement_device *devices, unsigned count, const char *device, const char *window)
{
	struct placement placement;
	struct tenon_error err = {0};
	cr_assert_eq(placement_compute(devices, count, 4 * GIB, BITS, &placement, &err), -ENOSPC);
	cr_expect(strstr(err.message, device) == err.message, "%s", err.message);
	cr_expect(strstr(err.message, window), "%s", err.message);
	cr_expect(strstr(err.message, "; "), "%s", err.message);
}

/* ---- On the root bus ---- */

Test(placement, nothing_to_place_needs_no_window)
{
	struct placement placement;
	cr_assert_eq(placement_compute(NULL, 0, 4 * GIB, BITS, &placement, NULL), 0);
	cr_expect_eq(placement.io.size_bytes, 0);
	cr_expect_eq(placement.memory32.size_bytes, 0);
	cr_expect_eq(placement.memory64.size_bytes, 0);

	const struct card bare = {0};
	struct placement_device devices[] = {on_root_bus("bare", &bare), behind_port("bare behind a port", &bare)};
	placement = place(devices, 2);
	cr_expect_eq(placement.io.size_bytes + placement.memory32.size_bytes + placement.memory64.size_bytes, 0);
	cr_expect_eq(devices[1].port_windows.memory_bytes, 0);
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
					     behind_port("three", &card)};
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
		cr_assert_eq(placement_compute(&device, 1, ends[i], BITS, &placement, &err), 0, "%s", err.message);
		check_placement(&device, 1, &placement, ends[i], BITS);
	}
}

Test(placement, the_same_input_gives_the_same_addresses)
{
	const struct card card = {{MEM32(64 * KIB), MEM32(64 * KIB), PREFETCH64(MIB), {0}, IO(64)}};
	struct placement_device first[] = {on_root_bus("one", &card), behind_port("two", &card)};
	struct placement_device second[] = {on_root_bus("one", &card), behind_port("two", &card)};
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
		devices[i] = i % 2 && i < 16 ? behind_port("card", &card) : on_root_bus("card", &card);
	place(devices, 30);
}

/* ---- Behind a root port ---- */

Test(placement, a_port_has_windows_for_what_is_behind_it_and_no_others)
{
	const struct card card = {{MEM32(16 * KIB)}};
	struct placement_device device = behind_port("card", &card);
	place(&device, 1);
	cr_expect_eq(device.port_windows.memory_bytes, MIB);
	cr_expect_eq(device.port_windows.io_bytes, 0);
	cr_expect_eq(device.port_windows.prefetch_bytes, 0);
}

Test(placement, non_prefetchable_64_bit_bars_go_below_4_gib_behind_a_port_only)
{
	const struct card card = {{MEM64(16 * KIB), {0}, PREFETCH64(16 * KIB)}};
	struct placement_device devices[] = {behind_port("behind", &card), on_root_bus("root", &card)};
	place(devices, 2);
	cr_expect_lt(devices[0].address[0], 4 * GIB);
	cr_expect_geq(devices[0].address[2], 4 * GIB);
	cr_expect_geq(devices[1].address[0], 4 * GIB);
}

Test(placement, large_prefetchable_bars_fit_behind_a_port)
{
	const struct card card = {{PREFETCH64(64 * GIB), {0}, PREFETCH64(32 * MIB), {0}, MEM32(16 * MIB), IO(128)}};
	struct placement_device devices[] = {behind_port("gpu 1", &card), behind_port("gpu 2", &card)};
	place(devices, 2);
	cr_expect_eq(devices[0].port_windows.prefetch_bytes, 64 * GIB + 32 * MIB);
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
			devices[1].port = port ? a_port : NULL;
			/* Alone it is too large already, so no other can be to blame. */
			expect_refused(devices + 1, 1, "0000:3b:00.0", cases[i].window);
			struct placement placement;
			cr_expect_eq(placement_compute(devices, 2, 4 * GIB, BITS, &placement, NULL), -ENOSPC);
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
			devices[1].port = port ? a_port : NULL;
			struct placement placement;
			struct tenon_error err = {0};
			cr_expect_eq(placement_compute(devices, 2, 4 * GIB, BITS, &placement, &err), -ENOSPC,
				     "case %zu, port %u", i, port);
			cr_expect(strstr(err.message, "0000:3b:00.0"), "case %zu, port %u: %s", i, port, err.message);
		}
	}
}

Test(placement, many_small_devices_that_fill_the_io_window_are_refused_with_advice)
{
	const struct card card = {{IO(16)}};
	struct placement_device devices[16];
	for (unsigned i = 0; i < 16; i++)
		devices[i] = behind_port("0000:05:00.0", &card);
	place(devices, 15);
	/* Each bridge window has 4 KiB at least, and there are 60. */
	expect_refused(devices, 16, "0000:05:00.0", "I/O window");
}

Test(placement, more_devices_than_it_takes_are_refused)
{
	static struct placement_device devices[PLACEMENT_DEVICES_MAX + 1];
	const struct card card = {{MEM32(4 * KIB)}};
	for (unsigned i = 0; i <= PLACEMENT_DEVICES_MAX; i++)
		devices[i] = on_root_bus("card", &card);
	expect_refused(devices, PLACEMENT_DEVICES_MAX + 1, "33 devices", "");
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

Test(placement, any_set_of_bars_is_placed_without_overlap_or_refused_in_words, .timeout = 120)
{
	static struct card cards[PLACEMENT_DEVICES_MAX];
	static struct placement_device devices[PLACEMENT_DEVICES_MAX];
	unsigned placed = 0, rounds = 5000;
	for (unsigned round = 0; round < rounds; round++) {
		random_state = round;
		unsigned count = 1 + (unsigned)random_below(round % 4 ? 6 : PLACEMENT_DEVICES_MAX);
		for (unsigned i = 0; i < count; i++) {
			cards[i] = random_card();
			devices[i] = random_below(3) ? on_root_bus("0000:01:00.0", &cards[i])
						     : behind_port("0000:01:00.0", &cards[i]);
		}
		uint64_t first64 = 4 * GIB + random_below(64 * 1024) * 2 * MIB;
		unsigned bits = 36 + (unsigned)random_below(17);
		struct placement placement;
		struct tenon_error err = {0};
		int code = placement_compute(devices, count, first64, bits, &placement, &err);
		if (code == 0) {
			placed++;
			check_placement(devices, count, &placement, first64, bits);
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
	for (unsigned behind = 0; behind < 2; behind++) {
		struct placement_device device = behind ? behind_port("card", &card) : on_root_bus("card", &card);
		struct placement placement;
		struct tenon_error err = {0};
		device.rom_bytes = 128 * KIB;
		cr_assert_eq(placement_compute(&device, 1, 4 * GIB, BITS, &placement, &err), 0, "%s", err.message);
		uint64_t rom = device.address[TENON_DEVICE_ROM], bar = device.address[0];
		cr_expect_eq(rom % (128 * KIB), 0);
		cr_expect(rom >= placement.memory32.first &&
			  rom + 128 * KIB <= placement.memory32.first + placement.memory32.size_bytes);
		cr_expect(rom + 128 * KIB <= bar || bar + 64 * KIB <= rom);
		if (behind)
			cr_expect(rom >= device.port_windows.memory_first &&
				  rom + 128 * KIB <=
					  device.port_windows.memory_first + device.port_windows.memory_bytes);
	}
}

Test(placement, device_without_expansion_rom_gets_no_place_for_one)
{
	const struct card card = {.bars = {MEM32(64 * KIB)}};
	struct placement_device device = on_root_bus("card", &card);
	struct placement placement;
	cr_assert_eq(placement_compute(&device, 1, 4 * GIB, BITS, &placement, NULL), 0);
	cr_expect_eq(device.address[TENON_DEVICE_ROM], 0);
}

/* ---- Ports for devices that come later ---- */

static struct placement_device empty_port(void)
{
	return (struct placement_device){.name = "--hotplug-ports", .port = a_port, .reserve = true};
}

static struct placement reserve(struct placement_device *devices, unsigned count)
{
	struct placement placement;
	struct tenon_error err = {0};
	cr_assert_eq(placement_compute(devices, count, 4 * GIB, BITS, &placement, &err), 0, "%s", err.message);
	return placement;
}

Test(placement, empty_ports_get_windows_that_do_not_overlap)
{
	enum { PORTS = 8 };
	static const struct card card = {{MEM64(1 * MIB), {0}, PREFETCH64(8 * GIB)}};
	struct placement_device devices[PORTS + 1];
	devices[0] = on_root_bus("card", &card);
	for (unsigned i = 1; i <= PORTS; i++)
		devices[i] = empty_port();
	struct placement placement = reserve(devices, PORTS + 1);
	for (unsigned i = 1; i <= PORTS; i++) {
		const struct pci_bridge_windows *windows = &devices[i].port_windows;
		cr_expect_eq(windows->io_bytes, PLACEMENT_RESERVED_IO_BYTES);
		cr_expect_eq(windows->memory_bytes, PLACEMENT_RESERVED_MEMORY_BYTES);
		cr_expect_geq(windows->prefetch_bytes, 1 * GIB);
		cr_expect_eq(windows->prefetch_first % windows->prefetch_bytes, 0, "one BAR can fill it");
		cr_expect(inside(windows->memory_first, windows->memory_bytes, placement.memory32.first,
				 placement.memory32.size_bytes));
		cr_expect(inside(windows->prefetch_first, windows->prefetch_bytes, placement.memory64.first,
				 placement.memory64.size_bytes));
		for (unsigned other = 1; other < i; other++) {
			const struct pci_bridge_windows *its = &devices[other].port_windows;
			cr_expect_neq(windows->io_first, its->io_first);
			cr_expect_neq(windows->memory_first, its->memory_first);
			cr_expect_neq(windows->prefetch_first, its->prefetch_first);
		}
	}
}

Test(placement, reserved_windows_shrink_until_they_take_half_of_the_address_space_at_most)
{
	static const unsigned bits[] = {36, 39, 40, 46, 52};
	for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		struct placement_device devices[8];
		struct placement placement;
		struct tenon_error err = {0};
		for (unsigned port = 0; port < 8; port++)
			devices[port] = empty_port();
		cr_assert_eq(placement_compute(devices, 8, 4 * GIB, bits[i], &placement, &err), 0, "%u bits: %s",
			     bits[i], err.message);
		uint64_t bytes = devices[0].port_windows.prefetch_bytes;
		cr_expect_leq(8 * bytes, ((1ull << bits[i]) - 4 * GIB) / 2, "%u bits", bits[i]);
		cr_expect_leq(bytes, PLACEMENT_RESERVED_PREFETCH_BYTES);
		cr_expect(bytes == PLACEMENT_RESERVED_PREFETCH_BYTES || 16 * bytes > ((1ull << bits[i]) - 4 * GIB) / 2,
			  "%u bits: as large as that allows", bits[i]);
	}
}

Test(placement, a_late_device_is_placed_inside_its_ports_windows)
{
	static const struct card card = {{MEM64(16 * 1024), {0}, PREFETCH64(256 * MIB), {0}, IO(64), MEM32(4096)}};
	struct placement_device port = empty_port();
	struct tenon_error err = {0};
	reserve(&port, 1);
	port.bars = card.bars;
	port.rom_bytes = 64 * 1024;
	cr_assert_eq(placement_inside(&port, &err), 0, "%s", err.message);
	const struct pci_bridge_windows *windows = &port.port_windows;
	cr_expect(inside(port.address[0], 16 * 1024, windows->memory_first, windows->memory_bytes));
	cr_expect(inside(port.address[2], 256 * MIB, windows->prefetch_first, windows->prefetch_bytes));
	cr_expect(inside(port.address[4], 64, windows->io_first, windows->io_bytes));
	cr_expect(inside(port.address[5], 4096, windows->memory_first, windows->memory_bytes));
	cr_expect(inside(port.address[6], 64 * 1024, windows->memory_first, windows->memory_bytes));
	cr_expect_eq(port.address[2] % (256 * MIB), 0);
}

Test(placement, a_late_device_that_does_not_fit_is_refused_with_the_windows_size)
{
	static const struct card cards[] = {
		{{MEM32(PLACEMENT_RESERVED_MEMORY_BYTES), MEM32(4096)}},
		{{PREFETCH64(2 * PLACEMENT_RESERVED_PREFETCH_BYTES)}},
		{{PREFETCH64(1ull << 63), {0}, PREFETCH64(1ull << 63)}},
	};
	for (unsigned i = 0; i < sizeof(cards) / sizeof(cards[0]); i++) {
		struct placement_device port = empty_port();
		struct tenon_error err = {0};
		reserve(&port, 1);
		port.bars = cards[i].bars;
		port.name = "late";
		cr_expect_eq(placement_inside(&port, &err), -ENOSPC);
		cr_expect(strstr(err.message, "late: BAR ") && strstr(err.message, "KiB; "), "%s", err.message);
	}
}

// SPDX-License-Identifier: MIT
/* The machine's description for a firmware, read back with libfdt by the names of the bindings. */
#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "description.h"
#include "layout.h"

#define MIB (1ull << 20)

static uint8_t tree[LAYOUT_FDT_BYTES];

static struct memory memory = {
	.parts = {{.gpa = 0, .size_bytes = 3072 * MIB}, {.gpa = LAYOUT_RAM_ABOVE_4G, .size_bytes = 1024 * MIB}},
	.part_count = 2,
};

static const uint16_t on_root_bus[] = {0x20, 0x23}, behind_port[] = {0x301, 0x3ff};

static struct description usual(void)
{
	return (struct description){
		.memory = &memory,
		.cpu_count = 3,
		.tsc_hz = 5000000000ull,
		.bus_count = 3,
		.windows = {.io = {LAYOUT_PCI_IO, LAYOUT_PCI_IO_BYTES},
			    .memory32 = {LAYOUT_PCI32, LAYOUT_PCI32_BYTES},
			    .memory64 = {0x1400000000, 0x200000000}},
		.hotplug = {.io_bytes = 0x1000, .memory_bytes = 0x2000000, .prefetch_bytes = 0x1000000000},
		.exit_device = true,
		.rom_bytes = LAYOUT_ROM_BYTES_MAX,
		.command_line = "mode=list a=b",
		.bridges = {{.device = 5},
			    {.device = 6},
			    {.device = 7, .function = 1},
			    {.device = 7, .function = 2, .conventional = true}},
		.bridge_count = 4,
		.devices = {{.bridge = -1, .devfn = 4 << 3, .host_address = "0000:3b:00.0"},
			    {.bridge = -1, .devfn = 4 << 3 | 3, .host_address = "0000:3b:00.3"},
			    {.bridge = 0, .host_address = "vfio-user:/run/dev.sock"},
			    {.bridge = 2, .devfn = 1, .host_address = "0000:05:00.1"},
			    {.bridge = 2, .devfn = 0xff, .host_address = "0000:05:1f.7"},
			    {.bridge = 3, .devfn = 9 << 3 | 5, .host_address = "0000:06:09.5"}},
		.device_count = 6,
		.groups = {{.rids = on_root_bus, .count = 2, .why = "0000:3b:00.1 is not assigned"},
			   {.rids = behind_port, .count = 2, .bus_reset = true},
			   {.rids = on_root_bus, .count = 1}},
		.group_count = 3,
	};
}

static void build(const struct description *description)
{
	struct tenon_error err;
	memset(tree, 0xa5, sizeof(tree));
	cr_assert_eq(description_build(description, tree, sizeof(tree), &err), 0, "%s", err.message);
	cr_assert_eq(fdt_check_full(tree, fdt_totalsize(tree)), 0);
}

static int node(const char *path)
{
	int offset = fdt_path_offset(tree, path);
	cr_assert_geq(offset, 0, "%s: %s", path, fdt_strerror(offset));
	return offset;
}

static const char *text(const char *path, const char *name)
{
	const char *value = fdt_getprop(tree, node(path), name, NULL);
	cr_assert_not_null(value, "%s has no %s", path, name);
	return value;
}

static uint32_t cell(const char *path, const char *name, unsigned index)
{
	int bytes;
	const fdt32_t *cells = fdt_getprop(tree, node(path), name, &bytes);
	cr_assert_not_null(cells, "%s has no %s", path, name);
	cr_assert_lt(index * 4, (unsigned)bytes, "%s %s has %d bytes", path, name, bytes);
	return fdt32_to_cpu(cells[index]);
}

static uint64_t two(const char *path, const char *name, unsigned index)
{
	return (uint64_t)cell(path, name, index) << 32 | cell(path, name, index + 1);
}

TestSuite(description, .timeout = 30);

Test(description, tells_memory_cpus_and_command_line)
{
	const struct description description = usual();
	build(&description);
	cr_expect_str_eq(text("/chosen", "bootargs"), "mode=list a=b");
	cr_expect_eq(two("/chosen", "tenon,acpi-rsdp", 0), LAYOUT_ACPI);
	cr_expect_str_eq(text("/memory@0", "device_type"), "memory");
	cr_expect_eq(two("/memory@0", "reg", 2), 3072 * MIB);
	cr_expect_eq(two("/memory@100000000", "reg", 0), LAYOUT_RAM_ABOVE_4G);
	cr_expect_eq(two("/memory@100000000", "reg", 2), 1024 * MIB);
	cr_expect_eq(two("/cpus", "timebase-frequency", 0), 5000000000ull);
	cr_expect_eq(cell("/cpus/cpu@2", "reg", 0), 2);
	cr_expect_lt(fdt_path_offset(tree, "/cpus/cpu@3"), 0);
}

Test(description, reserves_the_legacy_hole_and_the_rom)
{
	const struct description description = usual();
	build(&description);
	cr_expect_eq(two("/reserved-memory/legacy@9fc00", "reg", 0), LAYOUT_LOW_RAM_END);
	cr_expect_eq(two("/reserved-memory/legacy@9fc00", "reg", 2), LAYOUT_HIGH_RAM - LAYOUT_LOW_RAM_END);
	cr_expect_eq(two("/reserved-memory/firmware@ffff0000", "reg", 0), 0xffff0000);
	cr_expect_eq(two("/reserved-memory/firmware@ffff0000", "reg", 2), 0x10000);
}

Test(description, host_bridge_has_ecam_and_windows)
{
	const struct description description = usual();
	build(&description);
	const char *path = "/pcie@e0000000";
	cr_expect_str_eq(text(path, "compatible"), "pci-host-ecam-generic");
	cr_expect_eq(two(path, "reg", 0), LAYOUT_ECAM);
	cr_expect_eq(two(path, "reg", 2), 3 * LAYOUT_ECAM_BUS_BYTES);
	cr_expect_eq(cell(path, "bus-range", 1), 2);
	static const struct {
		uint32_t space;
		uint64_t first, bytes;
	} windows[] = {{0x01000000, LAYOUT_PCI_IO, LAYOUT_PCI_IO_BYTES},
		       {0x02000000, LAYOUT_PCI32, LAYOUT_PCI32_BYTES},
		       {0x43000000, 0x1400000000, 0x200000000}};
	for (unsigned i = 0; i < 3; i++) {
		cr_expect_eq(cell(path, "ranges", 7 * i), windows[i].space);
		cr_expect_eq(two(path, "ranges", 7 * i + 1), windows[i].first);
		cr_expect_eq(two(path, "ranges", 7 * i + 3), windows[i].first);
		cr_expect_eq(two(path, "ranges", 7 * i + 5), windows[i].bytes);
	}
	cr_expect_eq(two(path, "tenon,hotplug-bytes", 4), 0x1000000000);
}

Test(description, window_that_is_not_there_is_left_out)
{
	struct description description = usual();
	int bytes;
	description.windows.io.size_bytes = 0;
	build(&description);
	cr_expect_eq(cell("/pcie@e0000000", "ranges", 0), 0x02000000);
	fdt_getprop(tree, node("/pcie@e0000000"), "ranges", &bytes);
	cr_expect_eq(bytes, 2 * 7 * 4);
}

Test(description, interrupt_map_wires_pins_as_the_machine_does)
{
	const struct description description = usual();
	const char *path = "/pcie@e0000000";
	unsigned found = 0;
	build(&description);
	for (unsigned row = 0; row < 16; row++) {
		unsigned device = cell(path, "interrupt-map", 7 * row) >> 11,
			 pin = cell(path, "interrupt-map", 7 * row + 3) - 1;
		cr_expect_eq(cell(path, "interrupt-map", 7 * row + 4), cell("/ioapic@fec00000", "phandle", 0));
		cr_expect_eq(cell(path, "interrupt-map", 7 * row + 5), LAYOUT_INTX_GSI + (device + pin) % 4);
		cr_expect_eq(cell(path, "interrupt-map", 7 * row + 6), 8, "level, low");
		found |= 1u << (device * 4 + pin);
	}
	cr_expect_eq(found, 0xffff);
	cr_expect_eq(cell(path, "interrupt-map-mask", 0), 0x1800);
}

Test(description, each_device_has_its_place_and_its_address_on_the_host)
{
	const struct description description = usual();
	build(&description);
	cr_expect_eq(cell("/pcie@e0000000/device@4", "reg", 0), 4 << 11);
	cr_expect_str_eq(text("/pcie@e0000000/device@4", "tenon,host-address"), "0000:3b:00.0");
	cr_expect_eq(cell("/pcie@e0000000/pci@5", "reg", 0), 5 << 11);
	cr_expect_str_eq(text("/pcie@e0000000/pci@5/device@0", "tenon,host-address"), "vfio-user:/run/dev.sock");
	cr_expect_lt(fdt_first_subnode(tree, node("/pcie@e0000000/pci@6")), 0);
}

Test(description, functions_other_than_0_are_in_the_unit_address_and_in_reg)
{
	const struct description description = usual();
	build(&description);
	cr_expect_eq(cell("/pcie@e0000000/device@4,3", "reg", 0), 4 << 11 | 3 << 8);
	cr_expect_str_eq(text("/pcie@e0000000/device@4,3", "tenon,host-address"), "0000:3b:00.3");
	cr_expect_eq(cell("/pcie@e0000000/pci@7,1", "reg", 0), 7 << 11 | 1 << 8);
	cr_expect_str_eq(text("/pcie@e0000000/pci@7,1/device@0,1", "tenon,host-address"), "0000:05:00.1");
	cr_expect_eq(cell("/pcie@e0000000/pci@7,1/device@1f,7", "reg", 0), 0xff << 8, "by ARI");
	cr_expect_eq(cell("/pcie@e0000000/pci@7,2/device@9,5", "reg", 0), 9 << 11 | 5 << 8);
}

Test(description, conventional_bridge_is_told_from_a_root_port)
{
	const struct description description = usual();
	build(&description);
	cr_expect_not_null(fdt_getprop(tree, node("/pcie@e0000000/pci@7,2"), "tenon,conventional", NULL));
	cr_expect_null(fdt_getprop(tree, node("/pcie@e0000000/pci@7,1"), "tenon,conventional", NULL));
}

Test(description, reset_groups_have_their_members_and_what_the_guest_may_do_or_why_not)
{
	struct description description = usual();
	int bytes;
	build(&description);
	cr_expect_eq(cell("/reset-groups/group@0", "tenon,members", 0), 0x20);
	cr_expect_eq(cell("/reset-groups/group@0", "tenon,members", 1), 0x23);
	cr_expect_str_eq(text("/reset-groups/group@0", "tenon,why"), "0000:3b:00.1 is not assigned");
	cr_expect_null(fdt_getprop(tree, node("/reset-groups/group@0"), "tenon,bus-reset", NULL));
	cr_expect_eq(cell("/reset-groups/group@1", "reg", 0), 1);
	cr_expect_eq(cell("/reset-groups/group@1", "tenon,members", 1), 0x3ff);
	cr_expect_not_null(fdt_getprop(tree, node("/reset-groups/group@1"), "tenon,bus-reset", NULL));
	cr_expect_null(fdt_getprop(tree, node("/reset-groups/group@1"), "tenon,why", NULL));
	fdt_getprop(tree, node("/reset-groups/group@2"), "tenon,members", &bytes);
	cr_expect_eq(bytes, 4);
	cr_expect_null(fdt_getprop(tree, node("/reset-groups/group@2"), "tenon,why", NULL));
	description.group_count = 0;
	build(&description);
	cr_expect_lt(fdt_first_subnode(tree, node("/reset-groups")), 0);
}

Test(description, ports_are_where_they_are)
{
	struct description description = usual();
	build(&description);
	cr_expect_eq(cell("/isa/serial@i3f8", "reg", 1), LAYOUT_SERIAL_PORT);
	cr_expect_eq(cell("/isa/power@i600", "reg", 1), LAYOUT_SLEEP_CONTROL_PORT);
	cr_expect_eq(cell("/isa/power@i600", "reg", 4), LAYOUT_RESET_PORT);
	cr_expect_eq(cell("/isa/power@i600", "tenon,sleep-value", 0), 0x34);
	cr_expect_eq(cell("/isa/exit@i500", "reg", 1), LAYOUT_EXIT_PORT);
	description.exit_device = false;
	build(&description);
	cr_expect_lt(fdt_path_offset(tree, "/isa/exit@i500"), 0);
}

Test(description, loaded_kernel_is_described)
{
	static const uint8_t header[] = {4, 0, 0x55, 0xaa};
	const struct description_kernel kernel = {.protocol = "linux64",
						  .entry_gpa = 0x1000200,
						  .initrd_first = 0xf000000,
						  .initrd_end = 0xf123456,
						  .setup_header = header,
						  .setup_header_bytes = sizeof(header)};
	struct description description = usual();
	int bytes;
	build(&description);
	cr_expect_null(fdt_getprop(tree, node("/chosen"), "tenon,kernel-entry", NULL));
	description.kernel = &kernel;
	build(&description);
	cr_expect_str_eq(text("/chosen", "tenon,kernel-protocol"), "linux64");
	cr_expect_eq(two("/chosen", "tenon,kernel-entry", 0), 0x1000200);
	cr_expect_eq(two("/chosen", "linux,initrd-start", 0), 0xf000000);
	cr_expect_eq(two("/chosen", "linux,initrd-end", 0), 0xf123456);
	cr_expect_arr_eq(fdt_getprop(tree, node("/chosen"), "tenon,linux-setup-header", &bytes), header,
			 sizeof(header));
	cr_expect_eq(bytes, sizeof(header));
}

Test(description, kernel_without_initrd_has_none)
{
	const struct description_kernel kernel = {.protocol = "pvh", .entry_gpa = 0x100000};
	struct description description = usual();
	description.kernel = &kernel;
	build(&description);
	cr_expect_null(fdt_getprop(tree, node("/chosen"), "linux,initrd-start", NULL));
	cr_expect_null(fdt_getprop(tree, node("/chosen"), "tenon,linux-setup-header", NULL));
}

Test(description, largest_machine_fits)
{
	struct description description = usual();
	char why[256];
	memset(why, 'w', sizeof(why) - 1);
	why[sizeof(why) - 1] = '\0';
	description.cpu_count = 64;
	description.bridge_count = DESCRIPTION_BRIDGES_MAX;
	for (unsigned i = 0; i < DESCRIPTION_BRIDGES_MAX; i++)
		description.bridges[i] = (struct description_bridge){i / 8, i % 8, true};
	description.device_count = description.group_count = DESCRIPTION_DEVICES_MAX;
	for (unsigned i = 0; i < DESCRIPTION_DEVICES_MAX; i++) {
		description.devices[i] = (struct description_device){
			(int)i, 0xff, "vfio-user:/run/some/rather/long/name/of/a/socket.sock"};
		description.groups[i] = (struct description_group){.rids = on_root_bus, .count = 1, .why = why};
	}
	build(&description);
	cr_expect_lt(fdt_totalsize(tree), LAYOUT_FDT_BYTES * 3 / 4);
	static uint16_t all[DESCRIPTION_DEVICES_MAX];
	int bytes;
	description.groups[0] = (struct description_group){.rids = all, .count = DESCRIPTION_DEVICES_MAX};
	build(&description);
	fdt_getprop(tree, node("/reset-groups/group@0"), "tenon,members", &bytes);
	cr_expect_eq(bytes, DESCRIPTION_DEVICES_MAX * 4);
}

Test(description, what_does_not_fit_is_refused_at_every_size)
{
	const struct description description = usual();
	struct tenon_error err;
	build(&description);
	for (size_t capacity = 0; capacity < fdt_totalsize(tree); capacity += 7) {
		static uint8_t small[LAYOUT_FDT_BYTES];
		memset(small, 0xa5, sizeof(small));
		cr_expect_eq(description_build(&description, small, capacity, &err), -ENOSPC);
		cr_expect(strstr(err.message, "shorten the command line"), "%s", err.message);
		cr_assert_eq(small[capacity], 0xa5, "written past %zu bytes", capacity);
	}
}

// SPDX-License-Identifier: MIT
/* What the inventory reads from sysfs and config space, honest and hostile. */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "admin_host.h"
#include "config_space.h"
#include "inventory.h"
#include "migration.h"
#include "text.h"

#define NVME "0000:01:00.0"

static struct inventory inventory;

static void make_host(void)
{
	fake_host_create();
	fake_iommu(0x88);
	fake_pci(&(struct fake_pci){.bdf = "0000:00:00.0", .class_code = 0x060400, .group = 1, .driver = "pcieport"});
	fake_pci(&(struct fake_pci){
		.bdf = NVME, .above = "0000:00:00.0", .class_code = 0x010802, .group = 17, .driver = "nvme"});
}

static void finish_host(void)
{
	inventory_finish(&inventory);
	fake_host_destroy();
}

TestSuite(admin_inventory, .init = make_host, .fini = finish_host);

static const struct device *read_one(const char *bdf)
{
	struct tenon_error err = {0};
	cr_assert_eq(inventory_read(&fake_host, &inventory, &err), 0, "%s", err.message);
	const struct device *device = inventory_find(&inventory, bdf);
	cr_assert(device);
	return device;
}

Test(admin_inventory, addresses_are_parsed)
{
	static const struct {
		const char *text, *bdf;
	} cases[] = {{"0000:3b:00.0", "0000:3b:00.0"},
		     {"3b:1f.7", "0000:3b:1f.7"},
		     {"10000:E1:00.0", "10000:e1:00.0"},
		     {"3b:20.0", NULL},
		     {"3b:00.8", NULL},
		     {"3b:00", NULL},
		     {" 3b:00.0", NULL},
		     {"0000:3b:00.0x", NULL},
		     {"", NULL},
		     {"-1:00.0", NULL},
		     {"nvme0", NULL}};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char bdf[BDF_BYTES] = "";
		cr_assert_eq(bdf_parse(cases[i].text, bdf), cases[i].bdf != NULL, "%s", cases[i].text);
		if (cases[i].bdf)
			cr_assert_str_eq(bdf, cases[i].bdf);
	}
}

Test(admin_inventory, device_is_described_by_sysfs_and_config_space)
{
	const struct device *device = read_one(NVME);
	cr_assert_eq(device->class_code, 0x010802);
	cr_assert_str_eq(device->driver, "nvme");
	cr_assert_str_eq(device->above, "0000:00:00.0");
	cr_assert_str_eq(device->root_bus, "pci0000:00");
	cr_assert_eq(device->group, 17);
	cr_assert_str_eq(device->iommu, "dmar0");
	cr_assert_eq(device->coherency, COHERENCY_FULL);
	cr_assert_eq(device->numa_node, -1);
	cr_assert_eq(device->bars[0].size_bytes, 16384);
	cr_assert(device->bars[0].is_64bit);
	cr_assert_not(device->bars[0].io);
	cr_assert_eq(device->bars[1].size_bytes, 0);
	cr_assert_eq(device->msix_vectors, 17);
	cr_assert_eq(device->express_type, 0);
	cr_assert_str_eq(device->reset_methods, "flr bus");
	cr_assert_str_eq(device->override, "");
}

Test(admin_inventory, snoop_control_decides_coherency)
{
	fake_iommu(0x08);
	cr_assert_eq(read_one(NVME)->coherency, COHERENCY_NONE);
	inventory_finish(&inventory);
	fake_remove("/sys/devices/virtual/iommu/dmar0/intel-iommu");
	cr_assert_eq(read_one(NVME)->coherency, COHERENCY_UNKNOWN);
	inventory_finish(&inventory);
	fake_folder("/sys/devices/virtual/iommu/dmar0/amd-iommu");
	cr_assert_eq(read_one(NVME)->coherency, COHERENCY_FULL);
}

Test(admin_inventory, functions_below_one_port_reset_together_and_those_on_a_root_bus_do_not)
{
	fake_pci(&(struct fake_pci){
		.bdf = "0000:01:00.1", .above = "0000:00:00.0", .class_code = 0x040300, .group = 17});
	fake_pci(&(struct fake_pci){.bdf = "0000:00:02.0", .class_code = 0x020000, .group = 3});
	fake_pci(&(struct fake_pci){.bdf = "0000:00:03.0", .class_code = 0x020000, .group = 4});
	const struct device *device = read_one(NVME);
	const struct device *sibling = inventory_find(&inventory, "0000:01:00.1"),
			    *alone = inventory_find(&inventory, "0000:00:02.0"),
			    *other = inventory_find(&inventory, "0000:00:03.0");
	cr_assert(device_resets_with(&inventory, device, sibling));
	cr_assert(device_resets_with(&inventory, sibling, device));
	cr_assert_not(device_resets_with(&inventory, device, alone));
	cr_assert_not(device_resets_with(&inventory, alone, other));
	cr_assert(device_has_bus_reset(&inventory, device));
	cr_assert_not(device_has_bus_reset(&inventory, alone));
}

Test(admin_inventory, device_on_a_bus_that_no_bridge_leads_to_has_no_bus_reset)
{
	uint8_t elsewhere = 9;
	fake_config("0000:00:00.0", 0x19, &elsewhere, 1);
	const struct device *device = read_one(NVME);
	cr_assert_not(device_has_bus_reset(&inventory, device));
}

Test(admin_inventory, device_that_reads_ones_is_known_to_be_gone)
{
	uint8_t ones[64];
	memset(ones, 0xff, sizeof(ones));
	fake_config(NVME, 0, ones, sizeof(ones));
	cr_assert_not(read_one(NVME)->config_read);
}

Test(admin_inventory, vf_whose_vendor_reads_ones_is_read)
{
	uint16_t ones = 0xffff;
	fake_config(NVME, 0, &ones, 2);
	const struct device *device = read_one(NVME);
	cr_assert(device->config_read);
	cr_assert_eq(device->msix_vectors, 17);
}

Test(admin_inventory, without_root_only_the_header_is_known)
{
	uint8_t header[64] = {0x86, 0x80};
	header[6] = 0x10;
	header[0x34] = 0x40;
	fake_bytes(fake_path(NVME, "/config"), header, sizeof(header));
	const struct device *device = read_one(NVME);
	cr_assert(device->config_read);
	cr_assert_not(device->config_whole);
	cr_assert_eq(device->msix_vectors, 0);
}

Test(admin_inventory, capability_lists_that_loop_or_leave_end)
{
	for (unsigned start = 0; start < 256; start++) {
		uint8_t config[256];
		struct device device = {0};
		memset(config, (int)start, sizeof(config));
		config[0] = 0x86;
		config[1] = 0x80;
		config[6] = 0x10;
		config[0x0e] = 0;
		config_space_parse(config, sizeof(config), &device);
		cr_assert(device.config_whole);
	}
}

Test(admin_inventory, hostile_files_are_bounded_and_printable)
{
	char long_line[5000];
	memset(long_line, 'A', sizeof(long_line) - 1);
	long_line[sizeof(long_line) - 1] = '\0';
	static const char *const files[] = {"vendor",          "device",   "class",    "numa_node",    "reset_method",
					    "driver_override", "resource", "modalias", "sriov_numvfs", "boot_vga"};
	static const char *const contents[] = {"",           "\n",   "-1",      "0xffffffffffffffffffff",
					       "\x1b[2Jred", "%s%n", "12 34 56"};
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char path[512];
		snprintf(path, sizeof(path), "%.400s/%s", fake_path(NVME, ""), files[i]);
		for (unsigned j = 0; j <= sizeof(contents) / sizeof(contents[0]); j++) {
			fake_file(path, "%s", j < sizeof(contents) / sizeof(contents[0]) ? contents[j] : long_line);
			const struct device *device = read_one(NVME);
			cr_assert_not(strchr(device->reset_methods, '\x1b'));
			cr_assert_not(strchr(device->override, '\x1b'));
			inventory_finish(&inventory);
		}
	}
}

Test(admin_inventory, names_that_are_no_addresses_are_left_out)
{
	fake_folder("/sys/bus/pci/devices/evil");
	fake_folder("/sys/bus/pci/devices/0000:00:1f");
	read_one(NVME);
	cr_assert_eq(inventory.count, 2);
}

Test(admin_inventory, host_without_pci_is_an_error_that_says_so)
{
	struct tenon_error err = {0};
	fake_remove("/sys/bus/pci/devices");
	cr_assert_lt(inventory_read(&fake_host, &inventory, &err), 0);
	cr_assert_str_eq(err.message,
			 "/sys/bus/pci/devices: cannot be read: No such file or directory; mount sysfs on /sys, on "
			 "a host that has PCI");
}

Test(admin_inventory, variant_driver_is_found_by_its_alias)
{
	struct variants variants = {.aliases =
					    strdup("alias pci:v00008086d00001533* igb\n"
						   "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n"
						   "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci\n"
						   "alias vfio_pci:v00008086d00001533sv*sd*bc*sc*i* igb_vfio_pci\n")};
	char module[64] = "", text[200];
	const struct device *device = read_one(NVME);
	cr_assert(variants_find(&variants, device, module, sizeof(module)));
	cr_assert_str_eq(module, "igb_vfio_pci");
	cr_assert_not(migration_describe(&variants, device, text, sizeof(text)));
	cr_assert_str_eq(text, "with its variant driver: tenon bind --driver igb_vfio_pci " NVME);
	struct device other = *device;
	snprintf(other.modalias, sizeof(other.modalias), "pci:v00001AF4d00001042sv00000000sd00000000bc01sc80i00");
	cr_assert_not(variants_find(&variants, &other, module, sizeof(module)));
	snprintf(other.driver, sizeof(other.driver), "igb_vfio_pci");
	cr_assert(migration_describe(&variants, &other, text, sizeof(text)));
	variants_finish(&variants);
}

Test(admin_inventory, sizes_are_spelled_in_the_largest_unit_that_divides_them)
{
	static const struct {
		unsigned long long bytes;
		const char *text;
	} cases[] = {{32, "32B"}, {4096, "4K"}, {1536, "1536B"}, {1 << 20, "1M"}, {8ull << 30, "8G"}};
	for (unsigned i = 0; i < 5; i++) {
		char text[32];
		text_size(text, sizeof(text), cases[i].bytes);
		cr_assert_str_eq(text, cases[i].text);
	}
}

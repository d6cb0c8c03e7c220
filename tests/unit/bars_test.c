// SPDX-License-Identifier: MIT
/* BARs: where the guest sees them, what of them it reaches without a trap, and what a trapped access does. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "vfio_fixture.h"

TestSuite(bars, .init = fake_world_reset);

static void move_to(struct fixture *fixture, uint32_t low, uint32_t high)
{
	guest_config_write(fixture, PCI_BASE_ADDRESS_0, 4, low);
	guest_config_write(fixture, PCI_BASE_ADDRESS_1, 4, high);
}

/* ---- Placing ---- */

Test(bars, vmm_is_told_where_a_bar_is)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	const struct tenon_bar_placement *placement = &fixture.host.bars[0];
	cr_assert(placement->enabled);
	cr_assert(!placement->io);
	cr_assert_eq(placement->address, BAR_GPA);
	cr_assert_eq(placement->size_bytes, 0x4000);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_assert(!fixture.host.bars[0].enabled);
	fixture_close(&fixture);
}

Test(bars, vmm_is_told_of_ports)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_serial_card("0000:05:00.0"));
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, 0xd000);
	guest_command(&fixture, PCI_COMMAND_IO, 0);
	cr_assert(fixture.host.bars[0].enabled);
	cr_assert(fixture.host.bars[0].io);
	cr_assert_eq(fixture.host.bars[0].address, 0xd000);
	cr_assert_eq(fixture.host.bars[0].size_bytes, 32);
	cr_assert(!fixture.host.bars[1].enabled, "memory decoding is off");
	fixture_close(&fixture);
}

Test(bars, mapped_memory_is_the_device_s)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	uint8_t *page = host_mapped(&fixture.host, BAR_GPA + 0x1000);
	cr_assert_not_null(page);
	page[8] = 0x77;
	cr_assert_eq(fixture.fake->bars[0].memory[0x1008], 0x77);
	fixture_close(&fixture);
}

Test(bars, msix_table_s_page_traps)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA + FAKE_NVME_TABLE - 1));
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA + FAKE_NVME_TABLE));
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA + FAKE_NVME_TABLE + 0xfff));
	fixture_close(&fixture);
}

Test(bars, registers_beside_the_msix_table_reach_the_device)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	uint64_t beside = FAKE_NVME_TABLE + 65 * PCI_MSIX_ENTRY_SIZE;
	guest_bar_write(&fixture, 0, beside, 4, 0xcafe);
	cr_assert_eq(fixture.fake->bars[0].memory[beside], 0xfe);
	cr_assert_eq(guest_bar(&fixture, 0, beside, 4), 0xcafe);
	fixture_close(&fixture);
}

Test(bars, device_s_own_msix_table_is_never_touched)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	for (unsigned i = 0; i < 65 * PCI_MSIX_ENTRY_SIZE; i++)
		cr_assert_eq(fixture.fake->bars[0].memory[FAKE_NVME_TABLE + i], 0);
	fixture_close(&fixture);
}

Test(bars, older_kernel_s_sparse_areas_are_honoured)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->bars[0].no_msix_cap = true;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA + FAKE_NVME_TABLE));
	fixture_close(&fixture);
}

Test(bars, sparse_areas_are_honoured)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake->bars[0].sparse[0].offset = 0x2000;
	fake->bars[0].sparse[0].size_bytes = 0x3000;
	fake->bars[0].sparse[1].offset = 0x80000;
	fake->bars[0].sparse[1].size_bytes = 0x80000;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	cr_assert_eq(tenon_device_info(fixture.device)->bars[0].mappable_bytes, 0x83000);
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA + 0x1fff));
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA + 0x2000));
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA + 0x4fff));
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA + 0x5000));
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA + 0x80000));
	fake->bars[0].memory[0x6000] = 0x42;
	cr_assert_eq(guest_bar(&fixture, 0, 0x6000, 1), 0x42);
	fixture_close(&fixture);
}

Test(bars, kernel_that_maps_nothing_leaves_all_trapped)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake->bars[0].not_mappable = true;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	cr_assert_eq(fixture.host.map_count, 0);
	cr_assert(fixture.host.bars[0].enabled);
	guest_bar_write(&fixture, 0, 0x10, 4, 0x1234);
	cr_assert_eq(fake->bars[0].memory[0x10], 0x34);
	fixture_close(&fixture);
}

Test(bars, large_bar_is_aligned_for_huge_pages)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x10de, 0x2941, 3);
	fake_bar_memory(fake, 0, 0x10000000, true, true);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	uint8_t *memory = host_mapped(&fixture.host, BAR_GPA);
	cr_assert_not_null(memory);
	cr_assert_eq((uintptr_t)memory % 0x200000, 0);
	fixture_close(&fixture);
}

Test(bars, bar_beyond_4_gib_is_mapped)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	move_to(&fixture, 0x10000000, 0x70);
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	cr_assert_eq(fixture.host.bars[0].address, 0x7010000000);
	cr_assert_not_null(host_mapped(&fixture.host, 0x7010000000));
	fixture_close(&fixture);
}

Test(bars, unplaced_bar_is_not_mapped)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_command(&fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
	cr_assert_null(host_mapped(&fixture.host, 0), "a BAR lies over the guest's first page");
	cr_assert(!fixture.host.bars[0].enabled);
	fixture_close(&fixture);
}

Test(bars, sparse_area_beyond_the_bar_is_ignored)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake->bars[0].sparse[0].offset = 0x1000;
	fake->bars[0].sparse[0].size_bytes = 0x1000;
	fake->bars[0].sparse[1].offset = 0xff000;
	fake->bars[0].sparse[1].size_bytes = 0x2000;
	fake->bars[0].sparse[2].offset = UINT64_MAX - 0xfff;
	fake->bars[0].sparse[2].size_bytes = 0x2000;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	cr_assert_eq(fixture.host.map_count, 1);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA + 0x1000));
	cr_assert_eq(fixture.host.log_count, 0);
	fixture_close(&fixture);
}

Test(bars, looping_capabilities_of_a_region_end, .timeout = 10)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	/* No sparse areas among them, so that a reader looks on: the kernel's unknown capability stands alone. */
	fake->bars[0].caps_loop = true;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	fixture_close(&fixture);
}

Test(bars, sparse_areas_are_mapped_by_whole_pages)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake->bars[0].sparse[0].offset = 0x800;
	fake->bars[0].sparse[0].size_bytes = 0x2000;
	fake->bars[0].sparse[1].offset = 0x4100;
	fake->bars[0].sparse[1].size_bytes = 0x200;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA + 0x800));
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA + 0x1000));
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA + 0x2000));
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA + 0x4100));
	fixture_close(&fixture);
}

/* ---- Moving and switching off ---- */

Test(bars, move_unmaps_the_old_range_before_mapping_the_new)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	fake_journal_forget();
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA + 0x100000);
	int unmapped = fake_journal_find("memory_unmap 0xe0000000", 0);
	int mapped = fake_journal_find("memory_map 0xe0100000", 0);
	cr_assert_geq(unmapped, 0);
	cr_assert_gt(mapped, unmapped);
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA));
	cr_assert_eq(fixture.host.bars[0].address, BAR_GPA + 0x100000);
	fixture_close(&fixture);
}

Test(bars, move_by_two_writes_ends_where_both_say)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	move_to(&fixture, 0x20000000, 0x70);
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA));
	cr_assert_null(host_mapped(&fixture.host, 0x20000000));
	cr_assert_not_null(host_mapped(&fixture.host, 0x7020000000));
	fixture_close(&fixture);
}

Test(bars, write_of_the_same_address_changes_nothing)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	unsigned placements = fixture.host.placements;
	fake_journal_forget();
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA);
	cr_assert_eq(fake_journal_count("memory_"), 0);
	cr_assert_eq(fixture.host.placements, placements);
	fixture_close(&fixture);
}

Test(bars, sizing_with_decoding_on_maps_nothing_at_the_top)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_1, 4, UINT32_MAX);
	cr_assert_null(host_mapped(&fixture.host, 0xffffffffffffc000));
	move_to(&fixture, BAR_GPA, 0);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	cr_assert_eq(fixture.host.map_count, 1);
	fixture_close(&fixture);
}

Test(bars, decoding_off_unmaps_before_the_device_sees_it)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	fake_journal_forget();
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	int unmapped = fake_journal_find("memory_unmap", 0), told = fake_journal_find("command 0x", 0);
	cr_assert_geq(unmapped, 0);
	cr_assert_gt(told, unmapped);
	cr_assert_eq(fixture.host.map_count, 0);
	fixture_close(&fixture);
}

Test(bars, decoding_on_is_told_to_the_device_before_it_is_mapped)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	move_to(&fixture, BAR_GPA, 0);
	fake_journal_forget();
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	int told = fake_journal_find("command 0x", 0), mapped = fake_journal_find("memory_map", 0);
	cr_assert_geq(told, 0);
	cr_assert_gt(mapped, told);
	fixture_close(&fixture);
}

Test(bars, bus_master_alone_leaves_the_mappings)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	fake_journal_forget();
	guest_command(&fixture, 0, PCI_COMMAND_MASTER);
	cr_assert_eq(fake_journal_count("memory_"), 0);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	fixture_close(&fixture);
}

/* ---- A VMM that cannot take memory away ---- */

/* As fixture_close, but something may be left: what the guest may still reach. */
static void close_stuck(struct fixture *fixture)
{
	tenon_device_close(fixture->device);
	tenon_space_destroy(fixture->space);
	fixture->device = NULL;
	fixture->space = NULL;
	assert_no_heap_leak();
}

/* Once it has failed, that memory is where it was; no other place may be unmapped in its stead. */
Test(bars, failed_unmap_is_logged_and_never_repeated_elsewhere)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	host_fail(&fixture.host, HOST_MEMORY_UNMAP, 1, EINTR);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA + 0x100000);
	cr_assert_gt(fixture.host.log_count, 0);
	cr_assert_eq(fixture.host.bars[0].address, BAR_GPA + 0x100000);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	close_stuck(&fixture);
	cr_assert_str_empty(fake_misuse(), "%s", fake_misuse());
}

Test(bars, failed_unmap_is_tried_again_where_the_memory_is)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	host_fail(&fixture.host, HOST_MEMORY_UNMAP, 1, EINTR);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA + 0x100000);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_assert_eq(fixture.host.map_count, 0, "the old place is still visible");
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA + 0x100000));
	fixture_close(&fixture);
}

static unsigned visible_at(const struct fixture *fixture, uint64_t gpa)
{
	return host_mapped(&fixture->host, gpa) != NULL;
}

Test(bars, failed_unmap_is_tried_again_at_the_next_write_of_command)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	host_fail(&fixture.host, HOST_MEMORY_UNMAP, 1, EINTR);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_assert(visible_at(&fixture, BAR_GPA));
	guest_command(&fixture, 0, PCI_COMMAND_MASTER);
	cr_assert_eq(fixture.host.map_count, 0, "the guest still reaches a BAR that it switched off");
	fixture_close(&fixture);
}

Test(bars, bar_that_was_stuck_is_mapped_where_it_is_once_it_comes_off)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	host_fail(&fixture.host, HOST_MEMORY_UNMAP, 1, EINTR);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA + 0x100000);
	cr_assert(visible_at(&fixture, BAR_GPA));
	guest_command(&fixture, 0, PCI_COMMAND_MASTER);
	cr_assert(!visible_at(&fixture, BAR_GPA));
	cr_assert(visible_at(&fixture, BAR_GPA + 0x100000));
	fixture_close(&fixture);
}

Test(bars, failed_unmap_is_tried_again_at_close)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	host_fail(&fixture.host, HOST_MEMORY_UNMAP, 1, EINTR);
	fixture_close(&fixture);
}

Test(bars, unmap_that_fails_again_and_again_is_logged_once)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	host_fail_always(&fixture.host, HOST_MEMORY_UNMAP, EINTR);
	for (unsigned i = 0; i < 10; i++) {
		guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
		guest_command(&fixture, 0, PCI_COMMAND_MASTER);
	}
	cr_assert_eq(fixture.host.log_count, 1, "logged %u times", fixture.host.log_count);
	host_fail_always(&fixture.host, HOST_MEMORY_UNMAP, 0);
	fixture_close(&fixture);
}

/* A mapping keeps its file open: kept as it is, it would keep the device from everybody until this process ends. */
Test(bars, device_is_given_back_even_if_the_guest_may_still_reach_its_memory)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	host_fail_always(&fixture.host, HOST_MEMORY_UNMAP, EINTR);
	close_stuck(&fixture);
	cr_assert_null(fixture.fake->owner, "the kernel still has the device open");
}

Test(bars, registers_work_trapped_after_a_failed_unmap)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	host_fail(&fixture.host, HOST_MEMORY_UNMAP, 1, EINTR);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA + 0x100000);
	guest_bar_write(&fixture, 0, 0x10, 4, 0x99);
	cr_assert_eq(fixture.fake->bars[0].memory[0x10], 0x99);
	close_stuck(&fixture);
}

/* Page tables of the hypervisor still lead to these addresses: nothing else may ever lie there. */
Test(bars, memory_that_the_guest_may_still_reach_stays_the_library_s_after_close)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	uint8_t *memory = host_mapped(&fixture.host, BAR_GPA);
	host_fail_always(&fixture.host, HOST_MEMORY_UNMAP, EINTR);
	close_stuck(&fixture);
	cr_assert(fake_address_space_kept(memory));
}

/* ---- Trapped accesses ---- */

Test(bars, trapped_accesses_of_each_size_reach_the_device)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	for (unsigned size_bytes = 1; size_bytes <= 8; size_bytes *= 2) {
		uint64_t value = 0x8877665544332211ull >> (64 - 8 * size_bytes);
		guest_bar_write(&fixture, 0, 0x100, size_bytes, value);
		cr_assert_eq(memcmp(fixture.fake->bars[0].memory + 0x100, &value, size_bytes), 0);
		cr_assert_eq(guest_bar(&fixture, 0, 0x100, size_bytes), value);
	}
	fixture_close(&fixture);
}

Test(bars, reads_with_decoding_off_give_ones)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fixture.fake->bars[0].memory[0x14] = 0x5a;
	cr_assert_eq(guest_bar(&fixture, 0, 0x14, 4), UINT32_MAX);
	guest_place(&fixture);
	cr_assert_eq(guest_bar(&fixture, 0, 0x14, 4), 0x5a);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	cr_assert_eq(guest_bar(&fixture, 0, 0x14, 4), UINT32_MAX);
	cr_assert_eq(guest_bar(&fixture, 0, FAKE_NVME_TABLE, 8), UINT64_MAX);
	guest_bar_write(&fixture, 0, 0x14, 4, 0);
	cr_assert_eq(fixture.fake->bars[0].memory[0x14], 0x5a);
	fixture_close(&fixture);
}

Test(bars, accesses_outside_give_ones_and_write_nothing)
{
	static const struct {
		unsigned bar;
		uint64_t offset;
		unsigned size_bytes;
	} outside[] = {{0, 0x4000, 4},
		       {0, 0x3ffe, 4},
		       {0, UINT64_MAX, 1},
		       {0, UINT64_MAX - 3, 8},
		       {0, 0x8000000000, 4},
		       {1, 0, 4},
		       {2, 0, 4},
		       {5, 0, 4},
		       {6, 0, 4},
		       {7, 0, 4},
		       {UINT32_MAX, 0, 4}};
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	for (unsigned i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		uint8_t data[9];
		memset(data, 0x11, sizeof(data));
		tenon_device_bar_read(fixture.device, outside[i].bar, outside[i].offset, data, outside[i].size_bytes);
		for (unsigned b = 0; b < outside[i].size_bytes; b++)
			cr_assert_eq(data[b], 0xff, "case %u byte %u is 0x%x", i, b, data[b]);
		cr_assert_eq(data[outside[i].size_bytes], 0x11, "case %u writes beyond its size", i);
		tenon_device_bar_write(fixture.device, outside[i].bar, outside[i].offset, data, outside[i].size_bytes);
	}
	for (unsigned i = 0; i < 0x4000; i++)
		cr_assert_eq(fixture.fake->bars[0].memory[i], 0);
	fixture_close(&fixture);
}

Test(bars, ports_reach_the_device)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_serial_card("0000:05:00.0"));
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, 0xd000);
	guest_command(&fixture, PCI_COMMAND_IO, 0);
	guest_bar_write(&fixture, 0, 3, 1, 0x83);
	cr_assert_eq(fixture.fake->bars[0].memory[3], 0x83);
	cr_assert_eq(guest_bar(&fixture, 0, 3, 1), 0x83);
	cr_assert_eq(fixture.host.map_count, 0);
	fixture_close(&fixture);
}

Test(bars, bar_below_a_page_traps)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_serial_card("0000:05:00.0"));
	guest_config_write(&fixture, PCI_BASE_ADDRESS_1, 4, 0xe0000100);
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	cr_assert_eq(fixture.host.map_count, 0);
	cr_assert_eq(fixture.host.bars[1].address, 0xe0000100);
	guest_bar_write(&fixture, 1, 0xfc, 4, 0x01020304);
	cr_assert_eq(fixture.fake->bars[1].memory[0xff], 0x01);
	fixture_close(&fixture);
}

/* ---- Failures ---- */

Test(bars, vmm_that_cannot_map_leaves_the_bar_trapped)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	host_fail(&fixture.host, HOST_MEMORY_MAP, 1, ENOSPC);
	guest_place(&fixture);
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA));
	cr_assert_gt(fixture.host.log_count, 0);
	guest_bar_write(&fixture, 0, 0x10, 4, 0x99);
	cr_assert_eq(fixture.fake->bars[0].memory[0x10], 0x99);
	guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA), "the next switch tries again");
	fixture_close(&fixture);
}

static void assert_works_trapped(enum fake_call failing)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.fake = fake;
	fake_fail_always(failing, ENOMEM);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, 0, "%s", fixture.err.message);
	cr_assert_gt(fixture.host.log_count, 0, "the loss is not logged");
	cr_assert_eq(tenon_device_info(fixture.device)->bars[0].mappable_bytes, 0);
	guest_place(&fixture);
	guest_bar_write(&fixture, 0, 0x10, 4, 0x99);
	cr_assert_eq(fake->bars[0].memory[0x10], 0x99);
	fixture_close(&fixture);
}

Test(bars, kernel_that_refuses_to_map_leaves_the_bar_trapped)
{
	assert_works_trapped(FAKE_MAP);
}

Test(bars, process_without_address_space_leaves_the_bar_trapped)
{
	assert_works_trapped(FAKE_RESERVE);
}

Test(bars, guest_that_moves_a_bar_over_another_keeps_running)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x1533, 3);
	fake_bar_memory(fake, 0, 0x10000, false, false);
	fake_bar_memory(fake, 1, 0x4000, false, false);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, BAR_GPA);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_1, 4, BAR_GPA + 0x4000);
	guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	guest_config_write(&fixture, PCI_BASE_ADDRESS_1, 4, 0xd0000000);
	cr_assert_not_null(host_mapped(&fixture.host, 0xd0000000));
	fixture_close(&fixture);
}

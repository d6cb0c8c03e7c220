// SPDX-License-Identifier: MIT
/* The test device as a PCI device: regions, config space, registers, doorbells, resets, and the record of bad accesses. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "testdev_client.h"

#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX

static struct client client;

static void open_enabled(void)
{
	client_open(&client, NULL);
	client_enable(&client);
}

static void reopen(const struct testdev_options *options)
{
	client_close(&client);
	client_open(&client, options);
	client_enable(&client);
}

static void close_client(void)
{
	client_close(&client);
}

TestSuite(testdev_device, .init = open_enabled, .fini = close_client, .timeout = 60);

static struct vu_region_info region_info(unsigned index, uint32_t argsz)
{
	struct vu_region_info info = {.argsz = argsz, .index = index};
	cr_assert_eq(client_call(&client, VU_GET_REGION_INFO, &info, sizeof(info)), 0);
	memcpy(&info, answer.payload, sizeof(info));
	return info;
}

static unsigned find_capability(uint8_t id)
{
	for (unsigned at = (unsigned)client_read(&client, CONFIG, PCI_CAPABILITY_LIST, 1); at;
	     at = (unsigned)client_read(&client, CONFIG, at + 1, 1)) {
		if (client_read(&client, CONFIG, at, 1) == id)
			return at;
	}
	return 0;
}

/* ---- What it says of itself ---- */

Test(testdev_device, is_a_pci_device_with_vfio_s_regions_and_interrupts)
{
	struct vu_info info = {.argsz = 64};
	cr_assert_eq(client_call(&client, VU_GET_INFO, &info, sizeof(info)), 0);
	cr_assert_eq(answer.bytes, sizeof(info));
	memcpy(&info, answer.payload, sizeof(info));
	cr_expect_eq(info.flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
	cr_expect_eq(info.regions, 9);
	cr_expect_eq(info.irqs, 5);
	cr_expect_eq(client_read(&client, CONFIG, 0, 4), (uint32_t)TD_DEVICE_ID << 16 | TD_VENDOR_ID);
}

Test(testdev_device, regions_have_their_sizes)
{
	static const uint64_t sizes[9] = {
		TD_REGISTERS_BYTES, 0, TD_MEMORY_BYTES, 0, TD_PORTS_BYTES, TD_PAGE_BYTES, TD_ROM_BYTES,
		CONFIG_BYTES,       0};
	for (unsigned i = 0; i < 9; i++) {
		struct vu_region_info info = region_info(i, 256);
		cr_expect_eq(info.bytes, sizes[i], "region %u", i);
		cr_expect_eq(info.index, i);
		cr_expect_eq(!!(info.flags & VFIO_REGION_INFO_FLAG_MMAP), i == TD_BAR_MEMORY || i == TD_BAR_PAGE);
		cr_expect_eq(answer.fd_count, i == TD_BAR_MEMORY || i == TD_BAR_PAGE);
	}
}

Test(testdev_device, memory_is_mapped_but_for_its_hole)
{
	struct vu_region_info info = region_info(TD_BAR_MEMORY, 256);
	struct vu_sparse sparse;
	struct vu_sparse_area areas[2];
	cr_assert_eq(info.argsz, sizeof(info) + sizeof(sparse) + sizeof(areas));
	cr_assert_eq(answer.bytes, info.argsz);
	memcpy(&sparse, answer.payload + info.cap_offset, sizeof(sparse));
	memcpy(areas, answer.payload + info.cap_offset + sizeof(sparse), sizeof(areas));
	cr_expect_eq(sparse.header.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	cr_expect_eq(sparse.header.next, 0);
	cr_assert_eq(sparse.areas, 2);
	cr_expect_eq(areas[0].bytes, TD_HOLE_FIRST);
	cr_expect_eq(areas[1].offset, TD_HOLE_FIRST + TD_HOLE_BYTES);
	cr_expect_eq(areas[1].offset + areas[1].bytes, TD_MEMORY_BYTES);
}

Test(testdev_device, region_info_that_does_not_fit_says_what_it_needs)
{
	struct vu_region_info info = region_info(TD_BAR_MEMORY, sizeof(info));
	cr_expect_eq(answer.bytes, sizeof(info));
	cr_expect_gt(info.argsz, sizeof(info));
	cr_expect_eq(info.cap_offset, 0);
}

Test(testdev_device, mapped_and_trapped_accesses_meet_in_the_same_memory)
{
	static const unsigned bars[] = {TD_BAR_MEMORY, TD_BAR_PAGE};
	for (unsigned i = 0; i < 2; i++) {
		struct vu_region_info info = region_info(bars[i], 256);
		uint8_t *mapped =
			mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, answer.fds[0], (off_t)info.offset);
		cr_assert_neq(mapped, MAP_FAILED);
		client_write(&client, bars[i], 0x123, 0xa5, 1);
		cr_expect_eq(mapped[0x123], 0xa5);
		mapped[0x456] = 0x5a;
		cr_expect_eq(client_read(&client, bars[i], 0x456, 1), 0x5a);
		munmap(mapped, 0x1000);
	}
	cr_expect_eq(client_read(&client, TD_BAR_PAGE, 0x123, 1), 0xa5);
	client_write(&client, TD_BAR_MEMORY, TD_HOLE_FIRST, 0x77, 1);
	cr_expect_eq(client_read(&client, TD_BAR_MEMORY, TD_HOLE_FIRST, 1), 0x77, "the hole is memory too");
}

Test(testdev_device, memory_s_file_cannot_be_made_smaller)
{
	region_info(TD_BAR_MEMORY, 256);
	cr_expect_lt(ftruncate(answer.fds[0], 0), 0);
}

Test(testdev_device, everything_is_trapped_when_asked_for)
{
	reopen(&(struct testdev_options){.no_mapping = true});
	cr_expect_eq(region_info(TD_BAR_MEMORY, 256).flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
	cr_expect_eq(answer.fd_count, 0);
	client_write(&client, TD_BAR_MEMORY, 0, 0x1234, 2);
	cr_expect_eq(client_read(&client, TD_BAR_MEMORY, 0, 2), 0x1234);
}

Test(testdev_device, file_is_not_sent_to_a_client_that_takes_none)
{
	client_leave(&client);
	client_close(&client);
	client_start(&client, NULL);
	cr_assert_eq(client_greet(&client, "{\"capabilities\":{\"max_msg_fds\":0}}"), 0);
	region_info(TD_BAR_MEMORY, 256);
	cr_expect_eq(answer.fd_count, 0);
}

/* ---- Config space ---- */

Test(testdev_device, bars_are_sized_by_writing_ones)
{
	static const struct {
		unsigned bar;
		uint32_t value;
	} cases[] = {{TD_BAR_REGISTERS, ~(TD_REGISTERS_BYTES - 1u) | 4},
		     {TD_BAR_REGISTERS + 1, UINT32_MAX},
		     {TD_BAR_MEMORY, ~(TD_MEMORY_BYTES - 1u) | 0xc},
		     {TD_BAR_PORTS, ~(TD_PORTS_BYTES - 1u) | 1},
		     {TD_BAR_PAGE, ~(TD_PAGE_BYTES - 1u)}};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned at = PCI_BASE_ADDRESS_0 + 4 * cases[i].bar;
		client_write(&client, CONFIG, at, UINT32_MAX, 4);
		cr_expect_eq(client_read(&client, CONFIG, at, 4), cases[i].value, "BAR %u", cases[i].bar);
	}
}

Test(testdev_device, read_only_config_bits_stay)
{
	client_write(&client, CONFIG, PCI_VENDOR_ID, 0, 4);
	client_write(&client, CONFIG, PCI_CAPABILITY_LIST, 0, 1);
	cr_expect_eq(client_read(&client, CONFIG, PCI_VENDOR_ID, 2), TD_VENDOR_ID);
	cr_expect_neq(client_read(&client, CONFIG, PCI_CAPABILITY_LIST, 1), 0);
}

Test(testdev_device, capabilities_are_what_they_should_be)
{
	static const uint8_t ids[] = {PCI_CAP_ID_PM, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX, PCI_CAP_ID_EXP, PCI_CAP_ID_VNDR};
	for (unsigned i = 0; i < sizeof(ids); i++)
		cr_expect_neq(find_capability(ids[i]), 0, "capability 0x%x", ids[i]);
	unsigned msix = find_capability(PCI_CAP_ID_MSIX);
	cr_expect_eq((client_read(&client, CONFIG, msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1,
		     TD_MSIX_VECTORS);
	cr_expect_eq(client_read(&client, CONFIG, 0x100, 2), PCI_EXT_CAP_ID_SRIOV, "first, where it is hard to hide");
	cr_expect_eq(client_read(&client, CONFIG, 0x100 + PCI_SRIOV_TOTAL_VF, 2), 8);
}

Test(testdev_device, write_to_sriov_is_recorded)
{
	client_write(&client, CONFIG, 0x100 + PCI_SRIOV_CTRL, PCI_SRIOV_CTRL_VFE, 2);
	cr_expect_eq(client_violations(&client, TD_BAD_SRIOV), 1);
	client_write(&client, CONFIG, 0xfc, 0, 4);
	client_write(&client, CONFIG, 0x140, 0, 4);
	cr_expect_eq(client_violations(&client, TD_BAD_SRIOV), 1, "its neighbours are not meant");
}

Test(testdev_device, rom_has_a_signature_and_no_code)
{
	cr_expect_eq(client_read(&client, VFIO_PCI_ROM_REGION_INDEX, 0, 2), 0xaa55);
	uint64_t pcir = client_read(&client, VFIO_PCI_ROM_REGION_INDEX, 0x18, 2);
	cr_expect_eq(client_read(&client, VFIO_PCI_ROM_REGION_INDEX, pcir, 4), 0x52494350);
	cr_expect_eq(client_read(&client, VFIO_PCI_ROM_REGION_INDEX, pcir + 4, 2), TD_VENDOR_ID);
	cr_expect_eq(client_read(&client, VFIO_PCI_ROM_REGION_INDEX, pcir + 16, 2) * 512, TD_ROM_BYTES);
}

/* ---- Registers ---- */

Test(testdev_device, registers_say_what_it_is)
{
	cr_expect_eq(reg(&client, TD_ID), TD_ID_VALUE);
	cr_expect_eq(reg(&client, TD_VERSION), TD_VERSION_VALUE);
	cr_expect_eq(reg(&client, TD_FEATURES),
		     TD_FEATURE_MIGRATION | TD_FEATURE_PRE_COPY | TD_FEATURE_P2P | TD_FEATURE_LOGGING);
	cr_expect_eq(reg(&client, TD_STATE), VU_STATE_RUNNING);
}

Test(testdev_device, wide_registers_take_halves_and_wholes)
{
	set_reg64(&client, TD_SCRATCH, 0x1122334455667788);
	cr_expect_eq(reg(&client, TD_SCRATCH), 0x55667788);
	cr_expect_eq(reg(&client, TD_SCRATCH + 4), 0x11223344);
	set_reg(&client, TD_SCRATCH2 + 4, 0xcafe);
	set_reg(&client, TD_SCRATCH2, 0xbabe);
	cr_expect_eq(reg64(&client, TD_SCRATCH2), 0xcafe0000babe);
}

Test(testdev_device, ports_reach_the_same_registers)
{
	set_reg(&client, TD_SCRATCH, 0x12345678);
	client_write(&client, TD_BAR_PORTS, TD_PORT_INDEX, TD_SCRATCH, 4);
	cr_expect_eq(client_read(&client, TD_BAR_PORTS, TD_PORT_DATA, 4), 0x12345678);
	client_write(&client, TD_BAR_PORTS, TD_PORT_DATA, 0x87654321, 4);
	cr_expect_eq(reg(&client, TD_SCRATCH), 0x87654321);
	client_write(&client, TD_BAR_PORTS, TD_PORT_SCRATCH + 1, 0xab, 1);
	cr_expect_eq(client_read(&client, TD_BAR_PORTS, TD_PORT_SCRATCH, 4), 0xab00);
}

Test(testdev_device, bad_sizes_and_places_read_ones_and_are_recorded)
{
	cr_expect_eq(client_read(&client, TD_BAR_REGISTERS, TD_ID, 1), 0xff);
	cr_expect_eq(client_read(&client, TD_BAR_REGISTERS, TD_ID + 2, 4), 0xffffffff);
	cr_expect_eq(client_read(&client, TD_BAR_REGISTERS, TD_SCRATCH + 4, 8), UINT64_MAX);
	cr_expect_eq(reg(&client, 0x800), 0xffffffff);
	client_write(&client, TD_BAR_REGISTERS, TD_SCRATCH, 0xff, 2);
	cr_expect_eq(reg(&client, TD_SCRATCH), 0);
	client_write(&client, TD_BAR_PORTS, TD_PORT_INDEX, 0x2000, 4);
	cr_expect_eq(client_read(&client, TD_BAR_PORTS, TD_PORT_DATA, 4), 0xffffffff, "MSI-X is not behind the ports");
	cr_expect_eq(client_violations(&client, TD_BAD_ACCESS), 6);
}

Test(testdev_device, every_register_offset_can_be_read_and_written)
{
	/* What they do does not matter; nothing may go wrong. */
	for (unsigned offset = 0; offset < TD_REGISTERS_BYTES; offset += 4)
		reg(&client, offset);
	for (unsigned offset = 0; offset < TD_REGISTERS_BYTES; offset += 4) {
		set_reg(&client, offset, UINT32_MAX);
		reg(&client, offset);
	}
	cr_expect(client_alive(&client));
}

/* ---- Who may access when ---- */

Test(testdev_device, access_without_decoding_reads_ones_and_is_recorded)
{
	client_write(&client, CONFIG, PCI_COMMAND, PCI_COMMAND_IO, 2);
	cr_expect_eq(reg(&client, TD_ID), 0xffffffff);
	client_write(&client, TD_BAR_MEMORY, 0, 1, 1);
	client_write(&client, TD_BAR_PORTS, TD_PORT_SCRATCH, 1, 1);
	cr_expect_eq(client_violations(&client, TD_BAD_DECODE), 2, "I/O is decoded, memory is not");
	client_enable(&client);
	cr_expect_eq(client_read(&client, TD_BAR_MEMORY, 0, 1), 0);
}

Test(testdev_device, access_in_d3_reads_ones_and_is_recorded)
{
	unsigned pm = find_capability(PCI_CAP_ID_PM);
	set_reg(&client, TD_SCRATCH, 5);
	client_write(&client, CONFIG, pm + PCI_PM_CTRL, 3, 2);
	cr_expect_eq(reg(&client, TD_ID), 0xffffffff);
	cr_expect_eq(client_violations(&client, TD_BAD_POWER), 1);
	client_write(&client, CONFIG, pm + PCI_PM_CTRL, 0, 2);
	cr_expect_eq(reg(&client, TD_RESETS_POWER), 1);
	cr_expect_eq(reg(&client, TD_SCRATCH), 5, "No_Soft_Reset");
}

Test(testdev_device, journal_is_readable_through_registers)
{
	reg(&client, 0x804);
	client_write(&client, CONFIG, 0x108, 1, 2);
	cr_expect_eq(reg(&client, TD_VIOLATIONS), 2);
	cr_expect_eq(reg(&client, TD_VIOLATION_KINDS), 1u << TD_BAD_ACCESS | 1u << TD_BAD_SRIOV);
	cr_expect_eq(reg(&client, TD_JOURNAL_KIND), TD_BAD_SRIOV, "the newest");
	set_reg(&client, TD_JOURNAL_INDEX, 1);
	cr_expect_eq(reg(&client, TD_JOURNAL_KIND), TD_BAD_ACCESS);
	cr_expect_eq(reg(&client, TD_JOURNAL_STATE), VU_STATE_RUNNING);
	cr_expect_eq(reg64(&client, TD_JOURNAL_DETAIL), 0x804);
	set_reg(&client, TD_JOURNAL_INDEX, 2);
	cr_expect_eq(reg(&client, TD_JOURNAL_KIND), 0, "there are no more");
}

Test(testdev_device, journal_keeps_the_newest_when_it_is_full)
{
	for (unsigned i = 0; i < TD_JOURNAL_MAX + 10; i++)
		client_read(&client, TD_BAR_REGISTERS, i * 4, 1);
	cr_expect_eq(reg(&client, TD_VIOLATIONS), TD_JOURNAL_MAX + 10);
	set_reg(&client, TD_JOURNAL_INDEX, TD_JOURNAL_MAX - 1);
	cr_expect_eq(reg(&client, TD_JOURNAL_DETAIL), 40, "the oldest that is left");
}

/* ---- Doorbells ---- */

Test(testdev_device, doorbells_are_counted)
{
	client_write(&client, TD_BAR_REGISTERS, TD_DOORBELL(3), 1, 4);
	client_write(&client, TD_BAR_REGISTERS, TD_DOORBELL(3), 7, 4);
	client_write(&client, TD_BAR_REGISTERS, TD_DOORBELL(15), 1, 4);
	cr_expect_eq(reg(&client, TD_DOORBELLS + 4 * 3), 2);
	cr_expect_eq(reg(&client, TD_DOORBELLS + 4 * 15), 1);
}

static unsigned ask_io_fds(unsigned region, uint32_t argsz, struct vu_region_io_fds *out)
{
	const struct vu_region_io_fds request = {.argsz = argsz, .index = region};
	cr_assert_eq(client_call(&client, VU_GET_REGION_IO_FDS, &request, sizeof(request)), 0);
	memcpy(out, answer.payload, sizeof(*out));
	return out->count;
}

Test(testdev_device, doorbell_by_eventfd_reaches_the_device_and_wakes_it)
{
	struct vu_region_io_fds head;
	struct vu_sub_region one = {0};
	const uint64_t rings = 2;
	struct timespec before;
	clock_gettime(CLOCK_MONOTONIC, &before);
	cr_assert_eq(ask_io_fds(TD_BAR_REGISTERS, 1024, &head), TD_DOORBELL_FAST);
	cr_assert_eq(answer.fd_count, TD_DOORBELL_FAST);
	cr_assert_eq(answer.bytes, sizeof(head) + TD_DOORBELL_FAST * VU_SUB_REGION_SHORT_BYTES);
	memcpy(&one, answer.payload + sizeof(head) + 5 * VU_SUB_REGION_SHORT_BYTES, VU_SUB_REGION_SHORT_BYTES);
	cr_expect_eq(one.offset, TD_DOORBELL(5));
	cr_expect_eq(one.bytes, 4);
	cr_expect_eq(one.type, VU_IO_FD_IOEVENTFD);
	cr_expect_eq(one.fd_index, 5);
	cr_assert_eq(write(answer.fds[5], &rings, sizeof(rings)), sizeof(rings));
	while (reg(&client, TD_DOORBELLS + 4 * 5) == 0)
		;
	cr_expect_eq(reg(&client, TD_DOORBELLS + 4 * 5), 2);
	cr_expect_geq(reg64(&client, TD_DOORBELL_WOKEN), (uint64_t)before.tv_sec * 1000000000u);
}

Test(testdev_device, doorbells_are_as_many_as_the_client_takes_fds)
{
	struct vu_region_io_fds head;
	client_close(&client);
	client_start(&client, NULL);
	cr_assert_eq(client_greet(&client, NULL), 0);
	cr_expect_eq(ask_io_fds(TD_BAR_REGISTERS, 1024, &head), 1, "one is the default");
	cr_expect_eq(answer.fd_count, 1);
}

Test(testdev_device, doorbell_list_that_does_not_fit_says_what_it_needs)
{
	struct vu_region_io_fds head;
	cr_expect_eq(ask_io_fds(TD_BAR_REGISTERS, sizeof(head), &head), TD_DOORBELL_FAST);
	cr_expect_eq(head.argsz, sizeof(head) + TD_DOORBELL_FAST * VU_SUB_REGION_SHORT_BYTES);
	cr_expect_eq(answer.bytes, sizeof(head));
	cr_expect_eq(answer.fd_count, 0);
	cr_expect_eq(ask_io_fds(TD_BAR_MEMORY, 1024, &head), 0, "no other region has any");
}

Test(testdev_device, long_sub_regions_are_libvfio_user_s)
{
	struct vu_region_io_fds head;
	reopen(&(struct testdev_options){.long_sub_regions = true});
	ask_io_fds(TD_BAR_REGISTERS, 1024, &head);
	cr_expect_eq((head.argsz - sizeof(head)) / head.count, sizeof(struct vu_sub_region));
}

/* ---- Resets ---- */

static void expect_reset_state(void)
{
	client_enable(&client);
	cr_expect_eq(reg64(&client, TD_SCRATCH), 0);
	cr_expect_eq(client_read(&client, TD_BAR_MEMORY, 0x100, 1), 0);
	cr_expect_eq(client_read(&client, CONFIG, PCI_BASE_ADDRESS_0, 4), 4);
	cr_expect_eq(client_read(&client, TD_BAR_REGISTERS, TD_MSIX_TABLE + 12, 4), 1, "vectors are masked");
}

static void change_state(void)
{
	set_reg64(&client, TD_SCRATCH, 1);
	client_write(&client, TD_BAR_MEMORY, 0x100, 1, 1);
	client_write(&client, CONFIG, PCI_BASE_ADDRESS_0, 0xc0000000, 4);
	client_write(&client, TD_BAR_REGISTERS, TD_MSIX_TABLE + 12, 0, 4);
}

Test(testdev_device, reset_message_resets_and_is_counted)
{
	change_state();
	cr_assert_eq(client_call(&client, VU_RESET, NULL, 0), 0);
	cr_expect_eq(answer.bytes, 0);
	expect_reset_state();
	cr_expect_eq(reg(&client, TD_RESETS_COMMAND), 1);
	cr_expect_eq(reg(&client, TD_RESETS_FLR), 0);
}

Test(testdev_device, function_level_reset_resets_and_is_counted)
{
	unsigned express = find_capability(PCI_CAP_ID_EXP);
	change_state();
	client_write(&client, CONFIG, express + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR, 2);
	expect_reset_state();
	cr_expect_eq(reg(&client, TD_RESETS_FLR), 1);
	cr_expect_eq(reg(&client, TD_RESETS_COMMAND), 0);
	client_write(&client, CONFIG, express + PCI_EXP_DEVCTL, 0x2810, 2);
	cr_expect_eq(reg(&client, TD_RESETS_FLR), 1, "without the bit it is an ordinary register");
	client_write(&client, CONFIG, express + PCI_EXP_DEVCTL + 1, PCI_EXP_DEVCTL_BCR_FLR >> 8, 1);
	client_enable(&client);
	cr_expect_eq(reg(&client, TD_RESETS_FLR), 2, "by its byte alone");
}

Test(testdev_device, device_without_reset_says_so_and_refuses)
{
	reopen(&(struct testdev_options){.no_reset = true});
	const struct vu_info request = {.argsz = sizeof(request)};
	struct vu_info info;
	cr_assert_eq(client_call(&client, VU_GET_INFO, &request, sizeof(request)), 0);
	memcpy(&info, answer.payload, sizeof(info));
	cr_expect_eq(info.flags, VFIO_DEVICE_FLAGS_PCI);
	cr_expect_eq(client_call(&client, VU_RESET, NULL, 0), -ENOTTY);
}

/* ---- Posted writes ---- */

Test(testdev_device, posted_writes_are_done_before_the_next_reply)
{
	for (unsigned i = 1; i <= 100; i++) {
		const struct {
			struct vu_region_access access;
			uint32_t value;
		} write = {{.offset = TD_SCRATCH, .region = TD_BAR_REGISTERS, .count = 4}, i};
		client_post(&client, VU_REGION_WRITE, VU_FLAG_NO_REPLY, &write, sizeof(write.access) + 4, NULL, 0);
	}
	cr_expect_eq(reg(&client, TD_SCRATCH), 100);
}

// SPDX-License-Identifier: MIT
/* The virtual config space: what a guest reads, and what of its writes reaches the hardware. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "config_table.h"
#include "vfio_fixture.h"

TestSuite(config_space, .init = fake_world_reset);

static uint32_t ones(unsigned size_bytes)
{
	return size_bytes >= 4 ? UINT32_MAX : (1u << (8 * size_bytes)) - 1;
}

/* ---- Capability lists ---- */

Test(config_space, sriov_is_unlinked_and_reads_zero)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_SRIOV), 0);
	for (unsigned offset = FAKE_NVME_SRIOV; offset < FAKE_NVME_SRIOV + PCI_EXT_CAP_SRIOV_SIZEOF; offset += 4)
		cr_assert_eq(guest_config(&fixture, offset, 4), 0, "0x%x reads 0x%x", offset,
			     guest_config(&fixture, offset, 4));
	fixture_close(&fixture);
}

Test(config_space, writes_to_hidden_sriov_are_dropped)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	uint64_t before = fixture.fake->config_writes;
	guest_config_write(&fixture, FAKE_NVME_SRIOV + PCI_SRIOV_NUM_VF, 2, 4);
	guest_config_write(&fixture, FAKE_NVME_SRIOV + PCI_SRIOV_CTRL, 2, PCI_SRIOV_CTRL_VFE);
	cr_assert_eq(fixture.fake->config_writes, before);
	cr_assert_eq(guest_config(&fixture, FAKE_NVME_SRIOV + PCI_SRIOV_NUM_VF, 2), 0);
	fixture_close(&fixture);
}

Test(config_space, capabilities_around_a_hidden_one_stay)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_VNDR), 0x140);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_DSN), 0x1c0);
	cr_assert_eq(guest_config(&fixture, 0x1c4, 4), 0x12345678);
	fixture_close(&fixture);
}

Test(config_space, hidden_first_extended_capability_keeps_the_chain)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x10c9, 3);
	fake_bar_memory(fake, 0, 0x4000, false, false);
	fake_add_pcie(fake, 0x40);
	fake_add_sriov(fake, 0x100);
	fake_capability_extended(fake, 0x180, PCI_EXT_CAP_ID_DSN, 1);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	uint32_t head = guest_config(&fixture, 0x100, 4);
	cr_assert_neq(PCI_EXT_CAP_ID(head), PCI_EXT_CAP_ID_SRIOV);
	cr_assert_eq(PCI_EXT_CAP_NEXT(head), 0x180);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_DSN), 0x180);
	for (unsigned offset = 0x104; offset < 0x140; offset += 4)
		cr_assert_eq(guest_config(&fixture, offset, 4), 0, "0x%x", offset);
	cr_assert(tenon_device_info(fixture.device)->sriov_hidden);
	fixture_close(&fixture);
}

Test(config_space, only_extended_capability_can_be_hidden)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x10c9, 3);
	fake_add_pcie(fake, 0x40);
	fake_add_sriov(fake, 0x100);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	uint32_t head = guest_config(&fixture, 0x100, 4);
	cr_assert_eq(PCI_EXT_CAP_ID(head), 0, "0x%x", head);
	cr_assert_eq(PCI_EXT_CAP_NEXT(head), 0);
	fixture_close(&fixture);
}

Test(config_space, neighbouring_hidden_capabilities_are_all_skipped)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x10c9, 3);
	fake_add_pcie(fake, 0x40);
	fake_capability_extended(fake, 0x100, PCI_EXT_CAP_ID_DSN, 1);
	fake_add_sriov(fake, 0x180);
	fake_add_sriov(fake, 0x200); /* no device has two; the chain does not care */
	fake_capability_extended(fake, 0x280, PCI_EXT_CAP_ID_PWR, 1);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(PCI_EXT_CAP_ID(guest_config(&fixture, 0x100, 4)), PCI_EXT_CAP_ID_DSN);
	cr_assert_eq(PCI_EXT_CAP_NEXT(guest_config(&fixture, 0x100, 4)), 0x280);
	fixture_close(&fixture);
}

Test(config_space, extended_capabilities_are_edited_without_a_pm_capability)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x10c9, 3);
	fake_add_pcie(fake, 0x40);
	fake_capability_extended(fake, 0x100, PCI_EXT_CAP_ID_DSN, 1);
	fake_add_sriov(fake, 0x180);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_PM), 0);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_SRIOV), 0);
	fixture_close(&fixture);
}

Test(config_space, any_extended_capability_leaves_a_list_that_ends)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x10c9, 3);
	fake_add_pcie(fake, 0x40);
	unsigned last = 0x2f;
	for (unsigned id = 1; id <= last; id++)
		fake_capability_extended(fake, 0x100 + (id - 1) * 0x40, (uint16_t)id, 1);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_SRIOV), 0);
	cr_assert_neq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_DSN), 0);
	/* What the guest sees of the list and what it reads beside it agree: only visible capabilities have bytes. */
	for (unsigned id = 1; id <= last; id++) {
		unsigned at = 0x100 + (id - 1) * 0x40;
		if (guest_capability_extended(&fixture, (uint16_t)id) == 0 && id > 1)
			cr_assert_eq(guest_config(&fixture, at, 4), 0, "hidden capability 0x%x shows its header", id);
	}
	fixture_close(&fixture);
}

Test(config_space, any_capability_leaves_a_list_that_ends)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x10c9, 3);
	for (unsigned id = 1; id <= 0x14; id++) {
		if (id != PCI_CAP_ID_MSI && id != PCI_CAP_ID_MSIX && id != PCI_CAP_ID_EXP && id != PCI_CAP_ID_PM)
			fake_capability(fake, 0x40 + (id - 1) * 8, (uint8_t)id, 8);
	}
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_capability(&fixture, 0xff);
	fixture_close(&fixture);
}

Test(config_space, standard_capabilities_are_where_the_device_has_them)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_PM), 0x60);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_EXP), 0x80);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_MSI), 0xc0);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_MSIX), 0x40);
	cr_assert_eq(guest_config(&fixture, 0x40 + PCI_MSIX_TABLE, 4), FAKE_NVME_TABLE);
	cr_assert_eq(guest_config(&fixture, 0x40 + PCI_MSIX_PBA, 4), FAKE_NVME_PBA);
	fixture_close(&fixture);
}

Test(config_space, hidden_standard_capability_is_unlinked_and_reads_zero)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake_capability(fake, 0x60, PCI_CAP_ID_PCIX, 8);
	fake_config_set(fake, 0x62, 2, 0x0022);
	fake_config_writable(fake, 0x62, 2, 0x007f);
	fake_add_pm(fake, 0x70);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_PCIX), 0);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_PM), 0x70);
	cr_assert_eq(guest_config(&fixture, 0x60, 4), 0);
	guest_config_write(&fixture, 0x62, 2, 0x0055);
	cr_assert_eq(fake_config_get(fake, 0x62, 2), 0x0022);
	fixture_close(&fixture);
}

/* Only one of a kind has behaviour behind it: a second one would be the host's own registers. */
Test(config_space, second_capability_of_a_kind_is_hidden)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake_add_msi(fake, 0x80, 1, true, false);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_MSI), 0x40);
	cr_assert_eq(guest_config(&fixture, 0x41, 1), 0, "the list goes on");
	cr_assert_eq(guest_config(&fixture, 0x84, 4), 0, "the host's message shows");
	guest_config_write(&fixture, 0x84, 4, 0xfee02000);
	cr_assert_eq(fake_config_get(fake, 0x84, 4), 0xfee0100c);
	fixture_close(&fixture);
}

/* Some devices keep registers there that their drivers need. */
Test(config_space, standard_space_between_capabilities_is_the_device_s)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake_config_set(fake, 0xe0, 4, 0x11223344);
	fake_config_writable(fake, 0xe0, 4, 0xffff);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_config(&fixture, 0xe0, 4), 0x11223344);
	guest_config_write(&fixture, 0xe0, 2, 0x5566);
	cr_assert_eq(fake_config_get(fake, 0xe0, 4), 0x11225566);
	fixture_close(&fixture);
}

Test(config_space, extended_space_outside_capabilities_is_hidden)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_config_set(fake, 0x800, 4, 0x11223344);
	fake_config_writable(fake, 0x800, 4, ~0u);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_config(&fixture, 0x800, 4), 0);
	guest_config_write(&fixture, 0x800, 4, 5);
	cr_assert_eq(fake_config_get(fake, 0x800, 4), 0x11223344);
	fixture_close(&fixture);
}

/* ---- Odd accesses ---- */

Test(config_space, unaligned_or_oversized_reads_give_ones)
{
	static const struct {
		unsigned offset, size_bytes;
	} odd[] = {{1, 2},    {3, 2},    {1, 4},    {2, 4},          {4095, 2},
		   {4094, 4}, {4096, 1}, {4096, 4}, {UINT32_MAX, 1}, {0x10000, 4}};
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		uint32_t value = guest_config(&fixture, odd[i].offset, odd[i].size_bytes);
		cr_assert_eq(value, ones(odd[i].size_bytes), "0x%x of %u bytes reads 0x%x", odd[i].offset,
			     odd[i].size_bytes, value);
	}
	static const unsigned sizes[] = {0, 3, 5, 8, UINT32_MAX};
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		cr_assert_eq(guest_config(&fixture, 0, sizes[i]) & 0xff, 0xff, "%u bytes", sizes[i]);
	fixture_close(&fixture);
}

Test(config_space, unaligned_or_oversized_writes_are_dropped)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	uint8_t before[TENON_CONFIG_BYTES];
	memcpy(before, fixture.fake->config, sizeof(before));
	guest_config_write(&fixture, 3, 2, 0xffff);
	guest_config_write(&fixture, 5, 2, 0xffff);
	guest_config_write(&fixture, 2, 4, 0xffffffff);
	guest_config_write(&fixture, 4, 3, 0xffffffff);
	guest_config_write(&fixture, 4, 8, 0xffffffff);
	guest_config_write(&fixture, 4, 0, 0xffffffff);
	guest_config_write(&fixture, 4096, 4, 0xffffffff);
	guest_config_write(&fixture, UINT32_MAX - 3, 4, 0xffffffff);
	cr_assert_arr_eq(before, fixture.fake->config, sizeof(before));
	fixture_close(&fixture);
}

Test(config_space, conventional_device_has_nothing_beyond_256_bytes)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_edu("0000:04:00.0"));
	/* No answer on the bus (ones) and no capability (zero) both say so; anything else would be a capability. */
	uint32_t head = guest_config(&fixture, 0x100, 4);
	cr_assert(head == 0 || head == UINT32_MAX, "0x%x", head);
	cr_assert_eq(guest_config(&fixture, 0xffc, 4), head);
	guest_config_write(&fixture, 0x100, 4, 0x12345678);
	cr_assert_eq(guest_config(&fixture, 0x100, 4), head);
	cr_assert_eq(fake_calls(FAKE_PWRITE), 0);
	fixture_close(&fixture);
}

/* As the kernel's sample mtty: 255 bytes. */
Test(config_space, what_a_short_config_space_lacks_reads_zero)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake_config_set(fake, 0xfc, 4, 0xaabbccdd);
	fake_config_writable(fake, 0xf8, 4, ~0u);
	fake->config_bytes = 255;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_config(&fixture, PCI_VENDOR_ID, 2), 0x1234);
	cr_assert_eq(guest_config(&fixture, 0xfc, 4), 0x00bbccdd);
	cr_assert_eq(guest_config(&fixture, 0xff, 1), 0);
	cr_assert_eq(guest_config(&fixture, 0x100, 4), 0);
	guest_config_write(&fixture, 0xfc, 4, 0);
	guest_config_write(&fixture, 0xff, 1, 0);
	cr_assert_eq(guest_config(&fixture, 0xfc, 4), 0x00bbccdd);
	guest_config_write(&fixture, 0xf8, 4, 0x11223344);
	cr_assert_eq(guest_config(&fixture, 0xf8, 4), 0x11223344, "what it has works as ever");
	cr_assert_neq(guest_capability(&fixture, PCI_CAP_ID_MSI), 0);
	cr_assert_eq(fixture.host.log_count, 0, "%s", fixture.host.logs[0].text);
	fixture_close(&fixture);
}

Test(config_space, capability_that_a_short_config_space_cuts_is_hidden)
{
	struct fake_device *fake = fake_device_add("0000:04:00.0", 0x8086, 0x1533, 4);
	fake_add_pm(fake, 0x40);
	fake_add_pm(fake, 0xf8);
	fake_add_msi(fake, 0x50, 1, true, false);
	fake->config_bytes = 0x58;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_PM), 0x40);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_MSI), 0, "it ends behind the end");
	cr_assert_eq(tenon_device_info(fixture.device)->msi_vectors, 0);
	fixture_close(&fixture);
}

Test(config_space, header_alone_is_enough)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake->config_bytes = 64;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	cr_assert_eq(guest_capability(&fixture, PCI_CAP_ID_MSI), 0);
	guest_place(&fixture);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	cr_assert_eq(guest_config(&fixture, 0x40, 4), 0);
	fixture_close(&fixture);
}

Test(config_space, less_than_a_header_is_refused)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake->config_bytes = 63;
	struct fixture fixture;
	fixture_init(&fixture);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, -ENODEV);
	assert_message(&fixture.err, code);
	cr_assert(strstr(fixture.err.message, "63 bytes"), "%s", fixture.err.message);
	fixture.device = NULL;
	fixture_close(&fixture);
}

Test(config_space, every_size_reads_the_same_bytes)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned offset = 0; offset < TENON_CONFIG_BYTES; offset += 4) {
		uint32_t whole = guest_config(&fixture, offset, 4), halves = 0, bytes = 0;
		for (unsigned i = 0; i < 4; i += 2)
			halves |= guest_config(&fixture, offset + i, 2) << (8 * i);
		for (unsigned i = 0; i < 4; i++)
			bytes |= guest_config(&fixture, offset + i, 1) << (8 * i);
		cr_assert_eq(whole, halves, "0x%x", offset);
		cr_assert_eq(whole, bytes, "0x%x", offset);
	}
	fixture_close(&fixture);
}

Test(config_space, read_that_the_kernel_fails_gives_ones_or_what_is_known)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	const unsigned own = 0x148; /* in the vendor's capability */
	fake_config_set(fixture.fake, own, 4, 0x5555aaaa);
	fake_fail_always(FAKE_PREAD, EIO);
	fake_fail_always(FAKE_PWRITE, EIO);
	cr_assert_eq(guest_config(&fixture, own, 4), UINT32_MAX);
	cr_assert_eq(guest_config(&fixture, PCI_VENDOR_ID, 2), 0x1b36);
	guest_config_write(&fixture, own, 4, 8);
	guest_command(&fixture, PCI_COMMAND_MASTER, 0);
	fake_fail_always(FAKE_PREAD, 0);
	fake_fail_always(FAKE_PWRITE, 0);
	cr_assert_eq(guest_config(&fixture, own, 4), 0x5555aaaa);
	fixture_close(&fixture);
}

/* ---- The header ---- */

Test(config_space, ids_are_the_device_s_and_read_only)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_config_write(&fixture, PCI_VENDOR_ID, 4, 0);
	guest_config_write(&fixture, PCI_CLASS_REVISION, 4, 0);
	guest_config_write(&fixture, PCI_SUBSYSTEM_VENDOR_ID, 4, 0);
	cr_assert_eq(guest_config(&fixture, PCI_VENDOR_ID, 4), 0x00101b36);
	cr_assert_eq(guest_config(&fixture, PCI_CLASS_REVISION, 4), 0x01080202);
	cr_assert_eq(guest_config(&fixture, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
	fixture_close(&fixture);
}

Test(config_space, sizing_a_64_bit_bar_gives_its_mask)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_1, 4, UINT32_MAX);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_0, 4), 0xffffc004);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_1, 4), 0xffffffff);
	fixture_close(&fixture);
}

Test(config_space, sizing_a_large_bar_shows_its_size_in_the_upper_half)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x10de, 0x2941, 3);
	fake_bar_memory(fake, 2, 0x200000000, true, true);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_2, 4, UINT32_MAX);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_3, 4, UINT32_MAX);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_2, 4), 0x0000000c);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_3, 4), 0xfffffffe);
	fixture_close(&fixture);
}

Test(config_space, sizing_small_bars_gives_their_masks)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_serial_card("0000:05:00.0"));
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_1, 4, UINT32_MAX);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_0, 4) | 0xffff0000, 0xffffffe1);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_1, 4), 0xffffff00);
	fixture_close(&fixture);
}

Test(config_space, bar_reads_back_what_was_written_by_bytes_too)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0 + 3, 1, 0xe0);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0 + 2, 1, 0x12);
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 2, 0x7fff);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_0, 4), 0xe0124004);
	fixture_close(&fixture);
}

Test(config_space, bars_that_are_not_there_read_zero)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned bar = 2; bar < 6; bar++) {
		guest_config_write(&fixture, PCI_BASE_ADDRESS_0 + 4 * bar, 4, UINT32_MAX);
		cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_0 + 4 * bar, 4), 0, "BAR %u", bar);
	}
	fixture_close(&fixture);
}

Test(config_space, host_bars_are_never_written)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	uint64_t before =
		(uint64_t)fake_config_get(fixture.fake, 0x14, 4) << 32 | fake_config_get(fixture.fake, 0x10, 4);
	guest_place(&fixture);
	uint64_t after =
		(uint64_t)fake_config_get(fixture.fake, 0x14, 4) << 32 | fake_config_get(fixture.fake, 0x10, 4);
	cr_assert_eq(before, after);
	fixture_close(&fixture);
}

Test(config_space, bus_master_reaches_the_hardware)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_command(&fixture, PCI_COMMAND_MASTER, 0);
	cr_assert(fake_config_get(fixture.fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
	cr_assert(guest_config(&fixture, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
	guest_command(&fixture, 0, PCI_COMMAND_MASTER);
	cr_assert(!(fake_config_get(fixture.fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER));
	fixture_close(&fixture);
}

Test(config_space, command_reads_back_as_the_guest_wrote_it)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	static const uint16_t values[] = {0x0000, 0x0002, 0x0006, 0x0406, 0x0546, 0x0400, 0x0004};
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		guest_config_write(&fixture, PCI_COMMAND, 2, values[i]);
		cr_assert_eq(guest_config(&fixture, PCI_COMMAND, 2), values[i], "0x%x reads 0x%x", values[i],
			     guest_config(&fixture, PCI_COMMAND, 2));
	}
	fixture_close(&fixture);
}

Test(config_space, command_can_be_written_by_its_upper_byte)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_config_write(&fixture, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	guest_config_write(&fixture, PCI_COMMAND + 1, 1, PCI_COMMAND_INTX_DISABLE >> 8);
	cr_assert_eq(guest_config(&fixture, PCI_COMMAND, 2),
		     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	cr_assert(fake_config_get(fixture.fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
	fixture_close(&fixture);
}

/* Linux clears status bits by a word write; a driver that writes command and status at once with zeros clears none. */
Test(config_space, status_errors_survive_a_write_of_zeros_beside_command)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fixture.fake->config[PCI_STATUS + 1] |= PCI_STATUS_REC_MASTER_ABORT >> 8;
	guest_config_write(&fixture, PCI_COMMAND, 4, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
	cr_assert(fake_config_get(fixture.fake, PCI_STATUS, 2) & PCI_STATUS_REC_MASTER_ABORT);
	cr_assert(guest_config(&fixture, PCI_STATUS, 2) & PCI_STATUS_REC_MASTER_ABORT);
	fixture_close(&fixture);
}

Test(config_space, interrupt_line_is_the_guest_s_own)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_config_write(&fixture, PCI_INTERRUPT_LINE, 1, 11);
	guest_config_write(&fixture, PCI_INTERRUPT_PIN, 1, 4);
	cr_assert_eq(guest_config(&fixture, PCI_INTERRUPT_LINE, 1), 11);
	cr_assert_eq(guest_config(&fixture, PCI_INTERRUPT_PIN, 1), 1);
	fixture_close(&fixture);
}

Test(config_space, multifunction_bit_follows_the_option)
{
	for (unsigned multifunction = 0; multifunction < 2; multifunction++) {
		fake_world_reset();
		struct fake_device *fake = fake_nvme("0000:3b:00.0");
		fake_config_set(fake, PCI_HEADER_TYPE, 1,
				multifunction ? 0 : 0x80); /* the host's slot is the opposite */
		struct fixture fixture;
		fixture_init(&fixture);
		struct tenon_device_options options = fixture_options(&fixture, fake);
		options.multifunction = multifunction;
		cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
		cr_assert_eq(guest_config(&fixture, PCI_HEADER_TYPE, 1), multifunction ? 0x80 : 0);
		fixture_close(&fixture);
	}
}

/* ---- Capabilities' contents ---- */

Test(config_space, express_type_follows_the_slot)
{
	static const struct {
		enum tenon_slot_kind slot;
		unsigned host_type, type;
	} cases[] = {
		{TENON_SLOT_ROOT_PORT, PCI_EXP_TYPE_ENDPOINT, PCI_EXP_TYPE_ENDPOINT},
		{TENON_SLOT_ROOT_BUS, PCI_EXP_TYPE_ENDPOINT, PCI_EXP_TYPE_RC_END},
		{TENON_SLOT_ROOT_PORT, PCI_EXP_TYPE_RC_END, PCI_EXP_TYPE_ENDPOINT},
		{TENON_SLOT_ROOT_BUS, PCI_EXP_TYPE_RC_END, PCI_EXP_TYPE_RC_END},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_world_reset();
		struct fake_device *fake = fake_nvme("0000:3b:00.0");
		fake_config_set(fake, fake->pcie + PCI_EXP_FLAGS, 2, 2 | cases[i].host_type << 4);
		struct fixture fixture;
		fixture_init(&fixture);
		struct tenon_device_options options = fixture_options(&fixture, fake);
		options.slot = cases[i].slot;
		cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
		unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP);
		uint32_t flags = guest_config(&fixture, at + PCI_EXP_FLAGS, 2);
		cr_assert_eq((flags & PCI_EXP_FLAGS_TYPE) >> 4, cases[i].type, "case %u", i);
		cr_assert_eq(flags & PCI_EXP_FLAGS_VERS, 2);
		fixture_close(&fixture);
	}
}

static struct fake_device *card_with_dvsec(uint16_t vendor)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x0d93, 3);
	fake_add_pcie(fake, 0x40);
	fake_capability_extended(fake, 0x100, PCI_EXT_CAP_ID_DSN, 1);
	fake_capability_extended(fake, 0x200, PCI_EXT_CAP_ID_DVSEC, 1);
	fake_config_set(fake, 0x204, 4, 0x38u << 20 | vendor);
	fake_config_set(fake, 0x21c, 4, 0x12345678);
	fake_config_writable(fake, 0x21c, 4, ~0u);
	return fake;
}

Test(config_space, designated_vendor_capability_s_body_is_the_device_s)
{
	struct fixture fixture;
	fixture_open(&fixture, card_with_dvsec(0x8086));
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_DVSEC), 0x200);
	guest_config_write(&fixture, 0x21c, 4, 0xcafe);
	cr_assert_eq(fake_config_get(fixture.fake, 0x21c, 4), 0xcafe);
	fixture_close(&fixture);
}

/* They hold host physical addresses. */
Test(config_space, cxl_registers_are_hidden)
{
	struct fixture fixture;
	fixture_open(&fixture, card_with_dvsec(0x1e98));
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_DVSEC), 0);
	cr_assert_eq(guest_config(&fixture, 0x21c, 4), 0);
	guest_config_write(&fixture, 0x21c, 4, 0xcafe);
	cr_assert_eq(fake_config_get(fixture.fake, 0x21c, 4), 0x12345678);
	fixture_close(&fixture);
}

Test(config_space, vendor_capability_s_body_is_the_device_s)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_config_set(fixture.fake, 0x148, 4, 0x11223344);
	cr_assert_eq(guest_config(&fixture, 0x148, 4), 0x11223344);
	guest_config_write(&fixture, 0x14c, 2, 0xbeef);
	cr_assert_eq(fake_config_get(fixture.fake, 0x14c, 4), 0xbeef);
	guest_config_write(&fixture, 0x140, 4, 0); /* its header is not */
	cr_assert_eq(PCI_EXT_CAP_ID(guest_config(&fixture, 0x140, 4)), PCI_EXT_CAP_ID_VNDR);
	fixture_close(&fixture);
}

Test(config_space, device_control_bits_that_pass_can_be_set_and_cleared)
{
	const uint32_t bits = PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_EXT_TAG | PCI_EXP_DEVCTL_NOSNOOP_EN;
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	guest_config_write(&fixture, at, 2, bits);
	cr_assert_eq(fake_config_get(fixture.fake, at, 2) & bits, bits);
	cr_assert_eq(guest_config(&fixture, at, 2) & bits, bits);
	guest_config_write(&fixture, at, 2, 0);
	cr_assert_eq(fake_config_get(fixture.fake, at, 2) & bits, 0);
	guest_config_write(&fixture, at, 4, bits);
	cr_assert_eq(fake_config_get(fixture.fake, at, 2) & bits, bits);
	fixture_close(&fixture);
}

Test(config_space, payload_size_is_the_guest_s_own)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	uint32_t host = fake_config_get(fixture.fake, at, 2) & PCI_EXP_DEVCTL_PAYLOAD;
	guest_config_write(&fixture, at, 2, 0x00a0);
	cr_assert_eq(guest_config(&fixture, at, 2) & PCI_EXP_DEVCTL_PAYLOAD, 0x00a0);
	cr_assert_eq(fake_config_get(fixture.fake, at, 2) & PCI_EXP_DEVCTL_PAYLOAD, host);
	fixture_close(&fixture);
}

Test(config_space, device_status_survives_a_write_of_device_control)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP);
	fixture.fake->config[at + PCI_EXP_DEVSTA] = PCI_EXP_DEVSTA_CED;
	guest_config_write(&fixture, at + PCI_EXP_DEVCTL, 2, 0x2810);
	cr_assert(guest_config(&fixture, at + PCI_EXP_DEVSTA, 2) & PCI_EXP_DEVSTA_CED);
	fixture_close(&fixture);
}

/* A device that cannot be reset still holds the host driver's last message when the guest gets it. */
Test(config_space, msi_message_never_reaches_the_hardware_nor_the_guest)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->no_reset = true;
	struct fixture fixture;
	fixture_open(&fixture, fake);
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_MSI);
	cr_assert_eq(guest_config(&fixture, at + PCI_MSI_ADDRESS_LO, 4), 0, "the host's message shows");
	cr_assert_eq(guest_config(&fixture, at + PCI_MSI_DATA_64, 2), 0);
	guest_config_write(&fixture, at + PCI_MSI_ADDRESS_LO, 4, 0xfee02000);
	guest_config_write(&fixture, at + PCI_MSI_ADDRESS_HI, 4, 1);
	guest_config_write(&fixture, at + PCI_MSI_DATA_64, 2, 0x55);
	cr_assert_eq(guest_config(&fixture, at + PCI_MSI_ADDRESS_LO, 4), 0xfee02000);
	cr_assert_eq(guest_config(&fixture, at + PCI_MSI_ADDRESS_HI, 4), 1);
	cr_assert_eq(guest_config(&fixture, at + PCI_MSI_DATA_64, 2), 0x55);
	cr_assert_eq(fake_config_get(fixture.fake, at + PCI_MSI_ADDRESS_LO, 4), 0xfee0100c);
	cr_assert_eq(fake_config_get(fixture.fake, at + PCI_MSI_DATA_64, 2), 0x4021);
	fixture_close(&fixture);
}

Test(config_space, msix_table_size_is_read_only)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_MSIX);
	guest_config_write(&fixture, at + PCI_MSIX_FLAGS, 2, 0x07ff);
	cr_assert_eq(guest_config(&fixture, at + PCI_MSIX_FLAGS, 2), FAKE_NVME_MSIX_VECTORS - 1);
	guest_config_write(&fixture, at + PCI_MSIX_TABLE, 4, 0);
	cr_assert_eq(guest_config(&fixture, at + PCI_MSIX_TABLE, 4), FAKE_NVME_TABLE);
	fixture_close(&fixture);
}

/* ---- The policy table ---- */

Test(config_space, every_standard_capability_has_a_row_with_its_reason)
{
	for (unsigned id = 0x01; id <= 0x15; id++) {
		const struct config_capability *row = config_standard_capability((uint8_t)id);
		cr_assert_eq(row->id, id, "capability 0x%02x has no row", id);
		cr_assert(row->reason && row->reason[0], "capability 0x%02x has no reason", id);
	}
}

Test(config_space, every_extended_capability_has_a_row_with_its_reason)
{
	for (unsigned id = 0x01; id <= 0x2f; id++) {
		const struct config_capability *row = config_extended_capability((uint16_t)id);
		cr_assert_eq(row->id, id, "extended capability 0x%04x has no row", id);
		cr_assert(row->reason && row->reason[0], "extended capability 0x%04x has no reason", id);
	}
}

/* ---- SR-IOV that is shown ---- */

static void open_with_sriov(struct fixture *fixture, struct fake_device *fake)
{
	fixture_init(fixture);
	fixture->fake = fake;
	struct tenon_device_options options = fixture_options(fixture, fake);
	options.sriov = TENON_SRIOV_READ_ONLY;
	int code = tenon_device_open(&options, &fixture->device, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
}

Test(config_space, sriov_can_be_shown_read_only)
{
	struct fixture fixture;
	open_with_sriov(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_SRIOV), FAKE_NVME_SRIOV);
	cr_assert_eq(guest_capability_extended(&fixture, PCI_EXT_CAP_ID_DSN), 0x1c0, "the chain goes on behind it");
	cr_assert_eq(guest_config(&fixture, FAKE_NVME_SRIOV + PCI_SRIOV_TOTAL_VF, 2), 8);
	cr_assert_eq(guest_config(&fixture, FAKE_NVME_SRIOV + PCI_SRIOV_VF_DID, 2), 0x5555);
	cr_assert_not(tenon_device_info(fixture.device)->sriov_hidden);
	fixture_close(&fixture);
}

Test(config_space, shown_sriov_takes_no_write)
{
	struct fixture fixture;
	open_with_sriov(&fixture, fake_nvme("0000:3b:00.0"));
	uint64_t before = fixture.fake->config_writes;
	for (unsigned at = FAKE_NVME_SRIOV; at < FAKE_NVME_SRIOV + PCI_EXT_CAP_SRIOV_SIZEOF; at += 4) {
		uint32_t value = guest_config(&fixture, at, 4);
		guest_config_write(&fixture, at, 4, UINT32_MAX);
		cr_assert_eq(guest_config(&fixture, at, 4), value, "0x%x", at);
		guest_config_write(&fixture, at, 4, 0);
		cr_assert_eq(guest_config(&fixture, at, 4), value, "0x%x", at);
	}
	cr_assert_eq(fixture.fake->config_writes, before);
	fixture_close(&fixture);
}

Test(config_space, shown_sriov_says_how_many_vfs_there_are_now)
{
	struct fixture fixture;
	open_with_sriov(&fixture, fake_nvme("0000:3b:00.0"));
	fake_config_set(fixture.fake, FAKE_NVME_SRIOV + PCI_SRIOV_NUM_VF, 2, 3);
	cr_assert_eq(guest_config(&fixture, FAKE_NVME_SRIOV + PCI_SRIOV_NUM_VF, 2), 3);
	fixture_close(&fixture);
}

Test(config_space, shown_vf_bars_hide_the_host_s_addresses)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_config_set(fake, FAKE_NVME_SRIOV + PCI_SRIOV_BAR, 4, 0xfe00000c);
	fake_config_set(fake, FAKE_NVME_SRIOV + PCI_SRIOV_BAR + 4, 4, 0x7f);
	struct fixture fixture;
	open_with_sriov(&fixture, fake);
	cr_assert_eq(guest_config(&fixture, FAKE_NVME_SRIOV + PCI_SRIOV_BAR, 4), 0xc);
	cr_assert_eq(guest_config(&fixture, FAKE_NVME_SRIOV + PCI_SRIOV_BAR + 4, 4), 0);
	fixture_close(&fixture);
}

/* ---- What a guest set in the device is gone with the guest ---- */

Test(config_space, reset_restores_the_device_s_own_control_bits)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	unsigned control = fake->pcie + PCI_EXP_DEVCTL, control2 = fake->pcie + PCI_EXP_DEVCTL2;
	fake_config_set(fake, control, 2, PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_CERE);
	fake_config_set(fake, control2, 2, 0x0006);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_config_write(&fixture, control, 2, PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_EXT_TAG);
	guest_config_write(&fixture, control2, 2, 0x0019);
	cr_assert(fake_config_get(fake, control, 2) & PCI_EXP_DEVCTL_NOSNOOP_EN);
	cr_assert_eq(fake_config_get(fake, control2, 2) & 0x1f, 0x19);
	fake_journal_forget();
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fake_config_get(fake, control, 2) & (PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN |
							  PCI_EXP_DEVCTL_EXT_TAG | PCI_EXP_DEVCTL_CERE),
		     PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_CERE);
	cr_assert_eq(fake_config_get(fake, control2, 2) & 0x1f, 0x06);
	fixture_close(&fixture);
}

Test(config_space, reset_writes_no_control_bits_that_nobody_changed)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_journal_forget();
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fake_journal_find("config 0x088", 0), -1);
	cr_assert_eq(fake_journal_find("config 0x0a8", 0), -1);
	fixture_close(&fixture);
}

/* ---- Vital product data ---- */

static struct fake_device *card_with_vpd(void)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake_add_vpd(fake, 0x60);
	return fake;
}

Test(config_space, vital_product_data_can_be_read)
{
	struct fixture fixture;
	fixture_open(&fixture, card_with_vpd());
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_VPD);
	cr_assert_eq(at, 0x60);
	guest_config_write(&fixture, at + PCI_VPD_ADDR, 2, 0x0010);
	cr_assert_eq(fake_config_get(fixture.fake, at + PCI_VPD_ADDR, 2), 0x0010);
	fake_config_set(fixture.fake, at + PCI_VPD_ADDR, 2, 0x0010 | PCI_VPD_ADDR_F); /* the device has read it */
	fake_config_set(fixture.fake, at + PCI_VPD_DATA, 4, 0x12345678);
	cr_assert_eq(guest_config(&fixture, at + PCI_VPD_ADDR, 2), 0x0010 | PCI_VPD_ADDR_F);
	cr_assert_eq(guest_config(&fixture, at + PCI_VPD_DATA, 4), 0x12345678);
	fixture_close(&fixture);
}

Test(config_space, vital_product_data_can_be_read_by_bytes)
{
	struct fixture fixture;
	fixture_open(&fixture, card_with_vpd());
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_VPD) + PCI_VPD_ADDR;
	fake_calls_forget();
	guest_config_write(&fixture, at, 1, 0x34);
	cr_assert_eq(fake_calls(FAKE_PWRITE), 0, "the upper byte starts the read");
	guest_config_write(&fixture, at + 1, 1, 0x12);
	cr_assert_eq(fake_config_get(fixture.fake, at, 2), 0x1234);
	guest_config_write(&fixture, at - 2, 4, 0x0456u << 16);
	cr_assert_eq(fake_config_get(fixture.fake, at, 2), 0x0456);
	guest_config_write(&fixture, at + 1, 1, 0x07);
	cr_assert_eq(fake_config_get(fixture.fake, at, 2), 0x0756, "the lower byte is what was written last");
	fixture_close(&fixture);
}

/* They would change the host's card for good. */
Test(config_space, vital_product_data_is_never_written)
{
	struct fixture fixture;
	fixture_open(&fixture, card_with_vpd());
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_VPD);
	fake_calls_forget();
	guest_config_write(&fixture, at + PCI_VPD_DATA, 4, 0xdeadbeef);
	guest_config_write(&fixture, at + PCI_VPD_ADDR, 2, 0x0010 | PCI_VPD_ADDR_F);
	guest_config_write(&fixture, at, 4, (0x0010u | PCI_VPD_ADDR_F) << 16);
	cr_assert_eq(fake_calls(FAKE_PWRITE), 0);
	guest_config_write(&fixture, at + PCI_VPD_ADDR + 1, 1, PCI_VPD_ADDR_F >> 8);
	cr_assert_eq(fake_config_get(fixture.fake, at + PCI_VPD_DATA, 4), 0);
	cr_assert_eq(fake_config_get(fixture.fake, at + PCI_VPD_ADDR, 2) & PCI_VPD_ADDR_F, 0);
	fixture_close(&fixture);
}

/* ---- Power ---- */

static void set_power(struct fixture *fixture, unsigned state)
{
	unsigned at = guest_capability(fixture, PCI_CAP_ID_PM);
	cr_assert_neq(at, 0);
	uint32_t control = guest_config(fixture, at + PCI_PM_CTRL, 2) & ~(uint32_t)PCI_PM_CTRL_STATE_MASK;
	guest_config_write(fixture, at + PCI_PM_CTRL, 2, control | state);
}

Test(config_space, power_state_reads_back)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_PM);
	set_power(&fixture, 3);
	cr_assert_eq(guest_config(&fixture, at + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK, 3);
	set_power(&fixture, 0);
	cr_assert_eq(guest_config(&fixture, at + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK, 0);
	fixture_close(&fixture);
}

Test(config_space, power_state_that_the_device_lacks_is_not_entered)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_PM);
	set_power(&fixture, 1);
	cr_assert_eq(guest_config(&fixture, at + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK, 0);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	set_power(&fixture, 3);
	set_power(&fixture, 2);
	cr_assert_eq(guest_config(&fixture, at + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK, 3);
	fixture_close(&fixture);
}

/* The kernel restores the command register that it saved on the way into D3. */
Test(config_space, command_written_in_d3_holds_after_waking)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_config_set(fake, fake->pm + PCI_PM_CTRL, 2, 0); /* no No_Soft_Reset */
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	set_power(&fixture, 3);
	guest_command(&fixture, 0, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
	set_power(&fixture, 0);
	cr_assert_eq(fake_config_get(fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0, "the device masters the bus again");
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA));
	set_power(&fixture, 3);
	guest_command(&fixture, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 0);
	set_power(&fixture, 0);
	cr_assert(fake_config_get(fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	fixture_close(&fixture);
}

Test(config_space, registers_read_ones_in_d3)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	fixture.fake->bars[0].memory[0x14] = 0x5a;
	cr_assert_eq(guest_bar(&fixture, 0, 0x14, 1), 0x5a);
	set_power(&fixture, 3);
	cr_assert_eq(guest_bar(&fixture, 0, 0x14, 4), UINT32_MAX);
	cr_assert_eq(guest_bar(&fixture, 0, FAKE_NVME_TABLE, 4), UINT32_MAX);
	set_power(&fixture, 0);
	cr_assert_eq(guest_bar(&fixture, 0, 0x14, 1), 0x5a);
	fixture_close(&fixture);
}

Test(config_space, bars_are_unmapped_before_the_device_goes_to_d3)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	guest_place(&fixture);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	fake_journal_forget();
	set_power(&fixture, 3);
	cr_assert_null(host_mapped(&fixture.host, BAR_GPA));
	int unmapped = fake_journal_find("memory_unmap", 0), asleep = fake_journal_find("power D3", 0);
	cr_assert_geq(unmapped, 0);
	if (asleep >= 0)
		cr_assert_lt(unmapped, asleep);
	set_power(&fixture, 0);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	fixture_close(&fixture);
}

Test(config_space, config_space_answers_in_d3)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	set_power(&fixture, 3);
	cr_assert_eq(guest_config(&fixture, PCI_VENDOR_ID, 2), 0x1b36);
	fixture_close(&fixture);
}

// SPDX-License-Identifier: MIT
/* Resets: of the VM, and those that the guest itself asks of its device. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "vfio_fixture.h"

TestSuite(reset, .init = fake_world_reset);

/* A device as a running guest has it: placed, mastering the bus, MSI-X on with two vectors. */
static void open_busy(struct fixture *fixture, struct fake_device *fake)
{
	fixture_open(fixture, fake);
	guest_place(fixture);
	guest_msix_vector(fixture, 0, 0x40, false);
	guest_msix_vector(fixture, 1, 0x41, false);
	guest_msix_control(fixture, true, false);
	fake_journal_forget();
	fake->resets = 0;
}

static void read_all(struct fixture *fixture, uint8_t *bytes)
{
	for (unsigned offset = 0; offset < TENON_CONFIG_BYTES; offset++)
		bytes[offset] = (uint8_t)guest_config(fixture, offset, 1);
}

static void assert_off(struct fixture *fixture)
{
	const uint32_t on = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	cr_assert_eq(guest_config(fixture, PCI_COMMAND, 2) & on, 0);
	cr_assert_eq(fake_config_get(fixture->fake, PCI_COMMAND, 2) & PCI_COMMAND_MASTER, 0);
	cr_assert_eq(fixture->host.map_count, 0);
	cr_assert(!fixture->host.bars[0].enabled);
	cr_assert_eq(fixture->host.route_count, 0);
	cr_assert_eq(fixture->host.irqfd_count, 0);
	cr_assert_eq(fake_vectors_armed(fixture->fake), 0);
	cr_assert_eq(fixture->fake->irq_kind, -1);
}

Test(reset, device_is_reset_once)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fixture.fake->resets, 1);
	fixture_close(&fixture);
}

Test(reset, bus_mastering_decoding_and_interrupts_are_off_before_it)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fixture.fake->command_at_reset & PCI_COMMAND_MASTER, 0, "stale DMA lands in the new guest");
	cr_assert_eq(fixture.fake->command_at_reset & PCI_COMMAND_MEMORY, 0);
	cr_assert_eq(fixture.fake->interrupts_at_reset, 0);
	cr_assert_lt(fake_journal_find("memory_unmap", 0), fake_journal_find("reset ", 0));
	fixture_close(&fixture);
}

/* Payload sizes that the device's bus does not take would come up as errors of the host's. */
Test(reset, dma_is_stopped_before_the_device_s_control_is_restored)
{
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_config_writable(fake, fake->pcie + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_RELAX_EN);
	open_busy(&fixture, fake);
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	guest_config_write(&fixture, at, 2, guest_config(&fixture, at, 2) ^ PCI_EXP_DEVCTL_RELAX_EN);
	fake_journal_forget();
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	char control[32];
	snprintf(control, sizeof(control), "config 0x%03x", fake->pcie + PCI_EXP_DEVCTL);
	int restored = fake_journal_find(control, 0), stopped = fake_journal_find("command 0x0000", 0);
	cr_assert_geq(restored, 0);
	cr_assert_geq(stopped, 0);
	cr_assert_lt(stopped, restored);
	fixture_close(&fixture);
}

Test(reset, device_is_woken_before_it)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_PM);
	guest_config_write(&fixture, at + PCI_PM_CTRL, 2, 3);
	cr_assert_eq(fixture.fake->power, 3);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fixture.fake->power_at_reset, 0);
	cr_assert_eq(guest_config(&fixture, at + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK, 0);
	fixture_close(&fixture);
}

Test(reset, device_that_forgets_in_d3_cannot_master_the_bus_at_reset)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_config_set(fake, fake->pm + PCI_PM_CTRL, 2, 0); /* no No_Soft_Reset */
	struct fixture fixture;
	open_busy(&fixture, fake);
	guest_config_write(&fixture, fake->pm + PCI_PM_CTRL, 2, 3);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fake->command_at_reset & PCI_COMMAND_MASTER, 0, "the kernel's restored command reached the reset");
	assert_off(&fixture);
	fixture_close(&fixture);
}

/* VFIO_DEVICE_RESET only tries the device's lock, which a reader of sysfs may hold for a moment. */
Test(reset, busy_device_is_tried_again)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	fixture.fake->reset_busy = 3;
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert_eq(fixture.fake->resets, 1);
	fixture_close(&fixture);
}

Test(reset, device_that_stays_busy_is_given_up)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	fixture.fake->reset_busy = 1000000;
	fake_calls_forget();
	int code = tenon_device_reset(fixture.device, &fixture.err);
	cr_assert_eq(code, -EAGAIN);
	assert_message(&fixture.err, code);
	cr_assert_leq(fake_calls(FAKE_DEVICE_RESET), 100);
	fixture_close(&fixture);
}

Test(reset, leaves_the_device_off)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	assert_off(&fixture);
	fixture_close(&fixture);
}

Test(reset, config_space_is_as_at_open)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	static uint8_t before[TENON_CONFIG_BYTES], after[TENON_CONFIG_BYTES];
	read_all(&fixture, before);
	for (unsigned offset = 0; offset < 0x100; offset += 4) /* the extended space is the vendor's own */
		guest_config_write(&fixture, offset, 4, 0x5aa5c33c);
	guest_place(&fixture);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	read_all(&fixture, after);
	/* What the device itself keeps through the kernel's reset is not ours: control bits that passed through. */
	unsigned control = guest_capability(&fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	unsigned control2 = guest_capability(&fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL2;
	for (unsigned offset = 0; offset < TENON_CONFIG_BYTES; offset++) {
		if (offset / 2 * 2 == control || offset / 2 * 2 == control2)
			continue;
		cr_assert_eq(before[offset], after[offset], "0x%x was 0x%x and is 0x%x", offset, before[offset],
			     after[offset]);
	}
	fixture_close(&fixture);
}

Test(reset, msix_table_is_masked_again)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	guest_place(&fixture);
	cr_assert_eq(guest_bar(&fixture, 0, FAKE_NVME_TABLE, 8), 0);
	cr_assert_eq(guest_bar(&fixture, 0, FAKE_NVME_TABLE + PCI_MSIX_ENTRY_DATA, 8), 0x100000000);
	cr_assert(!guest_msix_pending(&fixture, 0));
	fixture_close(&fixture);
}

Test(reset, device_works_again)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
		guest_place(&fixture);
		cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
		guest_msix_vector(&fixture, 7, 0x70 + i, false);
		guest_msix_control(&fixture, true, false);
		cr_assert(fake_fire(fixture.fake, 7));
		cr_assert_eq(host_messages(&fixture.host, 0x70 + i), 1);
	}
	fixture_close(&fixture);
}

Test(reset, stale_interrupts_do_not_reach_the_new_guest)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_mask(&fixture, 0, true);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	guest_place(&fixture);
	guest_msix_vector(&fixture, 0, 0x99, false);
	guest_msix_control(&fixture, true, false);
	cr_assert_eq(host_messages(&fixture.host, 0x99), 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 0);
	fixture_close(&fixture);
}

Test(reset, failure_is_reported_and_the_device_quiesced)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	fixture.fake->reset_error = EAGAIN;
	int code = tenon_device_reset(fixture.device, &fixture.err);
	cr_assert_eq(code, -EAGAIN);
	assert_message(&fixture.err, code);
	assert_off(&fixture);
	fixture_close(&fixture);
}

Test(reset, device_that_cannot_be_reset_is_quiesced)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->no_reset = true;
	struct fixture fixture;
	open_busy(&fixture, fake);
	int code = tenon_device_reset(fixture.device, &fixture.err);
	assert_message(&fixture.err, code);
	assert_off(&fixture);
	cr_assert_eq(fake->resets, 0);
	fixture_close(&fixture);
}

/* ---- By the guest ---- */

static void write_flr(struct fixture *fixture)
{
	unsigned at = guest_capability(fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	guest_config_write(fixture, at, 2, guest_config(fixture, at, 2) | PCI_EXP_DEVCTL_BCR_FLR);
}

Test(reset, flr_bit_resets_the_device)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	write_flr(&fixture);
	cr_assert_eq(fixture.fake->resets, 1);
	fixture_close(&fixture);
}

Test(reset, flr_bit_reads_zero)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	write_flr(&fixture);
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
	cr_assert_eq(guest_config(&fixture, at, 2) & PCI_EXP_DEVCTL_BCR_FLR, 0);
	write_flr(&fixture);
	cr_assert_eq(fixture.fake->resets, 2);
	fixture_close(&fixture);
}

Test(reset, flr_switches_the_function_off)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	write_flr(&fixture);
	assert_off(&fixture);
	cr_assert_eq(guest_config(&fixture, PCI_BASE_ADDRESS_0, 4), PCI_BASE_ADDRESS_MEM_TYPE_64);
	cr_assert_lt(fake_journal_find("memory_unmap", 0), fake_journal_find("reset ", 0));
	fixture_close(&fixture);
}

Test(reset, flr_by_the_upper_byte_works)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL + 1;
	guest_config_write(&fixture, at, 1, PCI_EXP_DEVCTL_BCR_FLR >> 8);
	cr_assert_eq(fixture.fake->resets, 1);
	fixture_close(&fixture);
}

Test(reset, flr_bit_of_a_device_without_flr_does_nothing)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake_config_set(fake, fake->pcie + PCI_EXP_DEVCAP, 4, 0);
	struct fixture fixture;
	open_busy(&fixture, fake);
	write_flr(&fixture);
	cr_assert_eq(fake->resets, 0);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	fixture_close(&fixture);
}

Test(reset, flr_that_fails_is_logged)
{
	struct fixture fixture;
	open_busy(&fixture, fake_nvme("0000:3b:00.0"));
	fixture.fake->reset_error = EAGAIN;
	write_flr(&fixture);
	cr_assert(host_logged(&fixture.host, "0000:3b:00.0"));
	assert_off(&fixture);
	fixture_close(&fixture);
}

Test(reset, advanced_features_flr_resets_a_conventional_device)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake_add_af(fake, 0x60);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	guest_place(&fixture);
	fake->resets = 0;
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_AF);
	cr_assert_neq(at, 0);
	guest_config_write(&fixture, at + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR);
	cr_assert_eq(fake->resets, 1);
	cr_assert_eq(guest_config(&fixture, at + PCI_AF_CTRL, 1), 0);
	cr_assert_eq(fixture.host.map_count, 0);
	fixture_close(&fixture);
}

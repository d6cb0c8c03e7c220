// SPDX-License-Identifier: MIT
/* MSI: one message or up to 32 that share an address, with and without mask bits. */
#include <errno.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "vfio_fixture.h"

TestSuite(msi, .init = fake_world_reset);

static void set_message(struct fixture *fixture, uint64_t address, uint16_t data)
{
	unsigned at = guest_capability(fixture, PCI_CAP_ID_MSI);
	cr_assert_neq(at, 0);
	bool wide = guest_config(fixture, at + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_64BIT;
	guest_config_write(fixture, at + PCI_MSI_ADDRESS_LO, 4, (uint32_t)address);
	if (wide)
		guest_config_write(fixture, at + PCI_MSI_ADDRESS_HI, 4, (uint32_t)(address >> 32));
	guest_config_write(fixture, at + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 2, data);
}

static void set_control(struct fixture *fixture, bool enable, unsigned log2_vectors)
{
	unsigned at = guest_capability(fixture, PCI_CAP_ID_MSI);
	uint32_t control =
		guest_config(fixture, at + PCI_MSI_FLAGS, 2) & ~(uint32_t)(PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	guest_config_write(fixture, at + PCI_MSI_FLAGS, 2, control | enable | log2_vectors << 4);
}

static void set_masks(struct fixture *fixture, uint32_t masks)
{
	guest_config_write(fixture, guest_capability(fixture, PCI_CAP_ID_MSI) + PCI_MSI_MASK_64, 4, masks);
}

static uint32_t pending(struct fixture *fixture)
{
	return guest_config(fixture, guest_capability(fixture, PCI_CAP_ID_MSI) + PCI_MSI_PENDING_64, 4);
}

Test(msi, message_is_delivered)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_edu("0000:04:00.0"));
	set_message(&fixture, 0xfee03000, 0x4052);
	set_control(&fixture, true, 0);
	cr_assert(fake_fire(fixture.fake, 0));
	cr_assert_eq(host_messages(&fixture.host, 0x4052), 1);
	cr_assert_eq(fixture.host.delivered[0].address, 0xfee03000);
	fixture_close(&fixture);
}

Test(msi, upper_half_of_the_address_is_used)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_edu("0000:04:00.0"));
	set_message(&fixture, 0x1fee03000, 0x52);
	set_control(&fixture, true, 0);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x52), 1);
	cr_assert_eq(fixture.host.delivered[0].address, 0x1fee03000);
	fixture_close(&fixture);
}

Test(msi, device_with_a_32_bit_address_works)
{
	struct fake_device *fake = fake_device_add("0000:04:00.0", 0x8086, 0x1234, 3);
	fake_bar_memory(fake, 0, 0x1000, false, false);
	fake_add_msi(fake, 0xd0, 1, false, false);
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	set_message(&fixture, 0xfee03000, 0x4052);
	set_control(&fixture, true, 0);
	fake_fire(fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4052), 1);
	fixture_close(&fixture);
}

Test(msi, disable_releases_everything)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_edu("0000:04:00.0"));
	unsigned files = fake_open_files();
	set_message(&fixture, 0xfee03000, 0x4052);
	set_control(&fixture, true, 0);
	set_control(&fixture, false, 0);
	cr_assert_eq(fake_vectors_armed(fixture.fake), 0);
	cr_assert_eq(fixture.fake->irq_kind, -1);
	cr_assert_eq(fixture.host.route_count, 0);
	cr_assert_eq(fake_open_files(), files);
	fixture_close(&fixture);
}

Test(msi, enabling_many_vectors_is_batched)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	set_message(&fixture, 0xfee03000, 0x4040);
	fake_calls_forget();
	unsigned commits = fixture.host.calls[HOST_ROUTE_COMMIT];
	set_control(&fixture, true, 5);
	cr_assert_leq(fake_calls(FAKE_SET_IRQS), 2, "%u", fake_calls(FAKE_SET_IRQS));
	cr_assert_eq(fixture.host.calls[HOST_ROUTE_COMMIT] - commits, 0, "no vector has fired yet");
	cr_assert_eq(fake_vectors_armed(fixture.fake), 32);
	fixture_close(&fixture);
}

Test(msi, vectors_differ_in_the_low_bits_of_the_data)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	set_message(&fixture, 0xfee03000, 0x4040);
	set_control(&fixture, true, 5);
	for (unsigned vector = 0; vector < 32; vector++) {
		cr_assert(fake_fire(fixture.fake, vector), "vector %u", vector);
		cr_assert_eq(host_messages(&fixture.host, 0x4040 + vector), 1, "vector %u", vector);
	}
	fixture_close(&fixture);
}

Test(msi, only_enabled_vectors_are_armed)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	set_message(&fixture, 0xfee03000, 0x4040);
	set_control(&fixture, true, 2);
	cr_assert_eq(fake_vectors_armed(fixture.fake), 4);
	fixture_close(&fixture);
}

Test(msi, single_message_s_data_is_not_altered)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	set_message(&fixture, 0xfee03000, 0x4043);
	set_control(&fixture, true, 0);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4043), 1);
	fixture_close(&fixture);
}

Test(msi, more_vectors_than_the_device_has_are_not_enabled)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_edu("0000:04:00.0"));
	set_message(&fixture, 0xfee03000, 0x4052);
	set_control(&fixture, true, 7);
	cr_assert_eq(fake_vectors_armed(fixture.fake), 1);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4052), 1);
	fixture_close(&fixture);
}

/* Linux rewrites the message of an enabled MSI without mask bits when an interrupt moves to another CPU. */
Test(msi, retarget_while_enabled_takes_effect)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_edu("0000:04:00.0"));
	set_message(&fixture, 0xfee03000, 0x4052);
	set_control(&fixture, true, 0);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4052), 1);
	fake_calls_forget();
	set_message(&fixture, 0xfee07000, 0x4060);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4060), 1);
	cr_assert_eq(fixture.host.delivered[fixture.host.delivered_count - 1].address, 0xfee07000);
	cr_assert_eq(fake_calls(FAKE_SET_IRQS), 0, "the device need not know");
	fixture_close(&fixture);
}

Test(msi, failed_retarget_never_delivers_to_the_old_target)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_edu("0000:04:00.0"));
	set_message(&fixture, 0xfee03000, 0x4052);
	set_control(&fixture, true, 0);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4052), 1);
	unsigned data = guest_capability(&fixture, PCI_CAP_ID_MSI) + PCI_MSI_DATA_64;
	host_fail(&fixture.host, HOST_ROUTE_SET, 1, ENOSPC);
	guest_config_write(&fixture, data, 2, 0x4060);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4052), 1);
	cr_assert_eq(host_messages(&fixture.host, 0x4060), 1, "the next interrupt does not try again");
	fixture_close(&fixture);
}

/* The guest moves the interrupt before the event loop has heard of the first. */
Test(msi, first_interrupt_goes_to_the_target_of_its_time)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_edu("0000:04:00.0"));
	set_message(&fixture, 0xfee03000, 0x4052);
	set_control(&fixture, true, 0);
	fake_fire(fixture.fake, 0);
	set_message(&fixture, 0xfee03000, 0x4060);
	cr_assert_eq(host_messages(&fixture.host, 0x4052), 1);
	cr_assert_eq(host_messages(&fixture.host, 0x4060), 0);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4060), 1);
	fixture_close(&fixture);
}

Test(msi, vector_count_can_change_while_enabled)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	set_message(&fixture, 0xfee03000, 0x4040);
	set_control(&fixture, true, 0);
	set_control(&fixture, true, 3);
	fake_fire(fixture.fake, 7);
	cr_assert_eq(host_messages(&fixture.host, 0x4047), 1);
	set_control(&fixture, true, 1);
	fake_fire(fixture.fake, 1);
	cr_assert_eq(host_messages(&fixture.host, 0x4041), 1);
	fixture_close(&fixture);
}

Test(msi, masked_vector_keeps_its_interrupt_pending)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	set_message(&fixture, 0xfee03000, 0x4040);
	set_control(&fixture, true, 2);
	set_masks(&fixture, 1u << 2);
	fake_fire(fixture.fake, 2);
	fake_fire(fixture.fake, 1);
	cr_assert_eq(host_messages(&fixture.host, 0x4042), 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4041), 1);
	cr_assert_eq(pending(&fixture), 1u << 2);
	set_masks(&fixture, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4042), 1);
	cr_assert_eq(pending(&fixture), 0);
	fixture_close(&fixture);
}

Test(msi, mask_bits_read_back)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_MSI) + PCI_MSI_MASK_64;
	cr_assert_eq(guest_config(&fixture, at, 4), 0);
	set_masks(&fixture, 0xa5);
	cr_assert_eq(guest_config(&fixture, at, 4), 0xa5);
	fixture_close(&fixture);
}

Test(msi, pending_bits_are_read_only)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_MSI) + PCI_MSI_PENDING_64;
	guest_config_write(&fixture, at, 4, UINT32_MAX);
	cr_assert_eq(guest_config(&fixture, at, 4), 0);
	fixture_close(&fixture);
}

Test(msi, capable_count_is_the_device_s)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_MSI);
	cr_assert_eq((guest_config(&fixture, at + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1, 5);
	set_control(&fixture, true, 2);
	cr_assert_eq((guest_config(&fixture, at + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1, 5);
	fixture_close(&fixture);
}

Test(msi, switch_to_msix_and_back_works)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	set_message(&fixture, 0xfee03000, 0x4040);
	set_control(&fixture, true, 0);
	set_control(&fixture, false, 0);
	guest_msix_vector(&fixture, 0, 0x51, false);
	guest_msix_control(&fixture, true, false);
	cr_assert_eq(fixture.fake->irq_kind, VFIO_PCI_MSIX_IRQ_INDEX);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x51), 1);
	guest_msix_control(&fixture, false, false);
	set_control(&fixture, true, 0);
	cr_assert_eq(fixture.fake->irq_kind, VFIO_PCI_MSI_IRQ_INDEX);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x4040), 1);
	fixture_close(&fixture);
}

/* The specification forbids it; hardware does not fall over, nor may the VMM. */
Test(msi, guest_that_enables_both_kinds_is_survived)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	set_control(&fixture, true, 5);
	guest_msix_vector(&fixture, 0, 0x51, false);
	guest_msix_control(&fixture, true, false);
	set_control(&fixture, false, 0);
	guest_msix_control(&fixture, false, false);
	fixture_close(&fixture);
}

Test(msi, host_with_few_vectors_gives_those_and_says_so_once)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->host_vectors = 4;
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	set_message(&fixture, 0xfee03000, 0x4040);
	for (unsigned i = 0; i < 3; i++) {
		set_control(&fixture, false, 0);
		set_control(&fixture, true, 5);
		set_masks(&fixture, 1);
		set_masks(&fixture, 0);
	}
	cr_assert_eq(fake_vectors_armed(fake), 4);
	cr_assert(host_logged(&fixture.host, "only 4 of 32"));
	cr_assert_eq(fixture.host.log_count, 1, "said %u times", fixture.host.log_count);
	fake_fire(fake, 3);
	cr_assert_eq(host_messages(&fixture.host, 0x4043), 1);
	cr_assert(!fake_fire(fake, 4));
	fixture_close(&fixture);
}

Test(msi, host_without_a_vector_is_logged)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	set_message(&fixture, 0xfee03000, 0x4040);
	fake_fail_always(FAKE_SET_IRQS, ENOSPC);
	set_control(&fixture, true, 5);
	cr_assert(host_logged(&fixture.host, "0000:3b:00.0"));
	fake_fail_always(FAKE_SET_IRQS, 0);
	fixture_close(&fixture);
}

// SPDX-License-Identifier: MIT
/* INTx: a level that the kernel masks when it fires and the guest's end of interrupt unmasks, without user space. */
#include <errno.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "vfio_fixture.h"

TestSuite(intx, .init = fake_world_reset);
TestSuite(intx_trapped, .init = fake_world_reset);

static void open_placed(struct fixture *fixture, struct fake_device *fake)
{
	fixture_open(fixture, fake);
	guest_place(fixture);
}

static bool level(struct fixture *fixture, unsigned pin)
{
	host_loop(&fixture->host);
	return fixture->host.intx[pin].level;
}

static void set_msi(struct fixture *fixture, bool enable)
{
	unsigned at = guest_capability(fixture, PCI_CAP_ID_MSI);
	guest_config_write(fixture, at + PCI_MSI_ADDRESS_LO, 4, MESSAGE_ADDRESS);
	guest_config_write(fixture, at + PCI_MSI_DATA_64, 2, 0x40);
	guest_config_write(fixture, at + PCI_MSI_FLAGS, 2, enable);
}

Test(intx, line_is_raised)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	cr_assert(!level(&fixture, 1));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fixture_close(&fixture);
}

Test(intx, pin_is_the_device_s)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_serial_card("0000:05:00.0"));
	guest_command(&fixture, PCI_COMMAND_IO, 0);
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 2));
	cr_assert_lt(fixture.host.intx[1].trigger, 0);
	fixture_close(&fixture);
}

Test(intx, end_of_interrupt_lowers_a_line_that_the_device_released)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fake_intx(fixture.fake, false);
	host_end_of_interrupt(&fixture.host, 1);
	cr_assert(!level(&fixture, 1));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1), "the next interrupt is lost");
	fixture_close(&fixture);
}

Test(intx, line_that_is_still_asserted_rises_again)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert(level(&fixture, 1), "round %u", i);
		host_end_of_interrupt(&fixture.host, 1);
	}
	cr_assert_eq(fixture.host.intx[1].edges, 6);
	fixture_close(&fixture);
}

Test(intx, handling_interrupts_takes_no_kernel_call)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	fake_calls_forget();
	for (unsigned i = 0; i < 5; i++) {
		fake_intx(fixture.fake, true);
		cr_assert(level(&fixture, 1));
		fake_intx(fixture.fake, false);
		host_end_of_interrupt(&fixture.host, 1);
	}
	cr_assert_eq(fake_calls(FAKE_SET_IRQS), 0);
	fixture_close(&fixture);
}

Test(intx, disable_bit_holds_the_line)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	guest_command(&fixture, PCI_COMMAND_INTX_DISABLE, 0);
	fake_intx(fixture.fake, true);
	cr_assert(!level(&fixture, 1));
	guest_command(&fixture, 0, PCI_COMMAND_INTX_DISABLE);
	cr_assert(level(&fixture, 1), "the line is still asserted");
	fixture_close(&fixture);
}

/* KVM lowers a line at the end of interrupt only; what matters is that it does not rise again. */
Test(intx, disable_bit_holds_a_raised_line_from_its_end_of_interrupt_on)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	guest_command(&fixture, PCI_COMMAND_INTX_DISABLE, 0);
	host_end_of_interrupt(&fixture.host, 1);
	cr_assert(!level(&fixture, 1));
	guest_command(&fixture, 0, PCI_COMMAND_INTX_DISABLE);
	cr_assert(level(&fixture, 1), "the device still asserts");
	fixture_close(&fixture);
}

/* Handlers of generic drivers write it at every interrupt. */
Test(intx, disable_bit_does_not_rebuild_the_interrupt)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	fake_calls_forget();
	for (unsigned i = 0; i < 10; i++) {
		guest_command(&fixture, PCI_COMMAND_INTX_DISABLE, 0);
		guest_command(&fixture, 0, PCI_COMMAND_INTX_DISABLE);
	}
	cr_assert_eq(fake_calls(FAKE_SET_IRQS), 0);
	cr_assert_eq(fake_calls(FAKE_EVENTFD), 0);
	cr_assert_eq(fixture.host.calls[HOST_INTX_ATTACH], 1);
	fixture_close(&fixture);
}

Test(intx, driver_that_disables_it_first_never_has_it_set_up)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_edu("0000:04:00.0"));
	guest_command(&fixture, PCI_COMMAND_INTX_DISABLE, 0);
	guest_place(&fixture);
	cr_assert_eq(fake_calls(FAKE_SET_IRQS), 0);
	fixture_close(&fixture);
}

Test(intx, gives_way_to_msi_and_comes_back)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	set_msi(&fixture, true);
	cr_assert_eq(fixture.fake->irq_kind, VFIO_PCI_MSI_IRQ_INDEX);
	fake_intx(fixture.fake, true);
	cr_assert(!level(&fixture, 1));
	set_msi(&fixture, false);
	cr_assert(level(&fixture, 1));
	fixture_close(&fixture);
}

Test(intx, gives_way_to_msix)
{
	struct fixture fixture;
	open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	cr_assert_eq(fixture.fake->irq_kind, VFIO_PCI_MSIX_IRQ_INDEX);
	cr_assert_lt(fixture.host.intx[1].trigger, 0);
	fixture_close(&fixture);
}

Test(intx, vmm_without_lines_hides_the_pin)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.fake = fake;
	fixture.host.ops.intx_attach = NULL;
	fixture.host.ops.intx_detach = NULL;
	fixture.host.ops.intx_level = NULL;
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	fixture.host.device = fixture.device;
	cr_assert_eq(guest_config(&fixture, PCI_INTERRUPT_PIN, 1), 0);
	cr_assert_eq(tenon_device_info(fixture.device)->intx_pin, 0);
	guest_place(&fixture);
	cr_assert_neq(fake->irq_kind, VFIO_PCI_INTX_IRQ_INDEX);
	set_msi(&fixture, true);
	fake_fire(fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

Test(intx, device_without_a_pin_has_none)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake_config_set(fake, PCI_INTERRUPT_PIN, 1, 0);
	struct fixture fixture;
	open_placed(&fixture, fake);
	cr_assert_eq(fixture.host.calls[HOST_INTX_ATTACH], 0);
	cr_assert_eq(tenon_device_info(fixture.device)->intx_pin, 0);
	fixture_close(&fixture);
}

Test(intx, impossible_pin_is_not_believed)
{
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fake_config_set(fake, PCI_INTERRUPT_PIN, 1, 0x9c);
	struct fixture fixture;
	open_placed(&fixture, fake);
	cr_assert_leq(guest_config(&fixture, PCI_INTERRUPT_PIN, 1), 4);
	fixture_close(&fixture);
}

Test(intx, slot_without_a_wire_leaves_the_device_usable)
{
	struct fixture fixture;
	struct fake_device *fake = fake_edu("0000:04:00.0");
	fixture_init(&fixture);
	fixture.fake = fake;
	host_fail(&fixture.host, HOST_INTX_ATTACH, 1, ENXIO);
	const struct tenon_device_options options = fixture_options(&fixture, fake);
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, 0, "%s", fixture.err.message);
	fixture.host.device = fixture.device;
	guest_place(&fixture);
	cr_assert_gt(fixture.host.log_count, 0);
	set_msi(&fixture, true);
	fake_fire(fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

Test(intx, slot_without_a_wire_is_not_asked_again_and_again)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_edu("0000:04:00.0"));
	host_fail_always(&fixture.host, HOST_INTX_ATTACH, ENXIO);
	for (unsigned i = 0; i < 100; i++) {
		guest_command(&fixture, PCI_COMMAND_MEMORY, 0);
		guest_command(&fixture, 0, PCI_COMMAND_MEMORY);
	}
	cr_assert_eq(fixture.host.calls[HOST_INTX_ATTACH], 1);
	cr_assert_eq(fixture.host.log_count, 1);
	fixture_close(&fixture);
}

Test(intx, works_again_after_a_reset)
{
	struct fixture fixture;
	open_placed(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert(!level(&fixture, 1));
	guest_place(&fixture);
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fixture_close(&fixture);
}

/* ---- Trapped: where the kernel or the VMM cannot deliver it by themselves ---- */

static void open_trapped(struct fixture *fixture, struct fake_device *fake)
{
	fixture_init(fixture);
	fixture->fake = fake;
	struct tenon_device_options options = fixture_options(fixture, fake);
	options.intx = TENON_INTX_TRAPPED;
	int code = tenon_device_open(&options, &fixture->device, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	fixture->host.device = fixture->device;
	guest_place(fixture);
	fake_calls_forget();
	fake_journal_forget();
}

Test(intx_trapped, line_rises_and_falls_with_the_guest_s_access)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	cr_assert_eq(fixture.host.calls[HOST_INTX_ATTACH], 0);
	cr_assert(!level(&fixture, 1));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fake_intx(fixture.fake, false);
	cr_assert(level(&fixture, 1), "the guest has not touched the device yet");
	guest_bar(&fixture, 0, 0x24, 4);
	cr_assert(!level(&fixture, 1));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1), "the next interrupt is lost");
	fixture_close(&fixture);
}

Test(intx_trapped, line_that_is_still_asserted_rises_again)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert(level(&fixture, 1), "round %u", i);
		if (i & 1)
			guest_bar_write(&fixture, 0, 0x64, 4, 1);
		else
			guest_bar(&fixture, 0, 0x24, 4);
	}
	cr_assert(level(&fixture, 1));
	cr_assert_eq(fixture.host.intx[1].edges, 6);
	fixture_close(&fixture);
}

/* An access that silences the device must come before the host's line is unmasked. */
static void silence(void *context, struct fake_device *fake)
{
	(void)context;
	fake_intx(fake, false);
}

Test(intx_trapped, access_that_silences_the_device_ends_the_interrupt)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fake_on_bar_write(fixture.fake, silence, NULL);
	guest_bar_write(&fixture, 0, 0x64, 4, 1);
	cr_assert(!level(&fixture, 1));
	cr_assert_eq(fixture.host.intx[1].edges, 1, "a spurious interrupt");
	fixture_close(&fixture);
}

Test(intx_trapped, every_access_traps_until_messages_take_over)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	cr_assert_eq(fixture.host.map_count, 0);
	set_msi(&fixture, true);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	set_msi(&fixture, false);
	cr_assert_eq(fixture.host.map_count, 0);
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	set_msi(&fixture, true);
	cr_assert(!level(&fixture, 1));
	fixture_close(&fixture);
}

Test(intx_trapped, port_access_ends_it_too)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.fake = fake_serial_card("0000:05:00.0");
	fixture.host.ops.intx_attach = NULL;
	fixture.host.ops.intx_detach = NULL;
	const struct tenon_device_options options = fixture_options(&fixture, fixture.fake);
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	fixture.host.device = fixture.device;
	guest_config_write(&fixture, PCI_BASE_ADDRESS_0, 4, 0xd000);
	guest_command(&fixture, PCI_COMMAND_IO, 0);
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 2));
	fake_intx(fixture.fake, false);
	guest_bar(&fixture, 0, 2, 1);
	cr_assert(!level(&fixture, 2));
	fixture_close(&fixture);
}

Test(intx_trapped, disable_bit_lowers_the_line_and_gives_it_back)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	guest_command(&fixture, PCI_COMMAND_INTX_DISABLE, 0);
	cr_assert(!level(&fixture, 1));
	guest_command(&fixture, 0, PCI_COMMAND_INTX_DISABLE);
	cr_assert(level(&fixture, 1));
	fixture_close(&fixture);
}

Test(intx_trapped, reset_lowers_the_line)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert(!level(&fixture, 1));
	guest_place(&fixture);
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fixture_close(&fixture);
}

Test(intx_trapped, vmm_that_lacks_resampling_gets_it)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_edu("0000:04:00.0"));
	host_fail(&fixture.host, HOST_INTX_ATTACH, 1, ENOTSUP);
	guest_place(&fixture);
	cr_assert(host_logged(&fixture.host, "trapped"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	cr_assert_eq(fixture.host.map_count, 0);
	set_msi(&fixture, true);
	set_msi(&fixture, false);
	cr_assert_eq(fixture.host.calls[HOST_INTX_ATTACH], 1, "asked again");
	cr_assert_eq(fixture.host.log_count, 1);
	fixture_close(&fixture);
}

Test(intx_trapped, kernel_without_unmask_by_eventfd_gets_it)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_edu("0000:04:00.0"));
	fake_fail_kind(FAKE_SET_IRQS, 2, ENOTTY); /* the first arms, the second sets the unmask eventfd */
	guest_place(&fixture);
	cr_assert(host_logged(&fixture.host, "trapped"));
	fake_intx(fixture.fake, true);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(level(&fixture, 1));
		guest_bar(&fixture, 0, 0x24, 4);
	}
	fixture_close(&fixture);
}

Test(intx_trapped, vmm_without_a_line_to_set_is_refused)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.host.ops.intx_level = NULL;
	struct tenon_device_options options = fixture_options(&fixture, fake_edu("0000:04:00.0"));
	options.intx = TENON_INTX_TRAPPED;
	int code = tenon_device_open(&options, &fixture.device, &fixture.err);
	cr_assert_eq(code, -EINVAL);
	assert_message(&fixture.err, code);
	fixture_close(&fixture);
}

Test(intx_trapped, failed_unmask_is_logged)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fake_fail_kind(FAKE_SET_IRQS, 1, EIO);
	guest_bar(&fixture, 0, 0x24, 4);
	cr_assert(host_logged(&fixture.host, "unmask"));
	fixture_close(&fixture);
}

Test(intx_trapped, failure_to_watch_is_logged)
{
	struct fixture fixture;
	fixture_init(&fixture);
	fixture.fake = fake_edu("0000:04:00.0");
	struct tenon_device_options options = fixture_options(&fixture, fixture.fake);
	options.intx = TENON_INTX_TRAPPED;
	cr_assert_eq(tenon_device_open(&options, &fixture.device, NULL), 0);
	fake_fail_kind(FAKE_POLL_ADD, 1, ENOSPC);
	guest_place(&fixture);
	cr_assert_eq(fixture.host.log_count, 1);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA), "without INTx nothing need trap");
	fixture_close(&fixture);
}

/* A pin that leads nowhere: interrupts would vanish, and BARs trap, without a word. */
Test(intx_trapped, line_that_cannot_be_raised_is_told_and_ends_the_trapping)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	cr_assert_eq(fixture.host.map_count, 0);
	host_fail_always(&fixture.host, HOST_INTX_LEVEL, ENXIO);
	fake_intx(fixture.fake, true);
	cr_assert(!level(&fixture, 1));
	cr_assert(host_logged(&fixture.host, "intx_level"));
	cr_assert_eq(fixture.fake->irq_kind, -1);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA), "without INTx nothing need trap");
	guest_command(&fixture, PCI_COMMAND_INTX_DISABLE, 0);
	guest_command(&fixture, 0, PCI_COMMAND_INTX_DISABLE);
	cr_assert_eq(fixture.host.log_count, 1, "tried again at every write");

	host_fail_always(&fixture.host, HOST_INTX_LEVEL, 0);
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	guest_place(&fixture);
	fake_intx(fixture.fake, false);
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1), "not tried again after a reset");
	fixture_close(&fixture);
}

/* The guest ungates the line by the command register, which is the moment at which it is to rise. */
Test(intx_trapped, gated_line_that_cannot_be_raised_ends_the_trapping_too)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	guest_command(&fixture, PCI_COMMAND_INTX_DISABLE, 0);
	host_fail_always(&fixture.host, HOST_INTX_LEVEL, ENXIO);
	guest_command(&fixture, 0, PCI_COMMAND_INTX_DISABLE);
	cr_assert_eq(fixture.fake->irq_kind, -1);
	cr_assert_not_null(host_mapped(&fixture.host, BAR_GPA));
	fixture_close(&fixture);
}

Test(intx_trapped, line_that_could_not_be_lowered_is_lowered_by_the_next_access)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fake_intx(fixture.fake, false);
	host_fail(&fixture.host, HOST_INTX_LEVEL, 1, EIO);
	guest_bar(&fixture, 0, 0x24, 4);
	cr_assert(level(&fixture, 1));
	cr_assert(host_logged(&fixture.host, "intx_level"));
	guest_bar(&fixture, 0, 0x24, 4);
	cr_assert(!level(&fixture, 1));
	fixture_close(&fixture);
}

/* What the VMM was last told survives INTx being off. */
Test(intx_trapped, line_that_could_not_be_lowered_when_intx_went_off_is_lowered_later)
{
	struct fixture fixture;
	open_trapped(&fixture, fake_edu("0000:04:00.0"));
	fake_intx(fixture.fake, true);
	cr_assert(level(&fixture, 1));
	fake_intx(fixture.fake, false);
	host_fail(&fixture.host, HOST_INTX_LEVEL, 1, EIO);
	set_msi(&fixture, true);
	cr_assert(level(&fixture, 1));
	set_msi(&fixture, false);
	guest_bar(&fixture, 0, 0x24, 4);
	cr_assert(!level(&fixture, 1));
	fixture_close(&fixture);
}

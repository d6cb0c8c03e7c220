// SPDX-License-Identifier: MIT
/* MSI-X: when vectors cost the host something, and that no interrupt is lost or misdelivered on the way. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "vfio_fixture.h"

TestSuite(msix, .init = fake_world_reset);

/* ---- Table and control ---- */

Test(msix, vectors_are_masked_at_power_on)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++) {
		uint64_t entry = FAKE_NVME_TABLE + vector * PCI_MSIX_ENTRY_SIZE;
		cr_assert_eq(guest_bar(&fixture, 0, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 4), 1);
	}
	fixture_close(&fixture);
}

Test(msix, table_reads_back)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_vector(&fixture, 64, 0x4321, true);
	uint64_t entry = FAKE_NVME_TABLE + 64 * PCI_MSIX_ENTRY_SIZE;
	cr_assert_eq(guest_bar(&fixture, 0, entry, 4), MESSAGE_ADDRESS);
	cr_assert_eq(guest_bar(&fixture, 0, entry, 8), MESSAGE_ADDRESS);
	cr_assert_eq(guest_bar(&fixture, 0, entry + PCI_MSIX_ENTRY_DATA, 4), 0x4321);
	cr_assert_eq(guest_bar(&fixture, 0, entry + PCI_MSIX_ENTRY_DATA, 8), 0x100004321);
	fixture_close(&fixture);
}

/* The specification leaves them undefined; they must not reach beyond the table. */
Test(msix, table_writes_of_other_sizes_are_dropped)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	uint64_t last = FAKE_NVME_TABLE + 64 * PCI_MSIX_ENTRY_SIZE;
	guest_msix_vector(&fixture, 64, 0x4321, true);
	guest_bar_write(&fixture, 0, last + PCI_MSIX_ENTRY_DATA, 1, 0xff);
	guest_bar_write(&fixture, 0, last + PCI_MSIX_ENTRY_DATA, 2, 0xffff);
	guest_bar_write(&fixture, 0, last + PCI_MSIX_ENTRY_DATA + 2, 4, 0xffffffff);
	guest_bar_write(&fixture, 0, last + PCI_MSIX_ENTRY_VECTOR_CTRL, 8, 0);
	guest_bar_write(&fixture, 0, last + PCI_MSIX_ENTRY_SIZE - 1, 1, 0xff);
	cr_assert_eq(guest_bar(&fixture, 0, last + PCI_MSIX_ENTRY_DATA, 8), 0x100004321);
	fixture_close(&fixture);
}

Test(msix, table_can_be_written_by_quadwords)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_bar_write(&fixture, 0, FAKE_NVME_TABLE, 8, 0x1fee01000);
	guest_bar_write(&fixture, 0, FAKE_NVME_TABLE + PCI_MSIX_ENTRY_DATA, 8, 0x55);
	cr_assert(fake_fire(fixture.fake, 0));
	cr_assert_eq(host_messages(&fixture.host, 0x55), 1);
	cr_assert_eq(fixture.host.delivered[0].address, 0x1fee01000);
	fixture_close(&fixture);
}

Test(msix, control_reads_back)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_MSIX);
	guest_msix_control(&fixture, true, true);
	cr_assert_eq(guest_config(&fixture, at + PCI_MSIX_FLAGS, 2), 0xc040);
	guest_msix_control(&fixture, false, false);
	cr_assert_eq(guest_config(&fixture, at + PCI_MSIX_FLAGS, 2), 0x0040);
	fixture_close(&fixture);
}

Test(msix, control_can_be_written_by_its_upper_byte)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned at = guest_capability(&fixture, PCI_CAP_ID_MSIX);
	guest_msix_vector(&fixture, 0, 0x41, false);
	guest_config_write(&fixture, at + PCI_MSIX_FLAGS + 1, 1, 0x80);
	cr_assert(fake_fire(fixture.fake, 0));
	cr_assert_eq(host_messages(&fixture.host, 0x41), 1);
	fixture_close(&fixture);
}

/* ---- Cost ---- */

Test(msix, enabling_with_all_vectors_masked_costs_one_set_irqs)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	fake_calls_forget();
	guest_msix_control(&fixture, true, false);
	cr_assert_leq(fake_calls(FAKE_SET_IRQS), 1, "%u", fake_calls(FAKE_SET_IRQS));
	cr_assert_eq(fake_calls(FAKE_EVENTFD), 0);
	cr_assert_eq(fixture.host.route_count, 0);
	fixture_close(&fixture);
}

Test(msix, enabling_with_all_vectors_unmasked_is_batched)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	fake_calls_forget();
	unsigned commits = fixture.host.calls[HOST_ROUTE_COMMIT];
	guest_msix_control(&fixture, true, false);
	cr_assert_leq(fake_calls(FAKE_SET_IRQS), 2, "%u", fake_calls(FAKE_SET_IRQS));
	cr_assert_leq(fixture.host.calls[HOST_ROUTE_COMMIT] - commits, 1);
	cr_assert_eq(fake_vectors_armed(fixture.fake), FAKE_NVME_MSIX_VECTORS);
	fixture_close(&fixture);
}

Test(msix, unmasking_a_new_vector_costs_one_set_irqs)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	for (unsigned vector = 0; vector < 8; vector++) {
		fake_calls_forget();
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
		cr_assert_leq(fake_calls(FAKE_SET_IRQS), 1);
	}
	cr_assert_eq(fake_vectors_armed(fixture.fake), 8);
	fixture_close(&fixture);
}

Test(msix, masking_and_unmasking_again_costs_no_set_irqs)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 3, 0x43, false);
	fake_calls_forget();
	for (unsigned i = 0; i < 10; i++) {
		guest_msix_mask(&fixture, 3, true);
		guest_msix_mask(&fixture, 3, false);
	}
	cr_assert_eq(fake_calls(FAKE_SET_IRQS), 0);
	fixture_close(&fixture);
}

/* Routes and irqfds come with use: most vectors of a large device never fire. */
Test(msix, vector_costs_the_vmm_nothing_before_its_first_interrupt)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned vector = 0; vector < 8; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	guest_msix_control(&fixture, true, false);
	cr_assert_eq(fake_vectors_armed(fixture.fake), 8);
	cr_assert_eq(fixture.host.route_count, 0);
	cr_assert_eq(fixture.host.irqfd_count, 0);
	fake_fire(fixture.fake, 3);
	cr_assert_eq(host_messages(&fixture.host, 0x43), 1);
	cr_assert_eq(fixture.host.route_count, 1);
	cr_assert_eq(fixture.host.irqfd_count, 1);
	fixture_close(&fixture);
}

Test(msix, vectors_that_fire_together_are_delivered_by_one_commit)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	guest_msix_control(&fixture, true, false);
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		fake_fire(fixture.fake, vector);
	unsigned commits = fixture.host.calls[HOST_ROUTE_COMMIT];
	host_loop(&fixture.host);
	cr_assert_eq(fixture.host.calls[HOST_ROUTE_COMMIT] - commits, 1);
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		cr_assert_eq(host_messages(&fixture.host, 0x40 + vector), 1);
	fixture_close(&fixture);
}

Test(msix, vector_in_use_does_not_wake_the_event_loop)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_vector(&fixture, 0, 0x40, false);
	guest_msix_control(&fixture, true, false);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture.host.device = NULL; /* the loop sleeps */
	for (unsigned i = 0; i < 10; i++) {
		fake_fire(fixture.fake, 0);
		cr_assert_eq(host_messages(&fixture.host, 0x40), i + 2);
		guest_msix_mask(&fixture, 0, true);
		guest_msix_mask(&fixture, 0, false);
	}
	fixture_close(&fixture);
}

Test(msix, masked_vector_wakes_the_event_loop_once)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_vector(&fixture, 0, 0x40, false);
	guest_msix_control(&fixture, true, false);
	guest_msix_mask(&fixture, 0, true);
	struct pollfd poll_fd = {.fd = tenon_device_event_fd(fixture.device), .events = POLLIN};
	for (unsigned i = 0; i < 10; i++) {
		fake_fire(fixture.fake, 0);
		cr_assert_eq(poll(&poll_fd, 1, 0), i == 0, "interrupt %u", i);
		tenon_device_next_event(fixture.device);
	}
	guest_msix_mask(&fixture, 0, false);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

static unsigned calls_to_enable(unsigned vectors, bool static_msix)
{
	fake_world_reset();
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->static_msix = static_msix;
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	fake_calls_forget();
	unsigned routes = fixture.host.calls[HOST_ROUTE_SET], commits = fixture.host.calls[HOST_ROUTE_COMMIT];
	guest_msix_control(&fixture, true, true);
	for (unsigned vector = 0; vector < vectors; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, true);
	guest_msix_control(&fixture, true, false);
	for (unsigned vector = 0; vector < vectors; vector++)
		guest_msix_mask(&fixture, vector, false);
	unsigned calls = fake_calls(FAKE_SET_IRQS) + fixture.host.calls[HOST_ROUTE_SET] - routes +
			 fixture.host.calls[HOST_ROUTE_COMMIT] - commits + fixture.host.calls[HOST_IRQFD_ATTACH];
	cr_assert_eq(fake_vectors_armed(fake), vectors);
	fixture_close(&fixture);
	return calls;
}

Test(msix, enabling_costs_the_same_for_8_and_for_64_vectors)
{
	for (unsigned is_static = 0; is_static < 2; is_static++) {
		unsigned few = calls_to_enable(8, is_static), many = calls_to_enable(64, is_static);
		cr_assert_eq(few, many, "%u and %u", few, many);
		cr_assert_leq(many, 3);
	}
}

/* Without a function mask: all that is filled in by the time the first is unmasked. */
Test(msix, first_unmasked_vector_arms_those_filled_in)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	for (unsigned vector = 0; vector < 32; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, true);
	cr_assert_eq(fake_vectors_armed(fixture.fake), 0);
	fake_calls_forget();
	for (unsigned vector = 0; vector < 32; vector++)
		guest_msix_mask(&fixture, vector, false);
	cr_assert_eq(fake_vectors_armed(fixture.fake), 32);
	cr_assert_eq(fake_calls(FAKE_SET_IRQS), 1);
	fixture_close(&fixture);
}

/* ---- Delivery ---- */

Test(msix, unmasking_arms_a_vector)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 64, 0x99, false);
	cr_assert(fake_fire(fixture.fake, 64));
	cr_assert_eq(host_messages(&fixture.host, 0x99), 1);
	cr_assert_eq(fixture.host.delivered[0].address, MESSAGE_ADDRESS);
	fixture_close(&fixture);
}

Test(msix, each_vector_has_its_own_message)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		guest_msix_vector(&fixture, vector, 0x1000 + vector, false);
	guest_msix_control(&fixture, true, false);
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++) {
		cr_assert(fake_fire(fixture.fake, vector));
		cr_assert_eq(host_messages(&fixture.host, 0x1000 + vector), 1);
	}
	fixture_close(&fixture);
}

Test(msix, masked_vector_keeps_its_interrupt_pending)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 5, 0x45, false);
	guest_msix_mask(&fixture, 5, true);
	fake_fire(fixture.fake, 5);
	cr_assert_eq(host_messages(&fixture.host, 0x45), 0);
	cr_assert(guest_msix_pending(&fixture, 5));
	cr_assert(!guest_msix_pending(&fixture, 4));
	guest_msix_mask(&fixture, 5, false);
	cr_assert_eq(host_messages(&fixture.host, 0x45), 1);
	cr_assert(!guest_msix_pending(&fixture, 5));
	fixture_close(&fixture);
}

Test(msix, interrupt_of_a_vector_that_was_never_unmasked_is_not_lost)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 0, 0x40, true);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 0);
	guest_msix_mask(&fixture, 0, false);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

Test(msix, several_interrupts_of_a_masked_vector_become_one)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 5, 0x45, false);
	guest_msix_mask(&fixture, 5, true);
	fake_fire(fixture.fake, 5);
	fake_fire(fixture.fake, 5);
	guest_msix_mask(&fixture, 5, false);
	cr_assert_eq(host_messages(&fixture.host, 0x45), 1);
	fixture_close(&fixture);
}

/* Its count lies in the eventfd until KVM takes it; that is delivery, not waiting. */
Test(msix, unmasked_vector_is_never_pending)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 5, 0x45, false);
	fake_fire(fixture.fake, 5);
	cr_assert(!guest_msix_pending(&fixture, 5));
	fixture_close(&fixture);
}

Test(msix, function_mask_holds_all_vectors)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned vector = 0; vector < 4; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	guest_msix_control(&fixture, true, false);
	guest_msix_control(&fixture, true, true);
	fake_fire(fixture.fake, 1);
	fake_fire(fixture.fake, 3);
	cr_assert_eq(host_messages(&fixture.host, 0x41) + host_messages(&fixture.host, 0x43), 0);
	cr_assert(guest_msix_pending(&fixture, 1));
	cr_assert(!guest_msix_pending(&fixture, 2));
	cr_assert(guest_msix_pending(&fixture, 3));
	guest_msix_control(&fixture, true, false);
	cr_assert_eq(host_messages(&fixture.host, 0x41), 1);
	cr_assert_eq(host_messages(&fixture.host, 0x43), 1);
	cr_assert_eq(host_messages(&fixture.host, 0x42), 0);
	fixture_close(&fixture);
}

/* As Linux does: enable with the function masked, fill the table in, then clear the function mask. */
Test(msix, linux_s_way_of_enabling_is_batched)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	fake_calls_forget();
	guest_msix_control(&fixture, true, true);
	for (unsigned vector = 0; vector < 8; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	guest_msix_control(&fixture, true, false);
	cr_assert_leq(fake_calls(FAKE_SET_IRQS), 2, "%u", fake_calls(FAKE_SET_IRQS));
	for (unsigned vector = 0; vector < 8; vector++) {
		fake_fire(fixture.fake, vector);
		cr_assert_eq(host_messages(&fixture.host, 0x40 + vector), 1);
	}
	fixture_close(&fixture);
}

Test(msix, retarget_while_masked_takes_effect_at_unmask)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 2, 0x42, false);
	guest_msix_mask(&fixture, 2, true);
	guest_msix_vector(&fixture, 2, 0x77, true);
	guest_msix_mask(&fixture, 2, false);
	fake_fire(fixture.fake, 2);
	cr_assert_eq(host_messages(&fixture.host, 0x42), 0);
	cr_assert_eq(host_messages(&fixture.host, 0x77), 1);
	fixture_close(&fixture);
}

Test(msix, interrupt_that_waits_while_masked_goes_to_the_new_target)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 2, 0x42, false);
	guest_msix_mask(&fixture, 2, true);
	fake_fire(fixture.fake, 2);
	guest_msix_vector(&fixture, 2, 0x77, true);
	guest_msix_mask(&fixture, 2, false);
	cr_assert_eq(host_messages(&fixture.host, 0x42), 0);
	cr_assert_eq(host_messages(&fixture.host, 0x77), 1);
	fixture_close(&fixture);
}

/* The event loop has not run yet; on hardware the message would be on the bus by then. */
Test(msix, first_interrupt_goes_to_the_target_of_its_time)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 2, 0x42, false);
	guest_msix_vector(&fixture, 3, 0x43, false);
	guest_msix_vector(&fixture, 4, 0x44, false);
	fake_fire(fixture.fake, 2);
	guest_msix_mask(&fixture, 2, true);
	guest_msix_vector(&fixture, 2, 0x77, false);
	fake_fire(fixture.fake, 3);
	guest_bar_write(&fixture, 0, FAKE_NVME_TABLE + 3 * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_DATA, 4, 0x78);
	fake_fire(fixture.fake, 4);
	guest_msix_control(&fixture, true, true);
	guest_msix_vector(&fixture, 4, 0x79, false);
	guest_msix_control(&fixture, true, false);
	cr_assert_eq(host_messages(&fixture.host, 0x42), 1);
	cr_assert_eq(host_messages(&fixture.host, 0x43), 1);
	cr_assert_eq(host_messages(&fixture.host, 0x44), 1);
	for (uint32_t data = 0x77; data < 0x7a; data++)
		cr_assert_eq(host_messages(&fixture.host, data), 0);
	fixture_close(&fixture);
}

Test(msix, first_interrupt_is_delivered_though_the_guest_turns_msix_off_at_once)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 2, 0x42, false);
	fake_fire(fixture.fake, 2);
	guest_msix_control(&fixture, false, false);
	cr_assert_eq(host_messages(&fixture.host, 0x42), 1);
	fixture_close(&fixture);
}

Test(msix, interrupt_that_was_signalled_before_the_mask_is_delivered_once)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 2, 0x42, false);
	fake_fire(fixture.fake, 2);
	guest_msix_mask(&fixture, 2, true);
	guest_msix_mask(&fixture, 2, false);
	cr_assert_eq(host_messages(&fixture.host, 0x42), 1);
	fixture_close(&fixture);
}

Test(msix, table_written_before_enable_is_used)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_vector(&fixture, 0, 0x41, false);
	guest_msix_vector(&fixture, 0, 0x42, false);
	guest_msix_control(&fixture, true, false);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x42), 1);
	fixture_close(&fixture);
}

/* The host's kernel enables messages in D0 only. */
Test(msix, enabled_in_d3_it_works_after_waking)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned power = guest_capability(&fixture, PCI_CAP_ID_PM) + PCI_PM_CTRL;
	guest_msix_vector(&fixture, 0, 0x40, false);
	guest_config_write(&fixture, power, 2, 3);
	guest_msix_control(&fixture, true, false);
	guest_config_write(&fixture, power, 2, 0);
	cr_assert(fake_fire(fixture.fake, 0));
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

/* ---- Switching off ---- */

Test(msix, disable_releases_all_eventfds_and_routes)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	unsigned files = fake_open_files();
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	guest_msix_control(&fixture, true, false);
	cr_assert_gt(fake_open_files(), files);
	guest_msix_control(&fixture, false, false);
	cr_assert_eq(fake_vectors_armed(fixture.fake), 0);
	cr_assert_eq(fixture.fake->irq_kind, -1);
	cr_assert_eq(fixture.host.route_count, 0);
	cr_assert_eq(fixture.host.irqfd_count, 0);
	cr_assert_eq(fake_open_files(), files);
	fixture_close(&fixture);
}

Test(msix, table_survives_a_disable)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_vector(&fixture, 1, 0x41, false);
	guest_msix_control(&fixture, true, false);
	guest_msix_control(&fixture, false, false);
	guest_msix_control(&fixture, true, false);
	fake_fire(fixture.fake, 1);
	cr_assert_eq(host_messages(&fixture.host, 0x41), 1);
	fixture_close(&fixture);
}

Test(msix, hardware_s_enable_bit_is_the_kernel_s)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	fake_journal_forget();
	guest_msix_control(&fixture, true, false);
	guest_msix_control(&fixture, false, false);
	cr_assert_eq(fake_journal_find("config 0x04", 0), -1, "config space of the capability was written");
	fixture_close(&fixture);
}

Test(msix, close_while_in_use_leaves_nothing)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned vector = 0; vector < 10; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, vector & 1);
	guest_msix_control(&fixture, true, false);
	fake_fire(fixture.fake, 0);
	fixture_close(&fixture);
}

/* ---- Other kernels, other sizes ---- */

Test(msix, kernel_without_dynamic_vectors_delivers_all)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->static_msix = true;
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	guest_msix_control(&fixture, true, false);
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	for (unsigned vector = 0; vector < FAKE_NVME_MSIX_VECTORS; vector++) {
		cr_assert(fake_fire(fake, vector), "vector %u", vector);
		cr_assert_eq(host_messages(&fixture.host, 0x40 + vector), 1, "vector %u", vector);
	}
	fixture_close(&fixture);
}

Test(msix, kernel_without_dynamic_vectors_loses_nothing_when_one_is_added)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->static_msix = true;
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 0, 0x40, false);
	guest_msix_mask(&fixture, 0, true);
	fake_fire(fake, 0);
	guest_msix_vector(&fixture, 9, 0x49, false);
	guest_msix_mask(&fixture, 0, false);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

Test(msix, kernel_without_dynamic_vectors_is_asked_in_batches)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->static_msix = true;
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake);
	fake_calls_forget();
	guest_msix_control(&fixture, true, true);
	for (unsigned vector = 0; vector < 32; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	guest_msix_control(&fixture, true, false);
	cr_assert_leq(fake_calls(FAKE_SET_IRQS), 3, "%u", fake_calls(FAKE_SET_IRQS));
	cr_assert_eq(fake_vectors_armed(fake), 32);
	fixture_close(&fixture);
}

Test(msix, two_thousand_vectors_work)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x15b3, 0x1021, 3);
	fake_bar_memory(fake, 0, 0x20000, true, false);
	fake_add_pcie(fake, 0x80);
	fake_add_msix(fake, 0x40, 2048, 0, 0x8000, 0, 0x10000);
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	for (unsigned vector = 0; vector < 2048; vector++) {
		guest_bar_write(&fixture, 0, 0x8000 + vector * 16ull, 8, MESSAGE_ADDRESS);
		guest_bar_write(&fixture, 0, 0x8000 + vector * 16ull + 8, 8, vector);
	}
	fake_calls_forget();
	guest_msix_control(&fixture, true, false);
	cr_assert_eq(fake_vectors_armed(fake), 2048);
	cr_assert_leq(fake_calls(FAKE_SET_IRQS), 2, "%u", fake_calls(FAKE_SET_IRQS));
	fake_fire(fake, 0);
	fake_fire(fake, 2047);
	cr_assert_eq(host_messages(&fixture.host, 0), 1);
	cr_assert_eq(host_messages(&fixture.host, 2047), 1);
	cr_assert_eq(guest_config(&fixture, 0x40 + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE, 2047);
	fixture_close(&fixture);
}

Test(msix, table_and_pending_bits_may_lie_in_different_bars)
{
	struct fake_device *fake = fake_device_add("0000:3b:00.0", 0x8086, 0x1572, 3);
	fake_bar_memory(fake, 0, 0x4000, false, false);
	fake_bar_memory(fake, 3, 0x8000, false, false);
	fake_bar_memory(fake, 5, 0x1000, false, false);
	fake_add_msix(fake, 0x70, 16, 3, 0x7ff0 - 16 * 16 + 16, 5, 0xff8);
	struct fixture fixture;
	fixture_open(&fixture, fake);
	for (unsigned bar = 0; bar < 6; bar++)
		guest_config_write(&fixture, PCI_BASE_ADDRESS_0 + 4 * bar, 4, BAR_GPA + 0x100000 * bar);
	guest_command(&fixture, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
	uint64_t last = 0x7ff0;
	guest_bar_write(&fixture, 3, last, 8, MESSAGE_ADDRESS);
	guest_bar_write(&fixture, 3, last + 8, 8, 0x5f);
	guest_msix_control(&fixture, true, false);
	fake_fire(fake, 15);
	cr_assert_eq(host_messages(&fixture.host, 0x5f), 1);
	guest_bar_write(&fixture, 3, last + 12, 4, 1);
	fake_fire(fake, 15);
	cr_assert_eq(guest_bar(&fixture, 5, 0xff8, 8), 0x8000);
	fixture_close(&fixture);
}

/* ---- Failures: the guest sees a device that does not interrupt, the user a line that says why ---- */

/* VFIO_DEVICE_SET_IRQS returns how many vectors there are, a positive number, when the host has too few. */
Test(msix, host_that_has_run_out_of_vectors_is_logged)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->static_msix = true;
	fake->host_vectors = 4;
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	for (unsigned vector = 0; vector < 8; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	guest_msix_control(&fixture, true, false);
	cr_assert_gt(fixture.host.log_count, 0);
	cr_assert(host_logged(&fixture.host, "0000:3b:00.0"));
	fixture_close(&fixture);
}

Test(msix, host_with_few_vectors_still_gives_those)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->host_vectors = 4;
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	guest_msix_control(&fixture, true, false);
	for (unsigned vector = 0; vector < 8; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	fake_fire(fake, 3);
	cr_assert_eq(host_messages(&fixture.host, 0x43), 1);
	cr_assert_gt(fixture.host.log_count, 0);
	fixture_close(&fixture);
}

static void assert_logged_and_recovers(enum host_op op)
{
	fake_world_reset();
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 0, 0x40, false);
	host_fail(&fixture.host, op, 1, ENOMEM);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 0);
	cr_assert_gt(fixture.host.log_count, 0, "operation %d", op);
	cr_assert(host_logged(&fixture.host, "; "), "operation %d", op);

	guest_msix_mask(&fixture, 0, true);
	guest_msix_mask(&fixture, 0, false);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1, "unmasking again does not recover from operation %d", op);
	fixture_close(&fixture);
}

Test(msix, vmm_that_fails_is_logged_and_asked_again)
{
	assert_logged_and_recovers(HOST_ROUTE_SET);
	assert_logged_and_recovers(HOST_ROUTE_COMMIT);
	assert_logged_and_recovers(HOST_IRQFD_ATTACH);
}

Test(msix, vmm_that_fails_is_asked_again_at_the_next_interrupt)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 0, 0x40, false);
	host_fail(&fixture.host, HOST_ROUTE_COMMIT, 1, ENOMEM);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 0);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

Test(msix, event_loop_that_cannot_watch_a_vector_is_not_needed)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	fake_fail_kind(FAKE_POLL_ADD, 1, ENOSPC);
	guest_msix_vector(&fixture, 0, 0x40, false);
	fixture.host.device = NULL; /* the loop sleeps */
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

Test(msix, kernel_that_fails_to_arm_is_logged_and_asked_again)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	fake_fail_always(FAKE_SET_IRQS, ENOSPC);
	guest_msix_vector(&fixture, 0, 0x40, false);
	cr_assert_gt(fixture.host.log_count, 0);
	fake_fail_always(FAKE_SET_IRQS, 0);
	guest_msix_mask(&fixture, 0, true);
	guest_msix_mask(&fixture, 0, false);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	fixture_close(&fixture);
}

/* A later vector's turn arms it, too. */
Test(msix, vector_that_could_not_be_armed_is_delivered_once_it_is)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	fake_fail_always(FAKE_SET_IRQS, ENOMEM);
	guest_msix_vector(&fixture, 0, 0x40, false);
	fake_fail_always(FAKE_SET_IRQS, 0);
	guest_msix_vector(&fixture, 5, 0x45, false);
	cr_assert_eq(fake_vectors_armed(fixture.fake), 2);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1, "nobody watches it");
	fixture_close(&fixture);
}

/* A vector in use has left the event loop's set. */
static void assert_next_interrupt_recovers(enum host_op op)
{
	fake_world_reset();
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 0, 0x40, false);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	guest_msix_mask(&fixture, 0, true);
	guest_msix_vector(&fixture, 0, 0x80, true);
	host_fail(&fixture.host, op, 1, ENOMEM);
	guest_msix_mask(&fixture, 0, false);
	cr_assert(host_logged(&fixture.host, "; "), "operation %d", op);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x80), 1, "operation %d ended the vector", op);
	fixture_close(&fixture);
}

Test(msix, vector_in_use_whose_delivery_fails_is_tried_again_at_the_next_interrupt)
{
	assert_next_interrupt_recovers(HOST_ROUTE_SET);
	assert_next_interrupt_recovers(HOST_ROUTE_COMMIT);
	assert_next_interrupt_recovers(HOST_IRQFD_ATTACH);
}

Test(msix, vectors_in_use_come_first_when_the_host_cannot_give_all)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->host_vectors = 8;
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake);
	for (unsigned vector = 0; vector < 16; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, vector != 5 && vector != 7);
	guest_msix_control(&fixture, true, false);
	cr_assert_gt(fixture.host.log_count, 0);
	cr_assert_eq(fake_vectors_armed(fake), 2);
	fake_fire(fake, 7);
	cr_assert_eq(host_messages(&fixture.host, 0x47), 1);
	guest_msix_mask(&fixture, 1, false);
	fake_fire(fake, 1);
	cr_assert_eq(host_messages(&fixture.host, 0x41), 1);
	fixture_close(&fixture);
}

Test(msix, process_that_runs_out_of_files_serves_what_is_in_use)
{
	struct fixture fixture;
	fixture_open_without_intx(&fixture, fake_nvme("0000:3b:00.0"));
	for (unsigned vector = 0; vector < 16; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, vector != 2);
	fake_fail_kind(FAKE_EVENTFD, 1, EMFILE);
	guest_msix_control(&fixture, true, false);
	cr_assert(host_logged(&fixture.host, "ulimit"));
	fake_fire(fixture.fake, 2);
	cr_assert_eq(host_messages(&fixture.host, 0x42), 1);
	guest_msix_mask(&fixture, 9, false);
	fake_fire(fixture.fake, 9);
	cr_assert_eq(host_messages(&fixture.host, 0x49), 1);
	fixture_close(&fixture);
}

Test(msix, kernel_without_dynamic_vectors_and_with_few_gives_those)
{
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->static_msix = true;
	fake->host_vectors = 4;
	struct fixture fixture;
	fixture_open_placed(&fixture, fake);
	for (unsigned vector = 0; vector < 8; vector++)
		guest_msix_vector(&fixture, vector, 0x40 + vector, false);
	for (unsigned i = 0; i < 3; i++) {
		guest_msix_control(&fixture, false, false);
		guest_msix_control(&fixture, true, false);
	}
	fake_fire(fake, 3);
	cr_assert_eq(host_messages(&fixture.host, 0x43), 1);
	cr_assert(!fake_fire(fake, 4));
	cr_assert_eq(fixture.host.log_count, 1, "said %u times", fixture.host.log_count);
	fixture_close(&fixture);
}

Test(msix, failed_retarget_never_delivers_to_the_old_target)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 0, 0x40, false);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	guest_msix_mask(&fixture, 0, true);
	guest_msix_vector(&fixture, 0, 0x80, true);
	host_fail(&fixture.host, HOST_ROUTE_SET, 1, ENOSPC);
	guest_msix_mask(&fixture, 0, false);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1, "a message of the guest's past was delivered");
	fixture_close(&fixture);
}

/* The guest rewrites a vector that is not masked, which the specification forbids and drivers do. */
Test(msix, failed_retarget_of_an_unmasked_vector_never_delivers_to_the_old_target)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	guest_msix_control(&fixture, true, false);
	guest_msix_vector(&fixture, 0, 0x40, false);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	host_fail(&fixture.host, HOST_ROUTE_SET, 1, ENOSPC);
	guest_bar_write(&fixture, 0, FAKE_NVME_TABLE + PCI_MSIX_ENTRY_DATA, 4, 0x80);
	fake_fire(fixture.fake, 0);
	cr_assert_eq(host_messages(&fixture.host, 0x40), 1);
	guest_msix_mask(&fixture, 0, true);
	guest_msix_mask(&fixture, 0, false);
	cr_assert_eq(host_messages(&fixture.host, 0x80), 1, "what fired meanwhile is lost");
	fixture_close(&fixture);
}

Test(msix, guest_that_toggles_a_broken_vector_does_not_flood_the_log)
{
	struct fixture fixture;
	fixture_open_placed(&fixture, fake_nvme("0000:3b:00.0"));
	fake_fail_always(FAKE_SET_IRQS, ENOSPC);
	for (unsigned i = 0; i < 1000; i++) {
		guest_msix_control(&fixture, true, false);
		guest_msix_vector(&fixture, 0, 0x40, i & 1);
		guest_msix_control(&fixture, false, false);
	}
	cr_assert_leq(fake_journal_count("log "), 100);
	fake_fail_always(FAKE_SET_IRQS, 0);
	fixture_close(&fixture);
}

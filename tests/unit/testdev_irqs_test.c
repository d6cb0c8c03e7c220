// SPDX-License-Identifier: MIT
/* The test device's interrupts: how they are armed, masked and delivered, and every set message that makes no sense. */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "testdev_client.h"

#define INTX VFIO_PCI_INTX_IRQ_INDEX
#define MSI  VFIO_PCI_MSI_IRQ_INDEX
#define MSIX VFIO_PCI_MSIX_IRQ_INDEX

#define EVENTFD_TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define NONE_TRIGGER    (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)

static struct client client;
static int fds[TD_MSIX_VECTORS];

static void open_enabled(void)
{
	client_open(&client, NULL);
	client_enable(&client);
	for (unsigned i = 0; i < TD_MSIX_VECTORS; i++)
		fds[i] = -1;
}

static void close_client(void)
{
	for (unsigned i = 0; i < TD_MSIX_VECTORS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	client_close(&client);
}

TestSuite(testdev_irqs, .init = open_enabled, .fini = close_client, .timeout = 60);

static void make_eventfds(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		fds[i] = eventfd_new();
}

static int set(uint32_t flags, uint32_t index, uint32_t start, uint32_t count, const uint8_t *bools,
	       unsigned bool_count)
{
	uint8_t payload[sizeof(struct vu_irq_set) + 128] = {0};
	const struct vu_irq_set head = {.argsz = (uint32_t)(sizeof(head) + bool_count),
					.flags = flags,
					.index = index,
					.start = start,
					.count = count};
	memcpy(payload, &head, sizeof(head));
	if (bool_count)
		memcpy(payload + sizeof(head), bools, bool_count);
	return client_call(&client, VU_SET_IRQS, payload, sizeof(head) + bool_count);
}

static void raise_irq(unsigned kind, unsigned vector)
{
	set_reg(&client, TD_IRQ_RAISE, TD_IRQ(kind, vector));
}

Test(testdev_irqs, kinds_have_vfio_s_counts_and_flags)
{
	static const struct {
		uint32_t count, flags;
	} expected[] = {{1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED},
			{32, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE},
			{64, VFIO_IRQ_INFO_EVENTFD},
			{1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE},
			{1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE}};
	for (uint32_t i = 0; i < 5; i++) {
		struct vu_irq_info info = {.argsz = sizeof(info), .index = i};
		cr_assert_eq(client_call(&client, VU_GET_IRQ_INFO, &info, sizeof(info)), 0);
		memcpy(&info, answer.payload, sizeof(info));
		cr_expect_eq(info.count, expected[i].count, "kind %u", i);
		cr_expect_eq(info.flags, expected[i].flags, "kind %u", i);
	}
}

Test(testdev_irqs, each_of_64_msix_vectors_signals_its_own_eventfd)
{
	make_eventfds(64);
	cr_assert_eq(client_arm(&client, MSIX, 0, fds, 64), 0);
	for (unsigned i = 0; i < 64; i++)
		raise_irq(TD_IRQ_MSIX, i);
	for (unsigned i = 0; i < 64; i++)
		cr_expect_eq(client_wait_eventfd(fds[i]), 1, "vector %u", i);
	cr_expect_eq(reg(&client, TD_IRQ_RAISED), 64);
	cr_expect_eq(reg(&client, TD_IRQ_DELIVERED), 64);
}

Test(testdev_irqs, each_of_32_msi_vectors_signals_its_own_eventfd)
{
	make_eventfds(32);
	cr_assert_eq(client_arm(&client, MSI, 0, fds, 32), 0);
	for (unsigned i = 0; i < 32; i++)
		raise_irq(TD_IRQ_MSI, i);
	for (unsigned i = 0; i < 32; i++)
		cr_expect_eq(client_wait_eventfd(fds[i]), 1, "vector %u", i);
}

Test(testdev_irqs, error_and_request_are_events_of_their_own)
{
	make_eventfds(2);
	cr_assert_eq(client_arm(&client, VFIO_PCI_ERR_IRQ_INDEX, 0, &fds[0], 1), 0);
	cr_assert_eq(client_arm(&client, VFIO_PCI_REQ_IRQ_INDEX, 0, &fds[1], 1), 0);
	raise_irq(TD_IRQ_ERR, 0);
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
	cr_expect_eq(eventfd_take(fds[1]), 0);
	raise_irq(TD_IRQ_REQ, 0);
	cr_expect_eq(client_wait_eventfd(fds[1]), 1);
}

Test(testdev_irqs, vectors_can_be_added_one_by_one)
{
	make_eventfds(3);
	cr_assert_eq(client_arm(&client, MSIX, 5, &fds[0], 1), 0);
	cr_assert_eq(client_arm(&client, MSIX, 60, &fds[1], 1), 0);
	cr_assert_eq(client_arm(&client, MSIX, 0, &fds[2], 1), 0);
	raise_irq(TD_IRQ_MSIX, 60);
	cr_expect_eq(client_wait_eventfd(fds[1]), 1);
}

Test(testdev_irqs, vectors_that_are_fixed_must_be_armed_at_once)
{
	client_close(&client);
	client_open(&client, &(struct testdev_options){.fixed_msix = true});
	make_eventfds(2);
	cr_assert_eq(client_arm(&client, MSIX, 0, &fds[0], 1), 0);
	cr_expect_eq(client_arm(&client, MSIX, 1, &fds[1], 1), -EINVAL);
	cr_assert_eq(set(NONE_TRIGGER, MSIX, 0, 0, NULL, 0), 0);
	cr_expect_eq(client_arm(&client, MSIX, 0, fds, 2), 0, "after disabling it may be another number");
}

Test(testdev_irqs, what_is_raised_before_arming_is_pending_and_delivered_then)
{
	make_eventfds(1);
	raise_irq(TD_IRQ_MSIX, 9);
	cr_expect_eq(reg64(&client, TD_MSIX_PBA), 1u << 9);
	cr_expect_eq(reg(&client, TD_IRQ_DELIVERED), 0);
	cr_assert_eq(client_arm(&client, MSIX, 9, fds, 1), 0);
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
	cr_expect_eq(reg64(&client, TD_MSIX_PBA), 0);
}

Test(testdev_irqs, disabling_releases_every_vector)
{
	make_eventfds(2);
	cr_assert_eq(client_arm(&client, MSIX, 0, fds, 2), 0);
	cr_assert_eq(set(NONE_TRIGGER, MSIX, 0, 0, NULL, 0), 0);
	raise_irq(TD_IRQ_MSIX, 0);
	cr_expect(client_alive(&client));
	cr_expect_eq(eventfd_take(fds[0]), 0);
}

Test(testdev_irqs, arming_without_eventfds_disarms_those_vectors)
{
	make_eventfds(2);
	cr_assert_eq(client_arm(&client, MSIX, 0, fds, 2), 0);
	cr_assert_eq(client_arm(&client, MSIX, 0, NULL, 1), 0);
	raise_irq(TD_IRQ_MSIX, 0);
	raise_irq(TD_IRQ_MSIX, 1);
	cr_expect_eq(client_wait_eventfd(fds[1]), 1);
	cr_expect_eq(eventfd_take(fds[0]), 0);
}

Test(testdev_irqs, eventfd_can_be_replaced)
{
	make_eventfds(2);
	cr_assert_eq(client_arm(&client, MSIX, 0, &fds[0], 1), 0);
	cr_assert_eq(client_arm(&client, MSIX, 0, &fds[1], 1), 0);
	raise_irq(TD_IRQ_MSIX, 0);
	cr_expect_eq(client_wait_eventfd(fds[1]), 1);
	cr_expect_eq(eventfd_take(fds[0]), 0);
}

Test(testdev_irqs, two_kinds_at_a_time_are_refused_and_recorded)
{
	make_eventfds(2);
	cr_assert_eq(client_arm(&client, MSI, 0, &fds[0], 1), 0);
	cr_expect_eq(client_arm(&client, MSIX, 0, &fds[1], 1), -EINVAL);
	cr_expect_eq(client_violations(&client, TD_BAD_IRQ), 1);
	cr_assert_eq(set(NONE_TRIGGER, MSI, 0, 0, NULL, 0), 0);
	cr_expect_eq(client_arm(&client, MSIX, 0, &fds[1], 1), 0);
}

Test(testdev_irqs, best_kind_is_the_one_that_is_armed)
{
	make_eventfds(1);
	cr_assert_eq(client_arm(&client, MSI, 0, fds, 1), 0);
	raise_irq(TD_IRQ_BEST, 0);
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
	cr_assert_eq(set(NONE_TRIGGER, MSI, 0, 0, NULL, 0), 0);
	cr_assert_eq(client_arm(&client, MSIX, 0, fds, 1), 0);
	raise_irq(TD_IRQ_BEST, 0);
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
}

Test(testdev_irqs, interrupts_that_do_not_exist_are_recorded)
{
	raise_irq(TD_IRQ_MSIX, 64);
	raise_irq(TD_IRQ_MSI, 32);
	raise_irq(TD_IRQ_INTX, 1);
	raise_irq(99, 0);
	cr_expect_eq(client_violations(&client, TD_BAD_ACCESS), 4);
}

Test(testdev_irqs, client_can_trigger_and_choose)
{
	static const uint8_t choice[3] = {1, 0, 1};
	make_eventfds(3);
	cr_assert_eq(client_arm(&client, MSIX, 0, fds, 3), 0);
	cr_assert_eq(set(VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER, MSIX, 0, 3, choice, 3), 0);
	cr_expect_eq(eventfd_take(fds[0]), 1);
	cr_expect_eq(eventfd_take(fds[1]), 0);
	cr_expect_eq(eventfd_take(fds[2]), 1);
	cr_assert_eq(set(NONE_TRIGGER, MSIX, 1, 2, NULL, 0), 0);
	cr_expect_eq(eventfd_take(fds[0]), 0);
	cr_expect_eq(eventfd_take(fds[1]), 1);
}

/* ---- INTx ---- */

static int unmask_intx(void)
{
	return set(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, INTX, 0, 1, NULL, 0);
}

static void arm_intx(void)
{
	make_eventfds(2);
	cr_assert_eq(client_arm(&client, INTX, 0, fds, 1), 0);
}

Test(testdev_irqs, intx_masks_itself_and_comes_again_while_the_line_is_up)
{
	arm_intx();
	set_reg(&client, TD_IRQ_LINE, 1);
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
	set_reg(&client, TD_IRQ_LINE, 1);
	cr_expect_eq(eventfd_take(fds[0]), 0, "it is masked");
	cr_assert_eq(unmask_intx(), 0);
	cr_expect_eq(eventfd_take(fds[0]), 1, "the line is still up");
	set_reg(&client, TD_IRQ_LINE, 0);
	cr_assert_eq(unmask_intx(), 0);
	cr_expect_eq(eventfd_take(fds[0]), 0, "the line is down");
}

Test(testdev_irqs, intx_is_unmasked_by_an_eventfd)
{
	const uint64_t one = 1;
	const struct vu_irq_set request = {.argsz = sizeof(request),
					   .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK,
					   .index = INTX,
					   .count = 1};
	arm_intx();
	cr_assert_eq(client_call_fds(&client, VU_SET_IRQS, &request, sizeof(request), &fds[1], 1), 0);
	set_reg(&client, TD_IRQ_LINE, 1);
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
	cr_assert_eq(write(fds[1], &one, sizeof(one)), sizeof(one));
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
}

Test(testdev_irqs, intx_that_is_masked_waits)
{
	arm_intx();
	cr_assert_eq(set(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, INTX, 0, 1, NULL, 0), 0);
	set_reg(&client, TD_IRQ_LINE, 1);
	cr_expect_eq(eventfd_take(fds[0]), 0);
	cr_assert_eq(unmask_intx(), 0);
	cr_expect_eq(eventfd_take(fds[0]), 1);
}

Test(testdev_irqs, intx_disable_bit_holds_it_back_and_status_shows_it)
{
	arm_intx();
	client_write(&client, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, 7 | PCI_COMMAND_INTX_DISABLE, 2);
	set_reg(&client, TD_IRQ_LINE, 1);
	cr_expect_eq(eventfd_take(fds[0]), 0);
	cr_expect(client_read(&client, VFIO_PCI_CONFIG_REGION_INDEX, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	client_enable(&client);
	cr_expect_eq(eventfd_take(fds[0]), 1);
}

Test(testdev_irqs, intx_that_is_up_before_it_is_armed_comes_then)
{
	set_reg(&client, TD_IRQ_LINE, 1);
	arm_intx();
	cr_expect_eq(eventfd_take(fds[0]), 1);
}

Test(testdev_irqs, reset_takes_the_line_down)
{
	arm_intx();
	set_reg(&client, TD_IRQ_LINE, 1);
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
	cr_assert_eq(client_call(&client, VU_RESET, NULL, 0), 0);
	cr_assert_eq(unmask_intx(), 0);
	cr_expect_eq(eventfd_take(fds[0]), 0);
	cr_expect_eq(client_read(&client, VFIO_PCI_CONFIG_REGION_INDEX, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
}

/* ---- Messages that make no sense ---- */

Test(testdev_irqs, sets_that_make_no_sense_are_refused)
{
	static const struct {
		uint32_t flags, index, start, count;
		unsigned bools;
	} cases[] = {
		{NONE_TRIGGER, 5, 0, 1, 0},
		{NONE_TRIGGER, UINT32_MAX, 0, 1, 0},
		{NONE_TRIGGER, MSIX, 64, 1, 0},
		{NONE_TRIGGER, MSIX, 63, 2, 0},
		{NONE_TRIGGER, MSIX, 1, UINT32_MAX, 0},
		{NONE_TRIGGER, MSIX, UINT32_MAX, 2, 0},
		{NONE_TRIGGER, MSIX, 1, 0, 0}, /* disabling starts at 0 */
		{VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER, MSIX, 0, 0, 0},
		{VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER, MSIX, 0, 3, 2},
		{VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER, MSIX, 0, 3, 4},
		{NONE_TRIGGER, MSIX, 0, 1, 1},
		{VFIO_IRQ_SET_ACTION_TRIGGER, MSIX, 0, 1, 0},
		{VFIO_IRQ_SET_DATA_NONE, MSIX, 0, 1, 0},
		{VFIO_IRQ_SET_DATA_NONE | EVENTFD_TRIGGER, MSIX, 0, 1, 0},
		{NONE_TRIGGER | VFIO_IRQ_SET_ACTION_MASK, MSIX, 0, 1, 0},
		{NONE_TRIGGER | 1u << 6, MSIX, 0, 1, 0},
		{VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, MSIX, 0, 1, 0},
		{VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, MSI, 0, 1, 0},
		{VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, INTX, 0, 1, 0}, /* not armed */
		{VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_MASK, MSIX, 0, 1, 0},
		{EVENTFD_TRIGGER, MSIX, 0, 0, 0},
	};
	static const uint8_t bools[4] = {1, 1, 1, 1};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_eq(set(cases[i].flags, cases[i].index, cases[i].start, cases[i].count, bools, cases[i].bools),
			     -EINVAL, "case %u", i);
	cr_expect(client_alive(&client));
}

Test(testdev_irqs, payload_beyond_the_most_vectors_is_refused)
{
	uint8_t bools[100] = {0};
	cr_expect_eq(set(VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER, MSIX, 0, 64, bools, 100), -EINVAL);
}

static int set_fds(uint32_t flags, uint32_t count, const int *given, unsigned given_count)
{
	const struct vu_irq_set head = {.argsz = sizeof(head), .flags = flags, .index = MSIX, .count = count};
	return client_call_fds(&client, VU_SET_IRQS, &head, sizeof(head), given, given_count);
}

Test(testdev_irqs, number_of_eventfds_must_fit)
{
	make_eventfds(3);
	cr_expect_eq(set_fds(EVENTFD_TRIGGER, 2, fds, 3), -EINVAL);
	cr_expect_eq(set_fds(EVENTFD_TRIGGER, 3, fds, 2), -EINVAL);
	cr_expect_eq(set_fds(NONE_TRIGGER, 3, fds, 3), -EINVAL);
	cr_expect_eq(set_fds(EVENTFD_TRIGGER, 3, fds, 3), 0);
}

Test(testdev_irqs, descriptor_that_is_no_eventfd_is_refused)
{
	int ends[2];
	cr_assert_eq(pipe(ends), 0);
	cr_expect_eq(set_fds(EVENTFD_TRIGGER, 1, &ends[1], 1), -EINVAL, "its write could block the server");
	cr_expect_eq(set_fds(EVENTFD_TRIGGER, 1, &client.ram_fd, 1), -EINVAL);
	close(ends[0]);
	close(ends[1]);
}

Test(testdev_irqs, eventfd_that_is_full_and_blocking_does_not_stop_the_server)
{
	const uint64_t full = UINT64_MAX - 1;
	make_eventfds(1);
	cr_assert_eq(write(fds[0], &full, sizeof(full)), sizeof(full));
	fcntl(fds[0], F_SETFL, 0);
	cr_assert_eq(client_arm(&client, MSIX, 0, fds, 1), 0);
	raise_irq(TD_IRQ_MSIX, 0);
	raise_irq(TD_IRQ_MSIX, 0);
	cr_expect(client_alive(&client));
}

Test(testdev_irqs, doorbell_raises_the_vector_of_its_number)
{
	make_eventfds(1);
	cr_assert_eq(client_arm(&client, MSIX, 4, fds, 1), 0);
	client_write(&client, TD_BAR_REGISTERS, TD_DOORBELL(4), 1, 4);
	cr_expect_eq(eventfd_take(fds[0]), 0, "not before it is asked for");
	set_reg(&client, TD_DOORBELL_IRQS, 1u << 4);
	client_write(&client, TD_BAR_REGISTERS, TD_DOORBELL(4), 1, 4);
	cr_expect_eq(client_wait_eventfd(fds[0]), 1);
}

Test(testdev_irqs, eventfds_are_closed_when_the_client_leaves)
{
	/* client_close checks that nothing is open. */
	make_eventfds(64);
	cr_assert_eq(client_arm(&client, MSIX, 0, fds, 64), 0);
}

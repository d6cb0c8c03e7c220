// SPDX-License-Identifier: MIT
/* A guest's reset of a virtual bus: what the host's bus would reset is told, and then exactly the devices on it are reset, or none. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "device.h"
#include "kernel.h"
#include "vfio_fixture.h"

/* The limit ends a test that waits for a lock. */
TestSuite(bus_reset, .init = fake_world_reset, .timeout = 60);

#define FIRST      "0000:3b:00.0"
#define UUID       "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
#define UUID_SHOWN "83b8f4f2-509f-382f-3c1e" /* what a plan has room for */
#define CARDS      4
#define MESSAGES   64 /* that a guest may cause in the log between two resets of the VM */

/* Functions 0 to 3 of one device: each with a host of its own, and opened when a test wants it. */
struct cards {
	struct fixture space;
	struct fake_device *fakes[CARDS];
	struct fake_host hosts[CARDS];
	struct tenon_device *devices[CARDS];
	struct tenon_error err;
};

/* They have no reset but that of the bus which those of one slot number share; 0: that neither. A group each. */
static void cards_init(struct cards *cards, const unsigned slots[CARDS])
{
	memset(cards, 0, sizeof(*cards));
	for (unsigned i = 0; i < CARDS; i++) {
		char bdf[16];
		snprintf(bdf, sizeof(bdf), "0000:3b:00.%u", i);
		cards->fakes[i] = fake_nvme(bdf);
		fake_config_set(cards->fakes[i], cards->fakes[i]->pcie + PCI_EXP_DEVCAP, 4, 0);
		fake_device_reset_method(cards->fakes[i], "");
		cards->fakes[i]->slot = slots[i];
		cards->fakes[i]->group = 0x3b + (int)i;
	}
	fixture_init(&cards->space);
	for (unsigned i = 0; i < CARDS; i++)
		host_init(&cards->hosts[i]);
}

static void use_container(struct cards *cards)
{
	const struct tenon_space_options options = {.size = sizeof(options), .interface = TENON_INTERFACE_CONTAINER};
	tenon_space_destroy(cards->space.space);
	cr_assert_eq(tenon_space_create(&options, &cards->space.space, NULL), 0);
}

static void card_open_with(struct cards *cards, unsigned i, enum tenon_reset_policy policy)
{
	struct tenon_device_options options = fixture_options(&cards->space, cards->fakes[i]);
	options.ops = &cards->hosts[i].ops;
	options.host = &cards->hosts[i];
	options.reset = policy;
	cr_assert_eq(tenon_device_open(&options, &cards->devices[i], &cards->err), 0, "%s", cards->err.message);
}

static struct fixture guest_of(struct cards *cards, unsigned i)
{
	return (struct fixture){.fake = cards->fakes[i], .device = cards->devices[i]};
}

/* A guest's driver at work. */
static void card_use(struct cards *cards, unsigned i)
{
	struct fixture guest = guest_of(cards, i);
	guest_place(&guest);
	guest_msix_vector(&guest, 0, 0x60, false);
	guest_msix_control(&guest, true, false);
}

/* From here on only what a test does counts. */
static void forget(struct cards *cards)
{
	fake_calls_forget();
	fake_journal_forget();
	for (unsigned i = 0; i < CARDS; i++)
		cards->fakes[i]->resets = cards->fakes[i]->hot_resets = 0;
}

/* Opens the first of them, and has the guest use them. */
static void cards_open(struct cards *cards, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		card_open_with(cards, i, TENON_RESET_PREFER);
	for (unsigned i = 0; i < count; i++)
		card_use(cards, i);
	forget(cards);
}

static void cards_close(struct cards *cards)
{
	for (unsigned i = 0; i < CARDS; i++)
		tenon_device_close(cards->devices[i]);
	fixture_close(&cards->space);
	for (unsigned i = 0; i < CARDS; i++)
		cr_assert_str_empty(host_leftovers(&cards->hosts[i]), "%s", host_leftovers(&cards->hosts[i]));
}

static struct tenon_reset_plan bus_plan_of(struct tenon_device *device)
{
	struct tenon_reset_plan plan = {.size = sizeof(plan)};
	struct tenon_error err;
	cr_assert_eq(tenon_device_bus_reset_plan(device, &plan, &err), 0, "%s", err.message);
	cr_assert_neq(plan.why[0], '\0');
	cr_assert_geq(plan.affected_count, 1);
	cr_assert_eq(plan.affected[0].owner, TENON_RESET_OWNER_SELF);
	return plan;
}

static void assert_off(struct cards *cards, unsigned i)
{
	const uint32_t on = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	struct fixture guest = guest_of(cards, i);
	cr_assert_eq(guest_config(&guest, PCI_COMMAND, 2) & on, 0, "device %u", i);
	cr_assert_eq(guest_config(&guest, PCI_BASE_ADDRESS_0, 4), PCI_BASE_ADDRESS_MEM_TYPE_64, "device %u", i);
	cr_assert_eq(fake_config_get(cards->fakes[i], PCI_COMMAND, 2) & on, 0, "device %u", i);
	cr_assert_eq(cards->hosts[i].map_count + cards->hosts[i].route_count + cards->hosts[i].irqfd_count, 0,
		     "device %u", i);
	cr_assert_eq(cards->fakes[i]->irq_kind, -1, "device %u", i);
}

static void assert_working(struct cards *cards, unsigned i)
{
	cr_assert_not_null(host_mapped(&cards->hosts[i], BAR_GPA), "device %u", i);
	cr_assert(fake_fire(cards->fakes[i], 0), "device %u", i);
	cr_assert_eq(cards->fakes[i]->resets, 0, "device %u", i);
}

/* ---- What the host's bus would reset ---- */

Test(bus_reset, plan_of_a_whole_group_is_allowed_and_names_all_of_it)
{
	for (unsigned container = 0; container < 2; container++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 2, 0});
		if (container)
			use_container(&cards);
		cards_open(&cards, 3);
		const struct tenon_reset_plan plan = bus_plan_of(cards.devices[1]);
		cr_assert_eq(plan.method, TENON_RESET_BUS);
		cr_assert(plan.allowed, "%s", plan.why);
		cr_assert_eq(plan.affected_count, 2);
		cr_assert_str_eq(plan.affected[0].address, "0000:3b:00.1");
		cr_assert_str_eq(plan.affected[1].address, FIRST);
		cr_assert_eq(plan.affected[1].owner, TENON_RESET_OWNER_SPACE);
		cards_close(&cards);
	}
}

/* The topology's facts are of the bus, though the function's own reset is what a reset of it would take. */
Test(bus_reset, plan_is_the_same_whatever_other_resets_the_function_has)
{
	static const char *const methods[] = {"", "flr pm bus", "pm", "bus"};
	for (unsigned i = 0; i < 4; i++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 0, 0});
		fake_device_reset_method(cards.fakes[0], methods[i]);
		cards_open(&cards, 2);
		const struct tenon_reset_plan plan = bus_plan_of(cards.devices[0]);
		cr_expect_eq(plan.method, TENON_RESET_BUS, "%s", methods[i]);
		cr_expect(plan.allowed, "%s: %s", methods[i], plan.why);
		cr_expect_eq(plan.affected_count, 2, "%s", methods[i]);
		cr_expect_str_eq(plan.why, "by its bus, together with 0000:3b:00.1");
		cards_close(&cards);
	}
}

Test(bus_reset, plan_names_who_is_missing_and_what_to_do)
{
	static const struct {
		const char *driver, *word, *advice;
	} cases[] = {
		{"vfio-pci", "not this VM's", "assign it to this VM too"},
		{"e1000e", "the host's driver e1000e", "tenon bind 0000:3b:00.1"},
		{NULL, "no driver", "tenon bind 0000:3b:00.1"},
	};
	for (unsigned i = 0; i < 3; i++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 0, 0});
		fake_device_reset_method(cards.fakes[0], "flr");
		fake_device_driver(cards.fakes[1], cases[i].driver);
		cards_open(&cards, 1);
		const struct tenon_reset_plan plan = bus_plan_of(cards.devices[0]);
		cr_expect_eq(plan.method, TENON_RESET_BUS);
		cr_expect(!plan.allowed);
		cr_expect_eq(plan.affected_count, 2);
		cr_expect_eq(plan.affected[1].owner, TENON_RESET_OWNER_OTHER);
		cr_expect(strstr(plan.why, cases[i].word), "%s", plan.why);
		cr_expect(strstr(plan.why, cases[i].advice), "%s", plan.why);
		cards_close(&cards);
	}
}

Test(bus_reset, plan_of_a_virtual_function_says_that_its_bus_is_not_for_it)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	fake_device_reset_method(cards.fakes[1], "flr");
	fake_device_vf(cards.fakes[1], cards.fakes[0]);
	card_open_with(&cards, 0, TENON_RESET_PREFER);
	const struct tenon_reset_plan plan = bus_plan_of(cards.devices[0]);
	cr_assert_eq(plan.method, TENON_RESET_BUS);
	cr_assert(!plan.allowed);
	cr_assert(strstr(plan.why, "SR-IOV"), "%s", plan.why);
	cards_close(&cards);
}

Test(bus_reset, plan_of_a_device_that_must_not_be_reset_is_known_and_not_allowed)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	card_open_with(&cards, 0, TENON_RESET_NEVER);
	card_open_with(&cards, 1, TENON_RESET_PREFER);
	for (unsigned i = 0; i < 2; i++) {
		const struct tenon_reset_plan plan = bus_plan_of(cards.devices[i]);
		cr_expect_eq(plan.method, TENON_RESET_BUS);
		cr_expect(!plan.allowed);
		cr_expect_eq(plan.affected_count, 2);
		cr_expect(strstr(plan.why, "reset=none"), "%s", plan.why);
	}
	cards_close(&cards);
}

static void assert_no_bus_reset(struct tenon_device *device, const char *address, const char *word)
{
	const struct tenon_reset_plan plan = bus_plan_of(device);
	cr_expect_eq(plan.method, TENON_RESET_NONE);
	cr_expect(!plan.allowed);
	cr_expect_eq(plan.affected_count, 1);
	cr_expect_str_eq(plan.affected[0].address, address);
	cr_expect(strstr(plan.why, word), "no %s in: %s", word, plan.why);
	cr_expect(strstr(plan.why, "; "), "no advice: %s", plan.why);
}

Test(bus_reset, plan_where_the_host_has_none_is_the_device_alone)
{
	for (unsigned never = 0; never < 2; never++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){0, 0, 0, 0});
		fake_device_reset_method(cards.fakes[0], "flr");
		card_open_with(&cards, 0, never ? TENON_RESET_NEVER : TENON_RESET_PREFER);
		assert_no_bus_reset(cards.devices[0], FIRST, "its bus cannot be reset");
		cards_close(&cards);
	}
}

Test(bus_reset, plan_that_the_kernel_does_not_tell_is_none)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 2);
	fake_fail_always(FAKE_HOT_RESET_INFO, EIO);
	assert_no_bus_reset(cards.devices[0], FIRST, strerror(EIO));
	fake_fail_always(FAKE_HOT_RESET_INFO, 0);
	cr_assert(bus_plan_of(cards.devices[0]).allowed);
	cards_close(&cards);
}

Test(bus_reset, plan_of_a_mediated_device_is_none)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	fake_device_mediated(cards.fakes[0], UUID);
	struct tenon_device_options options = fixture_options(&cards.space, NULL);
	options.address = UUID;
	cr_assert_eq(tenon_device_open(&options, &cards.devices[0], &cards.err), 0, "%s", cards.err.message);
	fake_calls_forget();
	assert_no_bus_reset(cards.devices[0], UUID_SHOWN, "on no bus of the host");
	cr_assert_eq(fake_calls(FAKE_HOT_RESET_INFO), 0);
	cards_close(&cards);
}

Test(bus_reset, plan_that_failed_once_is_not_promised_again)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 2);
	cards.fakes[0]->hot_reset_error = ENOTTY;
	cr_assert_eq(tenon_bus_reset(cards.devices, 2, NULL), -ENOTTY);
	for (unsigned i = 0; i < 2; i++) {
		const struct tenon_reset_plan plan = bus_plan_of(cards.devices[i]);
		cr_expect_eq(plan.method, TENON_RESET_BUS);
		cr_expect(!plan.allowed);
		cr_expect(strstr(plan.why, "tried and failed"), "%s", plan.why);
	}
	cards_close(&cards);
}

/* Binding tried it. */
Test(bus_reset, plan_that_failed_at_open_is_not_promised)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 0, 0, 0});
	fake_device_reset_method(cards.fakes[0], "bus");
	cards.fakes[0]->no_reset = true;
	card_open_with(&cards, 0, TENON_RESET_PREFER);
	const struct tenon_reset_plan plan = bus_plan_of(cards.devices[0]);
	cr_assert(!plan.allowed);
	cr_assert(strstr(plan.why, "tried and failed"), "%s", plan.why);
	cards_close(&cards);
}

Test(bus_reset, plan_of_a_list_that_makes_no_sense_is_not_allowed)
{
	for (enum fake_lie lie = FAKE_LIE_COUNT_HUGE; lie <= FAKE_LIE_NOT_OWNED; lie++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 0, 0});
		cards_open(&cards, 2);
		cards.fakes[0]->lie = lie;
		cr_expect(!bus_plan_of(cards.devices[0]).allowed, "lie %d", (int)lie);
		cr_expect_eq(tenon_bus_reset(cards.devices, 2, NULL), -EOPNOTSUPP, "lie %d", (int)lie);
		cr_expect_eq(fake_calls(FAKE_HOT_RESET) + fake_calls(FAKE_DEVICE_RESET), 0, "lie %d", (int)lie);
		cards_close(&cards);
	}
}

Test(bus_reset, plan_touches_nothing)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 2);
	bus_plan_of(cards.devices[0]);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET) + fake_calls(FAKE_DEVICE_RESET) + fake_calls(FAKE_PWRITE), 0);
	assert_working(&cards, 0);
	cards_close(&cards);
}

Test(bus_reset, plan_without_room_is_refused)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 1);
	struct tenon_reset_plan plan = {.size = sizeof(plan) - 1};
	int code = tenon_device_bus_reset_plan(cards.devices[0], &plan, &cards.err);
	cr_assert_eq(code, -EINVAL);
	assert_message(&cards.err, code);
	cards_close(&cards);
}

/* ---- Together ---- */

Test(bus_reset, group_is_reset_by_one_hot_reset_and_nothing_else)
{
	for (unsigned container = 0; container < 2; container++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 2, 0});
		fake_device_reset_method(cards.fakes[1], "flr");
		if (container)
			use_container(&cards);
		cards_open(&cards, 3);
		cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
		cr_assert_eq(fake_calls(FAKE_HOT_RESET), 1);
		cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 0);
		for (unsigned i = 0; i < 2; i++) {
			cr_assert_eq(cards.fakes[i]->hot_resets, 1);
			assert_off(&cards, i);
		}
		assert_working(&cards, 2);
		cards_close(&cards);
	}
}

Test(bus_reset, order_of_the_devices_does_not_matter)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 1, 0});
	cards_open(&cards, 3);
	struct tenon_device *const reversed[] = {cards.devices[2], cards.devices[0], cards.devices[1]};
	cr_assert_eq(tenon_bus_reset(reversed, 3, &cards.err), 0, "%s", cards.err.message);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET), 1);
	cards_close(&cards);
}

Test(bus_reset, all_are_quiesced_before_any_is_reset)
{
	for (unsigned alone = 0; alone < 2; alone++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 0, 0});
		for (unsigned i = 0; alone && i < 2; i++) {
			cards.fakes[i]->slot = 0;
			fake_device_reset_method(cards.fakes[i], "flr");
		}
		cards_open(&cards, 2);
		cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
		int reset_at = fake_journal_find(alone ? "reset 0000" : "hot reset", 0);
		cr_assert_geq(reset_at, 0);
		cr_assert_geq(fake_journal_find("memory_unmap", 0), 0);
		cr_assert_eq(fake_journal_find("memory_unmap", reset_at), -1, "a BAR was reachable during the reset");
		for (unsigned i = 0; i < 2; i++) {
			cr_expect_eq(cards.fakes[i]->command_at_reset & (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY), 0);
			cr_expect_eq(cards.fakes[i]->interrupts_at_reset, 0);
		}
		cards_close(&cards);
	}
}

Test(bus_reset, devices_work_again_after_it)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 2);
	for (unsigned n = 0; n < 3; n++) {
		cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
		for (unsigned i = 0; i < 2; i++) {
			card_use(&cards, i);
			cards.fakes[i]->resets = 0;
			assert_working(&cards, i);
		}
	}
	cards_close(&cards);
}

Test(bus_reset, device_whose_group_is_only_itself_is_reset_by_its_bus)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 0, 0, 0});
	fake_device_reset_method(cards.fakes[0], "flr");
	cards_open(&cards, 1);
	cr_assert_eq(tenon_bus_reset(cards.devices, 1, &cards.err), 0, "%s", cards.err.message);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET), 1);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 0);
	cards_close(&cards);
}

/* ---- Each by itself ---- */

Test(bus_reset, devices_that_reset_alone_are_reset_one_by_one)
{
	static const char *const methods[] = {"flr", "pm", "bus"};
	struct cards cards;
	cards_init(&cards, (unsigned[]){0, 0, 0, 0});
	for (unsigned i = 0; i < 3; i++)
		fake_device_reset_method(cards.fakes[i], methods[i]);
	fake_device_reset_method(cards.fakes[3], "flr");
	cards_open(&cards, 4);
	cr_assert_eq(tenon_bus_reset(cards.devices, 3, &cards.err), 0, "%s", cards.err.message);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET), 0);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 3);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(cards.fakes[i]->resets, 1);
		assert_off(&cards, i);
	}
	assert_working(&cards, 3);
	cards_close(&cards);
}

/* The kernel does not list "bus" when it was not alone as it was found; its hot reset hits nothing else all the same. */
Test(bus_reset, device_alone_on_its_bus_may_take_it_beside_others_that_reset_alone)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 0, 0, 0});
	fake_device_reset_method(cards.fakes[1], "flr");
	cards_open(&cards, 2);
	cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
	cr_assert_eq(cards.fakes[0]->hot_resets, 1);
	cr_assert_eq(cards.fakes[1]->resets, 1);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET) + fake_calls(FAKE_DEVICE_RESET), 2);
	cards_close(&cards);
}

/* The bus would hit the third, which stays with its guest's driver. */
Test(bus_reset, power_cycle_is_taken_where_the_bus_would_hit_another_of_the_guest)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 1, 0});
	fake_device_reset_method(cards.fakes[0], "pm");
	fake_device_reset_method(cards.fakes[1], "flr");
	cards_open(&cards, 3);
	cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET), 0);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 2);
	assert_working(&cards, 2);
	cards_close(&cards);
}

Test(bus_reset, failure_of_one_is_told_and_the_others_are_reset)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){0, 0, 0, 0});
	for (unsigned i = 0; i < 2; i++)
		fake_device_reset_method(cards.fakes[i], "flr");
	cards_open(&cards, 2);
	cards.fakes[0]->reset_error = EIO;
	int code = tenon_bus_reset(cards.devices, 2, &cards.err);
	cr_assert_eq(code, -EIO);
	assert_message(&cards.err, code);
	cr_assert(strstr(cards.err.message, FIRST), "%s", cards.err.message);
	cr_assert_eq(cards.fakes[1]->resets, 1);
	for (unsigned i = 0; i < 2; i++)
		assert_off(&cards, i);
	cards_close(&cards);
}

/* ---- Refused ---- */

/* None is reset, all are quiesced, and the line says why. */
static void assert_refused(struct cards *cards, unsigned count, const char *const *words, unsigned word_count)
{
	int code = tenon_bus_reset(cards->devices, count, &cards->err);
	cr_assert_eq(code, -EOPNOTSUPP);
	assert_message(&cards->err, code);
	for (unsigned i = 0; i < word_count; i++)
		cr_expect(strstr(cards->err.message, words[i]), "no %s in: %s", words[i], cards->err.message);
	cr_assert_eq(fake_calls(FAKE_HOT_RESET) + fake_calls(FAKE_DEVICE_RESET), 0);
	for (unsigned i = 0; i < count; i++)
		assert_off(cards, i);
}

Test(bus_reset, reset_that_would_hit_another_of_the_guest_is_refused)
{
	for (unsigned container = 0; container < 2; container++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 1, 0});
		fake_device_reset_method(cards.fakes[0], "flr");
		if (container)
			use_container(&cards);
		cards_open(&cards, 3);
		assert_refused(&cards, 2, (const char *const[]){"0000:3b:00.1: ", "0000:3b:00.2"}, 2);
		assert_working(&cards, 2);
		cards_close(&cards);
	}
}

Test(bus_reset, reset_that_would_hit_a_device_that_is_not_the_guests_is_refused)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 1, 0});
	fake_device_driver(cards.fakes[2], "e1000e");
	cards_open(&cards, 2);
	assert_refused(&cards, 2, (const char *const[]){"0000:3b:00.2", "e1000e", "tenon bind"}, 3);
	cards_close(&cards);
}

/* It has the group's file, and the kernel would do it; but nobody on the guest's bus is that device. */
Test(bus_reset, reset_that_would_hit_an_unopened_device_of_the_group_is_refused)
{
	for (unsigned container = 0; container < 2; container++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 0, 0});
		cards.fakes[1]->group = cards.fakes[0]->group;
		if (container)
			use_container(&cards);
		cards_open(&cards, 1);
		assert_refused(&cards, 1, (const char *const[]){"0000:3b:00.1"}, 1);
		cr_assert_eq(cards.fakes[1]->resets, 0);
		cards_close(&cards);
	}
}

Test(bus_reset, bus_with_a_device_of_another_group_that_nothing_resets_is_refused)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 3);
	assert_refused(&cards, 3, (const char *const[]){FIRST, "others are on the guest's bus"}, 2);
	cards_close(&cards);

	fake_world_reset();
	cards_init(&cards, (unsigned[]){0, 0, 0, 0});
	fake_device_reset_method(cards.fakes[0], "flr");
	cards_open(&cards, 2);
	assert_refused(&cards, 2, (const char *const[]){"0000:3b:00.1: ", "only switched off"}, 2);
	cards_close(&cards);
}

Test(bus_reset, device_that_must_not_be_reset_stands_in_the_way_and_is_quiesced)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	fake_device_reset_method(cards.fakes[0], "flr");
	card_open_with(&cards, 0, TENON_RESET_PREFER);
	card_open_with(&cards, 1, TENON_RESET_NEVER);
	for (unsigned i = 0; i < 2; i++)
		card_use(&cards, i);
	forget(&cards);
	assert_refused(&cards, 2, (const char *const[]){"0000:3b:00.1: ", "reset=none"}, 2);
	cards_close(&cards);
}

Test(bus_reset, misuse_is_refused)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	struct tenon_space *const other = cards.space.space;
	cards_open(&cards, 1);
	cr_assert_eq(tenon_space_create(NULL, &cards.space.space, NULL), 0);
	card_open_with(&cards, 1, TENON_RESET_PREFER);
	forget(&cards);
	struct tenon_device *const twice[] = {cards.devices[0], cards.devices[0]};
	struct tenon_device *const absent[] = {cards.devices[0], NULL};
	struct tenon_device *many[TENON_RESET_AFFECTED_MAX + 1];
	for (unsigned i = 0; i < TENON_RESET_AFFECTED_MAX + 1; i++)
		many[i] = cards.devices[0];
	const struct {
		struct tenon_device *const *devices;
		unsigned count;
	} cases[] = {{NULL, 1},  {cards.devices, 0}, {cards.devices, 2},
		     {twice, 2}, {absent, 2},        {many, TENON_RESET_AFFECTED_MAX + 1}};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int code = tenon_bus_reset(cases[i].devices, cases[i].count, &cards.err);
		cr_assert_eq(code, -EINVAL, "case %u", i);
		assert_message(&cards.err, code);
	}
	cr_assert_eq(fake_calls_total(), 0);
	assert_working(&cards, 0);
	for (unsigned i = 0; i < 2; i++) {
		tenon_device_close(cards.devices[i]);
		cards.devices[i] = NULL;
	}
	tenon_space_destroy(other);
	cards_close(&cards);
}

/* ---- Others go on meanwhile ---- */

struct other_vcpu {
	struct cards *cards;
	unsigned device;
	uint32_t id;
	uint64_t bar;
	int held; /* what the locks of those that are reset said */
};

static void *access_device(void *context)
{
	struct other_vcpu *vcpu = context;
	struct fixture guest = guest_of(vcpu->cards, vcpu->device);
	vcpu->id = guest_config(&guest, PCI_VENDOR_ID, 4);
	vcpu->bar = guest_bar(&guest, 0, FAKE_NVME_TABLE + PCI_MSIX_ENTRY_DATA, 4);
	return NULL;
}

/* The kernel is in the hot reset for as long as the other vCPU takes: it would be for ever if that waited for the reset. */
static void run_other_vcpu(void *context)
{
	struct other_vcpu *vcpu = context;
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, access_device, vcpu), 0);
	pthread_join(thread, NULL);
	vcpu->held = pthread_mutex_trylock(&vcpu->cards->devices[0]->lock) == EBUSY &&
		     pthread_mutex_trylock(&vcpu->cards->devices[1]->lock) == EBUSY;
}

Test(bus_reset, another_device_is_used_while_the_kernel_resets)
{
	for (unsigned container = 0; container < 2; container++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 2, 0});
		if (container)
			use_container(&cards);
		cards_open(&cards, 3);
		struct other_vcpu vcpu = {.cards = &cards, .device = 2};
		fake_on_hot_reset(run_other_vcpu, &vcpu);
		cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
		fake_on_hot_reset(NULL, NULL);
		cr_assert_eq(vcpu.id, 0x00101b36);
		cr_assert_eq(vcpu.bar, 0x60);
		cr_assert(vcpu.held, "a vCPU could reach a device in the middle of its reset");
		assert_working(&cards, 2);
		cards_close(&cards);
	}
}

/* Of a device in its reset: there is time for the others, and its descriptor stays readable. */
static void take_event(void *context)
{
	struct cards *cards = context;
	cr_assert_eq(tenon_device_next_event(cards->devices[0]), TENON_DEVICE_EVENT_NONE);
}

static void *take_event_on_a_thread(void *context)
{
	take_event(context);
	return NULL;
}

static void run_event_loop(void *context)
{
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, take_event_on_a_thread, context), 0);
	pthread_join(thread, NULL);
}

Test(bus_reset, event_loop_does_not_wait_for_the_end_of_a_reset)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 2);
	fake_aer_error(cards.fakes[0]);
	fake_on_hot_reset(run_event_loop, &cards);
	cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
	fake_on_hot_reset(NULL, NULL);
	cr_assert_eq(tenon_device_next_event(cards.devices[0]), TENON_DEVICE_EVENT_ERROR, "it was lost");
	cards_close(&cards);
}

/* ---- The log ---- */

Test(bus_reset, guest_buys_itself_no_more_messages_by_it)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 2);
	for (unsigned i = 0; i < 2; i++)
		cards.devices[i]->guest_messages = MESSAGES;
	cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(cards.devices[i]->guest_messages, MESSAGES);
	cr_assert_eq(tenon_space_reset(cards.space.space, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(cards.devices[i]->guest_messages, 0, "a reset of the VM does");
	cards_close(&cards);
}

/* ---- Kernels that fail ---- */

Test(bus_reset, hot_reset_that_fails_is_told_and_leaves_all_quiesced)
{
	static const int errors[] = {EIO, ENOTTY, EINVAL, EBUSY};
	for (unsigned i = 0; i < 4; i++) {
		fake_world_reset();
		struct cards cards;
		cards_init(&cards, (unsigned[]){1, 1, 2, 0});
		fake_device_reset_method(cards.fakes[0], "flr");
		cards_open(&cards, 3);
		fake_fail_always(FAKE_HOT_RESET, errors[i]);
		int code = tenon_bus_reset(cards.devices, 2, &cards.err);
		fake_fail_always(FAKE_HOT_RESET, 0);
		cr_assert_eq(code, -errors[i]);
		assert_message(&cards.err, code);
		cr_assert(strstr(cards.err.message, FIRST), "%s", cards.err.message);
		cr_assert(strstr(cards.err.message, "PCI_HOT_RESET"), "%s", cards.err.message);
		cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 0, "one was reset without the other");
		for (unsigned n = 0; n < 2; n++)
			assert_off(&cards, n);
		assert_working(&cards, 2);
		cards_close(&cards);
	}
}

Test(bus_reset, hot_reset_that_fails_leaves_the_devices_own_resets)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	fake_device_reset_method(cards.fakes[0], "flr");
	fake_device_reset_method(cards.fakes[1], "pm");
	cards_open(&cards, 2);
	cards.fakes[0]->hot_reset_error = ENOTTY;
	cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
	cr_assert_eq(fake_calls(FAKE_DEVICE_RESET), 2);
	cr_assert(host_logged(&cards.hosts[0], "PCI_HOT_RESET"));
	for (unsigned i = 0; i < 2; i++)
		assert_off(&cards, i);
	cards_close(&cards);
}

Test(bus_reset, busy_neighbour_is_waited_for)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){1, 1, 0, 0});
	cards_open(&cards, 2);
	cards.fakes[0]->hot_reset_busy = 3;
	cr_assert_eq(tenon_bus_reset(cards.devices, 2, &cards.err), 0, "%s", cards.err.message);
	cr_assert_eq(cards.fakes[1]->hot_resets, 1);
	cards_close(&cards);
}

/* Between the look at all of them and the reset of each. */
Test(bus_reset, device_that_no_longer_resets_alone_when_its_turn_comes_is_told)
{
	struct cards cards;
	cards_init(&cards, (unsigned[]){0, 2, 0, 0});
	fake_device_reset_method(cards.fakes[0], "flr");
	cards_open(&cards, 2);
	fake_calls_forget();
	bus_plan_of(cards.devices[1]);
	unsigned asked_once = fake_calls(FAKE_HOT_RESET_INFO);
	/* Of the first's bus; of the second alone; and of it again, at its turn. */
	fake_fail_kind(FAKE_HOT_RESET_INFO, 1 + asked_once + 1, EIO);
	fake_calls_forget();
	int code = tenon_bus_reset(cards.devices, 2, &cards.err);
	cr_assert_eq(code, -EAGAIN);
	assert_message(&cards.err, code);
	cr_assert(strstr(cards.err.message, "0000:3b:00.1"), "%s", cards.err.message);
	cr_assert_eq(cards.fakes[0]->resets, 1);
	cr_assert_eq(cards.fakes[1]->resets, 0);
	for (unsigned i = 0; i < 2; i++)
		assert_off(&cards, i);
	cards_close(&cards);
}

/* Never is one of a group reset without the other, whatever fails, and never is one left switched on. */
Test(bus_reset, each_kernel_call_that_fails_is_survived)
{
	for (unsigned container = 0; container < 2; container++) {
		for (unsigned n = 1, failed = 1; failed; n++) {
			fake_world_reset();
			struct cards cards;
			cards_init(&cards, (unsigned[]){1, 1, 2, 0});
			if (container)
				use_container(&cards);
			cards_open(&cards, 3);
			fake_fail_call(n, EIO);
			int code = tenon_bus_reset(cards.devices, 2, &cards.err);
			failed = fake_failed_call()[0] != '\0';
			fake_fail_call(0, 0);
			if (code < 0)
				assert_message(&cards.err, code);
			cr_assert(failed || code == 0, "%s", cards.err.message);
			cr_assert_eq(cards.fakes[0]->resets, cards.fakes[1]->resets, "call %u: one without the other",
				     n);
			cr_assert_eq(cards.fakes[0]->resets, code == 0);
			for (unsigned i = 0; i < 2; i++)
				cr_assert_eq(cards.hosts[i].map_count, 0);
			assert_working(&cards, 2);
			cards_close(&cards);
		}
	}
}

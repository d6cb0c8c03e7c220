// SPDX-License-Identifier: MIT
/*
 * The hot-plug slot of a root port as a guest and as the VMM see it: PCI Express Base 5.0, 6.7 and 7.5.3.9 - 7.5.3.11, and what
 * Linux's pciehp relies on.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "bridge_fixture.h"

#define EXP    0x40u
#define SLTCTL (EXP + PCI_EXP_SLTCTL)
#define SLTSTA (EXP + PCI_EXP_SLTSTA)
#define LNKSTA (EXP + PCI_EXP_LNKSTA)

#define POWER_ON  (PCI_EXP_SLTCTL_PWR_ON | PCI_EXP_SLTCTL_PWR_IND_ON | PCI_EXP_SLTCTL_ATTN_IND_OFF)
#define POWER_OFF (PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_ATTN_IND_OFF)
/* What pciehp enables: not the presence event, since there is a button. */
#define PCIEHP (PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_DLLSCE)

/* What the port asked of the machine. */
struct record {
	unsigned messages, lines, changes;
	uint64_t address;
	uint32_t data;
	unsigned device;
	bool line;
};

static struct record record;

static void on_msi(void *context, uint64_t address, uint32_t data)
{
	struct record *to = context;
	to->messages++;
	to->address = address;
	to->data = data;
}

static void on_intx(void *context, unsigned device, bool asserted)
{
	struct record *to = context;
	to->lines++;
	to->device = device;
	to->line = asserted;
}

static void on_change(void *context)
{
	((struct record *)context)->changes++;
}

static uint32_t card_read(void *context, unsigned offset, unsigned size_bytes)
{
	return offset == 0 ? 0x12345678 : 0;
}

static void card_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
}

static struct in_use card_in_use;
static const struct pci_function card = {.config_read = card_read, .config_write = card_write, .in_use = &card_in_use};
static const struct pci_bridge_windows no_windows;

/* The first doubleword of the card's config space, at the number that the bus has at power-on. */
static uint32_t card_id(void)
{
	uint32_t value = 0;
	bus_read(&memory, LAYOUT_ECAM + (NUMBER << 20), &value, 4);
	return value;
}

static void setup(void)
{
	const struct pci_bridge_ops ops = {.msi = on_msi, .intx = on_intx, .changed = on_change, .context = &record};
	fixture_init(&with_slot, &ops, &no_windows);
	cr_assert_eq(card_id(), 0xffffffff, "the guest looks, and knows that the slot is empty");
	record = (struct record){0};
}

static unsigned msi_at(void)
{
	unsigned at = get(PCI_CAPABILITY_LIST, 1);
	while (at && get(at, 1) != PCI_CAP_ID_MSI)
		at = get(at + 1, 1);
	cr_assert_neq(at, 0, "an MSI capability");
	return at;
}

static void enable_msi(void)
{
	unsigned at = msi_at();
	set(at + PCI_MSI_ADDRESS_LO, 4, 0xfee01000);
	set(at + PCI_MSI_ADDRESS_HI, 4, 0);
	set(at + PCI_MSI_DATA_64, 2, 0x4041);
	set(at + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	set(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
}

/* Into a slot that the guest knows to be empty, unless it is at power-on. */
static void insert(void)
{
	struct tenon_error err = {0};
	cr_assert_eq(pci_bridge_insert(port, &(struct pci_placed){0, &card}, 1, &err), 0, "%s", err.message);
}

/* A card that the guest has switched on, all events taken. */
static void insert_and_switch_on(void)
{
	insert();
	set(SLTCTL, 2, PCIEHP | POWER_ON);
	set(SLTSTA, 2, 0xffff);
	record = (struct record){0};
}

static struct pci_slot_state state(void)
{
	struct pci_slot_state state;
	pci_bridge_slot(port, &state);
	return state;
}

TestSuite(bridge_slot, .init = setup, .fini = fixture_finish, .timeout = 60);

Test(bridge_slot, tells_of_a_slot_that_linux_can_hot_plug)
{
	uint32_t slot = get(EXP + PCI_EXP_SLTCAP, 4);
	uint32_t wanted = PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_HPS | PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP |
			  PCI_EXP_SLTCAP_AIP | PCI_EXP_SLTCAP_PIP;
	cr_expect_eq(slot & wanted, wanted);
	cr_expect(slot & PCI_EXP_SLTCAP_NCCS, "commands complete at once");
	cr_expect_eq(slot & (PCI_EXP_SLTCAP_MRLSP | PCI_EXP_SLTCAP_EIP), 0, "no latch, no interlock");
	cr_expect_eq(slot >> 19, NUMBER, "physical slot number");
	cr_expect(get(EXP + PCI_EXP_LNKCAP, 4) & PCI_EXP_LNKCAP_DLLLARC);
	cr_expect_eq(get(PCI_INTERRUPT_PIN, 1), 1);
	cr_expect_eq(get(PCI_INTERRUPT_LINE, 1), LAYOUT_INTX_GSI + DEVICE % 4);
}

Test(bridge_slot, is_empty_and_off_at_power_on)
{
	cr_expect_eq(get(SLTSTA, 2), 0);
	cr_expect_eq(get(LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA, 0);
	cr_expect_eq(get(SLTCTL, 2), POWER_OFF);
	cr_expect_eq(card_id(), 0xffffffff);
	cr_expect(state().at_rest && !state().occupied && !state().powered);
}

Test(bridge_slot, that_is_filled_at_power_on_is_on_and_tells_no_event)
{
	insert();
	pci_bridge_reset(port, &no_windows);
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
	cr_expect(get(LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	cr_expect_eq(get(SLTCTL, 2), POWER_ON);
	cr_expect_eq(card_id(), 0x12345678);
	cr_expect(state().occupied && state().powered && !state().at_rest);
}

Test(bridge_slot, an_inserted_card_shows_presence_link_and_both_events)
{
	insert();
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	cr_expect(get(LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	cr_expect_eq(card_id(), 0x12345678);
	cr_expect_eq(get(SLTCTL, 2), POWER_OFF, "the guest switches it on");
	cr_expect(!state().released, "nobody has switched it off");
}

Test(bridge_slot, a_card_that_comes_before_the_guest_looked_is_there_as_from_power_on)
{
	enable_msi();
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	pci_bridge_reset(port, &no_windows);
	insert();
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS, "no event");
	cr_expect(get(LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	cr_expect_eq(get(SLTCTL, 2), POWER_ON);
	pci_bridge_eject(port);
	insert();
	cr_expect(get(SLTSTA, 2) & PCI_EXP_SLTSTA_DLLSC, "after that, all is news");
}

Test(bridge_slot, a_second_card_is_refused_and_the_first_stays)
{
	static const struct pci_function other = {.config_read = card_read, .config_write = card_write};
	struct tenon_error err = {0};
	insert();
	cr_expect_eq(pci_bridge_insert(port, &(struct pci_placed){0, &other}, 1, &err), -EBUSY);
	cr_expect(strstr(err.message, "; "), "%s", err.message);
	cr_expect_eq(card_id(), 0x12345678);
}

Test(bridge_slot, event_bits_are_cleared_by_writing_one_and_only_they)
{
	insert();
	set(SLTSTA, 2, 0);
	cr_expect_eq(get(SLTSTA, 2) & PCI_EXP_SLTSTA_PDC, PCI_EXP_SLTSTA_PDC, "zeroes clear nothing");
	set(SLTSTA, 2, PCI_EXP_SLTSTA_PDC);
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC);
	set(SLTSTA + 1, 1, 0xff);
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS, "presence is no event");
	set(SLTSTA, 2, 0xffff);
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
}

Test(bridge_slot, a_doubleword_write_sets_control_and_clears_status)
{
	insert();
	set(SLTCTL, 4, (uint32_t)PCI_EXP_SLTSTA_PDC << 16 | PCIEHP | POWER_ON);
	cr_expect_eq(get(SLTCTL, 2), PCIEHP | POWER_ON);
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC);
}

Test(bridge_slot, sends_one_message_per_rise_of_the_first_enabled_event)
{
	enable_msi();
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	insert();
	cr_expect_eq(record.messages, 1, "presence and link are one rise");
	cr_expect_eq(record.address, 0xfee01000);
	cr_expect_eq(record.data, 0x4041);
	pci_bridge_press_button(port);
	cr_expect_eq(record.messages, 1, "something is pending already");
	set(SLTSTA, 2, PCI_EXP_SLTSTA_DLLSC);
	cr_expect_eq(record.messages, 1, "the button still is");
	set(SLTSTA, 2, PCI_EXP_SLTSTA_ABP);
	pci_bridge_press_button(port);
	cr_expect_eq(record.messages, 2, "all was taken, and there is a new one");
	cr_expect_eq(record.lines, 0, "no line while messages are on");
}

Test(bridge_slot, is_silent_while_anything_that_it_needs_is_off)
{
	static const uint32_t off[] = {PCI_EXP_SLTCTL_HPIE, PCI_EXP_SLTCTL_ABPE};
	enable_msi();
	for (unsigned i = 0; i < 2; i++) {
		set(SLTCTL, 2, (PCIEHP & ~off[i]) | POWER_OFF);
		pci_bridge_press_button(port);
		cr_expect_eq(record.messages, 0, "%#x", off[i]);
		cr_expect_eq(get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
		set(SLTSTA, 2, 0xffff);
	}
	set(PCI_COMMAND, 2, 0);
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	pci_bridge_press_button(port);
	cr_expect_eq(record.messages, 0, "a message is a write that only a bus master makes");
}

Test(bridge_slot, an_event_that_waits_is_told_when_its_interrupt_is_enabled)
{
	enable_msi();
	insert();
	cr_expect_eq(record.messages, 0);
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	cr_expect_eq(record.messages, 1);
}

Test(bridge_slot, the_line_follows_the_events_where_there_are_no_messages)
{
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	insert();
	cr_expect(record.line && record.device == DEVICE);
	cr_expect(get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	set(PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	cr_expect(!record.line);
	cr_expect(get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, "the status ignores the disable bit");
	set(PCI_COMMAND, 2, 0);
	cr_expect(record.line);
	set(SLTSTA, 2, 0xffff);
	cr_expect(!record.line);
	cr_expect_eq(record.messages, 0);
	cr_expect_eq(record.lines, 4, "told of changes only");
}

Test(bridge_slot, reset_lowers_the_line_and_forgets_events)
{
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	insert();
	pci_bridge_press_button(port);
	pci_bridge_reset(port, &no_windows);
	cr_expect(!record.line);
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS);
}

Test(bridge_slot, power_off_takes_the_card_from_sight_with_the_write_itself)
{
	enable_msi();
	insert_and_switch_on();
	set(SLTCTL, 2, PCIEHP | PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_BLINK);
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC, "it is still in the slot");
	cr_expect_eq(get(LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA, 0);
	cr_expect_eq(card_id(), 0xffffffff);
	cr_expect_eq(record.changes, 1);
	cr_expect(!state().at_rest, "the guest is not through");
	cr_expect(state().released);
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	cr_expect(state().at_rest);
	cr_expect_eq(record.changes, 2);
	pci_bridge_eject(port);
	cr_expect_eq(get(SLTSTA, 2) & PCI_EXP_SLTSTA_PDS, 0);
	cr_expect(!pci_bridge_wants_reset(port), "nobody is left to be reset");
}

Test(bridge_slot, a_card_that_is_switched_on_again_is_there_once_it_was_reset)
{
	insert_and_switch_on();
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	cr_expect(pci_bridge_wants_reset(port));
	set(SLTCTL, 2, PCIEHP | POWER_ON);
	cr_expect(get(LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	cr_expect_eq(card_id(), 0xffffffff);
	pci_bridge_reset_done(port, false);
	cr_expect_eq(card_id(), 0x12345678);
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	pci_bridge_reset_done(port, false);
	cr_expect_eq(card_id(), 0xffffffff, "reset, and still without power");
	set(SLTCTL, 2, PCIEHP | POWER_ON);
	cr_expect_eq(card_id(), 0x12345678);
	cr_expect(!pci_bridge_wants_reset(port));
}

Test(bridge_slot, writing_off_again_before_switching_on_keeps_a_new_card)
{
	insert();
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	cr_expect(state().occupied, "no switch from on to off");
	cr_expect_eq(card_id(), 0x12345678);
}

Test(bridge_slot, only_power_and_indicators_are_news)
{
	insert_and_switch_on();
	set(SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | POWER_ON);
	set(SLTSTA, 2, 0xffff);
	set(PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	set(SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | POWER_ON);
	cr_expect_eq(record.changes, 0);
}

Test(bridge_slot, surprise_removal_leaves_the_power_to_the_guest)
{
	enable_msi();
	insert_and_switch_on();
	pci_bridge_eject(port);
	cr_expect_eq(get(SLTSTA, 2), PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	cr_expect_eq(record.messages, 1);
	cr_expect_eq(card_id(), 0xffffffff);
	cr_expect(state().powered && !state().at_rest);
	pci_bridge_eject(port);
	cr_expect_eq(record.messages, 1, "an empty slot loses nothing");
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	cr_expect(state().at_rest);
}

Test(bridge_slot, an_unseen_press_is_taken_back)
{
	set(SLTCTL, 2, PCIEHP | POWER_OFF);
	insert_and_switch_on();
	pci_bridge_press_button(port);
	cr_expect(record.line);
	pci_bridge_release_button(port);
	cr_expect_eq(get(SLTSTA, 2) & PCI_EXP_SLTSTA_ABP, 0);
	cr_expect(!record.line);
}

Test(bridge_slot, a_guest_that_hesitates_is_told_to_forget_it_by_a_second_press)
{
	insert_and_switch_on();
	pci_bridge_press_button(port);
	set(SLTSTA, 2, PCI_EXP_SLTSTA_ABP);
	set(SLTCTL, 2, PCIEHP | PCI_EXP_SLTCTL_PWR_ON | PCI_EXP_SLTCTL_PWR_IND_BLINK);
	cr_expect(state().blinking);
	pci_bridge_release_button(port);
	cr_expect(get(SLTSTA, 2) & PCI_EXP_SLTSTA_ABP);
}

Test(bridge_slot, a_press_that_was_answered_is_not_repeated)
{
	insert_and_switch_on();
	pci_bridge_press_button(port);
	set(SLTSTA, 2, PCI_EXP_SLTSTA_ABP);
	pci_bridge_release_button(port);
	cr_expect_eq(get(SLTSTA, 2) & PCI_EXP_SLTSTA_ABP, 0, "the power indicator is steady: the guest decided");
}

Test(bridge_slot, attention_is_what_a_guest_shows_that_cannot_use_the_card)
{
	insert_and_switch_on();
	cr_expect(!state().attention);
	set(SLTCTL, 2, PCIEHP | PCI_EXP_SLTCTL_PWR_ON | PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_ATTN_IND_ON);
	cr_expect(state().attention);
}

Test(bridge_slot, random_writes_neither_lose_the_port_nor_invent_a_card)
{
	uint32_t random = 11;
	for (unsigned step = 0; step < 200000; step++) {
		random = random * 1664525 + 1013904223;
		unsigned size_bytes = 1u << (random >> 30) % 3, offset = EXP + (random >> 10) % 0x60;
		set(offset, size_bytes, random * 2654435761u);
		if (step % 16 == 0 && !state().occupied)
			insert();
		bool present = get(SLTSTA, 2) & PCI_EXP_SLTSTA_PDS;
		cr_assert_eq(present, state().occupied);
		bool link = get(LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA;
		cr_assert(present || !link);
		cr_assert_eq(card_id() != 0xffffffff, link && !pci_bridge_wants_reset(port));
		if (step % 64 == 0)
			pci_bridge_reset_done(port, false);
		cr_assert_eq(get(SLTSTA, 2) & (PCI_EXP_SLTSTA_CC | PCI_EXP_SLTSTA_PFD | PCI_EXP_SLTSTA_MRLSC), 0);
	}
	cr_expect_eq(get(EXP, 1), PCI_CAP_ID_EXP);
}

/* ---- Cards that leave while vCPUs use them ---- */

static atomic_bool stop;

static void *read_card(void *unused)
{
	while (!atomic_load(&stop)) {
		uint32_t id = card_id();
		cr_assert(id == 0x12345678 || id == 0xffffffff, "%#x", id);
	}
	return NULL;
}

Test(bridge_slot, a_card_that_left_is_in_nobodys_hands)
{
	pthread_t threads[2];
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, read_card, NULL), 0);
	for (unsigned i = 0; i < 5000; i++) {
		insert();
		pci_bridge_eject(port);
		in_use_wait(&card_in_use);
		cr_assert_eq(atomic_load(&card_in_use.users), 0);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

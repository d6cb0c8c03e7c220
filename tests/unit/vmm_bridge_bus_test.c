// SPDX-License-Identifier: MIT
/*
 * What a guest finds behind a bridge: several functions, gone while the bus is in reset, back once they were reset; and what a bridge
 * says of itself when it isolates, forwards ARI, shares its slot or is a conventional one.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "bridge_fixture.h"

#define EXP 0x40u

static unsigned changes, awaited;

static void on_change(void *context)
{
	changes++;
}

/* What a machine does: it has the reset done while the guest waits. */
static void on_await(void *context)
{
	awaited++;
	cr_expect(pci_bridge_wants_reset(port));
	pci_bridge_reset_done(port, false);
}

static const struct pci_bridge_ops ops = {.changed = on_change, .reset_awaited = on_await};
static const struct pci_bridge_windows no_windows;

static uint32_t id_read(void *context, unsigned offset, unsigned size_bytes)
{
	return offset == 0 ? *(const uint32_t *)context : 0;
}

static void id_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
}

static uint32_t ids[] = {0x11111234, 0x22221234, 0x33331234};
static struct in_use in_use;
static const struct pci_function functions[] = {
	{.config_read = id_read, .config_write = id_write, .context = &ids[0], .in_use = &in_use},
	{.config_read = id_read, .config_write = id_write, .context = &ids[1], .in_use = &in_use},
	{.config_read = id_read, .config_write = id_write, .context = &ids[2], .in_use = &in_use},
};

static uint32_t id_at(unsigned devfn)
{
	uint32_t value = 0;
	bus_read(&memory, LAYOUT_ECAM + (NUMBER << 20) + (devfn << 12), &value, 4);
	return value;
}

static void make(const struct pci_bridge_options *options)
{
	fixture_init(options, &ops, &no_windows);
	changes = awaited = 0;
}

/* Functions at 0, 1 and `last`. */
static void insert(unsigned last)
{
	const struct pci_placed behind[] = {{0, &functions[0]}, {1, &functions[1]}, {last, &functions[2]}};
	struct tenon_error err = {0};
	cr_assert_eq(pci_bridge_insert(port, behind, 3, &err), 0, "%s", err.message);
}

static void expect_all_ones(unsigned last)
{
	cr_expect_eq(id_at(0), 0xffffffff);
	cr_expect_eq(id_at(1), 0xffffffff);
	cr_expect_eq(id_at(last), 0xffffffff);
}

static void expect_all_there(unsigned last)
{
	cr_expect_eq(id_at(0), ids[0]);
	cr_expect_eq(id_at(1), ids[1]);
	cr_expect_eq(id_at(last), ids[2]);
}

static void hold_reset(bool on)
{
	set(PCI_BRIDGE_CONTROL, 2, on ? PCI_BRIDGE_CTL_BUS_RESET : 0);
}

TestSuite(bridge_bus, .fini = fixture_finish, .timeout = 60);

Test(bridge_bus, functions_come_and_go_together)
{
	make(&with_slot);
	insert(7);
	expect_all_there(7);
	pci_bridge_eject(port);
	expect_all_ones(7);
	insert(3);
	expect_all_there(3);
	cr_expect_eq(id_at(7), 0xffffffff);
}

Test(bridge_bus, none_or_too_many_functions_are_refused)
{
	struct pci_placed many[PCI_BRIDGE_FUNCTIONS_MAX + 1] = {0};
	struct tenon_error err = {0};
	make(&with_slot);
	cr_expect_eq(pci_bridge_insert(port, many, 0, &err), -EINVAL);
	cr_expect_eq(pci_bridge_insert(port, many, PCI_BRIDGE_FUNCTIONS_MAX + 1, &err), -EINVAL);
	cr_expect(strstr(err.message, "; "), "%s", err.message);
}

Test(bridge_bus, a_held_reset_takes_all_from_sight_until_they_were_reset)
{
	make(&with_slot);
	insert(7);
	hold_reset(true);
	cr_expect(pci_bridge_wants_reset(port));
	cr_expect_eq(changes, 1, "the machine is told once");
	expect_all_ones(7);
	hold_reset(true);
	cr_expect_eq(changes, 1);
	hold_reset(false);
	expect_all_ones(7);
	pci_bridge_reset_done(port, false);
	expect_all_there(7);
	cr_expect(!pci_bridge_wants_reset(port));
	cr_expect_eq(awaited, 0, "a guest looks whether PCI Express devices are back");
}

Test(bridge_bus, a_reset_that_is_done_early_shows_nothing_while_the_guest_holds_the_bit)
{
	make(&with_slot);
	insert(7);
	hold_reset(true);
	pci_bridge_reset_done(port, false);
	expect_all_ones(7);
	hold_reset(false);
	expect_all_there(7);
}

Test(bridge_bus, a_pulse_without_anything_behind_is_nothing)
{
	make(&with_slot);
	hold_reset(true);
	hold_reset(false);
	cr_expect(!pci_bridge_wants_reset(port));
	cr_expect_eq(changes, 0);
	insert(2);
	expect_all_there(2);
}

Test(bridge_bus, what_leaves_during_its_reset_leaves_no_wish_behind)
{
	make(&with_slot);
	insert(7);
	hold_reset(true);
	hold_reset(false);
	pci_bridge_eject(port);
	cr_expect(!pci_bridge_wants_reset(port));
	insert(7);
	expect_all_there(7);
}

Test(bridge_bus, what_could_not_be_reset_is_behind_a_link_that_is_down_until_a_reset_worked)
{
	make(&with_slot);
	insert(7);
	hold_reset(true);
	hold_reset(false);
	pci_bridge_reset_done(port, true);
	expect_all_ones(7);
	cr_expect_eq(get(EXP + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA, 0);
	cr_expect(!pci_bridge_wants_reset(port), "it is not tried again by itself");
	hold_reset(true);
	hold_reset(false);
	cr_expect(pci_bridge_wants_reset(port));
	pci_bridge_reset_done(port, false);
	expect_all_there(7);
	cr_expect(get(EXP + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	hold_reset(true);
	pci_bridge_reset_done(port, true);
	pci_bridge_reset(port, &no_windows);
	expect_all_there(7);
}

Test(bridge_bus, a_machine_reset_ends_a_bus_reset)
{
	make(&with_slot);
	insert(7);
	hold_reset(true);
	pci_bridge_reset(port, &no_windows);
	cr_expect(!pci_bridge_wants_reset(port));
	expect_all_there(7);
}

Test(bridge_bus, presence_and_link_stay_through_a_bus_reset)
{
	make(&with_slot);
	insert(7);
	set(EXP + PCI_EXP_SLTSTA, 2, 0xffff);
	hold_reset(true);
	cr_expect_eq(get(EXP + PCI_EXP_SLTSTA, 2), PCI_EXP_SLTSTA_PDS,
		     "no event: a hot-plug driver would pull the card");
	cr_expect(get(EXP + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
}

Test(bridge_bus, isolates_by_acs_that_the_guest_switches_on)
{
	const struct pci_bridge_options options = {.number = NUMBER, .slot = true, .isolated = true};
	make(&options);
	cr_expect_eq(get(0x100, 4), PCI_EXT_CAP_ID_ACS | 1 << 16, "version 1, the last of the list");
	unsigned able = get(0x100 + PCI_ACS_CAP, 2);
	cr_expect_eq(able, PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF);
	set(0x100 + PCI_ACS_CTRL, 2, 0xffff);
	cr_expect_eq(get(0x100 + PCI_ACS_CTRL, 2), able);
	pci_bridge_reset(port, &no_windows);
	cr_expect_eq(get(0x100 + PCI_ACS_CTRL, 2), 0);
}

Test(bridge_bus, forwards_ari_and_has_functions_above_7_without_a_slot)
{
	const struct pci_bridge_options options = {.number = NUMBER, .ari = true};
	make(&options);
	cr_expect(get(EXP + PCI_EXP_DEVCAP2, 4) & PCI_EXP_DEVCAP2_ARI);
	set(EXP + PCI_EXP_DEVCTL2, 2, PCI_EXP_DEVCTL2_ARI);
	cr_expect_eq(get(EXP + PCI_EXP_DEVCTL2, 2), PCI_EXP_DEVCTL2_ARI);
	cr_expect_eq(get(EXP + PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_SLOT, 0);
	cr_expect(get(EXP + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	insert(200);
	expect_all_there(200);
	hold_reset(true);
	expect_all_ones(200);
}

Test(bridge_bus, a_conventional_bridge_has_no_capabilities_and_makes_the_guest_wait)
{
	const struct pci_bridge_options options = {.kind = PCI_BRIDGE_CONVENTIONAL, .number = NUMBER};
	make(&options);
	cr_expect_eq(get(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, 0);
	cr_expect_eq(get(PCI_CAPABILITY_LIST, 1), 0);
	cr_expect_eq(get(PCI_INTERRUPT_PIN, 1), 0);
	cr_expect_eq(get(PCI_CLASS_DEVICE, 2), 0x0604);
	insert(5 << 3 | 2);
	expect_all_there(5 << 3 | 2);
	hold_reset(true);
	expect_all_ones(5 << 3 | 2);
	cr_expect_eq(awaited, 0);
	hold_reset(false);
	cr_expect_eq(awaited, 1);
	expect_all_there(5 << 3 | 2);
}

Test(bridge_bus, that_shares_its_slot_says_so)
{
	struct pci_bridge *second;
	struct tenon_error err = {0};
	uint32_t type = 0;
	make(&with_slot);
	cr_assert_eq(pci_bridge_create(&with_slot, &ops, &second, &err), 0);
	cr_assert_eq(pci_bridge_plug(&host, DEVICE, 3, true, second, &err), 0, "%s", err.message);
	bus_read(&memory, LAYOUT_ECAM + (DEVICE << 15 | 3 << 12) + PCI_HEADER_TYPE, &type, 1);
	cr_expect_eq(type, 0x81);
	cr_expect_eq(get(PCI_HEADER_TYPE, 1), 1);
	pci_bridge_destroy(second);
}

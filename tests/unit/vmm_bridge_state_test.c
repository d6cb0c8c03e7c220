// SPDX-License-Identifier: MIT
/*
 * Bridges saved at one host and loaded at another: a guest that goes on there notices nothing, whatever it and the VMM did before.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "fixture_file.h"
#include "layout.h"
#include "pci/bridge.h"

static uint64_t random_state;

static unsigned choose(unsigned count)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(random_state >> 33) % count;
}

static struct bytes_in in_of(const struct bytes_out *out)
{
	return (struct bytes_in){.data = out->data, .left = out->count};
}

#define NUMBER 5u
#define DEVICE 6u

/* A bridge at one host, and what it asked of the machine. */
struct site {
	struct bus memory;
	struct pci_host host;
	struct pci_bridge *bridge;
	unsigned messages, lines;
	bool line;
};

static void on_msi(void *context, uint64_t address, uint32_t data)
{
	((struct site *)context)->messages++;
}

static void on_intx(void *context, unsigned device, bool asserted)
{
	struct site *site = context;
	site->lines++;
	site->line = asserted;
}

static uint32_t card_read(void *context, unsigned offset, unsigned size_bytes)
{
	return offset == 0 ? 0x12345678 : 0;
}

static void card_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
}

static const struct pci_function card = {.config_read = card_read, .config_write = card_write};
static const struct pci_bridge_windows windows = {.memory_first = LAYOUT_PCI32, .memory_bytes = 0x100000};
static const struct pci_bridge_options with_slot = {
	.kind = PCI_BRIDGE_ROOT_PORT, .number = NUMBER, .slot = true, .isolated = true};
static const struct pci_bridge_options conventional = {.kind = PCI_BRIDGE_CONVENTIONAL, .number = NUMBER};
static const struct pci_bridge_options forwarding = {.kind = PCI_BRIDGE_ROOT_PORT, .number = NUMBER, .ari = true};

static void insert(struct site *site)
{
	struct tenon_error err = {0};
	cr_assert_eq(pci_bridge_insert(site->bridge, &(struct pci_placed){0, &card}, 1, &err), 0, "%s", err.message);
}

static void site_open(struct site *site, const struct pci_bridge_options *options, bool occupied)
{
	const struct pci_bridge_ops ops = {.msi = on_msi, .intx = on_intx, .context = site};
	struct tenon_error err = {0};
	memset(site, 0, sizeof(*site));
	bus_init(&site->memory, "memory");
	cr_assert_eq(pci_host_init(&site->host, 256, &site->memory, &err), 0, "%s", err.message);
	cr_assert_eq(pci_bridge_create(options, &ops, &site->bridge, &err), 0, "%s", err.message);
	cr_assert_eq(pci_bridge_plug(&site->host, DEVICE, 0, false, site->bridge, &err), 0, "%s", err.message);
	if (occupied)
		insert(site);
	pci_bridge_reset(site->bridge, &windows);
}

static void site_close(struct site *site)
{
	pci_bridge_destroy(site->bridge);
	pci_host_finish(&site->host);
	bus_finish(&site->memory);
}

static uint32_t get(struct site *site, unsigned offset, unsigned size_bytes)
{
	uint32_t value = 0;
	bus_read(&site->memory, LAYOUT_ECAM + (DEVICE << 15) + offset, &value, size_bytes);
	return value;
}

static void set(struct site *site, unsigned offset, unsigned size_bytes, uint32_t value)
{
	bus_write(&site->memory, LAYOUT_ECAM + (DEVICE << 15) + offset, &value, size_bytes);
}

/* The first doubleword of a card behind the bridge, whatever number the guest gave its bus. */
static uint32_t card_id(struct site *site)
{
	uint32_t value = 0;
	bus_read(&site->memory, LAYOUT_ECAM + (get(site, PCI_SECONDARY_BUS, 1) << 20), &value, 4);
	return value;
}

static int move(struct site *from, struct site *to, struct tenon_error *err)
{
	struct bytes_out out = {0};
	pci_bridge_save(from->bridge, &out);
	struct bytes_in in = in_of(&out);
	int code = pci_bridge_load(to->bridge, &in, err);
	bytes_out_finish(&out);
	return code;
}

static struct pci_slot_state slot_of(struct site *site)
{
	struct pci_slot_state state;
	memset(&state, 0, sizeof(state));
	pci_bridge_slot(site->bridge, &state);
	return state;
}

/* The registers that a guest uses, and anything at all. */
static unsigned some_register(void)
{
	static const uint16_t favourites[] = {PCI_COMMAND,           PCI_SECONDARY_BUS,         PCI_BRIDGE_CONTROL,
					      0x40 + PCI_EXP_SLTCTL, 0x40 + PCI_EXP_SLTSTA,     0x40 + PCI_EXP_SLTCTL,
					      0x80 + PCI_MSI_FLAGS,  0x80 + PCI_MSI_ADDRESS_LO, 0x100 + PCI_ACS_CTRL};
	return choose(3) ? favourites[choose(sizeof(favourites) / sizeof(favourites[0]))] : choose(0x84) * 2;
}

struct step {
	unsigned what, offset;
	uint16_t value;
};

static struct step some_step(void)
{
	struct step step = {choose(20), some_register(), (uint16_t)(choose(256) << 8 | choose(256))};
	if (step.offset == 0x40 + PCI_EXP_SLTCTL && choose(2)) /* all events on, power on or off */
		step.value = (uint16_t)(0x1029 | choose(2) << 10 | (1 + choose(3)) << 8);
	if (step.offset == PCI_COMMAND)
		step.value &= (uint16_t)~PCI_COMMAND_INTX_DISABLE;
	if (step.offset == PCI_SECONDARY_BUS && choose(2))
		step.value = NUMBER << 8 | NUMBER;
	return step;
}

static void take_step(struct site *site, const struct step *step)
{
	if (step->what == 0)
		pci_bridge_press_button(site->bridge);
	else if (step->what == 1)
		pci_bridge_release_button(site->bridge);
	else if (step->what == 2)
		pci_bridge_reset_done(site->bridge, step->value & 1);
	else if (step->what == 3)
		pci_bridge_eject(site->bridge);
	else if (step->what == 4)
		pci_bridge_insert(site->bridge, &(struct pci_placed){0, &card}, 1, NULL);
	else if (step->what < 8)
		card_id(site);
	else
		set(site, step->offset, 2, step->value);
}

static void expect_equal(struct site *a, struct site *b, const char *when, unsigned round)
{
	for (unsigned offset = 0; offset < 0x120; offset += 4)
		cr_assert_eq(get(a, offset, 4), get(b, offset, 4), "round %u, %s: register 0x%03x: 0x%08x 0x%08x",
			     round, when, offset, get(a, offset, 4), get(b, offset, 4));
	struct pci_slot_state one = slot_of(a), other = slot_of(b);
	cr_assert_eq(memcmp(&one, &other, sizeof(one)), 0, "round %u, %s", round, when);
	cr_assert_eq(pci_bridge_wants_reset(a->bridge), pci_bridge_wants_reset(b->bridge), "round %u, %s", round, when);
	cr_assert_eq(a->messages, b->messages, "round %u, %s", round, when);
	cr_assert_eq(a->line, b->line, "round %u, %s", round, when);
}

static void move_at_random(const struct pci_bridge_options *options)
{
	bool slot = options->slot;
	random_state = 1;
	for (unsigned round = 0; round < 500; round++) {
		struct site source, target;
		struct tenon_error err = {0};
		site_open(&source, options, !slot || choose(2));
		for (unsigned i = choose(40); i > 0; i--) {
			struct step step = some_step();
			if (slot || (step.what != 0 && step.what != 1 && step.what != 3 && step.what != 4))
				take_step(&source, &step);
		}
		site_open(&target, options, slot_of(&source).occupied);
		cr_assert_eq(move(&source, &target, &err), 0, "round %u: %s", round, err.message);
		cr_assert_eq(target.messages, 0, "the message is with the vCPUs");
		cr_assert_eq(target.lines, source.line, "the line is asserted once");
		source.messages = 0;
		expect_equal(&source, &target, "moved", round);
		for (unsigned i = 0; i < 20; i++) {
			struct step step = some_step();
			if (!slot && (step.what == 0 || step.what == 1 || step.what == 3 || step.what == 4))
				continue;
			take_step(&source, &step);
			take_step(&target, &step);
			cr_assert_eq(card_id(&source), card_id(&target), "round %u", round);
			expect_equal(&source, &target, "going on", round);
		}
		site_close(&source);
		site_close(&target);
	}
}

TestSuite(bridge_state, .timeout = 120);

Test(bridge_state, of_a_port_with_a_slot_goes_on_elsewhere_after_anything)
{
	move_at_random(&with_slot);
}

Test(bridge_state, of_a_conventional_bridge_goes_on_elsewhere_after_anything)
{
	move_at_random(&conventional);
}

Test(bridge_state, of_a_port_without_a_slot_goes_on_elsewhere_after_anything)
{
	move_at_random(&forwarding);
}

Test(bridge_state, a_pending_event_holds_the_line_until_the_guest_there_has_taken_it)
{
	struct site source, target;
	struct tenon_error err = {0};
	site_open(&source, &with_slot, false);
	site_open(&target, &with_slot, true);
	card_id(&source); /* the guest knows that it is empty */
	set(&source, 0x40 + PCI_EXP_SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_DLLSCE | 0x7c0);
	insert(&source);
	cr_assert(source.line);
	cr_assert_eq(move(&source, &target, &err), 0, "%s", err.message);
	cr_expect(target.line);
	cr_expect_eq(target.lines, 1);
	cr_expect_eq(get(&target, 0x40 + PCI_EXP_SLTSTA, 2),
		     PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	cr_expect_eq(card_id(&target), 0x12345678);
	set(&target, 0x40 + PCI_EXP_SLTSTA, 2, 0xffff);
	cr_expect_eq(target.lines, 2);
	cr_expect(!target.line);
	site_close(&source);
	site_close(&target);
}

Test(bridge_state, a_reset_that_the_guest_waits_for_is_still_to_be_done)
{
	struct site source, target;
	struct tenon_error err = {0};
	site_open(&source, &conventional, true);
	site_open(&target, &conventional, true);
	set(&source, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_BUS_RESET);
	set(&source, PCI_BRIDGE_CONTROL, 2, 0);
	cr_assert_eq(move(&source, &target, &err), 0, "%s", err.message);
	cr_expect(pci_bridge_wants_reset(target.bridge));
	cr_expect_eq(card_id(&target), 0xffffffff);
	pci_bridge_reset_done(target.bridge, false);
	cr_expect_eq(card_id(&target), 0x12345678);
	site_close(&source);
	site_close(&target);
}

/* What a saved state of `with_slot`, occupied, becomes when a byte is another. */
static int load_changed(struct site *site, unsigned at, uint8_t flip, struct tenon_error *err)
{
	struct bytes_out out = {0};
	pci_bridge_save(site->bridge, &out);
	out.data[at] ^= flip;
	struct bytes_in in = in_of(&out);
	int code = pci_bridge_load(site->bridge, &in, err);
	bytes_out_finish(&out);
	return code;
}

Test(bridge_state, no_register_takes_what_no_guest_could_write)
{
	struct site site;
	struct tenon_error err = {0};
	site_open(&site, &with_slot, true);
	cr_expect_eq(load_changed(&site, 3 + PCI_VENDOR_ID, 1, &err), -EINVAL);
	cr_expect(strstr(err.message, "bridge 5: its register 0x000 is 0x37 at the source and 0x36 here"), "%s",
		  err.message);
	for (unsigned at = 0; at < 0x108; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			uint32_t before = get(&site, at, 1);
			if (load_changed(&site, 3 + at, (uint8_t)(1u << bit), NULL) < 0) {
				cr_expect_eq(get(&site, at, 1), before, "register 0x%03x", at);
				continue;
			}
			/* It was taken: then a guest's write can change that bit, or it is an event, which the slot sets. */
			uint32_t after = get(&site, at, 1);
			set(&site, at, 1, before);
			if (after != before && get(&site, at, 1) != before)
				cr_expect_eq(at & ~1u, 0x40 + PCI_EXP_SLTSTA, "register 0x%03x bit %u", at, bit);
			pci_bridge_reset(site.bridge, &windows);
		}
	}
	site_close(&site);
}

Test(bridge_state, presence_and_link_follow_what_is_there)
{
	struct site site;
	site_open(&site, &with_slot, true);
	cr_expect_eq(load_changed(&site, 3 + 0x40 + PCI_EXP_SLTSTA, PCI_EXP_SLTSTA_PDS, NULL), 0);
	cr_expect_eq(load_changed(&site, 3 + 0x40 + PCI_EXP_LNKSTA + 1, PCI_EXP_LNKSTA_DLLLA >> 8, NULL), 0);
	cr_expect(get(&site, 0x40 + PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_PDS);
	cr_expect(get(&site, 0x40 + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA);
	site_close(&site);
}

Test(bridge_state, of_another_machine_is_refused_and_changes_nothing)
{
	static const struct pci_bridge_options other_number = {
		.kind = PCI_BRIDGE_ROOT_PORT, .number = NUMBER + 1, .slot = true, .isolated = true};
	static const struct {
		const struct pci_bridge_options *options;
		bool occupied;
		const char *why;
	} table[] = {
		{&with_slot, false, "there is nothing behind it at the source, and a device here"},
		{&conventional, true, "its register 0x002 is 0x01"},
		{&other_number, true, "its register 0x04f is 0x06"},
		{&forwarding, true, "bridge 5: its register"},
	};
	struct site target;
	site_open(&target, &with_slot, true);
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct site source;
		struct tenon_error err = {0};
		site_open(&source, table[i].options, table[i].occupied);
		set(&source, PCI_SECONDARY_BUS, 1, 77);
		cr_expect_eq(move(&source, &target, &err), -EINVAL, "row %u", i);
		cr_expect(strstr(err.message, table[i].why), "row %u: %s", i, err.message);
		cr_expect_eq(get(&target, PCI_SECONDARY_BUS, 1), NUMBER, "row %u", i);
		cr_expect_eq(card_id(&target), 0x12345678, "row %u", i);
		site_close(&source);
	}
	site_close(&target);
}

Test(bridge_state, that_is_none_is_refused)
{
	struct site site;
	struct bytes_out out = {0};
	site_open(&site, &with_slot, false);
	for (unsigned bit = 1; bit < 8; bit++) {
		bool right = bit == 4; /* the guest has looked */
		cr_expect_eq(load_changed(&site, 0, (uint8_t)(1u << bit), NULL), right ? 0 : -EINVAL, "flag %u", bit);
	}
	struct tenon_error err = {0};
	cr_expect_eq(load_changed(&site, 1, 1, &err), -EINVAL);
	cr_expect(strstr(err.message, "265 bytes of registers at the source, and 264 here"), "%s", err.message);
	pci_bridge_save(site.bridge, &out);
	bytes_put_u8(&out, 0);
	for (size_t bytes = 0; bytes <= out.count; bytes++) {
		struct bytes_in in = {.data = out.data, .left = bytes};
		cr_expect_eq(pci_bridge_load(site.bridge, &in, NULL), bytes == out.count - 1 ? 0 : -EINVAL, "%zu bytes",
			     bytes);
	}
	bytes_out_finish(&out);
	site_close(&site);
}

/* ---- What version 1 has saved: tests/fixtures/README.md ---- */

/* A guest's settings, so that no register that it can write is as it was at power-on. */
static void set_up_by_guest(struct site *site)
{
	set(site, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_SERR);
	set(site, PCI_INTERRUPT_LINE, 1, 0x63);
	set(site, PCI_SECONDARY_BUS, 2, (NUMBER + 1) << 8 | NUMBER);
	set(site, PCI_MEMORY_BASE, 4, 0xc120c110);
	set(site, 0x80 + PCI_MSI_ADDRESS_LO, 4, 0xfee01000);
	set(site, 0x80 + PCI_MSI_DATA_64, 2, 0x4123);
}

static void load_version_1(const char *name, struct site *source, struct site *target)
{
	static struct fixture_file file;
	struct bytes_out out = {0};
	struct tenon_error err = {0};
	pci_bridge_save(source->bridge, &out);
	fixture_expect_written(name, out.data, out.count);
	bytes_out_finish(&out);
	fixture_read(name, &file);
	struct bytes_in in = {.data = file.data, .left = file.bytes};
	cr_assert_eq(pci_bridge_load(target->bridge, &in, &err), 0, "%s", err.message);
	source->messages = 0; /* with the vCPUs */
	expect_equal(source, target, name, 1);
	cr_expect_eq(get(target, PCI_INTERRUPT_LINE, 1), 0x63);
	cr_expect_eq(get(target, PCI_MEMORY_BASE, 4), 0xc120c110);
	cr_expect_eq(card_id(target), card_id(source));
}

Test(bridge_state, of_a_slot_of_version_1_is_loaded)
{
	struct site source, target;
	site_open(&source, &with_slot, false);
	site_open(&target, &with_slot, true);
	set_up_by_guest(&source);
	card_id(&source); /* the guest knows that it is empty */
	set(&source, 0x40 + PCI_EXP_SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_DLLSCE | 0x7c0);
	insert(&source);
	load_version_1("v1/bridge-slot", &source, &target);
	cr_expect(target.line);
	cr_expect_eq(get(&target, 0x40 + PCI_EXP_SLTSTA, 2),
		     PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	site_close(&source);
	site_close(&target);
}

Test(bridge_state, of_a_conventional_bridge_of_version_1_is_loaded)
{
	struct site source, target;
	site_open(&source, &conventional, true);
	site_open(&target, &conventional, true);
	set_up_by_guest(&source);
	set(&source, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_BUS_RESET);
	set(&source, PCI_BRIDGE_CONTROL, 2, 0);
	load_version_1("v1/bridge-conventional", &source, &target);
	cr_expect(pci_bridge_wants_reset(target.bridge));
	site_close(&source);
	site_close(&target);
}

Test(bridge_state, of_a_port_of_version_1_is_loaded)
{
	struct site source, target;
	site_open(&source, &forwarding, true);
	site_open(&target, &forwarding, true);
	set_up_by_guest(&source);
	load_version_1("v1/bridge-port", &source, &target);
	cr_expect_eq(card_id(&target), 0x12345678);
	site_close(&source);
	site_close(&target);
}

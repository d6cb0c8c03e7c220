// SPDX-License-Identifier: MIT
/*
 * Reset groups as the firmware sees them: several functions behind one port, ports that share a slot, a conventional bridge, ARI. It
 * must find them where they are, wire their pins, say whether the description tells the same groups, and reset a bus.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "firmware_machine.h"
#include "layout.h"

#define KIB    1024ull
#define MIB    (1ull << 20)
#define ARI_AT 0x100

TestSuite(firmware_groups, .init = firmware_skip_without_kvm, .timeout = 180);

/* ---- The machine ---- */

enum { PORT, SHARED_0, SHARED_1, CONVENTIONAL, ARI, BRIDGES };

static const struct {
	unsigned device, function;
	bool multifunction;
	struct pci_bridge_options options;
} bridges[BRIDGES] = {
	[PORT] = {1, 0, false, {.number = 1}},
	[SHARED_0] = {2, 0, true, {.number = 2}},
	[SHARED_1] = {2, 1, true, {.number = 3}},
	[CONVENTIONAL] = {3, 0, false, {.kind = PCI_BRIDGE_CONVENTIONAL, .number = 4}},
	[ARI] = {4, 0, false, {.number = 5, .ari = true}},
};

/* By ascending RID. ari_next 0: the last, or none. */
static const struct place {
	int bridge;
	unsigned devfn;
	bool multifunction;
	uint8_t ari_next;
	unsigned pin; /* 1: INTA */
	const char *host;
	unsigned rid; /* where depth-first enumeration puts it */
	unsigned gsi; /* of the pin, from LAYOUT_INTX_GSI on: (slot + device behind it + pin) % 4 */
} places[] = {
	{-1, 5 << 3, false, 0, 1, "on-root-bus", 0x0028, (5 + 0) % 4},
	{PORT, 0, true, 0, 1, "port-0", 0x0100, (1 + 0 + 0) % 4},
	{PORT, 1, true, 0, 2, "port-1", 0x0101, (1 + 0 + 1) % 4},
	{PORT, 5, true, 0, 4, "port-5", 0x0105, (1 + 0 + 3) % 4},
	{SHARED_0, 0, false, 0, 1, "shared-0", 0x0200, (2 + 0 + 0) % 4},
	{SHARED_1, 0, false, 0, 1, "shared-1", 0x0300, (2 + 0 + 0) % 4},
	{CONVENTIONAL, 4 << 3, false, 0, 1, "conventional-4", 0x0420, (3 + 4 + 0) % 4},
	{CONVENTIONAL, 9 << 3, true, 0, 2, "conventional-9", 0x0448, (3 + 9 + 1) % 4},
	{CONVENTIONAL, 9 << 3 | 3, true, 0, 3, "conventional-9.3", 0x044b, (3 + 9 + 2) % 4},
	{ARI, 0, true, 1, 1, "ari-0", 0x0500, (4 + 0 + 0) % 4},
	{ARI, 1, true, 8, 2, "ari-1", 0x0501, (4 + 0 + 1) % 4},
	{ARI, 8, true, 0x42, 1, "ari-8", 0x0508, (4 + 0 + 0) % 4},
	{ARI, 0x42, true, 0, 3, "ari-42", 0x0542, (4 + 0 + 2) % 4},
};

#define PLACES (sizeof(places) / sizeof(places[0]))

static const uint16_t root_group[] = {0x0028}, port_group[] = {0x0105, 0x0100, 0x0101}, shared_0[] = {0x0200},
		      shared_1[] = {0x0300}, conventional_group[] = {0x0420, 0x0448, 0x044b},
		      ari_group[] = {0x0500, 0x0501, 0x0508, 0x0542};

/* In no order, as nobody promises one. */
static const struct description_group groups[] = {
	{.bus_reset = true, .rids = ari_group, .count = 4},
	{.bus_reset = true, .rids = shared_1, .count = 1},
	{.rids = root_group, .count = 1, .why = "0000:3b:00.1 is not assigned; assign it too"},
	{.bus_reset = true, .rids = port_group, .count = 3},
	{.bus_reset = true, .rids = conventional_group, .count = 3},
	{.bus_reset = true, .rids = shared_0, .count = 1},
};

#define GROUPS (sizeof(groups) / sizeof(groups[0]))

static struct model models[PLACES];
static struct tenon_error err;

static void describe_model(struct model *model, unsigned index)
{
	const struct place *place = &places[index];
	model_init(model, 0x7e4f | (1 + index) << 16);
	model->value[PCI_HEADER_TYPE] = place->multifunction && (place->devfn & 7) == 0 ? 0x80 : 0;
	model->value[PCI_INTERRUPT_PIN] = (uint8_t)place->pin;
	model->write[PCI_INTERRUPT_LINE] = 0xff;
	model_put_bar(model, PCI_BASE_ADDRESS_0, 0, 16 * KIB);
	model_put_bar(model, PCI_BASE_ADDRESS_2, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH,
		      MIB << index % 4);
	if (place->bridge == ARI) {
		model_put32(model->value, ARI_AT, PCI_EXT_CAP_ID_ARI | 1 << 16);
		model->value[ARI_AT + PCI_ARI_CAP + 1] = place->ari_next;
	}
}

/* What the machine does when the guest resets a bus; ours is done at once. */
static struct {
	bool keeps_state, stays_away;
	unsigned resets[BRIDGES];
	struct pci_bridge *bridges[BRIDGES];
} world;

static void reset_wanted(void *context)
{
	struct pci_bridge **bridge = context;
	if (!pci_bridge_wants_reset(*bridge))
		return;
	world.resets[bridge - world.bridges]++;
	for (unsigned i = 0; i < PLACES; i++) {
		if (!world.keeps_state && places[i].bridge == bridge - world.bridges)
			model_reset(&models[i]);
	}
	if (!world.stays_away)
		pci_bridge_reset_done(*bridge, false);
}

static void plug_bridge(unsigned index)
{
	static const struct pci_bridge_windows closed;
	struct pci_placed behind[PLACES];
	struct pci_bridge **bridge = &world.bridges[index];
	const struct pci_bridge_ops ops = {.changed = reset_wanted, .context = bridge};
	unsigned count = 0;
	for (unsigned i = 0; i < PLACES; i++) {
		if (places[i].bridge == (int)index)
			behind[count++] = (struct pci_placed){places[i].devfn, &models[i].function};
	}
	cr_assert_eq(pci_bridge_create(&bridges[index].options, &ops, bridge, &err), 0, "%s", err.message);
	cr_assert_eq(pci_bridge_plug(&machine.pci, bridges[index].device, bridges[index].function,
				     bridges[index].multifunction, *bridge, &err),
		     0, "%s", err.message);
	cr_assert_eq(pci_bridge_insert(*bridge, behind, count, &err), 0, "%s", err.message);
	pci_bridge_reset(*bridge, &closed);
}

static void create(struct description *description, const char *command_line)
{
	firmware_machine_create(description, 1 + BRIDGES, command_line);
	for (unsigned i = 0; i < PLACES; i++) {
		describe_model(&models[i], i);
		description->devices[description->device_count++] =
			(struct description_device){places[i].bridge, places[i].devfn, places[i].host};
		if (places[i].bridge < 0)
			cr_assert_eq(pci_bus_add(&machine.pci, &machine.pci.root, places[i].devfn >> 3,
						 places[i].devfn & 7, &models[i].function, &err),
				     0, "%s", err.message);
	}
	for (unsigned i = 0; i < BRIDGES; i++) {
		pci_bridge_destroy(world.bridges[i]); /* of the machine before */
		plug_bridge(i);
		description->bridges[description->bridge_count++] =
			(struct description_bridge){bridges[i].device, bridges[i].function, i == CONVENTIONAL};
	}
	for (unsigned i = 0; i < GROUPS; i++)
		description->groups[description->group_count++] = groups[i];
}

static void run(const char *command_line)
{
	struct description description;
	create(&description, command_line);
	firmware_machine_run(&description);
}

/* ---- What it found ---- */

static void expect_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void expect_line(const char *format, ...)
{
	char line[256] = "\n";
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line + 1, sizeof(line) - 1, format, arguments);
	va_end(arguments);
	cr_expect(strstr(machine.said, line), "no '%s' in %s", line + 1, machine.said);
}

Test(firmware_groups, every_function_is_found_once_with_its_host_address_and_its_line)
{
	run("mode=list");
	cr_expect(strstr(machine.said, "# 19 functions enumerated"), "%s", machine.said);
	for (unsigned i = 0; i < PLACES; i++) {
		const struct place *place = &places[i];
		expect_line("%02x:%02x.%x id 7e4f:%04x class ff0000 host %s pin %c gsi %u\n", place->rid >> 8,
			    place->rid >> 3 & 0x1f, place->rid & 7, 1 + i, place->host, 'A' + place->pin - 1,
			    LAYOUT_INTX_GSI + place->gsi);
		cr_expect_eq(models[i].value[PCI_INTERRUPT_LINE], LAYOUT_INTX_GSI + place->gsi, "%s", place->host);
	}
}

Test(firmware_groups, buses_are_numbered_depth_first_in_the_order_of_slot_and_function)
{
	run("mode=list");
	for (unsigned i = 0; i < BRIDGES; i++) {
		unsigned rid = bridges[i].device << 3 | bridges[i].function;
		expect_line("00:%02x.%x id 1b36:%04x class 060400 bridge to %02x-%02x", bridges[i].device,
			    bridges[i].function, i == CONVENTIONAL ? 0x0001 : 0x000c, i + 1, i + 1);
		cr_expect_eq(firmware_config32(rid, PCI_PRIMARY_BUS) & 0xffffff, (i + 1) << 16 | (i + 1) << 8);
	}
}

/* A window by its registers: 1 MiB granules, base and limit. */
static bool in_window(unsigned rid, unsigned at, unsigned upper, uint64_t address, uint64_t bytes)
{
	uint32_t window = firmware_config32(rid, at);
	uint64_t base = (uint64_t)(window & 0xfff0) << 16, limit = (window & 0xfff00000) | 0xfffff;
	if (upper) {
		base |= (uint64_t)firmware_config32(rid, upper) << 32;
		limit |= (uint64_t)firmware_config32(rid, upper + 4) << 32;
	}
	return address >= base && address + bytes - 1 <= limit;
}

Test(firmware_groups, bars_of_all_functions_lie_apart_in_the_windows_of_their_bridge)
{
	run("mode=list");
	for (unsigned i = 0; i < PLACES; i++) {
		uint64_t low = model_bar(&models[i], PCI_BASE_ADDRESS_0),
			 high = model_bar(&models[i], PCI_BASE_ADDRESS_2);
		cr_expect(low && low % (16 * KIB) == 0 && high && high % (MIB << i % 4) == 0, "%s", places[i].host);
		for (unsigned j = 0; j < i; j++) {
			uint64_t its = model_bar(&models[j], PCI_BASE_ADDRESS_2);
			cr_expect_neq(low, model_bar(&models[j], PCI_BASE_ADDRESS_0));
			cr_expect(high + (MIB << i % 4) <= its || its + (MIB << j % 4) <= high, "%s and %s overlap",
				  places[i].host, places[j].host);
		}
		if (places[i].bridge < 0)
			continue;
		unsigned rid = bridges[places[i].bridge].device << 3 | bridges[places[i].bridge].function;
		cr_expect(in_window(rid, PCI_MEMORY_BASE, 0, low, 16 * KIB), "%s", places[i].host);
		cr_expect(in_window(rid, PCI_PREF_MEMORY_BASE, PCI_PREF_BASE_UPPER32, high, MIB << i % 4), "%s",
			  places[i].host);
	}
}

Test(firmware_groups, ari_forwarding_is_switched_on_where_it_is_used_only)
{
	run("mode=list");
	for (unsigned i = 0; i < BRIDGES; i++) {
		unsigned rid = bridges[i].device << 3 | bridges[i].function;
		unsigned express = firmware_config32(rid, PCI_CAPABILITY_LIST) & 0xff;
		if (i == CONVENTIONAL)
			continue;
		cr_expect_eq(firmware_config32(rid, express + PCI_EXP_DEVCTL2) & PCI_EXP_DEVCTL2_ARI,
			     i == ARI ? PCI_EXP_DEVCTL2_ARI : 0, "bridge %u", i);
	}
}

/* ---- Groups ---- */

Test(firmware_groups, what_is_behind_one_bridge_is_a_group_and_agrees_with_the_description)
{
	static const char *const sets[] = {
		"reset-group 01:00.0 01:00.1 01:00.5\n",
		"reset-group 02:00.0\n",
		"reset-group 03:00.0\n",
		"reset-group 04:04.0 04:09.0 04:09.3\n",
		"reset-group 05:00.0 05:00.1 05:01.0 05:08.2\n",
	};
	run("mode=list");
	char all[512] = "\n";
	for (unsigned i = 0; i < 5; i++) {
		expect_line("%s", sets[i]);
		expect_line("described %s", sets[i]);
		strcat(all, sets[i]);
	}
	cr_expect(strstr(machine.said, all), "they are sorted: %s", machine.said);
	expect_line("described without-bus-reset 00:05.0: 0000:3b:00.1 is not assigned; assign it too\n");
	expect_line("reset-groups agree\n");
}

Test(firmware_groups, the_first_difference_from_the_description_is_named)
{
	static const uint16_t without_one[] = {0x0100, 0x0101}, other[] = {0x0105}, not_there[] = {0x0300, 0x0301},
			      on_root_bus[] = {0x0300, 0x0028};
	static const struct {
		unsigned group;
		struct description_group instead;
		const char *words;
	} cases[] = {
		{3, {.rids = other, .count = 1}, "01:00.0 is behind a bridge, and described in no group"},
		{3, {.rids = port_group, .count = 3}, "01:00.0 is behind a bridge, and described without a bus reset"},
		{3,
		 {.bus_reset = true, .rids = without_one, .count = 2},
		 "01:00.5 is behind the bridge of another group than it is described in"},
		{1, {.bus_reset = true, .rids = not_there, .count = 2}, "03:00.1 is described, and was not found"},
		{1,
		 {.bus_reset = true, .rids = on_root_bus, .count = 2},
		 "00:05.0 is described with a bus reset, and is on the root bus"},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct description description;
		create(&description, "mode=list");
		description.groups[cases[i].group] = cases[i].instead;
		firmware_machine_run(&description);
		expect_line("reset-groups differ: %s\n", cases[i].words);
	}
}

Test(firmware_groups, description_without_groups_is_one_of_none)
{
	struct description description;
	create(&description, "mode=list");
	description.group_count = 0;
	firmware_machine_run(&description);
	cr_expect_null(strstr(machine.said, "\ndescribed "), "%s", machine.said);
	expect_line("reset-groups differ: 01:00.0 is behind a bridge, and described in no group\n");
}

/* ---- Bus reset ---- */

/* The line of one device's check; it ends with the line. */
static void check_line(const char *place, char *out, size_t capacity)
{
	char what[64];
	snprintf(what, sizeof(what), " - %s bus reset: ", place);
	const char *at = strstr(machine.said, what);
	cr_assert_not_null(at, "no '%s' in %s", what, machine.said);
	while (at[-1] != '\n')
		at--;
	snprintf(out, capacity, "%.*s", (int)strcspn(at, "\n"), at);
}

Test(firmware_groups, self_test_resets_each_bus_and_leaves_all_functions_as_they_were)
{
	char line[512], place[16];
	run("mode=selftest");
	for (unsigned i = 1; i < PLACES; i++) {
		snprintf(place, sizeof(place), "%02x:%02x.%x", places[i].rid >> 8, places[i].rid >> 3 & 0x1f,
			 places[i].rid & 7);
		check_line(place, line, sizeof(line));
		cr_expect(strncmp(line, "ok ", 3) == 0 && strstr(line, "done after ") && !strstr(line, "# SKIP"), "%s",
			  line);
		cr_expect_eq(models[i].value[PCI_INTERRUPT_LINE], LAYOUT_INTX_GSI + places[i].gsi, "%s", place);
		cr_expect_neq(model_bar(&models[i], PCI_BASE_ADDRESS_0), 0, "%s", place);
		cr_expect_neq(model_bar(&models[i], PCI_BASE_ADDRESS_2), 0, "%s", place);
	}
	check_line("04:09.3", line, sizeof(line));
	cr_expect(strstr(line, "functions behind the bridge: 3, all as after power-on"), "%s", line);
	check_line("00:05.0", line, sizeof(line));
	cr_expect(strncmp(line, "ok ", 3) == 0 && strstr(line, "0000:3b:00.1 is not assigned; assign it too # SKIP"),
		  "%s", line);
	cr_expect_eq(world.resets[PORT], 3, "once for each of its functions");
	cr_expect_eq(world.resets[CONVENTIONAL], 3);
	cr_expect_eq(world.resets[ARI], 4);
}

Test(firmware_groups, bus_reset_that_leaves_a_function_as_it_was_fails_the_check)
{
	char line[512];
	world.keeps_state = true;
	run("mode=selftest");
	check_line("02:00.0", line, sizeof(line));
	cr_expect(strncmp(line, "not ok ", 7) == 0 && strstr(line, "decoding or bus mastering of 02:00.0 is on"), "%s",
		  line);
	/* Of those that are not under test, decoding is off. */
	check_line("01:00.5", line, sizeof(line));
	cr_expect(strncmp(line, "not ok ", 7) == 0 && strstr(line, "BAR 0 of 01:00.0 is still at "), "%s", line);
	cr_expect_eq(machine.status, LAYOUT_FIRMWARE_FAILED);
}

Test(firmware_groups, function_that_does_not_come_back_fails_the_check)
{
	struct description description;
	char line[512];
	world.stays_away = true;
	create(&description, "mode=selftest");
	/* Each check waits for long; one tells as much as all. */
	description.group_count = 0;
	description.groups[description.group_count++] = groups[5];
	firmware_machine_run(&description);
	check_line("02:00.0", line, sizeof(line));
	cr_expect(strncmp(line, "not ok ", 7) == 0 && strstr(line, "02:00.0 does not answer 10 s after it"), "%s",
		  line);
	check_line("03:00.0", line, sizeof(line));
	cr_expect(strstr(line, "the machine offers none # SKIP"), "%s", line);
	cr_expect_eq(world.resets[SHARED_1], 0);
}

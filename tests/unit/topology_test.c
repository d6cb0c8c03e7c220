// SPDX-License-Identifier: MIT
/* The guest's topology, rule by rule: what a group becomes, which wishes are honoured, and what each refusal says. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <tenon/tenon.h>

#define RID(bus, device, function) ((uint32_t)(bus) << 8 | (device) << 3 | (function))
#define CAPACITY                   (TENON_TOPOLOGY_DEVICES_MAX + 1) /* one more than a guest may have */

/* What the VM has; each test adds to it. */
static struct tenon_topology_device devices[CAPACITY];
static char names[CAPACITY][16];
static uint32_t sets[CAPACITY][TENON_TOPOLOGY_MEMBERS_MAX];
static unsigned count;
static struct tenon_topology topology;
static struct tenon_error error;

static void reset(void)
{
	memset(devices, 0, sizeof(devices));
	count = 0;
	topology = (struct tenon_topology){.size = sizeof(topology)};
	error = (struct tenon_error){0};
}

TestSuite(topology, .init = reset);

/* A PCI Express device in an IOMMU group of its own, whose bus reset hits only it. @return its index */
static unsigned add(uint32_t rid)
{
	unsigned i = count++;
	snprintf(names[i], sizeof(names[i]), "%04x:%02x:%02x.%x", rid >> 16, rid >> 8 & 0xff, rid >> 3 & 0x1f, rid & 7);
	sets[i][0] = rid;
	devices[i] = (struct tenon_topology_device){
		.name = names[i],
		.rid = rid,
		.pcie = true,
		.affected_count = 1,
		.affected = sets[i],
		.bus_reset_allowed = true,
		.iommu_group = (int)(100 + i),
	};
	return i;
}

/* A device in another process. */
static unsigned add_remote(const char *reset_group)
{
	unsigned i = count++;
	snprintf(names[i], sizeof(names[i]), "vfio-user:%u", i);
	devices[i] = (struct tenon_topology_device){
		.name = names[i],
		.rid = TENON_TOPOLOGY_NO_RID,
		.pcie = true,
		.resets_alone = true,
		.iommu_group = -1,
		.reset_group = reset_group,
	};
	return i;
}

/* Gives each of the last `members` devices the set of them all, and of `more` strangers. */
static void reset_together(unsigned members, unsigned more, ...)
{
	va_list args;
	va_start(args, more);
	uint32_t set[TENON_TOPOLOGY_MEMBERS_MAX];
	for (unsigned i = 0; i < members; i++)
		set[i] = devices[count - members + i].rid;
	for (unsigned i = 0; i < more; i++)
		set[members + i] = va_arg(args, uint32_t);
	va_end(args);
	for (unsigned i = count - members; i < count; i++) {
		memcpy(sets[i], set, sizeof(set));
		devices[i].affected_count = members + more;
	}
}

static void no_bus_reset(unsigned device)
{
	devices[device].affected_count = 0;
	devices[device].bus_reset_allowed = false;
}

static void plan_in(enum tenon_topology_mode mode, uint32_t reserved_slots)
{
	int code = tenon_topology_plan(devices, count, mode, reserved_slots, &topology, &error);
	cr_assert_eq(code, 0, "%s", error.message);
}

static void plan(void)
{
	plan_in(TENON_TOPOLOGY_MIRROR, 1);
}

static void assert_says(const char *text, const char *words)
{
	cr_assert(strstr(text, words), "\"%s\" does not say \"%s\"", text, words);
}

static void assert_refused_in(enum tenon_topology_mode mode, int code, const char *device, const char *cause,
			      const char *advice)
{
	static struct tenon_topology before;
	before = topology;
	cr_assert_eq(tenon_topology_plan(devices, count, mode, 0x9, &topology, &error), code, "%s", error.message);
	cr_assert_eq(strncmp(error.message, device, strlen(device)), 0, "\"%s\" does not begin with %s", error.message,
		     device);
	assert_says(error.message, cause);
	assert_says(error.message, advice);
	cr_assert_lt(strlen(error.message), sizeof(error.message) - 1, "the message is cut: %s", error.message);
	cr_assert_null(strchr(error.message, '\n'));
	cr_assert_eq(memcmp(&before, &topology, sizeof(before)), 0, "a refusal changed the result");
	cr_assert_eq(tenon_topology_plan(devices, count, mode, 0x9, &topology, NULL), code);
}

static void assert_refused(int code, const char *device, const char *cause, const char *advice)
{
	assert_refused_in(TENON_TOPOLOGY_MIRROR, code, device, cause, advice);
}

static const struct tenon_topology_bus *bus_of(unsigned device)
{
	return &topology.buses[topology.places[device].bus];
}

static void assert_on_root_bus(unsigned device, unsigned slot, unsigned function)
{
	const struct tenon_topology_place *place = &topology.places[device];
	cr_assert_eq(place->bus, 0, "%s: %s", devices[device].name, place->why);
	cr_assert_eq(place->devfn, slot << 3 | function, "%s: devfn %#x", devices[device].name, place->devfn);
	cr_assert_not(topology.buses[0].bus_reset);
}

static void assert_behind(unsigned device, enum tenon_topology_bus_kind kind, unsigned slot, unsigned function,
			  unsigned devfn)
{
	const struct tenon_topology_bus *bus = bus_of(device);
	cr_assert_eq(bus->kind, kind, "%s: %s", devices[device].name, topology.places[device].why);
	cr_assert_eq(bus->slot, slot, "%s: slot %u", devices[device].name, bus->slot);
	cr_assert_eq(bus->function, function, "%s: function %u", devices[device].name, bus->function);
	cr_assert_eq(topology.places[device].devfn, devfn, "%s: devfn %#x", devices[device].name,
		     topology.places[device].devfn);
	cr_assert(bus->bus_reset);
}

/* ---- Groups ---- */

Test(topology, no_device_makes_an_empty_root_bus)
{
	cr_assert_eq(tenon_topology_plan(NULL, 0, TENON_TOPOLOGY_MIRROR, 0, &topology, &error), 0);
	cr_assert_eq(topology.bus_count, 1);
	cr_assert_eq(topology.buses[0].kind, TENON_TOPOLOGY_ROOT);
	cr_assert_eq(topology.buses[0].device_count, 0);
}

Test(topology, a_device_whose_bus_is_its_own_gets_a_port_of_its_own)
{
	unsigned device = add(RID(0x3b, 0, 0));
	plan();
	assert_behind(device, TENON_TOPOLOGY_PORT, 1, 0, 0);
	cr_assert_eq(topology.bus_count, 2);
	cr_assert_eq(bus_of(device)->device_count, 1);
	cr_assert_eq(bus_of(device)->number, 1);
	cr_assert(bus_of(device)->isolated);
	cr_assert_not(topology.places[device].multifunction);
	assert_says(topology.places[device].why, "behind a root port of its own: nothing else resets with it");
}

Test(topology, functions_that_reset_together_keep_their_numbers_behind_one_port)
{
	unsigned second = add(RID(0x3b, 0, 3)), first = add(RID(0x3b, 0, 0));
	reset_together(2, 0);
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 1, 0, 3);
	cr_assert_eq(topology.bus_count, 2);
	cr_assert_eq(bus_of(first)->device_count, 2);
	cr_assert(topology.places[first].multifunction && topology.places[second].multifunction);
	cr_assert_not(topology.places[first].ari);
	assert_says(topology.places[first].why, "it resets together with 0000:3b:00.3");
}

Test(topology, two_groups_get_two_ports)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3b, 0, 1));
	reset_together(2, 0);
	add(RID(0x5e, 0, 0));
	add(RID(0x5e, 0, 1));
	reset_together(2, 0);
	plan();
	assert_behind(0, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(1, TENON_TOPOLOGY_PORT, 1, 0, 1);
	assert_behind(2, TENON_TOPOLOGY_PORT, 2, 0, 0);
	assert_behind(3, TENON_TOPOLOGY_PORT, 2, 0, 1);
}

Test(topology, many_companions_are_counted)
{
	for (unsigned function = 0; function < 6; function++)
		add(RID(0x3b, 0, function));
	reset_together(6, 0);
	plan();
	assert_says(topology.places[0].why, "together with 0000:3b:00.1, 0000:3b:00.2, 0000:3b:00.3 and 2 more");
}

Test(topology, a_group_that_lacks_a_member_is_on_the_root_bus_and_says_who_is_missing)
{
	unsigned device = add(RID(0x3b, 0, 0));
	reset_together(1, 1, RID(0x3b, 0, 1));
	devices[device].resets_alone = true;
	plan();
	assert_on_root_bus(device, 1, 0);
	cr_assert_eq(topology.bus_count, 1);
	cr_assert_eq(topology.buses[0].device_count, 1);
	assert_says(topology.places[device].why,
		    "on the root bus, which no guest can reset: a reset of its bus would also hit 0000:3b:00.1, which "
		    "this VM does not have; assign it too");
}

Test(topology, many_missing_members_are_counted)
{
	unsigned device = add(RID(0x3b, 0, 0));
	reset_together(1, 5, RID(0x3b, 0, 1), RID(0x3b, 0, 2), RID(0x3b, 0, 3), RID(0x3b, 0, 4), RID(0x3b, 0, 5));
	plan();
	assert_says(
		topology.places[device].why,
		"0000:3b:00.1, 0000:3b:00.2, 0000:3b:00.3 and 2 more, which this VM does not have; assign them too");
}

Test(topology, the_reason_that_the_host_knows_is_told)
{
	unsigned device = add(RID(0x3b, 0, 0));
	reset_together(1, 1, RID(0x3b, 0, 1));
	devices[device].bus_reset_allowed = false;
	devices[device].why_not = "0000:3b:00.1 has the host's driver nvme; tenon bind 0000:3b:00.1, and assign it too";
	plan();
	assert_on_root_bus(device, 1, 0);
	assert_says(topology.places[device].why, devices[device].why_not);
}

Test(topology, a_reset_that_this_vm_may_not_do_is_not_offered)
{
	unsigned first = add(RID(0x3b, 0, 0)), second = add(RID(0x3b, 0, 1));
	reset_together(2, 0);
	devices[second].bus_reset_allowed = false;
	devices[second].why_not = "its reset=none forbids it; allow its reset";
	plan();
	assert_on_root_bus(first, 1, 0);
	assert_on_root_bus(second, 2, 0);
	assert_says(topology.places[first].why, "may not reset the bus of 0000:3b:00.1: its reset=none forbids it");
	assert_says(topology.places[second].why, "its reset=none forbids it; allow its reset");
	devices[second].why_not = NULL;
	plan();
	assert_on_root_bus(second, 2, 0);
	assert_says(topology.places[second].why, "may not reset the bus of 0000:3b:00.1: the reason is not known");
}

Test(topology, sets_that_contradict_each_other_make_no_group)
{
	unsigned first = add(RID(0x3b, 0, 0)), second = add(RID(0x3b, 0, 1));
	sets[first][1] = devices[second].rid;
	devices[first].affected_count = 2;
	plan();
	assert_on_root_bus(first, 1, 0);
	assert_says(topology.places[first].why, "0000:3b:00.1, whose bus reset hits other devices; a newer kernel");
	assert_behind(second, TENON_TOPOLOGY_PORT, 2, 0, 0);
}

Test(topology, a_set_that_names_one_twice_is_still_that_set)
{
	unsigned first = add(RID(0x3b, 0, 0)), second = add(RID(0x3b, 0, 1));
	reset_together(2, 0);
	sets[first][2] = devices[second].rid;
	devices[first].affected_count = 3;
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 1, 0, 1);
}

Test(topology, a_set_without_the_device_itself_is_not_believed)
{
	unsigned device = add(RID(0x3b, 0, 0));
	sets[device][0] = RID(0x3c, 0, 0);
	plan();
	assert_on_root_bus(device, 1, 0);
	assert_says(topology.places[device].why, "does not name it");
	assert_says(topology.places[device].why, "report this kernel");
}

Test(topology, a_device_without_bus_reset_is_on_the_root_bus)
{
	unsigned device = add(RID(0, 0x1f, 3));
	no_bus_reset(device);
	devices[device].resets_alone = true;
	plan();
	assert_on_root_bus(device, 1, 0);
	assert_says(topology.places[device].why, "the host has no reset of its bus");
	devices[device].why_not = "its bus cannot be reset, as it is a root bus";
	plan();
	assert_says(topology.places[device].why, devices[device].why_not);
}

/* ---- Devices without a place on the host ---- */

Test(topology, a_device_of_another_process_gets_a_port_of_its_own)
{
	unsigned first = add_remote(NULL), second = add_remote(NULL);
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 2, 0, 0);
	cr_assert(bus_of(first)->isolated);
}

Test(topology, a_conventional_device_of_another_process_is_behind_a_port_too)
{
	unsigned device = add_remote(NULL);
	devices[device].pcie = false;
	plan();
	assert_behind(device, TENON_TOPOLOGY_PORT, 1, 0, 0);
}

Test(topology, a_device_that_its_server_cannot_reset_is_on_the_root_bus)
{
	unsigned device = add_remote(NULL);
	devices[device].resets_alone = false;
	plan();
	assert_on_root_bus(device, 1, 0);
	assert_says(topology.places[device].why, "nothing resets it");
}

Test(topology, a_named_reset_group_is_behind_one_port)
{
	unsigned first = add_remote("storage"), other = add_remote("network"), second = add_remote("storage");
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 1, 0, 1);
	assert_behind(other, TENON_TOPOLOGY_PORT, 2, 0, 0);
}

Test(topology, a_named_reset_group_with_a_member_that_cannot_reset_is_on_the_root_bus)
{
	unsigned first = add_remote("storage"), second = add_remote("storage");
	devices[second].resets_alone = false;
	plan();
	assert_on_root_bus(first, 1, 0);
	assert_on_root_bus(second, 2, 0);
	assert_says(topology.places[first].why,
		    "vfio-user:1 of reset group storage has no reset; take it out of that group");
}

Test(topology, a_reset_group_is_not_for_a_device_of_the_host)
{
	devices[add(RID(0x3b, 0, 0))].reset_group = "storage";
	assert_refused(-EINVAL, "0000:3b:00.0", "reset group storage", "leave the reset group out");
}

/* ---- Wishes for a port ---- */

Test(topology, a_port_is_honoured_where_its_reset_is_the_devices_own)
{
	unsigned device = add(RID(0, 0x1f, 3));
	no_bus_reset(device);
	devices[device].resets_alone = true;
	devices[device].wish = TENON_TOPOLOGY_BEHIND_PORT;
	plan();
	assert_behind(device, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_says(topology.places[device].why, "its reset hits nothing else");
}

Test(topology, a_port_is_refused_to_a_device_that_nothing_resets)
{
	unsigned device = add(RID(0, 0x1f, 3));
	no_bus_reset(device);
	devices[device].wish = TENON_TOPOLOGY_BEHIND_PORT;
	assert_refused(-EINVAL, "0000:00:1f.3", "nothing resets it", "leave its port out, or use --topology flat");
}

Test(topology, a_port_is_refused_to_a_part_of_a_group)
{
	unsigned device = add(RID(0x3b, 0, 0));
	reset_together(1, 1, RID(0x3b, 0, 1));
	devices[device].resets_alone = true;
	devices[device].wish = TENON_TOPOLOGY_BEHIND_PORT;
	assert_refused(-EINVAL, "0000:3b:00.0", "0000:3b:00.1, which this VM does not have",
		       "assign it too; or leave its port out, or use --topology flat");
}

Test(topology, the_advice_survives_a_long_reason)
{
	char reason[463];
	memset(reason, 'x', sizeof(reason) - 1);
	reason[sizeof(reason) - 1] = '\0';
	unsigned device = add(RID(0x3b, 0, 0));
	devices[device].bus_reset_allowed = false;
	devices[device].why_not = reason;
	plan();
	cr_assert_lt(strlen(topology.places[device].why), sizeof(topology.places[device].why));
	devices[device].wish = TENON_TOPOLOGY_BEHIND_PORT;
	assert_refused(-EINVAL, "0000:3b:00.0", "xxx", "or use --topology flat");
}

Test(topology, a_port_is_refused_to_a_device_without_reset_in_another_process)
{
	unsigned device = add_remote(NULL);
	devices[device].resets_alone = false;
	devices[device].wish = TENON_TOPOLOGY_BEHIND_PORT;
	assert_refused(-EINVAL, "vfio-user:0", "nothing resets it", "leave its port out");
}

Test(topology, a_port_is_honoured_for_a_complete_group)
{
	unsigned first = add(RID(0x3b, 0, 0)), second = add(RID(0x3b, 0, 1));
	reset_together(2, 0);
	devices[second].wish = TENON_TOPOLOGY_BEHIND_PORT;
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 1, 0, 1);
}

/* ---- Buses and functions ---- */

static void add_conventional_group(void)
{
	unsigned rids[] = {RID(5, 4, 0), RID(5, 4, 1), RID(5, 9, 0)};
	for (unsigned i = 0; i < 3; i++) {
		unsigned device = add(rids[i]);
		devices[device].pcie = false;
		devices[device].iommu_group = 7;
	}
	reset_together(3, 0);
}

Test(topology, conventional_devices_keep_their_numbers_behind_a_bridge)
{
	add_conventional_group();
	plan();
	assert_behind(0, TENON_TOPOLOGY_BRIDGE, 1, 0, 4 << 3);
	assert_behind(1, TENON_TOPOLOGY_BRIDGE, 1, 0, 4 << 3 | 1);
	assert_behind(2, TENON_TOPOLOGY_BRIDGE, 1, 0, 9 << 3);
	cr_assert_not(bus_of(0)->isolated, "a bridge has no ACS");
	cr_assert(topology.places[0].multifunction && topology.places[1].multifunction);
	cr_assert_not(topology.places[2].multifunction);
	assert_says(topology.places[2].why, "behind a conventional bridge: it resets together with 0000:05:04.0");
}

Test(topology, conventional_devices_with_a_wish_are_functions_behind_a_port)
{
	add_conventional_group();
	devices[2].wish = TENON_TOPOLOGY_BEHIND_PORT;
	plan();
	assert_behind(0, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(1, TENON_TOPOLOGY_PORT, 1, 0, 1);
	assert_behind(2, TENON_TOPOLOGY_PORT, 1, 0, 2);
}

Test(topology, each_device_behind_a_bridge_has_a_function_0)
{
	devices[add(RID(5, 4, 2))].pcie = false;
	devices[add(RID(5, 4, 3))].pcie = false;
	devices[add(RID(5, 6, 0))].pcie = false;
	reset_together(3, 0);
	plan();
	assert_behind(0, TENON_TOPOLOGY_BRIDGE, 1, 0, 4 << 3);
	assert_behind(1, TENON_TOPOLOGY_BRIDGE, 1, 0, 4 << 3 | 3);
	assert_behind(2, TENON_TOPOLOGY_BRIDGE, 1, 0, 6 << 3);
}

Test(topology, conventional_devices_of_two_buses_do_not_collide_behind_one_bridge)
{
	devices[add(RID(5, 0, 0))].pcie = false;
	devices[add(RID(6, 0, 0))].pcie = false;
	reset_together(2, 0);
	plan();
	assert_behind(0, TENON_TOPOLOGY_BRIDGE, 1, 0, 0);
	assert_behind(1, TENON_TOPOLOGY_BRIDGE, 1, 0, 1);
}

Test(topology, a_slot_without_function_0_gets_one)
{
	unsigned second = add(RID(0x3b, 0, 5)), first = add(RID(0x3b, 0, 2));
	reset_together(2, 0);
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 1, 0, 5);
}

Test(topology, devices_of_a_switch_without_device_0_become_functions)
{
	unsigned first = add(RID(0x20, 1, 0)), second = add(RID(0x20, 2, 0)), third = add(RID(0x20, 2, 1));
	reset_together(3, 0);
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 1, 0, 2);
	assert_behind(third, TENON_TOPOLOGY_PORT, 1, 0, 1);
	cr_assert_not(bus_of(first)->ari);
}

Test(topology, virtual_functions_keep_their_numbers_by_ari)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3b, 2, 1));
	add(RID(0x3b, 2, 0));
	reset_together(3, 0);
	plan();
	assert_behind(0, TENON_TOPOLOGY_PORT, 1, 0, 0x00);
	assert_behind(2, TENON_TOPOLOGY_PORT, 1, 0, 0x10);
	assert_behind(1, TENON_TOPOLOGY_PORT, 1, 0, 0x11);
	cr_assert(bus_of(0)->ari);
	for (unsigned i = 0; i < 3; i++)
		cr_assert(topology.places[i].ari && topology.places[i].multifunction);
	cr_assert_eq(topology.places[0].ari_next, 0x10);
	cr_assert_eq(topology.places[2].ari_next, 0x11);
	cr_assert_eq(topology.places[1].ari_next, 0);
	cr_assert(bus_of(0)->isolated);
}

Test(topology, without_ari_there_is_no_next_function)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3b, 0, 1));
	reset_together(2, 0);
	plan();
	cr_assert_eq(topology.places[0].ari_next, 0);
}

Test(topology, a_conventional_function_is_not_reached_by_ari)
{
	add(RID(0x20, 0, 0));
	devices[add(RID(0x20, 2, 0))].pcie = false;
	reset_together(2, 0);
	plan();
	assert_behind(0, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(1, TENON_TOPOLOGY_PORT, 1, 0, 1);
	cr_assert_not(bus_of(0)->ari);
}

Test(topology, devices_of_two_buses_are_not_one_ari_device)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3c, 2, 0));
	reset_together(2, 0);
	plan();
	assert_behind(1, TENON_TOPOLOGY_PORT, 1, 0, 1);
	cr_assert_not(bus_of(0)->ari);
}

Test(topology, a_group_of_more_than_eight_uses_ari)
{
	for (unsigned i = 0; i < 9; i++)
		add_remote("storage");
	plan();
	for (unsigned i = 0; i < 9; i++)
		assert_behind(i, TENON_TOPOLOGY_PORT, 1, 0, i);
	cr_assert(bus_of(0)->ari);
	cr_assert_eq(topology.places[7].ari_next, 8);
}

Test(topology, a_conventional_member_of_a_group_of_more_than_eight_is_refused)
{
	for (unsigned i = 0; i < 9; i++)
		add_remote("storage");
	devices[4].pcie = false;
	assert_refused(-ENOSPC, "vfio-user:4", "resets together with 8 others", "use --topology flat");
}

/* ---- IOMMU groups ---- */

Test(topology, buses_that_share_an_iommu_group_are_functions_of_one_slot)
{
	unsigned first = add(RID(0x3b, 0, 0)), between = add(RID(0x3c, 0, 0)), second = add(RID(0x3d, 0, 0));
	devices[first].iommu_group = devices[second].iommu_group = 7;
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 1, 1, 0);
	assert_behind(between, TENON_TOPOLOGY_PORT, 2, 0, 0);
	cr_assert_not(bus_of(first)->isolated);
	cr_assert_not(bus_of(second)->isolated);
	cr_assert(bus_of(between)->isolated);
	assert_says(topology.places[second].why, "in the slot of 0000:3b:00.0, because of their IOMMU groups");
	cr_assert_not(topology.places[first].multifunction, "behind its port it is alone");
}

Test(topology, a_group_that_links_two_iommu_groups_is_in_one_slot_with_both)
{
	unsigned left = add(RID(0x3b, 0, 0)), right = add(RID(0x3e, 0, 0));
	unsigned one = add(RID(0x3d, 0, 0)), two = add(RID(0x3d, 0, 1));
	reset_together(2, 0);
	devices[left].iommu_group = devices[one].iommu_group = 7;
	devices[right].iommu_group = devices[two].iommu_group = 8;
	plan();
	assert_behind(left, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(one, TENON_TOPOLOGY_PORT, 1, 1, 0);
	assert_behind(right, TENON_TOPOLOGY_PORT, 1, 2, 0);
}

Test(topology, endpoints_bridges_and_ports_share_the_slot_of_their_iommu_group)
{
	unsigned partial = add(RID(2, 0, 0));
	reset_together(1, 1, RID(2, 0, 1));
	unsigned whole = add(RID(3, 0, 0)), conventional = add(RID(4, 5, 0));
	devices[conventional].pcie = false;
	devices[partial].iommu_group = devices[whole].iommu_group = devices[conventional].iommu_group = 7;
	plan();
	assert_on_root_bus(partial, 1, 0);
	cr_assert(topology.places[partial].multifunction);
	assert_behind(whole, TENON_TOPOLOGY_PORT, 1, 1, 0);
	assert_behind(conventional, TENON_TOPOLOGY_BRIDGE, 1, 2, 5 << 3);
	cr_assert_not(bus_of(whole)->isolated);
}

Test(topology, devices_without_iommu_group_share_none)
{
	unsigned first = add(RID(0x3b, 0, 0)), second = add(RID(0x3c, 0, 0));
	devices[first].iommu_group = devices[second].iommu_group = -1;
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 2, 0, 0);
}

Test(topology, a_port_is_not_isolated_where_ari_would_split_an_iommu_group)
{
	unsigned pf = add(RID(0x3b, 0, 0)), vf = add(RID(0x3b, 2, 0));
	reset_together(2, 0);
	devices[pf].iommu_group = devices[vf].iommu_group = 7;
	plan();
	assert_behind(vf, TENON_TOPOLOGY_PORT, 1, 0, 0x10);
	cr_assert_not(bus_of(vf)->isolated);
}

Test(topology, an_iommu_group_that_needs_more_than_one_slot_is_refused)
{
	for (unsigned i = 0; i < 9; i++)
		devices[add(RID(0x30 + i, 0, 0))].iommu_group = 7;
	assert_refused(-ENOSPC, "0000:30:00.0", "need 9 functions", "assign fewer of them, or use --topology flat");
	count = 8;
	plan();
	assert_behind(7, TENON_TOPOLOGY_PORT, 1, 7, 0);
}

/* ---- Slots and numbers ---- */

Test(topology, a_slot_is_the_devices_or_its_ports)
{
	unsigned endpoint = add(RID(0, 0x1f, 3)), behind = add(RID(0x3b, 0, 0)), other = add(RID(0x3c, 0, 0));
	no_bus_reset(endpoint);
	devices[endpoint].slot = 9;
	devices[behind].slot = 1;
	plan();
	assert_on_root_bus(endpoint, 9, 0);
	assert_behind(behind, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(other, TENON_TOPOLOGY_PORT, 2, 0, 0);
}

Test(topology, slots_of_the_machine_stay_free)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3c, 0, 0));
	plan_in(TENON_TOPOLOGY_MIRROR, 0x7 | 1u << 4);
	assert_behind(0, TENON_TOPOLOGY_PORT, 3, 0, 0);
	assert_behind(1, TENON_TOPOLOGY_PORT, 5, 0, 0);
}

Test(topology, slot_0_is_never_given)
{
	add(RID(0x3b, 0, 0));
	plan_in(TENON_TOPOLOGY_MIRROR, 0);
	assert_behind(0, TENON_TOPOLOGY_PORT, 1, 0, 0);
}

Test(topology, a_slot_of_the_machine_is_refused)
{
	devices[add(RID(0x3b, 0, 0))].slot = 3;
	assert_refused(-EINVAL, "0000:3b:00.0", "slot 3 of the root bus: the machine itself uses it", "choose another");
}

Test(topology, a_slot_that_does_not_exist_is_refused)
{
	devices[add(RID(0x3b, 0, 0))].slot = 32;
	assert_refused(-EINVAL, "0000:3b:00.0", "no slot 32", "choose one of 1 to 31");
}

Test(topology, one_slot_for_two_groups_is_refused)
{
	devices[add(RID(0x3b, 0, 0))].slot = 5;
	devices[add(RID(0x3c, 0, 0))].slot = 5;
	assert_refused(-EINVAL, "0000:3c:00.0", "slot 5 of the root bus, which 0000:3b:00.0 is to have",
		       "choose another slot");
}

Test(topology, one_slot_for_the_devices_of_a_group_is_honoured)
{
	devices[add(RID(0x3b, 0, 0))].slot = 5;
	devices[add(RID(0x3b, 0, 1))].slot = 5;
	reset_together(2, 0);
	plan();
	assert_behind(0, TENON_TOPOLOGY_PORT, 5, 0, 0);
	assert_behind(1, TENON_TOPOLOGY_PORT, 5, 0, 1);
}

Test(topology, one_slot_for_the_devices_of_an_iommu_group_is_honoured)
{
	unsigned first = add(RID(0x3b, 0, 0)), second = add(RID(0x3c, 0, 0));
	devices[first].iommu_group = devices[second].iommu_group = 7;
	devices[first].slot = devices[second].slot = 5;
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 5, 0, 0);
	assert_behind(second, TENON_TOPOLOGY_PORT, 5, 1, 0);
}

Test(topology, two_slots_for_one_group_are_refused)
{
	devices[add(RID(0x3b, 0, 0))].slot = 5;
	devices[add(RID(0x3b, 0, 1))].slot = 6;
	reset_together(2, 0);
	assert_refused(-EINVAL, "0000:3b:00.1", "it resets together with 0000:3b:00.0, which is to be in slot 5",
		       "give both the same slot, or use --topology flat");
}

Test(topology, two_slots_for_one_iommu_group_are_refused)
{
	unsigned first = add(RID(0x3b, 0, 0)), second = add(RID(0x3c, 0, 0));
	devices[first].iommu_group = devices[second].iommu_group = 7;
	devices[first].slot = 5;
	devices[second].slot = 6;
	assert_refused(-EINVAL, "0000:3c:00.0", "it is tied by its IOMMU group to 0000:3b:00.0", "--topology flat");
}

Test(topology, a_full_root_bus_is_refused)
{
	for (unsigned i = 0; i < 31; i++)
		add(RID(0x30 + i, 0, 0));
	plan();
	assert_behind(30, TENON_TOPOLOGY_PORT, 31, 0, 0);
	add(RID(0x70, 0, 0));
	assert_refused(-ENOSPC, "0000:4e:00.0", "no slot of the root bus is left", "assign fewer devices");
}

Test(topology, buses_are_numbered_in_the_order_of_their_ports)
{
	unsigned third = add(RID(0x3b, 0, 0)), first = add(RID(0x3c, 0, 0)), second = add(RID(0x3d, 0, 0));
	devices[third].slot = 8;
	devices[first].iommu_group = devices[second].iommu_group = 7;
	plan();
	cr_assert_eq(topology.places[first].bus, 1);
	cr_assert_eq(topology.places[second].bus, 2);
	cr_assert_eq(topology.places[third].bus, 3);
	for (unsigned i = 0; i < topology.bus_count; i++)
		cr_assert_eq(topology.buses[i].number, i);
}

Test(topology, slots_are_given_in_the_order_of_rids_and_then_of_the_caller)
{
	unsigned remote = add_remote(NULL), last = add(0x10000 | RID(0, 0, 0)), first = add(RID(0x3b, 0, 0)),
		 another = add_remote(NULL);
	plan();
	assert_behind(first, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(last, TENON_TOPOLOGY_PORT, 2, 0, 0);
	assert_behind(remote, TENON_TOPOLOGY_PORT, 3, 0, 0);
	assert_behind(another, TENON_TOPOLOGY_PORT, 4, 0, 0);
}

/* ---- Flat ---- */

Test(topology, flat_puts_each_device_on_the_root_bus)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3b, 0, 1));
	reset_together(2, 0);
	devices[0].iommu_group = devices[1].iommu_group = 7;
	plan_in(TENON_TOPOLOGY_FLAT, 1);
	assert_on_root_bus(0, 1, 0);
	assert_on_root_bus(1, 2, 0);
	cr_assert_not(topology.places[0].multifunction);
	assert_says(topology.places[0].why, "on the root bus, as the topology is flat");
}

Test(topology, flat_gives_a_port_to_whoever_wishes_one)
{
	unsigned alone = add(RID(0x3b, 0, 0)), own = add(RID(0x3c, 0, 0));
	reset_together(1, 1, RID(0x3c, 0, 1));
	devices[own].resets_alone = true;
	devices[alone].wish = devices[own].wish = TENON_TOPOLOGY_BEHIND_PORT;
	devices[own].slot = 7;
	plan_in(TENON_TOPOLOGY_FLAT, 1);
	assert_behind(alone, TENON_TOPOLOGY_PORT, 1, 0, 0);
	assert_behind(own, TENON_TOPOLOGY_PORT, 7, 0, 0);
	cr_assert_not(bus_of(alone)->isolated, "flat promises nothing about groups");
}

Test(topology, flat_offers_no_reset_that_would_hit_others)
{
	unsigned partial = add(RID(0x3b, 0, 0));
	reset_together(1, 1, RID(0x3b, 0, 1));
	unsigned first = add(RID(0x3c, 0, 0)), second = add(RID(0x3c, 0, 1));
	reset_together(2, 0);
	devices[partial].wish = devices[first].wish = TENON_TOPOLOGY_BEHIND_PORT;
	plan_in(TENON_TOPOLOGY_FLAT, 1);
	cr_assert_eq(bus_of(partial)->kind, TENON_TOPOLOGY_PORT);
	cr_assert_not(bus_of(partial)->bus_reset);
	assert_says(topology.places[partial].why,
		    "without a bus reset: a reset of its bus would also hit 0000:3b:00.1");
	cr_assert_eq(bus_of(first)->kind, TENON_TOPOLOGY_PORT);
	cr_assert_not(bus_of(first)->bus_reset);
	assert_says(topology.places[first].why, "without a bus reset: others reset with it");
	assert_on_root_bus(second, 3, 0);
}

Test(topology, flat_refuses_a_slot_for_two)
{
	devices[add(RID(0x3b, 0, 0))].slot = 5;
	devices[add(RID(0x3b, 0, 1))].slot = 5;
	reset_together(2, 0);
	assert_refused_in(TENON_TOPOLOGY_FLAT, -EINVAL, "0000:3b:00.1", "slot 5", "choose another slot");
}

/* ---- What is no input ---- */

Test(topology, a_device_that_is_there_twice_is_refused)
{
	add(RID(0x3b, 0, 0));
	devices[add(RID(0x3b, 0, 0))].name = "again";
	assert_refused(-EINVAL, "again", "the same device, 0000:3b:00.0, as 0000:3b:00.0", "assign it once");
	devices[1].name = devices[0].name;
	devices[1].rid++;
	assert_refused(-EINVAL, "0000:3b:00.0", "is there twice", "name it once");
}

Test(topology, too_many_devices_are_refused)
{
	for (unsigned i = 0; i < CAPACITY; i++)
		add(RID(0x10 + i, 0, 0));
	assert_refused(-ENOSPC, "topology", "65 devices", "assign fewer");
}

Test(topology, the_greatest_group_has_room)
{
	for (unsigned i = 0; i < TENON_TOPOLOGY_DEVICES_MAX; i++)
		add(RID(0x3b, i / 8, i % 8));
	reset_together(TENON_TOPOLOGY_DEVICES_MAX, 0);
	plan();
	for (unsigned i = 0; i < TENON_TOPOLOGY_DEVICES_MAX; i++)
		assert_behind(i, TENON_TOPOLOGY_PORT, 1, 0, i);
}

Test(topology, facts_that_make_no_sense_are_refused)
{
	unsigned device = add(RID(0x3b, 0, 0));
	struct tenon_topology_device good = devices[device];
	devices[device].affected_count = TENON_TOPOLOGY_MEMBERS_MAX + 1;
	assert_refused(-EINVAL, "0000:3b:00.0", "hits 65 devices", "move it to a slot of its own");
	devices[device] = good;
	devices[device].affected = NULL;
	assert_refused(-EINVAL, "0000:3b:00.0", "affected is NULL", "set both");
	devices[device] = good;
	devices[device].wish = (enum tenon_topology_wish)2;
	assert_refused(-EINVAL, "0000:3b:00.0", "unknown wish 2", "enum tenon_topology_wish");
	devices[device] = good;
	devices[device].reserved[3] = 1;
	assert_refused(-EINVAL, "0000:3b:00.0", "reserved is not zero", "use a library as new");
	devices[device] = good;
	devices[device].name = "";
	assert_refused(-EINVAL, "topology: device 0", "no name", "give it one");
	devices[device].name = NULL;
	assert_refused(-EINVAL, "topology: device 0", "no name", "give it one");
	devices[device] = good;
	assert_refused_in((enum tenon_topology_mode)2, -EINVAL, "topology", "unknown mode 2",
			  "enum tenon_topology_mode");
}

Test(topology, a_result_without_room_is_refused)
{
	topology.size--;
	assert_refused(-EINVAL, "topology", "no room", "set .size");
	cr_assert_eq(tenon_topology_plan(NULL, 0, TENON_TOPOLOGY_MIRROR, 0, NULL, &error), -EINVAL);
	topology.size = sizeof(topology);
	cr_assert_eq(tenon_topology_plan(NULL, 1, TENON_TOPOLOGY_MIRROR, 0, &topology, &error), -EINVAL);
	assert_says(error.message, "no array");
}

/* ---- Devices that come later ---- */

static int check_late(const struct tenon_topology_device *device)
{
	return tenon_topology_check_late(devices, count, device, TENON_TOPOLOGY_MIRROR, &error);
}

/* The last device added is the one that comes. */
static void assert_late_is_refused(const char *cause, const char *advice)
{
	count--;
	cr_assert_eq(check_late(&devices[count]), -EINVAL);
	cr_assert_eq(strncmp(error.message, devices[count].name, strlen(devices[count].name)), 0, "%s", error.message);
	assert_says(error.message, cause);
	assert_says(error.message, advice);
	cr_assert_eq(tenon_topology_check_late(devices, count, &devices[count], TENON_TOPOLOGY_FLAT, &error), 0,
		     "flat promises nothing: %s", error.message);
	count++;
}

Test(topology, late_device_that_resets_alone_is_welcome)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3c, 0, 0));
	count--;
	cr_assert_eq(check_late(&devices[1]), 0, "%s", error.message);
	no_bus_reset(1);
	devices[1].resets_alone = true;
	cr_assert_eq(check_late(&devices[1]), 0, "%s", error.message);
	cr_assert_eq(tenon_topology_check_late(NULL, 0, &devices[1], TENON_TOPOLOGY_MIRROR, &error), 0);
	unsigned remote = add_remote("storage");
	count--;
	cr_assert_eq(check_late(&devices[remote]), 0, "%s", error.message);
}

Test(topology, late_device_that_nothing_resets_is_refused)
{
	no_bus_reset(add(RID(0x3b, 0, 0)));
	assert_late_is_refused("nothing resets it", "give it to the guest from the start, or use --topology flat");
}

Test(topology, late_part_of_a_group_is_refused)
{
	add(RID(0x3b, 0, 0));
	reset_together(1, 1, RID(0x3b, 0, 1));
	assert_late_is_refused("0000:3b:00.1, which this VM does not have",
			       "assign it too; or give it to the guest from the start, or use --topology flat");
}

Test(topology, late_device_of_a_group_that_the_guest_has_is_refused)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3b, 0, 1));
	reset_together(2, 0);
	assert_late_is_refused("resets together with 0000:3b:00.0, which the guest already has elsewhere",
			       "give it to the guest from the start");
}

Test(topology, late_device_of_a_named_group_is_refused)
{
	add_remote("storage");
	add_remote("storage");
	assert_late_is_refused("resets together with vfio-user:0", "from the start");
}

Test(topology, late_device_of_an_iommu_group_that_the_guest_has_is_refused)
{
	add(RID(0x3b, 0, 0));
	add(RID(0x3c, 0, 0));
	devices[0].iommu_group = devices[1].iommu_group = 7;
	assert_late_is_refused("shares its IOMMU group with 0000:3b:00.0", "from the start, or use --topology flat");
}

Test(topology, late_device_that_is_there_already_is_refused)
{
	add(RID(0x3b, 0, 0));
	cr_assert_eq(tenon_topology_check_late(devices, 1, &devices[0], TENON_TOPOLOGY_FLAT, &error), -EINVAL);
	assert_says(error.message, "0000:3b:00.0: is there twice; name it once");
}

Test(topology, late_device_of_a_full_guest_is_refused)
{
	for (unsigned i = 0; i < CAPACITY; i++)
		add(RID(0x10 + i, 0, 0));
	count--;
	cr_assert_eq(check_late(&devices[count]), -EINVAL);
	assert_says(error.message, "0000:50:00.0: the guest has 64 devices, and room for 64; remove one first");
}

Test(topology, late_needs_a_device_and_a_mode)
{
	add(RID(0x3b, 0, 0));
	cr_assert_eq(check_late(NULL), -EINVAL);
	assert_says(error.message, "no device");
	cr_assert_eq(tenon_topology_check_late(NULL, 1, &devices[0], TENON_TOPOLOGY_MIRROR, &error), -EINVAL);
	cr_assert_eq(tenon_topology_check_late(NULL, 0, &devices[0], (enum tenon_topology_mode)2, &error), -EINVAL);
	assert_says(error.message, "unknown mode 2");
}

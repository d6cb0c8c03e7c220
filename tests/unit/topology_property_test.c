// SPDX-License-Identifier: MIT
/*
 * Random hosts (topology_host.c), and what a Linux guest (topology_linux.c) makes of the topology that each becomes: its reset sets
 * are the host's, its IOMMU groups hold at least what the host's hold, it finds every device where it was promised, and a plan is
 * refused exactly where a rule says so. What is expected is worked out here from the facts, without the library's code.
 * TENON_TOPOLOGY_SEED=N tries the one host that a failure named.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/tenon.h>

#include "topology_host.h"

TestSuite(topology_property, .timeout = 300);

#define HOSTS      12000
#define FIRST_SEED 1
#define MAX        TENON_TOPOLOGY_DEVICES_MAX

/* What is looked at; a failure prints it. Static for its size. */
static struct random_host host;
static enum tenon_topology_mode mode;
static struct tenon_topology topology;
static struct linux_machine guest;
static int guest_device[MAX]; /* of the host's devices, in the guest */

/* ---- What the rules say, from the facts ---- */

static struct {
	uint64_t group[MAX];     /* of the devices that the host resets together with each; 0: not complete */
	unsigned unit[MAX];      /* the first device of those that are on one bus of their own */
	unsigned component[MAX]; /* the first device of those that are linked by buses and IOMMU groups */
	bool behind_port[MAX];   /* the reset of whose bus is offered */
	bool invalid, no_space;  /* which refusals the rules ask for */
} expected;

static bool on_host(unsigned i)
{
	return host.devices[i].rid != TENON_TOPOLOGY_NO_RID;
}

static bool set_has(unsigned i, uint32_t rid)
{
	bool has = false;
	for (unsigned k = 0; k < host.devices[i].affected_count; k++)
		has |= host.devices[i].affected[k] == rid;
	return has;
}

static int device_of(uint32_t rid)
{
	for (unsigned i = 0; i < host.count; i++) {
		if (on_host(i) && host.devices[i].rid == rid)
			return (int)i;
	}
	return -1;
}

static uint64_t group_of(unsigned i)
{
	const struct tenon_topology_device *device = &host.devices[i];
	uint64_t group = 0;
	for (unsigned j = 0; j < host.count && !on_host(i); j++) {
		bool named = device->reset_group && host.devices[j].reset_group &&
			     strcmp(device->reset_group, host.devices[j].reset_group) == 0;
		if (i != j && !named)
			continue;
		if (!host.devices[j].resets_alone)
			return 0;
		group |= UINT64_C(1) << j;
	}
	if (!on_host(i))
		return group;
	if (!set_has(i, device->rid))
		return 0;
	for (unsigned k = 0; k < device->affected_count; k++) {
		int j = device_of(device->affected[k]);
		if (j < 0 || !host.devices[j].bus_reset_allowed)
			return 0;
		for (unsigned n = 0; n < host.devices[j].affected_count; n++) {
			if (!set_has(i, host.devices[j].affected[n]))
				return 0;
		}
		for (unsigned n = 0; n < device->affected_count; n++) {
			if (!set_has((unsigned)j, device->affected[n]))
				return 0;
		}
		group |= UINT64_C(1) << j;
	}
	return group;
}

static bool same_iommu_group(unsigned i, unsigned j)
{
	return host.devices[i].iommu_group >= 0 && host.devices[i].iommu_group == host.devices[j].iommu_group;
}

/* A port that is the device's own reset, or no lie because the topology is flat. */
static bool port_is_honest(unsigned i)
{
	const struct tenon_topology_device *device = &host.devices[i];
	return mode == TENON_TOPOLOGY_FLAT || expected.group[i] ||
	       (on_host(i) && device->affected_count == 0 && device->resets_alone);
}

static bool all_conventional(uint64_t group)
{
	for (unsigned i = 0; i < host.count; i++) {
		const struct tenon_topology_device *device = &host.devices[i];
		if (group >> i & 1 && (device->pcie || !on_host(i) || device->wish == TENON_TOPOLOGY_BEHIND_PORT))
			return false;
	}
	return true;
}

static void expect_units(void)
{
	for (unsigned i = 0; i < host.count; i++) {
		bool wish = host.devices[i].wish == TENON_TOPOLOGY_BEHIND_PORT;
		expected.group[i] = group_of(i);
		expected.unit[i] = i;
		for (unsigned j = host.count; mode == TENON_TOPOLOGY_MIRROR && j-- > 0;) {
			if (expected.group[i] >> j & 1)
				expected.unit[i] = j;
		}
		expected.behind_port[i] = mode == TENON_TOPOLOGY_FLAT ? wish : expected.group[i] || wish;
		expected.invalid |= wish && !port_is_honest(i);
		expected.component[i] = i;
		uint64_t group = expected.group[i];
		if (mode == TENON_TOPOLOGY_MIRROR && __builtin_popcountll(group) > 8 && !host.devices[i].pcie &&
		    !all_conventional(group))
			expected.no_space = true;
	}
}

/* The least number spreads until nothing changes. */
static void expect_components(void)
{
	for (bool changed = mode == TENON_TOPOLOGY_MIRROR; changed;) {
		changed = false;
		for (unsigned i = 0; i < host.count; i++) {
			for (unsigned j = 0; j < host.count; j++) {
				if (expected.component[j] >= expected.component[i] ||
				    (expected.unit[i] != expected.unit[j] && !same_iommu_group(i, j)))
					continue;
				expected.component[i] = expected.component[j];
				changed = true;
			}
		}
	}
}

static unsigned units_of_component(unsigned component)
{
	unsigned units = 0;
	for (unsigned i = 0; i < host.count; i++)
		units += expected.component[i] == component && expected.unit[i] == i;
	return units;
}

static void expect_slots(void)
{
	unsigned components = 0, free_slots = 0;
	uint32_t reserved = host.reserved_slots | 1;
	for (unsigned i = 0; i < host.count; i++) {
		unsigned slot = host.devices[i].slot;
		components += expected.component[i] == i;
		expected.no_space |= units_of_component(i) > 8;
		expected.invalid |= slot && reserved >> slot & 1;
		for (unsigned j = 0; slot && j < i; j++) {
			bool linked = expected.component[i] == expected.component[j];
			unsigned other = host.devices[j].slot;
			expected.invalid |= other && linked != (slot == other);
		}
	}
	for (unsigned slot = 1; slot < 32; slot++)
		free_slots += !(reserved >> slot & 1);
	expected.no_space |= components > free_slots;
}

static void expect(void)
{
	memset(&expected, 0, sizeof(expected));
	expect_units();
	expect_components();
	expect_slots();
}

/* ---- What the guest sees ---- */

static void print(void)
{
	random_host_print(&host);
	fprintf(stderr, "%s\n", mode == TENON_TOPOLOGY_FLAT ? "flat:" : "mirror:");
	for (unsigned i = 0; i < topology.bus_count; i++) {
		const struct tenon_topology_bus *bus = &topology.buses[i];
		fprintf(stderr, "bus %u: kind %d at %02x.%x, %u devices%s%s%s\n", bus->number, (int)bus->kind,
			bus->slot, bus->function, bus->device_count, bus->bus_reset ? ", reset" : "",
			bus->isolated ? ", isolated" : "", bus->ari ? ", ARI" : "");
	}
	for (unsigned i = 0; i < host.count; i++) {
		const struct tenon_topology_place *place = &topology.places[i];
		fprintf(stderr, "%-14s %02x:%02x.%x%s%s next %02x: %s\n", host.devices[i].name, place->bus,
			place->devfn >> 3, place->devfn & 7, place->multifunction ? " multi" : "",
			place->ari ? " ARI" : "", place->ari_next, place->why);
	}
}

#define check(condition, ...)                                                                                          \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			print();                                                                                       \
			cr_assert_fail(__VA_ARGS__);                                                                   \
		}                                                                                                      \
	} while (0)

/* As a VMM would build it from the plan. */
static void build_guest(void)
{
	int buses[TENON_TOPOLOGY_BUSES_MAX];
	unsigned functions[32] = {0};
	memset(&guest, 0, sizeof(guest));
	guest.wide_slots = host.seed % 2;
	buses[0] = linux_add_bus(&guest, LINUX_NONE, LINUX_NONE);
	for (unsigned i = 1; i < topology.bus_count; i++)
		functions[topology.buses[i].slot & 31]++;
	for (unsigned i = 0; i < host.count; i++)
		functions[topology.places[i].bus == 0 ? topology.places[i].devfn >> 3 & 31 : 0]++;
	for (unsigned i = 1; i < topology.bus_count; i++) {
		const struct tenon_topology_bus *bus = &topology.buses[i];
		bool port = bus->kind == TENON_TOPOLOGY_PORT;
		int bridge = linux_add_device(&guest, 0, bus->slot << 3 | bus->function,
					      port ? LINUX_ROOT_PORT : LINUX_CONVENTIONAL);
		guest.devices[bridge].acs = bus->isolated;
		guest.devices[bridge].ari_forwarding = bus->ari;
		guest.devices[bridge].hotplug = port && !bus->ari;
		guest.devices[bridge].multifunction = functions[bus->slot & 31] > 1;
		buses[i] = linux_add_bus(&guest, bridge, 0);
	}
	for (unsigned i = 0; i < host.count; i++) {
		const struct tenon_topology_place *place = &topology.places[i];
		check(place->bus < topology.bus_count, "%s: no bus %u", host.devices[i].name, place->bus);
		enum linux_type pcie = place->bus == 0 ? LINUX_ROOT_COMPLEX_ENDPOINT : LINUX_ENDPOINT;
		guest_device[i] = linux_add_device(&guest, buses[place->bus], place->devfn,
						   host.devices[i].pcie ? pcie : LINUX_CONVENTIONAL);
		struct linux_device *device = &guest.devices[guest_device[i]];
		device->tag = (int)i;
		device->multifunction = place->multifunction;
		device->ari = place->ari;
		device->ari_next = place->ari_next;
	}
	linux_scan(&guest, buses[0], 0);
	linux_make_iommu_groups(&guest);
}

static void check_form(void)
{
	unsigned devices[TENON_TOPOLOGY_BUSES_MAX] = {0};
	check(topology.bus_count >= 1 && topology.bus_count <= TENON_TOPOLOGY_BUSES_MAX, "%u buses",
	      topology.bus_count);
	for (unsigned i = 0; i < topology.bus_count; i++) {
		const struct tenon_topology_bus *bus = &topology.buses[i];
		check((bus->kind == TENON_TOPOLOGY_ROOT) == (i == 0), "bus %u: kind %d", i, (int)bus->kind);
		check(bus->number == i, "bus %u: number %u", i, bus->number);
		check(bus->function < 8 && bus->slot < 32, "bus %u: %u.%u", i, bus->slot, bus->function);
		check(i == 0 || !((host.reserved_slots | 1) >> bus->slot & 1), "bus %u: slot %u is taken", i,
		      bus->slot);
		check(!bus->isolated || bus->kind == TENON_TOPOLOGY_PORT, "bus %u: isolated", i);
	}
	for (unsigned i = 0; i < host.count; i++) {
		const struct tenon_topology_place *place = &topology.places[i];
		const struct tenon_topology_bus *bus = &topology.buses[place->bus];
		const char *name = host.devices[i].name;
		devices[place->bus]++;
		check(place->bus > 0 || !((host.reserved_slots | 1) >> (place->devfn >> 3) & 1), "%s: slot taken",
		      name);
		check(bus->kind != TENON_TOPOLOGY_PORT || place->devfn < 8 || bus->ari, "%s: out of reach", name);
		check(place->ari == bus->ari && (!place->ari || host.devices[i].pcie), "%s: ARI", name);
		unsigned slot = host.devices[i].slot;
		check(!slot || slot == (place->bus ? bus->slot : place->devfn >> 3), "%s: not in slot %u", name, slot);
		check(place->why[0] && !strchr(place->why, '\n'), "%s: no reason", name);
	}
	for (unsigned i = 0; i < host.count; i++) {
		for (unsigned j = 0; j < i; j++)
			check(topology.places[i].bus != topology.places[j].bus ||
				      topology.places[i].devfn != topology.places[j].devfn,
			      "%s and %s are in one place", host.devices[i].name, host.devices[j].name);
		for (unsigned j = 1; j < topology.bus_count && topology.places[i].bus == 0; j++)
			check(topology.places[i].devfn != (topology.buses[j].slot << 3 | topology.buses[j].function),
			      "%s is where a port is", host.devices[i].name);
	}
	for (unsigned i = 0; i < topology.bus_count; i++)
		check(devices[i] == topology.buses[i].device_count && (i == 0 || devices[i]), "bus %u: %u devices", i,
		      devices[i]);
}

/* The guest finds all, each where the plan says, and nothing in its place. */
static void check_found(void)
{
	for (unsigned i = 0; i < guest.device_count; i++) {
		const struct linux_device *device = &guest.devices[i];
		uint32_t rid = linux_rid(&guest, (int)i);
		bool others = false;
		check(device->found, "the guest does not find device %#x", rid);
		for (unsigned j = 0; j < guest.device_count; j++) {
			check(i == j || rid != linux_rid(&guest, (int)j), "two devices are %#x", rid);
			others |= i != j && guest.devices[j].bus == device->bus &&
				  (guest.devices[j].devfn >> 3 == device->devfn >> 3 || device->ari);
		}
		check(device->multifunction == others, "%#x: multifunction is %d", rid, device->multifunction);
		if (device->tag != LINUX_NONE)
			check(rid >> 8 == topology.places[device->tag].bus, "%s: the guest finds it on bus %u",
			      host.devices[device->tag].name, rid >> 8);
	}
}

static void check_reset_sets(void)
{
	for (unsigned i = 0; i < host.count; i++) {
		int set[LINUX_DEVICES_MAX];
		int count = linux_hot_reset_set(&guest, guest_device[i], set);
		const char *name = host.devices[i].name;
		const struct tenon_topology_bus *bus = &topology.buses[topology.places[i].bus];
		bool alone = expected.group[i] == UINT64_C(1) << i;
		check(expected.behind_port[i] == (count > 0), "%s: the guest gets %d for its set", name, count);
		if (mode == TENON_TOPOLOGY_FLAT)
			check(bus->bus_reset == (count > 0 && (alone || host.devices[i].resets_alone)),
			      "%s: reset is %d", name, bus->bus_reset);
		else
			check(bus->bus_reset == (count > 0), "%s: reset is %d", name, bus->bus_reset);
		if (count < 0)
			continue;
		uint64_t group = 0;
		for (int k = 0; k < count; k++) {
			check(guest.devices[set[k]].tag != LINUX_NONE, "%s: a bridge is in its set", name);
			group |= UINT64_C(1) << guest.devices[set[k]].tag;
		}
		bool own = mode == TENON_TOPOLOGY_FLAT || !expected.group[i];
		check(group == (own ? UINT64_C(1) << i : expected.group[i]), "%s: its set is %#lx, not %#lx", name,
		      (unsigned long)group, (unsigned long)expected.group[i]);
	}
}

static void check_iommu_groups(void)
{
	for (unsigned i = 0; i < host.count; i++) {
		for (unsigned j = 0; j < i; j++) {
			const char *one = host.devices[i].name, *other = host.devices[j].name;
			bool share = guest.devices[guest_device[i]].group == guest.devices[guest_device[j]].group;
			if (mode == TENON_TOPOLOGY_MIRROR && same_iommu_group(i, j))
				check(share, "%s and %s: share no IOMMU group in the guest", one, other);
			if (expected.component[i] != expected.component[j])
				check(!share, "%s and %s: share an IOMMU group for nothing", one, other);
		}
	}
}

/* Numbers of the host, where nothing is in their way. */
static void check_kept_numbers(void)
{
	for (unsigned i = 0; i < host.count; i++) {
		uint64_t group = expected.group[i];
		enum tenon_topology_bus_kind kind = topology.buses[topology.places[i].bus].kind;
		if (mode == TENON_TOPOLOGY_FLAT || !group)
			continue;
		if (!on_host(i)) {
			check(kind == TENON_TOPOLOGY_PORT, "%s: behind kind %d", host.devices[i].name, (int)kind);
			continue;
		}
		bool ari = topology.places[i].ari, bridge = all_conventional(group), clash = false, zero = false,
		     one_bus = true, above = false, pcie = true;
		unsigned mask = ari || bridge ? 0xff : 7;
		for (unsigned j = 0; j < host.count; j++) {
			if (!(group >> j & 1))
				continue;
			clash |= i != j && (host.devices[i].rid & mask) == (host.devices[j].rid & mask);
			zero |= bridge ? (host.devices[j].rid & 0xff) == (host.devices[i].rid & 0xf8)
				       : (host.devices[j].rid & mask) == 0;
			one_bus &= host.devices[i].rid >> 8 == host.devices[j].rid >> 8;
			above |= (host.devices[j].rid & 0xff) > 7;
			pcie &= host.devices[j].pcie;
		}
		bool has_zero =
			device_of(host.devices[i].rid & ~0xffu) >= 0 && set_has(i, host.devices[i].rid & ~0xffu);
		bool reached_by_ari = one_bus && above && pcie && has_zero;
		check(kind == (bridge ? TENON_TOPOLOGY_BRIDGE : TENON_TOPOLOGY_PORT), "%s: behind kind %d",
		      host.devices[i].name, (int)kind);
		check(ari == (!bridge && (reached_by_ari || __builtin_popcountll(group) > 8)), "%s: ARI is %d",
		      host.devices[i].name, ari);
		if (zero && !clash && one_bus)
			check(topology.places[i].devfn == (host.devices[i].rid & mask), "%s: lost its number",
			      host.devices[i].name);
	}
}

/* ---- The same for any order ---- */

static void shuffle(unsigned *order)
{
	for (unsigned i = 0; i < host.count; i++)
		order[i] = i;
	for (unsigned i = host.count; i > 1; i--) {
		unsigned j = random_below(&host, i), other = order[i - 1];
		order[i - 1] = order[j];
		order[j] = other;
	}
	/* Those without RID have no order but the caller's. */
	unsigned first_remote = 0;
	while (first_remote < host.count && on_host(first_remote))
		first_remote++;
	for (unsigned i = 0; i < host.count; i++) {
		if (!on_host(order[i]))
			order[i] = first_remote++;
	}
}

static void check_order_does_not_matter(int code)
{
	static struct tenon_topology_device devices[MAX];
	static struct tenon_topology other;
	struct tenon_error error;
	unsigned order[MAX] = {0};
	shuffle(order);
	for (unsigned i = 0; i < host.count; i++)
		devices[i] = host.devices[order[i]];
	other = (struct tenon_topology){.size = sizeof(other)};
	check(tenon_topology_plan(devices, host.count, mode, host.reserved_slots, &other, &error) == code,
	      "in another order it is refused, or not");
	if (code < 0)
		return;
	check(other.bus_count == topology.bus_count && memcmp(other.buses, topology.buses, sizeof(other.buses)) == 0,
	      "in another order there are other buses");
	for (unsigned i = 0; i < host.count; i++)
		check(memcmp(&other.places[i], &topology.places[order[i]], sizeof(other.places[i])) == 0,
		      "%s: in another order it is elsewhere", devices[i].name);
}

/* ---- A device that comes later ---- */

/* The last one comes when the others are there. It may exactly if a plan would give it a port and a slot to itself. */
static void check_late(unsigned *welcome)
{
	static struct tenon_topology all;
	struct tenon_error error;
	if (host.count == 0)
		return;
	unsigned late = host.count - 1;
	int code = tenon_topology_check_late(host.devices, late, &host.devices[late], mode, &error);
	if (mode == TENON_TOPOLOGY_FLAT) {
		check(code == 0, "late: %s", error.message);
		return;
	}
	enum tenon_topology_wish wish = host.devices[late].wish;
	host.devices[late].wish = TENON_TOPOLOGY_BEHIND_PORT;
	bool may = port_is_honest(late) && units_of_component(expected.component[late]) == 1 &&
		   (expected.group[late] & (expected.group[late] - 1)) == 0;
	check((code == 0) == may, "%s: late is %d: %s", host.devices[late].name, code, error.message);
	all = (struct tenon_topology){.size = sizeof(all)};
	if (tenon_topology_plan(host.devices, host.count, mode, host.reserved_slots, &all, &error) == 0) {
		const struct tenon_topology_bus *bus = &all.buses[all.places[late].bus];
		bool alone = bus->bus_reset && bus->device_count == 1 && bus->isolated;
		check((code == 0) == alone, "%s: late is %d, but planned it is elsewhere", host.devices[late].name,
		      code);
	}
	host.devices[late].wish = wish;
	*welcome += code == 0;
}

/* ---- All hosts ---- */

/* How often each case came: a generator that makes nothing of interest proves nothing. */
struct tally {
	unsigned planned, invalid, no_space, whole, partial, own_reset, bridges, ari, shared_slots, remote_groups, late,
		strange, unsplit;
};

static void count_cases(struct tally *tally)
{
	tally->planned++;
	tally->strange += host.strange;
	for (unsigned i = 1; i < topology.bus_count; i++) {
		const struct tenon_topology_bus *bus = &topology.buses[i];
		tally->bridges += bus->kind == TENON_TOPOLOGY_BRIDGE;
		tally->ari += bus->ari;
		tally->shared_slots += bus->function > 0;
		tally->unsplit += bus->ari && !bus->isolated && bus->function == 0;
	}
	for (unsigned i = 0; i < host.count; i++) {
		bool many = expected.group[i] & (expected.group[i] - 1);
		tally->whole += many && on_host(i);
		tally->remote_groups += many && !on_host(i);
		tally->partial += !expected.group[i] && host.devices[i].affected_count > 1;
		tally->own_reset += !expected.group[i] && expected.behind_port[i];
	}
}

static void check_refusal(int code, const struct tenon_error *error, struct tally *tally)
{
	check(code == -EINVAL ? expected.invalid : code == -ENOSPC && expected.no_space, "refused with %d: %s", code,
	      error->message);
	check(error->code == code, "the message is of %d", error->code);
	bool named = false;
	for (unsigned i = 0; i < host.count; i++) {
		size_t length = strlen(host.devices[i].name);
		named |= strncmp(error->message, host.devices[i].name, length) == 0 && error->message[length] == ':';
	}
	check(named && strstr(error->message, "; "), "the refusal does not name a device and what to do: %s",
	      error->message);
	tally->invalid += code == -EINVAL;
	tally->no_space += code == -ENOSPC;
}

static int check_plan(struct tally *tally)
{
	struct tenon_error error = {0};
	expect();
	topology = (struct tenon_topology){.size = sizeof(topology)};
	int code = tenon_topology_plan(host.devices, host.count, mode, host.reserved_slots, &topology, &error);
	check_order_does_not_matter(code);
	if (code < 0) {
		check_refusal(code, &error, tally);
		return code;
	}
	check(!expected.invalid && !expected.no_space, "it is not refused");
	check_form();
	build_guest();
	check_found();
	check_reset_sets();
	check_iommu_groups();
	check_kept_numbers();
	count_cases(tally);
	check_late(&tally->late);
	return 0;
}

static void check_host(uint64_t seed, struct tally *tally)
{
	random_host_make(&host, seed);
	mode = random_below(&host, 10) == 0 ? TENON_TOPOLOGY_FLAT : TENON_TOPOLOGY_MIRROR;
	if (check_plan(tally) == 0)
		return;
	/* Refused for its wishes, maybe; then without them. */
	for (unsigned i = 0; i < host.count; i++) {
		host.devices[i].slot = 0;
		host.devices[i].wish = TENON_TOPOLOGY_ANYWHERE;
	}
	check_plan(tally);
}

Test(topology_property, a_linux_guest_sees_the_hosts_groups)
{
	struct tally tally = {0};
	const char *only = getenv("TENON_TOPOLOGY_SEED");
	if (only) {
		check_host(strtoull(only, NULL, 0), &tally);
		print();
		return;
	}
	for (unsigned i = 0; i < HOSTS; i++)
		check_host(FIRST_SEED + i, &tally);
	const struct {
		const char *what;
		unsigned seen, least;
	} cases[] = {
		{"topologies planned", tally.planned, 10000},
		{"wishes refused", tally.invalid, 1000},
		{"lacks of room refused", tally.no_space, 1000},
		{"members of groups", tally.whole, 20000},
		{"members of partial groups", tally.partial, 20000},
		{"ports that are a device's own reset", tally.own_reset, 200},
		{"bridges", tally.bridges, 2000},
		{"ARI buses", tally.ari, 500},
		{"ARI buses that must not split an IOMMU group", tally.unsplit, 100},
		{"ports that share a slot", tally.shared_slots, 700},
		{"members of named reset groups", tally.remote_groups, 1500},
		{"devices that may come late", tally.late, 2000},
		{"strange kernels", tally.strange, 500},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_geq(cases[i].seen, cases[i].least, "only %u %s", cases[i].seen, cases[i].what);
}

// SPDX-License-Identifier: MIT
/* See topology_host.h. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "topology_host.h"

static uint64_t next(struct random_host *host)
{
	/* splitmix64: any seed will do, also those that follow each other */
	uint64_t z = host->state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

unsigned random_below(struct random_host *host, unsigned limit)
{
	return (unsigned)(next(host) >> 32) % limit;
}

static bool chance(struct random_host *host, unsigned percent)
{
	return random_below(host, 100) < percent;
}

/* ---- Hardware ---- */

static int add_port(struct random_host *host, int bus, unsigned devfn, enum linux_type type)
{
	int port = linux_add_device(&host->pci, bus, devfn, type);
	struct linux_device *device = &host->pci.devices[port];
	device->acs = chance(host, 75);
	device->hotplug = type != LINUX_UPSTREAM_PORT && chance(host, 40);
	device->no_bus_reset = chance(host, 4);
	device->ari_forwarding = type != LINUX_UPSTREAM_PORT;
	linux_add_bus(&host->pci, port, bus);
	return port;
}

static void add_endpoint(struct random_host *host, int bus, unsigned devfn, bool multifunction,
			 bool may_be_conventional)
{
	bool conventional = may_be_conventional && chance(host, 10);
	int index = linux_add_device(&host->pci, bus, devfn, conventional ? LINUX_CONVENTIONAL : LINUX_ENDPOINT);
	struct linux_device *device = &host->pci.devices[index];
	device->multifunction = multifunction;
	device->acs = chance(host, 30);
	device->no_bus_reset = chance(host, 1);
}

/* Function 0 and some of the others. */
static void fill_slot(struct random_host *host, int bus, unsigned slot, bool may_be_conventional)
{
	unsigned functions = chance(host, 50) ? 1 : 0x1 | random_below(host, 256);
	for (unsigned function = 0; function < 8; function++) {
		if (functions >> function & 1)
			add_endpoint(host, bus, slot << 3 | function, functions != 1, may_be_conventional);
	}
}

/* A device with functions above 7: of its own, linked by ARI, or virtual ones on its bus or on the next. */
static void fill_ari(struct random_host *host, int bus)
{
	unsigned own = 1 + random_below(host, 3), above = 8 + random_below(host, 100),
		 more = 1 + random_below(host, 14);
	bool virtual = chance(host, 70);
	unsigned first = host->pci.device_count;
	for (unsigned i = 0; i < own; i++)
		add_endpoint(host, bus, i, own > 1, false);
	int bus_above = virtual && chance(host, 25) ? linux_add_bus(&host->pci, LINUX_NONE, bus) : bus;
	for (unsigned i = 0; i < more; i++) {
		add_endpoint(host, bus_above, above + i, !virtual, false);
		host->pci.devices[host->pci.device_count - 1].virtual_function = virtual;
	}
	for (unsigned i = first; i < host->pci.device_count; i++) {
		struct linux_device *device = &host->pci.devices[i];
		device->ari = true;
		if (i + 1 < host->pci.device_count && !host->pci.devices[i + 1].virtual_function &&
		    !device->virtual_function)
			device->ari_next = host->pci.devices[i + 1].devfn;
	}
}

static void fill_conventional(struct random_host *host, int bus, unsigned depth)
{
	unsigned slot = random_below(host, 4);
	for (unsigned i = 0, count = 1 + random_below(host, 4); i < count; i++, slot += 1 + random_below(host, 4)) {
		if (depth < 2 && chance(host, 15)) {
			int bridge = add_port(host, bus, slot << 3, LINUX_CONVENTIONAL);
			host->pci.devices[bridge].acs = host->pci.devices[bridge].hotplug = false;
			host->pci.devices[bridge].ari_forwarding = false;
			fill_conventional(host, host->pci.devices[bridge].subordinate, depth + 1);
			continue;
		}
		unsigned functions = chance(host, 70) ? 1 : 1 + random_below(host, 3);
		for (unsigned function = 0; function < functions; function++) {
			int index = linux_add_device(&host->pci, bus, slot << 3 | function, LINUX_CONVENTIONAL);
			host->pci.devices[index].multifunction = functions > 1;
		}
	}
}

static void fill_bus(struct random_host *host, int bus, unsigned depth);

/* A switch's internal bus: downstream ports, endpoints of the switch itself, or both. */
static void fill_switch(struct random_host *host, int bus)
{
	int upstream = add_port(host, bus, 0, LINUX_UPSTREAM_PORT);
	int internal = host->pci.devices[upstream].subordinate;
	unsigned ports = chance(host, 30) ? 0 : 1 + random_below(host, 3), slot = random_below(host, 3);
	for (unsigned i = 0; i < ports; i++, slot += 1 + random_below(host, 3)) {
		int port = add_port(host, internal, slot << 3, LINUX_DOWNSTREAM_PORT);
		fill_bus(host, host->pci.devices[port].subordinate, 2);
	}
	for (unsigned i = ports ? random_below(host, 2) : 1 + random_below(host, 4); i > 0; i--, slot++)
		fill_slot(host, internal, slot, true);
}

/* What is behind a root port, or behind a switch's. */
static void fill_bus(struct random_host *host, int bus, unsigned depth)
{
	switch (random_below(host, 10)) {
	case 0:
	case 1:
		if (depth < 2) {
			fill_switch(host, bus);
			break;
		}
		fill_ari(host, bus);
		break;
	case 2:
	case 3:
		fill_ari(host, bus);
		break;
	case 4: {
		int bridge = linux_add_device(&host->pci, bus, 0, LINUX_PCIE_TO_PCI_BRIDGE);
		fill_conventional(host, linux_add_bus(&host->pci, bridge, bus), 0);
		break;
	}
	default:
		fill_slot(host, bus, 0, true);
	}
}

static void fill_root_bus(struct random_host *host, int bus)
{
	unsigned slot = 1 + random_below(host, 3);
	for (unsigned i = 0, count = 1 + random_below(host, 9); i < count; i++, slot += 1 + random_below(host, 3)) {
		switch (random_below(host, 8)) {
		case 0:
			fill_slot(host, bus, slot, true);
			for (unsigned j = 0; j < host->pci.device_count; j++) {
				struct linux_device *device = &host->pci.devices[j];
				if (device->bus == bus && device->type == LINUX_ENDPOINT)
					device->type = LINUX_ROOT_COMPLEX_ENDPOINT;
			}
			break;
		case 1: {
			int bridge = linux_add_device(&host->pci, bus, slot << 3, LINUX_CONVENTIONAL);
			fill_conventional(host, linux_add_bus(&host->pci, bridge, bus), 0);
			break;
		}
		default: {
			unsigned ports = chance(host, 70) ? 1 : 1 + random_below(host, 3);
			for (unsigned function = 0; function < ports; function++) {
				int port = add_port(host, bus, slot << 3 | function, LINUX_ROOT_PORT);
				host->pci.devices[port].multifunction = ports > 1;
				fill_bus(host, host->pci.devices[port].subordinate, 0);
			}
		}
		}
	}
}

static void make_hardware(struct random_host *host)
{
	for (unsigned segment = 0, segments = chance(host, 85) ? 1 : 2; segment < segments; segment++) {
		int root = linux_add_bus(&host->pci, LINUX_NONE, LINUX_NONE);
		host->pci.buses[root].segment = segment;
		fill_root_bus(host, root);
	}
	for (unsigned i = 0; i < host->pci.bus_count; i++)
		host->pci.buses[i].segment = host->pci.buses[i].parent == LINUX_NONE
						     ? host->pci.buses[i].segment
						     : host->pci.buses[host->pci.buses[i].parent].segment;
	for (unsigned i = 0; i < host->pci.bus_count; i++) {
		if (host->pci.buses[i].parent == LINUX_NONE)
			linux_scan(&host->pci, (int)i, 0);
	}
	for (unsigned i = 0; i < host->pci.device_count; i++)
		cr_assert(host->pci.devices[i].found, "seed %lu: the host does not find its device %u",
			  (unsigned long)host->seed, i);
	linux_make_iommu_groups(&host->pci);
	/* Two groups that are one for a reason which no bus shows. */
	if (chance(host, 15)) {
		int one = host->pci.devices[random_below(host, host->pci.device_count)].group;
		int other = host->pci.devices[random_below(host, host->pci.device_count)].group;
		for (unsigned i = 0; i < host->pci.device_count; i++) {
			if (host->pci.devices[i].group == other)
				host->pci.devices[i].group = one;
		}
	}
}

/* ---- Facts ---- */

static struct tenon_topology_device *add_facts(struct random_host *host)
{
	unsigned i = host->count++;
	host->devices[i] = (struct tenon_topology_device){
		.name = host->names[i],
		.rid = TENON_TOPOLOGY_NO_RID,
		.affected = host->sets[i],
		.iommu_group = -1,
	};
	return &host->devices[i];
}

/* @return false: it hits more than a plan can tell, so nobody assigns it */
static bool assign(struct random_host *host, int index)
{
	int set[LINUX_DEVICES_MAX];
	const struct linux_device *device = &host->pci.devices[index];
	int count = linux_hot_reset_set(&host->pci, index, set);
	if (count > TENON_TOPOLOGY_MEMBERS_MAX)
		return false;
	struct tenon_topology_device *facts = add_facts(host);
	facts->rid = linux_rid(&host->pci, index);
	snprintf(host->names[host->count - 1], sizeof(host->names[0]), "%04x:%02x:%02x.%x", facts->rid >> 16,
		 facts->rid >> 8 & 0xff, facts->rid >> 3 & 0x1f, facts->rid & 7);
	facts->pcie = device->type != LINUX_CONVENTIONAL;
	facts->resets_alone = device->virtual_function || chance(host, 50);
	facts->iommu_group = device->group;
	facts->affected_count = count < 0 ? 0 : (unsigned)count;
	for (unsigned i = 0; i < facts->affected_count; i++)
		host->sets[host->count - 1][i] = linux_rid(&host->pci, set[i]);
	facts->bus_reset_allowed = count > 0 && chance(host, 97);
	if (!facts->bus_reset_allowed && chance(host, 50))
		facts->why_not = "a reset of its bus would hit whom it must not; see to it";
	return true;
}

/* Buses are assigned as a whole, mostly, so that groups are complete often enough. */
static void assign_devices(struct random_host *host)
{
	static const unsigned whole_percent[] = {100, 80, 50};
	unsigned percent = whole_percent[random_below(host, 3)];
	unsigned most = chance(host, 80) ? 1 + random_below(host, 24) : TENON_TOPOLOGY_DEVICES_MAX;
	for (unsigned bus = 0; bus < host->pci.bus_count; bus++) {
		unsigned each = chance(host, percent) ? 100 : 60;
		if (chance(host, 30))
			continue;
		for (unsigned i = 0; i < host->pci.device_count; i++) {
			const struct linux_device *device = &host->pci.devices[i];
			bool bridge = device->subordinate != LINUX_NONE;
			if (device->bus == (int)bus && !bridge && chance(host, each) && host->count < most)
				assign(host, (int)i);
		}
	}
}

static void add_remotes(struct random_host *host)
{
	static const char *const groups[] = {NULL, NULL, "blue", "green"};
	unsigned remotes = chance(host, 60) ? 0 : random_below(host, chance(host, 10) ? 24 : 6);
	for (unsigned i = 0; i < remotes && host->count < TENON_TOPOLOGY_DEVICES_MAX; i++) {
		struct tenon_topology_device *facts = add_facts(host);
		snprintf(host->names[host->count - 1], sizeof(host->names[0]), "vfio-user:%u", i);
		facts->pcie = chance(host, 95);
		facts->resets_alone = chance(host, 92);
		facts->reset_group = groups[random_below(host, 4)];
	}
}

static void add_wishes(struct random_host *host)
{
	unsigned ports = chance(host, 50) ? 0 : random_below(host, 10),
		 slots = chance(host, 50) ? 0 : random_below(host, 10);
	for (unsigned i = 0; i < host->count; i++) {
		if (chance(host, ports))
			host->devices[i].wish = TENON_TOPOLOGY_BEHIND_PORT;
		if (chance(host, slots))
			host->devices[i].slot = 1 + random_below(host, 31);
	}
	for (unsigned i = 0; i < 4; i++)
		host->reserved_slots |= 1u << random_below(host, 32);
}

/* A kernel that says of some devices what it does not say of the others. */
static void tell_lies(struct random_host *host)
{
	for (unsigned lies = 1 + random_below(host, 4); lies > 0 && host->count > 0; lies--) {
		unsigned i = random_below(host, host->count);
		struct tenon_topology_device *facts = &host->devices[i];
		if (facts->rid == TENON_TOPOLOGY_NO_RID || facts->affected_count == 0)
			continue;
		uint32_t *set = host->sets[i];
		switch (random_below(host, 4)) {
		case 0: /* one too few */
			set[random_below(host, facts->affected_count)] = set[facts->affected_count - 1];
			facts->affected_count--;
			break;
		case 1: /* one too many, maybe one that is there */
			if (facts->affected_count < TENON_TOPOLOGY_MEMBERS_MAX)
				set[facts->affected_count++] = host->devices[random_below(host, host->count)].rid;
			break;
		case 2: /* one twice */
			if (facts->affected_count < TENON_TOPOLOGY_MEMBERS_MAX) {
				set[facts->affected_count] = set[random_below(host, facts->affected_count)];
				facts->affected_count++;
			}
			break;
		default:
			set[random_below(host, facts->affected_count)] = random_below(host, 0x10000);
		}
	}
}

void random_host_make(struct random_host *host, uint64_t seed)
{
	memset(host, 0, sizeof(*host));
	host->seed = host->state = seed;
	host->pci.wide_slots = chance(host, 50);
	make_hardware(host);
	assign_devices(host);
	add_remotes(host);
	add_wishes(host);
	host->strange = chance(host, 10);
	if (host->strange)
		tell_lies(host);
	if (chance(host, 3)) {
		for (unsigned i = 0; i < host->count; i++)
			host->devices[i].iommu_group = -1;
	}
}

void random_host_print(const struct random_host *host)
{
	fprintf(stderr, "seed %lu, reserved slots %#x%s\n", (unsigned long)host->seed, host->reserved_slots,
		host->strange ? ", strange kernel" : "");
	for (unsigned i = 0; i < host->count; i++) {
		const struct tenon_topology_device *facts = &host->devices[i];
		fprintf(stderr, "%2u %-14s %s%s%s iommu group %d, slot %u, wish %d, reset group %s, affects", i,
			facts->name, facts->pcie ? "PCIe" : "PCI", facts->resets_alone ? ", resets alone" : "",
			facts->bus_reset_allowed ? ", bus reset allowed" : "", facts->iommu_group, facts->slot,
			(int)facts->wish, facts->reset_group ? facts->reset_group : "-");
		for (unsigned j = 0; j < facts->affected_count; j++)
			fprintf(stderr, " %02x:%02x.%x", facts->affected[j] >> 8, facts->affected[j] >> 3 & 0x1f,
				facts->affected[j] & 7);
		fprintf(stderr, "\n");
	}
}

// SPDX-License-Identifier: MIT
/* See topology_linux.h. */
#include <errno.h>
#include <stddef.h>

#include <criterion/criterion.h>

#include "topology_linux.h"

int linux_add_bus(struct linux_machine *machine, int self, int parent)
{
	cr_assert_lt(machine->bus_count, LINUX_BUSES_MAX);
	machine->buses[machine->bus_count] = (struct linux_bus){.self = self, .parent = parent};
	if (parent != LINUX_NONE)
		machine->buses[machine->bus_count].segment = machine->buses[parent].segment;
	if (self != LINUX_NONE)
		machine->devices[self].subordinate = (int)machine->bus_count;
	return (int)machine->bus_count++;
}

int linux_add_device(struct linux_machine *machine, int bus, unsigned devfn, enum linux_type type)
{
	cr_assert_lt(machine->device_count, LINUX_DEVICES_MAX);
	machine->devices[machine->device_count] = (struct linux_device){
		.bus = bus,
		.devfn = devfn,
		.type = type,
		.subordinate = LINUX_NONE,
		.tag = LINUX_NONE,
		.group = LINUX_NONE,
	};
	cr_assert_eq(machine->at[bus][devfn], 0, "two devices at one address");
	machine->at[bus][devfn] = (uint16_t)++machine->device_count;
	return (int)machine->device_count - 1;
}

uint32_t linux_rid(const struct linux_machine *machine, int device)
{
	const struct linux_bus *bus = &machine->buses[machine->devices[device].bus];
	return (uint32_t)(bus->segment << 16 | bus->number << 8 | machine->devices[device].devfn);
}

static unsigned slot_of(const struct linux_device *device)
{
	return device->devfn >> 3;
}

static bool is_pcie(const struct linux_device *device)
{
	return device->type != LINUX_CONVENTIONAL;
}

/* pcie_downstream_port() */
static bool is_downstream(const struct linux_device *device)
{
	return device->type == LINUX_ROOT_PORT || device->type == LINUX_DOWNSTREAM_PORT;
}

static const struct linux_device *bridge_of(const struct linux_machine *machine, int bus)
{
	int self = machine->buses[bus].self;
	return self == LINUX_NONE ? NULL : &machine->devices[self];
}

/* ---- Scan ---- */

static struct linux_device *device_at(struct linux_machine *machine, int bus, unsigned devfn)
{
	unsigned index = machine->at[bus][devfn];
	return index == 0 || machine->devices[index - 1].virtual_function ? NULL : &machine->devices[index - 1];
}

/* next_fn() */
static int next_function(const struct linux_bus *bus, const struct linux_device *device, int function)
{
	if (bus->ari_enabled)
		return device && device->ari && (int)device->ari_next > function ? (int)device->ari_next : -ENODEV;
	if (function >= 7 || (device && !device->multifunction))
		return -ENODEV;
	return function + 1;
}

/* pci_scan_slot() */
static void scan_slot(struct linux_machine *machine, int bus, unsigned slot)
{
	const struct linux_device *bridge = bridge_of(machine, bus);
	if (bridge && is_downstream(bridge) && slot > 0)
		return; /* only_one_child() */
	for (int function = 0; function >= 0;) {
		struct linux_device *device = device_at(machine, bus, (slot << 3) + (unsigned)function);
		if (!device && function == 0)
			return;
		if (device) {
			cr_assert_not(device->found, "one function found twice");
			device->found = true;
			device->multifunction |= function > 0;
			/* pci_configure_ari() */
			if (device->devfn == 0 && is_pcie(device) && bridge && bridge->ari_forwarding)
				machine->buses[bus].ari_enabled = device->ari;
		}
		function = next_function(&machine->buses[bus], device, function);
	}
}

unsigned linux_scan(struct linux_machine *machine, int root_bus, unsigned number)
{
	machine->buses[root_bus].number = number;
	for (unsigned slot = 0; slot < 32; slot++)
		scan_slot(machine, root_bus, slot);
	/* Virtual functions are found through their physical one, when its bus is known: here, where any device of it was found. */
	bool any = false;
	for (unsigned i = 0; i < machine->device_count; i++)
		any |= machine->devices[i].found && machine->devices[i].bus == root_bus;
	for (unsigned i = 0; i < machine->device_count; i++) {
		struct linux_device *device = &machine->devices[i];
		bool here = device->bus == root_bus || (machine->buses[device->bus].self == LINUX_NONE &&
							machine->buses[device->bus].parent == root_bus);
		device->found |= any && here && device->virtual_function;
	}
	/* Buses for virtual functions come right after the physical one's. */
	for (unsigned i = 0; i < machine->bus_count; i++) {
		if (machine->buses[i].parent == root_bus && machine->buses[i].self == LINUX_NONE)
			machine->buses[i].number = ++number;
	}
	for (unsigned devfn = 0; devfn < 256; devfn++) {
		struct linux_device *device = device_at(machine, root_bus, devfn);
		if (device && device->found && device->subordinate != LINUX_NONE)
			number = linux_scan(machine, device->subordinate, number + 1);
	}
	return number;
}

/* ---- VFIO's hot reset ---- */

/* pci_dev_matches_slot() */
static bool in_slot(const struct linux_machine *machine, const struct linux_device *device)
{
	return machine->wide_slots || slot_of(device) == 0;
}

/* pci_bus_resettable(), and in it the bridges further down */
static bool is_resettable(const struct linux_machine *machine, int bus, bool slot_only)
{
	const struct linux_device *bridge = bridge_of(machine, bus);
	if (bridge && bridge->no_bus_reset)
		return false;
	for (unsigned i = 0; i < machine->device_count; i++) {
		const struct linux_device *device = &machine->devices[i];
		if (device->bus != bus || !device->found || (slot_only && !in_slot(machine, device)))
			continue;
		if (device->no_bus_reset ||
		    (device->subordinate != LINUX_NONE && !is_resettable(machine, device->subordinate, false)))
			return false;
	}
	return true;
}

/* pci_walk_bus(), with those only that are below a slot where there is one */
static void walk(const struct linux_machine *machine, int bus, bool slot_only, int *set, int *count)
{
	for (unsigned i = 0; i < machine->device_count; i++) {
		const struct linux_device *device = &machine->devices[i];
		if (device->bus != bus || !device->found || (slot_only && !in_slot(machine, device)))
			continue;
		set[(*count)++] = (int)i;
		if (device->subordinate != LINUX_NONE)
			walk(machine, device->subordinate, false, set, count);
	}
}

/*
 * Where pciehp's slot is device 0, only functions below 8 are in it: those of an ARI device above that are reset by the bus, which
 * hits all. The two sets then contradict each other.
 */
int linux_hot_reset_set(const struct linux_machine *machine, int device, int *set)
{
	int count = 0, bus = machine->devices[device].bus;
	const struct linux_device *bridge = bridge_of(machine, bus);
	bool slot = bridge && bridge->hotplug && in_slot(machine, &machine->devices[device]) &&
		    is_resettable(machine, bus, true);
	if (!slot && (!bridge || !is_resettable(machine, bus, false)))
		return -ENODEV;
	walk(machine, bus, slot, set, &count);
	return count;
}

/* ---- IOMMU groups ---- */

/* pci_acs_enabled() */
static bool acs_enabled(const struct linux_device *device)
{
	switch (device->type) {
	case LINUX_CONVENTIONAL:
	case LINUX_PCIE_TO_PCI_BRIDGE:
		return false;
	case LINUX_ROOT_PORT:
	case LINUX_DOWNSTREAM_PORT:
		return device->acs;
	case LINUX_ENDPOINT:
	case LINUX_ROOT_COMPLEX_ENDPOINT:
	case LINUX_UPSTREAM_PORT:
		break;
	}
	return !device->multifunction || device->acs;
}

/* pci_acs_path_enabled(), up to the root */
static bool acs_to_the_root(const struct linux_machine *machine, const struct linux_device *device)
{
	for (; device; device = bridge_of(machine, device->bus)) {
		if (!acs_enabled(device))
			return false;
	}
	return true;
}

/* get_pci_function_alias_group() */
static int group_of_functions(const struct linux_machine *machine, const struct linux_device *device)
{
	if (!device->multifunction || acs_enabled(device))
		return LINUX_NONE;
	for (unsigned i = 0; i < machine->device_count; i++) {
		const struct linux_device *other = &machine->devices[i];
		if (other != device && other->found && other->bus == device->bus && slot_of(other) == slot_of(device) &&
		    !acs_enabled(other) && other->group != LINUX_NONE)
			return other->group;
	}
	return LINUX_NONE;
}

/* pci_device_group() */
static int find_group(const struct linux_machine *machine, const struct linux_device *device)
{
	/* pci_for_each_dma_alias(): a conventional bus reaches the IOMMU under its bridge's name. */
	for (int bus = device->bus; bus != LINUX_NONE; bus = machine->buses[bus].parent) {
		const struct linux_device *bridge = bridge_of(machine, bus);
		if (!bridge || (is_pcie(bridge) && bridge->type != LINUX_PCIE_TO_PCI_BRIDGE))
			continue;
		device = bridge;
		if (device->group != LINUX_NONE)
			return device->group;
	}
	for (int bus = device->bus; bus != LINUX_NONE; bus = machine->buses[bus].parent) {
		const struct linux_device *bridge = bridge_of(machine, bus);
		if (!bridge)
			continue;
		if (acs_to_the_root(machine, bridge))
			break;
		device = bridge;
		if (device->group != LINUX_NONE)
			return device->group;
	}
	return device->group != LINUX_NONE ? device->group : group_of_functions(machine, device);
}

/* A bus first, then what is behind its bridges: the order in which Linux adds devices. */
static void group_bus(struct linux_machine *machine, int bus, int *next)
{
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < machine->device_count; i++) {
			struct linux_device *device = &machine->devices[i];
			if (device->bus != bus || !device->found)
				continue;
			if (pass == 1 && device->subordinate != LINUX_NONE)
				group_bus(machine, device->subordinate, next);
			if (pass == 1)
				continue;
			device->group = find_group(machine, device);
			if (device->group == LINUX_NONE)
				device->group = (*next)++;
		}
	}
	for (unsigned i = 0; i < machine->bus_count; i++) {
		if (machine->buses[i].parent == bus && machine->buses[i].self == LINUX_NONE)
			group_bus(machine, (int)i, next);
	}
}

void linux_make_iommu_groups(struct linux_machine *machine)
{
	int next = 0;
	for (unsigned i = 0; i < machine->bus_count; i++) {
		if (machine->buses[i].parent == LINUX_NONE)
			group_bus(machine, (int)i, &next);
	}
}

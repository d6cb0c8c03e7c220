// SPDX-License-Identifier: MIT
/*
 * The root bus: which units are functions of one slot, so that the guest's IOMMU groups are at least the host's, and which slot that
 * is.
 * Source: Linux drivers/iommu/iommu.c (pci_device_group), drivers/pci/pci.c (pci_acs_enabled).
 */
#include <errno.h>

#include "topology_plan.h"

/* ---- Clusters ---- */

static bool share_iommu_group(const struct topology_host *host, uint64_t a, uint64_t b)
{
	for (; a; a &= a - 1) {
		for (uint64_t left = b; left; left &= left - 1) {
			if (topology_share_iommu_group(host->devices[topology_first(a)],
						       host->devices[topology_first(left)]))
				return true;
		}
	}
	return false;
}

static void join_clusters(struct topology_plan *plan, unsigned a, unsigned b)
{
	unsigned low = a < b ? a : b, high = a < b ? b : a;
	for (unsigned i = 0; i < plan->unit_count && low != high; i++) {
		if (plan->units[i].cluster == high)
			plan->units[i].cluster = low;
	}
}

unsigned topology_cluster_size(const struct topology_plan *plan, unsigned cluster)
{
	unsigned size = 0;
	for (unsigned i = 0; i < plan->unit_count; i++)
		size += plan->units[i].cluster == cluster;
	return size;
}

/*
 * Linux takes two functions of one device for one IOMMU group, as they have no ACS; of an ARI device it compares the upper five
 * bits of the numbers too (get_pci_function_alias_group). Such functions share a group only if the port lets them.
 */
static bool iommu_group_spans_ari(const struct topology_plan *plan, const struct topology_unit *unit)
{
	for (uint64_t a = unit->ari ? unit->members : 0; a; a &= a - 1) {
		for (uint64_t b = a & (a - 1); b; b &= b - 1) {
			unsigned i = topology_first(a), j = topology_first(b);
			if (plan->devfn[i] >> 3 != plan->devfn[j] >> 3 &&
			    topology_share_iommu_group(plan->host.devices[i], plan->host.devices[j]))
				return true;
		}
	}
	return false;
}

void topology_make_clusters(struct topology_plan *plan)
{
	for (unsigned i = 0; i < plan->unit_count; i++)
		plan->units[i].cluster = i;
	if (plan->mode == TENON_TOPOLOGY_FLAT)
		return;
	for (unsigned i = 0; i < plan->unit_count; i++) {
		for (unsigned j = 0; j < i; j++) {
			if (share_iommu_group(&plan->host, plan->units[i].members, plan->units[j].members))
				join_clusters(plan, plan->units[i].cluster, plan->units[j].cluster);
		}
	}
	for (unsigned i = 0; i < plan->unit_count; i++) {
		struct topology_unit *unit = &plan->units[i];
		unit->isolated = unit->kind == TENON_TOPOLOGY_PORT && topology_cluster_size(plan, unit->cluster) == 1 &&
				 !iommu_group_spans_ari(plan, unit);
	}
}

/* ---- Slots ---- */

#define NO_DEVICE TENON_TOPOLOGY_DEVICES_MAX

static unsigned unit_of(const struct topology_plan *plan, unsigned device)
{
	unsigned unit = 0;
	while (!(plan->units[unit].members & topology_bit(device)))
		unit++;
	return unit;
}

static int check_same_slot(const struct topology_plan *plan, unsigned first, unsigned device, struct tenon_error *err)
{
	const struct tenon_topology_device *facts = plan->host.devices[device], *other = plan->host.devices[first];
	if (facts->slot == other->slot)
		return 0;
	return tenon_fail(
		err, -EINVAL,
		"%s: cannot be in slot %u of the root bus: it %s %s, which is to be in slot %u; give both the "
		"same slot, or use --topology flat",
		facts->name, facts->slot,
		unit_of(plan, first) == unit_of(plan, device) ? "resets together with"
							      : "is tied by its IOMMU group to",
		other->name, other->slot);
}

/* The first device of a cluster that wishes a slot, and NO_DEVICE where none does. */
static int find_slot_wish(const struct topology_plan *plan, unsigned cluster, unsigned *wisher, struct tenon_error *err)
{
	uint64_t members = 0;
	for (unsigned i = cluster; i < plan->unit_count; i++)
		members |= plan->units[i].cluster == cluster ? plan->units[i].members : 0;
	*wisher = NO_DEVICE;
	for (; members; members &= members - 1) {
		unsigned device = topology_first(members);
		if (plan->host.devices[device]->slot == 0)
			continue;
		if (*wisher == NO_DEVICE)
			*wisher = device;
		int code = check_same_slot(plan, *wisher, device, err);
		if (code < 0)
			return code;
	}
	return 0;
}

struct root_bus {
	uint32_t taken;
	const char *wishers[32]; /* names of those that wished for a slot */
};

static int take_wished_slot(struct root_bus *root, const struct tenon_topology_device *device, struct tenon_error *err)
{
	const char *other = root->wishers[device->slot];
	if (other)
		return tenon_fail(
			err, -EINVAL,
			"%s: cannot be in slot %u of the root bus, which %s is to have: only devices that reset "
			"together or share an IOMMU group share a slot; choose another slot for one of them",
			device->name, device->slot, other);
	if (root->taken >> device->slot & 1)
		return tenon_fail(
			err, -EINVAL,
			"%s: cannot be in slot %u of the root bus: the machine itself uses it; choose another",
			device->name, device->slot);
	root->taken |= UINT32_C(1) << device->slot;
	root->wishers[device->slot] = device->name;
	return 0;
}

static int assign_slot(struct topology_plan *plan, unsigned cluster, unsigned slot, struct tenon_error *err)
{
	unsigned function = 0, size = topology_cluster_size(plan, cluster);
	if (size > TOPOLOGY_SLOT_FUNCTIONS)
		return tenon_fail(
			err, -ENOSPC,
			"%s: it and those that share its IOMMU group on the host need %u functions of one slot of "
			"the root bus, and a slot has 8; assign fewer of them, or use --topology flat",
			plan->host.devices[topology_first(plan->units[cluster].members)]->name, size);
	for (unsigned i = cluster; i < plan->unit_count; i++) {
		if (plan->units[i].cluster != cluster)
			continue;
		plan->units[i].slot = (uint8_t)slot;
		plan->units[i].function = (uint8_t)function++;
	}
	return 0;
}

int topology_assign_slots(struct topology_plan *plan, uint32_t reserved_slots, struct tenon_error *err)
{
	struct root_bus root = {.taken = reserved_slots | 1};
	uint64_t unwished = 0; /* clusters */
	for (unsigned i = 0; i < plan->unit_count; i++) {
		unsigned wisher;
		if (plan->units[i].cluster != i)
			continue;
		int code = find_slot_wish(plan, i, &wisher, err);
		if (code == 0 && wisher == NO_DEVICE)
			unwished |= topology_bit(i);
		else if (code == 0)
			code = take_wished_slot(&root, plan->host.devices[wisher], err);
		if (code == 0 && wisher != NO_DEVICE)
			code = assign_slot(plan, i, plan->host.devices[wisher]->slot, err);
		if (code < 0)
			return code;
	}
	for (; unwished; unwished &= unwished - 1) {
		unsigned cluster = topology_first(unwished), slot = (unsigned)__builtin_ffs((int)~root.taken);
		if (slot == 0)
			return tenon_fail(err, -ENOSPC,
					  "%s: no slot of the root bus is left for it; assign fewer devices",
					  plan->host.devices[topology_first(plan->units[cluster].members)]->name);
		root.taken |= UINT32_C(1) << (slot - 1);
		int code = assign_slot(plan, cluster, slot - 1, err);
		if (code < 0)
			return code;
	}
	return 0;
}

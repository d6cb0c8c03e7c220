// SPDX-License-Identifier: MIT
/*
 * From the host's facts to places in the guest:
 *   1. Units. A complete reset group is one unit, behind a port or bridge of its own. Any other device is a unit alone, on the root
 *      bus, where no guest can reset it (or, wished so, behind a port whose reset is the device's own). A wish that would promise
 *      more is refused here. What a group is, and whether it is complete: topology_groups.c.
 *   2. Numbers on each bus: the host's where that is possible, and such that Linux finds all (topology_functions.c).
 *   3. Clusters. Units that share an IOMMU group become functions of one root bus slot, without ACS (topology_slots.c).
 *   4. Slots, one for each cluster: the wished ones, then the lowest that are free, in the order of the clusters' first devices.
 *   5. Bus numbers, in the order of slots and functions; then the result, in the caller's order (topology_result.c).
 * Everything before 5 works on devices in the order of their RIDs, so the caller's order changes nothing.
 */
#include <errno.h>
#include <string.h>

#include "sized.h"
#include "topology_plan.h"

SIZED_WHOLE(struct tenon_topology_device, reserved);
SIZED_WHOLE(struct tenon_topology_bus, reserved);
SIZED_WHOLE(struct tenon_topology_place, why);
SIZED_WHOLE(struct tenon_topology, places);

/* What the first version of the result had: never changed, whatever is appended. */
#define TOPOLOGY_FIRST_BYTES SIZED_THROUGH(struct tenon_topology, places)

/* ---- 1. Units ---- */

static enum tenon_topology_bus_kind kind_for(const struct topology_host *host, uint64_t members)
{
	for (uint64_t left = members; left; left &= left - 1) {
		const struct tenon_topology_device *device = host->devices[topology_first(left)];
		if (device->pcie || device->rid == TENON_TOPOLOGY_NO_RID || device->wish == TENON_TOPOLOGY_BEHIND_PORT)
			return TENON_TOPOLOGY_PORT;
	}
	return TENON_TOPOLOGY_BRIDGE;
}

/* @param remedy  what to do, apart from what the reason advises */
static int refuse_port(const struct tenon_topology_device *device, const struct topology_reason *why,
		       const char *remedy, struct tenon_error *err)
{
	if (device->affected_count == 0 && device->rid != TENON_TOPOLOGY_NO_RID)
		return tenon_fail(err, -EINVAL,
				  "%s: cannot be behind a root port: nothing resets it, and the port would promise the "
				  "guest a reset; %s, or use --topology flat",
				  device->name, remedy);
	return tenon_fail(err, -EINVAL,
			  "%s: cannot be behind a root port, which would promise the guest a reset: %.320s; or %s, or "
			  "use --topology flat",
			  device->name, why->text, remedy);
}

static int add_unit(struct topology_plan *plan, unsigned device, struct tenon_error *err)
{
	const struct tenon_topology_device *facts = plan->host.devices[device];
	bool wished = facts->wish == TENON_TOPOLOGY_BEHIND_PORT;
	struct topology_unit unit = {.members = topology_bit(device), .kind = TENON_TOPOLOGY_ROOT};
	struct topology_reason why;
	uint64_t group = topology_complete_group(&plan->host, device, &why);
	if (plan->mode == TENON_TOPOLOGY_FLAT) {
		unit.kind = wished ? TENON_TOPOLOGY_PORT : TENON_TOPOLOGY_ROOT;
		unit.bus_reset = wished && (facts->resets_alone || group == unit.members);
	} else if (group) {
		unit.members = group;
		unit.kind = kind_for(&plan->host, group);
		unit.bus_reset = true;
	} else if (wished) {
		if (!topology_port_is_own_reset(facts))
			return refuse_port(facts, &why, "leave its port out", err);
		unit.kind = TENON_TOPOLOGY_PORT;
		unit.bus_reset = true;
	}
	plan->units[plan->unit_count++] = unit;
	return 0;
}

static int make_units(struct topology_plan *plan, struct tenon_error *err)
{
	uint64_t placed = 0;
	for (unsigned i = 0; i < plan->host.count; i++) {
		if (placed & topology_bit(i))
			continue;
		int code = add_unit(plan, i, err);
		if (code < 0)
			return code;
		placed |= plan->units[plan->unit_count - 1].members;
	}
	return 0;
}

static int check_mode(enum tenon_topology_mode mode, struct tenon_error *err)
{
	if (mode == TENON_TOPOLOGY_MIRROR || mode == TENON_TOPOLOGY_FLAT)
		return 0;
	return tenon_fail(err, -EINVAL, "topology: unknown mode %d; use one of enum tenon_topology_mode", (int)mode);
}

int tenon_topology_plan(const struct tenon_topology_device *devices, unsigned count, enum tenon_topology_mode mode,
			uint32_t reserved_slots, struct tenon_topology *out, struct tenon_error *err)
{
	struct topology_plan plan = {.mode = mode};
	struct tenon_topology topology;
	if (!out || out->size < TOPOLOGY_FIRST_BYTES)
		return tenon_fail(err, -EINVAL, "topology: no room for it; set .size = sizeof(struct tenon_topology)");
	int code = check_mode(mode, err);
	if (code == 0)
		code = topology_host_read(devices, count, &plan.host, err);
	if (code == 0)
		code = make_units(&plan, err);
	for (unsigned i = 0; i < plan.unit_count && code == 0; i++) {
		if (plan.units[i].kind != TENON_TOPOLOGY_ROOT)
			code = topology_assign_functions(&plan, &plan.units[i], err);
	}
	if (code < 0)
		return code;
	topology_make_clusters(&plan);
	code = topology_assign_slots(&plan, reserved_slots, err);
	if (code < 0)
		return code;
	topology_fill(&plan, &topology);
	sized_fill(out, &topology, sizeof(topology), TOPOLOGY_FIRST_BYTES);
	return 0;
}

/* ---- A device that comes later ---- */

static int check_late_mirror(const struct topology_host *host, unsigned late, struct tenon_error *err)
{
	const struct tenon_topology_device *device = host->devices[late];
	struct topology_reason why;
	uint64_t group = topology_complete_group(host, late, &why);
	if (!group && !topology_port_is_own_reset(device))
		return refuse_port(device, &why, "give it to the guest from the start", err);
	for (unsigned i = 0; i < host->count; i++) {
		const struct tenon_topology_device *other = host->devices[i];
		if (i == late)
			continue;
		bool resets = group & topology_bit(i);
		if (resets || topology_share_iommu_group(device, other))
			return tenon_fail(err, -EINVAL,
					  "%s: cannot come to a port of its own: it %s %s, which the guest already has "
					  "elsewhere; give it to the guest from the start, or use --topology flat",
					  device->name, resets ? "resets together with" : "shares its IOMMU group with",
					  other->name);
	}
	return 0;
}

int tenon_topology_check_late(const struct tenon_topology_device *devices, unsigned count,
			      const struct tenon_topology_device *device, enum tenon_topology_mode mode,
			      struct tenon_error *err)
{
	struct tenon_topology_device all[TENON_TOPOLOGY_DEVICES_MAX];
	struct topology_host host;
	if (!device || (count > 0 && !devices))
		return tenon_fail(err, -EINVAL,
				  "topology: no device that comes, or no array of those there; pass both");
	if (count >= TENON_TOPOLOGY_DEVICES_MAX)
		return tenon_fail(err, -EINVAL, "%s: the guest has %u devices, and room for %d; remove one first",
				  device->name ? device->name : "topology", count, TENON_TOPOLOGY_DEVICES_MAX);
	if (count > 0)
		memcpy(all, devices, count * sizeof(all[0]));
	all[count] = *device;
	int code = check_mode(mode, err);
	if (code == 0)
		code = topology_host_read(all, count + 1, &host, err);
	if (code != 0 || mode == TENON_TOPOLOGY_FLAT)
		return code;
	unsigned late = 0;
	while (host.index[late] != count)
		late++;
	return check_late_mirror(&host, late, err);
}

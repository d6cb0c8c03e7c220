// SPDX-License-Identifier: MIT
/*
 * Device and function numbers on the bus of a port or bridge: those of the host where that is possible, and always such that Linux
 * finds them.
 * Source: PCI Express Base Specification 5.0, 6.13 (ARI); Linux drivers/pci/probe.c (pci_scan_slot, only_one_child).
 */
#include <errno.h>

#include "topology_plan.h"

#define BUS_DEVFNS 256u
#define NO_DEVFN   BUS_DEVFNS

/*
 * Whether the host reaches some of them by ARI only: behind a port there is no device but 0, so a higher number is part of the
 * function's. Function 0 is then among them, and each is PCI Express.
 */
static bool host_uses_ari(const struct topology_host *host, uint64_t members)
{
	uint32_t bus = host->devices[topology_first(members)]->rid >> 8;
	bool zero = false, above = false;
	for (uint64_t left = members; left; left &= left - 1) {
		const struct tenon_topology_device *device = host->devices[topology_first(left)];
		if (device->rid == TENON_TOPOLOGY_NO_RID || device->rid >> 8 != bus || !device->pcie)
			return false;
		zero |= (device->rid & 0xff) == 0;
		above |= (device->rid & 0xff) >= TOPOLOGY_SLOT_FUNCTIONS;
	}
	return zero && above;
}

/* The number that a device has on the host and may keep on such a bus; NO_DEVFN: none. */
static unsigned host_devfn(const struct tenon_topology_device *device, const struct topology_unit *unit)
{
	if (device->rid == TENON_TOPOLOGY_NO_RID)
		return NO_DEVFN;
	return unit->kind == TENON_TOPOLOGY_BRIDGE || unit->ari ? device->rid & 0xff : device->rid & 7;
}

/* Keeps the host's numbers while they are free, and gives each other device the lowest that is. */
static void number_members(struct topology_plan *plan, const struct topology_unit *unit)
{
	bool used[BUS_DEVFNS] = {false};
	uint64_t others = 0;
	for (uint64_t left = unit->members; left; left &= left - 1) {
		unsigned device = topology_first(left), devfn = host_devfn(plan->host.devices[device], unit);
		if (devfn == NO_DEVFN || used[devfn]) {
			others |= topology_bit(device);
			continue;
		}
		used[devfn] = true;
		plan->devfn[device] = (uint8_t)devfn;
	}
	unsigned next = 0;
	for (; others; others &= others - 1) {
		while (used[next])
			next++;
		used[next] = true;
		plan->devfn[topology_first(others)] = (uint8_t)next;
	}
}

/* A device without function 0 is not there, for Linux (pci_scan_slot): its first device becomes that function. */
static void give_function_zero(struct topology_plan *plan, const struct topology_unit *unit)
{
	uint32_t seen = 0, zero = 0;
	unsigned first[BUS_DEVFNS / TOPOLOGY_SLOT_FUNCTIONS] = {0};
	for (uint64_t left = unit->members; left; left &= left - 1) {
		unsigned device = topology_first(left), slot = unit->ari ? 0 : plan->devfn[device] >> 3;
		if (!(seen >> slot & 1))
			first[slot] = device;
		seen |= UINT32_C(1) << slot;
		if (plan->devfn[device] == slot << 3)
			zero |= UINT32_C(1) << slot;
	}
	for (uint32_t left = seen & ~zero; left; left &= left - 1) {
		unsigned slot = (unsigned)__builtin_ctz(left);
		plan->devfn[first[slot]] = (uint8_t)(slot << 3);
	}
}

int topology_assign_functions(struct topology_plan *plan, struct topology_unit *unit, struct tenon_error *err)
{
	unsigned size = topology_size(unit->members);
	if (unit->kind == TENON_TOPOLOGY_PORT) {
		unit->ari = size > TOPOLOGY_SLOT_FUNCTIONS || host_uses_ari(&plan->host, unit->members);
		for (uint64_t left = unit->ari ? unit->members : 0; left; left &= left - 1) {
			const struct tenon_topology_device *device = plan->host.devices[topology_first(left)];
			if (!device->pcie)
				return tenon_fail(
					err, -ENOSPC,
					"%s: resets together with %u others, and as a conventional device can only "
					"be one of 8 functions behind a root port; assign fewer of them, leave their "
					"port out, or use --topology flat",
					device->name, size - 1);
		}
	}
	number_members(plan, unit);
	give_function_zero(plan, unit);
	return 0;
}

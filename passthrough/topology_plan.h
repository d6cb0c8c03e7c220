/* SPDX-License-Identifier: MIT */
/* A topology in the making: what topology.c's steps hand to each other. The steps are told there. */
#ifndef TOPOLOGY_PLAN_H
#define TOPOLOGY_PLAN_H

#include "topology_groups.h"

#define TOPOLOGY_SLOT_FUNCTIONS 8u

/* What has a function of its own on the root bus: a device, or the port or bridge of a group. */
struct topology_unit {
	uint64_t members;
	enum tenon_topology_bus_kind kind;
	bool bus_reset, ari, isolated;
	unsigned cluster; /* its first unit */
	uint8_t slot, function;
	unsigned bus; /* 0: on the root bus */
};

struct topology_plan {
	struct topology_host host;
	enum tenon_topology_mode mode;
	unsigned unit_count;
	struct topology_unit units[TENON_TOPOLOGY_DEVICES_MAX]; /* in the order of their first devices */
	uint8_t devfn
		[TENON_TOPOLOGY_DEVICES_MAX]; /* of the devices, in the host's order; not of those on the root bus */
};

/* topology_functions.c: the devices of a port's or bridge's bus. @return 0; -ENOSPC */
int topology_assign_functions(struct topology_plan *plan, struct topology_unit *unit, struct tenon_error *err);

/* topology_slots.c: which units share a slot of the root bus; and their slots. @return 0; -EINVAL a wish; -ENOSPC */
void topology_make_clusters(struct topology_plan *plan);
unsigned topology_cluster_size(const struct topology_plan *plan, unsigned cluster);
int topology_assign_slots(struct topology_plan *plan, uint32_t reserved_slots, struct tenon_error *err);

/* topology_result.c: numbers the buses, and tells all. */
void topology_fill(struct topology_plan *plan, struct tenon_topology *topology);

#endif

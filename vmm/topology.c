// SPDX-License-Identifier: MIT
/* Facts about devices: from libtenon's reset plans to the input of its topology. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "topology.h"

/* What a struct tenon_topology_device borrows. */
struct facts {
	uint32_t affected[TENON_TOPOLOGY_MEMBERS_MAX];
	struct tenon_reset_plan bus, own;
};

struct all_facts {
	struct tenon_topology_device device[SLOTS_MAX + 1];
	struct facts of[SLOTS_MAX + 1];
	unsigned count;
};

static uint32_t rid_of(const char *address)
{
	unsigned segment, bus, device, function;
	int end = 0;
	if (sscanf(address, "%4x:%2x:%2x.%1x%n", &segment, &bus, &device, &function, &end) != 4 || address[end])
		return TENON_TOPOLOGY_NO_RID;
	return segment << 16 | bus << 8 | device << 3 | function;
}

static int add_facts(struct all_facts *all, const struct assigned *assigned, struct tenon_error *err)
{
	struct facts *facts = &all->of[all->count];
	const struct tenon_device_info *info = tenon_device_info(assigned->device);
	facts->bus.size = sizeof(facts->bus);
	facts->own.size = sizeof(facts->own);
	int code = tenon_device_bus_reset_plan(assigned->device, &facts->bus, err);
	if (code == 0)
		code = tenon_device_reset_plan(assigned->device, &facts->own, err);
	if (code < 0)
		return code;
	bool bus = facts->bus.method == TENON_RESET_BUS;
	/* The device itself is the first, and of a passed one only the kernel knows where it is. */
	uint32_t rid = rid_of(bus ? facts->bus.affected[0].address : info->address);
	for (unsigned i = 0; bus && i < facts->bus.affected_count; i++)
		facts->affected[i] = rid_of(facts->bus.affected[i].address);
	all->device[all->count++] = (struct tenon_topology_device){
		.name = info->address,
		.rid = rid,
		.pcie = info->pcie,
		/* Without a RID nobody can tell whether all that its bus resets is here: nothing is promised then. */
		.resets_alone = (!bus || rid != TENON_TOPOLOGY_NO_RID) && facts->own.allowed &&
				facts->own.method != TENON_RESET_NONE && facts->own.affected_count == 1,
		.affected_count = bus ? facts->bus.affected_count : 0,
		.affected = facts->affected,
		.bus_reset_allowed = facts->bus.allowed,
		.why_not = bus ? facts->bus.why : facts->own.why,
		.iommu_group = info->iommu_group,
		.reset_group = assigned->options->reset_group,
		.wish = assigned->options->root_port ? TENON_TOPOLOGY_BEHIND_PORT : TENON_TOPOLOGY_ANYWHERE,
		.slot = assigned->options->slot,
	};
	return 0;
}

static int gather(const struct slots *slots, unsigned count, struct all_facts **out, struct tenon_error *err)
{
	int code = 0;
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return tenon_fail(err, -ENOMEM, "the guest's topology: out of memory; free some memory");
	for (unsigned i = 0; code == 0 && i < count; i++) {
		if (slots->slot[i].assigned)
			code = add_facts(*out, slots->slot[i].assigned, err);
	}
	return code;
}

int topology_compute(const struct slots *slots, unsigned count, struct tenon_topology *out, struct tenon_error *err)
{
	struct all_facts *all;
	out->size = sizeof(*out);
	int code = gather(slots, count, &all, err);
	if (code == 0)
		code = tenon_topology_plan(all->device, all->count, slots->mode, 1, out, err);
	free(all);
	return code;
}

int topology_check_late(const struct slots *slots, struct assigned *assigned, bool *bus_reset, struct tenon_error *err)
{
	struct all_facts *all;
	int code = gather(slots, slots->count, &all, err);
	if (code == 0)
		code = add_facts(all, assigned, err);
	if (code == 0) {
		const struct tenon_topology_device *late = &all->device[all->count - 1];
		code = tenon_topology_check_late(all->device, all->count - 1, late, slots->mode, err);
		*bus_reset = late->resets_alone || (late->affected_count == 1 && late->bus_reset_allowed);
	}
	free(all);
	return code;
}

// SPDX-License-Identifier: MIT
/* The finished topology as its user gets it: buses by their numbers, places in the caller's order, and the reason of each. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "topology_plan.h"

static void number_buses(struct topology_plan *plan)
{
	for (unsigned i = 0; i < plan->unit_count; i++) {
		struct topology_unit *unit = &plan->units[i];
		if (unit->kind == TENON_TOPOLOGY_ROOT)
			continue;
		unit->bus = 1;
		for (unsigned j = 0; j < plan->unit_count; j++) {
			const struct topology_unit *other = &plan->units[j];
			unit->bus += other->kind != TENON_TOPOLOGY_ROOT &&
				     (other->slot << 3 | other->function) < (unit->slot << 3 | unit->function);
		}
	}
}

__attribute__((format(printf, 2, 3))) static void append(struct tenon_topology_place *place, const char *format, ...)
{
	size_t used = strlen(place->why);
	va_list args;
	va_start(args, format);
	vsnprintf(place->why + used, sizeof(place->why) - used, format, args);
	va_end(args);
}

#define COMPANIONS_NAMED 3

static void explain(const struct topology_plan *plan, const struct topology_unit *unit, unsigned device,
		    struct tenon_topology_place *place)
{
	static const char *const where[] = {
		[TENON_TOPOLOGY_ROOT] = "on the root bus",
		[TENON_TOPOLOGY_PORT] = "behind a root port",
		[TENON_TOPOLOGY_BRIDGE] = "behind a conventional bridge",
	};
	const struct tenon_topology_device *facts = plan->host.devices[device];
	struct topology_reason why;
	unsigned companions = 0;
	append(place, "%s", where[unit->kind]);
	if (plan->mode == TENON_TOPOLOGY_FLAT) {
		append(place, ", as the topology is flat");
		if (unit->kind == TENON_TOPOLOGY_PORT && !unit->bus_reset) {
			topology_complete_group(&plan->host, device, &why);
			append(place, "; without a bus reset: %s",
			       why.text[0] ? why.text : "others reset with it; use --topology mirror");
		}
	} else if (unit->kind == TENON_TOPOLOGY_ROOT) {
		topology_complete_group(&plan->host, device, &why);
		append(place, ", which no guest can reset: %s", why.text);
	} else if (topology_size(unit->members) == 1) {
		append(place, " of its own: %s",
		       topology_port_is_own_reset(facts)
			       ? "its reset hits nothing else, and its host has none of its bus"
			       : "nothing else resets with it");
	} else {
		for (uint64_t left = unit->members & ~topology_bit(device); left; left &= left - 1, companions++) {
			if (companions < COMPANIONS_NAMED)
				append(place, "%s%s", companions ? ", " : ": it resets together with ",
				       plan->host.devices[topology_first(left)]->name);
		}
		if (companions > COMPANIONS_NAMED)
			append(place, " and %u more", companions - COMPANIONS_NAMED);
	}
	if (unit->cluster != (unsigned)(unit - plan->units))
		append(place, "; in the slot of %s, because of their IOMMU groups",
		       plan->host.devices[topology_first(plan->units[unit->cluster].members)]->name);
}

static void fill_place(const struct topology_plan *plan, const struct topology_unit *unit, unsigned device,
		       struct tenon_topology_place *place)
{
	unsigned devfn = plan->devfn[device], next = 0;
	*place = (struct tenon_topology_place){.bus = unit->bus, .devfn = devfn, .ari = unit->ari};
	explain(plan, unit, device, place);
	if (unit->kind == TENON_TOPOLOGY_ROOT) {
		place->devfn = (unsigned)unit->slot << 3 | unit->function;
		place->multifunction = topology_cluster_size(plan, unit->cluster) > 1;
		return;
	}
	for (uint64_t left = unit->members & ~topology_bit(device); left; left &= left - 1) {
		unsigned other = plan->devfn[topology_first(left)];
		place->multifunction |= unit->ari || other >> 3 == devfn >> 3;
		if (other > devfn && (next == 0 || other < next))
			next = other;
	}
	place->ari_next = unit->ari ? (uint8_t)next : 0;
}

void topology_fill(struct topology_plan *plan, struct tenon_topology *topology)
{
	number_buses(plan);
	*topology = (struct tenon_topology){.bus_count = 1, .buses[0].kind = TENON_TOPOLOGY_ROOT};
	for (unsigned i = 0; i < plan->unit_count; i++) {
		const struct topology_unit *unit = &plan->units[i];
		for (uint64_t left = unit->members; left; left &= left - 1) {
			unsigned device = topology_first(left);
			fill_place(plan, unit, device, &topology->places[plan->host.index[device]]);
		}
		if (unit->kind == TENON_TOPOLOGY_ROOT) {
			topology->buses[0].device_count++;
			continue;
		}
		topology->bus_count++;
		topology->buses[unit->bus] = (struct tenon_topology_bus){
			.kind = unit->kind,
			.slot = unit->slot,
			.function = unit->function,
			.number = unit->bus,
			.device_count = topology_size(unit->members),
			.bus_reset = unit->bus_reset,
			.isolated = unit->isolated,
			.ari = unit->ari,
		};
	}
}

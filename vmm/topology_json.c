// SPDX-License-Identifier: MIT
/* The guest's reset groups in JSON: what is behind one bridge, and each device of the root bus by itself. */
#include <stdio.h>

#include "topology_json.h"

static json_object *members(struct slot *leader)
{
	struct slots *slots = leader->slots;
	json_object *list = json_object_new_array();
	for (struct slot *slot = leader; slot; slot = slots_next_behind(slot)) {
		struct assigned *assigned = slots_hold(slots, (unsigned)(slot - slots->slot));
		char name[16];
		if (!assigned)
			continue;
		json_object *one = json_object_new_object();
		slot_name(slot, name, sizeof(name));
		json_object_object_add(one, "device",
				       json_object_new_string(tenon_device_info(assigned->device)->address));
		json_object_object_add(one, "slot", json_object_new_string(name));
		json_object_array_add(list, one);
		slots_release(assigned);
	}
	return list;
}

static const char *kind_of(const struct slot *slot)
{
	if (!slot->bridge)
		return "root bus";
	return pci_bridge_is_conventional(slot->bridge) ? "conventional bridge" : "root port";
}

json_object *topology_json(struct slots *slots)
{
	struct slot *leaders[SLOTS_MAX];
	unsigned count = slots_leaders(slots, leaders);
	json_object *groups = json_object_new_array(), *object = json_object_new_object();
	for (unsigned i = 0; i < count; i++) {
		json_object *devices = members(leaders[i]), *group;
		char at[16];
		if (json_object_array_length(devices) == 0) {
			json_object_put(devices);
			continue;
		}
		group = json_object_new_object();
		snprintf(at, sizeof(at), "00:%02x.%x", leaders[i]->device, leaders[i]->function);
		json_object_object_add(group, "at", json_object_new_string(at));
		json_object_object_add(group, "kind", json_object_new_string(kind_of(leaders[i])));
		pthread_mutex_lock(&slots->lock);
		json_object_object_add(group, "bus_reset", json_object_new_boolean(leaders[i]->bus_reset));
		json_object_object_add(group, "why", json_object_new_string(leaders[i]->why));
		pthread_mutex_unlock(&slots->lock);
		json_object_object_add(group, "members", devices);
		json_object_array_add(groups, group);
	}
	json_object_object_add(object, "mode",
			       json_object_new_string(slots->mode == TENON_TOPOLOGY_MIRROR ? "mirror" : "flat"));
	json_object_object_add(object, "reset_groups", groups);
	return object;
}

static const char *text_of(json_object *object, const char *key)
{
	return json_object_get_string(json_object_object_get(object, key));
}

void topology_print(json_object *topology)
{
	json_object *groups = json_object_object_get(topology, "reset_groups");
	for (size_t i = 0; i < json_object_array_length(groups); i++) {
		json_object *group = json_object_array_get_idx(groups, i);
		json_object *list = json_object_object_get(group, "members");
		bool reset = json_object_get_boolean(json_object_object_get(group, "bus_reset"));
		printf("%s %s, %s:", text_of(group, "kind"), text_of(group, "at"),
		       reset ? "bus reset offered" : "no bus reset");
		for (size_t j = 0; j < json_object_array_length(list); j++) {
			json_object *member = json_object_array_get_idx(list, j);
			printf("%s %s is %s", j ? "," : "", text_of(member, "slot"), text_of(member, "device"));
		}
		printf("; %s\n", text_of(group, "why"));
	}
}

// SPDX-License-Identifier: MIT
/* The machine in words of JSON, for the control socket. */
#include <stdio.h>

#include "describe.h"
#include "log.h"
#include "topology_json.h"

json_object *describe_success(void)
{
	json_object *object = json_object_new_object();
	json_object_object_add(object, "ok", json_object_new_boolean(true));
	return object;
}

json_object *describe_error(const struct tenon_error *error)
{
	json_object *object = json_object_new_object();
	json_object_object_add(object, "ok", json_object_new_boolean(false));
	json_object_object_add(object, "error", json_object_new_string(error->message));
	return object;
}

json_object *describe_result(const struct hotplug_result *result)
{
	if (result->error.code)
		return describe_error(&result->error);
	json_object *object = describe_success();
	json_object_object_add(object, "device", json_object_new_string(result->address));
	json_object_object_add(object, "slot", json_object_new_string(result->slot));
	return object;
}

static const char *state_of(const struct pci_slot_state *state)
{
	if (!state->occupied)
		return "coming or leaving";
	if (state->attention)
		return "refused by the guest";
	if (!state->powered)
		return "not switched on by the guest";
	return state->blinking ? "being switched by the guest" : "in use";
}

static json_object *describe_slot(const struct slot *slot, const struct assigned *assigned)
{
	char text[64];
	json_object *object = json_object_new_object();
	const struct tenon_device_info *info = assigned ? tenon_device_info(assigned->device) : NULL;
	struct pci_slot_state state = {0};
	slot_name(slot, text, sizeof(text));
	json_object_object_add(object, "slot", json_object_new_string(text));
	if (slot->bridge) {
		pci_bridge_slot(slot->bridge, &state);
		snprintf(text, sizeof(text), "00:%02x.%x", slot->device, slot->function);
	}
	json_object_object_add(object, "port", slot->bridge ? json_object_new_string(text) : NULL);
	json_object_object_add(object, "device", info ? json_object_new_string(info->address) : NULL);
	if (!info) {
		json_object_object_add(object, "state", json_object_new_string("empty"));
		return object;
	}
	snprintf(text, sizeof(text), "%04x:%04x", info->vendor_id, info->device_id);
	json_object_object_add(object, "id", json_object_new_string(text));
	snprintf(text, sizeof(text), "%06x", info->class_code);
	json_object_object_add(object, "class", json_object_new_string(text));
	json_object_object_add(object, "state", json_object_new_string(slot->removable ? state_of(&state) : "fixed"));
	return object;
}

json_object *describe_devices(struct slots *slots)
{
	json_object *object = describe_success(), *list = json_object_new_array();
	for (unsigned i = 0; i < slots->count; i++) {
		struct assigned *assigned = slots_hold(slots, i);
		if (!assigned && slots->slot[i].leader != &slots->slot[i])
			continue; /* its port is the leader's */
		json_object_array_add(list, describe_slot(&slots->slot[i], assigned));
		if (assigned)
			slots_release(assigned);
	}
	json_object_object_add(object, "slots", list);
	return object;
}

json_object *describe_topology(struct slots *slots)
{
	json_object *object = describe_success();
	json_object_object_add(object, "topology", topology_json(slots));
	return object;
}

static const char *activity(const struct machine *machine, const struct engine_outcome *migration)
{
	enum machine_stop stop = atomic_load(&machine->stop);
	if (stop != MACHINE_RUNNING)
		return stop == MACHINE_RESET ? "resetting" : "ending";
	if (migration->state == ENGINE_RUNNING || migration->state == ENGINE_BLOCKED)
		return migration->incoming ? "waiting for its guest" : "migrating";
	return "running";
}

json_object *describe_status(struct machine *machine, const struct engine_outcome *migration, uint64_t started_ns)
{
	json_object *object = describe_success();
	unsigned devices = 0, empty = 0;
	for (unsigned i = 0; i < machine->slots.count; i++) {
		struct assigned *assigned = slots_hold(&machine->slots, i);
		devices += assigned != NULL;
		empty += !assigned && machine->slots.slot[i].leader == &machine->slots.slot[i];
		if (assigned)
			slots_release(assigned);
	}
	json_object_object_add(object, "state", json_object_new_string(activity(machine, migration)));
	json_object_object_add(object, "uptime_seconds",
			       json_object_new_uint64((log_now_ns() - started_ns) / 1000000000));
	json_object_object_add(object, "cpus", json_object_new_int((int)machine->options->cpus));
	json_object_object_add(object, "memory_bytes", json_object_new_uint64(machine->options->memory.size_bytes));
	json_object_object_add(object, "devices", json_object_new_int((int)devices));
	json_object_object_add(object, "empty_ports", json_object_new_int((int)empty));
	return object;
}

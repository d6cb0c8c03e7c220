/* SPDX-License-Identifier: MIT */
/* The answers of the control socket, as JSON. Each is NULL when memory is out. */
#ifndef CONTROL_DESCRIBE_H
#define CONTROL_DESCRIBE_H

#include <json-c/json.h>

#include "hotplug.h"
#include "migrate/engine.h"

json_object *describe_success(void);
json_object *describe_error(const struct tenon_error *error);
json_object *describe_result(const struct hotplug_result *result);

/** Every device and every empty root port. From any thread. */
json_object *describe_devices(struct slots *slots);

/** Which devices the guest sees reset together. From any thread. */
json_object *describe_topology(struct slots *slots);

/** @param started_ns  when the VM was made, by log_now_ns @param migration  as the engine tells */
json_object *describe_status(struct machine *machine, const struct engine_outcome *migration, uint64_t started_ns);

#endif

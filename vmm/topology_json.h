/* SPDX-License-Identifier: MIT */
/* Who resets together with whom in the guest, as JSON, for the plan and the control socket; and that in the words of a terminal. */
#ifndef TOPOLOGY_JSON_H
#define TOPOLOGY_JSON_H

#include <json-c/json.h>

#include "slots.h"

/**
 * {"mode": "mirror", "reset_groups": [{"at": "00:01.0", "kind": "root port", "bus_reset": true, "isolated": ..., "why": "...",
 * "members": [{"device": "0000:3b:00.0", "slot": "01:00.0"}, ...]}, ...]}, by ascending place. From any thread.
 */
json_object *topology_json(struct slots *slots);

/** Prints what topology_json made, one line for each group. */
void topology_print(json_object *topology);

#endif

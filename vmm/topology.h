/* SPDX-License-Identifier: MIT */
/* What the open devices tell about resets and groups, as the library's topology wants it. */
#ifndef TOPOLOGY_H
#define TOPOLOGY_H

#include <tenon/topology.h>

#include "slots.h"

/**
 * The guest's topology for the open devices of the slots, in their order.
 *
 * @param count  of slots that have one: the first ones
 * @param out    its `size` is set by the call
 */
int topology_compute(const struct slots *slots, unsigned count, struct tenon_topology *out, struct tenon_error *err);

/**
 * Whether an open device may go behind an empty port of its own.
 *
 * @param bus_reset  gets whether the guest may reset that port's bus
 * @return 0; -EINVAL with the reason
 */
int topology_check_late(const struct slots *slots, struct assigned *assigned, bool *bus_reset, struct tenon_error *err);

#endif

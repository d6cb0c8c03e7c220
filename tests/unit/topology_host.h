/* SPDX-License-Identifier: MIT */
/*
 * Random hosts for the topology's property test: a PCI hierarchy, what Linux makes of it, and the facts that a VMM would have of the
 * devices that it assigns. One seed makes one host.
 */
#ifndef TOPOLOGY_HOST_H
#define TOPOLOGY_HOST_H

#include <tenon/topology.h>

#include "topology_linux.h"

struct random_host {
	uint64_t seed, state;
	struct linux_machine pci;
	bool strange; /* a kernel that tells sets which contradict each other */

	/* What tenon_topology_plan gets. */
	unsigned count;
	struct tenon_topology_device devices[TENON_TOPOLOGY_DEVICES_MAX];
	char names[TENON_TOPOLOGY_DEVICES_MAX][24];
	uint32_t sets[TENON_TOPOLOGY_DEVICES_MAX][TENON_TOPOLOGY_MEMBERS_MAX];
	uint32_t reserved_slots;
};

void random_host_make(struct random_host *host, uint64_t seed);

/** A number below `limit`, from the host's own sequence. */
unsigned random_below(struct random_host *host, unsigned limit);

/** Tells the seed and the facts on stderr. */
void random_host_print(const struct random_host *host);

#endif

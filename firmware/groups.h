/* SPDX-License-Identifier: MIT */
/*
 * Reset groups, twice: as the buses show them, and as the machine's description says that they are on the host. What is behind one
 * bridge resets together, because a bridge resets its whole bus; what is on the root bus, no guest can reset.
 */
#ifndef GROUPS_H
#define GROUPS_H

#include "pci.h"

/* One that the description has. */
struct reset_group {
	const void *members; /* `count` cells: RIDs, in any order */
	unsigned count;
	bool bus_reset;  /* offered: it resets these, and nothing else */
	const char *why; /* why not; "": not said */
};

/** Reads the description's groups. A description without any has none. */
void groups_read(void);

/** The group that the description has the function in; NULL: in none. */
const struct reset_group *group_of(const struct function *function);

/** Prints both, a line for each group, members ascending, and whether they agree, or where they do not first. */
void groups_list(void);

#endif

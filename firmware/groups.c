// SPDX-License-Identifier: MIT
/* Reset groups: what the description says, what was enumerated, and whether that is the same. */
#include <libfdt.h>

#include "console.h"
#include "groups.h"

#define GROUPS_MAX 64
#define NO_RID     0x10000u

static struct reset_group described[GROUPS_MAX];
static unsigned described_count;

/* ---- The description ---- */

void groups_read(void)
{
	int node, parent = fdt_path_offset(machine.fdt, "/reset-groups");
	described_count = 0;
	if (parent < 0)
		return;
	fdt_for_each_subnode(node, machine.fdt, parent)
	{
		int bytes = 0;
		const void *members = fdt_getprop(machine.fdt, node, "tenon,members", &bytes);
		const char *why = fdt_getprop(machine.fdt, node, "tenon,why", NULL);
		if (described_count == GROUPS_MAX || !members || bytes < 4)
			continue;
		described[described_count++] = (struct reset_group){
			.members = members,
			.count = (unsigned)bytes / 4,
			.bus_reset = fdt_getprop(machine.fdt, node, "tenon,bus-reset", NULL) != NULL,
			.why = why ? why : "",
		};
	}
}

static unsigned member(const struct reset_group *group, unsigned index)
{
	return fdt32_ld((const fdt32_t *)group->members + index);
}

static bool has_member(const struct reset_group *group, unsigned rid)
{
	for (unsigned i = 0; i < group->count; i++) {
		if (member(group, i) == rid)
			return true;
	}
	return false;
}

static const struct reset_group *described_with(unsigned rid)
{
	for (unsigned i = 0; i < described_count; i++) {
		if (has_member(&described[i], rid))
			return &described[i];
	}
	return NULL;
}

const struct reset_group *group_of(const struct function *function)
{
	return described_with(function_rid(function));
}

/* The lowest member from `first` on, or NO_RID. */
static unsigned lowest(const struct reset_group *group, unsigned first)
{
	unsigned found = NO_RID;
	for (unsigned i = 0; i < group->count; i++) {
		unsigned rid = member(group, i);
		if (rid >= first && rid < found)
			found = rid;
	}
	return found;
}

/* ---- Both, side by side ---- */

static void print_rid(unsigned rid)
{
	print(" %02x:%02x.%x", rid >> 8, rid >> 3 & 0x1f, rid & 7);
}

/* The functions behind one bridge follow each other in ascending order, but for those behind a bridge among them. */
static const struct function *next_behind(int bridge, const struct function *last)
{
	for (const struct function *next = last + 1; next < functions + function_count; next++) {
		if (next->parent == bridge)
			return next;
	}
	return NULL;
}

static void list_seen(int bridge)
{
	const struct function *at = next_behind(bridge, &functions[bridge]);
	if (!at)
		return;
	print("reset-group");
	for (; at; at = next_behind(bridge, at))
		print_rid(function_rid(at));
	print("\n");
}

static void list_described(const struct reset_group *group)
{
	print("described %s", group->bus_reset ? "reset-group" : "without-bus-reset");
	for (unsigned rid = lowest(group, 0); rid != NO_RID; rid = lowest(group, rid + 1))
		print_rid(rid);
	if (!group->bus_reset)
		print(": %s", group->why);
	print("\n");
}

/* By ascending first members, which no two groups share. */
static void list_all_described(void)
{
	for (unsigned first = 0; first < NO_RID;) {
		const struct reset_group *next = NULL;
		for (unsigned i = 0; i < described_count; i++) {
			unsigned low = lowest(&described[i], 0);
			if (low >= first && (!next || low < lowest(next, 0)))
				next = &described[i];
		}
		if (!next)
			return;
		list_described(next);
		first = lowest(next, 0) + 1;
	}
}

static bool differs(unsigned rid, const char *how)
{
	print("reset-groups differ:");
	print_rid(rid);
	print(" %s\n", how);
	return true;
}

static bool seen_differs(int bridge)
{
	const struct function *at = next_behind(bridge, &functions[bridge]);
	const struct reset_group *group = at ? group_of(at) : NULL;
	if (!at)
		return false;
	if (!group)
		return differs(function_rid(at), "is behind a bridge, and described in no group");
	if (!group->bus_reset)
		return differs(function_rid(at), "is behind a bridge, and described without a bus reset");
	for (; at; at = next_behind(bridge, at)) {
		if (!has_member(group, function_rid(at)))
			return differs(function_rid(at),
				       "is behind the bridge of another group than it is described in");
	}
	return false;
}

static bool described_differs(const struct reset_group *group)
{
	const struct function *first = function_at(member(group, 0));
	for (unsigned i = 0; group->bus_reset && i < group->count; i++) {
		const struct function *function = function_at(member(group, i));
		if (!function)
			return differs(member(group, i), "is described, and was not found");
		if (function->parent < 0)
			return differs(member(group, i), "is described with a bus reset, and is on the root bus");
		if (function->parent != first->parent)
			return differs(member(group, i), "is not behind the bridge of the group it is described in");
	}
	return false;
}

void groups_list(void)
{
	bool differ = false;
	for (unsigned i = 0; i < function_count; i++) {
		if (functions[i].header == HEADER_BRIDGE)
			list_seen((int)i);
	}
	list_all_described();
	for (unsigned i = 0; !differ && i < function_count; i++)
		differ = functions[i].header == HEADER_BRIDGE && seen_differs((int)i);
	for (unsigned i = 0; !differ && i < described_count; i++)
		differ = described_differs(&described[i]);
	if (!differ)
		print("reset-groups agree\n");
}

// SPDX-License-Identifier: MIT
/* tenon groups: each IOMMU group with its members, which of them blocks, and the command that gives it away as a whole. */
#include <stdio.h>

#include "commands.h"
#include "table.h"

/* Group numbers have gaps; devices are asked for the next higher one. @return -1 when there is none */
static int next_group(const struct inventory *inventory, int group)
{
	int next = -1;
	for (unsigned i = 0; i < inventory->count; i++) {
		int found = inventory->devices[i].group;
		if (found > group && (next < 0 || found < next))
			next = found;
	}
	return next;
}

static unsigned endpoints(const struct inventory *inventory, int group)
{
	unsigned count = 0;
	for (unsigned i = 0; i < inventory->count; i++)
		count += inventory->devices[i].group == group && !device_is_infrastructure(&inventory->devices[i]);
	return count;
}

/* One that is alone in its group blocks nobody but itself. */
static const char *state_of(const struct device *member, bool alone)
{
	if (member_blocks(member))
		return alone ? "host driver" : "blocks";
	return device_is_infrastructure(member) ? "bridge" : device_on_vfio(member) ? "VFIO" : "free";
}

static json_object *group_as_json(const struct view *view, int group)
{
	struct verdict verdict;
	json_object *one = json_object_new_object(), *members = json_object_new_array();
	json_object_object_add(one, "group", json_object_new_int(group));
	for (unsigned i = 0; i < view->inventory.count; i++) {
		const struct device *member = &view->inventory.devices[i];
		if (member->group != group)
			continue;
		char name[256];
		json_object *entry = json_object_new_object();
		json_add_string(entry, "address", member->bdf);
		json_add_string(entry, "driver", member->driver);
		describe_device(view, member, name, sizeof(name));
		json_add_string(entry, "name", name);
		json_object_object_add(entry, "blocks", json_object_new_boolean(member_blocks(member)));
		json_object_array_add(members, entry);
	}
	json_object_object_add(one, "members", members);
	verdict_of_group(&view->facts, group, &verdict);
	json_add_string(one, "verdict", verdict_word(verdict.kind));
	json_add_string(one, "because", verdict.because);
	json_add_string(one, "do", verdict.action);
	return one;
}

static void add_group(struct table *table, const struct view *view, int group)
{
	char number[16], name[256], line[640];
	struct verdict verdict;
	bool alone = endpoints(&view->inventory, group) < 2;
	snprintf(number, sizeof(number), "%d", group);
	for (unsigned i = 0; i < view->inventory.count; i++) {
		const struct device *member = &view->inventory.devices[i];
		if (member->group != group)
			continue;
		describe_device(view, member, name, sizeof(name));
		table_row(table,
			  (const char *const[]){number, member->bdf, member->driver, state_of(member, alone), name});
	}
	verdict_of_group(&view->facts, group, &verdict);
	if (verdict.kind == VERDICT_BIND && verdict.because[0] && !alone)
		snprintf(line, sizeof(line), "as a whole: yes, after: %s (blocked by %s)", verdict.action,
			 verdict.because);
	else {
		char words[600];
		verdict_print(&verdict, words, sizeof(words));
		snprintf(line, sizeof(line), "as a whole: %s", words);
	}
	table_note(table, line);
}

int command_groups(const struct host *host, const struct options *options, struct tenon_error *err)
{
	struct view view;
	int code = view_open(host, &view, err);
	const struct inventory *inventory = &view.inventory;
	if (code == 0 && options->json) {
		json_object *array = json_object_new_array();
		for (int group = next_group(inventory, -1); group >= 0; group = next_group(inventory, group))
			json_object_array_add(array, group_as_json(&view, group));
		code = print_json(array, err);
	} else if (code == 0 && next_group(inventory, -1) < 0) {
		printf("The host has no IOMMU groups: its IOMMU is off. tenon doctor says what to do.\n");
	} else if (code == 0) {
		static const char *const titles[] = {"GROUP", "DEVICE", "DRIVER", "STATE", "NAME", NULL};
		struct table *table = table_create(titles);
		for (int group = next_group(inventory, -1); group >= 0; group = next_group(inventory, group))
			add_group(table, &view, group);
		table_print(table, stdout);
		table_destroy(table);
	}
	view_finish(&view);
	return status_of(code);
}

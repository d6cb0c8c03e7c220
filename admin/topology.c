// SPDX-License-Identifier: MIT
/* tenon topology: how the host's devices hang together, which share an IOMMU group and which a reset, as text, JSON or a graph. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <linux/pci_regs.h>

#include "commands.h"
#include "text.h"

#define DEPTH_MAX 32 /* deeper than PCI Express can be; a made-up sysfs could have a loop */

static const char *kind_of(const struct device *device)
{
	switch (device->express_type) {
	case PCI_EXP_TYPE_ROOT_PORT:
		return "root port";
	case PCI_EXP_TYPE_UPSTREAM:
		return "switch, upstream port";
	case PCI_EXP_TYPE_DOWNSTREAM:
		return "switch, downstream port";
	case PCI_EXP_TYPE_PCI_BRIDGE:
		return "bridge to conventional PCI";
	case PCI_EXP_TYPE_PCIE_BRIDGE:
		return "bridge to PCI Express";
	case PCI_EXP_TYPE_RC_END:
		return "integrated endpoint";
	case PCI_EXP_TYPE_RC_EC:
		return "event collector";
	}
	if (device->config_read && device->header_type == PCI_HEADER_TYPE_BRIDGE)
		return "bridge";
	return device_is_infrastructure(device) ? "host" : "endpoint";
}

static void describe_node(const struct view *view, const struct device *device, char *text, size_t capacity)
{
	char with[512];
	snprintf(text, capacity, "%s", kind_of(device));
	if (device->config_read && device->header_type == PCI_HEADER_TYPE_BRIDGE)
		text_add(text, capacity, " to bus %02x", device->secondary_bus);
	if (device->pf[0])
		text_add(text, capacity, ", VF of %s", device->pf);
	if (device->is_pf)
		text_add(text, capacity, ", PF with %u of %u VFs", device->vfs, device->vfs_total);
	text_add(text, capacity, ", driver %s", device->driver[0] ? device->driver : "none");
	if (device->group >= 0)
		text_add(text, capacity, ", group %d", device->group);
	list_reset_group(&view->inventory, device, with, sizeof(with));
	if (with[0])
		text_add(text, capacity, ", resets with %s", with);
}

/* Whether a device hangs off the bridge `above`, or off the root bus itself when that is "". */
static bool hangs_off(const struct inventory *inventory, const struct device *device, const char *root_bus,
		      const char *above)
{
	if (strcmp(device->root_bus, root_bus) != 0)
		return false;
	/* One whose bridge is not in the list stands at the top, so that nothing is lost. */
	const char *actual = device->above[0] && inventory_find(inventory, device->above) ? device->above : "";
	return strcmp(actual, above) == 0;
}

static void print_tree(const struct view *view, const char *root_bus, const char *above, int depth)
{
	for (unsigned i = 0; depth < DEPTH_MAX && i < view->inventory.count; i++) {
		const struct device *device = &view->inventory.devices[i];
		char name[256], about[1024];
		if (!hangs_off(&view->inventory, device, root_bus, above))
			continue;
		describe_device(view, device, name, sizeof(name));
		describe_node(view, device, about, sizeof(about));
		printf("%*s%s  %s  [%s]\n", 2 * depth, "", device->bdf, name, about);
		print_tree(view, root_bus, device->bdf, depth + 1);
	}
}

static json_object *tree_as_json(const struct view *view, const char *root_bus, const char *above, int depth)
{
	json_object *list = json_object_new_array();
	for (unsigned i = 0; depth < DEPTH_MAX && i < view->inventory.count; i++) {
		const struct device *device = &view->inventory.devices[i];
		char name[256], with[1024];
		if (!hangs_off(&view->inventory, device, root_bus, above))
			continue;
		json_object *one = json_object_new_object(), *reset = json_object_new_array();
		json_add_string(one, "address", device->bdf);
		json_add_string(one, "kind", kind_of(device));
		describe_device(view, device, name, sizeof(name));
		json_add_string(one, "name", name);
		json_add_string(one, "driver", device->driver);
		json_object_object_add(one, "iommu_group",
				       device->group >= 0 ? json_object_new_int(device->group) : NULL);
		list_reset_group(&view->inventory, device, with, sizeof(with));
		for (char *rest = with, *word; (word = strsep(&rest, " "));) {
			if (word[0])
				json_object_array_add(reset, json_object_new_string(word));
		}
		json_object_object_add(one, "resets_with", reset);
		json_object_object_add(one, "below", tree_as_json(view, root_bus, device->bdf, depth + 1));
		json_object_array_add(list, one);
	}
	return list;
}

/* The next root bus in alphabetical order after `last`; NULL when there is none. */
static const char *next_root_bus(const struct inventory *inventory, const char *last)
{
	const char *next = NULL;
	for (unsigned i = 0; i < inventory->count; i++) {
		const char *name = inventory->devices[i].root_bus;
		if (strcmp(name, last) > 0 && (!next || strcmp(name, next) < 0))
			next = name;
	}
	return next;
}

/* A name may hold what ends a string of DOT. */
static void print_quoted(const char *text)
{
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar(*text);
	}
}

static void print_dot_node(const struct view *view, const struct device *device)
{
	char name[256];
	describe_device(view, device, name, sizeof(name));
	printf("    \"%s\" [label=\"%s\\n", device->bdf, device->bdf);
	print_quoted(name);
	printf("\\n%s, driver ", kind_of(device));
	print_quoted(device->driver[0] ? device->driver : "none");
	printf("\"%s];\n", device_is_infrastructure(device) ? ", style=rounded" : "");
}

/* A frame for each IOMMU group; dashed lines join what a bus reset hits together. */
static void print_dot(const struct view *view)
{
	const struct inventory *inventory = &view->inventory;
	printf("digraph topology {\n  rankdir=LR;\n  node [shape=box];\n");
	for (unsigned i = 0; i < inventory->count; i++) {
		const struct device *device = &inventory->devices[i];
		bool first = true;
		for (unsigned j = 0; j < i; j++)
			first &= inventory->devices[j].group != device->group;
		if (device->group < 0)
			print_dot_node(view, device);
		if (device->group < 0 || !first)
			continue;
		printf("  subgraph cluster_group_%d {\n    label=\"IOMMU group %d\";\n", device->group, device->group);
		for (unsigned j = i; j < inventory->count; j++) {
			if (inventory->devices[j].group == device->group)
				print_dot_node(view, &inventory->devices[j]);
		}
		printf("  }\n");
	}
	for (unsigned i = 0; i < inventory->count; i++) {
		const struct device *device = &inventory->devices[i];
		if (device->above[0] && inventory_find(inventory, device->above))
			printf("  \"%s\" -> \"%s\";\n", device->above, device->bdf);
		else
			printf("  \"%s\" -> \"%s\";\n", device->root_bus, device->bdf);
		for (unsigned j = i + 1; j < inventory->count; j++) {
			if (device_resets_with(inventory, device, &inventory->devices[j]))
				printf("  \"%s\" -> \"%s\" [style=dashed, dir=none, constraint=false, "
				       "label=\"reset\"];\n",
				       device->bdf, inventory->devices[j].bdf);
		}
	}
	printf("}\n");
}

int command_topology(const struct host *host, const struct options *options, struct tenon_error *err)
{
	struct view view;
	if (options->json && options->dot) {
		tenon_fail(err, -EINVAL, "--json --dot: two formats; give one of them");
		return STATUS_USAGE;
	}
	int code = view_open(host, &view, err);
	const char *root = code == 0 ? next_root_bus(&view.inventory, "") : NULL;
	if (code == 0 && options->dot) {
		print_dot(&view);
	} else if (code == 0 && options->json) {
		json_object *list = json_object_new_array();
		for (; root; root = next_root_bus(&view.inventory, root)) {
			json_object *one = json_object_new_object();
			json_add_string(one, "root_bus", root);
			json_object_object_add(one, "devices", tree_as_json(&view, root, "", 0));
			json_object_array_add(list, one);
		}
		code = print_json(list, err);
	} else {
		for (; root; root = next_root_bus(&view.inventory, root)) {
			printf("%s\n", root);
			print_tree(&view, root, "", 1);
		}
	}
	view_finish(&view);
	return code == 0 ? STATUS_OK : STATUS_FAILED;
}

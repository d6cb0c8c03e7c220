// SPDX-License-Identifier: MIT
/* tenon devices: the host's devices, those that can be assigned first, each with what to do next. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "table.h"
#include "text.h"

static const char *const coherency_words[] = {NULL, "yes", "no"};

static void describe_sriov(const struct device *device, char *text, size_t capacity)
{
	text[0] = '\0';
	if (device->is_pf)
		snprintf(text, capacity, "PF %u/%u", device->vfs, device->vfs_total);
	else if (device->pf[0])
		snprintf(text, capacity, "VF of %s", device->pf);
}

static void describe_bars(const struct device *device, char *text, size_t capacity)
{
	text[0] = '\0';
	for (unsigned i = 0; i < BAR_COUNT; i++) {
		char size[32];
		if (!device->bars[i].size_bytes)
			continue;
		text_size(size, sizeof(size), device->bars[i].size_bytes);
		text_add(text, capacity, "%s%s%s", text[0] ? "," : "", size, device->bars[i].io ? "(I/O)" : "");
	}
}

static void describe_number(int value, char *text, size_t capacity)
{
	text[0] = '\0';
	if (value >= 0)
		snprintf(text, capacity, "%d", value);
}

static json_object *words_as_array(const char *words)
{
	json_object *array = json_object_new_array();
	char copy[1024];
	snprintf(copy, sizeof(copy), "%s", words);
	for (char *rest = copy, *word; (word = strsep(&rest, " "));) {
		if (word[0])
			json_object_array_add(array, json_object_new_string(word));
	}
	return array;
}

static json_object *bars_as_json(const struct device *device)
{
	json_object *list = json_object_new_array();
	for (unsigned i = 0; i < BAR_COUNT; i++) {
		const struct bar *bar = &device->bars[i];
		if (!bar->size_bytes)
			continue;
		json_object *one = json_object_new_object();
		json_object_object_add(one, "bar", json_object_new_int((int)i));
		json_add_string(one, "kind", bar->io ? "I/O" : bar->is_64bit ? "64-bit memory" : "32-bit memory");
		json_object_object_add(one, "prefetchable", json_object_new_boolean(bar->prefetchable));
		json_object_object_add(one, "bytes", json_object_new_uint64(bar->size_bytes));
		json_object_array_add(list, one);
	}
	return list;
}

static json_object *uses_as_json(const struct view *view, const struct device *device)
{
	json_object *list = json_object_new_array();
	struct uses uses;
	usage_find(view->host, &view->activity, device, &uses);
	for (unsigned i = 0; i < uses.count; i++) {
		json_object *one = json_object_new_object();
		json_add_string(one, "what", uses.list[i].what);
		json_add_string(one, "do", uses.list[i].fix);
		json_object_array_add(list, one);
	}
	return list;
}

static void add_hex(json_object *object, const char *key, unsigned value, int digits)
{
	char text[16];
	snprintf(text, sizeof(text), "%0*x", digits, value);
	json_add_string(object, key, text);
}

static void add_number(json_object *object, const char *key, int value)
{
	json_object_object_add(object, key, value >= 0 ? json_object_new_int(value) : NULL);
}

static json_object *reset_as_json(const struct view *view, const struct device *device)
{
	char group[1024];
	json_object *reset = json_object_new_object();
	json_object_object_add(reset, "methods",
			       device->reset_methods_known ? words_as_array(device->reset_methods) : NULL);
	json_object_object_add(reset, "bus_reset",
			       json_object_new_boolean(device_has_bus_reset(&view->inventory, device)));
	list_reset_group(&view->inventory, device, group, sizeof(group));
	json_object_object_add(reset, "with", words_as_array(group));
	return reset;
}

static json_object *sriov_as_json(const struct device *device)
{
	json_object *sriov = json_object_new_object();
	json_add_string(sriov, "role", device->is_pf ? "PF" : device->pf[0] ? "VF" : "none");
	json_object_object_add(sriov, "vfs", json_object_new_int((int)device->vfs));
	json_object_object_add(sriov, "vfs_total", json_object_new_int((int)device->vfs_total));
	json_add_string(sriov, "pf", device->pf);
	return sriov;
}

static json_object *verdict_as_json(const struct verdict *verdict)
{
	json_object *one = json_object_new_object();
	json_object_object_add(
		one, "can", json_object_new_boolean(verdict->kind == VERDICT_READY || verdict->kind == VERDICT_BIND));
	json_add_string(one, "verdict", verdict_word(verdict->kind));
	json_add_string(one, "because", verdict->because);
	json_add_string(one, "do", verdict->action);
	return one;
}

static json_object *device_as_json(const struct view *view, const struct device *device, const struct verdict *verdict)
{
	char text[256], group_node[NAME_BYTES];
	json_object *one = json_object_new_object();
	json_add_string(one, "address", device->bdf);
	add_hex(one, "class", device->class_code, 6);
	names_class(view->names, device, text, sizeof(text));
	json_add_string(one, "class_name", text);
	add_hex(one, "vendor", device->vendor, 4);
	names_vendor(view->names, device, text, sizeof(text));
	json_add_string(one, "vendor_name", text);
	add_hex(one, "device", device->device, 4);
	names_device(view->names, device, text, sizeof(text));
	json_add_string(one, "device_name", text);
	snprintf(text, sizeof(text), "%04x:%04x", device->subsystem_vendor, device->subsystem_device);
	json_add_string(one, "subsystem", text);
	json_add_string(one, "driver", device->driver);
	json_add_string(one, "driver_override", device->override);
	add_number(one, "iommu_group", device->group);
	json_add_string(one, "iommu", device->iommu);
	json_object_object_add(one, "coherent",
			       device->coherency == COHERENCY_UNKNOWN
				       ? NULL
				       : json_object_new_boolean(device->coherency == COHERENCY_FULL));
	json_object_object_add(one, "reset", reset_as_json(view, device));
	json_object_object_add(one, "sriov", sriov_as_json(device));
	add_number(one, "numa_node", device->numa_node);
	json_object_object_add(one, "bars", bars_as_json(device));
	json_object_object_add(one, "rom_bytes", json_object_new_uint64(device->rom_bytes));
	add_number(one, "msi_vectors", device->config_whole ? (int)device->msi_vectors : -1);
	add_number(one, "msix_vectors", device->config_whole ? (int)device->msix_vectors : -1);
	json_object_object_add(one, "boot_display", json_object_new_boolean(device->boot_display));
	bool migrates = migration_describe(&view->variants, device, text, sizeof(text));
	json_object *migration = json_object_new_object();
	json_object_object_add(migration, "supported", json_object_new_boolean(migrates));
	json_add_string(migration, "detail", text);
	json_object_object_add(one, "migration", migration);
	device_vfio_nodes(view->host, device, text, group_node);
	json_add_string(one, "vfio_device", text);
	json_add_string(one, "vfio_group", group_node);
	json_object_object_add(one, "uses", uses_as_json(view, device));
	json_object_object_add(one, "assign", verdict_as_json(verdict));
	return one;
}

struct judged {
	const struct device *device;
	struct verdict verdict;
};

/* What people assign: storage, network, display, accelerators. PCI Code and ID Assignment Specification, base classes. */
static bool is_popular(const struct device *device)
{
	unsigned base = device->class_code >> 16;
	return base == 0x01 || base == 0x02 || base == 0x03 || base == 0x12;
}

/* What can be assigned soonest comes first, popular kinds before others; within that, by address. */
static int by_verdict(const void *one, const void *other)
{
	const struct judged *a = one, *b = other;
	if (a->verdict.kind != b->verdict.kind)
		return a->verdict.kind < b->verdict.kind ? -1 : 1;
	if (is_popular(a->device) != is_popular(b->device))
		return is_popular(a->device) ? -1 : 1;
	return a->device < b->device ? -1 : a->device > b->device;
}

static void add_row(struct table *table, const struct view *view, const struct judged *judged)
{
	const struct device *device = judged->device;
	char group[16], sriov[40], numa[16], msix[16], bars[160], name[256], line[600], migration[160], reset[128],
		with[1024];
	describe_number(device->group, group, sizeof(group));
	describe_sriov(device, sriov, sizeof(sriov));
	describe_number(device->numa_node, numa, sizeof(numa));
	describe_number(device->config_whole ? (int)device->msix_vectors : -1, msix, sizeof(msix));
	describe_bars(device, bars, sizeof(bars));
	describe_device(view, device, name, sizeof(name));
	snprintf(reset, sizeof(reset), "%s", device->reset_methods);
	for (char *blank = reset; (blank = strchr(blank, ' '));)
		*blank = ',';
	list_reset_group(&view->inventory, device, with, sizeof(with));
	const char *migrates = migration_describe(&view->variants, device, migration, sizeof(migration)) ? "yes"
			       : strncmp(migration, "with", 4) == 0                                      ? "variant"
													 : "no";
	table_row(table, (const char *const[]){device->bdf, device->driver, group, reset, with, sriov, numa, msix, bars,
					       migrates, name});
	verdict_print(&judged->verdict, line, sizeof(line));
	table_note(table, line);
}

static void print_table(const struct view *view, const struct judged *list, unsigned count, bool all)
{
	static const char *const titles[] = {"DEVICE", "DRIVER", "GROUP", "RESET",     "RESETS-WITH", "SR-IOV",
					     "NUMA",   "MSI-X",  "BARS",  "MIGRATION", "NAME",        NULL};
	struct table *table = table_create(titles);
	unsigned left_out = 0;
	for (unsigned i = 0; i < count; i++) {
		if (list[i].verdict.kind == VERDICT_NEVER && !all)
			left_out++;
		else
			add_row(table, view, &list[i]);
	}
	table_print(table, stdout);
	table_destroy(table);
	printf("\nThe line below a device says whether it can be assigned, and how. tenon devices ADDRESS shows one in "
	       "detail.\n");
	if (left_out)
		printf("%u bridge%s and the like are left out; tenon devices --all lists them.\n", left_out,
		       text_plural(left_out));
}

static void print_uses(const struct view *view, const struct device *device)
{
	struct uses uses;
	usage_find(view->host, &view->activity, device, &uses);
	for (unsigned i = 0; i < uses.count; i++)
		printf("  %-16s%s; %s\n", i ? "" : "in use", uses.list[i].what, uses.list[i].fix);
}

static void print_members(const struct view *view, const struct device *device)
{
	bool first = true;
	for (unsigned i = 0; device->group >= 0 && i < view->inventory.count; i++) {
		const struct device *member = &view->inventory.devices[i];
		if (member->group != device->group || member == device)
			continue;
		printf("  %-16s%s, driver %s%s\n", first ? "  shared with" : "", member->bdf,
		       member->driver[0] ? member->driver : "none",
		       member_blocks(member) ? ": it blocks the group" : "");
		first = false;
	}
}

static void print_field(const char *name, const char *text)
{
	printf("  %-16s%s\n", name, text && text[0] ? text : "none");
}

static void print_interrupts(const struct device *device)
{
	if (device->config_whole)
		printf("  %-16sMSI-X %u, MSI %u vectors\n", "interrupts", device->msix_vectors, device->msi_vectors);
	else
		print_field("interrupts", "not known: only root may read all of config space");
}

static void print_nodes(const struct view *view, const struct device *device)
{
	char cdev[NAME_BYTES], group[NAME_BYTES];
	device_vfio_nodes(view->host, device, cdev, group);
	if (cdev[0] || group[0])
		printf("  %-16s%s%s%s\n", "VFIO nodes", cdev, cdev[0] && group[0] ? ", " : "", group);
}

static void print_bus_reset(const struct view *view, const struct device *device)
{
	char with[1024];
	list_reset_group(&view->inventory, device, with, sizeof(with));
	if (!device_has_bus_reset(&view->inventory, device))
		print_field("bus reset", "none: it is on a root bus");
	else if (with[0])
		printf("  %-16shits %s as well\n", "bus reset", with);
	else
		print_field("bus reset", "hits it alone");
}

static void print_one(const struct view *view, const struct device *device)
{
	char text[1100];
	struct verdict verdict;
	describe_device(view, device, text, sizeof(text));
	printf("%s  %s\n", device->bdf, text);
	snprintf(text, sizeof(text), "%04x:%04x, subsystem %04x:%04x, class %06x, revision %02x", device->vendor,
		 device->device, device->subsystem_vendor, device->subsystem_device, device->class_code,
		 device->revision);
	print_field("id", text);
	print_field("driver", device->driver);
	if (device->override[0])
		print_field("driver_override", device->override);
	describe_number(device->group, text, sizeof(text));
	print_field("IOMMU group", text);
	print_members(view, device);
	if (device->iommu[0])
		print_field("IOMMU", device->iommu);
	print_field("coherent DMA",
		    device->coherency == COHERENCY_UNKNOWN ? "not known" : coherency_words[device->coherency]);
	print_field("reset methods",
		    device->reset_methods_known ? device->reset_methods : "some; this kernel does not say which");
	print_bus_reset(view, device);
	describe_sriov(device, text, sizeof(text));
	print_field("SR-IOV", text);
	describe_number(device->numa_node, text, sizeof(text));
	print_field("NUMA node", text);
	describe_bars(device, text, sizeof(text));
	print_field("BARs", text);
	print_interrupts(device);
	migration_describe(&view->variants, device, text, sizeof(text));
	print_field("migration", text);
	print_nodes(view, device);
	print_uses(view, device);
	verdict_of_device(&view->facts, device, &verdict);
	verdict_print(&verdict, text, sizeof(text));
	print_field("can be assigned", text);
}

static int print_list(const struct view *view, const struct options *options, struct tenon_error *err)
{
	unsigned count = view->inventory.count;
	struct judged *list = calloc(count ? count : 1, sizeof(*list));
	if (!list)
		return tenon_fail(err, -ENOMEM, "cannot list %u devices: out of memory; free some memory", count);
	for (unsigned i = 0; i < count; i++) {
		list[i].device = &view->inventory.devices[i];
		verdict_of_device(&view->facts, list[i].device, &list[i].verdict);
	}
	int code = 0;
	if (options->json) {
		/* Everything, by address: for programs. */
		json_object *array = json_object_new_array();
		for (unsigned i = 0; i < count; i++)
			json_object_array_add(array, device_as_json(view, list[i].device, &list[i].verdict));
		code = print_json(array, err);
	} else {
		qsort(list, count, sizeof(*list), by_verdict);
		print_table(view, list, count, options->all);
	}
	free(list);
	return code;
}

static int print_given(const struct view *view, const struct options *options, struct tenon_error *err)
{
	struct device *devices[ARGUMENTS_MAX];
	for (unsigned i = 0; i < options->argument_count; i++) {
		int code = inventory_look_up(&view->inventory, options->arguments[i], &devices[i], err);
		if (code < 0)
			return code;
	}
	json_object *array = json_object_new_array();
	for (unsigned i = 0; i < options->argument_count; i++) {
		struct verdict verdict;
		verdict_of_device(&view->facts, devices[i], &verdict);
		if (options->json) {
			json_object_array_add(array, device_as_json(view, devices[i], &verdict));
			continue;
		}
		if (i)
			printf("\n");
		print_one(view, devices[i]);
	}
	if (options->json)
		return print_json(array, err);
	json_object_put(array);
	return 0;
}

int command_devices(const struct host *host, const struct options *options, struct tenon_error *err)
{
	struct view view;
	int code = view_open(host, &view, err);
	if (code == 0)
		code = options->argument_count ? print_given(&view, options, err) : print_list(&view, options, err);
	view_finish(&view);
	return status_of(code);
}

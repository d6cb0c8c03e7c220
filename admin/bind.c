// SPDX-License-Identifier: MIT
/*
 * tenon bind: takes devices from the host's drivers for VFIO. Everything is checked for all of them before the first is touched, the
 * host is asked for nothing that it uses, and a failure half way puts back what was done.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "binding.h"
#include "commands.h"
#include "text.h"

/* One device that bind is to take. */
static int refuse_kind(const struct device *device, struct tenon_error *err)
{
	if (device_is_infrastructure(device))
		return tenon_fail(err, -EOPNOTSUPP,
				  "%s: is a bridge or the like, part of the host's own tree (driver %s); bind the "
				  "devices below it",
				  device->bdf, device->driver[0] ? device->driver : "none");
	if (!device->config_read)
		return tenon_fail(err, -ENODEV, "%s: does not answer: its config space reads ones; rescan the bus",
				  device->bdf);
	return 0;
}

static int refuse_iommu(const struct view *view, const struct device *device, const struct options *options,
			struct tenon_error *err)
{
	if (device->group >= 0 || options->force)
		return 0;
	return tenon_fail(err, -ENODEV, "%s: has no IOMMU group: %s; tenon doctor says what to do", device->bdf,
			  view->inventory.iommu ? "no IOMMU of the host covers it" : "the host's IOMMU is off");
}

static void find_uses(const struct view *view, const struct device *device, struct uses *uses)
{
	char node[NAME_BYTES * 2];
	usage_find(view->host, &view->activity, device, uses);
	if (uses->count || !usage_claimed(view->host, device, node, sizeof(node)))
		return;
	struct use *use = &uses->list[uses->count++];
	snprintf(use->what, sizeof(use->what),
		 "something on the host has %.127s for itself (a container's mount, ZFS or the like)", node);
	snprintf(use->fix, sizeof(use->fix), "find out what, with lsblk or zpool status");
}

/* Says exactly what uses it, and lets the user decide; without a terminal only --force does. */
static int refuse_use(const struct view *view, const struct device *device, const struct options *options,
		      struct tenon_error *err)
{
	struct uses uses;
	char question[96];
	find_uses(view, device, &uses);
	if (!uses.count)
		return 0;
	if (options->force) {
		for (unsigned i = 0; i < uses.count; i++)
			fprintf(stderr, "tenon: warning: %s: %s; taken away because of --force\n", device->bdf,
				uses.list[i].what);
		return 0;
	}
	tenon_fail(err, -EBUSY, "%s: the host uses it (driver %s): %s%s; %s, or take it away with --force", device->bdf,
		   device->driver[0] ? device->driver : "none", uses.list[0].what, uses.count > 1 ? ", and more" : "",
		   uses.list[0].fix);
	if (options->dry_run || !isatty(STDIN_FILENO))
		return -EBUSY;
	fprintf(stderr, "%s (driver %s) is in use:\n", device->bdf, device->driver);
	for (unsigned i = 0; i < uses.count; i++)
		fprintf(stderr, "  %s\n", uses.list[i].what);
	snprintf(question, sizeof(question), "Take %s away from the host all the same?", device->bdf);
	if (!host_confirm(question))
		return -EBUSY;
	err->code = 0;
	return 0;
}

static int check_all(const struct view *view, const struct selection *selection, const char *driver,
		     const struct options *options, struct tenon_error *err)
{
	for (unsigned i = 0; i < selection->count; i++) {
		const struct device *device = selection->devices[i];
		int code = refuse_kind(device, err);
		if (code == 0)
			code = refuse_iommu(view, device, options, err);
		if (code == 0 && strcmp(device->driver, driver) != 0)
			code = refuse_use(view, device, options, err);
		if (code < 0)
			return code;
	}
	return 0;
}

static int take_all(const struct view *view, const struct selection *selection, const char *driver,
		    struct tenon_error *err)
{
	bool taken[SELECTION_MAX] = {false}, noted[SELECTION_MAX] = {false};
	int code = 0;
	for (unsigned i = 0; code == 0 && i < selection->count; i++) {
		const struct device *device = selection->devices[i];
		if (strcmp(device->driver, driver) == 0)
			continue;
		noted[i] = binding_is_noted(view->host, device->bdf);
		code = binding_take(view->host, device, driver, err);
		taken[i] = code == 0;
	}
	if (code == 0)
		return 0;
	for (unsigned i = selection->count; i-- > 0;) {
		struct tenon_error undo = {0};
		if (taken[i] && binding_undo(view->host, selection->devices[i], noted[i], &undo) < 0)
			fprintf(stderr, "tenon: warning: %s\n", undo.message);
	}
	return code;
}

/* What came of it, from the host's own files, and the next command. */
static int report(const struct host *host, const struct selection *before, const char *driver, struct tenon_error *err)
{
	struct view view;
	char command[1024] = "tenon run --kernel FILE", nodes[2048] = "";
	bool ready = true;
	int code = view_open(host, &view, err);
	for (unsigned i = 0; code == 0 && i < before->count; i++) {
		const struct device *device = inventory_find(&view.inventory, before->devices[i]->bdf);
		char cdev[NAME_BYTES], group[NAME_BYTES];
		struct verdict verdict;
		if (!device)
			continue;
		device_vfio_nodes(host, device, cdev, group);
		printf("%s: %s, IOMMU group %d%s%s%s%s", device->bdf, device->driver, device->group,
		       cdev[0] ? ", " : "", cdev, group[0] ? ", " : "", group);
		if (strcmp(before->devices[i]->driver, driver) == 0)
			printf(" (as before)\n");
		else
			printf(" (was: %s)\n",
			       before->devices[i]->driver[0] ? before->devices[i]->driver : "no driver");
		text_add(command, sizeof(command), " --device %s", device->bdf);
		if (cdev[0])
			text_add(nodes, sizeof(nodes), " %s", cdev);
		if (group[0] && !text_has_word(nodes, group))
			text_add(nodes, sizeof(nodes), " %s", group);
		verdict_of_device(&view.facts, device, &verdict);
		if (device_on_vfio(device) && verdict.kind == VERDICT_BLOCKED) {
			ready = false;
			printf("  not yet to be assigned: %s; %s\n", verdict.because, verdict.action);
		}
	}
	if (code == 0 && strstr(driver, "vfio") && ready)
		printf("next: %s\nfor a user who is not root: chown USER%s\n", command, nodes);
	view_finish(&view);
	return code;
}

static void print_plan(const struct selection *selection, const char *driver)
{
	for (unsigned i = 0; i < selection->count; i++) {
		const struct device *device = selection->devices[i];
		if (strcmp(device->driver, driver) == 0)
			printf("%s: has %s already\n", device->bdf, driver);
		else
			printf("%s: would go from %s to %s\n", device->bdf,
			       device->driver[0] ? device->driver : "no driver", driver);
	}
}

static int bind_all(const struct view *view, const struct selection *selection, const struct options *options,
		    struct tenon_error *err)
{
	const char *driver = options->driver ? options->driver : "vfio-pci";
	int code = check_all(view, selection, driver, options, err);
	if (code < 0)
		return code;
	if (options->dry_run) {
		print_plan(selection, driver);
		return 0;
	}
	int lock = binding_lock(view->host, err);
	if (lock < 0)
		return lock;
	code = binding_find_driver(view->host, driver, err);
	if (code == 0)
		code = take_all(view, selection, driver, err);
	close(lock);
	return code < 0 ? code : report(view->host, selection, driver, err);
}

int command_bind(const struct host *host, const struct options *options, struct tenon_error *err)
{
	return run_on_selection(host, options, bind_all, err);
}

// SPDX-License-Identifier: MIT
/*
 * tenon vf: virtual functions, made by the host, because a guest must not. Source: Linux Documentation/PCI/pci-iov-howto.rst,
 * drivers/pci/iov.c (sriov_numvfs_store), drivers/vfio/pci/vfio_pci.c (enable_sriov) and vfio_pci_core.c (VF tokens).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "commands.h"
#include "table.h"
#include "text.h"

static int find_pf(const struct view *view, const char *text, struct device **out, struct tenon_error *err)
{
	int code = inventory_look_up(&view->inventory, text, out, err);
	if (code < 0)
		return code;
	const struct device *device = *out;
	if (device->pf[0])
		return tenon_fail(err, -EOPNOTSUPP, "%s: is a VF; VFs are made from its PF: tenon vf list %s",
				  device->bdf, device->pf);
	if (!device->is_pf)
		return tenon_fail(err, -EOPNOTSUPP,
				  "%s: has no SR-IOV that the kernel uses; tenon devices shows which devices are PFs",
				  device->bdf);
	return 0;
}

static int parse_count(const struct device *pf, const char *text, unsigned *out, struct tenon_error *err)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);
	if (end == text || *end || text[0] == '-' || value < 1 || value > pf->vfs_total)
		return tenon_fail(err, -EINVAL,
				  "%s: %.32s VFs: not a number from 1 to %u, which is what the device has; give one",
				  pf->bdf, text, pf->vfs_total);
	*out = (unsigned)value;
	return 0;
}

static int refuse_create(const struct view *view, const struct device *pf, struct tenon_error *err)
{
	char enabled[8] = "";
	if (pf->vfs)
		return tenon_fail(err, -EBUSY,
				  "%s: has %u VFs already, and the kernel changes their number only by way of none; "
				  "tenon vf destroy %s",
				  pf->bdf, pf->vfs, pf->bdf);
	if (!pf->driver[0])
		return tenon_fail(err, -ENODEV,
				  "%s: has no driver, and VFs are made by the PF's driver; load its driver, or: "
				  "tenon bind %s",
				  pf->bdf, pf->bdf);
	if (strcmp(pf->driver, "vfio-pci") != 0)
		return 0;
	host_read_line(view->host, enabled, sizeof(enabled), "/sys/module/vfio_pci/parameters/enable_sriov");
	if (enabled[0] != 'Y' && enabled[0] != '1')
		return tenon_fail(
			err, -EPERM,
			"%s: vfio-pci does not make VFs unless its parameter enable_sriov is on; echo Y > "
			"/sys/module/vfio_pci/parameters/enable_sriov (for good: options vfio-pci enable_sriov=1 in "
			"/etc/modprobe.d/vfio.conf)",
			pf->bdf);
	return 0;
}

static void print_trust(const struct device *pf)
{
	printf("The PF is bound to %s, so some VM or program may own it. Whoever owns a PF can read and change what "
	       "goes through its\n"
	       "VFs, and resets them with it. Give both only to users who trust each other, and let each say so with "
	       "the same token:\n"
	       "  uuidgen; tenon run ... --device %s,vf-token=UUID; tenon run ... --device VF,vf-token=UUID\n",
	       pf->driver, pf->bdf);
}

static void add_vf_row(struct table *table, const struct view *view, const struct device *vf)
{
	char group[16] = "", user[96] = "";
	const struct open_node *holder = usage_vfio_holder(view->host, &view->activity, vf);
	struct uses uses;
	usage_find(view->host, &view->activity, vf, &uses);
	if (vf->group >= 0)
		snprintf(group, sizeof(group), "%d", vf->group);
	if (holder)
		snprintf(user, sizeof(user), "process %u (%s)", holder->pid, holder->process);
	else if (uses.count)
		snprintf(user, sizeof(user), "%.90s", uses.list[0].what);
	table_row(table, (const char *const[]){vf->pf, vf->bdf, vf->driver, group, user});
}

static void print_vfs(const struct view *view, const struct device *pf)
{
	static const char *const titles[] = {"PF", "VF", "DRIVER", "GROUP", "USED BY", NULL};
	struct table *table = table_create(titles);
	unsigned count = 0;
	for (unsigned i = 0; i < view->inventory.count; i++) {
		const struct device *vf = &view->inventory.devices[i];
		if (!vf->pf[0] || (pf && strcmp(vf->pf, pf->bdf) != 0))
			continue;
		add_vf_row(table, view, vf);
		count++;
	}
	if (count)
		table_print(table, stdout);
	table_destroy(table);
}

/* What to type next: VFs that no VFIO driver has yet are bound first. */
static void print_next(const struct view *view, const struct device *pf)
{
	char unbound[1024] = "", first[BDF_BYTES] = "";
	for (unsigned i = 0; i < view->inventory.count; i++) {
		const struct device *vf = &view->inventory.devices[i];
		if (strcmp(vf->pf, pf->bdf) != 0)
			continue;
		if (!first[0])
			snprintf(first, sizeof(first), "%s", vf->bdf);
		if (!device_on_vfio(vf))
			text_add(unbound, sizeof(unbound), " %s", vf->bdf);
	}
	if (unbound[0])
		printf("next: tenon bind%s\n", unbound);
	else if (first[0])
		printf("next: tenon run --kernel FILE --device %s%s\n", first,
		       device_on_vfio(pf) ? ",vf-token=UUID" : "");
}

static int write_count(const struct view *view, const struct device *pf, unsigned count, struct tenon_error *err)
{
	char text[16];
	snprintf(text, sizeof(text), "%u", count);
	int code = host_write(view->host, text, "/sys/bus/pci/devices/%s/sriov_numvfs", pf->bdf);
	if (code == -EACCES || code == -EPERM)
		return tenon_fail(err, code, "%s: cannot set sriov_numvfs: %s; run it as root", pf->bdf,
				  strerror(-code));
	if (code == -ENOENT)
		return tenon_fail(err, code,
				  "%s: its driver %s makes no VFs by sriov_numvfs; see that driver's own way", pf->bdf,
				  pf->driver);
	if (code < 0)
		return tenon_fail(err, code == -EINVAL ? -EIO : code,
				  "%s: cannot set sriov_numvfs to %u: %s; dmesg says more", pf->bdf, count,
				  strerror(-code));
	return 0;
}

/* Unless the host shall use the VFs itself, its drivers are kept from them while they appear. */
static int create(const struct view *view, const struct device *pf, unsigned count, bool autoprobe,
		  struct tenon_error *err)
{
	char before[8] = "";
	int code = 0;
	if (!autoprobe && !device_on_vfio(pf)) {
		host_read_line(view->host, before, sizeof(before), "/sys/bus/pci/devices/%s/sriov_drivers_autoprobe",
			       pf->bdf);
		code = host_write(view->host, "0", "/sys/bus/pci/devices/%s/sriov_drivers_autoprobe", pf->bdf);
	}
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot set sriov_drivers_autoprobe: %s; run it as root", pf->bdf,
				  strerror(-code));
	code = write_count(view, pf, count, err);
	if (before[0])
		host_write(view->host, before, "/sys/bus/pci/devices/%s/sriov_drivers_autoprobe", pf->bdf);
	return code;
}

static int command_create(const struct host *host, const struct options *options, struct tenon_error *err)
{
	struct view view;
	struct device *pf;
	unsigned count = 0;
	int code = view_open(host, &view, err);
	if (code == 0)
		code = find_pf(&view, options->arguments[1], &pf, err);
	if (code == 0)
		code = parse_count(pf, options->arguments[2], &count, err);
	if (code == 0)
		code = refuse_create(&view, pf, err);
	if (code == 0 && device_on_vfio(pf) && !usage_vfio_holder(host, &view.activity, pf))
		fprintf(stderr,
			"tenon: warning: %s: no process has the PF open; whoever opens it later resets it and its VFs, "
			"so start "
			"the PF's VM first\n",
			pf->bdf);
	if (code == 0)
		code = create(&view, pf, count, options->autoprobe, err);
	char bdf[BDF_BYTES] = "";
	if (code == 0)
		snprintf(bdf, sizeof(bdf), "%s", pf->bdf);
	view_finish(&view);
	if (code < 0)
		return code;

	code = view_open(host, &view, err);
	pf = code == 0 ? inventory_find(&view.inventory, bdf) : NULL;
	if (pf && pf->vfs != count)
		code = tenon_fail(err, -EIO, "%s: %u VFs asked for, the kernel shows %u; dmesg says more", bdf, count,
				  pf->vfs);
	if (pf && code == 0) {
		print_vfs(&view, pf);
		print_next(&view, pf);
		if (device_on_vfio(pf))
			print_trust(pf);
	}
	view_finish(&view);
	return code;
}

static json_object *pf_as_json(const struct view *view, const struct device *pf)
{
	json_object *one = json_object_new_object(), *vfs = json_object_new_array();
	json_add_string(one, "pf", pf->bdf);
	json_add_string(one, "driver", pf->driver);
	json_object_object_add(one, "vfs_total", json_object_new_int((int)pf->vfs_total));
	for (unsigned i = 0; i < view->inventory.count; i++) {
		const struct device *vf = &view->inventory.devices[i];
		if (strcmp(vf->pf, pf->bdf) != 0)
			continue;
		const struct open_node *holder = usage_vfio_holder(view->host, &view->activity, vf);
		json_object *entry = json_object_new_object();
		json_add_string(entry, "address", vf->bdf);
		json_add_string(entry, "driver", vf->driver);
		json_object_object_add(entry, "iommu_group", vf->group >= 0 ? json_object_new_int(vf->group) : NULL);
		json_object_object_add(entry, "process", holder ? json_object_new_int((int)holder->pid) : NULL);
		json_object_array_add(vfs, entry);
	}
	json_object_object_add(one, "vfs", vfs);
	return one;
}

static int command_list(const struct host *host, const struct options *options, struct tenon_error *err)
{
	struct view view;
	struct device *only = NULL;
	int code = view_open(host, &view, err);
	if (code == 0 && options->argument_count > 1)
		code = find_pf(&view, options->arguments[1], &only, err);
	json_object *list = json_object_new_array();
	unsigned count = 0;
	for (unsigned i = 0; code == 0 && i < view.inventory.count; i++) {
		const struct device *pf = &view.inventory.devices[i];
		if (!pf->is_pf || (only && pf != only))
			continue;
		count++;
		if (options->json)
			json_object_array_add(list, pf_as_json(&view, pf));
		else
			printf("%s: %u of %u VFs, driver %s\n", pf->bdf, pf->vfs, pf->vfs_total,
			       pf->driver[0] ? pf->driver : "none");
	}
	if (code == 0 && options->json) {
		code = print_json(list, err);
		list = NULL;
	} else if (code == 0) {
		if (!count)
			printf("No device of this host has SR-IOV.\n");
		print_vfs(&view, only);
	}
	json_object_put(list);
	view_finish(&view);
	return code;
}

/* The kernel takes VFs from under their users, or waits for those of VFIO without an end. */
static int refuse_destroy(const struct view *view, const struct device *pf, const struct options *options,
			  struct tenon_error *err)
{
	for (unsigned i = 0; i < view->inventory.count; i++) {
		const struct device *vf = &view->inventory.devices[i];
		struct uses uses;
		if (strcmp(vf->pf, pf->bdf) != 0)
			continue;
		usage_find(view->host, &view->activity, vf, &uses);
		if (!uses.count)
			continue;
		if (!options->force)
			return tenon_fail(err, -EBUSY,
					  "%s: its VF %s (driver %s, IOMMU group %d) is in use: %s; %s, or take it "
					  "away with --force",
					  pf->bdf, vf->bdf, vf->driver, vf->group, uses.list[0].what, uses.list[0].fix);
		fprintf(stderr, "tenon: warning: %s: %s; taken away because of --force%s\n", vf->bdf, uses.list[0].what,
			uses.list[0].by_vfio ? ", once that process gives it up" : "");
	}
	return 0;
}

static int command_destroy(const struct host *host, const struct options *options, struct tenon_error *err)
{
	struct view view;
	struct device *pf;
	int code = view_open(host, &view, err);
	if (code == 0)
		code = find_pf(&view, options->arguments[1], &pf, err);
	if (code == 0 && pf->vfs == 0) {
		printf("%s: has no VFs\n", pf->bdf);
	} else if (code == 0) {
		code = refuse_destroy(&view, pf, options, err);
		if (code == 0)
			code = write_count(&view, pf, 0, err);
		/* What their drivers were before means nothing for the VFs that come next. */
		for (unsigned i = 0; code == 0 && i < view.inventory.count; i++) {
			if (strcmp(view.inventory.devices[i].pf, pf->bdf) == 0)
				binding_forget(host, view.inventory.devices[i].bdf);
		}
		if (code == 0)
			printf("%s: %u VFs destroyed\n", pf->bdf, pf->vfs);
	}
	view_finish(&view);
	return code;
}

int command_vf(const struct host *host, const struct options *options, struct tenon_error *err)
{
	static const struct {
		const char *verb;
		unsigned min, max;
		int (*run)(const struct host *host, const struct options *options, struct tenon_error *err);
	} verbs[] = {
		{"create", 3, 3, command_create}, {"list", 1, 2, command_list}, {"destroy", 2, 2, command_destroy}};
	for (unsigned i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(options->arguments[0], verbs[i].verb) != 0)
			continue;
		if (options->argument_count < verbs[i].min || options->argument_count > verbs[i].max)
			break;
		int code = verbs[i].run(host, options, err);
		return status_of(code);
	}
	tenon_fail(err, -EINVAL, "tenon vf: not understood; it is create PF N, list [PF], or destroy PF");
	return STATUS_USAGE;
}

// SPDX-License-Identifier: MIT
/*
 * tenon reset: what a reset of devices would do, whom it hits, and whether the kernel allows it; and the reset itself. Both through
 * libtenon, as a VM with these devices would do it: the devices are opened together, in one space, and nothing else of a VM exists.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <tenon/tenon.h>

#include "commands.h"

/* There is no guest: nothing is ever placed or routed. */
static void bar_placed(void *context, const struct tenon_bar_placement *placement)
{
}

static int route_set(void *context, int *route, uint64_t address, uint32_t data, struct tenon_error *err)
{
	return tenon_fail(err, -ENOTSUP, "no guest, no interrupts");
}

static int route_commit(void *context, struct tenon_error *err)
{
	return 0;
}

static void route_free(void *context, int route)
{
}

static int irqfd_attach(void *context, int route, int eventfd, struct tenon_error *err)
{
	return tenon_fail(err, -ENOTSUP, "no guest, no interrupts");
}

static void irqfd_detach(void *context, int route, int eventfd)
{
}

static void print_log(void *context, enum tenon_log_level level, const char *message)
{
	if (level != TENON_LOG_INFO)
		fprintf(stderr, "tenon: %s%s\n", level == TENON_LOG_WARNING ? "warning: " : "", message);
}

static const struct tenon_host_ops no_guest = {
	.size = sizeof(no_guest),
	.bar_placed = bar_placed,
	.route_set = route_set,
	.route_commit = route_commit,
	.route_free = route_free,
	.irqfd_attach = irqfd_attach,
	.irqfd_detach = irqfd_detach,
	.log = print_log,
};

struct opened {
	struct tenon_space *space;
	struct tenon_device *devices[SELECTION_MAX];
	unsigned count;
};

static void close_all(struct opened *opened)
{
	for (unsigned i = 0; i < opened->count; i++)
		tenon_device_close(opened->devices[i]);
	tenon_space_destroy(opened->space);
}

static int open_all(const struct selection *selection, const struct options *options, struct opened *opened,
		    struct tenon_error *err)
{
	int code = tenon_space_create(NULL, &opened->space, err);
	for (unsigned i = 0; code == 0 && i < selection->count; i++) {
		struct tenon_device_options one = {.size = sizeof(one),
						   .address = selection->devices[i]->bdf,
						   .space = opened->space,
						   .ops = &no_guest,
						   .vf_token = options->vf_token};
		code = tenon_device_open(&one, &opened->devices[i], err);
		opened->count += code == 0;
	}
	return code;
}

/* libtenon would say the same of a driver that is not VFIO's; it cannot know which process has the device. */
static int refuse(const struct view *view, const struct device *device, struct tenon_error *err)
{
	const struct open_node *holder = usage_vfio_holder(view->host, &view->activity, device);
	if (device_is_infrastructure(device))
		return tenon_fail(err, -EOPNOTSUPP,
				  "%s: is a bridge or the like (driver %s); reset the devices below it", device->bdf,
				  device->driver[0] ? device->driver : "none");
	if (!device_on_vfio(device))
		return tenon_fail(err, -EBUSY,
				  "%s: is not bound to VFIO (driver %s), and a reset would pull the device from under "
				  "that; tenon "
				  "bind %s",
				  device->bdf, device->driver[0] ? device->driver : "none", device->bdf);
	if (holder)
		return tenon_fail(err, -EBUSY,
				  "%s: process %u (%s) has it through VFIO: %s, IOMMU group %d; end the VM: kill %u",
				  device->bdf, holder->pid, holder->process, holder->node, device->group, holder->pid);
	return 0;
}

static const char *const method_words[] = {[TENON_RESET_NONE] = "none",
					   [TENON_RESET_FUNCTION] = "function",
					   [TENON_RESET_BUS] = "bus",
					   [TENON_RESET_POWER] = "power"};

static const char *const method_names[] = {[TENON_RESET_NONE] = "none",
					   [TENON_RESET_FUNCTION] = "reset of the function (FLR or the like)",
					   [TENON_RESET_BUS] = "hot reset of its slot or bus",
					   [TENON_RESET_POWER] = "D3hot and back"};

static const char *const owner_words[] = {[TENON_RESET_OWNER_SELF] = "self",
					  [TENON_RESET_OWNER_SPACE] = "given",
					  [TENON_RESET_OWNER_GROUP] = "group",
					  [TENON_RESET_OWNER_OTHER] = "other"};

static const char *const owner_names[] = {[TENON_RESET_OWNER_SELF] = "itself",
					  [TENON_RESET_OWNER_SPACE] = "given here too",
					  [TENON_RESET_OWNER_GROUP] = "nobody's, in a group that is ours",
					  [TENON_RESET_OWNER_OTHER] = "not ours: it stands in the way"};

static json_object *plan_as_json(const struct device *device, const struct tenon_reset_plan *plan)
{
	json_object *one = json_object_new_object(), *list = json_object_new_array();
	json_add_string(one, "address", device->bdf);
	json_add_string(one, "method", method_words[plan->method]);
	json_object_object_add(one, "allowed", json_object_new_boolean(plan->allowed));
	json_add_string(one, "why", plan->why);
	for (unsigned i = 0; i < plan->affected_count && i < TENON_RESET_AFFECTED_MAX; i++) {
		const struct tenon_reset_affected *affected = &plan->affected[i];
		json_object *entry = json_object_new_object();
		json_add_string(entry, "address", affected->address);
		json_add_string(entry, "driver", affected->driver);
		json_object_object_add(entry, "iommu_group",
				       affected->iommu_group >= 0 ? json_object_new_int(affected->iommu_group) : NULL);
		json_add_string(entry, "owner", owner_words[affected->owner]);
		json_object_array_add(list, entry);
	}
	json_object_object_add(one, "affected", list);
	return one;
}

static void print_plan(const struct device *device, const struct tenon_reset_plan *plan)
{
	printf("%s: %s, %s: %s\n", device->bdf, method_names[plan->method], plan->allowed ? "allowed" : "not allowed",
	       plan->why);
	for (unsigned i = 0; i < plan->affected_count && i < TENON_RESET_AFFECTED_MAX; i++) {
		const struct tenon_reset_affected *affected = &plan->affected[i];
		printf("  hits %s (driver %s, IOMMU group %d): %s\n", affected->address,
		       affected->driver[0] ? affected->driver : "none", affected->iommu_group,
		       owner_names[affected->owner]);
	}
}

/* @return 1 when every reset is allowed, 0 when one is not, or -errno */
static int show_plans(const struct selection *selection, const struct opened *opened, bool json,
		      struct tenon_error *err)
{
	json_object *list = json_object_new_array();
	bool allowed = true;
	int code = 0;
	for (unsigned i = 0; code == 0 && i < opened->count; i++) {
		struct tenon_reset_plan plan = {.size = sizeof(plan)};
		code = tenon_device_reset_plan(opened->devices[i], &plan, err);
		if (code < 0)
			break;
		allowed &= plan.allowed;
		if (json)
			json_object_array_add(list, plan_as_json(selection->devices[i], &plan));
		else
			print_plan(selection->devices[i], &plan);
	}
	if (code == 0 && json)
		return print_json(list, err) < 0 ? -ENOMEM : allowed;
	json_object_put(list);
	return code < 0 ? code : allowed;
}

static int plan_or_reset(const struct selection *selection, const struct options *options, struct opened *opened,
			 struct tenon_error *err)
{
	int allowed = show_plans(selection, opened, options->json, err);
	if (allowed < 0)
		return allowed;
	if (options->plan)
		return allowed ? 0 : tenon_fail(err, -EBUSY, "not every reset is allowed; the plan says why");
	if (!allowed)
		return tenon_fail(err, -EBUSY, "nothing was reset: not every reset is allowed; the plan says why");
	fflush(stdout);
	if (!options->yes && !host_confirm("Reset?"))
		return tenon_fail(err, -ECANCELED, "nothing was reset: not confirmed; --yes resets without a question");
	int code = tenon_space_reset(opened->space, err);
	if (code == 0 && !options->json)
		printf("done\n");
	return code;
}

static int reset_all(const struct view *view, const struct selection *selection, const struct options *options,
		     struct tenon_error *err)
{
	struct opened opened = {0};
	int code = 0;
	for (unsigned i = 0; code == 0 && i < selection->count; i++)
		code = refuse(view, selection->devices[i], err);
	if (code == 0)
		code = open_all(selection, options, &opened, err);
	if (code == 0)
		code = plan_or_reset(selection, options, &opened, err);
	close_all(&opened);
	return code;
}

int command_reset(const struct host *host, const struct options *options, struct tenon_error *err)
{
	return run_on_selection(host, options, reset_all, err);
}

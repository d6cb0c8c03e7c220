// SPDX-License-Identifier: MIT
/* tenon unbind: gives devices back to the drivers that they had before tenon bind, and checks that those took them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "binding.h"
#include "commands.h"

/* The kernel waits, without an end, until the user of a device has closed it. */
static int refuse_use(const struct view *view, const struct device *device, const struct options *options,
		      struct tenon_error *err)
{
	const struct open_node *holder = usage_vfio_holder(view->host, &view->activity, device);
	if (!holder)
		return 0;
	if (options->force) {
		fprintf(stderr, "tenon: warning: %s: waits until process %u (%s) gives it up\n", device->bdf,
			holder->pid, holder->process);
		return 0;
	}
	return tenon_fail(err, -EBUSY,
			  "%s: process %u (%s) has it through VFIO: %s, IOMMU group %d; end the VM: kill %u",
			  device->bdf, holder->pid, holder->process, holder->node, device->group, holder->pid);
}

static int give_back(const struct view *view, const struct device *device, const struct options *options,
		     struct tenon_error *err)
{
	struct previous previous;
	char now[NAME_BYTES];
	int code = binding_recall(view->host, device->bdf, &previous, err);
	if (code < 0)
		return code;
	if (!previous.known && !device_on_vfio(device)) {
		printf("%s: not bound to VFIO; driver %s\n", device->bdf, device->driver[0] ? device->driver : "none");
		return 0;
	}
	if (options->dry_run) {
		printf("%s: would go from %s to %s\n", device->bdf, device->driver[0] ? device->driver : "no driver",
		       previous.driver[0] ? previous.driver
		       : previous.known   ? "no driver"
					  : "the driver that the kernel finds for it");
		return 0;
	}
	code = binding_give_back(view->host, device, &previous, now, err);
	if (code == 0)
		printf("%s: %s%s\n", device->bdf, now[0] ? now : "no driver",
		       previous.known ? ", as before" : " (what it had before is not remembered)");
	return code;
}

static int unbind_all(const struct view *view, const struct selection *selection, const struct options *options,
		      struct tenon_error *err)
{
	int result = 0;
	for (unsigned i = 0; i < selection->count; i++) {
		int code = refuse_use(view, selection->devices[i], options, err);
		if (code < 0)
			return code;
	}
	int lock = binding_lock(view->host, err);
	if (lock < 0)
		return lock;
	/* A device that fails keeps no other from its driver. */
	for (unsigned i = 0; i < selection->count; i++) {
		struct tenon_error one = {0};
		int code = give_back(view, selection->devices[i], options, &one);
		if (code < 0 && result == 0) {
			result = code;
			*err = one;
		} else if (code < 0) {
			fprintf(stderr, "tenon: %s\n", one.message);
		}
	}
	close(lock);
	return result;
}

int command_unbind(const struct host *host, const struct options *options, struct tenon_error *err)
{
	return run_on_selection(host, options, unbind_all, err);
}

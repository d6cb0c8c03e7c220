// SPDX-License-Identifier: MIT
/* From what the user typed to devices. */
#include <errno.h>
#include <string.h>

#include "selection.h"

static int add(struct selection *selection, const struct device *device, struct tenon_error *err)
{
	for (unsigned i = 0; i < selection->count; i++) {
		if (selection->devices[i] == device)
			return 0;
	}
	if (selection->count == SELECTION_MAX)
		return tenon_fail(err, -E2BIG, "%s: more than %d devices; name fewer at a time", device->bdf,
				  SELECTION_MAX);
	selection->devices[selection->count++] = device;
	return 0;
}

/* Bridges stay with the host: the kernel lets them, and nothing below them would work without. */
static int add_group(const struct inventory *inventory, int group, struct selection *selection, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < inventory->count; i++) {
		const struct device *member = &inventory->devices[i];
		if (member->group == group && !device_is_infrastructure(member))
			code = add(selection, member, err);
	}
	return code;
}

int selection_make(const struct inventory *inventory, const struct options *options, struct selection *selection,
		   struct tenon_error *err)
{
	memset(selection, 0, sizeof(*selection));
	for (unsigned i = 0; i < options->argument_count; i++) {
		struct device *device;
		int code = inventory_look_up(inventory, options->arguments[i], &device, err);
		if (code == 0)
			code = add(selection, device, err);
		if (code == 0 && options->group && device->group >= 0)
			code = add_group(inventory, device->group, selection, err);
		if (code < 0)
			return code;
	}
	return 0;
}

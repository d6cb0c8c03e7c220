/* SPDX-License-Identifier: MIT */
/* What the commands share: the view of the host that each of them begins with, and printing. The commands themselves. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <json-c/json.h>

#include "migration.h"
#include "names.h"
#include "options.h"
#include "selection.h"
#include "verdict.h"

/* Everything about the host, read once. */
struct view {
	const struct host *host;
	struct inventory inventory;
	struct activity activity;
	struct variants variants;
	struct names *names;
	struct facts facts; /* the same, for verdicts */
};

/** @param view  finished by view_finish, also after a failure */
int view_open(const struct host *host, struct view *view, struct tenon_error *err);
void view_finish(struct view *view);

/** A command's exit status. @param code  0 or -errno; -EINVAL: what the user typed was wrong */
int status_of(int code);
/** Has `act` do a command's work on the devices that the command line names. @return the exit status */
int run_on_selection(const struct host *host, const struct options *options,
		     int (*act)(const struct view *view, const struct selection *selection,
				const struct options *options, struct tenon_error *err),
		     struct tenon_error *err);

/** Prints and frees `object`. */
int print_json(json_object *object, struct tenon_error *err);
void json_add_string(json_object *object, const char *key, const char *text); /* NULL or "": null */
/** "Samsung ... NVMe SSD Controller (Non-Volatile memory controller)" */
void describe_device(const struct view *view, const struct device *device, char *text, size_t capacity);
/** BDFs that a slot or bus reset of the device hits beside it, blank between; "" when it would be alone. */
void list_reset_group(const struct inventory *inventory, const struct device *device, char *text, size_t capacity);

int command_devices(const struct host *host, const struct options *options, struct tenon_error *err);
int command_groups(const struct host *host, const struct options *options, struct tenon_error *err);
int command_topology(const struct host *host, const struct options *options, struct tenon_error *err);
int command_bind(const struct host *host, const struct options *options, struct tenon_error *err);
int command_unbind(const struct host *host, const struct options *options, struct tenon_error *err);
int command_doctor(const struct host *host, const struct options *options, struct tenon_error *err);
int command_reset(const struct host *host, const struct options *options, struct tenon_error *err);
int command_vf(const struct host *host, const struct options *options, struct tenon_error *err);

#endif

// SPDX-License-Identifier: MIT
/* Whether a machine could be moved, and what that would take. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <tenon-migration/migrate.h>

#include "devices.h"

static void keep(void *context, const char *blocker)
{
	struct tenon_migration_check *check = context;
	if (check->blocker_count < sizeof(check->blockers) / sizeof(check->blockers[0]))
		snprintf(check->blockers[check->blocker_count++], sizeof(check->blockers[0]), "%s", blocker);
}

/* Without a connection nobody knows how fast it is: a gigabit link is assumed, which the caller says. */
static void estimate(const struct tenon_migration_machine *machine, const struct devices *devices,
		     struct tenon_migration_check *check)
{
	uint64_t bytes = 0, stopped = 0;
	for (unsigned i = 0; i < machine->ram_count; i++)
		bytes += machine->ram[i].size_bytes;
	if (devices_untracked(devices))
		stopped = bytes;
	for (unsigned i = 0; i < devices->count; i++) {
		uint64_t size = 0;
		if (devices->list[i].ops->size_bytes(devices->list[i].context, &size, NULL) < 0)
			continue;
		bytes += size;
		if (!devices->info[i].pre_copy)
			stopped += size;
	}
	check->total_ns = (uint64_t)((double)bytes * 1e9 / TENON_MIGRATION_CHECK_BYTES_PER_SECOND);
	check->downtime_ns = (uint64_t)((double)stopped * 1e9 / TENON_MIGRATION_CHECK_BYTES_PER_SECOND);
}

int tenon_migration_check(const struct tenon_migration_machine *machine, bool assume_all_dirty,
			  struct tenon_migration_check *out, struct tenon_error *err)
{
	struct devices devices;
	if (!out || out->size < sizeof(*out))
		return tenon_fail(err, -EINVAL, "migration: the check's struct needs its size");
	*out = (struct tenon_migration_check){.size = sizeof(*out)};
	int code = devices_init(&devices, machine, err);
	if (code < 0)
		return code;
	out->possible = devices_blockers(&devices, assume_all_dirty, keep, out) == 0;
	estimate(machine, &devices, out);
	return 0;
}

// SPDX-License-Identifier: MIT
/* The two steps in which devices stop and start, and who may be moved at all. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices.h"

int devices_init(struct devices *devices, const struct tenon_migration_machine *machine, struct tenon_error *err)
{
	if (machine->device_count > TENON_MIGRATION_DEVICES)
		return tenon_fail(err, -EINVAL, "migration: %u devices; at most %u can be moved", machine->device_count,
				  TENON_MIGRATION_DEVICES);
	*devices = (struct devices){.list = machine->devices, .count = machine->device_count};
	int code = 0;
	for (unsigned i = 0; code == 0 && i < devices->count; i++) {
		devices->info[i].size = sizeof(devices->info[i]);
		code = devices->list[i].ops->info(devices->list[i].context, &devices->info[i], err);
	}
	return code;
}

/* ---- What stands in the way ---- */

struct blockers {
	void (*each)(void *context, const char *blocker);
	void *context;
	unsigned count;
};

static void block(struct blockers *blockers, const char *name, const char *reason)
{
	char line[TENON_MIGRATION_NAME_MAX + 512];
	snprintf(line, sizeof(line), "%s: %s", name, reason);
	blockers->count++;
	if (blockers->each)
		blockers->each(blockers->context, line);
}

/* With two of them, one would still write into the other while that one stands already. */
static void check_p2p(const struct devices *devices, struct blockers *blockers)
{
	unsigned without = 0;
	for (unsigned i = 0; i < devices->count; i++)
		without += devices->info[i].migratable && !devices->info[i].p2p;
	for (unsigned i = 0; without > 1 && i < devices->count; i++)
		if (devices->info[i].migratable && !devices->info[i].p2p)
			block(blockers, devices->list[i].name,
			      "has no P2P migration states, and it is not the only one: a device could write into "
			      "another that stands already; assign at most one such device, or unplug it before");
}

unsigned devices_blockers(const struct devices *devices, bool assume_all_dirty,
			  void (*each)(void *context, const char *blocker), void *context)
{
	struct blockers blockers = {.each = each, .context = context};
	for (unsigned i = 0; i < devices->count; i++) {
		const struct tenon_migration_info *info = &devices->info[i];
		if (!info->migratable)
			block(&blockers, devices->list[i].name, info->why);
		else if (info->dirty == TENON_DIRTY_NONE && !assume_all_dirty && !devices->list[i].assume_all_dirty)
			block(&blockers, devices->list[i].name, info->why);
	}
	check_p2p(devices, &blockers);
	return blockers.count;
}

static void keep_first(void *context, const char *blocker)
{
	struct tenon_error *first = context;
	if (!first->code)
		tenon_fail(first, -ENOTSUP, "%s", blocker);
}

int devices_check(const struct devices *devices, bool assume_all_dirty, struct tenon_error *err)
{
	struct tenon_error first = {0};
	devices_blockers(devices, assume_all_dirty, keep_first, &first);
	if (first.code && err)
		*err = first;
	return first.code;
}

bool devices_untracked(const struct devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++)
		if (devices->info[i].dirty == TENON_DIRTY_NONE)
			return true;
	return false;
}

/* ---- States ---- */

static int set(const struct tenon_migratable *device, enum tenon_migration_state state, struct tenon_error *err)
{
	return device->ops->set(device->context, state, err);
}

static enum tenon_migration_state state_of(const struct tenon_migratable *device)
{
	return device->ops->state(device->context);
}

int devices_pre_copy(struct devices *devices, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < devices->count; i++)
		if (devices->info[i].pre_copy)
			code = set(&devices->list[i], TENON_MIGRATION_PRE_COPY, err);
	return code;
}

int devices_check_sessions(const struct devices *devices, struct tenon_error *err)
{
	for (unsigned i = 0; i < devices->count; i++)
		if (devices->info[i].pre_copy && state_of(&devices->list[i]) != TENON_MIGRATION_PRE_COPY)
			return tenon_fail(err, -ECANCELED, "%s: the guest reset it meanwhile; migrate again",
					  devices->list[i].name);
	return 0;
}

int devices_quiesce(struct devices *devices, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < devices->count; i++) {
		if (!devices->info[i].p2p)
			continue;
		bool saving = state_of(&devices->list[i]) == TENON_MIGRATION_PRE_COPY;
		code = set(&devices->list[i], saving ? TENON_MIGRATION_PRE_COPY_P2P : TENON_MIGRATION_RUNNING_P2P, err);
	}
	return code;
}

/* Of those with P2P, or of those without. */
static int set_each(struct devices *devices, bool p2p, enum tenon_migration_state state, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < devices->count; i++)
		if (devices->info[i].p2p == p2p)
			code = set(&devices->list[i], state, err);
	return code;
}

int devices_stop(struct devices *devices, struct tenon_error *err)
{
	int code = set_each(devices, false, TENON_MIGRATION_STOP_COPY, err);
	return code < 0 ? code : set_each(devices, true, TENON_MIGRATION_STOP_COPY, err);
}

int devices_resuming(struct devices *devices, struct tenon_error *err)
{
	int code = devices_quiesce(devices, err);
	if (code == 0)
		code = set_each(devices, false, TENON_MIGRATION_RESUMING, err);
	return code < 0 ? code : set_each(devices, true, TENON_MIGRATION_RESUMING, err);
}

/* In reverse order, and as far as it goes. */
static void stand_again(struct devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++)
		if (devices->info[i].p2p && tenon_migration_rule(state_of(&devices->list[i]))->dma)
			set(&devices->list[i], TENON_MIGRATION_RUNNING_P2P, NULL);
	for (unsigned p2p = 0; p2p < 2; p2p++)
		for (unsigned i = 0; i < devices->count; i++)
			if (devices->info[i].p2p == p2p)
				set(&devices->list[i], TENON_MIGRATION_STOP, NULL);
}

/*
 * The state that a device goes to in a step; 0: those that stand answer their peers again; 1: the one without P2P works; 2: all work.
 *
 * @return TENON_MIGRATION_STATES: none
 */
static enum tenon_migration_state start_state(const struct devices *devices, unsigned device, unsigned step)
{
	const struct tenon_migration_rule *rule = tenon_migration_rule(state_of(&devices->list[device]));
	bool p2p = devices->info[device].p2p;
	if (step == 0)
		return p2p && !(rule && rule->answers) ? TENON_MIGRATION_RUNNING_P2P : TENON_MIGRATION_STATES;
	return step == 1 && p2p ? TENON_MIGRATION_STATES : TENON_MIGRATION_RUNNING;
}

int devices_start(struct devices *devices, bool go_on, struct tenon_error *err)
{
	struct tenon_error error;
	int first = 0;
	for (unsigned step = 0; step < 3; step++) {
		for (unsigned i = 0; i < devices->count && (go_on || first == 0); i++) {
			enum tenon_migration_state state = start_state(devices, i, step);
			int code = state == TENON_MIGRATION_STATES ? 0 : set(&devices->list[i], state, &error);
			if (code == 0 || first < 0)
				continue;
			first = code;
			if (err)
				*err = error;
		}
	}
	if (first < 0 && !go_on)
		stand_again(devices);
	return first;
}

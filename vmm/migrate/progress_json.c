// SPDX-License-Identifier: MIT
/* A migration in words of JSON, and back. The reader trusts nothing: the other end of the control socket may be of another version. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "progress_json.h"

/* The numbers, in the order in which they are told. */
static const struct number {
	const char *name;
	size_t offset;
} numbers[] = {
#define NUMBER(name)                                                                                                   \
	{                                                                                                              \
#name, offsetof(struct tenon_migration_progress, name)                                                 \
	}
	NUMBER(elapsed_ns),
	NUMBER(ram_bytes),
	NUMBER(left_bytes),
	NUMBER(sent_bytes),
	NUMBER(pages),
	NUMBER(zero_pages),
	NUMBER(dirty_per_second),
	NUMBER(bytes_per_second),
	NUMBER(downtime_estimate_ns),
	NUMBER(stop_vcpus_ns),
	NUMBER(stop_devices_ns),
	NUMBER(last_pages_ns),
	NUMBER(device_data_ns),
	NUMBER(parts_ns),
	NUMBER(commit_ns),
	NUMBER(downtime_ns),
#undef NUMBER
};

#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static void add_text(json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, json_object_new_string(text));
}

static void add_number(json_object *object, const char *key, uint64_t number)
{
	json_object_object_add(object, key, json_object_new_uint64(number));
}

static void add_flag(json_object *object, const char *key, bool flag)
{
	json_object_object_add(object, key, json_object_new_boolean(flag));
}

static const char *state_name(enum tenon_migration_state state)
{
	const struct tenon_migration_rule *rule = tenon_migration_rule(state);
	return rule ? rule->name : "unknown";
}

json_object *progress_json(const struct tenon_migration_progress *progress)
{
	json_object *object = json_object_new_object(), *devices = json_object_new_array();
	add_text(object, "event", "progress");
	add_text(object, "phase", tenon_migration_phase_name(progress->phase));
	add_number(object, "round", progress->round);
	for (size_t i = 0; i < NUMBERS; i++) {
		uint64_t value;
		memcpy(&value, (const char *)progress + numbers[i].offset, sizeof(value));
		add_number(object, numbers[i].name, value);
	}
	for (unsigned i = 0; i < progress->device_count && i < TENON_MIGRATION_DEVICES; i++) {
		const struct tenon_migration_device_progress *from = &progress->devices[i];
		json_object *device = json_object_new_object();
		add_text(device, "name", from->name);
		add_text(device, "state", state_name(from->state));
		add_number(device, "sent_bytes", from->sent_bytes);
		add_number(device, "left_bytes", from->left_bytes);
		json_object_array_add(devices, device);
	}
	json_object_object_add(object, "devices", devices);
	return object;
}

/* ---- Back ---- */

static uint64_t number_of(json_object *object, const char *key)
{
	json_object *value = json_object_object_get(object, key);
	/* What is negative reads as zero. */
	return json_object_is_type(value, json_type_int) ? json_object_get_uint64(value) : 0;
}

static const char *text_of(json_object *object, const char *key)
{
	json_object *value = json_object_object_get(object, key);
	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

static int parse_device(json_object *object, struct tenon_migration_device_progress *device, struct tenon_error *err)
{
	const char *state = text_of(object, "state");
	unsigned number = 0;
	snprintf(device->name, sizeof(device->name), "%s", text_of(object, "name"));
	device->sent_bytes = number_of(object, "sent_bytes");
	device->left_bytes = number_of(object, "left_bytes");
	while (number < TENON_MIGRATION_STATES && strcmp(state, state_name(number)) != 0)
		number++;
	if (number == TENON_MIGRATION_STATES)
		return tenon_fail(err, -EINVAL,
				  "progress: a device is in a state that is not known here; use the VM's own version");
	device->state = (enum tenon_migration_state)number;
	return 0;
}

int progress_parse(json_object *object, struct tenon_migration_progress *progress, struct tenon_error *err)
{
	const char *phase = text_of(object, "phase");
	unsigned number = 0;
	*progress = (struct tenon_migration_progress){.size = sizeof(*progress)};
	while (number < TENON_MIGRATION_PHASES && strcmp(phase, tenon_migration_phase_name(number)) != 0)
		number++;
	if (number == TENON_MIGRATION_PHASES)
		return tenon_fail(err, -EINVAL,
				  "progress: in a phase that is not known here; use the VM's own version");
	progress->phase = (enum tenon_migration_phase)number;
	uint64_t round = number_of(object, "round");
	progress->round = round < UINT32_MAX ? (unsigned)round : UINT32_MAX;
	for (size_t i = 0; i < NUMBERS; i++) {
		uint64_t value = number_of(object, numbers[i].name);
		memcpy((char *)progress + numbers[i].offset, &value, sizeof(value));
	}
	json_object *devices = json_object_object_get(object, "devices");
	size_t count = json_object_is_type(devices, json_type_array) ? json_object_array_length(devices) : 0;
	for (size_t i = 0; i < count && i < TENON_MIGRATION_DEVICES; i++) {
		int code = parse_device(json_object_array_get_idx(devices, i), &progress->devices[i], err);
		if (code < 0)
			return code;
		progress->device_count++;
	}
	return 0;
}

/* ---- Answers ---- */

json_object *check_json(const struct tenon_migration_check *check)
{
	json_object *object = json_object_new_object(), *blockers = json_object_new_array();
	add_flag(object, "ok", true);
	add_flag(object, "possible", check->possible);
	add_number(object, "total_ns", check->total_ns);
	add_number(object, "downtime_ns", check->downtime_ns);
	for (unsigned i = 0; i < check->blocker_count; i++)
		json_object_array_add(blockers, json_object_new_string(check->blockers[i]));
	json_object_object_add(object, "blockers", blockers);
	return object;
}

static const char *end_name(enum tenon_outgoing_end end)
{
	static const char *const names[] = {[TENON_OUTGOING_MOVED] = "moved",
					    [TENON_OUTGOING_RESUMED] = "resumed",
					    [TENON_OUTGOING_LEFT] = "left",
					    [TENON_OUTGOING_SAVED] = "saved"};
	return names[end];
}

json_object *outcome_json(const struct engine_outcome *outcome, const struct tenon_migration_progress *progress)
{
	static const char *const states[] = {[ENGINE_IDLE] = "idle",
					     [ENGINE_RUNNING] = "running",
					     [ENGINE_BLOCKED] = "blocked",
					     [ENGINE_OVER] = "over"};
	json_object *object = json_object_new_object();
	add_flag(object, "ok", true);
	add_text(object, "state", states[outcome->state]);
	add_flag(object, "incoming", outcome->incoming);
	if (outcome->state == ENGINE_OVER && !outcome->incoming)
		add_text(object, "end", end_name(outcome->end));
	if (outcome->error.code)
		add_text(object, "error", outcome->error.message);
	if (outcome->state != ENGINE_IDLE)
		json_object_object_add(object, "progress", progress_json(progress));
	return object;
}

json_object *end_json(const struct engine_outcome *outcome)
{
	json_object *object = json_object_new_object();
	bool good = outcome->error.code == 0 && outcome->end != TENON_OUTGOING_RESUMED;
	add_flag(object, "ok", good);
	if (!good)
		add_text(object, "error", outcome->error.code ? outcome->error.message : "cancelled");
	add_text(object, "end", end_name(outcome->end));
	return object;
}

// SPDX-License-Identifier: MIT
/* While the guest stands: vCPUs, then devices in two steps, then all that is left. Every nanosecond here is downtime. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "outgoing.h"

/* The time since `*since`, which becomes now. */
static uint64_t lap(uint64_t *since)
{
	uint64_t now = clock_now_ns(), took = now - *since;
	*since = now;
	return took;
}

static int stop_machine(struct tenon_outgoing *outgoing, uint64_t *since, struct tenon_error *err)
{
	const struct tenon_migration_machine *machine = outgoing->machine;
	struct tenon_migration_progress *progress = &outgoing->progress;
	outgoing_phase(outgoing, TENON_MIGRATION_PHASE_STOPPING);
	outgoing->stopped_ns = *since = clock_now_ns();
	int code = machine->ops->pause(machine->context, err);
	outgoing->paused = code == 0;
	progress->stop_vcpus_ns = lap(since);
	if (code == 0)
		code = devices_check_sessions(&outgoing->devices, err);
	if (code == 0)
		code = devices_quiesce(&outgoing->devices, err);
	if (code == 0)
		code = devices_stop(&outgoing->devices, err);
	progress->stop_devices_ns = lap(since);
	return code;
}

static int last_pages(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	int code = outgoing_fetch_dirty(outgoing, err);
	for (unsigned i = 0; devices_untracked(&outgoing->devices) && i < outgoing->machine->ram_count; i++)
		bitmap_fill(ram_sender_bitmap(outgoing->ram, i));
	return code < 0 ? code : outgoing_pass(outgoing, true, err);
}

/* ---- The devices' data, which is read while the pages are sent ---- */

static int start_pumps(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < outgoing->devices.count; i++)
		code = pump_create(&outgoing->devices.list[i], &outgoing->pumps[i], err);
	return code;
}

static void stop_pumps(struct tenon_outgoing *outgoing)
{
	for (unsigned i = 0; i < outgoing->devices.count; i++) {
		pump_destroy(outgoing->pumps[i]);
		outgoing->pumps[i] = NULL;
	}
}

/* A piece of each in turn, so that all of them are read all the time. */
static int send_devices(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	bool ended[TENON_MIGRATION_DEVICES] = {false};
	for (unsigned left = outgoing->devices.count; left > 0;) {
		for (unsigned i = 0; i < outgoing->devices.count; i++) {
			const void *data;
			int64_t got = ended[i] ? 0 : pump_take(outgoing->pumps[i], &data, err);
			int code = got > 0 ? outgoing_send_data(outgoing, i, data, (size_t)got, err) : (int)got;
			if (code < 0)
				return code;
			left -= got == 0 && !ended[i];
			ended[i] = ended[i] || got == 0;
		}
	}
	return 0;
}

/* ---- What libtenon emulates of them ---- */

struct emulated {
	void *data;
	size_t bytes;
};

static int save_devices(struct tenon_outgoing *outgoing, struct emulated *emulated, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < outgoing->devices.count; i++) {
		const struct tenon_migratable *device = &outgoing->devices.list[i];
		code = device->ops->save(device->context, &emulated[i].data, &emulated[i].bytes, err);
		if (code == 0 && emulated[i].bytes > SECTION_BYTES_MAX)
			code = tenon_fail(err, -EFBIG,
					  "%s: its state is %zu bytes, more than a section holds; report this",
					  device->name, emulated[i].bytes);
	}
	return code;
}

static int send_emulated(struct tenon_outgoing *outgoing, const struct emulated *emulated, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < outgoing->devices.count; i++) {
		code = stream_write_bytes(outgoing->lanes[0], SECTION_DEVICE_STATE, i, emulated[i].data,
					  emulated[i].bytes, err);
		outgoing->device_bytes += emulated[i].bytes;
	}
	return code;
}

static int send_part(void *context, const char *name, uint32_t version, const void *data, size_t bytes,
		     struct tenon_error *err)
{
	struct tenon_outgoing *outgoing = context;
	outgoing->parts++;
	return part_write(outgoing->lanes[0], name, version, data, bytes, err);
}

/*
 * A device's interrupts are on their way to the interrupt controllers and vCPUs: saved before those they come twice at worst, and loaded
 * after those there is somebody to take them.
 */
static int parts_and_emulated(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	const struct tenon_migration_machine *machine = outgoing->machine;
	struct emulated emulated[TENON_MIGRATION_DEVICES] = {{NULL, 0}};
	int code = save_devices(outgoing, emulated, err);
	if (code == 0)
		code = machine->ops->save(machine->context, send_part, outgoing, err);
	if (code == 0)
		code = send_emulated(outgoing, emulated, err);
	for (unsigned i = 0; i < outgoing->devices.count; i++)
		free(emulated[i].data);
	return code;
}

static int send_end(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	struct ram_sender_counts counts;
	ram_sender_counts(outgoing->ram, &counts);
	const struct end_counts end = {.pages = counts.pages,
				       .zero_pages = counts.zero_pages,
				       .ram_bytes = counts.bytes,
				       .device_bytes = outgoing->device_bytes,
				       .parts = outgoing->parts};
	return end_write(outgoing->lanes[0], &end, err);
}

int outgoing_stop(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	struct tenon_migration_progress *progress = &outgoing->progress;
	uint64_t since;
	int code = stop_machine(outgoing, &since, err);
	if (code < 0)
		return code;
	outgoing->progress.phase = TENON_MIGRATION_PHASE_STOP_COPY;
	code = start_pumps(outgoing, err);
	if (code == 0)
		code = last_pages(outgoing, err);
	progress->last_pages_ns = lap(&since);
	if (code == 0)
		code = send_devices(outgoing, err);
	stop_pumps(outgoing);
	progress->device_data_ns = lap(&since);
	if (code == 0)
		code = parts_and_emulated(outgoing, err);
	progress->parts_ns = lap(&since);
	if (code < 0)
		return code;
	outgoing_before_end(outgoing);
	code = send_end(outgoing, err);
	outgoing->sent_ns = since;
	return code;
}

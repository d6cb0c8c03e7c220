// SPDX-License-Identifier: MIT
/*
 * Pre-copy: rounds of RAM and device data while the guest runs. After each the downtime is estimated from what is left and from what the
 * round measured; the guest stops once that fits, and once the destination has the devices' initial data.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "outgoing.h"

/* Of the switch, beside the bytes: pausing, states and parts; and for each device its changes of state on both sides. */
#define SWITCH_NS        4000000u
#define SWITCH_DEVICE_NS 2000000u

/* A round lasts at least so long: looking at what was written costs the guest, too. */
#define ROUND_MS 10

/* Between two looks at what the guest writes meanwhile. */
#define INITIAL_WAIT_MS 50

#define MEASURABLE_DEVICE_BYTES (256u << 10)

/* A round that moved less says nothing about the bandwidth. */
#define MEASURABLE_BYTES (4u << 20)

int outgoing_fetch_dirty(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	const struct tenon_migration_machine *machine = outgoing->machine;
	int code = 0;
	for (unsigned i = 0; code == 0 && i < machine->ram_count; i++)
		code = machine->ops->dirty_fetch(machine->context, i, ram_sender_bitmap(outgoing->ram, i)->words, err);
	return code;
}

/* The guest writes on meanwhile, and the destination may have something to say. */
static int tick(void *context)
{
	struct tenon_outgoing *outgoing = context;
	outgoing_report(outgoing, false);
	return outgoing_listen(outgoing, &outgoing->failure);
}

int outgoing_pass(struct tenon_outgoing *outgoing, bool unlimited, struct tenon_error *err)
{
	outgoing->failure.code = 0;
	int code = ram_sender_pass(outgoing->ram, unlimited, tick, outgoing, err);
	if (code < 0 && outgoing->failure.code && err)
		*err = outgoing->failure;
	return code;
}

int outgoing_send_data(struct tenon_outgoing *outgoing, unsigned device, const void *data, size_t bytes,
		       struct tenon_error *err)
{
	int code = stream_write_bytes(outgoing->lanes[0], SECTION_DEVICE_DATA, device, data, bytes, err);
	if (code == 0)
		code = outgoing_listen(outgoing, err);
	if (code < 0)
		return code;
	outgoing->progress.devices[device].sent_bytes += bytes;
	outgoing->device_bytes += bytes;
	outgoing_report(outgoing, false);
	return 0;
}

/* Until it has no more, at most about `limit_bytes`. */
static int device_data(struct tenon_outgoing *outgoing, unsigned device, uint64_t limit_bytes, struct tenon_error *err)
{
	const struct tenon_migratable *what = &outgoing->devices.list[device];
	uint64_t done = 0, started = clock_now_ns();
	int64_t got = 1;
	while (done < limit_bytes && got > 0) {
		got = what->ops->read(what->context, outgoing->buffer, SECTION_BYTES_MAX, err);
		int code =
			got > 0 ? outgoing_send_data(outgoing, device, outgoing->buffer, (size_t)got, err) : (int)got;
		if (code < 0)
			return code;
		done += (uint64_t)got;
	}
	if (done >= MEASURABLE_DEVICE_BYTES)
		outgoing->device_bandwidth[device] = (double)done * 1e9 / (double)(clock_now_ns() - started);
	return 0;
}

/* A device that changes faster than it is read is left to the next round: what it had at the beginning is the limit. */
static int device_round(struct tenon_outgoing *outgoing, unsigned device, bool *initial, struct tenon_error *err)
{
	const struct tenon_migratable *what = &outgoing->devices.list[device];
	struct tenon_migration_device_progress *progress = &outgoing->progress.devices[device];
	uint64_t initial_bytes = 0, dirty_bytes = 0;
	int code = what->ops->pre_copy(what->context, &initial_bytes, &dirty_bytes, err);
	if (code == 0)
		code = device_data(outgoing, device, initial_bytes + dirty_bytes + 1, err);
	if (code == 0)
		code = what->ops->pre_copy(what->context, &initial_bytes, &dirty_bytes, err);
	progress->left_bytes = initial_bytes + dirty_bytes;
	*initial = *initial && initial_bytes == 0;
	return code;
}

static int devices_round(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	bool initial = true;
	int code = 0;
	for (unsigned i = 0; code == 0 && i < outgoing->devices.count; i++)
		if (outgoing->devices.info[i].pre_copy)
			code = device_round(outgoing, i, &initial, err);
	if (code < 0 || !initial || outgoing->announced)
		return code;
	outgoing->announced = true;
	outgoing->announced_ns = clock_now_ns();
	return stream_write_bytes(outgoing->lanes[0], SECTION_INITIAL, 0, NULL, 0, err);
}

/* How much of a device there is to be sent once it stands. */
static uint64_t device_left(struct tenon_outgoing *outgoing, unsigned device)
{
	const struct tenon_migratable *what = &outgoing->devices.list[device];
	struct tenon_error ignored;
	uint64_t bytes = 0;
	if (what->ops->size_bytes(what->context, &bytes, &ignored) < 0)
		bytes = outgoing->progress.devices[device].left_bytes;
	outgoing->progress.devices[device].left_bytes = bytes;
	return bytes;
}

/* Devices are read all at once, and while pages are sent: the slowest of them counts, and what goes over the connection. */
static void estimate(struct tenon_outgoing *outgoing)
{
	struct tenon_migration_progress *progress = &outgoing->progress;
	double bytes = (double)progress->left_bytes * outgoing->wire_ratio, slowest = 0;
	for (unsigned i = 0; i < outgoing->devices.count; i++) {
		double left = (double)device_left(outgoing, i), bandwidth = outgoing->device_bandwidth[i];
		bytes += left;
		if (bandwidth > 0 && left / bandwidth > slowest)
			slowest = left / bandwidth;
	}
	double seconds = outgoing->bandwidth ? bytes / (double)outgoing->bandwidth : 0;
	if (slowest > seconds)
		seconds = slowest;
	outgoing->slowest_device_ns = (uint64_t)(slowest * 1e9);
	progress->downtime_estimate_ns =
		(uint64_t)(seconds * 1e9) + SWITCH_NS + (uint64_t)outgoing->devices.count * SWITCH_DEVICE_NS;
}

static uint64_t left_pages(struct tenon_outgoing *outgoing)
{
	uint64_t pages = 0;
	for (unsigned i = 0; i < outgoing->machine->ram_count; i++)
		pages += bitmap_count(ram_sender_bitmap(outgoing->ram, i));
	return pages;
}

/* Where nothing could be measured, as for a guest that is nearly empty: at least what it did, and what any link has. */
static uint64_t guess_bandwidth(const struct tenon_outgoing *outgoing)
{
	uint64_t usual = (uint64_t)TENON_MIGRATION_CHECK_BYTES_PER_SECOND, limit = outgoing->options.bytes_per_second;
	uint64_t guess = outgoing->progress.bytes_per_second > usual ? outgoing->progress.bytes_per_second : usual;
	return limit && limit < guess ? limit : guess;
}

/* After a round: what it took, and what was written meanwhile. */
static int measure(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	struct tenon_migration_progress *progress = &outgoing->progress;
	struct ram_sender_counts counts;
	int code = outgoing_fetch_dirty(outgoing, err);
	if (code < 0)
		return code;
	ram_sender_counts(outgoing->ram, &counts);
	uint64_t sent = counts.bytes - outgoing->round_sent_bytes;
	double seconds = (double)(clock_now_ns() - outgoing->round_started_ns) / 1e9;
	outgoing_due(outgoing, left_pages(outgoing) * TENON_MIGRATION_PAGE_BYTES);
	progress->dirty_per_second = (uint64_t)((double)progress->left_bytes / seconds);
	progress->bytes_per_second = (uint64_t)((double)sent / seconds);
	uint64_t moved = outgoing->options.compress
				 ? (counts.pages - outgoing->round_sent_pages) * TENON_MIGRATION_PAGE_BYTES
				 : sent;
	if (moved >= MEASURABLE_BYTES) {
		outgoing->bandwidth = progress->bytes_per_second;
		outgoing->wire_ratio = (double)sent / (double)moved;
	} else if (!outgoing->bandwidth) {
		outgoing->bandwidth = guess_bandwidth(outgoing);
		outgoing->wire_ratio = 1;
	}
	estimate(outgoing);
	return 0;
}

static void begin_round(struct tenon_outgoing *outgoing)
{
	struct ram_sender_counts counts;
	ram_sender_counts(outgoing->ram, &counts);
	outgoing->round_sent_bytes = counts.bytes;
	outgoing->round_sent_pages = counts.pages;
	outgoing->round_started_ns = clock_now_ns();
	outgoing->progress.round++;
	outgoing_report(outgoing, true);
}

static bool fits(const struct tenon_outgoing *outgoing)
{
	return outgoing->progress.downtime_estimate_ns <= outgoing->options.downtime_limit_ns;
}

/* A file takes what it gets; a destination with devices must have said that it has what they need first. */
static bool initial_there(const struct tenon_outgoing *outgoing)
{
	return outgoing->file || outgoing->initial_has;
}

/* All that could be sent is on its way, and the destination has yet to work through it. */
static int await_initial(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	int code = tenon_channel_wait(outgoing->channels[0], INITIAL_WAIT_MS, err);
	if (code > 0)
		return outgoing_listen(outgoing, err);
	if (code == 0 && clock_now_ns() - outgoing->announced_ns > outgoing->options.channel.timeout_ms * 1000000ull)
		return tenon_fail(
			err, -ETIMEDOUT,
			"%s: the destination did not load the devices' first data within %u s; see what it says",
			outgoing->options.address, outgoing->options.channel.timeout_ms / 1000);
	return code;
}

static int give_up(const struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	const struct tenon_migration_progress *progress = &outgoing->progress;
	return tenon_fail(
		err, -ETIMEDOUT,
		"migration: after %u rounds the guest would still stand for %.0f ms: it writes %.1f MB a second, and "
		"%.1f MB "
		"a second are sent; allow more (--downtime-limit), give it more bandwidth, or stop it (--force)",
		progress->round, (double)progress->downtime_estimate_ns / 1e6, (double)progress->dirty_per_second / 1e6,
		(double)progress->bytes_per_second / 1e6);
}

static void rest(const struct tenon_outgoing *outgoing)
{
	uint64_t passed_ms = (clock_now_ns() - outgoing->round_started_ns) / 1000000;
	if (passed_ms < ROUND_MS)
		tenon_channel_wait(outgoing->channels[0], (int)(ROUND_MS - passed_ms), NULL);
}

int outgoing_rounds(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	/* Where nobody knows what a device writes, all of RAM is sent when it stands: once is enough. */
	bool ram = !devices_untracked(&outgoing->devices);
	for (unsigned i = 0; ram && i < outgoing->machine->ram_count; i++)
		bitmap_fill(ram_sender_bitmap(outgoing->ram, i));
	outgoing_due(outgoing, left_pages(outgoing) * TENON_MIGRATION_PAGE_BYTES);
	for (;;) {
		begin_round(outgoing);
		int code = ram ? outgoing_pass(outgoing, false, err) : 0;
		if (code == 0)
			code = devices_round(outgoing, err);
		if (code == 0)
			code = measure(outgoing, err);
		if (code == 0)
			code = outgoing_listen(outgoing, err);
		if (code < 0)
			return code;
		outgoing_report(outgoing, true);
		bool enough = !ram || fits(outgoing);
		if (enough && initial_there(outgoing))
			return 0;
		if (enough && outgoing->announced)
			code = await_initial(outgoing, err);
		else if (outgoing->progress.round >= outgoing->options.rounds)
			return outgoing->options.force ? 0 : give_up(outgoing, err);
		else
			rest(outgoing);
		if (code < 0)
			return code;
	}
}

// SPDX-License-Identifier: MIT
/* What arrives: RAM on every lane; on lane 0 the devices' data and the VMM's parts, too, and at last END. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "incoming.h"
#include "kernel_calls.h"

/* ---- Lane 0 ---- */

static int find_device(struct tenon_incoming *incoming, const struct section *section,
		       const struct tenon_migratable **out, struct tenon_error *err)
{
	if (section->instance >= incoming->devices.count)
		return tenon_fail(err, -EBADMSG, "migration: data of device %u of %u; the stream is damaged or hostile",
				  section->instance, incoming->devices.count);
	*out = &incoming->devices.list[section->instance];
	return 0;
}

static int device_data(struct tenon_incoming *incoming, const struct section *section, struct tenon_error *err)
{
	const struct tenon_migratable *device = NULL;
	int code = find_device(incoming, section, &device, err);
	if (code < 0)
		return code;
	if (incoming->has_state[section->instance])
		return tenon_fail(err, -EBADMSG, "%s: more data after its state; the stream is damaged or hostile",
				  device->name);
	incoming->progress.devices[section->instance].sent_bytes += section->bytes;
	incoming->counts.device_bytes += section->bytes;
	return device->ops->write(device->context, incoming->lanes[0].reader.payload, section->bytes, err);
}

/* The device's own data is complete: it stands from now on, and what libtenon emulates of it goes on top. */
static int device_state(struct tenon_incoming *incoming, const struct section *section, struct tenon_error *err)
{
	const struct tenon_migratable *device = NULL;
	int code = find_device(incoming, section, &device, err);
	if (code < 0)
		return code;
	if (incoming->has_state[section->instance])
		return tenon_fail(err, -EBADMSG, "%s: its state comes twice; the stream is damaged or hostile",
				  device->name);
	incoming->has_state[section->instance] = true;
	incoming->counts.device_bytes += section->bytes;
	code = device->ops->set(device->context, TENON_MIGRATION_STOP, err);
	return code < 0 ? code
			: device->ops->load(device->context, incoming->lanes[0].reader.payload, section->bytes, err);
}

static int take_part(struct tenon_incoming *incoming, const struct section *section, struct tenon_error *err)
{
	const struct tenon_migration_machine *machine = incoming->machine;
	struct part *part = &incoming->part;
	int code = part_collect(part, incoming->lanes[0].reader.payload, section->bytes, err);
	if (code <= 0)
		return code;
	incoming->counts.parts++;
	code = machine->ops->load(machine->context, part->name, part->version, part->data, part->total_bytes, err);
	part_finish(part);
	return code;
}

static int check_end(struct tenon_incoming *incoming, const struct section *section, struct tenon_error *err)
{
	struct end_counts sent;
	struct ram_sender_counts ram;
	int code = end_decode(incoming->lanes[0].reader.payload, section->bytes, &sent, err);
	ram_receiver_counts(incoming->ram, &ram);
	incoming->counts.pages = ram.pages;
	incoming->counts.zero_pages = ram.zero_pages;
	incoming->counts.ram_bytes = ram.bytes;
	if (code == 0)
		code = end_compare(&sent, &incoming->counts, err);
	for (unsigned i = 0; code == 0 && i < incoming->devices.count; i++)
		if (!incoming->has_state[i])
			code = tenon_fail(err, -EBADMSG, "%s: its state is missing; the stream is not whole",
					  incoming->devices.list[i].name);
	return code < 0 ? code : incoming->machine->ops->loaded(incoming->machine->context, err);
}

/* @return 1 at the end */
static int take(struct tenon_incoming *incoming, const struct section *section, struct tenon_error *err)
{
	char text[512];
	switch (section->type) {
	case SECTION_PAGES:
	case SECTION_COMPRESSED:
	case SECTION_ZEROES:
		return ram_receiver_section(incoming->ram, 0, &incoming->lanes[0].reader, section, err);
	case SECTION_ROUND:
		incoming->progress.round++;
		return ram_receiver_round(incoming->ram, 0, err);
	case SECTION_DEVICE_DATA:
		return device_data(incoming, section, err);
	case SECTION_DEVICE_STATE:
		return device_state(incoming, section, err);
	case SECTION_INITIAL: /* all initial data came before this, and is written */
		return incoming->file ? 0 : stream_write_bytes(&incoming->answers, SECTION_INITIAL, 0, NULL, 0, err);
	case SECTION_PART:
		return take_part(incoming, section, err);
	case SECTION_END: {
		int code = check_end(incoming, section, err);
		return code < 0 ? code : 1;
	}
	case SECTION_ABORT:
		stream_text(&incoming->lanes[0].reader, section, text, sizeof(text));
		return tenon_fail(err, -ECONNABORTED, "source: %s", text);
	default:
		return tenon_fail(err, -EBADMSG,
				  "migration: section %u is out of turn; the stream is damaged or hostile",
				  section->type);
	}
}

static int lane_0(struct tenon_incoming *incoming, struct tenon_error *err)
{
	int code = 0;
	while (code == 0) {
		struct section section;
		code = stream_read(&incoming->lanes[0].reader, &section, err);
		if (code == -ENODATA)
			return tenon_fail(err, -ECONNRESET,
					  incoming->file
						  ? "%s: the snapshot ends too early; it was not written to its end"
						  : "%s: the source closed the connection before it had sent all",
					  tenon_channel_name(incoming->lanes[0].channel));
		if (code == 0)
			code = take(incoming, &section, err);
		incoming_report(incoming, false);
	}
	return code < 0 ? code : 0;
}

/* ---- Lanes 1 and up: RAM only ---- */

static int lane_section(struct incoming_lane *lane, const struct section *section, struct tenon_error *err)
{
	struct tenon_incoming *incoming = lane->incoming;
	switch (section->type) {
	case SECTION_PAGES:
	case SECTION_COMPRESSED:
	case SECTION_ZEROES:
		return ram_receiver_section(incoming->ram, lane->number, &lane->reader, section, err);
	case SECTION_ROUND:
		return ram_receiver_round(incoming->ram, lane->number, err);
	default:
		return tenon_fail(
			err, -EBADMSG,
			"migration: section %u on connection %u, which is for RAM; the stream is damaged or hostile",
			section->type, lane->number);
	}
}

static void *run_lane(void *argument)
{
	struct incoming_lane *lane = argument;
	int code = 0;
	while (code == 0) {
		struct section section;
		code = stream_read(&lane->reader, &section, &lane->error);
		if (code == 0)
			code = lane_section(lane, &section, &lane->error);
	}
	lane->code = code;
	/* Nobody waits for this lane at a ROUND any more; and what it failed with ends lane 0. After END it is the other way round. */
	ram_receiver_end(lane->incoming->ram);
	if (code != -ECANCELED && code != -ENODATA)
		tenon_channel_end(lane->incoming->lanes[0].channel);
	return NULL;
}

static int start_lanes(struct tenon_incoming *incoming, struct tenon_error *err)
{
	for (unsigned i = 1; i < incoming->lane_count; i++) {
		struct incoming_lane *lane = &incoming->lanes[i];
		int code = mcall_thread_start("migrate-in", run_lane, lane, &lane->thread);
		if (code < 0)
			return tenon_fail(err, code,
					  "migration: cannot start a thread: %s; raise the limit of processes",
					  strerror(-code));
		lane->running = true;
	}
	return 0;
}

/* What a lane failed with explains why lane 0 was ended. */
static int join_lanes(struct tenon_incoming *incoming, int code, struct tenon_error *err)
{
	ram_receiver_end(incoming->ram);
	for (unsigned i = 1; i < incoming->lane_count; i++) {
		struct incoming_lane *lane = &incoming->lanes[i];
		if (!lane->running)
			continue;
		tenon_channel_end(lane->channel);
		pthread_join(lane->thread, NULL);
		lane->running = false;
		if (code == -ECANCELED && lane->code != -ECANCELED && lane->code != -ENODATA) {
			code = lane->code;
			if (err)
				*err = lane->error;
		}
	}
	return code;
}

int incoming_load(struct tenon_incoming *incoming, struct tenon_error *err)
{
	int code = start_lanes(incoming, err);
	if (code == 0)
		code = lane_0(incoming, err);
	return join_lanes(incoming, code, err);
}

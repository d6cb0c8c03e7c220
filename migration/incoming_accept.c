// SPDX-License-Identifier: MIT
/*
 * Who connects. Until a source has shown itself whatever connects is nobody: it is heard for as long as a channel waits for a stalled
 * peer, and closed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "incoming.h"

#define HELLO_MS 5000  /* who connects speaks first */
#define LANES_MS 10000 /* for the source's other connections */

static int adopt(struct tenon_incoming *incoming, unsigned lane, struct tenon_channel *channel, struct tenon_error *err)
{
	int code = 0;
	pthread_mutex_lock(&incoming->lock);
	incoming->lanes[lane].channel = channel;
	if (incoming->cancelled)
		code = tenon_fail(err, -ECANCELED, "migration: cancelled");
	pthread_mutex_unlock(&incoming->lock);
	return code;
}

static void disown(struct tenon_incoming *incoming, unsigned lane)
{
	stream_reader_finish(&incoming->lanes[lane].reader);
	incoming->lanes[lane].reader = (struct stream_reader){0};
	pthread_mutex_lock(&incoming->lock);
	struct tenon_channel *channel = incoming->lanes[lane].channel;
	incoming->lanes[lane].channel = NULL;
	pthread_mutex_unlock(&incoming->lock);
	tenon_channel_close(channel);
}

/* Reads the first section of a connection. */
static int read_hello(struct tenon_incoming *incoming, unsigned lane, struct hello *hello, struct tenon_error *err)
{
	struct stream_reader *reader = &incoming->lanes[lane].reader;
	struct section section;
	int code = stream_reader_init(reader, incoming->lanes[lane].channel, err);
	reader->idle_ms = HELLO_MS;
	if (code == 0)
		code = stream_read(reader, &section, err);
	reader->idle_ms = 0;
	if (code == 0 && section.type != SECTION_HELLO)
		code = tenon_fail(err, -EBADMSG, "migration: section %u where HELLO must be; is that a tenon?",
				  section.type);
	return code < 0 ? code : hello_decode(reader->payload, section.bytes, hello, err);
}

/* ---- Whether the machines are equal ---- */

static int compare(struct tenon_incoming *incoming, const struct description *description, struct tenon_error *err)
{
	const struct tenon_migration_machine *machine = incoming->machine;
	/* The VMM's own words first: they name the option to change. */
	int code = machine->ops->accept(machine->context, description->text, description->text_bytes, err);
	if (code == 0)
		code = description_compare(description, machine, err);
	/* Who tracks what they write is the source's question. */
	return code < 0 ? code : devices_check(&incoming->devices, true, err);
}

static int agree(struct tenon_incoming *incoming, struct tenon_error *err)
{
	struct stream_reader *reader = &incoming->lanes[0].reader;
	struct section section;
	struct description description;
	int code = message_await(reader, SECTION_DESCRIPTION, &section, err);
	if (code == 0)
		code = description_decode(reader->payload, section.bytes, &description, err);
	if (code == 0)
		code = compare(incoming, &description, err);
	if (code == 0)
		code = devices_resuming(&incoming->devices, err);
	if (code < 0 && !incoming->file)
		stream_write_text(&incoming->answers, SECTION_REFUSED, err->message, NULL);
	return code;
}

/* ---- Connections ---- */

/* A refused source ends the wait: this machine is not what it looks for, and its user wants to know. */
static int accept_first(struct tenon_incoming *incoming, struct tenon_error *err)
{
	for (;;) {
		struct tenon_channel *channel = NULL;
		struct hello hello;
		struct tenon_error error;
		int code = tenon_listener_accept(incoming->listener, -1, &channel, &error);
		if (code == -EPROTO) /* who came was not let in */
			continue;
		if (code == 0)
			code = adopt(incoming, 0, channel, &error);
		if (code < 0) {
			if (err)
				*err = error;
			return code;
		}
		stream_writer_init(&incoming->answers, channel);
		code = read_hello(incoming, 0, &hello, &error);
		if (code == 0 && hello.lane == 0) {
			memcpy(incoming->session, hello.session, sizeof(hello.session));
			incoming->lane_count = hello.lanes;
			return 0;
		}
		if (code < 0)
			stream_write_text(&incoming->answers, SECTION_REFUSED, error.message, NULL);
		disown(incoming, 0);
	}
}

static int accept_lane(struct tenon_incoming *incoming, unsigned lane, struct tenon_error *err)
{
	struct tenon_channel *channel = NULL;
	struct hello hello;
	struct tenon_error error;
	for (;;) {
		int code = tenon_listener_accept(incoming->listener, LANES_MS, &channel, &error);
		if (code == -EPROTO)
			continue;
		if (code < 0)
			return tenon_fail(err, code, "migration: connection %u of %u did not come: %.400s", lane + 1,
					  incoming->lane_count, error.message);
		code = adopt(incoming, lane, channel, err);
		if (code < 0)
			return code;
		if (read_hello(incoming, lane, &hello, &error) == 0 && hello.lane == lane &&
		    memcmp(hello.session, incoming->session, sizeof(hello.session)) == 0)
			return 0;
		disown(incoming, lane);
	}
}

static int open_file(struct tenon_incoming *incoming, struct tenon_error *err)
{
	struct tenon_channel *channel = NULL;
	struct hello hello;
	int code = tenon_channel_open_file(incoming->options.address, &channel, err);
	if (code == 0)
		code = adopt(incoming, 0, channel, err);
	if (code == 0)
		code = read_hello(incoming, 0, &hello, err);
	incoming->lane_count = 1;
	if (code == 0 && hello.lanes != 1)
		code = tenon_fail(err, -EBADMSG, "%s: one of %u streams of a migration, not a snapshot",
				  incoming->options.address, hello.lanes);
	return code;
}

int incoming_accept(struct tenon_incoming *incoming, struct tenon_error *err)
{
	int code = incoming->file ? open_file(incoming, err) : accept_first(incoming, err);
	if (code == 0)
		code = agree(incoming, err);
	if (code == 0 && !incoming->file)
		code = incoming_start_guardian(incoming, err);
	if (code == 0 && !incoming->file)
		code = stream_write_bytes(&incoming->answers, SECTION_WELCOME, 0, NULL, 0, err);
	for (unsigned i = 1; code == 0 && i < incoming->lane_count; i++)
		code = accept_lane(incoming, i, err);
	const struct tenon_migration_machine *machine = incoming->machine;
	if (code == 0)
		code = ram_receiver_create(machine->ram, machine->ram_count, incoming->lane_count, &incoming->ram, err);
	/* A lane may have nothing to say for as long as a device thinks. Hosts that are gone are the channel's to notice. */
	for (unsigned i = 0; code == 0 && i < incoming->lane_count; i++) {
		incoming->lanes[i].reader.idle_ms = -1;
		ram_receiver_attach(incoming->ram, &incoming->lanes[i].reader);
	}
	return code;
}

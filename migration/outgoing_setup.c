// SPDX-License-Identifier: MIT
/* Connecting to the destination, agreeing with it, and hearing what it says meanwhile. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "outgoing.h"

#define NO_SECTION ((enum section_type)0)
#define WHY_MS     1000 /* for the destination's last words, once the connection fails */

static int open_lane(struct tenon_outgoing *outgoing, unsigned lane, struct tenon_error *err)
{
	struct tenon_channel *channel = NULL;
	int code = tenon_channel_connect(outgoing->options.address, &outgoing->options.channel, &channel, err);
	if (code < 0)
		return code;
	pthread_mutex_lock(&outgoing->lock);
	outgoing->channels[lane] = channel;
	if (outgoing->cancelled)
		tenon_channel_end(channel);
	pthread_mutex_unlock(&outgoing->lock);
	stream_writer_init(&outgoing->writers[lane], channel);
	outgoing->lanes[lane] = &outgoing->writers[lane];

	struct hello hello = {
		.flags = outgoing->file ? HELLO_FLAG_FILE : 0, .lane = lane, .lanes = outgoing->lane_count};
	memcpy(hello.session, outgoing->session, sizeof(hello.session));
	return hello_write(outgoing->lanes[lane], &hello, err);
}

static int describe(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	const struct tenon_migration_machine *machine = outgoing->machine;
	void *text = NULL;
	size_t bytes = 0;
	int code = machine->ops->describe(machine->context, &text, &bytes, err);
	if (code < 0)
		return code;
	code = description_write(outgoing->lanes[0], machine, text, bytes, err);
	free(text);
	return code;
}

int outgoing_connect(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	int code = mcall_random(outgoing->session, sizeof(outgoing->session));
	if (code < 0)
		return tenon_fail(err, code, "migration: no random numbers: %s; report this", strerror(-code));
	code = open_lane(outgoing, 0, err);
	if (code == 0)
		code = describe(outgoing, err);
	if (code < 0 || outgoing->file)
		return code;
	code = stream_reader_init(&outgoing->reader, outgoing->channels[0], err);
	outgoing->reader.idle_ms = (int)outgoing->options.channel.timeout_ms;
	if (code == 0)
		code = outgoing_expect(outgoing, SECTION_WELCOME, err);
	for (unsigned i = 1; code == 0 && i < outgoing->lane_count; i++)
		code = open_lane(outgoing, i, err);
	return code < 0 ? code : outgoing_start_guardian(outgoing, err);
}

void outgoing_disconnect(struct tenon_outgoing *outgoing)
{
	stream_reader_finish(&outgoing->reader);
	pthread_mutex_lock(&outgoing->lock);
	for (unsigned i = 0; i < RAM_LANES_MAX; i++) {
		tenon_channel_close(outgoing->channels[i]);
		outgoing->channels[i] = NULL;
	}
	pthread_mutex_unlock(&outgoing->lock);
}

/* @return 1: it is of the type that is awaited; 0: something that may come at any time; or why it is over */
static int hear(struct tenon_outgoing *outgoing, enum section_type wanted, struct tenon_error *err)
{
	struct section section;
	char text[512];
	int code = stream_read(&outgoing->reader, &section, err);
	if (code == -ENODATA)
		return tenon_fail(err, -ECONNRESET,
				  "%s: the destination closed the connection; its own messages say why",
				  outgoing->options.address);
	if (code < 0)
		return code;
	if (section.type == SECTION_INITIAL)
		outgoing->initial_has = true;
	if (section.type == wanted)
		return 1;
	switch (section.type) {
	case SECTION_INITIAL:
		return 0;
	case SECTION_REFUSED:
	case SECTION_FAILED:
		stream_text(&outgoing->reader, &section, text, sizeof(text));
		outgoing->refused = true;
		return tenon_fail(err, section.type == SECTION_REFUSED ? -ENOTSUP : -ECONNABORTED, "destination: %s",
				  text);
	default:
		return tenon_fail(err, -EBADMSG, "%s: the destination answers out of turn (section %u); is it a tenon?",
				  outgoing->options.address, section.type);
	}
}

int outgoing_listen(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	pthread_mutex_lock(&outgoing->lock);
	bool cancelled = outgoing->cancelled;
	pthread_mutex_unlock(&outgoing->lock);
	if (cancelled)
		return tenon_fail(err, -ECANCELED, "migration: cancelled");
	if (outgoing->file)
		return 0;
	int code = tenon_channel_wait(outgoing->channels[0], 0, err);
	if (code > 0)
		code = hear(outgoing, SECTION_INITIAL, err);
	return code < 0 ? code : 0;
}

int outgoing_expect(struct tenon_outgoing *outgoing, enum section_type type, struct tenon_error *err)
{
	int code = 0;
	while (code == 0)
		code = hear(outgoing, type, err);
	return code < 0 ? code : 0;
}

void outgoing_ask_why(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	static const int lost[] = {EPIPE, ECONNRESET, ECONNABORTED, ENODATA};
	struct tenon_error why;
	bool was_lost = false;
	for (unsigned i = 0; i < sizeof(lost) / sizeof(lost[0]); i++)
		was_lost = was_lost || err->code == -lost[i];
	if (!was_lost || outgoing->refused || outgoing->file || !outgoing->reader.payload)
		return;
	while (tenon_channel_wait(outgoing->channels[0], WHY_MS, &why) > 0) {
		int code = hear(outgoing, NO_SECTION, &why);
		if (code == 0)
			continue;
		if (code == -ECONNABORTED || code == -ENOTSUP)
			*err = why;
		return;
	}
}

// SPDX-License-Identifier: MIT
/* Who runs, at the destination: drives the automaton of commit.def with what it hears on the connection and at its listener. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "channel.h"
#include "clock.h"
#include "incoming.h"
#include "kernel_calls.h"
#include "listener.h"
#include "resolve.h"

#define VISITOR_MS 500  /* for each piece of what a visitor says; who asks knows at once what to say */
#define DRAIN_MS   1000 /* for the source to read why this side failed */

static enum commit_destination_action step(struct tenon_incoming *incoming, enum commit_destination_event event)
{
	enum commit_destination_action action;
	incoming->phase = commit_destination_next(incoming->phase, event, &action);
	guardian_say(incoming->guardian, incoming->phase);
	return action;
}

/* The source's next words must not reset the connection before it has read this. */
void incoming_say_failed(struct tenon_incoming *incoming, const struct tenon_error *reason)
{
	uint64_t until = clock_now_ns() + DRAIN_MS * 1000000ull;
	uint8_t rest[4096];
	if (incoming->file || incoming_cancelled(incoming))
		return;
	if (stream_write_text(&incoming->answers, SECTION_FAILED, reason->message, NULL) < 0)
		return;
	while (clock_now_ns() < until &&
	       tenon_channel_read_some(incoming->lanes[0].channel, rest, sizeof(rest), DRAIN_MS, NULL) > 0)
		;
}

/* ---- What happens ---- */

/*
 * Somebody came to the listener: perhaps the source, or its guardian, perhaps nobody. Who has said nothing yet makes room for the next, so
 * that a stranger keeps nobody out, and nothing is waited for.
 */
static void let_in(struct tenon_incoming *incoming)
{
	struct tenon_channel *channel = NULL;
	resolve_visitor_finish(&incoming->visitor);
	if (tenon_listener_accept(incoming->listener, 0, &channel, NULL) < 0)
		return;
	channel->timeout_ms = VISITOR_MS;
	if (resolve_visitor_init(&incoming->visitor, channel, NULL) < 0)
		resolve_visitor_finish(&incoming->visitor);
}

/* The visitor says something; it stays for the answer. */
static bool hear_visitor(struct tenon_incoming *incoming, enum commit_destination_event *event)
{
	if (resolve_visitor_hear(&incoming->visitor, incoming->session, event, NULL) == 0)
		return true;
	resolve_visitor_finish(&incoming->visitor);
	return false;
}

/* To the visitor that waits for it, if there is one. */
static void answer(struct tenon_incoming *incoming, enum commit_answer answer)
{
	enum commit_destination_event event;
	if (!incoming->visitor.channel)
		return;
	if (resolve_visitor_answer(&incoming->visitor, answer, NULL) == 0 &&
	    resolve_visitor_hear(&incoming->visitor, incoming->session, &event, NULL) == 0)
		step(incoming, event);
	resolve_visitor_finish(&incoming->visitor);
}

static enum commit_destination_event hear_source(struct tenon_incoming *incoming)
{
	struct section section;
	struct tenon_error error;
	if (stream_read(&incoming->lanes[0].reader, &section, &error) == 0) {
		if (section.type == SECTION_COMMIT)
			return COMMIT_DESTINATION_EVENT_COMMIT;
		if (section.type == SECTION_DONE)
			return COMMIT_DESTINATION_EVENT_DONE;
		if (section.type == SECTION_ABORT)
			return COMMIT_DESTINATION_EVENT_ABORT;
	}
	incoming->lost = true;
	return COMMIT_DESTINATION_EVENT_LOST;
}

static bool decided(struct tenon_incoming *incoming, enum commit_destination_event *event)
{
	pthread_mutex_lock(&incoming->lock);
	enum incoming_decision decision = incoming->decision;
	pthread_mutex_unlock(&incoming->lock);
	*event = decision == INCOMING_RUN ? COMMIT_DESTINATION_EVENT_VERDICT_COMMITTED
					  : COMMIT_DESTINATION_EVENT_VERDICT_ABORTED;
	return decision != INCOMING_UNDECIDED;
}

static void tell_blocked(struct tenon_incoming *incoming)
{
	pthread_mutex_lock(&incoming->lock);
	incoming->blocked = true;
	pthread_mutex_unlock(&incoming->lock);
	incoming->progress.phase = TENON_MIGRATION_PHASE_RESOLVE;
	incoming_report(incoming, true);
	if (incoming->options.blocked)
		incoming->options.blocked(incoming->options.blocked_context,
					  "migration: the connection failed at the last moment: the guest is complete "
					  "here and waits for the source, or "
					  "what it left behind, to say who runs; or decide: tenon migrate SOCKET "
					  "--resolve run once it is certain that it "
					  "does not run there, or --resolve stop");
}

/** Waits for what happens next. @return false: nothing will, or the wait is to end */
static bool wait_event(struct tenon_incoming *incoming, enum commit_destination_event *event)
{
	for (;;) {
		if (!incoming->lost && tenon_channel_wait(incoming->lanes[0].channel, 0, NULL) != 0) {
			*event = hear_source(incoming);
			return true;
		}
		if (incoming->blocked && incoming->phase == COMMIT_DESTINATION_PREPARED && decided(incoming, event))
			return true;
		pthread_mutex_lock(&incoming->lock);
		bool leave = incoming->leave;
		pthread_mutex_unlock(&incoming->lock);
		if (leave)
			return false;
		if (incoming->lost && incoming->phase == COMMIT_DESTINATION_PREPARED && !incoming->blocked)
			tell_blocked(incoming);
		struct pollfd fds[] = {
			{.fd = incoming->wake, .events = POLLIN},
			{.fd = tenon_listener_fd(incoming->listener), .events = POLLIN},
			{.fd = incoming->lost ? -1 : tenon_channel_fd(incoming->lanes[0].channel), .events = POLLIN},
			{.fd = incoming->visitor.channel ? tenon_channel_fd(incoming->visitor.channel) : -1,
			 .events = POLLIN},
		};
		int ready = mcall_poll(fds, 4, -1);
		if (ready < 0 && ready != -EINTR)
			return false;
		eventfd_t count;
		if (fds[0].revents)
			eventfd_read(incoming->wake, &count);
		if (fds[2].revents)
			continue; /* the source itself comes first */
		if (fds[3].revents && hear_visitor(incoming, event))
			return true;
		if (fds[1].revents && !fds[3].revents)
			let_in(incoming);
	}
}

/* ---- What is done ---- */

int incoming_start(struct tenon_incoming *incoming, struct tenon_error *err)
{
	int code = devices_start(&incoming->devices, false, err);
	if (code == 0)
		incoming->machine->ops->start(incoming->machine->context);
	return code;
}

/* A connection that was passed is the only one there can be: nobody could ask a guardian anything. */
int incoming_start_guardian(struct tenon_incoming *incoming, struct tenon_error *err)
{
	if (listener_is_single(incoming->listener))
		return 0;
	struct guardian_options options = {
		.command = incoming->options.guardian_command,
		.role = GUARDIAN_OF_DESTINATION,
		.address = incoming->options.address,
		.channel = incoming->options.channel,
		.listener_fd = tenon_listener_fd(incoming->listener),
	};
	memcpy(options.session, incoming->session, sizeof(options.session));
	return guardian_start(&options, &incoming->guardian, err);
}

static bool promise(struct tenon_incoming *incoming)
{
	pthread_mutex_lock(&incoming->lock);
	incoming->promised = !incoming->cancelled;
	bool promised = incoming->promised;
	pthread_mutex_unlock(&incoming->lock);
	return promised;
}

/* It has the right to run. */
static int start(struct tenon_incoming *incoming, struct tenon_error *err)
{
	int code = devices_start(&incoming->devices, false, err);
	if (code < 0) {
		step(incoming, COMMIT_DESTINATION_EVENT_ERROR);
		answer(incoming, COMMIT_ANSWER_GONE);
		if (!incoming->lost)
			incoming_say_failed(incoming, err);
		return code;
	}
	step(incoming, COMMIT_DESTINATION_EVENT_STARTED);
	incoming->machine->ops->start(incoming->machine->context);
	answer(incoming, COMMIT_ANSWER_RUNS);
	if (!incoming->lost && stream_write_bytes(&incoming->answers, SECTION_STARTED, 0, NULL, 0, NULL) < 0)
		incoming->lost = true;
	return 0;
}

static int wait_for_right(struct tenon_incoming *incoming, struct tenon_error *err)
{
	enum commit_destination_event event;
	while (wait_event(incoming, &event)) {
		switch (step(incoming, event)) {
		case COMMIT_DESTINATION_DO_START:
			return start(incoming, err);
		case COMMIT_DESTINATION_DO_ANSWER_GONE:
			answer(incoming, COMMIT_ANSWER_GONE);
			return tenon_fail(err, -ECONNABORTED, "migration: the guest runs on at the source");
		case COMMIT_DESTINATION_DO_LEAVE:
			return tenon_fail(err, -ECONNABORTED,
					  "migration: the source called it off; the guest runs on there");
		default:
			break;
		}
	}
	return tenon_fail(err, -ECANCELED, "migration: ended while it was open who runs; the source may ask for ever");
}

int incoming_commit(struct tenon_incoming *incoming, struct tenon_error *err)
{
	if (!promise(incoming))
		return tenon_fail(err, -ECANCELED, "migration: cancelled");
	step(incoming, COMMIT_DESTINATION_EVENT_LOADED);
	if (stream_write_bytes(&incoming->answers, SECTION_READY, 0, NULL, 0, NULL) < 0) {
		incoming->lost = true;
		step(incoming, COMMIT_DESTINATION_EVENT_LOST);
	}
	return wait_for_right(incoming, err);
}

void tenon_incoming_settle(struct tenon_incoming *incoming)
{
	enum commit_destination_event event;
	while (incoming->phase == COMMIT_DESTINATION_RUNNING && wait_event(incoming, &event))
		if (step(incoming, event) == COMMIT_DESTINATION_DO_ANSWER_RUNS)
			answer(incoming, COMMIT_ANSWER_RUNS);
}

int tenon_incoming_resolve(struct tenon_incoming *incoming, bool run)
{
	pthread_mutex_lock(&incoming->lock);
	bool waits = incoming->blocked && incoming->decision == INCOMING_UNDECIDED;
	if (waits)
		incoming->decision = run ? INCOMING_RUN : INCOMING_STOP;
	pthread_mutex_unlock(&incoming->lock);
	eventfd_write(incoming->wake, 1);
	return waits ? 0 : -ENOENT;
}

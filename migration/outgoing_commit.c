// SPDX-License-Identifier: MIT
/* Who runs, at the source: drives the automaton of commit.def with what it hears, and does what that says. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "channel.h"
#include "clock.h"
#include "outgoing.h"
#include "resolve.h"

#define ASK_AGAIN_MS 500
#define ASK_MS       5000 /* for one question and its answer */

/* The guardian hears of a phase before anybody else does. */
static enum commit_source_action step(struct tenon_outgoing *outgoing, enum commit_source_event event)
{
	enum commit_source_action action;
	outgoing->phase = commit_source_next(outgoing->phase, event, &action);
	guardian_say(outgoing->guardian, outgoing->phase);
	return action;
}

/* The other end of a connection that was passed has no address. */
static bool can_connect_again(const struct tenon_outgoing *outgoing)
{
	struct channel_address address;
	return channel_address_parse(outgoing->options.address, &address, NULL) == 0 && address.kind != ADDRESS_FD;
}

/* Now, while the guest runs: nobody waits for it. */
int outgoing_start_guardian(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	if (!can_connect_again(outgoing))
		return 0;
	struct guardian_options options = {
		.command = outgoing->options.guardian_command,
		.role = GUARDIAN_OF_SOURCE,
		.address = outgoing->options.address,
		.channel = outgoing->options.channel,
		.listener_fd = -1,
	};
	memcpy(options.session, outgoing->session, sizeof(options.session));
	return guardian_start(&options, &outgoing->guardian, err);
}

void outgoing_before_end(struct tenon_outgoing *outgoing)
{
	step(outgoing, COMMIT_SOURCE_EVENT_ALL_SENT);
}

bool outgoing_abort(struct tenon_outgoing *outgoing, const struct tenon_error *reason)
{
	enum commit_source_event event =
		reason->code == -ECANCELED ? COMMIT_SOURCE_EVENT_CANCEL : COMMIT_SOURCE_EVENT_ERROR;
	return step(outgoing, event) == COMMIT_SOURCE_DO_ABORT && !outgoing->file && outgoing->lanes[0];
}

/* From here on nobody can cancel it. */
static bool pass_commit_point(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	pthread_mutex_lock(&outgoing->lock);
	outgoing->committed = !outgoing->cancelled;
	bool passed = outgoing->committed;
	pthread_mutex_unlock(&outgoing->lock);
	if (!passed)
		tenon_fail(err, -ECANCELED, "migration: cancelled");
	return passed;
}

/* What the destination says to COMMIT, as an event. */
static enum commit_source_event hear_start(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	int code = stream_write_bytes(outgoing->lanes[0], SECTION_COMMIT, 0, NULL, 0, err);
	if (code < 0)
		return COMMIT_SOURCE_EVENT_LOST;
	code = outgoing_expect(outgoing, SECTION_STARTED, err);
	if (code == 0)
		return COMMIT_SOURCE_EVENT_STARTED;
	return outgoing->refused ? COMMIT_SOURCE_EVENT_FAILED : COMMIT_SOURCE_EVENT_LOST;
}

static enum outgoing_decision decision(struct tenon_outgoing *outgoing, bool *leave)
{
	pthread_mutex_lock(&outgoing->lock);
	enum outgoing_decision decision = outgoing->decision;
	*leave = outgoing->leave;
	pthread_mutex_unlock(&outgoing->lock);
	return decision;
}

/* A decision ends it. */
static void wait_a_moment(struct tenon_outgoing *outgoing)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ASK_AGAIN_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&outgoing->lock);
	if (outgoing->decision == OUTGOING_UNDECIDED && !outgoing->leave)
		pthread_cond_timedwait(&outgoing->changed, &outgoing->lock, &until);
	pthread_mutex_unlock(&outgoing->lock);
}

static bool ask(struct tenon_outgoing *outgoing, enum commit_source_event *event)
{
	struct tenon_channel_options options = outgoing->options.channel;
	enum commit_answer answer;
	options.timeout_ms = ASK_MS;
	return can_connect_again(outgoing) &&
	       resolve_ask(outgoing->options.address, &options, outgoing->session, COMMIT_VERDICT_COMMITTED, &answer,
			   NULL) == 0 &&
	       commit_answer_event(answer, event);
}

static void tell_blocked(struct tenon_outgoing *outgoing, const struct tenon_error *why)
{
	char message[512];
	pthread_mutex_lock(&outgoing->lock);
	outgoing->blocked = true;
	pthread_mutex_unlock(&outgoing->lock);
	if (!outgoing->options.blocked)
		return;
	snprintf(message, sizeof(message),
		 "migration: the connection failed at the last moment (%.120s), and %.100s does not answer: the guest "
		 "stands here "
		 "until it does; or decide: tenon migrate SOCKET --resolve run once it is certain that it does not run "
		 "there, or "
		 "--resolve stop",
		 why->message, outgoing->options.address);
	outgoing->options.blocked(outgoing->options.blocked_context, message);
}

/* Asks until it knows. The machine stands here meanwhile, whole. @return false: the wait is to end */
static bool resolve(struct tenon_outgoing *outgoing, const struct tenon_error *why, enum commit_source_event *event)
{
	for (bool told = false;; told = true) {
		bool leave;
		enum outgoing_decision person = decision(outgoing, &leave);
		/* An answer is better than anybody's decision: the last question comes after it. */
		if (ask(outgoing, event))
			return true;
		if (leave)
			return false;
		if (person != OUTGOING_UNDECIDED) {
			*event = person == OUTGOING_RUN ? COMMIT_SOURCE_EVENT_ANSWER_GONE
							: COMMIT_SOURCE_EVENT_ANSWER_ENDED;
			return true;
		}
		if (!told)
			tell_blocked(outgoing, why);
		wait_a_moment(outgoing);
	}
}

enum tenon_outgoing_end outgoing_commit(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	if (outgoing_expect(outgoing, SECTION_READY, err) < 0 || !pass_commit_point(outgoing, err))
		return TENON_OUTGOING_RESUMED;
	step(outgoing, COMMIT_SOURCE_EVENT_READY);
	enum commit_source_action action = step(outgoing, hear_start(outgoing, err));
	uint64_t now = clock_now_ns();
	outgoing->progress.commit_ns = now - outgoing->sent_ns;
	outgoing->progress.downtime_ns = now - outgoing->stopped_ns;
	if (action == COMMIT_SOURCE_DO_ASK) {
		enum commit_source_event event;
		outgoing_phase(outgoing, TENON_MIGRATION_PHASE_RESOLVE);
		if (!resolve(outgoing, err, &event))
			return TENON_OUTGOING_LEFT;
		step(outgoing, event);
	} else if (action == COMMIT_SOURCE_DO_SEND_DONE) {
		stream_write_bytes(outgoing->lanes[0], SECTION_DONE, 0, NULL, 0, NULL);
	}
	return outgoing->phase == COMMIT_SOURCE_MOVED ? TENON_OUTGOING_MOVED : TENON_OUTGOING_RESUMED;
}

int tenon_outgoing_resolve(struct tenon_outgoing *outgoing, bool run)
{
	pthread_mutex_lock(&outgoing->lock);
	bool waits = outgoing->blocked && outgoing->decision == OUTGOING_UNDECIDED;
	if (waits) {
		outgoing->decision = run ? OUTGOING_RUN : OUTGOING_STOP;
		pthread_cond_signal(&outgoing->changed);
	}
	pthread_mutex_unlock(&outgoing->lock);
	return waits ? 0 : -ENOENT;
}

void tenon_outgoing_leave(struct tenon_outgoing *outgoing)
{
	pthread_mutex_lock(&outgoing->lock);
	outgoing->leave = true;
	pthread_cond_signal(&outgoing->changed);
	/* An answer may be on its way, and is not waited for. */
	for (unsigned i = 0; i < outgoing->lane_count; i++)
		if (outgoing->channels[i])
			tenon_channel_end(outgoing->channels[i]);
	pthread_mutex_unlock(&outgoing->lock);
}

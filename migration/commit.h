/* SPDX-License-Identifier: MIT */
/*
 * Who may run: the automata of a migration's two sides, and the duty of their guardians. commit.def has them as data.
 *
 * Pure: no state, no I/O. A side keeps its phase, tells what happened, says the next phase to its guardian (guardian.h), and only then does
 * the action:
 *
 *     enum commit_source_action action;
 *     phase = commit_source_next(phase, COMMIT_SOURCE_EVENT_READY, &action);
 *     guardian_say(guardian, phase);
 *     ... do the action
 *
 * What the tables keep, checked by tests/model/ and tests/unit/migration_commit_test.c: the source runs only as long as the destination
 * has not run, and the destination only once the source never will; whatever dies, somebody still holds the whole machine, unless it
 * died with the process that had it.
 */
#ifndef COMMIT_H
#define COMMIT_H

#include <stdbool.h>
#include <stdint.h>

#define COMMIT_SESSION_BYTES 16u /* of getrandom(): who knows it belongs to this migration */

enum commit_duty {
#define DUTY(name) COMMIT_DUTY_##name,
#include "commit.def"
};

enum commit_source_phase {
#define SOURCE_PHASE(name, alive, dead) COMMIT_SOURCE_##name,
#include "commit.def"
	COMMIT_SOURCE_PHASES
};

enum commit_source_event {
#define SOURCE_EVENT(name) COMMIT_SOURCE_EVENT_##name,
#include "commit.def"
	COMMIT_SOURCE_EVENTS
};

enum commit_source_action {
#define SOURCE_ACTION(name) COMMIT_SOURCE_DO_##name,
#include "commit.def"
};

enum commit_destination_phase {
#define DESTINATION_PHASE(name, alive, dead) COMMIT_DESTINATION_##name,
#include "commit.def"
	COMMIT_DESTINATION_PHASES
};

enum commit_destination_event {
#define DESTINATION_EVENT(name) COMMIT_DESTINATION_EVENT_##name,
#include "commit.def"
	COMMIT_DESTINATION_EVENTS
};

enum commit_destination_action {
#define DESTINATION_ACTION(name) COMMIT_DESTINATION_DO_##name,
#include "commit.def"
};

/* On the stream, in VERDICT and ANSWER. */
enum commit_verdict {
	COMMIT_VERDICT_COMMITTED = 1, /* the source never runs, unless the answer is `gone` */
	COMMIT_VERDICT_ABORTED,       /* the source runs, or did */
	COMMIT_VERDICT_FINISHED,      /* the asker has the answer and will not ask again */
};

enum commit_answer {
	COMMIT_ANSWER_RUNS = 1, /* at the destination */
	COMMIT_ANSWER_GONE,     /* it never ran there and never will */
	COMMIT_ANSWER_ENDED, /* it ran there, and does no more: it was powered off, or died as it could have at any time */
};

/** What follows; a pair that the table does not have changes nothing. */
enum commit_source_phase commit_source_next(enum commit_source_phase phase, enum commit_source_event event,
					    enum commit_source_action *action);
enum commit_destination_phase commit_destination_next(enum commit_destination_phase phase,
						      enum commit_destination_event event,
						      enum commit_destination_action *action);

/** What its guardian does when this is the last phase that a side said. @param dead  the side's process, as its pidfd proves */
enum commit_duty commit_source_guardian(enum commit_source_phase phase, bool dead);
enum commit_duty commit_destination_guardian(enum commit_destination_phase phase, bool dead);

/** The event that a VERDICT or an ANSWER is. @return false: no such value; both come from outside */
bool commit_verdict_event(uint32_t verdict, enum commit_destination_event *out);
bool commit_answer_event(uint32_t answer, enum commit_source_event *out);

/** "sent", for messages and logs. */
const char *commit_source_phase_name(enum commit_source_phase phase);
const char *commit_destination_phase_name(enum commit_destination_phase phase);

#endif

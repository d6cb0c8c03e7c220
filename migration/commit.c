// SPDX-License-Identifier: MIT
/*
 * The automata of commit.def as tables. Decides who may run; does nothing itself.
 */

#include "commit.h"

struct source_step {
	bool listed;
	enum commit_source_phase next;
	enum commit_source_action action;
};

struct destination_step {
	bool listed;
	enum commit_destination_phase next;
	enum commit_destination_action action;
};

struct duties {
	enum commit_duty alive, dead;
};

static const struct source_step source_steps[COMMIT_SOURCE_PHASES][COMMIT_SOURCE_EVENTS] = {
#define SOURCE(phase, event, next, action)                                                                             \
	[COMMIT_SOURCE_##phase][COMMIT_SOURCE_EVENT_##event] = {true, COMMIT_SOURCE_##next, COMMIT_SOURCE_DO_##action},
#include "commit.def"
};

static const struct destination_step destination_steps[COMMIT_DESTINATION_PHASES][COMMIT_DESTINATION_EVENTS] = {
#define DESTINATION(phase, event, next, action)                                                                        \
	[COMMIT_DESTINATION_##phase][COMMIT_DESTINATION_EVENT_##event] = {true, COMMIT_DESTINATION_##next,             \
									  COMMIT_DESTINATION_DO_##action},
#include "commit.def"
};

static const struct duties source_duties[COMMIT_SOURCE_PHASES] = {
#define SOURCE_PHASE(name, alive, dead) [COMMIT_SOURCE_##name] = {COMMIT_DUTY_##alive, COMMIT_DUTY_##dead},
#include "commit.def"
};

static const struct duties destination_duties[COMMIT_DESTINATION_PHASES] = {
#define DESTINATION_PHASE(name, alive, dead) [COMMIT_DESTINATION_##name] = {COMMIT_DUTY_##alive, COMMIT_DUTY_##dead},
#include "commit.def"
};

enum commit_source_phase commit_source_next(enum commit_source_phase phase, enum commit_source_event event,
					    enum commit_source_action *action)
{
	const struct source_step *step = &source_steps[phase][event];
	*action = step->listed ? step->action : COMMIT_SOURCE_DO_STAY;
	return step->listed ? step->next : phase;
}

enum commit_destination_phase commit_destination_next(enum commit_destination_phase phase,
						      enum commit_destination_event event,
						      enum commit_destination_action *action)
{
	const struct destination_step *step = &destination_steps[phase][event];
	*action = step->listed ? step->action : COMMIT_DESTINATION_DO_STAY;
	return step->listed ? step->next : phase;
}

/* The phase comes from memory that the side shares: one that does not exist means a side whose word is lost. */
enum commit_duty commit_source_guardian(enum commit_source_phase phase, bool dead)
{
	if ((unsigned)phase >= COMMIT_SOURCE_PHASES)
		return COMMIT_DUTY_LEAVE;
	return dead ? source_duties[phase].dead : source_duties[phase].alive;
}

enum commit_duty commit_destination_guardian(enum commit_destination_phase phase, bool dead)
{
	if ((unsigned)phase >= COMMIT_DESTINATION_PHASES)
		return COMMIT_DUTY_LEAVE;
	return dead ? destination_duties[phase].dead : destination_duties[phase].alive;
}

bool commit_verdict_event(uint32_t verdict, enum commit_destination_event *out)
{
	switch (verdict) {
	case COMMIT_VERDICT_COMMITTED:
		*out = COMMIT_DESTINATION_EVENT_VERDICT_COMMITTED;
		return true;
	case COMMIT_VERDICT_ABORTED:
		*out = COMMIT_DESTINATION_EVENT_VERDICT_ABORTED;
		return true;
	case COMMIT_VERDICT_FINISHED:
		*out = COMMIT_DESTINATION_EVENT_VERDICT_FINISHED;
		return true;
	default:
		return false;
	}
}

bool commit_answer_event(uint32_t answer, enum commit_source_event *out)
{
	switch (answer) {
	case COMMIT_ANSWER_RUNS:
		*out = COMMIT_SOURCE_EVENT_ANSWER_RUNS;
		return true;
	case COMMIT_ANSWER_GONE:
		*out = COMMIT_SOURCE_EVENT_ANSWER_GONE;
		return true;
	case COMMIT_ANSWER_ENDED:
		*out = COMMIT_SOURCE_EVENT_ANSWER_ENDED;
		return true;
	default:
		return false;
	}
}

const char *commit_source_phase_name(enum commit_source_phase phase)
{
	static const char *const names[COMMIT_SOURCE_PHASES] = {
		[COMMIT_SOURCE_MOVING] = "moving",       [COMMIT_SOURCE_SENT] = "sent",
		[COMMIT_SOURCE_COMMITTED] = "committed", [COMMIT_SOURCE_RESOLVING] = "resolving",
		[COMMIT_SOURCE_MOVED] = "moved",         [COMMIT_SOURCE_RESUMED] = "resumed",
	};
	return (unsigned)phase < COMMIT_SOURCE_PHASES ? names[phase] : "unknown";
}

const char *commit_destination_phase_name(enum commit_destination_phase phase)
{
	static const char *const names[COMMIT_DESTINATION_PHASES] = {
		[COMMIT_DESTINATION_LOADING] = "loading",   [COMMIT_DESTINATION_PREPARED] = "prepared",
		[COMMIT_DESTINATION_STARTING] = "starting", [COMMIT_DESTINATION_RUNNING] = "running",
		[COMMIT_DESTINATION_RESOLVED] = "resolved", [COMMIT_DESTINATION_FAILED] = "failed",
		[COMMIT_DESTINATION_GONE] = "gone",
	};
	return (unsigned)phase < COMMIT_DESTINATION_PHASES ? names[phase] : "unknown";
}

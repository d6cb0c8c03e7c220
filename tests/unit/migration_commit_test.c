// SPDX-License-Identifier: MIT
/*
 * The automata of commit.def, in C: every pair of phase and event has an outcome, and in random walks of both sides, their guardians, a bad
 * network and deaths never two run. tests/model/ has spin explore all of them; here it is the compiled tables that walk.
 */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "commit.h"

/* ---- The tables ---- */

static bool source_is_final(enum commit_source_phase phase)
{
	return phase == COMMIT_SOURCE_MOVED || phase == COMMIT_SOURCE_RESUMED;
}

Test(migration_commit, every_event_in_every_phase_of_the_source_has_an_outcome)
{
	for (unsigned phase = 0; phase < COMMIT_SOURCE_PHASES; phase++)
		for (unsigned event = 0; event < COMMIT_SOURCE_EVENTS; event++) {
			enum commit_source_action action = -1u;
			enum commit_source_phase next = commit_source_next(phase, event, &action);
			cr_expect_lt(next, COMMIT_SOURCE_PHASES);
			cr_expect_leq(action, COMMIT_SOURCE_DO_TOO_LATE);
			if (source_is_final(phase))
				cr_expect_eq(next, phase, "phase %u is final, event %u", phase, event);
			if (next != phase)
				cr_expect_neq(action, COMMIT_SOURCE_DO_STAY, "phase %u, event %u", phase, event);
		}
}

Test(migration_commit, every_event_in_every_phase_of_the_destination_has_an_outcome)
{
	for (unsigned phase = 0; phase < COMMIT_DESTINATION_PHASES; phase++)
		for (unsigned event = 0; event < COMMIT_DESTINATION_EVENTS; event++) {
			enum commit_destination_action action = -1u;
			enum commit_destination_phase next = commit_destination_next(phase, event, &action);
			cr_expect_lt(next, COMMIT_DESTINATION_PHASES);
			cr_expect_leq(action, COMMIT_DESTINATION_DO_TOO_LATE);
			if (phase >= COMMIT_DESTINATION_RESOLVED)
				cr_expect_eq(next, phase, "phase %u is final, event %u", phase, event);
			if (next != phase)
				cr_expect_neq(action, COMMIT_DESTINATION_DO_STAY, "phase %u, event %u", phase, event);
		}
}

Test(migration_commit, the_source_resumes_by_itself_only_before_commit)
{
	static const enum commit_source_event own[] = {COMMIT_SOURCE_EVENT_LOST, COMMIT_SOURCE_EVENT_ERROR,
						       COMMIT_SOURCE_EVENT_CANCEL};
	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		for (unsigned phase = 0; phase < COMMIT_SOURCE_PHASES; phase++) {
			enum commit_source_action action;
			bool resumed = commit_source_next(phase, own[i], &action) == COMMIT_SOURCE_RESUMED;
			bool before = phase == COMMIT_SOURCE_MOVING || phase == COMMIT_SOURCE_SENT;
			cr_expect_eq(resumed, before || phase == COMMIT_SOURCE_RESUMED, "phase %u", phase);
		}
}

Test(migration_commit, the_destination_never_starts_for_want_of_a_connection)
{
	for (unsigned phase = 0; phase < COMMIT_DESTINATION_PHASES; phase++) {
		enum commit_destination_action action;
		commit_destination_next(phase, COMMIT_DESTINATION_EVENT_LOST, &action);
		cr_expect(action == COMMIT_DESTINATION_DO_STAY || action == COMMIT_DESTINATION_DO_LEAVE, "phase %u",
			  phase);
	}
}

Test(migration_commit, a_promise_cannot_be_cancelled)
{
	enum commit_destination_action action;
	enum commit_source_action act;
	cr_expect_eq(commit_source_next(COMMIT_SOURCE_COMMITTED, COMMIT_SOURCE_EVENT_CANCEL, &act),
		     COMMIT_SOURCE_COMMITTED);
	cr_expect_eq(act, COMMIT_SOURCE_DO_TOO_LATE);
	cr_expect_eq(commit_destination_next(COMMIT_DESTINATION_PREPARED, COMMIT_DESTINATION_EVENT_CANCEL, &action),
		     COMMIT_DESTINATION_PREPARED);
	cr_expect_eq(action, COMMIT_DESTINATION_DO_TOO_LATE);
}

Test(migration_commit, words_from_outside_that_do_not_exist_are_refused)
{
	static const uint32_t bad[] = {0, 4, 96, UINT32_MAX};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		enum commit_destination_event event;
		enum commit_source_event answer;
		cr_expect_not(commit_verdict_event(bad[i], &event));
		cr_expect_not(commit_answer_event(bad[i], &answer));
		cr_expect_eq(commit_source_guardian(bad[i] | 64, true), COMMIT_DUTY_LEAVE);
		cr_expect_eq(commit_destination_guardian(bad[i] | 64, true), COMMIT_DUTY_LEAVE);
	}
}

Test(migration_commit, phases_have_names)
{
	for (unsigned phase = 0; phase < COMMIT_SOURCE_PHASES; phase++)
		cr_expect(strcmp(commit_source_phase_name(phase), "unknown") != 0, "%u", phase);
	for (unsigned phase = 0; phase < COMMIT_DESTINATION_PHASES; phase++)
		cr_expect(strcmp(commit_destination_phase_name(phase), "unknown") != 0, "%u", phase);
	cr_expect_str_eq(commit_source_phase_name(COMMIT_SOURCE_PHASES), "unknown");
	cr_expect_str_eq(commit_destination_phase_name(COMMIT_DESTINATION_PHASES), "unknown");
}

/* ---- Random walks ---- */

#define WALKS     100000u
#define STEPS_MAX 2000u /* of one; it settles long before */
#define QUEUE_MAX 4u
#define NONE      (-1)

/* Messages on their way, in order. */
struct queue {
	int items[QUEUE_MAX];
	unsigned count;
};

/* A question at the destination's listener, and its answer: NONE, or an event. */
struct visit {
	int question, answer;
};

struct side {
	uint32_t phase, word;
	int event;    /* to be handled */
	bool decided; /* the next phase is said, the action not done yet */
	uint32_t next;
	int action;
	bool dead, guardian_gone, connected, runs;
};

enum { BY_SOURCE, BY_GUARDIAN, VISITS };
enum { SENT_END = 100 }; /* beside the events */

struct world {
	uint32_t random;
	struct side source, destination;
	struct queue to_source, to_destination;
	struct visit visits[VISITS];
	bool open, destination_listens, end_came, prepared, starting, source_resumed, destination_ran, sent_started;
	unsigned faults, faults_max, cuts, losses, cancels, who;
};

static uint32_t chance(struct world *world, uint32_t of)
{
	world->random = world->random * 1664525u + 1013904223u;
	return (world->random >> 8) % of;
}

static void send(struct world *world, struct side *from, struct queue *queue, int message)
{
	if (world->open && from->connected && queue->count < QUEUE_MAX)
		queue->items[queue->count++] = message;
}

static int take(struct queue *queue)
{
	int message = queue->items[0];
	queue->count--;
	memmove(queue->items, queue->items + 1, queue->count * sizeof(queue->items[0]));
	return message;
}

static void hang_up(struct world *world, struct side *side, struct queue *unread)
{
	side->connected = world->open = false;
	unread->count = 0;
}

static void check(struct world *world, uint32_t walk)
{
	bool source_runs = world->source.runs && !world->source.dead;
	bool destination_runs = world->destination.runs && !world->destination.dead;
	cr_assert_not(source_runs && destination_runs, "walk %u: two run", walk);
	cr_assert_not(world->source_resumed && world->destination_ran, "walk %u: both copies have run", walk);
}

static void source_acts(struct world *world)
{
	struct side *source = &world->source;
	switch (source->action) {
	case COMMIT_SOURCE_DO_SEND_END:
		send(world, source, &world->to_destination, SENT_END);
		break;
	case COMMIT_SOURCE_DO_SEND_COMMIT:
		send(world, source, &world->to_destination, COMMIT_DESTINATION_EVENT_COMMIT);
		break;
	case COMMIT_SOURCE_DO_SEND_DONE:
		send(world, source, &world->to_destination, COMMIT_DESTINATION_EVENT_DONE);
		if (!source->connected)
			world->visits[BY_SOURCE].question = COMMIT_DESTINATION_EVENT_VERDICT_FINISHED;
		hang_up(world, source, &world->to_source);
		break;
	case COMMIT_SOURCE_DO_ABORT:
		send(world, source, &world->to_destination, COMMIT_DESTINATION_EVENT_ABORT);
		/* fall through */
	case COMMIT_SOURCE_DO_RESUME:
		hang_up(world, source, &world->to_source);
		source->runs = world->source_resumed = true;
		break;
	case COMMIT_SOURCE_DO_ASK:
		hang_up(world, source, &world->to_source);
		break;
	default:
		break;
	}
}

static void destination_acts(struct world *world)
{
	struct side *destination = &world->destination;
	struct visit *visit = &world->visits[world->who];
	switch (destination->action) {
	case COMMIT_DESTINATION_DO_SEND_READY:
		world->prepared = true;
		send(world, destination, &world->to_source, COMMIT_SOURCE_EVENT_READY);
		break;
	case COMMIT_DESTINATION_DO_START:
		world->starting = true;
		break;
	case COMMIT_DESTINATION_DO_RUN:
		destination->runs = world->destination_ran = true;
		break;
	case COMMIT_DESTINATION_DO_ANSWER_RUNS:
		*visit = (struct visit){NONE, COMMIT_SOURCE_EVENT_ANSWER_RUNS};
		break;
	case COMMIT_DESTINATION_DO_SEND_FAILED:
		send(world, destination, &world->to_source, COMMIT_SOURCE_EVENT_FAILED);
		hang_up(world, destination, &world->to_destination);
		world->destination_listens = false;
		break;
	case COMMIT_DESTINATION_DO_ANSWER_GONE:
		*visit = (struct visit){NONE, COMMIT_SOURCE_EVENT_ANSWER_GONE};
		/* fall through */
	case COMMIT_DESTINATION_DO_CLOSE:
	case COMMIT_DESTINATION_DO_LEAVE:
		hang_up(world, destination, &world->to_destination);
		world->destination_listens = false;
		break;
	default:
		break;
	}
}

/* First it says the phase, and in a later step it acts: it may be dead by then. */
static bool source_handles(struct world *world)
{
	struct side *source = &world->source;
	if (source->decided) {
		source_acts(world);
		source->phase = source->next;
		source->decided = false;
		return true;
	}
	if (source->event == NONE)
		return false;
	enum commit_source_action action;
	source->next = source->word = commit_source_next(source->phase, source->event, &action);
	source->action = (int)action;
	source->decided = true;
	source->event = NONE;
	return true;
}

static bool destination_handles(struct world *world)
{
	struct side *destination = &world->destination;
	if (destination->decided) {
		destination_acts(world);
		destination->phase = destination->next;
		destination->decided = false;
		return true;
	}
	if (destination->event == NONE)
		return false;
	enum commit_destination_action action;
	destination->next = destination->word =
		commit_destination_next(destination->phase, destination->event, &action);
	destination->action = (int)action;
	destination->decided = true;
	destination->event = NONE;
	return true;
}

static bool somebody_listens(const struct world *world)
{
	return (world->destination_listens && !world->destination.dead) || !world->destination.guardian_gone;
}

static bool fault(struct world *world)
{
	if (world->faults == world->faults_max || chance(world, 20))
		return false;
	world->faults++;
	return true;
}

static bool ask(struct world *world, struct visit *visit, int verdict)
{
	if (visit->question != NONE || visit->answer != NONE || !somebody_listens(world))
		return false;
	visit->question = verdict;
	return true;
}

static bool source_steps(struct world *world)
{
	struct side *source = &world->source;
	if (source->dead)
		return false;
	if (source_handles(world))
		return true;
	struct visit *visit = &world->visits[BY_SOURCE];
	if (source->phase == COMMIT_SOURCE_MOVING)
		source->event = fault(world) ? COMMIT_SOURCE_EVENT_ERROR : COMMIT_SOURCE_EVENT_ALL_SENT;
	else if (source->connected && world->to_source.count)
		source->event = take(&world->to_source);
	else if (source->connected && !world->open) {
		hang_up(world, source, &world->to_source);
		source->event = COMMIT_SOURCE_EVENT_LOST;
	} else if (source->phase == COMMIT_SOURCE_RESOLVING && visit->answer != NONE) {
		source->event = visit->answer;
		*visit = (struct visit){NONE, NONE};
	} else if (source->phase == COMMIT_SOURCE_RESOLVING)
		return ask(world, visit, COMMIT_DESTINATION_EVENT_VERDICT_COMMITTED);
	if (source->event == COMMIT_SOURCE_EVENT_ALL_SENT)
		source->runs = false; /* the vCPUs have stopped by then */
	return source->event != NONE;
}

static bool hears_visitor(struct world *world, unsigned who)
{
	enum commit_destination_action action;
	if (!world->destination_listens || world->visits[who].question == NONE)
		return false;
	commit_destination_next(world->destination.phase, world->visits[who].question, &action);
	if (action == COMMIT_DESTINATION_DO_STAY)
		return false; /* it comes again */
	world->who = who;
	world->destination.event = world->visits[who].question;
	return true;
}

static bool destination_steps(struct world *world)
{
	struct side *destination = &world->destination;
	if (destination->dead)
		return false;
	if (destination_handles(world))
		return true;
	if (chance(world, 2) && (hears_visitor(world, BY_SOURCE) || hears_visitor(world, BY_GUARDIAN)))
		return true;
	if (destination->phase == COMMIT_DESTINATION_LOADING && world->end_came && chance(world, 2)) {
		destination->event = fault(world) ? COMMIT_DESTINATION_EVENT_ERROR : COMMIT_DESTINATION_EVENT_LOADED;
		world->end_came = false;
	} else if (destination->phase == COMMIT_DESTINATION_STARTING && world->starting) {
		destination->event = fault(world) ? COMMIT_DESTINATION_EVENT_ERROR : COMMIT_DESTINATION_EVENT_STARTED;
		world->starting = false;
	} else if (destination->phase == COMMIT_DESTINATION_RUNNING && !world->sent_started) {
		send(world, destination, &world->to_source, COMMIT_SOURCE_EVENT_STARTED);
		world->sent_started = true;
		return true;
	} else if (destination->connected && world->to_destination.count) {
		destination->event = take(&world->to_destination);
		if (destination->event == SENT_END) {
			destination->event = NONE;
			world->end_came = true;
			return true;
		}
	} else if (destination->connected && !world->open) {
		hang_up(world, destination, &world->to_destination);
		destination->event = COMMIT_DESTINATION_EVENT_LOST;
	} else
		return hears_visitor(world, BY_SOURCE) || hears_visitor(world, BY_GUARDIAN) ||
		       (destination->phase == COMMIT_DESTINATION_LOADING && world->end_came);
	return true;
}

static bool source_guardian_steps(struct world *world)
{
	struct visit *visit = &world->visits[BY_GUARDIAN];
	if (world->source.guardian_gone)
		return false;
	enum commit_duty duty = commit_source_guardian(world->source.word, world->source.dead);
	if (visit->answer != NONE) {
		*visit = (struct visit){COMMIT_DESTINATION_EVENT_VERDICT_FINISHED, NONE};
		duty = COMMIT_DUTY_LEAVE;
	}
	switch (duty) {
	case COMMIT_DUTY_TELL_COMMITTED:
		return ask(world, visit, COMMIT_DESTINATION_EVENT_VERDICT_COMMITTED);
	case COMMIT_DUTY_TELL_ABORTED:
		return ask(world, visit, COMMIT_DESTINATION_EVENT_VERDICT_ABORTED);
	case COMMIT_DUTY_LEAVE:
		world->source.guardian_gone = true;
		return true;
	default:
		return false;
	}
}

static bool destination_guardian_steps(struct world *world)
{
	if (world->destination.guardian_gone)
		return false;
	enum commit_duty duty = commit_destination_guardian(world->destination.word, world->destination.dead);
	if (duty == COMMIT_DUTY_WATCH)
		return false;
	if (duty == COMMIT_DUTY_LEAVE) {
		world->destination.guardian_gone = true;
		return true;
	}
	unsigned who = chance(world, VISITS);
	if (world->visits[who].question == NONE)
		who = !who;
	struct visit *visit = &world->visits[who];
	if (visit->question == NONE)
		return false;
	world->destination.guardian_gone = visit->question != COMMIT_DESTINATION_EVENT_VERDICT_COMMITTED;
	bool answers = visit->question != COMMIT_DESTINATION_EVENT_VERDICT_FINISHED;
	int answer =
		duty == COMMIT_DUTY_ANSWER_GONE ? COMMIT_SOURCE_EVENT_ANSWER_GONE : COMMIT_SOURCE_EVENT_ANSWER_ENDED;
	*visit = (struct visit){NONE, answers ? answer : NONE};
	return true;
}

/* Bad luck; each kind may come at any step. */
static void misfortune(struct world *world)
{
	bool *victims[] = {&world->source.dead, &world->destination.dead, &world->source.guardian_gone,
			   &world->destination.guardian_gone};
	if (fault(world)) {
		unsigned victim = chance(world, 4);
		*victims[victim] = true;
		if (victim < 2)
			world->open = false;
	}
	if (world->cuts && chance(world, 30) == 0) {
		world->cuts--;
		world->open = false;
	}
	if (world->losses && chance(world, 10) == 0) {
		struct visit *visit = &world->visits[chance(world, VISITS)];
		world->losses--;
		if (visit->question != COMMIT_DESTINATION_EVENT_VERDICT_FINISHED)
			*visit = (struct visit){NONE, NONE};
	}
	if (world->cancels && chance(world, 40) == 0) {
		struct side *side = chance(world, 2) ? &world->source : &world->destination;
		if (side->event == NONE && !side->decided) {
			world->cancels--;
			side->event =
				side == &world->source ? COMMIT_SOURCE_EVENT_CANCEL : COMMIT_DESTINATION_EVENT_CANCEL;
		}
	}
}

static void walk(struct world *world, uint32_t number)
{
	bool (*const steps[])(struct world *) = {source_steps, destination_steps, source_guardian_steps,
						 destination_guardian_steps};
	bool moved = true;
	for (unsigned i = 0; i < STEPS_MAX && moved; i++) {
		misfortune(world);
		moved = steps[chance(world, 4)](world);
		for (unsigned j = 0; j < 4 && !moved; j++)
			moved = steps[j](world);
		check(world, number);
	}
	cr_assert_not(moved, "walk %u does not settle", number);
}

static struct world begin(uint32_t number, unsigned faults)
{
	return (struct world){
		.random = number * 2654435761u + 1,
		.source = {.event = NONE, .connected = true, .runs = true},
		.destination = {.event = NONE, .connected = true},
		.visits = {{NONE, NONE}, {NONE, NONE}},
		.open = true,
		.destination_listens = true,
		.faults_max = faults,
		.cuts = number % 2,
		.losses = number % 3,
		.cancels = number % 5 == 0,
	};
}

Test(migration_commit, two_never_run_whatever_dies)
{
	for (uint32_t number = 0; number < WALKS; number++) {
		struct world world = begin(number, number % 5);
		walk(&world, number);
	}
}

/* The side whose process had the only whole copy, or ran it, has died with it. */
static bool died_with_it(const struct world *world)
{
	if (world->source.dead && (!world->prepared || world->source.word == COMMIT_SOURCE_RESUMED))
		return true;
	return world->destination.dead && (world->destination.word == COMMIT_DESTINATION_RUNNING ||
					   world->destination.word == COMMIT_DESTINATION_RESOLVED);
}

Test(migration_commit, one_runs_in_the_end_whatever_one_thing_fails)
{
	unsigned moved = 0, resumed = 0, lost = 0;
	for (uint32_t number = 0; number < WALKS; number++) {
		struct world world = begin(number, 1);
		walk(&world, number);
		bool source_runs = world.source.runs && !world.source.dead;
		bool destination_runs = world.destination.runs && !world.destination.dead;
		cr_assert(source_runs || destination_runs || died_with_it(&world), "walk %u: nobody runs", number);
		moved += destination_runs;
		resumed += source_runs;
		lost += !source_runs && !destination_runs;
	}
	/* The walks lead everywhere. */
	cr_expect_gt(moved, WALKS / 100);
	cr_expect_gt(resumed, WALKS / 100);
	cr_expect_gt(lost, WALKS / 100);
}

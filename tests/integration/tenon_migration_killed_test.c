// SPDX-License-Identifier: MIT
/*
 * A migration whose source or destination is killed, or whose connection is cut, at each section that either side sends; and devices that
 * fail at each of their transitions. Never do two run, and never none while there is a whole guest somewhere.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "migration_proxy.h"
#include "migration_run.h"
#include "stream.h"

TestSuite(tenon_migration_killed, .init = movers_begin, .fini = movers_end, .timeout = 1400);

static const char *const state[] = {"--state-size=65536", NULL};

static const struct mover_plan plan = {.memory = "16M",
				       .append = "mode=load rate=300 size=512 hot=256 device-rate=20 tell=20",
				       .devices = 1,
				       .device_options = state};

/* ---- Where ---- */

struct point {
	enum section_type section;
	unsigned nth;
};

/* In the order in which they come. A number that a migration does not reach is passed over: rounds depend on the time they take. */
static const struct point points[] = {
	{SECTION_HELLO, 1},        {SECTION_DESCRIPTION, 1}, {SECTION_WELCOME, 1}, {SECTION_ZEROES, 1},
	{SECTION_PAGES, 1},        {SECTION_PAGES, 2},       {SECTION_ROUND, 1},   {SECTION_DEVICE_DATA, 1},
	{SECTION_INITIAL, 1},      {SECTION_ROUND, 2},       {SECTION_PAGES, 3},   {SECTION_DEVICE_DATA, 2},
	{SECTION_PART, 1},         {SECTION_PART, 2},        {SECTION_PART, 3},    {SECTION_PART, 4},
	{SECTION_PART, 5},         {SECTION_PART, 6},        {SECTION_PART, 7},    {SECTION_PART, 8},
	{SECTION_DEVICE_STATE, 1}, {SECTION_END, 1},         {SECTION_READY, 1},   {SECTION_COMMIT, 1},
	{SECTION_STARTED, 1},      {SECTION_DONE, 1},
};

#define POINTS (sizeof(points) / sizeof(points[0]))

/* Of the order of the protocol. */
static unsigned rank(enum section_type section)
{
	static const enum section_type last[] = {SECTION_END, SECTION_READY, SECTION_COMMIT, SECTION_STARTED,
						 SECTION_DONE};
	for (unsigned i = 0; i < sizeof(last) / sizeof(last[0]); i++)
		if (section == last[i])
			return i + 1;
	return 0;
}

/* How far a migration came before it was disturbed: what had arrived whole. */
static unsigned arrived(const struct proxy_plan *where)
{
	unsigned number = rank(where->section);
	return number && where->moment != PROXY_AFTER ? number - 1 : number;
}

enum { AT_END = 1, AT_READY, AT_COMMIT, AT_STARTED };

/* ---- Who runs ---- */

enum outcome { SOURCE_RUNS, DESTINATION_RUNS, EITHER, NOBODY };

/* As migration/commit.def has it. */
static enum outcome expected(const struct proxy_plan *where)
{
	unsigned at = arrived(where);
	switch (where->deed) {
	case PROXY_CUT:
		return at < AT_READY ? SOURCE_RUNS : DESTINATION_RUNS;
	case PROXY_KILL_SOURCE:
		/* Without END the destination never had all of the guest. */
		return at < AT_END ? NOBODY : DESTINATION_RUNS;
	default:
		/* It may have begun to run: then the guest died with it, as it would at any later time. */
		return at < AT_COMMIT ? SOURCE_RUNS : at == AT_COMMIT ? EITHER : NOBODY;
	}
}

static const char *deed_name(enum proxy_deed deed)
{
	static const char *const names[] = {"cut", "source killed", "destination killed"};
	return names[deed];
}

static void describe(const struct proxy_plan *where, char *text, size_t bytes)
{
	static const char *const moments[] = {"before", "amid", "after"};
	snprintf(text, bytes, "%s %s section %u, number %u", deed_name(where->deed), moments[where->moment],
		 where->section, where->nth);
}

/* A side that does not run any more has ended by itself, and says why if that is a failure. */
static void expect_gone(struct mover *side, bool killed, int status, const char *what)
{
	int ended = run_wait(&side->run, LONG_MS);
	cr_expect_eq(ended, killed ? 1000 + SIGKILL : status, "%s: status %d, '%s'", what, ended,
		     side->run.complained.bytes);
	if (!killed && status == 5)
		cr_expect(strstr(side->run.complained.bytes, "tenon: "), "%s: it does not say why", what);
	mover_drop(side);
}

/* Who has not yet said HELLO is nobody: the destination goes on waiting for a source, until it is told to end. */
static void expect_destination_gone(struct mover *destination, const struct proxy_plan *where, const char *what)
{
	bool killed = where->deed == PROXY_KILL_DESTINATION;
	bool waits = !killed && where->section == SECTION_HELLO && where->moment != PROXY_AFTER;
	if (waits)
		run_signal(&destination->run, SIGTERM);
	expect_gone(destination, killed, waits ? 128 + SIGTERM : 5, what);
}

/* DONE is on its way while the source ends: which of the two comes first is open. */
static void expect_source_gone(struct mover *source, const struct proxy_plan *where, bool killed, const char *what)
{
	if (where->deed != PROXY_KILL_SOURCE || where->section != SECTION_DONE) {
		expect_gone(source, killed, 0, what);
		return;
	}
	int ended = run_wait(&source->run, LONG_MS);
	cr_expect(ended == 0 || ended == 1000 + SIGKILL, "%s: status %d", what, ended);
	mover_drop(source);
}

static bool has_done_it(void *proxy)
{
	return proxy_did_it(proxy);
}

/* @return whether the guest lives, in *mover */
static bool disturb(struct mover *mover, struct proxy_plan *where, const char *more, unsigned *done)
{
	struct mover next;
	struct moved moved;
	char what[80];
	describe(where, what, sizeof(what));
	mover_start_destination(&next, &plan);
	where->source = mover->run.pid;
	where->destination = next.run.pid;
	struct proxy *proxy = proxy_start(where, next.address);
	mover_migrate(mover, proxy_address(proxy), more, &moved);

	if (moved.ok && where->section == SECTION_DONE) /* which nobody waits for */
		run_until(has_done_it, proxy);
	bool did_it = proxy_did_it(proxy);
	enum outcome outcome = did_it ? expected(where) : DESTINATION_RUNS;
	bool source_killed = did_it && where->deed == PROXY_KILL_SOURCE;
	bool alive = outcome != NOBODY;
	if (outcome == EITHER) {
		alive = !moved.ok;
		outcome = alive ? SOURCE_RUNS : NOBODY;
	}
	*done += did_it;
	if (outcome == SOURCE_RUNS) {
		cr_expect_not(moved.ok, "%s: %s", what, moved.end);
		mover_expect_goes_on(mover);
		expect_destination_gone(&next, where, what);
	} else if (outcome == DESTINATION_RUNS) {
		if (!source_killed)
			cr_expect(moved.ok, "%s: %s", what, moved.error);
		expect_source_gone(mover, where, source_killed, what);
		mover_expect_goes_on(&next);
		*mover = next;
	} else {
		expect_source_gone(mover, where, source_killed, what);
		expect_destination_gone(&next, where, what);
	}
	proxy_stop(proxy);
	return alive;
}

static void start(struct mover *mover)
{
	mover_start(mover, &plan, NULL);
	mover_expect_filled(mover);
	mover_expect_goes_on(mover);
}

/* At each point, in each moment. The guest that comes out of one is the one that goes into the next. */
static void disturb_everywhere(enum proxy_deed deed, unsigned least)
{
	struct mover mover;
	unsigned done = 0;
	start(&mover);
	for (unsigned i = 0; i < POINTS; i++) {
		for (enum proxy_moment moment = PROXY_BEFORE; moment <= PROXY_AFTER; moment++) {
#ifdef __SANITIZE_ADDRESS__
			if (moment == PROXY_AMID || (i % 3 && rank(points[i].section) == 0))
				continue;
#endif
			struct proxy_plan where = {
				.section = points[i].section, .nth = points[i].nth, .moment = moment, .deed = deed};
			if (!disturb(&mover, &where, NO_HURRY, &done))
				start(&mover);
		}
	}
	mover_quit(&mover);
	mover_drop(&mover);
	cr_expect_geq(done, least, "%u", done);
	printf("%s: %u times\n", deed_name(deed), done);
}

#ifdef __SANITIZE_ADDRESS__
#define LEAST 10
#else
#define LEAST 63
#endif

Test(tenon_migration_killed, the_connection_is_cut)
{
	disturb_everywhere(PROXY_CUT, LEAST);
}

Test(tenon_migration_killed, the_source_is_killed)
{
	disturb_everywhere(PROXY_KILL_SOURCE, LEAST);
}

Test(tenon_migration_killed, the_destination_is_killed)
{
	disturb_everywhere(PROXY_KILL_DESTINATION, LEAST);
}

/* Over several connections all of them end. */
Test(tenon_migration_killed, four_connections_are_cut)
{
	struct mover mover;
	unsigned done = 0;
	start(&mover);
	for (unsigned i = 0; i < POINTS; i++) {
		struct proxy_plan where = {.section = points[i].section,
					   .nth = points[i].nth,
					   .moment = (enum proxy_moment)(i % 3),
					   .deed = PROXY_CUT};
		if (!disturb(&mover, &where, NO_HURRY ",\"connections\":4", &done))
			start(&mover);
	}
	mover_quit(&mover);
	mover_drop(&mover);
	cr_expect_geq(done, LEAST / 4);
}

/* ---- Devices ---- */

/* A guest that is whole after what happened: it goes on, verifies all of its memory, and ends. */
static void expect_whole(struct mover *mover)
{
	mover_expect_goes_on(mover);
	mover_quit(mover);
}

enum end { NOT_OPENED, RESUMED, MOVED };

/* One message of a device fails. @return what became of the migration */
static enum end fail_at(const char *command, unsigned nth, bool at_source)
{
	char fault[64];
	const char *const options[] = {"--state-size=65536", fault, NULL};
	struct mover_plan faulty = plan;
	struct mover mover, next;
	struct moved moved = {0};
	snprintf(fault, sizeof(fault), "--fault=error=5@%s#%u", command, nth);
	faulty.device_options = options;
	mover_start(&mover, at_source ? &faulty : &plan, NULL);
	if (!run_expect_or_end(&mover.run, "# load pages=", LONG_MS)) {
		cr_expect(strstr(mover.run.complained.bytes, "tenon-testdev"), "%s: '%s'", fault,
			  mover.run.complained.bytes);
		mover_drop(&mover);
		return NOT_OPENED;
	}
	mover_start(&next, at_source ? &plan : &faulty, "tcp:127.0.0.1:0");
	bool opened = run_expect_or_end(&next.run, "waiting for a source at ", PATIENCE_MS);
	if (opened) {
		mover_expect_listening(&next);
		mover_migrate(&mover, next.address, NO_HURRY, &moved);
		cr_expect(moved.ok || strstr(moved.error, "tenon-testdev"), "%s: '%s'", fault, moved.error);
	}
	if (opened && !moved.ok && !moved.rounds)
		run_signal(&next.run, SIGTERM); /* it may never have heard of a source */
	expect_whole(moved.ok ? &next : &mover);
	run_wait(moved.ok ? &mover.run : &next.run, PATIENCE_MS);
	mover_drop(&mover);
	mover_drop(&next);
	return moved.ok ? MOVED : opened ? RESUMED : NOT_OPENED;
}

/* More of each than a migration has. */
#ifdef __SANITIZE_ADDRESS__
#define FEATURES 14
#define DATA     1
#else
#define FEATURES 24
#define DATA     3
#endif
/* RESUMING, STOP, RUNNING_P2P, RUNNING at a destination; a source has more of them. */
#define TRANSITIONS_LEAST 3

Test(tenon_migration_killed, a_device_of_the_source_fails_at_each_transition)
{
	unsigned resumed = 0;
	for (unsigned nth = 1; nth <= FEATURES; nth++)
		resumed += fail_at("feature", nth, true) == RESUMED;
	cr_expect_geq(resumed, TRANSITIONS_LEAST, "%u", resumed);
}

Test(tenon_migration_killed, a_device_of_the_destination_fails_at_each_transition)
{
	unsigned resumed = 0;
	for (unsigned nth = 1; nth <= FEATURES; nth++)
		resumed += fail_at("feature", nth, false) == RESUMED;
	cr_expect_geq(resumed, TRANSITIONS_LEAST, "%u", resumed);
}

Test(tenon_migration_killed, a_device_fails_while_its_data_is_read_or_written)
{
	for (unsigned nth = 1; nth <= DATA; nth++) {
		cr_expect_eq(fail_at("mig-data-read", nth, true), RESUMED, "%u", nth);
		cr_expect_eq(fail_at("mig-data-write", nth, false), RESUMED, "%u", nth);
	}
}

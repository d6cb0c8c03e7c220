// SPDX-License-Identifier: MIT
/* Guests that move between processes: over every kind of connection, with devices that watch, and what must not move. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "layout.h"
#include "migration_run.h"
#include "tenon_guest.h"

/* A gibibyte moves so often; a sanitizer makes each move many times as long. */
#ifdef __SANITIZE_ADDRESS__
#define MOVES       2
#define MOVED_STATE "1048576"
#define MOVED_PLAN  "64M"
#define MOVED_LOAD  "mode=load rate=2000 size=16384 hot=8192 peer=1 device-rate=200 tell=100"
#else
#define MOVES       100
#define MOVED_STATE "67108864"
#define MOVED_PLAN  "1G"
/* All but the 8 MiB that the firmware has for itself. */
#define MOVED_LOAD  "mode=load rate=2000 size=1040384 hot=65536 peer=1 device-rate=200 tell=100"
#endif

TestSuite(tenon_migration, .init = movers_begin, .fini = movers_end, .timeout = 1400);

#define SMALL_LOAD "mode=load rate=500 size=1024 hot=256 peer=1 device-rate=20 tell=50"

static const char *const small_state[] = {"--state-size=65536", NULL};

static const struct mover_plan small = {
	.memory = "24M", .append = SMALL_LOAD, .devices = 1, .device_options = small_state};

static void start(struct mover *mover, const struct mover_plan *plan)
{
	mover_start(mover, plan, NULL);
	mover_expect_filled(mover);
	mover_expect_goes_on(mover);
}

static void end(struct mover *mover)
{
	mover_quit(mover);
	mover_finish(mover);
}

/* ---- Again and again ---- */

/* Each destination is then the source of the next. Whatever a move damages, the guest finds at once or when it verifies all in the end. */
Test(tenon_migration, a_full_guest_with_three_devices_moves_again_and_again)
{
	static const char *const device_options[] = {"--state-size=" MOVED_STATE, NULL};
	static const struct mover_plan plan = {
		.memory = MOVED_PLAN, .append = MOVED_LOAD, .devices = 3, .device_options = device_options};
	struct mover mover;
	struct moved moved;
	uint64_t total = 0, downtime = 0, longest = 0;
	start(&mover, &plan);
	cr_assert(strstr(mover.run.said.bytes, "devices=3"), "%s", mover.run.said.bytes);
	cr_assert(strstr(mover.run.said.bytes, " peers\r"), "%s", mover.run.said.bytes);
	for (unsigned i = 0; i < MOVES; i++) {
		mover_move(&mover, &plan, "\"downtime-limit-ms\":1000", &moved);
		mover_expect_goes_on(&mover);
		total += moved.total_ns;
		downtime += moved.downtime_ns;
		longest = moved.downtime_ns > longest ? moved.downtime_ns : longest;
	}
	end(&mover);
	printf("%d moves: %.2f s each, downtime %.1f ms, at most %.1f ms\n", MOVES, (double)total / 1e9 / MOVES,
	       (double)downtime / 1e6 / MOVES, (double)longest / 1e6);
}

/* ---- Connections ---- */

Test(tenon_migration, over_four_connections)
{
	struct mover mover;
	struct moved moved;
	start(&mover, &small);
	for (unsigned i = 0; i < 3; i++) {
		mover_move(&mover, &small, NO_HURRY ",\"connections\":4", &moved);
		mover_expect_goes_on(&mover);
	}
	end(&mover);
}

static void move_to(struct mover *mover, struct mover *next, const char *address, int passed)
{
	struct talk talk;
	struct moved moved;
	mover_migrate_begin(mover, address, NO_HURRY, passed, &talk);
	mover_migrate_end(&talk, &moved);
	if (!moved.ok)
		run_wait(&next->run, PATIENCE_MS);
	cr_assert(moved.ok, "%s; the destination said '%s'", moved.error, next->run.complained.bytes);
	cr_assert_eq(run_wait(&mover->run, PATIENCE_MS), 0, "%s", mover->run.complained.bytes);
	mover_finish(mover);
	*mover = *next;
	mover_expect_goes_on(mover);
}

Test(tenon_migration, over_a_unix_socket)
{
	struct mover mover, next;
	char folder[] = "/tmp/tenon-mover-XXXXXX", address[64];
	cr_assert(mkdtemp(folder));
	snprintf(address, sizeof(address), "unix:%s/socket", folder);
	start(&mover, &small);
	mover_start(&next, &small, address);
	mover_expect_listening(&next);
	move_to(&mover, &next, next.address, -1);
	end(&mover);
	cr_expect_eq(rmdir(folder), 0, "the socket is left behind");
}

Test(tenon_migration, over_two_ends_that_were_passed)
{
	const struct mover_plan alone = {.memory = "24M", .append = SMALL_LOAD};
	struct mover mover, next;
	char address[32];
	int ends[2];
	start(&mover, &alone);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	cr_assert_eq(fcntl(ends[0], F_SETFD, FD_CLOEXEC), 0);
	snprintf(address, sizeof(address), "fd:%d", ends[1]);
	mover_start(&next, &alone, address);
	close(ends[1]);
	mover_expect_listening(&next);
	snprintf(address, sizeof(address), "fd:%d", ends[0]);
	move_to(&mover, &next, address, ends[0]);
	close(ends[0]);
	end(&mover);
}

/* ---- Snapshots ---- */

Test(tenon_migration, a_snapshot_is_restored_as_often_as_wished)
{
	struct mover mover, restored;
	struct moved moved;
	char folder[] = "/tmp/tenon-mover-XXXXXX", address[64];
	cr_assert(mkdtemp(folder));
	snprintf(address, sizeof(address), "file:%s/guest", folder);
	start(&mover, &small);
	mover_migrate(&mover, address, NO_HURRY, &moved);
	cr_assert(moved.ok, "%s", moved.error);
	cr_expect_str_eq(moved.end, "saved");
	mover_expect_goes_on(&mover);
	/* What is there is not overwritten. */
	mover_migrate(&mover, address, NO_HURRY, &moved);
	cr_expect_not(moved.ok);
	mover_expect_goes_on(&mover);
	for (unsigned i = 0; i < 2; i++) {
		mover_start(&restored, &small, address);
		mover_expect_goes_on(&restored);
		mover_quit(&restored);
		mover_finish(&restored);
	}
	end(&mover);
	cr_expect_eq(unlink(address + strlen("file:")), 0);
	cr_expect_eq(rmdir(folder), 0, "something else is left behind");
}

Test(tenon_migration, a_snapshot_can_be_the_end_of_the_vm)
{
	struct mover mover, restored;
	struct moved moved;
	char folder[] = "/tmp/tenon-mover-XXXXXX", address[64];
	cr_assert(mkdtemp(folder));
	snprintf(address, sizeof(address), "file:%s/guest", folder);
	start(&mover, &small);
	mover_migrate(&mover, address, NO_HURRY ",\"stay-stopped\":true", &moved);
	cr_assert(moved.ok, "%s", moved.error);
	cr_assert_eq(run_wait(&mover.run, PATIENCE_MS), 0, "%s", mover.run.complained.bytes);
	mover_finish(&mover);
	mover_start(&restored, &small, address);
	mover_expect_goes_on(&restored);
	end(&restored);
	unlink(address + strlen("file:"));
	cr_expect_eq(rmdir(folder), 0);
}

/* ---- What ends a migration before its time ---- */

/* The destination of a migration that failed says why, and is gone. */
static void expect_refused(struct mover *destination, const char *why)
{
	int status = run_wait(&destination->run, PATIENCE_MS);
	cr_expect(status == 1 || status == 5, "status %d: %s", status, destination->run.complained.bytes);
	cr_expect(strstr(destination->run.complained.bytes, why), "%s", destination->run.complained.bytes);
	mover_finish(destination);
}

/* With this, no round is ever the last: the switch itself takes longer. */
#define NEVER_ENOUGH "\"downtime-limit-ms\":1,\"rounds\":100000"

Test(tenon_migration, a_downtime_limit_is_kept_or_refused)
{
	struct mover mover, next;
	struct moved moved;
	start(&mover, &small);
	mover_start_destination(&next, &small);
	mover_migrate(&mover, next.address, "\"downtime-limit-ms\":1,\"rounds\":3", &moved);
	cr_expect_not(moved.ok);
	cr_expect(strstr(moved.error, "--downtime-limit"), "%s", moved.error);
	cr_expect_eq(moved.rounds, 3, "%u rounds", moved.rounds);
	expect_refused(&next, "--downtime-limit");
	mover_expect_goes_on(&mover);
	mover_move(&mover, &small, "\"downtime-limit-ms\":2000", &moved);
	cr_expect_leq(moved.estimate_ns, 2000000000);
	mover_expect_goes_on(&mover);
	mover_start_destination(&next, &small);
	mover_migrate(&mover, next.address, "\"downtime-limit-ms\":1,\"rounds\":2,\"force\":true", &moved);
	cr_expect(moved.ok, "%s", moved.error);
	mover_expect_goes_on(&next);
	cr_expect_eq(run_wait(&mover.run, PATIENCE_MS), 0);
	mover_finish(&mover);
	end(&next);
}

Test(tenon_migration, cancelled_in_pre_copy_it_leaves_the_guest_where_it_was)
{
	struct mover mover, next;
	struct talk talk;
	struct moved moved;
	struct tenon_error error;
	start(&mover, &small);
	cr_expect_neq(mover_ask(&mover, "{\"command\":\"migrate-cancel\"}", &error), 0, "nothing is to be cancelled");
	mover_start_destination(&next, &small);
	mover_migrate_begin(&mover, next.address, NEVER_ENOUGH, -1, &talk);
	mover_migrate_expect(&talk, "pre-copy", 3);
	cr_expect_eq(mover_ask(&mover, "{\"command\":\"migrate-cancel\"}", &error), 0, "%s", error.message);
	mover_migrate_end(&talk, &moved);
	cr_expect_not(moved.ok);
	cr_expect(strstr(moved.error, "cancelled"), "%s", moved.error);
	expect_refused(&next, "migration"); /* the connection may have ended before it could be told why */
	mover_expect_goes_on(&mover);
	mover_move(&mover, &small, NO_HURRY, &moved);
	mover_expect_goes_on(&mover);
	end(&mover);
}

Test(tenon_migration, other_requests_are_answered_meanwhile)
{
	static const char *const answered[] = {"{\"command\":\"status\"}", "{\"command\":\"devices\"}",
					       "{\"command\":\"migrate-status\"}"};
	struct mover mover, next;
	struct talk talk;
	struct moved moved;
	struct tenon_error error;
	start(&mover, &small);
	mover_start_destination(&next, &small);
	mover_migrate_begin(&mover, next.address, NEVER_ENOUGH, -1, &talk);
	mover_migrate_expect(&talk, "pre-copy", 2);
	for (unsigned i = 0; i < sizeof(answered) / sizeof(answered[0]); i++) {
		cr_expect_eq(mover_ask(&mover, answered[i], &error), 0, "%s: %s", answered[i], error.message);
		cr_expect_eq(mover_ask(&next, answered[i], &error), 0, "%s: %s", answered[i], error.message);
	}
	/* What would change the machine under its feet is refused. */
	cr_expect_eq(mover_ask(&mover, "{\"command\":\"migrate\",\"address\":\"tcp:127.0.0.1:1\"}", &error),
		     -EREMOTEIO);
	cr_expect(strstr(error.message, "under way"), "%s", error.message);
	cr_expect_eq(mover_ask(&mover, "{\"command\":\"migrate-resolve\",\"choose\":\"run\"}", &error), -EREMOTEIO);
	cr_expect_eq(mover_ask(&mover, "{\"command\":\"migrate-cancel\"}", &error), 0, "%s", error.message);
	mover_migrate_end(&talk, &moved);
	cr_expect_not(moved.ok);
	expect_refused(&next, "migration"); /* the connection may have ended before it could be told why */
	mover_expect_goes_on(&mover);
	end(&mover);
}

/* ---- Machines that are not alike ---- */

static void refuses(const struct mover_plan *other, const char *why)
{
	struct mover mover, next;
	struct moved moved;
	start(&mover, &small);
	mover_start_destination(&next, other);
	mover_migrate(&mover, next.address, NULL, &moved);
	cr_expect_not(moved.ok);
	cr_expect(strstr(moved.error, why), "%s", moved.error);
	expect_refused(&next, why);
	mover_expect_goes_on(&mover);
	end(&mover);
}

Test(tenon_migration, less_memory_is_refused)
{
	const struct mover_plan other = {
		.memory = "16M", .append = SMALL_LOAD, .devices = 1, .device_options = small_state};
	refuses(&other, "--memory");
}

Test(tenon_migration, a_device_that_is_missing_is_refused)
{
	const struct mover_plan other = {.memory = "24M", .append = SMALL_LOAD};
	refuses(&other, "--device");
}

Test(tenon_migration, a_device_too_many_is_refused)
{
	const struct mover_plan other = {
		.memory = "24M", .append = SMALL_LOAD, .devices = 2, .device_options = small_state};
	refuses(&other, "--device");
}

Test(tenon_migration, a_device_that_cannot_take_part_is_refused_by_name)
{
	static const char *const options[] = {"--no-migration", NULL};
	const struct mover_plan other = {
		.memory = "24M", .append = SMALL_LOAD, .devices = 1, .device_options = options};
	refuses(&other, "tenon-testdev");
}

Test(tenon_migration, two_devices_without_p2p_are_refused_by_name_before_anything_starts)
{
	static const char *const options[] = {"--state-size=65536", "--no-p2p", NULL};
	const struct mover_plan plan = {.memory = "24M", .append = SMALL_LOAD, .devices = 2, .device_options = options};
	struct mover mover;
	struct moved moved;
	start(&mover, &plan);
	mover_migrate(&mover, "tcp:127.0.0.1:1", NULL, &moved);
	cr_expect_not(moved.ok);
	cr_expect(strstr(moved.error, mover.devices[0].path) || strstr(moved.error, mover.devices[1].path), "%s",
		  moved.error);
	mover_expect_goes_on(&mover);
	end(&mover);
}

Test(tenon_migration, nobody_at_the_address_is_said)
{
	struct mover mover;
	struct moved moved;
	start(&mover, &small);
	mover_migrate(&mover, "tcp:127.0.0.1:1", NULL, &moved);
	cr_expect_not(moved.ok);
	cr_expect(strstr(moved.error, "tcp:127.0.0.1:1"), "%s", moved.error);
	mover_expect_goes_on(&mover);
	end(&mover);
}

/* ---- Guests that end while they move ---- */

static void ends_in_pre_copy(const char *command, int status)
{
	static const char *const options[] = {"--exit-device", NULL};
	const struct mover_plan talker = {
		.memory = "24M", .kernel = guest_interpreter(), .append = "pH", .run_options = options};
	struct mover mover, next;
	struct talk talk;
	struct moved moved;
	mover_start(&mover, &talker, NULL);
	run_expect(&mover.run, "H", 1);
	mover_start_destination(&next, &talker);
	mover_migrate_begin(&mover, next.address, NEVER_ENOUGH, -1, &talk);
	mover_migrate_expect(&talk, "pre-copy", 2);
	run_send(&mover.run, command);
	mover_migrate_end(&talk, &moved);
	cr_expect_not(moved.ok, "%s", moved.end);
	cr_expect_eq(run_wait(&mover.run, PATIENCE_MS), status, "%s", mover.run.complained.bytes);
	run_wait(&next.run, PATIENCE_MS);
	cr_expect_eq(run_count(&next.run.said, "H"), 0, "it ran at the destination, too");
	mover_finish(&mover);
	mover_finish(&next);
}

Test(tenon_migration, a_guest_that_switches_itself_off_in_pre_copy_is_off)
{
	ends_in_pre_copy("o", 0);
}

Test(tenon_migration, a_guest_that_crashes_in_pre_copy_has_crashed)
{
	ends_in_pre_copy("t", 4);
}

Test(tenon_migration, a_guest_that_ends_with_a_status_in_pre_copy_has_that_status)
{
	ends_in_pre_copy("xah", 7);
}

Test(tenon_migration, a_guest_that_resets_in_pre_copy_begins_anew_where_it_was)
{
	const struct mover_plan plan = {.memory = "24M", .kernel = guest_interpreter(), .append = "b"};
	struct mover mover, next;
	struct talk talk;
	struct moved moved;
	mover_start(&mover, &plan, NULL);
	run_expect(&mover.run, "B1", 1);
	mover_start_destination(&next, &plan);
	mover_migrate_begin(&mover, next.address, NEVER_ENOUGH, -1, &talk);
	mover_migrate_expect(&talk, "pre-copy", 2);
	run_send(&mover.run, "r");
	run_expect(&mover.run, "B1", 2);
	struct tenon_error error;
	mover_ask(&mover, "{\"command\":\"migrate-cancel\"}", &error); /* it may have ended by itself */
	mover_migrate_end(&talk, &moved);
	cr_expect_not(moved.ok, "%s", moved.end);
	run_wait(&next.run, PATIENCE_MS);
	mover_finish(&next);
	/* It moves as it is after the reset. */
	mover_move(&mover, &plan, NO_HURRY, &moved);
	run_send(&mover.run, "pXo");
	cr_expect_eq(run_wait(&mover.run, PATIENCE_MS), 0, "%s", mover.run.complained.bytes);
	cr_expect(strstr(mover.run.said.bytes, "X"), "'%s'", mover.run.said.bytes);
	mover_finish(&mover);
}

/* ---- The serial port ---- */

Test(tenon_migration, who_types_before_and_after_is_echoed_before_and_after)
{
	const struct mover_plan plan = {.memory = "24M", .kernel = guest_interpreter(), .append = "e"};
	struct mover mover;
	struct moved moved;
	mover_start(&mover, &plan, NULL);
	run_send(&mover.run, "before");
	run_expect(&mover.run, "before", 1);
	for (unsigned i = 0; i < 3; i++) {
		mover_move(&mover, &plan, NO_HURRY, &moved);
		run_send(&mover.run, "and after");
		run_expect(&mover.run, "and after", 1);
		cr_expect_not(strstr(mover.run.said.bytes, "before"), "%s", mover.run.said.bytes);
	}
	run_signal(&mover.run, SIGTERM);
	cr_expect_eq(run_wait(&mover.run, ENDING_MS), 128 + SIGTERM);
	mover_finish(&mover);
}

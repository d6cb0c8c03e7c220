// SPDX-License-Identifier: MIT
/*
 * Both sides of a migration against each other, over a real socket: what arrives is what was sent, in the order of the contract, and whatever
 * fails before the commit point leaves the source running as it was and the destination not running.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "migration_machine.h"

struct side {
	struct test_machine machine;
	struct tenon_incoming *incoming;
	pthread_t thread;
	int code;
	struct tenon_error error;
};

static char folder[] = "/tmp/tenon-conductor-XXXXXX";
static char address[64];
static struct side source, destination;

static void set_up(unsigned devices)
{
	strcpy(folder, "/tmp/tenon-conductor-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(address, sizeof(address), "unix:%s/socket", folder);
	machine_init(&source.machine, devices, true);
	machine_init(&destination.machine, devices, false);
	destination.machine.hot_pages = 0; /* so that what came can be compared */
}

static void tear_down(void)
{
	machine_finish(&source.machine);
	machine_finish(&destination.machine);
	char path[96];
	snprintf(path, sizeof(path), "%s/snapshot", folder);
	unlink(path);
	cr_expect_eq(rmdir(folder), 0, "something is left in %s", folder);
}

static void *receive(void *argument)
{
	struct side *side = argument;
	side->code = tenon_incoming_run(side->incoming, &side->error);
	if (side->code == 0)
		tenon_incoming_settle(side->incoming);
	return NULL;
}

static void listen_at(const char *where)
{
	const struct tenon_incoming_options options = {.size = sizeof(options), .address = where};
	int code =
		tenon_incoming_create(&destination.machine.what, &options, &destination.incoming, &destination.error);
	cr_assert_eq(code, 0, "%s", destination.error.message);
	cr_assert_eq(pthread_create(&destination.thread, NULL, receive, &destination), 0);
}

/* A destination that nobody reached is told to stop. */
static void stop_listening(void)
{
	tenon_incoming_cancel(destination.incoming);
	pthread_join(destination.thread, NULL);
	tenon_incoming_destroy(destination.incoming);
}

static enum tenon_outgoing_end send_to(struct tenon_outgoing_options options)
{
	struct tenon_outgoing *outgoing = NULL;
	options.size = sizeof(options);
	if (!options.address)
		options.address = address;
	if (!options.downtime_limit_ns)
		options.downtime_limit_ns = 5000000000u; /* not what this is about */
	int code = tenon_outgoing_create(&source.machine.what, &options, &outgoing, &source.error);
	cr_assert_eq(code, 0, "%s", source.error.message);
	enum tenon_outgoing_end end = tenon_outgoing_run(outgoing, &source.error);
	tenon_outgoing_destroy(outgoing);
	return end;
}

static void expect_moved(enum tenon_outgoing_end end)
{
	cr_assert_eq(end, TENON_OUTGOING_MOVED, "source: %s", source.error.message);
	cr_assert_eq(destination.code, 0, "destination: %s", destination.error.message);
	cr_expect(!machine_runs(&source.machine));
	cr_expect(machine_runs(&destination.machine));
	cr_expect(machine_equal(&source.machine, &destination.machine));
	for (unsigned i = 0; i < destination.machine.device_count; i++) {
		cr_expect_eq(destination.machine.devices[i].state, TENON_MIGRATION_RUNNING);
		cr_expect(destination.machine.devices[i].has_emulated);
	}
}

static void expect_resumed(enum tenon_outgoing_end end, const char *why)
{
	cr_assert_eq(end, TENON_OUTGOING_RESUMED);
	cr_expect(strstr(source.error.message, why), "\"%s\" does not say \"%s\"", source.error.message, why);
	cr_expect_lt(destination.code, 0);
	cr_expect(machine_runs(&source.machine));
	cr_expect(!machine_runs(&destination.machine));
	cr_expect(!source.machine.logging);
	for (unsigned i = 0; i < source.machine.device_count; i++)
		cr_expect_eq(source.machine.devices[i].state, TENON_MIGRATION_RUNNING);
}

static void expect_contract_kept(void)
{
	cr_expect_eq(machine_violations(&source.machine), 0);
	cr_expect_eq(machine_violations(&destination.machine), 0);
}

/* ---- It moves ---- */

struct move {
	unsigned devices, connections;
	bool p2p, pre_copy;
};

ParameterizedTestParameters(migration_conductor, a_machine_moves_whole)
{
	static struct move moves[] = {
		{0, 1, true, true},  {1, 1, true, true}, {1, 1, false, true}, {1, 1, false, false},
		{3, 1, true, false}, {3, 1, true, true}, {3, 4, true, true},  {0, 8, true, true},
	};
	return cr_make_param_array(struct move, moves, sizeof(moves) / sizeof(moves[0]));
}

ParameterizedTest(struct move *move, migration_conductor, a_machine_moves_whole)
{
	set_up(move->devices);
	for (unsigned i = 0; i < move->devices; i++) {
		source.machine.devices[i].p2p = destination.machine.devices[i].p2p = move->p2p;
		source.machine.devices[i].pre_copy = destination.machine.devices[i].pre_copy = move->pre_copy;
	}
	listen_at(address);
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){.connections = move->connections});
	pthread_join(destination.thread, NULL);
	expect_moved(end);
	expect_contract_kept();
	tenon_incoming_destroy(destination.incoming);
	tear_down();
}

static void keep_progress(void *context, const struct tenon_migration_progress *progress)
{
	*(struct tenon_migration_progress *)context = *progress;
}

#define SLOW_BYTES 4000000u /* a second */

struct estimates {
	uint64_t left_bytes; /* the most */
	bool too_short;
};

/* What is dirty after the first round is dirty from its beginning. */
static void judge_estimate(void *context, const struct tenon_migration_progress *progress)
{
	struct estimates *estimates = context;
	if (progress->phase != TENON_MIGRATION_PHASE_PRE_COPY)
		return;
	if (progress->round && !progress->downtime_estimate_ns)
		__atomic_fetch_or(&source.machine.dirty[0], 0xffff, __ATOMIC_SEQ_CST);
	if (!progress->downtime_estimate_ns)
		return;
	if (progress->left_bytes > estimates->left_bytes)
		estimates->left_bytes = progress->left_bytes;
	if (progress->downtime_estimate_ns < progress->left_bytes * 1000000000 / SLOW_BYTES)
		estimates->too_short = true;
}

Test(migration_conductor, what_is_left_counts_in_the_estimate_though_rounds_were_too_small_to_measure)
{
	for (unsigned compress = 0; compress < 2; compress++) {
		const size_t from = 64 * TENON_MIGRATION_PAGE_BYTES;
		struct estimates estimates = {0};
		set_up(0);
		memset(source.machine.memory + from, 0, MACHINE_RAM_BYTES - from);
		listen_at(address);
		enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){.bytes_per_second = SLOW_BYTES,
										      .compress = compress,
										      .progress = judge_estimate,
										      .progress_context = &estimates});
		pthread_join(destination.thread, NULL);
		expect_moved(end);
		cr_expect_geq(estimates.left_bytes, 16 * TENON_MIGRATION_PAGE_BYTES);
		cr_expect(!estimates.too_short);
		tenon_incoming_destroy(destination.incoming);
		tear_down();
	}
}

/* RAM of the test machine is random; half of it is not, here. */
Test(migration_conductor, a_machine_moves_with_its_pages_compressed)
{
	const size_t from = 64 * TENON_MIGRATION_PAGE_BYTES,
		     to = MACHINE_RAM_BYTES / 2; /* the guest writes before that */
	struct tenon_migration_progress progress = {0};
	set_up(1);
	memset(source.machine.memory + from, 0x5a, to - from);
	listen_at(address);
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){
		.connections = 2, .compress = true, .progress = keep_progress, .progress_context = &progress});
	pthread_join(destination.thread, NULL);
	expect_moved(end);
	expect_contract_kept();
	cr_expect_lt(progress.sent_bytes, progress.pages * TENON_MIGRATION_PAGE_BYTES);
	tenon_incoming_destroy(destination.incoming);
	tear_down();
}

Test(migration_conductor, a_compressed_snapshot_is_a_machine_that_goes_on_later)
{
	char file[96];
	set_up(1);
	memset(source.machine.memory + MACHINE_RAM_BYTES / 2, 0x5a, MACHINE_RAM_BYTES / 2);
	snprintf(file, sizeof(file), "file:%s/snapshot", folder);
	enum tenon_outgoing_end end =
		send_to((struct tenon_outgoing_options){.address = file, .stay_stopped = true, .compress = true});
	cr_assert_eq(end, TENON_OUTGOING_SAVED, "%s", source.error.message);
	listen_at(file);
	pthread_join(destination.thread, NULL);
	cr_assert_eq(destination.code, 0, "%s", destination.error.message);
	cr_expect(machine_equal(&source.machine, &destination.machine));
	expect_contract_kept();
	tenon_incoming_destroy(destination.incoming);
	tear_down();
}

Test(migration_conductor, one_device_without_p2p_among_others_moves)
{
	set_up(3);
	source.machine.devices[1].p2p = destination.machine.devices[1].p2p = false;
	listen_at(address);
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){0});
	pthread_join(destination.thread, NULL);
	expect_moved(end);
	expect_contract_kept();
	tenon_incoming_destroy(destination.incoming);
	tear_down();
}

Test(migration_conductor, a_device_that_nobody_tracks_moves_when_that_is_forced)
{
	set_up(2);
	source.machine.devices[0].dirty = TENON_DIRTY_NONE;
	listen_at(address);
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){.assume_all_dirty = true});
	pthread_join(destination.thread, NULL);
	expect_moved(end);
	expect_contract_kept();
	tenon_incoming_destroy(destination.incoming);
	tear_down();
}

Test(migration_conductor, a_snapshot_is_a_machine_that_goes_on_later)
{
	char file[96];
	set_up(2);
	snprintf(file, sizeof(file), "file:%s/snapshot", folder);
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){.address = file, .stay_stopped = true});
	cr_assert_eq(end, TENON_OUTGOING_SAVED, "%s", source.error.message);
	listen_at(file);
	pthread_join(destination.thread, NULL);
	cr_assert_eq(destination.code, 0, "%s", destination.error.message);
	cr_expect(machine_equal(&source.machine, &destination.machine));
	expect_contract_kept();
	tenon_incoming_destroy(destination.incoming);
	tear_down();
}

Test(migration_conductor, a_guest_goes_on_after_its_snapshot)
{
	char file[96];
	set_up(2);
	snprintf(file, sizeof(file), "file:%s/snapshot", folder);
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){.address = file});
	cr_assert_eq(end, TENON_OUTGOING_SAVED, "%s", source.error.message);
	cr_expect(machine_runs(&source.machine));
	expect_contract_kept();
	tear_down();
}

/* ---- It does not ---- */

static void expect_refusal(const char *why)
{
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){0});
	stop_listening();
	expect_resumed(end, why);
	expect_contract_kept();
	tear_down();
}

Test(migration_conductor, two_devices_without_p2p_are_refused_by_name)
{
	set_up(3);
	source.machine.devices[0].p2p = source.machine.devices[2].p2p = false;
	listen_at(address);
	expect_refusal("device-0: has no P2P");
}

Test(migration_conductor, a_device_that_cannot_be_migrated_is_refused_by_name)
{
	set_up(2);
	source.machine.devices[1].migratable = false;
	listen_at(address);
	expect_refusal("device-1: made so by the test");
}

Test(migration_conductor, a_device_that_nobody_tracks_is_refused_by_name)
{
	set_up(2);
	source.machine.devices[1].dirty = TENON_DIRTY_NONE;
	listen_at(address);
	expect_refusal("device-1: made so by the test");
}

Test(migration_conductor, a_machine_of_another_kind_is_refused_in_the_destinations_words)
{
	set_up(1);
	destination.machine.description = "another machine";
	listen_at(address);
	expect_refusal("destination: the source is a machine of another kind; start one like it");
}

Test(migration_conductor, a_destination_with_other_devices_is_refused)
{
	set_up(2);
	destination.machine.what.device_count = 1;
	listen_at(address);
	expect_refusal("devices");
}

/* Whoever looks at the port, then or at the last moment, holds nobody up. */
Test(migration_conductor, a_stranger_at_the_port_is_no_hindrance)
{
	struct tenon_channel *strangers[3] = {NULL};
	const struct tenon_channel_options patient = {.size = sizeof(patient), .timeout_ms = 60000};
	set_up(1);
	listen_at(address);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(tenon_channel_connect(address, &patient, &strangers[i], NULL), 0);
	tenon_channel_close(strangers[0]);
	tenon_channel_close(strangers[1]);
	tenon_channel_end(strangers[2]); /* says nothing, and stays */
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){0});
	pthread_join(destination.thread, NULL);
	expect_moved(end);
	tenon_channel_close(strangers[2]);
	tenon_incoming_destroy(destination.incoming);
	tear_down();
}

Test(migration_conductor, nobody_decides_where_nothing_waits)
{
	struct tenon_outgoing *outgoing = NULL;
	const struct tenon_outgoing_options options = {.size = sizeof(options), .address = address};
	set_up(0);
	cr_assert_eq(tenon_outgoing_create(&source.machine.what, &options, &outgoing, NULL), 0);
	cr_expect_eq(tenon_outgoing_resolve(outgoing, true), -ENOENT);
	tenon_outgoing_destroy(outgoing);
	listen_at(address);
	cr_expect_eq(tenon_incoming_resolve(destination.incoming, true), -ENOENT);
	stop_listening();
	tear_down();
}

Test(migration_conductor, a_destination_that_is_not_there_leaves_the_guest_running)
{
	set_up(1);
	destination.code = -1;
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){0});
	expect_resumed(end, "unix:");
	expect_contract_kept();
	tear_down();
}

Test(migration_conductor, a_guest_that_writes_faster_than_it_is_sent_is_left_running)
{
	set_up(0);
	listen_at(address);
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){.downtime_limit_ns = 1, .rounds = 4});
	stop_listening();
	expect_resumed(end, "after 4 rounds");
	tear_down();
}

Test(migration_conductor, force_moves_a_guest_that_writes_faster_than_it_is_sent)
{
	set_up(0);
	listen_at(address);
	enum tenon_outgoing_end end =
		send_to((struct tenon_outgoing_options){.downtime_limit_ns = 1, .rounds = 2, .force = true});
	pthread_join(destination.thread, NULL);
	expect_moved(end);
	tenon_incoming_destroy(destination.incoming);
	tear_down();
}

/* ---- Something fails on the way ---- */

struct failure {
	enum device_call call;
	unsigned device, at;
	bool at_destination;
};

/* Each transition of each device, and each other call, fails once. */
ParameterizedTestParameters(migration_conductor, a_device_that_fails_leaves_the_guest_at_the_source)
{
	static struct failure failures[64];
	unsigned count = 0;
	for (unsigned device = 0; device < MACHINE_DEVICES; device++) {
		for (unsigned at = 1; at <= 3; at++) /* PRE_COPY, PRE_COPY_P2P, STOP_COPY */
			failures[count++] = (struct failure){CALL_SET, device, at, false};
		for (unsigned at = 1; at <= 5; at += 2)
			failures[count++] = (struct failure){CALL_READ, device, at, false};
		failures[count++] = (struct failure){CALL_PRE_COPY, device, 1, false};
		failures[count++] = (struct failure){CALL_PRE_COPY, device, 2, false};
		failures[count++] = (struct failure){CALL_SAVE, device, 1, false};
		for (unsigned at = 1; at <= 6; at++) /* RUNNING_P2P, STOP, RESUMING, STOP, RUNNING_P2P, RUNNING */
			failures[count++] = (struct failure){CALL_SET, device, at, true};
		failures[count++] = (struct failure){CALL_WRITE, device, 1, true};
		failures[count++] = (struct failure){CALL_WRITE, device, 4, true};
		failures[count++] = (struct failure){CALL_LOAD, device, 1, true};
	}
	return cr_make_param_array(struct failure, failures, count);
}

ParameterizedTest(struct failure *failure, migration_conductor, a_device_that_fails_leaves_the_guest_at_the_source)
{
	set_up(MACHINE_DEVICES);
	struct side *side = failure->at_destination ? &destination : &source;
	side->machine.devices[failure->device].fail_call = failure->call;
	side->machine.devices[failure->device].fail_at = failure->at;
	listen_at(address);
	enum tenon_outgoing_end end = send_to((struct tenon_outgoing_options){0});
	stop_listening();
	char why[64];
	snprintf(why, sizeof(why), "device %u: asked to fail", failure->device);
	expect_resumed(end, why);
	cr_expect_eq(machine_violations(&source.machine), 0);
	/* One that failed to start takes those with it that had started: the source's devices work by now. */
	for (unsigned i = 0;
	     failure->at_destination && failure->call == CALL_SET && failure->at > 4 && i < MACHINE_DEVICES; i++)
		cr_expect(!tenon_migration_rule(destination.machine.devices[i].state)->dma, "device %u still works", i);
	tear_down();
}

Test(migration_conductor, a_guest_that_cannot_be_paused_goes_on)
{
	set_up(1);
	source.machine.fail_pause = -EBUSY;
	listen_at(address);
	expect_refusal("asked to fail to pause");
}

Test(migration_conductor, parts_that_cannot_be_saved_leave_the_guest_running)
{
	set_up(1);
	source.machine.fail_save = -EIO;
	listen_at(address);
	expect_refusal("asked to fail to save");
}

Test(migration_conductor, parts_that_cannot_be_loaded_leave_the_guest_at_the_source)
{
	set_up(1);
	destination.machine.fail_load = -EINVAL;
	listen_at(address);
	expect_refusal("destination: asked to fail to load");
}

Test(migration_conductor, dirty_pages_that_cannot_be_had_leave_the_guest_running)
{
	set_up(1);
	source.machine.fail_dirty = -EIO;
	listen_at(address);
	expect_refusal("asked to fail to fetch dirty pages");
}

/* ---- Cancelled ---- */

struct canceller {
	struct tenon_outgoing *outgoing;
	enum tenon_migration_phase phase;
	int code;
	bool done;
};

static void cancel_in(void *context, const struct tenon_migration_progress *progress)
{
	struct canceller *canceller = context;
	if (canceller->done || progress->phase != canceller->phase)
		return;
	canceller->done = true;
	canceller->code = tenon_outgoing_cancel(canceller->outgoing);
}

ParameterizedTestParameters(migration_conductor, it_can_be_cancelled_until_the_commit_point)
{
	static enum tenon_migration_phase phases[] = {
		TENON_MIGRATION_PHASE_SETUP,
		TENON_MIGRATION_PHASE_PRE_COPY,
		TENON_MIGRATION_PHASE_STOPPING,
		TENON_MIGRATION_PHASE_COMMIT,
	};
	return cr_make_param_array(enum tenon_migration_phase, phases, sizeof(phases) / sizeof(phases[0]));
}

ParameterizedTest(enum tenon_migration_phase *phase, migration_conductor, it_can_be_cancelled_until_the_commit_point)
{
	set_up(2);
	struct canceller canceller = {.phase = *phase};
	const struct tenon_outgoing_options options = {.size = sizeof(options),
						       .address = address,
						       .downtime_limit_ns = 5000000000u,
						       .connections = 3, /* which wait for each other */
						       .progress = cancel_in,
						       .progress_context = &canceller};
	listen_at(address);
	cr_assert_eq(tenon_outgoing_create(&source.machine.what, &options, &canceller.outgoing, NULL), 0);
	enum tenon_outgoing_end end = tenon_outgoing_run(canceller.outgoing, &source.error);
	cr_expect_eq(canceller.code, 0);
	tenon_outgoing_destroy(canceller.outgoing);
	stop_listening();
	expect_resumed(end, "cancelled");
	expect_contract_kept();
	tear_down();
}

/* ---- What is told meanwhile ---- */

struct left {
	uint64_t first, at_end;
	unsigned round;
};

static void see_left(void *context, const struct tenon_migration_progress *progress)
{
	struct left *left = context;
	left->at_end = progress->left_bytes;
	if (progress->phase != TENON_MIGRATION_PHASE_PRE_COPY || progress->round == 0)
		return;
	if (left->round == 0)
		left->first = progress->left_bytes;
	left->round = progress->round;
}

Test(migration_conductor, all_of_ram_is_left_at_first_and_nothing_in_the_end)
{
	set_up(0);
	struct left left = {0};
	listen_at(address);
	expect_moved(send_to((struct tenon_outgoing_options){.progress = see_left, .progress_context = &left}));
	stop_listening();
	uint64_t ram_bytes = 0;
	for (unsigned i = 0; i < source.machine.what.ram_count; i++)
		ram_bytes += source.machine.what.ram[i].size_bytes;
	cr_expect_eq(left.first, ram_bytes);
	cr_expect_eq(left.at_end, 0);
	tear_down();
}

/* ---- What is told in advance ---- */

Test(migration_conductor, a_check_names_each_blocker_and_moves_nothing)
{
	struct tenon_migration_check check = {.size = sizeof(check)};
	set_up(3);
	source.machine.devices[0].migratable = false;
	source.machine.devices[1].dirty = TENON_DIRTY_NONE;
	cr_assert_eq(tenon_migration_check(&source.machine.what, false, &check, NULL), 0);
	cr_expect(!check.possible);
	cr_expect_eq(check.blocker_count, 2);
	cr_expect(strncmp(check.blockers[0], "device-0: ", 10) == 0);
	cr_expect(strncmp(check.blockers[1], "device-1: ", 10) == 0);
	source.machine.devices[0].migratable = true;
	check.size = sizeof(check);
	cr_assert_eq(tenon_migration_check(&source.machine.what, true, &check, NULL), 0);
	cr_expect(check.possible);
	cr_expect_gt(check.total_ns, 0);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(source.machine.devices[i].state, TENON_MIGRATION_RUNNING);
	tear_down();
}

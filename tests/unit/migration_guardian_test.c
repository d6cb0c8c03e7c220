// SPDX-License-Identifier: MIT
/*
 * Guardians as real processes: a stand-in for a source or a destination starts one, says a phase, and is killed. Over Unix sockets
 * and TCP. What must end is waited for by its pidfd.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <tenon-migration/migrate.h>

#include "guardian.h"
#include "kernel_calls.h"
#include "listener.h"
#include "resolve.h"

#define LONG_MS 30000 /* nothing takes so long, unless it hangs */

static const uint8_t session[COMMIT_SESSION_BYTES] = "0123456789abcde";
static const char *const command[] = {"/proc/self/exe", "migration-guardian", NULL};

/* The program's hidden command, before Criterion sees the arguments. */
__attribute__((constructor)) static void hidden_command(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "migration-guardian") == 0)
		exit(tenon_migration_guardian_main(atoi(argv[2])));
}

/* ---- Kernel calls that fail ---- */

static const char *broken; /* the call that fails */

#define BREAK(name) (broken && strcmp(broken, #name) == 0)
#define WRAP(type, name, parameters, arguments)                                                                        \
	type __real_mcall_##name parameters;                                                                           \
	type __wrap_mcall_##name parameters;                                                                           \
	type __wrap_mcall_##name parameters                                                                            \
	{                                                                                                              \
		return BREAK(name) ? -EMFILE : __real_mcall_##name arguments;                                          \
	}
WRAP(int, memory_file, (const char *name, size_t bytes), (name, bytes))
WRAP(int, map_shared, (int fd, size_t bytes, void **out), (fd, bytes, out))
WRAP(int, pidfd, (pid_t pid), (pid))
WRAP(int, socket_pair, (int fds[2]), (fds))
WRAP(pid_t, spawn, (const char *const *arguments, int keep), (arguments, keep))
WRAP(int, send_fds, (int fd, const void *data, size_t bytes, const int *fds, unsigned count),
     (fd, data, bytes, fds, count))
WRAP(int, poll, (struct pollfd * fds, unsigned count, int timeout_ms), (fds, count, timeout_ms))
WRAP(ssize_t, receive, (int fd, void *data, size_t bytes), (fd, data, bytes))
WRAP(ssize_t, receive_fds, (int fd, void *data, size_t bytes, int *fds, unsigned capacity),
     (fd, data, bytes, fds, capacity))
WRAP(pid_t, fork, (void), ())
WRAP(int, duplicate, (int fd), (fd))
WRAP(int, open, (int directory, const char *path, int flags), (directory, path, flags))

/* ---- Places ---- */

enum place { UNIX, TCP, PLACES };

static char directory[] = "/tmp/tenon-guardian-XXXXXX";

static void make_directory(void)
{
	strcpy(directory + sizeof(directory) - 7, "XXXXXX");
	cr_assert(mkdtemp(directory));
}

static void remove_directory(void)
{
	cr_expect_eq(rmdir(directory), 0, "%s: something is left in it", directory);
}

/* Of every channel; a test may have it encrypted. */
static struct tenon_channel_options channel_options = {.size = sizeof(channel_options)};

static struct tenon_listener *listen_at(enum place place)
{
	char address[PATH_MAX];
	struct tenon_listener *listener;
	struct tenon_error error = {0};
	snprintf(address, sizeof(address), place == UNIX ? "unix:%s/s" : "tcp:127.0.0.1:0", directory);
	cr_assert_eq(tenon_listener_open(address, &channel_options, &listener, &error), 0, "%s", error.message);
	return listener;
}

static struct guardian_options options_for(enum guardian_role role, const char *address)
{
	struct guardian_options options = {
		.command = command,
		.role = role,
		.address = address,
		.channel = channel_options,
		.listener_fd = -1,
		.retry_ms = 10,
		.patience_ms = LONG_MS,
	};
	memcpy(options.session, session, sizeof(session));
	return options;
}

/* ---- Stand-ins ---- */

/* What one tells the test once its guardian knows. */
struct told {
	pid_t guardian;
	char address[256];
};

struct stand_in {
	pid_t pid;
	int guardian; /* its pidfd */
	struct told told;
};

static void tell_and_wait(int out, const struct guardian_options *options, uint32_t phase)
{
	struct guardian *guardian;
	struct told told = {0};
	if (guardian_start(options, &guardian, NULL) < 0)
		_exit(1);
	guardian_say(guardian, phase);
	told.guardian = guardian_pid(guardian);
	snprintf(told.address, sizeof(told.address), "%s", options->address);
	if (write(out, &told, sizeof(told)) != sizeof(told))
		_exit(1);
	for (;;)
		pause();
}

static void hear(struct stand_in *it, int in)
{
	cr_assert_eq(read(in, &it->told, sizeof(it->told)), sizeof(it->told), "the stand-in has failed");
	close(in);
	it->guardian = mcall_pidfd(it->told.guardian);
	cr_assert_geq(it->guardian, 0);
}

static struct stand_in source_that_says(uint32_t phase, const struct guardian_options *options)
{
	struct stand_in it = {0};
	int pipes[2];
	cr_assert_eq(pipe(pipes), 0);
	it.pid = fork();
	cr_assert_geq(it.pid, 0);
	if (it.pid == 0)
		tell_and_wait(pipes[1], options, phase);
	close(pipes[1]);
	hear(&it, pipes[0]);
	return it;
}

static struct stand_in destination_that_says(uint32_t phase, enum place place)
{
	struct stand_in it = {0};
	int pipes[2];
	cr_assert_eq(pipe(pipes), 0);
	it.pid = fork();
	cr_assert_geq(it.pid, 0);
	if (it.pid == 0) {
		struct tenon_listener *listener = listen_at(place);
		struct guardian_options options =
			options_for(GUARDIAN_OF_DESTINATION, tenon_listener_address(listener));
		options.listener_fd = tenon_listener_fd(listener);
		tell_and_wait(pipes[1], &options, phase);
	}
	close(pipes[1]);
	hear(&it, pipes[0]);
	return it;
}

static void kill_it(struct stand_in *it)
{
	cr_assert_eq(kill(it->pid, SIGKILL), 0);
	cr_assert_eq(waitpid(it->pid, NULL, 0), it->pid);
	it->pid = 0;
}

static void guardian_ends(struct stand_in *it)
{
	struct pollfd end = {.fd = it->guardian, .events = POLLIN};
	cr_expect_eq(poll(&end, 1, LONG_MS), 1, "the guardian goes on");
	close(it->guardian);
	if (it->pid)
		kill_it(it);
}

/* ---- The source's guardian ---- */

static void nobody_came(struct tenon_listener *listener)
{
	struct tenon_channel *channel;
	cr_expect_eq(tenon_listener_accept(listener, 0, &channel, NULL), -ETIMEDOUT, "a guardian came");
}

static void expect_verdict(struct tenon_listener *listener, enum commit_destination_event wanted,
			   enum commit_answer answer)
{
	struct tenon_error error = {0};
	struct tenon_channel *channel;
	struct resolve_visitor visitor;
	enum commit_destination_event event = COMMIT_DESTINATION_EVENTS;
	cr_assert_eq(tenon_listener_accept(listener, LONG_MS, &channel, &error), 0, "%s", error.message);
	cr_assert_eq(resolve_visitor_init(&visitor, channel, NULL), 0);
	cr_expect_eq(resolve_visitor_hear(&visitor, session, &event, &error), 0, "%s", error.message);
	cr_expect_eq(event, wanted);
	cr_expect_eq(resolve_visitor_answer(&visitor, answer, NULL), 0);
	cr_expect_eq(resolve_visitor_hear(&visitor, session, &event, &error), 0, "%s", error.message);
	cr_expect_eq(event, COMMIT_DESTINATION_EVENT_VERDICT_FINISHED);
	resolve_visitor_finish(&visitor);
}

static void source_dies(enum place place, uint32_t phase, bool speaks, enum commit_destination_event wanted)
{
	make_directory();
	struct tenon_listener *listener = listen_at(place);
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, tenon_listener_address(listener));
	struct stand_in source = source_that_says(phase, &options);
	kill_it(&source);
	if (speaks)
		expect_verdict(listener, wanted, COMMIT_ANSWER_RUNS);
	guardian_ends(&source);
	nobody_came(listener);
	tenon_listener_close(listener);
	remove_directory();
}

#define SOURCE_DIES(name, phase, speaks, wanted)                                                                       \
	Test(migration_guardian, name)                                                                                 \
	{                                                                                                              \
		for (enum place place = 0; place < PLACES; place++)                                                    \
			source_dies(place, COMMIT_SOURCE_##phase, speaks, COMMIT_DESTINATION_EVENT_VERDICT_##wanted);  \
	}
SOURCE_DIES(of_a_source_that_died_before_end_says_nothing, MOVING, false, COMMITTED)
SOURCE_DIES(of_a_source_that_died_after_end_says_committed, SENT, true, COMMITTED)
SOURCE_DIES(of_a_source_that_died_after_commit_says_committed, COMMITTED, true, COMMITTED)
SOURCE_DIES(of_a_source_that_died_while_it_asked_says_committed, RESOLVING, true, COMMITTED)
SOURCE_DIES(of_a_source_that_died_after_it_resumed_says_aborted, RESUMED, true, ABORTED)
SOURCE_DIES(of_a_source_that_died_after_all_was_done_says_nothing, MOVED, false, COMMITTED)

Test(migration_guardian, of_a_source_that_resumed_says_aborted_while_it_lives)
{
	make_directory();
	struct tenon_listener *listener = listen_at(UNIX);
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, tenon_listener_address(listener));
	struct stand_in source = source_that_says(COMMIT_SOURCE_RESUMED, &options);
	expect_verdict(listener, COMMIT_DESTINATION_EVENT_VERDICT_ABORTED, COMMIT_ANSWER_GONE);
	guardian_ends(&source);
	tenon_listener_close(listener);
	remove_directory();
}

Test(migration_guardian, of_a_source_that_is_done_leaves_while_it_lives)
{
	make_directory();
	struct tenon_listener *listener = listen_at(UNIX);
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, tenon_listener_address(listener));
	struct stand_in source = source_that_says(COMMIT_SOURCE_MOVED, &options);
	guardian_ends(&source);
	nobody_came(listener);
	tenon_listener_close(listener);
	remove_directory();
}

Test(migration_guardian, asks_again_where_it_was_not_answered)
{
	make_directory();
	struct tenon_channel *channel;
	struct tenon_listener *listener = listen_at(TCP);
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, tenon_listener_address(listener));
	struct stand_in source = source_that_says(COMMIT_SOURCE_COMMITTED, &options);
	kill_it(&source);
	for (unsigned i = 0; i < 20; i++) {
		cr_assert_eq(tenon_listener_accept(listener, LONG_MS, &channel, NULL), 0);
		tenon_channel_close(channel);
	}
	expect_verdict(listener, COMMIT_DESTINATION_EVENT_VERDICT_COMMITTED, COMMIT_ANSWER_GONE);
	guardian_ends(&source);
	tenon_listener_close(listener);
	remove_directory();
}

Test(migration_guardian, of_a_source_gives_up_where_nobody_listens)
{
	make_directory();
	for (enum place place = 0; place < PLACES; place++) {
		char address[256];
		struct tenon_listener *listener = listen_at(place);
		snprintf(address, sizeof(address), "%s", tenon_listener_address(listener));
		tenon_listener_close(listener);
		struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, address);
		struct stand_in resumed = source_that_says(COMMIT_SOURCE_RESUMED, &options);
		guardian_ends(&resumed);
		struct stand_in dead = source_that_says(COMMIT_SOURCE_COMMITTED, &options);
		kill_it(&dead);
		guardian_ends(&dead);
	}
	remove_directory();
}

Test(migration_guardian, loses_patience)
{
	make_directory();
	struct tenon_listener *listener = listen_at(UNIX); /* nobody accepts */
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, tenon_listener_address(listener));
	options.patience_ms = 50;
	options.channel.timeout_ms = 50;
	struct stand_in source = source_that_says(COMMIT_SOURCE_COMMITTED, &options);
	kill_it(&source);
	guardian_ends(&source);
	tenon_listener_close(listener);
	remove_directory();
}

/* ---- The destination's guardian ---- */

static void expect_answer(const char *address, enum commit_verdict verdict, enum commit_answer wanted)
{
	struct tenon_error error = {0};
	enum commit_answer answer = 0;
	cr_assert_eq(resolve_ask(address, &channel_options, session, verdict, &answer, &error), 0, "%s", error.message);
	cr_expect_eq(answer, wanted);
}

static void destination_dies(enum place place, uint32_t phase, enum commit_verdict verdict, enum commit_answer answer)
{
	make_directory();
	struct stand_in destination = destination_that_says(phase, place);
	kill_it(&destination);
	if (answer)
		expect_answer(destination.told.address, verdict, answer);
	guardian_ends(&destination);
	cr_expect_lt(resolve_ask(destination.told.address, NULL, session, verdict, &answer, NULL), 0,
		     "somebody listens still");
	/* Whose guardian left while it lived removes the path itself, and was killed before it could. */
	bool alone = commit_destination_guardian(phase, false) == COMMIT_DUTY_LEAVE;
	if (place == UNIX && alone)
		unlink(destination.told.address + strlen("unix:"));
	remove_directory();
}

#define DESTINATION_DIES(name, phase, verdict, answer)                                                                 \
	Test(migration_guardian, name)                                                                                 \
	{                                                                                                              \
		for (enum place place = 0; place < PLACES; place++)                                                    \
			destination_dies(place, COMMIT_DESTINATION_##phase, COMMIT_VERDICT_##verdict, answer);         \
	}
DESTINATION_DIES(of_a_destination_that_died_before_ready_leaves, LOADING, COMMITTED, 0)
DESTINATION_DIES(of_a_destination_that_died_prepared_says_gone, PREPARED, COMMITTED, COMMIT_ANSWER_GONE)
DESTINATION_DIES(of_a_destination_that_died_prepared_takes_aborted, PREPARED, ABORTED, COMMIT_ANSWER_GONE)
DESTINATION_DIES(of_a_destination_that_died_starting_says_gone, STARTING, COMMITTED, COMMIT_ANSWER_GONE)
DESTINATION_DIES(of_a_destination_that_ran_says_ended, RUNNING, COMMITTED, COMMIT_ANSWER_ENDED)
DESTINATION_DIES(of_a_destination_that_failed_says_gone, FAILED, COMMITTED, COMMIT_ANSWER_GONE)
DESTINATION_DIES(of_a_destination_whose_end_everybody_knows_leaves, GONE, COMMITTED, 0)
DESTINATION_DIES(of_a_destination_that_everybody_knows_to_run_leaves, RESOLVED, COMMITTED, 0)

Test(migration_guardian, of_a_destination_that_failed_says_gone_while_it_lives)
{
	make_directory();
	for (enum place place = 0; place < PLACES; place++) {
		struct stand_in destination = destination_that_says(COMMIT_DESTINATION_FAILED, place);
		expect_answer(destination.told.address, COMMIT_VERDICT_COMMITTED, COMMIT_ANSWER_GONE);
		guardian_ends(&destination);
	}
	remove_directory();
}

Test(migration_guardian, answers_nobody_who_does_not_know_the_session)
{
	static const uint8_t other[COMMIT_SESSION_BYTES] = "0123456789abcdf";
	enum commit_answer answer;
	make_directory();
	struct stand_in destination = destination_that_says(COMMIT_DESTINATION_PREPARED, TCP);
	const char *address = destination.told.address;
	char request[] = "GET / HTTP/1.1\r\nHost: the one that is not asked for\r\n\r\n";
	struct iovec part = {.iov_base = request, .iov_len = sizeof(request)};
	struct tenon_channel *garbage;
	kill_it(&destination);
	cr_expect_lt(resolve_ask(address, NULL, other, COMMIT_VERDICT_COMMITTED, &answer, NULL), 0);
	cr_expect_lt(resolve_ask(address, NULL, other, COMMIT_VERDICT_ABORTED, &answer, NULL), 0);
	cr_assert_eq(tenon_channel_connect(address, NULL, &garbage, NULL), 0);
	cr_expect_eq(tenon_channel_write(garbage, &part, 1, NULL), 0);
	tenon_channel_close(garbage);
	expect_answer(address, COMMIT_VERDICT_COMMITTED, COMMIT_ANSWER_GONE);
	guardian_ends(&destination);
	remove_directory();
}

Test(migration_guardian, is_found_where_a_destination_that_failed_has_closed_its_socket)
{
	make_directory();
	struct tenon_listener *listener = listen_at(UNIX);
	char address[256];
	snprintf(address, sizeof(address), "%s", tenon_listener_address(listener));
	struct guardian_options options = options_for(GUARDIAN_OF_DESTINATION, address);
	options.listener_fd = tenon_listener_fd(listener);
	struct guardian *guardian;
	struct stand_in destination = {0};
	cr_assert_eq(guardian_start(&options, &guardian, NULL), 0);
	destination.guardian = mcall_pidfd(guardian_pid(guardian));
	guardian_say(guardian, COMMIT_DESTINATION_FAILED);
	listener_leave_path(listener);
	tenon_listener_close(listener);
	guardian_destroy(guardian);
	expect_answer(address, COMMIT_VERDICT_COMMITTED, COMMIT_ANSWER_GONE);
	guardian_ends(&destination);
	remove_directory();
}

/* ---- Encrypted ---- */

Test(migration_guardian, speaks_tls_as_its_side_did)
{
	char key[] = "key";
	enum commit_answer answer;
	make_directory();
	cr_assert_eq(chdir(directory), 0); /* a path may be relative */
	FILE *file = fopen(key, "w");
	cr_assert(file && fputs("tenon:00112233445566778899aabbccddeeff\n", file) > 0 && fclose(file) == 0);
	cr_assert_eq(chmod(key, 0600), 0);
	channel_options.tls_psk_file = key;

	struct stand_in destination = destination_that_says(COMMIT_DESTINATION_PREPARED, TCP);
	kill_it(&destination);
	cr_expect_lt(resolve_ask(destination.told.address, NULL, session, COMMIT_VERDICT_COMMITTED, &answer, NULL), 0);
	expect_answer(destination.told.address, COMMIT_VERDICT_COMMITTED, COMMIT_ANSWER_GONE);
	guardian_ends(&destination);

	struct tenon_listener *listener = listen_at(TCP);
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, tenon_listener_address(listener));
	struct stand_in source = source_that_says(COMMIT_SOURCE_COMMITTED, &options);
	kill_it(&source);
	expect_verdict(listener, COMMIT_DESTINATION_EVENT_VERDICT_COMMITTED, COMMIT_ANSWER_RUNS);
	guardian_ends(&source);
	tenon_listener_close(listener);
	unlink(key);
	remove_directory();
}

/* ---- The process ---- */

Test(migration_guardian, holds_nothing_of_its_side_and_heeds_no_ordinary_signal)
{
	make_directory();
	char path[64], target[PATH_MAX] = {0}, name[32] = {0};
	struct stand_in destination = destination_that_says(COMMIT_DESTINATION_PREPARED, TCP);
	pid_t guardian = destination.told.guardian;
	for (int fd = 0; fd < 3; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)guardian, fd);
		memset(target, 0, sizeof(target));
		cr_expect_gt(readlink(path, target, sizeof(target) - 1), 0);
		cr_expect_str_eq(target, "/dev/null");
	}
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)guardian);
	FILE *file = fopen(path, "r");
	cr_assert(file && fgets(name, sizeof(name), file));
	fclose(file);
	cr_expect_str_eq(name, "tenon-guardian\n");
	cr_expect_neq(getsid(guardian), getsid(0));
	kill(guardian, SIGTERM);
	kill(guardian, SIGINT);
	kill(guardian, SIGHUP);
	kill_it(&destination);
	expect_answer(destination.told.address, COMMIT_VERDICT_COMMITTED, COMMIT_ANSWER_GONE);
	guardian_ends(&destination);
	remove_directory();
}

Test(migration_guardian, goes_on_where_its_side_let_go_of_it)
{
	make_directory();
	struct tenon_listener *listener = listen_at(TCP);
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, tenon_listener_address(listener));
	struct guardian *guardian;
	struct stand_in source = {0};
	cr_assert_eq(guardian_start(&options, &guardian, NULL), 0);
	source.guardian = mcall_pidfd(guardian_pid(guardian));
	guardian_say(guardian, COMMIT_SOURCE_RESUMED);
	guardian_destroy(guardian);
	expect_verdict(listener, COMMIT_DESTINATION_EVENT_VERDICT_ABORTED, COMMIT_ANSWER_GONE);
	guardian_ends(&source);
	tenon_listener_close(listener);
	remove_directory();
}

/* ---- Failures ---- */

static unsigned open_descriptors(void)
{
	unsigned count = 0;
	DIR *fds = opendir("/proc/self/fd");
	while (readdir(fds))
		count++;
	closedir(fds);
	return count;
}

static void expect_no_start(const struct guardian_options *options, int wanted, const char *what)
{
	struct guardian *guardian = NULL;
	struct tenon_error error = {0};
	unsigned before = open_descriptors();
	int code = guardian_start(options, &guardian, &error);
	cr_expect_eq(code, wanted, "%s: %d: %s", what, code, error.message);
	cr_expect_eq(error.code, wanted, "%s", what);
	cr_expect_null(guardian);
	cr_expect_eq(open_descriptors(), before, "%s: descriptors are left", what);
	cr_expect_eq(waitpid(-1, NULL, WNOHANG), -1, "%s: a child is left", what);
}

Test(migration_guardian, that_cannot_be_started_says_why_and_leaves_nothing)
{
	static const char *const calls[] = {"memory_file", "map_shared", "pidfd", "socket_pair",
					    "spawn",       "send_fds",   "poll",  "receive"};
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, "unix:/nowhere");
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		broken = calls[i];
		expect_no_start(&options, -EMFILE, calls[i]);
	}
	broken = NULL;
	options.command = (const char *const[]){"/bin/true", NULL};
	expect_no_start(&options, -ENODATA, "/bin/true");
	options.command = (const char *const[]){"/nowhere", NULL};
	expect_no_start(&options, -ENOENT, "/nowhere");
}

/* The calls of the guardian's own start: its program fails as one that is none. */
Test(migration_guardian, whose_own_start_fails_is_told_from_one_in_place)
{
	static const char *const calls[] = {"receive_fds", "map_shared", "duplicate", "open", "fork", "poll"};
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, "unix:/nowhere");
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		options.command = (const char *const[]){"/proc/self/exe", "broken-guardian", calls[i], NULL};
		expect_no_start(&options, -ENODATA, calls[i]);
	}
}

__attribute__((constructor)) static void hidden_broken_command(int argc, char **argv)
{
	if (argc != 4 || strcmp(argv[1], "broken-guardian") != 0)
		return;
	broken = argv[2];
	exit(tenon_migration_guardian_main(atoi(argv[3])));
}

Test(migration_guardian, needs_an_address_and_a_destinations_listener)
{
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, NULL);
	expect_no_start(&options, -EINVAL, "no address");
	options = options_for(GUARDIAN_OF_DESTINATION, "unix:/nowhere");
	expect_no_start(&options, -EINVAL, "no listener");
}

Test(migration_guardian, is_none_without_a_command)
{
	struct guardian *guardian = (struct guardian *)-1;
	struct guardian_options options = options_for(GUARDIAN_OF_SOURCE, "unix:/nowhere");
	options.command = NULL;
	cr_expect_eq(guardian_start(&options, &guardian, NULL), 0);
	cr_expect_null(guardian);
	guardian_say(guardian, COMMIT_SOURCE_SENT);
	cr_expect_eq(guardian_pid(guardian), 0);
	guardian_destroy(guardian);
}

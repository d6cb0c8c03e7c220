// SPDX-License-Identifier: MIT
/*
 * `tenon migrate`: its command line, the requests that it makes, and how it follows a migration of a VM that has a control socket and an
 * engine that does what the test says.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "control/control.h"
#include "control/listener.h"
#include "control/request.h"
#include "loop.h"
#include "migrate/command.h"
#include "migrate/command_options.h"
#include "vmm_engine_fake.h"

#define WORDS_MAX 32

/* Words after "tenon migrate", until NULL, as argv. */
static int make_argv(const char *const *words, char **argv)
{
	static char copies[WORDS_MAX][96];
	int argc = 1;
	argv[0] = strcpy(copies[0], "tenon migrate");
	for (; *words; words++) {
		cr_assert(argc < WORDS_MAX - 1 && strlen(*words) < sizeof(copies[0]));
		argv[argc] = strcpy(copies[argc], *words);
		argc++;
	}
	argv[argc] = NULL;
	return argc;
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct command_options parsed(const char *const *words)
{
	struct command_options options;
	struct tenon_error err = {0};
	char *argv[WORDS_MAX];
	int argc = make_argv(words, argv);
	cr_assert_eq(command_options_parse(argc, argv, &options, &err), 0, "%s", err.message);
	return options;
}

static void expect_refused(const char *const *words, const char *named)
{
	struct command_options options;
	struct tenon_error err = {0};
	char *argv[WORDS_MAX];
	int argc = make_argv(words, argv);
	cr_expect_lt(command_options_parse(argc, argv, &options, &err), 0, "accepted, in place of: %s", named);
	cr_expect(strstr(err.message, named) && strstr(err.message, "; "), "no '%s' in: %s", named, err.message);
}

/* The request as the VM will understand it. */
static struct control_request request_of(const char *const *words)
{
	struct command_options options = parsed(words);
	struct control_request request;
	struct tenon_error err = {0};
	json_object *object = command_request(&options);
	const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
	cr_assert_eq(control_request_parse(text, strlen(text), &request, &err), 0, "%s: %s", text, err.message);
	json_object_put(object);
	return request;
}

/* ---- Command line ---- */

Test(migrate_options, every_setting_reaches_the_vm)
{
	struct control_request request = request_of(
		WORDS("/run/vm", "tcp:host:4444", "--downtime-limit", "20ms", "--bandwidth", "1G", "--connections", "4",
		      "--rounds=7", "--force", "--insecure", "--compress", "--assume-all-dirty", "--tls-ca", "/ca",
		      "--tls-cert", "/cert", "--tls-key", "/key", "--tls-peer", "host2", "--json", "--quiet"));
	const struct engine_request *migrate = &request.migrate;
	cr_expect_eq(request.command, CONTROL_MIGRATE);
	cr_expect_str_eq(migrate->address, "tcp:host:4444");
	cr_expect_eq(migrate->downtime_limit_ns, 20000000);
	cr_expect_eq(migrate->bytes_per_second, UINT64_C(1) << 30);
	cr_expect_eq(migrate->connections, 4);
	cr_expect_eq(migrate->rounds, 7);
	cr_expect(migrate->force && migrate->insecure && migrate->compress && migrate->assume_all_dirty);
	cr_expect_str_eq(migrate->tls.ca, "/ca");
	cr_expect_str_eq(migrate->tls.cert, "/cert");
	cr_expect_str_eq(migrate->tls.key, "/key");
	cr_expect_str_eq(migrate->tls.peer, "host2");
	control_request_finish(&request);
}

Test(migrate_options, paths_are_those_of_this_folder_and_not_of_the_vms)
{
	cr_assert_eq(chdir("/tmp"), 0);
	struct control_request request =
		request_of(WORDS("socket", "file:snapshot", "--stay-stopped", "--tls-psk", "keys/psk"));
	cr_expect_str_eq(request.migrate.address, "file:/tmp/snapshot");
	cr_expect_str_eq(request.migrate.tls.psk, "/tmp/keys/psk");
	cr_expect(request.migrate.stay_stopped);
	control_request_finish(&request);
	request = request_of(WORDS("socket", "unix:/run/in"));
	cr_expect_str_eq(request.migrate.address, "unix:/run/in");
	cr_expect_eq(request.migrate.downtime_limit_ns, 0, "what is not said is the VM's choice");
	control_request_finish(&request);
}

Test(migrate_options, questions_and_orders_are_requests_of_their_own)
{
	static const struct {
		const char *words[6];
		enum control_command command;
	} cases[] = {
		{{"s", "--check"}, CONTROL_MIGRATE_CHECK},
		{{"s", "tcp:h:1", "--bandwidth", "1G", "--check"}, CONTROL_MIGRATE_CHECK},
		{{"s", "--status", "--json"}, CONTROL_MIGRATE_STATUS},
		{{"--cancel", "s"}, CONTROL_MIGRATE_CANCEL},
		{{"s", "--resolve", "run"}, CONTROL_MIGRATE_RESOLVE},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct control_request request = request_of(cases[i].words);
		cr_expect_eq(request.command, cases[i].command);
		cr_expect_eq(request.run, cases[i].command == CONTROL_MIGRATE_RESOLVE);
		control_request_finish(&request);
	}
	struct control_request request = request_of(WORDS("s", "--check", "--assume-all-dirty"));
	cr_expect(request.migrate.assume_all_dirty);
}

Test(migrate_options, wrong_words_are_refused_by_name)
{
	expect_refused(WORDS("--force"), "control socket");
	expect_refused(WORDS("s"), "where to is missing");
	expect_refused(WORDS("s", "host:4444"), "host:4444");
	expect_refused(WORDS("s", "tcp:h:1", "x"), "one argument too many");
	expect_refused(WORDS("s", "tcp:h:1", "--colour"), "--colour");
	expect_refused(WORDS("s", "tcp:h:1", "--rounds"), "--rounds");
	expect_refused(WORDS("s", "tcp:h:1", "--rounds", "0"), "--rounds 0");
	expect_refused(WORDS("s", "tcp:h:1", "--connections", "17"), "16");
	expect_refused(WORDS("s", "tcp:h:1", "--downtime-limit", "soon"), "soon");
	expect_refused(WORDS("s", "tcp:h:1", "--bandwidth", "fast"), "fast");
	expect_refused(WORDS("s", "tcp:h:1", "--stay-stopped"), "--stay-stopped");
	expect_refused(WORDS("s", "tcp:h:1", "--tls-ca", "ca"), "tls-cert");
	expect_refused(WORDS("s", "fd:99"), "fd:99: is not open");
	expect_refused(WORDS("s", "--check", "--cancel"), "exclude each other");
	expect_refused(WORDS("s", "--cancel", "tcp:h:1"), "nothing but the VM's socket");
	expect_refused(WORDS("s", "--status", "--force"), "nothing but the VM's socket");
	expect_refused(WORDS("s", "--resolve", "both"), "--resolve both");
}

/* ---- With a VM ---- */

static char folder[] = "/tmp/migrate-XXXXXX", path[64], report[64];
static struct engine *engine;
static struct control *control;

static void setup(void)
{
	struct tenon_error err = {0};
	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
	snprintf(report, sizeof(report), "%s/report.html", folder);
	engine = fake_engine_create();
	/* What is asked here has nothing to do with its machine. */
	cr_assert_eq(control_create(path, NULL, NULL, engine, &control, &err), 0, "%s", err.message);
}

static void teardown(void)
{
	control_destroy(control);
	fake_engine_destroy(engine);
	unlink(report);
	cr_expect_eq(rmdir(folder), 0);
}

TestSuite(migrate_command, .init = setup, .fini = teardown, .timeout = 120);

/* The command in a process of its own, and what it printed so far. */
struct command {
	pid_t pid;
	int out;
	char text[65536];
	size_t used;
};

static void start(struct command *command, const char *const *words)
{
	int ends[2];
	char *argv[WORDS_MAX];
	int argc = make_argv(words, argv);
	*command = (struct command){0};
	cr_assert_eq(pipe(ends), 0);
	fflush(NULL);
	command->pid = fork();
	if (command->pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		int status = migrate_main(argc, argv);
		fflush(stdout);
		_exit(status);
	}
	close(ends[1]);
	command->out = ends[0];
}

/* Reads on until it printed this; NULL: until it ends. */
static void expect_text(struct command *command, const char *wanted)
{
	while (!wanted || !strstr(command->text, wanted)) {
		struct pollfd ready = {.fd = command->out, .events = POLLIN};
		cr_assert_eq(poll(&ready, 1, 60000), 1, "no '%s' in: %s", wanted ? wanted : "end", command->text);
		ssize_t count =
			read(command->out, command->text + command->used, sizeof(command->text) - 1 - command->used);
		if (count <= 0) {
			cr_assert(!wanted, "no '%s' in: %s", wanted, command->text);
			return;
		}
		command->used += (size_t)count;
		command->text[command->used] = '\0';
	}
}

static int finish(struct command *command)
{
	int status;
	expect_text(command, NULL);
	close(command->out);
	cr_assert_eq(waitpid(command->pid, &status, 0), command->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run(struct command *command, const char *const *words)
{
	start(command, words);
	return finish(command);
}

Test(migrate_command, a_migration_is_shown_by_phase_and_round_until_it_has_moved)
{
	struct command command;
	start(&command, WORDS(path, "tcp:host:4444", "--report", report));
	expect_text(&command, "set-up");
	fake_engine_advance(engine, TENON_MIGRATION_PHASE_PRE_COPY, 1);
	expect_text(&command, "pre-copy\n");
	fake_engine_advance(engine, TENON_MIGRATION_PHASE_PRE_COPY, 2);
	expect_text(&command, "round 1: ");
	fake_engine_advance(engine, TENON_MIGRATION_PHASE_STOPPING, 2);
	expect_text(&command, "stopping\n");
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_MOVED, NULL);
	cr_expect_eq(finish(&command), 0);
	cr_expect(strstr(command.text, "moved to tcp:host:4444"), "%s", command.text);
	cr_expect(strstr(command.text, "round 2: "));
	cr_expect_null(strchr(command.text, '\x1b'), "a pipe is no terminal");
	cr_expect_eq(access(report, R_OK), 0);
}

Test(migrate_command, a_failure_says_why_and_that_the_guest_runs_on)
{
	struct command command;
	start(&command, WORDS(path, "tcp:host:4444", "--report", report));
	expect_text(&command, "set-up");
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_RESUMED, "tcp:host:4444: Connection refused; start it");
	cr_expect_eq(finish(&command), 1);
	cr_expect(strstr(command.text, "tcp:host:4444: Connection refused; start it"), "%s", command.text);
	cr_expect(strstr(command.text, "the guest runs on where it was"), "%s", command.text);
	char page[8192] = "";
	FILE *file = fopen(report, "r");
	cr_assert(file && fread(page, 1, sizeof(page) - 1, file) > 0);
	fclose(file);
	cr_expect(strstr(page, "Migration failed"));
}

Test(migrate_command, json_prints_what_the_vm_says_and_quiet_prints_nothing)
{
	struct command command;
	start(&command, WORDS(path, "file:/tmp/vm", "--json"));
	expect_text(&command, "{\"event\":\"progress\",\"phase\":\"set-up\"");
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_SAVED, NULL);
	cr_expect_eq(finish(&command), 0);
	cr_expect(strstr(command.text, "\n{\"ok\":true,\"end\":\"saved\"}\n"), "%s", command.text);
	cr_expect_null(strstr(command.text, "saved to"));
	start(&command, WORDS(path, "file:/tmp/vm", "--quiet"));
	for (bool running = false; !running; usleep(1000)) {
		pthread_mutex_lock(&engine->lock);
		running = engine->outcome.state == ENGINE_RUNNING;
		pthread_mutex_unlock(&engine->lock);
	}
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_SAVED, NULL);
	cr_expect_eq(finish(&command), 0);
	cr_expect_str_eq(command.text, "");
}

/* Until the VM was told; the suite's time limit ends this otherwise. */
static void wait_for_cancels(unsigned count)
{
	unsigned found = 0;
	while (found != count) {
		usleep(1000);
		pthread_mutex_lock(&engine->lock);
		found = engine->cancels;
		pthread_mutex_unlock(&engine->lock);
	}
}

Test(migrate_command, an_interrupt_cancels_and_the_second_leaves)
{
	struct command command;
	start(&command, WORDS(path, "tcp:host:4444"));
	expect_text(&command, "set-up");
	kill(command.pid, SIGINT);
	expect_text(&command, "cancelling");
	wait_for_cancels(1);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_RESUMED, "cancelled");
	cr_expect_eq(finish(&command), 1);
	cr_expect(strstr(command.text, "cancelled"), "%s", command.text);

	start(&command, WORDS(path, "tcp:host:4444"));
	expect_text(&command, "set-up");
	kill(command.pid, SIGINT);
	expect_text(&command, "cancelling");
	wait_for_cancels(2);
	kill(command.pid, SIGINT);
	cr_expect_eq(finish(&command), RUN_SIGNALLED + SIGINT);
	cr_expect(strstr(command.text, "left: "), "%s", command.text);
	cr_expect_eq(engine->outcome.state, ENGINE_RUNNING, "it is the VM's affair");
}

Test(migrate_command, what_a_person_has_to_decide_is_shown_with_the_way_to_do_it)
{
	struct command command, other;
	start(&command, WORDS(path, "tcp:host:4444"));
	expect_text(&command, "set-up");
	fake_engine_become(engine, ENGINE_BLOCKED, TENON_OUTGOING_RESUMED, "host: nobody answers; say who runs");
	expect_text(&command, "--resolve run");
	cr_expect(strstr(command.text, "host: nobody answers; say who runs"));
	cr_expect_eq(run(&other, WORDS(path, "--status")), 0);
	cr_expect(strstr(other.text, "blocked\nhost: nobody answers"), "%s", other.text);
	cr_expect_eq(run(&other, WORDS(path, "--resolve", "run")), 0);
	cr_expect(engine->chosen && engine->chose_run);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_RESUMED, "decided: this machine runs");
	cr_expect_eq(finish(&command), 1);
}

Test(migrate_command, a_check_exits_by_its_answer_and_lists_what_stands_in_the_way)
{
	struct command command;
	engine->check = (struct tenon_migration_check){.size = sizeof(engine->check),
						       .possible = true,
						       .total_ns = UINT64_C(12300000000),
						       .downtime_ns = 34000000};
	cr_expect_eq(run(&command, WORDS(path, "--check")), 0);
	cr_expect_str_eq(command.text, "possible\ntime      about 12.3 s\ndowntime  about 34.0 ms\n");
	engine->check = (struct tenon_migration_check){.size = sizeof(engine->check), .blocker_count = 2};
	strcpy(engine->check.blockers[0], "0000:3b:00.0: its driver saves nothing; bind it to another");
	strcpy(engine->check.blockers[1], "0000:3c:00.0: nobody tracks what it writes; give --assume-all-dirty");
	cr_expect_eq(run(&command, WORDS(path, "--check")), 1);
	cr_expect_str_eq(command.text, "not possible:\n  0000:3b:00.0: its driver saves nothing; bind it to another\n"
				       "  0000:3c:00.0: nobody tracks what it writes; give --assume-all-dirty\n");
	cr_expect_eq(run(&command, WORDS(path, "--check", "--json")), 1);
	cr_expect(strstr(command.text, "\"possible\":false"));
}

Test(migrate_command, status_and_cancel_say_when_there_is_none)
{
	struct command command;
	cr_expect_eq(run(&command, WORDS(path, "--status")), 0);
	cr_expect_str_eq(command.text, "there has been none\n");
	cr_expect_eq(run(&command, WORDS(path, "--cancel")), 1);
	cr_expect(strstr(command.text, "none is under way"), "%s", command.text);
	cr_expect_eq(run(&command, WORDS("/nonexistent/socket", "--status")), 1);
	cr_expect(strstr(command.text, "tenon run --control"), "%s", command.text);
	cr_expect_eq(run(&command, WORDS(path)), RUN_USAGE);
}

Test(migrate_command, a_report_that_cannot_be_written_is_known_before_anything_moves)
{
	struct command command;
	cr_expect_eq(run(&command, WORDS(path, "tcp:host:4444", "--report", "/nonexistent/folder/report.html")), 1);
	cr_expect(strstr(command.text, "--report /nonexistent/folder/report.html: "), "%s", command.text);
	cr_expect_eq(engine->outcome.state, ENGINE_IDLE);
}

Test(migrate_command, a_vm_that_goes_away_leaves_the_question_open)
{
	struct command command;
	start(&command, WORDS(path, "tcp:host:4444"));
	expect_text(&command, "set-up");
	control_destroy(control);
	control = NULL;
	cr_expect_eq(finish(&command), 1);
	cr_expect(strstr(command.text, "the VM ends before its migration is over"), "%s", command.text);
	cr_expect_null(strstr(command.text, "runs on"), "nobody knows");
}

Test(migrate_command, an_open_file_of_the_command_is_where_the_vm_writes)
{
	struct command command;
	int ends[2], number;
	cr_assert_eq(pipe(ends), 0);
	char address[16];
	snprintf(address, sizeof(address), "fd:%d", ends[1]);
	start(&command, WORDS(path, address));
	expect_text(&command, "set-up");
	cr_assert_eq(sscanf(engine->request.address, "fd:%d", &number), 1);
	cr_expect_neq(number, ends[1], "it is a copy");
	cr_expect_eq(write(number, "x", 1), 1);
	close(number);
	char byte = 0;
	cr_expect_eq(read(ends[0], &byte, 1), 1);
	fake_engine_become(engine, ENGINE_OVER, TENON_OUTGOING_SAVED, NULL);
	cr_expect_eq(finish(&command), 0);
	cr_expect(strstr(command.text, "saved to fd:"), "%s", command.text);
	close(ends[0]);
	close(ends[1]);
}

/* Something that listens at a path and is no VM, or one that dies: answers with `text` and closes. */
static void answer_as_vm(struct command *command, const char *text)
{
	struct control_listener listener;
	struct tenon_error err = {0};
	char place[80], request[4096];
	snprintf(place, sizeof(place), "%s/other", folder);
	cr_assert_eq(control_listener_open(place, &listener, &err), 0, "%s", err.message);
	start(command, WORDS(place, "tcp:host:4444", "--report", report));
	struct pollfd ready = {.fd = listener.fd, .events = POLLIN};
	cr_assert_eq(poll(&ready, 1, 60000), 1);
	int fd = accept(listener.fd, NULL, NULL);
	cr_assert_geq(fd, 0);
	cr_expect_gt(recv(fd, request, sizeof(request), 0), 0);
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	close(fd);
	control_listener_close(&listener);
}

Test(migrate_command, a_vm_that_dies_leaves_it_to_both_sides_to_tell_who_runs)
{
	struct command command;
	answer_as_vm(&command,
		     "{\"event\":\"progress\",\"phase\":\"commit\",\"round\":3,\"elapsed_ns\":5000000}\n{\"ok\":");
	cr_expect_eq(finish(&command), 1);
	cr_expect(strstr(command.text, "the connection to the VM broke; whether the guest moved"), "%s", command.text);
	cr_expect_null(strstr(command.text, "runs on"), "nobody knows");
	cr_expect_eq(access(report, R_OK), 0);
}

Test(migrate_command, what_is_no_vm_is_said_to_be_none)
{
	static const char *const words[] = {"220 mail.example.org ESMTP\n", "[1, 2]\n", "\n", "{\"a\":\"\xff\"}\n"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct command command;
		answer_as_vm(&command, words[i]);
		cr_expect_eq(finish(&command), 1);
		cr_expect(strstr(command.text, "no JSON comes from it"), "%s", command.text);
	}
}

Test(migrate_command, events_of_another_version_are_passed_over)
{
	struct command command;
	answer_as_vm(&command,
		     "{\"event\":\"weather\",\"sky\":\"blue\"}\n{\"event\":\"progress\",\"phase\":\"teleport\"}\n"
		     "{\"ok\":true,\"end\":\"moved\"}\n");
	cr_expect_eq(finish(&command), 0);
	cr_expect(strstr(command.text, "moved to tcp:host:4444"), "%s", command.text);
}

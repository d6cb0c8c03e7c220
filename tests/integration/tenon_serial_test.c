// SPDX-License-Identifier: MIT
/* The serial port from the guest to each place where --serial can lead, and back. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "tenon_guest.h"
#include "tenon_run.h"

TestSuite(tenon_serial, .init = guest_skip_without_kvm, .timeout = 180);

#define SCRIPT(text) "run", "--kernel", guest_interpreter(), "--memory", "64M", "--append", (text)

/* ---- Peers ---- */

static char folder[32];

static const char *make_path(const char *name)
{
	static char path[64];
	if (!folder[0]) {
		strcpy(folder, "/tmp/tenon-serial-XXXXXX");
		cr_assert_not_null(mkdtemp(folder));
	}
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void expect_from(int fd, const char *expected)
{
	char seen[256] = "";
	size_t count = 0;
	while (!strstr(seen, expected)) {
		struct pollfd ask = {.fd = fd, .events = POLLIN};
		cr_assert_gt(poll(&ask, 1, PATIENCE_MS), 0, "waited for '%s', got '%s'", expected, seen);
		ssize_t got = read(fd, seen + count, sizeof(seen) - 1 - count);
		cr_assert(got > 0 || (got < 0 && errno == EIO), "waited for '%s', got '%s'", expected, seen);
		if (got < 0)
			usleep(10000); /* a pty whose other side is not open yet */
		else
			count += (size_t)got;
		cr_assert(strstr(seen, expected) || count < sizeof(seen) - 1, "waited for '%s', got more than fits",
			  expected);
	}
}

static void send_to(int fd, const char *text)
{
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect_file(const char *path, const char *expected)
{
	char seen[64] = "";
	FILE *file = fopen(path, "r");
	cr_assert_not_null(file, "%s: %s", path, strerror(errno));
	size_t count = fread(seen, 1, sizeof(seen) - 1, file);
	fclose(file);
	cr_expect_eq(count, strlen(expected));
	cr_expect_str_eq(seen, expected);
}

/* ---- Standard input and output that are no terminal ---- */

Test(tenon_serial, stdio_to_a_pipe_carries_what_the_guest_prints)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("phpio")), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	cr_expect_str_eq(run.said.bytes, "hi");
	cr_expect_str_empty(run.complained.bytes);
	run_finish(&run);
}

Test(tenon_serial, stdio_to_a_file_carries_what_the_guest_prints)
{
	const char *path = make_path("out");
	int out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_geq(out, 0);
	const struct run_streams streams = {.in = STREAM_CLOSED, .out = out};
	struct run run;
	run_start(&run, ARGS(SCRIPT("phpio")), &streams);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	run_finish(&run);
	expect_file(path, "hi");
	close(out);
	unlink(path);
	rmdir(folder);
}

Test(tenon_serial, input_reaches_the_guest_byte_by_byte_and_in_one_go)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("be")), NULL);
	run_expect(&run, "B1", 1);
	char text[] = "a";
	for (; text[0] <= 'z'; text[0]++)
		run_send(&run, text);
	run_expect(&run, "abcdefghijklmnopqrstuvwxyz", 1);
	char many[4001];
	for (unsigned i = 0; i < 4000; i++)
		many[i] = (char)('0' + i % 75);
	many[4000] = 0;
	run_send(&run, many);
	run_expect(&run, many, 1);
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 143);
	run_finish(&run);
}

Test(tenon_serial, end_of_input_does_not_end_the_guest)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("b")), NULL);
	run_expect(&run, "B1", 1);
	run_send(&run, "pqpeo");
	run_close_input(&run);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	cr_expect_str_eq(run.said.bytes, "B1qe");
	run_finish(&run);
}

Test(tenon_serial, a_slow_reader_of_a_flood_gets_it_in_order)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("bddddddddddddddddddddddddpzo")), NULL);
	sleep(1);
	cr_expect_eq(run_wait(&run, 2 * PATIENCE_MS), 0);
	cr_assert_eq(run.said.count, 2 + 24 * 4096 + 1);
	for (unsigned i = 1; i < 24; i++)
		cr_expect_eq(memcmp(run.said.bytes + 2, run.said.bytes + 2 + 4096 * i, 4096), 0, "page %u", i);
	run_finish(&run);
}

Test(tenon_serial, a_reader_that_leaves_costs_output_only)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("b"), "--exit-device"), NULL);
	run_expect(&run, "B1", 1);
	close(run.out);
	run.out = -1;
	run_send(&run, "papbpcdxck");
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 42);
	run_finish(&run);
}

Test(tenon_serial, a_reader_that_leaves_a_flood_does_not_hold_up_the_end)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("bf")), NULL);
	run_expect(&run, "B1fff", 1);
	close(run.out);
	run.out = -1;
	usleep(200000);
	run_signal(&run, SIGINT);
	cr_expect_eq(run_wait(&run, ENDING_MS), 130);
	run_finish(&run);
}

Test(tenon_serial, closed_standard_streams_are_not_replaced_by_files_of_the_program)
{
	for (unsigned closed = 1; closed < 8; closed++) {
		const struct run_streams streams = {.in = closed & 1 ? STREAM_CLOSED : STREAM_PIPE,
						    .out = closed & 2 ? STREAM_CLOSED : STREAM_PIPE,
						    .err = closed & 4 ? STREAM_CLOSED : STREAM_PIPE};
		const char *path = make_path("serial");
		char where[80];
		snprintf(where, sizeof(where), "socket:%s", path);
		struct run run;
		run_start(&run, ARGS(SCRIPT("s"), "--serial", where), &streams);
		for (unsigned tries = 0; access(path, F_OK) != 0 && tries < PATIENCE_MS / 10; tries++)
			usleep(10000);
		for (unsigned i = 0; i < 3; i++) {
			char link[64], target[128] = "";
			snprintf(link, sizeof(link), "/proc/%d/fd/%u", (int)run.pid, i);
			ssize_t count = readlink(link, target, sizeof(target) - 1);
			cr_expect(!(closed & 1u << i) || count < 0 || strcmp(target, "/dev/null") == 0,
				  "stream %u is %s", i, target);
		}
		run_signal(&run, SIGTERM);
		cr_expect_eq(run_wait(&run, ENDING_MS), 143);
		run_finish(&run);
	}
	rmdir(folder);
}

Test(tenon_serial, closed_standard_streams_are_as_good_as_none)
{
	const struct run_streams streams = {STREAM_CLOSED, STREAM_CLOSED, STREAM_CLOSED, false};
	struct run run;
	run_start(&run, ARGS(SCRIPT("ddddxck"), "--exit-device", "--stats"), &streams);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 42);
	run_finish(&run);
}

/* ---- Terminal ---- */

struct terminal {
	int ours, theirs;
	struct termios found;
};

static struct terminal open_terminal(void)
{
	struct terminal terminal;
	cr_assert_eq(openpty(&terminal.ours, &terminal.theirs, NULL, NULL, NULL), 0);
	fcntl(terminal.ours, F_SETFD, FD_CLOEXEC);
	fcntl(terminal.theirs, F_SETFD, FD_CLOEXEC);
	cr_assert_eq(tcgetattr(terminal.theirs, &terminal.found), 0);
	return terminal;
}

static void start_on_terminal(struct run *run, const struct terminal *terminal, const char *script)
{
	const struct run_streams streams = {terminal->theirs, terminal->theirs, STREAM_PIPE, true};
	run_start(run, ARGS(SCRIPT(script)), &streams);
	expect_from(terminal->ours, "B1");
	struct termios raw;
	tcgetattr(terminal->theirs, &raw);
	cr_expect_eq(raw.c_lflag & (ICANON | ECHO), 0, "raw while the guest runs");
}

static void finish_terminal(const struct terminal *terminal)
{
	struct termios left;
	cr_assert_eq(tcgetattr(terminal->theirs, &left), 0);
	cr_expect_eq(left.c_iflag, terminal->found.c_iflag);
	cr_expect_eq(left.c_oflag, terminal->found.c_oflag);
	cr_expect_eq(left.c_cflag, terminal->found.c_cflag);
	cr_expect_eq(left.c_lflag, terminal->found.c_lflag);
	cr_expect_arr_eq(left.c_cc, terminal->found.c_cc, sizeof(left.c_cc));
	close(terminal->ours);
	close(terminal->theirs);
}

Test(tenon_serial, ctrl_a_x_leaves_with_130_and_the_terminal_as_it_was)
{
	/* Polls the port, spins without ever reading it, halts. */
	static const char *const scripts[] = {"be", "bs", "bh"};
	for (unsigned i = 0; i < 3; i++) {
		struct terminal terminal = open_terminal();
		struct run run;
		start_on_terminal(&run, &terminal, scripts[i]);
		send_to(terminal.ours, "\001x");
		cr_expect_eq(run_wait(&run, ENDING_MS), 130, "%s", scripts[i]);
		run_finish(&run);
		finish_terminal(&terminal);
	}
}

Test(tenon_serial, ctrl_a_x_leaves_a_flood_that_the_terminal_does_not_take)
{
	struct terminal terminal = open_terminal();
	struct run run;
	start_on_terminal(&run, &terminal, "bf");
	sleep(1);
	send_to(terminal.ours, "\001x");
	cr_expect_eq(run_wait(&run, ENDING_MS), 130);
	run_finish(&run);
	finish_terminal(&terminal);
}

Test(tenon_serial, terminal_is_as_it_was_however_it_ends)
{
	static const struct {
		const char *input;
		int signal, status;
	} cases[] = {{"o", 0, 0}, {"t", 0, 4}, {"", SIGTERM, 143}, {"", SIGINT, 130}, {"", SIGHUP, 129}};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct terminal terminal = open_terminal();
		struct run run;
		start_on_terminal(&run, &terminal, "b");
		send_to(terminal.ours, cases[i].input);
		if (cases[i].signal)
			run_signal(&run, cases[i].signal);
		cr_expect_eq(run_wait(&run, PATIENCE_MS), cases[i].status, "case %u", i);
		run_finish(&run);
		finish_terminal(&terminal);
	}
}

Test(tenon_serial, ctrl_c_on_a_terminal_is_the_guests)
{
	struct terminal terminal = open_terminal();
	struct run run;
	start_on_terminal(&run, &terminal, "be");
	send_to(terminal.ours, "\003z");
	expect_from(terminal.ours, "\003z");
	send_to(terminal.ours, "\001x");
	cr_expect_eq(run_wait(&run, ENDING_MS), 130);
	run_finish(&run);
	finish_terminal(&terminal);
}

Test(tenon_serial, refused_start_leaves_the_terminal_alone)
{
	struct terminal terminal = open_terminal();
	const struct run_streams streams = {terminal.theirs, terminal.theirs, STREAM_PIPE, true};
	struct run run;
	run_start(&run, ARGS(SCRIPT("b"), "--device", "/nowhere/vfio3"), &streams);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 1);
	run_finish(&run);
	finish_terminal(&terminal);
}

/* ---- Elsewhere ---- */

Test(tenon_serial, file_gets_the_output_and_nothing_else_does)
{
	const char *path = make_path("log");
	char where[80];
	snprintf(where, sizeof(where), "file:%s", path);
	struct run run;
	run_start(&run, ARGS(SCRIPT("plpopgo"), "--serial", where), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	cr_expect_eq(run.said.count, 0);
	run_finish(&run);
	expect_file(path, "log");
	unlink(path);
	rmdir(folder);
}

Test(tenon_serial, none_swallows_the_output)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("plpopgo"), "--serial", "none"), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	cr_expect_eq(run.said.count + run.complained.count, 0);
	run_finish(&run);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	for (unsigned tries = 0; connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0; tries++) {
		cr_assert_lt(tries, PATIENCE_MS / 10, "%s: %s", path, strerror(errno));
		usleep(10000);
	}
	return fd;
}

Test(tenon_serial, socket_serves_one_client_after_another_and_is_removed)
{
	const char *path = make_path("socket");
	char where[80];
	snprintf(where, sizeof(where), "socket:%s", path);
	struct run run;
	run_start(&run, ARGS(SCRIPT(""), "--serial", where), NULL);
	for (unsigned i = 0; i < 3; i++) {
		int client = connect_to(path);
		send_to(client, "b");
		expect_from(client, "B1");
		close(client);
	}
	int client = connect_to(path);
	send_to(client, "pgppo");
	expect_from(client, "gp");
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	cr_expect_eq(run.said.count, 0);
	run_finish(&run);
	close(client);
	cr_expect_neq(access(path, F_OK), 0);
	cr_expect_eq(rmdir(folder), 0);
}

Test(tenon_serial, socket_without_a_client_does_not_hold_up_the_guest)
{
	const char *path = make_path("socket");
	char where[80];
	snprintf(where, sizeof(where), "socket:%s", path);
	cr_expect_eq(run_to_end(ARGS(SCRIPT("ddddo"), "--serial", where)), 0);
	cr_expect_eq(rmdir(folder), 0);
}

Test(tenon_serial, pty_is_named_to_the_user_and_talks)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("e"), "--serial", "pty"), NULL);
	run_expect_complaint(&run, "/dev/pts/");
	char path[64];
	cr_assert_eq(sscanf(strstr(run.complained.bytes, "/dev/pts/"), "%63[^ ,;\n]", path), 1);
	int pty = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	cr_assert_geq(pty, 0, "%s: %s", path, strerror(errno));
	send_to(pty, "hello");
	expect_from(pty, "hello");
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 143);
	run_finish(&run);
	close(pty);
}

Test(tenon_serial, unknown_place_is_refused_with_the_known_ones)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("o"), "--serial", "printer"), NULL);
	int status = run_wait(&run, PATIENCE_MS);
	cr_expect(status == 1 || status == 2, "%d", status);
	cr_expect(strstr(run.complained.bytes, "stdio") && strstr(run.complained.bytes, "socket"), "%s",
		  run.complained.bytes);
	run_finish(&run);
}

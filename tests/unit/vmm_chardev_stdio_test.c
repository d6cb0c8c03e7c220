// SPDX-License-Identifier: MIT
/*
 * "stdio" on everything that a shell, a script or a service manager may put there: terminals, pipes, files, sockets,
 * nothing. What needs a terminal of its own (signals, job control) runs in a child process that leads a new session on
 * a pty.
 */
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>

#include "vmm_chardev_fixture.h"

static int saved[2] = {-1, -1};

/* Standard input and output become these, as a parent process would have made them. */
static void become_stdio(int in, int out)
{
	saved[0] = fcntl(0, F_DUPFD_CLOEXEC, 10);
	saved[1] = fcntl(1, F_DUPFD_CLOEXEC, 10);
	cr_assert_eq(dup2(in, 0), 0);
	cr_assert_eq(dup2(out, 1), 1);
}

static void open_stdio(int in, int out)
{
	become_stdio(in, out);
	open_chardev("stdio");
}

static void restore_stdio(void)
{
	close_chardev();
	for (int i = 0; i < 2 && saved[i] >= 0; i++)
		dup2(saved[i], i);
}

TestSuite(stdio, .fini = restore_stdio, .timeout = 60);
TestSuite(stdio_terminal, .fini = restore_stdio, .timeout = 60);

struct duplex {
	int read, write; /* of a pipe */
};

static struct duplex make_pipe(void)
{
	int ends[2];
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	return (struct duplex){.read = ends[0], .write = ends[1]};
}

static int open_null(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int open_temporary(const char *text)
{
	char path[] = "/tmp/tenon-stdio-XXXXXX";
	int fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	unlink(path);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	return fd;
}

/* ---- Pipes ---- */

Test(stdio, pipes_carry_both_ways_until_the_input_ends)
{
	struct duplex in = make_pipe(), out = make_pipe();
	open_stdio(in.read, out.write);
	cr_assert_str_eq(chardev_name(chardev), "stdio");
	cr_assert_eq(write(in.write, "echo\n", 5), 5);
	wait_for(CHARDEV_READABLE);
	expect_input("echo\n");
	say("reply");
	expect_output(out.read, "reply");

	cr_assert_eq(write(in.write, "last", 4), 4);
	close(in.write);
	wait_for(CHARDEV_CLOSED | CHARDEV_READABLE);
	expect_input("last");
	settle();
	say("still here");
	expect_output(out.read, "still here");
}

Test(stdio, ctrl_a_x_in_a_pipe_is_ordinary_input)
{
	struct duplex in = make_pipe();
	open_stdio(in.read, open_null());
	cr_assert_eq(write(in.write, "\x01x\x01\x01", 4), 4);
	expect_input("\x01x\x01\x01");
}

Test(stdio, shared_open_file_descriptions_are_not_made_nonblocking)
{
	struct duplex in = make_pipe(), out = make_pipe();
	open_stdio(in.read, out.write);
	cr_assert(!(fcntl(in.read, F_GETFL) & O_NONBLOCK));
	cr_assert(!(fcntl(out.write, F_GETFL) & O_NONBLOCK));
}

Test(stdio, slow_reader_of_a_pipe_fills_the_buffer_and_loses_nothing)
{
	struct duplex out = make_pipe();
	open_stdio(open_null(), out.write);
	size_t count = write_until_refused();
	cr_assert_gt(count, BUFFER_BYTES);
	cr_assert(drain_pattern(out.read, count) & CHARDEV_DRAINED);
}

Test(stdio, reader_of_a_pipe_that_dies_costs_output_only)
{
	struct duplex out = make_pipe();
	open_stdio(open_null(), out.write);
	write_until_refused();
	close(out.read);
	wait_for(CHARDEV_DRAINED);
	for (unsigned i = 0; i < 2 * BUFFER_BYTES; i++)
		cr_assert(chardev_write(chardev, 'x'));
	settle();
}

Test(stdio, pipe_whose_reader_is_already_gone_is_no_reason_to_fail)
{
	struct duplex out = make_pipe();
	close(out.read);
	open_stdio(open_null(), out.write);
	for (unsigned i = 0; i < 2 * BUFFER_BYTES; i++)
		cr_assert(chardev_write(chardev, 'x'));
}

Test(stdio, input_waits_for_the_guest_without_loss_or_spinning)
{
	struct duplex in = make_pipe();
	uint8_t sent[20000], got[sizeof(sent)];
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = pattern(i);
	open_stdio(in.read, open_null());
	cr_assert_eq(write(in.write, sent, sizeof(sent)), (ssize_t)sizeof(sent));
	close(in.write);
	settle();
	take(got, sizeof(got));
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
	wait_for(CHARDEV_CLOSED);
}

/* ---- What cannot be polled ---- */

Test(stdio, dev_null_ends_at_once_and_the_event_loop_sleeps)
{
	open_stdio(open_null(), open_null());
	cr_assert_eq(settle(), CHARDEV_CLOSED);
	say("into nothing");
}

Test(stdio, file_is_read_to_its_end_from_where_it_stood)
{
	char text[5001];
	memset(text, 'f', sizeof(text));
	text[5000] = '\0';
	int in = open_temporary(text);
	cr_assert_eq(lseek(in, 1000, SEEK_SET), 1000);
	open_stdio(in, open_null());
	char got[4000];
	take(got, sizeof(got));
	cr_assert_eq(memcmp(got, text, sizeof(got)), 0);
	wait_for(CHARDEV_CLOSED);
	expect_no_input();
}

Test(stdio, output_file_is_continued_where_the_parent_left_it)
{
	int out = open_temporary("parent says, ");
	open_stdio(open_null(), out);
	say("guest says");
	char got[64] = "";
	cr_assert_gt(pread(out, got, sizeof(got) - 1, 0), 0);
	cr_assert_str_eq(got, "parent says, guest says");
}

Test(stdio, closed_descriptors_are_as_good_as_none)
{
	int null = open_null();
	become_stdio(null, null);
	close(0);
	close(1);
	open_chardev("stdio");
	settle();
	say("into nothing");
}

/* ---- Sockets ---- */

Test(stdio, sockets_carry_both_ways_without_sigpipe)
{
	int ends[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	open_stdio(ends[0], ends[0]);
	signal(SIGPIPE, SIG_DFL);
	close(ends[0]);
	cr_assert_eq(write(ends[1], "hi", 2), 2);
	expect_input("hi");
	say("ho");
	expect_output(ends[1], "ho");
	cr_assert(!(fcntl(0, F_GETFL) & O_NONBLOCK));

	size_t count = write_until_refused();
	cr_assert(drain_pattern(ends[1], count) & CHARDEV_DRAINED);
	close(ends[1]);
	for (unsigned i = 0; i < 2 * BUFFER_BYTES; i++)
		cr_assert(chardev_write(chardev, 'x'));
	wait_for(CHARDEV_CLOSED);
	settle();
}

Test(stdio, is_given_out_once)
{
	struct tenon_error err = {0};
	struct chardev *second = NULL;
	open_stdio(open_null(), open_null());
	cr_assert_eq(chardev_open("stdio", &second, &err), -EBUSY);
	cr_assert(strstr(err.message, "already in use"), "%s", err.message);
	close_chardev();
	open_chardev("stdio");
}

/* ---- Terminals ---- */

struct terminal {
	int master, slave; /* the user's end, and the program's */
};

static struct terminal make_terminal(void)
{
	struct terminal terminal = {.master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)};
	cr_assert_geq(terminal.master, 0);
	cr_assert_eq(unlockpt(terminal.master), 0);
	terminal.slave = ioctl(terminal.master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	cr_assert_geq(terminal.slave, 0);
	return terminal;
}

static struct terminal open_on_terminal(void)
{
	struct terminal terminal = make_terminal();
	open_stdio(terminal.slave, terminal.slave);
	return terminal;
}

static bool is_raw(int fd)
{
	struct termios modes;
	cr_assert_eq(tcgetattr(fd, &modes), 0);
	return !(modes.c_lflag & (ICANON | ECHO | ISIG));
}

static void press(const struct terminal *terminal, const char *keys)
{
	cr_assert_eq(write(terminal->master, keys, strlen(keys)), (ssize_t)strlen(keys));
}

Test(stdio_terminal, is_raw_until_close_and_then_as_it_was_found)
{
	struct terminal terminal = make_terminal();
	struct termios before, after;
	cr_assert_eq(tcgetattr(terminal.slave, &before), 0);
	cr_assert(!is_raw(terminal.slave));
	open_stdio(terminal.slave, terminal.slave);
	cr_assert(is_raw(terminal.slave));
	cr_assert(!(fcntl(terminal.slave, F_GETFL) & O_NONBLOCK), "a shell shares it");
	close_chardev();
	cr_assert_eq(tcgetattr(terminal.slave, &after), 0);
	cr_assert_eq(before.c_iflag, after.c_iflag);
	cr_assert_eq(before.c_oflag, after.c_oflag);
	cr_assert_eq(before.c_cflag, after.c_cflag);
	cr_assert_eq(before.c_lflag, after.c_lflag);
	cr_assert_eq(memcmp(before.c_cc, after.c_cc, sizeof(before.c_cc)), 0);
}

Test(stdio_terminal, keys_reach_the_guest_as_they_are)
{
	struct terminal terminal = open_on_terminal();
	press(&terminal, "ls\r\x03\x1a\x04\x11\x13");
	expect_input("ls\r\x03\x1a\x04\x11\x13");
	expect_no_output(terminal.master);
	say("bin\r\n");
	expect_output(terminal.master, "bin\r");
}

Test(stdio_terminal, ctrl_a_x_leaves_once)
{
	struct terminal terminal = open_on_terminal();
	press(&terminal, "ab\x01xcd");
	wait_for(CHARDEV_LEAVE | CHARDEV_READABLE);
	cr_assert(!(settle() & CHARDEV_LEAVE));
	expect_input("ab");
	expect_no_input();
}

Test(stdio_terminal, ctrl_a_may_come_apart_from_its_x)
{
	struct terminal terminal = open_on_terminal();
	press(&terminal, "\x01");
	expect_no_input();
	press(&terminal, "X");
	wait_for(CHARDEV_LEAVE);
}

Test(stdio_terminal, ctrl_a_twice_sends_one_and_others_pass)
{
	struct terminal terminal = open_on_terminal();
	press(&terminal, "\x01\x01x\x01qz");
	expect_input("\x01x\x01qz");
}

Test(stdio_terminal, ctrl_a_h_helps)
{
	struct terminal terminal = open_on_terminal();
	press(&terminal, "\x01h");
	settle();
	expect_output(terminal.master, "\r\r\nCtrl-A X ends the VM");
	expect_no_input();
}

Test(stdio_terminal, ctrl_a_x_works_while_the_guest_takes_nothing)
{
	struct terminal terminal = open_on_terminal();
	char keys[201];
	memset(keys, 'k', sizeof(keys));
	keys[200] = '\0';
	for (unsigned i = 0; i < 20; i++) {
		press(&terminal, keys);
		settle();
	}
	press(&terminal, "\x01x");
	wait_for(CHARDEV_LEAVE);
}

Test(stdio_terminal, that_does_not_read_fills_the_buffer_and_loses_nothing)
{
	struct terminal terminal = make_terminal();
	struct termios modes;
	tcgetattr(terminal.slave, &modes);
	cfmakeraw(&modes); /* no CR in front of each LF of the pattern */
	tcsetattr(terminal.slave, TCSANOW, &modes);
	open_stdio(terminal.slave, terminal.slave);
	size_t count = write_until_refused();
	cr_assert_gt(count, BUFFER_BYTES);
	cr_assert(drain_pattern(terminal.master, count) & CHARDEV_DRAINED);
}

Test(stdio_terminal, that_hangs_up_is_the_end_of_input_and_of_output)
{
	struct terminal terminal = open_on_terminal();
	write_until_refused();
	close(terminal.master);
	wait_for(CHARDEV_CLOSED | CHARDEV_DRAINED);
	cr_assert(chardev_write(chardev, 'x'));
	settle();
}

Test(stdio_terminal, description_that_cannot_be_reopened_is_polled_instead)
{
	struct terminal terminal = make_terminal(); /* the master: reopening it would make another pty */
	struct termios modes;
	tcgetattr(terminal.slave, &modes);
	cfmakeraw(&modes);
	tcsetattr(terminal.slave, TCSANOW, &modes);
	open_stdio(terminal.master, terminal.master);
	cr_assert(!(fcntl(terminal.master, F_GETFL) & O_NONBLOCK));
	cr_assert_eq(write(terminal.slave, "in", 2), 2);
	expect_input("in");
	say("out");
	expect_output(terminal.slave, "out");
	size_t count = write_until_refused();
	cr_assert(drain_pattern(terminal.slave, count) & CHARDEV_DRAINED);
}

/* ---- Signals and jobs ---- */

static void write_report(int fd, char report)
{
	if (write(fd, &report, 1) != 1)
		_exit(99);
}

/* In a child: stdio is the terminal. */
static void child_stdio(const struct terminal *terminal)
{
	dup2(terminal->slave, 0);
	dup2(terminal->slave, 1);
	signal(SIGPIPE, SIG_IGN);
	if (chardev_open("stdio", &chardev, NULL) < 0)
		_exit(98);
}

static void check_signal_restores(int number)
{
	struct terminal terminal = make_terminal();
	struct duplex report = make_pipe();
	pid_t child = fork();
	if (child == 0) {
		signal(number, SIG_DFL);
		child_stdio(&terminal);
		write_report(report.write, 'r');
		for (;;)
			pause();
	}
	expect_output(report.read, "r");
	cr_assert(is_raw(terminal.slave));
	cr_assert_eq(kill(child, number), 0);
	int status;
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == number, "signal %d: status %#x", number, status);
	cr_assert(!is_raw(terminal.slave), "signal %d leaves the terminal raw", number);
}

Test(stdio_terminal, signals_that_end_the_process_restore_it_and_still_end_the_process)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGABRT, SIGSYS};
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		check_signal_restores(numbers[i]);
}

static void programs_handler(int number)
{
	chardev_restore_terminal();
}

Test(stdio_terminal, handlers_of_the_program_stay_and_may_restore_it_themselves)
{
	struct sigaction before = {.sa_handler = programs_handler}, now;
	sigaction(SIGTERM, &before, NULL);
	struct terminal terminal = open_on_terminal();
	sigaction(SIGTERM, NULL, &now);
	cr_assert_eq(now.sa_handler, programs_handler);
	cr_assert(is_raw(terminal.slave));
	raise(SIGTERM);
	cr_assert(!is_raw(terminal.slave));

	sigaction(SIGINT, &before, NULL); /* installed later */
	close_chardev();
	sigaction(SIGINT, NULL, &now);
	cr_assert_eq(now.sa_handler, programs_handler);
	sigaction(SIGHUP, NULL, &now);
	cr_assert_eq(now.sa_handler, SIG_DFL, "ours are gone");
}

/* In a child: the event loop, until Ctrl-A X. 'o' for opened and then every byte of input go to `report`. */
static void run_job(const struct terminal *terminal, int report)
{
	child_stdio(terminal);
	write_report(report, 'o');
	for (;;) {
		is_readable(chardev_poll_fd(chardev), 1000);
		unsigned events = chardev_dispatch(chardev);
		uint8_t byte;
		while (chardev_read(chardev, &byte, 1))
			write_report(report, (char)byte);
		if (events & CHARDEV_LEAVE)
			break;
	}
	chardev_close(chardev);
	_exit(0);
}

/*
 * In a child that leads a session on the terminal, as a shell does: starts the job in a process group of its own, in
 * front or in the background, and then obeys: 'f' brings it to the front without SIGCONT, 's' stops it and takes the
 * terminal back with its modes, 'c' continues it in front, 'q' leaves.
 */
static void run_shell(const struct terminal *terminal, int commands, int report, bool front)
{
	setsid();
	ioctl(terminal->slave, TIOCSCTTY, 0);
	signal(SIGTTOU, SIG_IGN);
	struct termios modes;
	tcgetattr(terminal->slave, &modes);
	pid_t job = fork();
	if (job == 0) {
		setpgid(0, 0);
		if (front)
			tcsetpgrp(terminal->slave, getpid());
		signal(SIGTTOU, SIG_DFL);
		run_job(terminal, report);
	}
	setpgid(job, job);
	char command;
	int status;
	while (read(commands, &command, 1) == 1 && command != 'q') {
		switch (command) {
		case 's':
			kill(job, SIGSTOP);
			waitpid(job, &status, WUNTRACED);
			tcsetpgrp(terminal->slave, getpgrp());
			tcsetattr(terminal->slave, TCSANOW, &modes);
			break;
		case 'c':
			tcsetpgrp(terminal->slave, job);
			kill(job, SIGCONT);
			break;
		case 'f':
			tcsetpgrp(terminal->slave, job);
			break;
		}
		write_report(report, 'd'); /* done */
	}
	/* Stopped instead of ended would be the failure that this looks for. */
	while (waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status)) {
		write_report(report, '!');
		kill(job, SIGKILL);
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 97);
}

struct session {
	struct terminal terminal;
	int commands, report;
	pid_t shell;
};

static struct session start_session(bool front)
{
	struct duplex commands = make_pipe(), report = make_pipe();
	struct session session = {.terminal = make_terminal(), .commands = commands.write, .report = report.read};
	session.shell = fork();
	if (session.shell == 0)
		run_shell(&session.terminal, commands.read, report.write, front);
	expect_output(session.report, "o");
	return session;
}

static void command(const struct session *session, const char *which)
{
	cr_assert_eq(write(session->commands, which, 1), 1);
	expect_output(session->report, "d");
}

static void wait_until_raw(const struct session *session)
{
	for (unsigned i = 0; !is_raw(session->terminal.slave); i++) {
		cr_assert_lt(i, PATIENCE_MS, "the terminal does not become raw");
		usleep(1000);
	}
}

/* The job must end by its own exit, after Ctrl-A X. */
static void end_session(const struct session *session)
{
	int status;
	press(&session->terminal, "\x01x");
	cr_assert_eq(write(session->commands, "q", 1), 1);
	cr_assert_eq(waitpid(session->shell, &status, 0), session->shell);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	cr_assert(!is_raw(session->terminal.slave));
}

Test(stdio_terminal, stopped_and_continued_it_is_raw_again)
{
	struct session session = start_session(true);
	wait_until_raw(&session);
	press(&session.terminal, "a");
	expect_output(session.report, "a");
	command(&session, "s");
	cr_assert(!is_raw(session.terminal.slave));
	command(&session, "c");
	wait_until_raw(&session);
	press(&session.terminal, "b");
	expect_output(session.report, "b");
	end_session(&session);
}

Test(stdio_terminal, in_the_background_it_is_left_alone_until_the_job_comes_to_the_front)
{
	struct session session = start_session(false);
	press(&session.terminal, "shell's\n");
	usleep(100000);
	cr_assert(!is_raw(session.terminal.slave));
	cr_assert(!is_readable(session.report, 0), "the job must not take the shell's input");
	tcflush(session.terminal.slave, TCIFLUSH); /* the shell took it */
	command(&session, "f");
	press(&session.terminal, "\n"); /* the first line is what wakes it */
	wait_until_raw(&session);
	press(&session.terminal, "b");
	char got[8] = "";
	for (size_t length = 0; !strchr(got, 'b'); length++) {
		cr_assert(length < sizeof(got) - 1 && is_readable(session.report, PATIENCE_MS));
		cr_assert_eq(read(session.report, got + length, 1), 1);
	}
	end_session(&session);
}

// SPDX-License-Identifier: MIT
/* Files, sockets and ptys as consoles, each with a real peer. Standard input and output: vmm_chardev_stdio_test.c. */
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#include "vmm_chardev_fixture.h"

static char folder[] = "/tmp/tenon-chardev-XXXXXX";

static void make_folder(void)
{
	cr_assert(mkdtemp(folder), "%m");
	cr_assert_eq(chdir(folder), 0);
}

static void remove_folder(void)
{
	static const char *const names[] = {"log", "fifo", "sock", "old"};
	close_chardev();
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(names[i]);
	cr_assert_eq(rmdir(folder), 0, "something was left behind");
}

TestSuite(chardev, .init = make_folder, .fini = remove_folder, .timeout = 60);
TestSuite(chardev_file, .init = make_folder, .fini = remove_folder, .timeout = 60);
TestSuite(chardev_socket, .init = make_folder, .fini = remove_folder, .timeout = 60);
TestSuite(chardev_pty, .init = make_folder, .fini = remove_folder, .timeout = 60);

static void expect_refusal(const char *spec, int code, const char *reason)
{
	struct tenon_error err = {0};
	struct chardev *out = NULL;
	cr_assert_eq(chardev_open(spec, &out, &err), code, "%s: %s", spec, err.message);
	cr_assert_eq(err.code, code);
	cr_assert(strstr(err.message, reason), "%s", err.message);
	cr_assert_null(out);
}

Test(chardev, unknown_kinds_are_refused_with_the_list_of_kinds)
{
	static const char *const bad[] = {"",     "tty",   "stdi",   "stdio:",  "stdio:x", "none:x",
					  "file", "file:", "socket", "socket:", "pty:x",   "pty/dev/pts/3"};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_refusal(bad[i], -EINVAL, "use stdio, none, file:PATH, socket:PATH or pty");
}

Test(chardev, none_swallows_output_and_has_no_input)
{
	open_chardev("none");
	cr_assert_str_eq(chardev_name(chardev), "none");
	cr_assert_eq(chardev_poll_fd(chardev), -1);
	for (unsigned i = 0; i < 2 * BUFFER_BYTES; i++)
		cr_assert(chardev_write(chardev, 'x'));
	uint8_t byte;
	cr_assert_eq(chardev_read(chardev, &byte, 1), 0);
	cr_assert_eq(chardev_dispatch(chardev), 0);
	chardev_flush(chardev, 1000);
}

/* ---- file ---- */

static void expect_file(const char *path, const char *text)
{
	char got[256] = "";
	int fd = open(path, O_RDONLY);
	cr_assert_geq(fd, 0);
	cr_assert_geq(read(fd, got, sizeof(got) - 1), 0);
	close(fd);
	cr_assert_str_eq(got, text);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

Test(chardev_file, is_created_or_emptied_and_takes_output_at_once)
{
	write_file("log", "what an earlier run wrote");
	open_chardev("file:log");
	cr_assert_str_eq(chardev_name(chardev), "file log");
	cr_assert_eq(chardev_poll_fd(chardev), -1, "a file never has anything to wait for");
	say("hello");
	expect_file("log", "hello");
}

Test(chardev_file, goes_on_at_the_start_when_somebody_empties_it)
{
	open_chardev("file:log");
	say("before");
	cr_assert_eq(truncate("log", 0), 0);
	say("after");
	expect_file("log", "after");
}

Test(chardev_file, that_cannot_be_created_is_refused_with_the_reason)
{
	expect_refusal("file:nowhere/log", -ENOENT, "nowhere/log: cannot create: No such file or directory");
	expect_refusal("file:.", -EISDIR, "Is a directory");
}

Test(chardev_file, on_a_full_disk_costs_output_only)
{
	open_chardev("file:/dev/full");
	for (unsigned i = 0; i < 2 * BUFFER_BYTES; i++)
		cr_assert(chardev_write(chardev, 'x'));
}

Test(chardev_file, fifo_without_a_reader_is_refused_and_with_one_is_not_waited_for)
{
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	expect_refusal("file:fifo", -ENXIO, "start its reader first");
	int reader = open("fifo", O_RDONLY | O_NONBLOCK);
	open_chardev("file:fifo");
	size_t count = write_until_refused();
	cr_assert_gt(count, BUFFER_BYTES);
	cr_assert(drain_pattern(reader, count) & CHARDEV_DRAINED);
	close(reader);
	cr_assert(chardev_write(chardev, 'x'), "a broken reader costs output only");
}

/* ---- socket ---- */

static int connect_client(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "sock"};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0, "%m");
	return fd;
}

static int open_socket_with_client(void)
{
	open_chardev("socket:sock");
	int client = connect_client();
	settle();
	return client;
}

Test(chardev_socket, existing_path_is_refused_with_advice_and_left_alone)
{
	write_file("sock", "precious");
	expect_refusal("socket:sock", -EADDRINUSE, "sock: cannot listen: the path exists; remove it");
	expect_file("sock", "precious");
}

Test(chardev_socket, path_that_is_too_long_or_nowhere_is_refused)
{
	char spec[200] = "socket:";
	memset(spec + 7, 'a', 108);
	expect_refusal(spec, -ENAMETOOLONG, "at most 107 bytes");
	expect_refusal("socket:nowhere/sock", -ENOENT, "No such file or directory");
}

Test(chardev_socket, is_open_to_this_user_only_and_removed_at_close)
{
	struct stat status;
	umask(0);
	open_chardev("socket:sock");
	cr_assert_str_eq(chardev_name(chardev), "socket sock");
	cr_assert_eq(stat("sock", &status), 0);
	cr_assert_eq(status.st_mode & 0777, 0600);
	close_chardev();
	cr_assert_neq(stat("sock", &status), 0);
}

Test(chardev_socket, path_that_now_is_somebody_elses_is_not_removed)
{
	open_chardev("socket:sock");
	cr_assert_eq(rename("sock", "old"), 0);
	write_file("sock", "another program's");
	close_chardev();
	expect_file("sock", "another program's");
}

Test(chardev_socket, without_a_client_swallows_output)
{
	open_chardev("socket:sock");
	for (unsigned i = 0; i < 2 * BUFFER_BYTES; i++)
		cr_assert(chardev_write(chardev, 'x'));
	int client = connect_client();
	settle();
	say("now");
	expect_output(client, "now");
}

Test(chardev_socket, client_talks_and_listens)
{
	int client = open_socket_with_client();
	cr_assert_eq(write(client, "ls\n", 3), 3);
	wait_for(CHARDEV_READABLE);
	expect_input("ls\n");
	say("file");
	expect_output(client, "file");
	expect_no_input();
}

Test(chardev_socket, ctrl_a_x_is_ordinary_input)
{
	int client = open_socket_with_client();
	cr_assert_eq(write(client, "\x01x", 2), 2);
	expect_input("\x01x");
}

Test(chardev_socket, next_client_waits_until_the_first_left)
{
	int first = open_socket_with_client();
	int second = connect_client();
	cr_assert_eq(write(second, "2", 1), 1);
	expect_no_input();
	say("a");
	expect_output(first, "a");
	close(first);
	wait_for(CHARDEV_CLOSED);
	expect_input("2");
	say("b");
	expect_output(second, "b");
}

Test(chardev_socket, input_of_a_client_that_left_still_arrives)
{
	int client = open_socket_with_client();
	cr_assert_eq(write(client, "bye", 3), 3);
	close(client);
	expect_input("bye");
	settle();
}

Test(chardev_socket, client_that_stopped_sending_goes_on_listening)
{
	int client = open_socket_with_client();
	cr_assert_eq(write(client, "run", 3), 3);
	cr_assert_eq(shutdown(client, SHUT_WR), 0);
	expect_input("run");
	settle();
	say("result");
	expect_output(client, "result");
	close(client);
	wait_for(CHARDEV_CLOSED);
	settle();
	client = connect_client();
	settle();
	say("next");
	expect_output(client, "next");
}

Test(chardev_socket, client_that_does_not_read_fills_the_buffer_and_loses_nothing)
{
	int client = open_socket_with_client();
	size_t count = write_until_refused();
	cr_assert_gt(count, BUFFER_BYTES);
	cr_assert(!(settle() & CHARDEV_DRAINED));
	cr_assert(!chardev_write(chardev, 'x'));
	cr_assert(drain_pattern(client, count) & CHARDEV_DRAINED);
	settle();
	say("on");
	expect_output(client, "on");
}

Test(chardev_socket, client_that_dies_with_a_full_buffer_frees_the_guest)
{
	int client = open_socket_with_client();
	write_until_refused();
	close(client);
	wait_for(CHARDEV_DRAINED | CHARDEV_CLOSED);
	cr_assert(chardev_write(chardev, 'x'));
	client = connect_client();
	settle();
	say("fresh");
	expect_output(client, "fresh");
}

Test(chardev_socket, input_waits_for_the_guest_without_loss_or_spinning)
{
	int client = open_socket_with_client();
	uint8_t sent[20000], got[sizeof(sent)];
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = pattern(i);
	cr_assert_eq(write(client, sent, sizeof(sent)), (ssize_t)sizeof(sent));
	cr_assert(settle() & CHARDEV_READABLE);
	take(got, sizeof(got));
	cr_assert_eq(memcmp(sent, got, sizeof(sent)), 0);
}

Test(chardev_socket, flush_delivers_what_is_buffered_and_gives_up_in_time)
{
	int client = open_socket_with_client();
	write_until_refused();
	struct timespec before, after;
	clock_gettime(CLOCK_MONOTONIC, &before);
	chardev_flush(chardev, 100);
	clock_gettime(CLOCK_MONOTONIC, &after);
	double seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	cr_assert(seconds > 0.09 && seconds < 2.0, "%f s", seconds);
	close(client);
	chardev_flush(chardev, 100000);
}

/* ---- pty ---- */

static const char *pty_path(void)
{
	const char *name = chardev_name(chardev);
	cr_assert_eq(strncmp(name, "pty /dev/pts/", 13), 0, "%s", name);
	return name + 4;
}

static int open_slave(void)
{
	int slave = open(pty_path(), O_RDWR | O_NOCTTY | O_CLOEXEC);
	cr_assert_geq(slave, 0);
	return slave;
}

Test(chardev_pty, user_talks_and_listens_without_echo)
{
	open_chardev("pty");
	int slave = open_slave();
	say("login: ");
	expect_output(slave, "login: ");
	expect_no_input();
	cr_assert_eq(write(slave, "root\r\x03", 6), 6);
	expect_input("root\r\x03");
	expect_no_output(slave);
}

Test(chardev_pty, while_nobody_has_it_open_output_is_swallowed_and_the_event_loop_sleeps)
{
	open_chardev("pty");
	cr_assert_eq(settle(), 0);
	for (unsigned i = 0; i < 2 * BUFFER_BYTES; i++)
		cr_assert(chardev_write(chardev, 'x'));
	int slave = open_slave();
	expect_no_output(slave);
	say("now");
	expect_output(slave, "now");
}

Test(chardev_pty, user_may_leave_and_come_back)
{
	open_chardev("pty");
	for (unsigned i = 0; i < 3; i++) {
		int slave = open_slave();
		cr_assert_eq(write(slave, "in", 2), 2);
		expect_input("in");
		say("out");
		expect_output(slave, "out");
		close(slave);
		wait_for(CHARDEV_CLOSED);
		settle();
		for (unsigned j = 0; j < 2 * BUFFER_BYTES; j++)
			cr_assert(chardev_write(chardev, 'x'));
	}
}

Test(chardev_pty, user_that_does_not_read_fills_the_buffer_and_loses_nothing)
{
	open_chardev("pty");
	int slave = open_slave();
	size_t count = write_until_refused();
	cr_assert_geq(count, BUFFER_BYTES);
	cr_assert(drain_pattern(slave, count) & CHARDEV_DRAINED);
}

Test(chardev_pty, user_that_leaves_with_a_full_buffer_frees_the_guest)
{
	open_chardev("pty");
	int slave = open_slave();
	write_until_refused();
	settle();
	close(slave);
	wait_for(CHARDEV_DRAINED | CHARDEV_CLOSED);
	cr_assert(chardev_write(chardev, 'x'));
}

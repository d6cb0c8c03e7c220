// SPDX-License-Identifier: MIT
/* The program tenon-testdev: its command line, its socket, how it ends and with which status. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "testdev_client.h"

static char folder[64], path[96];

struct program {
	pid_t pid;
	FILE *out;
	char said[8192];
};

static void make_folder(void)
{
	strcpy(folder, "/tmp/tenon-testdev-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
}

static void remove_folder(void)
{
	unlink(path);
	rmdir(folder);
}

TestSuite(testdev_program, .init = make_folder, .fini = remove_folder, .timeout = 60);

/* Standard output and error in one. @param keep  a file descriptor that it inherits as 9; -1: none */
static void start(struct program *program, const char *const *args, int keep)
{
	const char *argv[16] = {"tenon-testdev"};
	int ends[2];
	for (unsigned i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	cr_assert_eq(pipe(ends), 0);
	*program = (struct program){.pid = fork()};
	if (program->pid == 0) {
		alarm(PATIENCE_S);
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		if (keep >= 0)
			dup2(keep, 9);
		close(ends[0]);
		close(ends[1]);
		execv(TENON_TESTDEV, (char **)argv);
		_exit(127);
	}
	close(ends[1]);
	program->out = fdopen(ends[0], "r");
}

/* Waits for its first line. */
static void await_listening(struct program *program)
{
	cr_assert_not_null(fgets(program->said, sizeof(program->said), program->out));
	cr_assert(strstr(program->said, "listening on "), "%s", program->said);
}

/* @return its exit status; 1000 + the signal that killed it */
static int finish(struct program *program)
{
	int status;
	size_t count = fread(program->said, 1, sizeof(program->said) - 1, program->out);
	program->said[count] = '\0';
	fclose(program->out);
	cr_assert_eq(waitpid(program->pid, &status, 0), program->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void connect_to(struct client *client)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, path);
	*client = (struct client){.twin = -1, .next_id = 1, .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	cr_assert_eq(connect(client->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(client_greet(client, "{\"capabilities\":{\"max_msg_fds\":8}}"), 0);
}

Test(testdev_program, serves_one_client_after_the_other_until_sigterm)
{
	struct program program;
	struct client client;
	start(&program, (const char *const[]){path, NULL}, -1);
	await_listening(&program);
	for (unsigned i = 1; i <= 3; i++) {
		connect_to(&client);
		client_enable(&client);
		cr_expect_eq(reg(&client, TD_CONNECTIONS), i);
		close(client.fd);
	}
	kill(program.pid, SIGTERM);
	cr_expect_eq(finish(&program), 0);
	cr_expect_str_eq(program.said, "violations 0\n");
	cr_expect_neq(access(path, F_OK), 0, "the socket is gone");
}

Test(testdev_program, sigint_ends_it_with_a_client_connected)
{
	struct program program;
	struct client client;
	start(&program, (const char *const[]){path, NULL}, -1);
	await_listening(&program);
	connect_to(&client);
	kill(program.pid, SIGINT);
	cr_expect_eq(finish(&program), 0);
	cr_expect(client_dropped(&client));
	close(client.fd);
}

Test(testdev_program, once_ends_with_the_first_client)
{
	struct program program;
	struct client client;
	start(&program, (const char *const[]){"--once", "--socket-path", path, NULL}, -1);
	await_listening(&program);
	connect_to(&client);
	close(client.fd);
	cr_expect_eq(finish(&program), 0);
}

Test(testdev_program, journal_is_printed_and_strict_makes_it_the_exit_status)
{
	struct program program;
	struct client client;
	start(&program, (const char *const[]){"--once", "--strict", "--quiet", path, NULL}, -1);
	await_listening(&program);
	connect_to(&client);
	cr_expect_eq(client_read(&client, TD_BAR_REGISTERS, 0, 4), 0xffffffff, "decoding is off");
	cr_expect_eq(client_read(&client, TD_BAR_REGISTERS, 0, 4), 0xffffffff);
	close(client.fd);
	cr_expect_eq(finish(&program), 3);
	cr_expect_str_eq(program.said, "violation access-without-decoding 2\nviolations 2\n");
}

Test(testdev_program, events_are_printed_as_they_happen_and_not_without_end)
{
	struct program program;
	struct client client;
	unsigned lines = 0;
	start(&program, (const char *const[]){"--once", path, NULL}, -1);
	await_listening(&program);
	connect_to(&client);
	for (unsigned i = 0; i < 100; i++)
		client_read(&client, TD_BAR_REGISTERS, 0, 4);
	close(client.fd);
	cr_expect_eq(finish(&program), 0);
	for (const char *at = program.said; (at = strstr(at, "access-without-decoding in state RUNNING")); at++)
		lines++;
	cr_expect_eq(lines, 16, "%s", program.said);
	cr_expect(strstr(program.said, "violation access-without-decoding 100\n"), "%s", program.said);
}

Test(testdev_program, connected_socket_can_be_passed)
{
	struct program program;
	struct client client = {.twin = -1, .next_id = 1};
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	int pair[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	start(&program, (const char *const[]){"--fd=9", NULL}, pair[1]);
	close(pair[1]);
	client.fd = pair[0];
	setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	cr_expect_eq(client_greet(&client, NULL), 0);
	close(client.fd);
	cr_expect_eq(finish(&program), 0);
}

Test(testdev_program, faults_come_from_the_command_line)
{
	struct program program;
	struct client client;
	start(&program, (const char *const[]){"--once", "--fault=error=16@reset", "--fault=vanish@info", path, NULL},
	      -1);
	await_listening(&program);
	connect_to(&client);
	cr_expect_eq(client_call(&client, VU_RESET, NULL, 0), -EBUSY);
	cr_expect_eq(client_alive(&client), false);
	close(client.fd);
	cr_expect_eq(finish(&program), 0);
}

Test(testdev_program, options_reach_the_device)
{
	struct program program;
	struct client client;
	start(&program,
	      (const char *const[]){"--once", "--no-p2p", "--no-pre-copy", "--state-size=131072", "--no-logging", path,
				    NULL},
	      -1);
	await_listening(&program);
	connect_to(&client);
	client_enable(&client);
	cr_expect_eq(reg(&client, TD_FEATURES), TD_FEATURE_MIGRATION);
	cr_expect_eq(reg64(&client, TD_BLOCK_BYTES), 131072);
	close(client.fd);
	cr_expect_eq(finish(&program), 0);
}

Test(testdev_program, wrong_use_is_one_line_and_status_2)
{
	static const char *const uses[][3] = {
		{NULL},
		{"--nonsense"},
		{"--fault"},
		{"a", "b"},
		{"--fd=3", "a"},
		{"--fd=x"},
		{"--state-size=0", "a"},
		{"--state-size=-4096", "a"},
		{"--dirty-rate=many", "a"},
		{"--data-bytes=1", "a"},
		{"--fault=error", "a"},
	};
	for (unsigned i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		struct program program;
		start(&program, uses[i], -1);
		cr_expect_eq(finish(&program), 2, "use %u", i);
		cr_expect_eq(strncmp(program.said, "tenon-testdev: ", 15), 0, "use %u: %s", i, program.said);
		cr_expect_eq(strchr(program.said, '\n'), program.said + strlen(program.said) - 1, "%s", program.said);
	}
}

Test(testdev_program, failures_are_one_line_and_status_1)
{
	char too_long[200], missing[128];
	struct program program;
	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	snprintf(missing, sizeof(missing), "%s/none/socket", folder);
	const char *const uses[][3] = {{too_long}, {missing}, {"--state-size=5000", path}};
	for (unsigned i = 0; i < 3; i++) {
		start(&program, uses[i], -1);
		cr_expect_eq(finish(&program), 1, "use %u: %s", i, program.said);
		cr_expect_eq(strchr(program.said, '\n'), program.said + strlen(program.said) - 1, "%s", program.said);
	}
}

Test(testdev_program, path_in_use_is_left_alone)
{
	struct program first, second;
	struct client client;
	start(&first, (const char *const[]){"--once", path, NULL}, -1);
	await_listening(&first);
	start(&second, (const char *const[]){path, NULL}, -1);
	cr_expect_eq(finish(&second), 1);
	cr_expect(strstr(second.said, "Address already in use"), "%s", second.said);
	connect_to(&client);
	close(client.fd);
	cr_expect_eq(finish(&first), 0);
}

Test(testdev_program, help_names_every_option)
{
	static const char *const options[] = {"--socket-path",    "--fd",
					      "--once",           "--strict",
					      "--fault",          "--state-size",
					      "--state-rate",     "--dirty-rate",
					      "--dma-timeout",    "--data-bytes",
					      "--no-migration",   "--no-pre-copy",
					      "--no-p2p",         "--no-logging",
					      "--no-twin-socket", "--no-mapping",
					      "--no-reset",       "--no-doorbell-fds",
					      "--fixed-msix",     "--long-sub-regions",
					      "--quiet"};
	struct program program;
	start(&program, (const char *const[]){"--help", NULL}, -1);
	cr_expect_eq(finish(&program), 0);
	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		cr_expect(strstr(program.said, options[i]), "%s", options[i]);
}

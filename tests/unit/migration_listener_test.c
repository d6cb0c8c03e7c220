// SPDX-License-Identifier: MIT
/* Listeners: where they listen, what they remove and what they leave alone, and being handed to another process. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <tenon-migration/channel.h>

#include "../fakes/descriptors.h"
#include "listener.h"
#include "migration_kernel.h"

TestSuite(migration_listener, .timeout = 60);

#define SHORT_MS 30 /* for what must time out */

/* ---- A folder, and what is in it ---- */

static char folder[] = "/tmp/tenon-listener-XXXXXX";
static char path[64], address[80];

static void set_up(void)
{
	cr_assert(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
	snprintf(address, sizeof(address), "unix:%s", path);
}

static void tear_down(void)
{
	unlink(path);
	cr_assert_eq(rmdir(folder), 0, "something is left behind");
}

static struct tenon_listener *listen_at(const char *where)
{
	struct tenon_listener *listener;
	struct tenon_error err;
	cr_assert_eq(tenon_listener_open(where, NULL, &listener, &err), 0, "%s", err.message);
	return listener;
}

static void expect_refused(const char *where, int code, const char *words)
{
	struct tenon_listener *listener;
	struct tenon_error err = {0};
	cr_expect_eq(tenon_listener_open(where, NULL, &listener, &err), code, "%s: %s", words, err.message);
	cr_expect(strstr(err.message, words), "%s, not: %s", words, err.message);
	cr_expect(strchr(err.message, ';'), "%s", err.message);
}

static void expect_connection(struct tenon_listener *listener, const char *where)
{
	struct tenon_channel *near, *far;
	struct tenon_error err;
	char word[4];
	struct iovec part = {.iov_base = (void *)"word", .iov_len = 4};
	cr_assert_eq(tenon_channel_connect(where, NULL, &near, &err), 0, "%s", err.message);
	struct pollfd poll_fd = {.fd = tenon_listener_fd(listener), .events = POLLIN};
	cr_expect_eq(poll(&poll_fd, 1, -1), 1);
	cr_assert_eq(tenon_listener_accept(listener, 0, &far, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_write(near, &part, 1, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_read(far, word, sizeof(word), &err), 0, "%s", err.message);
	tenon_channel_close(near);
	tenon_channel_close(far);
}

/* ---- TCP ---- */

Test(migration_listener, a_free_port_is_told_and_can_be_connected_to)
{
	static const struct {
		const char *text, *prefix;
	} places[] = {
		{"tcp:127.0.0.1:0", "tcp:127.0.0.1:"}, {"tcp:[::1]:0", "tcp:[::1]:"}, {"tcp:localhost:0", "tcp:"}};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct tenon_listener *listener = listen_at(places[i].text);
		const char *where = tenon_listener_address(listener);
		cr_expect_eq(strncmp(where, places[i].prefix, strlen(places[i].prefix)), 0, "%s", where);
		cr_expect_neq(atoi(strrchr(where, ':') + 1), 0, "%s", where);
		expect_connection(listener, where);
		expect_refused(where, -EADDRINUSE, "choose another port");
		tenon_listener_close(listener);
	}
	expect_refused("tcp:127.0.0.1:1x", -EINVAL, "port");
	tenon_listener_close(NULL);
}

/* ---- Unix sockets ---- */

Test(migration_listener, a_unix_socket_is_its_users_only_and_goes_with_its_listener, .init = set_up, .fini = tear_down)
{
	struct stat status;
	struct tenon_listener *listener = listen_at(address);
	cr_expect_str_eq(tenon_listener_address(listener), address);
	cr_assert_eq(lstat(path, &status), 0);
	cr_expect_eq(status.st_mode, S_IFSOCK | 0600);
	expect_connection(listener, address);
	tenon_listener_close(listener);
	cr_expect_eq(lstat(path, &status), -1);
}

static void leave_stale_socket(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert(bind(fd, (const struct sockaddr *)&to, sizeof(to)) == 0 && listen(fd, 1) == 0);
	close(fd);
}

Test(migration_listener, a_socket_that_nobody_listens_on_is_replaced_and_one_in_use_is_not, .init = set_up,
     .fini = tear_down)
{
	leave_stale_socket();
	struct tenon_listener *listener = listen_at(address);
	expect_refused(address, -EADDRINUSE, "in use");
	/* Who asked whether it is in use has connected, and is gone. */
	struct tenon_channel *channel;
	struct tenon_error err;
	char byte;
	cr_assert_eq(tenon_listener_accept(listener, 0, &channel, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_read(channel, &byte, 1, &err), -ENODATA);
	tenon_channel_close(channel);
	expect_connection(listener, address);
	tenon_listener_close(listener);
}

Test(migration_listener, what_is_no_socket_is_never_removed, .init = set_up, .fini = tear_down)
{
	struct stat status;
	close(open(path, O_CREAT | O_WRONLY, 0600));
	expect_refused(address, -EEXIST, "no socket");
	cr_assert_eq(lstat(path, &status), 0);
	cr_expect(S_ISREG(status.st_mode));
	unlink(path);
	cr_assert_eq(symlink("elsewhere", path), 0);
	expect_refused(address, -EEXIST, "no socket");
	cr_assert_eq(lstat(path, &status), 0);
	cr_expect(S_ISLNK(status.st_mode));
}

Test(migration_listener, what_has_taken_the_place_of_its_socket_stays, .init = set_up, .fini = tear_down)
{
	struct stat status;
	struct tenon_listener *listener = listen_at(address);
	unlink(path);
	leave_stale_socket();
	tenon_listener_close(listener);
	cr_expect_eq(lstat(path, &status), 0);
}

Test(migration_listener, a_path_that_cannot_be_is_refused)
{
	char longest[200] = "unix:/tmp/";
	memset(longest + 10, 'p', 150);
	expect_refused(longest, -ENAMETOOLONG, "at most 107 bytes");
	expect_refused("unix:/no/such/folder/socket", -ENOENT, "choose another path");
}

/* ---- Accepting ---- */

Test(migration_listener, nobody_is_waited_for_longer_than_is_said, .init = set_up, .fini = tear_down)
{
	struct tenon_listener *listener = listen_at(address);
	struct tenon_channel *channel;
	struct tenon_error err;
	cr_expect_eq(tenon_listener_accept(listener, 0, &channel, &err), -ETIMEDOUT);
	cr_expect_eq(tenon_listener_accept(listener, SHORT_MS, &channel, &err), -ETIMEDOUT);
	cr_expect(strstr(err.message, "nobody connected within 30 ms"), "%s", err.message);
	tenon_listener_close(listener);
}

static void *end_main(void *listener)
{
	tenon_listener_end(listener);
	return NULL;
}

Test(migration_listener, another_thread_ends_the_waiting_for_good, .init = set_up, .fini = tear_down)
{
	struct tenon_listener *listener = listen_at(address);
	struct tenon_channel *channel;
	struct tenon_error err;
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, end_main, listener), 0);
	cr_expect_eq(tenon_listener_accept(listener, -1, &channel, &err), -ECANCELED);
	pthread_join(thread, NULL);
	cr_expect_eq(tenon_listener_accept(listener, -1, &channel, &err), -ECANCELED);
	tenon_listener_close(listener);
}

Test(migration_listener, who_connects_and_goes_harms_nobody_who_comes_after)
{
	static const int passing[] = {EINTR, EAGAIN, ECONNABORTED, EPROTO, EPERM, ENETDOWN, EHOSTUNREACH};
	struct tenon_listener *listener = listen_at("tcp:127.0.0.1:0");
	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
		kernel_fails("accept", 1, passing[i]);
		expect_connection(listener, tenon_listener_address(listener));
		cr_expect(kernel_has_failed());
	}
	kernel_is_sound();
	/* One who resets the connection before it is accepted: a channel that fails by its first read. */
	struct tenon_channel *near, *far;
	struct tenon_error err;
	char byte;
	cr_assert_eq(tenon_channel_connect(tenon_listener_address(listener), NULL, &near, &err), 0, "%s", err.message);
	struct linger at_once = {.l_onoff = 1};
	cr_assert_eq(setsockopt(tenon_channel_fd(near), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
	tenon_channel_close(near);
	cr_assert_eq(tenon_listener_accept(listener, -1, &far, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_read(far, &byte, 1, &err), -ECONNRESET, "%s", err.message);
	tenon_channel_close(far);
	expect_connection(listener, tenon_listener_address(listener));
	tenon_listener_close(listener);
}

/* ---- Handed over ---- */

Test(migration_listener, one_that_was_passed_is_used_and_its_path_is_left_to_who_made_it, .init = set_up,
     .fini = tear_down)
{
	struct tenon_listener *first = listen_at(address), *second, *third;
	struct tenon_error err;
	char passed[16];
	int fd = dup(tenon_listener_fd(first));
	cr_assert_eq(listener_adopt(fd, &second, &err), 0, "%s", err.message);
	cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_expect_str_eq(tenon_listener_address(second), address);
	expect_connection(second, address);
	tenon_listener_close(second);
	cr_expect_eq(fcntl(fd, F_GETFD), -1, "not closed");
	fd = dup(tenon_listener_fd(first));
	snprintf(passed, sizeof(passed), "fd:%d", fd);
	third = listen_at(passed);
	expect_connection(third, address);
	tenon_listener_close(third);
	expect_connection(first, address);
	tenon_listener_close(first);
}

Test(migration_listener, an_adopted_one_needs_no_permission_of_its_own)
{
	struct tenon_channel_options open = {.size = sizeof(open), .insecure = true};
	struct tenon_listener *first, *second;
	struct tenon_error err;
	char passed[16];
	cr_assert_eq(tenon_listener_open("tcp:0.0.0.0:0", &open, &first, &err), 0, "%s", err.message);
	int fd = dup(tenon_listener_fd(first));
	snprintf(passed, sizeof(passed), "fd:%d", fd);
	expect_refused(passed, -EPERM, "--insecure");
	cr_assert_eq(listener_adopt(fd, &second, &err), 0, "%s", err.message);
	cr_expect_str_eq(tenon_listener_address(second), tenon_listener_address(first));
	tenon_listener_close(second);
	tenon_listener_close(first);
}

Test(migration_listener, a_passed_connection_comes_once)
{
	struct tenon_listener *listener;
	struct tenon_channel *channel, *other;
	struct tenon_error err;
	char passed[16], byte;
	struct iovec part = {.iov_base = (void *)"x", .iov_len = 1};
	int fds[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(passed, sizeof(passed), "fd:%d", fds[0]);
	listener = listen_at(passed);
	struct pollfd ready = {.fd = tenon_listener_fd(listener), .events = POLLIN};
	cr_expect_eq(poll(&ready, 1, 0), 1);
	cr_assert_eq(tenon_listener_accept(listener, 0, &channel, &err), 0, "%s", err.message);
	cr_expect_eq(poll(&ready, 1, 0), 0);
	cr_expect_eq(tenon_listener_accept(listener, 0, &other, &err), -ETIMEDOUT);
	tenon_listener_close(listener);
	snprintf(passed, sizeof(passed), "fd:%d", fds[1]);
	cr_assert_eq(tenon_channel_connect(passed, NULL, &other, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_write(channel, &part, 1, &err), 0);
	cr_expect_eq(tenon_channel_read(other, &byte, 1, &err), 0);
	tenon_channel_close(channel);
	tenon_channel_close(other);
}

Test(migration_listener, what_nobody_can_connect_to_is_refused_and_stays_the_callers)
{
	struct tenon_listener *listener;
	struct tenon_error err;
	char passed[16];
	int fds[2];
	cr_assert_eq(pipe(fds), 0);
	snprintf(passed, sizeof(passed), "fd:%d", fds[0]);
	expect_refused(passed, -EINVAL, "nobody connects");
	cr_expect_eq(listener_adopt(fds[0], &listener, &err), -EINVAL);
	cr_expect(strstr(err.message, "not a socket that listens"), "%s", err.message);
	cr_expect_geq(fcntl(fds[0], F_GETFD), 0);
	close(fds[0]);
	close(fds[1]);
	cr_expect_eq(listener_adopt(fds[0], &listener, &err), -EBADF);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	cr_expect_eq(listener_adopt(fds[0], &listener, &err), -EINVAL);
	close(fds[0]);
	close(fds[1]);
}

Test(migration_listener, one_that_is_secured_wants_tls_from_then_on, .init = set_up, .fini = tear_down)
{
	char key[80];
	struct tenon_channel_options plain = {.size = sizeof(plain), .timeout_ms = SHORT_MS}, secure = plain;
	struct tenon_listener *listener = listen_at(address);
	struct tenon_channel *near, *far;
	struct tenon_error err;
	struct iovec part = {.iov_base = (void *)"plain text", .iov_len = 10};
	char byte;
	snprintf(key, sizeof(key), "%s/key", folder);
	secure.tls_psk_file = key;
	cr_expect_eq(listener_secure(listener, &secure, &err), -ENOENT);
	int fd = open(key, O_CREAT | O_WRONLY, 0600);
	cr_assert_eq(write(fd, "us:0123456789abcdef0123456789abcdef", 35), 35);
	close(fd);
	cr_assert_eq(listener_secure(listener, &secure, &err), 0, "%s", err.message);
	unlink(key);
	cr_assert_eq(tenon_channel_connect(address, &plain, &near, &err), 0, "%s", err.message);
	cr_assert_eq(tenon_channel_write(near, &part, 1, &err), 0, "%s", err.message);
	cr_assert_eq(tenon_listener_accept(listener, -1, &far, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_read(far, &byte, 1, &err), -EPROTO, "%s", err.message);
	tenon_channel_close(near);
	tenon_channel_close(far);
	tenon_listener_close(listener);
}

/* ---- A kernel that fails ---- */

static int replace_stale(char *message)
{
	struct tenon_listener *listener;
	struct tenon_error err = {0};
	unlink(path);
	leave_stale_socket();
	int code = tenon_listener_open(address, NULL, &listener, &err);
	strcpy(message, err.message);
	if (code == 0)
		tenon_listener_close(listener);
	return code;
}

static int adopt(char *message)
{
	static struct sockaddr_in local = {.sin_family = AF_INET};
	struct tenon_listener *listener;
	struct tenon_error err = {0};
	local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert(bind(fd, (const struct sockaddr *)&local, sizeof(local)) == 0 && listen(fd, 1) == 0);
	int code = listener_adopt(fd, &listener, &err);
	strcpy(message, err.message);
	if (code == 0)
		tenon_listener_close(listener);
	else
		close(fd);
	return code;
}

static int pass_connection(char *message)
{
	struct tenon_listener *listener = NULL;
	struct tenon_channel *channel = NULL;
	struct tenon_error err = {0};
	char passed[16];
	int fds[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(passed, sizeof(passed), "fd:%d", fds[0]);
	int code = tenon_listener_open(passed, NULL, &listener, &err);
	if (code < 0)
		close(fds[0]);
	else
		code = tenon_listener_accept(listener, -1, &channel, &err);
	strcpy(message, err.message);
	tenon_channel_close(channel);
	tenon_listener_close(listener);
	close(fds[1]);
	return code;
}

Test(migration_listener, each_kernel_call_that_fails_is_told_of, .init = set_up, .fini = tear_down)
{
	kernel_fails_in_turn(replace_stale, " connect stat_path unlink ");
	kernel_fails_in_turn(adopt, " close_on_exec ");
	kernel_fails_in_turn(pass_connection, " close_on_exec peer_name ");
}

// SPDX-License-Identifier: MIT
/*
 * Channels over sockets: addresses, bytes in any pieces, deadlines, the end from another thread, and descriptors that were passed. Files have
 * migration_file_channel_test.c, TLS has migration_tls_test.c.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "../fakes/descriptors.h"
#include "channel.h"
#include "migration_kernel.h"

TestSuite(migration_channel, .timeout = 60);

#define SHORT_MS   30 /* for what must time out */
#define BULK_BYTES (1u << 20)

static const struct tenon_channel_options patient = {.size = sizeof(patient), .timeout_ms = 30000};
static const struct tenon_channel_options hasty = {.size = sizeof(hasty), .timeout_ms = SHORT_MS};

/* ---- Addresses and options ---- */

Test(migration_channel, addresses_are_read_as_they_are_written)
{
	static const struct {
		const char *text;
		struct channel_address address;
	} good[] = {
		{"tcp:10.0.0.2:4444", {ADDRESS_TCP, "10.0.0.2", 4444, -1, NULL}},
		{"tcp:host.example.org:0", {ADDRESS_TCP, "host.example.org", 0, -1, NULL}},
		{"tcp:[::1]:65535", {ADDRESS_TCP, "::1", 65535, -1, NULL}},
		{"tcp:[fe80::1%eth0]:1", {ADDRESS_TCP, "fe80::1%eth0", 1, -1, NULL}},
		{"unix:/run/x:y", {ADDRESS_UNIX, "", 0, -1, "/run/x:y"}},
		{"fd:7", {ADDRESS_FD, "", 0, 7, NULL}},
		{"fd:2147483647", {ADDRESS_FD, "", 0, INT_MAX, NULL}},
		{"file:snapshot 1", {ADDRESS_FILE, "", 0, -1, "snapshot 1"}},
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct channel_address got;
		struct tenon_error err;
		const struct channel_address *want = &good[i].address;
		cr_assert_eq(channel_address_parse(good[i].text, &got, &err), 0, "%s", err.message);
		cr_expect_eq(got.kind, want->kind, "%s", good[i].text);
		cr_expect_str_eq(got.host, want->host);
		cr_expect_eq(got.port, want->port, "%s", good[i].text);
		cr_expect_eq(got.fd, want->fd, "%s", good[i].text);
		cr_expect((!got.path && !want->path) || strcmp(got.path, want->path) == 0, "%s", good[i].text);
	}
}

Test(migration_channel, bad_addresses_are_told_how_a_good_one_looks)
{
	static const char *const bad[] = {
		"",
		"tcp",
		"tcp:",
		"tcp:host",
		"tcp:host:",
		"tcp::4444",
		"tcp:host:65536",
		"tcp:host:-1",
		"tcp:host: 1",
		"tcp:host:1x",
		"tcp:::1:4444",
		"tcp:[::1:4444",
		"tcp:[::1]4444",
		"tcp:[]:4444",
		"tcp:[::1]",
		"unix:",
		"fd:",
		"fd:-1",
		"fd:x",
		"fd:2147483648",
		"fd:99999999999999",
		"file:",
		"TCP:host:1",
		"10.0.0.2:4444",
		"exec:nc",
		"/run/x",
	};
	struct tenon_channel *channel;
	struct tenon_listener *listener;
	struct tenon_error err;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err = (struct tenon_error){0};
		cr_expect_eq(tenon_channel_connect(bad[i], NULL, &channel, &err), -EINVAL, "%s", bad[i]);
		cr_expect(strchr(err.message, ';'), "%s: %s", bad[i], err.message);
		cr_expect_eq(tenon_listener_open(bad[i], NULL, &listener, &err), -EINVAL, "%s", bad[i]);
		cr_expect_eq(tenon_channel_open_file(bad[i], &channel, &err), -EINVAL, "%s", bad[i]);
		cr_expect_not(tenon_channel_is_file(bad[i]));
	}
	cr_expect_eq(tenon_channel_connect(NULL, NULL, &channel, &err), -EINVAL);
	char longest[400] = "tcp:";
	memset(longest + 4, 'h', 300);
	strcpy(longest + 304, ":1");
	cr_expect_eq(tenon_channel_connect(longest, NULL, &channel, &err), -EINVAL);
	cr_expect_eq(tenon_channel_open_file("tcp:127.0.0.1:1", &channel, &err), -EINVAL);
	cr_expect_eq(tenon_listener_open("file:x", NULL, &listener, &err), -EINVAL);
	cr_expect_eq(tenon_channel_connect("tcp:127.0.0.1:0", NULL, &channel, &err), -EINVAL);
	cr_expect(strstr(err.message, "port 0 is for listening"), "%s", err.message);
}

Test(migration_channel, options_of_other_versions_are_understood_or_refused)
{
	struct {
		struct tenon_channel_options options;
		char later[8];
	} newer = {.options = {.size = sizeof(newer), .timeout_ms = 7}};
	struct tenon_channel_options taken;
	struct tenon_error err;
	cr_assert_eq(channel_options_take(NULL, &taken, &err), 0);
	cr_expect_eq(taken.timeout_ms, 10000);
	cr_assert_eq(channel_options_take(&newer.options, &taken, &err), 0, "%s", err.message);
	cr_expect_eq(taken.timeout_ms, 7);
	newer.later[3] = 1;
	cr_expect_eq(channel_options_take(&newer.options, &taken, &err), -EINVAL);
	newer.options.size = offsetof(struct tenon_channel_options, tls_ca); /* before there was TLS */
	newer.options.tls_ca = "not looked at";
	cr_assert_eq(channel_options_take(&newer.options, &taken, &err), 0, "%s", err.message);
	cr_expect_null(taken.tls_ca);
	newer.options.reserved[1] = 1;
	cr_expect_eq(channel_options_take(&newer.options, &taken, &err), -EINVAL);
	for (size_t size = 0; size < offsetof(struct tenon_channel_options, tls_ca); size++) {
		struct tenon_channel_options small = {.size = size};
		cr_expect_eq(channel_options_take(&small, &taken, &err), -EINVAL, "%zu", size);
	}
	cr_expect_eq(channel_options_take(&(struct tenon_channel_options){.size = 1 << 20}, &taken, &err), -EINVAL);
}

/* ---- Two ends ---- */

/* Each test is a process of its own. */
static const char *socket_path(void)
{
	static char path[40];
	snprintf(path, sizeof(path), "/tmp/tenon-channel-%d", (int)getpid());
	return path;
}

static const char *socket_address(void)
{
	static char address[48];
	snprintf(address, sizeof(address), "unix:%s", socket_path());
	return address;
}

struct pair {
	struct tenon_channel *near, *far;
};

/* @param options  of both ends */
static void connect_pair(const char *address, const struct tenon_channel_options *options, struct pair *out)
{
	struct tenon_listener *listener;
	struct tenon_error err;
	cr_assert_eq(tenon_listener_open(address, options, &listener, &err), 0, "%s", err.message);
	cr_assert_eq(tenon_channel_connect(tenon_listener_address(listener), options, &out->near, &err), 0, "%s",
		     err.message);
	cr_assert_eq(tenon_listener_accept(listener, -1, &out->far, &err), 0, "%s", err.message);
	tenon_listener_close(listener);
}

/* "fd:N", of both ends */
static void pass_pair(const struct tenon_channel_options *options, struct pair *out)
{
	struct tenon_error err;
	char address[16];
	int fds[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(address, sizeof(address), "fd:%d", fds[0]);
	cr_assert_eq(tenon_channel_connect(address, options, &out->near, &err), 0, "%s", err.message);
	snprintf(address, sizeof(address), "fd:%d", fds[1]);
	cr_assert_eq(tenon_channel_connect(address, options, &out->far, &err), 0, "%s", err.message);
}

static void close_pair(struct pair *pair)
{
	tenon_channel_close(pair->near);
	tenon_channel_close(pair->far);
}

static int say(struct tenon_channel *channel, const char *text, struct tenon_error *err)
{
	struct iovec part = {.iov_base = (void *)text, .iov_len = strlen(text)};
	return tenon_channel_write(channel, &part, 1, err);
}

static void expect_words(int got, int code, const char *words, const struct tenon_error *err)
{
	cr_expect_eq(got, code, "%s: %d: %s", words, got, err->message);
	cr_expect(strstr(err->message, words), "%s, not: %s", words, err->message);
}

/* ---- Bytes ---- */

static unsigned char sent[BULK_BYTES], got[BULK_BYTES];

static void *write_bulk(void *argument)
{
	struct tenon_error err;
	unsigned count = 2 * IOV_MAX; /* more than the kernel takes at once */
	struct iovec parts[2 * IOV_MAX];
	size_t at = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t size = i % 7 == 0 ? 0 : i + 1 == count ? BULK_BYTES - at : (i * 2654435761u) % 500;
		parts[i] = (struct iovec){.iov_base = sent + at, .iov_len = size};
		at += size;
	}
	cr_assert_eq(at, BULK_BYTES);
	cr_expect_eq(tenon_channel_write(argument, parts, (int)count, &err), 0, "%s", err.message);
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(parts[i].iov_len, 0);
	return NULL;
}

static void send_bulk(struct pair *pair, size_t at_most)
{
	struct tenon_error err;
	pthread_t thread;
	for (size_t i = 0; i < BULK_BYTES; i++)
		sent[i] = (unsigned char)(i * 31 >> 3);
	memset(got, 0, sizeof(got));
	kernel_moves_at_most(at_most);
	cr_assert_eq(pthread_create(&thread, NULL, write_bulk, pair->near), 0);
	/* All but the last bytes at once, those as they come. */
	cr_expect_eq(tenon_channel_read(pair->far, got, BULK_BYTES - 100, &err), 0, "%s", err.message);
	for (size_t at = BULK_BYTES - 100; at < BULK_BYTES;) {
		int64_t some = tenon_channel_read_some(pair->far, got + at, BULK_BYTES - at, -1, &err);
		cr_assert_gt(some, 0, "%s", err.message);
		at += (size_t)some;
	}
	pthread_join(thread, NULL);
	kernel_is_sound();
	cr_expect_arr_eq(got, sent, BULK_BYTES);
	close_pair(pair);
}

Test(migration_channel, bytes_come_whole_over_every_kind_of_socket)
{
	struct pair pair;
	unsigned open = descriptors_open();
	connect_pair("tcp:127.0.0.1:0", &patient, &pair);
	send_bulk(&pair, 0);
	connect_pair("tcp:localhost:0", &patient, &pair);
	send_bulk(&pair, 0);
	connect_pair(socket_address(), &patient, &pair);
	send_bulk(&pair, 0);
	pass_pair(&patient, &pair);
	send_bulk(&pair, 0);
	cr_expect_eq(descriptors_open(), open);
}

Test(migration_channel, bytes_come_whole_in_any_pieces)
{
	static const size_t pieces[] = {97, 4096, 65537};
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		struct pair pair;
		connect_pair("tcp:127.0.0.1:0", &patient, &pair);
		send_bulk(&pair, pieces[i]);
	}
}

Test(migration_channel, an_interrupted_call_is_made_again)
{
	static const char *const calls[] = {"send", "receive", "poll"};
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct pair pair;
		connect_pair("tcp:127.0.0.1:0", &patient, &pair);
		kernel_fails(calls[i], 1, EINTR);
		send_bulk(&pair, 4096); /* ends with a sound kernel */
	}
}

Test(migration_channel, reading_some_takes_what_there_is)
{
	struct pair pair;
	struct tenon_error err;
	char word[8];
	pass_pair(&patient, &pair);
	expect_words((int)tenon_channel_read_some(pair.far, word, sizeof(word), 0, &err), -EAGAIN,
		     "nothing to read yet", &err);
	expect_words((int)tenon_channel_read_some(pair.far, word, sizeof(word), SHORT_MS, &err), -EAGAIN, "nothing",
		     &err);
	cr_assert_eq(say(pair.near, "abc", &err), 0);
	cr_expect_eq(tenon_channel_read_some(pair.far, word, 2, 0, &err), 2);
	cr_expect_eq(tenon_channel_read_some(pair.far, word, sizeof(word), 0, &err), 1);
	cr_expect_eq(word[0], 'c');
	expect_words((int)tenon_channel_read_some(pair.far, word, 0, 0, &err), -EINVAL, "no bytes", &err);
	tenon_channel_close(pair.near);
	expect_words((int)tenon_channel_read_some(pair.far, word, sizeof(word), -1, &err), -ENODATA, "ended", &err);
	tenon_channel_close(pair.far);
}

Test(migration_channel, the_end_of_the_stream_is_told_by_where_it_comes)
{
	struct pair pair;
	struct tenon_error err;
	char word[8];
	pass_pair(&patient, &pair);
	cr_assert_eq(say(pair.near, "abc", &err), 0);
	tenon_channel_close(pair.near);
	expect_words(tenon_channel_read(pair.far, word, sizeof(word), &err), -ENODATA, "in the middle", &err);
	expect_words(tenon_channel_read(pair.far, word, sizeof(word), &err), -ENODATA, "too early", &err);
	cr_expect_eq(tenon_channel_read(pair.far, word, 0, &err), 0);
	tenon_channel_close(pair.far);
}

Test(migration_channel, writing_to_who_is_gone_is_an_error_and_no_signal)
{
	struct pair pair;
	struct tenon_error err;
	pass_pair(&patient, &pair);
	tenon_channel_close(pair.far);
	expect_words(say(pair.near, "abc", &err), -EPIPE, "the other side has ended", &err);
	tenon_channel_close(pair.near);
}

/* ---- Deadlines and the end ---- */

Test(migration_channel, silence_ends_a_read_by_its_deadline)
{
	struct pair pair;
	struct tenon_error err;
	char word[8];
	connect_pair("tcp:127.0.0.1:0", &hasty, &pair);
	cr_assert_eq(say(pair.near, "abc", &err), 0);
	expect_words(tenon_channel_read(pair.far, word, sizeof(word), &err), -ETIMEDOUT, "nothing moved for 30 ms",
		     &err);
	close_pair(&pair);
}

Test(migration_channel, who_does_not_read_ends_a_write_by_its_deadline)
{
	struct pair pair;
	struct tenon_error err;
	struct iovec part = {.iov_base = sent, .iov_len = BULK_BYTES};
	int code = 0;
	connect_pair("tcp:127.0.0.1:0", &hasty, &pair);
	for (unsigned i = 0; i < 64 && code == 0; i++, part = (struct iovec){.iov_base = sent, .iov_len = BULK_BYTES})
		code = tenon_channel_write(pair.near, &part, 1, &err);
	expect_words(code, -ETIMEDOUT, "see whether the other side is stuck", &err);
	close_pair(&pair);
}

Test(migration_channel, a_socket_that_always_is_ready_and_never_moves_does_not_escape_the_deadline)
{
	struct pair pair;
	struct tenon_error err;
	char word[8];
	pass_pair(&hasty, &pair);
	kernel_teases(true);
	cr_expect_eq(tenon_channel_read(pair.far, word, sizeof(word), &err), -ETIMEDOUT);
	cr_expect_eq(say(pair.near, "abc", &err), -ETIMEDOUT);
	cr_expect_eq(tenon_channel_read_some(pair.far, word, sizeof(word), SHORT_MS, &err), -EAGAIN);
	kernel_is_sound();
	close_pair(&pair);
}

static void *end_main(void *channel)
{
	tenon_channel_end(channel);
	return NULL;
}

static void expect_ended(struct tenon_channel *channel, bool writes)
{
	struct tenon_error err;
	pthread_t thread;
	char word[8];
	struct iovec part = {.iov_base = sent, .iov_len = BULK_BYTES};
	cr_assert_eq(pthread_create(&thread, NULL, end_main, channel), 0);
	int code = 0;
	while (writes && code == 0) {
		part = (struct iovec){.iov_base = sent, .iov_len = BULK_BYTES};
		code = tenon_channel_write(channel, &part, 1, &err);
	}
	if (!writes)
		code = (int)tenon_channel_read_some(channel, word, sizeof(word), -1, &err);
	pthread_join(thread, NULL);
	expect_words(code, -ECANCELED, "cancelled", &err);
	/* And later. */
	part = (struct iovec){.iov_base = sent, .iov_len = 1};
	cr_expect_eq(tenon_channel_read_some(channel, word, sizeof(word), 0, &err), -ECANCELED);
	cr_expect_eq(tenon_channel_read(channel, word, sizeof(word), &err), -ECANCELED);
	cr_expect_eq(tenon_channel_write(channel, &part, 1, &err), -ECANCELED);
}

Test(migration_channel, another_thread_ends_a_read_and_a_write)
{
	struct pair pair;
	pass_pair(&patient, &pair);
	expect_ended(pair.far, false);
	expect_ended(pair.near, true);
	close_pair(&pair);
}

/* ---- Whom it connects to ---- */

Test(migration_channel, plain_tcp_leaves_the_host_only_if_that_is_allowed)
{
	static const char *const elsewhere[] = {"tcp:192.0.2.1:4444", "tcp:[2001:db8::1]:4444", "tcp:0.0.0.0:4444",
						"tcp:[::ffff:192.0.2.1]:4444"};
	struct tenon_channel *channel;
	struct tenon_listener *listener;
	struct tenon_channel_options open = patient;
	struct tenon_error err;
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++) {
		expect_words(tenon_channel_connect(elsewhere[i], NULL, &channel, &err), -EPERM, "--insecure", &err);
		expect_words(tenon_listener_open(elsewhere[i], NULL, &listener, &err), -EPERM, "--insecure", &err);
	}
	open.insecure = true;
	cr_assert_eq(tenon_listener_open("tcp:0.0.0.0:0", &open, &listener, &err), 0, "%s", err.message);
	tenon_listener_close(listener);
	struct sockaddr_storage address = {.ss_family = AF_INET6};
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &((struct sockaddr_in6 *)&address)->sin6_addr);
	cr_expect(socket_is_local(&address));
}

Test(migration_channel, a_passed_connection_leaves_the_host_only_if_that_is_allowed)
{
	struct sockaddr_storage elsewhere = {.ss_family = AF_INET};
	inet_pton(AF_INET, "192.0.2.1", &((struct sockaddr_in *)&elsewhere)->sin_addr);
	struct tenon_channel_options allowed = patient;
	struct tenon_error err;
	allowed.insecure = true;
	expect_words(socket_check_secure("fd:7", &elsewhere, &patient, &err), -EPERM, "--insecure", &err);
	cr_expect_eq(socket_check_secure("fd:7", &elsewhere, &allowed, &err), 0);
}

Test(migration_channel, who_cannot_be_reached_is_told_with_what_to_do)
{
	struct tenon_channel *channel;
	struct tenon_listener *listener;
	struct tenon_error err;
	char address[64], path[200] = "unix:";
	/* A port that was ours a moment ago. */
	cr_assert_eq(tenon_listener_open("tcp:127.0.0.1:0", NULL, &listener, &err), 0, "%s", err.message);
	snprintf(address, sizeof(address), "%s", tenon_listener_address(listener));
	tenon_listener_close(listener);
	expect_words(tenon_channel_connect(address, NULL, &channel, &err), -ECONNREFUSED, "start the destination first",
		     &err);
	expect_words(tenon_channel_connect("unix:/tmp/no such socket", NULL, &channel, &err), -ENOENT,
		     "start the destination first", &err);
	memset(path + 5, 'p', 150);
	expect_words(tenon_channel_connect(path, NULL, &channel, &err), -ENAMETOOLONG, "at most 107 bytes", &err);
	kernel_lacks("resolve", -EAI_NONAME);
	expect_words(tenon_channel_connect("tcp:destination:4444", NULL, &channel, &err), -EHOSTUNREACH,
		     "cannot find the host", &err);
	kernel_is_sound();
}

Test(migration_channel, a_listener_that_accepts_nobody_ends_a_connection_by_its_deadline)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct tenon_channel *channels[8];
	struct tenon_error err;
	int code = 0;
	unsigned count = 0;
	strcpy(to.sun_path, socket_path());
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert(bind(fd, (const struct sockaddr *)&to, sizeof(to)) == 0 && listen(fd, 0) == 0);
	while (count < 8 && code == 0) {
		code = tenon_channel_connect(socket_address(), &hasty, &channels[count], &err);
		count += code == 0;
	}
	expect_words(code, -ETIMEDOUT, "cannot connect", &err);
	while (count > 0)
		tenon_channel_close(channels[--count]);
	close(fd);
	unlink(to.sun_path);
}

Test(migration_channel, a_dead_host_is_noticed_and_small_writes_are_not_held_back)
{
	static const struct {
		int level, option, value;
	} wanted[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 10},
		{IPPROTO_TCP, TCP_KEEPINTVL, 5}, {IPPROTO_TCP, TCP_KEEPCNT, 3}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 40000},
	};
	struct pair pair;
	connect_pair("tcp:127.0.0.1:0", &patient, &pair);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		for (int side = 0; side < 2; side++) {
			int value = 0;
			socklen_t length = sizeof(value);
			int fd = tenon_channel_fd(side ? pair.near : pair.far);
			cr_assert_eq(getsockopt(fd, wanted[i].level, wanted[i].option, &value, &length), 0);
			cr_expect_eq(value, wanted[i].value, "%zu: %d", i, value);
		}
	cr_expect_eq(tenon_channel_kind(pair.near), TENON_CHANNEL_SOCKET);
	cr_expect(strncmp(tenon_channel_name(pair.far), "tcp:127.0.0.1:", 14) == 0, "%s", tenon_channel_name(pair.far));
	struct tenon_error err;
	expect_words(tenon_channel_commit_file(pair.near, &err), -EINVAL, "not a file", &err);
	close_pair(&pair);
	tenon_channel_close(NULL);
}

Test(migration_channel, a_timeout_may_be_as_long_as_it_can_be_written)
{
	struct tenon_channel_options longest = {.size = sizeof(longest), .timeout_ms = UINT32_MAX};
	struct pair pair;
	connect_pair("tcp:127.0.0.1:0", &longest, &pair);
	send_bulk(&pair, 0);
}

/* ---- Passed descriptors ---- */

static void expect_passed_refused(int fd, bool for_reading, int code, const char *words)
{
	char address[16];
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	snprintf(address, sizeof(address), "fd:%d", fd);
	int said = for_reading ? tenon_channel_open_file(address, &channel, &err)
			       : tenon_channel_connect(address, NULL, &channel, &err);
	expect_words(said, code, words, &err);
	cr_expect(strchr(err.message, ';'), "%s", err.message);
	if (code != -EBADF || !strstr(words, "not open; "))
		cr_expect_geq(fcntl(fd, F_GETFD), 0, "%s: closed, though it was not taken", words);
	close(fd);
}

Test(migration_channel, passed_descriptors_of_a_wrong_kind_are_refused_and_stay_the_callers)
{
	int fds[2];
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int closed = dup(0);
	close(closed);
	expect_passed_refused(closed, false, -EBADF, "not open; ");
	expect_passed_refused(open("/dev/null", O_RDWR), false, -EINVAL, "neither a socket nor a pipe nor a file");
	expect_passed_refused(open("/tmp", O_RDONLY), true, -EINVAL, "neither a socket nor a pipe nor a file");
	expect_passed_refused(socket(AF_UNIX, SOCK_DGRAM, 0), false, -EPROTOTYPE, "not a stream socket");
	expect_passed_refused(socket(AF_INET, SOCK_STREAM, 0), false, -ENOTCONN, "no other side");
	int listens = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert(bind(listens, (const struct sockaddr *)&local, sizeof(local)) == 0 && listen(listens, 1) == 0);
	expect_passed_refused(listens, false, -EINVAL, "a socket that listens");
	cr_assert_eq(pipe(fds), 0);
	expect_passed_refused(fds[0], false, -EBADF, "not open for writing");
	expect_passed_refused(fds[1], true, -EBADF, "not open for reading");
}

Test(migration_channel, a_passed_descriptor_is_known_as_file_or_not_and_kept_from_other_programs)
{
	char address[16];
	int fds[2];
	struct tenon_channel *channel;
	struct tenon_error err;
	cr_assert_eq(pipe(fds), 0);
	snprintf(address, sizeof(address), "fd:%d", fds[0]);
	cr_expect(tenon_channel_is_file(address));
	cr_assert_eq(tenon_channel_open_file(address, &channel, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_fd(channel), fds[0]);
	cr_expect_eq(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	tenon_channel_close(channel);
	cr_expect_eq(fcntl(fds[0], F_GETFD), -1, "not closed");
	cr_expect_not(tenon_channel_is_file(address));
	close(fds[1]);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(address, sizeof(address), "fd:%d", fds[0]);
	cr_expect_not(tenon_channel_is_file(address));
	cr_expect(tenon_channel_is_file("file:/no/such"));
	cr_expect_not(tenon_channel_is_file("tcp:127.0.0.1:1"));
}

/* ---- A kernel that fails ---- */

/* Connects and moves a word. */
static int talk(const char *address, char *message)
{
	struct tenon_error err = {0};
	struct tenon_listener *listener = NULL;
	struct pair pair = {0};
	char word[4];
	int code = tenon_listener_open(address, &patient, &listener, &err);
	if (code == 0)
		code = tenon_channel_connect(tenon_listener_address(listener), &patient, &pair.near, &err);
	if (code == 0)
		code = tenon_listener_accept(listener, -1, &pair.far, &err);
	if (code == 0)
		code = (int)tenon_channel_read_some(pair.near, word, sizeof(word), 0, &err);
	if (code == -EAGAIN)
		code = say(pair.near, "word", &err);
	if (code == 0)
		code = tenon_channel_read(pair.far, word, sizeof(word), &err);
	close_pair(&pair);
	tenon_listener_close(listener);
	strcpy(message, err.message);
	return code;
}

static int talk_by_tcp(char *message)
{
	return talk("tcp:127.0.0.1:0", message);
}

static int talk_by_unix(char *message)
{
	unlink(socket_path());
	return talk(socket_address(), message);
}

static int talk_by_descriptor(char *message)
{
	struct tenon_error err = {0};
	struct tenon_channel *channel = NULL;
	char address[16];
	int fds[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	snprintf(address, sizeof(address), "fd:%d", fds[0]);
	int code = tenon_channel_connect(address, &patient, &channel, &err);
	if (code < 0)
		close(fds[0]);
	else
		code = say(channel, "word", &err);
	tenon_channel_close(channel);
	close(fds[1]);
	strcpy(message, err.message);
	return code;
}

Test(migration_channel, each_kernel_call_that_fails_is_told_of)
{
	kernel_fails_in_turn(talk_by_tcp, " peer_name ");
	kernel_fails_in_turn(talk_by_unix, " peer_name stat_path unlink ");
	kernel_fails_in_turn(talk_by_descriptor, " close_on_exec ");
	unlink(socket_path());
}

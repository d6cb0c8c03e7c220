// SPDX-License-Identifier: MIT
/*
 * Channels over TLS: whom they trust and whom they do not, by certificates and by pre-shared keys, and peers that speak something else, or
 * nothing. Each side's message is looked at, because a person has nothing else.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include <criterion/criterion.h>

#include <tenon-migration/channel.h>

#include "../fakes/descriptors.h"
#include "migration_certificates.h"
#include "migration_kernel.h"

TestSuite(migration_tls, .timeout = 60);

#define SHORT_MS 30 /* for what must time out */
#define PSK_A    "0123456789abcdef0123456789ABCDEF"
#define PSK_B    "00000000000000000000000000000001"

/* ---- Files ---- */

static char folder[] = "/tmp/tenon-tls-XXXXXX";
static struct authority ours, theirs;

static const char *path_of(const char *name)
{
	static char paths[8][64];
	static unsigned next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static void write_text(const char *name, const char *text, mode_t mode)
{
	FILE *file = fopen(path_of(name), "w");
	cr_assert(file && fputs(text, file) >= 0 && fchmod(fileno(file), mode) == 0);
	fclose(file);
}

static void sign(const struct authority *authority, const char *name, struct certificate_wish wish)
{
	char key[32];
	if (!wish.to_days)
		wish.to_days = 30;
	if (!wish.from_days)
		wish.from_days = -1;
	if (!wish.names)
		wish.names = "DNS:destination,IP:127.0.0.1";
	snprintf(key, sizeof(key), "%s.key", name);
	authority_sign(authority, &wish, path_of(name), path_of(key));
}

static void set_up(void)
{
	cr_assert(mkdtemp(folder));
	authority_create(&ours, "our CA", path_of("ca"));
	authority_create(&theirs, "another CA", path_of("other-ca"));
	sign(&ours, "good", (struct certificate_wish){0});
	sign(&ours, "expired", (struct certificate_wish){.from_days = -9, .to_days = -2});
	sign(&ours, "future", (struct certificate_wish){.from_days = 2, .to_days = 9});
	sign(&ours, "elsewhere", (struct certificate_wish){.names = "DNS:elsewhere,IP:10.1.1.1"});
	sign(&ours, "mail", (struct certificate_wish){.use = "emailProtection"});
	sign(&theirs, "foreign", (struct certificate_wish){0});
	write_text("psk", "migration:" PSK_A "\n", 0600);
	write_text("other-psk", "migration:" PSK_B "\n", 0600);
	write_text("other-identity", "somebody:" PSK_A "\n", 0600);
}

static void tear_down(void)
{
	char command[64];
	authority_destroy(&ours);
	authority_destroy(&theirs);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	cr_assert_eq(system(command), 0);
}

/* By the name of a certificate, or of a file of a pre-shared key. */
static struct tenon_channel_options options_of(const char *name)
{
	static char certificate[16][64], key[16][80], ca[64];
	static unsigned next;
	struct tenon_channel_options options = {.size = sizeof(options), .timeout_ms = 20000};
	unsigned slot = next++ % 16;
	if (!name)
		return options;
	snprintf(certificate[slot], sizeof(certificate[slot]), "%s", path_of(name));
	if (strstr(name, "psk") || strstr(name, "identity")) {
		options.tls_psk_file = certificate[slot];
		return options;
	}
	snprintf(key[slot], sizeof(key[slot]), "%s.key", certificate[slot]);
	snprintf(ca, sizeof(ca), "%s", path_of("ca"));
	options.tls_ca = ca;
	options.tls_cert = certificate[slot];
	options.tls_key = key[slot];
	return options;
}

/* ---- A talk: the client says ping, the server pong ---- */

struct side {
	struct tenon_channel_options options;
	int code;
	struct tenon_error err;
};

static struct tenon_listener *listener;
static char listener_address[64]; /* for threads, which may look when it is closed */

#define WORD_BYTES 64 /* longer than a record's header, which a side that was not told of TLS takes it for */

static int say(struct tenon_channel *channel, const char *text, struct tenon_error *err)
{
	char word[WORD_BYTES] = {0};
	struct iovec part = {.iov_base = word, .iov_len = sizeof(word)};
	strcpy(word, text);
	return tenon_channel_write(channel, &part, 1, err);
}

static int hear(struct tenon_channel *channel, const char *text, struct tenon_error *err)
{
	char heard[WORD_BYTES];
	int code = tenon_channel_read(channel, heard, sizeof(heard), err);
	if (code == 0 && strcmp(heard, text) != 0)
		code = tenon_fail(err, -EBADMSG, "not %s", text);
	return code;
}

static void *client_main(void *argument)
{
	struct side *client = argument;
	struct tenon_channel *channel;
	client->code = tenon_channel_connect(listener_address, &client->options, &channel, &client->err);
	if (client->code < 0)
		return NULL;
	client->code = say(channel, "ping", &client->err);
	if (client->code == 0)
		client->code = hear(channel, "pong", &client->err);
	tenon_channel_close(channel);
	return NULL;
}

static void talk(struct side *client, struct side *server)
{
	struct tenon_error err;
	struct tenon_channel *channel;
	pthread_t thread;
	cr_assert_eq(tenon_listener_open("tcp:127.0.0.1:0", &server->options, &listener, &err), 0, "%s", err.message);
	snprintf(listener_address, sizeof(listener_address), "%s", tenon_listener_address(listener));
	cr_assert_eq(pthread_create(&thread, NULL, client_main, client), 0);
	server->code = tenon_listener_accept(listener, -1, &channel, &server->err);
	if (server->code == 0) {
		server->code = hear(channel, "ping", &server->err);
		if (server->code == 0)
			server->code = say(channel, "pong", &server->err);
		tenon_channel_close(channel);
	}
	tenon_listener_close(listener); /* and who was not accepted is told */
	pthread_join(thread, NULL);
}

static void expect(const struct side *side, const char *who, const char *row, int code, const char *words)
{
	cr_expect_eq(side->code, code, "%s: %s: %d: %s", row, who, side->code,
		     side->code < 0 ? side->err.message : "well");
	if (code < 0)
		cr_expect(strstr(side->err.message, words), "%s: %s: %s", row, who, side->err.message);
}

struct row {
	const char *name;
	const char *client, *client_expects;
	const char *server, *server_expects;
	int client_code;
	const char *client_words;
	int server_code;
	const char *server_words;
};

static const struct row rows[] = {
	{"certificates", "good", NULL, "good", NULL},
	{"names that are expected", "elsewhere", "destination", "good", "10.1.1.1"},
	{"a pre-shared key", "psk", NULL, "psk", NULL},
	{"the server's has expired", "good", NULL, "expired", NULL, -EKEYEXPIRED, "certificate has expired",
	 -EKEYEXPIRED, "refuses this side's certificate as expired"},
	{"the client's has expired", "expired", NULL, "good", NULL, -EKEYEXPIRED,
	 "refuses this side's certificate as expired", -EKEYEXPIRED, "certificate has expired"},
	{"the server's is not yet valid", "good", NULL, "future", NULL, -EKEYREJECTED, "not yet valid; set the clocks",
	 -EKEYREJECTED, "refuses this side's certificate"},
	{"the client's is not yet valid", "future", NULL, "good", NULL, -EKEYREJECTED,
	 "refuses this side's certificate", -EKEYREJECTED, "not yet valid"},
	{"the server's is of another CA", "good", NULL, "foreign", NULL, -EKEYREJECTED, "not from the CA",
	 -EKEYREJECTED, "it trusts another CA"},
	{"the client's is of another CA", "foreign", NULL, "good", NULL, -EKEYREJECTED, "it trusts another CA",
	 -EKEYREJECTED, "not from the CA"},
	{"the server's is for another address", "good", NULL, "elsewhere", NULL, -EKEYREJECTED, "is not for 127.0.0.1",
	 -EKEYREJECTED, "refuses this side's certificate"},
	{"the server's is for another name", "good", "somewhere", "good", NULL, -EKEYREJECTED, "is not for somewhere",
	 -EKEYREJECTED, "refuses this side's certificate"},
	{"the client's is for another name", "good", NULL, "good", "source", -EKEYREJECTED,
	 "refuses this side's certificate", -EKEYREJECTED, "is not for source"},
	{"the client's is for another use", "mail", NULL, "good", NULL, -EKEYREJECTED, "made for another use",
	 -EKEYREJECTED, "for another use"},
	{"another key", "other-psk", NULL, "psk", NULL, -EKEYREJECTED, "another pre-shared key", -EKEYREJECTED,
	 "another pre-shared key"},
	{"the key of another identity", "other-identity", NULL, "psk", NULL, -EKEYREJECTED, "another pre-shared key",
	 -EKEYREJECTED, "another pre-shared key"},
	{"a key against certificates", "psk", NULL, "good", NULL, -EKEYREJECTED, "or certificates", -EKEYREJECTED,
	 "or has a pre-shared key"},
	{"certificates against a key", "good", NULL, "psk", NULL, -EKEYREJECTED,
	 "perhaps because it has a pre-shared key", -EKEYREJECTED, "or certificates"},
	{"nothing against certificates", NULL, NULL, "good", NULL, -ENODATA, "ended", -EPROTO, "not TLS 1.3"},
	{"certificates against nothing", "good", NULL, NULL, NULL, -ECONNRESET, "given TLS too", -EBADMSG, "not ping"},
};

Test(migration_tls, each_side_says_whom_it_trusts_and_why_not, .init = set_up, .fini = tear_down)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct side client = {.options = options_of(row->client)},
			    server = {.options = options_of(row->server)};
		unsigned open = descriptors_open();
		client.options.tls_peer_name = row->client_expects;
		server.options.tls_peer_name = row->server_expects;
		talk(&client, &server);
		expect(&client, "client", row->name, row->client_code, row->client_words);
		expect(&server, "server", row->name, row->server_code, row->server_words);
		cr_expect_eq(descriptors_open(), open, "%s: a descriptor is left open", row->name);
	}
}

/* ---- Peers that do not do as they should ---- */

/* The server's end of a connection, and the other as a bare socket. */
static int accept_from_socket(const struct tenon_channel_options *options, struct tenon_channel **out)
{
	struct tenon_error err;
	const char *path = path_of("socket");
	char address[80];
	snprintf(address, sizeof(address), "unix:%s", path);
	cr_assert_eq(tenon_listener_open(address, options, &listener, &err), 0, "%s", err.message);
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
	cr_assert_eq(tenon_listener_accept(listener, -1, out, &err), 0, "%s", err.message);
	tenon_listener_close(listener);
	return fd;
}

/* The beginning of a ClientHello: a handshake record of 512 bytes, of which a few come. */
static const unsigned char half_hello[] = {22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 1, 2, 3, 4};

Test(migration_tls, silence_in_the_handshake_ends_by_the_deadline_of_who_accepted, .init = set_up, .fini = tear_down)
{
	struct tenon_channel_options options = options_of("good");
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	options.timeout_ms = SHORT_MS;
	int fd = accept_from_socket(&options, &channel);
	cr_assert_eq(write(fd, half_hello, sizeof(half_hello)), (ssize_t)sizeof(half_hello));
	cr_expect_eq(hear(channel, "ping", &err), -ETIMEDOUT, "%s", err.message);
	cr_expect_eq(say(channel, "pong", &err), -ETIMEDOUT, "%s", err.message);
	cr_expect_eq(tenon_channel_read_some(channel, &err, 1, 0, &err), -EAGAIN, "%s", err.message);
	tenon_channel_close(channel);
	close(fd);
}

Test(migration_tls, who_goes_in_the_middle_of_the_handshake_is_told_of_at_once, .init = set_up, .fini = tear_down)
{
	struct tenon_channel_options options = options_of("good");
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	int fd = accept_from_socket(&options, &channel);
	cr_assert_eq(write(fd, half_hello, sizeof(half_hello)), (ssize_t)sizeof(half_hello));
	cr_expect_eq(tenon_channel_read_some(channel, &err, 1, 0, &err), -EAGAIN, "%s", err.message);
	close(fd);
	cr_expect_eq(hear(channel, "ping", &err), -ECONNRESET, "%s", err.message);
	cr_expect(strstr(err.message, "during the handshake"), "%s", err.message);
	tenon_channel_close(channel);
}

Test(migration_tls, silence_in_the_handshake_ends_by_the_deadline_of_who_connects, .init = set_up, .fini = tear_down)
{
	struct tenon_channel_options options = options_of("good");
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	options.timeout_ms = SHORT_MS;
	cr_assert_eq(tenon_listener_open("tcp:127.0.0.1:0", NULL, &listener, &err), 0, "%s", err.message);
	cr_expect_eq(tenon_channel_connect(tenon_listener_address(listener), &options, &channel, &err), -ETIMEDOUT);
	cr_expect(strstr(err.message, "given TLS too"), "%s", err.message);
	tenon_listener_close(listener);
}

Test(migration_tls, a_peer_that_always_sends_and_never_enough_does_not_escape_the_deadline, .init = set_up,
     .fini = tear_down)
{
	struct tenon_channel_options options = options_of("good");
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	options.timeout_ms = SHORT_MS;
	int fd = accept_from_socket(&options, &channel);
	kernel_teases(true);
	cr_expect_eq(hear(channel, "ping", &err), -ETIMEDOUT, "%s", err.message);
	cr_expect_eq(say(channel, "pong", &err), -ETIMEDOUT, "%s", err.message);
	cr_expect_eq(tenon_channel_connect("tcp:127.0.0.1:1", &options, &channel, &err) < 0, true);
	kernel_is_sound();
	tenon_channel_close(channel);
	close(fd);
}

Test(migration_tls, garbage_is_told_as_what_it_is_not, .init = set_up, .fini = tear_down)
{
	static const char garbage[][48] = {
		"GET / HTTP/1.1\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n",
		"\x16\x03\x01\xff\xff and much more of what nobody sends",
		"\x17\x03\x03\x00\x20 data before any handshake, and no more",
		"\x15\x03\x03\x00\x02\x02\x28 an alert",
	};
	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		struct tenon_channel_options options = options_of("good");
		struct tenon_channel *channel;
		struct tenon_error err = {0};
		char message[sizeof(err.message)];
		int fd = accept_from_socket(&options, &channel);
		cr_assert_gt(write(fd, garbage[i], 40), 0);
		int code = hear(channel, "ping", &err);
		cr_expect(code < 0 && code != -ETIMEDOUT && strchr(err.message, ';'), "%zu: %s", i, err.message);
		/* And so it stays. */
		snprintf(message, sizeof(message), "%s", err.message);
		cr_expect_eq(hear(channel, "ping", &err), code);
		cr_expect_str_eq(err.message, message);
		cr_expect_eq(say(channel, "pong", &err), code);
		tenon_channel_close(channel);
		close(fd);
	}
}

struct bare_client {
	int fd;
	int version;
	bool shook_hands;
};

/* OpenSSL by itself, without a certificate. */
static void *bare_client_main(void *argument)
{
	struct bare_client *client = argument;
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(context, client->version);
	SSL *ssl = SSL_new(context);
	char byte;
	SSL_set_fd(ssl, client->fd);
	client->shook_hands = SSL_connect(ssl) == 1 && SSL_read(ssl, &byte, 1) == 1;
	SSL_free(ssl);
	SSL_CTX_free(context);
	return NULL;
}

static void expect_bare_client_refused(int version, int code, const char *words)
{
	struct tenon_channel_options options = options_of("good");
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	pthread_t thread;
	struct bare_client client = {.version = version};
	client.fd = accept_from_socket(&options, &channel);
	cr_assert_eq(pthread_create(&thread, NULL, bare_client_main, &client), 0);
	cr_expect_eq(hear(channel, "ping", &err), code, "%s", err.message);
	cr_expect(strstr(err.message, words), "%s", err.message);
	tenon_channel_close(channel);
	pthread_join(thread, NULL);
	cr_expect_not(client.shook_hands);
	close(client.fd);
}

Test(migration_tls, who_shows_no_certificate_is_refused, .init = set_up, .fini = tear_down)
{
	expect_bare_client_refused(TLS1_3_VERSION, -EKEYREJECTED, "showed no certificate");
}

Test(migration_tls, older_versions_are_refused, .init = set_up, .fini = tear_down)
{
	expect_bare_client_refused(TLS1_2_VERSION, -EPROTO, "not TLS 1.3");
}

static void *end_main(void *channel)
{
	tenon_channel_end(channel);
	return NULL;
}

Test(migration_tls, another_thread_ends_a_handshake, .init = set_up, .fini = tear_down)
{
	struct tenon_channel_options options = options_of("good");
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	pthread_t thread;
	int fd = accept_from_socket(&options, &channel);
	cr_assert_eq(pthread_create(&thread, NULL, end_main, channel), 0);
	cr_expect_eq(hear(channel, "ping", &err), -ECANCELED, "%s", err.message);
	pthread_join(thread, NULL);
	tenon_channel_close(channel);
	close(fd);
}

/* ---- Data ---- */

#define BULK_BYTES (1u << 20)
#define PART_COUNT 64

struct bulk {
	struct tenon_channel *channel;
	const unsigned char *out;
	unsigned char *in;
};

/* Parts of very different sizes: some side by side, some empty. */
static void *write_bulk(void *argument)
{
	struct bulk *bulk = argument;
	struct tenon_error err = {0};
	for (size_t at = 0; at < BULK_BYTES;) {
		struct iovec parts[PART_COUNT];
		for (unsigned i = 0; i < PART_COUNT; i++) {
			size_t size = (i * 37u) % 11 == 0 ? 0 : (i * 2654435761u) % 40000;
			if (size > BULK_BYTES - at)
				size = BULK_BYTES - at;
			parts[i] = (struct iovec){.iov_base = (void *)(bulk->out + at), .iov_len = size};
			at += size;
		}
		cr_assert_eq(tenon_channel_write(bulk->channel, parts, PART_COUNT, &err), 0, "%s", err.message);
		for (unsigned i = 0; i < PART_COUNT; i++)
			cr_assert_eq(parts[i].iov_len, 0);
	}
	return NULL;
}

static void *exchange_bulk(void *argument)
{
	struct bulk *bulk = argument;
	struct tenon_error err = {0};
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, write_bulk, bulk), 0);
	for (size_t at = 0; at < BULK_BYTES;) {
		int64_t got = tenon_channel_read_some(bulk->channel, bulk->in + at, BULK_BYTES - at, -1, &err);
		cr_assert_gt(got, 0, "%s", err.message);
		at += (size_t)got;
	}
	pthread_join(thread, NULL);
	return NULL;
}

static void *connect_and_exchange(void *argument)
{
	struct bulk *bulk = argument;
	struct tenon_error err = {0};
	struct tenon_channel_options options = options_of("psk");
	cr_assert_eq(tenon_channel_connect(listener_address, &options, &bulk->channel, &err), 0, "%s", err.message);
	exchange_bulk(bulk);
	return NULL;
}

static void exchange(size_t at_most)
{
	static unsigned char data[2][BULK_BYTES], got[2][BULK_BYTES];
	struct bulk ends[2] = {{.out = data[0], .in = got[0]}, {.out = data[1], .in = got[1]}};
	struct tenon_channel_options options = options_of("psk");
	struct tenon_error err = {0};
	pthread_t thread;
	char byte;
	for (size_t i = 0; i < BULK_BYTES; i++) {
		data[0][i] = (unsigned char)(i * 31 >> 3);
		data[1][i] = (unsigned char)(i * 17 >> 5);
	}
	cr_assert_eq(tenon_listener_open("tcp:127.0.0.1:0", &options, &listener, &err), 0, "%s", err.message);
	snprintf(listener_address, sizeof(listener_address), "%s", tenon_listener_address(listener));
	kernel_moves_at_most(at_most);
	cr_assert_eq(pthread_create(&thread, NULL, connect_and_exchange, &ends[0]), 0);
	cr_assert_eq(tenon_listener_accept(listener, -1, &ends[1].channel, &err), 0, "%s", err.message);
	tenon_listener_close(listener); /* whose keys the channel still needs for its handshake */
	exchange_bulk(&ends[1]);
	pthread_join(thread, NULL);
	cr_expect_arr_eq(got[0], data[1], BULK_BYTES);
	cr_expect_arr_eq(got[1], data[0], BULK_BYTES);
	tenon_channel_close(ends[0].channel);
	cr_expect_eq(tenon_channel_read_some(ends[1].channel, &byte, 1, -1, &err), -ENODATA, "%s", err.message);
	kernel_is_sound();
	tenon_channel_close(ends[1].channel);
}

Test(migration_tls, both_directions_at_once_come_whole, .init = set_up, .fini = tear_down)
{
	exchange(0);
}

Test(migration_tls, records_come_whole_in_any_pieces, .init = set_up, .fini = tear_down)
{
	exchange(777);
}

/* ---- Options and files ---- */

static void expect_refused(const char *address, const struct tenon_channel_options *options, int code,
			   const char *words)
{
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	cr_expect_eq(tenon_channel_connect(address, options, &channel, &err), code, "%s: %s", words, err.message);
	cr_expect(strstr(err.message, words), "%s, not: %s", words, err.message);
	cr_expect(strchr(err.message, ';'), "%s", err.message);
}

Test(migration_tls, options_that_make_no_sense_together_are_refused, .init = set_up, .fini = tear_down)
{
	const char *address = "tcp:127.0.0.1:9";
	struct tenon_channel_options good = options_of("good"), options = good;
	options.tls_ca = NULL;
	expect_refused(address, &options, -EINVAL, "whom to trust");
	options = good;
	options.tls_cert = NULL;
	expect_refused(address, &options, -EINVAL, "this side's certificate");
	options = good;
	options.tls_key = NULL;
	expect_refused(address, &options, -EINVAL, "the key of this side's certificate");
	options = good;
	options.tls_psk_file = path_of("psk");
	expect_refused(address, &options, -EINVAL, "one or the other");
	options = options_of("psk");
	options.tls_peer_name = "destination";
	expect_refused(address, &options, -EINVAL, "one or the other");
	options = options_of(NULL);
	options.tls_peer_name = "destination";
	expect_refused(address, &options, -EINVAL, "whom to trust");
	char file[80];
	snprintf(file, sizeof(file), "file:%s", path_of("snapshot"));
	expect_refused(file, &good, -EINVAL, "TLS needs another side");
}

Test(migration_tls, a_unix_socket_has_no_name_to_expect, .init = set_up, .fini = tear_down)
{
	struct tenon_channel_options options = options_of("good");
	struct tenon_error err = {0};
	char address[80];
	snprintf(address, sizeof(address), "unix:%s", path_of("listener"));
	cr_assert_eq(tenon_listener_open(address, &options, &listener, &err), 0, "%s", err.message);
	expect_refused(address, &options, -EINVAL, "give the peer's name");
	tenon_listener_close(listener);
}

Test(migration_tls, files_that_are_not_what_they_should_be_are_named, .init = set_up, .fini = tear_down)
{
	static const struct {
		const char *text, *words;
		mode_t mode;
		int code;
	} keys[] = {
		{"migration:" PSK_A, "everybody may open", 0604, -EPERM},
		{"", "not one line", 0600, -EINVAL},
		{"migration", "not one line", 0600, -EINVAL},
		{":" PSK_A, "not one line", 0600, -EINVAL},
		{"migration:0123", "not one line", 0600, -EINVAL},
		{"migration:" PSK_A "0", "not one line", 0600, -EINVAL},
		{"migration:0123456789abcdefg123456789abcdef", "not one line", 0600, -EINVAL},
		{"migration:" PSK_A "\nmigration:" PSK_B "\n", "not one line", 0600, -EINVAL},
		{"migration:" PSK_A PSK_A PSK_A PSK_A PSK_A, "not one line", 0600, -EINVAL},
	};
	const char *address = "tcp:127.0.0.1:9";
	struct tenon_channel_options options;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		write_text("bad-psk", keys[i].text, keys[i].mode);
		options = options_of("bad-psk");
		expect_refused(address, &options, keys[i].code, keys[i].words);
	}
	options = options_of("no-psk");
	expect_refused(address, &options, -ENOENT, "No such file");
	options = options_of("good");
	options.tls_ca = path_of("psk");
	expect_refused(address, &options, -EINVAL, "no certificate in");
	options = options_of("good");
	options.tls_cert = path_of("psk");
	expect_refused(address, &options, -EINVAL, "no certificate in");
	options = options_of("good");
	options.tls_key = path_of("psk");
	expect_refused(address, &options, -EINVAL, "no private key in");
	options = options_of("good");
	options.tls_key = path_of("foreign.key");
	expect_refused(address, &options, -EINVAL, "does not belong to");
	options = options_of("good");
	cr_assert_eq(chmod(options.tls_key, 0644), 0);
	expect_refused(address, &options, -EPERM, "chmod 600");
	options = options_of("good");
	options.tls_ca = "/dev/zero";
	expect_refused(address, &options, -EFBIG, "/dev/zero");
}

static int open_listener(const char *name, char *message)
{
	struct tenon_channel_options options = options_of(name);
	struct tenon_error err = {0};
	struct tenon_listener *opened;
	int code = tenon_listener_open("tcp:127.0.0.1:0", &options, &opened, &err);
	strcpy(message, err.message);
	if (code == 0)
		tenon_listener_close(opened);
	return code;
}

static int open_with_certificates(char *message)
{
	return open_listener("good", message);
}

static int open_with_shared_key(char *message)
{
	return open_listener("psk", message);
}

Test(migration_tls, each_kernel_call_that_fails_is_told_of, .init = set_up, .fini = tear_down)
{
	char message[512];
	cr_assert_eq(open_with_certificates(message), 0, "%s", message); /* OpenSSL opens what it keeps */
	kernel_fails_in_turn(open_with_certificates, "");
	kernel_fails_in_turn(open_with_shared_key, "");
}

Test(migration_tls, a_connection_that_fails_is_told_of_on_both_sides, .init = set_up, .fini = tear_down)
{
	static const char *const calls[] = {"send", "receive", "poll", "set_option", "eventfd"};
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		bool works = false;
		for (unsigned nth = 1; !works; nth++) {
			struct side client = {.options = options_of("good")}, server = {.options = options_of("good")};
			unsigned open = descriptors_open();
			/* Of the listener's own calls others tell: see migration_listener_test.c. */
			kernel_fails(calls[i],
				     strcmp(calls[i], "eventfd") == 0 || strcmp(calls[i], "set_option") == 0 ? nth + 1
													     : nth,
				     EIO);
			talk(&client, &server);
			works = client.code == 0 && server.code == 0;
			cr_expect(kernel_has_failed() || works, "%s %u", calls[i], nth);
			cr_expect(nth > 1 || !works, "%s: its failure is not noticed", calls[i]);
			cr_expect(client.code == 0 || strchr(client.err.message, ';'), "%s", client.err.message);
			cr_expect(server.code == 0 || strchr(server.err.message, ';'), "%s", server.err.message);
			kernel_is_sound();
			cr_expect_eq(descriptors_open(), open, "%s %u: a descriptor is left open", calls[i], nth);
		}
	}
}

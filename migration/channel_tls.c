// SPDX-License-Identifier: MIT
/*
 * Bytes over TLS: another transport below the calls of channel.c, which wait, time out and end as they do for plain sockets, because
 * OpenSSL gets at the socket by calls that never wait. One thread may read while another writes; OpenSSL's object allows one at a
 * time, and has a lock for it, which nobody holds for longer than a record takes.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "channel.h"
#include "kernel_calls.h"
#include "tls.h"

#define RECORD_BYTES    16384 /* of data; RFC 8446, section 5.1 */
#define RECORD_OVERHEAD 256   /* at most; section 5.2 */
#define RECORDS         16 /* that go to the kernel, or come from it, at once: else each record wakes the other side */
#define PARTS_AT_ONCE   (RECORDS * RECORD_BYTES / 4096 + 1) /* pages and a header */
#define BUFFER_BYTES    (RECORDS * (RECORD_BYTES + RECORD_OVERHEAD))

/* Records between OpenSSL and the socket. */
struct buffer {
	size_t from, to; /* what is in it */
	uint8_t bytes[BUFFER_BYTES];
};

struct session {
	SSL *ssl;
	struct tls_context *context;
	pthread_mutex_t lock; /* of all of this */
	int fd;               /* the channel's */
	int io_error;         /* what the socket said last, a negative errno; 0: nothing bad */
	int failure;          /* a negative errno, with `words`, once TLS itself has failed: for good */
	char words[TLS_WORDS_BYTES];
	bool reads;  /* it is SSL_read that wants bytes */
	size_t owed; /* data that is in `out` as records, and not yet told of as written; 0: none */
	struct buffer in, out;
	uint8_t gathered[RECORD_BYTES]; /* small parts, to fill a record */
};

/* ---- How OpenSSL reaches the socket ---- */

/* @return 0: all is with the kernel; or -errno, which is -EAGAIN where it takes no more now */
static int flush(struct session *session)
{
	struct buffer *out = &session->out;
	while (out->from < out->to) {
		struct iovec part = {.iov_base = out->bytes + out->from, .iov_len = out->to - out->from};
		ssize_t sent = mcall_send(session->fd, &part, 1);
		if (sent < 0 && sent != -EINTR) {
			session->io_error = (int)sent;
			return (int)sent;
		}
		if (sent > 0)
			out->from += (size_t)sent;
	}
	out->from = out->to = 0;
	return 0;
}

static int socket_write(BIO *bio, const char *data, int bytes)
{
	struct session *session = BIO_get_data(bio);
	struct buffer *out = &session->out;
	BIO_clear_retry_flags(bio);
	int code = BUFFER_BYTES - out->to < (size_t)bytes ? flush(session) : 0;
	if (code == -EAGAIN)
		BIO_set_retry_write(bio);
	if (code < 0)
		return -1;
	size_t taken = (size_t)bytes < BUFFER_BYTES ? (size_t)bytes : BUFFER_BYTES;
	memcpy(out->bytes + out->to, data, taken);
	out->to += taken;
	return (int)taken;
}

/* @return bytes, 0 at the end of the stream, or -errno */
static ssize_t refill(struct session *session, size_t most)
{
	struct buffer *in = &session->in;
	ssize_t got;
	do
		got = mcall_receive(session->fd, in->bytes, most);
	while (got == -EINTR);
	in->from = 0;
	in->to = got > 0 ? (size_t)got : 0;
	return got;
}

static int socket_read(BIO *bio, char *data, int bytes)
{
	struct session *session = BIO_get_data(bio);
	struct buffer *in = &session->in;
	/* Who writes takes no more than its handshake needs: who reads may be asleep until the socket has something. */
	size_t most = session->reads ? BUFFER_BYTES : (size_t)bytes;
	ssize_t got = in->from == in->to ? refill(session, most < BUFFER_BYTES ? most : BUFFER_BYTES) : 1;
	BIO_clear_retry_flags(bio);
	session->io_error = got < 0 ? (int)got : 0;
	if (got == -EAGAIN)
		BIO_set_retry_read(bio);
	if (got <= 0)
		return got < 0 ? -1 : 0;
	size_t given = in->to - in->from < (size_t)bytes ? in->to - in->from : (size_t)bytes;
	memcpy(data, in->bytes + in->from, given);
	in->from += given;
	return (int)given;
}

/* OpenSSL flushes what it says by itself, as in a handshake. What is written has its own end. */
static long socket_control(BIO *bio, int command, long number, void *data)
{
	if (command != BIO_CTRL_FLUSH)
		return 0;
	BIO_clear_retry_flags(bio);
	int code = flush(BIO_get_data(bio));
	if (code == -EAGAIN)
		BIO_set_retry_write(bio);
	return code == 0 ? 1 : -1;
}

BIO_METHOD *tls_socket_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "channel");
	if (!method)
		return NULL;
	BIO_meth_set_write(method, socket_write);
	BIO_meth_set_read(method, socket_read);
	BIO_meth_set_ctrl(method, socket_control);
	return method;
}

static bool attach_socket(struct session *session)
{
	BIO *bio = BIO_new(session->context->socket);
	if (!bio)
		return false;
	BIO_set_data(bio, session);
	BIO_set_init(bio, 1);
	SSL_set_bio(session->ssl, bio, bio);
	return true;
}

/* ---- Bytes ---- */

/* What an SSL call that did not succeed means. @return 0: the stream has ended; -EAGAIN; or -errno for good */
static int outcome(struct session *session, int result, short *events)
{
	/* Reading and writing both go on with a handshake, and either may take what the other waits for. */
	short soon = SSL_is_init_finished(session->ssl) ? 0 : CHANNEL_SOON;
	switch (SSL_get_error(session->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		*events = POLLIN | soon;
		/* A record that had no data for us, and more is here already: poll would not know. */
		return session->in.from < session->in.to ? -EINTR : -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		*events = POLLOUT | soon;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		if (SSL_is_init_finished(session->ssl))
			return 0;
		break;
	case SSL_ERROR_SYSCALL:
		if (session->io_error < 0)
			return session->io_error;
		break;
	}
	session->failure = tls_words(session->ssl, session->context, session->words);
	return session->failure;
}

/* A peer that refuses us says why, and then is gone: its word may still be there to be read when a write finds that out. */
static int last_word(struct session *session, int code)
{
	char byte;
	short events;
	if (code != -EPIPE && code != -ECONNRESET)
		return code;
	ERR_clear_error();
	int result = SSL_peek(session->ssl, &byte, 1);
	int why = result > 0 ? 0 : outcome(session, result, &events);
	return session->failure ? why : code;
}

/* Bytes that lie in one piece at the front of the parts, whatever their number. */
static size_t run_bytes(const struct iovec *parts, int count)
{
	size_t bytes = 0;
	for (int i = 0; i < count && bytes < RECORD_BYTES; i++) {
		if (i > 0 && (char *)parts[0].iov_base + bytes != parts[i].iov_base)
			break;
		bytes += parts[i].iov_len;
	}
	return bytes < RECORD_BYTES ? bytes : RECORD_BYTES;
}

/* What the next record has: as it lies, or put together of small parts. */
static struct iovec next_record(struct session *session, const struct iovec *parts, int count)
{
	struct iovec record = {.iov_base = parts[0].iov_base, .iov_len = run_bytes(parts, count)};
	if (record.iov_len == RECORD_BYTES || count == 1)
		return record;
	record = (struct iovec){.iov_base = session->gathered};
	for (int i = 0; i < count && record.iov_len < RECORD_BYTES; i++) {
		size_t room = RECORD_BYTES - record.iov_len;
		size_t bytes = parts[i].iov_len < room ? parts[i].iov_len : room;
		if (bytes > 0)
			memcpy(session->gathered + record.iov_len, parts[i].iov_base, bytes);
		record.iov_len += bytes;
	}
	return record;
}

/* As many records as are sent at once. @return bytes of data in them; or what SSL_write says where there are none */
static int encrypt(struct session *session, const struct iovec *parts, int count)
{
	struct iovec rest[PARTS_AT_ONCE];
	struct iovec *at = rest;
	size_t done = 0;
	count = count < PARTS_AT_ONCE ? count : PARTS_AT_ONCE;
	memcpy(rest, parts, (size_t)count * sizeof(*rest));
	while (count > 0 && BUFFER_BYTES - session->out.to >= RECORD_BYTES + RECORD_OVERHEAD) {
		struct iovec record = next_record(session, at, count);
		int result = record.iov_len > 0 ? SSL_write(session->ssl, record.iov_base, (int)record.iov_len) : 0;
		if (result <= 0)
			return record.iov_len == 0 || done > 0 ? (int)done : result;
		done += (size_t)result;
		iovec_use_up(&at, &count, (size_t)result);
	}
	return (int)done;
}

/* Data counts as written when the kernel has all records of it: until then we are called again with the same. */
static int write_some(struct session *session, const struct iovec *parts, int count, short *events)
{
	ERR_clear_error();
	int code = session->owed == 0 ? flush(session) : 0; /* what OpenSSL said by itself */
	if (code == 0 && session->owed == 0) {
		int result = encrypt(session, parts, count);
		if (result <= 0)
			return outcome(session, result, events);
		session->owed = (size_t)result;
	}
	if (code == 0)
		code = flush(session);
	*events = POLLOUT;
	if (code < 0)
		return code;
	code = (int)session->owed;
	session->owed = 0;
	return code;
}

static ssize_t write_tls(struct tenon_channel *channel, const struct iovec *parts, int count, short *events)
{
	struct session *session = channel->own;
	pthread_mutex_lock(&session->lock);
	int code = session->failure ? session->failure : write_some(session, parts, count, events);
	if (code <= 0)
		code = code == 0 ? -EPIPE : last_word(session, code);
	pthread_mutex_unlock(&session->lock);
	return code;
}

static ssize_t read_tls(struct tenon_channel *channel, void *data, size_t bytes, short *events)
{
	struct session *session = channel->own;
	pthread_mutex_lock(&session->lock);
	ssize_t code = session->failure;
	if (code == 0) {
		ERR_clear_error();
		session->reads = true;
		int result = SSL_read(session->ssl, data, bytes < INT32_MAX ? (int)bytes : INT32_MAX);
		session->reads = false;
		code = result > 0 ? result : outcome(session, result, events);
	}
	pthread_mutex_unlock(&session->lock);
	return code;
}

/* The socket is readable for what TLS says to itself, too; and not for a record that is here already. */
static bool readable_tls(struct tenon_channel *channel)
{
	struct session *session = channel->own;
	char byte;
	short events = 0;
	pthread_mutex_lock(&session->lock);
	int code = session->failure ? session->failure : -EINTR;
	while (code == -EINTR) {
		ERR_clear_error();
		int result = SSL_peek(session->ssl, &byte, 1);
		code = result > 0 ? result : outcome(session, result, &events);
	}
	pthread_mutex_unlock(&session->lock);
	return code != -EAGAIN;
}

static const char *explain_tls(struct tenon_channel *channel, int code)
{
	struct session *session = channel->own;
	pthread_mutex_lock(&session->lock);
	const char *words = session->failure && session->failure == code ? session->words : NULL;
	pthread_mutex_unlock(&session->lock);
	return words;
}

static void session_destroy(struct session *session)
{
	SSL_free(session->ssl);
	tls_context_release(session->context);
	pthread_mutex_destroy(&session->lock);
	free(session);
}

static void close_tls(struct tenon_channel *channel)
{
	struct session *session = channel->own;
	/* The other side is told that this end is meant, if there is room for it: nobody waits for that. */
	if (!session->failure && SSL_is_init_finished(session->ssl)) {
		SSL_shutdown(session->ssl);
		flush(session);
	}
	ERR_clear_error();
	session_destroy(session);
}

static const struct channel_ops tls_ops = {
	.kind = TENON_CHANNEL_SOCKET,
	.write = write_tls,
	.read = read_tls,
	.readable = readable_tls,
	.explain = explain_tls,
	.close = close_tls,
};

/* ---- Start ---- */

/* The certificate must be for this name, or this address. */
static bool expect_peer(SSL *ssl, const char *name)
{
	X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);
	X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (X509_VERIFY_PARAM_set1_ip_asc(rules, name) == 1)
		return true;
	return X509_VERIFY_PARAM_set1_host(rules, name, 0) == 1;
}

static bool prepare(struct session *session, bool connecting, const char *host)
{
	const struct tls_context *context = session->context;
	const char *peer = context->peer_name ? context->peer_name : connecting ? host : NULL;
	session->ssl = SSL_new(context->openssl);
	if (!session->ssl || !attach_socket(session))
		return false;
	if (connecting) {
		SSL_set_connect_state(session->ssl);
	} else {
		/* OpenSSL takes a pre-shared key for a session, and for who accepts wants to know where it is good. */
		static const unsigned char here[] = "tenon";
		SSL_set_accept_state(session->ssl);
		if (SSL_set_session_id_context(session->ssl, here, sizeof(here)) != 1)
			return false;
	}
	return context->key_bytes > 0 || !peer || expect_peer(session->ssl, peer);
}

static int shake_hands(struct tenon_channel *channel, struct tenon_error *err)
{
	struct session *session = channel->own;
	int64_t deadline = deadline_after(channel->timeout_ms);
	int code = 0;
	while (code == 0 || code == -EINTR) {
		short events = 0;
		ERR_clear_error();
		int result = SSL_do_handshake(session->ssl);
		if (result == 1)
			return 0;
		code = outcome(session, result, &events);
		if (code == 0)
			code = -ECONNRESET;
		else if (deadline_left_ms(deadline) == 0)
			code = code == -EAGAIN || code == -EINTR ? -ETIMEDOUT : code;
		else if (code == -EAGAIN)
			code = wait_ready(channel->fd, events & ~CHANNEL_SOON, channel->end_fd, deadline);
	}
	if (session->failure)
		return tenon_fail(err, code, "%s: %s", channel->name, session->words);
	return tenon_fail(err, code, "%s: TLS: no handshake: %s; see whether the other side was given TLS too",
			  channel->name, strerror(-code));
}

int tls_channel_start(struct tenon_channel *channel, struct tls_context *context, bool connecting, const char *host,
		      struct tenon_error *err)
{
	if (connecting && !host && !context->peer_name && context->key_bytes == 0)
		return tenon_fail(err, -EINVAL,
				  "%s: TLS: not known whose certificate is to be expected there; give the peer's name",
				  channel->name);
	struct session *session = calloc(1, sizeof(*session));
	if (!session)
		return tenon_fail(err, -ENOMEM, "%s: out of memory", channel->name);
	pthread_mutex_init(&session->lock, NULL);
	tls_context_hold(context);
	session->context = context;
	session->fd = channel->fd;
	if (!prepare(session, connecting, host)) {
		ERR_clear_error();
		session_destroy(session);
		return tenon_fail(err, -ENOMEM, "%s: TLS: OpenSSL cannot make a connection; free memory",
				  channel->name);
	}
	channel->ops = &tls_ops;
	channel->own = session;
	return connecting ? shake_hands(channel, err) : 0;
}

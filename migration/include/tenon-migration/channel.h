/* SPDX-License-Identifier: MIT */
/*
 * tenon_channel: a reliable stream of bytes to the other side of a migration, or a file.
 *
 * Addresses: "tcp:HOST:PORT" ([HOST] for IPv6), "unix:PATH", "fd:N" (a connected socket, pipe or file that the caller passed; consumed if
 * the call that takes it succeeds), "file:PATH". Threads: one may read while another writes; end from any; close when all are done.
 *
 * TLS: an accepted channel shakes hands with its first read or write, which then tells what is wrong with who connected. With TLS a
 * channel's fd may be quiet while data is there: read until -EAGAIN before polling it.
 */
#ifndef TENON_MIGRATION_CHANNEL_H
#define TENON_MIGRATION_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <tenon/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tenon_channel;
struct tenon_listener;

enum tenon_channel_kind { TENON_CHANNEL_SOCKET, TENON_CHANNEL_FILE };

struct tenon_channel_options {
	size_t size;
	bool insecure;       /* plain TCP to or from an address that is not loopback is allowed */
	uint8_t reserved[3]; /* zero */
	uint32_t timeout_ms; /* for connecting, and for each read or write that makes no progress; 0: 10000 */

	/*
	 * TLS 1.3, in which each side proves who it is. Either certificates: the first three of these, on both sides; or a pre-shared
	 * key: only tls_psk_file, on both sides. The strings are borrowed for the call that takes them. With any of these, sockets of
	 * every kind speak TLS, and no `insecure` is needed.
	 */
	const char *tls_ca;       /* PEM file: who signs the certificates of the other side; nobody else is trusted */
	const char *tls_cert;     /* PEM file: this side's certificate, then those that lead to the CA */
	const char *tls_key;      /* PEM file: its private key, without a password, and not open to everybody */
	const char *tls_psk_file; /* one line IDENTITY:HEXKEY, of 16 to 64 bytes of key; not open to everybody */
	/*
	 * A name or IP address that the other side's certificate must have. Connecting, NULL: the host of the address, which unix: and
	 * fd: do not have. Listening, NULL: any certificate of the CA may come.
	 */
	const char *tls_peer_name;
};

/**
 * Connects, or creates the file (which must not exist; it appears under its name when tenon_channel_commit_file succeeds).
 *
 * @param options  NULL: all defaults
 * @return 0; -EINVAL no such address; -EPERM plain TCP to elsewhere without `insecure`; -EKEYREJECTED or -EKEYEXPIRED one side does not trust
 *         the other; -EPROTO the other side does not speak TLS; or the error of the system
 */
int tenon_channel_connect(const char *address, const struct tenon_channel_options *options, struct tenon_channel **out,
			  struct tenon_error *err);

/** Opens a file that was saved, for reading: "file:PATH" or "fd:N". */
int tenon_channel_open_file(const char *address, struct tenon_channel **out, struct tenon_error *err);

/** Whether an address is for tenon_channel_open_file or for tenon_listener_open. */
bool tenon_channel_is_file(const char *address);

/**
 * Listens. Port 0 takes a free one. A Unix socket is the user's only, and one that nobody listens on any more is replaced. "fd:N" is a
 * socket that listens, or one that is connected, which is then the only one that is ever accepted.
 */
int tenon_listener_open(const char *address, const struct tenon_channel_options *options, struct tenon_listener **out,
			struct tenon_error *err);
/** Where, with the port that it has: "tcp:127.0.0.1:40123". Borrowed. */
const char *tenon_listener_address(const struct tenon_listener *listener);
/** Polls readable when somebody connects; borrowed. */
int tenon_listener_fd(const struct tenon_listener *listener);
/** @param timeout_ms  -1: for ever. @return 0; -ETIMEDOUT; -ECANCELED tenon_listener_end; or -errno */
int tenon_listener_accept(struct tenon_listener *listener, int timeout_ms, struct tenon_channel **out,
			  struct tenon_error *err);
/** Makes accept return, now and later. From any thread. */
void tenon_listener_end(struct tenon_listener *listener);
/** Closes; a Unix socket's path goes. NULL is accepted. */
void tenon_listener_close(struct tenon_listener *listener);

enum tenon_channel_kind tenon_channel_kind(const struct tenon_channel *channel);
/** "tcp:10.0.0.2:4444", for messages. Borrowed. */
const char *tenon_channel_name(const struct tenon_channel *channel);
/** For poll; borrowed. */
int tenon_channel_fd(const struct tenon_channel *channel);

/** Writes all of it; `parts` is used up. @return 0; -ECANCELED; -ETIMEDOUT no progress; -EPIPE, -ENOSPC, ... */
int tenon_channel_write(struct tenon_channel *channel, struct iovec *parts, int count, struct tenon_error *err);
/** Reads exactly `bytes`. @return 0; -ENODATA the stream ended; -ECANCELED; -ETIMEDOUT; or -errno */
int tenon_channel_read(struct tenon_channel *channel, void *data, size_t bytes, struct tenon_error *err);
/** Reads what there is, at least one byte. @param timeout_ms  -1: for ever, 0: not at all. @return bytes; -ENODATA; -EAGAIN nothing yet; ... */
int64_t tenon_channel_read_some(struct tenon_channel *channel, void *data, size_t capacity, int timeout_ms,
				struct tenon_error *err);

/**
 * Waits until a read would not wait: for bytes, the end or a failure.
 *
 * @param timeout_ms  -1: for ever, 0: not at all
 * @return 1; 0 nothing came; -ECANCELED; or -errno
 */
int tenon_channel_wait(struct tenon_channel *channel, int timeout_ms, struct tenon_error *err);

/** Makes reads and writes fail with -ECANCELED, those under way too. From any thread. */
void tenon_channel_end(struct tenon_channel *channel);
/** Makes a written file durable and gives it its name. */
int tenon_channel_commit_file(struct tenon_channel *channel, struct tenon_error *err);
/** NULL is accepted. A file that was not committed leaves nothing. */
void tenon_channel_close(struct tenon_channel *channel);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: MIT */
/*
 * Channels from the inside: what each kind of transport does itself (struct channel_ops), and what all of them share: waiting with a
 * deadline, being ended from another thread, and errors in one line.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <poll.h>
#include <stdatomic.h>
#include <sys/types.h>

#include <tenon-migration/channel.h>

#define CHANNEL_NAME_BYTES 512

/* ---- Addresses: channel_address.c ---- */

enum address_kind { ADDRESS_TCP, ADDRESS_UNIX, ADDRESS_FD, ADDRESS_FILE };

struct channel_address {
	enum address_kind kind;
	char host[256]; /* of tcp; without brackets */
	uint16_t port;
	int fd;
	const char *path; /* of unix and file; lies in the text */
};

/** @param text  untrusted. @return 0; or -EINVAL with what an address looks like */
int channel_address_parse(const char *text, struct channel_address *out, struct tenon_error *err);

/* ---- Options: channel_options.c ---- */

/** Takes what a caller of any age gave; NULL: defaults. timeout_ms is never 0 in `out`. */
int channel_options_take(const struct tenon_channel_options *options, struct tenon_channel_options *out,
			 struct tenon_error *err);

/**
 * Those inside another options struct, where a size of 0 means that nobody gave any. A migration is more patient than a single channel: a
 * device may think for a while, and nothing else comes then.
 */
struct tenon_channel_options channel_options_inside(const struct tenon_channel_options *options);

/* ---- Transports ---- */

/*
 * Neither read nor write ever waits. -EAGAIN: poll for *events, then call again with the same data; CHANNEL_SOON among them: and look
 * again soon, because a thread in the other direction may do what this one waits for. Their caller puts failures into words.
 */
#define CHANNEL_SOON 0x4000 /* none of poll's */

struct channel_ops {
	enum tenon_channel_kind kind;
	ssize_t (*write)(struct tenon_channel *channel, const struct iovec *parts, int count, short *events);
	/* @return bytes; 0: the stream has ended */
	ssize_t (*read)(struct tenon_channel *channel, void *data, size_t bytes, short *events);
	/* Whether a read would not wait; NULL: when the descriptor is readable. */
	bool (*readable)(struct tenon_channel *channel);
	/* Words for a failure of read or write, where the transport has better ones than the system; may be NULL. */
	const char *(*explain)(struct tenon_channel *channel, int code);
	int (*commit)(struct tenon_channel *channel, struct tenon_error *err); /* NULL: nothing to be made durable */
	void (*close)(
		struct tenon_channel *channel); /* frees `own`; the descriptors are closed by others; may be NULL */
};

struct tenon_channel {
	const struct channel_ops *ops;
	int fd;
	int end_fd; /* an eventfd: readable once the channel was ended */
	atomic_bool ended;
	uint32_t timeout_ms;
	void *own; /* the transport's */
	char name[CHANNEL_NAME_BYTES];
};

/** Takes written bytes off the front of the parts. */
void iovec_use_up(struct iovec **parts, int *count, size_t bytes);

extern const struct channel_ops channel_socket_ops;
extern const struct channel_ops channel_input_ops;  /* a file or pipe that is read */
extern const struct channel_ops channel_output_ops; /* one that is written */

/** Makes a channel of a descriptor. @param fd  consumed, if it succeeds */
int channel_create(const struct channel_ops *ops, int fd, const char *name, uint32_t timeout_ms,
		   struct tenon_channel **out, struct tenon_error *err);

/* ---- channel_wait.c ---- */

/** A time, in nanoseconds of CLOCK_MONOTONIC, from now. @param timeout_ms  -1: never */
int64_t deadline_after(int64_t timeout_ms);
/** For poll: milliseconds, rounded up; -1 never, 0 it has passed. */
int deadline_left_ms(int64_t deadline);

/** Waits for `fd` or until `end_fd` (-1: none) says that it is over. @return 0; -ETIMEDOUT; -ECANCELED; or -errno of poll */
int wait_ready(int fd, short events, int end_fd, int64_t deadline);

/* ---- channel_socket.c: sockets ---- */

/**
 * Makes a connection ready for a migration: no delay of small writes, a dead host noticed.
 *
 * @param fd  a connected stream socket of any family
 */
int socket_prepare(int fd, const char *name, uint32_t timeout_ms, struct tenon_error *err);

struct sockaddr_storage;
/** "tcp:[::1]:4444" or "unix:PATH" */
void socket_name(const struct sockaddr_storage *address, unsigned length, char *name, size_t capacity);
/** Whether nobody else can read along: the loopback interface, or no network at all. */
bool socket_is_local(const struct sockaddr_storage *address);

struct addrinfo;
/** @param passive  to bind to it. @param out  to be freed by freeaddrinfo() */
int socket_resolve(const char *name, const struct channel_address *address, bool passive, struct addrinfo **out,
		   struct tenon_error *err);

/** @return 0; or -EPERM with the remedy: it goes over a network, and neither it is encrypted nor did the user allow that */
int socket_check_secure(const char *name, const struct sockaddr_storage *address,
			const struct tenon_channel_options *options, struct tenon_error *err);

struct sockaddr_un;
int socket_unix_address(const char *name, const char *path, struct sockaddr_un *out, struct tenon_error *err);

struct tls_context;

/** Makes a channel of a connected socket. @param tls  or NULL. @param host  as for tls_channel_start. @param fd  consumed, if it succeeds */
int socket_channel(int fd, const char *name, uint32_t timeout_ms, struct tls_context *tls, bool connecting,
		   const char *host, struct tenon_channel **out, struct tenon_error *err);

/** Connects within the time of the options. @return a socket; or -errno */
int socket_connect(const char *name, const struct channel_address *address, const struct tenon_channel_options *options,
		   struct tenon_error *err);

/* ---- channel_fd.c: descriptors that the caller passed ---- */

enum passed_kind { PASSED_CONNECTION, PASSED_LISTENER, PASSED_FILE, PASSED_PIPE };

/** What a descriptor is. @return 0; or -errno: not open, or nothing that a migration can use */
int passed_kind(const char *name, int fd, enum passed_kind *out, struct tenon_error *err);

/** socket_check_secure() of who is at the other end of a connection. */
int passed_check_secure(const char *name, int fd, const struct tenon_channel_options *options, struct tenon_error *err);

/** Makes a channel of it. @param fd  consumed, if it succeeds. @param kind  not PASSED_LISTENER */
int passed_channel(const char *name, int fd, enum passed_kind kind, bool for_reading,
		   const struct tenon_channel_options *options, struct tenon_channel **out, struct tenon_error *err);

/* ---- channel_file.c ---- */

int file_create(const char *name, const char *path, struct tenon_channel **out, struct tenon_error *err);
int file_open(const char *name, const char *path, struct tenon_channel **out, struct tenon_error *err);

#endif

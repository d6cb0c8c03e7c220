// SPDX-License-Identifier: MIT
/*
 * Listeners: at a TCP address, at a Unix socket's path, or of a descriptor that was passed: one that listens, or one that is a connection
 * already, which is then the only one that ever comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "channel.h"
#include "kernel_calls.h"
#include "listener.h"
#include "tls.h"

#define BACKLOG 64 /* lanes of a migration come at once */

struct tenon_listener {
	int fd; /* listens; of a passed connection: an eventfd, readable until it was accepted */
	int end_fd;
	int connection;                       /* a passed one, not yet accepted; or -1 */
	bool single;                          /* it is or was such a one */
	struct tenon_channel_options options; /* whose strings are no longer there */
	struct tls_context *tls;              /* or NULL */
	/* Of a Unix socket that was made here, to remove it and nothing else: */
	bool has_path;
	dev_t device;
	ino_t inode;
	char name[CHANNEL_NAME_BYTES];
};

/* ---- Unix sockets ---- */

/* Something has the name: whether it is a socket that nobody listens on any more. */
static int remove_stale(const char *name, const struct sockaddr_un *address, struct tenon_error *err)
{
	struct stat status;
	int code = mcall_stat_path(address->sun_path, &status);
	if (code < 0 || !S_ISSOCK(status.st_mode))
		return tenon_fail(err, -EEXIST, "%s: exists and is no socket; choose another path", name);
	int fd = mcall_socket(AF_UNIX);
	if (fd < 0)
		return tenon_fail(err, fd, "%s: cannot make a socket: %s; raise the limit of open files (ulimit -n)",
				  name, strerror(-fd));
	code = mcall_connect(fd, (const struct sockaddr *)address, sizeof(*address));
	close(fd);
	if (code != -ECONNREFUSED)
		return tenon_fail(err, -EADDRINUSE, "%s: in use, perhaps by another VM; choose another path", name);
	code = mcall_unlink(AT_FDCWD, address->sun_path);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot remove the socket of a program that has ended: %s; remove it",
				  name, strerror(-code));
	return 0;
}

static int bind_unix(struct tenon_listener *listener, const struct sockaddr_un *address, struct tenon_error *err)
{
	struct stat status;
	/* The socket's own mode, before there is a name, becomes the file's: nobody else can connect in between. */
	int code = mcall_change_mode(listener->fd, 0600);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot make it private: %s; report this", listener->name,
				  strerror(-code));
	code = mcall_bind(listener->fd, (const struct sockaddr *)address, sizeof(*address));
	if (code == -EADDRINUSE) {
		code = remove_stale(listener->name, address, err);
		if (code < 0)
			return code;
		code = mcall_bind(listener->fd, (const struct sockaddr *)address, sizeof(*address));
	}
	if (code == 0)
		code = mcall_stat_path(address->sun_path, &status);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot make a socket there: %s; choose another path", listener->name,
				  strerror(-code));
	listener->has_path = true;
	listener->device = status.st_dev;
	listener->inode = status.st_ino;
	return 0;
}

static int open_unix(struct tenon_listener *listener, const char *path, struct tenon_error *err)
{
	struct sockaddr_un address;
	int code = socket_unix_address(listener->name, path, &address, err);
	if (code < 0)
		return code;
	listener->fd = mcall_socket(AF_UNIX);
	if (listener->fd < 0)
		return tenon_fail(err, listener->fd,
				  "%s: cannot make a socket: %s; raise the limit of open files (ulimit -n)",
				  listener->name, strerror(-listener->fd));
	code = bind_unix(listener, &address, err);
	if (code < 0)
		return code;
	code = mcall_listen(listener->fd, BACKLOG);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot listen: %s; choose another path", listener->name,
				  strerror(-code));
	return 0;
}

/* ---- TCP ---- */

/* @return a socket that listens, or -errno */
static int listen_at(const struct addrinfo *at)
{
	int fd = mcall_socket(at->ai_family);
	if (fd < 0)
		return fd;
	/* Connections of an earlier migration, which linger for a minute, do not keep the port. */
	int code = mcall_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (code == 0)
		code = mcall_bind(fd, at->ai_addr, at->ai_addrlen);
	if (code == 0)
		code = mcall_listen(fd, BACKLOG);
	if (code == 0)
		return fd;
	close(fd);
	return code;
}

static const char *remedy(int code)
{
	switch (code) {
	case -EADDRINUSE:
		return "choose another port, or 0 for a free one";
	case -EADDRNOTAVAIL:
		return "give an address of this host";
	case -EACCES:
		return "choose a port above 1023";
	default:
		return "choose another address";
	}
}

static int open_tcp(struct tenon_listener *listener, const struct channel_address *address, struct tenon_error *err)
{
	struct addrinfo *found;
	struct sockaddr_storage bound;
	int code = socket_resolve(listener->name, address, true, &found, err);
	if (code < 0)
		return code;
	listener->fd = -EADDRNOTAVAIL;
	for (struct addrinfo *at = found; at && listener->fd < 0 && code == 0; at = at->ai_next) {
		struct sockaddr_storage storage = {0};
		memcpy(&storage, at->ai_addr, at->ai_addrlen);
		code = socket_check_secure(listener->name, &storage, &listener->options, err);
		if (code == 0)
			listener->fd = listen_at(at);
	}
	freeaddrinfo(found);
	if (code < 0)
		return code;
	if (listener->fd < 0)
		return tenon_fail(err, listener->fd, "%s: cannot listen: %s; %s", listener->name,
				  strerror(-listener->fd), remedy(listener->fd));
	code = mcall_own_name(listener->fd, &bound);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot ask for its port: %s; report this", listener->name,
				  strerror(-code));
	socket_name(&bound, (unsigned)code, listener->name, sizeof(listener->name));
	return 0;
}

/* ---- Passed descriptors ---- */

static int listen_on_passed(struct tenon_listener *listener, int fd, struct tenon_error *err)
{
	struct sockaddr_storage bound;
	int flags = mcall_get_flags(fd);
	/* Who connects may be gone again by the time that we accept, which would then wait for the next. */
	int code = flags < 0 ? flags : mcall_set_flags(fd, flags | O_NONBLOCK);
	if (code == 0)
		code = mcall_own_name(fd, &bound);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot be used: %s; pass another", listener->name, strerror(-code));
	unsigned length = (unsigned)code;
	code = socket_check_secure(listener->name, &bound, &listener->options, err);
	if (code < 0)
		return code;
	socket_name(&bound, length, listener->name, sizeof(listener->name));
	listener->fd = fd;
	return 0;
}

static int open_passed(struct tenon_listener *listener, int fd, struct tenon_error *err)
{
	enum passed_kind kind;
	int code = passed_kind(listener->name, fd, &kind, err);
	if (code < 0)
		return code;
	if (kind == PASSED_FILE || kind == PASSED_PIPE)
		return tenon_fail(err, -EINVAL, "%s: a file or pipe, at which nobody connects; pass a socket",
				  listener->name);
	if (kind == PASSED_LISTENER) {
		code = listen_on_passed(listener, fd, err);
	} else {
		code = passed_check_secure(listener->name, fd, &listener->options, err);
		if (code < 0)
			return code;
		listener->fd = mcall_eventfd();
		if (listener->fd < 0)
			return tenon_fail(err, listener->fd,
					  "%s: cannot make an eventfd: %s; raise the limit of open files (ulimit -n)",
					  listener->name, strerror(-listener->fd));
		eventfd_write(listener->fd, 1);
		listener->connection = fd;
		listener->single = true;
	}
	if (code == 0)
		mcall_close_on_exec(fd);
	return code;
}

/* ---- Open and close ---- */

static int create(const char *name, struct tenon_listener **out, struct tenon_error *err)
{
	struct tenon_listener *listener = calloc(1, sizeof(*listener));
	if (!listener)
		return tenon_fail(err, -ENOMEM, "%.200s: out of memory", name);
	listener->fd = listener->connection = -1;
	snprintf(listener->name, sizeof(listener->name), "%s", name);
	listener->end_fd = mcall_eventfd();
	if (listener->end_fd < 0) {
		int code = listener->end_fd;
		free(listener);
		return tenon_fail(err, code,
				  "%.200s: cannot make an eventfd: %s; raise the limit of open files (ulimit -n)", name,
				  strerror(-code));
	}
	*out = listener;
	return 0;
}

/* A passed descriptor that is not ours in the end stays the caller's. */
static void give_up(struct tenon_listener *listener, int passed_fd)
{
	if (listener->fd == passed_fd)
		listener->fd = -1;
	listener->connection = -1;
	tenon_listener_close(listener);
}

int tenon_listener_open(const char *address, const struct tenon_channel_options *options, struct tenon_listener **out,
			struct tenon_error *err)
{
	struct channel_address parsed;
	struct tenon_listener *listener;
	int code = channel_address_parse(address, &parsed, err);
	if (code < 0)
		return code;
	if (parsed.kind == ADDRESS_FILE)
		return tenon_fail(err, -EINVAL,
				  "%.200s: a file, at which nobody connects; listen at tcp: or unix:", address);
	code = create(address, &listener, err);
	if (code < 0)
		return code;
	code = channel_options_take(options, &listener->options, err);
	if (code == 0)
		code = tls_context_create(listener->name, &listener->options, &listener->tls, err);
	if (code == 0)
		code = parsed.kind == ADDRESS_UNIX  ? open_unix(listener, parsed.path, err)
		       : parsed.kind == ADDRESS_TCP ? open_tcp(listener, &parsed, err)
						    : open_passed(listener, parsed.fd, err);
	if (code < 0)
		give_up(listener, parsed.fd);
	else
		*out = listener;
	return code;
}

int listener_adopt(int fd, struct tenon_listener **out, struct tenon_error *err)
{
	struct tenon_listener *listener;
	enum passed_kind kind;
	char name[16];
	snprintf(name, sizeof(name), "fd:%d", fd);
	int code = passed_kind(name, fd, &kind, err);
	if (code < 0)
		return code;
	if (kind != PASSED_LISTENER)
		return tenon_fail(err, -EINVAL, "%s: not a socket that listens; pass one", name);
	code = create(name, &listener, err);
	if (code < 0)
		return code;
	channel_options_take(NULL, &listener->options, NULL);
	listener->options.insecure = true;
	code = listen_on_passed(listener, fd, err);
	if (code < 0) {
		give_up(listener, fd);
		return code;
	}
	mcall_close_on_exec(fd);
	*out = listener;
	return 0;
}

int listener_secure(struct tenon_listener *listener, const struct tenon_channel_options *options,
		    struct tenon_error *err)
{
	struct tenon_channel_options taken;
	struct tls_context *tls;
	int code = channel_options_take(options, &taken, err);
	if (code == 0)
		code = tls_context_create(listener->name, &taken, &tls, err);
	if (code < 0)
		return code;
	tls_context_release(listener->tls);
	listener->tls = tls;
	listener->options.timeout_ms = taken.timeout_ms;
	return 0;
}

static void remove_path(const struct tenon_listener *listener)
{
	struct stat status;
	const char *path = listener->name + strlen("unix:");
	if (mcall_stat_path(path, &status) == 0 && status.st_dev == listener->device &&
	    status.st_ino == listener->inode)
		mcall_unlink(AT_FDCWD, path);
}

void listener_leave_path(struct tenon_listener *listener)
{
	listener->has_path = false;
}

void tenon_listener_close(struct tenon_listener *listener)
{
	if (!listener)
		return;
	if (listener->has_path)
		remove_path(listener);
	if (listener->connection >= 0)
		close(listener->connection);
	if (listener->fd >= 0)
		close(listener->fd);
	close(listener->end_fd);
	tls_context_release(listener->tls);
	free(listener);
}

/* ---- Use ---- */

const char *tenon_listener_address(const struct tenon_listener *listener)
{
	return listener->name;
}

bool listener_is_single(const struct tenon_listener *listener)
{
	return listener->single;
}

int tenon_listener_fd(const struct tenon_listener *listener)
{
	return listener->fd;
}

/* Not a failure of the listener: who connected is gone again, or its network is (accept(2) lists these), or another process that has the
 * socket too was faster. */
static bool is_passing(int code)
{
	switch (code) {
	case -EINTR:
	case -EAGAIN:
	case -ECONNABORTED:
	case -EPERM:
	case -EPROTO:
	case -ENETDOWN:
	case -ENOPROTOOPT:
	case -EHOSTDOWN:
	case -ENONET:
	case -EHOSTUNREACH:
	case -EOPNOTSUPP:
	case -ENETUNREACH:
		return true;
	default:
		return false;
	}
}

/* @return a connected socket, or -errno */
static int accept_one(struct tenon_listener *listener, int64_t deadline)
{
	for (;;) {
		int code = wait_ready(listener->fd, POLLIN, listener->end_fd, deadline);
		if (code < 0)
			return code;
		if (listener->connection >= 0) {
			eventfd_t value;
			eventfd_read(listener->fd, &value);
			int fd = listener->connection;
			listener->connection = -1;
			return fd;
		}
		code = mcall_accept(listener->fd);
		if (!is_passing(code))
			return code;
	}
}

/* @param fd  consumed */
static int make_channel(struct tenon_listener *listener, int fd, struct tenon_channel **out, struct tenon_error *err)
{
	struct sockaddr_storage peer;
	char name[CHANNEL_NAME_BYTES];
	int length = mcall_peer_name(fd, &peer);
	snprintf(name, sizeof(name), "%s", listener->name);
	/* Who connects to a Unix socket rarely has a name, and who is gone again has none; the first read tells of that. */
	if (length > 0 && peer.ss_family != AF_UNIX)
		socket_name(&peer, (unsigned)length, name, sizeof(name));
	int code = socket_channel(fd, name, listener->options.timeout_ms, listener->tls, false, NULL, out, err);
	if (code < 0)
		close(fd);
	return code;
}

int tenon_listener_accept(struct tenon_listener *listener, int timeout_ms, struct tenon_channel **out,
			  struct tenon_error *err)
{
	int fd = accept_one(listener, deadline_after(timeout_ms));
	if (fd == -ECANCELED)
		return tenon_fail(err, fd, "%s: cancelled", listener->name);
	if (fd == -ETIMEDOUT)
		return tenon_fail(err, fd, "%s: nobody connected within %d ms; start the source", listener->name,
				  timeout_ms);
	if (fd < 0)
		return tenon_fail(err, fd,
				  "%s: cannot accept a connection: %s; raise the limit of open files (ulimit -n)",
				  listener->name, strerror(-fd));
	return make_channel(listener, fd, out, err);
}

void tenon_listener_end(struct tenon_listener *listener)
{
	eventfd_write(listener->end_fd, 1);
}

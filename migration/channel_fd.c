// SPDX-License-Identifier: MIT
/* "fd:N": descriptors that the caller passed, looked at before they are trusted. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "channel.h"
#include "kernel_calls.h"
#include "tls.h"

static int socket_kind(const char *name, int fd, enum passed_kind *out, struct tenon_error *err)
{
	int type, listens;
	struct sockaddr_storage peer;
	int code = mcall_get_option(fd, SOL_SOCKET, SO_TYPE, &type);
	if (code == 0)
		code = mcall_get_option(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot ask the socket what it is: %s; pass another", name,
				  strerror(-code));
	if (type != SOCK_STREAM)
		return tenon_fail(err, -EPROTOTYPE, "%s: not a stream socket; pass one of TCP or a Unix stream socket",
				  name);
	*out = listens ? PASSED_LISTENER : PASSED_CONNECTION;
	code = listens ? 0 : mcall_peer_name(fd, &peer);
	if (code < 0)
		return tenon_fail(err, code, "%s: the socket has no other side: %s; pass one that is connected", name,
				  strerror(-code));
	return 0;
}

int passed_kind(const char *name, int fd, enum passed_kind *out, struct tenon_error *err)
{
	struct stat status;
	int code = mcall_stat(fd, &status);
	if (code == -EBADF)
		return tenon_fail(err, code, "%s: not open; pass a socket, pipe or file under that number", name);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot be looked at: %s; pass another", name, strerror(-code));
	switch (status.st_mode & S_IFMT) {
	case S_IFSOCK:
		return socket_kind(name, fd, out, err);
	case S_IFREG:
		*out = PASSED_FILE;
		return 0;
	case S_IFIFO:
		*out = PASSED_PIPE;
		return 0;
	default:
		return tenon_fail(err, -EINVAL, "%s: neither a socket nor a pipe nor a file; pass one of these", name);
	}
}

static int check_direction(const char *name, int flags, bool for_reading, struct tenon_error *err)
{
	int wrong = for_reading ? O_WRONLY : O_RDONLY;
	if ((flags & O_ACCMODE) != wrong && !(flags & O_PATH))
		return 0;
	return tenon_fail(err, -EBADF, "%s: not open for %s; open it so", name, for_reading ? "reading" : "writing");
}

int passed_check_secure(const char *name, int fd, const struct tenon_channel_options *options, struct tenon_error *err)
{
	struct sockaddr_storage peer;
	int code = mcall_peer_name(fd, &peer);
	if (code < 0)
		return tenon_fail(err, code, "%s: the socket has no other side: %s; pass one that is connected", name,
				  strerror(-code));
	return socket_check_secure(name, &peer, options, err);
}

static int passed_connection(const char *name, int fd, const struct tenon_channel_options *options,
			     struct tenon_channel **out, struct tenon_error *err)
{
	struct tls_context *tls;
	int code = passed_check_secure(name, fd, options, err);
	if (code == 0)
		code = tls_context_create(name, options, &tls, err);
	if (code < 0)
		return code;
	code = socket_channel(fd, name, options->timeout_ms, tls, true, NULL, out, err);
	tls_context_release(tls);
	return code;
}

static int passed_file(const char *name, int fd, bool is_pipe, bool for_reading, uint32_t timeout_ms,
		       struct tenon_channel **out, struct tenon_error *err)
{
	int flags = mcall_get_flags(fd);
	if (flags < 0)
		return tenon_fail(err, flags, "%s: cannot be looked at: %s; pass another", name, strerror(-flags));
	int code = check_direction(name, flags, for_reading, err);
	if (code < 0)
		return code;
	/* A pipe has no other way to say "not now". A file never says so. */
	code = is_pipe ? mcall_set_flags(fd, flags | O_NONBLOCK) : 0;
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot be kept from waiting: %s; pass another", name,
				  strerror(-code));
	return channel_create(for_reading ? &channel_input_ops : &channel_output_ops, fd, name, timeout_ms, out, err);
}

int passed_channel(const char *name, int fd, enum passed_kind kind, bool for_reading,
		   const struct tenon_channel_options *options, struct tenon_channel **out, struct tenon_error *err)
{
	int code = kind == PASSED_CONNECTION
			   ? passed_connection(name, fd, options, out, err)
			   : passed_file(name, fd, kind == PASSED_PIPE, for_reading, options->timeout_ms, out, err);
	if (code == 0)
		mcall_close_on_exec(fd); /* ours now: no program that is started later keeps it open */
	return code;
}

// SPDX-License-Identifier: MIT
/*
 * Reading and writing without waiting, per kind of file.
 *
 * A terminal or pipe is reopened through /proc: that gives an open file description of our own, whose O_NONBLOCK nobody
 * else sees. Where that is not possible (no /proc, another user's terminal) each call is preceded by a poll.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chardev_stream.h"

static bool is_pty_master(int fd)
{
	int number;
	return ioctl(fd, TIOCGPTN, &number) == 0;
}

/* Reopening a pty's master would make a new pty instead. */
static bool is_reopenable(int fd, mode_t mode)
{
	return S_ISFIFO(mode) || (S_ISCHR(mode) && isatty(fd) && !is_pty_master(fd));
}

int stream_inherit(struct stream *stream, int fd, int access)
{
	*stream = STREAM_CLOSED;
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -errno;

	if (is_reopenable(fd, status.st_mode)) {
		char path[32];
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		int own = open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (own >= 0) {
			*stream = (struct stream){.kind = STREAM_NONBLOCKING, .fd = own};
			return 0;
		}
		if (S_ISFIFO(status.st_mode) && errno == ENXIO)
			return -EPIPE; /* nobody reads it any more */
	}

	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	stream->fd = copy;
	/* A regular file must not be reopened: output would start over at its beginning. */
	stream->kind = S_ISSOCK(status.st_mode)  ? STREAM_SOCKET
		       : S_ISREG(status.st_mode) ? STREAM_NONBLOCKING
						 : STREAM_POLLED;
	return 0;
}

static bool is_ready(int fd, short events)
{
	struct pollfd ask = {.fd = fd, .events = events};
	return poll(&ask, 1, 0) > 0; /* an error or a hang-up is for the call itself to report */
}

ssize_t stream_read(const struct stream *stream, void *bytes, size_t capacity)
{
	if (stream->kind == STREAM_POLLED && !is_ready(stream->fd, POLLIN))
		return -EAGAIN;
	ssize_t count;
	do {
		count = stream->kind == STREAM_SOCKET ? recv(stream->fd, bytes, capacity, MSG_DONTWAIT)
						      : read(stream->fd, bytes, capacity);
	} while (count < 0 && errno == EINTR);
	return count < 0 ? -errno : count;
}

ssize_t stream_write(const struct stream *stream, const void *bytes, size_t count)
{
	if (stream->kind == STREAM_POLLED) {
		if (!is_ready(stream->fd, POLLOUT))
			return -EAGAIN;
		count = 1; /* all that "writable" promises */
	}
	ssize_t written;
	do {
		written = stream->kind == STREAM_SOCKET ? send(stream->fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL)
							: write(stream->fd, bytes, count);
	} while (written < 0 && errno == EINTR);
	if (written < 0)
		return -errno;
	return written ? written : -EAGAIN;
}

void stream_close(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	*stream = STREAM_CLOSED;
}

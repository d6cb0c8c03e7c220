/* SPDX-License-Identifier: MIT */
/*
 * One direction of a chardev: a file descriptor of any kind that is read or written without ever waiting for it, and
 * without setting O_NONBLOCK for the other processes (a shell, say) that share its open file description.
 */
#ifndef CHARDEV_STREAM_H
#define CHARDEV_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum stream_kind {
	STREAM_NONBLOCKING, /* a description of our own with O_NONBLOCK, or a regular file */
	STREAM_SOCKET,      /* each call says MSG_DONTWAIT */
	STREAM_POLLED,      /* a shared description: asked before each call, and written byte by byte */
};

struct stream {
	enum stream_kind kind;
	int fd; /* -1: closed */
};

#define STREAM_CLOSED ((struct stream){.fd = -1})

/** Makes a stream of an inherited descriptor. @param fd borrowed @param access O_RDONLY, O_WRONLY @return 0, -errno */
int stream_inherit(struct stream *stream, int fd, int access);

/** @return a count; 0 at the end of the input; -EAGAIN: none now; or another -errno */
ssize_t stream_read(const struct stream *stream, void *bytes, size_t capacity);

/** @return a count of at least 1; -EAGAIN: takes none now; or another -errno */
ssize_t stream_write(const struct stream *stream, const void *bytes, size_t count);

void stream_close(struct stream *stream);

#endif

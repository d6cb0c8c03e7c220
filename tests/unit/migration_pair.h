/* SPDX-License-Identifier: MIT */
/* Two channels that are connected, and streams in memory, for tests of what goes over them. */
#ifndef MIGRATION_PAIR_H
#define MIGRATION_PAIR_H

#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <tenon-migration/channel.h>

#include "stream.h"

struct pair {
	struct tenon_channel *out, *in;
	struct stream_writer writer;
	struct stream_reader reader;
};

static inline struct tenon_channel *pair_channel(int fd)
{
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	char address[16];
	snprintf(address, sizeof(address), "fd:%d", fd);
	cr_assert_eq(tenon_channel_connect(address, NULL, &channel, &err), 0, "%s", err.message);
	return channel;
}

static inline void pair_open(struct pair *pair)
{
	int fds[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pair->out = pair_channel(fds[0]);
	pair->in = pair_channel(fds[1]);
	stream_writer_init(&pair->writer, pair->out);
	cr_assert_eq(stream_reader_init(&pair->reader, pair->in, NULL), 0);
}

static inline void pair_close(struct pair *pair)
{
	stream_reader_finish(&pair->reader);
	tenon_channel_close(pair->out);
	tenon_channel_close(pair->in);
}

/** The writing side goes away. */
static inline void pair_hang_up(struct pair *pair)
{
	tenon_channel_close(pair->out);
	pair->out = NULL;
}

/** A reader of these bytes, as of a saved file. */
static inline void memory_reader(struct stream_reader *reader, const void *bytes, size_t size)
{
	struct tenon_channel *channel;
	struct tenon_error err = {0};
	char address[16];
	int fd = memfd_create("stream", MFD_CLOEXEC);
	cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
	lseek(fd, 0, SEEK_SET);
	snprintf(address, sizeof(address), "fd:%d", fd);
	cr_assert_eq(tenon_channel_open_file(address, &channel, &err), 0, "%s", err.message);
	cr_assert_eq(stream_reader_init(reader, channel, NULL), 0);
}

static inline void memory_reader_close(struct stream_reader *reader)
{
	tenon_channel_close(reader->channel);
	stream_reader_finish(reader);
}

#endif

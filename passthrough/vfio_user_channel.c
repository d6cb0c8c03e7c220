// SPDX-License-Identifier: MIT
/*
 * Framing of vfio-user. A read takes all that is there, often several messages, so that a reply costs one call. Whose the file
 * descriptors are follows from how the kernel reads: a read that brings some ends with the last byte that was sent beside them
 * (net/unix/af_unix.c, unix_stream_read_generic), so they belong to the message that holds the last byte of the read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "kernel.h"
#include "vfio_user_channel.h"

int vu_channel_init(struct vu_channel *channel, int fd, size_t message_max)
{
	*channel = (struct vu_channel){.fd = fd, .message_max = message_max, .in = malloc(message_max)};
	if (channel->in)
		return 0;
	vu_channel_finish(channel);
	return -ENOMEM;
}

void vu_fds_close(struct vu_fds *fds)
{
	for (unsigned i = 0; i < fds->count; i++) {
		if (fds->fd[i] >= 0)
			kernel_close(fds->fd[i]);
	}
	fds->count = 0;
}

void vu_channel_finish(struct vu_channel *channel)
{
	for (unsigned i = 0; i < 2; i++)
		vu_fds_close(&channel->fds[i]);
	free(channel->in);
	free(channel->out);
	if (channel->fd >= 0)
		kernel_close(channel->fd);
	*channel = (struct vu_channel){.fd = -1};
}

/* Room for a whole message that starts at the first byte not taken. */
static void compact(struct vu_channel *channel)
{
	memmove(channel->in, channel->in + channel->in_first, channel->in_end - channel->in_first);
	for (unsigned i = 0; i < 2; i++)
		channel->fds[i].at -= channel->in_first;
	channel->in_end -= channel->in_first;
	channel->in_first = 0;
}

static int keep_fds(struct vu_channel *channel, struct vu_fds *came)
{
	for (unsigned i = 0; i < 2; i++) {
		if (channel->fds[i].count)
			continue;
		channel->fds[i] = *came;
		return 0;
	}
	vu_fds_close(came);
	return -EPROTO;
}

int vu_channel_fill(struct vu_channel *channel)
{
	struct vu_fds came = {.count = VU_CHANNEL_FDS};
	compact(channel);
	size_t room = channel->message_max - channel->in_end;
	if (room == 0)
		return -EPROTO; /* a whole message is there and nobody takes it */
	ssize_t got = kernel_receive(channel->fd, channel->in + channel->in_end, room, came.fd, &came.count);
	if (got < 0)
		return (int)got;
	bool too_many = came.count > VU_CHANNEL_FDS;
	if (too_many)
		came.count = VU_CHANNEL_FDS; /* the kernel's part closed those that did not fit */
	channel->in_end += (size_t)got;
	came.at = channel->in_end - 1;
	if (too_many || got == 0) {
		vu_fds_close(&came);
		return too_many ? -EPROTO : -ECONNRESET;
	}
	return came.count ? keep_fds(channel, &came) : 0;
}

static int take_fds(struct vu_channel *channel, struct vu_fds *out)
{
	out->count = 0;
	for (unsigned i = 0; i < 2; i++) {
		struct vu_fds *fds = &channel->fds[i];
		if (fds->count == 0 || fds->at >= channel->in_first)
			continue;
		if (out->count) {
			vu_fds_close(out);
			return -EPROTO;
		}
		*out = *fds;
		fds->count = 0;
	}
	return 1;
}

int vu_channel_next(struct vu_channel *channel, struct vu_message *out)
{
	size_t there = channel->in_end - channel->in_first;
	if (there < sizeof(out->header))
		return 0;
	memcpy(&out->header, channel->in + channel->in_first, sizeof(out->header));
	if (out->header.bytes < sizeof(out->header) || out->header.bytes > channel->message_max)
		return -EPROTO;
	if (there < out->header.bytes)
		return 0;
	out->payload = channel->in + channel->in_first + sizeof(out->header);
	out->bytes = out->header.bytes - sizeof(out->header);
	channel->in_first += out->header.bytes;
	return take_fds(channel, &out->fds);
}

bool vu_channel_ready(const struct vu_channel *channel)
{
	struct vu_header header;
	size_t there = channel->in_end - channel->in_first;
	if (there < sizeof(header))
		return false;
	memcpy(&header, channel->in + channel->in_first, sizeof(header));
	/* One that cannot be is something to say, too. */
	return there >= header.bytes || header.bytes > channel->message_max;
}

/* What is left of the parts after `sent` bytes. */
static int keep_rest(struct vu_channel *channel, const struct iovec *parts, unsigned count, size_t sent)
{
	if (!channel->out)
		channel->out = malloc(channel->message_max);
	if (!channel->out)
		return -ENOMEM;
	channel->out_first = channel->out_end = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t skipped = sent < parts[i].iov_len ? sent : parts[i].iov_len;
		size_t left = parts[i].iov_len - skipped;
		if (left)
			memcpy(channel->out + channel->out_end, (const uint8_t *)parts[i].iov_base + skipped, left);
		channel->out_end += left;
		sent -= skipped;
	}
	return 0;
}

int vu_channel_send(struct vu_channel *channel, struct vu_header *header, const struct vu_parts *parts, bool keep)
{
	const struct iovec pieces[] = {{.iov_base = header, .iov_len = sizeof(*header)},
				       {.iov_base = (void *)parts->head, .iov_len = parts->head_bytes},
				       {.iov_base = (void *)parts->data, .iov_len = parts->data_bytes}};
	size_t bytes = sizeof(*header) + parts->head_bytes + parts->data_bytes;
	if (bytes > channel->message_max)
		return -EMSGSIZE;
	if (!vu_channel_flushed(channel))
		return -EAGAIN;
	header->bytes = (uint32_t)bytes;
	ssize_t sent = kernel_send(channel->fd, pieces, 3, parts->fds, parts->fd_count);
	if (sent == -EAGAIN && keep && parts->fd_count == 0)
		sent = 0;
	if (sent < 0)
		return (int)sent;
	return (size_t)sent < bytes ? keep_rest(channel, pieces, 3, (size_t)sent) : 0;
}

int vu_channel_flush(struct vu_channel *channel)
{
	while (!vu_channel_flushed(channel)) {
		const struct iovec part = {.iov_base = channel->out + channel->out_first,
					   .iov_len = channel->out_end - channel->out_first};
		ssize_t sent = kernel_send(channel->fd, &part, 1, NULL, 0);
		if (sent < 0)
			return (int)sent;
		channel->out_first += (size_t)sent;
	}
	return 0;
}

bool vu_channel_flushed(const struct vu_channel *channel)
{
	return channel->out_first == channel->out_end;
}

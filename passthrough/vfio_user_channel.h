/* SPDX-License-Identifier: MIT */
/*
 * One vfio-user socket as whole messages: what comes in is cut into messages with their file descriptors, what goes out goes
 * out whole and in order. Nothing here waits. The other side is not trusted: sizes are checked, buffers are bounded.
 *
 * Threads: the owner's lock.
 */
#ifndef VFIO_USER_CHANNEL_H
#define VFIO_USER_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vfio_user_protocol.h"

#define VU_CHANNEL_FDS 16 /* most in one message; the client announces fewer */

struct vu_fds {
	unsigned count; /* 0: none */
	size_t at;      /* they belong to the message that holds this byte of `in` */
	int fd[VU_CHANNEL_FDS];
};

struct vu_channel {
	int fd; /* owned; -1: not open */
	size_t message_max;
	uint8_t *in;
	size_t in_first, in_end;
	struct vu_fds fds[2]; /* of the message that is not whole yet, and of one that the same read brings */
	uint8_t *out;         /* message_max bytes, allocated when the socket does not take a message whole */
	size_t out_first, out_end;
};

/* A whole message, in the channel's buffer until the next call on the channel. */
struct vu_message {
	struct vu_header header;
	const uint8_t *payload;
	size_t bytes;      /* of the payload */
	struct vu_fds fds; /* the receiver's */
};

/* What follows the header of a message to be sent. Borrowed. */
struct vu_parts {
	const void *head;
	size_t head_bytes;
	const void *data;
	size_t data_bytes;
	const int *fds;
	unsigned fd_count;
};

/** @param fd  consumed, in any case. @return 0 or -ENOMEM */
int vu_channel_init(struct vu_channel *channel, int fd, size_t message_max);
void vu_channel_finish(struct vu_channel *channel);
void vu_fds_close(struct vu_fds *fds);

/** Reads what there is, once. @return 0; -EAGAIN nothing there; -ECONNRESET the end; -EPROTO too many fds; or another -errno */
int vu_channel_fill(struct vu_channel *channel);
/** @return 1 a message; 0 none is whole; -EPROTO a size that cannot be, or fds twice */
int vu_channel_next(struct vu_channel *channel, struct vu_message *out);

/** Whether vu_channel_next has something to say. */
bool vu_channel_ready(const struct vu_channel *channel);

/**
 * Sends a message: the header, whose size is set here, `head` and `data`. When the socket takes a part, the rest is kept for
 * vu_channel_flush; when it takes nothing, the whole is, if `keep` says so.
 *
 * @param fds  borrowed
 * @return 0; -EAGAIN nothing was taken and nothing kept, always so while something is kept; -EMSGSIZE larger than any message;
 *         any other: the channel is broken
 */
int vu_channel_send(struct vu_channel *channel, struct vu_header *header, const struct vu_parts *parts, bool keep);
/** @return 0; -EAGAIN some is left; another -errno: the channel is broken */
int vu_channel_flush(struct vu_channel *channel);
bool vu_channel_flushed(const struct vu_channel *channel);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * One socket as a stream of whole messages, with their file descriptors; never blocks. What is received is limited by one
 * message, what is to be sent by what the reader leaves unread.
 */
#ifndef LINK_H
#define LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vfio_user_protocol.h>

#define LINK_SEND_FDS 8 /* most in one message of ours */

struct message {
	struct message *next;
	struct vu_header header;
	size_t bytes; /* of the payload */
	unsigned fd_count;
	int *fds; /* owned; those that are taken over become -1 */
	uint8_t payload[];
};

struct packet;

/* File descriptors that came with one read; they belong to the message that holds byte `at` of what was received. */
struct fd_group {
	unsigned count; /* 0: none */
	size_t at;
	int fds[VU_FDS_MAX];
};

struct link {
	int fd; /* owned; -1: closed */
	size_t message_max;
	/* Received and not yet a whole message. */
	uint8_t *in;
	size_t in_first;
	size_t in_end;
	struct fd_group groups[2]; /* of the message that is not whole, and of one that the same read brings */
	/* To be sent. */
	struct packet *out;
	struct packet **out_end;
	size_t out_bytes;
};

/** @param fd  consumed; made non-blocking. @param message_max  with the header. @return 0 or -ENOMEM */
int link_init(struct link *link, int fd, size_t message_max);
void link_finish(struct link *link);

/** Reads what there is, once; only when no whole message is there. @return 0; -ECONNRESET the other side is gone; -EPROTO */
int link_fill(struct link *link);

/**
 * Takes the next whole message.
 *
 * @param out  owned by the caller: message_free
 * @return 1; 0 nothing whole yet; -EPROTO a size or number of fds that cannot be, the header is in *bad then; -ENOMEM
 */
int link_next(struct link *link, struct message **out, struct vu_header *bad);
void message_free(struct message *message);
/** Whether link_next would not return 0. */
bool link_has_message(const struct link *link);

/** Sends or queues a message. @param fds  borrowed. @return 0, -ECONNRESET, -ENOMEM */
int link_send(struct link *link, const struct vu_header *header, const void *payload, size_t bytes, const int *fds,
	      unsigned fd_count);
/** Sends what is queued, as far as it goes. @return 0 or -ECONNRESET */
int link_flush(struct link *link);

#endif

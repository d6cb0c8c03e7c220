/* SPDX-License-Identifier: MIT */
/*
 * The client's end of a vfio-user connection: requests and their replies, writes that need none, and the server's own requests
 * for memory, which are answered while a reply is awaited and when the owner says so. The server is another process and is not
 * trusted: it can die, hang and lie. Whatever it does, a call ends within its time.
 *
 *   It dies or lies (a reply to nothing, of a wrong command or size, a message that cannot be): the connection is over.
 *   It hangs: the call fails with -ETIMEDOUT, and so do all after it, at once, until the late reply comes. Only those with a
 *   timeout_ms of their own wait for that.
 *
 * Call order: connect or adopt; call, post, serve; destroy.
 * Threads: any; calls take turns. The memory operations are called with the socket's lock held, on any thread that is in it.
 * Source: vfio-user Protocol Specification, "Client/server interactions" and "Header".
 */
#ifndef VFIO_USER_SOCKET_H
#define VFIO_USER_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#include "vfio_user_channel.h"
#include "vfio_user_protocol.h"

#define VU_FDS_ANNOUNCED 8 /* max_msg_fds of this client */

struct vu_socket;

/* How the server's DMA reaches memory that it has no file of. 0 or -errno, which it is told. */
struct vu_memory {
	int (*read)(void *context, uint64_t address, void *data, size_t bytes);
	int (*write)(void *context, uint64_t address, const void *data, size_t bytes);
	void *context;
};

struct vu_call {
	uint16_t command;    /* enum vu_command */
	unsigned timeout_ms; /* 0: VU_TIMEOUT_MS */
	/*
	 * What is left for several calls together, in the place of timeout_ms; each takes off what it took, its turn waited for. NULL:
	 * none.
	 */
	uint64_t *budget_ns;
	struct vu_parts request;
	/* The reply's payload: from `reply_least` to `reply_room` bytes, and `reply_data_room`; any other size is a lie. */
	void *reply;
	size_t reply_room;
	size_t reply_least;
	/* What does not fit there goes on here. */
	void *reply_data;
	size_t reply_data_room;
	/* What the server asked for before it replied is done when the call returns, on whatever socket. */
	bool drain;
	/* After the call */
	size_t reply_bytes;
	unsigned reply_fd_count;
	int reply_fds[VU_FDS_ANNOUNCED]; /* the caller's */
};

#define VU_TIMEOUT_MS 5000u

/**
 * Connects and agrees on a version.
 *
 * @param path        of the server's socket
 * @param timeout_ms  for either step; 0: VU_TIMEOUT_MS
 * @param memory      copied
 * @return 0 or -errno, with a message that names the path
 */
int vu_socket_connect(const char *path, unsigned timeout_ms, const struct vu_memory *memory, struct vu_socket **out,
		      struct tenon_error *err);
/** The same on a connected socket. @param fd  consumed, in any case. @param name  for messages */
int vu_socket_adopt(int fd, const char *name, unsigned timeout_ms, const struct vu_memory *memory,
		    struct vu_socket **out, struct tenon_error *err);
/** NULL is accepted. No call may be under way. */
void vu_socket_destroy(struct vu_socket *socket);

/**
 * What the server agreed to: most data in one read or write, most fds in a message to it, whether it takes several writes in one;
 * how many windows into memory it takes, and the unit of their addresses and sizes.
 */
uint64_t vu_socket_data_bytes(const struct vu_socket *socket);
unsigned vu_socket_fds(const struct vu_socket *socket);
bool vu_socket_takes_multi(const struct vu_socket *socket);
uint64_t vu_socket_dma_maps(const struct vu_socket *socket);
uint64_t vu_socket_page_bytes(const struct vu_socket *socket);

/**
 * Sends a command and waits for its reply.
 *
 * @return 0; the server's error as -errno; -ETIMEDOUT; -ENOTCONN the connection is over; -EMSGSIZE more than the server takes
 */
int vu_socket_call(struct vu_socket *socket, struct vu_call *call, struct tenon_error *err);

/** Sends a command without reply. It is executed before what is called after it. The reply's part of `call` is not used. */
int vu_socket_post(struct vu_socket *socket, const struct vu_call *call, struct tenon_error *err);

/**
 * Becomes readable when the server asks for memory, takes more of an answer that is kept for it, or is gone: call vu_socket_serve
 * then. Borrowed.
 */
int vu_socket_poll_fd(const struct vu_socket *socket);
/**
 * Answers some of what the server asks for now, without waiting.
 *
 * @return 0; 1 the server owes an answer still, or somebody waits for one; -ENOTCONN the connection is over
 */
int vu_socket_serve(struct vu_socket *socket);

/** Ends the connection for good, as after a call whose outcome must not stay unknown. @param reason  a constant */
void vu_socket_end(struct vu_socket *socket, const char *reason);
/** Why it is over; NULL: it is not. */
const char *vu_socket_ended(struct vu_socket *socket);

#endif

/* SPDX-License-Identifier: MIT */
/* Serves one client: its sockets, the order of its messages, the device's own requests and its clockwork, in one loop. */
#ifndef SERVER_H
#define SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vfio_user_version.h>

#include "link.h"

struct session {
	struct link main;
	struct link twin; /* fd -1: none */
	struct vu_capabilities client;
	bool greeted; /* versions are agreed on */
	bool ended;
	uint64_t stalled_until_ns; /* 0: not stalled; UINT64_MAX: for ever */
	/* Messages that wait until the device has its answer from the client, in order. */
	struct message *held;
	struct message **held_end;
	unsigned held_count;
};

struct testdev;

/**
 * Serves the client at the other end of `fd` until it leaves, breaks the framing, or `stop` becomes readable. Its memory
 * and eventfds are released then; the device keeps its state.
 *
 * @param fd    consumed
 * @param stop  borrowed; -1: none
 * @return 0; -EINTR `stop`; -EPROTO the client broke the framing or did not agree on a version; -ENOMEM
 */
int server_serve(struct testdev *device, int fd, int stop);

/** Most data in one message: what both sides take. */
uint64_t server_data_bytes(const struct testdev *device);
bool server_has_twin(const struct testdev *device);

/** Sends a command of the device. @return 0, -EAGAIN the client does not read, -ENOTCONN */
int server_command(struct testdev *device, struct vu_header *header, const struct vu_dma_access *access,
		   const uint8_t *data, uint32_t bytes);

#endif

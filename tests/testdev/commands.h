/* SPDX-License-Identifier: MIT */
/* What each command of the client does. Every size and number in it is checked here. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "link.h"

struct reply {
	uint8_t *payload; /* owned; NULL: none */
	size_t bytes;
	int fds[LINK_SEND_FDS]; /* borrowed from the device, but for `owned_fd` */
	unsigned fd_count;
	int owned_fd; /* closed once the reply is out; -1 */
};

struct testdev;

/**
 * Executes a command after the version is agreed on.
 *
 * @param reply  empty; filled on success
 * @return 0 or -errno, which becomes the reply's error
 */
int command_execute(struct testdev *device, struct message *message, struct reply *reply);

/** Agrees on a version. @return 0, or -errno: then the connection ends */
int command_greet(struct testdev *device, struct message *message, struct reply *reply);

/** Commands that must not overtake the device's request to the client. */
bool command_waits_for_dma(const struct message *message);

/** Makes a reply of `bytes` zero bytes. @return its payload, or NULL */
void *reply_make(struct reply *reply, size_t bytes);
void reply_finish(struct reply *reply);

#endif

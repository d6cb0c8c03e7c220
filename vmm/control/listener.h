/* SPDX-License-Identifier: MIT */
/* The control socket's place in the file system: a Unix stream socket that only its owner can connect to. */
#ifndef CONTROL_LISTENER_H
#define CONTROL_LISTENER_H

#include <sys/types.h>

#include <tenon/error.h>

struct control_listener {
	int fd;
	const char *path; /* borrowed */
	dev_t device;
	ino_t inode;
};

/**
 * Listens there, with mode 0600. A socket that nobody listens on any more is replaced; one in use, or a file of another kind, is not.
 */
int control_listener_open(const char *path, struct control_listener *out, struct tenon_error *err);

/** Removes the socket, unless another one has taken its place. */
void control_listener_close(struct control_listener *listener);

/** The client's side. @return a file descriptor, or -errno */
int control_connect(const char *path, struct tenon_error *err);

#endif

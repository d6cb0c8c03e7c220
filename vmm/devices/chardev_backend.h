/* SPDX-License-Identifier: MIT */
/*
 * What chardev.c (buffers, readiness, escapes) and chardev_backends.c (files, sockets, terminals) share.
 *
 * The core reads `in` and writes `out` whenever they are open. All of it happens under the chardev's lock.
 */
#ifndef CHARDEV_BACKEND_H
#define CHARDEV_BACKEND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "chardev.h"
#include "chardev_stream.h"

#define CHARDEV_INPUT_BYTES  1024
#define CHARDEV_OUTPUT_BYTES 65536

struct chardev_backend {
	const char *kind;
	bool has_argument; /* "kind:ARGUMENT" */
	int (*open)(struct chardev *chardev, const char *argument, struct tenon_error *err);
	/* The rest may be NULL. */
	void (*attend)(struct chardev *chardev);      /* at each dispatch, before reading */
	bool (*has_reader)(struct chardev *chardev);  /* NULL: always, while `out` is open */
	void (*input_ended)(struct chardev *chardev); /* end of file, hang-up, error. NULL: `in` is closed */
	void (*output_failed)(struct chardev *chardev, int error); /* negative errno. NULL: `out` is closed */
	void (*close)(struct chardev *chardev);                    /* before the streams are closed */
};

extern const struct chardev_backend *const chardev_backends[]; /* ends with NULL */

struct chardev {
	const struct chardev_backend *backend;
	char name[160];
	pthread_mutex_t lock;
	int epoll_fd;    /* -1: nothing to wait for */
	unsigned events; /* to report at the next dispatch */

	struct stream in;
	int in_stand_in;  /* an eventfd that always polls readable, for an input that epoll refuses; -1 */
	bool in_paused;   /* the buffer was full: look again when it is not */
	bool is_terminal; /* input has escapes, and goes on being read while the buffer is full */
	bool escape;      /* a Ctrl-A came before */
	bool left;
	uint8_t input[CHARDEV_INPUT_BYTES];
	unsigned input_first;
	unsigned input_count;

	struct stream out;
	bool out_pollable;
	bool refused;    /* chardev_write said false since the last CHARDEV_DRAINED */
	uint8_t *output; /* allocated when first needed */
	unsigned output_first;
	unsigned output_count;

	/* Backends' own */
	bool holds_stdio;
	int listen_fd; /* socket; -1 */
	char *path;    /* socket: to unlink, while it still is what bind made */
	dev_t path_device;
	ino_t path_inode;
	bool connected; /* pty: somebody has the slave open, as far as known */
};

/** Takes over and watches a stream. @return 0; or -errno, and the stream is closed with the chardev */
int chardev_set_in(struct chardev *chardev, struct stream in);
int chardev_set_out(struct chardev *chardev, struct stream out);
void chardev_close_in(struct chardev *chardev);
void chardev_close_out(struct chardev *chardev); /* with what was buffered */
void chardev_discard_output(struct chardev *chardev);

/** Wakes chardev_dispatch when `fd` becomes readable from now on, or is. May be repeated. @return 0 or -errno */
int chardev_watch(struct chardev *chardev, int fd);

#endif

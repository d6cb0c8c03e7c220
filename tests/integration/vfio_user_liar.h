/* SPDX-License-Identifier: MIT */
/*
 * A test device that speaks vfio-user right, and somebody between it and the program who changes one message: the reply to a chosen
 * request. What the program's answers to messages of the liar's own are is kept, and nobody else sees them.
 *
 * The liar is a thread of the test; the device is a process.
 */
#ifndef VFIO_USER_LIAR_H
#define VFIO_USER_LIAR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "testdev_run.h"
#include "vfio_user_protocol.h"

enum lie_kind {
	LIE_NONE,
	/* The reply as a whole */
	LIE_NEVER,
	LIE_LATE, /* after `value` milliseconds */
	LIE_TWICE,
	LIE_STALE,   /* the reply before it once more, in its place */
	LIE_EARLY,   /* the reply before it once more, and then itself */
	LIE_ECHO,    /* the request comes back */
	LIE_FAILURE, /* an error reply with errno `value` */
	LIE_HANG_UP, /* the connection ends in its place */
	LIE_KILL,    /* the device is killed in its place */
	LIE_GARBAGE, /* 64 bytes of `value` in its place */
	/* Its size */
	LIE_SHRINK,  /* `value` bytes fewer, and its header says so */
	LIE_GROW,    /* `value` bytes more, and its header says so */
	LIE_CUT_OFF, /* `value` bytes fewer, and the connection ends */
	LIE_PIECES,  /* no lie at all: it arrives byte by byte */
	/* Its bytes: `patches` */
	LIE_PATCH,
	/* Its file descriptors */
	LIE_NO_FDS,
	LIE_MANY_FDS, /* `value` more */
	LIE_FILE,     /* the first is `file` */
	/* A command of the server's before it: `inserted` */
	LIE_INSERT,
};

enum lie_file {
	FILE_SHORT,
	FILE_EMPTY,
	FILE_UNSEALABLE,
	FILE_READ_ONLY,
	FILE_DEVICE,
	FILE_PIPE,
	FILE_SOCKET,
	FILE_FOLDER
};

/* Where fields are in a message. */
#define AT_ID         0
#define AT_COMMAND    2
#define AT_BYTES      4
#define AT_FLAGS      8
#define AT_ERROR      12
#define AT_PAYLOAD(x) (sizeof(struct vu_header) + (x))

struct patch {
	uint16_t at;
	uint8_t width; /* 0: the end of the list */
	uint64_t value;
};

struct inserted {
	struct vu_header header; /* bytes 0: as they are */
	uint8_t payload[64];
	uint32_t bytes; /* of the payload that are sent */
};

#define LIE_PATCHES 5
/* The id of inserted commands. */
#define LIE_ID 0xbeef

struct lie {
	/* To which request: the nth of that command (0: any) with that index (of the region or interrupt kind; -1: any); 0th: all */
	uint16_t command;
	int index;
	unsigned nth;
	enum lie_kind kind;
	int64_t value;
	enum lie_file file;
	struct patch patches[LIE_PATCHES];
	struct inserted inserted;
};

#define LIAR_MESSAGE_BYTES (2u << 20)
#define LIAR_FDS           128 /* more than either end sends */

struct liar {
	char folder[32], path[64], device_path[64];
	struct lie lie;
	struct run device;
	pthread_t thread;
	int listener, stop;
	atomic_uint told;        /* how often it lied */
	atomic_uint answers;     /* to what was inserted */
	struct vu_header answer; /* the last of them */
	/* The thread's own */
	int down, up; /* to the program, to the device */
	bool ended;
	unsigned matched;
	struct vu_header asked; /* the request under way */
	uint8_t request[LIAR_MESSAGE_BYTES / 32], last[LIAR_MESSAGE_BYTES / 32];
	uint32_t request_bytes, last_bytes;
	bool matches;
};

/** Starts a device with `options` (NULL-terminated, or NULL) and the liar before it, at liar->path. */
void liar_start(struct liar *liar, const struct lie *lie, const char *const *options);

/** Ends both. The device's journal is in liar->device.said until liar_finish. @return the device's exit status, as run_wait */
int liar_stop(struct liar *liar);
void liar_finish(struct liar *liar);

#endif

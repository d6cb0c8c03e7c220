/* SPDX-License-Identifier: MIT */
/* Faults on demand: what the server does instead of a proper answer, and at which message. */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdint.h>

#include <tenon/error.h>

#include <vfio_user_protocol.h>

#define FAULTS_MAX 16

enum fault_kind {
	FAULT_NONE,
	FAULT_STALL,      /* nothing happens for `value` ms; 0: for ever */
	FAULT_ERROR,      /* the command is not executed; the reply has the error `value` */
	FAULT_WRONG_SIZE, /* the reply's payload is `value` bytes longer (shorter when negative), and its header says so */
	FAULT_SHORT,      /* the reply's header is right, but the payload ends `value` bytes early; then the end */
	FAULT_WRONG_ID,      /* the reply is to a message with another id */
	FAULT_WRONG_COMMAND, /* the reply names another command */
	FAULT_SILENCE,       /* executed, but there is no reply */
	FAULT_TWICE,         /* the reply comes twice */
	FAULT_DISCONNECT,    /* the end, before the command is executed */
	FAULT_VANISH,        /* the end, after the command was executed and before its reply */
};

struct fault {
	enum fault_kind kind;
	int32_t value;
	uint16_t command; /* enum vu_command; 0: any */
	uint32_t nth;     /* the n-th such message of a connection, from 1; 0: each */
};

struct faults {
	uint32_t messages;
	uint32_t commands[VU_COMMANDS];
};

struct testdev;

/**
 * Reads KIND[=VALUE]@WHEN, where WHEN is COMMAND, COMMAND#N, #N or *; COMMAND alone means its first message.
 *
 * @return 0, or -EINVAL with what is wrong
 */
int fault_parse(const char *text, struct fault *out, struct tenon_error *err);

/** Counts a message. @return what happens to it; kind FAULT_NONE: nothing */
struct fault faults_next(struct testdev *device, uint16_t command);
/** A new connection counts from the start. */
void faults_reset(struct testdev *device);

#endif

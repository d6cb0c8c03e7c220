/* SPDX-License-Identifier: MIT */
/* The client's side of the control socket: JSON objects there and back, one per line. */
#ifndef CONTROL_TALK_H
#define CONTROL_TALK_H

#include <signal.h>
#include <stddef.h>

#include <json-c/json.h>

#include <tenon/error.h>

struct talk {
	int fd;
	char *text; /* what came and was not yet taken */
	size_t used, capacity;
};

/** Connects. @param talk  finished by talk_close; nothing to finish after a failure */
int talk_open(struct talk *talk, const char *path, struct tenon_error *err);
void talk_close(struct talk *talk);

/**
 * Sends one line. Consumes `request`.
 *
 * @param passed  an open file that goes with it, borrowed; -1: none
 */
int talk_send(struct talk *talk, json_object *request, int passed, struct tenon_error *err);

/**
 * Waits for the next line.
 *
 * @param sleeping  the signals that are blocked while it waits; NULL: those that are anyway
 * @param out       json_object_put
 * @return 0; -EINTR a signal came; -EPROTO the VM closed, or sends no JSON
 */
int talk_receive(struct talk *talk, const sigset_t *sleeping, json_object **out, struct tenon_error *err);

/** All of that for one request with one answer. @return -EREMOTEIO: refused, in the VM's words. @param answer  NULL: not wanted */
int talk_once(const char *path, json_object *request, json_object **answer, struct tenon_error *err);

/** A member's text, or "-". Borrowed from `object`. */
const char *talk_text(json_object *object, const char *key);

#endif

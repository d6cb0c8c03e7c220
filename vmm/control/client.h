/* SPDX-License-Identifier: MIT */
/*
 * A client of the control socket: its line of input, its answer, and if it asked for a migration, what it is still to hear of that. None of
 * the calls waits, and all that a client can make the VM keep is here.
 */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "request.h"

struct client {
	int fd;     /* -1: free */
	int passed; /* a descriptor that came with its input, for the next request that takes one; -1: none */
	uint32_t events;
	unsigned generation;   /* tells clients of the same place apart */
	bool busy;             /* a request is with hotplug, or a migration goes on */
	bool ended;            /* it sends nothing more */
	bool refused;          /* it is closed once its answer is sent */
	bool watching;         /* it hears of a migration */
	bool stale;            /* there is progress that it was not told */
	bool blocked;          /* it was told that a person has to decide */
	unsigned phase, round; /* that it was told last */
	uint64_t told_ns;      /* when */
	size_t used, sent;
	char *answer; /* NULL: none */
	char *last;   /* what is sent after that, and ends its being busy; NULL: none */
	char line[CONTROL_LINE_MAX + 1];
};

/** @param fd  owned from now on */
void client_open(struct client *client, int fd);
void client_close(struct client *client);

/** Reads what there is, as far as there is room. */
void client_receive(struct client *client);

/** Begins to send one line. Consumes `object`; NULL, for which memory was out, ends the connection, which says as much. */
void client_answer(struct client *client, json_object *object);
void client_answer_error(struct client *client, const struct tenon_error *error);

/** The same of lines that are text already, which it consumes. */
void client_answer_text(struct client *client, char *lines);

/** Goes on sending, and closes the client when it cannot. */
void client_send(struct client *client);

/** The object as a line. Consumes it. @return free(); NULL when memory is out */
char *client_line(json_object *object);

#endif

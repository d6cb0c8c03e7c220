/* SPDX-License-Identifier: MIT */
/*
 * The stream of lines that answers "migrate": progress, at most ten times a second and at each change of phase or round, and in the end
 * how it went. A client that reads slowly misses progress, never the end. All from the control socket's thread.
 */
#ifndef CONTROL_WATCH_H
#define CONTROL_WATCH_H

#include "client.h"

struct watch {
	struct engine *engine; /* borrowed */
	struct client *clients;
	unsigned client_count;
	struct tenon_migration_progress progress; /* as last seen */
	struct engine_outcome outcome;
};

/** The engine has news: takes them, for each client that watches, and sends what each is to be told now. */
void watch_update(struct watch *watch);

/** Begins a migration, which the client watches from then on, or answers why not. */
void watch_migrate(struct watch *watch, struct client *client, struct engine_request *request);

/** Sends a client what it is to be told now, if it has read what came before. */
void watch_tell(struct watch *watch, struct client *client);

/** How long until some client is to be told what it was spared: milliseconds for epoll_wait, -1: nothing waits. */
int watch_wait_ms(const struct watch *watch);

/** The VM ends: whoever watches is told how the migration went. Waits a second at most for those that do not read. */
void watch_end(struct watch *watch);

#endif

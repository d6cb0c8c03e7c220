/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a running VM: a thread that reads requests (request.h), one JSON object per line, and writes one line for
 * each: {"ok": true, ...} or {"ok": false, "error": "..."}. A client's requests are answered in order; what one client does,
 * or leaves undone, delays no other, no vCPU and not the main loop. "migrate" alone has more lines before its last one: events.
 *
 * Call order: create, before the vCPUs run; hotplug_stop, so that nothing is left to be answered; destroy.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "hotplug.h"
#include "migrate/engine.h"

#define CONTROL_CLIENTS_MAX 16

struct control;

/** Listens at `path`. All parameters are borrowed until control_destroy. */
int control_create(const char *path, struct machine *machine, struct hotplug *hotplug, struct engine *engine,
		   struct control **out, struct tenon_error *err);

/** Sends what can still be sent, closes and removes the socket. NULL is accepted. */
void control_destroy(struct control *control);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Stands between source and destination, knows where sections begin, and does one thing at one of them: cuts the connection or kills a
 * side. Connections that are made later are passed on as they are: by them the sides find out who runs.
 */
#ifndef MIGRATION_PROXY_H
#define MIGRATION_PROXY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum proxy_deed { PROXY_CUT, PROXY_KILL_SOURCE, PROXY_KILL_DESTINATION };
enum proxy_moment {
	PROXY_BEFORE,
	PROXY_AMID,
	PROXY_AFTER
}; /* the section is not passed on, half of it is, all of it */

struct proxy_plan {
	uint32_t section; /* enum section_type; its number also tells the direction */
	unsigned nth;     /* of its type, from 1 */
	enum proxy_moment moment;
	enum proxy_deed deed;
	pid_t source, destination;
};

struct proxy;

/** @param target  "tcp:127.0.0.1:PORT" */
struct proxy *proxy_start(const struct proxy_plan *plan, const char *target);
/** Where it listens, as the target. */
const char *proxy_address(const struct proxy *proxy);
/** Whether the section came. */
bool proxy_did_it(const struct proxy *proxy);
void proxy_stop(struct proxy *proxy);

#endif

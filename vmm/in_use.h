/* SPDX-License-Identifier: MIT */
/*
 * Counts the threads that are inside something's handlers, so that it can be taken away while vCPUs run: first whatever leads to
 * it is removed (under the lock under which they look it up and enter), then in_use_wait, then it may be freed.
 * Threads: any.
 */
#ifndef IN_USE_H
#define IN_USE_H

#include <stdatomic.h>

struct in_use {
	atomic_uint users; /* and a bit that says that somebody waits; zeroed: nobody */
};

/** Before a handler is called, and after it. NULL is accepted: nothing is counted. */
void in_use_enter(struct in_use *in_use);
void in_use_leave(struct in_use *in_use);

/** Returns once nobody is inside. For one thread at a time; who keeps others from entering does not wait for long. */
void in_use_wait(struct in_use *in_use);

#endif

/* SPDX-License-Identifier: MIT */
/* The test device's program, in a folder of its own. */
#ifndef TESTDEV_RUN_H
#define TESTDEV_RUN_H

#include "tenon_run.h"

struct testdev_run {
	char folder[32], path[64];
	struct run run;
};

/** Starts a device in a folder of its own. @param options  NULL-terminated, or NULL */
void testdev_start(struct testdev_run *device, const char *const *options);
/** The same device anew, at the same path. */
void testdev_restart(struct testdev_run *device, const char *const *options);
/** By SIGTERM. @return exit status; what it said stays until testdev_finish */
int testdev_stop(struct testdev_run *device);
void testdev_kill(struct testdev_run *device);
void testdev_finish(struct testdev_run *device);

#endif

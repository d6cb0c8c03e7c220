/* SPDX-License-Identifier: MIT */
/* Runs a built machine to its end: signals, console, device events, and what the guest asks for. */
#ifndef LOOP_H
#define LOOP_H

#include "hotplug.h"
#include "migrate/engine.h"

/* Exit statuses of `tenon run` (those of the exit device aside). */
enum run_status {
	RUN_POWER_OFF = 0,
	RUN_SETUP_FAILED = 1,
	RUN_USAGE = 2,
	RUN_GUEST_RESET = 3,
	RUN_TRIPLE_FAULT = 4,
	RUN_FAILED = 5,
	RUN_SIGNALLED = 128, /* plus the signal's number; Ctrl-A X counts as SIGINT */
};

/**
 * Blocks the signals that end or question the VM, so that no thread of the program dies of one. Call before any thread starts.
 */
void loop_block_signals(void);

/** Starts the machine and returns when it has ended, its vCPUs paused. @return the exit status */
int loop_run(struct machine *machine, struct hotplug *hotplug, struct engine *engine);

#endif

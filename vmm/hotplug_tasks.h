/* SPDX-License-Identifier: MIT */
/*
 * What is under way at each slot of the machine, kept per slot so that any number of devices can be on their way out at once.
 *
 * Threads: all of it is hotplug's thread's, but for the events of a device, which any thread may set.
 */
#ifndef HOTPLUG_TASKS_H
#define HOTPLUG_TASKS_H

#include <stdatomic.h>

#include "hotplug.h"

#define HOTPLUG_SECOND_NS 1000000000ull

enum hotplug_task_state {
	HOTPLUG_TASK_NONE,
	HOTPLUG_TASK_INSERT, /* the device waits until the guest has done with the slot */
	HOTPLUG_TASK_REMOVE, /* the button is pressed; the guest has until the deadline */
	HOTPLUG_TASK_AWAY,   /* its server is gone, and waited for */
};

struct hotplug_task {
	enum hotplug_task_state state;
	uint64_t deadline_ns;
	uint64_t press_ns;               /* of a removal: when the button is looked after again */
	bool force;                      /* of a removal: at the deadline it is taken out */
	struct hotplug_request *request; /* who is told; NULL: nobody */
	unsigned complaints;             /* of bus resets that could not be done */
	atomic_uint events;              /* enum hotplug_event, those that nobody has taken yet */
};

struct hotplug_tasks {
	struct machine *machine;
	struct hotplug_task of[SLOTS_MAX]; /* as in slots */
};

/** Begins what is requested (NULL: nothing), and does what can be done now at every place. Holds the topology meanwhile. */
void hotplug_tasks_step(struct hotplug_tasks *tasks, struct hotplug_request *request);

/** When the next step is due if nothing happens, as of log_now_ns; UINT64_MAX: never. */
uint64_t hotplug_tasks_deadline(const struct hotplug_tasks *tasks);

/**
 * What nobody has taken yet, and what comes then: a device that was back and is gone again is gone. One that was gone and is back was
 * gone, too.
 */
unsigned hotplug_tasks_merge(unsigned pending, enum hotplug_event event);

/** Answers what waits: the VM ended. No step follows. */
void hotplug_tasks_cancel(struct hotplug_tasks *tasks);

/** The same for a request that no step has seen. */
void hotplug_request_cancel(struct hotplug_request *request);

#endif

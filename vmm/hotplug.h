/* SPDX-License-Identifier: MIT */
/*
 * Devices that come and go while the guest runs: added and removed on request, released by the guest, reset after an error, taken
 * back by the host. A thread of its own does it, since opening a device, mapping memory and waiting for the guest take long; it holds
 * the machine's topology while it works, so that no VM reset comes in between, and not while it waits for the guest.
 *
 * What cannot be in a vCPU's way is so by construction: a device is first taken from everything that leads to it (its root
 * port, the buses, the event loop), then waited for (in_use.h), then closed. No vCPU is ever paused for it.
 *
 * Threads: create and destroy from the controlling thread; the others from any.
 */
#ifndef HOTPLUG_H
#define HOTPLUG_H

#include "machine.h"

/* How long the guest may take to release a device, when whoever asks does not say. Linux waits 5 s before it begins. */
#define HOTPLUG_REMOVE_SECONDS 30
/* The same when the host wants it back, which waits for it. */
#define HOTPLUG_REQUEST_SECONDS 20

struct hotplug;

enum hotplug_action { HOTPLUG_ADD, HOTPLUG_REMOVE };

struct hotplug_result {
	struct tenon_error error; /* code 0: done */
	char address[64];         /* the device */
	char slot[16];            /* where the guest sees it: "02:00.0" */
};

/* What happens to a device by itself. */
enum hotplug_event {
	HOTPLUG_EVENT_ERROR = 1,     /* one that a reset is to cure */
	HOTPLUG_EVENT_REQUESTED = 2, /* the host wants it back, which is behind a root port */
	HOTPLUG_EVENT_GONE =
		4, /* its server is: behind a root port it is pulled out, and given up unless it reconnects */
	HOTPLUG_EVENT_BACK = 8, /* its server is: the guest gets it again */
};

/* One request; its owner is hotplug_submit, which frees it. */
struct hotplug_request {
	enum hotplug_action action;
	struct device_options device; /* to add */
	char address[64];             /* to remove */
	bool force;                   /* without asking the guest */
	bool group;                   /* with what shares its slot */
	unsigned timeout_seconds;     /* 0: HOTPLUG_REMOVE_SECONDS */
	/* Called exactly once: on hotplug's thread, in hotplug_stop, or, after that, in hotplug_submit. */
	void (*done)(void *context, const struct hotplug_result *result);
	void *context;
	struct hotplug_request *next;
};

/** The machine's vCPUs do not run yet. @param machine  borrowed until hotplug_destroy */
int hotplug_create(struct machine *machine, struct hotplug **out, struct tenon_error *err);

/** Ends what goes on, answers what waits and, at once, whatever comes after. The vCPUs are paused for good. NULL is accepted. */
void hotplug_stop(struct hotplug *hotplug);

/** Nobody submits anything any more. NULL is accepted. */
void hotplug_destroy(struct hotplug *hotplug);

/** @param request  from calloc, with what it holds; owned from now on */
void hotplug_submit(struct hotplug *hotplug, struct hotplug_request *request);

/**
 * Whether nothing is under way at any slot. The caller has the topology, so that nothing begins.
 *
 * @return 0; -EBUSY with what is
 */
int hotplug_settled(struct hotplug *hotplug, struct tenon_error *err);

/** The slots may have changed by themselves: the VM was reset. Never blocks. */
void hotplug_wake(struct hotplug *hotplug);

/** Something happened to the device at this place. Never blocks. */
void hotplug_device_event(struct hotplug *hotplug, unsigned index, enum hotplug_event event);

#endif

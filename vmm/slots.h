/* SPDX-License-Identifier: MIT */
/*
 * The places of the guest's root bus: which of them is a device, which is a root port, and what is plugged into that. Places are
 * there for as long as the machine; devices come and go behind the ports (hotplug.c).
 *
 * Threads: plug and open from the controlling thread, before any vCPU runs. After that `assigned` of a place changes under
 * `lock`, and only by whoever holds the topology (machine.h), who may also read it without `lock`.
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <pthread.h>

#include "assigned.h"
#include "options.h"
#include "pci/placement.h"
#include "pci/bridge.h"

#define SLOTS_MAX (OPTIONS_DEVICES_MAX + OPTIONS_HOTPLUG_PORTS_MAX) /* more than the root bus has room for */

struct slots;

struct slot {
	struct slots *slots;
	unsigned number;           /* device number on the root bus: the device's own, or its root port's */
	struct pci_bridge *port;   /* NULL: a device directly on the root bus, which stays */
	struct assigned *assigned; /* NULL: an empty port */
	struct placement_device placed;
};

struct slots {
	pthread_mutex_t lock;
	struct slot slot[SLOTS_MAX]; /* devices in the order of the options, then empty ports */
	unsigned count;
	int events; /* epoll of the event descriptors of all devices; each tells the index of its place */
	struct tenon_vm *vm;
	/* The guest changed power or indicators of a port's slot: called on the vCPU's thread, must not block. */
	void (*changed)(void *context);
	void *context;
};

/** vm, changed and context are set before any vCPU runs. */
int slots_init(struct slots *slots, struct tenon_error *err);

/** Takes every device away, then the ports. No vCPU runs any more. A zeroed struct is accepted. */
void slots_finish(struct slots *slots);

/** Gives each device of the options its place, makes the root ports and the empty ones. Devices are not opened yet. */
int slots_plug(struct slots *slots, const struct run_options *options, struct pci_host *host, struct tenon_error *err);

/** Makes the open device's events known, and the device to slots_hold. */
int slots_watch(struct slots *slots, struct slot *slot, struct assigned *assigned, struct tenon_error *err);

/** Takes the device of a place from everybody's sight, and returns it. Its function is in no slot of the guest any more. */
struct assigned *slots_take(struct slots *slots, struct slot *slot);

/** The device at a place, which stays until slots_release; NULL when there is none. */
struct assigned *slots_hold(struct slots *slots, unsigned index);
void slots_release(struct assigned *assigned);

/** How messages call the place: "00:04.0", or the device's own place behind its port: "02:00.0". */
void slot_name(const struct slot *slot, char *text, size_t capacity);

#endif

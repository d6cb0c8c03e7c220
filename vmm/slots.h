/* SPDX-License-Identifier: MIT */
/*
 * Where the guest sees its devices: each has a slot, and so has each empty root port. Slots whose devices reset together are behind one
 * bridge; the first of them leads, and what is done to the bridge is done for all (topology.h decides who is where). Slots are there
 * for as long as the machine; devices come and go behind the ports (hotplug.c).
 *
 * Threads: create, open and arrange from the controlling thread, before any vCPU runs. After that `assigned`, `devfn`, `bus_reset` and
 * `why` of a slot change under `lock`, and only by whoever holds the topology (machine.h), who may also read them without `lock`.
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <pthread.h>

#include "assigned.h"
#include "options.h"
#include "pci/bridge.h"
#include "pci/placement.h"

#define SLOTS_MAX (OPTIONS_DEVICES_MAX + OPTIONS_HOTPLUG_PORTS_MAX)

struct slots;

struct slot {
	struct slots *slots;
	/* On the root bus: the place of the device itself, or of its bridge. */
	unsigned device, function;
	struct pci_bridge *bridge; /* NULL: the device is directly on the root bus, which it never leaves */
	bool removable;            /* the bridge has a hot-plug slot */
	bool reserved;             /* an empty port at start, for devices that come later */
	unsigned devfn;            /* of the device, on its bus */
	unsigned wiring;           /* the device number on the root bus whose INTx wiring it has */
	struct slot *leader;       /* the first behind the same bridge; itself where it is alone */
	struct assigned *assigned; /* NULL: an empty port */
	bool bus_reset;            /* the guest may reset its bus, and exactly what is behind it is reset */
	char why[sizeof(
		((struct tenon_topology_place *)0)->why)]; /* one line: why it is here, or why it has no bus reset */
	uint64_t address[TENON_DEVICE_BARS + 1];           /* of its BARs, as the placement chose them */
	struct pci_bridge_windows windows;                 /* of the bridge; the leader's */
};

struct slots {
	pthread_mutex_t lock;
	struct slot slot[SLOTS_MAX]; /* devices in the order of the options, then empty ports */
	unsigned count;
	enum tenon_topology_mode mode;
	int events; /* epoll of the event descriptors of all devices; each tells the index of its slot */
	struct tenon_vm *vm;
	/* The guest changed power or indicators of a port's slot, or wants a bus reset: on the vCPU's thread, must not block. */
	void (*changed)(void *context);
	void *context;
	/* The machine ends, resets or moves: nobody waits for a bus reset any more. */
	bool (*stops)(void *context);
	void *stops_context;
};

/** vm, changed, stops and their contexts are set before any vCPU runs. */
int slots_init(struct slots *slots, struct tenon_error *err);

/** Takes every device away, then the bridges. No vCPU runs any more. A zeroed struct is accepted. */
void slots_finish(struct slots *slots);

/** A slot for each device of the options, not opened yet and nowhere, and for each empty port. */
int slots_create(struct slots *slots, const struct run_options *options, struct tenon_error *err);

/** Gives each slot its place on the guest's buses. Its devices are open. */
int slots_arrange(struct slots *slots, const struct run_options *options, struct pci_host *host,
		  struct tenon_error *err);

/** Says where the device goes that comes to an empty port: function 0. @param bus_reset  the guest may reset its bus */
void slots_place_late(struct slot *slot, bool bus_reset);

/** Makes the open device's events known, and the device to slots_hold. */
int slots_watch(struct slots *slots, struct slot *slot, struct assigned *assigned, struct tenon_error *err);

/** Takes the device of a slot from everybody's sight, and returns it. Its function is on no bus of the guest any more. */
struct assigned *slots_take(struct slots *slots, struct slot *slot);

/** The device of a slot, which stays until slots_release; NULL when there is none. */
struct assigned *slots_hold(struct slots *slots, unsigned index);
void slots_release(struct assigned *assigned);

/** The next slot behind the same bridge; NULL: none. Begin with the leader. */
struct slot *slots_next_behind(struct slot *slot);

/** Puts the devices of all slots behind the leader's bridge there. */
int slots_insert(struct slot *leader, struct tenon_error *err);

/** The slots that lead, by ascending place on the root bus. @return how many */
unsigned slots_leaders(struct slots *slots, struct slot *out[SLOTS_MAX]);

/** How messages call a slot: "00:04.0", or the device's own place behind its bridge: "02:00.0". */
void slot_name(const struct slot *slot, char *text, size_t capacity);

#endif

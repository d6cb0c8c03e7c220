/* SPDX-License-Identifier: MIT */
/*
 * The PCIe host bridge: ECAM in front of the functions on its buses. There is no port 0xcf8 mechanism.
 * Threads: config accesses come from any vCPU. Bridges are plugged before the first one runs; functions come and go at any time.
 */
#ifndef PCI_HOST_H
#define PCI_HOST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include <tenon/error.h>

#include "../bus.h"

#define PCI_DEVICES   32
#define PCI_FUNCTIONS 8

/* A function's config space. Offsets 0-4095; sizes 1, 2, 4, naturally aligned. */
struct pci_function {
	uint32_t (*config_read)(void *context, unsigned offset, unsigned size_bytes);
	void (*config_write)(void *context, unsigned offset, unsigned size_bytes, uint32_t value);
	void *context;
	struct in_use *in_use; /* as in struct bus_handler */
};

/* A function at a place of its bus. */
struct pci_placed {
	unsigned devfn; /* device << 3 | function */
	const struct pci_function *function;
};

/* One bus: bus 0, or the bus behind a bridge, whose number the guest chooses. */
struct pci_bus {
	const struct pci_function *functions[PCI_DEVICES][PCI_FUNCTIONS];
	atomic_bool missed; /* the guest looked for its first function, and found nothing there */
};

struct pci_bridge;

#define PCI_BRIDGES_MAX 40 /* a port for each device, and the empty ones */

struct pci_host {
	pthread_rwlock_t lock; /* of `functions`, here and behind the bridges; the innermost lock */
	struct pci_bus root;
	struct pci_bridge *bridges[PCI_BRIDGES_MAX];
	unsigned bridge_count;
	unsigned bus_count;         /* buses that ECAM covers */
	struct pci_function bridge; /* 00:00.0 */
};

/** Puts the host bridge's own function at 00:00.0 and ECAM for `bus_count` buses on the memory bus. */
int pci_host_init(struct pci_host *host, unsigned bus_count, struct bus *memory, struct tenon_error *err);
void pci_host_finish(struct pci_host *host);

/** @return 0; -EBUSY when the slot has a function already */
int pci_bus_add(struct pci_host *host, struct pci_bus *bus, unsigned device, unsigned function,
		const struct pci_function *what, struct tenon_error *err);

/**
 * All of them at once, so that nobody finds one without the others. Their places are free, or theirs. After hide no access begins any
 * more; one that has begun is waited for by in_use_wait.
 */
void pci_bus_show(struct pci_host *host, struct pci_bus *bus, const struct pci_placed *functions, unsigned count);
void pci_bus_hide(struct pci_host *host, struct pci_bus *bus, const struct pci_placed *functions, unsigned count);

#endif

/* SPDX-License-Identifier: MIT */
/* One assigned device in the machine: libtenon's device, its slot, and the ranges that trap. */
#ifndef ASSIGNED_H
#define ASSIGNED_H

#include <stdbool.h>

#include <tenon-kvm/host.h>
#include <tenon/tenon.h>

#include "bus.h"
#include "dma_memory.h"
#include "options.h"
#include "pci/host.h"

/* What of the machine an assigned device touches. */
struct assigned_machine {
	struct tenon_space *space;
	struct dma_memory *dma;
	struct tenon_vm *vm;
	struct bus *ports, *memory;
};

struct assigned;

struct assigned_bar {
	struct assigned *owner;
	unsigned bar;
	bool on_bus;
	bool io;
	uint64_t first;
};

struct assigned {
	const struct device_options *options; /* borrowed */
	struct tenon_device *device;
	struct tenon_vm_host host;
	struct assigned_machine machine;
	struct pci_function function;
	unsigned slot;              /* device number on the root bus; of the root port when there is one */
	struct pci_root_port *port; /* NULL: on the root bus; owned */
	struct assigned_bar bars[TENON_DEVICE_BARS + 1]; /* the last: TENON_DEVICE_ROM */
};

/** Chooses the slot and makes the root port if one is wanted. Before assigned_open: the slot decides INTx's wiring. */
int assigned_plug(struct assigned *assigned, const struct device_options *options, struct pci_host *host,
		  struct tenon_error *err);

/** Opens the device into the machine's space. @param machine borrowed during the call, what it points to until close */
int assigned_open(struct assigned *assigned, const struct assigned_machine *machine, struct tenon_error *err);

/** Writes the BAR addresses that the placement chose, as firmware would. Decoding stays off, the expansion ROM's too. */
void assigned_set_bars(struct assigned *assigned, const uint64_t address[TENON_DEVICE_BARS + 1]);

void assigned_close(struct assigned *assigned); /* accepts a zeroed struct */

#endif

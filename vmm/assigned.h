/* SPDX-License-Identifier: MIT */
/* One assigned device in the machine: libtenon's device, its function on a bus, and the ranges that trap. */
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
	const struct device_options *options; /* borrowed, or `own` */
	struct device_options own;            /* of a device that came after the start */
	struct tenon_device *device;
	struct tenon_vm_host host;
	struct assigned_machine machine;
	struct pci_function function;
	struct in_use config_in_use;                     /* who is inside config space, or takes events */
	struct in_use bars_in_use;                       /* who is inside a BAR */
	struct assigned_bar bars[TENON_DEVICE_BARS + 1]; /* the last: TENON_DEVICE_ROM */
};

/** @param options  borrowed until assigned_destroy */
int assigned_create(const struct device_options *options, struct assigned **out, struct tenon_error *err);

/**
 * Opens the device into the machine's space.
 *
 * @param machine  borrowed during the call, what it points to until the device is closed
 */
int assigned_open(struct assigned *assigned, const struct assigned_machine *machine, struct tenon_error *err);

/** Tells which device number on the root bus has the same wiring of INTx pins. Before the guest sees the device. */
void assigned_wire(struct assigned *assigned, unsigned number);

/** Writes the BAR addresses that the placement chose, as firmware would. Decoding stays off, the expansion ROM's too. */
void assigned_set_bars(struct assigned *assigned, const uint64_t address[TENON_DEVICE_BARS + 1]);

/** What the BARs hold now. */
void assigned_get_bars(struct assigned *assigned, uint64_t address[TENON_DEVICE_BARS + 1]);

/**
 * Takes the device from the guest's buses, waits until no vCPU is inside it, closes it. Its function is in no slot any more.
 * NULL is accepted.
 */
void assigned_destroy(struct assigned *assigned);

#endif

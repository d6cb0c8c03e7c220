/* SPDX-License-Identifier: MIT */
/*
 * A PCIe root port: a bridge (type 1 header) with a PCI Express capability, one bus behind it, and on that bus one slot that
 * devices can be plugged into and taken out of while the guest runs. Its windows are registers that the guest may program;
 * they gate nothing, because the machine decodes addresses by the functions' own BARs.
 *
 * Call order: create; plug; insert what the guest finds at power-on; reset; then anything.
 * Threads: any. A port has a lock, under which it calls nothing but `msi` and `intx`.
 */
#ifndef PCI_BRIDGE_H
#define PCI_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "host.h"

/* Address ranges that the VMM, as firmware would, programs into the port. Sizes are multiples of 1 MiB (I/O: 4 KiB); 0: none. */
struct pci_bridge_windows {
	uint32_t io_first, io_bytes;
	uint32_t memory_first, memory_bytes;
	uint64_t prefetch_first, prefetch_bytes;
};

/* What a port asks of the machine. Each may be NULL. */
struct pci_bridge_ops {
	/* Sends one message; drives the line of the port's INTA, which other ports may share. */
	void (*msi)(void *context, uint64_t address, uint32_t data);
	void (*intx)(void *context, unsigned device, bool asserted);
	/* The guest changed the power or the indicators of the slot. Called on the vCPU's thread, without the port's lock. */
	void (*slot_changed)(void *context);
	void *context;
};

/* @param number  1.. : physical slot number, and the secondary bus at power-on */
int pci_bridge_create(unsigned number, const struct pci_bridge_ops *ops, struct pci_bridge **out,
		      struct tenon_error *err);
void pci_bridge_destroy(struct pci_bridge *port);

/** Puts the port on the host's root bus at `device`. Before any vCPU runs. */
int pci_bridge_plug(struct pci_host *host, unsigned device, struct pci_bridge *port, struct tenon_error *err);

/** Power-on state: bus numbers and windows as firmware leaves them; the slot as it is filled. The vCPUs must not run. */
void pci_bridge_reset(struct pci_bridge *port, const struct pci_bridge_windows *windows);

unsigned pci_bridge_secondary(const struct pci_bridge *port);
/** What the host looks functions up in, under its own lock; functions get there by pci_bridge_insert. */
struct pci_bus *pci_bridge_bus(struct pci_bridge *port);

/* ---- The slot (PCI Express Base 5.0, 6.7 and 7.5.3.9 - 7.5.3.11) ---- */

/* What the guest makes of the slot. */
struct pci_slot_state {
	bool occupied;
	bool powered;
	bool pressed;   /* the guest has not taken the last press of the button yet */
	bool blinking;  /* the power indicator blinks: the guest is about to switch the power on or off */
	bool attention; /* the attention indicator is lit: the guest could not use what is in the slot */
	/* Power and power indicator are both off: the guest has done all that it does when it switches a slot off. */
	bool at_rest;
};

void pci_bridge_slot(struct pci_bridge *port, struct pci_slot_state *out);

/**
 * Puts a function into the empty slot: present, link up. The guest is told, and may then switch the slot's power on; but when it
 * has not looked into the slot yet since power-on, it finds it there, switched on.
 *
 * @param function  borrowed until it leaves the slot: by pci_bridge_eject, or when the guest switches the slot's power off
 * @return 0; -EBUSY when the slot is occupied
 */
int pci_bridge_insert(struct pci_bridge *port, const struct pci_function *function, struct tenon_error *err);

/** Takes whatever is in the slot out without asking: surprise removal. The guest is told. */
void pci_bridge_eject(struct pci_bridge *port);

/** Presses the attention button: the guest is asked to switch the slot's power off. */
void pci_bridge_press_button(struct pci_bridge *port);

/** Takes a press back that the guest has not seen, or, while it still hesitates, presses again, which is how one cancels. */
void pci_bridge_release_button(struct pci_bridge *port);

#endif

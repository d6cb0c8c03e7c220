/* SPDX-License-Identifier: MIT */
/*
 * A bridge on the root bus (type 1 header) and the one bus behind it: a PCIe root port with a hot-plug slot that devices can be
 * plugged into and taken out of while the guest runs, or a conventional PCI bridge. Its windows are registers that the guest may
 * program; they gate nothing, because the machine decodes addresses by the functions' own BARs.
 *
 * A guest that resets the bus (bridge control), or switches the slot's power off and on, gets what hardware gives: the functions
 * behind are out of its sight until they have been reset, and then as at power-on. The reset itself is the machine's.
 *
 * Call order: create; plug; insert what the guest finds at power-on; reset; then anything.
 * Threads: any. A bridge has a lock, under which it calls nothing but `msi` and `intx`.
 */
#ifndef PCI_BRIDGE_H
#define PCI_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "../migrate/bytes.h"
#include "host.h"

#define PCI_BRIDGE_FUNCTIONS_MAX 64

/* Address ranges that the VMM, as firmware would, programs into the bridge. Sizes are multiples of 1 MiB (I/O: 4 KiB); 0: none. */
struct pci_bridge_windows {
	uint32_t io_first, io_bytes;
	uint32_t memory_first, memory_bytes;
	uint64_t prefetch_first, prefetch_bytes;
};

/* What a bridge asks of the machine. Each may be NULL. */
struct pci_bridge_ops {
	/* Sends one message; drives the line of a port's INTA, which other ports may share. */
	void (*msi)(void *context, uint64_t address, uint32_t data);
	void (*intx)(void *context, unsigned device, bool asserted);
	/*
	 * The guest changed the power or the indicators of the slot, or wants the bus reset (pci_bridge_wants_reset). Called on the
	 * vCPU's thread, without the bridge's lock.
	 */
	void (*changed)(void *context);
	/*
	 * The guest ended its reset of a conventional bus, and waits for a time from now on instead of looking whether the devices are
	 * back: returns after pci_bridge_reset_done, when the machine stops, or when it took too long. On the vCPU's thread, without
	 * the lock.
	 */
	void (*reset_awaited)(void *context);
	void *context;
};

enum pci_bridge_kind { PCI_BRIDGE_ROOT_PORT, PCI_BRIDGE_CONVENTIONAL };

struct pci_bridge_options {
	enum pci_bridge_kind kind;
	unsigned number; /* 1.. : the secondary bus at power-on; of a root port the physical slot number, too */
	/* Of a root port: */
	bool slot;     /* it has a hot-plug slot */
	bool isolated; /* access control services: nothing behind it reaches other devices but through the root complex */
	bool ari;      /* it forwards function numbers above 7 */
};

int pci_bridge_create(const struct pci_bridge_options *options, const struct pci_bridge_ops *ops,
		      struct pci_bridge **out, struct tenon_error *err);
void pci_bridge_destroy(struct pci_bridge *bridge);

/** Puts the bridge on the host's root bus. Before any vCPU runs. @param multifunction  its slot there holds more than it */
int pci_bridge_plug(struct pci_host *host, unsigned device, unsigned function, bool multifunction,
		    struct pci_bridge *bridge, struct tenon_error *err);

/** Power-on state: bus numbers and windows as firmware leaves them; the slot as it is filled. The vCPUs must not run. */
void pci_bridge_reset(struct pci_bridge *bridge, const struct pci_bridge_windows *windows);

bool pci_bridge_is_conventional(const struct pci_bridge *bridge);
/** Borrowed until pci_bridge_destroy. */
const struct pci_bridge_options *pci_bridge_options(const struct pci_bridge *bridge);
unsigned pci_bridge_secondary(const struct pci_bridge *bridge);
/** What the host looks functions up in, under its own lock; functions get there by pci_bridge_insert. */
struct pci_bus *pci_bridge_bus(struct pci_bridge *bridge);

/* ---- What is behind, and a root port's slot (PCI Express Base 5.0, 6.7 and 7.5.3.9 - 7.5.3.11) ---- */

/* What the guest makes of the slot. */
struct pci_slot_state {
	bool occupied;
	bool released; /* the guest switched the power off with the card in it */
	bool powered;
	bool pressed;   /* the guest has not taken the last press of the button yet */
	bool blinking;  /* the power indicator blinks: the guest is about to switch the power on or off */
	bool attention; /* the attention indicator is lit: the guest could not use what is in the slot */
	/* Power and power indicator are both off: the guest has done all that it does when it switches a slot off. */
	bool at_rest;
};

void pci_bridge_slot(struct pci_bridge *bridge, struct pci_slot_state *out);

/**
 * Puts a card's functions behind the bridge: present, link up. The guest is told, and may then switch the slot's power on; but when it
 * has not looked into the slot yet since power-on, it finds it there, switched on.
 *
 * @param functions  copied; what each points to is borrowed until pci_bridge_eject
 * @return 0; -EBUSY when the slot is occupied; -EINVAL when there are none, or too many
 */
int pci_bridge_insert(struct pci_bridge *bridge, const struct pci_placed *functions, unsigned count,
		      struct tenon_error *err);

/** Takes whatever is in the slot out without asking: surprise removal. The guest is told. */
void pci_bridge_eject(struct pci_bridge *bridge);

/** Presses the attention button: the guest is asked to switch the slot's power off. */
void pci_bridge_press_button(struct pci_bridge *bridge);

/** Takes a press back that the guest has not seen, or, while it still hesitates, presses again, which is how one cancels. */
void pci_bridge_release_button(struct pci_bridge *bridge);

/* ---- Resets by the guest ---- */

/** Whether the guest wants what is behind reset; it does not see it until pci_bridge_reset_done. */
bool pci_bridge_wants_reset(struct pci_bridge *bridge);

/**
 * @param failed  what is behind is in no state to be used: the guest does not see it, as behind a link that does not come up, before
 *                a next reset worked
 */
void pci_bridge_reset_done(struct pci_bridge *bridge, bool failed);

/* ---- Another host ---- */

/** Appends the registers and what the guest sees of what is behind. The vCPUs do not run. */
void pci_bridge_save(struct pci_bridge *bridge, struct bytes_out *out);

/**
 * The reverse, in a bridge at power-on of the same options, with the same behind it. Untrusted input: registers take what a guest could
 * write into them, or what follows from what is behind.
 *
 * For what was pending already no message is sent, because the vCPUs have it; a line is asserted, because its holders are not KVM's
 * state. So the interrupt controllers and vCPUs have theirs before.
 *
 * @return 0; -EINVAL no state of such a bridge, which is as before: the message names what differs
 */
int pci_bridge_load(struct pci_bridge *bridge, struct bytes_in *in, struct tenon_error *err);

#endif

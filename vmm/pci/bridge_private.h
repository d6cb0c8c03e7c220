/* SPDX-License-Identifier: MIT */
/* What bridge.c (registers), bridge_bus.c (what is behind), bridge_slot.c (a root port's slot) and bridge_state.c (moving it) share. */
#ifndef PCI_BRIDGE_PRIVATE_H
#define PCI_BRIDGE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <linux/pci_regs.h>

#include "bridge.h"

#define BRIDGE_EXP          0x40u  /* the PCI Express capability */
#define BRIDGE_MSI          0x80u  /* the MSI capability: 64-bit address, one message */
#define BRIDGE_ACS          0x100u /* the ACS extended capability */
#define BRIDGE_CONFIG_BYTES 0x108u

struct pci_bridge {
	struct pci_function function;
	struct pci_bridge_options options;
	struct pci_bridge_ops ops;
	struct pci_host *host;
	unsigned device;

	pthread_mutex_t lock; /* of all below; taken before the host's */
	struct pci_bus bus;
	struct pci_placed behind[PCI_BRIDGE_FUNCTIONS_MAX];
	unsigned behind_count;
	bool shown;       /* they are on the bus */
	bool cut;         /* the guest switched the slot off with the card in it */
	bool wants_reset; /* of what is behind */
	bool failed;      /* to be reset, and in no state to be used */
	uint8_t value[BRIDGE_CONFIG_BYTES];
	uint8_t write[BRIDGE_CONFIG_BYTES]; /* bits that a write sets */
	uint8_t clear[BRIDGE_CONFIG_BYTES]; /* bits that writing one clears */
	bool pending;                       /* an enabled slot event waits, and hot-plug interrupts are on */
	bool line;                          /* INTA is asserted */
	atomic_uint secondary;              /* copy of the register: looked up under the host's lock */
};

static inline uint16_t bridge_get16(const struct pci_bridge *bridge, unsigned at)
{
	uint16_t value;
	memcpy(&value, bridge->value + at, sizeof(value));
	return value;
}

static inline void bridge_put16(uint8_t *bytes, unsigned at, uint16_t value)
{
	memcpy(bytes + at, &value, sizeof(value));
}

static inline void bridge_put32(uint8_t *bytes, unsigned at, uint32_t value)
{
	memcpy(bytes + at, &value, sizeof(value));
}

static inline bool bridge_is_occupied(const struct pci_bridge *bridge)
{
	return bridge->behind_count;
}

/* ---- bridge_bus.c, with the lock held ---- */

/* Brings what the guest finds on the bus in line with the state above. */
void bridge_bus_update(struct pci_bridge *bridge);

/* Power-on state. */
void bridge_bus_reset(struct pci_bridge *bridge);

/** After a write to bridge control, which was `control`. @return whether the guest wants a reset since */
bool bridge_bus_written(struct pci_bridge *bridge, uint16_t control);

/* ---- bridge_slot.c, with the lock held; of a root port with a slot ---- */

/* Describes the slot's registers and the MSI capability, at create. */
void bridge_slot_describe(struct pci_bridge *bridge);

/* Power-on state, after every writable register is zero. */
void bridge_slot_reset(struct pci_bridge *bridge);

/* Presence, and the link: there with presence, with power, and unless a reset failed. */
void bridge_slot_show(struct pci_bridge *bridge);

/* The guest is told what came or went. */
void bridge_slot_inserted(struct pci_bridge *bridge);
void bridge_slot_ejected(struct pci_bridge *bridge);

/* After the registers were loaded: what of them follows from the rest, and the line, but no message. */
void bridge_slot_loaded(struct pci_bridge *bridge);

/**
 * After a write to the port: what it means for the slot, and for the interrupt.
 *
 * @param control  the slot control register before the write
 * @return whether the guest changed power or indicators
 */
bool bridge_slot_written(struct pci_bridge *bridge, uint16_t control);

#endif

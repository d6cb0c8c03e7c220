/* SPDX-License-Identifier: MIT */
/* What bridge.c (the bridge) and bridge_slot.c (the slot behind it) share. */
#ifndef PCI_BRIDGE_PRIVATE_H
#define PCI_BRIDGE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <linux/pci_regs.h>

#include "bridge.h"

#define BRIDGE_EXP          0x40u /* the PCI Express capability */
#define BRIDGE_MSI          0x80u /* the MSI capability: 64-bit address, one message */
#define BRIDGE_CONFIG_BYTES 256u

struct pci_bridge {
	struct pci_function function;
	struct pci_bridge_ops ops;
	struct pci_host *host;
	unsigned number, device;

	pthread_mutex_t lock; /* of all below; taken before the host's */
	struct pci_bus bus;
	uint8_t value[BRIDGE_CONFIG_BYTES];
	uint8_t write[BRIDGE_CONFIG_BYTES]; /* bits that a write sets */
	uint8_t clear[BRIDGE_CONFIG_BYTES]; /* bits that writing one clears */
	bool pending;                       /* an enabled slot event waits, and hot-plug interrupts are on */
	bool line;                          /* INTA is asserted */
	atomic_uint secondary;              /* copy of the register: looked up under the host's lock */
};

static inline uint16_t bridge_get16(const struct pci_bridge *port, unsigned at)
{
	uint16_t value;
	memcpy(&value, port->value + at, sizeof(value));
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

/* Describes the slot's registers and the MSI capability, at create. */
void bridge_slot_describe(struct pci_bridge *port);

/* Power-on state, after every writable register is zero. */
void bridge_slot_reset(struct pci_bridge *port);

/**
 * After a write to the port: what it means for the slot, and for the interrupt.
 *
 * @param control  the slot control register before the write
 * @return whether the guest changed power or indicators
 */
bool bridge_slot_written(struct pci_bridge *port, uint16_t control);

#endif

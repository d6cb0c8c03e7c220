/* SPDX-License-Identifier: MIT */
/* What root_port.c (the bridge) and root_port_slot.c (the slot behind it) share. */
#ifndef PCI_ROOT_PORT_PRIVATE_H
#define PCI_ROOT_PORT_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <linux/pci_regs.h>

#include "root_port.h"

#define ROOT_PORT_EXP          0x40u /* the PCI Express capability */
#define ROOT_PORT_MSI          0x80u /* the MSI capability: 64-bit address, one message */
#define ROOT_PORT_CONFIG_BYTES 256u

struct pci_root_port {
	struct pci_function function;
	struct pci_root_port_ops ops;
	struct pci_host *host;
	unsigned number, device;

	pthread_mutex_t lock; /* of all below; taken before the host's */
	struct pci_bus bus;
	uint8_t value[ROOT_PORT_CONFIG_BYTES];
	uint8_t write[ROOT_PORT_CONFIG_BYTES]; /* bits that a write sets */
	uint8_t clear[ROOT_PORT_CONFIG_BYTES]; /* bits that writing one clears */
	bool pending;                          /* an enabled slot event waits, and hot-plug interrupts are on */
	bool line;                             /* INTA is asserted */
	atomic_uint secondary;                 /* copy of the register: looked up under the host's lock */
};

static inline uint16_t root_port_get16(const struct pci_root_port *port, unsigned at)
{
	uint16_t value;
	memcpy(&value, port->value + at, sizeof(value));
	return value;
}

static inline void root_port_put16(uint8_t *bytes, unsigned at, uint16_t value)
{
	memcpy(bytes + at, &value, sizeof(value));
}

static inline void root_port_put32(uint8_t *bytes, unsigned at, uint32_t value)
{
	memcpy(bytes + at, &value, sizeof(value));
}

/* Describes the slot's registers and the MSI capability, at create. */
void root_port_slot_describe(struct pci_root_port *port);

/* Power-on state, after every writable register is zero. */
void root_port_slot_reset(struct pci_root_port *port);

/**
 * After a write to the port: what it means for the slot, and for the interrupt.
 *
 * @param control  the slot control register before the write
 * @return whether the guest changed power or indicators
 */
bool root_port_slot_written(struct pci_root_port *port, uint16_t control);

#endif

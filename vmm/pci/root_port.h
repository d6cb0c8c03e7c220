/* SPDX-License-Identifier: MIT */
/*
 * A PCIe root port: a bridge (type 1 header) with a PCI Express capability and one bus behind it. Its windows are registers that
 * the guest may program; they gate nothing, because the machine decodes addresses by the functions' own BARs.
 */
#ifndef PCI_ROOT_PORT_H
#define PCI_ROOT_PORT_H

#include <stdint.h>

#include "host.h"

/* Address ranges that the VMM, as firmware would, programs into the port. Sizes are multiples of 1 MiB (I/O: 4 KiB); 0: none. */
struct pci_root_port_windows {
	uint32_t io_first, io_bytes;
	uint32_t memory_first, memory_bytes;
	uint64_t prefetch_first, prefetch_bytes;
};

/** @param number  1.. : physical slot number, and the secondary bus at power-on */
int pci_root_port_create(unsigned number, struct pci_root_port **out, struct tenon_error *err);
void pci_root_port_destroy(struct pci_root_port *port);

/** Puts the port on the host's root bus at `device`. */
int pci_root_port_plug(struct pci_host *host, unsigned device, struct pci_root_port *port, struct tenon_error *err);

/** Power-on state: bus numbers and windows as firmware leaves them. */
void pci_root_port_reset(struct pci_root_port *port, const struct pci_root_port_windows *windows);

unsigned pci_root_port_secondary(const struct pci_root_port *port);
struct pci_bus *pci_root_port_bus(struct pci_root_port *port);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Where BARs go: what a firmware would do before it starts an operating system. 64-bit BARs above RAM, 32-bit BARs and I/O BARs
 * in their windows; largest first, so that alignment wastes nothing. Windows are as large as what they hold demands.
 */
#ifndef PCI_PLACEMENT_H
#define PCI_PLACEMENT_H

#include <stdint.h>

#include <tenon/device.h>
#include <tenon/error.h>

#include "root_port.h"

#define PLACEMENT_DEVICES_MAX 32

struct placement_window {
	uint64_t first;
	uint64_t size_bytes; /* 0: nothing in it */
};

/* One device: its BARs in, their addresses out. */
struct placement_device {
	const char *name;
	const struct tenon_bar_info *bars;         /* TENON_DEVICE_BARS */
	uint64_t rom_bytes;                        /* of the expansion ROM; 0: none */
	struct pci_root_port *port;                /* NULL: on the root bus */
	uint64_t address[TENON_DEVICE_BARS + 1];   /* the last: TENON_DEVICE_ROM; 0: not placed */
	struct pci_root_port_windows port_windows; /* of `port`, when there is one */
};

struct placement {
	struct placement_window io, memory32, memory64;
};

/**
 * Places every BAR of every device.
 *
 * @param first64        lowest address for 64-bit BARs: the end of RAM or 4 GiB
 * @param physical_bits  the guest's physical address width
 * @return 0; -ENOSPC naming the device and the window that is full
 */
int placement_compute(struct placement_device *devices, unsigned count, uint64_t first64, unsigned physical_bits,
		      struct placement *out, struct tenon_error *err);

#endif

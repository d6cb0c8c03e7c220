/* SPDX-License-Identifier: MIT */
/*
 * Where BARs go: what a firmware would do before it starts an operating system. 64-bit BARs above RAM, 32-bit BARs and I/O BARs
 * in their windows; largest first, so that alignment wastes nothing. Windows are as large as what they hold demands.
 */
#ifndef PCI_PLACEMENT_H
#define PCI_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>
#include <tenon/error.h>

#include "bridge.h"

#define PLACEMENT_DEVICES_MAX 32

struct placement_window {
	uint64_t first;
	uint64_t size_bytes; /* 0: nothing in it */
};

/*
 * What a root port for a device that comes later gets: I/O for any device; 32-bit memory for the largest register file and a ROM of
 * 16 MiB, at all eight ports half of what there is; and for large prefetchable BARs 64 GiB, halved until all such ports take no
 * more than half of the guest's address space above RAM.
 */
#define PLACEMENT_RESERVED_IO_BYTES       0x1000u
#define PLACEMENT_RESERVED_MEMORY_BYTES   0x2000000u
#define PLACEMENT_RESERVED_PREFETCH_BYTES (64ull << 30)

/* One device, or an empty root port: BARs in, their addresses out. */
struct placement_device {
	const char *name;
	const struct tenon_bar_info *bars;       /* TENON_DEVICE_BARS; NULL: none */
	uint64_t rom_bytes;                      /* of the expansion ROM; 0: none */
	struct pci_bridge *port;                 /* NULL: on the root bus */
	bool reserve;                            /* the port gets windows as above */
	uint64_t address[TENON_DEVICE_BARS + 1]; /* the last: TENON_DEVICE_ROM; 0: not placed */
	struct pci_bridge_windows port_windows;  /* of `port`, when there is one */
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

/**
 * Places a device's BARs inside the windows that its port has already.
 *
 * @param device  name, bars and port_windows in, address out
 * @return 0; -ENOSPC naming the window that is too small
 */
int placement_inside(struct placement_device *device, struct tenon_error *err);

#endif

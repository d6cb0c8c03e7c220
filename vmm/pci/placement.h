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

#define PLACEMENT_DEVICES_MAX 64
#define PLACEMENT_BUSES_MAX   64

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

/* A bus behind a bridge of the root bus: a root port or a conventional one. */
struct placement_bus {
	const char *name; /* for messages, while no device is behind it */
	bool reserve;     /* its windows have the sizes above, or more if what is behind it needs more */
	struct pci_bridge_windows windows;
};

/* One device: BARs in, their addresses out. */
struct placement_device {
	const char *name;
	const struct tenon_bar_info *bars;       /* TENON_DEVICE_BARS; NULL: none */
	uint64_t rom_bytes;                      /* of the expansion ROM; 0: none */
	int bus;                                 /* index; -1: the root bus */
	uint64_t address[TENON_DEVICE_BARS + 1]; /* the last: TENON_DEVICE_ROM; 0: not placed */
};

struct placement {
	struct placement_window io, memory32, memory64;
};

/**
 * Places every BAR of every device, and the windows of every bus.
 *
 * @param buses          name and reserve in, windows out
 * @param first64        lowest address for 64-bit BARs: the end of RAM or 4 GiB
 * @param physical_bits  the guest's physical address width
 * @return 0; -ENOSPC naming the device and the window that is full
 */
int placement_compute(struct placement_device *devices, unsigned device_count, struct placement_bus *buses,
		      unsigned bus_count, uint64_t first64, unsigned physical_bits, struct placement *out,
		      struct tenon_error *err);

/**
 * Places the BARs of a device inside the windows that the empty bus it comes to has already.
 *
 * @param device  name, bars, rom_bytes and bus (not -1) in, address out
 * @return 0; -ENOSPC naming the window that is too small
 */
int placement_inside(struct placement_device *device, const struct pci_bridge_windows *windows,
		     struct tenon_error *err);

#endif

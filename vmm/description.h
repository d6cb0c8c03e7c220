/* SPDX-License-Identifier: MIT */
/*
 * The machine as a flattened device tree, for a firmware: Devicetree Specification 0.4; PCI as in IEEE 1275's PCI bus binding 2.1
 * and Linux' host-generic-pci.yaml. Names that no binding has begin with "tenon,".
 *
 *   /chosen            bootargs; of a loaded kernel: tenon,kernel-protocol ("linux64", "pvh"), tenon,kernel-entry, linux,initrd-start
 *                      and -end, tenon,linux-setup-header (the bytes from 0x1f1 on); tenon,acpi-rsdp
 *   /cpus              timebase-frequency: of the time stamp counter
 *   /memory@X          RAM; /reserved-memory: what of it, and outside it, is not to be used
 *   /ioapic@fec00000   the interrupt map's parent; an interrupt is a GSI and its sense
 *   /pcie@e0000000     ECAM, bus-range, ranges, interrupt-map (of the root bus), tenon,hotplug-bytes (I/O, 32-bit and 64-bit memory:
 *                      the windows that a port for a device which comes later should get)
 *     /pci@D           a root port at device D; /device@D an assigned device, below its port or the host bridge: reg has its place
 *                      (bus 0: its number is for the firmware to choose), tenon,host-address its name on the host
 *   /isa               serial@i3f8, power@i600 (sleep and reset registers, and what to write), exit@i500 when there is one
 */
#ifndef DESCRIPTION_H
#define DESCRIPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#include "memory.h"
#include "pci/placement.h"

#define DESCRIPTION_PLACES_MAX PLACEMENT_DEVICES_MAX

/* A place on the root bus: a device, or a root port with or without one. */
struct description_place {
	unsigned device;
	bool port;
	const char *host_address; /* NULL: an empty port */
};

struct description_kernel {
	const char *protocol;
	uint64_t entry_gpa;
	uint64_t initrd_first, initrd_end; /* equal: none */
	const uint8_t *setup_header;       /* NULL: none */
	size_t setup_header_bytes;
};

struct description {
	const struct memory *memory;
	unsigned cpu_count;
	uint64_t tsc_hz; /* 0: not known */
	unsigned bus_count;
	struct placement windows;
	struct pci_bridge_windows hotplug; /* only the sizes */
	bool exit_device;
	uint64_t rom_bytes;
	const char *command_line;
	const struct description_kernel *kernel; /* NULL: none */
	struct description_place places[DESCRIPTION_PLACES_MAX];
	unsigned place_count;
};

/** Writes the tree. @return 0; -ENOSPC when it does not fit */
int description_build(const struct description *description, void *buffer, size_t capacity, struct tenon_error *err);

#endif

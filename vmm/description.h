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
 *     /pci@D[,F]       a bridge at device D, function F (left out where it is 0): a root port, or with the empty property
 *                      tenon,conventional a conventional PCI bridge
 *     /device@D[,F]    an assigned device, below its bridge or the host bridge: reg has its place (bus 0: its number is for the
 *                      firmware to choose; with ARI the function's five high bits are in the device number's place),
 *                      tenon,host-address its name on the host
 *   /reset-groups      what a host's reset hits together, as the guest has it:
 *     /group@N         tenon,members: the RIDs (bus << 8 | device << 3 | function), where the bus is what depth-first enumeration
 *                      in ascending order of device and function gives; tenon,bus-reset (empty) when the guest may reset all of them,
 *                      and nothing else, by a reset of their bus; else tenon,why: a sentence that says why not
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

#define DESCRIPTION_DEVICES_MAX PLACEMENT_DEVICES_MAX
#define DESCRIPTION_BRIDGES_MAX PLACEMENT_BUSES_MAX
#define DESCRIPTION_GROUPS_MAX  DESCRIPTION_DEVICES_MAX

/* A bridge on the root bus, with or without devices behind it: a root port, or a conventional one. */
struct description_bridge {
	unsigned device, function;
	bool conventional;
};

struct description_device {
	int bridge; /* index; -1: the root bus */
	unsigned devfn;
	const char *host_address;
};

/* What resets together on the host. */
struct description_group {
	bool bus_reset; /* the guest may do it, by the bus that they are on */
	const uint16_t *rids;
	unsigned count;
	const char *why; /* without bus_reset: the reason; NULL: not known */
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
	struct description_bridge bridges[DESCRIPTION_BRIDGES_MAX];
	unsigned bridge_count;
	struct description_device devices[DESCRIPTION_DEVICES_MAX];
	unsigned device_count;
	struct description_group groups[DESCRIPTION_GROUPS_MAX];
	unsigned group_count;
};

/** Writes the tree. @return 0; -ENOSPC when it does not fit */
int description_build(const struct description *description, void *buffer, size_t capacity, struct tenon_error *err);

#endif

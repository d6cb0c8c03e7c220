/* SPDX-License-Identifier: MIT */
/*
 * tenon_topology: which virtual slots and functions tell a guest the truth about what resets together and what isolates together.
 *
 * VFIO inside a guest, like any driver, works out reset groups from the buses that it sees: all that is behind one port resets
 * together. So the host's groups become virtual buses: each group that the host can reset as a whole gets a bus of its own; what
 * the host cannot reset by its bus goes to the guest's root bus, which no guest can reset. Devices that share an IOMMU group on the
 * host share one in the guest: their ports are functions of one slot, without ACS.
 *
 * The computation knows no kernel and no VMM: facts in, places out, the same for the same input in any order of the devices. A VMM
 * with a PCI host of its own asks tenon_device_bus_reset_plan for the facts, gives each device its place by tenon_device_place, and
 * carries a guest's reset of a virtual bus out by tenon_bus_reset (all three in <tenon/device.h>).
 * Source: Linux drivers/vfio/pci/vfio_pci_core.c (hot reset info), drivers/iommu/iommu.c (pci_device_group), drivers/pci/probe.c.
 */
#ifndef TENON_TOPOLOGY_H
#define TENON_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define TENON_TOPOLOGY_DEVICES_MAX 64
#define TENON_TOPOLOGY_BUSES_MAX   65 /* the root bus, and one for each device */
#define TENON_TOPOLOGY_MEMBERS_MAX 64 /* of a host's reset group, as TENON_RESET_AFFECTED_MAX */
#define TENON_TOPOLOGY_NO_RID      UINT32_MAX

enum tenon_topology_mode {
	TENON_TOPOLOGY_MIRROR, /* the host's groups */
	TENON_TOPOLOGY_FLAT, /* each device where it is wished, else on the root bus; nothing is promised about groups */
};

enum tenon_topology_wish {
	TENON_TOPOLOGY_ANYWHERE,
	TENON_TOPOLOGY_BEHIND_PORT, /* behind a root port; refused where that would promise a reset that the host does not do */
};

/* A device as the host has it. Strings and arrays are borrowed during the call. */
struct tenon_topology_device {
	const char *name; /* for messages */
	uint32_t rid; /* on the host: segment << 16 | bus << 8 | devfn; TENON_TOPOLOGY_NO_RID: it has no place there */
	bool pcie;    /* it has a PCI Express capability; else conventional */
	bool resets_alone;      /* it can be reset without any other: by FLR, D3hot, or its server */
	bool bus_reset_allowed; /* with affected_count: this VM may do it */
	int iommu_group;        /* of the host; -1: none */
	/* What a reset of its bus hits on the host, itself included: their RIDs. 0: the host has no such reset. */
	unsigned affected_count;
	const uint32_t *affected;
	const char *why_not; /* where bus_reset_allowed is false: the reason; NULL: unknown */
	/* Of a device without RID: those of one name reset together, as its user says. NULL: alone. */
	const char *reset_group;
	enum tenon_topology_wish wish;
	unsigned slot;        /* device number on the guest's root bus, for it or for its port: 1-31; 0: any */
	uint32_t reserved[4]; /* zero: these are passed as an array, which cannot grow one by one */
};

enum tenon_topology_bus_kind {
	TENON_TOPOLOGY_ROOT,   /* the guest's root bus: nothing resets it */
	TENON_TOPOLOGY_PORT,   /* behind a root port: functions of device 0 */
	TENON_TOPOLOGY_BRIDGE, /* behind a conventional PCI bridge: devices with the numbers that they have on the host */
};

struct tenon_topology_bus {
	enum tenon_topology_bus_kind kind;
	unsigned slot, function; /* of its port or bridge, on the root bus */
	unsigned
		number; /* as depth-first enumeration gives it: 0 for the root bus, else 1.. in the order of slot and function */
	unsigned device_count;
	bool bus_reset;      /* the guest may reset it, and exactly what is on it is reset */
	bool isolated;       /* a port with ACS: what is behind it shares its IOMMU group with nothing that is not */
	bool ari;            /* function numbers above 7: the port forwards them, and has no hot-plug slot */
	uint8_t reserved[9]; /* zero */
};

struct tenon_topology_place {
	unsigned bus;       /* index of its bus */
	unsigned devfn;     /* device << 3 | function; with ARI the function alone */
	bool multifunction; /* its slot holds more than one function */
	bool ari;
	uint8_t ari_next;    /* with `ari`: the next function of the slot, in ascending order; 0: the last */
	uint8_t reserved[5]; /* zero */
	char why[496];       /* one line: why it is here; where no bus reset is offered, why not */
};

struct tenon_topology {
	size_t size; /* sizeof(struct tenon_topology), set by the caller */
	unsigned bus_count;
	uint32_t reserved;                                         /* zero */
	struct tenon_topology_bus buses[TENON_TOPOLOGY_BUSES_MAX]; /* the first: the root bus; the others by number */
	struct tenon_topology_place places[TENON_TOPOLOGY_DEVICES_MAX]; /* of the devices, in the caller's order */
};

/**
 * Computes the guest's topology.
 *
 * @param reserved_slots  bit N: device N of the root bus is taken (bit 0 always is)
 * @param out             its `size` set by the caller
 * @return 0; -EINVAL a wish that would tell the guest a lie, or facts that make no sense; -ENOSPC no room on the root bus, or in a slot
 *         of it. The message names the device, and what to do.
 */
int tenon_topology_plan(const struct tenon_topology_device *devices, unsigned count, enum tenon_topology_mode mode,
			uint32_t reserved_slots, struct tenon_topology *out, struct tenon_error *err);

/**
 * Whether a device that comes later may go behind an empty root port of its own, without a lie to the guest.
 *
 * @param devices  those that the guest has; @param device  the one that comes
 * @return 0; -EINVAL with the reason and what to do
 */
int tenon_topology_check_late(const struct tenon_topology_device *devices, unsigned count,
			      const struct tenon_topology_device *device, enum tenon_topology_mode mode,
			      struct tenon_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: MIT */
/*
 * A model of what Linux 6.12 makes of a PCI hierarchy: which functions it finds, how it numbers buses, which devices reset together
 * (VFIO_DEVICE_GET_PCI_HOT_RESET_INFO) and which share an IOMMU group. It is used for the host and for the guest, and knows nothing
 * of the library.
 * Source: drivers/pci/probe.c, slot.c, pci.c, iov.c; drivers/vfio/pci/vfio_pci_core.c; drivers/iommu/iommu.c.
 */
#ifndef TOPOLOGY_LINUX_H
#define TOPOLOGY_LINUX_H

#include <stdbool.h>
#include <stdint.h>

#define LINUX_DEVICES_MAX 320
#define LINUX_BUSES_MAX   128
#define LINUX_NONE        (-1)

enum linux_type {
	LINUX_CONVENTIONAL, /* no PCI Express capability: endpoint, or PCI-to-PCI bridge */
	LINUX_ENDPOINT,
	LINUX_ROOT_COMPLEX_ENDPOINT,
	LINUX_ROOT_PORT,
	LINUX_UPSTREAM_PORT,
	LINUX_DOWNSTREAM_PORT,
	LINUX_PCIE_TO_PCI_BRIDGE,
};

struct linux_device {
	/* Hardware. */
	int bus;
	unsigned devfn;
	enum linux_type type;
	int subordinate;       /* of a bridge; else LINUX_NONE */
	bool multifunction;    /* header type bit 7; after the scan as Linux sees it */
	bool acs;              /* a capability with all that Linux requires, switched on */
	bool ari;              /* an ARI capability */
	unsigned ari_next;     /* its next function; 0: none */
	bool virtual_function; /* found by SR-IOV, not by the scan */
	bool ari_forwarding;   /* a port that can */
	bool hotplug;          /* a port with a slot of pciehp's */
	bool no_bus_reset;     /* a quirk: its bus must not be reset */
	int tag;               /* the user's */

	/* What Linux makes of it. */
	bool found;
	int group; /* IOMMU group */
};

struct linux_bus {
	int self;   /* the bridge; LINUX_NONE: a root bus, or a virtual one for virtual functions */
	int parent; /* LINUX_NONE: a root bus */
	unsigned segment, number;
	bool ari_enabled;
};

struct linux_machine {
	unsigned device_count, bus_count;
	struct linux_device devices[LINUX_DEVICES_MAX];
	struct linux_bus buses[LINUX_BUSES_MAX];
	bool wide_slots; /* pciehp's slots cover a whole bus, as in newer kernels; else device 0 of it */
	uint16_t at[LINUX_BUSES_MAX][256]; /* what config space answers: 1 + index of a device; 0: nothing */
};

/** @return the index of a new bus */
int linux_add_bus(struct linux_machine *machine, int self, int parent);
/** @return the index of a new device, with nothing but its place and type */
int linux_add_device(struct linux_machine *machine, int bus, unsigned devfn, enum linux_type type);

/** Finds devices, enables ARI, and numbers the buses of a segment depth first, the root bus as `number`. @return the last bus number */
unsigned linux_scan(struct linux_machine *machine, int root_bus, unsigned number);
uint32_t linux_rid(const struct linux_machine *machine, int device);

/**
 * The set of VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.
 *
 * @param set  room for LINUX_DEVICES_MAX indices
 * @return how many; -ENODEV
 */
int linux_hot_reset_set(const struct linux_machine *machine, int device, int *set);

/** Gives each found device the IOMMU group that pci_device_group() finds, in the order of the scan. */
void linux_make_iommu_groups(struct linux_machine *machine);

#endif

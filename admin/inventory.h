/* SPDX-License-Identifier: MIT */
/* The host's PCI functions, as sysfs and their config space describe them: read once, sorted by address, then only looked at. */
#ifndef INVENTORY_H
#define INVENTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#include "host.h"

#define BDF_BYTES        24
#define NAME_BYTES       64
#define SYSFS_PATH_BYTES 320
#define BAR_COUNT        6

enum coherency { COHERENCY_UNKNOWN, COHERENCY_FULL, COHERENCY_NONE };

struct bar {
	uint64_t size_bytes; /* 0: none */
	bool io, is_64bit, prefetchable;
};

struct device {
	char bdf[BDF_BYTES];
	char path[SYSFS_PATH_BYTES]; /* real folder in /sys/devices */
	char above[BDF_BYTES];       /* the bridge that it hangs off; "" on a root bus */
	char root_bus[NAME_BYTES];   /* host bridge, as sysfs names it: pci0000:00 */
	unsigned domain, bus, slot, function;

	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code; /* 24 bits */
	uint8_t revision;
	char modalias[160];
	char driver[NAME_BYTES];   /* "": none */
	char override[NAME_BYTES]; /* driver_override; "": none */
	int numa_node;             /* -1: not known */
	bool boot_display;

	int group; /* IOMMU group; -1: none */
	char iommu[NAME_BYTES];
	enum coherency coherency;

	char reset_methods[128]; /* as sysfs names them, blank between; "": none */
	bool reset_methods_known;

	struct bar bars[BAR_COUNT];
	uint64_t rom_bytes;

	/* From config space */
	bool config_read;       /* false: it could not be read, or read all ones */
	bool config_whole;      /* all capabilities could be read, which takes root */
	unsigned header_type;   /* 0 endpoint, 1 bridge, 2 CardBus */
	unsigned secondary_bus; /* of a bridge */
	int express_type;       /* device/port type of the PCI Express capability; -1: no such capability */
	unsigned msi_vectors, msix_vectors;

	/* SR-IOV */
	bool is_pf;
	unsigned vfs, vfs_total;
	char pf[BDF_BYTES]; /* of a VF: its PF; "": none */
};

struct inventory {
	struct device *devices;
	unsigned count;
	bool iommu; /* the kernel drives at least one IOMMU */
};

/** @param inventory  finished by inventory_finish; nothing to finish after a failure */
int inventory_read(const struct host *host, struct inventory *inventory, struct tenon_error *err);
void inventory_finish(struct inventory *inventory);

/** Parses 0000:3b:00.0 or 3b:00.0. @return false when `text` is neither */
bool bdf_parse(const char *text, char bdf[BDF_BYTES]);

/** NULL when the host has no such device. */
struct device *inventory_find(const struct inventory *inventory, const char *bdf);
/** inventory_find for what a user typed, with the words for what is wrong with it. */
int inventory_look_up(const struct inventory *inventory, const char *text, struct device **out,
		      struct tenon_error *err);

/** Part of the host's own tree: a bridge, or the device that stands for a host bridge or an IOMMU. Never assigned. */
bool device_is_infrastructure(const struct device *device);
/** Bound to VFIO: vfio-pci or one of its variants. */
bool device_on_vfio(const struct device *device);
/**
 * The driver does no DMA for the host, so it does not stand in the way of giving the group away: the kernel's drivers with
 * driver_managed_dma, that is VFIO's, pci-stub and the port driver of bridges. No driver does none either.
 */
bool driver_leaves_group_free(const char *driver);

/**
 * Whether a slot or bus reset of `device` hits `other` as well (vfio_pci_for_each_slot_or_bus of the kernel). A device has
 * no such reset on a root bus.
 */
bool device_resets_with(const struct inventory *inventory, const struct device *device, const struct device *other);
bool device_has_bus_reset(const struct inventory *inventory, const struct device *device);

#endif

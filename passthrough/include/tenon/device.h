/* SPDX-License-Identifier: MIT */
/*
 * tenon_device: a host PCI device given to a guest.
 *
 * Call order: open (the device is reset, bound and joined to its space); route the guest's config and BAR accesses to
 * it; on a VM reset call tenon_device_reset; close.
 * Threads: config, BAR and reset calls on one device may come from any thread; the device has a lock of its own.
 * open and close must not overlap with anything else on the same device or space.
 * A guest can do nothing through these calls that fails the VMM: a bad access is answered as hardware would, with ones.
 * Source: Linux Documentation/driver-api/vfio.rst, include/uapi/linux/vfio.h; PCI Express Base Specification 5.0.
 */
#ifndef TENON_DEVICE_H
#define TENON_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>
#include <tenon/host.h>
#include <tenon/space.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TENON_DEVICE_BARS  6
#define TENON_CONFIG_BYTES 4096

struct tenon_device;

/* Where the guest sees the device; the PCI Express capability's device type is rewritten to match. */
enum tenon_slot_kind {
	TENON_SLOT_ROOT_BUS,  /* a root complex integrated endpoint */
	TENON_SLOT_ROOT_PORT, /* an endpoint below a root port */
};

struct tenon_device_options {
	size_t size; /* sizeof(struct tenon_device_options) */

	/* "0000:3b:00.0", "3b:00.0" or "/dev/vfio/devices/vfio3". NULL with `cdev` set. */
	const char *address;
	/*
	 * An open VFIO character device, borrowed: the library works on a duplicate. The kernel binds it for good, so it stays
	 * bound until its owner closes it too. 0: open it by address.
	 */
	int cdev;

	struct tenon_space *space;        /* required; outlives the device */
	const struct tenon_host_ops *ops; /* required; outlives the device */
	void *host;                       /* passed to every operation */
	enum tenon_slot_kind slot;
	bool multifunction; /* the guest's slot holds more than this function */
};

struct tenon_bar_info {
	uint64_t size_bytes; /* 0: not implemented (or the upper half of a 64-bit BAR) */
	bool io;
	bool is_64bit;
	bool prefetchable;
	uint64_t mappable_bytes; /* how much of it the guest reaches without a VM exit */
};

enum tenon_reset_method {
	TENON_RESET_NONE,     /* the kernel can not reset this device alone */
	TENON_RESET_FUNCTION, /* VFIO_DEVICE_RESET: FLR, PM or what the kernel's reset_method lists */
};

struct tenon_device_info {
	char address[64]; /* the BDF where known, else the path */
	char path[64];    /* the VFIO device node; "" for a passed fd of unknown origin */
	int iommu_group;  /* -1 where unknown */
	uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
	uint32_t class_code; /* base class, subclass, interface: 24 bits */
	bool pcie;           /* 4096 bytes of config space, else 256 */
	unsigned intx_pin;   /* 1-4, 0: none */
	unsigned msi_vectors;
	unsigned msix_vectors;
	enum tenon_reset_method reset;
	bool sriov_hidden; /* the device has an SR-IOV capability, which the guest does not see */
	struct tenon_bar_info bars[TENON_DEVICE_BARS];
};

enum tenon_device_event {
	TENON_DEVICE_EVENT_NONE,
	TENON_DEVICE_EVENT_ERROR,   /* the host saw an uncorrectable error of the device (AER) */
	TENON_DEVICE_EVENT_REQUEST, /* the host wants the device back: close it soon */
};

/**
 * Opens, binds and resets a device, and joins it to its space.
 *
 * The device must be bound to a VFIO driver on the host already, and its whole IOMMU group must be free of host drivers:
 * nothing is unbound implicitly. A refusal names the group, each member that blocks with its driver, and the command
 * that fixes it.
 *
 * @param out  owned by the caller; free with tenon_device_close
 * @return 0; -EINVAL bad options; -ENODEV no such device; -EBUSY in use, or its group is; -EACCES; or the kernel's error.
 *         On failure nothing stays open or mapped, and nothing bound but a device that was passed open.
 */
int tenon_device_open(const struct tenon_device_options *options, struct tenon_device **out, struct tenon_error *err);

/** Stops the device's DMA and interrupts, removes its BARs from the guest and gives it back. NULL is accepted. */
void tenon_device_close(struct tenon_device *device);

/** What is known of the device. Borrowed, valid until tenon_device_close. */
const struct tenon_device_info *tenon_device_info(const struct tenon_device *device);

/**
 * A guest's config space access.
 *
 * @param offset      0-4095
 * @param size_bytes  1, 2 or 4; an access that is not naturally aligned reads ones and is not written
 */
uint32_t tenon_device_config_read(struct tenon_device *device, unsigned offset, unsigned size_bytes);
void tenon_device_config_write(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value);

/**
 * A guest's access to a BAR that trapped. Reads give ones where nothing answers.
 *
 * @param bar     0-5
 * @param offset  from the BAR's start, in bytes
 * @param data    `size_bytes` bytes, 1-8, in the guest's (little-endian) byte order
 */
void tenon_device_bar_read(struct tenon_device *device, unsigned bar, uint64_t offset, void *data, unsigned size_bytes);
void tenon_device_bar_write(struct tenon_device *device, unsigned bar, uint64_t offset, const void *data,
			    unsigned size_bytes);

/**
 * Puts the device into the state of power-on for a VM reset: interrupts gone, bus mastering and decoding off, D0, then the
 * device reset, then the virtual config space as it was at open (BARs unplaced). The vCPUs must not run.
 *
 * @return 0, or -errno when the device could not be reset; it is quiesced in any case
 */
int tenon_device_reset(struct tenon_device *device, struct tenon_error *err);

/** A file descriptor that polls readable while an event waits. Borrowed. */
int tenon_device_event_fd(const struct tenon_device *device);

/** Takes one waiting event, or TENON_DEVICE_EVENT_NONE. */
enum tenon_device_event tenon_device_next_event(struct tenon_device *device);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: MIT */
/*
 * tenon_device: a host PCI device given to a guest.
 *
 * Call order: open (the device is reset, bound and joined to its space); after the last open tenon_space_check_resets; route the
 * guest's config and BAR accesses to it; on a VM reset call tenon_space_reset; close.
 * Threads: config, BAR and reset calls on one device may come from any thread; the device has a lock of its own.
 * open and close must not overlap with anything else on the same device, nor with open, close, resets and memory of the same
 * space; the guest may use the space's other devices meanwhile.
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
#pragma GCC visibility push(default)

#define TENON_DEVICE_BARS  6
#define TENON_DEVICE_ROM   6 /* the expansion ROM, where a BAR is named by its number */
#define TENON_CONFIG_BYTES 4096

struct tenon_device;

/* Where the guest sees the device; the PCI Express capability's device type is rewritten to match. */
enum tenon_slot_kind {
	TENON_SLOT_ROOT_BUS,  /* a root complex integrated endpoint */
	TENON_SLOT_ROOT_PORT, /* an endpoint below a root port */
};

/*
 * What to do about a device that the kernel cannot reset, or only together with devices that this space does not own. What stands
 * in the way may still be opened into the space, so the last word is tenon_space_check_resets.
 */
enum tenon_reset_policy {
	TENON_RESET_PREFER,  /* assign it with a warning; reset it whenever that is possible */
	TENON_RESET_REQUIRE, /* refuse it, naming what stands in the way */
	TENON_RESET_NEVER,   /* quiesce it only, and let no bus reset hit it: for devices that a reset breaks */
};

enum tenon_sriov_policy {
	TENON_SRIOV_HIDE,      /* the capability is unlinked and its body reads zero */
	TENON_SRIOV_READ_ONLY, /* the guest sees it and cannot write it: for the few PF drivers that look it up */
};

enum tenon_rom_policy {
	TENON_ROM_DEVICE, /* the guest sees the device's own expansion ROM, if it has one */
	TENON_ROM_OFF,    /* no expansion ROM BAR */
	TENON_ROM_FILE,   /* the content of `rom_file` */
};

enum tenon_intx_policy {
	TENON_INTX_AUTO,    /* inside the kernel where that works, else trapped */
	TENON_INTX_TRAPPED, /* through tenon_device_next_event and trapped BARs: slow, and works everywhere */
};

struct tenon_device_options {
	size_t size; /* sizeof(struct tenon_device_options) */

	/*
	 * "0000:3b:00.0", "3b:00.0", "/dev/vfio/devices/vfio3", an mdev's UUID, or "vfio-user:/run/dev.sock": a device in another
	 * process, by the socket of its server. NULL with `cdev` set.
	 */
	const char *address;
	/*
	 * An open VFIO character device, borrowed: the library works on a duplicate. The kernel binds it for good, so it stays
	 * bound until its owner closes it too; after an open that failed pass a newly opened file. 0: open it by address.
	 */
	int cdev;
	enum tenon_slot_kind slot;

	struct tenon_space *space;        /* required; outlives the device */
	const struct tenon_host_ops *ops; /* required; outlives the device */
	void *host;                       /* passed to every operation */

	enum tenon_reset_policy reset;
	enum tenon_sriov_policy sriov;
	enum tenon_rom_policy rom;
	enum tenon_intx_policy intx;
	const char *rom_file; /* with TENON_ROM_FILE: a ROM image of at most 16 MiB, read at open */
	/*
	 * A UUID that a PF's user and the users of its VFs share: who assigns a PF can read and corrupt what goes through its
	 * VFs, and the token says that they trust each other. On a PF it is set, on a VF it is presented. NULL: none.
	 */
	const char *vf_token;
	bool multifunction; /* the guest's slot holds more than this function */
	/* A vfio-user device whose server is gone is picked up again when the server is back: TENON_DEVICE_EVENT_BACK. */
	bool reconnect;
	uint8_t reserved[2]; /* zero */
	/* How long the guest's access to a vfio-user device may wait for the server, at most 10000; 0: 250. */
	uint32_t timeout_ms;
};

struct tenon_bar_info {
	uint64_t size_bytes; /* 0: not implemented (or the upper half of a 64-bit BAR) */
	bool io;
	bool is_64bit;
	bool prefetchable;
	uint64_t mappable_bytes; /* how much of it the guest reaches without a VM exit */
};

/* After "none", in the order in which they are preferred. */
enum tenon_reset_method {
	TENON_RESET_NONE,     /* the kernel has no way to reset this device, or TENON_RESET_NEVER forbids it */
	TENON_RESET_FUNCTION, /* VFIO_DEVICE_RESET on a device with FLR, or with a reset of its own that the kernel knows */
	TENON_RESET_BUS, /* every device of the slot or bus: hot reset, or VFIO_DEVICE_RESET where it is alone there */
	TENON_RESET_POWER, /* VFIO_DEVICE_RESET through D3hot and back */
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
	enum tenon_reset_method reset; /* as found by open and by tenon_space_check_resets */
	bool sriov_hidden;             /* the device has an SR-IOV capability, which the guest does not see */
	struct tenon_bar_info bars[TENON_DEVICE_BARS];
	enum tenon_interface interface; /* how it is used; never TENON_INTERFACE_AUTO */
	/*
	 * The IOMMU is known to make all DMA of this device coherent with the CPU caches. Where it does not, KVM honours the guest's
	 * WBINVD and memory types for the whole VM as long as the device is assigned, which costs speed.
	 */
	bool coherent;
	bool peer_to_peer; /* other devices of the space reach its BARs by DMA; of a vfio-user device, other such ones */
	uint64_t rom_bytes; /* size of the expansion ROM BAR that the guest sees; 0: none */
};

enum tenon_device_event {
	TENON_DEVICE_EVENT_NONE,
	TENON_DEVICE_EVENT_ERROR,   /* the host saw an uncorrectable error of the device (AER); not of vfio-user */
	TENON_DEVICE_EVENT_REQUEST, /* the host wants the device back: close it soon; not of vfio-user */
	/*
	 * The server of a vfio-user device died, or broke the protocol. The guest reads ones everywhere, as of a device that was
	 * pulled out; its BARs are still placed. Close it, or leave it: nothing else is affected.
	 */
	TENON_DEVICE_EVENT_GONE,
	/* It is back, and as after open: BARs unplaced, decoding and interrupts off. Bring the guest to see it anew. */
	TENON_DEVICE_EVENT_BACK,
};

/* Who has a device that a reset would hit too. */
enum tenon_reset_owner {
	TENON_RESET_OWNER_SELF,  /* the device whose plan it is */
	TENON_RESET_OWNER_SPACE, /* another device of this space */
	TENON_RESET_OWNER_GROUP, /* nobody, but its IOMMU group belongs to this space */
	TENON_RESET_OWNER_OTHER, /* another process, a host driver, or nobody at all: the kernel does not reset it for us */
};

/* A reset that would hit more is not allowed. */
#define TENON_RESET_AFFECTED_MAX 64

struct tenon_reset_affected {
	char address[24]; /* BDF with its domain */
	char driver[40];  /* host driver; "": none */
	int iommu_group;  /* -1: not known */
	enum tenon_reset_owner owner;
	uint32_t reserved[6]; /* zero: a plan holds an array of these, which cannot grow one by one */
};

/*
 * What a reset of a device would do, before it is done. Where a better method exists and is not allowed, the next one is planned
 * and `why` says what stands in the way of the better. Grows at its end: an older caller gets what it has room for.
 */
struct tenon_reset_plan {
	size_t size; /* sizeof(struct tenon_reset_plan), set by the caller */
	enum tenon_reset_method method;
	bool allowed;
	char why[463]; /* one line: why this method; or why not, naming who stands in the way, and what to do */
	unsigned affected_count;
	struct tenon_reset_affected affected[TENON_RESET_AFFECTED_MAX]; /* the device itself first */
};

/**
 * Opens, binds and resets a device, and joins it to its space. A device that only a bus reset can reset is reset together with
 * those of its bus when the last of them is opened, unless a guest has one in use by then.
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
 * A guest's access to a BAR that trapped. Reads give ones where nothing answers; writes to the expansion ROM are dropped.
 *
 * @param bar     0-5, or TENON_DEVICE_ROM
 * @param offset  from the BAR's start, in bytes
 * @param data    `size_bytes` bytes, 1-8, in the guest's (little-endian) byte order
 */
void tenon_device_bar_read(struct tenon_device *device, unsigned bar, uint64_t offset, void *data, unsigned size_bytes);
void tenon_device_bar_write(struct tenon_device *device, unsigned bar, uint64_t offset, const void *data,
			    unsigned size_bytes);

/**
 * Puts the device into the state of power-on for a VM reset: interrupts gone, bus mastering and decoding off, D0, then the
 * device reset, then the virtual config space as it was at open (BARs unplaced). Where the plan is a bus reset, all that happens
 * to every device of the space that it hits. The vCPUs must not run.
 *
 * @return 0, or -errno when the device could not be reset (its plan is not allowed, or the kernel failed); it is quiesced in any
 *         case, and what a plan that is not allowed would have hit is not touched
 */
int tenon_device_reset(struct tenon_device *device, struct tenon_error *err);

/**
 * Works out how the device would be reset at this moment, and whether it can be. The kernel does what an allowed plan says, unless
 * ownership changes in between or the hardware fails; a bus reset that failed is not promised again. Touches nothing.
 *
 * @param plan  its `size` set by the caller
 * @return 0, also when the plan is not allowed; -EINVAL
 */
int tenon_device_reset_plan(struct tenon_device *device, struct tenon_reset_plan *plan, struct tenon_error *err);

/**
 * What a reset of the device's bus would do on the host, whatever resets the device has of its own: the facts for the guest's
 * topology (<tenon/topology.h>). Touches nothing.
 *
 * @param plan  its `size` set by the caller. `method` TENON_RESET_BUS: the host has such a reset, `affected` is what it hits, and
 *              `allowed` whether this space may do it, else `why` not. TENON_RESET_NONE: there is none, and `why` not;
 *              `affected` is the device alone.
 * @return 0, also when it is not allowed; -EINVAL
 */
int tenon_device_bus_reset_plan(struct tenon_device *device, struct tenon_reset_plan *plan, struct tenon_error *err);

/* A device's place in the guest. */
struct tenon_device_place {
	size_t size; /* sizeof(struct tenon_device_place) */
	enum tenon_slot_kind slot;
	bool multifunction;  /* the slot holds more than this function */
	bool ari;            /* function numbers above 7: the guest sees an ARI capability */
	uint8_t ari_next;    /* with `ari`: the next function of the slot; 0: the last. Else 0 */
	uint8_t reserved[9]; /* zero */
};

/**
 * Says where the guest sees the device, in place of what its options said: a topology may be known only when all are open.
 * Config space is then as at power-on. Before the guest sees the device.
 *
 * @return 0; -EINVAL; -ENOSPC the device's config space has no room for an ARI capability. On failure its place is as before.
 */
int tenon_device_place(struct tenon_device *device, const struct tenon_device_place *place, struct tenon_error *err);

/**
 * What a guest's reset of a virtual bus means: the devices, all that are on it, are quiesced, reset together as the host does it, or
 * each by itself where each resets alone, and then as at power-on (BARs unplaced). Nothing else is reset: where the host's reset
 * would hit more, and one of them does not reset alone, none is. The vCPUs may run; they wait where they access these devices.
 * Must not overlap with open, close and other resets of the space.
 *
 * @return 0; -EOPNOTSUPP no way to reset these and nothing else; or the kernel's error. They are quiesced in any case.
 */
int tenon_bus_reset(struct tenon_device *const *devices, unsigned count, struct tenon_error *err);

/**
 * tenon_device_reset for every device of a space: all are quiesced first, then each set of devices that reset together is reset
 * once. The vCPUs must not run. Goes on after a failure and returns the first.
 */
int tenon_space_reset(struct tenon_space *space, struct tenon_error *err);

/**
 * Holds every device of a space against its reset policy, once all devices are open: functions of one slot that only a bus reset
 * can reset stand in each other's way until the last of them is open, and were let in for that. Touches no device.
 *
 * @return 0; -EBUSY when a device with TENON_RESET_REQUIRE can not be reset, with its plan's reason
 */
int tenon_space_check_resets(struct tenon_space *space, struct tenon_error *err);

/**
 * A file descriptor that polls readable while tenon_device_next_event has something to do: an event for the VMM, the first
 * interrupt of a vector, or a trapped INTx. Borrowed.
 */
int tenon_device_event_fd(const struct tenon_device *device);

/**
 * Does the device's pending work and takes one waiting event, or TENON_DEVICE_EVENT_NONE. Call it from the VMM's event loop, soon:
 * interrupts may wait for it.
 */
enum tenon_device_event tenon_device_next_event(struct tenon_device *device);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

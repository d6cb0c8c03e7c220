/* SPDX-License-Identifier: MIT */
/*
 * Resets of devices: what a reset would do (reset_plan.c), and doing it (reset.c).
 *
 * Locks: whoever resets more than one device holds the locks of all that it may reset, taken in the order in which they joined the
 * space: a reset of the VM those of all devices, a reset of a guest's bus those of the devices on it, so that vCPUs go on with the
 * others meanwhile. Everybody else holds at most one device's lock and takes no other while holding it: a vCPU in config space,
 * its guest's own function reset included. So the order cannot be broken. Of a device whose lock it does not hold, a plan reads what
 * is the same from open to close: its address, group, ids and policy.
 */
#ifndef RESET_H
#define RESET_H

#include <stdbool.h>

#include <tenon/device.h>

struct tenon_device;

/* A device's part. */
struct reset_state {
	enum tenon_reset_policy policy;
	bool bus_failed; /* a reset of its bus was tried and failed: it is not promised again */
	bool used;       /* somebody wrote its config space since open or the last reset */
	bool dirty;      /* the same, but what only quiesced it does not count as a reset */
	bool bus_reset;  /* a reset of its bus hit it since open, and nobody left state in its group's others since */
	bool done;       /* within tenon_space_reset: has been reset */
	bool by_guest;   /* within a reset that the guest asked for, by which it buys itself no more lines in the log */
	bool warned;     /* that it cannot be reset */
};

struct reset_plan {
	struct tenon_reset_plan public;
	struct tenon_device
		*devices[TENON_RESET_AFFECTED_MAX]; /* those of `affected` that are the space's; else NULL */
	bool hot;                                   /* VFIO_DEVICE_PCI_HOT_RESET, else VFIO_DEVICE_RESET */
	bool may_come; /* not allowed, but only for devices that may still be opened into the space */
	int group_fds[TENON_RESET_AFFECTED_MAX];
	unsigned group_fd_count;
};

/* Whose reset may hit other devices of the space: only then is the list of its devices looked at. */
enum reset_reach { RESET_ALONE, RESET_WITH_SPACE };

/** Works out the plan with the device's lock held. Asks the kernel and sysfs; changes nothing. */
void reset_plan_make(struct tenon_device *device, enum reset_reach reach, struct reset_plan *plan);

/** The same of its bus's reset, whatever other resets it has: as tenon_device_bus_reset_plan. */
void reset_plan_make_bus(struct tenon_device *device, struct reset_plan *plan);

/** Interrupts off, BARs gone, D0, no DMA and no decoding: what must hold before a reset, and before a device is given back. */
void reset_quiesce(struct tenon_device *device);

/**
 * What of it is written to the device's config space. Not while its migration data moves, which that may corrupt; a device does no DMA
 * then, and is quiesced when it leaves that state.
 */
void reset_quiesce_hardware(struct tenon_device *device);

/**
 * Resets what the kernel's bind could not, and holds the device against its policy. The device is not on the space's list yet;
 * no lock is held.
 */
int reset_at_open(struct tenon_device *device, struct tenon_error *err);

/**
 * Has the devices of its group know that it keeps what the guest left in it, should it be opened again. The device is off the
 * space's list; no lock is held.
 */
void reset_before_close(struct tenon_device *device);

/** A function reset that the guest asks for: of this device alone, by whatever way hits no other. With the device's lock held. */
int reset_by_guest(struct tenon_device *device, struct tenon_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Moving an assigned device to another host: its migration states, its data, the pages that it dirties, and the state of it that
 * this library emulates (config space, BAR addresses, interrupts).
 *
 * The state contract. "Legal next" are the arcs that a driver carries out in one step; the library goes no other way, and takes the
 * shortest legal path between two states. *: only where the device has P2P; +: only where it has pre-copy.
 *
 *   state         guest and VMM may                     the device                        peers may              legal next
 *   RUNNING       use it                                works, starts DMA                 reach its BARs         RUNNING_P2P*, STOP (no P2P), PRE_COPY+
 *   PRE_COPY+     use it; the VMM reads its data        works, starts DMA, saves          reach its BARs         RUNNING, PRE_COPY_P2P*, STOP_COPY (no P2P)
 *   RUNNING_P2P*  not use it                            starts no DMA, answers            reach its BARs         RUNNING, STOP, PRE_COPY_P2P+
 *   PRE_COPY_P2P  as RUNNING_P2P; the VMM reads data    starts no DMA, answers, saves     reach its BARs         PRE_COPY, RUNNING_P2P, STOP_COPY
 *   STOP          not use it; set up interrupts         stands: no DMA, no interrupt      not reach it           RUNNING_P2P*, RUNNING (no P2P), STOP_COPY, RESUMING
 *   STOP_COPY     not use it; the VMM reads its data    stands, saves                     not reach it           STOP
 *   RESUMING      not use it; the VMM writes its data   stands, loads                     not reach it           STOP
 *   ERROR         reset it                              nothing is defined                not reach it           none: tenon_device_reset, which leads to RUNNING
 *
 * "Stands" means that nothing of it changes: pages that it dirtied are final, and so are its BARs' contents. With several devices no
 * device may leave RUNNING for STOP, or STOP for RUNNING, while another still works: all go to a *_P2P state first, then on.
 *
 * Threads: the calls on one device lock it, as those of <tenon/device.h> do; a read or write of data waits for the device, and holds up
 * nobody else there, unless it is a vfio-user device. The calls on a space overlap with no other on it (<tenon/space.h>).
 * Source: Linux include/uapi/linux/vfio.h, "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE" and following; vfio-user protocol 0.1.
 */
#ifndef TENON_MIGRATION_H
#define TENON_MIGRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/device.h>
#include <tenon/error.h>
#include <tenon/space.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* VFIO's numbers (enum vfio_device_mig_state). */
enum tenon_migration_state {
	TENON_MIGRATION_ERROR,
	TENON_MIGRATION_STOP,
	TENON_MIGRATION_RUNNING,
	TENON_MIGRATION_STOP_COPY,
	TENON_MIGRATION_RESUMING,
	TENON_MIGRATION_RUNNING_P2P,
	TENON_MIGRATION_PRE_COPY,
	TENON_MIGRATION_PRE_COPY_P2P,
	TENON_MIGRATION_STATES,
};

/* The contract above as data; also in migration_states.def of the sources. */
struct tenon_migration_rule {
	const char *name; /* "RUNNING_P2P" */
	bool usable;      /* guest and VMM may use the device */
	bool dma;         /* it may start DMA */
	bool answers;     /* peers and MMIO are answered */
	bool saves;       /* its data can be read */
	bool loads;       /* its data can be written */
};

/** @return NULL for a number that is no state. Never freed */
const struct tenon_migration_rule *tenon_migration_rule(enum tenon_migration_state state);

/**
 * The state after `from` on the shortest legal path to `to`.
 *
 * @param p2p, pre_copy  what the device has
 * @return -EINVAL when there is no way: out of ERROR, to ERROR, or to a state that the device lacks
 */
int tenon_migration_next(enum tenon_migration_state from, enum tenon_migration_state to, bool p2p, bool pre_copy);

/* Who knows which pages a device has written. */
enum tenon_dirty_tracking {
	TENON_DIRTY_NONE,   /* nobody: after pre-copy all of RAM counts as dirty */
	TENON_DIRTY_DEVICE, /* the device logs its DMA (VFIO_DEVICE_FEATURE_DMA_LOGGING_*) */
	TENON_DIRTY_IOMMU, /* the IOMMU's dirty bits (IOMMU_HWPT_ALLOC_DIRTY_TRACKING, or type1's VFIO_IOMMU_DIRTY_PAGES) */
};

struct tenon_migration_info {
	size_t size;      /* sizeof(struct tenon_migration_info), set by the caller */
	bool migratable;  /* it can be saved and loaded while it stands */
	bool p2p;         /* it has the *_P2P states */
	bool pre_copy;    /* it has the PRE_COPY states */
	uint8_t reserved; /* zero */
	enum tenon_dirty_tracking dirty;
	char why[496]; /* one line when not migratable, or nobody tracks: what is missing, and what to do; else "" */
};

/** What the device can. @return 0, also when it cannot be migrated; -EINVAL */
int tenon_device_migration_info(struct tenon_device *device, struct tenon_migration_info *info,
				struct tenon_error *err);

/** The state that the device is in, as the library last saw it. A guest's own reset of the device leads to RUNNING, too. */
enum tenon_migration_state tenon_device_migration_state(struct tenon_device *device);

/**
 * Goes to a state, by each legal state between. The caller keeps the contract for the guest: its vCPUs do not run when the device
 * leaves RUNNING or PRE_COPY.
 *
 * @return 0; -EINVAL no way there; or the device's error: the message names the arc, and the state that the device is in since, which
 *         is asked of it; ERROR needs a reset
 */
int tenon_device_migration_set(struct tenon_device *device, enum tenon_migration_state state, struct tenon_error *err);

/**
 * Reads saved data, in PRE_COPY, PRE_COPY_P2P and STOP_COPY. What it means is between two devices of a kind.
 *
 * @return bytes read; 0: in STOP_COPY that was all, in the others nothing more for now; or -errno
 */
int64_t tenon_device_migration_read(struct tenon_device *device, void *data, size_t capacity, struct tenon_error *err);

/** Writes saved data, in RESUMING, all of it in the order in which it was read. @return 0, or -errno */
int tenon_device_migration_write(struct tenon_device *device, const void *data, size_t bytes, struct tenon_error *err);

/**
 * How much is left to read while the device runs (VFIO_MIG_GET_PRECOPY_INFO), in PRE_COPY and PRE_COPY_P2P.
 *
 * @param initial_bytes  of what the other side should have before the device stops; 0: it has it
 * @param dirty_bytes    of what changed since
 */
int tenon_device_migration_pre_copy(struct tenon_device *device, uint64_t *initial_bytes, uint64_t *dirty_bytes,
				    struct tenon_error *err);

/**
 * How much there would be to read if the device stopped now (VFIO_DEVICE_FEATURE_MIG_DATA_SIZE).
 *
 * @return 0; -ENOTSUP the device does not say
 */
int tenon_device_migration_size(struct tenon_device *device, uint64_t *bytes, struct tenon_error *err);

/**
 * Saves what this library emulates of the device: virtual config space, BAR addresses, the state of its interrupts. The vCPUs do not
 * run, and the device stands. The format is versioned and independent of the host's word size.
 *
 * Interrupts: one that has reached the hypervisor is part of its vCPUs' and interrupt controllers' state, any other of this one; each
 * is in one of them when this comes first, and the other after it. Nothing is taken away: the device can go on here.
 *
 * @param data  owned by the caller: free()
 * @return 0; -EIO the device does not answer; -ENOMEM
 */
int tenon_device_state_save(struct tenon_device *device, void **data, size_t *bytes, struct tenon_error *err);

/**
 * Gives a device that is as after open, of the same kind and in a slot of the same kind (tenon_device_place), the saved state: its BARs
 * appear in the guest, its interrupts are set up. The device is in STOP and has its data; a device that is not migratable may be in
 * RUNNING. Untrusted input: what it does is what a guest could do by writing to config space and the MSI-X table.
 *
 * The vCPUs do not run yet. Interrupts that were not delivered are from now on: with the event loop's next look at the device, or at
 * once. So the hypervisor's interrupt controllers and vCPUs get their state before.
 *
 * @return 0; -EINVAL not a state, or not of a device like this one: the message names what differs; -EBUSY the device was used since it
 *         was opened or reset; -ENOSPC, -EIO it cannot be had so here: too few vectors, say. On failure reset or close it.
 */
int tenon_device_state_load(struct tenon_device *device, const void *data, size_t bytes, struct tenon_error *err);

/**
 * Starts to log which pages of the space's regions its devices write, each device in the way that it has. Devices without any way are
 * the caller's to know (struct tenon_migration_info). Regions that come later are logged, too; devices that come later are not, and
 * have each fetch fail. When a device leaves, or its log must begin anew, every page counts as written once.
 *
 * @return 0; or the error of the first device that cannot: the message names it, and nothing is logged
 */
int tenon_space_dirty_start(struct tenon_space *space, struct tenon_error *err);

/** Ends it. */
void tenon_space_dirty_stop(struct tenon_space *space);

/**
 * Adds the pages that devices wrote since the last call, and forgets them.
 *
 * @param gpa, size_bytes  inside one region
 * @param bitmap           one bit per 4 KiB from gpa on, in 64-bit words of the host's byte order; bits are only set
 * @return 0; or -errno: then any page of the region may have been written
 */
int tenon_space_dirty_fetch(struct tenon_space *space, uint64_t gpa, uint64_t size_bytes, uint64_t *bitmap,
			    struct tenon_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

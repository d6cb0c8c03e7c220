/* SPDX-License-Identifier: MIT */
/*
 * The space as devices see it: one table of operations per kind of the kernel's address spaces, iommufd and the container. The
 * first device of the kernel's decides which kind a space is; without one it is none, and holds nothing of the kernel's. Devices in
 * other processes (space_users.h) stand beside it, and each is told of the same memory.
 *
 * Locks: those of space_users.h. The kernel's address space is changed by callers that do not overlap, but for BARs, which the kernel
 * orders.
 */
#ifndef SPACE_H
#define SPACE_H

#include <tenon/space.h>

#include "dirty.h"
#include "space_users.h"

struct space_backend;
struct space_member;

struct space_backend_ops {
	int (*map)(struct space_backend *backend, const struct tenon_space_region *region, struct tenon_error *err);
	int (*unmap)(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err);
	/* As tenon_space_allowed. */
	int (*allowed)(struct space_backend *backend, struct tenon_iova_range *ranges, size_t capacity,
		       struct tenon_error *err);
	/* How many more mappings fit (INT_MAX: any number), or -errno. NULL: any number. */
	int (*room)(struct space_backend *backend, struct tenon_error *err);
	/* Maps a device's BAR, which is mapped at `hva`, so that the other devices reach it. NULL: this kind cannot. */
	int (*map_bar)(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, void *hva,
		       struct tenon_error *err);
	/* 1: the IOMMU makes the DMA of all devices coherent with the CPU caches; 0: that cannot be said of all; -errno: not known. */
	int (*coherent)(struct space_backend *backend);
	/*
	 * Whether the IOMMU knows which pages a joined device writes: 1; 0, and `why` gets the cause, and what to do, as one clause; or
	 * -errno, nobody knows.
	 */
	int (*dirty_tracks)(struct space_backend *backend, const struct space_member *member, char *why,
			    size_t capacity);
	/* Starts that for a device that it can be had of. What other devices need is not started twice. */
	int (*dirty_start)(struct space_backend *backend, const struct space_member *member, struct tenon_error *err);
	/* Ends it for all. */
	void (*dirty_stop)(struct space_backend *backend);
	/* Sets the bits of pages that were written since, inside one region. Nothing happens where nothing was started. */
	int (*dirty_fetch)(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, uint64_t *bitmap,
			   struct tenon_error *err);
	bool dirty_by_region; /* dirty_fetch is of whole regions only */
	void (*destroy)(struct space_backend *backend);
};

struct space_backend {
	const struct space_backend_ops *ops;
};

struct tenon_device;

/* A device's place in its space. */
struct space_member {
	struct tenon_device *device;
	struct space_member *next;
	uint32_t
		device_id; /* what iommufd calls the binding, as in VFIO_DEVICE_GET_PCI_HOT_RESET_INFO; 0: not by iommufd */
	int group;         /* IOMMU group number; -1: not known */
	uint32_t hwpt;     /* iommufd: the page table with dirty bits that it is attached to; 0: none of ours */
	int group_fd;      /* borrowed from the container; -1: not by group */
	bool mediated;     /* it has no IOMMU: its driver writes to memory by asking the kernel */
	bool passed;       /* the device's file came open, and may have been bound before */
	bool joined;
	enum dirty_logging logging;
	struct tenon_iova_range logged; /* what its log covers, where that is one range; else first > last */
	unsigned patience_ms;           /* how long an access of the guest may wait for the device's server */
	struct space_user user;
	struct space_member *next_user;
};

/** The first of the space's devices, in the order in which they joined; NULL: none. */
struct space_member *space_members(const struct tenon_space *space);

/** Puts a joined device on the list, and takes it off (nothing happens when it is not on it). */
void space_enlist(struct tenon_space *space, struct space_member *member);
void space_delist(struct tenon_space *space, struct space_member *member);

/**
 * Says through which interface a device joins, and opens that when this is the first device.
 *
 * @param cdev   the device has a character device, or is one that the caller passed
 * @param group  it can be had through its group's file
 * @param name   of the device, for messages
 * @return TENON_INTERFACE_IOMMUFD or _CONTAINER; or -errno
 */
int space_choose(struct tenon_space *space, bool cdev, bool group, const char *name, struct tenon_error *err);

struct vf_token;

/**
 * Binds an open VFIO character device to the space's iommufd and attaches it to the space's IOAS. RAM that was added before is
 * mapped now.
 *
 * @param token   NULL: none
 * @param member  gets its device_id
 * @return 0, or 1 when the kernel does not check tokens here
 */
int space_join_iommufd(struct tenon_space *space, int cdev, const struct vf_token *token, const char *name,
		       struct space_member *member, struct tenon_error *err);

/**
 * Puts member->group into the space's container, unless another device of it is there already. RAM that was added before is
 * mapped now.
 *
 * @param member  gets its group_fd
 */
int space_join_group(struct tenon_space *space, const char *name, struct space_member *member, struct tenon_error *err);

/**
 * Undoes a join, before the device's last file is closed; nothing happens when it did not join. With the last device the RAM is
 * unmapped and the interface is closed.
 *
 * @param fd  the device's file
 */
void space_leave(struct tenon_space *space, int fd, struct space_member *member);

/** What the servers of vfio-user devices reach by asking for it. */
struct vu_memory space_memory(struct tenon_space *space);

/**
 * A vfio-user device joins on its connection, where its server is told of all memory; and again on another connection, in the event
 * loop.
 */
int space_join_user(struct tenon_space *space, struct vu_socket *socket, const char *name, struct space_member *member,
		    struct tenon_error *err);
int space_rejoin_user(struct tenon_space *space, struct space_member *member, struct vu_socket *socket,
		      struct tenon_error *err);

/**
 * A BAR that the guest sees at bar->gpa becomes reachable by the space's other devices there: one with a file by vfio-user devices,
 * one without by the kernel's. Thread-safe, for a joined device. Mapping returns as space_users_add; or -errno.
 */
bool space_maps_bars(const struct tenon_space *space);
int space_map_bar(struct tenon_space *space, const struct space_member *owner, const struct tenon_space_region *bar,
		  struct tenon_error *err);
int space_unmap_bar(struct tenon_space *space, const struct space_member *owner, uint64_t gpa, uint64_t size_bytes,
		    struct tenon_error *err);

/** NULL: the space has no devices of the kernel's. */
struct space_backend *space_backend(const struct tenon_space *space);
struct space_dirty *space_dirty(struct tenon_space *space);
struct space_users *space_users(struct tenon_space *space);
/** RAM. @return how many */
unsigned space_regions(const struct tenon_space *space, const struct tenon_space_region **out);

/** As space_backend_ops.coherent, for a space with devices. */
int space_coherent(struct tenon_space *space);

#endif

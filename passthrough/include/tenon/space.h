/* SPDX-License-Identifier: MIT */
/*
 * tenon_space: a guest's DMA address space. One per VM; every assigned device of the VM joins it.
 *
 * Call order: create; open devices into it; add RAM (refused where the IOMMU reserves addresses); run the guest; close the
 * devices; destroy. RAM may also be added before devices or while the guest runs.
 * Threads: calls on one space must not overlap.
 * Source: Linux Documentation/userspace-api/iommufd.rst, include/uapi/linux/iommufd.h; Documentation/driver-api/vfio.rst.
 */
#ifndef TENON_SPACE_H
#define TENON_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tenon_space;

/* Which of the kernel's two interfaces to VFIO the devices of a space are used through. */
enum tenon_interface {
	TENON_INTERFACE_AUTO, /* iommufd where kernel and device offer it, else the container: the first device decides */
	TENON_INTERFACE_IOMMUFD,   /* /dev/iommu and /dev/vfio/devices/vfioN (Linux 6.6) */
	TENON_INTERFACE_CONTAINER, /* /dev/vfio/vfio and /dev/vfio/GROUP, VFIO_TYPE1v2_IOMMU */
	TENON_INTERFACE_VFIO_USER, /* of a device: another process's, over its socket; no choice for a space, which may hold both */
};

struct tenon_space_options {
	size_t size; /* sizeof(struct tenon_space_options) */
	int iommufd; /* an open /dev/iommu, borrowed until tenon_space_destroy; 0: the space opens its own when needed */
	int container; /* an open and unused /dev/vfio/vfio, likewise */
	enum tenon_interface interface;
	int reserved; /* zero */
};

/* Guest memory that devices may reach: `hva` of this process appears to devices at `gpa`. */
struct tenon_space_region {
	size_t size;         /* sizeof(struct tenon_space_region) */
	uint64_t gpa;        /* page aligned */
	uint64_t size_bytes; /* page multiple, not zero */
	void *hva;           /* page aligned, borrowed until the region is removed */
	bool read_only;      /* devices may only read */
	uint8_t reserved[7]; /* zero */
	/*
	 * The file that `hva` is a shared mapping of, at fd_offset; borrowed until the region is removed. vfio-user servers map it too, so
	 * it must be sealed against shrinking (F_SEAL_SHRINK), or a server can end this process. 0: none; servers then send a message
	 * for each access. Also for a region that devices may only read, whose file they do not get.
	 */
	int fd;
	int reserved_2;     /* zero */
	uint64_t fd_offset; /* page aligned */
};

/* Inclusive, so that a range can end at the last address there is. */
struct tenon_iova_range {
	uint64_t first;
	uint64_t last;
};

/**
 * Creates an empty space. No kernel object is made before the first device joins, so a VM without devices needs none.
 *
 * @param options  NULL for defaults
 * @param out      owned by the caller; free with tenon_space_destroy
 */
int tenon_space_create(const struct tenon_space_options *options, struct tenon_space **out, struct tenon_error *err);

/** Unmaps everything and frees the space. Every device must be closed first. NULL is accepted. */
void tenon_space_destroy(struct tenon_space *space);

/**
 * Adds guest memory. With a device present it is mapped at once, which pins (and so populates) it; populate large memory
 * in parallel first. On failure nothing is mapped.
 *
 * @return 0; -EINVAL misaligned; -EEXIST overlaps a region; -ERANGE an address that the IOMMU reserves (the message names
 *         the range); -ENOMEM RLIMIT_MEMLOCK too low (the message gives the limit needed); or the kernel's error
 */
int tenon_space_add(struct tenon_space *space, const struct tenon_space_region *region, struct tenon_error *err);

/**
 * Says whether tenon_space_add would refuse these regions, all of them together, before any time is spent on populating
 * and pinning them. Devices that join later may still narrow what is allowed.
 *
 * @return as tenon_space_add
 */
int tenon_space_check(struct tenon_space *space, const struct tenon_space_region *regions, size_t count,
		      struct tenon_error *err);

/** The kernel's interface in use: TENON_INTERFACE_AUTO as long as no device of the kernel's decided it. */
enum tenon_interface tenon_space_interface(const struct tenon_space *space);

/** Removes a region that was added with exactly this range. @return 0, or -ENOENT */
int tenon_space_remove(struct tenon_space *space, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err);

/**
 * Fetches the addresses that devices of this space may use, in ascending order. They narrow as devices join.
 *
 * @param ranges    filled with at most `capacity` ranges
 * @return the number of ranges there are (may exceed capacity), or -errno
 */
int tenon_space_allowed(struct tenon_space *space, struct tenon_iova_range *ranges, size_t capacity,
			struct tenon_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: MIT */
/*
 * The space as devices see it: one table of operations per kind of address space, so that a container or a vfio-user
 * socket can stand beside iommufd. Each device joins through its own kind; the space fans regions out to all kinds in use.
 */
#ifndef SPACE_H
#define SPACE_H

#include <tenon/space.h>

struct space_backend;

struct space_backend_ops {
	int (*map)(struct space_backend *backend, const struct tenon_space_region *region, struct tenon_error *err);
	int (*unmap)(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err);
	/* As tenon_space_allowed. */
	int (*allowed)(struct space_backend *backend, struct tenon_iova_range *ranges, size_t capacity,
		       struct tenon_error *err);
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
	int group_fd;      /* borrowed from the container; -1: not by group */
};

/** The first of the space's devices, in the order in which they joined; NULL: none. */
struct space_member *space_members(const struct tenon_space *space);

/** Puts a joined device on the list, and takes it off (nothing happens when it is not on it). */
void space_enlist(struct tenon_space *space, struct space_member *member);
void space_delist(struct tenon_space *space, struct space_member *member);

/**
 * Binds an open VFIO character device to the space's iommufd and attaches it to the space's IOAS; creates both when this is
 * the first device. RAM that was added before is mapped now. A device leaves by closing its fd.
 *
 * @param name    of the device, for messages
 * @param member  gets its device_id
 */
int space_join_iommufd(struct tenon_space *space, int cdev, const char *name, struct space_member *member,
		       struct tenon_error *err);

#endif

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

/**
 * Binds an open VFIO character device to the space's iommufd and attaches it to the space's IOAS; creates both when this is
 * the first device. RAM that was added before is mapped now. A device leaves by closing its fd.
 *
 * @param name  of the device, for messages
 */
int space_join_iommufd(struct tenon_space *space, int cdev, const char *name, struct tenon_error *err);

#endif

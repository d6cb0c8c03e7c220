/* SPDX-License-Identifier: MIT */
/* One IOAS of an iommufd as a backend of a space. */
#ifndef IOMMUFD_H
#define IOMMUFD_H

#include "space.h"

/** @param fd  an open /dev/iommu to borrow; 0: open one */
int iommufd_create(int fd, struct space_backend **out, struct tenon_error *err);

/** Binds a VFIO character device and attaches it to the IOAS. */
int iommufd_attach(struct space_backend *backend, int cdev, const char *name, uint32_t *device_id,
		   struct tenon_error *err);

#endif

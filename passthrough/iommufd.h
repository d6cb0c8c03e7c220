/* SPDX-License-Identifier: MIT */
/* One IOAS of an iommufd as a backend of a space. */
#ifndef IOMMUFD_H
#define IOMMUFD_H

#include "space.h"

/** @param fd  an open /dev/iommu to borrow; 0: open one */
int iommufd_create(int fd, struct space_backend **out, struct tenon_error *err);

/** Whether opening /dev/iommu failed with an error that says that this kernel has none. */
bool iommufd_is_missing(int code);

/**
 * Binds a VFIO character device and attaches it to the IOAS.
 *
 * @param token   NULL: none
 * @param member  gets its device_id and hwpt; its group and passed are for messages
 * @return 0, or 1 when the kernel knows no tokens here and did not check it
 */
int iommufd_attach(struct space_backend *backend, int cdev, const struct vf_token *token, const char *name,
		   struct space_member *member, struct tenon_error *err);

/** Takes a device out of the IOAS. It stays bound, by whoever has it open. */
void iommufd_detach(struct space_backend *backend, int cdev, struct space_member *member);

#endif

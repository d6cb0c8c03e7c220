/* SPDX-License-Identifier: MIT */
/* A VFIO container with a type1 IOMMU as a backend of a space: the interface of kernels without iommufd. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "space.h"

/** @param fd  an open and unused /dev/vfio/vfio to borrow; 0: open one */
int container_create(int fd, struct space_backend **out, struct tenon_error *err);

/**
 * Opens a group and puts it into the container; one that is there already is shared.
 *
 * @param mediated  its device has no IOMMU
 * @return the group's fd, borrowed until container_leave; or -errno
 */
int container_join(struct space_backend *backend, int group, bool mediated, const char *name, struct tenon_error *err);

/** Gives back what container_join gave. The group leaves when its last device's file is closed too. */
void container_leave(struct space_backend *backend, int group);

#endif

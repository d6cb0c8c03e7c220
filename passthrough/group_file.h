/* SPDX-License-Identifier: MIT */
/* The file of an IOMMU group, /dev/vfio/GROUP: who has it open has the group, and gets its devices' files from it. */
#ifndef GROUP_FILE_H
#define GROUP_FILE_H

#include <tenon/error.h>

struct vf_token;

/** Opens the file of a group that is free. @return the fd, or -errno */
int group_file_open(int group, const char *name, struct tenon_error *err);

/**
 * Opens a device of a group that is in a container with its IOMMU set.
 *
 * @param device  as VFIO calls it: a BDF, or an mdev's UUID
 * @param token   NULL: none
 * @return the fd, or -errno
 */
int group_file_device(int fd, int group, const char *device, const struct vf_token *token, struct tenon_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/* What isolates together: the IOMMU group of a device, and whether its other members stand in the way. */
#ifndef GROUP_H
#define GROUP_H

#include <tenon/error.h>

/** The IOMMU group's number, or -1 when the device has none (no IOMMU, or it is off). */
int group_of(const char *bdf);

/**
 * Checks that no member of the device's group is held by a host driver that may do DMA.
 *
 * @return 0; -ENODEV without a group; -EBUSY with a message that names the group, each member that blocks, its driver, and the command
 */
int group_check(const char *bdf, struct tenon_error *err);

#endif

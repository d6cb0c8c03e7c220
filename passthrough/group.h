/* SPDX-License-Identifier: MIT */
/* What isolates together: the IOMMU group of a device, and whether its other members stand in the way. */
#ifndef GROUP_H
#define GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include <tenon/error.h>

/** The number of the IOMMU group of the device in a folder of sysfs, or -1 when it has none (no IOMMU, or it is off). */
int group_of(const char *folder);

/** Whether a driver is one of VFIO's, by its name: vfio-pci, mlx5_vfio_pci, ... */
bool group_driver_is_vfio(const char *driver);

/** Lists the members of a group with their drivers, "0000:3b:00.0 (vfio-pci), ...", for messages; "unknown" when it cannot. */
void group_describe(int group, char *text, size_t capacity);

/**
 * Says whether the firmware keeps memory of its own for a device of the group, at the same addresses (an RMRR of VT-d, a unity map
 * of AMD-Vi, that is not relaxable). The kernel refuses such a group to user space, by an error that it has for other causes, too.
 */
bool group_is_firmware_s(int group);

/** Refuses a device of such a group. */
int group_refuse_firmware_s(int group, const char *name, struct tenon_error *err);

/**
 * Checks that no member of the device's group is held by a host driver that may do DMA.
 *
 * @param group  -1: none
 * @return 0; -ENODEV without a group; -EBUSY with a message that names the group, its members with their drivers, which of them
 *         block, and the command
 */
int group_check(const char *bdf, int group, struct tenon_error *err);

#endif

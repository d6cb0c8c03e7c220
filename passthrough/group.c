// SPDX-License-Identifier: MIT
/*
 * IOMMU groups, read from sysfs. Nothing is unbound here: a group that is not free is refused in words that name who
 * blocks it. Source: Linux Documentation/driver-api/vfio.rst, "Groups, Devices, and IOMMUs".
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "kernel.h"

int group_of(const char *bdf)
{
	char path[128], name[32];
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	if (kernel_link_name(path, name, sizeof(name)) < 0)
		return -1;
	return atoi(name);
}

/* Drivers that do no DMA of their own: VFIO's, the stub, and port drivers of bridges (the kernel lets those stay). */
static bool is_harmless(const char *driver)
{
	return strncmp(driver, "vfio", 4) == 0 || strcmp(driver, "pci-stub") == 0 || strcmp(driver, "pcieport") == 0;
}

struct blockers {
	char list[256];
	char first[32];
	unsigned count;
};

static int check_member(void *context, const char *bdf)
{
	struct blockers *blockers = context;
	char path[320], driver[64];
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.63s/driver", bdf);
	if (kernel_link_name(path, driver, sizeof(driver)) < 0 || is_harmless(driver))
		return 0;
	size_t used = strlen(blockers->list);
	snprintf(blockers->list + used, sizeof(blockers->list) - used, "%s%.31s (driver %s)", used ? ", " : "", bdf,
		 driver);
	if (blockers->count++ == 0)
		snprintf(blockers->first, sizeof(blockers->first), "%.31s", bdf);
	return 0;
}

int group_check(const char *bdf, struct tenon_error *err)
{
	int group = group_of(bdf);
	if (group < 0)
		return tenon_fail(err, -ENODEV,
				  "%s: has no IOMMU group, so its DMA cannot be confined; turn the IOMMU on in the "
				  "firmware and boot the host with intel_iommu=on",
				  bdf);
	char path[64];
	struct blockers blockers = {0};
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d/devices", group);
	int code = kernel_list(path, check_member, &blockers);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot read the members of IOMMU group %d in %s: %s; mount sysfs",
				  bdf, group, path, strerror(-code));
	if (blockers.count)
		return tenon_fail(err, -EBUSY,
				  "%s: shares IOMMU group %d with %s, which the host still uses; a group is given as a "
				  "whole: driverctl set-override %s vfio-pci",
				  bdf, group, blockers.list, blockers.first);
	return 0;
}

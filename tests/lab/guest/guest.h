/* SPDX-License-Identifier: MIT */
/* What the guest's small programs share. Each says for itself, in die(), how it fails. */
#ifndef GUEST_H
#define GUEST_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#define PAGE_BYTES 4096u

/* Ends the program, with errno in words. */
static void die(const char *what);

/* Guest physical address of a page of this process, which is populated and stays where it is. */
static inline uint64_t physical(const void *address)
{
	int map = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;
	if (map < 0 || pread(map, &entry, 8, (uintptr_t)address / PAGE_BYTES * 8) != 8)
		die("/proc/self/pagemap");
	close(map);
	return (entry & ((1ull << 55) - 1)) * PAGE_BYTES;
}

/* A group in a container of its own. */
static inline int open_noiommu_group(const char *group_path)
{
	int container = open("/dev/vfio/vfio", O_RDWR);
	int group = open(group_path, O_RDWR);
	if (container < 0 || group < 0)
		die(group < 0 ? group_path : "/dev/vfio/vfio");
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) || ioctl(container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU))
		die("no-IOMMU container");
	return group;
}

/* A device that give_to_vfio (init) bound. */
static inline int open_noiommu(const char *group_path, const char *bdf)
{
	int device = ioctl(open_noiommu_group(group_path), VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (device < 0)
		die(bdf);
	return device;
}

#endif

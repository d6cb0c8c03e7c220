// SPDX-License-Identifier: MIT
/*
 * The floor of mapping guest memory for a device: populated memory of the given kind, an ioctl each for what lies
 * below and above 4 GiB, nothing else of a VMM.
 *
 * bare_map NODE MIB 4k|thp|2m
 * NODE is /dev/vfio/devices/vfioN. thp: transparent huge pages; 2m: from the pool of huge pages. It is populated before it is
 * mapped. What that takes is seen from outside, by the kernel's own events. Exit status 1, and a line:
 * a step failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif
#define HUGE_PAGE (2ull << 20)

static long require(long result, const char *step)
{
	if (result >= 0)
		return result;
	fprintf(stderr, "bare_map: %s: %s\n", step, strerror(errno));
	exit(1);
}

static void *allocate(uint64_t bytes, const char *kind)
{
	int fd = -1;
	uint8_t *reserved = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *ram = reserved + (-(uintptr_t)reserved & (HUGE_PAGE - 1));
	if (strcmp(kind, "2m") == 0) {
		fd = require(memfd_create("ram", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB), "memfd");
		require(ftruncate(fd, bytes), "size");
	}
	int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
	if (reserved == MAP_FAILED || mmap(ram, bytes, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED)
		require(-1, "map");
	if (strcmp(kind, "thp") == 0)
		require(madvise(ram, bytes, MADV_HUGEPAGE), "ask for huge pages");
	require(madvise(ram, bytes, MADV_POPULATE_WRITE), "populate");
	return ram;
}

/* Low and high memory, around the hole below 4 GiB where the IOMMU reserves addresses. */
struct part {
	uint64_t iova, bytes;
};

static void map_by_iommufd(const char *node, uint8_t *ram, const struct part *parts)
{
	int device = require(open(node, O_RDWR | O_CLOEXEC), "open");
	int iommu = require(open("/dev/iommu", O_RDWR | O_CLOEXEC), "open /dev/iommu");
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommu};
	require(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), "bind");
	struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
	require(ioctl(iommu, IOMMU_IOAS_ALLOC, &ioas), "allocate address space");
	struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = ioas.out_ioas_id};
	require(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "attach");
	for (int i = 0; i < 2; i++) {
		struct iommu_ioas_map map = {
			.size = sizeof(map),
			.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
			.ioas_id = ioas.out_ioas_id,
			.user_va = (uintptr_t)ram,
			.length = parts[i].bytes,
			.iova = parts[i].iova,
		};
		require(ioctl(iommu, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
		ram += parts[i].bytes;
	}
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: bare_map NODE MIB 4k|thp|2m\n");
		return 2;
	}
	uint64_t bytes = strtoull(argv[2], NULL, 0) << 20;
	const struct part parts[2] = {{0, bytes / 2}, {1ull << 32, bytes / 2}};
	uint8_t *ram = allocate(bytes, argv[3]);
	map_by_iommufd(argv[1], ram, parts);
	return 0;
}

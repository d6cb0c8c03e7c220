// SPDX-License-Identifier: MIT
/*
 * Opens a VFIO character device the way a VMM does: bind to iommufd, attach to an address space, ask for its regions.
 * Prints "ok", or the step that failed. It proves that whoever had the device before has let go of it.
 * With a second argument it keeps the device that many seconds, to be in somebody's way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

static void require(int result, const char *step)
{
	if (result >= 0)
		return;
	printf("%s: %s\n", step, strerror(errno));
	exit(1);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: vfio_open /dev/vfio/devices/vfioN [SECONDS]\n");
		return 2;
	}
	int device = open(argv[1], O_RDWR | O_CLOEXEC);
	require(device, "open");
	int iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	require(iommu, "open /dev/iommu");

	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommu};
	require(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), "bind");
	struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
	require(ioctl(iommu, IOMMU_IOAS_ALLOC, &ioas), "allocate address space");
	struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = ioas.out_ioas_id};
	require(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "attach");
	struct vfio_device_info info = {.argsz = sizeof(info)};
	require(ioctl(device, VFIO_DEVICE_GET_INFO, &info), "info");
	printf("ok\n");
	fflush(stdout);
	if (argc > 2)
		sleep(atoi(argv[2]));
	return 0;
}

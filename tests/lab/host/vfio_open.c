// SPDX-License-Identifier: MIT
/*
 * Opens a device the way a VMM does: attach it to an address space, ask it for its regions. The node says by which of VFIO's
 * interfaces: /dev/vfio/devices/vfioN by iommufd, /dev/vfio/N by the device's group and a container.
 * Prints "ok", or the step that failed. It proves that whoever had the device before has let go of it.
 * With a third argument it keeps the device that many seconds, to be in somebody's way.
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

static int require(int result, const char *step)
{
	if (result >= 0)
		return result;
	printf("%s: %s\n", step, strerror(errno));
	exit(1);
}

static int open_by_iommufd(const char *node)
{
	int device = require(open(node, O_RDWR | O_CLOEXEC), "open");
	int iommu = require(open("/dev/iommu", O_RDWR | O_CLOEXEC), "open /dev/iommu");
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommu};
	require(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), "bind");
	struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
	require(ioctl(iommu, IOMMU_IOAS_ALLOC, &ioas), "allocate address space");
	struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = ioas.out_ioas_id};
	require(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "attach");
	return device;
}

static int open_by_group(const char *node, const char *address)
{
	int group = require(open(node, O_RDWR | O_CLOEXEC), "open group");
	int container = require(open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC), "open /dev/vfio/vfio");
	require(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "join container");
	require(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "set type 1");
	return require(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address), "get device");
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: vfio_open NODE ADDRESS [SECONDS]\n");
		return 2;
	}
	int device = strncmp(argv[1], "/dev/vfio/devices/", 18) == 0 ? open_by_iommufd(argv[1])
								     : open_by_group(argv[1], argv[2]);
	struct vfio_device_info info = {.argsz = sizeof(info)};
	require(ioctl(device, VFIO_DEVICE_GET_INFO, &info), "info");
	printf("ok\n");
	fflush(stdout);
	if (argc > 3)
		sleep(atoi(argv[3]));
	return 0;
}

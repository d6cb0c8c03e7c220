// SPDX-License-Identifier: MIT
/*
 * Group files. A group can be opened once in the whole system, so whoever has it has all its devices. What a container does
 * with groups is in container.c. Source: Linux Documentation/driver-api/vfio.rst, include/uapi/linux/vfio.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "group_file.h"
#include "kernel.h"
#include "patience.h"
#include "uapi.h"
#include "vf_token.h"

/* The status is a set of bits: a group that is viable and in a container has two of them. */
static int check_status(int fd, int group, const char *name, struct tenon_error *err)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	int code = kernel_ioctl(fd, VFIO_GROUP_GET_STATUS, &status);
	if (code < 0)
		return tenon_fail(err, code,
				  "%s: VFIO_GROUP_GET_STATUS of IOMMU group %d failed: %s; report this kernel", name,
				  group, strerror(-code));
	if (status.flags & VFIO_GROUP_FLAGS_CONTAINER_SET)
		return tenon_fail(err, -EBUSY, "%s: IOMMU group %d is in a container already; end what uses it", name,
				  group);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return tenon_fail(
			err, -EBUSY,
			"%s: IOMMU group %d is not viable, as a host driver has one of its devices; tenon bind "
			"every one of /sys/kernel/iommu_groups/%d/devices",
			name, group, group);
	return 0;
}

int group_file_open(int group, const char *name, struct tenon_error *err)
{
	char path[32];
	snprintf(path, sizeof(path), "/dev/vfio/%d", group);
	int fd = kernel_open(path, O_RDWR);
	if (fd == -ENOENT)
		return tenon_fail(err, fd,
				  "%s: %s does not exist; bind the device with tenon bind, and see that the kernel has "
				  "CONFIG_VFIO_GROUP",
				  name, path);
	if (fd == -EBUSY)
		return tenon_fail(err, fd,
				  "%s: IOMMU group %d is in use, and can be opened once only, and not while one of its "
				  "devices is open through /dev/vfio/devices; end what uses it (fuser -v %s "
				  "/dev/vfio/devices/* shows that)",
				  name, group, path);
	if (fd < 0)
		return tenon_fail(err, fd, "%s: cannot open %s: %s; give this user read-write access to it", name, path,
				  strerror(-fd));
	int code = check_status(fd, group, name, err);
	if (code < 0) {
		kernel_close(fd);
		return code;
	}
	return fd;
}

int group_file_device(int fd, int group, const char *device, const struct vf_token *token, struct tenon_error *err)
{
	char text[128];
	snprintf(text, sizeof(text), token ? "%s vf_token=%s" : "%s", device, token ? token->text : "");
	/* Opening resets the function, and fails as a whole where that finds a lock taken: vfio_pci_core_enable(). */
	int code = patient_ioctl(fd, VFIO_GROUP_GET_DEVICE_FD, text, PATIENT_WITH_LOCKS);
	if (code >= 0)
		return code;
	if (code == -ENODEV)
		return tenon_fail(err, code, "%s: no VFIO driver offers it in IOMMU group %d; bind it: tenon bind %s",
				  device, group, device);
	if (code == -EACCES)
		return vf_token_refused(token, device, err);
	if (code == -EINVAL && token)
		return tenon_fail(
			err, code,
			"%s: the kernel takes no VF token for it: it is neither PF nor VF, or its PF has another "
			"driver than vfio-pci; leave the token out",
			device);
	if (code == -EAGAIN)
		return patience_ended("open it", device, err);
	return tenon_fail(err, code, "%s: cannot open it through IOMMU group %d: %s; see the host's kernel log", device,
			  group, strerror(-code));
}

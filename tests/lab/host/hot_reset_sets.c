// SPDX-License-Identifier: MIT
/*
 * Asks the kernel, as the VMM that owns these devices could, whom a hot reset of each of them hits, and whether it then does
 * that reset. What a guest is told must be the same; this program has nothing from libtenon.
 *
 *	hot_reset_sets ADDRESS...
 *
 * One line each: ADDRESS IDENTITY OUTCOME MEMBER...   OUTCOME is "done", the errno of the reset that the kernel knows of but
 * does not do for this owner, or, with no member, the errno of having no such reset.
 */
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>

#include <linux/iommufd.h>

#include "reset_set.h"

#define DEVICES_MAX 64

static const char *subject = "hot_reset_sets";

static void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", subject, what, strerror(errno));
	exit(1);
}

static int open_device(const char *address, int iommu)
{
	char pattern[128], node[64];
	glob_t found;
	subject = address;
	snprintf(pattern, sizeof(pattern), "/sys/bus/pci/devices/%s/vfio-dev/vfio*", address);
	if (glob(pattern, 0, NULL, &found) != 0)
		die("no VFIO device");
	snprintf(node, sizeof(node), "/dev/vfio/devices/%s", strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	int device = open(node, O_RDWR | O_CLOEXEC);
	if (device < 0)
		die(node);
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommu};
	if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		die("bind");
	return device;
}

/* All affected devices must be this iommufd's. */
static const char *try_reset(int device)
{
	struct vfio_pci_hot_reset request = {.argsz = sizeof(request)};
	return ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, &request) ? strerrorname_np(errno) : "done";
}

int main(int argc, char **argv)
{
	int devices[DEVICES_MAX];
	if (argc < 2 || argc > DEVICES_MAX) {
		fprintf(stderr, "usage: hot_reset_sets ADDRESS...\n");
		return 2;
	}
	int iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (iommu < 0)
		die("/dev/iommu");
	for (int i = 1; i < argc; i++)
		devices[i] = open_device(argv[i], iommu);
	for (int i = 1; i < argc; i++) {
		struct reset_set set;
		subject = argv[i];
		printf("%s ", argv[i]);
		print_identity(devices[i]);
		int none = get_reset_set(devices[i], &set);
		printf(" %s", none ? strerrorname_np(none) : try_reset(devices[i]));
		print_members(&set);
		printf("\n");
	}
	return 0;
}

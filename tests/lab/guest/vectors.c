// SPDX-License-Identifier: MIT
/*
 * Enables MSI-X vectors of a device through VFIO without an IOMMU, each with an eventfd of its own, and disables them again.
 *
 * vectors /dev/vfio/noiommu-N BDF COUNT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "guest.h"

#define VECTORS_MAX 2048

static void die(const char *what)
{
	printf("@failed=vectors: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(int argc, char **argv)
{
	unsigned count = argc == 4 ? (unsigned)atoi(argv[3]) : 0;
	if (count == 0 || count > VECTORS_MAX) {
		fprintf(stderr, "usage: vectors /dev/vfio/noiommu-N BDF COUNT\n");
		return 2;
	}
	int device = open_noiommu(argv[1], argv[2]);
	struct {
		struct vfio_irq_set set;
		int32_t events[VECTORS_MAX];
	} request = {
		.set = {.argsz = sizeof(request.set) + count * sizeof(int32_t),
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = count,
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD},
	};
	for (unsigned i = 0; i < count; i++) {
		request.events[i] = eventfd(0, EFD_CLOEXEC);
		if (request.events[i] < 0)
			die("eventfd");
	}
	if (ioctl(device, VFIO_DEVICE_SET_IRQS, &request))
		die("enabling");
	printf("@vectors=%u\n", count);
	request.set.argsz = sizeof(request.set);
	request.set.count = 0;
	request.set.flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
	if (ioctl(device, VFIO_DEVICE_SET_IRQS, &request))
		die("disabling");
	return 0;
}

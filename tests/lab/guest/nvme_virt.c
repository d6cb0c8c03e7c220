// SPDX-License-Identifier: MIT
/*
 * What the owner of an NVMe PF does for its VFs, by the Virtualization Management command (NVM Express Base Specification, 5.22):
 *
 * nvme_virt DEVICE release                             gives the PF's flexible queues and interrupts up, from its next reset on
 * nvme_virt DEVICE online CONTROLLER QUEUES INTERRUPTS  gives them to a VF's controller and switches that on
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/nvme_ioctl.h>

enum { OPCODE = 0x1c };
enum { RELEASE_OF_PRIMARY = 1, ASSIGN_TO_SECONDARY = 8, ONLINE = 9 };
enum { QUEUES = 0, INTERRUPTS = 1 };

static void manage(int fd, unsigned controller, unsigned action, unsigned type, unsigned count)
{
	struct nvme_admin_cmd command = {
		.opcode = OPCODE, .cdw10 = action | type << 8 | controller << 16, .cdw11 = count};
	int status = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command);
	if (status == 0)
		return;
	fprintf(stderr, "nvme_virt: controller %u, action %u, type %u, count %u: ", controller, action, type, count);
	if (status < 0)
		fprintf(stderr, "%s\n", strerror(errno));
	else
		fprintf(stderr, "NVMe status 0x%x\n", (unsigned)status);
	exit(1);
}

int main(int argc, char **argv)
{
	int fd = argc > 2 ? open(argv[1], O_RDWR) : -1;
	if (fd < 0) {
		fprintf(stderr, "nvme_virt: %s: %s\n", argc > 1 ? argv[1] : "no device", strerror(errno));
		return 1;
	}
	if (strcmp(argv[2], "release") == 0) {
		manage(fd, 0, RELEASE_OF_PRIMARY, INTERRUPTS, 0);
		manage(fd, 0, RELEASE_OF_PRIMARY, QUEUES, 0);
		return 0;
	}
	if (strcmp(argv[2], "online") == 0 && argc == 6) {
		unsigned controller = (unsigned)atoi(argv[3]);
		manage(fd, controller, ASSIGN_TO_SECONDARY, QUEUES, (unsigned)atoi(argv[4]));
		manage(fd, controller, ASSIGN_TO_SECONDARY, INTERRUPTS, (unsigned)atoi(argv[5]));
		manage(fd, controller, ONLINE, 0, 0);
		return 0;
	}
	fprintf(stderr, "nvme_virt: release, or online CONTROLLER QUEUES INTERRUPTS\n");
	return 2;
}

// SPDX-License-Identifier: MIT
/*
 * The privileged half of `unprivileged`: opens what only root may open, gives up every privilege for good, and becomes the program.
 *
 *     launch /dev/vfio/devices/vfioN PROGRAM [LOCKED-KIB]
 *
 * PROGRAM finds /dev/iommu as file descriptor 3 and the device as 4. A service manager or a jailer does the same in production.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define NOBODY     65534
#define LOCKED_KIB 4096 /* what the program may pin for DMA, unless told */

static void require(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void pass_as(int fd, const char *path)
{
	int opened = open(path, O_RDWR);
	require(opened >= 0 && (opened == fd || dup2(opened, fd) == fd), path);
	if (opened != fd)
		close(opened);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: launch /dev/vfio/devices/vfioN PROGRAM [LOCKED-KIB]\n");
		return 2;
	}
	pass_as(3, "/dev/iommu");
	pass_as(4, argv[1]);

	/* Guest memory is pinned and counts as locked: without CAP_IPC_LOCK the limit must cover it. */
	rlim_t bytes = (argc > 3 ? strtoul(argv[3], NULL, 10) : LOCKED_KIB) << 10;
	struct rlimit locked = {.rlim_cur = bytes, .rlim_max = bytes};
	require(setrlimit(RLIMIT_MEMLOCK, &locked) == 0, "RLIMIT_MEMLOCK");

	for (int capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++)
		;
	require(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0, "group");
	require(setresuid(NOBODY, NOBODY, NOBODY) == 0, "user"); /* the capabilities go with root */
	require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
	require(setuid(0) != 0, "root could be had back");

	execl(argv[2], argv[2], (char *)NULL);
	require(0, argv[2]);
}

/* SPDX-License-Identifier: MIT */
/* File descriptors in the tests' own hands: sent along with a message, and counted. */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

#include <dirent.h>
#include <string.h>
#include <sys/socket.h>

#define DESCRIPTORS_MAX 256 /* more than the kernel sends in one message */

union descriptors {
	char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
	struct cmsghdr aligned;
};

/** Sends these along with the message, unless there are none. @param room  for them; lives until the message is sent */
static inline void descriptors_attach(struct msghdr *message, union descriptors *room, const int *fds, unsigned count)
{
	if (count == 0)
		return;
	memset(room, 0, sizeof(*room));
	message->msg_control = room->bytes;
	message->msg_controllen = CMSG_SPACE(count * sizeof(int));
	struct cmsghdr *rights = CMSG_FIRSTHDR(message);
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
}

/** How many this process has open; the one that it looks with is counted each time. */
static inline unsigned descriptors_open(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;
	for (const struct dirent *entry; folder && (entry = readdir(folder));)
		count += entry->d_name[0] != '.';
	if (folder)
		closedir(folder);
	return count;
}

#endif

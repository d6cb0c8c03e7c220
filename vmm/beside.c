// SPDX-License-Identifier: MIT
/* Where this program is. It may be run from the build tree or be installed, anywhere. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "beside.h"

int beside_folder(const char *what, char *folder, size_t capacity, struct tenon_error *err)
{
	ssize_t length = readlink("/proc/self/exe", folder, capacity - 1);
	if (length < 0)
		return tenon_fail(err, -errno, "cannot find %s: /proc/self/exe: %s; mount /proc", what,
				  strerror(errno));
	folder[length] = '\0';
	char *slash = strrchr(folder, '/');
	*(slash ? slash + 1 : folder) = '\0';
	return 0;
}

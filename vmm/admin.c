// SPDX-License-Identifier: MIT
/* Finds tenon-admin beside this program, as it is built, or in libexec, as it is installed, and runs it in this one's place. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "admin.h"
#include "beside.h"

static const char *const commands[] = {"devices", "groups", "topology", "bind", "unbind", "doctor", "vf", "reset"};

bool admin_has(const char *command)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(command, commands[i]) == 0)
			return true;
	}
	return false;
}

int admin_exec(char **argv, struct tenon_error *err)
{
	static const char *const places[] = {"tenon-admin", "../libexec/tenon/tenon-admin"};
	char folder[PATH_MAX], path[PATH_MAX];
	int code = beside_folder("tenon-admin", folder, sizeof(folder), err);
	if (code < 0)
		return tenon_fail_wrap(err, "%s", argv[1]), code;
	code = -ENOENT;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if ((size_t)snprintf(path, sizeof(path), "%s%s", folder, places[i]) >= sizeof(path))
			continue;
		execv(path, argv);
		if (errno != ENOENT)
			code = -errno;
	}
	if (code != -ENOENT)
		return tenon_fail(err, code, "%s: cannot run tenon-admin: %s; reinstall tenon", argv[1],
				  strerror(-code));
	return tenon_fail(err, code,
			  "%s: needs the program tenon-admin, which is neither beside tenon in %s nor in "
			  "../libexec/tenon of it; install or build all of tenon",
			  argv[1], folder);
}

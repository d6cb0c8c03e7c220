// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "testdev_run.h"

#define OPTIONS_MAX 16

void testdev_restart(struct testdev_run *device, const char *const *options)
{
	const char *args[OPTIONS_MAX + 3] = {"--strict", device->path};
	unsigned count = 2;
	for (unsigned i = 0; options && options[i] && i < OPTIONS_MAX; i++)
		args[count++] = options[i];
	run_start_program(&device->run, TENON_TESTDEV, args, NULL);
	run_expect(&device->run, "listening on", 1);
}

void testdev_start(struct testdev_run *device, const char *const *options)
{
	snprintf(device->folder, sizeof(device->folder), "/tmp/tenon-testdev-XXXXXX");
	cr_assert(mkdtemp(device->folder));
	snprintf(device->path, sizeof(device->path), "%s/socket", device->folder);
	testdev_restart(device, options);
}

int testdev_stop(struct testdev_run *device)
{
	run_signal(&device->run, SIGTERM);
	return run_wait(&device->run, ENDING_MS);
}

void testdev_kill(struct testdev_run *device)
{
	run_signal(&device->run, SIGKILL);
	run_wait(&device->run, ENDING_MS);
	run_finish(&device->run);
	unlink(device->path);
}

void testdev_finish(struct testdev_run *device)
{
	run_finish(&device->run);
	unlink(device->path);
	rmdir(device->folder);
}

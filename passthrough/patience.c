// SPDX-License-Identifier: MIT
/* Owns how long a lock that somebody else holds is waited for. */
#include <errno.h>
#include <stdbool.h>
#include <time.h>

#include "kernel.h"
#include "patience.h"

#define TRIES    10
#define PAUSE_MS 10

static bool is_passing(int code, enum patience patience)
{
	return code == -EAGAIN || (code == -EBUSY && patience == PATIENT_WITH_NEIGHBOURS);
}

int patient_ioctl(int fd, unsigned long request, void *argument, enum patience patience)
{
	int code = kernel_ioctl(fd, request, argument);
	for (unsigned tries = 1; is_passing(code, patience) && tries < TRIES; tries++) {
		kernel_sleep_ms(PAUSE_MS);
		code = kernel_ioctl(fd, request, argument);
	}
	return code;
}

int patience_ended(const char *what, const char *name, struct tenon_error *err)
{
	return tenon_fail(err, -EAGAIN,
			  "%s: cannot %s: the kernel cannot reset it while somebody holds its lock or its bus's; try "
			  "again when what resets, binds or rescans there has ended",
			  name, what);
}

bool patient_lock(pthread_mutex_t *lock, unsigned milliseconds)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += milliseconds % 1000 * 1000000L;
	until.tv_sec += milliseconds / 1000 + until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	return pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until) == 0;
}

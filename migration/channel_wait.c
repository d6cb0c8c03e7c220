// SPDX-License-Identifier: MIT
/* Waiting for descriptors: until a deadline, or until another thread ends it. */
#include <errno.h>
#include <limits.h>
#include <time.h>

#include "channel.h"
#include "kernel_calls.h"

#define NS_PER_MS 1000000ll
#define NEVER     INT64_MAX

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

int64_t deadline_after(int64_t timeout_ms)
{
	return timeout_ms < 0 ? NEVER : now_ns() + timeout_ms * NS_PER_MS;
}

int deadline_left_ms(int64_t deadline)
{
	if (deadline == NEVER)
		return -1;
	int64_t left = deadline - now_ns();
	if (left <= 0)
		return 0;
	left = (left + NS_PER_MS - 1) / NS_PER_MS;
	return left > INT_MAX ? INT_MAX : (int)left;
}

int wait_ready(int fd, short events, int end_fd, int64_t deadline)
{
	struct pollfd polls[] = {{.fd = fd, .events = events}, {.fd = end_fd, .events = POLLIN}};
	for (;;) {
		int left_ms = deadline_left_ms(deadline);
		int ready = mcall_poll(polls, 2, left_ms);
		if (ready < 0 && ready != -EINTR)
			return ready;
		if (ready > 0)
			return polls[1].revents ? -ECANCELED : 0;
		if (left_ms == 0)
			return -ETIMEDOUT;
	}
}

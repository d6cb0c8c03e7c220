// SPDX-License-Identifier: MIT
/*
 * A limit of bytes per second that threads share. Each takes the next stretch of time that its bytes fill, and waits for its beginning; time
 * that nobody used is lost but for a little, so that a lane that computes for a moment does not fall behind.
 */
#include <time.h>

#include "ram_pace.h"

#define SECOND_NS 1000000000u
#define SPARE_NS  (20 * 1000000u) /* of time unused that may be made up for */

uint64_t ram_pace_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

struct timespec ram_pace_timespec(uint64_t ns)
{
	return (struct timespec){.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};
}

void ram_pace_init(struct ram_pace *pace, uint64_t bytes_per_second)
{
	pthread_condattr_t monotonic;
	*pace = (struct ram_pace){.bytes_per_second = bytes_per_second};
	pthread_mutex_init(&pace->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pace->ended_changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

void ram_pace_finish(struct ram_pace *pace)
{
	pthread_cond_destroy(&pace->ended_changed);
	pthread_mutex_destroy(&pace->lock);
}

bool ram_pace_take(struct ram_pace *pace, uint64_t bytes)
{
	if (!pace->bytes_per_second)
		return true;
	pthread_mutex_lock(&pace->lock);
	uint64_t now = ram_pace_now_ns();
	if (pace->free_ns + SPARE_NS < now)
		pace->free_ns = now - SPARE_NS;
	uint64_t begin = pace->free_ns;
	pace->free_ns += (uint64_t)((double)bytes * SECOND_NS / (double)pace->bytes_per_second);
	struct timespec until = ram_pace_timespec(begin);
	while (!pace->ended && ram_pace_now_ns() < begin)
		pthread_cond_timedwait(&pace->ended_changed, &pace->lock, &until);
	bool may = !pace->ended;
	pthread_mutex_unlock(&pace->lock);
	return may;
}

static void set_ended(struct ram_pace *pace, bool ended)
{
	pthread_mutex_lock(&pace->lock);
	pace->ended = ended;
	pthread_cond_broadcast(&pace->ended_changed);
	pthread_mutex_unlock(&pace->lock);
}

void ram_pace_end(struct ram_pace *pace)
{
	set_ended(pace, true);
}

void ram_pace_begin(struct ram_pace *pace)
{
	set_ended(pace, false);
}

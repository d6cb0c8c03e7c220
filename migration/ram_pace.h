/* SPDX-License-Identifier: MIT */
/* No more than so many bytes a second, over all threads that ask. */
#ifndef RAM_PACE_H
#define RAM_PACE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct ram_pace {
	pthread_mutex_t lock;
	pthread_cond_t ended_changed;
	bool ended;
	uint64_t bytes_per_second; /* 0: no limit */
	uint64_t free_ns;          /* when what was let through so far will have gone, at that rate */
};

void ram_pace_init(struct ram_pace *pace, uint64_t bytes_per_second);
void ram_pace_finish(struct ram_pace *pace);

/** Waits until `bytes` may go. @return whether they may: false once it is ended */
bool ram_pace_take(struct ram_pace *pace, uint64_t bytes);
/** Nobody waits any more, until `begin`. */
void ram_pace_end(struct ram_pace *pace);
void ram_pace_begin(struct ram_pace *pace);

/** CLOCK_MONOTONIC, for waits. */
uint64_t ram_pace_now_ns(void);
struct timespec ram_pace_timespec(uint64_t ns);

#endif

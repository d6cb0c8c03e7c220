/* SPDX-License-Identifier: MIT */
/*
 * The device's migration states, after VFIO's contract (<linux/vfio.h>, "device migration Finite State Machine"), with
 * pre-copy and the quiescent states for peers, and the block of state whose size and rate of change can be set.
 */
#ifndef MIGRATION_H
#define MIGRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#include "stream.h"

#define BLOCK_CHUNK_BYTES 4096u

struct migration {
	uint32_t state; /* enum vu_device_state */
	uint8_t *block;
	uint64_t block_bytes;
	uint8_t *changed; /* one byte for each chunk: to be sent (again) */
	uint64_t changes; /* chunks that changed so far, which also picks the next */
	uint64_t last_ns, carry;
	struct saver saver;
	struct loader loader;
};

struct testdev;

int migration_init(struct testdev *device, struct tenon_error *err);
void migration_finish(struct testdev *device);
/** RUNNING, and the block as at the start. */
void migration_reset(struct testdev *device);

const char *migration_state_name(uint32_t state);
/** Whether the device changes by itself: RUNNING and PRE_COPY, with or without _P2P. */
bool migration_runs(uint32_t state);
/** Whether a driver may touch the device: the same without _P2P. */
bool migration_touchable(uint32_t state);
bool migration_saves(uint32_t state);

/** VU_MIGRATION_* */
uint64_t migration_flags(const struct testdev *device);

/**
 * Goes to a state by the arcs between.
 *
 * @return 0; -EINVAL no such state, or it cannot follow; -EBADMSG RESUMING ends with data that is no state (now ERROR)
 */
int migration_set(struct testdev *device, uint32_t state);

/** The state after `from` on the way to `to`, or VU_STATE_ERROR when there is no way. */
uint32_t migration_next(uint64_t flags, uint32_t from, uint32_t to);

void migration_change_block(struct testdev *device, uint32_t chunks);
/** Changes what the rate asks for since the last call. */
void migration_run(struct testdev *device);
uint64_t migration_deadline_ns(const struct testdev *device);

/** How much is left to read in a session that stops now. */
uint64_t migration_bytes(const struct testdev *device);

#endif

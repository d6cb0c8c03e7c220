/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM made reachable for the assigned devices, in the background: populated while the devices are opened, then mapped (which
 * pins it) while the guest already boots. No device can do DMA before the guest enables its bus mastering, so that is
 * where the guest waits, if it gets there first. A guest of any size so starts at once.
 *
 * A VM that starts without devices has no such thread: its memory is made reachable when the first device comes, by whoever adds
 * it (dma_memory_map), before the guest sees the device.
 *
 * Threads: start, devices_open and finish from the controlling thread; map from one thread; wait from any; it makes one thread.
 */
#ifndef DMA_MEMORY_H
#define DMA_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <tenon/space.h>

#include "memory.h"

struct dma_memory {
	struct memory *memory;
	struct tenon_space *space;
	/* Mapping failed; called on the background thread. */
	void (*failed)(void *context, const struct tenon_error *error);
	void *context;

	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool populated;           /* or failed, or cancelled */
	bool devices_open;        /* mapping may begin */
	bool ended;               /* mapped, failed or cancelled */
	struct tenon_error error; /* why it failed, once it ended; code 0: it did not */
	bool stop_waiting;
	atomic_bool mapped;
	atomic_bool cancelled;
};

/** Before any other call. memory, space, failed and context are set by the caller. */
void dma_memory_init(struct dma_memory *dma);

/** Starts to populate, on a thread of its own. */
int dma_memory_start(struct dma_memory *dma, struct tenon_error *err);

/** Waits until all memory is populated, or never will be. */
void dma_memory_wait_populated(struct dma_memory *dma);

/** All devices have joined the space: checks that it can take the memory, and lets the mapping begin. */
int dma_memory_devices_open(struct dma_memory *dma, struct tenon_error *err);

/**
 * Populates and maps here and now, if that was not done yet; waits for the thread that does it, if there is one. A device has joined
 * the space and nobody else uses it. On failure nothing is mapped, and the next call tries again.
 */
int dma_memory_map(struct dma_memory *dma, struct tenon_error *err);

/** Waits until devices can reach all memory. @return true; false when they never will */
bool dma_memory_wait(struct dma_memory *dma);

/** Whether it ended without having mapped the memory; `error` then says why. */
bool dma_memory_failed(struct dma_memory *dma);

/** While true, nobody waits: the VM is stopping or resetting, and what a vCPU was about to do is void. */
void dma_memory_stop_waiting(struct dma_memory *dma, bool stop);

/** Wakes every waiter and stops what can be stopped; a mapping that has begun is finished by the kernel. */
void dma_memory_cancel(struct dma_memory *dma);

void dma_memory_finish(struct dma_memory *dma); /* accepts one that was never started */

#endif

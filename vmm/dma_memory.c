// SPDX-License-Identifier: MIT
/* The background thread that populates and maps guest RAM for DMA, and the gate that others wait at. */
#include <errno.h>
#include <string.h>

#include "dma_memory.h"
#include "log.h"
#include "thread.h"

static struct tenon_space_region region_of(const struct memory *memory, const struct memory_part *part)
{
	bool shared = memory->fd >= 0;
	return (struct tenon_space_region){
		.size = sizeof(struct tenon_space_region),
		.gpa = part->gpa,
		.size_bytes = part->size_bytes,
		.hva = part->hva,
		.fd = shared ? memory->fd : 0,
		.fd_offset = shared ? (uint64_t)(part->hva - memory->hva) : 0,
	};
}

static void unmap_parts(struct dma_memory *dma, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct memory_part *part = &dma->memory->parts[i];
		tenon_space_remove(dma->space, part->gpa, part->size_bytes, NULL);
	}
}

static int map_parts(struct dma_memory *dma, struct tenon_error *err)
{
	uint64_t started = log_now_ns();
	int code = 0;
	for (unsigned i = 0; code == 0 && i < dma->memory->part_count; i++) {
		const struct tenon_space_region region = region_of(dma->memory, &dma->memory->parts[i]);
		code = tenon_space_add(dma->space, &region, err);
		if (code < 0)
			unmap_parts(dma, i);
	}
	log_step(log_now_ns() - started, "mapping guest memory for the devices");
	return code;
}

/* @return false: cancelled before the devices were open */
static bool wait_for_devices(struct dma_memory *dma)
{
	pthread_mutex_lock(&dma->lock);
	while (!dma->devices_open && !atomic_load(&dma->cancelled))
		pthread_cond_wait(&dma->changed, &dma->lock);
	bool open = dma->devices_open && !atomic_load(&dma->cancelled);
	pthread_mutex_unlock(&dma->lock);
	return open;
}

static void *populate_and_map(void *argument)
{
	struct dma_memory *dma = argument;
	struct tenon_error error = {0};
	uint64_t started = log_now_ns();
	int code = memory_populate(dma->memory, 0, &dma->cancelled, &error);
	uint64_t populated = log_now_ns();

	pthread_mutex_lock(&dma->lock);
	dma->populated = true;
	pthread_cond_broadcast(&dma->changed);
	pthread_mutex_unlock(&dma->lock);

	/* A failure waits for the devices too: theirs, if there is one, says more. */
	bool open = wait_for_devices(dma);
	if (open) /* else an error says all there is to say */
		log_step(populated - started, "populating %llu MiB of guest memory",
			 (unsigned long long)(dma->memory->options.size_bytes >> 20));
	if (code == 0 && open)
		code = map_parts(dma, &error);
	if (code == 0 && open)
		atomic_store(&dma->mapped, true);

	pthread_mutex_lock(&dma->lock);
	dma->ended = true;
	dma->error = error;
	pthread_cond_broadcast(&dma->changed);
	pthread_mutex_unlock(&dma->lock);
	if (code < 0 && open && !atomic_load(&dma->cancelled))
		dma->failed(dma->context, &dma->error);
	return NULL;
}

void dma_memory_init(struct dma_memory *dma)
{
	pthread_mutex_init(&dma->lock, NULL);
	pthread_cond_init(&dma->changed, NULL);
}

int dma_memory_start(struct dma_memory *dma, struct tenon_error *err)
{
	int code = thread_start(&dma->thread, 0, populate_and_map, dma);
	if (code < 0)
		return tenon_fail(err, code,
				  "guest memory: cannot start a thread to populate it: %s; raise the limit of "
				  "processes (ulimit -u)",
				  strerror(-code));
	dma->started = true;
	return 0;
}

void dma_memory_wait_populated(struct dma_memory *dma)
{
	pthread_mutex_lock(&dma->lock);
	while (!dma->populated)
		pthread_cond_wait(&dma->changed, &dma->lock);
	pthread_mutex_unlock(&dma->lock);
}

static int check_parts(struct dma_memory *dma, struct tenon_error *err)
{
	struct tenon_space_region regions[2];
	for (unsigned i = 0; i < dma->memory->part_count; i++)
		regions[i] = region_of(dma->memory, &dma->memory->parts[i]);
	return tenon_space_check(dma->space, regions, dma->memory->part_count, err);
}

int dma_memory_devices_open(struct dma_memory *dma, struct tenon_error *err)
{
	int code = check_parts(dma, err);
	if (code < 0)
		return code;
	pthread_mutex_lock(&dma->lock);
	dma->devices_open = true;
	pthread_cond_broadcast(&dma->changed);
	pthread_mutex_unlock(&dma->lock);
	return 0;
}

int dma_memory_map(struct dma_memory *dma, struct tenon_error *err)
{
	if (dma->started ? dma_memory_wait(dma) : atomic_load(&dma->mapped))
		return 0;
	int code = dma->started ? -ECANCELED : check_parts(dma, err);
	if (code == 0)
		code = memory_populate(dma->memory, 0, &dma->cancelled, err);
	if (code == 0 && !atomic_load(&dma->cancelled))
		code = map_parts(dma, err);
	else if (code == 0)
		code = -ECANCELED;
	if (code == -ECANCELED)
		return tenon_fail(err, code,
				  "guest memory: not mapped for devices: the VM is ending or resetting; try again");
	atomic_store(&dma->mapped, code == 0);
	return code;
}

bool dma_memory_wait(struct dma_memory *dma)
{
	if (atomic_load(&dma->mapped))
		return true;
	pthread_mutex_lock(&dma->lock);
	while (!dma->ended && !dma->stop_waiting && !atomic_load(&dma->cancelled))
		pthread_cond_wait(&dma->changed, &dma->lock);
	pthread_mutex_unlock(&dma->lock);
	return atomic_load(&dma->mapped);
}

bool dma_memory_failed(struct dma_memory *dma)
{
	pthread_mutex_lock(&dma->lock);
	bool failed = dma->ended && !atomic_load(&dma->mapped);
	pthread_mutex_unlock(&dma->lock);
	return failed;
}

void dma_memory_stop_waiting(struct dma_memory *dma, bool stop)
{
	pthread_mutex_lock(&dma->lock);
	dma->stop_waiting = stop;
	pthread_cond_broadcast(&dma->changed);
	pthread_mutex_unlock(&dma->lock);
}

void dma_memory_cancel(struct dma_memory *dma)
{
	pthread_mutex_lock(&dma->lock);
	atomic_store(&dma->cancelled, true);
	pthread_cond_broadcast(&dma->changed);
	pthread_mutex_unlock(&dma->lock);
}

void dma_memory_finish(struct dma_memory *dma)
{
	if (!dma->started)
		return;
	dma_memory_cancel(dma);
	pthread_join(dma->thread, NULL);
	/* The lock stays valid (a Linux mutex needs no destroying): a vCPU may be on its way out of the wait. */
}

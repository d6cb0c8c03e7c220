/* SPDX-License-Identifier: MIT */
/*
 * The copy engine: works through a list of descriptors in the client's memory. It runs beside the messages, in steps, and
 * stops between two steps when the device must start no DMA; it goes on where it stopped.
 */
#ifndef COPY_ENGINE_H
#define COPY_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "dma.h"
#include "registers.h"

enum copy_phase {
	COPY_IDLE,
	COPY_FETCH, /* the descriptor */
	COPY_READ,  /* a chunk */
	COPY_WRITE,
};

struct copy_descriptor {
	uint64_t source;
	uint64_t target;
	uint32_t length;
	uint32_t flags;
	uint64_t unused;
};

struct copy_engine {
	/* Registers */
	uint64_t list_address;
	uint32_t list_count;
	uint32_t irq;
	uint32_t status;
	uint32_t lists_done;
	uint32_t checksum;
	uint64_t moved_bytes;
	uint64_t fault_address;
	/* Where it is. The list is as it was at the start, whatever the registers say since. */
	enum copy_phase phase;
	uint64_t address;
	uint32_t count;
	uint32_t index;
	struct copy_descriptor descriptor;
	uint32_t position; /* in the descriptor */
	uint32_t chunk;    /* bytes that are in `buffer`, or will be */
	uint32_t part;     /* of the chunk or descriptor, by DMA accesses so far */
	bool waits;        /* for the answer to a message */
	uint8_t buffer[DMA_CHUNK_MAX];
};

struct testdev;

/** Whether the engine can work on it. */
bool copy_descriptor_is_sound(const struct copy_descriptor *descriptor);

void copy_engine_reset(struct testdev *device);
void copy_engine_start(struct testdev *device);
/** Ends the list with TD_REASON_*. */
void copy_engine_abort(struct testdev *device, unsigned reason);
/** Does what can be done, up to about a megabyte. @return whether there is more to do at once */
bool copy_engine_run(struct testdev *device);
/** Whether what it is doing now reaches into this range. */
bool copy_engine_uses(const struct testdev *device, uint64_t address, uint64_t bytes);

#endif

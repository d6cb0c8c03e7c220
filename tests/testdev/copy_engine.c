// SPDX-License-Identifier: MIT
/* The copy engine as a machine of three phases, each made of DMA accesses that may be answered at once or later. */
#include <errno.h>
#include <string.h>

#include "testdev.h"

#define BYTES_AT_A_TIME (1u << 20)

_Static_assert(sizeof(struct copy_descriptor) == TD_DESC_BYTES, "the descriptor is as registers.h says");

void copy_engine_reset(struct testdev *device)
{
	struct copy_engine *engine = &device->engine;
	if (engine->waits)
		dma_cancel(device, -ECANCELED);
	memset(engine, 0, offsetof(struct copy_engine, buffer));
}

static void end(struct testdev *device, unsigned reason)
{
	struct copy_engine *engine = &device->engine;
	engine->phase = COPY_IDLE;
	engine->status = TD_STATUS_DONE | (reason ? TD_STATUS_ERROR | reason << 8 : 0);
	engine->lists_done++;
	irqs_raise(device, engine->irq);
}

static void fault(struct testdev *device, uint64_t address, int code)
{
	device->engine.fault_address = address;
	journal_add(device, TD_BAD_DMA, address, "copy engine: 0x%llx: %s", (unsigned long long)address,
		    strerror(-code));
	end(device, code == -ETIMEDOUT ? TD_REASON_TIMEOUT : TD_REASON_FAULT);
}

void copy_engine_start(struct testdev *device)
{
	struct copy_engine *engine = &device->engine;
	if (engine->phase != COPY_IDLE)
		return; /* a bell that is rung twice */
	engine->checksum = 0;
	engine->moved_bytes = 0;
	engine->fault_address = 0;
	engine->index = 0;
	if (engine->list_count == 0 || engine->list_count > TD_LIST_MAX) {
		end(device, TD_REASON_LIST);
	} else if (!config_space_masters(device)) {
		journal_add(device, TD_BAD_MASTER, engine->list_address, "copy engine");
		end(device, TD_REASON_MASTER);
	} else {
		engine->address = engine->list_address;
		engine->count = engine->list_count;
		engine->status = TD_STATUS_BUSY;
		engine->phase = COPY_FETCH;
		engine->part = 0;
	}
}

void copy_engine_abort(struct testdev *device, unsigned reason)
{
	struct copy_engine *engine = &device->engine;
	if (engine->phase == COPY_IDLE)
		return;
	if (engine->waits)
		dma_cancel(device, -ECANCELED);
	end(device, reason);
}

/* An answer by message. On failure the engine is told at once; else it goes on in its next run. */
static void arrived(struct testdev *device, int code)
{
	struct copy_engine *engine = &device->engine;
	engine->waits = false;
	if (code == 0)
		engine->part += device->dma.pending.access.bytes;
	else if (code != -ECANCELED && engine->phase != COPY_IDLE)
		fault(device, device->dma.pending.access.address, code);
}

/*
 * Moves bytes between memory at `address` and `data`, from `part` on. @return 1 all of it, 0 later, -errno (the list is
 * over)
 */
static int move(struct testdev *device, uint64_t address, uint8_t *data, uint32_t bytes, bool write)
{
	struct copy_engine *engine = &device->engine;
	while (engine->part < bytes) {
		struct dma_access access = {.address = address + engine->part,
					    .data = data + engine->part,
					    .write = write,
					    .done = arrived};
		access.bytes = dma_span(device, access.address, bytes - engine->part, write);
		int code = access.address < address ? -EFAULT : dma_access(device, &access);
		if (code == -EBUSY || code == -EAGAIN)
			return 0; /* the load, or a full socket, is first */
		if (code < 0) {
			fault(device, access.address, code);
			return code;
		}
		if (code == 0) {
			engine->waits = true;
			return 0;
		}
		engine->part += access.bytes;
	}
	engine->part = 0;
	return 1;
}

bool copy_descriptor_is_sound(const struct copy_descriptor *descriptor)
{
	const uint32_t known = TD_DESC_FROM_MEMORY | TD_DESC_TO_MEMORY | TD_DESC_FILL | TD_DESC_CHECK | TD_DESC_IRQ;
	uint32_t length = descriptor->length, flags = descriptor->flags;
	if (length == 0 || length > TD_DESC_LENGTH_MAX || flags & ~known)
		return false;
	if (flags & TD_DESC_FROM_MEMORY && (flags & TD_DESC_FILL || descriptor->source > TD_MEMORY_BYTES ||
					    length > TD_MEMORY_BYTES - descriptor->source))
		return false;
	return !(flags & TD_DESC_TO_MEMORY) || (!(flags & TD_DESC_CHECK) && descriptor->target <= TD_MEMORY_BYTES &&
						length <= TD_MEMORY_BYTES - descriptor->target);
}

static int fetch(struct testdev *device)
{
	struct copy_engine *engine = &device->engine;
	int code = move(device, engine->address + (uint64_t)engine->index * TD_DESC_BYTES, engine->buffer,
			TD_DESC_BYTES, false);
	if (code <= 0)
		return code;
	memcpy(&engine->descriptor, engine->buffer, sizeof(engine->descriptor));
	if (!copy_descriptor_is_sound(&engine->descriptor)) {
		end(device, TD_REASON_LIST);
		return -EINVAL;
	}
	engine->position = 0;
	engine->chunk = 0;
	engine->phase = COPY_READ;
	return 1;
}

static int read_chunk(struct testdev *device)
{
	struct copy_engine *engine = &device->engine;
	const struct copy_descriptor *descriptor = &engine->descriptor;
	uint64_t from = descriptor->source + engine->position;
	uint32_t left = descriptor->length - engine->position;
	engine->chunk = left < DMA_CHUNK_MAX ? left : DMA_CHUNK_MAX;
	if (descriptor->flags & TD_DESC_FILL) {
		for (uint32_t i = 0; i < engine->chunk; i++)
			engine->buffer[i] = (uint8_t)(descriptor->source >> 8 * ((engine->position + i) % 8));
	} else if (descriptor->flags & TD_DESC_FROM_MEMORY) {
		memcpy(engine->buffer, device->memory.bytes + from, engine->chunk);
	} else {
		int code = move(device, from, engine->buffer, engine->chunk, false);
		if (code <= 0)
			return code;
	}
	engine->phase = COPY_WRITE;
	return 1;
}

static int write_chunk(struct testdev *device)
{
	struct copy_engine *engine = &device->engine;
	const struct copy_descriptor *descriptor = &engine->descriptor;
	uint64_t to = descriptor->target + engine->position;
	if (descriptor->flags & TD_DESC_TO_MEMORY) {
		memcpy(device->memory.bytes + to, engine->buffer, engine->chunk);
	} else if (!(descriptor->flags & TD_DESC_CHECK)) {
		int code = move(device, to, engine->buffer, engine->chunk, true);
		if (code <= 0)
			return code;
	}
	engine->checksum = checksum(engine->checksum, engine->buffer, engine->chunk);
	engine->moved_bytes += engine->chunk;
	engine->position += engine->chunk;
	engine->phase = COPY_READ;
	if (engine->position < descriptor->length)
		return 1;

	engine->index++;
	engine->phase = COPY_FETCH;
	if (engine->index == engine->count)
		end(device, 0);
	else if (descriptor->flags & TD_DESC_IRQ)
		irqs_raise(device, engine->irq);
	return 1;
}

bool copy_engine_run(struct testdev *device)
{
	struct copy_engine *engine = &device->engine;
	uint64_t enough = engine->moved_bytes + BYTES_AT_A_TIME;
	while (engine->phase != COPY_IDLE && engine->moved_bytes < enough) {
		if (engine->waits || !testdev_may_dma(device))
			return false;
		if (!config_space_masters(device)) {
			copy_engine_abort(device, TD_REASON_MASTER);
			return false;
		}
		int code = 1;
		if (engine->phase == COPY_FETCH)
			code = fetch(device);
		else if (engine->phase == COPY_READ)
			code = read_chunk(device);
		else
			code = write_chunk(device);
		if (code <= 0)
			return false;
	}
	return engine->phase != COPY_IDLE;
}

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a <= b + (b_bytes - 1) && b <= a + (a_bytes - 1);
}

bool copy_engine_uses(const struct testdev *device, uint64_t address, uint64_t bytes)
{
	const struct copy_engine *engine = &device->engine;
	const struct copy_descriptor *descriptor = &engine->descriptor;
	if (engine->phase == COPY_IDLE)
		return false;
	if (overlap(engine->address, (uint64_t)engine->count * TD_DESC_BYTES, address, bytes))
		return true;
	if (engine->phase == COPY_FETCH)
		return false;
	return (!(descriptor->flags & (TD_DESC_FROM_MEMORY | TD_DESC_FILL)) &&
		overlap(descriptor->source, descriptor->length, address, bytes)) ||
	       (!(descriptor->flags & (TD_DESC_TO_MEMORY | TD_DESC_CHECK)) &&
		overlap(descriptor->target, descriptor->length, address, bytes));
}

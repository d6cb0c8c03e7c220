// SPDX-License-Identifier: MIT
/* Writes the stream of stream.h, one record at a time, as it is read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vfio_user_protocol.h>

#include "saved_registers.h"
#include "testdev.h"

#define LOAD_BYTES (TD_LOAD_PAGES_MAX * (uint64_t)sizeof(uint32_t))

void saver_begin(struct testdev *device)
{
	struct migration *migration = &device->migration;
	saver_end(device);
	migration->saver = (struct saver){.open = true, .stage = STREAM_CONFIG};
	memset(migration->changed, 1, migration->block_bytes / BLOCK_CHUNK_BYTES);
}

void saver_end(struct testdev *device)
{
	free(device->migration.saver.record);
	device->migration.saver = (struct saver){0};
}

static bool put_record(struct saver *saver, uint32_t type, uint64_t offset, const void *body, uint32_t bytes)
{
	struct stream_record head = {.type = type, .bytes = bytes, .offset = offset};
	if (!saver->record)
		saver->record = malloc(sizeof(head) + STREAM_BODY_MAX);
	if (!saver->record)
		return false;
	memcpy(saver->record, &head, sizeof(head));
	memcpy(saver->record + sizeof(head), body, bytes);
	saver->record_bytes = sizeof(head) + bytes;
	saver->taken = 0;
	saver->checksum = checksum(saver->checksum, saver->record, saver->record_bytes);
	return true;
}

/* The next chunk of the block that was not sent since it changed; the count of chunks when there is none. */
static uint64_t next_changed(struct migration *migration)
{
	uint64_t count = migration->block_bytes / BLOCK_CHUNK_BYTES;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t chunk = (migration->saver.chunk + i) % count;
		if (migration->changed[chunk])
			return chunk;
	}
	return count;
}

/* A piece of something that is sent once, from saver->offset on; the stage after it begins at its end. */
static bool put_piece(struct saver *saver, uint32_t type, const uint8_t *whole, uint64_t bytes)
{
	uint64_t left = bytes - saver->offset;
	uint32_t piece = left < STREAM_BODY_MAX ? (uint32_t)left : STREAM_BODY_MAX;
	if (!put_record(saver, type, saver->offset, whole + saver->offset, piece))
		return false;
	saver->offset += piece;
	if (saver->offset == bytes) {
		saver->offset = 0;
		saver->stage++;
	}
	return true;
}

static bool put_stage(struct testdev *device)
{
	struct saver *saver = &device->migration.saver;
	struct saved_registers registers;
	switch (saver->stage) {
	case STREAM_CONFIG:
		return put_piece(saver, STREAM_CONFIG, device->config.value, CONFIG_BYTES);
	case STREAM_REGISTERS:
		saved_registers_get(device, &registers);
		return put_piece(saver, STREAM_REGISTERS, (const uint8_t *)&registers, sizeof(registers));
	case STREAM_MEMORY:
		return put_piece(saver, STREAM_MEMORY, device->memory.bytes, MEMORY_FILE_BYTES);
	case STREAM_LOAD:
		return put_piece(saver, STREAM_LOAD, (const uint8_t *)device->load.sequence, LOAD_BYTES);
	default:
		return put_piece(saver, STREAM_END, (const uint8_t *)&saver->checksum, sizeof(saver->checksum));
	}
}

/* @return 1 there is a record, 0 nothing to send, -ENOMEM */
static int next_record(struct testdev *device)
{
	struct migration *migration = &device->migration;
	struct saver *saver = &migration->saver;
	uint64_t chunk = next_changed(migration);
	bool done;
	if (!saver->identified) {
		const struct stream_identity identity = {
			.magic = STREAM_MAGIC, .version = TD_VERSION_VALUE, .block_bytes = migration->block_bytes};
		done = put_record(saver, STREAM_IDENTITY, 0, &identity, sizeof(identity));
		saver->identified = done;
	} else if (chunk < migration->block_bytes / BLOCK_CHUNK_BYTES) {
		done = put_record(saver, STREAM_BLOCK, chunk * BLOCK_CHUNK_BYTES,
				  migration->block + chunk * BLOCK_CHUNK_BYTES, BLOCK_CHUNK_BYTES);
		migration->changed[chunk] = !done;
		saver->chunk = chunk;
	} else if (migration->state != VU_STATE_STOP_COPY || saver->stage > STREAM_END) {
		return 0;
	} else {
		done = put_stage(device);
	}
	return done ? 1 : -ENOMEM;
}

int64_t saver_read(struct testdev *device, uint8_t *data, uint32_t capacity)
{
	struct saver *saver = &device->migration.saver;
	uint32_t filled = 0;
	while (filled < capacity) {
		if (saver->taken == saver->record_bytes) {
			int code = next_record(device);
			if (code < 0)
				return code;
			if (code == 0)
				break;
		}
		size_t left = saver->record_bytes - saver->taken;
		size_t piece = left < capacity - filled ? left : capacity - filled;
		memcpy(data + filled, saver->record + saver->taken, piece);
		saver->taken += piece;
		filled += (uint32_t)piece;
	}
	return filled;
}

uint64_t saver_bytes(const struct testdev *device)
{
	const struct migration *migration = &device->migration;
	const uint64_t head = sizeof(struct stream_record), count = migration->block_bytes / BLOCK_CHUNK_BYTES;
	uint64_t chunks = 0;
	for (uint64_t i = 0; i < count; i++)
		chunks += !migration->saver.open || migration->changed[i];
	uint64_t pieces =
		(MEMORY_FILE_BYTES + STREAM_BODY_MAX - 1) / STREAM_BODY_MAX + LOAD_BYTES / STREAM_BODY_MAX + 4;
	return chunks * (head + BLOCK_CHUNK_BYTES) + pieces * head + sizeof(struct stream_identity) + CONFIG_BYTES +
	       sizeof(struct saved_registers) + MEMORY_FILE_BYTES + LOAD_BYTES + sizeof(uint32_t);
}

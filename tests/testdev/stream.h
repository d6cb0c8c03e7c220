/* SPDX-License-Identifier: MIT */
/*
 * The device's state as a stream of records: what VU_MIG_DATA_READ hands out and VU_MIG_DATA_WRITE takes. Opaque to the VMM.
 *
 *   record: type (4 bytes), length of the body (4), offset (8), body
 *   stream: IDENTITY, then BLOCK in any number and order, then CONFIG, REGISTERS, MEMORY, LOAD, END
 *
 * END's body is the CRC-32 of all bytes before it. The loader takes the bytes in pieces of any size and trusts none.
 */
#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_BODY_MAX 65536u

enum stream_type {
	STREAM_IDENTITY = 1,
	STREAM_BLOCK,
	STREAM_CONFIG,
	STREAM_REGISTERS,
	STREAM_MEMORY,
	STREAM_LOAD,
	STREAM_END,
};

struct stream_record {
	uint32_t type;
	uint32_t bytes;
	uint64_t offset;
};

struct saver {
	bool open;
	bool identified; /* IDENTITY is out */
	unsigned stage;  /* of what is sent once the device is stopped: enum stream_type */
	uint64_t offset; /* in that stage */
	uint64_t chunk;  /* where the search for a changed chunk goes on */
	uint32_t checksum;
	uint8_t *record; /* the record in hand */
	size_t record_bytes;
	size_t taken;
};

struct loader {
	bool failed;
	uint32_t seen; /* bit for each type */
	uint32_t checksum;
	size_t filled; /* of `record` */
	uint8_t record[sizeof(struct stream_record) + STREAM_BODY_MAX];
};

struct testdev;

void saver_begin(struct testdev *device);
void saver_end(struct testdev *device);
/** @return bytes; fewer than `capacity` when there is no more, or not yet; -ENOMEM */
int64_t saver_read(struct testdev *device, uint8_t *data, uint32_t capacity);
uint64_t saver_bytes(const struct testdev *device);

void loader_begin(struct testdev *device);
/** @return 0 or -EBADMSG; after a failure nothing more is taken */
int loader_write(struct testdev *device, const uint8_t *data, size_t bytes);
/** @return 0, or -EBADMSG when the stream was not whole */
int loader_end(struct testdev *device);

#endif

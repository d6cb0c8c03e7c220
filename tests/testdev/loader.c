// SPDX-License-Identifier: MIT
/* Reads the stream of stream.h: bytes in pieces of any size, from a client that may send anything. */
#include <errno.h>
#include <string.h>

#include "saved_registers.h"
#include "testdev.h"

#define LOAD_BYTES (TD_LOAD_PAGES_MAX * (uint64_t)sizeof(uint32_t))
#define WHOLE                                                                                                          \
	(1u << STREAM_IDENTITY | 1u << STREAM_CONFIG | 1u << STREAM_REGISTERS | 1u << STREAM_MEMORY |                  \
	 1u << STREAM_LOAD | 1u << STREAM_END)

void loader_begin(struct testdev *device)
{
	memset(&device->migration.loader, 0, offsetof(struct loader, record));
}

static int load_identity(struct testdev *device, const uint8_t *body, uint32_t bytes)
{
	struct stream_identity identity;
	if (bytes != sizeof(identity))
		return -EBADMSG;
	memcpy(&identity, body, sizeof(identity));
	return identity.magic == STREAM_MAGIC && identity.version == TD_VERSION_VALUE &&
			       identity.block_bytes == device->migration.block_bytes
		       ? 0
		       : -EBADMSG;
}

static int load_piece(uint8_t *whole, uint64_t whole_bytes, const struct stream_record *head, const uint8_t *body)
{
	if (head->offset > whole_bytes || head->bytes > whole_bytes - head->offset)
		return -EBADMSG;
	memcpy(whole + head->offset, body, head->bytes);
	return 0;
}

static int load_record(struct testdev *device, const struct stream_record *head, const uint8_t *body)
{
	struct loader *loader = &device->migration.loader;
	struct saved_registers registers;
	uint32_t sum;
	if (!(loader->seen & 1u << STREAM_IDENTITY) != (head->type == STREAM_IDENTITY))
		return -EBADMSG;
	switch (head->type) {
	case STREAM_IDENTITY:
		return load_identity(device, body, head->bytes);
	case STREAM_BLOCK:
		return load_piece(device->migration.block, device->migration.block_bytes, head, body);
	case STREAM_CONFIG:
		if (head->offset || head->bytes != CONFIG_BYTES)
			return -EBADMSG;
		config_space_load(device, body);
		return 0;
	case STREAM_REGISTERS:
		if (head->offset || head->bytes != sizeof(registers))
			return -EBADMSG;
		memcpy(&registers, body, sizeof(registers));
		return saved_registers_set(device, &registers);
	case STREAM_MEMORY:
		return load_piece(device->memory.bytes, MEMORY_FILE_BYTES, head, body);
	case STREAM_LOAD:
		return load_piece((uint8_t *)device->load.sequence, LOAD_BYTES, head, body);
	default: /* STREAM_END */
		if (head->bytes != sizeof(sum))
			return -EBADMSG;
		memcpy(&sum, body, sizeof(sum));
		return sum == loader->checksum ? 0 : -EBADMSG;
	}
}

/* Takes what completes the record in hand. @return bytes taken, or -EBADMSG */
static int64_t take(struct testdev *device, const uint8_t *data, size_t bytes)
{
	struct loader *loader = &device->migration.loader;
	struct stream_record head;
	size_t wanted = sizeof(head);
	if (loader->filled >= sizeof(head)) {
		memcpy(&head, loader->record, sizeof(head));
		wanted += head.bytes;
	}
	size_t piece = wanted - loader->filled < bytes ? wanted - loader->filled : bytes;
	memcpy(loader->record + loader->filled, data, piece);
	loader->filled += piece;
	if (loader->filled < wanted)
		return (int64_t)piece;

	memcpy(&head, loader->record, sizeof(head));
	if (wanted == sizeof(head)) {
		/* The head is there; no record is without a body. */
		bool sound = head.type >= STREAM_IDENTITY && head.type <= STREAM_END && head.bytes > 0 &&
			     head.bytes <= STREAM_BODY_MAX && !(loader->seen & 1u << STREAM_END);
		return sound ? (int64_t)piece : -EBADMSG;
	}
	int code = load_record(device, &head, loader->record + sizeof(head));
	if (code < 0)
		return code;
	loader->checksum = checksum(loader->checksum, loader->record, wanted);
	loader->seen |= 1u << head.type;
	loader->filled = 0;
	return (int64_t)piece;
}

int loader_write(struct testdev *device, const uint8_t *data, size_t bytes)
{
	struct loader *loader = &device->migration.loader;
	for (size_t done = 0; done < bytes && !loader->failed;) {
		int64_t taken = take(device, data + done, bytes - done);
		if (taken < 0) {
			loader->failed = true;
			journal_add(device, TD_BAD_STREAM, loader->seen, "after records 0x%x", loader->seen);
		} else {
			done += (size_t)taken;
		}
	}
	return loader->failed ? -EBADMSG : 0;
}

int loader_end(struct testdev *device)
{
	struct loader *loader = &device->migration.loader;
	if (!loader->failed && loader->filled == 0 && (loader->seen & WHOLE) == WHOLE)
		return 0;
	if (!loader->failed)
		journal_add(device, TD_BAD_STREAM, loader->seen, "it ends after records 0x%x", loader->seen);
	return -EBADMSG;
}

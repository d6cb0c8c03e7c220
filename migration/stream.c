// SPDX-License-Identifier: MIT
/*
 * Sections to a channel and from one. The header has a sum of its own, so that no length is believed which was damaged on the way, and
 * a number that counts, so that none is lost, repeated or moved. What sections mean is not known here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "crc32c.h"
#include "stream.h"
#include "wire.h"

#define MAGIC     0x534d4e54u /* "TNMS" */
#define PARTS_MAX 64u
#define TEXT_MAX  500u

/* The header, at these bytes. */
enum {
	AT_MAGIC = 0,
	AT_TYPE = 4,
	AT_FLAGS = 8,
	AT_INSTANCE = 12,
	AT_SEQUENCE = 16,
	AT_BYTES = 20,
	AT_PAYLOAD_CRC = 24,
	AT_HEADER_CRC = 28, /* of the 28 bytes before */
};

const char *section_name(uint32_t type)
{
	static const char *const names[] = {
		[SECTION_HELLO] = "hello",
		[SECTION_DESCRIPTION] = "description",
		[SECTION_PAGES] = "pages",
		[SECTION_ZEROES] = "zero pages",
		[SECTION_ROUND] = "round",
		[SECTION_DEVICE_DATA] = "device data",
		[SECTION_DEVICE_STATE] = "device state",
		[SECTION_PART] = "part",
		[SECTION_END] = "end",
		[SECTION_COMMIT] = "commit",
		[SECTION_DONE] = "done",
		[SECTION_ABORT] = "abort",
		[SECTION_COMPRESSED] = "compressed pages",
		[SECTION_WELCOME] = "welcome",
		[SECTION_REFUSED] = "refused",
		[SECTION_INITIAL] = "initial data loaded",
		[SECTION_READY] = "ready",
		[SECTION_STARTED] = "started",
		[SECTION_FAILED] = "failed",
		[SECTION_VERDICT] = "verdict",
		[SECTION_ANSWER] = "answer",
	};
	const char *name = type < sizeof(names) / sizeof(names[0]) ? names[type] : NULL;
	return name ? name : "unknown";
}

static bool is_known(uint32_t type)
{
	return section_name(type) != section_name(0);
}

/* ---- Writing ---- */

void stream_writer_init(struct stream_writer *writer, struct tenon_channel *channel)
{
	*writer = (struct stream_writer){.channel = channel};
}

int stream_write_summed(struct stream_writer *writer, const struct section *section, uint32_t crc, struct iovec *parts,
			unsigned count, struct tenon_error *err)
{
	uint8_t header[SECTION_HEADER_BYTES];
	wire_put32(header + AT_MAGIC, MAGIC);
	wire_put32(header + AT_TYPE, section->type);
	wire_put32(header + AT_FLAGS, section->flags);
	wire_put32(header + AT_INSTANCE, section->instance);
	wire_put32(header + AT_SEQUENCE, writer->sequence);
	wire_put32(header + AT_BYTES, section->bytes);
	wire_put32(header + AT_PAYLOAD_CRC, crc);
	wire_put32(header + AT_HEADER_CRC, crc32c(0, header, AT_HEADER_CRC));
	parts[0] = (struct iovec){.iov_base = header, .iov_len = sizeof(header)};
	int code = tenon_channel_write(writer->channel, parts, (int)count, err);
	if (code < 0)
		return code;
	writer->sequence++;
	writer->sent_bytes += SECTION_HEADER_BYTES + section->bytes;
	return 0;
}

int stream_write(struct stream_writer *writer, enum section_type type, uint32_t flags, uint32_t instance,
		 const struct iovec *parts, unsigned count, struct tenon_error *err)
{
	struct iovec whole[1 + PARTS_MAX];
	uint32_t crc = 0;
	size_t bytes = 0;
	for (unsigned i = 0; i < count && i < PARTS_MAX; i++) {
		whole[1 + i] = parts[i];
		bytes += parts[i].iov_len <= SECTION_BYTES_MAX ? parts[i].iov_len : SECTION_BYTES_MAX + 1;
	}
	if (count > PARTS_MAX || bytes > SECTION_BYTES_MAX)
		return tenon_fail(err, -EINVAL, "%s: a section (%s) of %zu bytes in %u parts is too large",
				  tenon_channel_name(writer->channel), section_name(type), bytes, count);
	for (unsigned i = 0; i < count; i++)
		crc = crc32c(crc, parts[i].iov_base, parts[i].iov_len);
	const struct section section = {.type = type, .flags = flags, .instance = instance, .bytes = (uint32_t)bytes};
	return stream_write_summed(writer, &section, crc, whole, 1 + count, err);
}

int stream_write_bytes(struct stream_writer *writer, enum section_type type, uint32_t instance, const void *data,
		       size_t bytes, struct tenon_error *err)
{
	const struct iovec part = {.iov_base = (void *)data, .iov_len = bytes};
	return stream_write(writer, type, 0, instance, &part, bytes > 0, err);
}

int stream_write_text(struct stream_writer *writer, enum section_type type, const char *text, struct tenon_error *err)
{
	return stream_write_bytes(writer, type, 0, text, strnlen(text, TEXT_MAX), err);
}

/* ---- Reading ---- */

int stream_reader_init(struct stream_reader *reader, struct tenon_channel *channel, struct tenon_error *err)
{
	*reader = (struct stream_reader){.channel = channel};
	reader->payload = aligned_alloc(4096, SECTION_BYTES_MAX); /* for fast copies */
	if (!reader->payload)
		return tenon_fail(err, -ENOMEM, "%s: no memory to read a migration stream",
				  tenon_channel_name(channel));
	return 0;
}

void stream_reader_finish(struct stream_reader *reader)
{
	free(reader->payload);
	*reader = (struct stream_reader){0};
}

static int cut_short(const struct stream_reader *reader, const char *what, struct tenon_error *err)
{
	return tenon_fail(err, -EBADMSG, "%s: the stream ends in the middle of section %u%s; migrate again",
			  tenon_channel_name(reader->channel), reader->sequence, what);
}

/* At least one byte of a header: between sections a stream may pause, and end. */
static int64_t read_first(struct stream_reader *reader, uint8_t *header, struct tenon_error *err)
{
	if (!reader->idle_ms) {
		int code = tenon_channel_read(reader->channel, header, 1, err);
		return code < 0 ? code : 1;
	}
	int64_t got = tenon_channel_read_some(reader->channel, header, SECTION_HEADER_BYTES, reader->idle_ms, err);
	if (got == -EAGAIN)
		return tenon_fail(err, -ETIMEDOUT, "%s: nothing came for %d ms; is the other side alive?",
				  tenon_channel_name(reader->channel), reader->idle_ms);
	return got;
}

static int read_header(struct stream_reader *reader, uint8_t *header, struct tenon_error *err)
{
	const char *name = tenon_channel_name(reader->channel);
	int64_t got = read_first(reader, header, err);
	if (got < 0)
		return (int)got;
	int code = got < SECTION_HEADER_BYTES
			   ? tenon_channel_read(reader->channel, header + got, SECTION_HEADER_BYTES - (size_t)got, err)
			   : 0;
	if (code == -ENODATA)
		return cut_short(reader, "", err);
	if (code < 0)
		return code;
	if (wire_get32(header + AT_MAGIC) != MAGIC && !reader->sequence)
		return tenon_fail(err, -EBADMSG, "%s: not a tenon migration stream; what is at the other end?", name);
	if (wire_get32(header + AT_MAGIC) != MAGIC ||
	    wire_get32(header + AT_HEADER_CRC) != crc32c(0, header, AT_HEADER_CRC))
		return tenon_fail(
			err, -EBADMSG,
			"%s: the header of section %u is wrong: the stream was damaged on the way; migrate again", name,
			reader->sequence);
	return 0;
}

static int check_header(const struct stream_reader *reader, const uint8_t *header, const struct section *section,
			struct tenon_error *err)
{
	const char *name = tenon_channel_name(reader->channel);
	uint32_t sequence = wire_get32(header + AT_SEQUENCE);
	if (sequence != reader->sequence)
		return tenon_fail(
			err, -EBADMSG,
			"%s: section %u came where %u was due: the stream was damaged on the way; migrate again", name,
			sequence, reader->sequence);
	if (section->bytes > SECTION_BYTES_MAX)
		return tenon_fail(err, -EBADMSG, "%s: section %u (%s) has %u bytes, more than the %u that are allowed",
				  name, sequence, section_name(section->type), section->bytes, SECTION_BYTES_MAX);
	if (section->flags & ~SECTION_FLAG_OPTIONAL)
		return tenon_fail(err, -EBADMSG, "%s: section %u (%s) has flags 0x%x, which this version does not know",
				  name, sequence, section_name(section->type), section->flags);
	if (!is_known(section->type) && !(section->flags & SECTION_FLAG_OPTIONAL))
		return tenon_fail(err, -EBADMSG,
				  "%s: section %u is of type %u, which this version does not know; use one as new as "
				  "the other side's",
				  name, sequence, section->type);
	return 0;
}

/* The head first, where somebody may have a place for the rest. */
static int read_parts(struct stream_reader *reader, struct section *section, uint32_t *crc, struct tenon_error *err)
{
	uint32_t head = section->bytes;
	if (reader->place && section->type == SECTION_PAGES && head > SECTION_HEAD_BYTES)
		head = SECTION_HEAD_BYTES;
	int code = tenon_channel_read(reader->channel, reader->payload, head, err);
	if (code < 0)
		return code;
	*crc = crc32c(0, reader->payload, head);
	if (head == section->bytes)
		return 0;
	uint8_t *rest = reader->place(reader->place_context, reader, section);
	section->placed = rest != NULL;
	rest = rest ? rest : reader->payload + head;
	code = tenon_channel_read(reader->channel, rest, section->bytes - head, err);
	if (code < 0)
		return code;
	*crc = crc32c(*crc, rest, section->bytes - head);
	return 0;
}

static int read_payload(struct stream_reader *reader, struct section *section, uint32_t expected,
			struct tenon_error *err)
{
	const char *name = section_name(section->type);
	uint32_t crc = 0;
	int code = section->bytes ? read_parts(reader, section, &crc, err) : 0;
	if (code == -ENODATA) {
		char what[40];
		snprintf(what, sizeof(what), " (%s)", name);
		return cut_short(reader, what, err);
	}
	if (code < 0)
		return code;
	if (crc != expected)
		return tenon_fail(
			err, -EBADMSG,
			"%s: section %u (%s) has a wrong checksum: the stream was damaged on the way; migrate again",
			tenon_channel_name(reader->channel), reader->sequence, name);
	return 0;
}

static int read_section(struct stream_reader *reader, struct section *out, struct tenon_error *err)
{
	uint8_t header[SECTION_HEADER_BYTES];
	int code = read_header(reader, header, err);
	if (code < 0)
		return code;
	*out = (struct section){.type = wire_get32(header + AT_TYPE),
				.flags = wire_get32(header + AT_FLAGS),
				.instance = wire_get32(header + AT_INSTANCE),
				.bytes = wire_get32(header + AT_BYTES)};
	code = check_header(reader, header, out, err);
	if (code < 0)
		return code;
	code = read_payload(reader, out, wire_get32(header + AT_PAYLOAD_CRC), err);
	if (code < 0)
		return code;
	reader->sequence++;
	reader->read_bytes += SECTION_HEADER_BYTES + out->bytes;
	return 0;
}

int stream_read(struct stream_reader *reader, struct section *out, struct tenon_error *err)
{
	int code;
	do
		code = read_section(reader, out, err);
	while (code == 0 && !is_known(out->type));
	return code;
}

void stream_text(const struct stream_reader *reader, const struct section *section, char *text, size_t capacity)
{
	size_t bytes = section->bytes < capacity ? section->bytes : capacity - 1;
	for (size_t i = 0; i < bytes; i++) {
		uint8_t byte = reader->payload[i];
		text[i] = byte >= 0x20 && byte < 0x7f ? (char)byte : '?';
	}
	text[bytes] = '\0';
}

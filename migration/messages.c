// SPDX-License-Identifier: MIT
/* The payloads of HELLO, END, VERDICT and ANSWER, which have one size each, and waiting for a section. */
#include <errno.h>
#include <string.h>

#include "messages.h"
#include "wire.h"

#define HELLO_BYTES   40u
#define END_BYTES     40u
#define VERDICT_BYTES (COMMIT_SESSION_BYTES + 4)
#define ANSWER_BYTES  4u

static int check_size(const char *name, size_t bytes, size_t wanted, struct tenon_error *err)
{
	if (bytes != wanted)
		return tenon_fail(err, -EBADMSG, "migration stream: %s has %zu bytes instead of %zu", name, bytes,
				  wanted);
	return 0;
}

int message_await(struct stream_reader *reader, enum section_type wanted, struct section *out, struct tenon_error *err)
{
	const char *name = tenon_channel_name(reader->channel);
	int code = stream_read(reader, out, err);
	if (code < 0)
		return code == -ENODATA ? tenon_fail(err, code, "%s: the other side went away before it said \"%s\"",
						     name, section_name(wanted))
					: code;
	if (out->type == wanted)
		return 0;
	if (out->type == SECTION_REFUSED || out->type == SECTION_FAILED || out->type == SECTION_ABORT) {
		char text[MESSAGE_TEXT_BYTES];
		stream_text(reader, out, text, sizeof(text));
		return tenon_fail(err, -ECONNABORTED, "the other side %s: %s",
				  out->type == SECTION_REFUSED  ? "refused"
				  : out->type == SECTION_FAILED ? "failed"
								: "gave up",
				  text);
	}
	return tenon_fail(err, -EBADMSG, "%s: section \"%s\" came where \"%s\" was due", name, section_name(out->type),
			  section_name(wanted));
}

int message_empty(const struct section *section, struct tenon_error *err)
{
	return check_size(section_name(section->type), section->bytes, 0, err);
}

int hello_write(struct stream_writer *writer, const struct hello *hello, struct tenon_error *err)
{
	uint8_t bytes[HELLO_BYTES] = {0};
	wire_put32(bytes, STREAM_VERSION);
	wire_put32(bytes + 4, hello->flags);
	memcpy(bytes + 8, hello->session, COMMIT_SESSION_BYTES);
	wire_put32(bytes + 24, hello->lane);
	wire_put32(bytes + 28, hello->lanes);
	wire_put32(bytes + 32, TENON_MIGRATION_PAGE_BYTES);
	return stream_write_bytes(writer, SECTION_HELLO, 0, bytes, sizeof(bytes), err);
}

int hello_decode(const void *payload, size_t bytes, struct hello *out, struct tenon_error *err)
{
	const uint8_t *at = payload;
	/* Of another version only this number is where it is here. */
	uint32_t version = bytes >= 4 ? wire_get32(at) : 0;
	if (version > STREAM_VERSION)
		return tenon_fail(err, -EPROTONOSUPPORT,
				  "the migration stream was made by a newer version %u; this one reads up to %u",
				  version, STREAM_VERSION);
	int code = check_size("hello", bytes, HELLO_BYTES, err);
	if (code < 0)
		return code;
	*out = (struct hello){.version = version,
			      .flags = wire_get32(at + 4),
			      .lane = wire_get32(at + 24),
			      .lanes = wire_get32(at + 28),
			      .page_bytes = wire_get32(at + 32)};
	memcpy(out->session, at + 8, COMMIT_SESSION_BYTES);
	if (!version || out->flags & ~HELLO_FLAG_FILE || wire_get32(at + 36))
		return tenon_fail(err, -EBADMSG,
				  "migration stream: hello has version %u and flags 0x%x, which nobody sends", version,
				  out->flags);
	if (!out->lanes || out->lanes > STREAM_LANES_MAX || out->lane >= out->lanes ||
	    (out->flags & HELLO_FLAG_FILE && out->lanes != 1))
		return tenon_fail(err, -EBADMSG, "migration stream: connection %u of %u is not possible", out->lane,
				  out->lanes);
	if (out->page_bytes != TENON_MIGRATION_PAGE_BYTES)
		return tenon_fail(err, -EBADMSG, "migration stream: its pages have %u bytes, and %u here",
				  out->page_bytes, TENON_MIGRATION_PAGE_BYTES);
	return 0;
}

int end_write(struct stream_writer *writer, const struct end_counts *counts, struct tenon_error *err)
{
	uint8_t bytes[END_BYTES];
	wire_put64(bytes, counts->pages);
	wire_put64(bytes + 8, counts->zero_pages);
	wire_put64(bytes + 16, counts->ram_bytes);
	wire_put64(bytes + 24, counts->device_bytes);
	wire_put64(bytes + 32, counts->parts);
	return stream_write_bytes(writer, SECTION_END, 0, bytes, sizeof(bytes), err);
}

int end_decode(const void *payload, size_t bytes, struct end_counts *out, struct tenon_error *err)
{
	const uint8_t *at = payload;
	int code = check_size("end", bytes, END_BYTES, err);
	if (code < 0)
		return code;
	*out = (struct end_counts){.pages = wire_get64(at),
				   .zero_pages = wire_get64(at + 8),
				   .ram_bytes = wire_get64(at + 16),
				   .device_bytes = wire_get64(at + 24),
				   .parts = wire_get64(at + 32)};
	return 0;
}

int end_compare(const struct end_counts *sent, const struct end_counts *received, struct tenon_error *err)
{
	const struct {
		const char *what;
		uint64_t sent, received;
	} counts[] = {{"pages", sent->pages, received->pages},
		      {"zero pages", sent->zero_pages, received->zero_pages},
		      {"bytes of RAM", sent->ram_bytes, received->ram_bytes},
		      {"bytes of devices", sent->device_bytes, received->device_bytes},
		      {"parts", sent->parts, received->parts}};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		if (counts[i].sent != counts[i].received)
			return tenon_fail(err, -EBADMSG,
					  "migration stream: %llu %s were sent, and %llu came; migrate again",
					  (unsigned long long)counts[i].sent, counts[i].what,
					  (unsigned long long)counts[i].received);
	}
	return 0;
}

int verdict_write(struct stream_writer *writer, const struct verdict *verdict, struct tenon_error *err)
{
	uint8_t bytes[VERDICT_BYTES];
	memcpy(bytes, verdict->session, COMMIT_SESSION_BYTES);
	wire_put32(bytes + COMMIT_SESSION_BYTES, (uint32_t)verdict->verdict);
	return stream_write_bytes(writer, SECTION_VERDICT, 0, bytes, sizeof(bytes), err);
}

int verdict_decode(const void *payload, size_t bytes, struct verdict *out, struct tenon_error *err)
{
	const uint8_t *at = payload;
	int code = check_size("verdict", bytes, VERDICT_BYTES, err);
	if (code < 0)
		return code;
	uint32_t verdict = wire_get32(at + COMMIT_SESSION_BYTES);
	enum commit_destination_event event;
	if (!commit_verdict_event(verdict, &event))
		return tenon_fail(err, -EBADMSG, "migration stream: %u is no verdict", verdict);
	memcpy(out->session, at, COMMIT_SESSION_BYTES);
	out->verdict = (enum commit_verdict)verdict;
	return 0;
}

int answer_write(struct stream_writer *writer, enum commit_answer answer, struct tenon_error *err)
{
	uint8_t bytes[ANSWER_BYTES];
	wire_put32(bytes, (uint32_t)answer);
	return stream_write_bytes(writer, SECTION_ANSWER, 0, bytes, sizeof(bytes), err);
}

int answer_decode(const void *payload, size_t bytes, enum commit_answer *out, struct tenon_error *err)
{
	int code = check_size("answer", bytes, ANSWER_BYTES, err);
	if (code < 0)
		return code;
	uint32_t answer = wire_get32(payload);
	enum commit_source_event event;
	if (!commit_answer_event(answer, &event))
		return tenon_fail(err, -EBADMSG, "migration stream: %u is no answer", answer);
	*out = (enum commit_answer)answer;
	return 0;
}

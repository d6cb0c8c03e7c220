// SPDX-License-Identifier: MIT
/* Sections over a connection, and streams that were damaged on the way: each is refused, and says why. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "crc32c.h"
#include "migration_pair.h"
#include "wire.h"

/* ---- A small stream, as bytes ---- */

#define STREAM_BYTES_MAX 4096u

struct recording {
	uint8_t bytes[STREAM_BYTES_MAX];
	size_t size;
	size_t starts[8]; /* of its sections; the last is the end */
	unsigned sections;
};

static void record(struct recording *recording)
{
	struct pair pair;
	pair_open(&pair);
	*recording = (struct recording){0};
	const struct {
		enum section_type type;
		const char *payload;
	} sections[] = {{SECTION_HELLO, "hello"},
			{SECTION_PART, "a part"},
			{SECTION_ROUND, ""},
			{SECTION_PART, "another"},
			{SECTION_END, "so much"}};
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		recording->starts[i] = pair.writer.sent_bytes;
		cr_assert_eq(stream_write_bytes(&pair.writer, sections[i].type, 0, sections[i].payload,
						strlen(sections[i].payload), NULL),
			     0);
	}
	recording->sections = sizeof(sections) / sizeof(sections[0]);
	recording->size = pair.writer.sent_bytes;
	recording->starts[recording->sections] = recording->size;
	cr_assert_leq(recording->size, STREAM_BYTES_MAX);
	cr_assert_eq(tenon_channel_read(pair.in, recording->bytes, recording->size, NULL), 0);
	pair_close(&pair);
}

/* Reads to the end. @return what ended it; *sections how many were handed out */
static int read_all(const uint8_t *bytes, size_t size, unsigned *sections, struct tenon_error *err)
{
	struct stream_reader reader;
	struct section section;
	int code;
	memory_reader(&reader, bytes, size);
	*sections = 0;
	while ((code = stream_read(&reader, &section, err)) == 0)
		++*sections;
	memory_reader_close(&reader);
	return code;
}

/* Gives a section's header a right sum again. */
static void sign(uint8_t *header)
{
	uint32_t bytes = wire_get32(header + 20);
	if (bytes <= STREAM_BYTES_MAX)
		wire_put32(header + 24, crc32c(0, header + SECTION_HEADER_BYTES, bytes));
	wire_put32(header + 28, crc32c(0, header, 28));
}

/* ---- Sound streams ---- */

Test(migration_stream, sections_arrive_with_all_that_was_written)
{
	struct pair pair;
	struct section section;
	uint8_t first[1000], second[7];
	pair_open(&pair);
	memset(first, 0x11, sizeof(first));
	memset(second, 0x22, sizeof(second));
	const struct iovec parts[] = {{first, sizeof(first)}, {NULL, 0}, {second, sizeof(second)}};
	cr_assert_eq(stream_write(&pair.writer, SECTION_DEVICE_DATA, SECTION_FLAG_OPTIONAL, 7, parts, 3, NULL), 0);
	cr_assert_eq(stream_write_bytes(&pair.writer, SECTION_COMMIT, 0, NULL, 0, NULL), 0);
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), 0);
	cr_assert(section.type == SECTION_DEVICE_DATA && section.flags == SECTION_FLAG_OPTIONAL &&
		  section.instance == 7 && section.bytes == 1007);
	cr_assert(memcmp(pair.reader.payload, first, 1000) == 0 && memcmp(pair.reader.payload + 1000, second, 7) == 0);
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), 0);
	cr_assert(section.type == SECTION_COMMIT && section.bytes == 0);
	cr_assert_eq(pair.reader.read_bytes, pair.writer.sent_bytes);
	cr_assert_eq(pair.reader.read_bytes, 2 * SECTION_HEADER_BYTES + 1007);
	pair_hang_up(&pair);
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), -ENODATA);
	pair_close(&pair);
}

/* The layout in docs/migration-stream.md. */
Test(migration_stream, header_is_as_documented)
{
	static const uint8_t header[28] = {'T', 'N', 'M', 'S', 9, 0, 0, 0, 1, 0, 0,    0,    5,    0,
					   0,   0,   0,   0,   0, 0, 9, 0, 0, 0, 0x83, 0x92, 0x06, 0xe3};
	uint8_t bytes[SECTION_HEADER_BYTES + 9];
	struct pair pair;
	pair_open(&pair);
	char digits[] = "123456789";
	const struct iovec part = {digits, 9};
	cr_assert_eq(stream_write(&pair.writer, SECTION_END, SECTION_FLAG_OPTIONAL, 5, &part, 1, NULL), 0);
	cr_assert_eq(tenon_channel_read(pair.in, bytes, sizeof(bytes), NULL), 0);
	cr_assert_arr_eq(bytes, header, sizeof(header));
	cr_assert_eq(wire_get32(bytes + 28), crc32c(0, header, sizeof(header)));
	cr_assert_arr_eq(bytes + SECTION_HEADER_BYTES, "123456789", 9);
	pair_close(&pair);
}

Test(migration_stream, largest_section_passes_and_a_larger_one_is_not_written)
{
	uint8_t *payload = calloc(1, SECTION_BYTES_MAX + 1);
	struct section section;
	struct pair pair;
	struct tenon_error err = {0};
	pair_open(&pair);
	payload[SECTION_BYTES_MAX - 1] = 1;
	cr_assert_eq(stream_write_bytes(&pair.writer, SECTION_PART, 0, payload, SECTION_BYTES_MAX + 1, &err), -EINVAL);
	cr_assert(strstr(err.message, "a section (part) of 1048577 bytes in 1 parts is too large"), "%s", err.message);
	cr_assert_eq(stream_write_bytes(&pair.writer, SECTION_PART, 0, payload, SIZE_MAX, NULL), -EINVAL);
	struct iovec many[65];
	for (unsigned i = 0; i < 65; i++)
		many[i] = (struct iovec){payload, 1};
	cr_assert_eq(stream_write(&pair.writer, SECTION_PART, 0, 0, many, 65, NULL), -EINVAL);
	cr_assert_eq(stream_write(&pair.writer, SECTION_PART, 0, 0, many, 64, NULL), 0);
	cr_assert_eq(stream_write_bytes(&pair.writer, SECTION_PART, 0, payload, SECTION_BYTES_MAX, NULL), 0);
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), 0);
	cr_assert_eq(section.bytes, 64);
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), 0);
	cr_assert(section.bytes == SECTION_BYTES_MAX && pair.reader.payload[SECTION_BYTES_MAX - 1] == 1);
	pair_close(&pair);
	free(payload);
}

Test(migration_stream, section_that_is_optional_and_not_known_is_passed_over)
{
	struct recording recording;
	struct tenon_error err = {0};
	unsigned sections;
	record(&recording);
	uint8_t *header = recording.bytes + recording.starts[1];
	wire_put32(header + 4, 50);
	wire_put32(header + 8, SECTION_FLAG_OPTIONAL);
	sign(header);
	cr_assert_eq(read_all(recording.bytes, recording.size, &sections, &err), -ENODATA, "%s", err.message);
	cr_assert_eq(sections, recording.sections - 1);
}

Test(migration_stream, text_is_bounded_and_printable)
{
	struct pair pair;
	struct section section;
	char text[600], small[5], long_text[2000];
	pair_open(&pair);
	stream_write_text(&pair.writer, SECTION_REFUSED, "no\nsuch \x1b[2J \xff guest", NULL);
	stream_read(&pair.reader, &section, NULL);
	stream_text(&pair.reader, &section, text, sizeof(text));
	cr_assert_str_eq(text, "no?such ?[2J ? guest");
	stream_text(&pair.reader, &section, small, sizeof(small));
	cr_assert_str_eq(small, "no?s");
	memset(long_text, 'x', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	stream_write_text(&pair.writer, SECTION_REFUSED, long_text, NULL);
	stream_read(&pair.reader, &section, NULL);
	cr_assert_eq(section.bytes, 500);
	pair_close(&pair);
}

Test(migration_stream, every_type_has_a_name)
{
	cr_assert_str_eq(section_name(SECTION_PAGES), "pages");
	cr_assert_str_eq(section_name(SECTION_ANSWER), "answer");
	cr_assert_str_eq(section_name(0), "unknown");
	cr_assert_str_eq(section_name(50), "unknown");
	cr_assert_str_eq(section_name(UINT32_MAX), "unknown");
}

/* ---- Time ---- */

Test(migration_stream, lane_on_which_nothing_comes_is_waited_for_as_long_as_was_said)
{
	struct pair pair;
	struct section section;
	struct tenon_error err = {0};
	pair_open(&pair);
	pair.reader.idle_ms = 1;
	cr_assert_eq(stream_read(&pair.reader, &section, &err), -ETIMEDOUT);
	cr_assert(strstr(err.message, "nothing came for 1 ms; is the other side alive?"), "%s", err.message);
	stream_write_bytes(&pair.writer, SECTION_ROUND, 0, NULL, 0, NULL);
	pair.reader.idle_ms = -1;
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), 0);
	pair_hang_up(&pair);
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), -ENODATA);
	pair_close(&pair);
}

Test(migration_stream, channel_that_is_ended_ends_reading_and_writing)
{
	struct pair pair;
	struct section section;
	pair_open(&pair);
	tenon_channel_end(pair.in);
	tenon_channel_end(pair.out);
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), -ECANCELED);
	cr_assert_eq(stream_write_bytes(&pair.writer, SECTION_ROUND, 0, NULL, 0, NULL), -ECANCELED);
	cr_assert_eq(pair.writer.sequence, 0);
	cr_assert_eq(pair.writer.sent_bytes, 0);
	pair_close(&pair);
}

/* ---- Damage ---- */

Test(migration_stream, sound_recording_is_read_to_its_end)
{
	struct recording recording;
	unsigned sections;
	record(&recording);
	cr_assert_eq(read_all(recording.bytes, recording.size, &sections, NULL), -ENODATA);
	cr_assert_eq(sections, recording.sections);
}

Test(migration_stream, stream_that_is_cut_anywhere_is_noticed)
{
	struct recording recording;
	record(&recording);
	for (size_t size = 0; size < recording.size; size++) {
		struct tenon_error err = {0};
		unsigned sections, whole = 0;
		while (recording.starts[whole + 1] <= size)
			whole++;
		bool between = recording.starts[whole] == size;
		int code = read_all(recording.bytes, size, &sections, &err);
		cr_assert_eq(sections, whole, "cut at %zu", size);
		cr_assert_eq(code, between ? -ENODATA : -EBADMSG, "cut at %zu", size);
		char why[80];
		snprintf(why, sizeof(why), "the stream ends in the middle of section %u", whole);
		cr_assert(between || strstr(err.message, why), "cut at %zu: %s", size, err.message);
	}
}

Test(migration_stream, every_flipped_bit_is_found_in_its_own_section)
{
	struct recording recording;
	record(&recording);
	for (size_t bit = 0; bit < recording.size * 8; bit++) {
		struct tenon_error err = {0};
		unsigned sections, whole = 0;
		while (recording.starts[whole + 1] <= bit / 8)
			whole++;
		recording.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_eq(read_all(recording.bytes, recording.size, &sections, &err), -EBADMSG, "bit %zu", bit);
		cr_assert_eq(sections, whole, "bit %zu: a section was handed out that was damaged", bit);
		cr_assert(strstr(err.message, "damaged on the way") || (bit < 32 && strstr(err.message, "not a tenon")),
			  "bit %zu: %s", bit, err.message);
		recording.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

/* @param order  of sections; UINT_MAX ends it */
static void check_order(const unsigned *order, const char *why)
{
	struct recording recording;
	struct tenon_error err = {0};
	uint8_t bytes[STREAM_BYTES_MAX];
	size_t size = 0;
	unsigned sections;
	record(&recording);
	for (; *order != UINT32_MAX; order++) {
		size_t bytes_of_one = recording.starts[*order + 1] - recording.starts[*order];
		memcpy(bytes + size, recording.bytes + recording.starts[*order], bytes_of_one);
		size += bytes_of_one;
	}
	cr_assert_eq(read_all(bytes, size, &sections, &err), -EBADMSG);
	cr_assert(strstr(err.message, why), "%s", err.message);
}

Test(migration_stream, section_that_is_lost_repeated_or_moved_is_noticed)
{
	check_order((const unsigned[]){0, 2, 3, 4, UINT32_MAX}, "section 2 came where 1 was due");
	check_order((const unsigned[]){0, 1, 1, 2, UINT32_MAX}, "section 1 came where 2 was due");
	check_order((const unsigned[]){0, 2, 1, 3, UINT32_MAX}, "section 2 came where 1 was due");
	check_order((const unsigned[]){1, 2, 3, UINT32_MAX}, "section 1 came where 0 was due");
}

Test(migration_stream, what_is_no_stream_is_called_that)
{
	struct tenon_error err = {0};
	unsigned sections;
	cr_assert_eq(read_all((const uint8_t *)"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", 37, &sections, &err),
		     -EBADMSG);
	cr_assert(strstr(err.message, ": not a tenon migration stream; what is at the other end?"), "%s", err.message);
}

/* Sums that are right: a peer that means it. */
Test(migration_stream, header_that_cannot_be_is_refused_with_its_reason)
{
	static const struct {
		unsigned at;
		uint32_t value;
		const char *why;
	} cases[] = {
		{4, 50,
		 "section 1 is of type 50, which this version does not know; use one as new as the other side's"},
		{4, 0, "section 1 is of type 0, which this version does not know"},
		{8, 2, "section 1 (part) has flags 0x2, which this version does not know"},
		{16, 3, "section 3 came where 1 was due"},
		{20, SECTION_BYTES_MAX + 1,
		 "section 1 (part) has 1048577 bytes, more than the 1048576 that are allowed"},
		{20, UINT32_MAX, "section 1 (part) has 4294967295 bytes"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct recording recording;
		struct tenon_error err = {0};
		unsigned sections;
		record(&recording);
		uint8_t *header = recording.bytes + recording.starts[1];
		wire_put32(header + cases[i].at, cases[i].value);
		sign(header);
		cr_assert_eq(read_all(recording.bytes, recording.size, &sections, &err), -EBADMSG);
		cr_assert_eq(sections, 1);
		cr_assert(strstr(err.message, cases[i].why), "%s", err.message);
	}
}

Test(migration_stream, wrong_checksum_names_its_section)
{
	struct recording recording;
	struct tenon_error err = {0};
	unsigned sections;
	record(&recording);
	recording.bytes[recording.starts[3] + SECTION_HEADER_BYTES] ^= 1;
	cr_assert_eq(read_all(recording.bytes, recording.size, &sections, &err), -EBADMSG);
	cr_assert(strstr(err.message,
			 "section 3 (part) has a wrong checksum: the stream was damaged on the way; migrate again"),
		  "%s", err.message);
}

Test(migration_stream, reader_that_was_never_set_up_can_be_finished)
{
	struct stream_reader reader = {0};
	stream_reader_finish(&reader);
	cr_assert_null(reader.payload);
}

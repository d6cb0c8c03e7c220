// SPDX-License-Identifier: MIT
/* The payloads of small sections: written, read again, and refused at every size and in every field that cannot be. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "messages.h"
#include "migration_pair.h"
#include "wire.h"

static struct pair pair;

static void open_pair(void)
{
	pair_open(&pair);
}

static void close_pair(void)
{
	pair_close(&pair);
}

TestSuite(migration_messages, .init = open_pair, .fini = close_pair);

static const uint8_t session[COMMIT_SESSION_BYTES] = "0123456789abcde";

/* Reads the section that was just written. @return its payload */
static uint8_t *next(enum section_type type, size_t bytes)
{
	struct section section;
	struct tenon_error err = {0};
	cr_assert_eq(message_await(&pair.reader, type, &section, &err), 0, "%s", err.message);
	cr_assert(bytes == SIZE_MAX || section.bytes == bytes, "%u bytes", section.bytes);
	return pair.reader.payload;
}

/* ---- Waiting ---- */

Test(migration_messages, other_side_that_gives_up_is_quoted)
{
	static const struct {
		enum section_type type;
		const char *message;
	} cases[] = {{SECTION_REFUSED, "the other side refused: no memory"},
		     {SECTION_FAILED, "the other side failed: no memory"},
		     {SECTION_ABORT, "the other side gave up: no memory"}};
	for (size_t i = 0; i < 3; i++) {
		struct section section;
		struct tenon_error err = {0};
		stream_write_text(&pair.writer, cases[i].type, "no memory", NULL);
		cr_assert_eq(message_await(&pair.reader, SECTION_WELCOME, &section, &err), -ECONNABORTED);
		cr_assert_str_eq(err.message, cases[i].message);
	}
}

Test(migration_messages, section_that_is_not_due_is_refused)
{
	struct section section;
	struct tenon_error err = {0};
	stream_write_bytes(&pair.writer, SECTION_STARTED, 0, NULL, 0, NULL);
	cr_assert_eq(message_await(&pair.reader, SECTION_READY, &section, &err), -EBADMSG);
	cr_assert(strstr(err.message, "section \"started\" came where \"ready\" was due"), "%s", err.message);
	pair_hang_up(&pair);
	cr_assert_eq(message_await(&pair.reader, SECTION_READY, &section, &err), -ENODATA);
	cr_assert(strstr(err.message, "the other side went away before it said \"ready\""), "%s", err.message);
}

Test(migration_messages, section_without_a_payload_must_have_none)
{
	struct tenon_error err = {0};
	const struct section empty = {.type = SECTION_COMMIT}, full = {.type = SECTION_COMMIT, .bytes = 1};
	cr_assert_eq(message_empty(&empty, NULL), 0);
	cr_assert_eq(message_empty(&full, &err), -EBADMSG);
	cr_assert_str_eq(err.message, "migration stream: commit has 1 bytes instead of 0");
}

/* ---- HELLO ---- */

static uint8_t *sound_hello(void)
{
	const struct hello hello = {.flags = 0, .lane = 2, .lanes = 4};
	struct hello given = hello;
	memcpy(given.session, session, sizeof(session));
	cr_assert_eq(hello_write(&pair.writer, &given, NULL), 0);
	return next(SECTION_HELLO, 40);
}

Test(migration_messages, hello_is_read_as_it_was_written)
{
	struct hello hello;
	cr_assert_eq(hello_decode(sound_hello(), 40, &hello, NULL), 0);
	cr_assert(hello.version == STREAM_VERSION && hello.flags == 0 && hello.lane == 2 && hello.lanes == 4 &&
		  hello.page_bytes == 4096);
	cr_assert_arr_eq(hello.session, session, sizeof(session));
	const struct hello file = {.flags = HELLO_FLAG_FILE, .lanes = 1};
	hello_write(&pair.writer, &file, NULL);
	cr_assert_eq(hello_decode(next(SECTION_HELLO, 40), 40, &hello, NULL), 0);
	cr_assert_eq(hello.flags, HELLO_FLAG_FILE);
}

Test(migration_messages, hello_that_cannot_be_is_refused)
{
	static const struct {
		unsigned at;
		uint32_t value;
		int code;
		const char *why;
	} cases[] = {
		{0, 3, -EPROTONOSUPPORT, "the migration stream was made by a newer version 3; this one reads up to 1"},
		{0, 0, -EBADMSG, "migration stream: hello has version 0 and flags 0x0, which nobody sends"},
		{4, 2, -EBADMSG, "migration stream: hello has version 1 and flags 0x2, which nobody sends"},
		{4, 1, -EBADMSG, "migration stream: connection 2 of 4 is not possible"}, /* a file has one */
		{24, 4, -EBADMSG, "migration stream: connection 4 of 4 is not possible"},
		{28, 0, -EBADMSG, "migration stream: connection 2 of 0 is not possible"},
		{28, 17, -EBADMSG, "migration stream: connection 2 of 17 is not possible"},
		{32, 16384, -EBADMSG, "migration stream: its pages have 16384 bytes, and 4096 here"},
		{36, 1, -EBADMSG, "migration stream: hello has version 1 and flags 0x0, which nobody sends"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hello hello;
		struct tenon_error err = {0};
		uint8_t *payload = sound_hello();
		wire_put32(payload + cases[i].at, cases[i].value);
		cr_assert_eq(hello_decode(payload, 40, &hello, &err), cases[i].code);
		cr_assert_str_eq(err.message, cases[i].why);
	}
}

/* What it has after its first number is that version's business. */
Test(migration_messages, hello_of_a_newer_version_is_named_whatever_its_size)
{
	struct hello hello;
	uint8_t payload[100] = {2};
	for (size_t bytes = 4; bytes <= sizeof(payload); bytes++)
		cr_assert_eq(hello_decode(payload, bytes, &hello, NULL), -EPROTONOSUPPORT);
}

/* ---- Fixed sizes ---- */

static int decode_hello(const uint8_t *payload, size_t bytes)
{
	struct hello out;
	return hello_decode(payload, bytes, &out, NULL);
}

static int decode_end(const uint8_t *payload, size_t bytes)
{
	struct end_counts out;
	return end_decode(payload, bytes, &out, NULL);
}

static int decode_verdict(const uint8_t *payload, size_t bytes)
{
	struct verdict out;
	return verdict_decode(payload, bytes, &out, NULL);
}

static int decode_answer(const uint8_t *payload, size_t bytes)
{
	enum commit_answer out;
	return answer_decode(payload, bytes, &out, NULL);
}

Test(migration_messages, payload_of_another_size_is_refused)
{
	static const struct {
		int (*decode)(const uint8_t *payload, size_t bytes);
		size_t bytes;
	} cases[] = {{decode_hello, 40}, {decode_end, 40}, {decode_verdict, 20}, {decode_answer, 4}};
	uint8_t payload[64] = {1}; /* version, answer; */
	payload[16] = 1;           /* verdict */
	wire_put32(payload + 28, 1);
	wire_put32(payload + 32, 4096);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t bytes = 0; bytes < sizeof(payload); bytes++) {
			uint8_t *exact = malloc(bytes + 1); /* so that a read behind it is noticed */
			memcpy(exact, payload, bytes);
			if (i == 0) /* its flags are where the others have other things */
				memset(exact + (bytes > 16 ? 16 : bytes), 0, bytes > 17 ? 1 : 0);
			cr_assert_eq(cases[i].decode(exact, bytes), bytes == cases[i].bytes ? 0 : -EBADMSG,
				     "%zu of %zu", bytes, i);
			free(exact);
		}
	}
}

Test(migration_messages, end_tells_what_must_have_come_and_names_what_did_not)
{
	const struct end_counts sent = {
		.pages = 1ull << 40, .zero_pages = 2, .ram_bytes = 3, .device_bytes = 4, .parts = 5};
	struct end_counts read, less;
	struct tenon_error err = {0};
	end_write(&pair.writer, &sent, NULL);
	cr_assert_eq(end_decode(next(SECTION_END, 40), 40, &read, NULL), 0);
	cr_assert_eq(end_compare(&sent, &read, NULL), 0);
	less = read;
	less.pages--;
	cr_assert_eq(end_compare(&sent, &less, &err), -EBADMSG);
	cr_assert_str_eq(err.message,
			 "migration stream: 1099511627776 pages were sent, and 1099511627775 came; migrate again");
	less = read;
	less.parts = 6;
	cr_assert_eq(end_compare(&sent, &less, &err), -EBADMSG);
	cr_assert_str_eq(err.message, "migration stream: 5 parts were sent, and 6 came; migrate again");
	less = read;
	less.zero_pages = less.ram_bytes = less.device_bytes = 0;
	cr_assert_eq(end_compare(&sent, &less, NULL), -EBADMSG);
}

Test(migration_messages, verdict_and_answer_are_read_as_they_were_written)
{
	static const enum commit_verdict verdicts[] = {COMMIT_VERDICT_COMMITTED, COMMIT_VERDICT_ABORTED,
						       COMMIT_VERDICT_FINISHED};
	for (size_t i = 0; i < 3; i++) {
		struct verdict verdict = {.verdict = verdicts[i]}, read;
		memcpy(verdict.session, session, sizeof(session));
		verdict_write(&pair.writer, &verdict, NULL);
		cr_assert_eq(verdict_decode(next(SECTION_VERDICT, 20), 20, &read, NULL), 0);
		cr_assert_eq(read.verdict, verdicts[i]);
		cr_assert_arr_eq(read.session, session, sizeof(session));
	}
	static const enum commit_answer answers[] = {COMMIT_ANSWER_RUNS, COMMIT_ANSWER_GONE, COMMIT_ANSWER_ENDED};
	for (size_t i = 0; i < 3; i++) {
		enum commit_answer read;
		answer_write(&pair.writer, answers[i], NULL);
		cr_assert_eq(answer_decode(next(SECTION_ANSWER, 4), 4, &read, NULL), 0);
		cr_assert_eq(read, answers[i]);
	}
}

Test(migration_messages, verdict_or_answer_that_nobody_gives_is_refused)
{
	struct verdict verdict;
	enum commit_answer answer;
	struct tenon_error err = {0};
	uint8_t payload[20] = {0};
	for (uint32_t value = 4; value; value = value < 1u << 31 ? value * 2 : 0) {
		wire_put32(payload + 16, value);
		cr_assert_eq(verdict_decode(payload, 20, &verdict, &err), -EBADMSG);
		wire_put32(payload, value);
		cr_assert_eq(answer_decode(payload, 4, &answer, &err), -EBADMSG);
	}
	cr_assert_str_eq(err.message, "migration stream: 2147483648 is no answer");
	memset(payload, 0, sizeof(payload));
	cr_assert_eq(verdict_decode(payload, 20, &verdict, &err), -EBADMSG);
	cr_assert_str_eq(err.message, "migration stream: 0 is no verdict");
	cr_assert_eq(answer_decode(payload, 4, &answer, NULL), -EBADMSG);
}

/* ---- DESCRIPTION ---- */

static const struct tenon_migration_ram ram[] = {{.gpa = 0, .size_bytes = 3u << 30},
						 {.gpa = 4ull << 30, .size_bytes = 1u << 20}};
static const struct tenon_migratable devices[] = {{.name = "0000:3b:00.0"}, {.name = "vfio-user:/run/dev.sock"}};
static const struct tenon_migration_machine machine = {
	.size = sizeof(machine), .ram = ram, .ram_count = 2, .devices = devices, .device_count = 2};

#define DESCRIPTION_BYTES (16 + 2 * 16 + 2 * 64 + 4)

static uint8_t *sound_description(void)
{
	cr_assert_eq(description_write(&pair.writer, &machine, "text", 4, NULL), 0);
	return next(SECTION_DESCRIPTION, DESCRIPTION_BYTES);
}

Test(migration_messages, description_is_read_as_it_was_written)
{
	struct description description;
	cr_assert_eq(description_decode(sound_description(), DESCRIPTION_BYTES, &description, NULL), 0);
	cr_assert(description.ram_count == 2 && description.device_count == 2 && description.text_bytes == 4);
	cr_assert(description.ram[1].gpa == 4ull << 30 && description.ram[1].size_bytes == 1u << 20);
	cr_assert_str_eq(description.devices[1], "vfio-user:/run/dev.sock");
	cr_assert_arr_eq(description.text, "text", 4);
	cr_assert_eq(description_compare(&description, &machine, NULL), 0);

	const struct tenon_migration_machine bare = {.size = sizeof(bare)};
	description_write(&pair.writer, &bare, NULL, 0, NULL);
	cr_assert_eq(description_decode(next(SECTION_DESCRIPTION, 16), 16, &description, NULL), 0);
	cr_assert(description.ram_count == 0 && description.device_count == 0 && description.text_bytes == 0);
}

Test(migration_messages, description_of_any_other_size_is_refused)
{
	struct description description;
	uint8_t payload[DESCRIPTION_BYTES + 10];
	memcpy(payload, sound_description(), sizeof(payload));
	for (size_t bytes = 0; bytes < sizeof(payload); bytes++) {
		uint8_t *exact = malloc(bytes + 1);
		memcpy(exact, payload, bytes);
		cr_assert_eq(description_decode(exact, bytes, &description, NULL),
			     bytes == DESCRIPTION_BYTES ? 0 : -EBADMSG);
		free(exact);
	}
}

Test(migration_messages, description_that_cannot_be_is_refused)
{
	static const struct {
		unsigned at;
		uint32_t value;
		const char *why;
	} cases[] = {
		{0, 17, "migration stream: a description of 17 RAM regions, 2 devices and 4 bytes has 180 bytes"},
		{4, 33, "migration stream: a description of 2 RAM regions, 33 devices and 4 bytes has 180 bytes"},
		{8, UINT32_MAX,
		 "migration stream: a description of 2 RAM regions, 2 devices and 4294967295 bytes has 180 bytes"},
		{12, 1, "migration stream: a description of 2 RAM regions, 2 devices and 4 bytes has 180 bytes"},
		{16, 1, "migration stream: RAM of 0xc0000000 bytes at 0x1 is not possible"},
		{24, 0, "migration stream: RAM of 0x0 bytes at 0x0 is not possible"},
		{36, 0, "migration stream: RAM regions 0 and 1 overlap"},
		{44, UINT32_MAX, "migration stream: RAM of 0xffffffff00100000 bytes at 0x100000000 is not possible"},
		{48, 0, "migration stream: device 0 has no proper name"},
		{48, 0x0a303030, "migration stream: device 0 has no proper name"},
		{48 + 60, 0x41414141, "migration stream: device 0 has no proper name"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct description description;
		struct tenon_error err = {0};
		uint8_t *payload = sound_description();
		wire_put32(payload + cases[i].at, cases[i].value);
		cr_assert_eq(description_decode(payload, DESCRIPTION_BYTES, &description, &err), -EBADMSG, "case %zu",
			     i);
		cr_assert_str_eq(err.message, cases[i].why);
	}
}

Test(migration_messages, machine_that_differs_is_refused_and_the_difference_is_named)
{
	struct description sound, other;
	struct tenon_error err = {0};
	cr_assert_eq(description_decode(sound_description(), DESCRIPTION_BYTES, &sound, NULL), 0);
	other = sound;
	other.ram_count = 1;
	cr_assert_eq(description_compare(&other, &machine, &err), -EINVAL);
	cr_assert_str_eq(err.message, "the source has 1 RAM regions, and this machine 2; give both the same memory");
	other = sound;
	other.ram[1].size_bytes *= 2;
	cr_assert_eq(description_compare(&other, &machine, &err), -EINVAL);
	cr_assert_str_eq(err.message,
			 "RAM region 1: the source has 0x200000 bytes at 0x100000000, and this machine 0x100000 at "
			 "0x100000000; give both the same memory");
	other = sound;
	strcpy(other.devices[other.device_count++], "0000:04:00.0");
	cr_assert_eq(description_compare(&other, &machine, &err), -EINVAL);
	cr_assert_str_eq(err.message, "the source has 3 devices, and this machine 2: 0000:04:00.0 is missing");
	other = sound;
	other.device_count = 1;
	cr_assert_eq(description_compare(&other, &machine, &err), -EINVAL);
	cr_assert_str_eq(err.message,
			 "the source has 1 devices, and this machine 2: vfio-user:/run/dev.sock is too many");
}

Test(migration_messages, machine_that_is_too_large_is_not_written)
{
	struct tenon_migration_machine large = machine;
	cr_assert_eq(description_write(&pair.writer, &machine, "", SECTION_BYTES_MAX, NULL), -EINVAL);
	large.ram_count = TENON_MIGRATION_RAM + 1;
	cr_assert_eq(description_write(&pair.writer, &large, "", 0, NULL), -EINVAL);
	large = machine;
	large.device_count = TENON_MIGRATION_DEVICES + 1;
	cr_assert_eq(description_write(&pair.writer, &large, "", 0, NULL), -EINVAL);
}

/* ---- PART ---- */

#define PART_HEAD 88u

static int collect(struct part *part, struct tenon_error *err)
{
	struct section section;
	cr_assert_eq(stream_read(&pair.reader, &section, NULL), 0);
	cr_assert_eq(section.type, SECTION_PART);
	return part_collect(part, pair.reader.payload, section.bytes, err);
}

Test(migration_messages, part_of_any_size_is_put_together_again)
{
	static const size_t sizes[] = {0, 1, SECTION_BYTES_MAX - PART_HEAD, SECTION_BYTES_MAX - PART_HEAD + 1, 3000000};
	uint8_t *data = malloc(3000000);
	for (size_t i = 0; i < 3000000; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 12));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct part part = {0};
		int code, pieces = 0;
		cr_assert_eq(part_write(&pair.writer, "vcpu0", 3, data, sizes[i], NULL), 0);
		while ((code = collect(&part, NULL)) == 0)
			pieces++;
		cr_assert_eq(code, 1);
		cr_assert_eq(pieces, (int)(sizes[i] ? (sizes[i] - 1) / (SECTION_BYTES_MAX - PART_HEAD) : 0));
		cr_assert(part.total_bytes == sizes[i] && part.version == 3 && memcmp(part.data, data, sizes[i]) == 0);
		cr_assert_str_eq(part.name, "vcpu0");
		part_finish(&part);
		cr_assert_not(part.begun);
	}
	free(data);
}

Test(migration_messages, part_that_cannot_be_named_or_is_too_large_is_not_written)
{
	char name[70];
	memset(name, 'n', sizeof(name));
	name[64] = '\0';
	cr_assert_eq(part_write(&pair.writer, name, 0, "", 0, NULL), -EINVAL);
	cr_assert_eq(part_write(&pair.writer, "", 0, "", 0, NULL), -EINVAL);
	cr_assert_eq(part_write(&pair.writer, "a\nb", 0, "", 0, NULL), -EINVAL);
	cr_assert_eq(part_write(&pair.writer, "a", 0, "", PART_BYTES_MAX + 1, NULL), -EINVAL);
	cr_assert_eq(pair.writer.sequence, 0);
	name[63] = '\0';
	cr_assert_eq(part_write(&pair.writer, name, 0, "", 0, NULL), 0);
}

static size_t piece(uint8_t *payload, const char *name, uint32_t version, uint64_t total, uint64_t offset, size_t bytes)
{
	memset(payload, 0, PART_HEAD + bytes);
	memcpy(payload, name, strlen(name));
	wire_put32(payload + 64, version);
	wire_put64(payload + 72, total);
	wire_put64(payload + 80, offset);
	return PART_HEAD + bytes;
}

Test(migration_messages, piece_that_does_not_follow_is_refused)
{
	static const struct {
		const char *name;
		uint32_t version;
		uint64_t total, offset;
		size_t bytes;
		int code;
	} second[] = {
		{"serial", 1, 100, 40, 60, 1}, /* the right one */
		{"serial", 1, 100, 40, 59, 0}, /* more is to come */
		{"serial", 1, 100, 40, 61, -EBADMSG}, {"serial", 1, 100, 41, 59, -EBADMSG},
		{"serial", 1, 100, 0, 60, -EBADMSG},  {"serial", 1, 101, 40, 60, -EBADMSG},
		{"serial", 2, 100, 40, 60, -EBADMSG}, {"serial0", 1, 100, 40, 60, -EBADMSG},
		{"serial", 1, 100, 40, 0, -EBADMSG},  {"serial", 1, UINT64_MAX, 40, 60, -EBADMSG},
	};
	uint8_t payload[PART_HEAD + 200];
	for (size_t i = 0; i < sizeof(second) / sizeof(second[0]); i++) {
		struct part part = {0};
		struct tenon_error err = {0};
		cr_assert_eq(part_collect(&part, payload, piece(payload, "serial", 1, 100, 0, 40), NULL), 0);
		size_t bytes = piece(payload, second[i].name, second[i].version, second[i].total, second[i].offset,
				     second[i].bytes);
		cr_assert_eq(part_collect(&part, payload, bytes, &err), second[i].code, "case %zu", i);
		cr_assert(second[i].code >= 0 ||
				  strcmp(err.message,
					 "migration stream: a piece of part \"serial\" is missing or wrong") == 0,
			  "%s", err.message);
		part_finish(&part);
	}
}

Test(migration_messages, first_piece_that_cannot_be_is_refused)
{
	uint8_t payload[PART_HEAD + 200];
	struct part part = {0};
	struct tenon_error err = {0};
	for (size_t bytes = 0; bytes < PART_HEAD; bytes++) {
		piece(payload, "serial", 1, 0, 0, 0);
		cr_assert_eq(part_collect(&part, payload, bytes, NULL), -EBADMSG);
	}
	cr_assert_eq(part_collect(&part, payload, piece(payload, "", 1, 0, 0, 0), &err), -EBADMSG);
	cr_assert_str_eq(err.message, "migration stream: a part without a proper name");
	cr_assert_eq(part_collect(&part, payload, piece(payload, "serial", 1, PART_BYTES_MAX + 1, 0, 1), &err),
		     -EBADMSG);
	cr_assert_str_eq(
		err.message,
		"migration stream: part \"serial\" has 67108865 bytes, more than the 67108864 that are allowed");
	piece(payload, "serial", 1, 0, 0, 0);
	payload[63] = 1;
	cr_assert_eq(part_collect(&part, payload, PART_HEAD, NULL), -EBADMSG, "something behind the name's end");
	piece(payload, "serial", 1, 0, 0, 0);
	payload[68] = 1;
	cr_assert_eq(part_collect(&part, payload, PART_HEAD, NULL), -EBADMSG, "a reserved byte");
	cr_assert_not(part.begun);
}

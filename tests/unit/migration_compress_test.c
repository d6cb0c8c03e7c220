// SPDX-License-Identifier: MIT
/* What a hostile sender may try with compressed pages, and what there is no memory for. migration_ram_test.c has what works. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <criterion/criterion.h>

#include "compress.h"
#include "ram.h"
#include "ram_layout.h"
#include "wire.h"

#define PAGES 16u

static uint64_t state = 0x2545f4914f6cdd1du;

static uint64_t random_next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* ---- Calls that find no memory ---- */

enum zstd_call { ZSTD_NONE, ZSTD_CONTEXT, ZSTD_DECOMPRESSION };

static enum zstd_call fail_zstd;

ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
size_t __real_ZSTD_decompressDCtx(ZSTD_DCtx *context, void *to, size_t room, const void *from, size_t bytes);
size_t __wrap_ZSTD_decompressDCtx(ZSTD_DCtx *context, void *to, size_t room, const void *from, size_t bytes);

ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
	return fail_zstd == ZSTD_CONTEXT ? NULL : __real_ZSTD_createDCtx();
}

size_t __wrap_ZSTD_decompressDCtx(ZSTD_DCtx *context, void *to, size_t room, const void *from, size_t bytes)
{
	return fail_zstd == ZSTD_DECOMPRESSION ? (size_t)-ZSTD_error_memory_allocation
					       : __real_ZSTD_decompressDCtx(context, to, room, from, bytes);
}

/* ---- A memory of zeroes, and who receives it ---- */

struct target {
	struct tenon_migration_ram ram;
	struct ram_receiver *receiver;
};

static void target_open(struct target *target)
{
	struct tenon_error err = {0};
	target->ram = (struct tenon_migration_ram){.size_bytes = PAGES * RAM_PAGE};
	target->ram.hva =
		mmap(NULL, target->ram.size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(target->ram.hva, MAP_FAILED);
	cr_assert_eq(ram_receiver_create(&target->ram, 1, 1, &target->receiver, &err), 0, "%s", err.message);
}

static void target_close(struct target *target)
{
	ram_receiver_destroy(target->receiver);
	munmap(target->ram.hva, target->ram.size_bytes);
}

static bool is_untouched(const struct target *target)
{
	for (uint64_t page = 0; page < PAGES; page++) {
		if (!ram_page_is_zero((uint8_t *)target->ram.hva + page * RAM_PAGE))
			return false;
	}
	return true;
}

/* A payload of three pages, as such and compressed. */
struct squeezed {
	uint8_t payload[64 + 3 * RAM_PAGE];
	struct compressor compressor;
	uint32_t bytes; /* of the compressor's payload */
};

static void squeeze(struct squeezed *squeezed)
{
	const struct ram_run run = {.first = PAGES - 3, .pages = 3};
	*squeezed = (struct squeezed){0};
	ram_table_encode(squeezed->payload, &run, 1);
	for (size_t i = 64; i < sizeof(squeezed->payload); i++)
		squeezed->payload[i] = (uint8_t)(random_next() % 4 * 3);
	squeezed->bytes =
		(uint32_t)compressor_run(&squeezed->compressor, squeezed->payload, sizeof(squeezed->payload), NULL);
	cr_assert(squeezed->bytes > 64 && squeezed->bytes < sizeof(squeezed->payload));
}

/* Exactly as large as it is, so that AddressSanitizer sees a read past its end. */
static int take_compressed(struct target *target, const uint8_t *payload, uint32_t bytes, struct tenon_error *err)
{
	uint8_t *exact = malloc(bytes ? bytes : 1);
	const struct stream_reader reader = {.payload = exact};
	const struct section section = {.type = SECTION_COMPRESSED, .bytes = bytes};
	if (bytes)
		memcpy(exact, payload, bytes);
	int code = ram_receiver_section(target->receiver, 0, &reader, &section, err);
	free(exact);
	return code;
}

static void expect_refused(struct target *target, const uint8_t *payload, uint32_t bytes, const char *why)
{
	struct ram_sender_counts counts;
	struct tenon_error err = {0};
	cr_assert_eq(take_compressed(target, payload, bytes, &err), -EBADMSG, "not refused, though \"%s\"", why);
	cr_assert(strstr(err.message, why), "\"%s\" does not say \"%s\"", err.message, why);
	cr_assert(strstr(err.message, "migration stream: compressed pages ") == err.message, "%s", err.message);
	cr_assert(is_untouched(target), "wrote, though \"%s\"", why);
	ram_receiver_counts(target->receiver, &counts);
	cr_assert(counts.pages == 0 && counts.bytes == 0);
}

Test(migration_compress, compressed_pages_that_are_of_another_size_are_refused_and_write_nothing)
{
	struct target target;
	struct squeezed squeezed;
	target_open(&target);
	squeeze(&squeezed);
	uint8_t *payload = squeezed.compressor.payload;
	wire_put32(payload, 0);
	expect_refused(&target, payload, squeezed.bytes, "cannot be of 0 bytes; at most 1048576");
	wire_put32(payload, SECTION_BYTES_MAX + 1);
	expect_refused(&target, payload, squeezed.bytes, "cannot be of 1048577 bytes; at most 1048576");
	wire_put32(payload, UINT32_MAX);
	expect_refused(&target, payload, squeezed.bytes, "cannot be of 4294967295 bytes; at most 1048576");
	wire_put32(payload, sizeof(squeezed.payload) - 1);
	expect_refused(&target, payload, squeezed.bytes, "of 12351 bytes cannot be decompressed: ");
	wire_put32(payload, sizeof(squeezed.payload) + 1);
	expect_refused(&target, payload, squeezed.bytes, "of 12353 bytes have 12352 once decompressed");
	for (uint32_t bytes = 0; bytes < 5; bytes++)
		expect_refused(&target, payload, bytes, "compressed pages in");
	wire_put32(payload, sizeof(squeezed.payload));
	cr_assert_eq(take_compressed(&target, payload, squeezed.bytes, NULL), 0);
	cr_assert_eq(memcmp((uint8_t *)target.ram.hva + (PAGES - 3) * RAM_PAGE, squeezed.payload + 64, 3 * RAM_PAGE),
		     0);
	compressor_finish(&squeezed.compressor);
	target_close(&target);
}

Test(migration_compress, compressed_pages_that_give_more_than_any_section_are_refused)
{
	struct target target;
	const size_t bytes = 64u << 20;
	uint8_t *zeros = calloc(1, bytes), *payload = malloc(ZSTD_compressBound(bytes));
	target_open(&target);
	size_t frame = ZSTD_compress(payload + 4, ZSTD_compressBound(bytes) - 4, zeros, bytes, 1);
	cr_assert_lt(frame, 65536);
	wire_put32(payload, SECTION_BYTES_MAX);
	expect_refused(&target, payload, 4 + (uint32_t)frame, "of 1048576 bytes cannot be decompressed: ");
	free(payload);
	free(zeros);
	target_close(&target);
}

Test(migration_compress, compressed_pages_that_are_not_one_whole_frame_are_refused)
{
	static const char why[] = "are not one whole zstd frame";
	struct target target;
	struct squeezed squeezed;
	target_open(&target);
	squeeze(&squeezed);
	uint8_t *payload = squeezed.compressor.payload, *twice = calloc(2, squeezed.bytes);
	uint32_t frame = squeezed.bytes - 4;
	for (uint32_t bytes = 5; bytes < squeezed.bytes; bytes++)
		expect_refused(&target, payload, bytes, why);
	memcpy(twice, payload, squeezed.bytes);
	expect_refused(&target, twice, squeezed.bytes + 1, why);
	memcpy(twice + squeezed.bytes, payload + 4, frame);
	wire_put32(twice, 2 * sizeof(squeezed.payload));
	expect_refused(&target, twice, squeezed.bytes + frame, why);
	memcpy(twice, payload, squeezed.bytes);
	wire_put32(twice + 4, ZSTD_MAGIC_SKIPPABLE_START);
	wire_put32(twice + 8, frame - 8);
	expect_refused(&target, twice, squeezed.bytes, why);
	for (uint8_t old = 0x22; old < 0x28; old++) { /* zstd before 0.8 */
		wire_put32(twice + 4, 0xfd2fb500u | old);
		expect_refused(&target, twice, squeezed.bytes, why);
	}
	free(twice);
	compressor_finish(&squeezed.compressor);
	target_close(&target);
}

/* The sum of a section finds it before; but not what somebody has forged. */
Test(migration_compress, compressed_pages_with_any_bit_flipped_are_refused_with_a_reason_or_are_pages)
{
	struct target target;
	struct squeezed squeezed;
	unsigned refused = 0;
	target_open(&target);
	squeeze(&squeezed);
	uint8_t *payload = squeezed.compressor.payload;
	for (uint32_t bit = 0; bit < 8 * squeezed.bytes; bit++) {
		struct tenon_error err = {0};
		payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
		int code = take_compressed(&target, payload, squeezed.bytes, &err);
		cr_assert(code == 0 || (code == -EBADMSG && err.message[0]), "bit %u: %d", bit, code);
		refused += code < 0;
		payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	cr_assert_geq(refused, 8 * 8, "size and magic at least");
	compressor_finish(&squeezed.compressor);
	target_close(&target);
}

Test(migration_compress, section_without_memory_to_decompress_it_is_refused_and_taken_once_there_is_some)
{
	struct target target;
	struct squeezed squeezed;
	target_open(&target);
	squeeze(&squeezed);
	const uint8_t *payload = squeezed.compressor.payload;
	for (fail_zstd = ZSTD_CONTEXT; fail_zstd <= ZSTD_DECOMPRESSION; fail_zstd++) {
		struct tenon_error err = {0};
		cr_assert_eq(take_compressed(&target, payload, squeezed.bytes, &err), -ENOMEM);
		cr_assert_str_eq(err.message, "no memory to decompress RAM; free some, or do not compress");
	}
	fail_zstd = ZSTD_NONE;
	cr_assert(is_untouched(&target));
	cr_assert_eq(take_compressed(&target, payload, squeezed.bytes, NULL), 0);
	compressor_finish(&squeezed.compressor);
	target_close(&target);
}

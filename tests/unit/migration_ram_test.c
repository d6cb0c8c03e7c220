// SPDX-License-Identifier: MIT
/* RAM over one to four lanes, between two memories of this process, and what a hostile sender may try. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <criterion/criterion.h>

#include "compress.h"
#include "kernel_calls.h"
#include "migration_pair.h"
#include "ram.h"
#include "ram_layout.h"
#include "wire.h"

#define REGIONS 3u

static const uint64_t region_pages[REGIONS] = {700, 1, 1500}; /* neither whole chunks nor whole words */

static uint64_t state = 0x2545f4914f6cdd1du;

static uint64_t random_below(uint64_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % limit;
}

/* ---- Kernel calls that fail ---- */

static int fail_thread = -1; /* how many threads start before one does not */
static bool fail_mincore;
static unsigned mincore_calls;

int __real_mcall_thread_start(const char *name, void *(*entry)(void *), void *argument, pthread_t *out);
int __wrap_mcall_thread_start(const char *name, void *(*entry)(void *), void *argument, pthread_t *out);
int __real_mcall_mincore(void *address, size_t bytes, unsigned char *present);
int __wrap_mcall_mincore(void *address, size_t bytes, unsigned char *present);
int __wrap_mcall_populate(void *address, size_t bytes);

int __wrap_mcall_thread_start(const char *name, void *(*entry)(void *), void *argument, pthread_t *out)
{
	if (fail_thread >= 0 && fail_thread-- == 0)
		return -EAGAIN;
	return __real_mcall_thread_start(name, entry, argument, out);
}

int __wrap_mcall_mincore(void *address, size_t bytes, unsigned char *present)
{
	mincore_calls++;
	return fail_mincore ? -EAGAIN : __real_mcall_mincore(address, bytes, present);
}

/* Only makes it faster. */
int __wrap_mcall_populate(void *address, size_t bytes)
{
	(void)address;
	(void)bytes;
	return -EINVAL;
}

/* ---- Compression that has no memory ---- */

enum zstd_call { ZSTD_NONE, ZSTD_CONTEXT, ZSTD_COMPRESSION };

static enum zstd_call fail_zstd;
static atomic_uint compressors, decompressors;

ZSTD_CCtx *__real_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void);
ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
size_t __real_ZSTD_compress2(ZSTD_CCtx *context, void *to, size_t room, const void *from, size_t bytes);
size_t __wrap_ZSTD_compress2(ZSTD_CCtx *context, void *to, size_t room, const void *from, size_t bytes);

ZSTD_CCtx *__wrap_ZSTD_createCCtx(void)
{
	compressors++;
	return fail_zstd == ZSTD_CONTEXT ? NULL : __real_ZSTD_createCCtx();
}

ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
	decompressors++;
	return __real_ZSTD_createDCtx();
}

size_t __wrap_ZSTD_compress2(ZSTD_CCtx *context, void *to, size_t room, const void *from, size_t bytes)
{
	return fail_zstd == ZSTD_COMPRESSION ? (size_t)-ZSTD_error_memory_allocation
					     : __real_ZSTD_compress2(context, to, room, from, bytes);
}

/* ---- Two machines and their lanes ---- */

struct move {
	struct tenon_migration_ram from[REGIONS], to[REGIONS];
	struct pair pairs[RAM_LANES_MAX];
	struct stream_writer *writers[RAM_LANES_MAX];
	unsigned lanes;
	struct ram_sender *sender;
	struct ram_receiver *receiver;
	pthread_t threads[RAM_LANES_MAX];
	struct lane_context {
		struct move *move;
		unsigned lane;
		unsigned rounds;
		int code;
	} contexts[RAM_LANES_MAX];
};

static void map_region(struct tenon_migration_ram *ram, unsigned region)
{
	*ram = (struct tenon_migration_ram){.gpa = 0x10000000ull * region,
					    .size_bytes = region_pages[region] * RAM_PAGE};
	ram->hva = mmap(NULL, ram->size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(ram->hva, MAP_FAILED);
}

static void *receive_lane(void *argument)
{
	struct lane_context *context = argument;
	struct move *move = context->move;
	struct stream_reader *reader = &move->pairs[context->lane].reader;
	struct section section;
	int code;
	while ((code = stream_read(reader, &section, NULL)) == 0) {
		if (section.type == SECTION_ROUND) {
			code = ram_receiver_round(move->receiver, context->lane, NULL);
			context->rounds += code == 0;
		} else {
			code = ram_receiver_section(move->receiver, context->lane, reader, &section, NULL);
		}
		if (code < 0)
			break;
	}
	ram_receiver_end(move->receiver);
	context->code = code;
	return NULL;
}

static void move_open(struct move *move, unsigned lanes, uint64_t bytes_per_second)
{
	struct tenon_error err = {0};
	*move = (struct move){.lanes = lanes};
	for (unsigned i = 0; i < REGIONS; i++) {
		map_region(&move->from[i], i);
		map_region(&move->to[i], i);
	}
	for (unsigned i = 0; i < lanes; i++) {
		pair_open(&move->pairs[i]);
		move->writers[i] = &move->pairs[i].writer;
	}
	cr_assert_eq(
		ram_sender_create(move->from, REGIONS, move->writers, lanes, bytes_per_second, &move->sender, &err), 0,
		"%s", err.message);
	cr_assert_eq(ram_receiver_create(move->to, REGIONS, lanes, &move->receiver, &err), 0, "%s", err.message);
}

static void move_receive(struct move *move)
{
	for (unsigned i = 0; i < move->lanes; i++) {
		move->contexts[i] = (struct lane_context){.move = move, .lane = i};
		cr_assert_eq(pthread_create(&move->threads[i], NULL, receive_lane, &move->contexts[i]), 0);
	}
}

/* The source goes away, and the receiving threads with it. */
static void move_hang_up(struct move *move)
{
	for (unsigned i = 0; i < move->lanes; i++)
		pair_hang_up(&move->pairs[i]);
	for (unsigned i = 0; i < move->lanes; i++)
		pthread_join(move->threads[i], NULL);
}

static void move_close(struct move *move)
{
	ram_sender_destroy(move->sender);
	ram_receiver_destroy(move->receiver);
	for (unsigned i = 0; i < REGIONS; i++) {
		munmap(move->from[i].hva, move->from[i].size_bytes);
		munmap(move->to[i].hva, move->to[i].size_bytes);
	}
	for (unsigned i = 0; i < move->lanes; i++)
		pair_close(&move->pairs[i]);
}

static void mark(struct move *move, unsigned region, uint64_t page)
{
	ram_sender_bitmap(move->sender, region)->words[page / 64] |= 1ull << page % 64;
}

static void fill_random(void *memory, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)memory)[i] = random_below(UINT64_MAX);
}

/* The guest writes: runs of pages, some to zero, some only in their last word, some with what cannot be compressed. */
static void guest_writes(struct move *move)
{
	for (unsigned i = 0; i < 40; i++) {
		unsigned region = (unsigned)random_below(REGIONS), kind = (unsigned)random_below(4);
		uint64_t page = random_below(region_pages[region]), count = 1 + random_below(random_below(2) ? 4 : 200);
		for (; count && page < region_pages[region]; count--, page++) {
			uint64_t *words = (uint64_t *)move->from[region].hva + page * RAM_PAGE / 8;
			if (kind == 0)
				memset(words, 0, RAM_PAGE);
			else if (kind == 1)
				words[RAM_PAGE / 8 - 1] = random_below(UINT64_MAX);
			else if (kind == 2)
				fill_random(words, RAM_PAGE);
			else
				memset(words, (int)random_below(256), RAM_PAGE);
			mark(move, region, page);
		}
	}
}

static bool is_equal(const struct move *move)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		if (memcmp(move->from[i].hva, move->to[i].hva, move->from[i].size_bytes) != 0)
			return false;
	}
	return true;
}

static uint64_t dirty_pages(struct move *move)
{
	uint64_t pages = 0;
	for (unsigned i = 0; i < REGIONS; i++)
		pages += bitmap_count(ram_sender_bitmap(move->sender, i));
	return pages;
}

static bool is_resident(const void *address)
{
	unsigned char present;
	cr_assert_eq(mincore((void *)address, RAM_PAGE, &present), 0);
	return present & 1;
}

/* ---- What works ---- */

/* @return what was sent */
static struct ram_sender_counts check_passes(unsigned lanes, bool attach, bool compress)
{
	struct move move;
	struct ram_sender_counts sent, received;
	uint64_t expected = 0;
	move_open(&move, lanes, 0);
	if (compress)
		ram_sender_compress(move.sender);
	for (unsigned i = 0; i < lanes && attach; i++)
		ram_receiver_attach(move.receiver, &move.pairs[i].reader);
	move_receive(&move);
	for (unsigned pass = 0; pass < 6; pass++) {
		struct tenon_error err = {0};
		guest_writes(&move);
		expected += dirty_pages(&move);
		cr_assert_eq(ram_sender_pass(move.sender, pass == 5, NULL, NULL, &err), 0, "%s", err.message);
		cr_assert_eq(dirty_pages(&move), 0, "bits are cleared");
	}
	move_hang_up(&move);
	ram_sender_counts(move.sender, &sent);
	ram_receiver_counts(move.receiver, &received);
	cr_assert_eq(sent.pages + sent.zero_pages, expected, "every dirty page is sent once");
	cr_assert(sent.pages == received.pages && sent.zero_pages == received.zero_pages &&
		  sent.bytes == received.bytes);
	for (unsigned i = 0; i < lanes; i++)
		cr_assert_eq(move.contexts[i].rounds, 6, "lane %u: %d", i, move.contexts[i].code);
	cr_assert(is_equal(&move));
	move_close(&move);
	return sent;
}

Test(migration_ram, memories_are_equal_after_any_passes_over_one_to_four_lanes)
{
	for (unsigned trial = 0; trial < 24; trial++)
		check_passes(1 + trial % 4, trial % 8 < 4, false);
	cr_assert_eq(compressors, 0);
	cr_assert_eq(decompressors, 0);
}

Test(migration_ram, memories_are_equal_after_any_compressed_passes_over_one_and_three_lanes)
{
	for (unsigned trial = 0; trial < 12; trial++) {
		unsigned lanes = trial % 2 ? 3 : 1;
		compressors = decompressors = 0;
		struct ram_sender_counts sent = check_passes(lanes, trial % 4 < 2, true);
		cr_assert_lt(sent.bytes, sent.pages * RAM_PAGE);
		cr_assert(compressors >= 1 && compressors <= lanes, "one a lane, whatever the number of passes");
		cr_assert_eq(decompressors, compressors);
	}
}

/* Sends one page of the third region. @return the section that it made */
static struct section send_page(struct move *move, uint64_t page)
{
	struct section section, round;
	struct tenon_error err = {0};
	mark(move, 2, page);
	cr_assert_eq(ram_sender_pass(move->sender, false, NULL, NULL, &err), 0, "%s", err.message);
	struct stream_reader *reader = &move->pairs[0].reader;
	cr_assert_eq(stream_read(reader, &section, NULL), 0);
	cr_assert_eq(ram_receiver_section(move->receiver, 0, reader, &section, &err), 0, "%s", err.message);
	cr_assert_eq(stream_read(reader, &round, NULL), 0);
	cr_assert_eq(round.type, SECTION_ROUND);
	cr_assert(is_equal(move));
	return section;
}

Test(migration_ram, page_is_compressed_if_that_makes_fewer_bytes_and_else_goes_as_it_is)
{
	struct move move;
	move_open(&move, 1, 0);
	ram_sender_compress(move.sender);
	memset((uint8_t *)move.from[2].hva + 7 * RAM_PAGE, 0x77, RAM_PAGE);
	struct section section = send_page(&move, 7);
	cr_assert_eq(section.type, SECTION_COMPRESSED);
	cr_assert_eq(section.instance, 2);
	cr_assert_lt(section.bytes, 128);
	fill_random((uint8_t *)move.from[2].hva + 8 * RAM_PAGE, RAM_PAGE);
	section = send_page(&move, 8);
	cr_assert_eq(section.type, SECTION_PAGES);
	cr_assert_eq(section.bytes, 64 + RAM_PAGE);
	move_close(&move);
}

Test(migration_ram, page_that_is_zero_and_was_never_written_stays_without_memory)
{
	struct move move;
	move_open(&move, 2, 0);
	for (unsigned i = 0; i < REGIONS; i++)
		bitmap_fill(ram_sender_bitmap(move.sender, i));
	((uint8_t *)move.from[2].hva)[1000 * RAM_PAGE + 4095] = 1;
	move_receive(&move);
	cr_assert_eq(ram_sender_pass(move.sender, false, NULL, NULL, NULL), 0);
	move_hang_up(&move);
	cr_assert(is_resident((uint8_t *)move.to[2].hva + 1000 * RAM_PAGE));
	cr_assert_not(is_resident((uint8_t *)move.to[2].hva + 999 * RAM_PAGE));
	cr_assert_not(is_resident(move.to[0].hva));
	cr_assert_gt(mincore_calls, 0);
	struct ram_sender_counts sent;
	ram_sender_counts(move.sender, &sent);
	cr_assert_eq(sent.pages, 1);
	cr_assert_lt(sent.bytes, 3 * RAM_PAGE, "zero pages are told in few bytes");
	cr_assert(is_equal(&move));
	move_close(&move);
}

static void check_zeroing(void)
{
	struct move move;
	move_open(&move, 1, 0);
	memset(move.to[0].hva, 0x5a, move.to[0].size_bytes);
	bitmap_fill(ram_sender_bitmap(move.sender, 0));
	move_receive(&move);
	cr_assert_eq(ram_sender_pass(move.sender, false, NULL, NULL, NULL), 0);
	move_hang_up(&move);
	cr_assert(is_equal(&move));
	move_close(&move);
}

Test(migration_ram, zero_page_replaces_what_the_destination_had_there)
{
	check_zeroing();
}

Test(migration_ram, without_mincore_pages_are_read)
{
	fail_mincore = true;
	check_zeroing();
	cr_assert_gt(mincore_calls, 0);
}

/* A lower bound only: a busy machine takes longer. */
Test(migration_ram, limit_of_bytes_a_second_holds_over_all_lanes_unless_the_guest_stands)
{
	struct move move;
	struct timespec begin, end;
	move_open(&move, 3, 8u << 20);
	memset(move.from[2].hva, 0x77, 512 * RAM_PAGE); /* 2 MiB: a quarter of a second, less what may be made up for */
	for (uint64_t page = 0; page < 512; page++)
		mark(&move, 2, page);
	move_receive(&move);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	cr_assert_eq(ram_sender_pass(move.sender, false, NULL, NULL, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	double limited = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	cr_assert_gt(limited, 0.15);
	for (uint64_t page = 0; page < 512; page++)
		mark(&move, 2, page);
	uint64_t sections =
		move.pairs[0].writer.sequence + move.pairs[1].writer.sequence + move.pairs[2].writer.sequence;
	cr_assert_eq(ram_sender_pass(move.sender, true, NULL, NULL, NULL), 0);
	uint64_t more = move.pairs[0].writer.sequence + move.pairs[1].writer.sequence + move.pairs[2].writer.sequence;
	cr_assert_lt(more - sections, sections, "whole batches, as without a limit");
	move_hang_up(&move);
	cr_assert(is_equal(&move));
	move_close(&move);
}

/* ---- What fails ---- */

static int say_cancelled(void *context)
{
	(*(unsigned *)context)++;
	return -ECANCELED;
}

/* A byte a second would take days. */
Test(migration_ram, progress_ends_a_pass_and_leaves_streams_on_which_more_can_be_said)
{
	struct move move;
	struct tenon_error err = {0};
	unsigned calls = 0;
	move_open(&move, 2, 1);
	memset(move.from[2].hva, 0x77, move.from[2].size_bytes);
	bitmap_fill(ram_sender_bitmap(move.sender, 2));
	move_receive(&move);
	cr_assert_eq(ram_sender_pass(move.sender, false, say_cancelled, &calls, &err), -ECANCELED);
	cr_assert_str_eq(err.message, "sending of RAM was ended");
	cr_assert_eq(calls, 1);
	cr_assert_eq(stream_write_text(&move.pairs[0].writer, SECTION_ABORT, "cancelled", &err), 0, "%s", err.message);
	move_hang_up(&move);
	move_close(&move);
}

/* Nobody reads, so that lanes hang in a write. */
Test(migration_ram, progress_ends_a_pass_whose_other_side_does_not_read)
{
	struct move move;
	unsigned calls = 0;
	move_open(&move, 2, 0);
	for (unsigned i = 0; i < 2; i++) {
		int room = 65536;
		cr_assert_eq(
			setsockopt(tenon_channel_fd(move.pairs[i].out), SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	}
	memset(move.from[2].hva, 0x77, move.from[2].size_bytes);
	bitmap_fill(ram_sender_bitmap(move.sender, 2));
	struct tenon_error err = {0};
	cr_assert_eq(ram_sender_pass(move.sender, false, say_cancelled, &calls, &err), -ECANCELED, "%s", err.message);
	move_close(&move);
}

/* Whatever the lanes after it are at, no time is spent on a limit of theirs, nor on what they cannot write. */
Test(migration_ram, lane_that_breaks_ends_all_with_its_error)
{
	for (unsigned broken = 0; broken < 3; broken++) {
		struct move move;
		struct tenon_error err = {0};
		move_open(&move, 3, 0);
		memset(move.from[2].hva, 0x77, move.from[2].size_bytes);
		bitmap_fill(ram_sender_bitmap(move.sender, 2));
		tenon_channel_close(move.pairs[broken].in);
		move.pairs[broken].in = NULL;
		cr_assert_eq(ram_sender_pass(move.sender, false, NULL, NULL, &err), -EPIPE, "%s", err.message);
		cr_assert(strstr(err.message, "Broken pipe"), "%s", err.message);
		cr_assert_eq(stream_write_bytes(&move.pairs[(broken + 1) % 3].writer, SECTION_DONE, 0, NULL, 0, NULL),
			     -ECANCELED);
		move_close(&move);
	}
}

Test(migration_ram, thread_that_does_not_start_fails_the_pass)
{
	for (int started = 0; started < 3; started++) {
		struct move move;
		struct tenon_error err = {0};
		move_open(&move, 3, 0);
		move_receive(&move);
		fail_thread = started;
		cr_assert_eq(ram_sender_pass(move.sender, false, NULL, NULL, &err), -EAGAIN);
		cr_assert_str_eq(err.message, "cannot start a thread to send RAM; raise the limit of threads");
		move_hang_up(&move);
		move_close(&move);
	}
}

Test(migration_ram, lane_that_waits_for_others_is_let_go_when_the_receiver_ends)
{
	struct move move;
	struct tenon_error err = {0};
	move_open(&move, 2, 0);
	move_receive(&move);
	stream_write_bytes(&move.pairs[0].writer, SECTION_ROUND, 0, NULL, 0, NULL);
	ram_receiver_end(move.receiver);
	pthread_join(move.threads[0], NULL);
	cr_assert_eq(move.contexts[0].code, -ECANCELED);
	cr_assert_eq(move.contexts[0].rounds, 0);
	cr_assert_eq(ram_receiver_round(move.receiver, 1, &err), -ECANCELED);
	cr_assert_str_eq(err.message, "connection 1 waited for others that ended");
	pair_hang_up(&move.pairs[1]);
	pthread_join(move.threads[1], NULL);
	move_close(&move);
}

Test(migration_ram, neither_side_takes_more_lanes_or_regions_than_there_may_be)
{
	struct tenon_migration_ram ram[TENON_MIGRATION_RAM + 1] = {0};
	struct ram_sender *sender;
	struct ram_receiver *receiver;
	struct tenon_error err = {0};
	cr_assert_eq(ram_sender_create(ram, TENON_MIGRATION_RAM + 1, NULL, 1, 0, &sender, NULL), -EINVAL);
	cr_assert_eq(ram_sender_create(ram, 1, NULL, 0, 0, &sender, NULL), -EINVAL);
	cr_assert_eq(ram_sender_create(ram, 1, NULL, RAM_LANES_MAX + 1, 0, &sender, &err), -EINVAL);
	cr_assert_str_eq(err.message, "1 RAM regions over 17 connections cannot be sent; at most 16 and 1 to 16 can");
	cr_assert_eq(ram_receiver_create(ram, TENON_MIGRATION_RAM + 1, 1, &receiver, NULL), -EINVAL);
	cr_assert_eq(ram_receiver_create(ram, 1, RAM_LANES_MAX + 1, &receiver, NULL), -EINVAL);
	cr_assert_eq(ram_receiver_create(ram, 1, 1, &receiver, NULL), -EINVAL, "a region without pages");
	ram_sender_destroy(NULL);
	ram_receiver_destroy(NULL);
}

/* ---- What a hostile sender may try ---- */

struct attack {
	enum section_type type;
	uint32_t instance, claimed_runs;
	struct ram_run runs[2];
	uint32_t runs_sent, data_pages, extra_bytes;
	const char *why;
};

static const struct attack attacks[] = {
	{SECTION_PAGES, 3, 1, {{0, 1}}, 1, 1, 0, "pages of RAM region 3; there are 3"},
	{SECTION_PAGES, 0, 0, {{0}}, 0, 0, 0, "pages in 64 bytes cannot have 0 runs"},
	{SECTION_PAGES, 0, 6, {{0, 1}}, 1, 0, 0, "pages in 64 bytes cannot have 6 runs"},
	{SECTION_PAGES, 0, UINT32_MAX, {{0, 1}}, 1, 0, 0, "pages in 64 bytes cannot have 4294967295 runs"},
	{SECTION_PAGES,
	 0,
	 1,
	 {{700, 1}},
	 1,
	 1,
	 0,
	 "pages 700 and 1 following are not all in RAM region 0, which has 700"},
	{SECTION_PAGES,
	 0,
	 2,
	 {{0, 1}, {699, 2}},
	 2,
	 3,
	 0,
	 "pages 699 and 2 following are not all in RAM region 0, which has 700"},
	{SECTION_PAGES,
	 0,
	 1,
	 {{UINT64_MAX, 2}},
	 1,
	 2,
	 0,
	 "pages 18446744073709551615 and 2 following are not all in RAM region 0, which has 700"},
	{SECTION_PAGES, 0, 1, {{5, 0}}, 1, 0, 0, "pages 5 and 0 following are not all in RAM region 0, which has 700"},
	{SECTION_PAGES, 0, 1, {{5, 3}}, 1, 2, 0, "pages has 8192 bytes for 3 pages"},
	{SECTION_PAGES, 0, 1, {{5, 3}}, 1, 3, 1, "pages has 12289 bytes for 3 pages"},
	{SECTION_ZEROES, 0, 1, {{5, 3}}, 1, 1, 0, "zero pages has 4096 bytes for 3 pages"},
	{SECTION_ZEROES,
	 2,
	 1,
	 {{5, UINT32_MAX}},
	 1,
	 0,
	 0,
	 "zero pages 5 and 4294967295 following are not all in RAM region 2, which has 1500"},
};

/* Writes the attack's section, and reads it on the other side. */
static void send_attack(struct pair *pair, const struct attack *attack, bool compress, struct section *section)
{
	uint8_t payload[64 + 3 * RAM_PAGE + 1];
	memset(payload, 0x66, sizeof(payload));
	ram_table_encode(payload, attack->runs, attack->runs_sent);
	wire_put32(payload, attack->claimed_runs);
	size_t bytes = 64 + attack->data_pages * RAM_PAGE + attack->extra_bytes;
	enum section_type type = attack->type;
	const uint8_t *sent = payload;
	struct compressor compressor = {0};
	if (compress) {
		bytes = (size_t)compressor_run(&compressor, payload, (uint32_t)bytes, NULL);
		type = SECTION_COMPRESSED;
		sent = compressor.payload;
	}
	cr_assert_eq(stream_write_bytes(&pair->writer, type, attack->instance, sent, bytes, NULL), 0);
	compressor_finish(&compressor);
	cr_assert_eq(stream_read(&pair->reader, section, NULL), 0);
}

Test(migration_ram, section_that_reaches_beyond_ram_or_lies_about_its_size_is_refused_and_writes_nothing)
{
	enum { PLAIN, ATTACH, COMPRESS };
	struct move move;
	move_open(&move, 1, 0);
	for (unsigned how = PLAIN; how <= COMPRESS; how++) {
		if (how == ATTACH)
			ram_receiver_attach(move.receiver, &move.pairs[0].reader);
		for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
			struct section section;
			struct tenon_error err = {0};
			if (how == COMPRESS && attacks[i].type != SECTION_PAGES)
				continue;
			send_attack(&move.pairs[0], &attacks[i], how == COMPRESS, &section);
			cr_assert_not(section.placed);
			cr_assert_eq(ram_receiver_section(move.receiver, 0, &move.pairs[0].reader, &section, &err),
				     -EBADMSG);
			cr_assert_str_eq(err.message + strlen("migration stream: "), attacks[i].why);
			cr_assert(is_equal(&move), "attack %zu wrote", i);
		}
	}
	move_close(&move);
}

Test(migration_ram, section_without_memory_to_compress_it_fails_the_pass)
{
	static const struct {
		enum zstd_call call;
		const char *why;
	} cases[] = {{ZSTD_CONTEXT, "no memory to compress RAM; free some, or do not compress"},
		     {ZSTD_COMPRESSION, "cannot compress RAM: "}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct move move;
		struct tenon_error err = {0};
		move_open(&move, 2, 0);
		ram_sender_compress(move.sender);
		move_receive(&move);
		memset(move.from[2].hva, 0x77, RAM_PAGE);
		mark(&move, 2, 0);
		fail_zstd = cases[i].call;
		cr_assert_eq(ram_sender_pass(move.sender, false, NULL, NULL, &err), -ENOMEM);
		cr_assert(strstr(err.message, cases[i].why) == err.message, "%s", err.message);
		move_hang_up(&move);
		move_close(&move);
	}
}

/* The region's last pages. */
Test(migration_ram, pages_that_are_read_to_their_place_are_there_and_counted)
{
	static const struct attack sound = {SECTION_PAGES, 2, 1, {{1497, 3}}, 1, 3, 0, NULL};
	struct move move;
	struct section section;
	struct ram_sender_counts counts;
	move_open(&move, 1, 0);
	ram_receiver_attach(move.receiver, &move.pairs[0].reader);
	send_attack(&move.pairs[0], &sound, false, &section);
	cr_assert(section.placed);
	cr_assert_eq(ram_receiver_section(move.receiver, 0, &move.pairs[0].reader, &section, NULL), 0);
	memset((uint8_t *)move.from[2].hva + 1497 * RAM_PAGE, 0x66, 3 * RAM_PAGE);
	cr_assert(is_equal(&move));
	ram_receiver_counts(move.receiver, &counts);
	cr_assert(counts.pages == 3 && counts.bytes == move.pairs[0].writer.sent_bytes);
	move_close(&move);
}

Test(migration_ram, pages_that_are_read_to_their_place_and_have_a_wrong_sum_are_refused)
{
	uint8_t payload[64 + RAM_PAGE] = {0};
	const struct ram_run run = {.first = 1, .pages = 1};
	const struct section sent = {.type = SECTION_PAGES, .bytes = sizeof(payload)};
	struct iovec parts[2] = {[1] = {payload, sizeof(payload)}};
	struct move move;
	struct section section;
	struct tenon_error err = {0};
	move_open(&move, 1, 0);
	ram_receiver_attach(move.receiver, &move.pairs[0].reader);
	ram_table_encode(payload, &run, 1);
	cr_assert_eq(stream_write_summed(&move.pairs[0].writer, &sent, 0x12345678, parts, 2, NULL), 0);
	cr_assert_eq(stream_read(&move.pairs[0].reader, &section, &err), -EBADMSG);
	cr_assert(strstr(err.message, "section 0 (pages) has a wrong checksum"), "%s", err.message);
	move_close(&move);
}

/* Runs are told in 12 bytes, and each of these would take as long as a look at all of RAM. */
Test(migration_ram, section_of_zeroes_cannot_name_more_pages_than_one_may)
{
	struct move move;
	struct ram_run runs[100];
	struct tenon_error err = {0};
	move_open(&move, 1, 0);
	for (unsigned i = 0; i < 100; i++)
		runs[i] = (struct ram_run){.first = 0, .pages = 1500};
	const struct section section = {.type = SECTION_ZEROES,
					.instance = 2,
					.bytes = (uint32_t)ram_table_encode(move.pairs[0].reader.payload, runs, 100)};
	cr_assert_eq(ram_receiver_section(move.receiver, 0, &move.pairs[0].reader, &section, &err), -EBADMSG);
	cr_assert_str_eq(err.message, "migration stream: zero pages has 0 bytes for 150000 pages");
	move_close(&move);
}

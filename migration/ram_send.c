// SPDX-License-Identifier: MIT
/*
 * Dirty pages out. A pass starts a thread for each lane; they claim chunks of RAM, gather what is dirty in them into batches, and send those.
 *
 * The guest may write to a page while it is sent. It is copied first, into a buffer that stays in the CPU's cache, and summed on the
 * way, so that the sum is right; the page, dirty again, comes again in the next pass. To send from the guest's memory itself would save
 * nothing: the copy costs what the sum alone costs, one read of memory.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "compress.h"
#include "crc32c.h"
#include "kernel_calls.h"
#include "ram.h"
#include "ram_layout.h"
#include "ram_pace.h"

#define CHUNK_PAGES       512u  /* 2 MiB; whole words of a bitmap, so that no two lanes share one */
#define ZERO_BATCH_PAGES  16384 /* after so many zero pages they are told, so that the other side hears something */
#define SECTIONS_A_SECOND 50u   /* at least, under a limit: batches are smaller then */
#define AHEAD_PAGES       8u
#define TABLE_ROOM        RAM_PAGE /* of the largest table of a batch; pages that follow are aligned */
#define PROGRESS_NS       100000000u
#define GRACE_NS          1000000000u /* for lanes to come to the end of a section, when the pass is ended from outside */

_Static_assert(4 + 12 * RAM_BATCH_PAGES + 63 <= TABLE_ROOM, "a table of so many runs has room");

/* Runs of pages of one region that make a section. */
struct batch {
	struct ram_run runs[RAM_ZERO_RUNS];
	uint32_t run_count, run_limit;
	uint32_t pages, page_limit;
};

struct lane {
	struct ram_sender *sender;
	struct stream_writer *writer;
	unsigned region; /* of what is in the batches */
	struct batch data, zero;
	uint8_t *bytes; /* TABLE_ROOM, whose end is the table of `data`, and its pages: so they are one piece */
	struct compressor compressor;
	pthread_t thread;
};

struct ram_sender {
	struct tenon_migration_ram ram[TENON_MIGRATION_RAM];
	struct bitmap dirty[TENON_MIGRATION_RAM];
	uint64_t first_chunk[TENON_MIGRATION_RAM + 1]; /* of each region, counted over all; the last is their number */
	unsigned ram_count, lane_count;
	struct lane *lanes;
	bool compress;
	struct ram_pace pace, *limit; /* NULL: this pass knows none */
	uint32_t limited_batch_pages;

	_Atomic uint64_t next_chunk;
	atomic_bool stop;
	_Atomic uint64_t pages, zero_pages, bytes;

	pthread_mutex_t lock; /* of the following */
	pthread_cond_t lane_done;
	unsigned working;
	int code; /* the first error */
	struct tenon_error error;
};

struct bitmap *ram_sender_bitmap(struct ram_sender *sender, unsigned ram)
{
	return &sender->dirty[ram];
}

void ram_sender_counts(const struct ram_sender *sender, struct ram_sender_counts *out)
{
	*out = (struct ram_sender_counts){
		.pages = sender->pages, .zero_pages = sender->zero_pages, .bytes = sender->bytes};
}

/* ---- Sections ---- */

static int send_section(struct lane *lane, enum section_type type, uint32_t crc, struct iovec *parts, unsigned count,
			struct tenon_error *err)
{
	struct section section = {.type = type, .instance = lane->region};
	for (unsigned i = 1; i < count; i++)
		section.bytes += (uint32_t)parts[i].iov_len;
	if (lane->sender->limit && !ram_pace_take(lane->sender->limit, section.bytes))
		return -ECANCELED;
	uint64_t before = lane->writer->sent_bytes;
	int code = stream_write_summed(lane->writer, &section, crc, parts, count, err);
	lane->sender->bytes += lane->writer->sent_bytes - before;
	return code;
}

/* @return 1 sent; 0 it would not take fewer bytes */
static int send_compressed(struct lane *lane, const struct iovec *pages, struct tenon_error *err)
{
	int64_t bytes = compressor_run(&lane->compressor, pages->iov_base, (uint32_t)pages->iov_len, err);
	if (bytes <= 0)
		return (int)bytes;
	struct iovec parts[2] = {[1] = {.iov_base = lane->compressor.payload, .iov_len = (size_t)bytes}};
	uint32_t crc = crc32c(0, lane->compressor.payload, (size_t)bytes);
	int code = send_section(lane, SECTION_COMPRESSED, crc, parts, 2, err);
	return code < 0 ? code : 1;
}

static int send_pages(struct lane *lane, struct tenon_error *err)
{
	struct batch *batch = &lane->data;
	const uint8_t *hva = lane->sender->ram[lane->region].hva;
	if (!batch->pages)
		return 0;
	uint8_t *at = lane->bytes + TABLE_ROOM, *payload = at - ram_table_bytes(batch->run_count);
	uint32_t crc = crc32c(0, payload, ram_table_encode(payload, batch->runs, batch->run_count));
	for (uint32_t i = 0; i < batch->run_count; i++) {
		size_t bytes = (size_t)batch->runs[i].pages * RAM_PAGE;
		crc = crc32c_copy(crc, at, hva + batch->runs[i].first * RAM_PAGE, bytes);
		at += bytes;
	}
	struct iovec parts[2] = {[1] = {.iov_base = payload, .iov_len = (size_t)(at - payload)}};
	int code = lane->sender->compress ? send_compressed(lane, &parts[1], err) : 0;
	if (code == 0)
		code = send_section(lane, SECTION_PAGES, crc, parts, 2, err);
	if (code >= 0)
		lane->sender->pages += batch->pages;
	batch->run_count = batch->pages = 0;
	return code < 0 ? code : 0;
}

static int send_zeroes(struct lane *lane, struct tenon_error *err)
{
	struct batch *batch = &lane->zero;
	uint8_t table[4 + 12 * RAM_ZERO_RUNS + 64];
	if (!batch->pages)
		return 0;
	size_t bytes = ram_table_encode(table, batch->runs, batch->run_count);
	struct iovec parts[2] = {[1] = {.iov_base = table, .iov_len = bytes}};
	int code = send_section(lane, SECTION_ZEROES, crc32c(0, table, bytes), parts, 2, err);
	if (code == 0)
		lane->sender->zero_pages += batch->pages;
	batch->run_count = batch->pages = 0;
	return code;
}

static int flush(struct lane *lane, struct tenon_error *err)
{
	int code = send_pages(lane, err);
	return code < 0 ? code : send_zeroes(lane, err);
}

/* ---- Gathering ---- */

/* Adds a page. @return whether the batch is full */
static bool add_page(struct batch *batch, uint64_t page)
{
	struct ram_run *last = &batch->runs[batch->run_count ? batch->run_count - 1 : 0];
	if (batch->run_count && last->first + last->pages == page)
		last->pages++;
	else
		batch->runs[batch->run_count++] = (struct ram_run){.first = page, .pages = 1};
	batch->pages++;
	return batch->pages >= batch->page_limit || batch->run_count == batch->run_limit;
}

static int gather_run(struct lane *lane, uint64_t first, uint64_t count, struct tenon_error *err)
{
	const uint8_t *hva = lane->sender->ram[lane->region].hva;
	for (uint64_t page = first; page < first + count; page++) {
		int code = 0;
		__builtin_prefetch(hva + (page + AHEAD_PAGES) * RAM_PAGE); /* one word is read of most pages */
		if (ram_page_is_zero(hva + page * RAM_PAGE))
			code = add_page(&lane->zero, page) ? send_zeroes(lane, err) : 0;
		else if (add_page(&lane->data, page))
			code = send_pages(lane, err);
		if (code < 0)
			return code;
		if (lane->sender->stop)
			return -ECANCELED;
	}
	return 0;
}

static int send_chunk(struct lane *lane, uint64_t chunk, struct tenon_error *err)
{
	struct ram_sender *sender = lane->sender;
	unsigned region = 0;
	while (chunk >= sender->first_chunk[region + 1])
		region++;
	if (region != lane->region) {
		int code = flush(lane, err);
		if (code < 0)
			return code;
		lane->region = region;
	}
	struct bitmap *dirty = &sender->dirty[region];
	uint64_t at = (chunk - sender->first_chunk[region]) * CHUNK_PAGES, first, run;
	uint64_t end = dirty->pages - at > CHUNK_PAGES ? at + CHUNK_PAGES : dirty->pages;
	uint64_t *words = dirty->words + at / 64, *words_end = dirty->words + (end + 63) / 64;
	while ((run = bitmap_next(dirty, at, end, CHUNK_PAGES, &first))) {
		int code = gather_run(lane, first, run, err);
		if (code < 0)
			return code;
		at = first + run;
	}
	for (; words < words_end; words++)
		*words = 0;
	return 0;
}

static int send_lane(struct lane *lane, struct tenon_error *err)
{
	struct ram_sender *sender = lane->sender;
	uint64_t chunks = sender->first_chunk[sender->ram_count], chunk;
	while ((chunk = sender->next_chunk++) < chunks) {
		int code = sender->stop ? -ECANCELED : send_chunk(lane, chunk, err);
		if (code < 0)
			return code;
	}
	int code = flush(lane, err);
	return code < 0 ? code : stream_write_bytes(lane->writer, SECTION_ROUND, 0, NULL, 0, err);
}

/* ---- A pass ---- */

static void end_channels(struct ram_sender *sender)
{
	for (unsigned i = 0; i < sender->lane_count; i++)
		tenon_channel_end(sender->lanes[i].writer->channel);
}

/* Keeps the first error: those that follow are of channels that it ended. */
static void fail_pass(struct ram_sender *sender, int code, const struct tenon_error *error)
{
	pthread_mutex_lock(&sender->lock);
	bool first = sender->code == 0;
	if (first) {
		sender->code = code;
		sender->error = *error;
	}
	sender->stop = true;
	pthread_mutex_unlock(&sender->lock);
	ram_pace_end(&sender->pace);
	if (first)
		end_channels(sender);
}

static void *lane_thread(void *argument)
{
	struct lane *lane = argument;
	struct ram_sender *sender = lane->sender;
	struct tenon_error error = {0};
	lane->data.run_count = lane->data.pages = lane->zero.run_count = lane->zero.pages = 0;
	lane->data.page_limit = sender->limit ? sender->limited_batch_pages : RAM_BATCH_PAGES;
	int code = send_lane(lane, &error);
	if (code < 0)
		fail_pass(sender, code, &error);
	pthread_mutex_lock(&sender->lock);
	sender->working--;
	pthread_cond_signal(&sender->lane_done);
	pthread_mutex_unlock(&sender->lock);
	return NULL;
}

/* Waits until all lanes are done, or until then. @return whether they are. Locked */
static bool wait_lanes(struct ram_sender *sender, uint64_t until_ns)
{
	struct timespec until = ram_pace_timespec(until_ns);
	int error = 0;
	while (sender->working && error != ETIMEDOUT)
		error = pthread_cond_timedwait(&sender->lane_done, &sender->lock, &until);
	return !sender->working;
}

/* The caller wants no more. Lanes end their sections, so that the other side can be told why; who cannot is cut off. Locked */
static void end_pass(struct ram_sender *sender, int code)
{
	if (sender->code == 0)
		sender->code = tenon_fail(&sender->error, code, "sending of RAM was ended");
	sender->stop = true;
	pthread_mutex_unlock(&sender->lock);
	ram_pace_end(&sender->pace);
	pthread_mutex_lock(&sender->lock);
	if (!wait_lanes(sender, ram_pace_now_ns() + GRACE_NS))
		end_channels(sender);
}

static void watch_lanes(struct ram_sender *sender, int (*progress)(void *context), void *context)
{
	pthread_mutex_lock(&sender->lock);
	while (!wait_lanes(sender, ram_pace_now_ns() + PROGRESS_NS)) {
		pthread_mutex_unlock(&sender->lock);
		int code = progress ? progress(context) : 0;
		pthread_mutex_lock(&sender->lock);
		if (code < 0) {
			end_pass(sender, code);
			break;
		}
	}
	pthread_mutex_unlock(&sender->lock);
}

static unsigned start_lanes(struct ram_sender *sender)
{
	unsigned started = 0;
	for (int code = 0; started < sender->lane_count && code == 0; started += code == 0) {
		char name[24];
		struct tenon_error error;
		snprintf(name, sizeof(name), "tenon-lane-%u", started);
		pthread_mutex_lock(&sender->lock);
		sender->working++;
		pthread_mutex_unlock(&sender->lock);
		code = mcall_thread_start(name, lane_thread, &sender->lanes[started], &sender->lanes[started].thread);
		if (code < 0) {
			pthread_mutex_lock(&sender->lock);
			sender->working--;
			pthread_mutex_unlock(&sender->lock);
			fail_pass(sender,
				  tenon_fail(&error, code,
					     "cannot start a thread to send RAM; raise the limit of threads"),
				  &error);
		}
	}
	return started;
}

int ram_sender_pass(struct ram_sender *sender, bool unlimited, int (*progress)(void *context), void *context,
		    struct tenon_error *err)
{
	sender->next_chunk = 0;
	sender->stop = false;
	sender->code = 0;
	sender->limit = unlimited || !sender->pace.bytes_per_second ? NULL : &sender->pace;
	ram_pace_begin(&sender->pace);
	unsigned started = start_lanes(sender);
	watch_lanes(sender, progress, context);
	for (unsigned i = 0; i < started; i++)
		pthread_join(sender->lanes[i].thread, NULL);
	return sender->code < 0 ? tenon_fail(err, sender->code, "%s", sender->error.message) : 0;
}

/* ---- Life ---- */

static int create_bitmaps(struct ram_sender *sender, struct tenon_error *err)
{
	for (unsigned i = 0; i < sender->ram_count; i++) {
		uint64_t pages = sender->ram[i].size_bytes / RAM_PAGE;
		int code = bitmap_create(&sender->dirty[i], pages, err);
		if (code < 0)
			return code;
		sender->first_chunk[i + 1] = sender->first_chunk[i] + (pages + CHUNK_PAGES - 1) / CHUNK_PAGES;
	}
	return 0;
}

static int create_lanes(struct ram_sender *sender, struct stream_writer *const *writers, struct tenon_error *err)
{
	sender->lanes = calloc(sender->lane_count, sizeof(*sender->lanes));
	if (!sender->lanes)
		return tenon_fail(err, -ENOMEM, "no memory to send RAM");
	for (unsigned i = 0; i < sender->lane_count; i++) {
		struct lane *lane = &sender->lanes[i];
		lane->sender = sender;
		lane->writer = writers[i];
		lane->data.run_limit = RAM_BATCH_PAGES;
		lane->zero.run_limit = RAM_ZERO_RUNS;
		lane->zero.page_limit = ZERO_BATCH_PAGES;
		lane->bytes = aligned_alloc(RAM_PAGE, TABLE_ROOM + RAM_BATCH_PAGES * RAM_PAGE);
		if (!lane->bytes)
			return tenon_fail(err, -ENOMEM, "no memory to send RAM");
	}
	return 0;
}

int ram_sender_create(const struct tenon_migration_ram *ram, unsigned ram_count, struct stream_writer *const *lanes,
		      unsigned lane_count, uint64_t bytes_per_second, struct ram_sender **out, struct tenon_error *err)
{
	if (ram_count > TENON_MIGRATION_RAM || !lane_count || lane_count > RAM_LANES_MAX)
		return tenon_fail(err, -EINVAL,
				  "%u RAM regions over %u connections cannot be sent; at most %u and 1 to %u can",
				  ram_count, lane_count, TENON_MIGRATION_RAM, RAM_LANES_MAX);
	struct ram_sender *sender = calloc(1, sizeof(*sender));
	if (!sender)
		return tenon_fail(err, -ENOMEM, "no memory to send RAM");
	sender->ram_count = ram_count;
	sender->lane_count = lane_count;
	for (unsigned i = 0; i < ram_count; i++)
		sender->ram[i] = ram[i];
	uint64_t pages = bytes_per_second / SECTIONS_A_SECOND / RAM_PAGE;
	sender->limited_batch_pages = pages > RAM_BATCH_PAGES ? RAM_BATCH_PAGES : pages ? (uint32_t)pages : 1;
	ram_pace_init(&sender->pace, bytes_per_second);
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&sender->lock, NULL);
	pthread_cond_init(&sender->lane_done, &monotonic);
	pthread_condattr_destroy(&monotonic);
	int code = create_bitmaps(sender, err);
	if (code == 0)
		code = create_lanes(sender, lanes, err);
	if (code < 0) {
		ram_sender_destroy(sender);
		return code;
	}
	*out = sender;
	return 0;
}

void ram_sender_compress(struct ram_sender *sender)
{
	sender->compress = true;
}

void ram_sender_destroy(struct ram_sender *sender)
{
	if (!sender)
		return;
	for (unsigned i = 0; i < sender->ram_count; i++)
		bitmap_destroy(&sender->dirty[i]);
	for (unsigned i = 0; sender->lanes && i < sender->lane_count; i++) {
		compressor_finish(&sender->lanes[i].compressor);
		free(sender->lanes[i].bytes);
	}
	free(sender->lanes);
	pthread_cond_destroy(&sender->lane_done);
	pthread_mutex_destroy(&sender->lock);
	ram_pace_finish(&sender->pace);
	free(sender);
}

// SPDX-License-Identifier: MIT
/*
 * Pages in. What comes is untrusted: nothing is written before all of a section was found to lie inside its region.
 *
 * A page that is told to be zero and never held anything is not touched, so that it takes no memory here either. To find out by reading
 * would give it memory, where RAM is a file (memfd). So this side remembers which pages it has stored, and asks the kernel (mincore)
 * which of the others have memory at all; those are read.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "compress.h"
#include "kernel_calls.h"
#include "ram.h"
#include "ram_layout.h"
#include "wire.h"

#define LOOK_PAGES 512u /* whose presence is asked for at once */

struct ram_receiver {
	struct tenon_migration_ram ram[TENON_MIGRATION_RAM];
	struct bitmap stored[TENON_MIGRATION_RAM]; /* pages that came; lanes set bits of a word at the same time */
	unsigned ram_count, lane_count;
	struct decompressor decompressors[RAM_LANES_MAX];
	_Atomic uint64_t pages, zero_pages, bytes;

	pthread_mutex_t lock; /* of the following */
	pthread_cond_t round_over;
	unsigned arrived;
	uint64_t round;
	bool ended;
};

void ram_receiver_counts(const struct ram_receiver *receiver, struct ram_sender_counts *out)
{
	*out = (struct ram_sender_counts){
		.pages = receiver->pages, .zero_pages = receiver->zero_pages, .bytes = receiver->bytes};
}

/* ---- Pages ---- */

/* Sets the bits of a run. @return how many were clear */
static uint32_t mark_stored(struct bitmap *stored, struct ram_run run)
{
	uint32_t fresh = 0;
	for (uint64_t page = run.first, end = run.first + run.pages; page < end;) {
		unsigned shift = page % 64;
		uint64_t count = end - page < 64 - shift ? end - page : 64 - shift;
		uint64_t mask = (count == 64 ? UINT64_MAX : (1ull << count) - 1) << shift;
		uint64_t before = __atomic_fetch_or(&stored->words[page / 64], mask, __ATOMIC_RELAXED);
		fresh += (uint32_t)__builtin_popcountll(mask & ~before);
		page += count;
	}
	return fresh;
}

static bool is_stored(const struct bitmap *stored, uint64_t page)
{
	return __atomic_load_n(&stored->words[page / 64], __ATOMIC_RELAXED) >> page % 64 & 1;
}

/* Where a run goes. */
static uint8_t *prepare_run(struct ram_receiver *receiver, unsigned region, struct ram_run run)
{
	uint8_t *to = (uint8_t *)receiver->ram[region].hva + run.first * RAM_PAGE;
	/* Memory for the whole run at once: a fault for each page takes longer than its copy. Without it the copy does the same. */
	if (mark_stored(&receiver->stored[region], run) > 1)
		mcall_populate(to, (size_t)run.pages * RAM_PAGE);
	return to;
}

/* At most LOOK_PAGES. */
static void clear_pages(struct ram_receiver *receiver, unsigned region, uint64_t first, uint64_t count)
{
	uint8_t *hva = (uint8_t *)receiver->ram[region].hva + first * RAM_PAGE;
	unsigned char present[LOOK_PAGES];
	if (mcall_mincore(hva, (size_t)count * RAM_PAGE, present) < 0)
		memset(present, 1, sizeof(present));
	for (uint64_t i = 0; i < count; i++) {
		uint8_t *page = hva + i * RAM_PAGE;
		if (((present[i] & 1) || is_stored(&receiver->stored[region], first + i)) && !ram_page_is_zero(page))
			memset(page, 0, RAM_PAGE);
	}
}

static void clear_run(struct ram_receiver *receiver, unsigned region, struct ram_run run)
{
	for (uint64_t at = run.first, end = run.first + run.pages; at < end; at += LOOK_PAGES)
		clear_pages(receiver, region, at, end - at < LOOK_PAGES ? end - at : LOOK_PAGES);
}

/* ---- Sections ---- */

/* Checks a section's table of runs, and its size. Gives how many runs there are, and of how many pages. */
static int check_table(const struct ram_receiver *receiver, const struct section *section, const uint8_t *table,
		       uint32_t *count, uint64_t *pages, struct tenon_error *err)
{
	const char *name = section_name(section->type);
	if (section->instance >= receiver->ram_count)
		return tenon_fail(err, -EBADMSG, "migration stream: %s of RAM region %u; there are %u", name,
				  section->instance, receiver->ram_count);
	*count = section->bytes >= 4 ? wire_get32(table) : 0;
	if (!*count || *count > SECTION_BYTES_MAX / 12 || ram_table_bytes(*count) > section->bytes)
		return tenon_fail(err, -EBADMSG, "migration stream: %s in %u bytes cannot have %u runs", name,
				  section->bytes, *count);
	uint64_t limit = receiver->stored[section->instance].pages;
	*pages = 0;
	for (uint32_t i = 0; i < *count; i++) {
		struct ram_run run = ram_table_run(table, i);
		if (!run.pages || run.first >= limit || run.pages > limit - run.first)
			return tenon_fail(err, -EBADMSG,
					  "migration stream: %s %llu and %u following are not all in RAM region %u, "
					  "which has %llu",
					  name, (unsigned long long)run.first, run.pages, section->instance,
					  (unsigned long long)limit);
		*pages += run.pages;
	}
	size_t data_bytes = section->bytes - ram_table_bytes(*count);
	if (section->type == SECTION_ZEROES ? data_bytes || *pages > RAM_ZERO_PAGES_MAX
					    : data_bytes != *pages * RAM_PAGE)
		return tenon_fail(err, -EBADMSG, "migration stream: %s has %zu bytes for %llu pages", name, data_bytes,
				  (unsigned long long)*pages);
	return 0;
}

/* What a table names, which was checked. */
static void store(struct ram_receiver *receiver, const struct section *section, const uint8_t *table, uint32_t count)
{
	const uint8_t *data = table + ram_table_bytes(count);
	for (uint32_t i = 0; i < count; i++) {
		struct ram_run run = ram_table_run(table, i);
		if (section->type == SECTION_ZEROES) {
			clear_run(receiver, section->instance, run);
		} else {
			memcpy(prepare_run(receiver, section->instance, run), data, (size_t)run.pages * RAM_PAGE);
			data += (size_t)run.pages * RAM_PAGE;
		}
	}
}

/* One run, as most sections of a first pass have: its pages can be read to where they belong. */
static void *place(void *context, const struct stream_reader *reader, const struct section *section)
{
	struct ram_receiver *receiver = context;
	uint64_t pages;
	uint32_t count;
	if (wire_get32(reader->payload) != 1 ||
	    check_table(receiver, section, reader->payload, &count, &pages, NULL) < 0)
		return NULL;
	return prepare_run(receiver, section->instance, ram_table_run(reader->payload, 0));
}

void ram_receiver_attach(struct ram_receiver *receiver, struct stream_reader *reader)
{
	reader->place = place;
	reader->place_context = receiver;
}

static int take_section(struct ram_receiver *receiver, const struct section *section, const uint8_t *table,
			struct tenon_error *err)
{
	uint64_t pages = 0;
	uint32_t count = 0;
	int code = check_table(receiver, section, table, &count, &pages, err);
	if (code < 0)
		return code;
	bool zero = section->type == SECTION_ZEROES;
	if (!section->placed)
		store(receiver, section, table, count);
	*(zero ? &receiver->zero_pages : &receiver->pages) += pages;
	return 0;
}

/* What it was before is taken as if it had come so. */
static int take_compressed(struct ram_receiver *receiver, unsigned lane, const struct section *section,
			   const uint8_t *payload, struct tenon_error *err)
{
	struct decompressor *decompressor = &receiver->decompressors[lane];
	int64_t bytes = decompressor_run(decompressor, payload, section->bytes, err);
	const struct section pages = {.type = SECTION_PAGES, .instance = section->instance, .bytes = (uint32_t)bytes};
	return bytes < 0 ? (int)bytes : take_section(receiver, &pages, decompressor->data, err);
}

int ram_receiver_section(struct ram_receiver *receiver, unsigned lane, const struct stream_reader *reader,
			 const struct section *section, struct tenon_error *err)
{
	int code = section->type == SECTION_COMPRESSED ? take_compressed(receiver, lane, section, reader->payload, err)
						       : take_section(receiver, section, reader->payload, err);
	if (code == 0)
		receiver->bytes += SECTION_HEADER_BYTES + section->bytes;
	return code;
}

/* ---- Rounds ---- */

int ram_receiver_round(struct ram_receiver *receiver, unsigned lane, struct tenon_error *err)
{
	pthread_mutex_lock(&receiver->lock);
	uint64_t round = receiver->round;
	if (!receiver->ended && ++receiver->arrived == receiver->lane_count) {
		receiver->arrived = 0;
		receiver->round++;
		pthread_cond_broadcast(&receiver->round_over);
	}
	while (round == receiver->round && !receiver->ended)
		pthread_cond_wait(&receiver->round_over, &receiver->lock);
	bool over = round != receiver->round;
	pthread_mutex_unlock(&receiver->lock);
	return over ? 0 : tenon_fail(err, -ECANCELED, "connection %u waited for others that ended", lane);
}

void ram_receiver_end(struct ram_receiver *receiver)
{
	pthread_mutex_lock(&receiver->lock);
	receiver->ended = true;
	pthread_cond_broadcast(&receiver->round_over);
	pthread_mutex_unlock(&receiver->lock);
}

/* ---- Life ---- */

int ram_receiver_create(const struct tenon_migration_ram *ram, unsigned ram_count, unsigned lane_count,
			struct ram_receiver **out, struct tenon_error *err)
{
	if (ram_count > TENON_MIGRATION_RAM || !lane_count || lane_count > RAM_LANES_MAX)
		return tenon_fail(err, -EINVAL,
				  "%u RAM regions over %u connections cannot be received; at most %u and 1 to %u can",
				  ram_count, lane_count, TENON_MIGRATION_RAM, RAM_LANES_MAX);
	struct ram_receiver *receiver = calloc(1, sizeof(*receiver));
	if (!receiver)
		return tenon_fail(err, -ENOMEM, "no memory to receive RAM");
	receiver->ram_count = ram_count;
	receiver->lane_count = lane_count;
	pthread_mutex_init(&receiver->lock, NULL);
	pthread_cond_init(&receiver->round_over, NULL);
	for (unsigned i = 0; i < ram_count; i++) {
		receiver->ram[i] = ram[i];
		int code = bitmap_create(&receiver->stored[i], ram[i].size_bytes / RAM_PAGE, err);
		if (code < 0) {
			ram_receiver_destroy(receiver);
			return code;
		}
	}
	*out = receiver;
	return 0;
}

void ram_receiver_destroy(struct ram_receiver *receiver)
{
	if (!receiver)
		return;
	for (unsigned i = 0; i < receiver->ram_count; i++)
		bitmap_destroy(&receiver->stored[i]);
	for (unsigned i = 0; i < receiver->lane_count; i++)
		decompressor_finish(&receiver->decompressors[i]);
	pthread_cond_destroy(&receiver->round_over);
	pthread_mutex_destroy(&receiver->lock);
	free(receiver);
}

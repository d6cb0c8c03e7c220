// SPDX-License-Identifier: MIT
/* Bitmaps of pages, against a model of one byte a page. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "bitmap.h"

#define PAGES_MAX 3000u

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t random_below(uint64_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % limit;
}

static void set(struct bitmap *bitmap, uint64_t page)
{
	bitmap->words[page / 64] |= 1ull << page % 64;
}

/* Runs of every length, so that words are clear, full and mixed. */
static void scatter(struct bitmap *bitmap, uint8_t *model)
{
	memset(model, 0, PAGES_MAX);
	bitmap_clear(bitmap);
	for (uint64_t page = random_below(300); page < bitmap->pages;) {
		uint64_t run = 1 + random_below(random_below(2) ? 5 : 700);
		for (; run && page < bitmap->pages; run--, page++) {
			set(bitmap, page);
			model[page] = 1;
		}
		page += 1 + random_below(random_below(2) ? 5 : 1300);
	}
}

static struct bitmap create(uint64_t pages)
{
	struct bitmap bitmap;
	cr_assert_eq(bitmap_create(&bitmap, pages, NULL), 0);
	return bitmap;
}

Test(migration_bitmap, new_bitmap_is_clear_and_a_filled_one_ends_with_its_last_page)
{
	static const uint64_t sizes[] = {1, 63, 64, 65, 128, 1000};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct bitmap bitmap = create(sizes[i]);
		uint64_t first;
		cr_assert_eq(bitmap_count(&bitmap), 0);
		cr_assert_eq(bitmap_next(&bitmap, 0, UINT64_MAX, UINT64_MAX, &first), 0);
		bitmap_fill(&bitmap);
		cr_assert_eq(bitmap_count(&bitmap), sizes[i]);
		cr_assert_eq(bitmap_next(&bitmap, 0, UINT64_MAX, UINT64_MAX, &first), sizes[i]);
		cr_assert_eq(first, 0);
		bitmap_clear(&bitmap);
		cr_assert_eq(bitmap_count(&bitmap), 0);
		bitmap_destroy(&bitmap);
	}
}

Test(migration_bitmap, size_that_is_not_possible_is_refused)
{
	struct bitmap bitmap;
	struct tenon_error err = {0};
	cr_assert_eq(bitmap_create(&bitmap, 0, &err), -EINVAL);
	cr_assert_str_eq(err.message, "a bitmap of 0 pages is not possible");
	cr_assert_eq(bitmap_create(&bitmap, UINT64_MAX, &err), -EINVAL);
	bitmap = (struct bitmap){0};
	bitmap_destroy(&bitmap);
}

Test(migration_bitmap, runs_are_those_of_the_model_within_every_window)
{
	uint8_t model[PAGES_MAX];
	for (unsigned round = 0; round < 400; round++) {
		struct bitmap bitmap = create(1 + random_below(PAGES_MAX));
		scatter(&bitmap, model);
		uint64_t from = random_below(bitmap.pages + 1), end = from + random_below(bitmap.pages - from + 1);
		uint64_t most = random_below(2) ? 1 + random_below(100) : UINT64_MAX, at = from, first, run;
		while ((run = bitmap_next(&bitmap, at, end, most, &first))) {
			cr_assert(run <= most && first >= at && first + run <= end);
			for (; at < first; at++)
				cr_assert_eq(model[at], 0, "page %zu was passed over", (size_t)at);
			for (; at < first + run; at++)
				cr_assert_eq(model[at], 1, "page %zu is not set", (size_t)at);
			cr_assert(run == most || at == end || !model[at], "the run goes on");
		}
		for (; at < end; at++)
			cr_assert_eq(model[at], 0, "page %zu was not found", (size_t)at);
		bitmap_destroy(&bitmap);
	}
}

Test(migration_bitmap, merge_adds_and_leaves_the_other_clear)
{
	uint8_t model[PAGES_MAX], other_model[PAGES_MAX];
	for (unsigned round = 0; round < 200; round++) {
		struct bitmap bitmap = create(1 + random_below(PAGES_MAX)), other = create(bitmap.pages);
		scatter(&bitmap, model);
		scatter(&other, other_model);
		bitmap_merge(&bitmap, &other);
		uint64_t count = 0;
		for (uint64_t page = 0; page < bitmap.pages; page++) {
			bool is = bitmap.words[page / 64] >> page % 64 & 1;
			cr_assert_eq(is, model[page] || other_model[page]);
			count += is;
		}
		cr_assert_eq(bitmap_count(&bitmap), count);
		cr_assert_eq(bitmap_count(&other), 0);
		bitmap_destroy(&bitmap);
		bitmap_destroy(&other);
	}
}

Test(migration_bitmap, bits_beyond_a_window_s_end_are_not_found)
{
	struct bitmap bitmap = create(128);
	uint64_t first;
	set(&bitmap, 70);
	cr_assert_eq(bitmap_next(&bitmap, 0, 70, 10, &first), 0);
	cr_assert_eq(bitmap_next(&bitmap, 0, 71, 10, &first), 1);
	cr_assert_eq(bitmap_next(&bitmap, 71, 128, 10, &first), 0);
	cr_assert_eq(bitmap_next(&bitmap, 128, 128, 10, &first), 0);
	bitmap_destroy(&bitmap);
}

// SPDX-License-Identifier: MIT
/*
 * Bitmaps of pages. Most of a bitmap is clear most of the time, so what counts is how fast clear words are passed over: 64 bytes at
 * once, which compilers make vector instructions of, faster than memory delivers them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"

#define WORD_BITS 64u
#define BLOCK     8u /* words that are looked at together */
#define PAGES_MAX (1ull << 40)

int bitmap_create(struct bitmap *bitmap, uint64_t pages, struct tenon_error *err)
{
	if (!pages || pages > PAGES_MAX)
		return tenon_fail(err, -EINVAL, "a bitmap of %llu pages is not possible", (unsigned long long)pages);
	*bitmap = (struct bitmap){.pages = pages};
	bitmap->words = calloc(bitmap_words(bitmap), sizeof(*bitmap->words));
	if (!bitmap->words)
		return tenon_fail(err, -ENOMEM, "no memory for a bitmap of %llu pages", (unsigned long long)pages);
	return 0;
}

void bitmap_destroy(struct bitmap *bitmap)
{
	free(bitmap->words);
	*bitmap = (struct bitmap){0};
}

size_t bitmap_words(const struct bitmap *bitmap)
{
	return (size_t)((bitmap->pages + WORD_BITS - 1) / WORD_BITS);
}

void bitmap_fill(struct bitmap *bitmap)
{
	size_t words = bitmap_words(bitmap);
	memset(bitmap->words, 0xff, words * sizeof(*bitmap->words));
	if (bitmap->pages % WORD_BITS)
		bitmap->words[words - 1] = (1ull << bitmap->pages % WORD_BITS) - 1;
}

void bitmap_clear(struct bitmap *bitmap)
{
	memset(bitmap->words, 0, bitmap_words(bitmap) * sizeof(*bitmap->words));
}

void bitmap_merge(struct bitmap *bitmap, struct bitmap *from)
{
	uint64_t *restrict into = bitmap->words;
	uint64_t *restrict other = from->words;
	size_t words = bitmap_words(bitmap), i = 0;
	for (; i + BLOCK <= words; i += BLOCK) {
		uint64_t any = 0;
		for (size_t k = 0; k < BLOCK; k++)
			any |= other[i + k];
		if (!any) /* neither bitmap is written then */
			continue;
		for (size_t k = 0; k < BLOCK; k++) {
			into[i + k] |= other[i + k];
			other[i + k] = 0;
		}
	}
	for (; i < words; i++) {
		into[i] |= other[i];
		other[i] = 0;
	}
}

/* Without -mpopcnt the compiler calls a function for each word, so the sum is taken in parallel within words. */
static uint64_t count_bits(uint64_t word)
{
	word -= (word >> 1) & 0x5555555555555555u;
	word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
	return (word * 0x0101010101010101u) >> 56;
}

static uint64_t count_portable(const uint64_t *words, size_t count)
{
	uint64_t bits = 0;
	for (size_t i = 0; i < count; i++) {
		if (words[i])
			bits += count_bits(words[i]);
	}
	return bits;
}

#ifdef __x86_64__
__attribute__((target("popcnt"))) static uint64_t count_popcnt(const uint64_t *words, size_t count)
{
	uint64_t bits = 0;
	for (size_t i = 0; i < count; i++)
		bits += (uint64_t)__builtin_popcountll(words[i]);
	return bits;
}
#endif

uint64_t bitmap_count(const struct bitmap *bitmap)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("popcnt"))
		return count_popcnt(bitmap->words, bitmap_words(bitmap));
#endif
	return count_portable(bitmap->words, bitmap_words(bitmap));
}

/* The first word from `word` on, before `end`, that is not `value` (all clear or all set); `end` when there is none. */
static size_t skip_words(const uint64_t *words, size_t word, size_t end, uint64_t value)
{
	for (; word + BLOCK <= end; word += BLOCK) {
		uint64_t differs = 0;
		for (size_t k = 0; k < BLOCK; k++)
			differs |= words[word + k] ^ value;
		if (differs)
			break;
	}
	while (word < end && words[word] == value)
		word++;
	return word;
}

/* The first page from `page` on, before `end`, whose bit is `set`; `end` when there is none. */
static uint64_t find(const uint64_t *words, uint64_t page, uint64_t end, bool set)
{
	uint64_t other = set ? 0 : UINT64_MAX;
	if (page >= end)
		return end;
	size_t word = (size_t)(page / WORD_BITS);
	uint64_t differs = (words[word] ^ other) & UINT64_MAX << page % WORD_BITS;
	if (!differs) {
		size_t last = (size_t)((end + WORD_BITS - 1) / WORD_BITS);
		word = skip_words(words, word + 1, last, other);
		if (word == last)
			return end;
		differs = words[word] ^ other;
	}
	uint64_t found = word * (uint64_t)WORD_BITS + (uint64_t)__builtin_ctzll(differs);
	return found < end ? found : end;
}

uint64_t bitmap_next(const struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t most, uint64_t *first)
{
	if (end > bitmap->pages)
		end = bitmap->pages;
	uint64_t start = find(bitmap->words, from, end, true);
	if (start >= end || !most)
		return 0;
	*first = start;
	return find(bitmap->words, start + 1, most < end - start ? start + most : end, false) - start;
}

/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a RAM region are to be sent: one bit per 4 KiB page, in 64-bit words. Scanning skips what is clear at memory speed.
 * Not locked: one owner at a time.
 */
#ifndef BITMAP_H
#define BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

struct bitmap {
	uint64_t *words; /* bits beyond `pages` are clear */
	uint64_t pages;
};

int bitmap_create(struct bitmap *bitmap, uint64_t pages, struct tenon_error *err);
void bitmap_destroy(struct bitmap *bitmap); /* accepts a zeroed struct */

size_t bitmap_words(const struct bitmap *bitmap);
void bitmap_fill(struct bitmap *bitmap);
void bitmap_clear(struct bitmap *bitmap);
/** Adds the bits of `from`, which has as many pages, and clears `from`. */
void bitmap_merge(struct bitmap *bitmap, struct bitmap *from);
uint64_t bitmap_count(const struct bitmap *bitmap);

/**
 * Finds the next run of set bits, from page `from` on and before `end`, at most `most` long.
 *
 * @return its length; 0: there is none
 */
uint64_t bitmap_next(const struct bitmap *bitmap, uint64_t from, uint64_t end, uint64_t most, uint64_t *first);

#endif

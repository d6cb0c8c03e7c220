/* SPDX-License-Identifier: MIT */
/*
 * What both sides know of a PAGES and a ZEROES section: a table of runs of pages, and after it, in PAGES, the pages' bytes. Of the table:
 * the number of runs (u32), then each run's first page (u64) and number of pages (u32), then zeros up to a multiple of 64 bytes, so that
 * pages are aligned as well as memory copies like it.
 */
#ifndef RAM_LAYOUT_H
#define RAM_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon-migration/migratable.h>

#define RAM_PAGE           TENON_MIGRATION_PAGE_BYTES
#define RAM_BATCH_PAGES    64u /* of a PAGES section: 256 KiB, which stay in a CPU's own cache while they are handled */
#define RAM_ZERO_RUNS      512u   /* of a ZEROES section */
#define RAM_ZERO_PAGES_MAX 65536u /* of a ZEROES section */

struct ram_run {
	uint64_t first;
	uint32_t pages;
};

static inline size_t ram_table_bytes(uint32_t runs)
{
	return (4 + 12 * (size_t)runs + 63) / 64 * 64;
}

/** @return its bytes. @param to  ram_table_bytes(count) */
size_t ram_table_encode(uint8_t *to, const struct ram_run *runs, uint32_t count);
/** The run with this index, of a table that holds it. */
struct ram_run ram_table_run(const uint8_t *table, uint32_t index);

/** Whether a page is zero. Of most pages that are not, it reads one word. */
bool ram_page_is_zero(const void *page);

#endif

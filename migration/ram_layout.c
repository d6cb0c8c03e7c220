// SPDX-License-Identifier: MIT
/* The table of a section with pages, and whether a page is zero. */
#include <string.h>

#include "ram_layout.h"
#include "wire.h"

#define BLOCK 32u /* words that are looked at together */

size_t ram_table_encode(uint8_t *to, const struct ram_run *runs, uint32_t count)
{
	size_t bytes = ram_table_bytes(count), used = 4 + 12 * (size_t)count;
	wire_put32(to, count);
	for (uint32_t i = 0; i < count; i++) {
		wire_put64(to + 4 + 12 * (size_t)i, runs[i].first);
		wire_put32(to + 12 + 12 * (size_t)i, runs[i].pages);
	}
	memset(to + used, 0, bytes - used);
	return bytes;
}

struct ram_run ram_table_run(const uint8_t *table, uint32_t index)
{
	const uint8_t *at = table + 4 + 12 * (size_t)index;
	return (struct ram_run){.first = wire_get64(at), .pages = wire_get32(at + 8)};
}

bool ram_page_is_zero(const void *page)
{
	const uint64_t *words = page;
	if (words[0])
		return false;
	for (size_t at = 0; at < RAM_PAGE / sizeof(*words); at += BLOCK) {
		uint64_t any = 0;
		for (size_t i = 0; i < BLOCK; i++)
			any |= words[at + i];
		if (any)
			return false;
	}
	return true;
}

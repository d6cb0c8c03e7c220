// SPDX-License-Identifier: MIT
/*
 * Page tables for what lies above 4 GiB, made when an address is touched. There are few; when all are used they are forgotten and
 * begun anew, so that a guest with terabytes of BARs needs no more of them.
 */
#include <stddef.h>
#include <string.h>

#include "cpu.h"
#include "machine.h"
#include "paging.h"

#define TABLE_ENTRIES 512
#define TABLES_MAX    24
#define LARGE_BYTES   0x200000ull
#define PTE_TABLE     0x03ull
#define PTE_LARGE     0x83ull
#define PTE_UNCACHED  0x18ull
#define PTE_ADDRESS   0x000ffffffffff000ull
#define ADDRESS_BITS  47 /* of an address that is canonical and positive */

static uint64_t (*const tables)[TABLE_ENTRIES] = (void *)LAYOUT_FIRMWARE_TABLES;
static unsigned used;

static uint64_t *const top = (uint64_t *)LAYOUT_PAGE_TABLES;
static uint64_t *const low_gigabytes = (uint64_t *)(LAYOUT_PAGE_TABLES + 0x1000);

static void forget_all(void)
{
	memset(top + 1, 0, (TABLE_ENTRIES - 1) * sizeof(*top));
	memset(low_gigabytes + 4, 0, (TABLE_ENTRIES - 4) * sizeof(*low_gigabytes));
	used = 0;
	flush_tlb();
}

static uint64_t *table_of(uint64_t *entry)
{
	if (!*entry) {
		memset(tables[used], 0, sizeof(tables[used]));
		*entry = (uint64_t)tables[used++] | PTE_TABLE;
	}
	return (uint64_t *)(*entry & PTE_ADDRESS);
}

bool paging_map(uint64_t address)
{
	if (address < LAYOUT_RAM_ABOVE_4G || address >> ADDRESS_BITS)
		return false;
	if (used + 2 > TABLES_MAX)
		forget_all();
	uint64_t *gigabytes = table_of(&top[address >> 39]);
	uint64_t *pages = table_of(&gigabytes[address >> 30 & (TABLE_ENTRIES - 1)]);
	uint64_t *page = &pages[address >> 21 & (TABLE_ENTRIES - 1)];
	/* It is there already: the fault was about something else, such as a bit that this CPU's addresses do not have. */
	if (*page)
		return false;
	*page = (address & -LARGE_BYTES) | PTE_LARGE | (machine_is_ram(address) ? 0 : PTE_UNCACHED);
	return true;
}

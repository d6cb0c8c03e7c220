/* SPDX-License-Identifier: MIT */
/* What broke the contract between device, VMM and driver: kept, counted, readable through registers, printed. */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "registers.h"

struct journal_entry {
	uint32_t kind; /* TD_BAD_* */
	uint32_t state;
	uint64_t detail;
	char text[112];
};

struct journal {
	uint32_t count; /* all there were; the newest is entries[(count - 1) % TD_JOURNAL_MAX] */
	uint32_t kinds;
	uint32_t index; /* TD_JOURNAL_INDEX */
	uint32_t counts[TD_BAD_KINDS];
	struct journal_entry entries[TD_JOURNAL_MAX];
};

struct testdev;

void journal_add(struct testdev *device, unsigned kind, uint64_t detail, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/** The n-th newest entry, or NULL. */
const struct journal_entry *journal_entry(const struct journal *journal, uint32_t n);

/** One line for each kind that happened, and one line for the sum. */
void journal_print(const struct journal *journal, FILE *out);

#endif

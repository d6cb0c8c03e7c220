/* SPDX-License-Identifier: MIT */
/* The drawings of a migration's report: SVG inside the page, whose style sheet (report.c) has the colours. */
#ifndef MIGRATE_PAGE_H
#define MIGRATE_PAGE_H

#include <stdio.h>

#include "history.h"

/** Writes text where markup is: what means something there does not, and what is no text is a question mark. */
void page_text(FILE *out, const char *text);

/** The phases along time. */
void page_timeline(FILE *out, const struct history *history);
/** RAM that is left to be sent, along time, with the rounds. */
void page_left(FILE *out, const struct history *history);
/** Of each round what was sent and what was written a second. */
void page_rates(FILE *out, const struct history *history);
/** The downtime and its parts. */
void page_downtime(FILE *out, const struct history *history);

#endif

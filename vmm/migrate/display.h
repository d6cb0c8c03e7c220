/* SPDX-License-Identifier: MIT */
/* How far a migration is, on a terminal or in a log. */
#ifndef MIGRATE_DISPLAY_H
#define MIGRATE_DISPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <tenon-migration/migrate.h>

struct display {
	FILE *out;
	const char *address; /* borrowed */
	bool terminal;  /* one block, drawn again in place; else a line when a phase begins, and when a round ends */
	unsigned lines; /* of the block that is there */
	bool begun;
	struct tenon_migration_progress last;
	uint64_t round_ns, round_sent_bytes; /* when its round began, and what was sent until then */
};

/** What to print now. */
void display_progress(struct display *display, const struct tenon_migration_progress *progress);

/** Prints a line of its own, above the block. */
void display_note(struct display *display, const char *text);

/** The block as lines of at most `width` characters. @param address  NULL: not told @return its lines */
unsigned display_block(const struct tenon_migration_progress *progress, const char *address, unsigned width, FILE *out);

/** How it went, for the end: "moved to tcp:host:4444 in 12.3 s; the guest stood still for 34.1 ms: vCPUs 0.05 ms, ..." */
void display_end(const struct tenon_migration_progress *progress, const char *address, bool saved, FILE *out);

/* A part of the time in which the guest stands still. */
struct display_part {
	const char *name;
	uint64_t ns;
};

#define DISPLAY_PARTS 6

/** The parts of the downtime in their order. */
void display_downtime(const struct tenon_migration_progress *progress, struct display_part parts[DISPLAY_PARTS]);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * RAM on the stream: dirty pages out, over one or several lanes, and in again. Zero pages are told, not sent.
 *
 * A lane is a connection of its own, with a thread of its own on both sides for as long as a pass lasts. Lanes meet at each ROUND, so that
 * an older copy of a page never overtakes a newer one.
 */
#ifndef RAM_H
#define RAM_H

#include <stdatomic.h>

#include <tenon-migration/migratable.h>

#include "bitmap.h"
#include "stream.h"

#define RAM_LANES_MAX STREAM_LANES_MAX

/* ---- Out ---- */

struct ram_sender;

struct ram_sender_counts {
	uint64_t pages, zero_pages;
	uint64_t bytes; /* on the wire, of all lanes, PAGES, COMPRESSED and ZEROES with their headers */
};

/**
 * @param lanes             borrowed; lane 0 is the connection that carries everything else
 * @param bytes_per_second  0: no limit
 */
int ram_sender_create(const struct tenon_migration_ram *ram, unsigned ram_count, struct stream_writer *const *lanes,
		      unsigned lane_count, uint64_t bytes_per_second, struct ram_sender **out, struct tenon_error *err);
void ram_sender_destroy(struct ram_sender *sender); /* accepts NULL */

/** From now on, pages are compressed where that makes them fewer bytes. Between passes. */
void ram_sender_compress(struct ram_sender *sender);

/** Bits of pages to be sent, of a region. The caller sets them between passes. */
struct bitmap *ram_sender_bitmap(struct ram_sender *sender, unsigned ram);

/**
 * Sends every page whose bit is set, clearing it, then a ROUND on every lane.
 *
 * @param unlimited  this pass knows no bytes_per_second: the guest stands
 * @param progress   called on the caller's thread about ten times a second; a result < 0 ends the pass; may be NULL
 * @return 0; or the first error of a lane, whose channels are all ended then; or what `progress` said: lanes end their sections first,
 *         so that ABORT can be sent, unless one takes longer than a second. Bits of pages that may not have been sent are undefined
 */
int ram_sender_pass(struct ram_sender *sender, bool unlimited, int (*progress)(void *context), void *context,
		    struct tenon_error *err);

/** From any thread. */
void ram_sender_counts(const struct ram_sender *sender, struct ram_sender_counts *out);

/* ---- In ---- */

struct ram_receiver;

/**
 * @param ram  zero, or what this process wrote into it lately: pages that are not zero are not swapped out
 */
int ram_receiver_create(const struct tenon_migration_ram *ram, unsigned ram_count, unsigned lane_count,
			struct ram_receiver **out, struct tenon_error *err);
void ram_receiver_destroy(struct ram_receiver *receiver); /* accepts NULL */

/** Has a lane's reader put pages into RAM itself, which spares a copy. For a lane as long as both live; nobody has to. */
void ram_receiver_attach(struct ram_receiver *receiver, struct stream_reader *reader);
/** Stores a PAGES, COMPRESSED or ZEROES section that lane `lane` read. Any thread, one for each lane. @return 0; -EBADMSG, -ENOMEM */
int ram_receiver_section(struct ram_receiver *receiver, unsigned lane, const struct stream_reader *reader,
			 const struct section *section, struct tenon_error *err);
/** The lane has come to a ROUND: waits for all others. @return 0; -ECANCELED ram_receiver_end */
int ram_receiver_round(struct ram_receiver *receiver, unsigned lane, struct tenon_error *err);
/** Nobody waits any more. */
void ram_receiver_end(struct ram_receiver *receiver);
void ram_receiver_counts(const struct ram_receiver *receiver, struct ram_sender_counts *out);

#endif

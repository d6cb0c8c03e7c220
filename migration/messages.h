/* SPDX-License-Identifier: MIT */
/*
 * The payloads of the small sections: each is written from a struct and decoded into one. docs/migration-stream.md has their bytes.
 * What is decoded is untrusted: a payload that is not exactly as it must be is refused with -EBADMSG and a reason.
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include <tenon-migration/migratable.h>

#include "commit.h"
#include "stream.h"

#define PART_BYTES_MAX     (64u << 20)
#define MESSAGE_TEXT_BYTES 512u

/**
 * Reads the section that must come now. A REFUSED, FAILED or ABORT in its place gives what it says as the error.
 *
 * @return 0; -ECONNABORTED the other side gave up; -EBADMSG another section; or stream_read's error
 */
int message_await(struct stream_reader *reader, enum section_type wanted, struct section *out, struct tenon_error *err);
/** Of a section that has no payload. */
int message_empty(const struct section *section, struct tenon_error *err);

/* ---- HELLO: the first section of every connection ---- */

#define HELLO_FLAG_FILE 1u /* a snapshot: nobody answers */

struct hello {
	uint32_t version;
	uint32_t flags;
	uint8_t session[COMMIT_SESSION_BYTES]; /* random, the same on all lanes */
	uint32_t lane, lanes;
	uint32_t page_bytes;
};

/** @param hello  its version and page size are set here */
int hello_write(struct stream_writer *writer, const struct hello *hello, struct tenon_error *err);
/** @return 0; -EPROTONOSUPPORT made by a newer version; -EBADMSG */
int hello_decode(const void *payload, size_t bytes, struct hello *out, struct tenon_error *err);

/* ---- DESCRIPTION ---- */

struct description {
	unsigned ram_count, device_count;
	struct {
		uint64_t gpa, size_bytes;
	} ram[TENON_MIGRATION_RAM];
	char devices[TENON_MIGRATION_DEVICES][TENON_MIGRATION_NAME_MAX]; /* as the source calls them; printable */
	const void *text; /* what the VMM says; borrowed of the payload */
	size_t text_bytes;
};

/** RAM and devices of the machine, and `text`. */
int description_write(struct stream_writer *writer, const struct tenon_migration_machine *machine, const void *text,
		      size_t text_bytes, struct tenon_error *err);
int description_decode(const void *payload, size_t bytes, struct description *out, struct tenon_error *err);
/** Refuses a machine whose RAM or number of devices is another. @return 0; -EINVAL the message names the difference */
int description_compare(const struct description *description, const struct tenon_migration_machine *machine,
			struct tenon_error *err);

/* ---- PART ---- */

/** In as many sections as it takes. @param name  at most TENON_MIGRATION_NAME_MAX with its end */
int part_write(struct stream_writer *writer, const char *name, uint32_t version, const void *data, size_t bytes,
	       struct tenon_error *err);

/* A part of which sections are still to come, or that is whole. Zeroed: none. */
struct part {
	char name[TENON_MIGRATION_NAME_MAX];
	uint32_t version;
	size_t total_bytes, have_bytes;
	uint8_t *data;
	bool begun;
};

/** Takes a section. @return 1 the part is whole: use it, then part_finish; 0 more is to come; -EBADMSG; -ENOMEM */
int part_collect(struct part *part, const void *payload, size_t bytes, struct tenon_error *err);
void part_finish(struct part *part); /* accepts a zeroed struct, and leaves one */

/* ---- END: what must have come ---- */

struct end_counts {
	uint64_t pages, zero_pages, ram_bytes; /* as ram_sender_counts and ram_receiver_counts say */
	uint64_t device_bytes;                 /* payloads of DEVICE_DATA and DEVICE_STATE */
	uint64_t parts;
};

int end_write(struct stream_writer *writer, const struct end_counts *counts, struct tenon_error *err);
int end_decode(const void *payload, size_t bytes, struct end_counts *out, struct tenon_error *err);
/** @return 0; -EBADMSG the message names what is missing */
int end_compare(const struct end_counts *sent, const struct end_counts *received, struct tenon_error *err);

/* ---- VERDICT and ANSWER: who runs, asked on a new connection, which begins with VERDICT ---- */

struct verdict {
	uint8_t session[COMMIT_SESSION_BYTES];
	enum commit_verdict verdict;
};

int verdict_write(struct stream_writer *writer, const struct verdict *verdict, struct tenon_error *err);
int verdict_decode(const void *payload, size_t bytes, struct verdict *out, struct tenon_error *err);
int answer_write(struct stream_writer *writer, enum commit_answer answer, struct tenon_error *err);
int answer_decode(const void *payload, size_t bytes, enum commit_answer *out, struct tenon_error *err);

#endif

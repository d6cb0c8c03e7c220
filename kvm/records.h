/* SPDX-License-Identifier: MIT */
/*
 * The form of everything that kvm/ gives to another host: a header and records, all numbers little-endian, nothing aligned.
 *
 *   header, 16 bytes   0  magic, 4 letters that say what this is
 *                      4  u16 version of the form: 1
 *                      6  u16 zero
 *                      8  u32 size of all in bytes, this header included
 *                     12  u32 number of records
 *   each record        0  u16 tag, at most once each
 *                      2  u16 flags: 1 = required, whoever does not know the tag must refuse; others may skip it
 *                      4  u32 size of what follows in bytes
 *                      8  payload
 *
 * Structs of KVM's x86 interface are payloads as they are: their layout is fixed, little-endian, and the same for every kernel.
 */
#ifndef RECORDS_H
#define RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#define RECORDS_VERSION   1u
#define RECORDS_MAX_BYTES (1u << 20) /* far above what any of them needs */
#define RECORD_TAGS       32u        /* tags that this version may use are below */

enum record_need { RECORD_OPTIONAL, RECORD_REQUIRED };

/* ---- Writing: add what you like and look at the end whether there was memory ---- */

struct records {
	unsigned char *data;
	size_t bytes, capacity;
	uint32_t count;
	bool failed;
};

void records_begin(struct records *records, const char magic[4]);
void records_add(struct records *records, uint16_t tag, enum record_need need, const void *payload, size_t bytes);
/** @param what is packed, for the message; @param data owned by the caller: free() */
int records_finish(struct records *records, const char *what, void **data, size_t *bytes, struct tenon_error *err);

/** Instead of finishing. */
void records_drop(struct records *records);

/* ---- Reading: untrusted ---- */

struct record {
	const unsigned char *payload; /* NULL: there is none of this tag */
	uint32_t bytes;
};

/**
 * Finds all records whose tags are known; they point into data.
 *
 * @param what   this is, for messages
 * @param known  bit n: tag n is known
 * @param found  filled by tag, RECORD_TAGS of them
 * @return 0; -EINVAL saying what is wrong
 */
int records_read(const void *data, size_t bytes, const char magic[4], const char *what, uint32_t known,
		 struct record *found, struct tenon_error *err);

uint32_t records_get32(const unsigned char *from);
uint64_t records_get64(const unsigned char *from);
void records_put32(unsigned char *to, uint32_t value);
void records_put64(unsigned char *to, uint64_t value);

#endif

// SPDX-License-Identifier: MIT
/* Writes and reads the records of records.h. What their payloads mean is the business of those who pack and unpack. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "records.h"

#define HEADER_BYTES   16u
#define RECORD_BYTES   8u
#define FLAG_REQUIRED  1u
#define FIRST_CAPACITY 8192u

static uint16_t get16(const unsigned char *from)
{
	return (uint16_t)(from[0] | from[1] << 8);
}

static void put16(unsigned char *to, uint16_t value)
{
	to[0] = (unsigned char)value;
	to[1] = (unsigned char)(value >> 8);
}

uint32_t records_get32(const unsigned char *from)
{
	return get16(from) | (uint32_t)get16(from + 2) << 16;
}

uint64_t records_get64(const unsigned char *from)
{
	return records_get32(from) | (uint64_t)records_get32(from + 4) << 32;
}

void records_put32(unsigned char *to, uint32_t value)
{
	put16(to, (uint16_t)value);
	put16(to + 2, (uint16_t)(value >> 16));
}

void records_put64(unsigned char *to, uint64_t value)
{
	records_put32(to, (uint32_t)value);
	records_put32(to + 4, (uint32_t)(value >> 32));
}

/* ---- Writing ---- */

/* Room for so many bytes at the end, or NULL. */
static unsigned char *extend(struct records *records, size_t bytes)
{
	if (records->failed || bytes > RECORDS_MAX_BYTES - records->bytes) {
		records->failed = true;
		return NULL;
	}
	if (records->bytes + bytes > records->capacity) {
		size_t capacity = records->capacity ? records->capacity : FIRST_CAPACITY;
		while (capacity < records->bytes + bytes)
			capacity *= 2;
		unsigned char *data = realloc(records->data, capacity);
		if (!data) {
			records->failed = true;
			return NULL;
		}
		records->data = data;
		records->capacity = capacity;
	}
	unsigned char *room = records->data + records->bytes;
	records->bytes += bytes;
	return room;
}

void records_begin(struct records *records, const char magic[4])
{
	*records = (struct records){0};
	unsigned char *header = extend(records, HEADER_BYTES);
	if (!header)
		return;
	memset(header, 0, HEADER_BYTES);
	memcpy(header, magic, 4);
	put16(header + 4, RECORDS_VERSION);
}

void records_add(struct records *records, uint16_t tag, enum record_need need, const void *payload, size_t bytes)
{
	unsigned char *record = extend(records, RECORD_BYTES + bytes);
	if (!record)
		return;
	put16(record, tag);
	put16(record + 2, need == RECORD_REQUIRED ? FLAG_REQUIRED : 0);
	records_put32(record + 4, (uint32_t)bytes);
	memcpy(record + RECORD_BYTES, payload, bytes);
	records->count++;
}

int records_finish(struct records *records, const char *what, void **data, size_t *bytes, struct tenon_error *err)
{
	if (records->failed) {
		free(records->data);
		return tenon_fail(err, -ENOMEM, "%s: no memory to pack it", what);
	}
	records_put32(records->data + 8, (uint32_t)records->bytes);
	records_put32(records->data + 12, records->count);
	*data = records->data;
	*bytes = records->bytes;
	return 0;
}

void records_drop(struct records *records)
{
	free(records->data);
	*records = (struct records){0};
}

/* ---- Reading ---- */

static int check_header(const unsigned char *header, size_t bytes, const char magic[4], const char *what,
			struct tenon_error *err)
{
	if (bytes < HEADER_BYTES || memcmp(header, magic, 4) != 0)
		return tenon_fail(err, -EINVAL,
				  "%s: these %zu bytes are no such state; was another file or part given?", what,
				  bytes);
	if (get16(header + 4) != RECORDS_VERSION)
		return tenon_fail(err, -EINVAL,
				  "%s: version %u, and this library knows version %u; use a newer library", what,
				  get16(header + 4), RECORDS_VERSION);
	if (bytes > RECORDS_MAX_BYTES || records_get32(header + 8) != bytes)
		return tenon_fail(err, -EINVAL, "%s: %zu bytes, and its header says %u: it was cut or damaged", what,
				  bytes, records_get32(header + 8));
	return 0;
}

int records_read(const void *data, size_t bytes, const char magic[4], const char *what, uint32_t known,
		 struct record *found, struct tenon_error *err)
{
	const unsigned char *next = data;
	int error = check_header(next, bytes, magic, what, err);
	if (error)
		return error;

	memset(found, 0, RECORD_TAGS * sizeof(*found));
	uint32_t count = records_get32(next + 12);
	next += HEADER_BYTES;
	bytes -= HEADER_BYTES;
	for (uint32_t i = 0; i < count; i++) {
		if (bytes < RECORD_BYTES || records_get32(next + 4) > bytes - RECORD_BYTES)
			return tenon_fail(err, -EINVAL, "%s: record %u of %u reaches beyond the end: it is damaged",
					  what, i, count);
		uint16_t tag = get16(next);
		uint32_t length = records_get32(next + 4);
		bool is_known = tag < RECORD_TAGS && known >> tag & 1;
		if (!is_known && get16(next + 2) & FLAG_REQUIRED)
			return tenon_fail(err, -EINVAL,
					  "%s: holds a record (tag %u) that this library does not know and must not "
					  "leave out; use a newer library",
					  what, tag);
		if (is_known && found[tag].payload)
			return tenon_fail(err, -EINVAL, "%s: holds the record with tag %u twice: it is damaged", what,
					  tag);
		if (is_known)
			found[tag] = (struct record){.payload = next + RECORD_BYTES, .bytes = length};
		next += RECORD_BYTES + length;
		bytes -= RECORD_BYTES + length;
	}
	if (bytes)
		return tenon_fail(err, -EINVAL, "%s: %zu bytes after its last record: it is damaged", what, bytes);
	return 0;
}

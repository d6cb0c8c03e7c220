// SPDX-License-Identifier: MIT
/* The bytes of device_state.h: written, and read as hostile. Knows no device. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device_state.h"

#define MAGIC              "TENONDEV"
#define MAGIC_BYTES        8u
#define HEADER_BYTES       16u
#define SECTION_BYTES      8u
#define PASSED_BYTES       8u
#define INTERRUPTS_BYTES   4u /* without the vectors */
#define ENTRY_BYTES        16u
#define CHECKSUM_BYTES     4u
#define CASTAGNOLI_NIBBLES 16

enum section {
	SECTION_IDENTITY = 1,
	SECTION_CONFIG,
	SECTION_PASSED,
	SECTION_INTERRUPTS,
	SECTION_MSIX_TABLE,
	SECTION_CHECKSUM,
};

/* ---- Checksum ---- */

/* The reflected polynomial 0x82f63b78, four bits at a time: a state has some kilobytes. */
uint32_t state_checksum(uint32_t before, const void *data, size_t bytes)
{
	static const uint32_t table[CASTAGNOLI_NIBBLES] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *at = data;
	uint32_t crc = ~before;
	for (size_t i = 0; i < bytes; i++) {
		crc ^= at[i];
		crc = crc >> 4 ^ table[crc & 0xf];
		crc = crc >> 4 ^ table[crc & 0xf];
	}
	return ~crc;
}

/* ---- Writing ---- */

static void put(uint8_t **at, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*(*at)++ = (uint8_t)(value >> (8 * i));
}

static void put_bytes(uint8_t **at, const void *data, size_t bytes)
{
	memcpy(*at, data, bytes);
	*at += bytes;
}

static void put_section(uint8_t **at, enum section type, size_t bytes)
{
	put(at, type, 2);
	put(at, 0, 2);
	put(at, bytes, 4);
}

static size_t encoded_bytes(const struct device_state *state)
{
	return HEADER_BYTES + SECTION_CHECKSUM * SECTION_BYTES + STATE_IDS * sizeof(uint64_t) + state->config_bytes +
	       PASSED_BYTES + INTERRUPTS_BYTES + state->vector_count + (size_t)state->msix_count * ENTRY_BYTES +
	       CHECKSUM_BYTES;
}

static void put_all(uint8_t *first, size_t bytes, const struct device_state *state)
{
	uint8_t *at = first;
	put_bytes(&at, MAGIC, MAGIC_BYTES);
	put(&at, STATE_VERSION, 4);
	put(&at, bytes, 4);
	put_section(&at, SECTION_IDENTITY, STATE_IDS * sizeof(uint64_t));
	for (unsigned i = 0; i < STATE_IDS; i++)
		put(&at, state->identity[i], 8);
	put_section(&at, SECTION_CONFIG, state->config_bytes);
	put_bytes(&at, state->config, state->config_bytes);
	put_section(&at, SECTION_PASSED, PASSED_BYTES);
	put(&at, state->device_control[0], 2);
	put(&at, state->device_control[1], 2);
	put(&at, state->vpd_address, 2);
	put(&at, state->vpd_address_low, 2);
	put_section(&at, SECTION_INTERRUPTS, INTERRUPTS_BYTES + state->vector_count);
	put(&at, state->mode, 1);
	put(&at, state->intx_asserted, 1);
	put(&at, 0, 2);
	put_bytes(&at, state->vectors, state->vector_count);
	put_section(&at, SECTION_MSIX_TABLE, (size_t)state->msix_count * ENTRY_BYTES);
	put_bytes(&at, state->msix_table, (size_t)state->msix_count * ENTRY_BYTES);
	uint32_t sum = state_checksum(0, first, (size_t)(at - first));
	put_section(&at, SECTION_CHECKSUM, CHECKSUM_BYTES);
	put(&at, sum, 4);
}

int state_encode(const struct device_state *state, const char *name, void **data, size_t *bytes,
		 struct tenon_error *err)
{
	size_t all = encoded_bytes(state);
	uint8_t *first = malloc(all);
	if (!first)
		return tenon_fail(err, -ENOMEM, "%s: cannot save its state: out of memory; free some memory", name);
	put_all(first, all, state);
	*data = first;
	*bytes = all;
	return 0;
}

/* ---- Reading ---- */

struct reader {
	const uint8_t *first, *at, *end;
	const char *wrong; /* what is; NULL: nothing yet */
};

static size_t left(const struct reader *reader)
{
	return (size_t)(reader->end - reader->at);
}

/* Of what is known to be there. */
static uint64_t get(struct reader *reader, unsigned bytes)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)*reader->at++ << (8 * i);
	return value;
}

static void get_bytes(struct reader *reader, void *out, size_t bytes)
{
	memcpy(out, reader->at, bytes);
	reader->at += bytes;
}

static bool refuse(struct reader *reader, const char *wrong)
{
	if (!reader->wrong)
		reader->wrong = wrong;
	return false;
}

static bool get_header(struct reader *reader)
{
	if (left(reader) < HEADER_BYTES || memcmp(reader->at, MAGIC, MAGIC_BYTES) != 0)
		return refuse(reader, "it does not begin like one");
	reader->at += MAGIC_BYTES;
	if (get(reader, 4) != STATE_VERSION)
		return refuse(reader, "it is of another version");
	if (get(reader, 4) != (uint64_t)(reader->end - reader->first))
		return refuse(reader, "it is cut short, or goes on behind its end");
	return true;
}

/* @param bytes  gets the length of the body, which is there */
static bool get_section(struct reader *reader, enum section type, size_t *bytes)
{
	if (left(reader) < SECTION_BYTES)
		return refuse(reader, "a section is missing");
	if (get(reader, 2) != type || get(reader, 2) != 0)
		return refuse(reader, "a section is not where it belongs");
	*bytes = (size_t)get(reader, 4);
	return *bytes <= left(reader) || refuse(reader, "a section goes beyond its end");
}

static bool get_identity(struct reader *reader, struct device_state *out)
{
	size_t bytes;
	if (!get_section(reader, SECTION_IDENTITY, &bytes))
		return false;
	if (bytes != sizeof(out->identity))
		return refuse(reader, "what it says of the device has a wrong length");
	for (unsigned i = 0; i < STATE_IDS; i++)
		out->identity[i] = get(reader, 8);
	return true;
}

static bool get_config(struct reader *reader, struct device_state *out)
{
	size_t bytes;
	if (!get_section(reader, SECTION_CONFIG, &bytes))
		return false;
	if (bytes > sizeof(out->config) || bytes != out->identity[STATE_ID_CONFIG_BYTES])
		return refuse(reader, "its config space has a wrong length");
	get_bytes(reader, out->config, bytes);
	out->config_bytes = (unsigned)bytes;
	return true;
}

static bool get_passed(struct reader *reader, struct device_state *out)
{
	size_t bytes;
	if (!get_section(reader, SECTION_PASSED, &bytes))
		return false;
	if (bytes != PASSED_BYTES)
		return refuse(reader, "the registers of the device have a wrong length");
	out->device_control[0] = (uint16_t)get(reader, 2);
	out->device_control[1] = (uint16_t)get(reader, 2);
	out->vpd_address = (uint16_t)get(reader, 2);
	out->vpd_address_low = (uint8_t)get(reader, 1);
	return get(reader, 1) == 0 || refuse(reader, "a byte that is always zero is not");
}

static bool get_interrupts(struct reader *reader, struct device_state *out)
{
	size_t bytes;
	if (!get_section(reader, SECTION_INTERRUPTS, &bytes))
		return false;
	if (bytes < INTERRUPTS_BYTES || bytes - INTERRUPTS_BYTES > sizeof(out->vectors))
		return refuse(reader, "its interrupts have a wrong length");
	out->mode = (uint8_t)get(reader, 1);
	uint64_t asserted = get(reader, 1);
	if (asserted > 1 || get(reader, 2) != 0)
		return refuse(reader, "its interrupts have a value that there is not");
	out->intx_asserted = asserted;
	out->vector_count = (unsigned)(bytes - INTERRUPTS_BYTES);
	get_bytes(reader, out->vectors, out->vector_count);
	return true;
}

static bool get_table(struct reader *reader, struct device_state *out)
{
	size_t bytes;
	if (!get_section(reader, SECTION_MSIX_TABLE, &bytes))
		return false;
	if (bytes > sizeof(out->msix_table) || bytes % ENTRY_BYTES ||
	    bytes / ENTRY_BYTES != out->identity[STATE_ID_MSIX_VECTORS])
		return refuse(reader, "its MSI-X table has a wrong length");
	get_bytes(reader, out->msix_table, bytes);
	out->msix_count = (unsigned)(bytes / ENTRY_BYTES);
	return true;
}

static bool get_checksum(struct reader *reader)
{
	size_t bytes;
	uint32_t sum = state_checksum(0, reader->first, (size_t)(reader->at - reader->first));
	if (!get_section(reader, SECTION_CHECKSUM, &bytes))
		return false;
	if (bytes != CHECKSUM_BYTES || get(reader, 4) != sum)
		return refuse(reader, "its checksum does not match");
	return left(reader) == 0 || refuse(reader, "it goes on behind its end");
}

int state_decode(const void *data, size_t bytes, const char *name, struct device_state *out, struct tenon_error *err)
{
	struct reader reader = {.first = data, .at = data, .end = (const uint8_t *)data + bytes};
	memset(out, 0, sizeof(*out));
	if (get_header(&reader) && get_identity(&reader, out) && get_config(&reader, out) && get_passed(&reader, out) &&
	    get_interrupts(&reader, out) && get_table(&reader, out) && get_checksum(&reader))
		return 0;
	return tenon_fail(err, -EINVAL, "%s: what is to be loaded is no state of a device: %s; save it again", name,
			  reader.wrong);
}

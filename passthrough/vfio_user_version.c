// SPDX-License-Identifier: MIT
/*
 * Reads and writes the capabilities of a vfio-user version message. The reader knows all of JSON's grammar (RFC 8259), so
 * that names of later versions are skipped whatever their values are, but understands only numbers without fraction and
 * booleans. It copies nothing but names, and those cut to what a known name can have.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vfio_user_protocol.h"
#include "vfio_user_version.h"

#define DEPTH_MAX  16
#define NAME_BYTES 32

struct reader {
	const char *at;
	const char *end;
	unsigned depth;
	struct vu_capabilities *out;
	const char *wrong; /* a known name with a value of the wrong kind */
};

static void skip_space(struct reader *reader)
{
	while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) && *reader->at)
		reader->at++;
}

/* The next character that is no space, without taking it; 0 at the end. */
static char peek(struct reader *reader)
{
	skip_space(reader);
	return reader->at < reader->end ? *reader->at : '\0';
}

static bool take(struct reader *reader, char wanted)
{
	if (peek(reader) != wanted)
		return false;
	reader->at++;
	return true;
}

static bool take_word(struct reader *reader, const char *word)
{
	size_t length = strlen(word);
	if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0)
		return false;
	reader->at += length;
	return true;
}

static bool is_digit(char character)
{
	return character >= '0' && character <= '9';
}

/* After a backslash. What the escape stands for does not matter: no known name has one. */
static bool skip_escape(struct reader *reader)
{
	char kind = *reader->at++;
	if (kind != 'u')
		return kind && strchr("\"\\/bfnrt", kind);
	for (unsigned i = 0; i < 4; i++, reader->at++) {
		if (reader->at == reader->end || !*reader->at || !strchr("0123456789abcdefABCDEF", *reader->at))
			return false;
	}
	return true;
}

/* @param name  NULL, or gets the string, cut; one with an escape gets a name that nothing is called */
static bool read_string(struct reader *reader, char name[NAME_BYTES])
{
	unsigned length = 0;
	if (!take(reader, '"'))
		return false;
	while (reader->at < reader->end) {
		char character = *reader->at++;
		if (character == '"') {
			if (name)
				name[length] = '\0';
			return true;
		}
		if ((unsigned char)character < 0x20)
			return false;
		if (character == '\\' && (reader->at == reader->end || !skip_escape(reader)))
			return false;
		if (name && length < NAME_BYTES - 1)
			name[length++] = character;
	}
	return false;
}

static bool skip_digits(struct reader *reader)
{
	const char *first = reader->at;
	while (reader->at < reader->end && is_digit(*reader->at))
		reader->at++;
	return reader->at > first;
}

/* @param whole  gets the value when it is a whole number from 0 to 2^63 - 1, without fraction and exponent */
static bool read_number(struct reader *reader, bool *is_whole, uint64_t *whole)
{
	bool negative = take_word(reader, "-");
	const char *first = reader->at;
	if (!skip_digits(reader) || (*first == '0' && reader->at - first > 1))
		return false;
	*is_whole = !negative && reader->at - first <= 19;
	*whole = 0;
	for (const char *digit = first; *is_whole && digit < reader->at; digit++)
		*whole = *whole * 10 + (uint64_t)(*digit - '0');
	*is_whole = *is_whole && *whole <= INT64_MAX;
	if (take_word(reader, ".")) {
		*is_whole = false;
		if (!skip_digits(reader))
			return false;
	}
	if (take_word(reader, "e") || take_word(reader, "E")) {
		*is_whole = false;
		if (!take_word(reader, "+"))
			take_word(reader, "-");
		if (!skip_digits(reader))
			return false;
	}
	return true;
}

static bool skip_value(struct reader *reader);

/* An object whose members `member` reads, each value of it whole. */
static bool read_object(struct reader *reader, bool (*member)(struct reader *reader, const char *name))
{
	char name[NAME_BYTES];
	if (++reader->depth > DEPTH_MAX || !take(reader, '{'))
		return false;
	if (!take(reader, '}')) {
		do {
			if (!read_string(reader, name) || !take(reader, ':') || !member(reader, name))
				return false;
		} while (take(reader, ','));
		if (!take(reader, '}'))
			return false;
	}
	reader->depth--;
	return true;
}

static bool skip_member(struct reader *reader, const char *name)
{
	return skip_value(reader);
}

static bool skip_array(struct reader *reader)
{
	if (++reader->depth > DEPTH_MAX || !take(reader, '['))
		return false;
	if (!take(reader, ']')) {
		do {
			if (!skip_value(reader))
				return false;
		} while (take(reader, ','));
		if (!take(reader, ']'))
			return false;
	}
	reader->depth--;
	return true;
}

static bool skip_value(struct reader *reader)
{
	bool is_whole;
	uint64_t whole;
	switch (peek(reader)) {
	case '{':
		return read_object(reader, skip_member);
	case '[':
		return skip_array(reader);
	case '"':
		return read_string(reader, NULL);
	case 't':
		return take_word(reader, "true");
	case 'f':
		return take_word(reader, "false");
	case 'n':
		return take_word(reader, "null");
	default:
		return read_number(reader, &is_whole, &whole);
	}
}

/* The value of a known name. */
static bool read_whole(struct reader *reader, const char *known, uint64_t *out)
{
	bool is_whole = false;
	uint64_t whole = 0;
	char first = peek(reader);
	if (!(is_digit(first) || first == '-' ? read_number(reader, &is_whole, &whole) : skip_value(reader)))
		return false;
	if (is_whole)
		*out = whole;
	else
		reader->wrong = known;
	return true;
}

static bool read_boolean(struct reader *reader, const char *known, bool *out)
{
	char first = peek(reader);
	if (first == 't' || first == 'f')
		*out = first == 't';
	else
		reader->wrong = known;
	return skip_value(reader);
}

static bool twin_member(struct reader *reader, const char *name)
{
	if (strcmp(name, "supported") == 0)
		return read_boolean(reader, "twin_socket.supported", &reader->out->twin_socket);
	if (strcmp(name, "fd_index") == 0) {
		reader->out->twin_fd_present = true;
		return read_whole(reader, "twin_socket.fd_index", &reader->out->twin_fd_index);
	}
	return skip_value(reader);
}

static bool capability_member(struct reader *reader, const char *name)
{
	struct vu_capabilities *out = reader->out;
	if (strcmp(name, "max_msg_fds") == 0)
		return read_whole(reader, "max_msg_fds", &out->msg_fds);
	if (strcmp(name, "max_data_xfer_size") == 0)
		return read_whole(reader, "max_data_xfer_size", &out->data_bytes);
	if (strcmp(name, "max_dma_maps") == 0)
		return read_whole(reader, "max_dma_maps", &out->dma_maps);
	if (strcmp(name, "pgsizes") == 0)
		return read_whole(reader, "pgsizes", &out->page_sizes);
	if (strcmp(name, "write_multiple") == 0)
		return read_boolean(reader, "write_multiple", &out->write_multiple);
	if (strcmp(name, "twin_socket") != 0)
		return skip_value(reader);
	if (peek(reader) == '{')
		return read_object(reader, twin_member);
	reader->wrong = "twin_socket";
	return skip_value(reader);
}

static bool top_member(struct reader *reader, const char *name)
{
	if (strcmp(name, "capabilities") != 0)
		return skip_value(reader);
	if (peek(reader) == '{')
		return read_object(reader, capability_member);
	reader->wrong = "capabilities";
	return skip_value(reader);
}

int vu_capabilities_parse(const char *text, size_t bytes, struct vu_capabilities *out, struct tenon_error *err)
{
	*out = (struct vu_capabilities){.msg_fds = VU_DEFAULT_MSG_FDS,
					.data_bytes = VU_DEFAULT_DATA_BYTES,
					.dma_maps = VU_DEFAULT_DMA_MAPS,
					.page_sizes = VU_DEFAULT_PAGE_SIZES};
	if (bytes > 0 && text[bytes - 1] == '\0')
		bytes--;
	if (bytes == 0)
		return 0;
	struct reader reader = {.at = text, .end = text + bytes, .out = out};
	if (!read_object(&reader, top_member) || peek(&reader) || reader.at != reader.end)
		return tenon_fail(err, -EINVAL,
				  "vfio-user capabilities: not JSON, from character %zu on; update the other side",
				  (size_t)(reader.at - text));
	if (reader.wrong)
		return tenon_fail(err, -EINVAL,
				  "vfio-user capabilities: %s has a value of the wrong kind; update the other side",
				  reader.wrong);
	return 0;
}

size_t vu_capabilities_format(const struct vu_capabilities *capabilities, char text[VU_CAPABILITIES_TEXT_MAX])
{
	char twin[96] = "";
	if (capabilities->twin_socket && capabilities->twin_fd_present)
		snprintf(twin, sizeof(twin), ",\"twin_socket\":{\"supported\":true,\"fd_index\":%llu}",
			 (unsigned long long)capabilities->twin_fd_index);
	else if (capabilities->twin_socket)
		snprintf(twin, sizeof(twin), ",\"twin_socket\":{\"supported\":true}");
	int length =
		snprintf(text, VU_CAPABILITIES_TEXT_MAX,
			 "{\"capabilities\":{\"max_msg_fds\":%llu,\"max_data_xfer_size\":%llu,\"max_dma_maps\":%llu,"
			 "\"pgsizes\":%llu,\"write_multiple\":%s%s}}",
			 (unsigned long long)capabilities->msg_fds, (unsigned long long)capabilities->data_bytes,
			 (unsigned long long)capabilities->dma_maps, (unsigned long long)capabilities->page_sizes,
			 capabilities->write_multiple ? "true" : "false", twin);
	return (size_t)length + 1;
}

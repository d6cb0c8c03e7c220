// SPDX-License-Identifier: MIT
/* The bytes of saved parts: a buffer that grows, and a cursor that never leaves what it was given. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

#define FIRST_BYTES 256u

static bool make_room(struct bytes_out *out, size_t count)
{
	size_t capacity = out->capacity ? out->capacity : FIRST_BYTES;
	while (!out->failed && capacity - out->count < count)
		out->failed = __builtin_mul_overflow(capacity, 2, &capacity);
	if (out->failed || capacity == out->capacity)
		return !out->failed;
	uint8_t *data = realloc(out->data, capacity);
	out->failed = !data;
	if (out->failed)
		return false;
	out->data = data;
	out->capacity = capacity;
	return true;
}

void bytes_put(struct bytes_out *out, const void *data, size_t count)
{
	if (count == 0 || !make_room(out, count))
		return;
	memcpy(out->data + out->count, data, count);
	out->count += count;
}

static void put_number(struct bytes_out *out, uint64_t value, unsigned count)
{
	uint8_t bytes[8];
	for (unsigned i = 0; i < count; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	bytes_put(out, bytes, count);
}

void bytes_put_u8(struct bytes_out *out, uint8_t value)
{
	put_number(out, value, 1);
}

void bytes_put_u16(struct bytes_out *out, uint16_t value)
{
	put_number(out, value, 2);
}

void bytes_put_u32(struct bytes_out *out, uint32_t value)
{
	put_number(out, value, 4);
}

void bytes_put_u64(struct bytes_out *out, uint64_t value)
{
	put_number(out, value, 8);
}

void bytes_out_finish(struct bytes_out *out)
{
	free(out->data);
	*out = (struct bytes_out){0};
}

void bytes_get(struct bytes_in *in, void *data, size_t count)
{
	if (in->failed || in->left < count) {
		in->failed = true;
		memset(data, 0, count);
		return;
	}
	memcpy(data, in->data, count);
	in->data += count;
	in->left -= count;
}

static uint64_t get_number(struct bytes_in *in, unsigned count)
{
	uint8_t bytes[8];
	uint64_t value = 0;
	bytes_get(in, bytes, count);
	for (unsigned i = 0; i < count; i++)
		value |= (uint64_t)bytes[i] << 8 * i;
	return value;
}

uint8_t bytes_get_u8(struct bytes_in *in)
{
	return (uint8_t)get_number(in, 1);
}

uint16_t bytes_get_u16(struct bytes_in *in)
{
	return (uint16_t)get_number(in, 2);
}

uint32_t bytes_get_u32(struct bytes_in *in)
{
	return (uint32_t)get_number(in, 4);
}

uint64_t bytes_get_u64(struct bytes_in *in)
{
	return get_number(in, 8);
}

int bytes_get_end(const struct bytes_in *in, const char *what, struct tenon_error *err)
{
	if (in->failed)
		return tenon_fail(err, -EINVAL, "%s: its saved state ends too early; save it again", what);
	if (in->left)
		return tenon_fail(err, -EINVAL, "%s: its saved state is %zu bytes too long; save it again", what,
				  in->left);
	return 0;
}

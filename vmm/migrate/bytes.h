/* SPDX-License-Identifier: MIT */
/*
 * Numbers and bytes of a saved part, little-endian and without padding. Both sides fail once and stay so, which is asked at the end: what
 * is put after a failure is dropped, and what is got is zero.
 */
#ifndef MIGRATE_BYTES_H
#define MIGRATE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

/* Zeroed to begin with. */
struct bytes_out {
	uint8_t *data; /* free() by bytes_out_finish */
	size_t count, capacity;
	bool failed; /* out of memory */
};

void bytes_put(struct bytes_out *out, const void *data, size_t count);
void bytes_put_u8(struct bytes_out *out, uint8_t value);
void bytes_put_u16(struct bytes_out *out, uint16_t value);
void bytes_put_u32(struct bytes_out *out, uint32_t value);
void bytes_put_u64(struct bytes_out *out, uint64_t value);
void bytes_out_finish(struct bytes_out *out);

/* Untrusted bytes, borrowed; `data` and `left` are set to begin with. */
struct bytes_in {
	const uint8_t *data;
	size_t left;
	bool failed; /* asked for more than there is */
};

/** @return zeroes in `data` where there is not as much */
void bytes_get(struct bytes_in *in, void *data, size_t count);
uint8_t bytes_get_u8(struct bytes_in *in);
uint16_t bytes_get_u16(struct bytes_in *in);
uint32_t bytes_get_u32(struct bytes_in *in);
uint64_t bytes_get_u64(struct bytes_in *in);

/** Whether exactly all was got. @param what  for the message. @return 0 or -EINVAL */
int bytes_get_end(const struct bytes_in *in, const char *what, struct tenon_error *err);

#endif

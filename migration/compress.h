/* SPDX-License-Identifier: MIT */
/*
 * A COMPRESSED section: the payload of a PAGES section in fewer bytes, as one zstd frame behind the payload's size (u32). Only compress.c
 * knows zstd. Contexts and memory are made when they are first used, and kept: one of these for each lane and direction, one thread at a time.
 */
#ifndef COMPRESS_H
#define COMPRESS_H

#include <stdint.h>

#include <tenon/error.h>

struct compressor { /* zeroed: not used yet */
	void *context;
	uint8_t *payload; /* of the COMPRESSED section in hand */
};

/** @return the bytes of `payload`; 0: they would not be fewer; -ENOMEM */
int64_t compressor_run(struct compressor *compressor, const void *data, uint32_t bytes, struct tenon_error *err);
void compressor_finish(struct compressor *compressor);

struct decompressor { /* zeroed: not used yet */
	void *context;
	uint8_t *data; /* SECTION_BYTES_MAX; what was last decompressed */
};

/** @param payload  untrusted. @return the bytes of `data`; -EBADMSG it is none; -ENOMEM */
int64_t decompressor_run(struct decompressor *decompressor, const uint8_t *payload, uint32_t bytes,
			 struct tenon_error *err);
void decompressor_finish(struct decompressor *decompressor);

#endif

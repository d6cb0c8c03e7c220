// SPDX-License-Identifier: MIT
/*
 * Pages by zstd, level 1: the links that want this are slower than that, and faster than the levels above.
 *
 * What is decompressed is untrusted. It must be one frame of the format as it is today: libraries may still decode those of years ago, and
 * decode frames that follow each other as one. What it gives goes into memory of a fixed size, whatever it claims.
 */
#include <errno.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "compress.h"
#include "stream.h"
#include "wire.h"

#define LEVEL      1
#define SIZE_BYTES 4u /* before the frame */

/* ---- Out ---- */

static int begin_compressor(struct compressor *compressor, struct tenon_error *err)
{
	if (!compressor->payload)
		compressor->payload = malloc(SECTION_BYTES_MAX);
	if (!compressor->context)
		compressor->context = ZSTD_createCCtx();
	if (!compressor->payload || !compressor->context ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(compressor->context, ZSTD_c_compressionLevel, LEVEL)))
		return tenon_fail(err, -ENOMEM, "no memory to compress RAM; free some, or do not compress");
	return 0;
}

int64_t compressor_run(struct compressor *compressor, const void *data, uint32_t bytes, struct tenon_error *err)
{
	int code = begin_compressor(compressor, err);
	if (code < 0)
		return code;
	/* No room for a frame that would not make the section smaller: then it ends early. */
	size_t room = bytes > SIZE_BYTES + 1 ? bytes - SIZE_BYTES - 1 : 0;
	size_t frame = ZSTD_compress2(compressor->context, compressor->payload + SIZE_BYTES, room, data, bytes);
	if (ZSTD_getErrorCode(frame) == ZSTD_error_dstSize_tooSmall)
		return 0;
	if (ZSTD_isError(frame))
		return tenon_fail(err, -ENOMEM, "cannot compress RAM: %s; free some memory, or do not compress",
				  ZSTD_getErrorName(frame));
	wire_put32(compressor->payload, bytes);
	return (int64_t)(SIZE_BYTES + frame);
}

void compressor_finish(struct compressor *compressor)
{
	ZSTD_freeCCtx(compressor->context);
	free(compressor->payload);
	*compressor = (struct compressor){0};
}

/* ---- In ---- */

static int begin_decompressor(struct decompressor *decompressor, struct tenon_error *err)
{
	if (!decompressor->data)
		decompressor->data = aligned_alloc(4096, SECTION_BYTES_MAX); /* for fast copies */
	if (!decompressor->context)
		decompressor->context = ZSTD_createDCtx();
	if (!decompressor->data || !decompressor->context)
		return tenon_fail(err, -ENOMEM, "no memory to decompress RAM; free some, or do not compress");
	return 0;
}

static bool is_one_frame(const uint8_t *frame, size_t bytes)
{
	return bytes >= sizeof(uint32_t) && wire_get32(frame) == ZSTD_MAGICNUMBER &&
	       ZSTD_findFrameCompressedSize(frame, bytes) == bytes;
}

int64_t decompressor_run(struct decompressor *decompressor, const uint8_t *payload, uint32_t bytes,
			 struct tenon_error *err)
{
	uint32_t size = bytes > SIZE_BYTES ? wire_get32(payload) : 0;
	if (!size || size > SECTION_BYTES_MAX)
		return tenon_fail(err, -EBADMSG,
				  "migration stream: compressed pages in %u bytes cannot be of %u bytes; at most %u",
				  bytes, size, SECTION_BYTES_MAX);
	const uint8_t *frame = payload + SIZE_BYTES;
	size_t frame_bytes = bytes - SIZE_BYTES;
	if (!is_one_frame(frame, frame_bytes))
		return tenon_fail(err, -EBADMSG,
				  "migration stream: compressed pages in %u bytes are not one whole zstd frame", bytes);
	int code = begin_decompressor(decompressor, err);
	if (code < 0)
		return code;
	size_t got = ZSTD_decompressDCtx(decompressor->context, decompressor->data, size, frame, frame_bytes);
	if (ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation)
		return tenon_fail(err, -ENOMEM, "no memory to decompress RAM; free some, or do not compress");
	if (ZSTD_isError(got))
		return tenon_fail(err, -EBADMSG,
				  "migration stream: compressed pages of %u bytes cannot be decompressed: %s", size,
				  ZSTD_getErrorName(got));
	if (got != size)
		return tenon_fail(err, -EBADMSG,
				  "migration stream: compressed pages of %u bytes have %zu once decompressed", size,
				  got);
	return size;
}

void decompressor_finish(struct decompressor *decompressor)
{
	ZSTD_freeDCtx(decompressor->context);
	free(decompressor->data);
	*decompressor = (struct decompressor){0};
}

// SPDX-License-Identifier: MIT
/* See sized.h. */
#include <string.h>

#include "sized.h"

bool sized_is_zero(const void *bytes, size_t count)
{
	const unsigned char *byte = bytes;
	for (size_t i = 0; i < count; i++) {
		if (byte[i])
			return false;
	}
	return true;
}

bool sized_copy(void *out, const void *options, size_t known, size_t first)
{
	size_t size;
	memcpy(&size, options, sizeof(size));
	if (size < first || size > SIZED_BYTES_MAX)
		return false;
	if (size > known && !sized_is_zero((const unsigned char *)options + known, size - known))
		return false;
	memset(out, 0, known);
	memcpy(out, options, size < known ? size : known);
	return true;
}

bool sized_fill(void *out, const void *result, size_t known, size_t first)
{
	size_t size;
	memcpy(&size, out, sizeof(size));
	if (size < first)
		return false;
	memset(out, 0, size);
	memcpy(out, result, size < known ? size : known);
	memcpy(out, &size, sizeof(size));
	return true;
}

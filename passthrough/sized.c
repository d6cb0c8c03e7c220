// SPDX-License-Identifier: MIT
/* See sized.h. */
#include <string.h>

#include "sized.h"

bool sized_copy(void *out, const void *options, size_t known, size_t first)
{
	size_t size;
	memcpy(&size, options, sizeof(size));
	if (size < first || size > SIZED_BYTES_MAX)
		return false;
	const unsigned char *bytes = options;
	for (size_t i = known; i < size; i++) {
		if (bytes[i])
			return false;
	}
	memset(out, 0, known);
	memcpy(out, options, size < known ? size : known);
	return true;
}

// SPDX-License-Identifier: MIT
/* See sized.h. */
#include <string.h>

#include "sized.h"

bool sized_usable(const void *options, size_t known)
{
	size_t size;
	memcpy(&size, options, sizeof(size));
	if (size < known)
		return false;
	const unsigned char *bytes = options;
	for (size_t i = known; i < size; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

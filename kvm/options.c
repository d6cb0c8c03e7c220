// SPDX-License-Identifier: MIT
/* Option structs that may be older or newer than this library. */
#include <errno.h>
#include <string.h>

#include "vm_private.h"

int vm_options_copy(void *to, size_t to_bytes, const void *from, const char *name, struct tenon_error *err)
{
	size_t from_bytes;
	memcpy(&from_bytes, from, sizeof(from_bytes));
	if (from_bytes < sizeof(from_bytes))
		return tenon_fail(err, -EINVAL, "struct %s: its size field is %zu; set it to sizeof", name, from_bytes);

	const unsigned char *bytes = from;
	for (size_t i = to_bytes; i < from_bytes; i++) {
		if (bytes[i] != 0)
			return tenon_fail(
				err, -E2BIG,
				"struct %s: uses a field that this version does not know; use a newer library", name);
	}
	memset(to, 0, to_bytes);
	memcpy(to, from, from_bytes < to_bytes ? from_bytes : to_bytes);
	return 0;
}

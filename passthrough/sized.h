/* SPDX-License-Identifier: MIT */
/* Option structs that grow: the rules of the kernel's copy_struct_from_user(), seen from this version of the library. */
#ifndef SIZED_H
#define SIZED_H

#include <stdbool.h>
#include <stddef.h>

#define SIZED_BYTES_MAX 4096u

/**
 * Copies a caller's struct, whose first field says how large it is, into one of `known` bytes. An older caller's is shorter: what
 * it lacks is zero. A newer caller's is longer, and usable as long as all that we do not know is zero.
 *
 * @param first  bytes that the first version of the struct had: nobody has a smaller one
 * @return false when it cannot be used; `out` is then untouched
 */
bool sized_copy(void *out, const void *options, size_t known, size_t first);

#endif

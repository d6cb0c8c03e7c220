/* SPDX-License-Identifier: MIT */
/*
 * Structs that grow at their end, for callers and libraries of different age. Options: the rules of the kernel's copy_struct_from_user(), seen from this version of the
 * library. Results: each side sees what it knows.
 *
 * A struct must end without padding: a member that came to lie there would be read from whatever an older caller left in it.
 */
#ifndef SIZED_H
#define SIZED_H

#include <stdbool.h>
#include <stddef.h>

#define SIZED_BYTES_MAX 4096u

/* Bytes of a struct up to and with a member. */
#define SIZED_THROUGH(type, member) (offsetof(type, member) + sizeof(((type *)NULL)->member))
#define SIZED_WHOLE(type, last)                                                                                        \
	_Static_assert(sizeof(type) == SIZED_THROUGH(type, last), #type " must not end in padding: reserve it")

/**
 * Copies a caller's struct, whose first field says how large it is, into one of `known` bytes. An older caller's is shorter: what
 * it lacks is zero. A newer caller's is longer, and usable as long as all that we do not know is zero.
 *
 * @param first  bytes that the first version of the struct had: nobody has a smaller one
 * @return false when it cannot be used; `out` is then untouched
 */
bool sized_copy(void *out, const void *options, size_t known, size_t first);

/**
 * Copies a result of `known` bytes into a caller's struct, as much as fits. What a newer caller has room for beyond it is zero.
 *
 * @param out  its size is set by the caller, and kept
 * @return false when it is smaller than the first version; `out` is then untouched
 */
bool sized_fill(void *out, const void *result, size_t known, size_t first);

/** Whether reserved bytes are zero, as they must be. */
bool sized_is_zero(const void *bytes, size_t count);

#endif

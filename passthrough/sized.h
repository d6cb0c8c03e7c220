/* SPDX-License-Identifier: MIT */
/* Option structs that grow: the rules of the kernel's copy_struct_from_user(), seen from this version of the library. */
#ifndef SIZED_H
#define SIZED_H

#include <stdbool.h>
#include <stddef.h>

/**
 * True when a caller's struct, whose first field says how large it is, can be used as one of `known` bytes: not smaller (this
 * is the first version, so nobody has a smaller one), and zero in all that we do not know.
 */
bool sized_usable(const void *options, size_t known);

#endif

/* SPDX-License-Identifier: MIT */
/* Files that belong to this program and are found from where it is itself. */
#ifndef BESIDE_H
#define BESIDE_H

#include <stddef.h>

#include <tenon/error.h>

/**
 * The folder that this program is in, with a slash at its end.
 *
 * @param what  whom the caller looks for, for the message
 */
int beside_folder(const char *what, char *folder, size_t capacity, struct tenon_error *err);

#endif

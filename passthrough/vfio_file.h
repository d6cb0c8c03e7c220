/* SPDX-License-Identifier: MIT */
/* The transport over a VFIO device file descriptor that is already bound to its address space. */
#ifndef VFIO_FILE_H
#define VFIO_FILE_H

#include "transport.h"

/**
 * @param fd    consumed on success
 * @param name  for messages; copied
 */
int vfio_file_create(int fd, const char *name, struct transport **out, struct tenon_error *err);

#endif

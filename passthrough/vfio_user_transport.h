/* SPDX-License-Identifier: MIT */
/* A device behind a vfio-user socket as a transport. */
#ifndef VFIO_USER_TRANSPORT_H
#define VFIO_USER_TRANSPORT_H

#include <tenon/error.h>

#include "transport.h"

struct space_member;
struct tenon_space;

/**
 * Connects to the server at `path`, resets its device, where it can be, and joins it to the space: what memory the space has, the
 * device then reaches.
 *
 * @param name    of the device, for messages; borrowed
 * @param path    borrowed
 * @param member  of the space; the device leaves by space_leave before the transport is closed
 */
int vu_transport_open(const char *path, const char *name, struct tenon_space *space, struct space_member *member,
		      struct transport **out, struct tenon_error *err);

#endif

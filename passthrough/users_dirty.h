/* SPDX-License-Identifier: MIT */
/*
 * Which pages of guest memory this library has written for vfio-user devices: those of servers that have no file of it, and ask for
 * each access. No device's own log need know of them. What devices write to a file that they map is theirs to log.
 *
 * One bit for each 4 KiB of each region, for as long as it is logged; regions that come meanwhile are logged, too.
 * Locks: the windows' lock of space_users.h, which the writes hold, shared; so do these calls but start and stop.
 */
#ifndef USERS_DIRTY_H
#define USERS_DIRTY_H

#include <stdint.h>

#include <tenon/error.h>

struct space_users;
struct space_window;

/** @return 0, also when it is on already: it starts afresh; -ENOMEM nothing is logged */
int space_users_dirty_start(struct space_users *users, struct tenon_error *err);
void space_users_dirty_stop(struct space_users *users);

/**
 * Adds the pages that were written since the last call, and forgets them. Without a log there are none.
 *
 * @param gpa, size  page-aligned; what is no region's has no pages
 * @param bitmap     one bit per 4 KiB from gpa on, in 64-bit words of the host's byte order; bits are only set
 */
void space_users_dirty_fetch(struct space_users *users, uint64_t gpa, uint64_t size, uint64_t *bitmap);

/* ---- Of space_users.c, with the windows' lock held ---- */

/** A window comes while its users log, and goes. @return 0 or -ENOMEM */
int users_dirty_open(struct space_window *window);
void users_dirty_close(struct space_window *window);
/** Bytes of it were written. */
void users_dirty_mark(const struct space_window *window, uint64_t offset, uint64_t bytes);

#endif

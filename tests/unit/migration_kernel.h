/* SPDX-License-Identifier: MIT */
/*
 * The kernel as the transports of migration/ see it, between them and the real one: it can fail the nth call of a kind, move no more than a few bytes
 * at a time, or say that there is something to read when there is not.
 */
#ifndef MIGRATION_KERNEL_H
#define MIGRATION_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

/** The nth call of this kind from now on fails with that; once. @param call  its name without "mcall_" */
void kernel_fails(const char *call, unsigned nth, int error);
/** Every call of this kind fails with that, whatever else fails. */
void kernel_lacks(const char *call, int error);
/** Whether the failure of kernel_fails has come to pass. */
bool kernel_has_failed(void);
/** Sends, receives, reads and writes take at most so many bytes; 0: all. */
void kernel_moves_at_most(size_t bytes);
/** poll finds everything ready, and yet no socket has or takes a byte. */
void kernel_teases(bool teases);
void kernel_is_sound(void);

/**
 * Runs a story once for each call that it makes, with that call failing by EIO. A story returns what the code under test returned, with
 * its message: it must fail, tell why, and leave no descriptor open. It may also succeed where the call is one of `harmless` (a space
 * before and behind each).
 */
void kernel_fails_in_turn(int (*story)(char *message), const char *harmless);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The terminal that "stdio" holds: raw mode, job control, and giving it back however the process ends.
 *
 * There is one per process, as signal handlers have no context. Threads: one, except for the handlers and
 * chardev_restore_terminal.
 */
#ifndef CHARDEV_TERMINAL_H
#define CHARDEV_TERMINAL_H

#include <stdbool.h>

/** Starts to look after the terminal. @param fd borrowed until terminal_release */
void terminal_take(int fd);

/** Whether input may be read: not in the background, where that would stop the process. Sees to it that it is raw. */
bool terminal_ready(void);

/** Restores its modes and the signals' handlers. Does nothing if no terminal was taken. */
void terminal_release(void);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Where a serial port's bytes go: stdio (raw terminal, Ctrl-A X leaves), a file, a listening Unix socket, a pty, or
 * nowhere.
 *
 * Threads: open, close, dispatch and flush from the event loop's thread; chardev_read and chardev_write from any. It
 * locks itself. All reading of files happens in chardev_dispatch, so that Ctrl-A X is seen even while the guest takes
 * no input.
 *
 * The program ignores SIGPIPE. A reader that breaks (closed pipe, full disk) costs the output that nobody can take, and
 * nothing else.
 */
#ifndef CHARDEV_H
#define CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

struct chardev;

/* What chardev_dispatch met; the bits that it returns. */
enum chardev_event {
	CHARDEV_READABLE = 1 << 0, /* chardev_read has bytes */
	CHARDEV_DRAINED = 1 << 1,  /* output that chardev_write refused would be taken now */
	CHARDEV_LEAVE = 1 << 2,    /* the user typed Ctrl-A X: end the VM. Reported once */
	CHARDEV_CLOSED = 1 << 3,   /* input ended, or a peer left; a socket listens again. For information */
};

/**
 * Opens one of
 *
 *   stdio        this process' standard input and output; once per process. If input is a terminal it is put into raw
 *                mode until chardev_close, at the latest when this process dies of a signal: Ctrl-A X leaves, Ctrl-A
 *                Ctrl-A sends a Ctrl-A, Ctrl-A H helps. Any other input is read to its end. In the background the
 *                terminal is left alone.
 *   none         swallows output, has no input
 *   file:PATH    appends output to the file, which is created or emptied; has no input
 *   socket:PATH  listens; one client at a time, the next one waits; without one, output is swallowed. PATH must not
 *                exist, is open to this user only, and is removed at close
 *   pty          makes a pseudo terminal in raw mode, whose path is in chardev_name; while nobody has it open, output
 *                is swallowed
 *
 * @param out owned by the caller
 */
int chardev_open(const char *spec, struct chardev **out, struct tenon_error *err);
void chardev_close(struct chardev *chardev); /* accepts NULL */

/** Gives the terminal back as "stdio" found it, if it holds one. Async-signal-safe, for a program's own handlers. */
void chardev_restore_terminal(void);

/** For messages: "stdio", "pty /dev/pts/3", ... */
const char *chardev_name(const struct chardev *chardev);

/** One fd (an epoll inside) that polls readable when chardev_dispatch has something to do. -1: it never has. */
int chardev_poll_fd(const struct chardev *chardev);

/** Accepts clients, takes in input, drains the output buffer. Never blocks. @return enum chardev_event bits */
unsigned chardev_dispatch(struct chardev *chardev);

/** Takes up to `capacity` bytes of input without blocking. @return count; 0: none now */
size_t chardev_read(struct chardev *chardev, uint8_t *bytes, size_t capacity);

/** Queues one byte, writing through when the buffer is empty. Never blocks. @return false: its 64 KiB are full */
bool chardev_write(struct chardev *chardev, uint8_t byte);

/** Blocks up to `timeout_ms` to drain the output, at the end of the VM. */
void chardev_flush(struct chardev *chardev, unsigned timeout_ms);

#endif

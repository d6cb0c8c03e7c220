/* SPDX-License-Identifier: MIT */
/*
 * What the tests of chardevs share: one chardev, an event loop that waits for it, and a peer's file descriptor.
 */
#ifndef VMM_CHARDEV_FIXTURE_H
#define VMM_CHARDEV_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/chardev.h"

#define PATIENCE_MS  5000
#define BUFFER_BYTES 65536

static struct chardev *chardev;

static inline void open_chardev(const char *spec)
{
	struct tenon_error err = {0};
	signal(SIGPIPE, SIG_IGN); /* as the program does */
	cr_assert_eq(chardev_open(spec, &chardev, &err), 0, "%s", err.message);
}

static inline void close_chardev(void)
{
	chardev_close(chardev);
	chardev = NULL;
}

static inline bool is_readable(int fd, int timeout_ms)
{
	struct pollfd ask = {.fd = fd, .events = POLLIN};
	return poll(&ask, 1, timeout_ms) > 0;
}

static unsigned reported; /* and not yet waited for */

static inline unsigned dispatch(void)
{
	unsigned events = chardev_dispatch(chardev);
	reported |= events;
	return events;
}

/* Runs the event loop until all of `wanted` were reported, now or before. */
static inline void wait_for(unsigned wanted)
{
	while ((reported & wanted) != wanted) {
		cr_assert(is_readable(chardev_poll_fd(chardev), PATIENCE_MS), "waited for %#x, only %#x came", wanted,
			  reported);
		dispatch();
	}
	reported &= ~wanted;
}

/* Runs the event loop until it has nothing to do, which one that spins never has. @return all that was reported */
static inline unsigned settle(void)
{
	unsigned seen = 0;
	for (unsigned rounds = 0; is_readable(chardev_poll_fd(chardev), 20); rounds++) {
		cr_assert_lt(rounds, 50, "the event loop spins");
		seen |= dispatch();
	}
	return seen;
}

/* Takes exactly `count` bytes, with the event loop's help. */
static inline void take(void *bytes, size_t count)
{
	size_t got = 0;
	while (got < count) {
		size_t more = chardev_read(chardev, (uint8_t *)bytes + got, count - got);
		got += more;
		if (!more) {
			cr_assert(is_readable(chardev_poll_fd(chardev), PATIENCE_MS), "%zu of %zu bytes came", got,
				  count);
			dispatch();
		}
	}
}

static inline void expect_input(const char *text)
{
	char got[256] = "";
	take(got, strlen(text));
	cr_assert_str_eq(got, text);
}

static inline void expect_no_input(void)
{
	uint8_t byte;
	settle();
	cr_assert_eq(chardev_read(chardev, &byte, 1), 0, "'%c' came", byte);
}

static inline void say(const char *text)
{
	for (; *text; text++)
		cr_assert(chardev_write(chardev, (uint8_t)*text));
}

/* Reads exactly as much from a peer's end. */
static inline void expect_output(int fd, const char *text)
{
	char got[256] = "";
	for (size_t length = 0; length < strlen(text);) {
		cr_assert(is_readable(fd, PATIENCE_MS), "only \"%s\" came, not \"%s\"", got, text);
		ssize_t count = read(fd, got + length, strlen(text) - length);
		cr_assert_gt(count, 0, "\"%s\", then the end: %m", got);
		length += (size_t)count;
	}
	cr_assert_str_eq(got, text);
}

static inline void expect_no_output(int fd)
{
	cr_assert(!is_readable(fd, 50));
}

static inline uint8_t pattern(size_t index)
{
	return (uint8_t)(index * 7 + index / 251);
}

/* Writes the pattern until it is refused. @return how many bytes were taken */
static inline size_t write_until_refused(void)
{
	size_t count = 0;
	while (chardev_write(chardev, pattern(count))) {
		count++;
		cr_assert_lt(count, 16u << 20, "nothing is ever refused");
	}
	return count;
}

/* Reads `count` bytes of the pattern from a peer's end while the event loop runs. @return all that was reported */
static inline unsigned drain_pattern(int fd, size_t count)
{
	unsigned seen = 0;
	for (size_t got = 0; got < count;) {
		uint8_t bytes[4096];
		cr_assert(is_readable(fd, PATIENCE_MS), "only %zu of %zu bytes came", got, count);
		size_t room = count - got < sizeof(bytes) ? count - got : sizeof(bytes);
		ssize_t more = read(fd, bytes, room);
		cr_assert_gt(more, 0);
		for (ssize_t i = 0; i < more; i++, got++)
			cr_assert_eq(bytes[i], pattern(got), "byte %zu", got);
		if (is_readable(chardev_poll_fd(chardev), 0))
			seen |= dispatch();
	}
	return seen;
}

#endif

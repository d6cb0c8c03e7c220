/* SPDX-License-Identifier: MIT */
/*
 * The host as the commands see it: every file that they read in /sys, /proc and /dev, and everything that they change, each
 * one thin function. Tests give a folder with a made-up host as `root`, and operations that model how the kernel answers.
 *
 * What is read is untrusted: it is bounded, and what is no printable character becomes '?', so that it can be printed.
 * Paths are printf formats, below `root`.
 */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct host {
	const char *root; /* "" for the real host */
	/* What changes the host, or asks more than a file can tell. */
	int (*write)(const struct host *host, const char *path, const char *text);
	int (*load_module)(const struct host *host, const char *name);
	bool (*claimed)(const struct host *host, const char *node);
};

extern const struct host host_real;

/** Fills a buffer with a file's bytes, whole or as many as fit. @return their number or -errno */
ssize_t host_read(const struct host *host, void *buffer, size_t capacity, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/** A file's first line, without its newline. @return length or -errno; `line` is "" on failure */
ssize_t host_read_line(const struct host *host, char *line, size_t capacity, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/** A whole text file of at most 8 MiB, terminated; free it. NULL when it cannot be read. */
char *host_read_text(const struct host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** The same of a file that gzip packed, with gzip's help. */
char *host_read_gzip(const struct host *host, const char *path);
/** A number in C's notations. `hexadecimal`: without 0x. @return 0 or -errno; -EINVAL when it is none */
int host_read_number(const struct host *host, uint64_t *out, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/** Last component of what a symbolic link points to. @return 0 or -errno; `name` is "" on failure */
int host_link_name(const struct host *host, char *name, size_t capacity, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/** What a symbolic link points to, as it is written. @return 0 or -errno */
int host_link_target(const struct host *host, char *target, size_t capacity, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/** The folder's or file's real path, without `root`. @return 0 or -errno */
int host_real_path(const struct host *host, char *path, size_t capacity, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
bool host_exists(const struct host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool host_is_folder(const struct host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Whether this process may open a file for reading and writing. @return 0 or -errno */
int host_access(const struct host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Calls `entry` with each name in a folder, sorted. A non-zero return ends it and is returned. */
int host_list(const struct host *host, const char *path, int (*entry)(void *context, const char *name), void *context);

/** The first name in a folder that begins so. @return false when there is none that fits */
bool host_first(const struct host *host, const char *path, const char *prefix, char *name, size_t capacity);

/** Writes one of the kernel's files in /sys. @return 0 or -errno, which is the kernel's answer */
int host_write(const struct host *host, const char *text, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/** modprobe. @return 0 or -errno */
int host_load_module(const struct host *host, const char *name);
/** Something on the host, whatever it is, has a block device for itself: a mount anywhere, swap, RAID, ZFS. */
bool host_claimed(const struct host *host, const char *node);

/** Replaces a file of our own as a whole, with its folders. @return 0 or -errno */
int host_store(const struct host *host, const char *text, const char *folder, const char *name);
int host_forget(const struct host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Waits for and takes the lock of a folder of our own. @return a file descriptor to close, or -errno */
int host_lock(const struct host *host, const char *folder);

void host_sleep_ms(unsigned milliseconds);
/** Asks on the terminal; false without one. */
bool host_confirm(const char *question);

#endif

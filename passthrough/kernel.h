/* SPDX-License-Identifier: MIT */
/*
 * Every kernel call of the library, one thin function each: negative errno instead of -1, EINTR retried where that is
 * right. Tests link a model of VFIO and iommufd in place of kernel.c and fail each call in turn.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int kernel_open(const char *path, int flags); /* O_CLOEXEC is added */
void kernel_close(int fd);
int kernel_dup(int fd); /* close-on-exec */
int kernel_ioctl(int fd, unsigned long request, void *argument);
ssize_t kernel_pread(int fd, void *buffer, size_t size, uint64_t offset);
ssize_t kernel_pwrite(int fd, const void *buffer, size_t size, uint64_t offset);
/** Of a stream: from where the last one ended. */
ssize_t kernel_read(int fd, void *buffer, size_t size);
ssize_t kernel_write(int fd, const void *buffer, size_t size);

/** Maps shared and read-write or as `protection` says, at `address` when it is not NULL (replacing what is there). */
int kernel_map(void *address, size_t size, int protection, int fd, uint64_t offset, void **out);
/** Reserves address space without access, aligned to `alignment` (a power of two). */
int kernel_reserve(size_t size, size_t alignment, void **out);
void kernel_unmap(void *address, size_t size);
/**
 * Has a file in memory (memfd_create(), not of huge pages) never shrink any more, so that no access to a mapping of it can fail.
 *
 * @return 0, -EINVAL no such file, -EPERM it cannot be sealed
 */
int kernel_seal(int fd, uint64_t *size_bytes);
/** Takes away what is mapped, but keeps the address space reserved without access for good. */
void kernel_block(void *address, size_t size);

int kernel_eventfd(void); /* non-blocking, close-on-exec */
/** One that begins with a count: a write of that could wait, if somebody else holds the eventfd. */
int kernel_eventfd_at(unsigned count);
/** @return 1 when the eventfd has a count, else 0; the count is kept */
int kernel_eventfd_pending(int fd);
/** Takes the count. Never waits, whoever else holds the eventfd. @return 1 when there was one, else 0 */
int kernel_eventfd_take(int fd);
/** A set of file descriptors behind one that polls readable while any of them is ready. */
int kernel_poll_create(void);
/** @param edge  reported once per signal, not for as long as the fd is readable; at once when it is readable already */
int kernel_poll_add(int poll, int fd, uint32_t id, bool edge);
/** What of an fd in the set is reported: its end always is. */
int kernel_poll_change(int poll, int fd, uint32_t id, bool readable, bool writable);
void kernel_poll_remove(int poll, int fd);
/** Never waits. @param capacity  at most 32. @return how many ids of ready fds were stored; fewer than fit: that is all */
unsigned kernel_poll_take(int poll, uint32_t *ids, unsigned capacity);

/** A timer: polls readable once its time has come, until it is started again. Close-on-exec. */
int kernel_timer(void);
/** @param milliseconds  0: stops it */
void kernel_timer_start(int fd, unsigned milliseconds);

struct iovec;
struct pollfd;

/** @return 1 it is a UNIX stream socket, which can be polled without asking anybody; else 0 */
int kernel_is_stream(int fd);
/** Connects to a UNIX stream socket. @param timeout_ms  for a server that does not accept; then -EAGAIN */
int kernel_connect(const char *path, unsigned timeout_ms);
/** Never waits and raises no SIGPIPE. @param fds  sent beside the first byte. @return bytes or -errno; -EAGAIN: no room */
ssize_t kernel_send(int fd, const struct iovec *parts, unsigned part_count, const int *fds, unsigned fd_count);
/**
 * Never waits. What file descriptors come with the bytes is the caller's, close-on-exec.
 *
 * @param fds       room for `*fd_count`; how many there are is stored there. More than fit are closed, and counted
 * @return bytes; 0 the other side closed it; -errno; -EAGAIN: nothing there
 */
ssize_t kernel_receive(int fd, void *buffer, size_t size, int *fds, unsigned *fd_count);
/** Ends both directions of a socket, so that whoever polls it wakes up. */
void kernel_shutdown(int fd);
/** Waits for any of them. @param timeout_ms  -1: for ever. @return how many are ready; 0 after the timeout; -errno */
int kernel_wait(struct pollfd *polls, unsigned count, int timeout_ms);
/** What a loop that waits awake does each time: hands nothing to other threads, who would keep the CPU for milliseconds. */
void kernel_relax(void);
/** CLOCK_MONOTONIC */
uint64_t kernel_now_ns(void);

/** Reads a small file (sysfs) as a line without its newline. @return length or -errno */
ssize_t kernel_read_line(const char *path, char *line, size_t capacity);
/** Last component of what a symbolic link points to. @return 0 or -errno */
int kernel_link_name(const char *path, char *name, size_t capacity);
/** Calls `entry` with each name in a folder, in no particular order. A non-zero return ends it and is returned. */
int kernel_list(const char *path, int (*entry)(void *context, const char *name), void *context);
/** Path of an open file, by /proc/self/fd. */
int kernel_fd_path(int fd, char *path, size_t capacity);
void kernel_sleep_ms(unsigned milliseconds);
/** RLIMIT_MEMLOCK, in bytes; UINT64_MAX: none. */
uint64_t kernel_memlock_limit(void);

#endif

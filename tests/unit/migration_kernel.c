// SPDX-License-Identifier: MIT
/* See migration_kernel.h. Linked by --wrap of every mcall_* that is here. */
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <criterion/criterion.h>

#include "../fakes/descriptors.h"
#include "kernel_calls.h"
#include "migration_kernel.h"

#define PARTS_MAX 128

static struct {
	const char *call;
	atomic_uint countdown; /* 1: the next one fails; 0: it has, or none is to */
	int error;
	const char *lacks; /* a call that always fails */
	int lack_error;
	atomic_bool failed;
	size_t at_most;
	bool teases;
} kernel;

void kernel_fails(const char *call, unsigned nth, int error)
{
	kernel.call = call;
	kernel.error = error;
	atomic_store(&kernel.failed, false);
	atomic_store(&kernel.countdown, nth);
}

void kernel_lacks(const char *call, int error)
{
	kernel.lacks = call;
	kernel.lack_error = error;
}

bool kernel_has_failed(void)
{
	return atomic_load(&kernel.failed);
}

void kernel_moves_at_most(size_t bytes)
{
	kernel.at_most = bytes;
}

void kernel_teases(bool teases)
{
	kernel.teases = teases;
}

void kernel_is_sound(void)
{
	kernel_fails(NULL, 0, 0);
	kernel_lacks(NULL, 0);
	kernel.at_most = 0;
	kernel.teases = false;
}

/* @return the negative errno of this call, or 0: it is to be made */
static int failure(const char *call)
{
	if (kernel.lacks && strcmp(kernel.lacks, call) == 0)
		return -kernel.lack_error;
	if (!kernel.call || strcmp(kernel.call, call) != 0)
		return 0;
	if (atomic_load(&kernel.countdown) == 0 || atomic_fetch_sub(&kernel.countdown, 1) != 1)
		return 0;
	atomic_store(&kernel.failed, true);
	return -kernel.error;
}

static size_t bounded(size_t bytes)
{
	return kernel.at_most && kernel.at_most < bytes ? kernel.at_most : bytes;
}

/* As much of the parts as moves at a time. @return how many parts */
static int cut(const struct iovec *parts, int count, struct iovec out[PARTS_MAX])
{
	size_t left = kernel.at_most ? kernel.at_most : SIZE_MAX;
	int used = 0;
	for (; used < count && used < PARTS_MAX && left > 0; used++) {
		out[used] = parts[used];
		if (out[used].iov_len > left)
			out[used].iov_len = left;
		left -= out[used].iov_len;
	}
	return used;
}

/* ---- Calls that only fail ---- */

/* CALL(name, parameters, arguments): stands before mcall_<name>. */
#define CALL(name, parameters, ...)                                                                                    \
	int __real_mcall_##name parameters;                                                                            \
	int __wrap_mcall_##name parameters                                                                             \
	{                                                                                                              \
		int code = failure(#name);                                                                             \
		return code < 0 ? code : __real_mcall_##name(__VA_ARGS__);                                             \
	}

CALL(socket, (int family), family)
CALL(connect, (int fd, const struct sockaddr *address, unsigned length), fd, address, length)
CALL(bind, (int fd, const struct sockaddr *address, unsigned length), fd, address, length)
CALL(listen, (int fd, int backlog), fd, backlog)
CALL(accept, (int fd), fd)
CALL(get_option, (int fd, int level, int option, int *value), fd, level, option, value)
CALL(set_option, (int fd, int level, int option, int value), fd, level, option, value)
CALL(own_name, (int fd, struct sockaddr_storage *out), fd, out)
CALL(peer_name, (int fd, struct sockaddr_storage *out), fd, out)
CALL(resolve, (const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out), host, port,
     hints, out)
CALL(eventfd, (void), )
CALL(open, (int directory, const char *path, int flags), directory, path, flags)
CALL(exists, (int directory, const char *path), directory, path)
CALL(stat, (int fd, struct stat *out), fd, out)
CALL(stat_path, (const char *path, struct stat *out), path, out)
CALL(get_flags, (int fd), fd)
CALL(set_flags, (int fd, int flags), fd, flags)
CALL(close_on_exec, (int fd), fd)
CALL(fsync, (int fd), fd)
CALL(link_fd, (int fd, int directory, const char *name), fd, directory, name)
CALL(link_proc, (int fd, int directory, const char *name), fd, directory, name)
CALL(link, (int directory, const char *from, const char *to), directory, from, to)
CALL(rename_new, (int directory, const char *from, const char *to), directory, from, to)
CALL(unlink, (int directory, const char *path), directory, path)
CALL(change_mode, (int fd, unsigned mode), fd, mode)

/* ---- Calls that move bytes, and poll ---- */

int __real_mcall_poll(struct pollfd *fds, unsigned count, int timeout_ms);
ssize_t __real_mcall_send(int fd, const struct iovec *parts, unsigned count);
ssize_t __real_mcall_receive(int fd, void *data, size_t bytes);
ssize_t __real_mcall_write(int fd, const struct iovec *parts, int count);
ssize_t __real_mcall_read(int fd, void *data, size_t bytes);

int __wrap_mcall_poll(struct pollfd *fds, unsigned count, int timeout_ms)
{
	int code = failure("poll");
	if (code < 0)
		return code;
	if (!kernel.teases)
		return __real_mcall_poll(fds, count, timeout_ms);
	for (unsigned i = 0; i < count; i++)
		fds[i].revents = i == 0 ? fds[i].events : 0;
	return 1;
}

ssize_t __wrap_mcall_send(int fd, const struct iovec *parts, unsigned count)
{
	struct iovec some[PARTS_MAX];
	int code = kernel.teases ? -EAGAIN : failure("send");
	return code < 0 ? code : __real_mcall_send(fd, some, (unsigned)cut(parts, (int)count, some));
}

ssize_t __wrap_mcall_receive(int fd, void *data, size_t bytes)
{
	int code = kernel.teases ? -EAGAIN : failure("receive");
	return code < 0 ? code : __real_mcall_receive(fd, data, bounded(bytes));
}

ssize_t __wrap_mcall_write(int fd, const struct iovec *parts, int count)
{
	struct iovec some[PARTS_MAX];
	int code = failure("write");
	return code < 0 ? code : __real_mcall_write(fd, some, cut(parts, count, some));
}

ssize_t __wrap_mcall_read(int fd, void *data, size_t bytes)
{
	int code = failure("read");
	return code < 0 ? code : __real_mcall_read(fd, data, bounded(bytes));
}

/* ---- Each in turn ---- */

static const char *const call_names[] = {
	"socket",      "connect",       "bind",    "listen",  "accept",    "get_option", "set_option", "own_name",
	"peer_name",   "resolve",       "eventfd", "open",    "exists",    "stat",       "stat_path",  "get_flags",
	"set_flags",   "close_on_exec", "fsync",   "link_fd", "link_proc", "link",       "rename_new", "unlink",
	"change_mode", "poll",          "send",    "receive", "write",     "read",       NULL,
};

/* @return whether the story makes so many of these calls */
static bool fail_once(int (*story)(char *message), const char *call, unsigned nth, bool harmless)
{
	char message[512] = "";
	unsigned before = descriptors_open();
	kernel_fails(call, nth, EIO);
	int code = story(message);
	bool failed = kernel_has_failed();
	kernel_is_sound();
	cr_assert_eq(descriptors_open(), before, "%s %u: %s: a descriptor is left open", call, nth, message);
	if (code == 0)
		cr_assert(!failed || harmless, "%s %u fails, and nobody cares", call, nth);
	else
		cr_assert(failed && code < 0 && strchr(message, ';'), "%s %u: %d: %s", call, nth, code, message);
	return failed;
}

void kernel_fails_in_turn(int (*story)(char *message), const char *harmless)
{
	char padded[64];
	unsigned failures = 0;
	for (const char *const *call = call_names; *call; call++) {
		snprintf(padded, sizeof(padded), " %s ", *call);
		for (unsigned nth = 1; fail_once(story, *call, nth, strstr(harmless, padded)); nth++)
			failures++;
	}
	cr_assert_gt(failures, 0, "a story that calls no kernel");
}

// SPDX-License-Identifier: MIT
/*
 * What all channels share: the public calls, which wait, over transports (struct channel_ops), which never do. Here are deadlines,
 * the end from another thread, and the words of failures. Not here: how bytes go (channel_socket.c, channel_file.c).
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <stdio.h>
#include <unistd.h>

#include "channel.h"
#include "kernel_calls.h"
#include "tls.h"

#define SOON_MS 5

int channel_create(const struct channel_ops *ops, int fd, const char *name, uint32_t timeout_ms,
		   struct tenon_channel **out, struct tenon_error *err)
{
	struct tenon_channel *channel = calloc(1, sizeof(*channel));
	if (!channel)
		return tenon_fail(err, -ENOMEM, "%s: out of memory", name);
	channel->end_fd = mcall_eventfd();
	if (channel->end_fd < 0) {
		int code = channel->end_fd;
		free(channel);
		return tenon_fail(err, code,
				  "%s: cannot make an eventfd: %s; raise the limit of open files (ulimit -n)", name,
				  strerror(-code));
	}
	channel->ops = ops;
	channel->fd = fd;
	channel->timeout_ms = timeout_ms;
	atomic_init(&channel->ended, false);
	snprintf(channel->name, sizeof(channel->name), "%s", name);
	*out = channel;
	return 0;
}

static int connect_to(const char *name, const struct channel_address *address,
		      const struct tenon_channel_options *options, struct tenon_channel **out, struct tenon_error *err)
{
	struct tls_context *tls;
	int code = tls_context_create(name, options, &tls, err);
	if (code < 0)
		return code;
	int fd = socket_connect(name, address, options, err);
	code = fd;
	if (fd >= 0) {
		const char *host = address->kind == ADDRESS_TCP ? address->host : NULL;
		code = socket_channel(fd, name, options->timeout_ms, tls, true, host, out, err);
		if (code < 0)
			close(fd);
	}
	tls_context_release(tls);
	return code;
}

static int no_tls_in_files(const char *name, struct tenon_error *err)
{
	return tenon_fail(err, -EINVAL,
			  "%.200s: TLS needs another side, which a file does not have; leave its options out", name);
}

static int use_passed(const char *name, int fd, bool for_reading, const struct tenon_channel_options *options,
		      struct tenon_channel **out, struct tenon_error *err)
{
	enum passed_kind kind;
	int code = passed_kind(name, fd, &kind, err);
	if (code < 0)
		return code;
	if (kind == PASSED_LISTENER)
		return tenon_fail(err, -EINVAL, "%s: a socket that listens; pass one that is connected", name);
	if (kind != PASSED_CONNECTION && tls_wanted(options))
		return no_tls_in_files(name, err);
	return passed_channel(name, fd, kind, for_reading, options, out, err);
}

int tenon_channel_connect(const char *address, const struct tenon_channel_options *options, struct tenon_channel **out,
			  struct tenon_error *err)
{
	struct channel_address parsed;
	struct tenon_channel_options taken;
	int code = channel_address_parse(address, &parsed, err);
	if (code == 0)
		code = channel_options_take(options, &taken, err);
	if (code < 0)
		return code;
	switch (parsed.kind) {
	case ADDRESS_FD:
		return use_passed(address, parsed.fd, false, &taken, out, err);
	case ADDRESS_FILE:
		return tls_wanted(&taken) ? no_tls_in_files(address, err) : file_create(address, parsed.path, out, err);
	default:
		return connect_to(address, &parsed, &taken, out, err);
	}
}

int tenon_channel_open_file(const char *address, struct tenon_channel **out, struct tenon_error *err)
{
	struct channel_address parsed;
	struct tenon_channel_options defaults;
	int code = channel_address_parse(address, &parsed, err);
	if (code < 0)
		return code;
	if (parsed.kind == ADDRESS_FILE)
		return file_open(address, parsed.path, out, err);
	if (parsed.kind != ADDRESS_FD)
		return tenon_fail(err, -EINVAL, "%.200s: not a file; write file:PATH or fd:N", address);
	channel_options_take(NULL, &defaults, NULL);
	return use_passed(address, parsed.fd, true, &defaults, out, err);
}

bool tenon_channel_is_file(const char *address)
{
	struct channel_address parsed;
	enum passed_kind kind;
	if (channel_address_parse(address, &parsed, NULL) < 0)
		return false;
	if (parsed.kind == ADDRESS_FD)
		return passed_kind(address, parsed.fd, &kind, NULL) == 0 &&
		       (kind == PASSED_FILE || kind == PASSED_PIPE);
	return parsed.kind == ADDRESS_FILE;
}

enum tenon_channel_kind tenon_channel_kind(const struct tenon_channel *channel)
{
	return channel->ops->kind;
}

const char *tenon_channel_name(const struct tenon_channel *channel)
{
	return channel->name;
}

int tenon_channel_fd(const struct tenon_channel *channel)
{
	return channel->fd;
}

/* ---- Failures in words ---- */

static const char *remedy(const struct tenon_channel *channel, int code)
{
	switch (code) {
	case -EPIPE:
	case -ECONNRESET:
		return "the other side has ended; see what it says";
	case -ENOSPC:
		return "free space there, or choose a file on another file system";
	case -EDQUOT:
		return "raise the quota, or choose a file on another file system";
	case -EFBIG:
		return "raise this process's limit (ulimit -f), or choose a file system that holds larger files";
	case -EIO:
		return "see the kernel's log for the disk's error";
	default:
		return channel->ops->kind == TENON_CHANNEL_FILE ? "choose another file" : "see whether its host is up";
	}
}

static int failed(struct tenon_channel *channel, const char *what, int code, struct tenon_error *err)
{
	const char *words = channel->ops->explain ? channel->ops->explain(channel, code) : NULL;
	if (code == -ECANCELED)
		return tenon_fail(err, code, "%s: cannot %s: cancelled", channel->name, what);
	if (code == -ETIMEDOUT)
		return tenon_fail(
			err, code,
			"%s: cannot %s: nothing moved for %u ms; see whether the other side is stuck or its network "
			"down",
			channel->name, what, channel->timeout_ms);
	if (words)
		return tenon_fail(err, code, "%s: cannot %s: %s", channel->name, what, words);
	return tenon_fail(err, code, "%s: cannot %s: %s; %s", channel->name, what, strerror(-code),
			  remedy(channel, code));
}

/* ---- Bytes ---- */

void iovec_use_up(struct iovec **parts, int *count, size_t bytes)
{
	while (*count > 0 && bytes >= (*parts)->iov_len) {
		bytes -= (*parts)->iov_len;
		(*parts)->iov_base = (char *)(*parts)->iov_base + (*parts)->iov_len;
		(*parts)->iov_len = 0;
		(*parts)++;
		(*count)--;
	}
	if (bytes > 0) {
		(*parts)->iov_base = (char *)(*parts)->iov_base + bytes;
		(*parts)->iov_len -= bytes;
	}
}

/*
 * A peer that sends a little all the time, and never anything that moves us on, does not escape the deadline either. Who was itself held
 * up until the deadline has passed looks once more.
 */
static int wait_more(struct tenon_channel *channel, short events, int64_t deadline, bool *late)
{
	if (*late)
		return -ETIMEDOUT;
	*late = deadline_left_ms(deadline) == 0;
	if (!(events & CHANNEL_SOON) || *late)
		return wait_ready(channel->fd, events & ~CHANNEL_SOON, channel->end_fd, deadline);
	int code = wait_ready(channel->fd, events & ~CHANNEL_SOON, channel->end_fd, deadline_after(SOON_MS));
	return code == -ETIMEDOUT ? 0 : code;
}

int tenon_channel_write(struct tenon_channel *channel, struct iovec *parts, int count, struct tenon_error *err)
{
	int64_t deadline = deadline_after(channel->timeout_ms);
	bool late = false;
	int code = 0;
	iovec_use_up(&parts, &count, 0);
	while (count > 0 && code == 0) {
		short events = POLLOUT;
		ssize_t written =
			atomic_load_explicit(&channel->ended, memory_order_relaxed)
				? -ECANCELED
				: channel->ops->write(channel, parts, count < IOV_MAX ? count : IOV_MAX, &events);
		if (written > 0) {
			iovec_use_up(&parts, &count, (size_t)written);
			deadline = deadline_after(channel->timeout_ms);
			late = false;
		} else if (written == -EAGAIN) {
			code = wait_more(channel, events, deadline, &late);
		} else if (written != -EINTR) {
			code = (int)written;
		}
	}
	return code < 0 ? failed(channel, "write", code, err) : 0;
}

/* @return bytes, 0 at the end of the stream, -EAGAIN at the deadline, or another -errno */
static ssize_t read_until(struct tenon_channel *channel, void *data, size_t bytes, int64_t deadline)
{
	for (bool late = false;;) {
		short events = POLLIN;
		if (atomic_load_explicit(&channel->ended, memory_order_relaxed))
			return -ECANCELED;
		ssize_t got = channel->ops->read(channel, data, bytes, &events);
		if (got != -EAGAIN && got != -EINTR)
			return got;
		if (got == -EINTR && deadline_left_ms(deadline) != 0)
			continue;
		int code = wait_more(channel, events, deadline, &late);
		if (code < 0)
			return code == -ETIMEDOUT ? -EAGAIN : code;
	}
}

int tenon_channel_read(struct tenon_channel *channel, void *data, size_t bytes, struct tenon_error *err)
{
	for (size_t have = 0; have < bytes;) {
		ssize_t got =
			read_until(channel, (char *)data + have, bytes - have, deadline_after(channel->timeout_ms));
		if (got == 0)
			return tenon_fail(err, -ENODATA, "%s: it ended %s; see what the other side says", channel->name,
					  have ? "in the middle of something" : "too early");
		if (got < 0)
			return failed(channel, "read", got == -EAGAIN ? -ETIMEDOUT : (int)got, err);
		have += (size_t)got;
	}
	return 0;
}

int64_t tenon_channel_read_some(struct tenon_channel *channel, void *data, size_t capacity, int timeout_ms,
				struct tenon_error *err)
{
	if (capacity == 0)
		return tenon_fail(err, -EINVAL, "%s: read of no bytes", channel->name);
	ssize_t got = read_until(channel, data, capacity, deadline_after(timeout_ms));
	if (got == 0)
		return tenon_fail(err, -ENODATA, "%s: it ended", channel->name);
	if (got == -EAGAIN)
		return tenon_fail(err, -EAGAIN, "%s: nothing to read yet", channel->name);
	return got < 0 ? failed(channel, "read", (int)got, err) : got;
}

/* ---- The end ---- */

int tenon_channel_wait(struct tenon_channel *channel, int timeout_ms, struct tenon_error *err)
{
	bool (*readable)(struct tenon_channel * channel) = channel->ops->readable;
	int64_t deadline = deadline_after(timeout_ms);
	for (;;) {
		if (readable && readable(channel))
			return 1;
		int code = wait_ready(channel->fd, POLLIN, channel->end_fd, deadline);
		if (code == -ETIMEDOUT)
			return 0;
		if (code < 0)
			return failed(channel, "wait", code, err);
		if (!readable)
			return 1;
	}
}

void tenon_channel_end(struct tenon_channel *channel)
{
	/* The flag first: who is woken must see it. An eventfd takes this write whatever it holds, but for 2^64 - 2 of them. */
	atomic_store(&channel->ended, true);
	eventfd_write(channel->end_fd, 1);
}

int tenon_channel_commit_file(struct tenon_channel *channel, struct tenon_error *err)
{
	if (!channel->ops->commit)
		return tenon_fail(err, -EINVAL, "%s: not a file that is written; call this for one", channel->name);
	return channel->ops->commit(channel, err);
}

void tenon_channel_close(struct tenon_channel *channel)
{
	if (!channel)
		return;
	if (channel->ops->close)
		channel->ops->close(channel);
	if (channel->fd >= 0)
		close(channel->fd);
	close(channel->end_fd);
	free(channel);
}

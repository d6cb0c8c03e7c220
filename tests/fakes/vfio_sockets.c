// SPDX-License-Identifier: MIT
/*
 * Sockets, and what comes by them: real ones, to servers that a test runs. Owns the clock, which stands
 * still but for waits in which nothing happens: for the test they take fake_set_patience(), however long they are for the library.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "descriptors.h"
#include "kernel.h"
#include "vfio_model.h"

#define NS_PER_MS UINT64_C(1000000)

static struct {
	int (*connect)(const char *path);
	uint64_t passed_ns;
	unsigned patience_ms;
} sockets = {.patience_ms = 5000};

void fake_on_connect(int (*connect)(const char *path))
{
	sockets.connect = connect;
}

void fake_set_patience(unsigned milliseconds)
{
	sockets.patience_ms = milliseconds;
}

int kernel_connect(const char *path, unsigned timeout_ms)
{
	int code = model_calls_enter(FAKE_CONNECT);
	if (code < 0)
		return code;
	int fd = sockets.connect ? sockets.connect(path) : -ENOENT;
	return fd < 0 ? fd : model_files_add(FILE_SOCKET, fd)->real;
}

static bool is_socket(int fd)
{
	const struct fake_file *file = model_files_of(fd);
	if (file && (file->kind == FILE_SOCKET || file->kind == FILE_PASSED))
		return true;
	fake_report_misuse("fd %d used as a socket, which it is not", fd);
	return false;
}

int kernel_is_stream(int fd)
{
	int type = 0;
	socklen_t bytes = sizeof(type);
	return is_socket(fd) && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 && type == SOCK_STREAM;
}

ssize_t kernel_send(int fd, const struct iovec *parts, unsigned part_count, const int *fds, unsigned fd_count)
{
	union descriptors room;
	struct msghdr header = {.msg_iov = (struct iovec *)parts, .msg_iovlen = part_count};
	int code = model_calls_enter(FAKE_SEND);
	if (code < 0 || !is_socket(fd))
		return code < 0 ? code : -ENOTSOCK;
	descriptors_attach(&header, &room, fds, fd_count);
	ssize_t sent = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent < 0 ? -errno : sent;
}

ssize_t kernel_receive(int fd, void *buffer, size_t size, int *fds, unsigned *fd_count)
{
	union {
		char bytes[CMSG_SPACE(256 * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	struct iovec part = {.iov_base = buffer, .iov_len = size};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	unsigned room = *fd_count;
	*fd_count = 0;
	int code = model_calls_enter(FAKE_RECEIVE);
	if (code < 0 || !is_socket(fd))
		return code < 0 ? code : -ENOTSOCK;
	ssize_t got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (got < 0)
		return -errno;
	for (struct cmsghdr *at = CMSG_FIRSTHDR(&header); at; at = CMSG_NXTHDR(&header, at)) {
		for (size_t i = 0; i < (at->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int passed;
			memcpy(&passed, CMSG_DATA(at) + i * sizeof(passed), sizeof(passed));
			if (*fd_count < room)
				fds[*fd_count] = model_files_add(FILE_PASSED, passed)->real;
			else
				close(passed);
			++*fd_count;
		}
	}
	return got;
}

void kernel_shutdown(int fd)
{
	if (is_socket(fd))
		shutdown(fd, SHUT_RDWR);
}

int kernel_wait(struct pollfd *polls, unsigned count, int timeout_ms)
{
	int code = model_calls_enter(FAKE_WAIT);
	if (code < 0)
		return code;
	int ready = poll(polls, count, timeout_ms ? (int)sockets.patience_ms : 0);
	if (ready == 0)
		sockets.passed_ns += (uint64_t)timeout_ms * NS_PER_MS;
	return ready < 0 ? -errno : ready;
}

/* It takes longer than anybody stays awake, so that no test depends on who is faster. */
void kernel_relax(void)
{
	sockets.passed_ns += NS_PER_MS / 10;
}

uint64_t kernel_now_ns(void)
{
	return sockets.passed_ns;
}

int kernel_poll_change(int poll, int fd, uint32_t id, bool readable, bool writable)
{
	int code = model_calls_enter(FAKE_POLL_CHANGE);
	if (code < 0)
		return code;
	struct epoll_event event = {.events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0),
				    .data.u32 = id};
	if (epoll_ctl(poll, EPOLL_CTL_MOD, fd, &event) < 0)
		fake_report_misuse("fd %d changed in poll set %d, where it is not", fd, poll);
	return 0;
}

/* Seals are real; how the kernel tells a file in memory from others is not looked at. */
int kernel_seal(int fd, uint64_t *size_bytes)
{
	int code = model_calls_enter(FAKE_SEAL);
	if (code < 0)
		return code;
	struct stat file;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (!(seals & F_SEAL_SHRINK) && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) ||
	    fstat(fd, &file) < 0)
		return -errno;
	*size_bytes = (uint64_t)file.st_size;
	return 0;
}

int kernel_timer(void)
{
	int code = model_calls_enter(FAKE_TIMER);
	if (code < 0)
		return code;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fd < 0)
		abort();
	return model_files_add(FILE_TIMER, fd)->real;
}

/* At once: what a test waits for comes soon enough. */
void kernel_timer_start(int fd, unsigned milliseconds)
{
	const struct itimerspec when = {.it_value = {.tv_nsec = milliseconds ? 1 : 0}};
	timerfd_settime(fd, 0, &when, NULL);
}

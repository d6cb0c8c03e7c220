// SPDX-License-Identifier: MIT
/*
 * Every kernel call of the library. Thin on purpose: no decision lives here, because tests replace this file by a model
 * of VFIO and iommufd.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"

#define FIRST_USER_NAMESPACE 0xeffffffdu /* PROC_USER_INIT_INO, the same in each kernel */
#define KERNEL_FDS_MAX       253         /* SCM_MAX_FD */

int kernel_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void kernel_close(int fd)
{
	close(fd);
}

int kernel_dup(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return copy < 0 ? -errno : copy;
}

int kernel_ioctl(int fd, unsigned long request, void *argument)
{
	int result = ioctl(fd, request, argument);
	return result < 0 ? -errno : result;
}

ssize_t kernel_pread(int fd, void *buffer, size_t size, uint64_t offset)
{
	ssize_t done;
	do
		done = pread(fd, buffer, size, (off_t)offset);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

ssize_t kernel_pwrite(int fd, const void *buffer, size_t size, uint64_t offset)
{
	ssize_t done;
	do
		done = pwrite(fd, buffer, size, (off_t)offset);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

ssize_t kernel_read(int fd, void *buffer, size_t size)
{
	ssize_t done;
	do
		done = read(fd, buffer, size);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

ssize_t kernel_write(int fd, const void *buffer, size_t size)
{
	ssize_t done;
	do
		done = write(fd, buffer, size);
	while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

int kernel_map(void *address, size_t size, int protection, int fd, uint64_t offset, void **out)
{
	int flags = MAP_SHARED | (address ? MAP_FIXED : 0);
	void *mapped = mmap(address, size, protection, flags, fd, (off_t)offset);
	if (mapped == MAP_FAILED)
		return -errno;
	*out = mapped;
	return 0;
}

int kernel_reserve(size_t size, size_t alignment, void **out)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint8_t *whole = mmap(NULL, size + alignment, PROT_NONE, flags, -1, 0);
	if (whole == MAP_FAILED)
		return -errno;
	uint8_t *aligned = (uint8_t *)(((uintptr_t)whole + alignment - 1) & ~(uintptr_t)(alignment - 1));
	if (aligned > whole)
		munmap(whole, (size_t)(aligned - whole));
	munmap(aligned + size, (size_t)(whole + alignment - aligned));
	*out = aligned;
	return 0;
}

void kernel_unmap(void *address, size_t size)
{
	munmap(address, size);
}

void kernel_block(void *address, size_t size)
{
	mmap(address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

int kernel_seal(int fd, uint64_t *size_bytes)
{
	struct statfs filesystem;
	struct stat file;
	/* First, because only files in memory have seals: of another one fstatfs() may ask a process that does not answer. */
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return -errno;
	if (fstatfs(fd, &filesystem) < 0)
		return -errno;
	if (filesystem.f_type != TMPFS_MAGIC)
		return -EINVAL;
	if (!(seals & F_SEAL_SHRINK) && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return -errno;
	/* Its size last: from now on it can only grow. */
	if (fstat(fd, &file) < 0)
		return -errno;
	*size_bytes = (uint64_t)file.st_size;
	return 0;
}

int kernel_eventfd(void)
{
	return kernel_eventfd_at(0);
}

int kernel_eventfd_at(unsigned count)
{
	int fd = eventfd(count, EFD_NONBLOCK | EFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int kernel_eventfd_pending(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLIN);
}

int kernel_eventfd_take(int fd)
{
	/* O_NONBLOCK would not do: it is the open file's, and whoever else holds that can take it away. */
	uint64_t count;
	const struct iovec part = {.iov_base = &count, .iov_len = sizeof(count)};
	return preadv2(fd, &part, 1, -1, RWF_NOWAIT) == sizeof(count);
}

int kernel_poll_create(void)
{
	int poll = epoll_create1(EPOLL_CLOEXEC);
	return poll < 0 ? -errno : poll;
}

int kernel_poll_add(int poll, int fd, uint32_t id, bool edge)
{
	struct epoll_event event = {.events = EPOLLIN | (edge ? (uint32_t)EPOLLET : 0), .data.u32 = id};
	return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int kernel_poll_change(int poll, int fd, uint32_t id, bool readable, bool writable)
{
	struct epoll_event event = {.events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0),
				    .data.u32 = id};
	return epoll_ctl(poll, EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
}

void kernel_poll_remove(int poll, int fd)
{
	epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL);
}

unsigned kernel_poll_take(int poll, uint32_t *ids, unsigned capacity)
{
	struct epoll_event events[32];
	int count = epoll_wait(poll, events, capacity < 32 ? (int)capacity : 32, 0);
	for (int i = 0; i < count; i++)
		ids[i] = events[i].data.u32;
	return count < 0 ? 0 : (unsigned)count;
}

int kernel_timer(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void kernel_timer_start(int fd, unsigned milliseconds)
{
	const struct itimerspec when = {
		.it_value = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L}};
	timerfd_settime(fd, 0, &when, NULL);
}

int kernel_is_stream(int fd)
{
	int domain = 0, type = 0;
	socklen_t domain_bytes = sizeof(domain), type_bytes = sizeof(type);
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_bytes) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) == 0 && type == SOCK_STREAM;
}

int kernel_connect(const char *path, unsigned timeout_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	int result;
	do
		result = connect(fd, (const struct sockaddr *)&address, sizeof(address));
	while (result < 0 && errno == EINTR);
	if (result < 0) {
		int code = -errno;
		close(fd);
		return code;
	}
	return fd;
}

ssize_t kernel_send(int fd, const struct iovec *parts, unsigned part_count, const int *fds, unsigned fd_count)
{
	union {
		char bytes[CMSG_SPACE(KERNEL_FDS_MAX * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	struct msghdr header = {.msg_iov = (struct iovec *)parts, .msg_iovlen = part_count};
	if (fd_count > KERNEL_FDS_MAX)
		return -ETOOMANYREFS;
	if (fd_count) {
		memset(&control, 0, sizeof(control));
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
	}
	ssize_t sent;
	do
		sent = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

/* One of a message's groups of file descriptors: into what room is left, or closed. */
static void keep_fds(const struct cmsghdr *rights, int *fds, unsigned room, unsigned *count)
{
	unsigned sent = (unsigned)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	for (unsigned i = 0; i < sent; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(rights) + i * sizeof(fd), sizeof(fd));
		if (*count < room)
			fds[*count] = fd;
		else
			close(fd);
		++*count;
	}
}

ssize_t kernel_receive(int fd, void *buffer, size_t size, int *fds, unsigned *fd_count)
{
	union {
		char bytes[CMSG_SPACE(KERNEL_FDS_MAX * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	struct iovec part = {.iov_base = buffer, .iov_len = size};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	unsigned room = *fd_count;
	*fd_count = 0;
	ssize_t got;
	do
		got = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	for (struct cmsghdr *control_at = CMSG_FIRSTHDR(&header); control_at;
	     control_at = CMSG_NXTHDR(&header, control_at)) {
		if (control_at->cmsg_level == SOL_SOCKET && control_at->cmsg_type == SCM_RIGHTS)
			keep_fds(control_at, fds, room, fd_count);
	}
	return got;
}

void kernel_shutdown(int fd)
{
	shutdown(fd, SHUT_RDWR);
}

int kernel_wait(struct pollfd *polls, unsigned count, int timeout_ms)
{
	/* A signal ends it as a timeout would: the caller looks at the clock. */
	int ready = poll(polls, count, timeout_ms);
	return ready < 0 ? (errno == EINTR ? 0 : -errno) : ready;
}

void kernel_relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

uint64_t kernel_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

ssize_t kernel_read_line(const char *path, char *line, size_t capacity)
{
	int fd = kernel_open(path, O_RDONLY);
	if (fd < 0)
		return fd;
	ssize_t length = kernel_pread(fd, line, capacity - 1, 0);
	close(fd);
	if (length < 0)
		return length;
	line[length] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return (ssize_t)strlen(line);
}

int kernel_link_name(const char *path, char *name, size_t capacity)
{
	char target[PATH_MAX];
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return -errno;
	target[length] = '\0';
	const char *slash = strrchr(target, '/');
	const char *last = slash ? slash + 1 : target;
	if (strlen(last) >= capacity)
		return -ENAMETOOLONG;
	strcpy(name, last);
	return 0;
}

int kernel_list(const char *path, int (*entry)(void *context, const char *name), void *context)
{
	DIR *folder = opendir(path);
	if (!folder)
		return -errno;
	int result = 0;
	for (const struct dirent *item; result == 0 && (item = readdir(folder));) {
		if (item->d_name[0] != '.')
			result = entry(context, item->d_name);
	}
	closedir(folder);
	return result;
}

int kernel_fd_path(int fd, char *path, size_t capacity)
{
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, capacity - 1);
	if (length < 0)
		return -errno;
	path[length] = '\0';
	return 0;
}

void kernel_sleep_ms(unsigned milliseconds)
{
	struct timespec pause = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
	nanosleep(&pause, NULL);
}

/*
 * CAP_IPC_LOCK lifts the limit: iommufd then does not account, and type1 does, but past the limit. The kernel asks with capable(),
 * which wants it in the first user namespace; within another one capget() tells of what does not count.
 */
static int may_lock_anything(void)
{
	char first[32], name[32];
	snprintf(first, sizeof(first), "user:[%u]", FIRST_USER_NAMESPACE);
	if (kernel_link_name("/proc/self/ns/user", name, sizeof(name)) == 0 && strcmp(name, first) != 0)
		return 0;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	if (syscall(SYS_capget, &header, data) < 0)
		return 0;
	return (data[CAP_IPC_LOCK / 32].effective >> (CAP_IPC_LOCK % 32)) & 1;
}

uint64_t kernel_memlock_limit(void)
{
	struct rlimit limit;
	if (may_lock_anything() || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return limit.rlim_cur;
}

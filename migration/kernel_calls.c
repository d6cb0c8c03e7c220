// SPDX-License-Identifier: MIT
/* The kernel calls of migration/. Nothing is decided here. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel_calls.h"

int mcall_poll(struct pollfd *fds, unsigned count, int timeout_ms)
{
	int ready = poll(fds, count, timeout_ms);
	return ready < 0 ? -errno : ready;
}

int mcall_random(void *data, size_t bytes)
{
	return getentropy(data, bytes) < 0 ? -errno : 0;
}

int mcall_thread_start(const char *name, void *(*entry)(void *), void *argument, pthread_t *out)
{
	int error = pthread_create(out, NULL, entry, argument);
	if (error)
		return -error;
	pthread_setname_np(*out, name);
	return 0;
}

/* What a call said, as a negative errno instead of -1. */
static int told(int result)
{
	return result < 0 ? -errno : result;
}

/* ---- Processes ---- */

pid_t mcall_spawn(const char *const *arguments, int keep)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	pid_t child;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	/* A descriptor that is duplicated onto itself is not closed by the exec. */
	int error = posix_spawn_file_actions_adddup2(&actions, keep, keep);
	if (error == 0)
		error = posix_spawn(&child, arguments[0], &actions, &attributes, (char *const *)arguments, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error ? -error : child;
}

pid_t mcall_fork(void)
{
	return told(fork());
}

void mcall_reap(pid_t child)
{
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

int mcall_pidfd(pid_t pid)
{
	return told((int)syscall(SYS_pidfd_open, pid, 0));
}

void mcall_name_process(const char *name)
{
	prctl(PR_SET_NAME, name, 0, 0, 0);
}

int mcall_duplicate(int fd)
{
	return told(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

void mcall_close_range(unsigned first, unsigned last)
{
	close_range(first, last, 0);
}

int mcall_memory_file(const char *name, size_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) == 0)
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

int mcall_map_shared(int fd, size_t bytes, void **out)
{
	void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (address == MAP_FAILED)
		return -errno;
	*out = address;
	return 0;
}

void mcall_unmap(void *address, size_t bytes)
{
	munmap(address, bytes);
}

int mcall_socket_pair(int fds[2])
{
	return told(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
}

#define FDS_MAX 4

union fds_message {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

int mcall_send_fds(int fd, const void *data, size_t bytes, const int *fds, unsigned count)
{
	union fds_message control = {0};
	struct iovec part = {.iov_base = (void *)data, .iov_len = bytes};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	control.header = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

ssize_t mcall_receive_fds(int fd, void *data, size_t bytes, int *fds, unsigned capacity)
{
	union fds_message control = {0};
	struct iovec part = {.iov_base = data, .iov_len = bytes};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = CMSG_SPACE(capacity * sizeof(int))};
	for (unsigned i = 0; i < capacity; i++)
		fds[i] = -1;
	ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	if (got < 0)
		return -errno;
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
	return got;
}

/* ---- Sockets ---- */

int mcall_socket(int family)
{
	return told(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int mcall_connect(int fd, const struct sockaddr *address, unsigned length)
{
	return told(connect(fd, address, length));
}

int mcall_bind(int fd, const struct sockaddr *address, unsigned length)
{
	return told(bind(fd, address, length));
}

int mcall_listen(int fd, int backlog)
{
	return told(listen(fd, backlog));
}

int mcall_accept(int fd)
{
	return told(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

int mcall_get_option(int fd, int level, int option, int *value)
{
	socklen_t length = sizeof(*value);
	return told(getsockopt(fd, level, option, value, &length));
}

int mcall_set_option(int fd, int level, int option, int value)
{
	return told(setsockopt(fd, level, option, &value, sizeof(value)));
}

int mcall_own_name(int fd, struct sockaddr_storage *out)
{
	socklen_t length = sizeof(*out);
	*out = (struct sockaddr_storage){0};
	return getsockname(fd, (struct sockaddr *)out, &length) < 0 ? -errno : (int)length;
}

int mcall_peer_name(int fd, struct sockaddr_storage *out)
{
	socklen_t length = sizeof(*out);
	*out = (struct sockaddr_storage){0};
	return getpeername(fd, (struct sockaddr *)out, &length) < 0 ? -errno : (int)length;
}

ssize_t mcall_send(int fd, const struct iovec *parts, unsigned count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
	ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent < 0 ? -errno : sent;
}

ssize_t mcall_receive(int fd, void *data, size_t bytes)
{
	ssize_t got = recv(fd, data, bytes, MSG_DONTWAIT);
	return got < 0 ? -errno : got;
}

int mcall_resolve(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out)
{
	return getaddrinfo(host, port, hints, out);
}

/* ---- Files ---- */

int mcall_eventfd(void)
{
	return told(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

int mcall_open(int directory, const char *path, int flags)
{
	return told(openat(directory, path, flags | O_CLOEXEC | O_NOCTTY, 0600));
}

int mcall_exists(int directory, const char *path)
{
	struct stat status;
	return told(fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW));
}

int mcall_stat(int fd, struct stat *out)
{
	return told(fstat(fd, out));
}

int mcall_stat_path(const char *path, struct stat *out)
{
	return told(lstat(path, out));
}

int mcall_get_flags(int fd)
{
	return told(fcntl(fd, F_GETFL));
}

int mcall_set_flags(int fd, int flags)
{
	return told(fcntl(fd, F_SETFL, flags));
}

int mcall_close_on_exec(int fd)
{
	return told(fcntl(fd, F_SETFD, FD_CLOEXEC));
}

/* No flag of the call keeps these signals away, as MSG_NOSIGNAL does for sockets. They go to the thread that writes, so that it can hold
 * them back and take them. */
ssize_t mcall_write(int fd, const struct iovec *parts, int count)
{
	sigset_t unwanted, pending, before;
	sigemptyset(&unwanted);
	sigaddset(&unwanted, SIGPIPE);
	sigaddset(&unwanted, SIGXFSZ);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &unwanted, &before);
	ssize_t written = writev(fd, parts, count);
	int error = errno;
	int raised = error == EPIPE ? SIGPIPE : SIGXFSZ;
	if (written < 0 && (error == EPIPE || error == EFBIG) && !sigismember(&pending, raised)) {
		sigset_t one;
		sigemptyset(&one);
		sigaddset(&one, raised);
		sigtimedwait(&one, NULL, &(struct timespec){0});
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return written < 0 ? -error : written;
}

ssize_t mcall_read(int fd, void *data, size_t bytes)
{
	ssize_t got = read(fd, data, bytes);
	return got < 0 ? -errno : got;
}

int mcall_fsync(int fd)
{
	return told(fsync(fd));
}

int mcall_link_fd(int fd, int directory, const char *name)
{
	return told(linkat(fd, "", directory, name, AT_EMPTY_PATH));
}

int mcall_link_proc(int fd, int directory, const char *name)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return told(linkat(AT_FDCWD, path, directory, name, AT_SYMLINK_FOLLOW));
}

int mcall_link(int directory, const char *from, const char *to)
{
	return told(linkat(directory, from, directory, to, 0));
}

int mcall_rename_new(int directory, const char *from, const char *to)
{
	return told(renameat2(directory, from, directory, to, RENAME_NOREPLACE));
}

int mcall_unlink(int directory, const char *path)
{
	return told(unlinkat(directory, path, 0));
}

int mcall_change_mode(int fd, unsigned mode)
{
	return told(fchmod(fd, mode));
}

/* ---- Memory ---- */

int mcall_mincore(void *address, size_t bytes, unsigned char *present)
{
	return told(mincore(address, bytes, present));
}

int mcall_populate(void *address, size_t bytes)
{
	return told(madvise(address, bytes, MADV_POPULATE_WRITE));
}

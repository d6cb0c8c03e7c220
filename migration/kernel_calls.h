/* SPDX-License-Identifier: MIT */
/* Every fallible kernel call of migration/, one thin function each: a negative errno instead of -1. Tests fail each in turn. */
#ifndef MIGRATION_KERNEL_CALLS_H
#define MIGRATION_KERNEL_CALLS_H

#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

struct addrinfo;
struct iovec;
struct sockaddr;
struct sockaddr_storage;
struct stat;

/** @return how many are ready, 0 after the timeout, or -errno */
int mcall_poll(struct pollfd *fds, unsigned count, int timeout_ms);

int mcall_thread_start(const char *name, void *(*entry)(void *), void *argument, pthread_t *out);

/* ---- Processes ---- */

/** Starts a program that inherits `keep`, with no signal blocked or handled. @return its pid */
pid_t mcall_spawn(const char *const *arguments, int keep);
pid_t mcall_fork(void);
/** Waits until a child has ended; one that somebody else waited for is fine. */
void mcall_reap(pid_t child);
/** @return a descriptor that polls readable once the process is dead */
int mcall_pidfd(pid_t pid);
/** As ps and top show it. */
void mcall_name_process(const char *name);
/** @return a copy, 3 or higher */
int mcall_duplicate(int fd);
void mcall_close_range(unsigned first, unsigned last);
/** Memory that processes share, of zeroes. @return a descriptor */
int mcall_memory_file(const char *name, size_t bytes);
int mcall_map_shared(int fd, size_t bytes, void **out);
void mcall_unmap(void *address, size_t bytes);
/** Of messages, which stay whole. */
int mcall_socket_pair(int fds[2]);
/** One message with descriptors. */
int mcall_send_fds(int fd, const void *data, size_t bytes, const int *fds, unsigned count);
/** @param fds  those that came; the rest -1. @return bytes */
ssize_t mcall_receive_fds(int fd, void *data, size_t bytes, int *fds, unsigned capacity);
/** Fills it with random bytes that nobody can guess. */
int mcall_random(void *data, size_t bytes);

/* ---- Sockets. Those that are made here are close-on-exec and never make wait ---- */

/** @return a stream socket */
int mcall_socket(int family);
int mcall_connect(int fd, const struct sockaddr *address, unsigned length);
int mcall_bind(int fd, const struct sockaddr *address, unsigned length);
int mcall_listen(int fd, int backlog);
/** @return a connected socket */
int mcall_accept(int fd);
int mcall_get_option(int fd, int level, int option, int *value);
int mcall_set_option(int fd, int level, int option, int value);
/** @return the length of the address */
int mcall_own_name(int fd, struct sockaddr_storage *out);
/** @return the length of the address */
int mcall_peer_name(int fd, struct sockaddr_storage *out);
/** Never waits, and never raises SIGPIPE. @return bytes */
ssize_t mcall_send(int fd, const struct iovec *parts, unsigned count);
/** Never waits. @return bytes */
ssize_t mcall_receive(int fd, void *data, size_t bytes);
/** getaddrinfo(), with its own codes: 0, or an EAI_* (of which EAI_SYSTEM means errno) */
int mcall_resolve(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out);

/* ---- Files ---- */

/** @return an eventfd that never makes wait */
int mcall_eventfd(void);
/** @param flags  O_CLOEXEC is added; a new file is its owner's only */
int mcall_open(int directory, const char *path, int flags);
/** @return 0 there is something of that name */
int mcall_exists(int directory, const char *path);
int mcall_stat(int fd, struct stat *out);
int mcall_stat_path(const char *path, struct stat *out);
/** Of fcntl(): as open() takes them. */
int mcall_get_flags(int fd);
int mcall_set_flags(int fd, int flags);
int mcall_close_on_exec(int fd);
/** Raises neither SIGPIPE nor, at a limit of the size of files, SIGXFSZ. @return bytes */
ssize_t mcall_write(int fd, const struct iovec *parts, int count);
ssize_t mcall_read(int fd, void *data, size_t bytes);
int mcall_fsync(int fd);
/** Gives a file without a name one: by its descriptor, and by way of /proc. Never replaces. */
int mcall_link_fd(int fd, int directory, const char *name);
int mcall_link_proc(int fd, int directory, const char *name);
int mcall_link(int directory, const char *from, const char *to);
/** Never replaces. */
int mcall_rename_new(int directory, const char *from, const char *to);
int mcall_unlink(int directory, const char *path);
int mcall_change_mode(int fd, unsigned mode);

/* ---- Memory ---- */

/** Which pages have memory: bit 0 of a byte for each. */
int mcall_mincore(void *address, size_t bytes, unsigned char *present);

/** Has memory given to pages that have none. */
int mcall_populate(void *address, size_t bytes);

#endif

// SPDX-License-Identifier: MIT
/*
 * The only file of kvm/ that calls the kernel. Owns nothing; the one process-wide thing it touches is the handler of the
 * kick signal, which it never takes from anyone.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel_calls.h"

/* The second signal that libc leaves free: the first is what other libraries take when they want just one. */
#define KICK_SIGNAL (SIGRTMIN + 1)

/*
 * Only the touched part of a stack costs memory. The sanitizers keep their own data there and widen every frame.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (2u << 20)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STACK_BYTES (2u << 20)
#endif
#endif
#ifndef STACK_BYTES
#define STACK_BYTES (128u << 10)
#endif

int kcall_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void kcall_close(int fd)
{
	close(fd);
}

int kcall_ioctl(int fd, unsigned long request, void *argument)
{
	int result = ioctl(fd, request, argument);
	return result < 0 ? -errno : result;
}

int kcall_ioctl_value(int fd, unsigned long request, unsigned long value)
{
	int result = ioctl(fd, request, value);
	return result < 0 ? -errno : result;
}

int kcall_map(int fd, size_t size_bytes, uint64_t offset, void **out)
{
	void *address = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	if (address == MAP_FAILED)
		return -errno;
	*out = address;
	return 0;
}

void kcall_unmap(void *address, size_t size_bytes)
{
	munmap(address, size_bytes);
}

/* A blocked signal that the CPU raises would end the process without its handler, which may be the program's way of saying why. */
static void vcpu_signal_mask(sigset_t *mask)
{
	static const int open_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};

	sigfillset(mask);
	for (size_t i = 0; i < sizeof(open_signals) / sizeof(open_signals[0]); i++)
		sigdelset(mask, open_signals[i]);
	sigdelset(mask, KICK_SIGNAL);
}

int kcall_thread_start(const char *name, void *(*entry)(void *), void *argument, pthread_t *out)
{
	pthread_attr_t attributes;
	int error = pthread_attr_init(&attributes);
	if (error)
		return -error;

	sigset_t mask;
	vcpu_signal_mask(&mask);
	error = pthread_attr_setstacksize(&attributes, STACK_BYTES);
	if (!error)
		error = pthread_attr_setsigmask_np(&attributes, &mask);
	if (!error)
		error = pthread_create(out, &attributes, entry, argument);
	if (!error)
		pthread_setname_np(*out, name);
	pthread_attr_destroy(&attributes);
	return -error;
}

void kcall_thread_join(pthread_t thread)
{
	pthread_join(thread, NULL);
}

int kcall_thread_id(void)
{
	return (int)syscall(SYS_gettid);
}

/* Its arrival is the message. */
static void on_kick(int signal)
{
}

int kcall_kick_prepare(void)
{
	struct sigaction now;
	if (sigaction(KICK_SIGNAL, NULL, &now) < 0)
		return -errno;
	if (!(now.sa_flags & SA_SIGINFO) && now.sa_handler == on_kick)
		return 0;
	if ((now.sa_flags & SA_SIGINFO) || now.sa_handler != SIG_DFL)
		return -EBUSY;

	/* KVM_RUN ends with EINTR all the same; what else a handler of an exit waits for goes on. */
	struct sigaction action = {.sa_handler = on_kick, .sa_flags = SA_RESTART};
	sigemptyset(&action.sa_mask);
	return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

void kcall_kick(int thread_id)
{
	/* Not pthread_kill(): the thread may have been joined by now, which tgkill() answers with ESRCH. */
	int saved = errno;
	syscall(SYS_tgkill, getpid(), thread_id, KICK_SIGNAL);
	errno = saved;
}

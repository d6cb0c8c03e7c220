/* SPDX-License-Identifier: MIT */
/*
 * Every kernel call of kvm/, one thin function each: a negative errno instead of -1. Tests link a model of KVM in place of
 * kernel_calls.c and fail each call in turn.
 */
#ifndef KERNEL_CALLS_H
#define KERNEL_CALLS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

int kcall_open(const char *path); /* read-write, close-on-exec */
void kcall_close(int fd);

/** @return what the ioctl returned, or -errno; EINTR is not retried, since KVM_RUN means something by it */
int kcall_ioctl(int fd, unsigned long request, void *argument);
/** For ioctls whose argument is a number. */
int kcall_ioctl_value(int fd, unsigned long request, unsigned long value);

/** Maps shared, for reading and writing. */
int kcall_map(int fd, size_t size_bytes, uint64_t offset, void **out);
void kcall_unmap(void *address, size_t size_bytes);

/** Starts a thread with a small stack and every signal blocked but the kick and those that the CPU raises. */
int kcall_thread_start(const char *name, void *(*entry)(void *), void *argument, pthread_t *out);
void kcall_thread_join(pthread_t thread);
int kcall_thread_id(void); /* of the calling thread; > 0 */

/**
 * Gives the kick signal its empty handler, which is the process's: there is no other way to interrupt KVM_RUN.
 *
 * @return 0, also when it is there already; -EBUSY when the program uses the signal for something else
 */
int kcall_kick_prepare(void);
/** Interrupts what the thread does in the kernel. Async-signal-safe; a thread that is gone is ignored. */
void kcall_kick(int thread_id);

#endif

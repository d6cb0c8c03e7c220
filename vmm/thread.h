/* SPDX-License-Identifier: MIT */
/* Starting the monitor's own threads; vCPUs' are started by kvm/. */
#ifndef THREAD_H
#define THREAD_H

#include <pthread.h>
#include <stddef.h>

/**
 * Runs `entry(argument)` on a thread that takes no signals: those are the main thread's.
 *
 * @param stack_bytes  0: the system's default
 * @return 0 or -errno
 */
int thread_start(pthread_t *thread, size_t stack_bytes, void *(*entry)(void *argument), void *argument);

#endif

// SPDX-License-Identifier: MIT
/* Starts threads that leave signals alone. What they do, and that somebody joins them, is their owners'. */
#include <signal.h>

#include "thread.h"

int thread_start(pthread_t *thread, size_t stack_bytes, void *(*entry)(void *argument), void *argument)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_attr_init(&attributes);
	if (stack_bytes)
		pthread_attr_setstacksize(&attributes, stack_bytes);
	sigfillset(&all);
	/* Inherited, so that there is no moment in which the thread could take one. */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(thread, &attributes, entry, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -error;
}

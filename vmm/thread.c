// SPDX-License-Identifier: MIT
/* Starts threads that leave signals alone. What they do, and that somebody joins them, is their owners'. */
#include <signal.h>

#include "thread.h"

int thread_start(pthread_t *thread, void *(*entry)(void *argument), void *argument)
{
	sigset_t all, before;
	sigfillset(&all);
	/* Inherited, so that there is no moment in which the thread could take one. */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(thread, NULL, entry, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

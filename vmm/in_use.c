// SPDX-License-Identifier: MIT
/*
 * A count and a futex. Who leaves touches nothing after its decrement, except that it may name the count's address to the kernel:
 * a mutex would be freed under its last user.
 */
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "in_use.h"

#define AWAITED 0x80000000u

void in_use_enter(struct in_use *in_use)
{
	if (in_use)
		atomic_fetch_add(&in_use->users, 1);
}

void in_use_leave(struct in_use *in_use)
{
	if (in_use && atomic_fetch_sub(&in_use->users, 1) == (AWAITED | 1))
		syscall(SYS_futex, &in_use->users, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void in_use_wait(struct in_use *in_use)
{
	unsigned users = atomic_fetch_or(&in_use->users, AWAITED) | AWAITED;
	while (users != AWAITED) {
		syscall(SYS_futex, &in_use->users, FUTEX_WAIT_PRIVATE, users, NULL, NULL, 0);
		users = atomic_load(&in_use->users);
	}
	atomic_fetch_and(&in_use->users, ~AWAITED);
}

/* SPDX-License-Identifier: MIT */
/*
 * The vfio-user devices of a space: processes that are told of each window into guest memory, beside the kernel's one address space
 * for all others. Windows are RAM, and mapped BARs of other vfio-user devices.
 *
 * Locks, in the order in which they are taken: a device's lock; `lock` here, while servers are told; a connection's; windows_lock,
 * under which the memory itself is accessed, and nothing is waited for. So a server that asks for memory is answered whoever waits
 * for it. A vCPU that moves a BAR does not wait long for `lock`: another device's server may hold it up.
 */
#ifndef SPACE_USERS_H
#define SPACE_USERS_H

#include <pthread.h>
#include <stdbool.h>

#include <tenon/space.h>

#include "vfio_user_socket.h"

#define SPACE_WINDOWS_MAX  160
#define SPACE_REFUSALS_MAX 32

struct space_member;

struct space_window {
	struct tenon_space_region region;
	const struct space_member *owner; /* whose BAR it is; NULL: RAM */
	uint64_t *dirty;                  /* of users_dirty.h; NULL: not logged */
};

/* A BAR that a server did not take. */
struct space_refusal {
	uint64_t gpa;
	const struct space_member *owner;
};

/* A device's part. */
struct space_user {
	struct vu_socket *socket; /* borrowed; NULL: the device is not of this kind, or has left */
	const char *name;
	struct space_refusal refusals[SPACE_REFUSALS_MAX]; /* BARs it is told of, and does not have */
	unsigned refusal_count;
};

struct space_users {
	pthread_mutex_t lock; /* of the list, and of what servers were told */
	struct space_member *first;
	pthread_rwlock_t windows_lock;
	struct space_window windows[SPACE_WINDOWS_MAX];
	unsigned window_count;
	bool logs; /* what is written to RAM */
};

void space_users_init(struct space_users *users);
void space_users_finish(struct space_users *users);

/** What servers reach by asking. */
struct vu_memory space_users_memory(struct space_users *users);

/**
 * Tells each server of a window, but its owner's. Servers that are gone or hang are left out. One that refuses RAM is cut off: it costs
 * its device, not the VM. One that refuses a BAR does without it.
 *
 * @param owner  NULL: RAM
 * @return 0; 1 a server refuses the BAR, and `err` says which and why; -ENOSPC; -EBUSY another server holds things up (BARs only)
 */
int space_users_add(struct space_users *users, const struct tenon_space_region *region,
		    const struct space_member *owner, struct tenon_error *err);
/** The reverse. Asking for it fails from now on in any case. @return 0; -EBUSY as above: try again */
int space_users_remove(struct space_users *users, uint64_t gpa, uint64_t size_bytes, const struct space_member *owner,
		       struct tenon_error *err);

/** Tells a server of all windows. On failure it is not on the list. */
int space_users_join(struct space_users *users, struct space_member *member, struct vu_socket *socket, const char *name,
		     struct tenon_error *err);
/** The same for one on the list, on a new connection. On failure it keeps the old one. */
int space_users_rejoin(struct space_users *users, struct space_member *member, struct vu_socket *socket,
		       struct tenon_error *err);
void space_users_leave(struct space_users *users, struct space_member *member);

#endif

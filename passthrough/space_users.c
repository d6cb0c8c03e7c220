// SPDX-License-Identifier: MIT
/* See space_users.h. Owns the list of windows and of those who are told of them. */
#include <errno.h>
#include <string.h>

#include "kernel.h"
#include "patience.h"
#include "space.h"
#include "space_users.h"
#include "users_dirty.h"
#include "vfio_user_dma.h"

#define RAM_TIMEOUT_MS    10000u /* a server may pin it */
#define BAR_TIMEOUT_MS    250u   /* a vCPU waits; longer for a server that its user gave more time */
#define REJOIN_TIMEOUT_MS 1000u  /* for all windows together: the event loop waits */

#define NS_PER_MS UINT64_C(1000000)

void space_users_init(struct space_users *users)
{
	pthread_mutex_init(&users->lock, NULL);
	pthread_rwlock_init(&users->windows_lock, NULL);
}

void space_users_finish(struct space_users *users)
{
	space_users_dirty_stop(users);
	pthread_mutex_destroy(&users->lock);
	pthread_rwlock_destroy(&users->windows_lock);
}

/* ---- Windows ---- */

static int record(struct space_users *users, const struct tenon_space_region *region, const struct space_member *owner,
		  struct tenon_error *err)
{
	struct space_window window = {.region = *region, .owner = owner};
	pthread_rwlock_wrlock(&users->windows_lock);
	int code = users->window_count < SPACE_WINDOWS_MAX ? 0 : -ENOSPC;
	if (code == 0 && users->logs)
		code = users_dirty_open(&window);
	if (code == 0)
		users->windows[users->window_count++] = window;
	pthread_rwlock_unlock(&users->windows_lock);
	if (code == -ENOMEM)
		return tenon_fail(err, code, "memory at 0x%llx: cannot log its pages: out of memory; free some memory",
				  (unsigned long long)region->gpa);
	return code == 0 ? 0
			 : tenon_fail(err, code,
				      "memory at 0x%llx: more than %d windows of devices into it; assign fewer",
				      (unsigned long long)region->gpa, SPACE_WINDOWS_MAX);
}

static void forget(struct space_users *users, uint64_t gpa, uint64_t size_bytes, const struct space_member *owner)
{
	pthread_rwlock_wrlock(&users->windows_lock);
	for (unsigned i = 0; i < users->window_count; i++) {
		const struct tenon_space_region *region = &users->windows[i].region;
		if (region->gpa != gpa || region->size_bytes != size_bytes || users->windows[i].owner != owner)
			continue;
		users_dirty_close(&users->windows[i]);
		users->windows[i] = users->windows[--users->window_count];
		break;
	}
	pthread_rwlock_unlock(&users->windows_lock);
}

static const struct space_window *window_at(const struct space_users *users, uint64_t gpa)
{
	for (unsigned i = 0; i < users->window_count; i++) {
		const struct tenon_space_region *region = &users->windows[i].region;
		if (gpa >= region->gpa && gpa - region->gpa < region->size_bytes)
			return &users->windows[i];
	}
	return NULL;
}

/* One access may go over neighbouring windows. Copies when `out` or `in` is given, else only checks. */
static int walk(const struct space_users *users, uint64_t gpa, uint8_t *out, const uint8_t *in, size_t bytes,
		bool write)
{
	while (bytes) {
		const struct space_window *window = window_at(users, gpa);
		if (!window)
			return -EFAULT;
		const struct tenon_space_region *region = &window->region;
		if (write && region->read_only)
			return -EACCES;
		uint64_t offset = gpa - region->gpa, left = region->size_bytes - offset;
		size_t part = bytes < left ? bytes : (size_t)left;
		uint8_t *at = (uint8_t *)region->hva + offset;
		if (out) {
			memcpy(out, at, part);
			out += part;
		} else if (in) {
			memcpy(at, in, part);
			in += part;
			users_dirty_mark(window, offset,
					 part); /* after it: who fetches before it looks finds it next time */
		}
		gpa += part;
		bytes -= part;
	}
	return 0;
}

static int read_memory(void *context, uint64_t address, void *data, size_t bytes)
{
	struct space_users *users = context;
	pthread_rwlock_rdlock(&users->windows_lock);
	int code = walk(users, address, data, NULL, bytes, false);
	pthread_rwlock_unlock(&users->windows_lock);
	return code;
}

static int write_memory(void *context, uint64_t address, const void *data, size_t bytes)
{
	struct space_users *users = context;
	pthread_rwlock_rdlock(&users->windows_lock);
	int code = walk(users, address, NULL, NULL, bytes, true); /* all of it or nothing */
	if (code == 0)
		code = walk(users, address, NULL, data, bytes, true);
	pthread_rwlock_unlock(&users->windows_lock);
	return code;
}

struct vu_memory space_users_memory(struct space_users *users)
{
	return (struct vu_memory){.read = read_memory, .write = write_memory, .context = users};
}

/* ---- Servers ---- */

/* Of a device's BAR: @return whether the server never took it; that is then forgotten */
static bool take_refusal(struct space_user *user, uint64_t gpa, const struct space_member *owner)
{
	for (unsigned i = 0; i < user->refusal_count; i++) {
		if (user->refusals[i].gpa != gpa || user->refusals[i].owner != owner)
			continue;
		user->refusals[i] = user->refusals[--user->refusal_count];
		return true;
	}
	return false;
}

static unsigned timeout_for(const struct space_member *member, const struct space_member *owner)
{
	if (!owner)
		return RAM_TIMEOUT_MS;
	return member->patience_ms > BAR_TIMEOUT_MS ? member->patience_ms : BAR_TIMEOUT_MS;
}

static void untell(struct space_users *users, uint64_t gpa, uint64_t size_bytes, const struct space_member *owner)
{
	for (struct space_member *member = users->first; member; member = member->next_user) {
		if (member != owner && !take_refusal(&member->user, gpa, owner))
			vu_dma_unmap(member->user.socket, gpa, size_bytes, timeout_for(member, owner));
	}
}

/*
 * A server that cannot have a BAR does without; what it cannot do without is RAM.
 *
 * @return 0; 1 it does without; or why it must not be used
 */
static int tell_one(struct space_user *user, const struct space_window *window, unsigned timeout_ms,
		    struct tenon_error *err)
{
	int code = vu_dma_map(user->socket, user->name, &window->region, timeout_ms, err);
	if (code == 0 || code == -ENOTCONN || !window->owner || user->refusal_count == SPACE_REFUSALS_MAX)
		return code;
	user->refusals[user->refusal_count++] =
		(struct space_refusal){.gpa = window->region.gpa, .owner = window->owner};
	return 1;
}

/* One that is gone is told when it is back. @return 0; 1 some do without, of which `err` names one */
static int tell(struct space_users *users, const struct space_window *window, struct tenon_error *err)
{
	int result = 0;
	for (struct space_member *member = users->first; member; member = member->next_user) {
		if (member == window->owner)
			continue;
		struct tenon_error error;
		int code = tell_one(&member->user, window, timeout_for(member, window->owner), &error);
		if (code == 0 || code == -ENOTCONN)
			continue;
		if (code < 0)
			vu_socket_end(member->user.socket, "it does not take the VM's memory");
		else
			tenon_fail(err, -EACCES, "%s", error.message);
		result |= code > 0;
	}
	return result;
}

static int lock_for(struct space_users *users, bool bar, struct tenon_error *err)
{
	if (!bar) {
		pthread_mutex_lock(&users->lock);
		return 0;
	}
	if (patient_lock(&users->lock, BAR_TIMEOUT_MS))
		return 0;
	return tenon_fail(err, -EBUSY, "another device's server is slow to map memory; wait until it is done");
}

int space_users_add(struct space_users *users, const struct tenon_space_region *region,
		    const struct space_member *owner, struct tenon_error *err)
{
	int code = lock_for(users, owner != NULL, err);
	if (code < 0)
		return code;
	/* Before a server hears of it, because it may ask at once. */
	code = record(users, region, owner, err);
	const struct space_window window = {.region = *region, .owner = owner};
	if (code == 0)
		code = tell(users, &window, err);
	pthread_mutex_unlock(&users->lock);
	return code;
}

int space_users_remove(struct space_users *users, uint64_t gpa, uint64_t size_bytes, const struct space_member *owner,
		       struct tenon_error *err)
{
	forget(users, gpa, size_bytes, owner);
	int code = lock_for(users, owner != NULL, err);
	if (code < 0)
		return code;
	untell(users, gpa, size_bytes, owner);
	pthread_mutex_unlock(&users->lock);
	return 0;
}

/* @param total_ms  for all windows together; 0: each has its time */
static int tell_all(struct space_users *users, const struct space_member *member, struct space_user *user,
		    unsigned total_ms, struct tenon_error *err)
{
	const uint64_t end_ns = kernel_now_ns() + total_ms * NS_PER_MS;
	struct space_window windows[SPACE_WINDOWS_MAX];
	pthread_rwlock_rdlock(&users->windows_lock);
	unsigned count = users->window_count;
	memcpy(windows, users->windows, count * sizeof(windows[0]));
	pthread_rwlock_unlock(&users->windows_lock);
	int code = 0;
	for (unsigned i = 0; code >= 0 && i < count; i++) {
		uint64_t now_ns = kernel_now_ns();
		unsigned left_ms = now_ns < end_ns ? (unsigned)((end_ns - now_ns) / NS_PER_MS) + 1 : 1;
		if (windows[i].owner != member)
			code = tell_one(user, &windows[i], total_ms ? left_ms : RAM_TIMEOUT_MS, err);
	}
	return code < 0 ? code : 0;
}

int space_users_join(struct space_users *users, struct space_member *member, struct vu_socket *socket, const char *name,
		     struct tenon_error *err)
{
	pthread_mutex_lock(&users->lock);
	struct space_user user = {.socket = socket, .name = name};
	int code = tell_all(users, member, &user, 0, err);
	if (code == 0) {
		member->user = user;
		member->next_user = users->first;
		users->first = member;
	}
	pthread_mutex_unlock(&users->lock);
	return code;
}

int space_users_rejoin(struct space_users *users, struct space_member *member, struct vu_socket *socket,
		       struct tenon_error *err)
{
	int code = lock_for(users, true, err);
	if (code < 0)
		return code;
	struct space_user user = {.socket = socket, .name = member->user.name};
	code = tell_all(users, member, &user, REJOIN_TIMEOUT_MS, err);
	if (code == 0)
		member->user = user;
	pthread_mutex_unlock(&users->lock);
	return code;
}

void space_users_leave(struct space_users *users, struct space_member *member)
{
	pthread_mutex_lock(&users->lock);
	for (struct space_member **at = &users->first; *at; at = &(*at)->next_user) {
		if (*at != member)
			continue;
		*at = member->next_user;
		break;
	}
	member->user = (struct space_user){0};
	pthread_mutex_unlock(&users->lock);
}

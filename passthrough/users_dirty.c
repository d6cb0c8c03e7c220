// SPDX-License-Identifier: MIT
/* See users_dirty.h. Owns the bitmaps of the windows. */
#include <errno.h>
#include <stdlib.h>

#include "space_users.h"
#include "users_dirty.h"

#define PAGE_SHIFT 12
#define WORD_BITS  64u

static uint64_t words_of(const struct space_window *window)
{
	uint64_t pages = window->region.size_bytes >> PAGE_SHIFT;
	return (pages + WORD_BITS - 1) / WORD_BITS;
}

int users_dirty_open(struct space_window *window)
{
	if (window->owner) /* a device's memory is its own to save */
		return 0;
	window->dirty = calloc(words_of(window), sizeof(window->dirty[0]));
	return window->dirty ? 0 : -ENOMEM;
}

void users_dirty_close(struct space_window *window)
{
	free(window->dirty);
	window->dirty = NULL;
}

/* Several servers may be served at a time, and a fetch goes on beside them. */
void users_dirty_mark(const struct space_window *window, uint64_t offset, uint64_t bytes)
{
	if (!window->dirty || bytes == 0)
		return;
	for (uint64_t page = offset >> PAGE_SHIFT; page <= (offset + bytes - 1) >> PAGE_SHIFT; page++)
		__atomic_fetch_or(&window->dirty[page / WORD_BITS], UINT64_C(1) << page % WORD_BITS, __ATOMIC_RELEASE);
}

static void close_all(struct space_users *users)
{
	users->logs = false;
	for (unsigned i = 0; i < users->window_count; i++)
		users_dirty_close(&users->windows[i]);
}

int space_users_dirty_start(struct space_users *users, struct tenon_error *err)
{
	int code = 0;
	pthread_rwlock_wrlock(&users->windows_lock);
	close_all(users);
	for (unsigned i = 0; code == 0 && i < users->window_count; i++)
		code = users_dirty_open(&users->windows[i]);
	if (code < 0)
		close_all(users);
	else
		users->logs = true;
	pthread_rwlock_unlock(&users->windows_lock);
	return code < 0 ? tenon_fail(err, code, "guest memory: cannot log its pages: out of memory; free some memory")
			: 0;
}

void space_users_dirty_stop(struct space_users *users)
{
	pthread_rwlock_wrlock(&users->windows_lock);
	close_all(users);
	pthread_rwlock_unlock(&users->windows_lock);
}

/* The pages of `word` go to where page `first` of the caller's is bit 0; those outside stay in the log. */
static void fetch_word(struct space_window *window, uint64_t word, uint64_t first, uint64_t end, uint64_t shift,
		       uint64_t *bitmap)
{
	uint64_t wanted = UINT64_MAX;
	if (word * WORD_BITS < first)
		wanted &= UINT64_MAX << (first - word * WORD_BITS);
	if ((word + 1) * WORD_BITS > end)
		wanted &= UINT64_MAX >> ((word + 1) * WORD_BITS - end);
	if (!(__atomic_load_n(&window->dirty[word], __ATOMIC_RELAXED) & wanted))
		return;
	uint64_t found = __atomic_fetch_and(&window->dirty[word], ~wanted, __ATOMIC_ACQUIRE) & wanted;
	for (; found; found &= found - 1) {
		uint64_t page = word * WORD_BITS + (uint64_t)__builtin_ctzll(found) - first + shift;
		bitmap[page / WORD_BITS] |= UINT64_C(1) << page % WORD_BITS;
	}
}

static void fetch_window(struct space_window *window, uint64_t gpa, uint64_t size, uint64_t *bitmap)
{
	const struct tenon_space_region *region = &window->region;
	uint64_t last = gpa + (size - 1), region_last = region->gpa + (region->size_bytes - 1);
	if (!window->dirty || size == 0 || gpa > region_last || region->gpa > last)
		return;
	uint64_t from = gpa > region->gpa ? gpa : region->gpa, to = last < region_last ? last : region_last;
	uint64_t first = (from - region->gpa) >> PAGE_SHIFT, end = ((to - region->gpa) >> PAGE_SHIFT) + 1;
	for (uint64_t word = first / WORD_BITS; word * WORD_BITS < end; word++)
		fetch_word(window, word, first, end, (from - gpa) >> PAGE_SHIFT, bitmap);
}

void space_users_dirty_fetch(struct space_users *users, uint64_t gpa, uint64_t size, uint64_t *bitmap)
{
	pthread_rwlock_rdlock(&users->windows_lock);
	for (unsigned i = 0; i < users->window_count; i++)
		fetch_window(&users->windows[i], gpa, size, bitmap);
	pthread_rwlock_unlock(&users->windows_lock);
}

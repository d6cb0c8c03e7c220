/* SPDX-License-Identifier: MIT */
/*
 * The memory behind TD_BAR_MEMORY and TD_BAR_PAGE: one file that the client maps, sealed so that it cannot shrink it, and
 * the copying to and from memory that the client owns.
 */
#ifndef BAR_MEMORY_H
#define BAR_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#include "registers.h"

/* Where the BARs are in the file. */
#define MEMORY_PAGE_OFFSET TD_MEMORY_BYTES
#define MEMORY_FILE_BYTES  (TD_MEMORY_BYTES + TD_PAGE_BYTES)

struct bar_memory {
	int fd;
	uint8_t *bytes;       /* MEMORY_FILE_BYTES */
	uint64_t stopped_sum; /* when the device stopped */
};

int bar_memory_init(struct bar_memory *memory, struct tenon_error *err);
void bar_memory_finish(struct bar_memory *memory);
/** Differs when any byte does; quick, because a device that stops is waited for. */
uint64_t bar_memory_sum(const struct bar_memory *memory);

/**
 * Copies where one side is a mapping of a file that another process can truncate at any time.
 *
 * @return 0, or -EFAULT when part of it is not there any more
 */
int guarded_copy(void *target, const void *source, size_t bytes);

#endif

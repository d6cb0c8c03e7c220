/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM: private memory, or one sealed memfd that other processes can map; split around the PCI hole.
 * Threads: create, populate and destroy from one thread; memory_at from any.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

struct memory_options {
	uint64_t size_bytes;      /* multiple of 2 MiB, or of the huge page size */
	uint64_t huge_page_bytes; /* 0: ordinary pages (transparent huge pages advised), 2 MiB or 1 GiB: hugetlb */
	bool prefault;            /* for the caller: memory_create does not populate */
	bool shared;              /* in a memfd; hugetlb pages are in any case */
};

/* A contiguous part of the guest's physical address space that is RAM. */
struct memory_part {
	uint64_t gpa;
	uint64_t size_bytes;
	uint8_t *hva;
};

struct memory {
	struct memory_options options;
	int fd;       /* the memfd, sealed against shrinking, growing and more seals; -1: private memory */
	uint8_t *hva; /* all of it, in gpa order; aligned to 1 GiB, or to 2 MiB when it is smaller */
	struct memory_part parts[2]; /* below and above the hole */
	unsigned part_count;
	bool transparent_huge; /* the host gives transparent huge pages to memory that is touched through this mapping */
};

/** Parses "512M[,hugepages=2M|1G][,prefault][,shared]" (K, M, G, T suffixes; plain number: bytes). */
int memory_options_parse(const char *text, struct memory_options *options, struct tenon_error *err);

/** Whether there can be such memory. @return 0, or -EINVAL with what to give instead */
int memory_options_check(const struct memory_options *options, struct tenon_error *err);

/** Reserves; takes no page until it is touched, except that hugetlb pages are set aside in the host's pool. */
int memory_create(const struct memory_options *options, struct memory *memory, struct tenon_error *err);
void memory_destroy(struct memory *memory); /* accepts a zeroed struct */

/**
 * Faults in all of RAM with `threads` threads (0: one per CPU this process may use), so that pinning it later finds it
 * populated. MADV_POPULATE_WRITE (Linux 5.14), else touching. Failure (hugetlb pool too small, out of memory) names the numbers.
 * Contents stay as they are. Uses transparent huge pages where the host has them; for shared memory by MADV_COLLAPSE (Linux 6.1).
 *
 * @param cancel  NULL, or ends it early, with success, once it becomes true
 */
int memory_populate(struct memory *memory, unsigned threads, const atomic_bool *cancel, struct tenon_error *err);

/** Host address of [gpa, gpa + size_bytes), or NULL unless all of it lies in one part of RAM. */
void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t size_bytes);

/** Zeroes a range of RAM without taking pages that were never touched. @return 0, or -EFAULT where memory_at says NULL */
int memory_clear(struct memory *memory, uint64_t gpa, uint64_t size_bytes);

#endif

/* SPDX-License-Identifier: MIT */
/* What the loader's files share: a kernel's headers, checked and reduced to what loading needs. */
#ifndef LOADER_IMAGE_H
#define LOADER_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <asm/bootparam.h>

#include "loader.h"

#define LOADER_PAGE         UINT64_C(4096)
#define LOADER_HEAD_BYTES   4096u /* how much of a kernel's start is looked at to tell its format */
#define LOADER_SEGMENTS_MAX 16u

/* The setup header as a file holds it may be longer than this build's struct setup_header; boot_params has room for this. */
#define LOADER_SETUP_BYTES (0x290u - 0x1f1u)

/* file_bytes at file_offset go to gpa; the rest of memory_bytes is zeroed. */
struct loader_segment {
	uint64_t file_offset;
	uint64_t file_bytes;
	uint64_t gpa;
	uint64_t memory_bytes;
};

/* Invariants after a successful parse: every segment lies in the file and in [first_gpa, end_gpa), which lies in
 * [LAYOUT_HIGH_RAM, LAYOUT_PCI32); so does the entry. */
struct loader_image {
	enum loader_protocol protocol;
	uint64_t entry_gpa;
	uint64_t first_gpa, end_gpa;
	uint64_t initrd_end;  /* the initrd must end at or below */
	uint64_t cmdline_max; /* characters, without the terminator */
	struct loader_segment segments[LOADER_SEGMENTS_MAX];
	unsigned segment_count;
	uint8_t setup[LOADER_SETUP_BYTES]; /* bzImage only */
};

/* What loader_load tells a protocol about the rest. */
struct loader_placement {
	uint64_t initrd_gpa;
	uint64_t initrd_bytes; /* 0: none */
};

/** Reads exactly `bytes` at `offset`; a file that ends early is an error. */
int loader_file_read(const struct loader_file *file, uint64_t offset, void *buffer, uint64_t bytes,
		     struct tenon_error *err);
/** The same into RAM, the fastest way there is. */
int loader_file_load(const struct loader_file *file, uint64_t offset, struct memory *memory, uint64_t gpa,
		     uint64_t bytes, struct tenon_error *err);

bool bzimage_matches(const uint8_t *head, size_t head_bytes);
int bzimage_parse(const struct loader_file *kernel, const uint8_t *head, size_t head_bytes, struct loader_image *image,
		  struct tenon_error *err);
/** Writes boot_params. @return 0 or -EFAULT */
int bzimage_write_params(const struct loader_input *input, const struct loader_placement *placement);

bool pvh_matches(const uint8_t *head, size_t head_bytes);
int pvh_parse(const struct loader_file *kernel, const uint8_t *head, size_t head_bytes, struct loader_image *image,
	      struct tenon_error *err);
/** Writes hvm_start_info and what it points to. @return 0 or -EFAULT */
int pvh_write_info(const struct loader_input *input, const struct loader_placement *placement);

#endif

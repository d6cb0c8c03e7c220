/* SPDX-License-Identifier: MIT */
/*
 * Puts a kernel, its initrd and its command line into guest RAM and says how to enter it.
 * bzImage by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst), ELF vmlinux by PVH
 * (Documentation of the Xen HVM direct boot ABI; Linux include/xen/interface/hvm/start_info.h).
 *
 * All input files are untrusted: nothing is read outside them or written outside RAM. They are read, not mapped, so that
 * someone who truncates one gets an error and not a SIGBUS; their headers are judged once, at init, so that someone who
 * rewrites one changes what the guest runs and no address that the loader computes.
 *
 * Threads: one at a time.
 */
#ifndef LOADER_H
#define LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#include "../memory.h"

struct loader_image; /* what the kernel's headers said */

struct loader_file {
	const char *name; /* for messages; borrowed; NULL: no such file */
	int fd;
	uint64_t size_bytes; /* at init */
};

/* Opened once and kept, so that a guest reset boots the same files again even if the names have moved on. */
struct loader_files {
	struct loader_file kernel;
	struct loader_file initrd;
	const char *cmdline; /* "": none; borrowed */
	struct loader_image *image;
};

/* A memory map entry that the guest is told (e820 types: 1 RAM, 2 reserved, 3 ACPI). */
struct loader_range {
	uint64_t gpa;
	uint64_t size_bytes;
	uint32_t type;
};

#define LOADER_RANGES_MAX 32

struct loader_input {
	const struct loader_files *files;
	struct memory *memory;
	const struct loader_range *ranges; /* ascending, at most LOADER_RANGES_MAX */
	unsigned range_count;
	uint64_t rsdp_gpa;
	bool without_parameters; /* a firmware writes them: command line, boot_params, hvm_start_info */
};

enum loader_protocol {
	LOADER_LINUX64, /* long mode, identity paging; RSI = info */
	LOADER_PVH,     /* 32-bit protected mode without paging; EBX = info */
};

struct loader_entry {
	enum loader_protocol protocol;
	uint64_t entry_gpa; /* RIP */
	uint64_t info_gpa;  /* boot_params or hvm_start_info */
	/* What the kernel needs before it reads its memory map; both inclusive. */
	uint64_t kernel_first, kernel_last;
	uint64_t initrd_first, initrd_last; /* inclusive; 0, 0: none */
};

/**
 * Opens the files; checks that the kernel is one that can be booted with this command line.
 *
 * @param initrd  NULL: none
 * @param files   finished by loader_files_finish; untouched on failure
 */
int loader_files_init(struct loader_files *files, const char *kernel, const char *initrd, const char *cmdline,
		      struct tenon_error *err);
void loader_files_finish(struct loader_files *files); /* accepts a zeroed struct */

/**
 * The smallest RAM, in bytes, that this kernel and initrd can be put into; for messages and checks before anything is opened.
 * Linux needs more to run: an initrd is unpacked beside itself.
 */
uint64_t loader_memory_needed(const struct loader_files *files);

/** A bzImage's setup header, from its byte 0x1f1 on; NULL for other kernels. */
const uint8_t *loader_setup_header(const struct loader_files *files, size_t *size_bytes);

/** Loads everything. May be called again on the same memory for a reset. */
int loader_load(const struct loader_input *input, struct loader_entry *entry, struct tenon_error *err);

#endif

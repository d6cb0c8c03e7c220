/* SPDX-License-Identifier: MIT */
/*
 * Feeds the loader a kernel image. Whatever it holds, the loader must refuse it or put it where it says it did: inside RAM,
 * clear of the first megabyte's tables and of the initrd.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "layout.h"
#include "loader/loader.h"

#define RAM_BYTES    (UINT64_C(48) << 20)
#define STRIDE       (UINT64_C(2) << 20)
#define INITRD_BYTES 5000
#define CANARY       0xc5

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input_file {
	int fd;
	char name[32];
};

static struct memory memory;
static struct input_file kernel, initrd;

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static struct input_file file_make(void)
{
	struct input_file file = {.fd = memfd_create("input", MFD_CLOEXEC)};
	require(file.fd >= 0, "memfd");
	snprintf(file.name, sizeof(file.name), "/proc/self/fd/%d", file.fd);
	return file;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static uint8_t contents[INITRD_BYTES];
	struct memory_options options = {.size_bytes = RAM_BYTES};
	require(memory_create(&options, &memory, NULL) == 0, "RAM");
	kernel = file_make();
	initrd = file_make();
	memset(contents, 0x11, sizeof(contents));
	require(write(initrd.fd, contents, sizeof(contents)) == (ssize_t)sizeof(contents), "initrd");
	return 0;
}

static void check_entry(const struct loader_entry *entry)
{
	require(entry->kernel_first >= LAYOUT_HIGH_RAM, "the kernel starts above 1 MiB");
	require(entry->kernel_first <= entry->kernel_last, "the kernel is not empty");
	require(entry->kernel_last < RAM_BYTES, "the kernel ends in RAM");
	require(entry->entry_gpa >= entry->kernel_first && entry->entry_gpa <= entry->kernel_last,
		"the entry is in the kernel");
	require(entry->info_gpa == (entry->protocol == LOADER_PVH ? LAYOUT_PVH_INFO : LAYOUT_BOOT_PARAMS), "info");

	require(entry->initrd_first > entry->kernel_last, "the initrd is above the kernel");
	require(entry->initrd_first % 4096 == 0, "the initrd is page aligned");
	require(entry->initrd_last - entry->initrd_first == INITRD_BYTES - 1, "the initrd is whole");
	require(entry->initrd_last < RAM_BYTES, "the initrd ends in RAM");
	const uint8_t *contents = memory_at(&memory, entry->initrd_first, INITRD_BYTES);
	require(contents && contents[0] == 0x11 && contents[INITRD_BYTES - 1] == 0x11, "the initrd is there");
}

/* Nothing but the loader's own pages may change below 1 MiB. */
static void check_first_megabyte(void)
{
	require(memory.hva[LAYOUT_GDT] == CANARY, "the GDT's place is untouched");
	require(memory.hva[LAYOUT_PAGE_TABLES] == CANARY, "the page tables' place is untouched");
	require(memory.hva[LAYOUT_ACPI] == CANARY, "the ACPI tables' place is untouched");
	require(memory.hva[LAYOUT_HIGH_RAM - 1] == CANARY, "the end of the first MiB is untouched");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loader_range ranges[] = {
		{.gpa = 0, .size_bytes = LAYOUT_LOW_RAM_END, .type = 1},
		{.gpa = LAYOUT_HIGH_RAM, .size_bytes = RAM_BYTES - LAYOUT_HIGH_RAM, .type = 1},
	};
	struct loader_files files = {0};
	struct loader_input input = {
		.files = &files, .memory = &memory, .ranges = ranges, .range_count = 2, .rsdp_gpa = LAYOUT_ACPI};
	struct loader_entry entry;
	struct tenon_error err = {0};

	require(ftruncate(kernel.fd, 0) == 0 && pwrite(kernel.fd, data, size, 0) == (ssize_t)size, "kernel");
	for (uint64_t gpa = STRIDE; gpa < RAM_BYTES; gpa += STRIDE)
		memory.hva[gpa] = CANARY; /* RAM as a guest left it, for a reset */
	memory.hva[LAYOUT_GDT] = memory.hva[LAYOUT_PAGE_TABLES] = CANARY;
	memory.hva[LAYOUT_ACPI] = memory.hva[LAYOUT_HIGH_RAM - 1] = CANARY;

	int result = loader_files_init(&files, kernel.name, initrd.name, "console=ttyS0", &err);
	if (result == 0) {
		uint64_t needed = loader_memory_needed(&files);
		result = loader_load(&input, &entry, &err);
		require(result < 0 || needed <= RAM_BYTES, "what needs more memory does not load");
		if (result == 0)
			check_entry(&entry);
		loader_files_finish(&files);
	}
	check_first_megabyte();
	require(result == 0 || (err.code == result && err.message[0] && !strchr(err.message, '\n')),
		"a failure says why in one line");
	return 0;
}

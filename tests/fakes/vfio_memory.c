// SPDX-License-Identifier: MIT
/*
 * The address space that the library reserves and maps BARs into. Keeps a list of ranges, so that a test can see what is
 * mapped and what was left behind, and so that unmapping something else is caught.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "kernel.h"
#include "vfio_model.h"

static void add_range(uintptr_t start, uintptr_t end, const struct fake_bar *bar, struct fake_file *file)
{
	if (start == end)
		return;
	if (world.memory_count == MODEL_MEMORY)
		abort();
	if (file)
		model_files_hold(file);
	world.memory[world.memory_count++] =
		(struct memory_range){.start = start, .end = end, .bar = bar, .file = file};
}

/* Takes [start, end) out of the list. @return how many bytes were in it */
static size_t cut(uintptr_t start, uintptr_t end)
{
	size_t covered = 0;
	for (unsigned i = 0; i < world.memory_count;) {
		struct memory_range range = world.memory[i];
		if (range.start >= end || range.end <= start) {
			i++;
			continue;
		}
		uintptr_t first = range.start > start ? range.start : start;
		uintptr_t last = range.end < end ? range.end : end;
		covered += last - first;
		world.memory[i] = world.memory[--world.memory_count];
		add_range(range.start, first, range.bar, range.file);
		add_range(last, range.end, range.bar, range.file);
		model_files_release(range.file);
		i = 0; /* the pieces do not intersect any more, so this ends */
	}
	return covered;
}

int kernel_reserve(size_t size, size_t alignment, void **out)
{
	int code = model_calls_enter(FAKE_RESERVE);
	if (code < 0)
		return code;
	if (size == 0 || size % 4096 || alignment == 0 || alignment & (alignment - 1)) {
		fake_report_misuse("reserve of %zu bytes aligned to %zu", size, alignment);
		return -EINVAL;
	}
	if (alignment < 4096)
		alignment = 4096;
	uint8_t *whole = mmap(NULL, size + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (whole == MAP_FAILED)
		return -ENOMEM;
	uintptr_t aligned = ((uintptr_t)whole + alignment - 1) & ~(uintptr_t)(alignment - 1);
	add_range(aligned, aligned + size, NULL,
		  NULL); /* what is cut off the ends may stay: it is only address space */
	*out = (void *)aligned;
	return 0;
}

int kernel_map(void *address, size_t size, int protection, int fd, uint64_t offset, void **out)
{
	int code = model_calls_enter(FAKE_MAP);
	if (code < 0)
		return code;
	struct fake_file *file = model_files_of(fd);
	if (!file || (file->kind != FILE_CDEV && file->kind != FILE_DEVICE && file->kind != FILE_PASSED))
		return -EBADF;
	struct fake_bar *bar = NULL;
	int memory_fd = file->real;
	if (file->kind != FILE_PASSED) {
		code = model_cdev_bar_of_map(file, offset, size, &bar);
		if (code < 0)
			return code;
		memory_fd = bar->memory_fd;
		offset &= 0xffffffffff; /* in the BAR */
	}

	uintptr_t start = (uintptr_t)address, end = start + size;
	if (address && cut(start, end) != size)
		fake_report_misuse("a BAR is mapped over %zu bytes at %p that were not all reserved", size, address);
	void *mapped =
		mmap(address, size, protection, MAP_SHARED | (address ? MAP_FIXED : 0), memory_fd, (off_t)offset);
	if (mapped == MAP_FAILED)
		abort();
	add_range((uintptr_t)mapped, (uintptr_t)mapped + size, bar, file);
	fake_journal("map BAR bytes at 0x%llx", (unsigned long long)offset);
	*out = mapped;
	return 0;
}

void kernel_unmap(void *address, size_t size)
{
	uintptr_t start = (uintptr_t)address;
	if (!address || cut(start, start + size) != size) {
		fake_report_misuse("unmap of %zu bytes at %p that were not all mapped", size, address);
		return;
	}
	munmap(address, size);
}

void kernel_block(void *address, size_t size)
{
	uintptr_t start = (uintptr_t)address;
	if (!address || cut(start, start + size) != size) {
		fake_report_misuse("block of %zu bytes at %p that were not all mapped", size, address);
		return;
	}
	add_range(start, start + size, NULL, NULL);
	world.memory[world.memory_count - 1].blocked = true;
	if (mmap(address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
	    MAP_FAILED)
		abort();
}

const struct fake_bar *model_memory_bar(uint64_t address, uint64_t length)
{
	for (unsigned i = 0; i < world.memory_count; i++) {
		const struct memory_range *range = &world.memory[i];
		if (range->bar && address >= range->start && address + length <= range->end)
			return range->bar;
	}
	return NULL;
}

bool fake_host_memory_mapped(const void *address, size_t size_bytes)
{
	uintptr_t start = (uintptr_t)address, end = start + size_bytes;
	size_t mapped = 0;
	for (unsigned i = 0; i < world.memory_count; i++) {
		const struct memory_range *range = &world.memory[i];
		uintptr_t first = range->start > start ? range->start : start;
		uintptr_t last = range->end < end ? range->end : end;
		if ((range->bar || range->file) && last > first)
			mapped += last - first;
	}
	return mapped == size_bytes;
}

bool fake_address_space_kept(const void *address)
{
	for (unsigned i = 0; i < world.memory_count; i++) {
		if ((uintptr_t)address >= world.memory[i].start && (uintptr_t)address < world.memory[i].end)
			return true;
	}
	return false;
}

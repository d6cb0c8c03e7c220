/* SPDX-License-Identifier: MIT */
/*
 * Loads what files.c has opened and checked: places the initrd, reads every segment straight into guest RAM (one copy, out of
 * the page cache), and lets the protocol write its parameters.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../layout.h"
#include "image.h"

#define MIB            (UINT64_C(1) << 20)
#define MEMORY_GRANULE (2 * MIB)

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) / alignment * alignment;
}

/* Nothing overflows: the kernel ends below LAYOUT_PCI32 and a file is below 2^63. */
static uint64_t initrd_lowest(const struct loader_files *files)
{
	return align_up(files->image->end_gpa, LOADER_PAGE);
}

uint64_t loader_memory_needed(const struct loader_files *files)
{
	uint64_t initrd = files->initrd.name ? align_up(files->initrd.size_bytes, LOADER_PAGE) : 0;
	return align_up(initrd_lowest(files) + initrd, MEMORY_GRANULE);
}

const uint8_t *loader_setup_header(const struct loader_files *files, size_t *size_bytes)
{
	*size_bytes = sizeof(files->image->setup);
	return files->image->protocol == LOADER_LINUX64 ? files->image->setup : NULL;
}

static uint64_t low_ram_end(const struct memory *memory)
{
	return memory->parts[0].gpa + memory->parts[0].size_bytes;
}

static int check_kernel_fits(const struct loader_input *input, struct tenon_error *err)
{
	const struct loader_image *image = input->files->image;
	uint64_t end = low_ram_end(input->memory);
	if (image->end_gpa <= end)
		return 0;
	return tenon_fail(err, -ENOSPC,
			  "kernel %s: needs RAM up to 0x%" PRIx64 ", the guest's ends at 0x%" PRIx64
			  "; give it at least --memory %" PRIu64 "M",
			  input->files->kernel.name, image->end_gpa, end, loader_memory_needed(input->files) / MIB);
}

/* As high as may be, so that it is out of the way of the kernel, which grows upwards. */
static int place_initrd(const struct loader_input *input, struct loader_placement *placement, struct tenon_error *err)
{
	const struct loader_files *files = input->files;
	*placement = (struct loader_placement){0};
	if (!files->initrd.name)
		return 0;

	uint64_t bytes = files->initrd.size_bytes;
	uint64_t first = initrd_lowest(files);
	uint64_t ram_end = low_ram_end(input->memory);
	uint64_t end = ram_end < files->image->initrd_end ? ram_end : files->image->initrd_end;
	if (first < end && bytes <= end - first) {
		/* Aligning down cannot pass `first`, which is aligned itself. */
		placement->initrd_gpa = (end - bytes) / LOADER_PAGE * LOADER_PAGE;
		placement->initrd_bytes = bytes;
		return 0;
	}

	uint64_t highest = files->image->initrd_end;
	if (first >= highest || bytes > highest - first)
		return tenon_fail(err, -ENOSPC,
				  "initrd %s: %" PRIu64 " bytes do not fit between the kernel's end at 0x%" PRIx64
				  " and 0x%" PRIx64 ", the highest address this kernel takes one at; make it smaller",
				  files->initrd.name, bytes, first, highest);
	return tenon_fail(err, -ENOSPC,
			  "initrd %s: %" PRIu64 " bytes do not fit between the kernel's end at 0x%" PRIx64
			  " and RAM's at 0x%" PRIx64 "; give the guest at least --memory %" PRIu64 "M",
			  files->initrd.name, bytes, first, ram_end, loader_memory_needed(files) / MIB);
}

static int load_segment(const struct loader_input *input, const struct loader_segment *segment, struct tenon_error *err)
{
	const struct loader_file *kernel = &input->files->kernel;
	int result =
		loader_file_load(kernel, segment->file_offset, input->memory, segment->gpa, segment->file_bytes, err);
	if (result < 0 || segment->memory_bytes == segment->file_bytes)
		return result;

	uint64_t rest = segment->gpa + segment->file_bytes;
	result = memory_clear(input->memory, rest, segment->memory_bytes - segment->file_bytes);
	if (result < 0)
		return tenon_fail(err, result,
				  "%s: guest address 0x%" PRIx64 " is not in RAM; give the guest more memory",
				  kernel->name, rest);
	return 0;
}

static int write_parameters(const struct loader_input *input, const struct loader_placement *placement,
			    struct tenon_error *err)
{
	const struct loader_files *files = input->files;
	size_t cmdline_bytes = strlen(files->cmdline) + 1;
	char *cmdline = memory_at(input->memory, LAYOUT_CMDLINE, LAYOUT_CMDLINE_BYTES);
	int result = -EFAULT;

	if (cmdline && cmdline_bytes <= files->image->cmdline_max + 1) {
		memcpy(cmdline, files->cmdline, cmdline_bytes);
		result = files->image->protocol == LOADER_PVH ? pvh_write_info(input, placement)
							      : bzimage_write_params(input, placement);
	}
	if (result < 0)
		return tenon_fail(err, result,
				  "kernel %s: no RAM for its parameters below 1 MiB; give the guest more memory",
				  files->kernel.name);
	return 0;
}

int loader_load(const struct loader_input *input, struct loader_entry *entry, struct tenon_error *err)
{
	const struct loader_image *image = input->files->image;
	struct loader_placement placement = {0};

	if (input->range_count > LOADER_RANGES_MAX)
		return tenon_fail(err, -EINVAL, "kernel %s: a memory map of %u ranges; join them to %u at most",
				  input->files->kernel.name, input->range_count, LOADER_RANGES_MAX);
	int result = check_kernel_fits(input, err);
	if (result == 0)
		result = place_initrd(input, &placement, err);
	for (unsigned i = 0; result == 0 && i < image->segment_count; i++)
		result = load_segment(input, &image->segments[i], err);
	if (result == 0 && placement.initrd_bytes)
		result = loader_file_load(&input->files->initrd, 0, input->memory, placement.initrd_gpa,
					  placement.initrd_bytes, err);
	if (result == 0 && !input->without_parameters)
		result = write_parameters(input, &placement, err);
	if (result < 0)
		return result;

	*entry = (struct loader_entry){
		.protocol = image->protocol,
		.entry_gpa = image->entry_gpa,
		.info_gpa = image->protocol == LOADER_PVH ? LAYOUT_PVH_INFO : LAYOUT_BOOT_PARAMS,
		.kernel_first = image->first_gpa,
		.kernel_last = image->end_gpa - 1,
		.initrd_first = placement.initrd_gpa,
		.initrd_last = placement.initrd_bytes ? placement.initrd_gpa + placement.initrd_bytes - 1 : 0,
	};
	return 0;
}

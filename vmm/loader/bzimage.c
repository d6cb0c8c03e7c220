/* SPDX-License-Identifier: MIT */
/*
 * Linux bzImage by the 64-bit boot protocol (Documentation/arch/x86/boot.rst): its setup header is checked and reduced to
 * one segment; boot_params (the "zero page") is written from it. The real-mode part is never run nor loaded.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../layout.h"
#include "image.h"

#define SETUP_AT              0x1f1u
#define SETUP_END_BASE        0x202u /* the header ends here plus the byte at 0x201 */
#define SETUP_END_BYTE        0x201u
#define SETUP_END_NEEDED      0x264u /* init_size is the last field needed */
#define BOOT_FLAG             0xaa55u
#define HEADER_MAGIC          0x53726448u /* "HdrS" */
#define VERSION_NEEDED        0x020cu     /* xloadflags */
#define ENTRY64               0x200u
#define LOADER_TYPE_UNDEFINED 0xffu
#define VIDEO_MODE_NORMAL     0xffffu

_Static_assert(sizeof(struct boot_params) == LOADER_PAGE, "boot_params is one page");
_Static_assert(sizeof(struct setup_header) <= LOADER_SETUP_BYTES, "boot_params has room for the setup header");
_Static_assert(LOADER_RANGES_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "boot_params has room for the memory map");

bool bzimage_matches(const uint8_t *head, size_t head_bytes)
{
	struct setup_header setup;
	if (head_bytes < SETUP_AT + sizeof(setup))
		return false;
	memcpy(&setup, head + SETUP_AT, sizeof(setup));
	return setup.boot_flag == BOOT_FLAG && setup.header == HEADER_MAGIC;
}

/* Copies the header, as long as it says it is, and no longer than the file or boot_params has room for. */
static int setup_copy(const struct loader_file *kernel, const uint8_t *head, size_t head_bytes, uint8_t *setup,
		      struct tenon_error *err)
{
	size_t end = SETUP_END_BASE + head[SETUP_END_BYTE];
	if (end > SETUP_AT + LOADER_SETUP_BYTES)
		end = SETUP_AT + LOADER_SETUP_BYTES;
	if (end < SETUP_END_NEEDED || end > head_bytes)
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: its setup header ends at byte 0x%zx, before the fields of protocol 2.12; "
				  "copy it again",
				  kernel->name, end);
	memcpy(setup, head + SETUP_AT, end - SETUP_AT);
	return 0;
}

static int check_kind(const struct loader_file *kernel, const struct setup_header *setup, struct tenon_error *err)
{
	if (!(setup->loadflags & LOADED_HIGH))
		return tenon_fail(err, -ENOEXEC, "kernel %s: is a zImage; build a bzImage", kernel->name);
	if (setup->version < VERSION_NEEDED)
		return tenon_fail(
			err, -ENOEXEC,
			"kernel %s: speaks boot protocol %u.%02u; give one of Linux 3.8 or later, which speaks 2.12",
			kernel->name, setup->version >> 8, setup->version & 0xffu);
	if (!(setup->xloadflags & XLF_KERNEL_64))
		return tenon_fail(err, -ENOEXEC, "kernel %s: is a 32-bit kernel; build it with CONFIG_64BIT=y",
				  kernel->name);
	return 0;
}

/* The payload: what follows the real-mode sectors, as long as syssize says. */
static int find_payload(const struct loader_file *kernel, const struct setup_header *setup,
			struct loader_segment *segment, struct tenon_error *err)
{
	uint64_t sectors = setup->setup_sects ? setup->setup_sects : 4;
	uint64_t offset = (sectors + 1) * 512;
	uint64_t bytes = (uint64_t)setup->syssize * 16;

	if (bytes <= ENTRY64)
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: its header promises %" PRIu64
				  " bytes of code, too few to hold the entry; copy it again",
				  kernel->name, bytes);
	if (offset + bytes > kernel->size_bytes)
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: truncated: its header promises %" PRIu64 " bytes, the file has %" PRIu64
				  "; copy it again",
				  kernel->name, offset + bytes, kernel->size_bytes);
	segment->file_offset = offset;
	segment->file_bytes = bytes;
	segment->memory_bytes = bytes; /* nothing to zero: the decompressor clears its own bss */
	return 0;
}

/*
 * A kernel below its preferred address moves itself up to it, and one that is not relocatable moves there always (boot.rst,
 * "init_size"); so that address, aligned, is the only one worth loading at.
 */
static int find_address(const struct loader_file *kernel, const struct setup_header *setup, struct loader_image *image,
			struct tenon_error *err)
{
	struct loader_segment *segment = &image->segments[0];
	uint64_t alignment = setup->kernel_alignment;
	if (alignment == 0 || (alignment & (alignment - 1)))
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: its header asks for alignment 0x%" PRIx64
				  ", which is no power of two; copy it again",
				  kernel->name, alignment);

	uint64_t preferred = setup->pref_address > LAYOUT_HIGH_RAM ? setup->pref_address : LAYOUT_HIGH_RAM;
	uint64_t needed = setup->init_size > segment->file_bytes ? setup->init_size : segment->file_bytes;
	uint64_t gpa = preferred < LAYOUT_PCI32 ? (preferred + alignment - 1) & -alignment : preferred;
	if (gpa >= LAYOUT_PCI32 || needed > LAYOUT_PCI32 - gpa)
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: wants 0x%" PRIx64 " bytes at 0x%" PRIx64
				  ", which do not fit below the PCI window at 0x%x; give a smaller kernel",
				  kernel->name, needed, gpa, LAYOUT_PCI32);
	segment->gpa = gpa;
	image->first_gpa = gpa;
	image->end_gpa = gpa + needed;
	image->entry_gpa = gpa + ENTRY64;
	return 0;
}

int bzimage_parse(const struct loader_file *kernel, const uint8_t *head, size_t head_bytes, struct loader_image *image,
		  struct tenon_error *err)
{
	struct setup_header setup;
	memcpy(&setup, head + SETUP_AT, sizeof(setup));

	int result = check_kind(kernel, &setup, err);
	if (result == 0)
		result = setup_copy(kernel, head, head_bytes, image->setup, err);
	if (result < 0)
		return result;

	/* From here on without what a short header does not have. */
	memcpy(&setup, image->setup, sizeof(setup));
	image->protocol = LOADER_LINUX64;
	image->segment_count = 1;
	result = find_payload(kernel, &setup, &image->segments[0], err);
	if (result == 0)
		result = find_address(kernel, &setup, image, err);
	if (result < 0)
		return result;

	/* initrd_addr_max names the last byte; it is a limit for loaders that know only 32-bit addresses. */
	image->initrd_end = LAYOUT_PCI32;
	if (!(setup.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) && setup.initrd_addr_max < LAYOUT_PCI32)
		image->initrd_end = setup.initrd_addr_max + 1ull;
	image->cmdline_max = LAYOUT_CMDLINE_BYTES - 1;
	if (setup.cmdline_size && setup.cmdline_size < image->cmdline_max)
		image->cmdline_max = setup.cmdline_size;
	return 0;
}

int bzimage_write_params(const struct loader_input *input, const struct loader_placement *placement)
{
	const struct loader_image *image = input->files->image;
	struct boot_params *params = memory_at(input->memory, LAYOUT_BOOT_PARAMS, sizeof(*params));
	if (!params)
		return -EFAULT;

	memset(params, 0, sizeof(*params));
	memcpy((uint8_t *)params + SETUP_AT, image->setup, sizeof(image->setup));

	struct setup_header *setup = &params->hdr;
	setup->vid_mode = VIDEO_MODE_NORMAL;
	setup->type_of_loader = LOADER_TYPE_UNDEFINED;
	setup->loadflags &= (uint8_t)~CAN_USE_HEAP; /* the heap is for the real-mode part */
	setup->code32_start = (uint32_t)image->first_gpa;
	setup->cmd_line_ptr = LAYOUT_CMDLINE;
	setup->setup_data = 0;
	setup->hardware_subarch = X86_SUBARCH_PC;
	setup->ramdisk_image = (uint32_t)placement->initrd_gpa;
	setup->ramdisk_size = (uint32_t)placement->initrd_bytes;
	params->acpi_rsdp_addr = input->rsdp_gpa;

	params->e820_entries = (uint8_t)input->range_count;
	for (unsigned i = 0; i < input->range_count; i++) {
		const struct loader_range *range = &input->ranges[i];
		params->e820_table[i] =
			(struct boot_e820_entry){.addr = range->gpa, .size = range->size_bytes, .type = range->type};
	}
	return 0;
}

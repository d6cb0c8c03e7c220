/* SPDX-License-Identifier: MIT */
/*
 * ELF kernels by PVH: the 32-bit entry is in a Xen note (type 18, XEN_ELFNOTE_PHYS32_ENTRY), each PT_LOAD goes to its
 * physical address, and hvm_start_info version 1 (Linux include/xen/interface/hvm/start_info.h) describes the machine.
 */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../layout.h"
#include "image.h"

#define PROGRAM_HEADERS_MAX 64u
#define NOTES_MAX           256u /* looked at; Linux has about ten */
#define NOTE_PHYS32_ENTRY   18u
#define NOTE_NAME           "Xen"
#define START_INFO_MAGIC    0x336ec578u
#define START_INFO_VERSION  1u

struct start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t module_count;
	uint64_t modules_gpa;
	uint64_t cmdline_gpa;
	uint64_t rsdp_gpa;
	uint64_t ranges_gpa;
	uint32_t range_count;
	uint32_t reserved;
};

struct start_info_module {
	uint64_t gpa;
	uint64_t size_bytes;
	uint64_t cmdline_gpa;
	uint64_t reserved;
};

struct start_info_range {
	uint64_t gpa;
	uint64_t size_bytes;
	uint32_t type;
	uint32_t reserved;
};

/* All that PVH hands over but the command line: one page at LAYOUT_PVH_INFO. */
struct start_info_page {
	struct start_info info;
	struct start_info_module initrd;
	struct start_info_range ranges[LOADER_RANGES_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "ABI");
_Static_assert(sizeof(struct start_info_module) == 32, "ABI");
_Static_assert(sizeof(struct start_info_range) == 24, "ABI");
_Static_assert(sizeof(struct start_info_page) <= LAYOUT_BOOT_PARAMS - LAYOUT_PVH_INFO, "it fits its place");

bool pvh_matches(const uint8_t *head, size_t head_bytes)
{
	return head_bytes >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0;
}

static int check_header(const struct loader_file *kernel, const Elf64_Ehdr *elf, struct tenon_error *err)
{
	if (elf->e_ident[EI_DATA] != ELFDATA2LSB || (elf->e_machine != EM_X86_64 && elf->e_machine != EM_386))
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: is an ELF file for another machine (number %u); an x86-64 one is needed",
				  kernel->name, elf->e_machine);
	if (elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_machine != EM_X86_64)
		return tenon_fail(err, -ENOEXEC, "kernel %s: is a 32-bit ELF file; an x86-64 one is needed",
				  kernel->name);
	if (elf->e_type != ET_EXEC && elf->e_type != ET_DYN)
		return tenon_fail(err, -ENOEXEC, "kernel %s: is an ELF file that is not linked (type %u)%s",
				  kernel->name, elf->e_type,
				  elf->e_type == ET_REL ? "; is it a module? give the vmlinux" : "; give the vmlinux");
	if (elf->e_phentsize != sizeof(Elf64_Phdr) || elf->e_phnum == 0 || elf->e_phnum > PROGRAM_HEADERS_MAX)
		return tenon_fail(
			err, -ENOEXEC, "kernel %s: has %u program headers of %u bytes; 1 to %u of %zu are understood",
			kernel->name, elf->e_phnum, elf->e_phentsize, PROGRAM_HEADERS_MAX, sizeof(Elf64_Phdr));
	return 0;
}

static int check_inside_file(const struct loader_file *kernel, const char *what, uint64_t offset, uint64_t bytes,
			     struct tenon_error *err)
{
	if (offset <= kernel->size_bytes && bytes <= kernel->size_bytes - offset)
		return 0;
	return tenon_fail(err, -ENOEXEC,
			  "kernel %s: truncated: its headers promise %" PRIu64 " bytes of %s at byte %" PRIu64
			  ", the file has %" PRIu64 "; copy it again",
			  kernel->name, bytes, what, offset, kernel->size_bytes);
}

static int add_segment(const struct loader_file *kernel, const Elf64_Phdr *header, struct loader_image *image,
		       struct tenon_error *err)
{
	if (header->p_memsz == 0)
		return 0;
	int result = check_inside_file(kernel, "a segment", header->p_offset, header->p_filesz, err);
	if (result < 0)
		return result;
	if (header->p_filesz > header->p_memsz)
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: has a segment with more bytes in the file (%" PRIu64
				  ") than in memory (%" PRIu64 "); link it again",
				  kernel->name, header->p_filesz, header->p_memsz);
	if (header->p_paddr < LAYOUT_HIGH_RAM || header->p_paddr >= LAYOUT_PCI32 ||
	    header->p_memsz > LAYOUT_PCI32 - header->p_paddr)
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: wants 0x%" PRIx64 " bytes at 0x%" PRIx64
				  "; a kernel goes between 0x%x and the PCI window at 0x%x",
				  kernel->name, header->p_memsz, header->p_paddr, LAYOUT_HIGH_RAM, LAYOUT_PCI32);
	if (image->segment_count == LOADER_SEGMENTS_MAX)
		return tenon_fail(err, -ENOEXEC, "kernel %s: has more than %u segments to load; link it with fewer",
				  kernel->name, LOADER_SEGMENTS_MAX);

	image->segments[image->segment_count++] = (struct loader_segment){
		.file_offset = header->p_offset,
		.file_bytes = header->p_filesz,
		.gpa = header->p_paddr,
		.memory_bytes = header->p_memsz,
	};
	if (image->segment_count == 1 || header->p_paddr < image->first_gpa)
		image->first_gpa = header->p_paddr;
	if (header->p_paddr + header->p_memsz > image->end_gpa)
		image->end_gpa = header->p_paddr + header->p_memsz;
	return 0;
}

/* Looks for the entry among the notes of one PT_NOTE. @return 1 found, 0 not here */
static int find_entry(const struct loader_file *kernel, const Elf64_Phdr *header, uint64_t *entry_gpa,
		      struct tenon_error *err)
{
	uint64_t padding = header->p_align == 8 ? 7 : 3;
	uint64_t offset = header->p_offset;
	uint64_t left = header->p_filesz;
	int result = check_inside_file(kernel, "notes", offset, left, err);

	for (unsigned i = 0; result == 0 && i < NOTES_MAX; i++) {
		struct {
			Elf64_Nhdr header;
			char name[sizeof(NOTE_NAME)];
			uint8_t value[8];
		} note = {0};
		if (left < sizeof(note.header) + sizeof(note.name) + sizeof(uint32_t))
			break;
		result = loader_file_read(kernel, offset, &note, left < sizeof(note) ? left : sizeof(note), err);
		if (result < 0)
			break;

		/* 32-bit sizes in 64-bit sums: no overflow. */
		uint64_t value_at = (sizeof(note.header) + note.header.n_namesz + padding) & ~padding;
		uint64_t next = (value_at + note.header.n_descsz + padding) & ~padding;
		bool here = note.header.n_type == NOTE_PHYS32_ENTRY && note.header.n_namesz == sizeof(NOTE_NAME) &&
			    memcmp(note.name, NOTE_NAME, sizeof(NOTE_NAME)) == 0;
		if (here && (note.header.n_descsz == 4 || note.header.n_descsz == 8) &&
		    value_at + note.header.n_descsz <= left) {
			memcpy(entry_gpa, note.value, note.header.n_descsz);
			return 1;
		}
		if (next >= left)
			break;
		offset += next;
		left -= next;
	}
	return result;
}

static bool entry_is_loaded(const struct loader_image *image, uint64_t entry_gpa)
{
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct loader_segment *segment = &image->segments[i];
		if (entry_gpa >= segment->gpa && entry_gpa - segment->gpa < segment->file_bytes)
			return true;
	}
	return false;
}

int pvh_parse(const struct loader_file *kernel, const uint8_t *head, size_t head_bytes, struct loader_image *image,
	      struct tenon_error *err)
{
	Elf64_Ehdr elf;
	Elf64_Phdr headers[PROGRAM_HEADERS_MAX] = {0};
	if (head_bytes < sizeof(elf))
		return tenon_fail(err, -ENOEXEC, "kernel %s: truncated: it ends within its ELF header; copy it again",
				  kernel->name);
	memcpy(&elf, head, sizeof(elf));

	int result = check_header(kernel, &elf, err);
	if (result == 0)
		result = check_inside_file(kernel, "program headers", elf.e_phoff, elf.e_phnum * sizeof(headers[0]),
					   err);
	if (result == 0)
		result = loader_file_read(kernel, elf.e_phoff, headers, elf.e_phnum * sizeof(headers[0]), err);
	if (result < 0)
		return result;

	int found = 0;
	for (unsigned i = 0; result >= 0 && i < elf.e_phnum; i++) {
		if (headers[i].p_type == PT_LOAD)
			result = add_segment(kernel, &headers[i], image, err);
		else if (headers[i].p_type == PT_NOTE && !found)
			result = found = find_entry(kernel, &headers[i], &image->entry_gpa, err);
	}
	if (result < 0)
		return result;

	if (!found)
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: is an ELF file without a PVH entry note; rebuild it with CONFIG_PVH=y or "
				  "give the bzImage",
				  kernel->name);
	if (!entry_is_loaded(image, image->entry_gpa))
		return tenon_fail(err, -ENOEXEC,
				  "kernel %s: its PVH entry 0x%" PRIx64 " is outside what it loads; link it again",
				  kernel->name, image->entry_gpa);

	image->protocol = LOADER_PVH;
	image->initrd_end = LAYOUT_PCI32;
	image->cmdline_max = LAYOUT_CMDLINE_BYTES - 1;
	return 0;
}

int pvh_write_info(const struct loader_input *input, const struct loader_placement *placement)
{
	struct start_info_page *page = memory_at(input->memory, LAYOUT_PVH_INFO, sizeof(*page));
	if (!page)
		return -EFAULT;

	memset(page, 0, sizeof(*page));
	page->info = (struct start_info){
		.magic = START_INFO_MAGIC,
		.version = START_INFO_VERSION,
		.cmdline_gpa = LAYOUT_CMDLINE,
		.rsdp_gpa = input->rsdp_gpa,
		.ranges_gpa = LAYOUT_PVH_INFO + offsetof(struct start_info_page, ranges),
		.range_count = input->range_count,
	};
	if (placement->initrd_bytes) {
		page->info.module_count = 1;
		page->info.modules_gpa = LAYOUT_PVH_INFO + offsetof(struct start_info_page, initrd);
		page->initrd.gpa = placement->initrd_gpa;
		page->initrd.size_bytes = placement->initrd_bytes;
	}
	for (unsigned i = 0; i < input->range_count; i++) {
		const struct loader_range *range = &input->ranges[i];
		page->ranges[i] = (struct start_info_range){
			.gpa = range->gpa, .size_bytes = range->size_bytes, .type = range->type};
	}
	return 0;
}

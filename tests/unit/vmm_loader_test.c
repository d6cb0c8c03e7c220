/* SPDX-License-Identifier: MIT */
/* The loader on kernels made here: what is put where, and what each unusable or hostile file is told. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <asm/bootparam.h>

#include <criterion/criterion.h>

#include "layout.h"
#include "loader/loader.h"

#define MIB        (UINT64_C(1) << 20)
#define KERNEL_GPA (16 * MIB)
#define RSDP_GPA   LAYOUT_ACPI

/* ---- Files ---- */

/* A file of these bytes: a memfd, reached by a name. */
struct image {
	int fd;
	char name[32];
};

static struct image image_write(const void *bytes, size_t size)
{
	struct image image;
	image.fd = memfd_create("image", MFD_CLOEXEC);
	cr_assert_geq(image.fd, 0);
	cr_assert_eq(write(image.fd, bytes, size), (ssize_t)size);
	snprintf(image.name, sizeof(image.name), "/proc/self/fd/%d", image.fd);
	return image;
}

static uint8_t pattern(uint64_t offset)
{
	return (uint8_t)(offset * 7 + (offset >> 8) * 13 + 1);
}

static struct image image_of_pattern(uint64_t size)
{
	uint8_t *bytes = malloc(size);
	cr_assert_not_null(bytes);
	for (uint64_t i = 0; i < size; i++)
		bytes[i] = pattern(i);
	struct image image = image_write(bytes, size);
	free(bytes);
	return image;
}

static void expect_pattern(const struct memory *memory, uint64_t gpa, uint64_t first, uint64_t bytes)
{
	const uint8_t *hva = memory_at(memory, gpa, bytes);
	cr_assert_not_null(hva);
	for (uint64_t i = 0; i < bytes; i++)
		if (hva[i] != pattern(first + i))
			cr_assert_fail("byte %lu at gpa 0x%lx differs from the file's", (unsigned long)i,
				       (unsigned long)(gpa + i));
}

/* ---- A bzImage ---- */

#define SETUP_SECTS   UINT64_C(3)
#define PAYLOAD_AT    ((SETUP_SECTS + 1) * 512)
#define PAYLOAD_BYTES 8192

struct bzimage {
	uint8_t bytes[PAYLOAD_AT + PAYLOAD_BYTES];
};

static struct setup_header *setup_of(struct bzimage *kernel)
{
	return (struct setup_header *)(kernel->bytes + 0x1f1);
}

static struct bzimage bzimage_good(void)
{
	struct bzimage kernel;
	for (size_t i = 0; i < sizeof(kernel.bytes); i++)
		kernel.bytes[i] = i < PAYLOAD_AT ? 0xff : pattern(i - PAYLOAD_AT);

	*setup_of(&kernel) = (struct setup_header){
		.setup_sects = SETUP_SECTS,
		.syssize = PAYLOAD_BYTES / 16,
		.boot_flag = 0xaa55,
		.jump = 0x6aeb, /* the header ends at 0x202 + 0x6a */
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH | CAN_USE_HEAP,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 2 * MIB,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.setup_data = 0x1234,
		.pref_address = KERNEL_GPA,
		.init_size = 4 * MIB,
	};
	return kernel;
}

/* ---- An ELF kernel: two segments and a note ---- */

struct elf_kernel {
	Elf64_Ehdr header;
	Elf64_Phdr segments[3];
	uint8_t text[4096];
	uint8_t data[1000];
	struct {
		struct {
			Elf64_Nhdr header;
			char name[4];
			uint8_t value[4];
		} other;
		struct {
			Elf64_Nhdr header;
			char name[4];
			uint8_t value[8];
		} entry;
	} notes;
};

#define PVH_ENTRY         (KERNEL_GPA + 0x123)
#define DATA_GPA          (KERNEL_GPA + 2 * MIB)
#define DATA_MEMORY_BYTES 100000

static struct elf_kernel elf_good(void)
{
	struct elf_kernel kernel = {
		.header =
			{
				.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
				.e_type = ET_EXEC,
				.e_machine = EM_X86_64,
				.e_phoff = offsetof(struct elf_kernel, segments),
				.e_phentsize = sizeof(Elf64_Phdr),
				.e_phnum = 3,
			},
		.segments =
			{
				{.p_type = PT_LOAD,
				 .p_offset = offsetof(struct elf_kernel, text),
				 .p_paddr = KERNEL_GPA,
				 .p_filesz = sizeof(kernel.text),
				 .p_memsz = sizeof(kernel.text)},
				{.p_type = PT_LOAD,
				 .p_offset = offsetof(struct elf_kernel, data),
				 .p_paddr = DATA_GPA,
				 .p_filesz = sizeof(kernel.data),
				 .p_memsz = DATA_MEMORY_BYTES},
				{.p_type = PT_NOTE,
				 .p_offset = offsetof(struct elf_kernel, notes),
				 .p_align = 4,
				 .p_filesz = sizeof(kernel.notes),
				 .p_memsz = sizeof(kernel.notes)},
			},
		.notes =
			{
				.other = {.header = {.n_namesz = 4, .n_descsz = 1, .n_type = 18}, .name = "GNU"},
				.entry = {.header = {.n_namesz = 4, .n_descsz = 8, .n_type = 18}, .name = "Xen"},
			},
	};
	uint64_t entry = PVH_ENTRY;
	memcpy(kernel.notes.entry.value, &entry, sizeof(entry));
	for (size_t i = 0; i < sizeof(kernel.text); i++)
		kernel.text[i] = pattern(i);
	for (size_t i = 0; i < sizeof(kernel.data); i++)
		kernel.data[i] = pattern(i);
	return kernel;
}

/* ---- Running the loader ---- */

struct machine {
	struct memory memory;
	struct loader_files files;
	struct loader_range ranges[3];
	struct loader_entry entry;
	struct tenon_error err;
};

static void machine_open(struct machine *machine, const struct image *kernel, const struct image *initrd,
			 const char *cmdline)
{
	int result =
		loader_files_init(&machine->files, kernel->name, initrd ? initrd->name : NULL, cmdline, &machine->err);
	cr_assert_eq(result, 0, "%s", machine->err.message);
}

static void machine_memory(struct machine *machine, uint64_t bytes)
{
	struct memory_options options = {.size_bytes = bytes};
	cr_assert_eq(memory_create(&options, &machine->memory, &machine->err), 0, "%s", machine->err.message);
	machine->ranges[0] = (struct loader_range){0, LAYOUT_LOW_RAM_END, 1};
	machine->ranges[1] = (struct loader_range){LAYOUT_ACPI, LAYOUT_ACPI_BYTES, 3};
	machine->ranges[2] = (struct loader_range){LAYOUT_HIGH_RAM, bytes - LAYOUT_HIGH_RAM, 1};
}

static int machine_load(struct machine *machine)
{
	struct loader_input input = {
		.files = &machine->files,
		.memory = &machine->memory,
		.ranges = machine->ranges,
		.range_count = 3,
		.rsdp_gpa = RSDP_GPA,
	};
	return loader_load(&input, &machine->entry, &machine->err);
}

static void machine_close(struct machine *machine)
{
	loader_files_finish(&machine->files);
	memory_destroy(&machine->memory);
}

static void expect_refusal(const void *bytes, size_t size, const char *message)
{
	struct image kernel = image_write(bytes, size);
	struct loader_files files = {.cmdline = "untouched"};
	struct tenon_error err = {0};
	int result = loader_files_init(&files, kernel.name, NULL, "", &err);
	cr_expect_lt(result, 0, "not refused, though expected: %s", message);
	cr_expect_eq(result, err.code);
	cr_expect(strstr(err.message, message), "expected: %s; said: %s", message, err.message);
	cr_expect_null(strchr(err.message, '\n'));
	cr_expect_str_eq(files.cmdline, "untouched");
	if (result == 0)
		loader_files_finish(&files);
	close(kernel.fd);
}

/* ---- bzImage ---- */

Test(bzimage, payload_and_parameters_are_where_the_protocol_wants_them)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct image initrd = image_of_pattern(10000);
	struct machine machine = {0};
	machine_open(&machine, &kernel, &initrd, "console=ttyS0 quiet");
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);

	cr_expect_eq(machine.entry.protocol, LOADER_LINUX64);
	cr_expect_eq(machine.entry.entry_gpa, KERNEL_GPA + 0x200);
	cr_expect_eq(machine.entry.info_gpa, LAYOUT_BOOT_PARAMS);
	cr_expect_eq(machine.entry.kernel_first, KERNEL_GPA);
	cr_expect_eq(machine.entry.kernel_last, KERNEL_GPA + 4 * MIB - 1);
	expect_pattern(&machine.memory, KERNEL_GPA, 0, PAYLOAD_BYTES);

	/* 10000 bytes below 64 MiB, aligned down to a page. */
	cr_expect_eq(machine.entry.initrd_first, 64 * MIB - 12288);
	cr_expect_eq(machine.entry.initrd_last, 64 * MIB - 12288 + 9999);
	expect_pattern(&machine.memory, machine.entry.initrd_first, 0, 10000);

	const struct boot_params *params = memory_at(&machine.memory, LAYOUT_BOOT_PARAMS, sizeof(*params));
	cr_expect_eq(params->hdr.type_of_loader, 0xff);
	cr_expect_eq(params->hdr.loadflags, LOADED_HIGH);
	cr_expect_eq(params->hdr.cmd_line_ptr, LAYOUT_CMDLINE);
	cr_expect_eq(params->hdr.ramdisk_image, machine.entry.initrd_first);
	cr_expect_eq(params->hdr.ramdisk_size, 10000);
	cr_expect_eq(params->hdr.code32_start, KERNEL_GPA);
	cr_expect_eq(params->hdr.setup_data, 0);
	cr_expect_eq(params->hdr.init_size, 4 * MIB, "the kernel reads its own header's fields back");
	cr_expect_eq(params->acpi_rsdp_addr, RSDP_GPA);
	cr_expect_eq(params->sentinel, 0, "else the kernel distrusts all the rest");
	cr_expect_eq(params->screen_info.orig_video_isVGA, 0);
	cr_expect_str_eq(memory_at(&machine.memory, LAYOUT_CMDLINE, 64), "console=ttyS0 quiet");

	cr_expect_eq(params->e820_entries, 3);
	for (unsigned i = 0; i < 3; i++) {
		cr_expect_eq(params->e820_table[i].addr, machine.ranges[i].gpa);
		cr_expect_eq(params->e820_table[i].size, machine.ranges[i].size_bytes);
		cr_expect_eq(params->e820_table[i].type, machine.ranges[i].type);
	}
	machine_close(&machine);
}

Test(bzimage, no_setup_sectors_means_four)
{
	struct bzimage good = bzimage_good();
	struct setup_header *setup = setup_of(&good);
	setup->setup_sects = 0;
	setup->syssize = (PAYLOAD_BYTES - 512) / 16;
	struct image kernel = image_write(&good, sizeof(good));
	struct machine machine = {0};
	machine_open(&machine, &kernel, NULL, "");
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
	expect_pattern(&machine.memory, KERNEL_GPA, 512, PAYLOAD_BYTES - 512);
	machine_close(&machine);
}

Test(bzimage, preferred_address_is_aligned_up_and_never_low)
{
	static const struct {
		uint64_t preferred;
		uint32_t alignment;
		uint64_t expected;
	} cases[] = {
		{16 * MIB + 1, 2 * MIB, 18 * MIB},
		{0, 2 * MIB, 2 * MIB},
		{0, 4096, 1 * MIB},
		{3 * MIB, 16 * MIB, 16 * MIB},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bzimage good = bzimage_good();
		setup_of(&good)->pref_address = cases[i].preferred;
		setup_of(&good)->kernel_alignment = cases[i].alignment;
		struct image kernel = image_write(&good, sizeof(good));
		struct machine machine = {0};
		machine_open(&machine, &kernel, NULL, "");
		machine_memory(&machine, 64 * MIB);
		cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
		cr_expect_eq(machine.entry.kernel_first, cases[i].expected, "case %zu", i);
		machine_close(&machine);
		close(kernel.fd);
	}
}

Test(bzimage, bytes_after_the_promised_size_are_not_loaded)
{
	/* As a signed kernel has them. */
	struct bzimage good = bzimage_good();
	setup_of(&good)->syssize = 4096 / 16;
	struct image kernel = image_write(&good, sizeof(good));
	struct machine machine = {0};
	machine_open(&machine, &kernel, NULL, "");
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
	expect_pattern(&machine.memory, KERNEL_GPA, 0, 4096);
	cr_expect_eq(*(uint8_t *)memory_at(&machine.memory, KERNEL_GPA + 4096, 1), 0);
	machine_close(&machine);
}

Test(bzimage, each_unusable_kernel_is_told_why)
{
	struct bzimage kernel = bzimage_good();
	setup_of(&kernel)->loadflags = 0;
	expect_refusal(&kernel, sizeof(kernel), "is a zImage");

	kernel = bzimage_good();
	setup_of(&kernel)->version = 0x020b;
	expect_refusal(&kernel, sizeof(kernel), "speaks boot protocol 2.11; give one of Linux 3.8 or later");

	kernel = bzimage_good();
	setup_of(&kernel)->xloadflags = 0;
	expect_refusal(&kernel, sizeof(kernel), "is a 32-bit kernel");

	kernel = bzimage_good();
	setup_of(&kernel)->jump = 0x3feb;
	expect_refusal(&kernel, sizeof(kernel), "setup header ends at byte 0x241");

	kernel = bzimage_good();
	expect_refusal(&kernel, sizeof(kernel) - 1, "truncated: its header promises 10240 bytes, the file has 10239");
	expect_refusal(&kernel, 1024, "truncated: its header promises 10240 bytes, the file has 1024");

	kernel = bzimage_good();
	setup_of(&kernel)->syssize = 0;
	expect_refusal(&kernel, sizeof(kernel), "promises 0 bytes of code");

	kernel = bzimage_good();
	setup_of(&kernel)->header = 0;
	expect_refusal(&kernel, sizeof(kernel), "is a boot sector or disk image");
}

Test(bzimage, hostile_headers_are_refused)
{
	struct bzimage kernel = bzimage_good();
	setup_of(&kernel)->syssize = UINT32_MAX;
	expect_refusal(&kernel, sizeof(kernel), "truncated: its header promises 68719478768 bytes");

	kernel = bzimage_good();
	setup_of(&kernel)->kernel_alignment = 0;
	expect_refusal(&kernel, sizeof(kernel), "alignment 0x0, which is no power of two");

	kernel = bzimage_good();
	setup_of(&kernel)->kernel_alignment = 0x300000;
	expect_refusal(&kernel, sizeof(kernel), "alignment 0x300000, which is no power of two");

	kernel = bzimage_good();
	setup_of(&kernel)->pref_address = UINT64_MAX;
	expect_refusal(
		&kernel, sizeof(kernel),
		"wants 0x400000 bytes at 0xffffffffffffffff, which do not fit below the PCI window at 0xc0000000");

	kernel = bzimage_good();
	setup_of(&kernel)->pref_address = LAYOUT_PCI32 - 1;
	setup_of(&kernel)->kernel_alignment = 0x80000000u;
	expect_refusal(&kernel, sizeof(kernel), "at 0x100000000, which do not fit");

	kernel = bzimage_good();
	setup_of(&kernel)->init_size = UINT32_MAX;
	expect_refusal(&kernel, sizeof(kernel), "wants 0xffffffff bytes at 0x1000000");

	kernel = bzimage_good();
	setup_of(&kernel)->jump = 0xffeb;
	struct image image = image_write(&kernel, sizeof(kernel));
	struct machine machine = {0};
	machine_open(&machine, &image, NULL, "");
	machine_memory(&machine, 64 * MIB);
	cr_expect_eq(machine_load(&machine), 0);
	const struct boot_params *params = memory_at(&machine.memory, LAYOUT_BOOT_PARAMS, sizeof(*params));
	cr_expect_eq(params->e820_table[0].size, LAYOUT_LOW_RAM_END,
		     "a header that claims to be long overwrites nothing");
	cr_expect_eq(params->edd_mbr_sig_buffer[0], 0);
	machine_close(&machine);
}

Test(bzimage, a_payload_larger_than_init_size_is_kept_clear_of_the_initrd)
{
	struct bzimage good = bzimage_good();
	setup_of(&good)->init_size = 16;
	struct image kernel = image_write(&good, sizeof(good));
	struct machine machine = {0};
	machine_open(&machine, &kernel, NULL, "");
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0);
	cr_expect_eq(machine.entry.kernel_last, KERNEL_GPA + PAYLOAD_BYTES - 1);
	machine_close(&machine);
}

Test(bzimage, command_line_may_be_as_long_as_the_kernel_takes)
{
	struct bzimage good = bzimage_good();
	setup_of(&good)->cmdline_size = 20;
	struct image kernel = image_write(&good, sizeof(good));
	struct loader_files files;
	struct tenon_error err = {0};
	cr_expect_eq(loader_files_init(&files, kernel.name, NULL, "12345678901234567890", &err), 0);
	loader_files_finish(&files);
	cr_expect_eq(loader_files_init(&files, kernel.name, NULL, "123456789012345678901", &err), -E2BIG);
	cr_expect(strstr(err.message, "command line: 21 characters, but kernel /proc/self/fd/"), "%s", err.message);
	cr_expect(strstr(err.message, " takes 20; shorten it"), "%s", err.message);
}

/* ---- PVH ---- */

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, ranges;
	uint32_t range_count, reserved;
};

Test(pvh, segments_and_start_info_are_where_the_abi_wants_them)
{
	struct elf_kernel good = elf_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct image initrd = image_of_pattern(5000);
	struct machine machine = {0};
	machine_open(&machine, &kernel, &initrd, "root=/dev/vda");
	machine_memory(&machine, 64 * MIB);
	memset(memory_at(&machine.memory, DATA_GPA, DATA_MEMORY_BYTES), 0xee, DATA_MEMORY_BYTES);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);

	cr_expect_eq(machine.entry.protocol, LOADER_PVH);
	cr_expect_eq(machine.entry.entry_gpa, PVH_ENTRY);
	cr_expect_eq(machine.entry.info_gpa, LAYOUT_PVH_INFO);
	cr_expect_eq(machine.entry.kernel_first, KERNEL_GPA);
	cr_expect_eq(machine.entry.kernel_last, DATA_GPA + DATA_MEMORY_BYTES - 1);
	expect_pattern(&machine.memory, KERNEL_GPA, 0, sizeof(good.text));
	expect_pattern(&machine.memory, DATA_GPA, 0, sizeof(good.data));
	const uint8_t *rest =
		memory_at(&machine.memory, DATA_GPA + sizeof(good.data), DATA_MEMORY_BYTES - sizeof(good.data));
	for (size_t i = 0; i < DATA_MEMORY_BYTES - sizeof(good.data); i++)
		if (rest[i])
			cr_assert_fail("byte %zu after the file's is not zero", i);

	const struct start_info *info = memory_at(&machine.memory, LAYOUT_PVH_INFO, sizeof(*info));
	cr_expect_eq(info->magic, 0x336ec578);
	cr_expect_eq(info->version, 1);
	cr_expect_eq(info->flags, 0);
	cr_expect_eq(info->cmdline, LAYOUT_CMDLINE);
	cr_expect_eq(info->rsdp, RSDP_GPA);
	cr_expect_str_eq(memory_at(&machine.memory, LAYOUT_CMDLINE, 64), "root=/dev/vda");

	cr_assert_eq(info->module_count, 1);
	const uint64_t *module = memory_at(&machine.memory, info->modules, 32);
	cr_expect_eq(module[0], machine.entry.initrd_first);
	cr_expect_eq(module[1], 5000);
	cr_expect_eq(module[2], 0);
	expect_pattern(&machine.memory, module[0], 0, 5000);

	cr_assert_eq(info->range_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t *range = memory_at(&machine.memory, info->ranges + UINT64_C(24) * i, 24);
		cr_expect_eq(range[0], machine.ranges[i].gpa);
		cr_expect_eq(range[1], machine.ranges[i].size_bytes);
		cr_expect_eq(range[2], machine.ranges[i].type, "type, and a reserved zero above it");
	}
	machine_close(&machine);
}

Test(pvh, without_initrd_there_is_no_module)
{
	struct elf_kernel good = elf_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct machine machine = {0};
	machine_open(&machine, &kernel, NULL, "");
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0);
	const struct start_info *info = memory_at(&machine.memory, LAYOUT_PVH_INFO, sizeof(*info));
	cr_expect_eq(info->module_count, 0);
	cr_expect_eq(info->modules, 0);
	cr_expect_eq(machine.entry.initrd_first, 0);
	cr_expect_eq(machine.entry.initrd_last, 0);
	machine_close(&machine);
}

Test(pvh, an_entry_of_four_bytes_is_understood)
{
	struct elf_kernel good = elf_good();
	good.notes.entry.header.n_descsz = 4;
	memset(good.notes.entry.value + 4, 0xff, 4);
	struct image kernel = image_write(&good, sizeof(good));
	struct machine machine = {0};
	machine_open(&machine, &kernel, NULL, "");
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0);
	cr_expect_eq(machine.entry.entry_gpa, PVH_ENTRY);
	machine_close(&machine);
}

Test(pvh, each_unusable_kernel_is_told_why)
{
	struct elf_kernel kernel = elf_good();
	kernel.header.e_machine = EM_AARCH64;
	expect_refusal(&kernel, sizeof(kernel), "is an ELF file for another machine (number 183)");

	kernel = elf_good();
	kernel.header.e_ident[EI_CLASS] = ELFCLASS32;
	kernel.header.e_machine = EM_386;
	expect_refusal(&kernel, sizeof(kernel), "is a 32-bit ELF file; an x86-64 one is needed");

	kernel = elf_good();
	kernel.header.e_type = ET_REL;
	expect_refusal(&kernel, sizeof(kernel), "is an ELF file that is not linked (type 1); is it a module?");

	kernel = elf_good();
	kernel.segments[2].p_type = PT_NULL;
	expect_refusal(&kernel, sizeof(kernel),
		       "is an ELF file without a PVH entry note; rebuild it with CONFIG_PVH=y or give the bzImage");

	kernel = elf_good();
	kernel.notes.entry.header.n_type = 19;
	expect_refusal(&kernel, sizeof(kernel), "without a PVH entry note");

	kernel = elf_good();
	memcpy(kernel.notes.entry.name, "Xem", 4);
	expect_refusal(&kernel, sizeof(kernel), "without a PVH entry note");

	kernel = elf_good();
	expect_refusal(&kernel, 40, "truncated: it ends within its ELF header");
	expect_refusal(&kernel, sizeof(kernel.header) + 20,
		       "truncated: its headers promise 168 bytes of program headers at byte 64, the file has 84");
	expect_refusal(&kernel, offsetof(struct elf_kernel, data),
		       "truncated: its headers promise 1000 bytes of a segment");
	expect_refusal(&kernel, offsetof(struct elf_kernel, notes), "bytes of notes at byte");
}

static void expect_elf_refusal(void (*spoil)(struct elf_kernel *), const char *message)
{
	struct elf_kernel kernel = elf_good();
	spoil(&kernel);
	expect_refusal(&kernel, sizeof(kernel), message);
}

static void no_program_headers(struct elf_kernel *kernel)
{
	kernel->header.e_phnum = 0;
}
static void many_program_headers(struct elf_kernel *kernel)
{
	kernel->header.e_phnum = 0xffff;
}
static void odd_program_headers(struct elf_kernel *kernel)
{
	kernel->header.e_phentsize = 1;
}
static void program_headers_far_away(struct elf_kernel *kernel)
{
	kernel->header.e_phoff = UINT64_MAX - 8;
}
static void offset_overflows(struct elf_kernel *kernel)
{
	kernel->segments[0].p_offset = UINT64_MAX - 100;
}
static void file_size_overflows(struct elf_kernel *kernel)
{
	kernel->segments[0].p_filesz = UINT64_MAX;
	kernel->segments[0].p_memsz = UINT64_MAX;
}
static void memory_smaller_than_file(struct elf_kernel *kernel)
{
	kernel->segments[0].p_memsz = 100;
}
static void address_in_the_first_megabyte(struct elf_kernel *kernel)
{
	kernel->segments[0].p_paddr = LAYOUT_PAGE_TABLES;
}
static void address_in_the_hole(struct elf_kernel *kernel)
{
	kernel->segments[0].p_paddr = LAYOUT_LAPIC;
}
static void address_overflows(struct elf_kernel *kernel)
{
	kernel->segments[0].p_paddr = UINT64_MAX - 10;
}
static void memory_reaches_into_the_hole(struct elf_kernel *kernel)
{
	kernel->segments[1].p_memsz = LAYOUT_PCI32;
}
static void memory_overflows(struct elf_kernel *kernel)
{
	kernel->segments[1].p_memsz = UINT64_MAX - DATA_GPA + 2;
}
static void entry_in_zeroed_memory(struct elf_kernel *kernel)
{
	uint64_t entry = DATA_GPA + 1000;
	memcpy(kernel->notes.entry.value, &entry, sizeof(entry));
}
static void entry_above_4_gib(struct elf_kernel *kernel)
{
	uint64_t entry = PVH_ENTRY + (UINT64_C(1) << 32);
	memcpy(kernel->notes.entry.value, &entry, sizeof(entry));
}
static void note_sizes_overflow(struct elf_kernel *kernel)
{
	kernel->notes.other.header.n_namesz = UINT32_MAX;
	kernel->notes.other.header.n_descsz = UINT32_MAX;
}
static void note_value_outside(struct elf_kernel *kernel)
{
	kernel->segments[2].p_filesz -= 4;
}
static void note_value_of_odd_size(struct elf_kernel *kernel)
{
	kernel->notes.entry.header.n_descsz = 5;
}

Test(pvh, hostile_headers_are_refused)
{
	expect_elf_refusal(no_program_headers, "has 0 program headers of 56 bytes");
	expect_elf_refusal(many_program_headers, "has 65535 program headers of 56 bytes; 1 to 64 of 56 are understood");
	expect_elf_refusal(odd_program_headers, "has 3 program headers of 1 bytes");
	expect_elf_refusal(program_headers_far_away, "truncated: its headers promise 168 bytes of program headers");
	expect_elf_refusal(offset_overflows,
			   "truncated: its headers promise 4096 bytes of a segment at byte 18446744073709551515");
	expect_elf_refusal(file_size_overflows,
			   "truncated: its headers promise 18446744073709551615 bytes of a segment");
	expect_elf_refusal(memory_smaller_than_file, "more bytes in the file (4096) than in memory (100)");
	expect_elf_refusal(address_in_the_first_megabyte,
			   "at 0x9000; a kernel goes between 0x100000 and the PCI window at 0xc0000000");
	expect_elf_refusal(address_in_the_hole, "at 0xfee00000; a kernel goes between");
	expect_elf_refusal(address_overflows, "at 0xfffffffffffffff5; a kernel goes between");
	expect_elf_refusal(memory_reaches_into_the_hole, "wants 0xc0000000 bytes at 0x1200000");
	expect_elf_refusal(memory_overflows, "bytes at 0x1200000; a kernel goes between");
	expect_elf_refusal(entry_in_zeroed_memory, "its PVH entry 0x12003e8 is outside what it loads");
	expect_elf_refusal(entry_above_4_gib, "its PVH entry 0x101000123 is outside what it loads");
	expect_elf_refusal(note_sizes_overflow, "without a PVH entry note");
	expect_elf_refusal(note_value_outside, "without a PVH entry note");
	expect_elf_refusal(note_value_of_odd_size, "without a PVH entry note");
}

Test(pvh, more_segments_than_any_kernel_has_are_refused)
{
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segments[20];
	} kernel = {.header = elf_good().header};
	kernel.header.e_phoff = sizeof(kernel.header);
	kernel.header.e_phnum = 20;
	for (unsigned i = 0; i < 20; i++)
		kernel.segments[i] = (Elf64_Phdr){.p_type = PT_LOAD, .p_paddr = KERNEL_GPA, .p_memsz = 4096};
	expect_refusal(&kernel, sizeof(kernel), "has more than 16 segments to load");
}

Test(pvh, endless_notes_end)
{
	/* A megabyte of empty notes: the search gives up rather than read them one by one. */
	size_t size = sizeof(struct elf_kernel) + MIB;
	struct elf_kernel *kernel = calloc(1, size);
	cr_assert_not_null(kernel);
	*kernel = elf_good();
	kernel->notes.entry.header.n_type = 1;
	kernel->segments[2].p_filesz = sizeof(kernel->notes) + MIB;
	expect_refusal(kernel, size, "without a PVH entry note");
	free(kernel);
}

/* ---- Files that are no kernel ---- */

Test(loader_files, what_is_no_kernel_is_told_what_it_looks_like)
{
	static const struct {
		const char *bytes;
		size_t size;
		const char *message;
	} cases[] = {
		{"\x1f\x8b\x08\x00\x00", 5, "is gzip-compressed; unpack it with gunzip first"},
		{"\xfd"
		 "7zXZ\x00",
		 6, "is xz-compressed"},
		{"\x28\xb5\x2f\xfd\x00", 5, "is zstd-compressed"},
		{"BZh91AY", 7, "is bzip2-compressed"},
		{"\x02\x21\x4c\x18", 4, "is lz4-compressed"},
		{"070701000", 9, "is a cpio archive; give it as the initrd"},
		{"#!/bin/sh\n", 10, "is a script"},
		{"MZ\x90\x00\x03", 5, "is an EFI program without Linux's setup header"},
		{"hello world", 11, "is neither a bzImage nor an ELF file: it starts with bytes 68 65 6c 6c"},
		{"x", 1, "is only 1 bytes long"},
		{"\x7f"
		 "EL",
		 3, "is only 3 bytes long"},
		{"\x7f"
		 "ELF",
		 4, "truncated: it ends within its ELF header"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		expect_refusal(cases[i].bytes, cases[i].size, cases[i].message);

	uint8_t arm[64] = {[0] = 'M', [1] = 'Z', [56] = 'A', [57] = 'R', [58] = 'M', [59] = 0x64};
	expect_refusal(arm, sizeof(arm), "is a kernel for arm64; an x86-64 one is needed");
}

static void expect_open_refusal(const char *kernel, const char *initrd, int code, const char *message)
{
	struct loader_files files;
	struct tenon_error err = {0};
	cr_expect_eq(loader_files_init(&files, kernel, initrd, "", &err), code, "%s", message);
	cr_expect(strstr(err.message, message), "expected: %s; said: %s", message, err.message);
}

Test(loader_files, what_cannot_be_read_is_refused)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct image empty = image_write("", 0);
	int pipe_fds[2];
	char pipe_name[32];
	cr_assert_eq(pipe(pipe_fds), 0);
	snprintf(pipe_name, sizeof(pipe_name), "/proc/self/fd/%d", pipe_fds[0]);

	expect_open_refusal("/nonexistent", NULL, -ENOENT,
			    "kernel /nonexistent: cannot open: No such file or directory");
	expect_open_refusal("/", NULL, -EISDIR, "kernel /: is a directory");
	expect_open_refusal("/dev/null", NULL, -EINVAL, "kernel /dev/null: is not a regular file");
	expect_open_refusal(pipe_name, NULL, -EINVAL,
			    "is not a regular file; a guest reset must be able to read it again");
	expect_open_refusal(empty.name, NULL, -ENOEXEC, ": is empty");
	expect_open_refusal(kernel.name, "/nonexistent", -ENOENT,
			    "initrd /nonexistent: cannot open: No such file or directory");
	expect_open_refusal(kernel.name, "/", -EISDIR, "initrd /: is a directory");
	expect_open_refusal(kernel.name, empty.name, -ENOEXEC, "initrd /proc/self/fd/");
}

Test(loader_files, finishing_what_was_never_opened_is_harmless)
{
	struct loader_files files = {0};
	loader_files_finish(&files);
	cr_expect_geq(fcntl(STDERR_FILENO, F_GETFD), 0);
}

/* ---- For a firmware ---- */

Test(loader, firmware_gets_the_kernel_in_place_and_writes_the_parameters_itself)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct machine machine = {0};
	machine_open(&machine, &kernel, NULL, "quiet");
	machine_memory(&machine, 64 * MIB);
	memset(machine.memory.hva, 0xa5, LAYOUT_HIGH_RAM);
	const struct loader_input input = {
		.files = &machine.files, .memory = &machine.memory, .rsdp_gpa = RSDP_GPA, .without_parameters = true};
	cr_assert_eq(loader_load(&input, &machine.entry, &machine.err), 0, "%s", machine.err.message);
	cr_expect_neq(memory_at(&machine.memory, machine.entry.kernel_first, 1), NULL);
	for (unsigned at = 0; at < LAYOUT_HIGH_RAM; at++)
		cr_assert_eq(machine.memory.hva[at], 0xa5, "something was written to 0x%x", at);
	size_t bytes;
	const uint8_t *header = loader_setup_header(&machine.files, &bytes);
	cr_assert_not_null(header);
	cr_expect_arr_eq(header, (const uint8_t *)&good + 0x1f1, 0x264 - 0x1f1);
	cr_expect_leq(bytes, 0x290 - 0x1f1);
	machine_close(&machine);
}

/* ---- Placement ---- */

Test(loader, memory_needed_is_enough_and_less_is_refused_with_that_number)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct image initrd = image_of_pattern(3 * MIB + 1);
	struct machine machine = {0};
	machine_open(&machine, &kernel, &initrd, "");
	/* 16 MiB + 4 MiB of kernel, 3 MiB and a page of initrd, up to 2 MiB. */
	cr_assert_eq(loader_memory_needed(&machine.files), 24 * MIB);

	machine_memory(&machine, 24 * MIB);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
	cr_expect_gt(machine.entry.initrd_first, machine.entry.kernel_last);
	memory_destroy(&machine.memory);

	machine_memory(&machine, 22 * MIB);
	cr_expect_eq(machine_load(&machine), -ENOSPC);
	cr_expect(strstr(machine.err.message, "3145729 bytes do not fit between the kernel's end at 0x1400000 and "
					      "RAM's at 0x1600000; give the guest at least --memory 24M"),
		  "%s", machine.err.message);
	memory_destroy(&machine.memory);

	machine_memory(&machine, 18 * MIB);
	cr_expect_eq(machine_load(&machine), -ENOSPC);
	cr_expect(strstr(machine.err.message,
			 "needs RAM up to 0x1400000, the guest's ends at 0x1200000; give it at least --memory 24M"),
		  "%s", machine.err.message);
	machine_close(&machine);
}

Test(loader, an_initrd_that_fits_exactly_is_taken)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct image initrd = image_of_pattern(4 * MIB);
	struct machine machine = {0};
	machine_open(&machine, &kernel, &initrd, "");
	machine_memory(&machine, 24 * MIB);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
	cr_expect_eq(machine.entry.initrd_first, 20 * MIB);
	cr_expect_eq(machine.entry.initrd_last, 24 * MIB - 1);
	machine_close(&machine);
}

Test(loader, an_old_kernels_initrd_limit_is_kept)
{
	struct bzimage good = bzimage_good();
	setup_of(&good)->xloadflags = XLF_KERNEL_64;
	setup_of(&good)->initrd_addr_max = 0x1ffffff; /* the last byte below 32 MiB */
	struct image kernel = image_write(&good, sizeof(good));
	struct image initrd = image_of_pattern(4096);
	struct machine machine = {0};
	machine_open(&machine, &kernel, &initrd, "");
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
	cr_expect_eq(machine.entry.initrd_first, 32 * MIB - 4096);
	machine_close(&machine);
	close(initrd.fd);

	initrd = image_of_pattern(13 * MIB);
	machine_open(&machine, &kernel, &initrd, "");
	machine_memory(&machine, 64 * MIB);
	cr_expect_eq(machine_load(&machine), -ENOSPC);
	cr_expect(strstr(machine.err.message,
			 "and 0x2000000, the highest address this kernel takes one at; make it smaller"),
		  "%s", machine.err.message);
	machine_close(&machine);
}

Test(loader, an_initrd_limit_below_the_kernel_is_refused)
{
	struct bzimage good = bzimage_good();
	setup_of(&good)->xloadflags = XLF_KERNEL_64;
	setup_of(&good)->initrd_addr_max = 0;
	struct image kernel = image_write(&good, sizeof(good));
	struct image initrd = image_of_pattern(16);
	struct machine machine = {0};
	machine_open(&machine, &kernel, &initrd, "");
	machine_memory(&machine, 64 * MIB);
	cr_expect_eq(machine_load(&machine), -ENOSPC);
	machine_close(&machine);
}

Test(loader, the_initrd_stays_below_the_hole_of_a_large_guest)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct image initrd = image_of_pattern(4096);
	struct machine machine = {0};
	machine_open(&machine, &kernel, &initrd, "");
	machine_memory(&machine, 8192 * MIB);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
	cr_expect_eq(machine.entry.initrd_first, LAYOUT_PCI32 - 4096);
	machine_close(&machine);
}

Test(loader, too_many_ranges_are_refused)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct machine machine = {0};
	struct loader_range ranges[LOADER_RANGES_MAX + 1] = {{0}};
	machine_open(&machine, &kernel, NULL, "");
	machine_memory(&machine, 64 * MIB);
	struct loader_input input = {.files = &machine.files,
				     .memory = &machine.memory,
				     .ranges = ranges,
				     .range_count = LOADER_RANGES_MAX + 1};
	cr_expect_eq(loader_load(&input, &machine.entry, &machine.err), -EINVAL);
	input.range_count = LOADER_RANGES_MAX;
	cr_expect_eq(loader_load(&input, &machine.entry, &machine.err), 0);
	machine_close(&machine);
}

/* ---- Files that change ---- */

Test(loader, a_reset_loads_the_same_again)
{
	struct elf_kernel good = elf_good();
	char name[] = "/tmp/loader-test-XXXXXX";
	int fd = mkstemp(name);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, &good, sizeof(good)), (ssize_t)sizeof(good));
	close(fd);

	struct machine machine = {0};
	struct image kernel = {0};
	snprintf(kernel.name, sizeof(kernel.name), "%s", name);
	machine_open(&machine, &kernel, NULL, "first boot");
	unlink(name);
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0);
	struct loader_entry first = machine.entry;

	memset(machine.memory.hva, 0x5a, 64 * MIB);
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
	cr_expect_eq(first.entry_gpa, machine.entry.entry_gpa);
	cr_expect_eq(first.kernel_first, machine.entry.kernel_first);
	cr_expect_eq(first.kernel_last, machine.entry.kernel_last);
	expect_pattern(&machine.memory, KERNEL_GPA, 0, sizeof(good.text));
	expect_pattern(&machine.memory, DATA_GPA, 0, sizeof(good.data));
	cr_expect_eq(*(uint8_t *)memory_at(&machine.memory, DATA_GPA + DATA_MEMORY_BYTES - 1, 1), 0);
	cr_expect_eq(*(uint8_t *)memory_at(&machine.memory, DATA_GPA + DATA_MEMORY_BYTES, 1), 0x5a);
	machine_close(&machine);
}

Test(loader, a_file_truncated_meanwhile_is_an_error_and_not_a_crash)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct image initrd = image_of_pattern(100000);
	struct machine machine = {0};
	machine_open(&machine, &kernel, &initrd, "");
	machine_memory(&machine, 64 * MIB);
	cr_assert_eq(ftruncate(initrd.fd, 50000), 0);
	cr_expect_eq(machine_load(&machine), -EIO);
	cr_expect(strstr(machine.err.message, "ends at byte 50000, it had 100000 when it was opened"), "%s",
		  machine.err.message);
	cr_assert_eq(ftruncate(kernel.fd, 0), 0);
	cr_expect_eq(machine_load(&machine), -EIO);
	machine_close(&machine);
}

Test(loader, a_header_rewritten_meanwhile_moves_nothing)
{
	struct bzimage good = bzimage_good();
	struct image kernel = image_write(&good, sizeof(good));
	struct machine machine = {0};
	machine_open(&machine, &kernel, NULL, "");
	machine_memory(&machine, 64 * MIB);
	setup_of(&good)->pref_address = LAYOUT_LAPIC;
	setup_of(&good)->syssize = UINT32_MAX;
	cr_assert_eq(pwrite(kernel.fd, &good, sizeof(good), 0), (ssize_t)sizeof(good));
	cr_assert_eq(machine_load(&machine), 0);
	cr_expect_eq(machine.entry.kernel_first, KERNEL_GPA);
	machine_close(&machine);
}

/* ---- A real kernel ---- */

Test(loader, a_kernel_from_the_lab_loads)
{
	const char *name = getenv("TENON_LAB_KERNEL");
	if (!name)
		cr_skip_test("TENON_LAB_KERNEL names no bzImage or vmlinux");
	struct machine machine = {0};
	cr_assert_eq(loader_files_init(&machine.files, name, NULL, "console=ttyS0", &machine.err), 0, "%s",
		     machine.err.message);
	machine_memory(&machine, loader_memory_needed(&machine.files));
	cr_assert_eq(machine_load(&machine), 0, "%s", machine.err.message);
	cr_expect_not_null(memory_at(&machine.memory, machine.entry.entry_gpa, 16));
	machine_close(&machine);
}

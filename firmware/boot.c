// SPDX-License-Identifier: MIT
/*
 * mode=boot: starts the kernel that the VMM has put into RAM. It finds what it finds without a firmware, but for PCI, which is
 * configured as this firmware has done it. Linux: Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"; PVH: Xen docs/misc/pvh.pandoc.
 */
#include <string.h>

#include "console.h"
#include "cpu.h"
#include "interrupts.h"
#include "modes.h"
#include "pci.h"

void enter_linux64(uint64_t entry, uint64_t boot_params) __attribute__((noreturn));
void enter_pvh(uint64_t entry, uint64_t start_info) __attribute__((noreturn));

#define MAP_MAX      32
#define MAP_RAM      1
#define MAP_RESERVED 2

/* Offsets in boot_params; from SETUP_HEADER on they are those of the bzImage's header. */
#define PARAMS_BYTES      4096
#define PARAMS_RSDP       0x070
#define PARAMS_MAP_COUNT  0x1e8
#define SETUP_HEADER      0x1f1
#define SETUP_VIDEO_MODE  0x1fa
#define SETUP_LOADER      0x210
#define SETUP_FLAGS       0x211
#define SETUP_CODE32      0x214
#define SETUP_INITRD      0x218
#define SETUP_INITRD_SIZE 0x21c
#define SETUP_CMDLINE     0x228
#define SETUP_DATA        0x250
#define PARAMS_MAP        0x2d0
#define MAP_ENTRY_BYTES   20
#define ENTRY64           0x200 /* of the 64-bit entry, from the kernel's start */

#define VIDEO_NORMAL   0xffff
#define LOADER_UNKNOWN 0xff
#define USES_HEAP      0x80

/* hvm_start_info and what it points to, one page */
#define INFO_MAGIC     0x336ec578
#define INFO_MODULE    64
#define INFO_MAP       128
#define INFO_MAP_BYTES 24

struct map_entry {
	uint64_t first, bytes;
	uint32_t type;
};

static struct map_entry map[MAP_MAX];
static unsigned map_count;

static void add_entry(uint64_t first, uint64_t end, uint32_t type)
{
	if (end <= first || map_count == MAP_MAX)
		return;
	unsigned at = map_count++;
	for (; at > 0 && map[at - 1].first > first; at--)
		map[at] = map[at - 1];
	map[at] = (struct map_entry){first, end - first, type};
}

/* RAM without what is reserved in it; reserved ranges do not overlap. */
static void add_ram(uint64_t first, uint64_t end)
{
	for (unsigned i = 0; i < machine.reserved_count; i++) {
		const struct range *hole = &machine.reserved[i];
		if (hole->first >= end || hole->first + hole->bytes <= first)
			continue;
		add_ram(first, hole->first);
		add_ram(hole->first + hole->bytes, end);
		return;
	}
	add_entry(first, end, MAP_RAM);
}

static void make_map(void)
{
	map_count = 0;
	for (unsigned i = 0; i < machine.ram_count; i++)
		add_ram(machine.ram[i].first, machine.ram[i].first + machine.ram[i].bytes);
	for (unsigned i = 0; i < machine.reserved_count; i++)
		add_entry(machine.reserved[i].first, machine.reserved[i].first + machine.reserved[i].bytes,
			  MAP_RESERVED);
	add_entry(machine.ecam.first, machine.ecam.first + machine.ecam.bytes, MAP_RESERVED);
}

static void write_boot_params(uint64_t entry, const void *header, int header_bytes)
{
	uint64_t params = LAYOUT_BOOT_PARAMS, initrd = machine_chosen_number("linux,initrd-start");
	uint64_t initrd_end = machine_chosen_number("linux,initrd-end");
	memset((void *)params, 0, PARAMS_BYTES);
	memcpy((void *)(params + SETUP_HEADER), header, (size_t)header_bytes);
	write64(params + PARAMS_RSDP, machine_chosen_number("tenon,acpi-rsdp"));
	write16(params + SETUP_VIDEO_MODE, VIDEO_NORMAL);
	write8(params + SETUP_LOADER, LOADER_UNKNOWN);
	write8(params + SETUP_FLAGS, read8(params + SETUP_FLAGS) & (uint8_t)~USES_HEAP);
	write32(params + SETUP_CODE32, (uint32_t)(entry - ENTRY64));
	write32(params + SETUP_INITRD, (uint32_t)initrd);
	write32(params + SETUP_INITRD_SIZE, (uint32_t)(initrd_end - initrd));
	write32(params + SETUP_CMDLINE, LAYOUT_CMDLINE);
	write64(params + SETUP_DATA, 0);
	write8(params + PARAMS_MAP_COUNT, (uint8_t)map_count);
	for (unsigned i = 0; i < map_count; i++) {
		uint64_t at = params + PARAMS_MAP + i * MAP_ENTRY_BYTES;
		write64(at, map[i].first);
		write64(at + 8, map[i].bytes);
		write32(at + 16, map[i].type);
	}
}

static void write_start_info(void)
{
	uint64_t info = LAYOUT_PVH_INFO, initrd = machine_chosen_number("linux,initrd-start");
	uint64_t initrd_end = machine_chosen_number("linux,initrd-end");
	memset((void *)info, 0, PARAMS_BYTES);
	write32(info, INFO_MAGIC);
	write32(info + 4, 1); /* version */
	write32(info + 12, initrd_end > initrd);
	write64(info + 16, initrd_end > initrd ? info + INFO_MODULE : 0);
	write64(info + 24, LAYOUT_CMDLINE);
	write64(info + 32, machine_chosen_number("tenon,acpi-rsdp"));
	write64(info + 40, info + INFO_MAP);
	write32(info + 48, map_count);
	write64(info + INFO_MODULE, initrd);
	write64(info + INFO_MODULE + 8, initrd_end - initrd);
	for (unsigned i = 0; i < map_count; i++) {
		uint64_t at = info + INFO_MAP + i * INFO_MAP_BYTES;
		write64(at, map[i].first);
		write64(at + 8, map[i].bytes);
		write32(at + 16, map[i].type);
	}
}

unsigned mode_boot(void)
{
	int bytes = 0;
	const char *protocol = machine_chosen("tenon,kernel-protocol", &bytes);
	uint64_t entry = machine_chosen_number("tenon,kernel-entry");
	if (!protocol) {
		print("# firmware: mode=boot: the VMM has loaded no kernel\n");
		return LAYOUT_FIRMWARE_USAGE;
	}
	const char *words = words_of_kernel();
	size_t length = strlen(words);
	if (length >= LAYOUT_CMDLINE_BYTES)
		length = LAYOUT_CMDLINE_BYTES - 1;
	memcpy((void *)LAYOUT_CMDLINE, words, length);
	write8(LAYOUT_CMDLINE + length, 0);
	make_map();
	console_flush();
	interrupts_finish();
	if (strcmp(protocol, "pvh") == 0) {
		write_start_info();
		enter_pvh(entry, LAYOUT_PVH_INFO);
	}
	const void *header = machine_chosen("tenon,linux-setup-header", &bytes);
	if (!header || bytes > PARAMS_MAP - SETUP_HEADER) {
		print("# firmware: mode=boot: the description has no setup header of the kernel\n");
		return LAYOUT_FIRMWARE_DESCRIPTION;
	}
	write_boot_params(entry, header, bytes);
	enter_linux64(entry, LAYOUT_BOOT_PARAMS);
}

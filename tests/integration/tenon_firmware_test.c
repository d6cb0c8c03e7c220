// SPDX-License-Identifier: MIT
/* The firmware in a real VM, without devices: what it finds, its modes, how it ends, and what --firmware refuses. */
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "layout.h"
#include "tenon_guest.h"
#include "tenon_run.h"

TestSuite(tenon_firmware, .init = guest_skip_without_kvm, .timeout = 180);

#define FIRMWARE(text) "run", "--firmware", "default", "--append", (text)

/* Runs it to its end. The output stays until run_finish. */
static void firmware(struct run *run, const char *const *args, int status)
{
	run_start(run, args, NULL);
	cr_assert_eq(run_wait(run, 60000), status, "it said '%s' and complained '%s'", run->said.bytes,
		     run->complained.bytes);
}

/* ---- list ---- */

Test(tenon_firmware, list_is_what_it_does_when_nothing_is_asked_for)
{
	struct run run;
	firmware(&run, ARGS("run", "--firmware", "default", "--memory", "64M", "--cpus", "3"), 0);
	cr_expect(strstr(run.said.bytes, "memory 0-3ffffff\r\n"), "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "cpus 3 "), "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "00:00.0 id 1b36:0008 class 060000\r\n"), "%s", run.said.bytes);
	run_finish(&run);
}

Test(tenon_firmware, list_shows_memory_on_both_sides_of_the_hole)
{
	struct run run;
	firmware(&run, ARGS(FIRMWARE("mode=list"), "--memory", "5G"), 0);
	cr_expect(strstr(run.said.bytes, "memory 0-bfffffff\r\n"), "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "memory 100000000-17fffffff\r\n"), "%s", run.said.bytes);
	run_finish(&run);
}

struct window {
	unsigned long long first, last;
};

static struct window window_of(const struct run *run, unsigned port, const char *space)
{
	char line[64];
	struct window window = {0};
	snprintf(line, sizeof(line), "00:%02x.0 window %s ", port, space);
	const char *at = strstr(run->said.bytes, line);
	cr_assert_not_null(at, "no '%s' in %s", line, run->said.bytes);
	cr_assert_eq(sscanf(at + strlen(line), "%llx-%llx", &window.first, &window.last), 2);
	return window;
}

Test(tenon_firmware, root_ports_get_bus_numbers_and_windows_that_do_not_overlap)
{
	static const char *const spaces[] = {"io", "memory32", "memory64"};
	struct run run;
	char line[64];
	firmware(&run, ARGS(FIRMWARE("mode=list"), "--hotplug-ports", "8"), 0);
	for (unsigned port = 1; port <= 8; port++) {
		snprintf(line, sizeof(line), "00:%02x.0 id 1b36:000c class 060400 bridge to %02x-%02x pin A", port,
			 port, port);
		cr_expect(strstr(run.said.bytes, line), "no '%s' in %s", line, run.said.bytes);
		for (unsigned space = 0; space < 3; space++) {
			struct window one = window_of(&run, port, spaces[space]);
			cr_expect_lt(one.first, one.last);
			for (unsigned other = 1; other < port; other++) {
				struct window two = window_of(&run, other, spaces[space]);
				cr_expect(one.last < two.first || two.last < one.first, "%s of %u and %u",
					  spaces[space], port, other);
			}
		}
	}
	cr_expect_geq(window_of(&run, 1, "memory32").first, LAYOUT_PCI32);
	cr_expect_geq(window_of(&run, 1, "memory64").first, LAYOUT_RAM_ABOVE_4G);
	run_finish(&run);
}

/* ---- Other modes ---- */

Test(tenon_firmware, self_test_of_no_device_passes_no_check_and_says_so)
{
	struct run run;
	firmware(&run, ARGS(FIRMWARE("mode=selftest"), "--hotplug-ports", "1"), 0);
	cr_expect(strstr(run.said.bytes, "TAP version 13\r\n1..0\r\n"), "%s", run.said.bytes);
	run_finish(&run);
}

Test(tenon_firmware, hostile_guest_of_ten_seconds_ends_with_its_own_status)
{
	struct run run;
	firmware(&run, ARGS(FIRMWARE("mode=hostile seconds=10 seed=0x7e4e"), "--hotplug-ports", "8"), 0);
	cr_expect(strstr(run.said.bytes, "ok 1 - hostile: "), "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "seed 32334"), "%s", run.said.bytes);
	cr_expect_str_empty(run.complained.bytes);
	run_finish(&run);
}

Test(tenon_firmware, load_ends_when_it_is_told_to)
{
	struct run run;
	run_start(&run, ARGS(FIRMWARE("mode=load rate=200 size=256"), "--memory", "16M"), NULL);
	run_expect(&run, "# load ms=", 1);
	run_send(&run, "q");
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0, "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "\nok 1 - load: "), "%s", run.said.bytes);
	run_finish(&run);
}

/* The program's guest memory, whose file offsets are guest addresses below the hole. */
static uint8_t *guest_memory(const struct run *run, size_t size_bytes)
{
	for (unsigned fd = 3; fd < 64; fd++) {
		char path[64], target[64] = "";
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", (int)run->pid, fd);
		if (readlink(path, target, sizeof(target) - 1) < 0 || !strstr(target, "memfd:guest-ram"))
			continue;
		int memory = open(path, O_RDWR);
		cr_assert_geq(memory, 0);
		void *hva = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
		close(memory);
		cr_assert_neq(hva, MAP_FAILED);
		return hva;
	}
	cr_assert_fail("the program has no guest memory");
	return NULL;
}

Test(tenon_firmware, load_finds_one_wrong_bit)
{
	static const size_t size_bytes = 16 << 20;
	struct run run;
	run_start(&run, ARGS(FIRMWARE("mode=load rate=200 size=256"), "--memory", "16M,shared"), NULL);
	run_expect(&run, "# load ms=", 1);
	uint8_t *memory = guest_memory(&run, size_bytes);
	memory[0x800000 + 5 * 4096 + 16] ^= 4; /* the number of the fifth page */
	cr_expect_eq(run_wait(&run, PATIENCE_MS), LAYOUT_FIRMWARE_FAILED, "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "# load corruption: the start of a page at 805010: "), "%s", run.said.bytes);
	cr_expect(strstr(run.said.bytes, "not ok 1 - load: "), "%s", run.said.bytes);
	munmap(memory, size_bytes);
	run_finish(&run);
}

Test(tenon_firmware, boots_a_kernel_with_the_command_line_that_is_the_kernels)
{
	static const char *const command_lines[] = {"xbc", "mode=boot -- xbc", "mode=boot seconds=1 -- xbc"};
	for (unsigned i = 0; i < 3; i++) {
		struct run run;
		/* The kernel writes 0x12 to the exit port; the first line names no mode. */
		firmware(&run, ARGS(FIRMWARE(command_lines[i]), "--kernel", guest_interpreter(), "--exit-device"),
			 0x12);
		run_finish(&run);
	}
}

Test(tenon_firmware, kernel_is_told_of_the_same_memory_as_without_a_firmware)
{
	enum { HEADER = 56, MODULE_AT = 64, MAP_AT = 128, ROW = 24, MODE_TEXT = 4096 };
	struct run run;
	run_start(&run, ARGS(FIRMWARE("d"), "--kernel", guest_interpreter(), "--memory", "64M"), NULL);
	run_expect_bytes(&run, 4096 + strlen("# tenon firmware 0.1.0\r\n"));
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 128 + SIGTERM);
	const char *page = memmem(run.said.bytes, run.said.count, "\x78\xc5\x6e\x33", 4); /* hvm_start_info's magic */
	cr_assert_not_null(page);
	static const uint64_t expected[][3] = {
		{0, LAYOUT_LOW_RAM_END, 1},
		{LAYOUT_LOW_RAM_END, LAYOUT_HIGH_RAM - LAYOUT_LOW_RAM_END, 2},
		{LAYOUT_HIGH_RAM, (64 << 20) - LAYOUT_HIGH_RAM, 1},
		{LAYOUT_ECAM, LAYOUT_ECAM_BUS_BYTES, 2},
		{LAYOUT_RAM_ABOVE_4G - LAYOUT_ROM_BYTES_MAX, LAYOUT_ROM_BYTES_MAX, 2},
	};
	uint32_t count;
	memcpy(&count, page + 48, sizeof(count));
	cr_assert_eq(count, sizeof(expected) / sizeof(expected[0]));
	for (unsigned i = 0; i < count; i++) {
		uint64_t row[3];
		memcpy(row, page + MAP_AT + i * ROW, sizeof(row));
		cr_expect_eq(row[0], expected[i][0]);
		cr_expect_eq(row[1], expected[i][1]);
		cr_expect_eq((uint32_t)row[2], expected[i][2]);
	}
	run_finish(&run);
}

Test(tenon_firmware, guest_reset_starts_it_anew)
{
	struct run run;
	/* 'r' resets once its data says that it was booted; the second time it comes from the loaded file again. */
	run_start(&run, ARGS(FIRMWARE("br"), "--kernel", guest_interpreter()), NULL);
	run_expect(&run, "# tenon firmware", 3);
	cr_expect(strstr(run.said.bytes, "B1"), "%s", run.said.bytes);
	run_signal(&run, SIGTERM);
	run_wait(&run, ENDING_MS);
	run_finish(&run);
}

/* ---- Exceptions ---- */

/* The built firmware's ROM with an invalid instruction where a function begins: its linker's file tells where. */
static const char *rom_with_trap_in(const char *function)
{
	static uint8_t elf[1 << 20], rom[LAYOUT_ROM_BYTES_MAX];
	static char path[32];
	int from = open(TENON_FIRMWARE_FOLDER "/tenon-firmware.elf", O_RDONLY);
	ssize_t bytes = read(from, elf, sizeof(elf));
	close(from);
	from = open(TENON_FIRMWARE_FOLDER "/tenon-firmware.rom", O_RDONLY);
	cr_assert_eq(read(from, rom, sizeof(rom)), (ssize_t)sizeof(rom));
	close(from);
	cr_assert(bytes > 0 && (size_t)bytes < sizeof(elf));
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)elf;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)(elf + header->e_shoff);
	uint64_t at = 0;
	for (unsigned i = 0; i < header->e_shnum; i++) {
		const Elf64_Sym *symbols = (const Elf64_Sym *)(elf + sections[i].sh_offset);
		const char *names = (const char *)elf + sections[sections[i].sh_link].sh_offset;
		if (sections[i].sh_type != SHT_SYMTAB)
			continue;
		for (unsigned j = 0; j < sections[i].sh_size / sizeof(*symbols); j++) {
			if (strcmp(names + symbols[j].st_name, function) == 0)
				at = symbols[j].st_value;
		}
	}
	cr_assert_geq(at, LAYOUT_FIRMWARE_RAM, "no function %s", function);
	memcpy(rom + (at - LAYOUT_FIRMWARE_RAM), "\x0f\x0b", 2); /* UD2 */
	int made = memfd_create("test-rom", 0), fd = fcntl(made, F_DUPFD, 300);
	close(made);
	cr_assert_eq(write(fd, rom, sizeof(rom)), (ssize_t)sizeof(rom));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

Test(tenon_firmware, exception_shows_its_registers_in_a_line_and_ends_the_vm)
{
	struct run run;
	firmware(&run, ARGS("run", "--firmware", rom_with_trap_in("mode_list")), LAYOUT_FIRMWARE_CRASHED);
	const char *line = strstr(run.said.bytes, "# exception 6 (invalid opcode) error=0 rip=4");
	cr_assert_not_null(line, "%s", run.said.bytes);
	const char *end = strchr(line, '\n');
	cr_expect(end && memmem(line, (size_t)(end - line), " rsp=", 5) &&
		  memmem(line, (size_t)(end - line), " rbp=", 5));
	run_finish(&run);
}

/* ---- Wrong use ---- */

Test(tenon_firmware, unknown_mode_is_named_and_those_there_are)
{
	struct run run;
	firmware(&run, ARGS(FIRMWARE("mode=dance")), LAYOUT_FIRMWARE_USAGE);
	cr_expect(strstr(run.said.bytes, "mode=dance: no such mode; give one of list selftest boot hostile load"), "%s",
		  run.said.bytes);
	run_finish(&run);
}

Test(tenon_firmware, boot_without_a_kernel_is_refused_in_words)
{
	struct run run;
	firmware(&run, ARGS(FIRMWARE("mode=boot")), LAYOUT_FIRMWARE_USAGE);
	cr_expect(strstr(run.said.bytes, "the VMM has loaded no kernel"), "%s", run.said.bytes);
	run_finish(&run);
}

static void refused(const char *const *args, int status, const char *words)
{
	struct run run;
	run_start(&run, args, NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), status, "%s", run.complained.bytes);
	cr_expect(strstr(run.complained.bytes, words), "no '%s' in '%s'", words, run.complained.bytes);
	run_finish(&run);
}

/* A ROM image that the program inherits. */
static const char *rom_file(off_t size_bytes)
{
	static char path[32];
	int made = memfd_create("test-rom", 0), fd = fcntl(made, F_DUPFD, 300);
	close(made);
	cr_assert_eq(ftruncate(fd, size_bytes), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

Test(tenon_firmware, file_that_can_be_no_rom_is_refused)
{
	refused(ARGS("run", "--firmware", "/nowhere/rom"), 1, "--firmware /nowhere/rom: cannot open: No such file");
	refused(ARGS("run", "--firmware", rom_file(0)), 1,
		"has 0 bytes; a ROM image has a multiple of 4096, and 65536 at most");
	refused(ARGS("run", "--firmware", rom_file(4095)), 1, "has 4095 bytes");
	refused(ARGS("run", "--firmware", rom_file(65536 + 4096)), 1, "has 69632 bytes");
	refused(ARGS("run", "--firmware", "/tmp"), 1, "--firmware /tmp: is no regular file");
	refused(ARGS("run", "--firmware", "default", "--initrd", "/dev/null"), 2,
		"--initrd /dev/null: is for a kernel");
	refused(ARGS("run"), 2, "--kernel: missing");
}

Test(tenon_firmware, timing_wants_a_test_device)
{
	struct run run;
	firmware(&run, ARGS(FIRMWARE("mode=timing")), LAYOUT_FIRMWARE_USAGE);
	cr_expect(strstr(run.said.bytes, "# timing: there is no test device; give one with --device vfio-user:PATH"),
		  "%s", run.said.bytes);
	run_finish(&run);
}

/* ---- check ---- */

Test(tenon_firmware, check_refuses_wrong_use)
{
	refused(ARGS("check"), 2, "--device: missing");
	refused(ARGS("check", "0000:00:00.0"), 2, "unexpected argument; give devices as --device 0000:00:00.0");
	refused(ARGS("check", "--device", "0000:00:00.0,slot=99"), 2, "slot 99");
	refused(ARGS("check", "--device", "0000:00:00.0", "--timeout", "0"), 2, "--timeout 0: not a number");
	refused(ARGS("check", "--device", "0000:00:00.0", "--device", "0000:00:00.0"), 2, "given twice");
	refused(ARGS("check", "--frob"), 2, "unknown option");
}

Test(tenon_firmware, check_of_what_cannot_be_assigned_says_why)
{
	refused(ARGS("check", "--device", "ffff:ff:1f.7"), 3, "ffff:ff:1f.7: the host has no such PCI device");
	refused(ARGS("check", "--device", "ffff:ff:1f.7", "--firmware", "/nowhere/rom"), 3, "/nowhere/rom");
}

Test(tenon_firmware, check_help_names_its_exit_statuses)
{
	struct run run;
	firmware(&run, ARGS("check", "--help"), 0);
	cr_expect(strstr(run.said.bytes, "Exit status: 0 all checks passed"), "%s", run.said.bytes);
	run_finish(&run);
}

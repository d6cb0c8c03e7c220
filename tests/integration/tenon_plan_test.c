// SPDX-License-Identifier: MIT
/* What the program says a machine is (--dry-run, --stats), and what a guest finds it to be. */
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "layout.h"
#include "tenon_guest.h"
#include "tenon_run.h"

#define MIB UINT64_C(0x100000)
#define GIB UINT64_C(0x40000000)

TestSuite(tenon_plan, .init = guest_skip_without_kvm, .timeout = 180);

#define SCRIPT(text) "run", "--kernel", guest_interpreter(), "--append", (text)

/* ---- --dry-run ---- */

static uint64_t number(json_object *object, const char *key)
{
	json_object *value = json_object_object_get(object, key);
	cr_assert_not_null(value, "no %s", key);
	if (json_object_get_type(value) == json_type_string)
		return strtoull(json_object_get_string(value), NULL, 16);
	return json_object_get_uint64(value);
}

static const char *string(json_object *object, const char *key)
{
	json_object *value = json_object_object_get(object, key);
	cr_assert_not_null(value, "no %s", key);
	return json_object_get_string(value);
}

static json_object *plan_of(const char *const *args)
{
	struct run run;
	run_start(&run, args, NULL);
	cr_assert_eq(run_wait(&run, PATIENCE_MS), 0, "%s", run.complained.bytes);
	enum json_tokener_error error;
	json_object *plan = json_tokener_parse_verbose(run.said.bytes, &error);
	cr_assert_not_null(plan, "%s in: %s", json_tokener_error_desc(error), run.said.bytes);
	run_finish(&run);
	return plan;
}

Test(tenon_plan, json_tells_what_was_asked_for)
{
	const char *kernel = guest_interpreter();
	json_object *plan = plan_of(ARGS("run", "--kernel", kernel, "--append", "p\"p\\o", "--memory", "64M", "--cpus",
					 "3", "--serial", "none", "--dry-run", "--json"));
	cr_expect_str_eq(string(plan, "kernel"), kernel);
	cr_expect_str_eq(string(plan, "command_line"), "p\"p\\o");
	cr_expect_null(json_object_object_get(plan, "initrd"));
	cr_expect_eq(number(plan, "cpus"), 3);
	cr_expect_eq(number(plan, "memory_bytes"), 64 * MIB);
	cr_expect(strstr(string(plan, "serial"), "none"));
	cr_expect_eq(json_object_array_length(json_object_object_get(plan, "devices")), 0);
	json_object_put(plan);
}

Test(tenon_plan, memory_map_ascends_without_overlap_and_holds_all_of_ram)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = {{"64M", 64 * MIB}, {"3G", 3 * GIB}, {"5G", 5 * GIB}};
	for (unsigned i = 0; i < 3; i++) {
		json_object *plan = plan_of(ARGS(SCRIPT("o"), "--memory", sizes[i].text, "--dry-run", "--json"));
		json_object *map = json_object_object_get(plan, "memory_map");
		uint64_t ram_bytes = 0, next = 0;
		for (size_t at = 0; at < json_object_array_length(map); at++) {
			json_object *range = json_object_array_get_idx(map, at);
			uint64_t first = number(range, "first"), last = number(range, "last");
			cr_expect_geq(first, next, "%s", string(range, "what"));
			cr_expect_eq(last - first + 1, number(range, "bytes"));
			if (strcmp(string(range, "what"), "RAM") == 0) {
				ram_bytes += number(range, "bytes");
				cr_expect(last < LAYOUT_PCI32 || first >= LAYOUT_RAM_ABOVE_4G);
			}
			next = last + 1;
		}
		cr_expect_eq(ram_bytes, sizes[i].bytes);
		json_object_put(plan);
	}
}

Test(tenon_plan, text_tells_the_same_and_the_guest_does_not_run)
{
	static const char *const expected[] = {"kernel", "pxo", "64 MiB", "0xe0000000", "RAM", "ECAM", "stdio"};
	struct run run;
	run_start(&run, ARGS(SCRIPT("pxo"), "--memory", "64M", "--dry-run", "--exit-device"), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		cr_expect(strstr(run.said.bytes, expected[i]), "no %s in: %s", expected[i], run.said.bytes);
	cr_expect_neq(run.said.bytes[0], 'x');
	cr_expect_str_empty(run.complained.bytes);
	run_finish(&run);
}

Test(tenon_plan, plan_of_what_cannot_be_is_refused)
{
	static const char *const what[][2] = {{"--initrd", "/nowhere/initrd"}, {"--device", "/nowhere/vfio3"}};
	for (unsigned i = 0; i < 2; i++) {
		struct run run;
		run_start(&run, ARGS(SCRIPT("o"), what[i][0], what[i][1], "--dry-run", "--json"), NULL);
		cr_expect_eq(run_wait(&run, PATIENCE_MS), 1);
		cr_expect_eq(run.said.count, 0, "no half plan: %s", run.said.bytes);
		cr_expect(strstr(run.complained.bytes, what[i][1]), "%s", run.complained.bytes);
		run_finish(&run);
	}
}

Test(tenon_plan, plan_that_cannot_be_printed_is_no_success)
{
	static const char *const form[] = {"--json", "--quiet"};
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	cr_assert_geq(full, 0);
	for (unsigned i = 0; i < 2; i++) {
		const struct run_streams streams = {.out = full};
		struct run run;
		run_start(&run, ARGS(SCRIPT("o"), "--dry-run", form[i]), &streams);
		cr_expect_eq(run_wait(&run, PATIENCE_MS), 1, "%s", form[i]);
		cr_expect(strstr(run.complained.bytes, "No space left"), "%s", run.complained.bytes);
		run_finish(&run);
	}
	close(full);
}

/* ---- --stats ---- */

GUEST_CODE(known_exits, ".rept 5\noutb %al, $0x80\n.endr\n"
			".rept 3\ninb $0x80, %al\n.endr\n"
			".rept 7\nmovl %eax, 0xd0000000\n.endr\n"
			".rept 4\nmovl 0xd0000000, %eax\n.endr\n" GUEST_EXIT(9));

static unsigned long counter(const char *line, const char *name)
{
	const char *at = strstr(line, name);
	unsigned long value = 0;
	cr_assert_not_null(at, "no %s in: %s", name, line);
	cr_assert_eq(sscanf(at + strlen(name), "=%lu", &value), 1, "%s", line);
	return value;
}

Test(tenon_plan, stats_count_the_exits_of_a_known_guest)
{
	struct run run;
	run_start(&run, ARGS("run", "--kernel", GUEST_FILE(known_exits), "--memory", "64M", "--exit-device", "--stats"),
		  NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 9);
	const char *line = strstr(run.complained.bytes, "stats: ");
	cr_assert_not_null(line, "%s", run.complained.bytes);
	cr_expect_eq(run_count(&run.complained, "\n"), 1);
	cr_expect_eq(counter(line, "port-writes"), 6, "%s", line);
	cr_expect_eq(counter(line, "port-reads"), 3, "%s", line);
	cr_expect_eq(counter(line, "memory-writes"), 7, "%s", line);
	cr_expect_eq(counter(line, "memory-reads"), 4, "%s", line);
	cr_expect_eq(counter(line, "total"), counter(line, "port-reads") + counter(line, "port-writes") +
						     counter(line, "memory-reads") + counter(line, "memory-writes") +
						     counter(line, "kicks") + counter(line, "other"));
	run_finish(&run);
}

Test(tenon_plan, sigusr1_prints_stats_and_the_guest_runs_on)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("bs"), "--memory", "64M", "--stats"), NULL);
	run_expect(&run, "B1", 1);
	run_signal(&run, SIGUSR1);
	run_expect_complaint(&run, "stats: ");
	run_signal(&run, SIGTERM);
	cr_expect_eq(run_wait(&run, ENDING_MS), 143);
	cr_expect_eq(run_count(&run.complained, "stats: "), 2);
	run_finish(&run);
}

Test(tenon_plan, without_stats_nothing_is_printed)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("o"), "--memory", "64M"), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0);
	cr_expect_eq(run.complained.count + run.said.count, 0, "%s", run.complained.bytes);
	run_finish(&run);
}

/* ---- What the guest is given ---- */

/* Xen's public header arch-x86/hvm/start_info.h */
struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, memory_map;
	uint32_t memory_map_count, reserved;
};

struct memory_map_entry {
	uint64_t first, size_bytes;
	uint32_t type, reserved;
};

static const struct memory_map_entry *read_memory_map(const struct run *run, unsigned *count)
{
	const struct start_info *info = (const struct start_info *)(const void *)run->said.bytes;
	cr_assert_eq(info->magic, 0x336ec578);
	cr_assert_geq(info->version, 1);
	cr_expect_eq(info->cmdline, LAYOUT_CMDLINE);
	cr_expect_geq(info->rsdp, LAYOUT_ACPI);
	cr_expect_lt(info->rsdp, LAYOUT_ACPI + LAYOUT_ACPI_BYTES);
	/* It follows on the same page, which is what the guest printed. */
	uint64_t offset = info->memory_map - LAYOUT_PVH_INFO;
	cr_assert_leq(offset + info->memory_map_count * sizeof(struct memory_map_entry), 4096);
	*count = info->memory_map_count;
	return (const struct memory_map_entry *)(const void *)(run->said.bytes + offset);
}

static void check_memory_map(const char *size, uint64_t size_bytes)
{
	struct run run;
	run_start(&run, ARGS(SCRIPT("do"), "--memory", size), NULL);
	cr_assert_eq(run_wait(&run, PATIENCE_MS), 0);
	cr_assert_eq(run.said.count, 4096);
	unsigned count;
	const struct memory_map_entry *map = read_memory_map(&run, &count);
	uint64_t next = 0, ram_bytes = 0, low_end = 0, high_bytes = 0;
	for (unsigned i = 0; i < count; i++) {
		cr_expect_geq(map[i].first, next, "entry %u", i);
		next = map[i].first + map[i].size_bytes;
		if (map[i].type != 1)
			continue;
		ram_bytes += map[i].size_bytes;
		if (map[i].first >= LAYOUT_RAM_ABOVE_4G)
			high_bytes += map[i].size_bytes;
		else
			low_end = next;
	}
	cr_expect_eq(low_end, size_bytes < LAYOUT_PCI32 ? size_bytes : LAYOUT_PCI32);
	cr_expect_eq(high_bytes, size_bytes < LAYOUT_PCI32 ? 0 : size_bytes - LAYOUT_PCI32);
	/* All but the hole below 1 MiB */
	cr_expect_eq(ram_bytes, size_bytes - (LAYOUT_HIGH_RAM - LAYOUT_LOW_RAM_END));
	run_finish(&run);
}

Test(tenon_plan, the_guest_is_told_of_all_its_ram)
{
	check_memory_map("64M", 64 * MIB);
	check_memory_map("3G", 3 * GIB);
	check_memory_map("5G", 5 * GIB);
}

/*
 * Maps four pages of 2 MiB, in the 32-bit mode of long mode: the first above 4 GiB, the last of 5 GiB of RAM, the last below the hole, the one after the end.
 * Writes to RAM must stay where they are, and nobody may answer after the end.
 */
GUEST_CODE(high_memory, "movl $0x401063, 0x400000\n" /* top: one table of 1 GiB entries */
			"movl $0x402063, 0x401000\n" /* 0-1 GiB, 1-2 GiB */
			"movl $0x403063, 0x401008\n"
			"movl $0xe3, 0x402000\n" /* where this runs */
			"movl $0xe3, 0x403000\n"
			"movl $1, 0x403004\n"
			"movl $0x7fe000e3, 0x403008\n"
			"movl $1, 0x40300c\n"
			"movl $0xbfe000e3, 0x403010\n"
			"movl $0x800000e3, 0x403018\n"
			"movl $1, 0x40301c\n"
			"movl $0x20, %eax\n" /* CR4.PAE */
			"movl %eax, %cr4\n"
			"movl $0x400000, %eax\n"
			"movl %eax, %cr3\n"
			"movl $0xc0000080, %ecx\n" /* EFER.LME */
			"movl $0x100, %eax\n"
			"xorl %edx, %edx\n"
			"wrmsr\n"
			"movl %cr0, %eax\n"
			"orl $0x80000000, %eax\n"
			"movl %eax, %cr0\n"
			"movl $0x11111111, 0x40000000\n"
			"movl $0x22222222, 0x403ffffc\n"
			"movl $0x33333333, 0x405ffffc\n"
			"movl $0x44444444, 0x40600000\n"
			"movb $1, %al\n"
			"cmpl $0x11111111, 0x40000000\n"
			"jne 1f\n"
			"movb $2, %al\n"
			"cmpl $0x22222222, 0x403ffffc\n"
			"jne 1f\n"
			"movb $3, %al\n"
			"cmpl $0x33333333, 0x405ffffc\n"
			"jne 1f\n"
			"movb $4, %al\n"
			"cmpl $0xffffffff, 0x40600000\n"
			"jne 1f\n"
			"movb $0, %al\n"
			"1: movw $0x500, %dx\n"
			"outb %al, %dx\n"
			"2: hlt\n"
			"jmp 2b\n");

Test(tenon_plan, ram_above_4_gib_is_there_to_its_last_byte)
{
	struct run run;
	run_start(&run, ARGS("run", "--kernel", GUEST_FILE(high_memory), "--memory", "5G", "--exit-device"), NULL);
	cr_expect_eq(run_wait(&run, PATIENCE_MS), 0, "%s", run.complained.bytes);
	run_finish(&run);
}

/* SPDX-License-Identifier: MIT */
/* Guest RAM: its options, its mapping around the hole, and populating it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "layout.h"
#include "memory.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static struct memory create_kind(uint64_t size_bytes, bool shared)
{
	struct memory memory;
	struct tenon_error err = {0};
	struct memory_options options = {.size_bytes = size_bytes, .shared = shared};
	cr_assert_eq(memory_create(&options, &memory, &err), 0, "%s", err.message);
	return memory;
}

static struct memory create(uint64_t size_bytes)
{
	return create_kind(size_bytes, false);
}

/* Of private memory what is in the page tables, of shared memory what is in the file. */
static uint64_t allocated_bytes(const struct memory *memory)
{
	static unsigned char resident[1 << 18];
	uint64_t bytes = 0, step = sizeof(resident) * 4096;
	for (uint64_t at = 0; at < memory->options.size_bytes; at += step) {
		uint64_t left = memory->options.size_bytes - at, chunk = left < step ? left : step;
		cr_assert_eq(mincore(memory->hva + at, chunk, resident), 0);
		for (uint64_t page = 0; page < chunk / 4096; page++)
			bytes += resident[page] & 1 ? 4096 : 0;
	}
	return bytes;
}

/* ---- Options ---- */

Test(memory_options, units_and_options_are_understood)
{
	static const struct {
		const char *text;
		struct memory_options expected;
	} cases[] = {
		{"2097152", {.size_bytes = 2 * MIB}},
		{"4096k", {.size_bytes = 4 * MIB}},
		{"512M", {.size_bytes = 512 * MIB}},
		{"3g", {.size_bytes = 3 * GIB}},
		{"1T", {.size_bytes = 1024 * GIB}},
		{"512M,prefault", {.size_bytes = 512 * MIB, .prefault = true}},
		{"512M,hugepages=2M", {.size_bytes = 512 * MIB, .huge_page_bytes = 2 * MIB}},
		{"512M,shared", {.size_bytes = 512 * MIB, .shared = true}},
		{"4G,prefault,hugepages=1G", {.size_bytes = 4 * GIB, .huge_page_bytes = GIB, .prefault = true}},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct memory_options options;
		struct tenon_error err = {0};
		cr_assert_eq(memory_options_parse(cases[i].text, &options, &err), 0, "%s", err.message);
		cr_expect_eq(options.size_bytes, cases[i].expected.size_bytes, "%s", cases[i].text);
		cr_expect_eq(options.huge_page_bytes, cases[i].expected.huge_page_bytes, "%s", cases[i].text);
		cr_expect_eq(options.prefault, cases[i].expected.prefault, "%s", cases[i].text);
		cr_expect_eq(options.shared, cases[i].expected.shared, "%s", cases[i].text);
	}
}

Test(memory_options, each_mistake_is_named)
{
	static const struct {
		const char *text;
		const char *message;
	} cases[] = {
		{"", "does not start with a size; write it like 512M or 4G"},
		{"M", "does not start with a size"},
		{"-1", "does not start with a size"},
		{" 1G", "does not start with a size"},
		{"0", "cannot run in 0 bytes"},
		{"0G", "cannot run in 0 bytes"},
		{"512X", "unknown unit 'X'; units are K, M, G and T"},
		{"512MB", "unknown unit 'B'"},
		{"1G 2", "unknown unit ' 2'"},
		{"513K", "525312 bytes: not a multiple of 2M; the next size is 2M"},
		{"5M", "not a multiple of 2M; the next size is 6M"},
		{"512M,hugepages=1G", "not a multiple of 1024M, the huge page size; the next size is 1024M"},
		{"99999999T", "more than any host can map"},
		{"18446744073709551616", "more than any host can map"},
		{"99999999999999999999999G", "more than any host can map"},
		{"9223372036854775807", "more than any host can map"},
		{"512M,", "unknown option ''"},
		{"512M,,prefault", "unknown option ''"},
		{"512M,shared=on",
		 "unknown option 'shared=on'; options are hugepages=2M, hugepages=1G, prefault and shared"},
		{"512M,prefault=yes", "unknown option 'prefault=yes'"},
		{"512M,hugepages", "'hugepages' is no huge page size; use hugepages=2M or hugepages=1G"},
		{"512M,hugepages=4M", "'hugepages=4M' is no huge page size"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct memory_options options = {.size_bytes = 1};
		struct tenon_error err = {0};
		cr_expect_eq(memory_options_parse(cases[i].text, &options, &err), -EINVAL, "%s", cases[i].text);
		cr_expect_eq(err.code, -EINVAL);
		cr_expect(strstr(err.message, cases[i].message), "'%s' said: %s", cases[i].text, err.message);
		cr_expect_null(strchr(err.message, '\n'));
		cr_expect_eq(options.size_bytes, 1, "options are untouched on failure");
	}
}

/* ---- Mapping ---- */

Test(memory, small_ram_is_one_part_at_zero)
{
	struct memory memory = create(64 * MIB);
	cr_expect_eq(memory.part_count, 1);
	cr_expect_eq(memory.parts[0].gpa, 0);
	cr_expect_eq(memory.parts[0].size_bytes, 64 * MIB);
	cr_expect_eq(memory.parts[0].hva, memory.hva);
	cr_expect_eq((uintptr_t)memory.hva % (2 * MIB), 0);
	memory_destroy(&memory);
}

Test(memory, large_ram_is_split_around_the_hole)
{
	struct memory memory = create(5 * GIB);
	cr_expect_eq(memory.part_count, 2);
	cr_expect_eq(memory.parts[0].size_bytes, LAYOUT_PCI32);
	cr_expect_eq(memory.parts[1].gpa, LAYOUT_RAM_ABOVE_4G);
	cr_expect_eq(memory.parts[1].size_bytes, 2 * GIB);
	cr_expect_eq(memory.parts[1].hva, memory.hva + LAYOUT_PCI32);
	/* Host and guest addresses agree modulo 1 GiB, so that both sides can use 1 GiB pages. */
	cr_expect_eq((uintptr_t)memory.parts[0].hva % GIB, 0);
	cr_expect_eq((uintptr_t)memory.parts[1].hva % GIB, memory.parts[1].gpa % GIB);
	memory_destroy(&memory);
}

Test(memory, ram_that_ends_at_the_hole_is_one_part)
{
	struct memory memory = create(LAYOUT_PCI32);
	cr_expect_eq(memory.part_count, 1);
	cr_expect_null(memory_at(&memory, LAYOUT_PCI32, 1));
	cr_expect_not_null(memory_at(&memory, LAYOUT_PCI32 - 1, 1));
	memory_destroy(&memory);
}

Test(memory, addresses_outside_ram_have_no_host_address)
{
	struct memory memory = create(4 * GIB);
	const struct {
		uint64_t gpa, size_bytes;
		uint64_t offset; /* UINT64_MAX: none */
	} cases[] = {
		{0, 1, 0},
		{0, LAYOUT_PCI32, 0},
		{0, LAYOUT_PCI32 + 1ull, UINT64_MAX},
		{LAYOUT_PCI32 - 1, 1, LAYOUT_PCI32 - 1},
		{LAYOUT_PCI32 - 1, 2, UINT64_MAX},
		{LAYOUT_PCI32, 1, UINT64_MAX},
		{LAYOUT_LAPIC, 4, UINT64_MAX},
		{LAYOUT_RAM_ABOVE_4G - 1, 2, UINT64_MAX},
		{LAYOUT_RAM_ABOVE_4G, GIB, LAYOUT_PCI32},
		{LAYOUT_RAM_ABOVE_4G + GIB - 1, 1, LAYOUT_PCI32 + GIB - 1},
		{LAYOUT_RAM_ABOVE_4G + GIB - 1, 2, UINT64_MAX},
		{LAYOUT_RAM_ABOVE_4G + GIB, 0, UINT64_MAX},
		{1, UINT64_MAX, UINT64_MAX},
		{UINT64_MAX, 1, UINT64_MAX},
		{UINT64_MAX, UINT64_MAX, UINT64_MAX},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t *expected = cases[i].offset == UINT64_MAX ? NULL : memory.hva + cases[i].offset;
		cr_expect_eq(memory_at(&memory, cases[i].gpa, cases[i].size_bytes), expected, "case %zu", i);
	}
	memory_destroy(&memory);
}

Test(memory, nobody_else_reaches_private_memory)
{
	struct memory memory = create(2 * MIB);
	cr_expect_eq(memory.fd, -1);
	memory_destroy(&memory);
}

Test(memory, the_file_is_sealed_and_shared)
{
	struct memory memory = create_kind(2 * MIB, true);
	int seals = fcntl(memory.fd, F_GET_SEALS);
	cr_expect_eq(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	cr_expect_neq(ftruncate(memory.fd, 0), 0);
	cr_expect_neq(ftruncate(memory.fd, 4 * (off_t)MIB), 0);
	cr_expect(fcntl(memory.fd, F_GETFD) & FD_CLOEXEC);

	memory.hva[12345] = 77;
	uint8_t seen = 0;
	cr_assert_eq(pread(memory.fd, &seen, 1, 12345), 1);
	cr_expect_eq(seen, 77);
	memory_destroy(&memory);
}

Test(memory, creating_takes_no_page)
{
	for (int shared = 0; shared < 2; shared++) {
		struct memory memory = create_kind(16 * GIB, shared);
		cr_expect_eq(allocated_bytes(&memory), 0);
		memory_destroy(&memory);
	}
}

Test(memory, impossible_sizes_are_refused)
{
	struct memory memory;
	struct tenon_error err = {0};
	struct memory_options options = {.size_bytes = UINT64_C(1) << 60};
	cr_expect_lt(memory_create(&options, &memory, &err), 0);
	cr_expect(strstr(err.message, "memory: cannot map 1099511627776 MiB"), "%s", err.message);

	options = (struct memory_options){.size_bytes = 8 * MIB, .huge_page_bytes = 4 * MIB};
	cr_expect_eq(memory_create(&options, &memory, &err), -EINVAL);
	cr_expect(strstr(err.message, "use 2M or 1G"), "%s", err.message);
}

Test(memory, a_short_huge_page_pool_is_refused_with_numbers_and_the_command)
{
	struct memory memory;
	struct tenon_error err = {0};
	struct memory_options options = {.size_bytes = 1024 * GIB, .huge_page_bytes = 2 * MIB};
	int result = memory_create(&options, &memory, &err);
	cr_assert_lt(result, 0, "no test machine has 1 TiB of huge pages");
	if (result != -ENOMEM)
		cr_skip_test("this kernel has no huge pages: %s", err.message);
	cr_expect(strstr(err.message, "needs 524288 huge pages of 2 MiB: the host has "), "%s", err.message);
	cr_expect(strstr(err.message, "> /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"), "%s", err.message);
}

Test(memory, destroying_twice_or_never_created_is_harmless)
{
	struct memory memory = {0};
	memory_destroy(&memory);
	memory = create(2 * MIB);
	memory_destroy(&memory);
	memory_destroy(&memory);
	cr_expect_null(memory.hva);
}

/* ---- Populating ---- */

static void expect_populated(unsigned threads)
{
	for (int shared = 0; shared < 2; shared++) {
		/* Not a multiple of the chunk that a thread takes. */
		struct memory memory = create_kind(150 * MIB, shared);
		memory.hva[100 * MIB + 5] = 99;
		struct tenon_error err = {0};
		cr_assert_eq(memory_populate(&memory, threads, NULL, &err), 0, "%s", err.message);
		cr_expect_eq(allocated_bytes(&memory), 150 * MIB);
		cr_expect_eq(memory.hva[100 * MIB + 5], 99, "contents stay");
		memory_destroy(&memory);
	}
}

Test(memory_populate, one_thread_takes_every_page)
{
	expect_populated(1);
}

Test(memory_populate, many_threads_take_every_page)
{
	expect_populated(7);
}

Test(memory_populate, the_default_is_one_thread_per_cpu)
{
	expect_populated(0);
}

/* ---- Clearing ---- */

/* What this process has of private memory; the kernel's page of zeroes, which mincore() counts, is not in it. */
static uint64_t anonymous_kib(void)
{
	char line[128];
	unsigned long kib = 0;
	FILE *status = fopen("/proc/self/status", "r");
	while (status && fgets(line, sizeof(line), status) && sscanf(line, "RssAnon: %lu", &kib) != 1)
		;
	cr_assert_not_null(status);
	fclose(status);
	return kib;
}

Test(memory_clear, untouched_pages_stay_untaken)
{
	struct memory memory = create_kind(64 * MIB, true);
	cr_expect_eq(memory_clear(&memory, 0, 64 * MIB), 0);
	cr_expect_eq(allocated_bytes(&memory), 0);
	memory_destroy(&memory);

	memory = create(64 * MIB);
	uint64_t before = anonymous_kib();
	cr_expect_eq(memory_clear(&memory, 0, 64 * MIB), 0);
	cr_expect_lt(anonymous_kib(), before + 1024);
	memory_destroy(&memory);
}

Test(memory_clear, exactly_the_range_is_zeroed)
{
	for (int shared = 0; shared < 2; shared++) {
		struct memory memory = create_kind(8 * MIB, shared);
		for (uint64_t gpa = 1 * MIB; gpa < 2 * MIB; gpa++)
			memory.hva[gpa] = 0xaa;
		memory.hva[5 * MIB] = 0xaa;

		cr_expect_eq(memory_clear(&memory, 1 * MIB + 100, 4 * MIB), 0);
		cr_expect_eq(memory.hva[1 * MIB + 99], 0xaa);
		for (uint64_t gpa = 1 * MIB + 100; gpa < 5 * MIB; gpa++)
			if (memory.hva[gpa])
				cr_assert_fail("byte at 0x%lx is not zero", (unsigned long)gpa);
		cr_expect_eq(memory.hva[5 * MIB], 0, "inside: the range ends 100 bytes later");
		memory_destroy(&memory);
	}
}

Test(memory_clear, outside_ram_is_refused)
{
	struct memory memory = create(8 * MIB);
	cr_expect_eq(memory_clear(&memory, 8 * MIB - 1, 2), -EFAULT);
	cr_expect_eq(memory_clear(&memory, UINT64_MAX, UINT64_MAX), -EFAULT);
	memory_destroy(&memory);
}

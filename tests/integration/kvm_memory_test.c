// SPDX-License-Identifier: MIT
/* Memory slots under a running guest, and the two ways to learn which pages it wrote. */
#include <errno.h>

#include "kvm_guest.h"

#define PAGE  4096u
#define PAGES (GUEST_RAM_BYTES / PAGE)

/* Writes one byte into each of the pages 0x20, 0x22, 0x3f, 0x40, tells, and waits for an answer before it does so again. */
GUEST_CODE_32(dirty, "1: movb $1, 0x20000\n"
		     "movb $1, 0x22fff\n"
		     "movb $1, 0x3f800\n"
		     "movb $1, 0x40000\n"
		     "outb %al, $0x80\n"
		     "2: inb $0x81, %al\n"
		     "testb %al, %al\n"
		     "jz 2b\n"
		     "jmp 1b\n");

static void expect_dirty(const uint64_t *bitmap, bool expected)
{
	static const unsigned written[] = {0x20, 0x22, 0x3f, 0x40};
	uint64_t pages[PAGES / 64] = {0};
	for (unsigned i = 0; expected && i < 4; i++)
		pages[written[i] / 64] |= 1ull << (written[i] % 64);
	for (unsigned i = 0; i < PAGES / 64; i++)
		cr_expect_eq(bitmap[i], pages[i], "word %u is %#llx, not %#llx", i, (unsigned long long)bitmap[i],
			     (unsigned long long)pages[i]);
}

Test(kvm_memory, the_dirty_log_has_exactly_the_pages_written_since_it_was_fetched, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_dirty, guest_dirty_end);
	struct tenon_error error;
	uint64_t bitmap[PAGES / 64];
	cr_expect_eq(tenon_vm_dirty_log_fetch(guest.vm, 0, bitmap, PAGES / 64, &error), -EINVAL);

	/* KVM may map a page that is only read as writable, and then calls it dirty: so let it map all of them first. */
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 1, 10));
	cr_assert_eq(tenon_vm_dirty_log_enable(guest.vm, true, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vm_dirty_log_fetch(guest.vm, 0, bitmap, PAGES / 64, &error), 0, "%s", error.message);
	expect_dirty(bitmap, false);

	for (unsigned round = 2; round < 6; round++) {
		guest_open_gate(&guest);
		cr_assert(guest_wait(&guest, &guest.write_count, round, 10));
		cr_assert_eq(tenon_vm_dirty_log_fetch(guest.vm, 0, bitmap, PAGES / 64, &error), 0, "%s", error.message);
		expect_dirty(bitmap, true);
		cr_assert_eq(tenon_vm_dirty_log_fetch(guest.vm, 0, bitmap, PAGES / 64, &error), 0, "%s", error.message);
		expect_dirty(bitmap, false);
	}

	cr_expect_eq(tenon_vm_dirty_log_fetch(guest.vm, 0, bitmap, 1, &error), -ENOSPC);
	cr_expect_eq(tenon_vm_dirty_log_fetch(guest.vm, PAGE, bitmap, PAGES / 64, &error), -ENOENT);
	cr_assert_eq(tenon_vm_dirty_log_enable(guest.vm, false, &error), 0, "%s", error.message);
	cr_expect_eq(tenon_vm_dirty_log_fetch(guest.vm, 0, bitmap, PAGES / 64, &error), -EINVAL);
	guest_destroy(&guest);
}

static struct tenon_vm *create_ring_vm_or_skip(uint32_t entries)
{
	guest_skip_without_kvm();
	struct tenon_vm_options options = {.size = sizeof(options), .dirty_ring = true, .dirty_ring_entries = entries};
	struct tenon_error error;
	struct tenon_vm *vm = NULL;
	int result = tenon_vm_create(&options, &vm, &error);
	if (result == -ENOTSUP)
		cr_skip_test("%s", error.message);
	cr_assert_eq(result, 0, "%s", error.message);
	return vm;
}

static void mark_page(void *context, uint64_t gpa)
{
	uint64_t *bitmap = context;
	cr_assert_lt(gpa, GUEST_RAM_BYTES);
	bitmap[gpa / PAGE / 64] |= 1ull << (gpa / PAGE % 64);
}

Test(kvm_memory, the_dirty_ring_has_exactly_the_pages_written_since_it_was_collected, .timeout = 60)
{
	tenon_vm_destroy(create_ring_vm_or_skip(4096));
	struct tenon_vm_options options = {.size = sizeof(options), .dirty_ring = true};
	struct guest guest;
	guest_create(&guest, &options, guest_dirty, guest_dirty_end);
	struct tenon_error error;
	uint64_t bitmap[PAGES / 64] = {0};
	cr_expect_eq(tenon_vm_dirty_log_fetch(guest.vm, 0, bitmap, PAGES / 64, &error), -ENOTSUP);
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 1, 10));
	cr_assert_eq(tenon_vm_dirty_log_enable(guest.vm, true, &error), 0, "%s", error.message);

	for (unsigned round = 2; round < 6; round++) {
		guest_open_gate(&guest);
		cr_assert(guest_wait(&guest, &guest.write_count, round, 10));
		tenon_vcpu_pause(guest.vcpus[0], true);
		memset(bitmap, 0, sizeof(bitmap));
		cr_expect_eq(tenon_vm_dirty_ring_collect(guest.vm, mark_page, bitmap, &error), 4);
		expect_dirty(bitmap, true);
		cr_expect_eq(tenon_vm_dirty_ring_collect(guest.vm, mark_page, bitmap, &error), 0);
		tenon_vcpu_resume(guest.vcpus[0]);
	}
	guest_destroy(&guest);
}

/*
 * Writes to each page from 0x100000 to 0x900000, over and over. It exits after each: a KVM that interprets code may otherwise
 * write more pages than the ring has before it looks whether the ring is full.
 */
GUEST_CODE_32(dirty_all, "1: movl $0x100000, %ebx\n"
			 "2: movb $1, (%ebx)\n"
			 "outb %al, $0x80\n"
			 "addl $0x1000, %ebx\n"
			 "cmpl $0x900000, %ebx\n"
			 "jb 2b\n"
			 "jmp 1b\n");

static void count_page(void *context, uint64_t gpa)
{
	unsigned *count = context;
	(*count)++;
}

Test(kvm_memory, a_vcpu_with_a_full_ring_waits_for_the_collector_and_pauses_meanwhile, .timeout = 120)
{
	tenon_vm_destroy(create_ring_vm_or_skip(1024));
	struct tenon_vm_options options = {.size = sizeof(options), .dirty_ring = true, .dirty_ring_entries = 1024};
	struct guest guest;
	guest_create(&guest, &options, guest_dirty_all, guest_dirty_all_end);
	size_t more_bytes = 0x800000;
	void *more = mmap(NULL, more_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cr_assert_neq(more, MAP_FAILED);
	struct tenon_vm_memory memory = {
		.size = sizeof(memory), .gpa = 0x100000, .size_bytes = more_bytes, .hva = more};
	struct tenon_error error;
	cr_assert_eq(tenon_vm_memory_add(guest.vm, &memory, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vm_dirty_log_enable(guest.vm, true, &error), 0, "%s", error.message);
	guest_start(&guest);

	unsigned pages = 0;
	unsigned rounds = 0;
	for (unsigned full = 1; pages < 5000; full++) {
		cr_assert(guest_wait(&guest, &guest.ring_full, full, 30), "after %u pages", pages);
		/* While it waits; resumed, it says again that its ring is full. */
		tenon_vcpu_pause(guest.vcpus[0], true);
		tenon_vcpu_resume(guest.vcpus[0]);
		rounds += tenon_vm_dirty_ring_collect(guest.vm, count_page, &pages, &error) > 0;
	}
	cr_expect_geq(rounds, 5);
	cr_assert_eq(tenon_vm_dirty_log_enable(guest.vm, false, &error), 0, "%s", error.message);
	unsigned before = guest_read_count(&guest, &guest.write_count);
	cr_expect(guest_wait(&guest, &guest.write_count, before + 5000, 60), "without logging nothing holds it");
	guest_destroy(&guest);
	munmap(more, more_bytes);
}

GUEST_CODE_32(read_only, "movl $0x12345678, 0x100000\n"
			 "movl 0x100000, %eax\n"
			 "outl %eax, $0x80\n"
			 "1: hlt\n"
			 "jmp 1b\n");

Test(kvm_memory, a_write_to_read_only_memory_goes_to_the_handler, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_read_only, guest_read_only_end);
	guest_skip_without(&guest, KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM");
	uint32_t *rom = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*rom = 0xcafe;
	struct tenon_vm_memory memory = {
		.size = sizeof(memory), .gpa = 0x100000, .size_bytes = PAGE, .hva = rom, .read_only = true};
	struct tenon_error error;
	cr_assert_eq(tenon_vm_memory_add(guest.vm, &memory, &error), 0, "%s", error.message);
	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 1, 10));
	cr_expect_eq(guest.writes[0].value, 0xcafe);
	cr_expect_eq(guest.device_accesses, 1);
	guest_destroy(&guest);
	munmap(rom, PAGE);
}

/* Reads a page that comes and goes, forever. */
GUEST_CODE_32(poll_page, "1: movl 0x100000, %eax\n"
			 "movl %eax, 0x3000\n"
			 "jmp 1b\n");

static void wait_for_value(const struct guest *guest, uint32_t value)
{
	for (unsigned tries = 0; guest_read32(guest, 0x3000) != value; tries++) {
		cr_assert_lt(tries, 10000, "the guest does not see %#x", value);
		usleep(1000);
	}
}

Test(kvm_memory, slots_come_and_go_under_a_running_guest, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_poll_page, guest_poll_page_end);
	uint32_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tenon_vm_memory memory = {
		.size = sizeof(memory), .gpa = 0x100000, .size_bytes = PAGE, .hva = page, .device = true};
	struct tenon_error error;
	guest_start(&guest);
	for (uint32_t i = 1; i <= 30; i++) {
		wait_for_value(&guest, 0xffffffff);
		*page = i;
		cr_assert_eq(tenon_vm_memory_add(guest.vm, &memory, &error), 0, "%s", error.message);
		wait_for_value(&guest, i);
		cr_assert_eq(tenon_vm_memory_remove(guest.vm, 0x100000, PAGE, &error), 0, "%s", error.message);
	}
	guest_destroy(&guest);
	munmap(page, PAGE);
}

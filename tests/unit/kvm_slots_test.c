// SPDX-License-Identifier: MIT
/* Memory slots, and which of them are logged. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

#define PAGE 4096u

static struct tenon_vm *vm;
static struct tenon_error error;
static _Alignas(4096) unsigned char memory[64 * 4096];

static void create(void)
{
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
}

static void destroy(void)
{
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_slots, .init = create, .fini = destroy);

static int add(uint64_t gpa, uint64_t pages)
{
	struct tenon_vm_memory range = {.size = sizeof(range), .gpa = gpa, .size_bytes = pages * PAGE, .hva = memory};
	return tenon_vm_memory_add(vm, &range, &error);
}

static bool logged(uint64_t gpa)
{
	struct kvm_userspace_memory_region region;
	cr_assert(fakekvm_slot_at(gpa, &region));
	return region.flags & KVM_MEM_LOG_DIRTY_PAGES;
}

Test(kvm_slots, memory_is_mapped_where_it_was_asked_for)
{
	struct kvm_userspace_memory_region region;
	cr_assert_eq(add(0x100000, 4), 0, "%s", error.message);
	cr_assert(fakekvm_slot_at(0x103fff, &region));
	cr_expect_eq(region.guest_phys_addr, 0x100000);
	cr_expect_eq(region.memory_size, 4 * PAGE);
	cr_expect_eq(region.userspace_addr, (uintptr_t)memory);
	cr_expect_eq(region.flags, 0);
	cr_expect_eq(tenon_vm_memory_remove(vm, 0x100000, 4 * PAGE, &error), 0);
	cr_expect_not(fakekvm_slot_at(0x100000, &region));
}

Test(kvm_slots, an_overlap_is_refused_and_names_both_ranges)
{
	cr_assert_eq(add(0x100000, 4), 0);
	cr_expect_eq(add(0x103000, 1), -EEXIST);
	cr_expect_not_null(strstr(error.message, "0x103000"), "%s", error.message);
	cr_expect_not_null(strstr(error.message, "0x100000"), "%s", error.message);
	cr_expect_eq(add(0xff000, 2), -EEXIST);
	cr_expect_eq(add(0xff000, 9), -EEXIST);
	cr_expect_eq(add(0xff000, 1), 0, "touching is no overlap: %s", error.message);
	cr_expect_eq(add(0x104000, 1), 0, "touching is no overlap: %s", error.message);
}

Test(kvm_slots, parts_of_pages_and_ranges_past_the_end_are_refused)
{
	struct tenon_vm_memory range = {.size = sizeof(range), .gpa = 0x800, .size_bytes = PAGE, .hva = memory};
	cr_expect_eq(tenon_vm_memory_add(vm, &range, &error), -EINVAL);
	range.gpa = 0;
	range.size_bytes = 0;
	cr_expect_eq(tenon_vm_memory_add(vm, &range, &error), -EINVAL);
	range.size_bytes = PAGE;
	range.hva = memory + 1;
	cr_expect_eq(tenon_vm_memory_add(vm, &range, &error), -EINVAL);
	range.hva = memory;
	range.gpa = UINT64_MAX - PAGE + 1;
	range.size_bytes = 2 * PAGE;
	cr_expect_eq(tenon_vm_memory_add(vm, &range, &error), -EINVAL);
	cr_expect_eq(fakekvm_slot_count(), 0);
}

Test(kvm_slots, only_the_exact_range_is_removed)
{
	cr_assert_eq(add(0x100000, 4), 0);
	cr_expect_eq(tenon_vm_memory_remove(vm, 0x100000, PAGE, &error), -ENOENT);
	cr_expect_eq(tenon_vm_memory_remove(vm, 0x101000, 3 * PAGE, &error), -ENOENT);
	cr_expect_eq(fakekvm_slot_count(), 1);
}

Test(kvm_slots, all_slots_of_kvm_are_used_and_numbers_used_again)
{
	int most = 64;
	for (int i = 0; i < most; i++)
		cr_assert_eq(add((uint64_t)i * 0x10000, 1), 0, "slot %d: %s", i, error.message);
	cr_expect_eq(add(0x10000000, 1), -ENOSPC);
	cr_expect_not_null(strstr(error.message, "64"), "%s", error.message);
	cr_expect_eq(tenon_vm_memory_remove(vm, 0x50000, PAGE, &error), 0);
	cr_expect_eq(add(0x10000000, 1), 0, "%s", error.message);
}

Test(kvm_slots, read_only_memory_needs_its_capability)
{
	struct tenon_vm_memory range = {
		.size = sizeof(range), .gpa = 0, .size_bytes = PAGE, .hva = memory, .read_only = true};
	struct kvm_userspace_memory_region region;
	cr_assert_eq(tenon_vm_memory_add(vm, &range, &error), 0, "%s", error.message);
	cr_assert(fakekvm_slot_at(0, &region));
	cr_expect_eq(region.flags, KVM_MEM_READONLY);
	fakekvm_set_capability(KVM_CAP_READONLY_MEM, 0);
	range.gpa = 0x10000;
	cr_expect_eq(tenon_vm_memory_add(vm, &range, &error), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_READONLY_MEM"), "%s", error.message);
}

static void add_one_of_each(void)
{
	struct tenon_vm_memory range = {.size = sizeof(range), .gpa = 0, .size_bytes = PAGE, .hva = memory};
	cr_assert_eq(tenon_vm_memory_add(vm, &range, &error), 0);
	range.gpa = 0x10000;
	range.log_dirty = true;
	cr_assert_eq(tenon_vm_memory_add(vm, &range, &error), 0);
	range.gpa = 0x20000;
	range.log_dirty = false;
	range.device = true;
	cr_assert_eq(tenon_vm_memory_add(vm, &range, &error), 0);
	range.gpa = 0x30000;
	range.device = false;
	range.read_only = true;
	cr_assert_eq(tenon_vm_memory_add(vm, &range, &error), 0);
}

Test(kvm_slots, logging_is_switched_for_ram_alone)
{
	add_one_of_each();
	cr_expect_not(logged(0));
	cr_expect(logged(0x10000), "asked for from the start");

	cr_assert_eq(tenon_vm_dirty_log_enable(vm, true, &error), 0, "%s", error.message);
	cr_expect(logged(0));
	cr_expect(logged(0x10000));
	cr_expect_not(logged(0x20000), "a device's memory");
	cr_expect_not(logged(0x30000), "read-only memory");
	cr_assert_eq(add(0x40000, 1), 0);
	cr_expect(logged(0x40000), "what is added while all is logged");

	cr_assert_eq(tenon_vm_dirty_log_enable(vm, false, &error), 0, "%s", error.message);
	cr_expect_not(logged(0));
	cr_expect(logged(0x10000));
	cr_expect_not(logged(0x40000));
}

Test(kvm_slots, logging_that_fails_half_way_is_taken_back)
{
	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(add(0x10000 * i, 1), 0);
	fakekvm_fail_call(3, ENOMEM);
	cr_expect_eq(tenon_vm_dirty_log_enable(vm, true, &error), -ENOMEM);
	cr_expect_not_null(strstr(error.message, "0x20000"), "%s", error.message);
	for (unsigned i = 0; i < 5; i++)
		cr_expect_not(logged(0x10000 * i), "slot %u", i);
}

Test(kvm_slots, the_log_has_the_pages_written_since)
{
	uint64_t bitmap[1];
	cr_assert_eq(add(0x100000, 64), 0);
	cr_expect_eq(tenon_vm_dirty_log_fetch(vm, 0x100000, bitmap, 1, &error), -EINVAL);
	cr_assert_eq(tenon_vm_dirty_log_enable(vm, true, &error), 0);
	fakekvm_guest_writes(0, 0x100000);
	fakekvm_guest_writes(0, 0x13ffff);
	cr_assert_eq(tenon_vm_dirty_log_fetch(vm, 0x100000, bitmap, 1, &error), 0, "%s", error.message);
	cr_expect_eq(bitmap[0], 0x8000000000000001ull);
	cr_assert_eq(tenon_vm_dirty_log_fetch(vm, 0x100000, bitmap, 1, &error), 0);
	cr_expect_eq(bitmap[0], 0);
	cr_expect_eq(tenon_vm_dirty_log_fetch(vm, 0x100000, bitmap, 0, &error), -ENOSPC);
	cr_expect_eq(tenon_vm_dirty_log_fetch(vm, 0x101000, bitmap, 1, &error), -ENOENT);
	cr_expect_eq(tenon_vm_dirty_ring_collect(vm, NULL, NULL, &error), -ENOTSUP);
}

// SPDX-License-Identifier: MIT
/* The dirty ring: which pages come out, and vCPUs whose ring is full. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

#define PAGE    4096u
#define ENTRIES 256u /* the fewest that fill a page */

static struct tenon_vm *vm;
static struct tenon_vcpu *vcpus[2];
static struct tenon_error error;
static _Alignas(4096) unsigned char memory[4096];
static atomic_uint full_count;
static bool collect_in_handler;
static uint64_t pages[1024];
static unsigned page_count;

static void note_page(void *context, uint64_t gpa)
{
	cr_assert_lt(page_count, 1024);
	pages[page_count++] = gpa;
}

static void on_full(void *context, unsigned index)
{
	struct tenon_error mine;
	full_count++;
	if (collect_in_handler)
		cr_assert_eq(tenon_vm_dirty_ring_collect(vm, note_page, NULL, &mine), (int)ENTRIES);
}

static void create(void)
{
	static const struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers), .dirty_ring_full = on_full};
	struct tenon_vm_options options = {.size = sizeof(options), .dirty_ring = true, .dirty_ring_entries = ENTRIES};
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(&options, &vm, &error), 0, "%s", error.message);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(tenon_vcpu_create(vm, i, &handlers, NULL, &vcpus[i], &error), 0, "%s", error.message);
	/* The model looks at no memory: one page stands for all. */
	struct tenon_vm_memory range = {
		.size = sizeof(range), .gpa = 0x100000, .size_bytes = 1024 * PAGE, .hva = memory, .log_dirty = true};
	cr_assert_eq(tenon_vm_memory_add(vm, &range, &error), 0, "%s", error.message);
}

static void destroy(void)
{
	for (unsigned i = 0; i < 2; i++)
		tenon_vcpu_destroy(vcpus[i]);
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_ring, .init = create, .fini = destroy, .timeout = 60);

static void fill_ring(void)
{
	for (unsigned i = 0; i < ENTRIES; i++)
		cr_assert(fakekvm_guest_writes(0, 0x100000 + i * PAGE));
	cr_assert_not(fakekvm_guest_writes(0, 0x100000));
}

Test(kvm_ring, pages_of_all_vcpus_come_once_and_round_the_ring)
{
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 100; i++) {
			cr_assert(fakekvm_guest_writes(0, 0x100000 + i * PAGE + 5));
			cr_assert(fakekvm_guest_writes(1, 0x100000 + (i + 100) * PAGE));
		}
		page_count = 0;
		cr_assert_eq(tenon_vm_dirty_ring_collect(vm, note_page, NULL, &error), 200, "%s", error.message);
		uint64_t sum = 0;
		for (unsigned i = 0; i < page_count; i++)
			sum += (pages[i] - 0x100000) / PAGE;
		cr_expect_eq(sum, 199 * 200 / 2);
		cr_expect_eq(tenon_vm_dirty_ring_collect(vm, note_page, NULL, &error), 0);
	}
}

Test(kvm_ring, pages_of_a_slot_that_is_gone_are_dropped)
{
	cr_assert(fakekvm_guest_writes(0, 0x100000));
	cr_assert_eq(tenon_vm_memory_remove(vm, 0x100000, 1024 * PAGE, &error), 0);
	cr_expect_eq(tenon_vm_dirty_ring_collect(vm, note_page, NULL, &error), 1);
	cr_expect_eq(page_count, 0);
}

Test(kvm_ring, a_failed_reset_is_made_up_for_by_the_next)
{
	cr_assert(fakekvm_guest_writes(0, 0x100000));
	fakekvm_fail_call(1, ENOMEM);
	cr_expect_eq(tenon_vm_dirty_ring_collect(vm, note_page, NULL, &error), -ENOMEM);
	cr_expect_eq(page_count, 1, "what was harvested was told");
	cr_expect_eq(tenon_vm_dirty_ring_collect(vm, note_page, NULL, &error), 0);
	fill_ring();
}

Test(kvm_ring, a_full_ring_holds_its_vcpu_until_it_is_collected)
{
	cr_assert_eq(tenon_vcpu_start(vcpus[0], &error), 0);
	fakekvm_wait_until_in_guest(0);
	fill_ring();
	while (full_count < 1)
		usleep(100);
	unsigned entered = fakekvm_calls("KVM_RUN");
	usleep(10000);
	cr_expect_eq(fakekvm_calls("KVM_RUN"), entered, "it spins");
	cr_assert_eq(tenon_vm_dirty_ring_collect(vm, note_page, NULL, &error), (int)ENTRIES);
	fakekvm_wait_until_in_guest(0);
	struct tenon_vcpu_stats stats;
	tenon_vcpu_stats_read(vcpus[0], &stats);
	cr_expect_eq(stats.dirty_ring_full, 1);
}

Test(kvm_ring, a_handler_that_collects_itself_is_not_waited_for)
{
	collect_in_handler = true;
	fill_ring();
	cr_assert_eq(tenon_vcpu_start(vcpus[0], &error), 0);
	fakekvm_wait_until_in_guest(0);
	cr_expect_eq(page_count, ENTRIES);
}

Test(kvm_ring, a_vcpu_that_waits_for_the_collector_pauses_and_stops)
{
	fill_ring();
	cr_assert_eq(tenon_vcpu_start(vcpus[0], &error), 0);
	while (full_count < 1)
		usleep(100);
	for (unsigned i = 0; i < 50; i++) {
		tenon_vcpu_pause(vcpus[0], true);
		tenon_vcpu_resume(vcpus[0]);
	}
	tenon_vcpu_stop(vcpus[0]);
}

Test(kvm_ring, switching_the_log_off_frees_whoever_waits)
{
	fill_ring();
	cr_assert_eq(tenon_vcpu_start(vcpus[0], &error), 0);
	while (full_count < 1)
		usleep(100);
	cr_assert_eq(tenon_vm_dirty_log_enable(vm, false, &error), 0, "%s", error.message);
	fakekvm_wait_until_in_guest(0);
	cr_expect_eq(page_count, 0);
}

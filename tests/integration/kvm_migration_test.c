// SPDX-License-Identifier: MIT
/*
 * A guest that counts, keeps time and takes interrupts goes on in another VM: its vCPUs' and its VM's states as bytes, its memory
 * copied.
 */
#include <errno.h>

#include "kvm_guest.h"

#define HANDLER     0x2000u
#define PENDING     0x50u
#define AREA        0x40000u /* of vCPU 0; each further one 4 KiB above */
#define COUNTED     0x00u    /* how often the loop went round */
#define TICKS       0x08u    /* timer interrupts */
#define LAST_TSC    0x10u
#define WRONG       0x18u /* the count in memory was not the one in the register */
#define WENT_BACK   0x20u /* the TSC was below the last one */
#define PVCLOCK     0x50000u
#define TICK_NS     "2000000"
#define MSR_TSC     0x10u
#define MSR_PVCLOCK 0x4b564d01u
#define MESSAGE     0xfee00000ull

/* Counts in RCX and at RDI, compares both, and looks at the TSC; a timer ticks. */
GUEST_CODE_64(count, "movl $0xfee00000, %ebp\n"
		     "movl $0x1ff, 0xf0(%rbp)\n"
		     "movl $0xb, 0x3e0(%rbp)\n"
		     "movl $0x20040, 0x320(%rbp)\n"
		     "movl $" TICK_NS ", 0x380(%rbp)\n"
		     "xorl %ecx, %ecx\n"
		     "sti\n"
		     "1: incq %rcx\n"
		     "incq (%rdi)\n"
		     "cmpq %rcx, (%rdi)\n"
		     "je 2f\n"
		     "incq 0x18(%rdi)\n"
		     "2: rdtsc\n"
		     "shlq $32, %rdx\n"
		     "orq %rdx, %rax\n"
		     "cmpq 0x10(%rdi), %rax\n"
		     "jae 3f\n"
		     "incq 0x20(%rdi)\n"
		     "3: movq %rax, 0x10(%rdi)\n"
		     "jmp 1b\n");

GUEST_CODE_64(on_tick, "pushq %rax\n"
		       "incq 0x8(%rdi)\n"
		       "outb %al, $0x80\n"
		       "movl $0, 0xb0(%rbp)\n"
		       "popq %rax\n"
		       "iretq\n");

/* Tells, lets interrupts wait until the gate opens, and takes them. */
GUEST_CODE_64(closed, "movl $0xfee00000, %ebp\n"
		      "movl $0x1ff, 0xf0(%rbp)\n"
		      "outb %al, $0x70\n"
		      "1: inb $0x81, %al\n"
		      "testb %al, %al\n"
		      "jz 1b\n"
		      "sti\n"
		      "2: hlt\n"
		      "jmp 2b\n");

GUEST_CODE_64(on_50, "movb $0x50, %al\n"
		     "outb %al, $0x80\n"
		     "movl $0, 0xb0(%rbp)\n"
		     "iretq\n");

static struct tenon_error error;

#define REQUIRE(call) cr_assert_eq(call, 0, "%s", error.message)

/* A further vCPU, which runs what the first does. */
static void add_running_vcpu(struct guest *guest)
{
	guest_add_vcpu(guest);
	struct tenon_vcpu *vcpu = guest->vcpus[guest->vcpu_count - 1];
	guest_set_cpuid(guest, vcpu);
	guest_set_flat_registers(guest, vcpu);
	struct kvm_sregs first, sregs;
	REQUIRE(tenon_vcpu_get_sregs(guest->vcpus[0], &first, &error));
	REQUIRE(tenon_vcpu_get_sregs(vcpu, &sregs, &error));
	uint64_t apic_base = sregs.apic_base;
	sregs = first;
	sregs.apic_base = apic_base;
	REQUIRE(tenon_vcpu_set_sregs(vcpu, &sregs, &error));
	struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
	cr_assert_eq(ioctl(tenon_vcpu_fd(vcpu), KVM_SET_MP_STATE, &runnable), 0);
}

static void create(struct guest *guest, unsigned vcpus, const uint8_t *code, const uint8_t *code_end)
{
	guest_create(guest, NULL, code, code_end);
	guest_enter_long_mode(guest);
	memcpy(guest->ram + HANDLER, guest_on_tick, (size_t)(guest_on_tick_end - guest_on_tick));
	memcpy(guest->ram + HANDLER + 0x100, guest_on_50, (size_t)(guest_on_50_end - guest_on_50));
	guest_set_vector(guest, 0x40, HANDLER);
	guest_set_vector(guest, PENDING, HANDLER + 0x100);
	while (guest->vcpu_count < vcpus)
		add_running_vcpu(guest);
	for (unsigned i = 0; i < vcpus; i++) {
		struct kvm_regs regs;
		REQUIRE(tenon_vcpu_get_regs(guest->vcpus[i], &regs, &error));
		regs.rdi = AREA + i * 0x1000;
		REQUIRE(tenon_vcpu_set_regs(guest->vcpus[i], &regs, &error));
	}
}

/* Stops the source for good and gives all that it was to the target, which does not run yet. */
static void move(struct guest *source, struct guest *target)
{
	void *data;
	size_t bytes;
	for (unsigned i = 0; i < source->vcpu_count; i++)
		tenon_vcpu_pause(source->vcpus[i], false);
	for (unsigned i = 0; i < source->vcpu_count; i++)
		tenon_vcpu_pause(source->vcpus[i], true);

	REQUIRE(tenon_vm_state_pack(source->vm, &data, &bytes, &error));
	REQUIRE(tenon_vm_state_unpack(target->vm, data, bytes, &error));
	free(data);
	memcpy(target->ram, source->ram, GUEST_RAM_BYTES);
	for (unsigned i = 0; i < source->vcpu_count; i++) {
		struct tenon_vcpu_state *state;
		REQUIRE(tenon_vcpu_cpuid_pack(source->vcpus[i], &data, &bytes, &error));
		REQUIRE(tenon_vcpu_cpuid_compare(target->vcpus[i], data, bytes, &error));
		free(data);
		REQUIRE(tenon_vcpu_state_capture(source->vcpus[i], &state, &error));
		REQUIRE(tenon_vcpu_state_pack(state, &data, &bytes, &error));
		tenon_vcpu_state_free(state);
		REQUIRE(tenon_vcpu_state_unpack(data, bytes, &state, &error));
		free(data);
		REQUIRE(tenon_vcpu_state_restore(target->vcpus[i], state, TENON_VCPU_RESTORE_MIGRATION, &error));
		tenon_vcpu_state_free(state);
	}
}

static uint64_t read_area(const struct guest *guest, unsigned vcpu, unsigned what)
{
	return __atomic_load_n((const uint64_t *)(const void *)(guest->ram + AREA + (size_t)vcpu * 0x1000 + what),
			       __ATOMIC_ACQUIRE);
}

/* Waits until each vCPU's timer has ticked `more` times. */
static void wait_for_ticks(struct guest *guest, unsigned more)
{
	for (unsigned i = 0; i < guest->vcpu_count; i++) {
		uint64_t until = read_area(guest, i, TICKS) + more;
		while (read_area(guest, i, TICKS) < until) {
			unsigned told = guest_read_count(guest, &guest->write_count);
			cr_assert(guest_wait(guest, &guest->write_count, told + 1, 20), "vCPU %u: no tick", i);
		}
	}
}

static void expect_all_right(const struct guest *guest)
{
	for (unsigned i = 0; i < guest->vcpu_count; i++) {
		cr_expect_eq(read_area(guest, i, WRONG), 0, "vCPU %u miscounted", i);
		cr_expect_eq(read_area(guest, i, WENT_BACK), 0, "vCPU %u saw its TSC go back", i);
	}
}

static bool get_offset(struct tenon_vcpu *vcpu, uint64_t *offset)
{
	struct kvm_device_attr attribute = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
	return ioctl(tenon_vcpu_fd(vcpu), KVM_GET_DEVICE_ATTR, &attribute) == 0;
}

static uint64_t read_tsc(struct tenon_vcpu *vcpu)
{
	_Alignas(struct kvm_msrs) unsigned char bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)] = {0};
	struct kvm_msrs *msrs = (struct kvm_msrs *)(void *)bytes;
	msrs->nmsrs = 1;
	msrs->entries[0].index = MSR_TSC;
	cr_assert_eq(ioctl(tenon_vcpu_fd(vcpu), KVM_GET_MSRS, msrs), 1);
	return msrs->entries[0].data;
}

/* It is the guest's, not the host's nor a fresh one. */
static void expect_tsc_goes_on(const struct guest *guest, unsigned vcpu)
{
	uint64_t seen = read_area(guest, vcpu, LAST_TSC);
	uint64_t now = read_tsc(guest->vcpus[vcpu]);
	uint64_t minute = 60000ull * (uint64_t)ioctl(tenon_vcpu_fd(guest->vcpus[vcpu]), KVM_GET_TSC_KHZ, 0);
	cr_expect_geq(now, seen, "the TSC of vCPU %u is before what its guest saw", vcpu);
	cr_expect_lt(now - seen, minute, "the TSC of vCPU %u is far beyond what its guest saw", vcpu);
}

static void migrate_counting_guest(unsigned vcpus)
{
	struct guest guests[4];
	create(&guests[0], vcpus, guest_count, guest_count_end);
	for (unsigned i = 0; i < vcpus; i++) { /* far from the host's and from a fresh VM's */
		struct kvm_msr_entry tsc = {.index = MSR_TSC, .data = 1ull << 60};
		REQUIRE(tenon_vcpu_set_msrs(guests[0].vcpus[i], &tsc, 1, &error));
	}
	guest_start(&guests[0]);
	for (unsigned i = 0; i < 3; i++) {
		struct guest *source = &guests[i];
		struct guest *target = &guests[i + 1];
		wait_for_ticks(source, 3);
		create(target, vcpus, guest_count, guest_count_end);
		move(source, target);

		uint64_t counted[4], offsets[4];
		bool has_offsets = true;
		for (unsigned j = 0; j < vcpus; j++) {
			counted[j] = read_area(target, j, COUNTED);
			expect_tsc_goes_on(target, j);
			has_offsets = has_offsets && get_offset(target->vcpus[j], &offsets[j]);
		}
		guest_start(target);
		wait_for_ticks(target, 3);
		for (unsigned j = 0; j < vcpus; j++) {
			cr_expect_gt(read_area(target, j, COUNTED), counted[j]);
			if (has_offsets)
				cr_expect_eq(offsets[j], offsets[0], "the TSCs are equal");
		}
		expect_all_right(target);
		guest_destroy(source);
	}
	guest_destroy(&guests[3]);
}

Test(kvm_migration, a_guest_counts_on_and_its_timer_and_tsc_go_on, .timeout = 120)
{
	guest_skip_without_kvm();
	migrate_counting_guest(1);
}

Test(kvm_migration, so_does_one_of_two_processors_whose_tscs_stay_equal, .timeout = 120)
{
	guest_skip_without_kvm();
	migrate_counting_guest(2);
}

Test(kvm_migration, an_interrupt_that_waits_is_taken_in_the_other_vm, .timeout = 60)
{
	struct guest source;
	struct guest target;
	create(&source, 1, guest_closed, guest_closed_end);
	create(&target, 1, guest_closed, guest_closed_end);
	guest_start(&source);
	cr_assert(guest_wait(&source, &source.write_count, 1, 10));
	cr_assert_geq(tenon_vm_msi_send(source.vm, MESSAGE, PENDING, &error), 0, "%s", error.message);
	move(&source, &target);
	cr_expect_eq(source.write_count, 1, "it was not taken here");
	guest_start(&target);
	guest_open_gate(&target);
	cr_assert(guest_wait(&target, &target.write_count, 1, 10));
	cr_expect_eq(target.writes[0].value, PENDING);
	guest_destroy(&target);
	guest_destroy(&source);
}

static uint64_t kvmclock(const struct guest *guest)
{
	struct kvm_clock_data clock = {0};
	cr_assert_eq(ioctl(tenon_vm_fd(guest->vm), KVM_GET_CLOCK, &clock), 0);
	return clock.clock;
}

#define PVCLOCK_GUEST_STOPPED 2

/* Linux's struct pvclock_vcpu_time_info, Documentation/virt/kvm/x86/msr.rst */
struct pvclock {
	uint32_t version, pad0;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad[2];
};

Test(kvm_migration, the_guests_clock_goes_on_from_where_it_was, .timeout = 60)
{
	struct guest source;
	struct guest target;
	create(&source, 1, guest_count, guest_count_end);
	struct kvm_clock_data old = {.clock = 1000ull * 1000 * 1000 * 1000};
	cr_assert_eq(ioctl(tenon_vm_fd(source.vm), KVM_SET_CLOCK, &old), 0);
	guest_start(&source);
	wait_for_ticks(&source, 2);
	create(&target, 1, guest_count, guest_count_end);
	uint64_t before = kvmclock(&source);
	move(&source, &target);
	uint64_t after = kvmclock(&target);
	cr_expect_geq(after, before);
	cr_expect_lt(after - before, 60ull * 1000 * 1000 * 1000, "it is the old one's, not the host's");
	guest_destroy(&target);
	guest_destroy(&source);
}

Test(kvm_migration, a_guest_that_reads_kvmclock_sees_it_go_on, .timeout = 60)
{
	struct guest source;
	struct guest target;
	create(&source, 1, guest_count, guest_count_end);
	struct kvm_msr_entry msr = {.index = MSR_PVCLOCK, .data = PVCLOCK | 1};
	bool has_kvmclock = tenon_vcpu_set_msrs(source.vcpus[0], &msr, 1, &error) == 0;
	guest_start(&source);
	wait_for_ticks(&source, 2);
	struct pvclock first, second;
	memcpy(&first, source.ram + PVCLOCK, sizeof(first));
	if (!has_kvmclock || first.version == 0) {
		guest_destroy(&source);
		cr_skip_test("this KVM offers no kvmclock");
	}
	create(&target, 1, guest_count, guest_count_end);
	move(&source, &target);
	guest_start(&target);
	wait_for_ticks(&target, 2);
	tenon_vcpu_pause(target.vcpus[0], true);
	memcpy(&second, target.ram + PVCLOCK, sizeof(second));
	cr_expect_geq(second.system_time, first.system_time);
	cr_expect_neq(second.version, first.version, "it was written anew");
	cr_expect(second.flags & PVCLOCK_GUEST_STOPPED, "it is told that it was paused");
	guest_destroy(&target);
	guest_destroy(&source);
}

// SPDX-License-Identifier: MIT
/* A vCPU's whole state, taken from one and given to another, or to itself for a reset. */
#include <errno.h>

#include "kvm_guest.h"

#define MSR_TSC       0x10u
#define MSR_STAR      0xc0000081u
#define MSR_MTRR_TYPE 0x2ffu

/* Counts in a register alone, and tells it when asked. */
GUEST_CODE_32(count, "movl $0x1ff, 0xfee000f0\n"
		     "movl $0, %ecx\n"
		     "1: incl %ecx\n"
		     "movl %ecx, %eax\n"
		     "outl %eax, $0x80\n"
		     "jmp 1b\n");

static uint64_t read_msr(struct tenon_vcpu *vcpu, uint32_t index)
{
	_Alignas(struct kvm_msrs) unsigned char bytes[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)] = {0};
	struct kvm_msrs *msrs = (struct kvm_msrs *)(void *)bytes;
	msrs->nmsrs = 1;
	msrs->entries[0].index = index;
	cr_assert_eq(ioctl(tenon_vcpu_fd(vcpu), KVM_GET_MSRS, msrs), 1, "MSR %#x", index);
	return msrs->entries[0].data;
}

static void expect_equal_registers(struct tenon_vcpu *left, struct tenon_vcpu *right)
{
	struct tenon_error error;
	struct kvm_regs regs[2];
	struct kvm_sregs sregs[2];
	cr_assert_eq(tenon_vcpu_get_regs(left, &regs[0], &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_get_regs(right, &regs[1], &error), 0, "%s", error.message);
	cr_expect_arr_eq(&regs[0], &regs[1], sizeof(regs[0]));
	cr_assert_eq(tenon_vcpu_get_sregs(left, &sregs[0], &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_get_sregs(right, &sregs[1], &error), 0, "%s", error.message);
	cr_expect_eq(sregs[0].cr0, sregs[1].cr0);
	cr_expect_eq(sregs[0].cs.selector, sregs[1].cs.selector);
	cr_expect_eq(sregs[0].cs.db, sregs[1].cs.db);
	cr_expect_eq(sregs[0].apic_base, sregs[1].apic_base);

	struct kvm_lapic_state lapic[2];
	cr_assert_eq(ioctl(tenon_vcpu_fd(left), KVM_GET_LAPIC, &lapic[0]), 0);
	cr_assert_eq(ioctl(tenon_vcpu_fd(right), KVM_GET_LAPIC, &lapic[1]), 0);
	cr_expect_arr_eq(&lapic[0].regs[0xf0], &lapic[1].regs[0xf0], 4, "spurious vector register");
}

Test(kvm_state, a_guest_goes_on_in_another_vm_where_it_was_captured, .timeout = 60)
{
	struct guest source;
	struct guest target;
	guest_create(&source, NULL, guest_count, guest_count_end);
	guest_create(&target, NULL, guest_count, guest_count_end);
	guest_start(&source);
	cr_assert(guest_wait(&source, &source.write_count, 100, 20));
	tenon_vcpu_pause(source.vcpus[0], true);
	unsigned told = source.write_count;

	struct tenon_error error;
	struct tenon_vcpu_state *state;
	cr_assert_eq(tenon_vcpu_state_capture(source.vcpus[0], &state, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_state_restore(target.vcpus[0], state, TENON_VCPU_RESTORE_MIGRATION, &error), 0, "%s",
		     error.message);
	expect_equal_registers(source.vcpus[0], target.vcpus[0]);
	memcpy(target.ram, source.ram, GUEST_RAM_BYTES);
	guest_start(&target);
	cr_assert(guest_wait(&target, &target.write_count, 5, 20));
	cr_expect_eq(target.writes[0].value, told + 1, "%u, after %u", target.writes[0].value, told);
	tenon_vcpu_state_free(state);
	guest_destroy(&target);
	guest_destroy(&source);
}

Test(kvm_state, a_reset_takes_everything_back_but_the_time_stamp_counter, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_count, guest_count_end);
	struct tenon_vcpu *vcpu = guest.vcpus[0];
	struct tenon_error error;
	struct tenon_vcpu_state *power_on;
	cr_assert_eq(tenon_vcpu_state_capture(vcpu, &power_on, &error), 0, "%s", error.message);
	uint64_t star = read_msr(vcpu, MSR_STAR);
	uint64_t tsc = read_msr(vcpu, MSR_TSC);

	guest_start(&guest);
	cr_assert(guest_wait(&guest, &guest.write_count, 10, 20));
	tenon_vcpu_pause(vcpu, true);
	struct kvm_msr_entry changed = {.index = MSR_STAR, .data = 0x1234567800000000ull};
	cr_assert_eq(tenon_vcpu_set_msrs(vcpu, &changed, 1, &error), 0, "%s", error.message);

	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(tenon_vcpu_state_restore(vcpu, power_on, TENON_VCPU_RESTORE_RESET, &error), 0, "%s",
			     error.message);
		struct kvm_regs regs;
		cr_assert_eq(tenon_vcpu_get_regs(vcpu, &regs, &error), 0, "%s", error.message);
		cr_expect_eq(regs.rip, GUEST_CODE);
		cr_expect_eq(regs.rcx, 0);
		cr_expect_eq(read_msr(vcpu, MSR_STAR), star);
		uint64_t now = read_msr(vcpu, MSR_TSC);
		cr_expect_geq(now, tsc, "the time-stamp counter went from %llu back to %llu", (unsigned long long)tsc,
			      (unsigned long long)now);
		tsc = now;
		tenon_vcpu_resume(vcpu);
		unsigned before = guest_read_count(&guest, &guest.write_count);
		cr_assert(guest_wait(&guest, &guest.write_count, before + 1, 20));
		tenon_vcpu_pause(vcpu, true);
	}
	tenon_vcpu_state_free(power_on);
	guest_destroy(&guest);
}

Test(kvm_state, processors_that_wait_for_init_are_captured_and_restored_as_such, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_count, guest_count_end);
	guest_add_vcpu(&guest);
	struct tenon_error error;
	struct tenon_vcpu_state *power_on;
	cr_assert_eq(tenon_vcpu_state_capture(guest.vcpus[1], &power_on, &error), 0, "%s", error.message);
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};
	cr_assert_eq(ioctl(tenon_vcpu_fd(guest.vcpus[1]), KVM_SET_MP_STATE, &state), 0);
	cr_assert_eq(tenon_vcpu_state_restore(guest.vcpus[1], power_on, TENON_VCPU_RESTORE_RESET, &error), 0, "%s",
		     error.message);
	cr_assert_eq(ioctl(tenon_vcpu_fd(guest.vcpus[1]), KVM_GET_MP_STATE, &state), 0);
	cr_expect_eq(state.mp_state, KVM_MP_STATE_UNINITIALIZED);
	tenon_vcpu_state_free(power_on);
	guest_destroy(&guest);
}

Test(kvm_state, memory_types_travel_with_the_state, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_count, guest_count_end);
	struct tenon_vcpu *vcpu = guest.vcpus[0];
	struct tenon_error error;
	struct kvm_msr_entry type = {.index = MSR_MTRR_TYPE, .data = 0xc06};
	if (tenon_vcpu_set_msrs(vcpu, &type, 1, &error) < 0) {
		guest_destroy(&guest);
		cr_skip_test("%s", error.message);
	}
	struct tenon_vcpu_state *state;
	cr_assert_eq(tenon_vcpu_state_capture(vcpu, &state, &error), 0, "%s", error.message);
	type.data = 0;
	cr_assert_eq(tenon_vcpu_set_msrs(vcpu, &type, 1, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_state_restore(vcpu, state, TENON_VCPU_RESTORE_RESET, &error), 0, "%s", error.message);
	cr_expect_eq(read_msr(vcpu, MSR_MTRR_TYPE), 0xc06);
	tenon_vcpu_state_free(state);
	guest_destroy(&guest);
}

Test(kvm_state, a_refused_msr_is_named, .timeout = 60)
{
	struct guest guest;
	guest_create(&guest, NULL, guest_count, guest_count_end);
	struct tenon_error error;
	struct kvm_msr_entry msrs[] = {{.index = MSR_STAR, .data = 1}, {.index = 0x12345678, .data = 1}};
	cr_expect_eq(tenon_vcpu_set_msrs(guest.vcpus[0], msrs, 2, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "0x12345678"), "%s", error.message);
	cr_expect_eq(read_msr(guest.vcpus[0], MSR_STAR), 1, "those before it are set");
	guest_destroy(&guest);
}

// SPDX-License-Identifier: MIT
/* Registers one kind at a time, and whole states: what is kept, in which order it is restored, what a reset leaves alone. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

#define MSR_TSC          0x10u
#define MSR_SYSENTER     0x174u
#define MSR_STAR         0xc0000081u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_MTRR_TYPE    0x2ffu

static struct tenon_vm *vm;
static struct tenon_vcpu *vcpu;
static struct tenon_error error;
static struct tenon_vcpu_state *state;

static void create(void)
{
	static const struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_create(vm, 0, &handlers, NULL, &vcpu, &error), 0, "%s", error.message);
}

static void destroy(void)
{
	tenon_vcpu_state_free(state);
	tenon_vcpu_destroy(vcpu);
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_registers, .init = create, .fini = destroy);

static void capture(void)
{
	cr_assert_eq(tenon_vcpu_state_capture(vcpu, &state, &error), 0, "%s", error.message);
}

static int restore(enum tenon_vcpu_restore purpose)
{
	return tenon_vcpu_state_restore(vcpu, state, purpose, &error);
}

Test(kvm_registers, more_msrs_than_one_batch_are_set_and_the_first_refused_is_named)
{
	struct kvm_msr_entry msrs[200];
	for (unsigned i = 0; i < 200; i++) {
		msrs[i] = (struct kvm_msr_entry){.index = 0x5000 + i, .data = i + 1};
		fakekvm_add_msr(0x5000 + i, false, i != 150);
	}
	cr_expect_eq(tenon_vcpu_set_msrs(vcpu, msrs, 150, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, 0x5000 + 149), 150);
	cr_expect_eq(tenon_vcpu_set_msrs(vcpu, msrs, 200, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "MSR 0x5096 the value 0x97"), "%s", error.message);
	cr_expect_eq(tenon_vcpu_set_msrs(vcpu, msrs, 0, &error), 0);
}

Test(kvm_registers, a_state_brings_back_all_registers)
{
	fakekvm_regs(0)->rip = 0x1234;
	fakekvm_sregs(0)->cr3 = 0x5000;
	fakekvm_set_msr(0, MSR_STAR, 77);
	fakekvm_set_msr(0, MSR_MTRR_TYPE, 0xc06);
	capture();
	fakekvm_regs(0)->rip = 1;
	fakekvm_sregs(0)->cr3 = 1;
	fakekvm_set_msr(0, MSR_STAR, 1);
	fakekvm_set_msr(0, MSR_MTRR_TYPE, 0);
	cr_assert_eq(restore(TENON_VCPU_RESTORE_RESET), 0, "%s", error.message);
	cr_expect_eq(fakekvm_regs(0)->rip, 0x1234);
	cr_expect_eq(fakekvm_sregs(0)->cr3, 0x5000);
	cr_expect_eq(fakekvm_msr(0, MSR_STAR), 77);
	cr_expect_eq(fakekvm_msr(0, MSR_MTRR_TYPE), 0xc06,
		     "memory types are not in KVM's list and travel all the same");
}

Test(kvm_registers, a_reset_leaves_the_time_stamp_counter_and_a_migration_brings_it)
{
	fakekvm_set_msr(0, MSR_TSC, 100);
	capture();
	fakekvm_set_msr(0, MSR_TSC, 900);
	cr_assert_eq(restore(TENON_VCPU_RESTORE_RESET), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, MSR_TSC), 900);
	cr_expect_eq(fakekvm_calls("KVM_SET_TSC_KHZ"), 0);
	cr_assert_eq(restore(TENON_VCPU_RESTORE_MIGRATION), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, MSR_TSC), 100);
}

Test(kvm_registers, a_deadline_is_set_once_the_lapic_counts_it)
{
	fakekvm_set_deadline_mode(0, true);
	fakekvm_set_msr(0, MSR_TSC_DEADLINE, 5000);
	capture();
	fakekvm_set_deadline_mode(0, false);
	fakekvm_set_msr(0, MSR_TSC_DEADLINE, 0);
	cr_assert_eq(restore(TENON_VCPU_RESTORE_MIGRATION), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, MSR_TSC_DEADLINE), 5000);
}

Test(kvm_registers, state_is_captured_and_restored_in_the_order_that_kvm_needs)
{
	capture();
	cr_expect_lt(fakekvm_call_position("KVM_GET_MP_STATE"), fakekvm_call_position("KVM_GET_REGS"));
	cr_expect_lt(fakekvm_call_position("KVM_GET_VCPU_EVENTS"), fakekvm_call_position("KVM_GET_SREGS"));
	fakekvm_forget_calls();
	cr_assert_eq(restore(TENON_VCPU_RESTORE_MIGRATION), 0, "%s", error.message);
	cr_expect_lt(fakekvm_call_position("KVM_SET_SREGS"), fakekvm_call_position("KVM_SET_LAPIC"));
	cr_expect_lt(fakekvm_call_position("KVM_SET_DEVICE_ATTR"), fakekvm_call_position("KVM_SET_LAPIC"));
	cr_expect_lt(fakekvm_call_position("KVM_SET_LAPIC"), fakekvm_call_position("KVM_SET_MSRS"));
	cr_expect_lt(fakekvm_call_position("KVM_SET_REGS"), fakekvm_call_position("KVM_SET_VCPU_EVENTS"));
	cr_expect_lt(fakekvm_call_position("KVM_SET_VCPU_EVENTS"), fakekvm_call_position("KVM_SET_MP_STATE"));
}

Test(kvm_registers, msrs_that_kvm_lists_but_cannot_read_are_left_out)
{
	for (unsigned i = 0; i < 5; i++)
		fakekvm_add_unreadable_msr(0x9000 + i);
	fakekvm_set_msr(0, MSR_SYSENTER, 5);
	capture();
	fakekvm_set_msr(0, MSR_SYSENTER, 6);
	cr_assert_eq(restore(TENON_VCPU_RESTORE_RESET), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, MSR_SYSENTER), 5);
}

Test(kvm_registers, a_read_only_msr_matters_only_when_it_differs)
{
	fakekvm_add_msr(0x8b, true, false);
	fakekvm_set_msr(0, 0x8b, 0x100);
	fakekvm_set_msr(0, MSR_STAR, 3);
	capture();
	fakekvm_set_msr(0, MSR_STAR, 4);
	cr_expect_eq(restore(TENON_VCPU_RESTORE_MIGRATION), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, MSR_STAR), 3, "those after it are set");
	fakekvm_set_msr(0, 0x8b, 0x200);
	cr_expect_eq(restore(TENON_VCPU_RESTORE_MIGRATION), -EINVAL);
	cr_expect_not_null(strstr(error.message, "MSR 0x8b the value 0x100"), "%s", error.message);
}

Test(kvm_registers, hyper_vs_msrs_are_never_touched)
{
	fakekvm_add_msr(0x40000001, true, false);
	fakekvm_set_msr(0, 0x40000001, 1);
	capture();
	fakekvm_set_msr(0, 0x40000001, 2);
	cr_expect_eq(restore(TENON_VCPU_RESTORE_RESET), 0, "%s", error.message);
}

Test(kvm_registers, another_tsc_frequency_is_scaled_or_refused_by_name)
{
	capture();
	fakekvm_set_tsc_khz(3000000);
	cr_expect_eq(restore(TENON_VCPU_RESTORE_MIGRATION), 0, "%s", error.message);
	cr_expect_eq(fakekvm_calls("KVM_SET_TSC_KHZ"), 1);

	fakekvm_set_tsc_khz(3000000);
	fakekvm_set_capability(KVM_CAP_TSC_CONTROL, 0);
	cr_expect_eq(restore(TENON_VCPU_RESTORE_MIGRATION), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_TSC_CONTROL"), "%s", error.message);
	cr_expect_eq(restore(TENON_VCPU_RESTORE_RESET), 0, "a reset does not care: %s", error.message);
	fakekvm_set_tsc_khz(2000400);
	cr_expect_eq(restore(TENON_VCPU_RESTORE_MIGRATION), 0, "within what clocks differ by: %s", error.message);
}

Test(kvm_registers, a_guest_that_was_a_hypervisor_is_reset)
{
	capture();
	fakekvm_enter_nested(0);
	cr_expect_eq(restore(TENON_VCPU_RESTORE_RESET), 0, "%s", error.message);
	cr_expect_not(fakekvm_is_nested(0));
}

Test(kvm_registers, a_hypervisors_state_is_brought_to_a_fresh_vcpu)
{
	fakekvm_enter_nested(0);
	capture();
	tenon_vcpu_destroy(vcpu);
	tenon_vm_destroy(vm);
	create();
	cr_expect_eq(restore(TENON_VCPU_RESTORE_MIGRATION), 0, "%s", error.message);
	cr_expect(fakekvm_is_nested(0));
}

Test(kvm_registers, a_kvm_without_the_newer_state_is_served)
{
	fakekvm_set_capability(KVM_CAP_XCRS, 0);
	fakekvm_set_capability(KVM_CAP_NESTED_STATE, 0);
	fakekvm_fail_always("KVM_GET_TSC_KHZ", EIO);
	capture();
	cr_expect_eq(restore(TENON_VCPU_RESTORE_MIGRATION), 0, "%s", error.message);
	cr_expect_eq(fakekvm_calls("KVM_GET_XCRS") + fakekvm_calls("KVM_SET_XCRS"), 0);
	cr_expect_eq(fakekvm_calls("KVM_GET_NESTED_STATE") + fakekvm_calls("KVM_SET_NESTED_STATE"), 0);
}

Test(kvm_registers, capabilities_that_a_state_needs_are_named)
{
	fakekvm_set_capability(KVM_CAP_XSAVE, 0);
	cr_expect_eq(tenon_vcpu_state_capture(vcpu, &state, &error), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_XSAVE"), "%s", error.message);
	cr_expect_null(state);
}

// SPDX-License-Identifier: MIT
/* States as bytes: what is packed here and unpacked there is the same, and bytes of any other kind are refused with a reason. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

#define MSR_TSC      0x10u
#define MSR_STAR     0xc0000081u
#define MSR_KVMCLOCK 0x4b564d01u

/* Of the form in kvm/records.h */
#define HEADER_BYTES 16u
#define TAG_EVENTS   4u
#define TAG_SREGS    6u
#define TAG_XSAVE    10u
#define TAG_MSRS     11u
#define TAG_NESTED   12u
#define TAG_UNKNOWN  31u
#define TAG_IOAPIC   3u
#define TAG_CLOCK    4u

static struct tenon_vm *vm;
static struct tenon_vcpu *vcpus[2];
static struct tenon_error error;
static unsigned char *packed;
static size_t packed_bytes;

static void create_vm(void)
{
	static const struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(tenon_vcpu_create(vm, i, &handlers, NULL, &vcpus[i], &error), 0, "%s", error.message);
}

static void destroy_vm(void)
{
	tenon_vcpu_destroy(vcpus[0]);
	tenon_vcpu_destroy(vcpus[1]);
	tenon_vm_destroy(vm);
}

static void create(void)
{
	fakekvm_reset();
	create_vm();
}

static void destroy(void)
{
	free(packed);
	destroy_vm();
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_pack, .init = create, .fini = destroy);

/* As on another host that was just started. */
static void replace_vm(void)
{
	destroy_vm();
	create_vm();
}

static void pack_vcpu(unsigned index, void **data, size_t *bytes)
{
	struct tenon_vcpu_state *state;
	cr_assert_eq(tenon_vcpu_state_capture(vcpus[index], &state, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_state_pack(state, data, bytes, &error), 0, "%s", error.message);
	tenon_vcpu_state_free(state);
}

static void pack(void)
{
	void *data = NULL;
	pack_vcpu(0, &data, &packed_bytes);
	packed = data;
}

static void pack_vm(void)
{
	void *data = NULL;
	cr_assert_eq(tenon_vm_state_pack(vm, &data, &packed_bytes, &error), 0, "%s", error.message);
	packed = data;
}

static int unpack_vcpu(unsigned index, const void *data, size_t bytes)
{
	struct tenon_vcpu_state *state = NULL;
	int result = tenon_vcpu_state_unpack(data, bytes, &state, &error);
	if (result == 0)
		result = tenon_vcpu_state_restore(vcpus[index], state, TENON_VCPU_RESTORE_MIGRATION, &error);
	tenon_vcpu_state_free(state);
	return result;
}

static int unpack(void)
{
	return unpack_vcpu(0, packed, packed_bytes);
}

static uint32_t get32(size_t offset)
{
	uint32_t value;
	memcpy(&value, packed + offset, sizeof(value));
	return value;
}

static void put32(size_t offset, uint32_t value)
{
	memcpy(packed + offset, &value, sizeof(value));
}

/* Where the payload of this record begins. */
static size_t find(uint16_t tag)
{
	for (size_t at = HEADER_BYTES; at < packed_bytes; at += 8 + get32(at + 4)) {
		if ((get32(at) & 0xffff) == tag)
			return at + 8;
	}
	cr_assert_fail("no record with tag %u", tag);
	return 0;
}

static void append(uint16_t tag, bool required, const void *payload, uint32_t bytes)
{
	packed = realloc(packed, packed_bytes + 8 + bytes);
	cr_assert_not_null(packed);
	put32(packed_bytes, tag | (uint32_t)required << 16);
	put32(packed_bytes + 4, bytes);
	memcpy(packed + packed_bytes + 8, payload, bytes);
	packed_bytes += 8 + bytes;
	put32(8, (uint32_t)packed_bytes);
	put32(12, get32(12) + 1);
}

static void drop(uint16_t tag)
{
	size_t at = find(tag) - 8;
	size_t bytes = 8 + get32(at + 4);
	memmove(packed + at, packed + at + bytes, packed_bytes - at - bytes);
	packed_bytes -= bytes;
	put32(8, (uint32_t)packed_bytes);
	put32(12, get32(12) - 1);
}

static void expect_refused(const char *reason)
{
	struct tenon_vcpu_state *state = NULL;
	cr_expect_eq(tenon_vcpu_state_unpack(packed, packed_bytes, &state, &error), -EINVAL);
	cr_expect_null(state);
	cr_expect_not_null(strstr(error.message, reason), "%s", error.message);
}

/* ---- A vCPU's state ---- */

Test(kvm_pack, a_vcpus_state_goes_to_another_vm_as_bytes)
{
	fakekvm_regs(0)->rip = 0x1234;
	fakekvm_sregs(0)->cr3 = 0x5000;
	fakekvm_set_msr(0, MSR_STAR, 77);
	fakekvm_events(0)->nmi.masked = 1;
	fakekvm_xsave(0)[4095] = 9;
	pack();
	replace_vm();
	cr_assert_eq(unpack(), 0, "%s", error.message);
	cr_expect_eq(fakekvm_regs(0)->rip, 0x1234);
	cr_expect_eq(fakekvm_sregs(0)->cr3, 0x5000);
	cr_expect_eq(fakekvm_msr(0, MSR_STAR), 77);
	cr_expect_eq(fakekvm_events(0)->nmi.masked, 1);
	cr_expect_eq(fakekvm_xsave(0)[4095], 9);
}

static void expect_exact_round_trip(void)
{
	struct tenon_vcpu_state *state;
	void *again;
	size_t again_bytes;
	cr_assert_eq(tenon_vcpu_state_unpack(packed, packed_bytes, &state, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_state_pack(state, &again, &again_bytes, &error), 0, "%s", error.message);
	cr_assert_eq(again_bytes, packed_bytes);
	cr_expect_arr_eq(again, packed, packed_bytes);
	tenon_vcpu_state_free(state);
	free(again);
}

Test(kvm_pack, what_is_unpacked_packs_to_the_same_bytes)
{
	fakekvm_enter_nested(0);
	pack();
	expect_exact_round_trip();
}

Test(kvm_pack, a_state_without_the_newer_parts_packs_and_unpacks)
{
	fakekvm_set_capability(KVM_CAP_XCRS, 0);
	fakekvm_set_capability(KVM_CAP_NESTED_STATE, 0);
	fakekvm_set_capability(KVM_CAP_VCPU_ATTRIBUTES, 0);
	fakekvm_set_msr(0, MSR_TSC, 123456);
	pack();
	expect_exact_round_trip();
	cr_assert_eq(unpack(), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, MSR_TSC), 123456, "by the MSR, where KVM has no offsets");
}

Test(kvm_pack, no_shorter_state_is_taken_for_one)
{
	pack();
	for (size_t bytes = 0; bytes < packed_bytes; bytes += bytes < 200 ? 1 : 61) {
		struct tenon_vcpu_state *state = NULL;
		unsigned char *cut = malloc(bytes + 1); /* so that a sanitizer sees the end */
		memcpy(cut, packed, bytes);
		cr_expect_eq(tenon_vcpu_state_unpack(cut, bytes, &state, &error), -EINVAL, "%zu bytes", bytes);
		free(cut);
	}
}

Test(kvm_pack, another_kind_and_a_newer_version_are_told_apart)
{
	pack();
	packed[4] = 2;
	expect_refused("version 2, and this library knows version 1");
	packed[4] = 1;
	packed[0] = 'X';
	expect_refused("no such state");
}

Test(kvm_pack, a_record_from_the_future_is_refused_when_it_must_be_known_and_skipped_else)
{
	pack();
	append(TAG_UNKNOWN, false, "what?", 5);
	struct tenon_vcpu_state *state = NULL;
	cr_expect_eq(tenon_vcpu_state_unpack(packed, packed_bytes, &state, &error), 0, "%s", error.message);
	tenon_vcpu_state_free(state);
	append(4711, true, "what?", 5);
	expect_refused("tag 4711");
}

Test(kvm_pack, a_missing_a_second_and_a_misshapen_record_are_refused)
{
	pack();
	struct kvm_sregs sregs = {0};
	append(TAG_SREGS, true, &sregs, sizeof(sregs));
	expect_refused("tag 6 twice");
	drop(TAG_SREGS);
	drop(TAG_SREGS);
	expect_refused("has no special registers");
	append(TAG_SREGS, true, &sregs, sizeof(sregs) - 1);
	expect_refused("special registers of 311 bytes, not 312");
}

Test(kvm_pack, msrs_are_each_there_once_and_none_is_hyper_vs)
{
	pack();
	size_t msrs = find(TAG_MSRS);
	uint32_t first = get32(msrs);
	put32(msrs, get32(msrs + 12));
	expect_refused("twice");
	put32(msrs, 0x40000000);
	expect_refused("MSR 0x40000000, which no state has");
	put32(msrs, first);
	put32(msrs - 4, get32(msrs - 4) - 1);
	expect_refused("damaged");
}

Test(kvm_pack, msrs_may_come_in_any_order_and_are_written_in_the_right_one)
{
	fakekvm_set_deadline_mode(0, true);
	fakekvm_set_msr(0, 0x6e0, 5000);
	pack();
	size_t msrs = find(TAG_MSRS);
	uint32_t bytes = get32(msrs - 4);
	unsigned char first[12];
	memcpy(first, packed + msrs, 12);
	memmove(packed + msrs, packed + msrs + 12, bytes - 12);
	memcpy(packed + msrs + bytes - 12, first, 12);
	replace_vm();
	cr_expect_eq(unpack(), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, 0x6e0), 5000);
}

Test(kvm_pack, nested_state_must_be_as_large_as_it_says)
{
	fakekvm_enter_nested(0);
	pack();
	size_t nested = find(TAG_NESTED);
	put32(nested + 4, 4096); /* struct kvm_nested_state: flags, format, size */
	expect_refused("says that it has 4096");
	put32(nested + 4, get32(nested - 4));
	packed[nested + 2] = 9;
	expect_refused("format 9");
}

Test(kvm_pack, a_kvm_without_nested_virtualization_takes_all_guests_but_hypervisors)
{
	pack();
	replace_vm();
	fakekvm_set_capability(KVM_CAP_NESTED_STATE, 0);
	cr_expect_eq(unpack(), 0, "%s", error.message);
	cr_expect_eq(fakekvm_calls("KVM_SET_NESTED_STATE"), 0);

	free(packed);
	fakekvm_set_capability(KVM_CAP_NESTED_STATE, 4096);
	fakekvm_enter_nested(0);
	pack();
	fakekvm_set_capability(KVM_CAP_NESTED_STATE, 0);
	cr_expect_eq(unpack(), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_NESTED_STATE"), "%s", error.message);
}

/* ---- MSRs that only one of two kernels knows ---- */

Test(kvm_pack, an_msr_that_is_unknown_here_may_only_be_zero)
{
	size_t msrs, last;
	pack();
	msrs = find(TAG_MSRS);
	last = msrs + get32(msrs - 4) - 12; /* the deadline, which is zero */
	put32(last, 0x1234);
	cr_expect_eq(unpack(), 0, "%s", error.message);
	packed[last + 4] = 7;
	cr_expect_eq(unpack(), -EINVAL);
	cr_expect_not_null(strstr(error.message, "MSR 0x1234 the value 0x7"), "%s", error.message);
}

/* ---- Extended state of another size ---- */

Test(kvm_pack, a_smaller_extended_state_fits_a_larger_cpu)
{
	fakekvm_xsave(0)[100] = 3;
	pack();
	replace_vm();
	fakekvm_set_capability(KVM_CAP_XSAVE2, 8192);
	memset(fakekvm_xsave(0), 0xff, 8192);
	cr_assert_eq(unpack(), 0, "%s", error.message);
	cr_expect_eq(fakekvm_xsave(0)[100], 3);
	cr_expect_eq(fakekvm_xsave(0)[8191], 0);
}

Test(kvm_pack, a_larger_extended_state_fits_a_smaller_cpu_only_when_the_rest_is_unused)
{
	fakekvm_set_capability(KVM_CAP_XSAVE2, 8192);
	pack();
	fakekvm_set_capability(KVM_CAP_XSAVE2, 0);
	cr_expect_eq(unpack(), 0, "%s", error.message);
	packed[find(TAG_XSAVE) + 8191] = 1;
	cr_expect_eq(unpack(), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "8192 bytes, and this host's CPU keeps 4096"), "%s", error.message);
}

/* ---- Events that only some kernels tell ---- */

Test(kvm_pack, pending_exceptions_and_triple_faults_are_taken_along_or_refused)
{
	fakekvm_events(0)->exception.pending = 1;
	fakekvm_events(0)->triple_fault.pending = 1;
	pack();
	replace_vm();
	cr_expect_eq(unpack(), 0, "%s", error.message);
	cr_expect_eq(fakekvm_events(0)->triple_fault.pending, 1);

	fakekvm_set_capability(KVM_CAP_EXCEPTION_PAYLOAD, 0);
	fakekvm_set_capability(KVM_CAP_X86_TRIPLE_FAULT_EVENT, 0);
	replace_vm();
	cr_expect_eq(unpack(), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_EXCEPTION_PAYLOAD"), "%s", error.message);
	((struct kvm_vcpu_events *)(void *)(packed + find(TAG_EVENTS)))->exception.pending = 0;
	cr_expect_eq(unpack(), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_X86_TRIPLE_FAULT_EVENT"), "%s", error.message);
	((struct kvm_vcpu_events *)(void *)(packed + find(TAG_EVENTS)))->triple_fault.pending = 0;
	cr_expect_eq(unpack(), 0, "nothing is pending: %s", error.message);
}

/* ---- Time ---- */

Test(kvm_pack, time_stamp_counters_go_on_and_keep_their_distance)
{
	void *data[2];
	size_t bytes[2];
	fakekvm_set_msr(0, MSR_TSC, 1000000);
	fakekvm_set_msr(1, MSR_TSC, 1000007);
	for (unsigned i = 0; i < 2; i++) {
		pack_vcpu(i, &data[i], &bytes[i]);
		fakekvm_advance_tsc(5000);
	}
	replace_vm();
	fakekvm_advance_tsc(1ull << 33);
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(unpack_vcpu(i, data[i], bytes[i]), 0, "%s", error.message);
		if (i == 0)
			cr_expect_eq(fakekvm_msr(0, MSR_TSC), 1000000, "from where it was captured");
		fakekvm_advance_tsc(3000);
		free(data[i]);
	}
	cr_expect_eq(fakekvm_msr(0, MSR_TSC), 1000000 + 6000);
	cr_expect_eq(fakekvm_msr(1, MSR_TSC), 1000007 + 6000, "as far from the first as it was");
}

Test(kvm_pack, the_time_stamp_counter_goes_on_with_kvmclock)
{
	fakekvm_set_msr(0, MSR_TSC, 1000000);
	fakekvm_set_clock(77000);
	pack();
	replace_vm();
	fakekvm_advance_tsc(1ull << 33);
	fakekvm_set_clock(77000 + 500);
	cr_expect_eq(unpack(), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, MSR_TSC), 1000000 + 1000, "500 ns at 2 GHz");

	replace_vm();
	fakekvm_set_clock(77000 - 500); /* the VM's clock was read before the vCPU's state */
	cr_expect_eq(unpack(), 0, "%s", error.message);
	cr_expect_eq(fakekvm_msr(0, MSR_TSC), 1000000 - 1000);
}

Test(kvm_pack, a_guest_with_kvmclock_is_told_that_it_was_paused)
{
	fakekvm_set_msr(0, MSR_KVMCLOCK, 0x1000 | 1);
	pack();
	replace_vm();
	cr_assert_eq(unpack(), 0, "%s", error.message);
	cr_expect(fakekvm_told_paused(0));
}

Test(kvm_pack, a_guest_without_kvmclock_need_not_be_told)
{
	pack();
	cr_assert_eq(unpack(), 0, "%s", error.message);
	cr_expect_not(fakekvm_told_paused(0));
	fakekvm_fail_always("KVM_KVMCLOCK_CTRL", EIO);
	cr_expect_eq(unpack(), -EIO);
}

/* ---- The VM's state ---- */

Test(kvm_pack, interrupt_controllers_and_the_guests_clock_go_along)
{
	fakekvm_set_ioapic_register(0x1234);
	fakekvm_chip(KVM_IRQCHIP_PIC_SLAVE)->chip.pic.imr = 0x5a;
	fakekvm_set_clock(77000);
	fakekvm_add_pit()->flags = 1;
	pack_vm();
	replace_vm();
	struct kvm_pit_state2 *pit = fakekvm_add_pit();
	cr_assert_eq(tenon_vm_state_unpack(vm, packed, packed_bytes, &error), 0, "%s", error.message);
	cr_expect_eq(fakekvm_ioapic_register(3), 0x1234);
	cr_expect_eq(fakekvm_chip(KVM_IRQCHIP_PIC_SLAVE)->chip.pic.imr, 0x5a);
	cr_expect_eq(fakekvm_clock(), 77000);
	cr_expect_eq(pit->flags, 1);
}

Test(kvm_pack, lines_that_devices_hold_are_theirs_to_assert_again)
{
	struct kvm_ioapic_state *ioapic = &fakekvm_chip(KVM_IRQCHIP_IOAPIC)->chip.ioapic;
	ioapic->redirtbl[4].fields.trig_mode = 0;
	ioapic->redirtbl[16].fields.trig_mode = 1;
	ioapic->irr = 1u << 4 | 1u << 16;
	pack_vm();
	replace_vm();
	cr_assert_eq(tenon_vm_state_unpack(vm, packed, packed_bytes, &error), 0, "%s", error.message);
	cr_expect_eq(ioapic->irr, 1u << 4, "an edge is remembered, a level is not: %#x", ioapic->irr);
	cr_expect_not(fakekvm_line(16));
}

Test(kvm_pack, a_pit_without_one_here_and_a_clock_that_cannot_be_set_are_refused)
{
	fakekvm_add_pit();
	pack_vm();
	replace_vm();
	cr_expect_eq(tenon_vm_state_unpack(vm, packed, packed_bytes, &error), -ENXIO);
	cr_expect_not_null(strstr(error.message, "KVM_SET_PIT2"), "%s", error.message);
	fakekvm_add_pit();
	fakekvm_set_capability(KVM_CAP_ADJUST_CLOCK, 0);
	cr_expect_eq(tenon_vm_state_unpack(vm, packed, packed_bytes, &error), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, "KVM_CAP_ADJUST_CLOCK"), "%s", error.message);
}

Test(kvm_pack, a_vms_state_of_another_shape_is_refused_before_anything_changes)
{
	pack_vm();
	fakekvm_forget_calls();
	drop(TAG_IOAPIC);
	cr_expect_eq(tenon_vm_state_unpack(vm, packed, packed_bytes, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "IOAPIC of 0 bytes"), "%s", error.message);
	append(TAG_IOAPIC, true, &(struct kvm_ioapic_state){0}, sizeof(struct kvm_ioapic_state));
	drop(TAG_CLOCK);
	append(TAG_CLOCK, true, "now", 3);
	cr_expect_eq(tenon_vm_state_unpack(vm, packed, packed_bytes, &error), -EINVAL);
	cr_expect_eq(fakekvm_calls("KVM_SET_IRQCHIP"), 0);
}

Test(kvm_pack, a_vm_that_runs_is_neither_packed_nor_unpacked)
{
	pack_vm();
	void *data;
	size_t bytes;
	cr_assert_eq(tenon_vcpu_start(vcpus[1], &error), 0, "%s", error.message);
	fakekvm_wait_until_in_guest(1);
	cr_expect_eq(tenon_vm_state_pack(vm, &data, &bytes, &error), -EBUSY);
	cr_expect_eq(tenon_vm_state_unpack(vm, packed, packed_bytes, &error), -EBUSY);
	tenon_vcpu_stop(vcpus[1]);
}

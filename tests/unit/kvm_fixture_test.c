// SPDX-License-Identifier: MIT
/* The state of a vCPU and of a VM that an earlier version has packed is unpacked by this one: tests/fixtures/README.md. */
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "fixture_file.h"
#include "kvm_fake.h"
#include "vcpu_state.h"

#define VCPU         "v1/vcpu"
#define VCPU_LEAST   "v1/vcpu-least"
#define VM           "v1/vm"
#define XSAVE_BYTES  (VCPU_XSAVE_BYTES + 576u)
#define NESTED_BYTES (sizeof(struct kvm_nested_state) + 64u)

static struct tenon_error error;
static struct fixture_file file;

/* Bytes that all differ from those beside them, and from those of another seed. */
static void fill(void *data, size_t bytes, unsigned seed)
{
	for (size_t i = 0; i < bytes; i++)
		((unsigned char *)data)[i] = (unsigned char)(i * 37 + seed * 11 + 1);
}

/* ---- A vCPU ---- */

static const struct kvm_msr_entry msrs[] = {
	{.index = 0x174, .data = 0x10}, /* SYSENTER_CS */
	{.index = 0xc0000080, .data = 0xd01},
	{.index = 0xc0000081, .data = 0x0023001000000000},
	{.index = 0x10, .data = 0x123456789abcdef0},
};
#define MSRS (sizeof(msrs) / sizeof(msrs[0]))

/* @param least  of a KVM without what a state may lack */
static struct tenon_vcpu_state *make_state(bool least)
{
	struct tenon_vcpu_state *state = vcpu_state_allocate(XSAVE_BYTES, MSRS, least ? 0 : NESTED_BYTES);
	cr_assert_not_null(state);
	state->tsc_khz = 2400001;
	fill(&state->mp_state, sizeof(state->mp_state), 1);
	fill(&state->events, sizeof(state->events), 2);
	fill(&state->regs, sizeof(state->regs), 3);
	fill(&state->sregs, sizeof(state->sregs), 4);
	fill(&state->debugregs, sizeof(state->debugregs), 5);
	fill(&state->lapic, sizeof(state->lapic), 6);
	fill(state->data, XSAVE_BYTES, 7);
	memcpy(vcpu_state_msrs(state), msrs, sizeof(msrs));
	if (least)
		return state;
	state->has_tsc_offset = state->has_xcrs = true;
	state->tsc_offset = 0xfedcba9876543210;
	fill(&state->xcrs, sizeof(state->xcrs), 8);
	fill(vcpu_state_nested(state), NESTED_BYTES, 9);
	vcpu_state_nested(state)->format = KVM_STATE_NESTED_FORMAT_VMX;
	vcpu_state_nested(state)->size = NESTED_BYTES;
	return state;
}

static uint64_t msr_of(const struct tenon_vcpu_state *state, uint32_t index)
{
	for (uint32_t i = 0; i < state->msr_count; i++) {
		if (vcpu_state_msrs(state)[i].index == index)
			return vcpu_state_msrs(state)[i].data;
	}
	cr_assert_fail("MSR %#x is missing", index);
	return 0;
}

static void expect_same_state(const struct tenon_vcpu_state *is, const struct tenon_vcpu_state *was)
{
	cr_expect_eq(is->tsc_khz, was->tsc_khz);
	cr_expect_eq(is->has_tsc_offset, was->has_tsc_offset);
	cr_expect_eq(is->tsc_offset, was->tsc_offset);
	cr_expect_eq(is->has_xcrs, was->has_xcrs);
	cr_expect_eq(memcmp(&is->mp_state, &was->mp_state, sizeof(is->mp_state)), 0);
	cr_expect_eq(memcmp(&is->events, &was->events, sizeof(is->events)), 0);
	cr_expect_eq(memcmp(&is->regs, &was->regs, sizeof(is->regs)), 0);
	cr_expect_eq(memcmp(&is->sregs, &was->sregs, sizeof(is->sregs)), 0);
	cr_expect_eq(memcmp(&is->debugregs, &was->debugregs, sizeof(is->debugregs)), 0);
	cr_expect_eq(memcmp(&is->xcrs, &was->xcrs, sizeof(is->xcrs)), 0);
	cr_expect_eq(memcmp(&is->lapic, &was->lapic, sizeof(is->lapic)), 0);
	cr_assert_eq(is->xsave_bytes, was->xsave_bytes);
	cr_expect_arr_eq(is->data, was->data, was->xsave_bytes);
	cr_assert_eq(is->msr_count, MSRS);
	for (unsigned i = 0; i < MSRS; i++)
		cr_expect_eq(msr_of(is, msrs[i].index), msrs[i].data, "MSR %#x", msrs[i].index);
	cr_assert_eq(is->nested_bytes, was->nested_bytes);
	cr_expect_eq(memcmp(vcpu_state_nested(is), vcpu_state_nested(was), was->nested_bytes), 0);
}

static void expect_kept(const char *name, bool least)
{
	struct tenon_vcpu_state *state = make_state(least), *kept = NULL;
	void *data;
	size_t bytes;
	cr_assert_eq(tenon_vcpu_state_pack(state, &data, &bytes, &error), 0, "%s", error.message);
	fixture_expect_written(name, data, bytes);
	fixture_read(name, &file);
	cr_assert_eq(tenon_vcpu_state_unpack(file.data, file.bytes, &kept, &error), 0, "%s", error.message);
	expect_same_state(kept, state);
	tenon_vcpu_state_free(kept);
	tenon_vcpu_state_free(state);
	free(data);
}

Test(kvm_fixture, a_vcpu_of_version_1_is_unpacked)
{
	expect_kept(VCPU, false);
}

Test(kvm_fixture, a_vcpu_of_version_1_from_an_old_kvm_is_unpacked)
{
	expect_kept(VCPU_LEAST, true);
}

/* ---- A VM ---- */

#define EDGE_PIN  4u
#define LEVEL_PIN 16u

static void make_chips(struct kvm_irqchip chips[3])
{
	for (uint32_t id = 0; id < 3; id++) {
		fill(&chips[id].chip,
		     id == KVM_IRQCHIP_IOAPIC ? sizeof(struct kvm_ioapic_state) : sizeof(struct kvm_pic_state),
		     20 + id);
	}
	struct kvm_ioapic_state *ioapic = &chips[KVM_IRQCHIP_IOAPIC].chip.ioapic;
	ioapic->redirtbl[EDGE_PIN].fields.trig_mode = 0;
	ioapic->redirtbl[LEVEL_PIN].fields.trig_mode = 1;
	ioapic->irr = 1u << EDGE_PIN | 1u << LEVEL_PIN;
}

static void expect_chips(const struct kvm_irqchip was[3])
{
	cr_expect_eq(memcmp(&fakekvm_chip(0)->chip, &was[0].chip, sizeof(struct kvm_pic_state)), 0);
	cr_expect_eq(memcmp(&fakekvm_chip(1)->chip, &was[1].chip, sizeof(struct kvm_pic_state)), 0);
	struct kvm_ioapic_state ioapic = was[KVM_IRQCHIP_IOAPIC].chip.ioapic;
	ioapic.irr = 1u << EDGE_PIN; /* who holds a line asserts it anew */
	cr_expect_eq(memcmp(&fakekvm_chip(KVM_IRQCHIP_IOAPIC)->chip, &ioapic, sizeof(ioapic)), 0);
}

Test(kvm_fixture, a_vm_of_version_1_is_unpacked)
{
	struct kvm_irqchip chips[3] = {0};
	struct kvm_pit_state2 pit;
	struct tenon_vm *vm;
	void *data;
	size_t bytes;
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	make_chips(chips);
	for (uint32_t id = 0; id < 3; id++)
		fakekvm_chip(id)->chip = chips[id].chip;
	fill(&pit, sizeof(pit), 30);
	*fakekvm_add_pit() = pit;
	fakekvm_set_clock(0x1122334455667788);
	cr_assert_eq(tenon_vm_state_pack(vm, &data, &bytes, &error), 0, "%s", error.message);
	fixture_expect_written(VM, data, bytes);
	free(data);
	tenon_vm_destroy(vm);

	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	struct kvm_pit_state2 *there = fakekvm_add_pit();
	fixture_read(VM, &file);
	cr_assert_eq(tenon_vm_state_unpack(vm, file.data, file.bytes, &error), 0, "%s", error.message);
	expect_chips(chips);
	cr_expect_eq(memcmp(there, &pit, sizeof(pit)), 0);
	cr_expect_eq(fakekvm_clock(), 0x1122334455667788);
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

// SPDX-License-Identifier: MIT
/*
 * All architectural state of a vCPU as one block: captured, and restored in the one order that KVM understands. Which MSRs
 * belong to it is msr_state.c's; CPUID is the VMM's, the IOAPIC is the VM's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"

#define MSR_FEAT_CTL 0x3au

#define XSAVE_BYTES 4096u /* struct kvm_xsave, from before KVM_CAP_XSAVE2 */

/* The TSC of a host may be this much off another's: what NTP corrects without a word. */
#define TSC_TOLERANCE_PPM 250u

struct tenon_vcpu_state {
	uint32_t tsc_khz; /* 0: KVM does not say */
	uint32_t xsave_bytes;
	uint32_t msr_count;
	uint32_t nested_bytes; /* 0: this KVM has no nested state */
	bool has_xcrs;
	struct kvm_mp_state mp_state;
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	/* xsave, MSRs in the order to set them, nested state */
	_Alignas(struct kvm_msr_entry) unsigned char data[];
};

/* Both serve capture and restore, hence the const that is lost. */
static struct kvm_msr_entry *state_msrs(const struct tenon_vcpu_state *state)
{
	return (struct kvm_msr_entry *)(state->data + state->xsave_bytes);
}

static struct kvm_nested_state *state_nested(const struct tenon_vcpu_state *state)
{
	return (struct kvm_nested_state *)(state_msrs(state) + state->msr_count);
}

static int call(struct tenon_vcpu *vcpu, unsigned long request, const char *name, const void *argument,
		struct tenon_error *err)
{
	int result = kcall_ioctl(vcpu->fd, request, (void *)argument);
	if (result < 0)
		return tenon_fail(err, result, "vCPU %u: %s: %s", vcpu->index, name, strerror(-result));
	return result;
}

#define CALL(vcpu, request, argument, err) call(vcpu, request, #request, argument, err)

/* ---- Capture ---- */

static int capture_registers(struct tenon_vcpu *vcpu, struct tenon_vcpu_state *state, struct tenon_error *err)
{
	/*
	 * KVM_GET_MP_STATE comes first because it carries out an INIT or SIPI that is pending, which changes everything else.
	 * KVM_GET_VCPU_EVENTS comes next because it delivers the payload of a pending exception into CR2 or DR6.
	 */
	int error = CALL(vcpu, KVM_GET_MP_STATE, &state->mp_state, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_GET_VCPU_EVENTS, &state->events, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_GET_REGS, &state->regs, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_GET_SREGS, &state->sregs, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_GET_DEBUGREGS, &state->debugregs, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_GET_LAPIC, &state->lapic, err);
	if (error >= 0 && state->has_xcrs)
		error = CALL(vcpu, KVM_GET_XCRS, &state->xcrs, err);
	if (error < 0)
		return error;

#ifdef KVM_GET_XSAVE2
	if (state->xsave_bytes > XSAVE_BYTES)
		return CALL(vcpu, KVM_GET_XSAVE2, state->data, err);
#endif
	return CALL(vcpu, KVM_GET_XSAVE, state->data, err);
}

static int capture_nested(struct tenon_vcpu *vcpu, struct tenon_vcpu_state *state, uint32_t capacity,
			  struct tenon_error *err)
{
	if (capacity == 0)
		return 0;
	struct kvm_nested_state *nested = state_nested(state);
	memset(nested, 0, sizeof(*nested));
	nested->size = capacity;
	int error = CALL(vcpu, KVM_GET_NESTED_STATE, nested, err);
	if (error < 0)
		return error;
	state->nested_bytes = nested->size;
	return 0;
}

static int capture_into(struct tenon_vcpu *vcpu, struct tenon_vcpu_state *state, uint32_t nested_capacity,
			struct tenon_error *err)
{
	int tsc_khz = kcall_ioctl_value(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	state->tsc_khz = tsc_khz < 0 ? 0 : (uint32_t)tsc_khz;

	int error = capture_registers(vcpu, state, err);
	if (error >= 0)
		error = msr_state_capture(vcpu, state_msrs(state), &state->msr_count, err);
	if (error >= 0)
		error = capture_nested(vcpu, state, nested_capacity, err);
	return error < 0 ? error : 0;
}

static uint32_t xsave_size(const struct tenon_vm *vm)
{
#ifdef KVM_CAP_XSAVE2
	int size_bytes = vm_capability(vm, KVM_CAP_XSAVE2);
	if (size_bytes > (int)XSAVE_BYTES)
		return (uint32_t)size_bytes;
#endif
	return XSAVE_BYTES;
}

static uint32_t nested_size(const struct tenon_vm *vm)
{
	int size_bytes = vm_capability(vm, KVM_CAP_NESTED_STATE);
	if (size_bytes > 0 && size_bytes < (int)sizeof(struct kvm_nested_state))
		return sizeof(struct kvm_nested_state);
	return (uint32_t)size_bytes;
}

int tenon_vcpu_state_capture(struct tenon_vcpu *vcpu, struct tenon_vcpu_state **out, struct tenon_error *err)
{
	int error = vcpu_check_idle(vcpu, "cannot capture its state", err);
	if (!error)
		error = vm_require(vcpu->vm, KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "capture a vCPU's state", err);
	if (!error)
		error = vm_require(vcpu->vm, KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "capture a vCPU's state", err);
	struct kvm_msr_entry *msrs = NULL;
	unsigned msr_count = 0;
	if (!error)
		error = msr_state_names(vcpu, &msrs, &msr_count, err);
	if (!msrs)
		return error;

	uint32_t xsave_bytes = xsave_size(vcpu->vm);
	uint32_t nested_bytes = nested_size(vcpu->vm);
	size_t msr_bytes = msr_count * sizeof(*msrs);
	struct tenon_vcpu_state *state = calloc(1, sizeof(*state) + xsave_bytes + msr_bytes + nested_bytes);
	if (!state) {
		free(msrs);
		return tenon_fail(err, -ENOMEM, "vCPU %u: no memory to capture its state", vcpu->index);
	}
	state->xsave_bytes = xsave_bytes;
	state->msr_count = msr_count;
	state->has_xcrs = vm_capability(vcpu->vm, KVM_CAP_XCRS) > 0;
	memcpy(state_msrs(state), msrs, msr_bytes);
	free(msrs);
	error = capture_into(vcpu, state, nested_bytes, err);
	if (error) {
		free(state);
		return error;
	}

	/* Nested state seldom needs what it might. */
	size_t used = (size_t)((unsigned char *)state_nested(state) + state->nested_bytes - (unsigned char *)state);
	struct tenon_vcpu_state *smaller = realloc(state, used > sizeof(*state) ? used : sizeof(*state));
	*out = smaller ? smaller : state;
	return 0;
}

void tenon_vcpu_state_free(struct tenon_vcpu_state *state)
{
	free(state);
}

/* ---- Restore ---- */

static int restore_tsc_frequency(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state, struct tenon_error *err)
{
	int now = kcall_ioctl_value(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	if (state->tsc_khz == 0 || now <= 0 || (uint32_t)now == state->tsc_khz)
		return 0;
	uint32_t difference =
		(uint32_t)now > state->tsc_khz ? (uint32_t)now - state->tsc_khz : state->tsc_khz - (uint32_t)now;
	if (vm_capability(vcpu->vm, KVM_CAP_TSC_CONTROL) <= 0) {
		if (difference <= (uint64_t)state->tsc_khz * TSC_TOLERANCE_PPM / 1000000)
			return 0;
		return tenon_fail(
			err, -ENOTSUP,
			"vCPU %u: its TSC ticked at %u kHz, this host's does at %d, and this kernel's KVM lacks "
			"KVM_CAP_TSC_CONTROL to make up for it; use a host of equal frequency",
			vcpu->index, state->tsc_khz, now);
	}
	int error = kcall_ioctl_value(vcpu->fd, KVM_SET_TSC_KHZ, state->tsc_khz);
	if (error < 0)
		return tenon_fail(err, error, "vCPU %u: KVM_SET_TSC_KHZ to %u: %s", vcpu->index, state->tsc_khz,
				  strerror(-error));
	return 0;
}

/* Takes the vCPU out of nested virtualization. Until then KVM refuses control registers that a hypervisor may not have. */
static int leave_nested(struct tenon_vcpu *vcpu, const struct kvm_nested_state *captured, struct tenon_error *err)
{
	struct kvm_nested_state none = {.format = captured->format, .size = sizeof(none)};
	if (captured->format == KVM_STATE_NESTED_FORMAT_VMX) {
		none.hdr.vmx.vmxon_pa = UINT64_MAX;
		none.hdr.vmx.vmcs12_pa = UINT64_MAX;
	} else {
		none.flags = KVM_STATE_NESTED_GIF_SET;
	}
	return CALL(vcpu, KVM_SET_NESTED_STATE, &none, err);
}

static int restore_sregs_and_nested(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state,
				    struct tenon_error *err)
{
	if (state->nested_bytes == 0)
		return CALL(vcpu, KVM_SET_SREGS, &state->sregs, err);

	int error = leave_nested(vcpu, state_nested(state), err);
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_SREGS, &state->sregs, err);
	/* A hypervisor's state is accepted only when CR4 or EFER, and on Intel FEAT_CTL, allow one. */
	for (unsigned i = 0; error >= 0 && i < state->msr_count; i++) {
		if (state_msrs(state)[i].index == MSR_FEAT_CTL)
			error = msr_state_restore(vcpu, &state_msrs(state)[i], 1, TENON_VCPU_RESTORE_RESET, err);
	}
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_NESTED_STATE, state_nested(state), err);
	return error;
}

static int restore_in_order(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state,
			    enum tenon_vcpu_restore purpose, struct tenon_error *err)
{
	/* The frequency before the TSC that counts with it. */
	int error = purpose == TENON_VCPU_RESTORE_MIGRATION ? restore_tsc_frequency(vcpu, state, err) : 0;
	/* SREGS before LAPIC: they hold the APIC base, which says whether the LAPIC's registers are in x2APIC form. */
	if (error >= 0)
		error = restore_sregs_and_nested(vcpu, state, err);
	/* LAPIC before MSRs: the deadline MSR counts only while the LAPIC's timer is in deadline mode. */
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_LAPIC, &state->lapic, err);
	if (error >= 0 && state->has_xcrs)
		error = CALL(vcpu, KVM_SET_XCRS, &state->xcrs, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_XSAVE, state->data, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_DEBUGREGS, &state->debugregs, err);
	if (error >= 0)
		error = msr_state_restore(vcpu, state_msrs(state), state->msr_count, purpose, err);
	/* REGS before events: setting them drops a pending exception. */
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_REGS, &state->regs, err);
	/* Events before MP_STATE: they take back a pending INIT and system management mode, which forbid some states. */
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_VCPU_EVENTS, &state->events, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_MP_STATE, &state->mp_state, err);
	return error < 0 ? error : 0;
}

int tenon_vcpu_state_restore(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state,
			     enum tenon_vcpu_restore purpose, struct tenon_error *err)
{
	int error = vcpu_check_idle(vcpu, "cannot restore its state", err);
	if (!error)
		error = restore_in_order(vcpu, state, purpose, err);
	if (error)
		return error;

	pthread_mutex_lock(&vcpu->lock);
	vcpu->stopped_itself = false;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	return 0;
}

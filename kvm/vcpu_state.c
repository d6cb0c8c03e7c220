// SPDX-License-Identifier: MIT
/*
 * All architectural state of a vCPU as one block: captured, and restored in the one order that KVM understands. Which MSRs
 * belong to it is msr_state.c's, what it says of time is vcpu_clock.c's; CPUID is the VMM's, the IOAPIC is the VM's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"
#include "vcpu_state.h"

#define MSR_FEAT_CTL 0x3au

struct tenon_vcpu_state *vcpu_state_allocate(uint32_t xsave_bytes, uint32_t msr_count, uint32_t nested_bytes)
{
	size_t bytes = xsave_bytes + 7u + msr_count * sizeof(struct kvm_msr_entry) + nested_bytes;
	struct tenon_vcpu_state *state = calloc(1, sizeof(*state) + bytes);
	if (!state)
		return NULL;
	state->xsave_bytes = xsave_bytes;
	state->msr_count = msr_count;
	state->nested_bytes = nested_bytes;
	return state;
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
	if (state->xsave_bytes > VCPU_XSAVE_BYTES)
		return CALL(vcpu, KVM_GET_XSAVE2, state->data, err);
#endif
	return CALL(vcpu, KVM_GET_XSAVE, state->data, err);
}

static int capture_nested(struct tenon_vcpu *vcpu, struct tenon_vcpu_state *state, uint32_t capacity,
			  struct tenon_error *err)
{
	if (capacity == 0)
		return 0;
	struct kvm_nested_state *nested = vcpu_state_nested(state);
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
	int error = vcpu_clock_capture(vcpu, state, err);
	if (error >= 0)
		error = capture_registers(vcpu, state, err);
	if (error >= 0)
		error = msr_state_capture(vcpu, vcpu_state_msrs(state), &state->msr_count, err);
	if (error >= 0)
		error = capture_nested(vcpu, state, nested_capacity, err);
	return error < 0 ? error : 0;
}

static uint32_t xsave_size(const struct tenon_vm *vm)
{
#ifdef KVM_CAP_XSAVE2
	int size_bytes = vm_capability(vm, KVM_CAP_XSAVE2);
	if (size_bytes > (int)VCPU_XSAVE_BYTES)
		return (uint32_t)size_bytes;
#endif
	return VCPU_XSAVE_BYTES;
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
	struct tenon_vcpu_state *state = vcpu_state_allocate(xsave_bytes, msr_count, nested_bytes);
	if (!state) {
		free(msrs);
		return tenon_fail(err, -ENOMEM, "vCPU %u: no memory to capture its state", vcpu->index);
	}
	state->has_xcrs = vm_capability(vcpu->vm, KVM_CAP_XCRS) > 0;
	memcpy(vcpu_state_msrs(state), msrs, msr_bytes);
	free(msrs);
	error = capture_into(vcpu, state, nested_bytes, err);
	if (error) {
		free(state);
		return error;
	}

	/* Nested state seldom needs what it might. */
	size_t used =
		(size_t)((unsigned char *)vcpu_state_nested(state) + state->nested_bytes - (unsigned char *)state);
	struct tenon_vcpu_state *smaller = realloc(state, used > sizeof(*state) ? used : sizeof(*state));
	*out = smaller ? smaller : state;
	return 0;
}

void tenon_vcpu_state_free(struct tenon_vcpu_state *state)
{
	free(state);
}

/* ---- Restore ---- */

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

/* Whether the guest uses its virtualization: entered VMX operation, or a guest of its own. */
static bool uses_nested(const struct kvm_nested_state *nested)
{
	if (nested->format == KVM_STATE_NESTED_FORMAT_VMX)
		return nested->hdr.vmx.vmxon_pa != UINT64_MAX;
	return nested->flags & KVM_STATE_NESTED_GUEST_MODE;
}

static int restore_sregs_and_nested(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state,
				    struct tenon_error *err)
{
	if (state->nested_bytes == 0)
		return CALL(vcpu, KVM_SET_SREGS, &state->sregs, err);
	if (nested_size(vcpu->vm) == 0) {
		if (uses_nested(vcpu_state_nested(state)))
			return tenon_fail(err, -ENOTSUP,
					  "vCPU %u: its guest is a hypervisor, and this kernel's KVM lacks "
					  "KVM_CAP_NESTED_STATE; use a host with nested virtualization",
					  vcpu->index);
		return CALL(vcpu, KVM_SET_SREGS, &state->sregs, err);
	}

	int error = leave_nested(vcpu, vcpu_state_nested(state), err);
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_SREGS, &state->sregs, err);
	/* A hypervisor's state is accepted only when CR4 or EFER, and on Intel FEAT_CTL, allow one. */
	for (unsigned i = 0; error >= 0 && i < state->msr_count; i++) {
		if (vcpu_state_msrs(state)[i].index == MSR_FEAT_CTL)
			error = msr_state_restore(vcpu, &vcpu_state_msrs(state)[i], 1, false, err);
	}
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_NESTED_STATE, vcpu_state_nested(state), err);
	return error;
}

static bool is_zero(const unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

/* KVM takes as many bytes as its own area has, whatever the state's. */
static int restore_xsave(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state, struct tenon_error *err)
{
	uint32_t size_bytes = xsave_size(vcpu->vm);
	if (state->xsave_bytes >= size_bytes) {
		if (!is_zero(state->data + size_bytes, state->xsave_bytes - size_bytes))
			return tenon_fail(
				err, -ENOTSUP,
				"vCPU %u: its extended state fills %u bytes, and this host's CPU keeps %u; use "
				"a host with the same CPU features",
				vcpu->index, state->xsave_bytes, size_bytes);
		return CALL(vcpu, KVM_SET_XSAVE, state->data, err);
	}
	unsigned char *area = calloc(1, size_bytes);
	if (!area)
		return tenon_fail(err, -ENOMEM, "vCPU %u: no memory to restore its extended state", vcpu->index);
	memcpy(area, state->data, state->xsave_bytes);
	int error = CALL(vcpu, KVM_SET_XSAVE, area, err);
	free(area);
	return error;
}

/* KVM refuses to hear of events that it was not asked to tell of (vm.c); that there are none need not be told. */
static int restore_events(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state, struct tenon_error *err)
{
	struct kvm_vcpu_events events = state->events;
	uint32_t unknown = events.flags & VM_OPTIONAL_EVENTS & ~vcpu->vm->optional_events;
	if (unknown & KVM_VCPUEVENT_VALID_PAYLOAD && events.exception.pending)
		return tenon_fail(err, -ENOTSUP,
				  "vCPU %u: has a pending exception, for which this kernel's KVM lacks "
				  "KVM_CAP_EXCEPTION_PAYLOAD; use a newer kernel",
				  vcpu->index);
	if (unknown & KVM_VCPUEVENT_VALID_TRIPLE_FAULT && events.triple_fault.pending)
		return tenon_fail(err, -ENOTSUP,
				  "vCPU %u: has a pending triple fault, for which this kernel's KVM lacks "
				  "KVM_CAP_X86_TRIPLE_FAULT_EVENT; use a newer kernel",
				  vcpu->index);
	events.flags &= ~unknown;
	return CALL(vcpu, KVM_SET_VCPU_EVENTS, &events, err);
}

static int restore_in_order(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state,
			    enum tenon_vcpu_restore purpose, struct tenon_error *err)
{
	/*
	 * A reset leaves the TSC alone: set back one after the other, those of a VM's vCPUs would come apart. Else it comes before
	 * the LAPIC, which keeps the end of a running timer as a value of the TSC.
	 */
	bool tsc_set = true;
	int error = 0;
	if (purpose == TENON_VCPU_RESTORE_MIGRATION)
		error = vcpu_clock_restore(vcpu, state, &tsc_set, err);
	/* SREGS before LAPIC: they hold the APIC base, which says whether the LAPIC's registers are in x2APIC form. */
	if (error >= 0)
		error = restore_sregs_and_nested(vcpu, state, err);
	/* LAPIC before MSRs: the deadline MSR counts only while the LAPIC's timer is in deadline mode. */
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_LAPIC, &state->lapic, err);
	if (error >= 0 && state->has_xcrs)
		error = CALL(vcpu, KVM_SET_XCRS, &state->xcrs, err);
	if (error >= 0)
		error = restore_xsave(vcpu, state, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_DEBUGREGS, &state->debugregs, err);
	if (error >= 0)
		error = msr_state_restore(vcpu, vcpu_state_msrs(state), state->msr_count, !tsc_set, err);
	/* REGS before events: setting them drops a pending exception. */
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_REGS, &state->regs, err);
	/* Events before MP_STATE: they take back a pending INIT and system management mode, which forbid some states. */
	if (error >= 0)
		error = restore_events(vcpu, state, err);
	if (error >= 0)
		error = CALL(vcpu, KVM_SET_MP_STATE, &state->mp_state, err);
	/* Else its watchdog would take the time that it was away for a vCPU that hangs. */
	if (error >= 0 && purpose == TENON_VCPU_RESTORE_MIGRATION)
		error = vcpu_clock_tell_paused(vcpu, err);
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

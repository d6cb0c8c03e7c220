// SPDX-License-Identifier: MIT
/*
 * The time-stamp counter of a vCPU that goes on in another VM, and the word to the guest that it was paused. The guest's other
 * clock, kvmclock, belongs to the VM (vm_state.c).
 *
 * Why offsets and not MSR_TSC: the counter runs on while states are captured and restored one after the other, so the values of
 * two vCPUs differ by some moments though their counters are equal. KVM takes a written value for equal when it is within a
 * second of the one written before, which makes counters equal that the guest set apart, and leaves those apart whose states
 * took longer. The offset to the host's counter stands still: the first vCPU's is chosen so that its counter goes on from what was
 * captured, and all others' are moved by as much, exactly.
 *
 * The guest compares its TSC with kvmclock, and calls the TSC unstable when one gains a fraction of a millisecond on the other. So both
 * are read at one moment, as nearly as can be, and go on from there together: kvmclock, which the VM's state has set before, says how
 * much later it is, and the TSC is made as much later.
 *
 * Source: Documentation/virt/kvm/devices/vcpu.rst 4.1, arch/x86/kvm/x86.c (kvm_synchronize_tsc).
 */
#include <errno.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"
#include "vcpu_state.h"

/* The TSC of a host may be this much off another's: what NTP corrects without a word. */
#define TSC_TOLERANCE_PPM 250u

#define MOMENT_TRIES 5

static int exchange_offset(struct tenon_vcpu *vcpu, unsigned long request, const char *name, uint64_t *offset,
			   struct tenon_error *err)
{
	struct kvm_device_attr attribute = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
	int error = kcall_ioctl(vcpu->fd, request, &attribute);
	if (error < 0)
		return tenon_fail(err, error, "vCPU %u: %s of its TSC's offset: %s", vcpu->index, name,
				  strerror(-error));
	return 0;
}

static bool has_offset(const struct tenon_vcpu *vcpu)
{
	return vm_capability(vcpu->vm, KVM_CAP_VCPU_ATTRIBUTES) > 0;
}

static int read_tsc(struct tenon_vcpu *vcpu, uint64_t *tsc, struct tenon_error *err)
{
	struct kvm_msr_entry now = {.index = MSR_TSC};
	unsigned done = 0;
	int error = vcpu_msrs_get(vcpu, &now, 1, &done);
	if (error < 0 || done == 0)
		return tenon_fail(err, error < 0 ? error : -EIO, "vCPU %u: cannot read its TSC: %s", vcpu->index,
				  strerror(error < 0 ? -error : EIO));
	*tsc = now.data;
	return 0;
}

/* kvmclock between two looks at the TSC. Of some such pairs that which is closest, since whatever else runs may come between. */
static int read_moment(struct tenon_vcpu *vcpu, struct vcpu_moment *moment, struct tenon_error *err)
{
	uint64_t before = 0, after = 0, closest = UINT64_MAX;
	for (unsigned i = 0; i < MOMENT_TRIES; i++) {
		struct kvm_clock_data clock = {0};
		int error = read_tsc(vcpu, &before, err);
		if (error)
			return error;
		error = kcall_ioctl(vcpu->vm->fd, KVM_GET_CLOCK, &clock);
		if (error < 0)
			return tenon_fail(err, error, "vCPU %u: KVM_GET_CLOCK beside its TSC: %s", vcpu->index,
					  strerror(-error));
		error = read_tsc(vcpu, &after, err);
		if (error)
			return error;
		if (after - before >= closest)
			continue;
		closest = after - before;
		*moment = (struct vcpu_moment){.clock_ns = clock.clock, .tsc = before + closest / 2};
	}
	return 0;
}

static bool has_clock(const struct tenon_vcpu *vcpu)
{
	return vm_capability(vcpu->vm, KVM_CAP_ADJUST_CLOCK) > 0;
}

int vcpu_clock_capture(struct tenon_vcpu *vcpu, struct tenon_vcpu_state *state, struct tenon_error *err)
{
	int tsc_khz = kcall_ioctl_value(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	state->tsc_khz = tsc_khz < 0 ? 0 : (uint32_t)tsc_khz;
	state->has_tsc_offset = has_offset(vcpu);
	if (!state->has_tsc_offset)
		return 0;
	int error = exchange_offset(vcpu, KVM_GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR", &state->tsc_offset, err);
	state->has_moment = !error && state->tsc_khz > 0 && has_clock(vcpu);
	return state->has_moment ? read_moment(vcpu, &state->moment, err) : error;
}

static int restore_frequency(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state, struct tenon_error *err)
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

/* @param ns  may be below 0: both clocks stood still for the guest, so their moments come in any order */
static uint64_t ticks(uint64_t ns, uint32_t khz)
{
	return (uint64_t)((__int128)(int64_t)ns * khz / 1000000);
}

/* How far this VM's offsets are from those of the VM that its first vCPU comes from. */
static int find_shift(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state, uint64_t captured, uint64_t *shift,
		      struct tenon_error *err)
{
	uint64_t offset = 0;
	int error = exchange_offset(vcpu, KVM_GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR", &offset, err);
	if (error)
		return error;
	struct vcpu_moment now = {0};
	bool moment = state->has_moment && has_clock(vcpu);
	error = moment ? read_moment(vcpu, &now, err) : read_tsc(vcpu, &now.tsc, err);
	if (error)
		return error;
	if (moment)
		captured = state->moment.tsc + ticks(now.clock_ns - state->moment.clock_ns, state->tsc_khz);
	uint64_t host = now.tsc - offset;
	*shift = captured - host - state->tsc_offset;
	return 0;
}

static int restore_offset(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state, uint64_t captured,
			  struct tenon_error *err)
{
	struct tenon_vm *vm = vcpu->vm;
	int error = 0;
	pthread_mutex_lock(&vm->lock);
	if (!vm->tsc_shift_known)
		error = find_shift(vcpu, state, captured, &vm->tsc_shift, err);
	uint64_t offset = state->tsc_offset + vm->tsc_shift;
	if (!error)
		error = exchange_offset(vcpu, KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR", &offset, err);
	if (!error)
		vm->tsc_shift_known = true;
	pthread_mutex_unlock(&vm->lock);
	return error;
}

int vcpu_clock_restore(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state, bool *tsc_set,
		       struct tenon_error *err)
{
	*tsc_set = false;
	/* The frequency before the TSC that counts with it. */
	int error = restore_frequency(vcpu, state, err);
	if (error || !state->has_tsc_offset || !has_offset(vcpu))
		return error;
	for (uint32_t i = 0; i < state->msr_count && !*tsc_set; i++) {
		const struct kvm_msr_entry *msr = &vcpu_state_msrs(state)[i];
		if (msr->index != MSR_TSC)
			continue;
		error = restore_offset(vcpu, state, msr->data, err);
		if (error)
			return error;
		*tsc_set = true;
	}
	return 0;
}

int vcpu_clock_tell_paused(struct tenon_vcpu *vcpu, struct tenon_error *err)
{
	if (vm_capability(vcpu->vm, KVM_CAP_KVMCLOCK_CTRL) <= 0)
		return 0;
	int error = kcall_ioctl_value(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
	if (error < 0 && error != -EINVAL) /* which a guest without kvmclock gives */
		return tenon_fail(err, error, "vCPU %u: KVM_KVMCLOCK_CTRL: %s", vcpu->index, strerror(-error));
	return 0;
}

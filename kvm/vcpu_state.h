/* SPDX-License-Identifier: MIT */
/* A vCPU's whole state as vcpu_state.c captures and restores it, and vcpu_state_pack.c makes bytes of it. */
#ifndef VCPU_STATE_H
#define VCPU_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#define VCPU_XSAVE_BYTES 4096u /* struct kvm_xsave, from before KVM_CAP_XSAVE2 */

struct tenon_vcpu_state {
	uint32_t tsc_khz; /* 0: KVM does not say */
	uint32_t xsave_bytes;
	uint32_t msr_count;
	uint32_t nested_bytes; /* 0: this KVM has no nested state */
	bool has_xcrs;
	bool has_tsc_offset;
	bool has_moment;
	uint64_t tsc_offset; /* of the guest's TSC to its host's */
	struct vcpu_moment {
		uint64_t clock_ns, tsc; /* what kvmclock and the guest's TSC showed at one moment */
	} moment;
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

/* Zeroed, with room for so much of each; the counts are set. NULL: no memory. */
struct tenon_vcpu_state *vcpu_state_allocate(uint32_t xsave_bytes, uint32_t msr_count, uint32_t nested_bytes);

/* Both serve who fills a state and who reads it, hence the const that is lost. */
static inline struct kvm_msr_entry *vcpu_state_msrs(const struct tenon_vcpu_state *state)
{
	size_t aligned = (state->xsave_bytes + 7u) & ~(size_t)7;
	return (struct kvm_msr_entry *)(state->data + aligned);
}

static inline struct kvm_nested_state *vcpu_state_nested(const struct tenon_vcpu_state *state)
{
	return (struct kvm_nested_state *)(vcpu_state_msrs(state) + state->msr_count);
}

#endif

/* SPDX-License-Identifier: MIT */
/* What of a VM, beside its vCPUs and memory, goes to another host; as vm_state.c reads it out of bytes. */
#ifndef VM_STATE_H
#define VM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include <tenon/error.h>

struct vm_state {
	struct kvm_irqchip chips[3]; /* indexed by KVM_IRQCHIP_* */
	bool has_pit, has_clock;
	struct kvm_pit_state2 pit;
	uint64_t clock_ns;
};

/** Untrusted input. @return 0; -EINVAL saying what is wrong */
int vm_state_parse(const void *data, size_t bytes, struct vm_state *out, struct tenon_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/* The CPUID table of one vCPU as a pure function of what KVM supports. */
#ifndef CPU_CPUID_H
#define CPU_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#define CPUID_ENTRIES_MAX 256u /* KVM_SET_CPUID2 takes no more */

/* A table with room, as the kernel's struct ends in an array without a size. */
union cpuid_table {
	struct kvm_cpuid2 cpuid;
	uint8_t room[sizeof(struct kvm_cpuid2) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2)];
};

struct cpuid_vcpu {
	unsigned index;    /* the x2APIC id */
	unsigned count;    /* vCPUs of the machine, 1-64 */
	uint32_t tsc_khz;  /* 0: unknown */
	bool tsc_deadline; /* the in-kernel LAPIC has the mode (KVM_CAP_TSC_DEADLINE_TIMER) */
};

/** The entry, or NULL. @param index ignored for functions without sub-leaves */
struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index);

/**
 * Turns KVM's supported table into the one of this vCPU.
 *
 * @return 0; -E2BIG when leaves that must be added do not fit
 */
int cpuid_build(union cpuid_table *table, const struct cpuid_vcpu *vcpu);

#endif

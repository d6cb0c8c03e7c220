/* SPDX-License-Identifier: MIT */
/*
 * The virtual CPU model: CPUID from what KVM supports, topology of one package with `count` single-threaded cores,
 * MSRs at start (MTRRs: write-back by default, so that a non-coherent device does not make the guest run uncached), and the
 * registers that a boot protocol demands.
 *
 * Nested virtualization is not offered: its state is neither reset nor migrated, and a device cannot be assigned onwards
 * without a virtual IOMMU, which this machine does not have.
 *
 * Threads: a model is read-only after create; the other calls want a vCPU that does not run.
 */
#ifndef CPU_H
#define CPU_H

#include <stdint.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>
#include <tenon/error.h>

#include "../loader/loader.h"

#define CPU_COUNT_MAX 64u /* CPUID leaf 4 can name no more cores of a package */

struct cpu_model; /* CPUID as fetched from KVM once, shared by all vCPUs */

/** @param vm borrowed during the call @param count 1 to CPU_COUNT_MAX; APIC ids are 0 to count - 1 */
int cpu_model_create(struct tenon_vm *vm, unsigned count, struct cpu_model **out, struct tenon_error *err);
void cpu_model_destroy(struct cpu_model *model); /* NULL is accepted */

/** Width of the guest's physical addresses that can be mapped, in bits (CPUID 0x80000008 EAX[23:16], else EAX[7:0]). */
unsigned cpu_model_physical_bits(const struct cpu_model *model);

/** Rate of a vCPU's time stamp counter in kHz; 0 where KVM cannot tell. */
uint32_t cpu_tsc_khz(const struct tenon_vcpu *vcpu);

/** Gives a fresh vCPU its CPUID and MSRs. Before tenon_vcpu_state_capture and before it first runs. */
int cpu_init(const struct cpu_model *model, struct tenon_vcpu *vcpu, struct tenon_error *err);

/** Sets the boot processor's registers for entering a loaded kernel; writes page tables and descriptors into RAM. */
int cpu_enter(struct tenon_vcpu *vcpu, struct memory *memory, const struct loader_entry *entry,
	      struct tenon_error *err);

#endif

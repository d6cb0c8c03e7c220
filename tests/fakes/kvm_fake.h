/* SPDX-License-Identifier: MIT */
/*
 * A KVM for tests: VMs, vCPUs, interrupt controllers and the KVM-VFIO device as a small model behind the functions of
 * kvm/kernel_calls.h. This header is what tests see: they say what the KVM can do and what the guest does, run kvm/, then look
 * at what KVM was told.
 *
 * Call order: fakekvm_reset; run; fakekvm_assert_nothing_left.
 * Threads: vCPU threads are real; everything here may be called from any thread. One KVM and one VM at a time.
 * Source: Linux 6.12 virt/kvm/{kvm_main,eventfd,irqchip,vfio,dirty_ring}.c, arch/x86/kvm/x86.c, Documentation/virt/kvm/api.rst.
 */
#ifndef KVM_FAKE_H
#define KVM_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

/** A KVM that can do everything, without a VM. Forgets all counts, failures and scripts. */
void fakekvm_reset(void);
/** Fails the test when a descriptor, a mapping or a thread of kvm/ is left. */
void fakekvm_assert_nothing_left(void);

/* ---- What KVM can do ---- */

void fakekvm_set_capability(int capability, int value);
/** KVM_GET_API_VERSION; 12 unless set. */
void fakekvm_set_api_version(int version);
void fakekvm_set_tsc_khz(int khz);
/** An MSR that vCPUs have from now on. @param listed in KVM_GET_MSR_INDEX_LIST; @param writable: else only to what it holds */
void fakekvm_add_msr(uint32_t index, bool listed, bool writable);
/** An index that KVM lists but cannot read. */
void fakekvm_add_unreadable_msr(uint32_t index);

/* ---- Kernel calls: counts and failures ---- */

/** Fails the n-th call of the calling thread from now on (1: the next) with -error. Only calls that can fail count. 0: none. */
void fakekvm_fail_call(unsigned n, int error);
/** Fails every call of this name ("open", "mmap", "KVM_RUN", ...), of any thread, with -error. NULL: none. */
void fakekvm_fail_always(const char *name, int error);
/** Name of the call that was made to fail last, or NULL. */
const char *fakekvm_failed_call(void);
/** How often a call of this name was made. */
unsigned fakekvm_calls(const char *name);
/** Position of the first call of this name in the order of calls since reset or fakekvm_forget_calls, or -1. */
int fakekvm_call_position(const char *name);
void fakekvm_forget_calls(void);

/* ---- What KVM was told ---- */

/** The slot that holds gpa. @return false when none does */
bool fakekvm_slot_at(uint64_t gpa, struct kvm_userspace_memory_region *out);
unsigned fakekvm_slot_count(void);
/** The routing table's entry of a GSI. */
bool fakekvm_route(uint32_t gsi, struct kvm_irq_routing_entry *out);
unsigned fakekvm_route_count(void);
bool fakekvm_irqfd_attached(int fd, uint32_t gsi, int resample);
unsigned fakekvm_irqfd_count(void);
unsigned fakekvm_ioeventfd_count(void);
unsigned fakekvm_vfio_file_count(void);
bool fakekvm_line(uint32_t gsi);
void fakekvm_set_ioapic_register(uint64_t value); /* all redirection entries */
uint64_t fakekvm_ioapic_register(unsigned pin);
struct kvm_irqchip *fakekvm_chip(uint32_t id);
/** kvmclock, which stands still unless it is set. */
uint64_t fakekvm_clock(void);
void fakekvm_set_clock(uint64_t ns);
/** Gives the VM a PIT, as its user may have by KVM_CREATE_PIT2. */
struct kvm_pit_state2 *fakekvm_add_pit(void);
/** The last KVM_SIGNAL_MSI. */
struct kvm_msi fakekvm_message(void);

/* ---- Files that the VMM would have ---- */

int fakekvm_eventfd(void);
int fakekvm_vfio_file(void);
void fakekvm_close(int fd);

/* ---- What the guest does ---- */

/** One return of KVM_RUN. */
struct fakekvm_exit {
	int error; /* KVM_RUN fails so; else: */
	uint32_t reason;
	struct {
		bool in;
		uint8_t size_bytes;
		uint16_t port;
		uint32_t count;
		uint8_t data[64];
	} io;
	struct {
		bool write;
		uint32_t length;
		uint64_t gpa;
		uint8_t data[8];
	} mmio;
	uint64_t detail;            /* system event type, suberror, hardware reason */
	const uint8_t *instruction; /* 15 bytes, with KVM_INTERNAL_ERROR_EMULATION */
};

/** Adds exits of vCPU `index`; when there are no more it stays in the guest until it is interrupted. */
void fakekvm_script(unsigned index, const struct fakekvm_exit *exits, unsigned count);
/** The data of the last port or memory read as the guest got it, and how many accesses were completed. */
unsigned fakekvm_completed(unsigned index, uint8_t data[64]);
/** Waits until the vCPU has done its script and is in the guest, or has left KVM_RUN for good. */
void fakekvm_wait_until_in_guest(unsigned index);
bool fakekvm_in_guest(unsigned index);
/** A write by vCPU `index`: into the dirty log, or its ring, of a slot that is logged. @return false when the ring was full */
bool fakekvm_guest_writes(unsigned index, uint64_t gpa);
/** Registers of a vCPU, as set. */
uint64_t fakekvm_msr(unsigned index, uint32_t msr);
void fakekvm_set_msr(unsigned index, uint32_t msr, uint64_t value);
struct kvm_regs *fakekvm_regs(unsigned index);
struct kvm_sregs *fakekvm_sregs(unsigned index);
/** The host's TSC, from which the vCPUs' are offset, goes on only so. */
void fakekvm_advance_tsc(uint64_t ticks);
/** Whether the guest was told that it was paused (KVM_KVMCLOCK_CTRL). */
bool fakekvm_told_paused(unsigned index);
struct kvm_vcpu_events *fakekvm_events(unsigned index);
uint8_t *fakekvm_xsave(unsigned index);
/** Whether the LAPIC's timer counts deadlines; a LAPIC whose timer does not takes no deadline. */
void fakekvm_set_deadline_mode(unsigned index, bool on);
/** Makes the vCPU a hypervisor's: it refuses control registers until it is taken out of nested virtualization. */
void fakekvm_enter_nested(unsigned index);
bool fakekvm_is_nested(unsigned index);

#endif

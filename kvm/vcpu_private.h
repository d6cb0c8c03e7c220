/* SPDX-License-Identifier: MIT */
/* What the sources of kvm/ share about a vCPU. */
#ifndef VCPU_PRIVATE_H
#define VCPU_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#include <tenon-kvm/vcpu.h>

#include "vm_private.h"

/* Exits by kind, written by the vCPU's thread and read by any. */
struct vcpu_counters {
	_Atomic uint64_t port_reads, port_writes, memory_reads, memory_writes, kicks, halts, dirty_ring_full, other;
};

struct tenon_vcpu {
	struct tenon_vm *vm;
	struct tenon_vcpu *next_in_vm; /* under the VM's lock */
	unsigned index;
	int fd;
	struct kvm_run *run;
	struct tenon_vcpu_handlers handlers;
	void *context;
	struct kvm_cpuid2 *cpuid; /* what tenon_vcpu_set_cpuid was given last; NULL: nothing */
	struct vcpu_counters counters;

	struct kvm_dirty_gfn *ring; /* NULL: dirty log */
	uint32_t ring_next;         /* entry to harvest next; under the VM's lock */

	pthread_t thread;      /* of the controlling thread alone */
	_Atomic int thread_id; /* 0: none to kick */

	/*
	 * What the vCPU's thread shall do and what it does, under `lock`; `changed` tells of either. `attention` is set
	 * with every wish, so that the loop need take the lock only then.
	 */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_bool attention;
	atomic_uint ring_collections; /* counts how often the ring was emptied */
	bool pause_wanted;
	bool stop_wanted;
	bool stopped_itself;
	bool started; /* there is a thread */
	bool running; /* it may be in the guest or in a handler */
};

/** Fails with -EBUSY when the vCPU runs and the caller is not one of its handlers. @param what is about to be done */
int vcpu_check_idle(struct tenon_vcpu *vcpu, const char *what, struct tenon_error *err);

/* vcpu_run.c: the loop of the vCPU's thread */
void *vcpu_run_thread(void *vcpu);

/* exits.c: answers the exit that KVM_RUN returned with. */
enum vcpu_next {
	VCPU_NEXT_RUN,      /* go on */
	VCPU_NEXT_COMPLETE, /* go on; until KVM_RUN was entered again, the guest's instruction is half done */
	VCPU_NEXT_RING,     /* go on once the dirty ring is collected */
	VCPU_NEXT_STOP,     /* stop, for the reason set */
};
enum vcpu_next vcpu_answer_exit(struct tenon_vcpu *vcpu, enum tenon_vcpu_stop *why);

/* failure.c: one line about why KVM cannot go on. @param result of KVM_RUN: 0 or -errno */
void vcpu_describe_failure(struct tenon_vcpu *vcpu, int result, char *text, size_t capacity);

/* msrs.c */
/** Reads in batches. @return 0, or the ioctl's failure; *done is how many KVM gave before the first that it refused */
int vcpu_msrs_get(struct tenon_vcpu *vcpu, struct kvm_msr_entry *msrs, unsigned count, unsigned *done);
/** Writes in batches. A refused MSR is -EINVAL and named. */
int vcpu_msrs_write(struct tenon_vcpu *vcpu, const struct kvm_msr_entry *msrs, unsigned count, struct tenon_error *err);

/* msr_state.c */
/** The MSRs that may belong to a vCPU's state, in the order to write them. @param out freed by the caller; NULL on failure */
int msr_state_names(struct tenon_vcpu *vcpu, struct kvm_msr_entry **out, unsigned *count, struct tenon_error *err);
/** Reads them, and closes the gaps where KVM does not let one be read. */
int msr_state_capture(struct tenon_vcpu *vcpu, struct kvm_msr_entry *msrs, uint32_t *count, struct tenon_error *err);
/** Writes all, or all but the TSC. The LAPIC must be restored by then. */
int msr_state_restore(struct tenon_vcpu *vcpu, const struct kvm_msr_entry *msrs, unsigned count, bool write_tsc,
		      struct tenon_error *err);
/** Brings them into the order in which they are written. */
void msr_state_sort(struct kvm_msr_entry *msrs, unsigned count);
/** Whether a state may hold this MSR at all. */
bool msr_state_belongs(uint32_t index);

/* vcpu_clock.c */
#define MSR_TSC 0x10u
/** The TSC's frequency and, where KVM tells it, its offset. */
int vcpu_clock_capture(struct tenon_vcpu *vcpu, struct tenon_vcpu_state *state, struct tenon_error *err);
/** For migration; before the MSRs. *tsc_set: the TSC is right by now, and must not be written any more. */
int vcpu_clock_restore(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state, bool *tsc_set,
		       struct tenon_error *err);
/** Has the guest told that it was paused, if it uses kvmclock; after the MSRs. */
int vcpu_clock_tell_paused(struct tenon_vcpu *vcpu, struct tenon_error *err);

static inline void vcpu_count(_Atomic uint64_t *counter)
{
	/* One writer: a load and a store are enough, and cheaper than a locked add on every exit. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

#endif

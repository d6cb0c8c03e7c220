/* SPDX-License-Identifier: MIT */
/*
 * tenon_vcpu: a virtual CPU and the thread that runs it.
 *
 * Call order: create (all vCPUs, before any runs); set registers and CPUID; start; kick, pause and resume at will; stop; destroy.
 * Threads: start, pause with wait, resume, stop and destroy come from one controlling thread that is not a vCPU's; kick and
 * pause without wait come from any. Register calls need a vCPU that is not running (never started, paused or stopped), or
 * come from one of its own handlers; else they answer -EBUSY.
 * No signal is lost: a kick sets kvm_run.immediate_exit before it sends the signal, so that a vCPU on its way into the
 * guest comes straight back (api.rst section 5, "immediate_exit").
 *
 * Process-wide: creating a vCPU gives signal SIGRTMIN+1 an empty handler, without which KVM_RUN cannot be interrupted. It is
 * refused when the program has a handler of its own there. vCPU threads are named vcpu0, vcpu1, ..., have 128 KiB of stack,
 * and block all signals but that one and those that the CPU raises.
 */
#ifndef TENON_KVM_VCPU_H
#define TENON_KVM_VCPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include <tenon-kvm/vm.h>
#include <tenon/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tenon_vcpu;

/* What the guest did; handlers run on the vCPU's thread and must not block on that vCPU. */
enum tenon_vcpu_stop {
	TENON_VCPU_STOP_SHUTDOWN,     /* triple fault (KVM_EXIT_SHUTDOWN) */
	TENON_VCPU_STOP_SYSTEM_RESET, /* KVM_EXIT_SYSTEM_EVENT: reset */
	TENON_VCPU_STOP_SYSTEM_OFF,   /* KVM_EXIT_SYSTEM_EVENT: shutdown */
	TENON_VCPU_STOP_FAILED,       /* KVM cannot go on: failed entry, internal error, KVM_RUN error */
};

/* Each may be NULL: reads then give all ones and writes vanish, as on an empty bus. */
struct tenon_vcpu_handlers {
	size_t size;
	/*
	 * size_bytes is 1, 2, 4 or 8 (ports: up to 4); neither address nor data need be aligned to it. A read finds all ones in
	 * data and fills it. A string instruction calls once per element; an access of another size comes in aligned pieces.
	 */
	void (*port_read)(void *context, uint16_t port, void *data, unsigned size_bytes);
	void (*port_write)(void *context, uint16_t port, const void *data, unsigned size_bytes);
	void (*memory_read)(void *context, uint64_t gpa, void *data, unsigned size_bytes);
	void (*memory_write)(void *context, uint64_t gpa, const void *data, unsigned size_bytes);
	/*
	 * The vCPU left its loop by itself. Once this returns it counts as paused and stays so, resume or not, until
	 * tenon_vcpu_state_restore gives it a state to go on from, or it is stopped and started. message is one line for
	 * STOP_FAILED (with registers), else NULL.
	 */
	void (*stopped)(void *context, unsigned index, enum tenon_vcpu_stop why, const char *message);
	/* The vCPU's dirty ring is full: it waits until somebody, perhaps this handler, calls tenon_vm_dirty_ring_collect. */
	void (*dirty_ring_full)(void *context, unsigned index);
};

/* Exits to user space by kind. */
struct tenon_vcpu_stats {
	uint64_t port_reads, port_writes, memory_reads, memory_writes;
	uint64_t kicks; /* EINTR: signals and immediate exits */
	uint64_t halts; /* only where the LAPIC is not in the kernel */
	uint64_t dirty_ring_full;
	uint64_t other;
};

/**
 * Creates vCPU `index` (its APIC id).
 *
 * @param handlers  copied
 * @param context   passed to each handler
 * @return 0; -EEXIST when the VM has, or had, a vCPU of that index: KVM never forgets one; -EBUSY when SIGRTMIN+1 is taken
 */
int tenon_vcpu_create(struct tenon_vm *vm, unsigned index, const struct tenon_vcpu_handlers *handlers, void *context,
		      struct tenon_vcpu **out, struct tenon_error *err);

/** Stops the thread if it runs, and frees the vCPU. NULL is accepted. */
void tenon_vcpu_destroy(struct tenon_vcpu *vcpu);

/** The vCPU's file descriptor, borrowed, for register ioctls that this header does not wrap. */
int tenon_vcpu_fd(const struct tenon_vcpu *vcpu);
unsigned tenon_vcpu_index(const struct tenon_vcpu *vcpu);

/**
 * Starts the thread; the vCPU runs (an application processor waits for its INIT and SIPI inside KVM). After a tenon_vcpu_pause
 * it starts paused.
 */
int tenon_vcpu_start(struct tenon_vcpu *vcpu, struct tenon_error *err);

/** Makes the vCPU leave the guest once, soon. Async-signal-safe. */
void tenon_vcpu_kick(struct tenon_vcpu *vcpu);

/**
 * Asks the vCPU to pause; wait = true returns when it has left the guest and its handlers, with any pending I/O completed.
 * Pauses do not nest. From a handler of the same vCPU, wait is ignored. To pause many, ask all of them first and wait after.
 */
void tenon_vcpu_pause(struct tenon_vcpu *vcpu, bool wait);
void tenon_vcpu_resume(struct tenon_vcpu *vcpu);

/** Ends the thread, with any pending I/O completed, and joins it. The vCPU can be started again and has no pause pending. */
void tenon_vcpu_stop(struct tenon_vcpu *vcpu);

/** A consistent enough copy for statistics, from any thread. */
void tenon_vcpu_stats_read(const struct tenon_vcpu *vcpu, struct tenon_vcpu_stats *out);

/* ---- Registers ---- */

int tenon_vcpu_set_cpuid(struct tenon_vcpu *vcpu, const struct kvm_cpuid2 *cpuid, struct tenon_error *err);
int tenon_vcpu_get_regs(struct tenon_vcpu *vcpu, struct kvm_regs *regs, struct tenon_error *err);
int tenon_vcpu_set_regs(struct tenon_vcpu *vcpu, const struct kvm_regs *regs, struct tenon_error *err);
int tenon_vcpu_get_sregs(struct tenon_vcpu *vcpu, struct kvm_sregs *sregs, struct tenon_error *err);
int tenon_vcpu_set_sregs(struct tenon_vcpu *vcpu, const struct kvm_sregs *sregs, struct tenon_error *err);
/** @return 0; -EINVAL with a message naming the first MSR that KVM refused; those before it are set */
int tenon_vcpu_set_msrs(struct tenon_vcpu *vcpu, const struct kvm_msr_entry *msrs, unsigned count,
			struct tenon_error *err);

/**
 * All architectural state of a vCPU, for a reset to power-on (capture once after create and CPUID) and for migration (once all
 * vCPUs are paused: their time-stamp counters run on until the first is captured). A vCPU that was captured may go on.
 * Kept as one opaque block; free with tenon_vcpu_state_free. CPUID is not part of it.
 */
struct tenon_vcpu_state;
int tenon_vcpu_state_capture(struct tenon_vcpu *vcpu, struct tenon_vcpu_state **out, struct tenon_error *err);
void tenon_vcpu_state_free(struct tenon_vcpu_state *state);

enum tenon_vcpu_restore {
	TENON_VCPU_RESTORE_RESET, /* the time-stamp counter runs on, so that it never goes back and stays equal on all vCPUs */
	/*
	 * The time-stamp counter goes on from the state's, with the state's frequency; further vCPUs of the VM keep exactly the
	 * distance to it that theirs had to the first one's. A guest that uses kvmclock is told that it was paused.
	 */
	TENON_VCPU_RESTORE_MIGRATION,
};

/**
 * Gives the vCPU a state captured from it (reset) or from its equal (migration). After a failure the vCPU's state is undefined.
 * For migration the guest's memory and the VM's state (tenon_vm_state_unpack) come first, because KVM writes what it shares with
 * the guest, its clock say, into that memory; and CPUID must be set, because it decides which registers there are.
 *
 * @return 0; -ENOTSUP naming what the state has and this KVM lacks; -EINVAL naming the register KVM refused
 */
int tenon_vcpu_state_restore(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state,
			     enum tenon_vcpu_restore purpose, struct tenon_error *err);

/**
 * The state as bytes that another host's library understands: self-describing, little-endian, versioned.
 *
 * @param data  owned by the caller: free()
 * @return 0; -ENOMEM
 */
int tenon_vcpu_state_pack(const struct tenon_vcpu_state *state, void **data, size_t *bytes, struct tenon_error *err);

/**
 * The reverse. Untrusted input: what comes out is safe to give to KVM, which may still refuse it.
 *
 * @param out  free with tenon_vcpu_state_free
 * @return 0; -EINVAL not such a state, or of a newer version: the message says which
 */
int tenon_vcpu_state_unpack(const void *data, size_t bytes, struct tenon_vcpu_state **out, struct tenon_error *err);

/**
 * What this vCPU was told of its CPU (tenon_vcpu_set_cpuid) as bytes for another host.
 *
 * @param data  owned by the caller: free()
 * @return 0; -EINVAL it was told nothing yet
 */
int tenon_vcpu_cpuid_pack(struct tenon_vcpu *vcpu, void **data, size_t *bytes, struct tenon_error *err);

/**
 * Whether a guest that was told of another CPU can go on with what this vCPU was told: same vendor, family and hypervisor, and each
 * feature, KVM's own among them, that it saw. What only tells processors apart (ids, topology, model, frequencies) may differ.
 *
 * @param packed  what tenon_vcpu_cpuid_pack made there; untrusted
 * @return 0; -ENOTSUP naming the first features that the other has and this one lacks; -EINVAL not such bytes, or no CPUID here
 */
int tenon_vcpu_cpuid_compare(struct tenon_vcpu *vcpu, const void *packed, size_t bytes, struct tenon_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

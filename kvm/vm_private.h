/* SPDX-License-Identifier: MIT */
/*
 * What the sources of kvm/ share about a VM.
 *
 * Locks: `lock` covers slots, dirty logging, the list of vCPUs and the VFIO device; `routes_lock` covers routes. A vCPU's own
 * lock (vcpu_private.h) may be taken inside `lock`, never the other way round. `lines_lock` covers line_holders and is innermost.
 */
#ifndef VM_PRIVATE_H
#define VM_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#include <tenon-kvm/vm.h>

#define VM_PAGE_BYTES 4096u

/* Flags of struct kvm_vcpu_events that are valid only once a capability was enabled. */
#define VM_OPTIONAL_EVENTS (KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

/* A memory slot; its index in tenon_vm.slots is KVM's slot number. */
struct vm_slot {
	uint64_t gpa;
	uint64_t size_bytes; /* 0: free */
	void *hva;
	bool read_only;
	bool device;
	bool log_dirty; /* asked for when it was added */
	bool logging;   /* as KVM knows it */
};

/* A message route; its index in tenon_vm.routes is its GSI less TENON_VM_IOAPIC_PINS. */
struct vm_route {
	bool used;
	uint32_t data;
	uint64_t address;
};

struct tenon_vm {
	int kvm_fd;
	int fd;
	int vfio_fd; /* the KVM-VFIO device; -1 until a file is added */
	unsigned max_vcpus;
	size_t run_bytes; /* of a vCPU's mapping */

	pthread_mutex_t lock;
	struct vm_slot *slots;
	unsigned slot_count;      /* allocated */
	unsigned slot_limit;      /* KVM_CAP_NR_MEMSLOTS */
	bool logging;             /* tenon_vm_dirty_log_enable(true) */
	uint32_t ring_entries;    /* 0: dirty log */
	struct tenon_vcpu *vcpus; /* linked by next_in_vm */

	pthread_mutex_t routes_lock;
	struct vm_route *routes;
	unsigned route_count; /* allocated */
	unsigned route_limit; /* messages that fit KVM's table beside the IOAPIC pins */
	bool routes_changed;

	pthread_mutex_t lines_lock;
	unsigned line_holders[TENON_VM_IOAPIC_PINS]; /* tenon_vm_irq_line_hold */

	uint32_t optional_events; /* those of VM_OPTIONAL_EVENTS that this KVM takes; set once */

	/* What is added to the offset that a vCPU's TSC had elsewhere; known with the first one restored. Under `lock`. */
	bool tsc_shift_known;
	uint64_t tsc_shift;

	struct kvm_irqchip power_on[3]; /* interrupt controllers as created, indexed by KVM_IRQCHIP_* */
};

/** Value of a KVM_CAP_*; 0 when absent. */
int vm_capability(const struct tenon_vm *vm, int capability);

/** Fails with -ENOTSUP and a sentence unless KVM has the capability. @param purpose what cannot be done without it */
int vm_require(const struct tenon_vm *vm, int capability, const char *name, const char *purpose,
	       struct tenon_error *err);

/**
 * Copies an option struct whose first field is its size, by the rules of the kernel's copy_struct_from_user(): a caller that
 * knows fewer fields gets zeroes, one that knows more may not use them.
 */
int vm_options_copy(void *to, size_t to_bytes, const void *from, const char *name, struct tenon_error *err);

/* routing.c */
bool vm_route_known(struct tenon_vm *vm, int gsi);

/* dirty_ring.c: harvests and resets all rings, wakes vCPUs whose ring was full. `page` may be NULL. The lock is held. */
int vm_ring_collect(struct tenon_vm *vm, tenon_vm_dirty_page_fn page, void *context, struct tenon_error *err);

#endif

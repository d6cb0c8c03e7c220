// SPDX-License-Identifier: MIT
/*
 * Collects the vCPUs' dirty rings (api.rst 8.29): each is a ring of pages that KVM fills and that we hand back entry by entry,
 * in order. Their mapping is vcpu.c's.
 */
#include <errno.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"

static void report_page(const struct tenon_vm *vm, const struct kvm_dirty_gfn *entry, tenon_vm_dirty_page_fn page,
			void *context)
{
	/* A slot may be gone by now, and with it what was dirty. Numbers above 16 bits are system management mode's. */
	if (!page || entry->slot >= vm->slot_count)
		return;
	const struct vm_slot *slot = &vm->slots[entry->slot];
	if (entry->offset < slot->size_bytes / VM_PAGE_BYTES)
		page(context, slot->gpa + entry->offset * VM_PAGE_BYTES);
}

static int harvest(struct tenon_vcpu *vcpu, tenon_vm_dirty_page_fn page, void *context)
{
	const struct tenon_vm *vm = vcpu->vm;
	int count = 0;
	for (;;) {
		struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->ring_next & (vm->ring_entries - 1)];
		/* Once around is enough: a harvested entry keeps its dirty bit until KVM resets it. */
		if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			return count;
		report_page(vm, entry, page, context);
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		vcpu->ring_next++;
		count++;
	}
}

static void tell_collected(struct tenon_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	atomic_fetch_add(&vcpu->ring_collections, 1);
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
}

int vm_ring_collect(struct tenon_vm *vm, tenon_vm_dirty_page_fn page, void *context, struct tenon_error *err)
{
	int count = 0;
	for (struct tenon_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next_in_vm)
		count += harvest(vcpu, page, context);

	/* Also when there was nothing: a reset that failed before is made up for. */
	int error = kcall_ioctl_value(vm->fd, KVM_RESET_DIRTY_RINGS, 0);
	if (error < 0)
		return tenon_fail(err, error, "KVM: KVM_RESET_DIRTY_RINGS: %s", strerror(-error));
	for (struct tenon_vcpu *vcpu = vm->vcpus; vcpu; vcpu = vcpu->next_in_vm)
		tell_collected(vcpu);
	return count;
}

int tenon_vm_dirty_ring_collect(struct tenon_vm *vm, tenon_vm_dirty_page_fn page, void *context,
				struct tenon_error *err)
{
	if (vm->ring_entries == 0)
		return tenon_fail(err, -ENOTSUP,
				  "KVM: this VM uses the dirty log; fetch that instead of collecting the dirty ring");

	pthread_mutex_lock(&vm->lock);
	int count = vm_ring_collect(vm, page, context, err);
	pthread_mutex_unlock(&vm->lock);
	return count;
}

// SPDX-License-Identifier: MIT
/*
 * Memory slots and the dirty log. A slot's number is its place in the VM's table; numbers of removed slots are used again.
 * The memory itself belongs to the caller.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "vm_private.h"

static int set_region(struct tenon_vm *vm, const struct vm_slot *slot, uint64_t size_bytes, bool logging)
{
	struct kvm_userspace_memory_region region = {
		.slot = (uint32_t)(slot - vm->slots),
		.flags = (logging ? KVM_MEM_LOG_DIRTY_PAGES : 0u) | (slot->read_only ? KVM_MEM_READONLY : 0u),
		.guest_phys_addr = slot->gpa,
		.memory_size = size_bytes,
		.userspace_addr = (uintptr_t)slot->hva,
	};
	return kcall_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static bool wants_logging(const struct tenon_vm *vm, const struct vm_slot *slot)
{
	return !slot->read_only && !slot->device && (vm->logging || slot->log_dirty);
}

static int check_memory(const struct tenon_vm_memory *memory, struct tenon_error *err)
{
	uint64_t misaligned = memory->gpa | memory->size_bytes | (uintptr_t)memory->hva;
	if (memory->size_bytes == 0 || misaligned % VM_PAGE_BYTES || memory->gpa + memory->size_bytes - 1 < memory->gpa)
		return tenon_fail(err, -EINVAL,
				  "memory at %#" PRIx64 ", %#" PRIx64
				  " bytes: address, size and host address must be whole pages",
				  memory->gpa, memory->size_bytes);
	return 0;
}

/* Number of a free slot, or a negative errno. Grows the table; so pointers to slots last only until here. */
static int free_slot(struct tenon_vm *vm, struct tenon_error *err)
{
	for (unsigned i = 0; i < vm->slot_count; i++) {
		if (vm->slots[i].size_bytes == 0)
			return (int)i;
	}
	if (vm->slot_count >= vm->slot_limit)
		return tenon_fail(err, -ENOSPC, "KVM: all %u memory slots are in use; assign fewer devices",
				  vm->slot_limit);
	unsigned count = vm->slot_count ? vm->slot_count * 2 : 8;
	if (count > vm->slot_limit)
		count = vm->slot_limit;
	struct vm_slot *slots = realloc(vm->slots, count * sizeof(*slots));
	if (!slots)
		return tenon_fail(err, -ENOMEM, "KVM: no memory for a table of %u memory slots", count);
	memset(slots + vm->slot_count, 0, (count - vm->slot_count) * sizeof(*slots));
	vm->slots = slots;
	int number = (int)vm->slot_count;
	vm->slot_count = count;
	return number;
}

static int add_locked(struct tenon_vm *vm, const struct tenon_vm_memory *memory, struct tenon_error *err)
{
	for (unsigned i = 0; i < vm->slot_count; i++) {
		const struct vm_slot *other = &vm->slots[i];
		if (other->size_bytes == 0 || memory->gpa > other->gpa + (other->size_bytes - 1) ||
		    other->gpa > memory->gpa + (memory->size_bytes - 1))
			continue;
		return tenon_fail(err, -EEXIST,
				  "memory at %#" PRIx64 ", %#" PRIx64 " bytes: overlaps what is mapped at %#" PRIx64
				  ", %#" PRIx64 " bytes",
				  memory->gpa, memory->size_bytes, other->gpa, other->size_bytes);
	}

	int number = free_slot(vm, err);
	if (number < 0)
		return number;
	struct vm_slot *slot = &vm->slots[number];
	*slot = (struct vm_slot){
		.gpa = memory->gpa,
		.hva = memory->hva,
		.read_only = memory->read_only,
		.device = memory->device,
		.log_dirty = memory->log_dirty,
	};
	bool logging = wants_logging(vm, slot);
	int error = set_region(vm, slot, memory->size_bytes, logging);
	if (error < 0)
		return tenon_fail(err, error,
				  "memory at %#" PRIx64 ", %#" PRIx64 " bytes: KVM_SET_USER_MEMORY_REGION: %s%s",
				  memory->gpa, memory->size_bytes, strerror(-error),
				  error == -EEXIST ? "; KVM keeps pages of its own just below 0xff000000" : "");
	slot->size_bytes = memory->size_bytes;
	slot->logging = logging;
	return 0;
}

int tenon_vm_memory_add(struct tenon_vm *vm, const struct tenon_vm_memory *memory, struct tenon_error *err)
{
	struct tenon_vm_memory known;
	int error = vm_options_copy(&known, sizeof(known), memory, "tenon_vm_memory", err);
	if (!error)
		error = check_memory(&known, err);
	if (!error && known.read_only)
		error = vm_require(vm, KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM", "map read-only memory", err);
	if (error)
		return error;

	pthread_mutex_lock(&vm->lock);
	error = add_locked(vm, &known, err);
	pthread_mutex_unlock(&vm->lock);
	return error;
}

static struct vm_slot *find_slot(struct tenon_vm *vm, uint64_t gpa)
{
	for (unsigned i = 0; i < vm->slot_count; i++) {
		if (vm->slots[i].size_bytes && vm->slots[i].gpa == gpa)
			return &vm->slots[i];
	}
	return NULL;
}

static int remove_locked(struct tenon_vm *vm, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	struct vm_slot *slot = find_slot(vm, gpa);
	if (!slot || slot->size_bytes != size_bytes)
		return tenon_fail(err, -ENOENT, "memory at %#" PRIx64 ", %#" PRIx64 " bytes: no such memory was added",
				  gpa, size_bytes);

	int error = set_region(vm, slot, 0, false);
	if (error < 0)
		return tenon_fail(err, error, "memory at %#" PRIx64 ": cannot remove: KVM_SET_USER_MEMORY_REGION: %s",
				  gpa, strerror(-error));
	*slot = (struct vm_slot){0};
	return 0;
}

int tenon_vm_memory_remove(struct tenon_vm *vm, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	pthread_mutex_lock(&vm->lock);
	int error = remove_locked(vm, gpa, size_bytes, err);
	pthread_mutex_unlock(&vm->lock);
	return error;
}

/* Makes KVM's flag of each slot what wants_logging() says; stops at the first failure. */
static int apply_logging(struct tenon_vm *vm, struct tenon_error *err)
{
	for (unsigned i = 0; i < vm->slot_count; i++) {
		struct vm_slot *slot = &vm->slots[i];
		bool logging = wants_logging(vm, slot);
		if (slot->size_bytes == 0 || slot->logging == logging)
			continue;
		int error = set_region(vm, slot, slot->size_bytes, logging);
		if (error < 0)
			return tenon_fail(err, error, "memory at %#" PRIx64 ": cannot switch the dirty log %s: %s",
					  slot->gpa, logging ? "on" : "off", strerror(-error));
		slot->logging = logging;
	}
	return 0;
}

static int log_enable_locked(struct tenon_vm *vm, bool enable, struct tenon_error *err)
{
	bool before = vm->logging;
	vm->logging = enable;
	int error = apply_logging(vm, err);
	if (error) {
		vm->logging = before;
		apply_logging(vm, NULL);
		return error;
	}
	/* What is still in the rings belongs to nobody, and a vCPU whose ring is full would wait for it to be collected. */
	if (!enable && vm->ring_entries)
		return vm_ring_collect(vm, NULL, NULL, err);
	return 0;
}

int tenon_vm_dirty_log_enable(struct tenon_vm *vm, bool enable, struct tenon_error *err)
{
	pthread_mutex_lock(&vm->lock);
	int error = log_enable_locked(vm, enable, err);
	pthread_mutex_unlock(&vm->lock);
	return error < 0 ? error : 0;
}

static int log_fetch_locked(struct tenon_vm *vm, uint64_t gpa, uint64_t *bitmap, size_t words, struct tenon_error *err)
{
	const struct vm_slot *slot = find_slot(vm, gpa);
	if (!slot)
		return tenon_fail(err, -ENOENT, "memory at %#" PRIx64 ": no such memory was added", gpa);
	if (!slot->logging)
		return tenon_fail(err, -EINVAL, "memory at %#" PRIx64 ": its dirty log is off; switch it on first",
				  gpa);
	uint64_t pages = slot->size_bytes / VM_PAGE_BYTES;
	uint64_t needed = (pages + 63) / 64;
	if (words < needed)
		return tenon_fail(err, -ENOSPC,
				  "memory at %#" PRIx64 ": the dirty log needs %" PRIu64 " words, not %zu", gpa, needed,
				  words);

	struct kvm_dirty_log log = {.slot = (uint32_t)(slot - vm->slots), .dirty_bitmap = bitmap};
	int error = kcall_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
	if (error < 0)
		return tenon_fail(err, error, "memory at %#" PRIx64 ": KVM_GET_DIRTY_LOG: %s", gpa, strerror(-error));
	return 0;
}

int tenon_vm_dirty_log_fetch(struct tenon_vm *vm, uint64_t gpa, uint64_t *bitmap, size_t words, struct tenon_error *err)
{
	if (vm->ring_entries)
		return tenon_fail(err, -ENOTSUP,
				  "KVM: this VM uses the dirty ring; collect that instead of the dirty log");

	pthread_mutex_lock(&vm->lock);
	int error = log_fetch_locked(vm, gpa, bitmap, words, err);
	pthread_mutex_unlock(&vm->lock);
	return error;
}

// SPDX-License-Identifier: MIT
/*
 * Creates and frees a VM: what KVM must offer, the interrupt controllers, Intel's helper pages, the dirty ring's size.
 * Memory, routes, eventfds and vCPUs have files of their own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "vm_private.h"

/* xAPIC ids and the destination field of a message have 8 bits, and id 255 is everybody. */
#define XAPIC_VCPUS 255

/* Where Intel CPUs without "unrestricted guest" keep real mode's helpers: below the end of 4 GiB, where a PC has its firmware. */
#define IDENTITY_MAP_ADDRESS 0xfeffc000ull
#define TSS_ADDRESS          0xfeffd000ull

#define RING_ENTRIES 4096u /* the least that api.rst 8.29 recommends */

static const struct {
	int capability;
	const char *name;
} required[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
	{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
	{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
	{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

int vm_capability(const struct tenon_vm *vm, int capability)
{
	int value =
		kcall_ioctl_value(vm->fd >= 0 ? vm->fd : vm->kvm_fd, KVM_CHECK_EXTENSION, (unsigned long)capability);
	return value < 0 ? 0 : value;
}

int vm_require(const struct tenon_vm *vm, int capability, const char *name, const char *purpose,
	       struct tenon_error *err)
{
	if (vm_capability(vm, capability) > 0)
		return 0;
	return tenon_fail(err, -ENOTSUP, "KVM: cannot %s: this kernel's KVM lacks %s", purpose, name);
}

static const char *open_advice(int error)
{
	switch (error) {
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return "switch virtualization on in the firmware's set-up and load kvm_intel or kvm_amd";
	case -EACCES:
	case -EPERM:
		return "give this user read-write access to it, for example by group kvm";
	default:
		return "check that it is KVM's device";
	}
}

static int check_required(const struct tenon_vm *vm, const char *path, struct tenon_error *err)
{
	char missing[256] = "";
	size_t used = 0;
	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
		if (vm_capability(vm, required[i].capability) > 0)
			continue;
		used += (size_t)snprintf(missing + used, sizeof(missing) - used, "%s%s", used ? ", " : "",
					 required[i].name);
	}
	if (used == 0)
		return 0;
	return tenon_fail(err, -ENOTSUP, "%s: cannot run a VM: lacks %s; use a newer kernel", path, missing);
}

static int open_kvm(struct tenon_vm *vm, const char *path, struct tenon_error *err)
{
	vm->kvm_fd = kcall_open(path);
	if (vm->kvm_fd < 0)
		return tenon_fail(err, vm->kvm_fd, "%s: cannot open: %s; %s", path, strerror(-vm->kvm_fd),
				  open_advice(vm->kvm_fd));

	int version = kcall_ioctl_value(vm->kvm_fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return tenon_fail(err, version, "%s: KVM_GET_API_VERSION: %s; %s", path, strerror(-version),
				  open_advice(0));
	if (version != KVM_API_VERSION)
		return tenon_fail(err, -ENOTSUP, "%s: speaks KVM API %d, not %d; use a newer kernel", path, version,
				  KVM_API_VERSION);
	return check_required(vm, path, err);
}

static int create_vm(struct tenon_vm *vm, const char *path, struct tenon_error *err)
{
	int fd;
	/* Registering with the memory manager can be interrupted by any signal to the process. */
	do {
		fd = kcall_ioctl_value(vm->kvm_fd, KVM_CREATE_VM, 0);
	} while (fd == -EINTR);
	if (fd < 0)
		return tenon_fail(err, fd, "%s: KVM_CREATE_VM: %s; %s", path, strerror(-fd),
				  fd == -EBUSY ? "another hypervisor holds the CPU's virtualization: stop it"
					       : "see the kernel's log");
	vm->fd = fd;

	int run_bytes = kcall_ioctl_value(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_bytes < 0)
		return tenon_fail(err, run_bytes, "%s: KVM_GET_VCPU_MMAP_SIZE: %s", path, strerror(-run_bytes));
	if ((size_t)run_bytes < sizeof(struct kvm_run))
		return tenon_fail(err, -EPROTO, "%s: KVM_GET_VCPU_MMAP_SIZE gave %d, too small for struct kvm_run",
				  path, run_bytes);
	vm->run_bytes = (size_t)run_bytes;

	/* api.rst 4.4: without the capability, 4 vCPUs and 32 slots. */
	int vcpus = vm_capability(vm, KVM_CAP_MAX_VCPUS);
	vm->max_vcpus = vcpus <= 0 ? 4 : vcpus > XAPIC_VCPUS ? XAPIC_VCPUS : (unsigned)vcpus;
	int slots = vm_capability(vm, KVM_CAP_NR_MEMSLOTS);
	vm->slot_limit = slots <= 0 ? 32 : (unsigned)slots;
	int routes = vm_capability(vm, KVM_CAP_IRQ_ROUTING);
	vm->route_limit = routes <= TENON_VM_IOAPIC_PINS ? 0 : (unsigned)routes - TENON_VM_IOAPIC_PINS;
	return 0;
}

/* Intel only, and before the first vCPU; AMD accepts and ignores both. */
static int place_intel_helpers(struct tenon_vm *vm, struct tenon_error *err)
{
	if (vm_capability(vm, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
		uint64_t address = IDENTITY_MAP_ADDRESS;
		int error = kcall_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &address);
		if (error < 0)
			return tenon_fail(err, error, "KVM: KVM_SET_IDENTITY_MAP_ADDR: %s", strerror(-error));
	}
	if (vm_capability(vm, KVM_CAP_SET_TSS_ADDR) > 0) {
		int error = kcall_ioctl_value(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDRESS);
		if (error < 0)
			return tenon_fail(err, error, "KVM: KVM_SET_TSS_ADDR: %s", strerror(-error));
	}
	return 0;
}

static int create_irqchip(struct tenon_vm *vm, struct tenon_error *err)
{
	int error = kcall_ioctl_value(vm->fd, KVM_CREATE_IRQCHIP, 0);
	if (error < 0)
		return tenon_fail(err, error, "KVM: KVM_CREATE_IRQCHIP: %s", strerror(-error));

	for (uint32_t i = 0; i < sizeof(vm->power_on) / sizeof(vm->power_on[0]); i++) {
		vm->power_on[i].chip_id = i;
		error = kcall_ioctl(vm->fd, KVM_GET_IRQCHIP, &vm->power_on[i]);
		if (error < 0)
			return tenon_fail(err, error, "KVM: KVM_GET_IRQCHIP of chip %u: %s", i, strerror(-error));
	}

	/*
	 * KVM's own table also wires GSIs 0-15 to the PIC. A guest without a PIC never masks it, and its LINT0 comes up open:
	 * each of those interrupts would arrive a second time, as one of the PIC's.
	 */
	vm->routes_changed = true;
	return tenon_vm_route_commit(vm, err);
}

/* Without these an exception or triple fault that is pending when a vCPU's state is captured is bent or lost. */
static int enable_events(struct tenon_vm *vm, struct tenon_error *err)
{
	static const struct {
		uint32_t capability, flag;
		const char *name;
	} events[] = {
		{KVM_CAP_EXCEPTION_PAYLOAD, KVM_VCPUEVENT_VALID_PAYLOAD, "KVM_CAP_EXCEPTION_PAYLOAD"},
		{KVM_CAP_X86_TRIPLE_FAULT_EVENT, KVM_VCPUEVENT_VALID_TRIPLE_FAULT, "KVM_CAP_X86_TRIPLE_FAULT_EVENT"},
	};
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (vm_capability(vm, (int)events[i].capability) <= 0)
			continue;
		struct kvm_enable_cap enable = {.cap = events[i].capability, .args = {1}};
		int error = kcall_ioctl(vm->fd, KVM_ENABLE_CAP, &enable);
		if (error < 0)
			return tenon_fail(err, error, "KVM: KVM_ENABLE_CAP of %s: %s", events[i].name,
					  strerror(-error));
		vm->optional_events |= events[i].flag;
	}
	return 0;
}

static int enable_ring(struct tenon_vm *vm, uint32_t entries, struct tenon_error *err)
{
	if (entries == 0)
		entries = RING_ENTRIES;
	if (entries & (entries - 1))
		return tenon_fail(err, -EINVAL, "KVM: dirty ring of %u entries: must be a power of two", entries);

	uint64_t size_bytes = (uint64_t)entries * sizeof(struct kvm_dirty_gfn);
	int capability = 0;
	int most = 0;
#ifdef KVM_CAP_DIRTY_LOG_RING_ACQ_REL
	capability = KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
	most = vm_capability(vm, capability);
#endif
	if (most <= 0) {
		capability = KVM_CAP_DIRTY_LOG_RING;
		most = vm_capability(vm, capability);
	}
	if (most <= 0)
		return tenon_fail(err, -ENOTSUP,
				  "KVM: cannot use the dirty ring: this kernel's KVM lacks KVM_CAP_DIRTY_LOG_RING; use "
				  "the dirty log");
	if (size_bytes > (uint64_t)most)
		return tenon_fail(err, -EINVAL, "KVM: dirty ring of %u entries: KVM allows %u", entries,
				  (unsigned)((size_t)most / sizeof(struct kvm_dirty_gfn)));

	struct kvm_enable_cap enable = {.cap = (uint32_t)capability, .args = {size_bytes}};
	int error = kcall_ioctl(vm->fd, KVM_ENABLE_CAP, &enable);
	if (error < 0)
		return tenon_fail(err, error, "KVM: dirty ring of %u entries: KVM_ENABLE_CAP: %s%s", entries,
				  strerror(-error), error == -EINVAL ? "; ask for more entries" : "");
	vm->ring_entries = entries;
	return 0;
}

int tenon_vm_create(const struct tenon_vm_options *options, struct tenon_vm **out, struct tenon_error *err)
{
	struct tenon_vm_options known = {.size = sizeof(known)};
	int error = options ? vm_options_copy(&known, sizeof(known), options, "tenon_vm_options", err) : 0;
	if (error)
		return error;
	const char *path = known.path ? known.path : "/dev/kvm";

	struct tenon_vm *vm = calloc(1, sizeof(*vm));
	if (!vm)
		return tenon_fail(err, -ENOMEM, "%s: cannot create a VM: out of memory", path);
	vm->kvm_fd = -1;
	vm->fd = -1;
	vm->vfio_fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->routes_lock, NULL);
	pthread_mutex_init(&vm->lines_lock, NULL);

	error = open_kvm(vm, path, err);
	if (!error)
		error = create_vm(vm, path, err);
	if (!error && known.dirty_ring)
		error = enable_ring(vm, known.dirty_ring_entries, err);
	if (!error)
		error = enable_events(vm, err);
	if (!error)
		error = place_intel_helpers(vm, err);
	if (!error)
		error = create_irqchip(vm, err);
	if (error) {
		tenon_vm_destroy(vm);
		return error;
	}
	*out = vm;
	return 0;
}

void tenon_vm_destroy(struct tenon_vm *vm)
{
	if (!vm)
		return;
	if (vm->vfio_fd >= 0)
		kcall_close(vm->vfio_fd);
	if (vm->fd >= 0)
		kcall_close(vm->fd);
	if (vm->kvm_fd >= 0)
		kcall_close(vm->kvm_fd);
	pthread_mutex_destroy(&vm->lines_lock);
	pthread_mutex_destroy(&vm->routes_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm->routes);
	free(vm->slots);
	free(vm);
}

unsigned tenon_vm_max_vcpus(const struct tenon_vm *vm)
{
	return vm->max_vcpus;
}

int tenon_vm_kvm_fd(const struct tenon_vm *vm)
{
	return vm->kvm_fd;
}

int tenon_vm_fd(const struct tenon_vm *vm)
{
	return vm->fd;
}

// SPDX-License-Identifier: MIT
/* irqfds (an eventfd interrupts the guest) and ioeventfds (a guest's write signals an eventfd). Owns no file descriptor. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "kernel_calls.h"
#include "vm_private.h"

int tenon_vm_irqfd_attach(struct tenon_vm *vm, int gsi, int eventfd, int resample, struct tenon_error *err)
{
	if (!vm_route_known(vm, gsi))
		return tenon_fail(err, -EINVAL, "KVM: GSI %d is neither an IOAPIC pin nor a message route", gsi);
	struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd, .gsi = (uint32_t)gsi};
	if (resample >= 0) {
		int error = vm_require(vm, KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE",
				       "deliver a level interrupt", err);
		if (error)
			return error;
		irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
		irqfd.resamplefd = (uint32_t)resample;
	}
	int error = kcall_ioctl(vm->fd, KVM_IRQFD, &irqfd);
	if (error < 0)
		return tenon_fail(err, error, "KVM: cannot attach eventfd %d to GSI %d: %s%s", eventfd, gsi,
				  strerror(-error), error == -EBUSY ? "; it is attached already" : "");
	return 0;
}

int tenon_vm_irqfd_detach(struct tenon_vm *vm, int gsi, int eventfd, struct tenon_error *err)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd, .gsi = (uint32_t)gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN};
	int error = kcall_ioctl(vm->fd, KVM_IRQFD, &irqfd);
	if (error < 0)
		return tenon_fail(err, error, "KVM: cannot detach eventfd %d from GSI %d: %s", eventfd, gsi,
				  strerror(-error));
	return 0;
}

static int check_ioeventfd(struct tenon_vm *vm, const struct tenon_vm_ioeventfd *what, struct tenon_error *err)
{
	unsigned width = what->width_bytes;
	if (width != 0 && width != 1 && width != 2 && width != 4 && (width != 8 || what->io))
		return tenon_fail(err, -EINVAL, "ioeventfd at %#" PRIx64 ": %u bytes is not the width of %s",
				  what->address, width, what->io ? "a port" : "memory access");
	if (width != 0)
		return 0;
	if (what->io || what->match)
		return tenon_fail(err, -EINVAL,
				  "ioeventfd at %#" PRIx64 ": any width is for memory, without a value to match",
				  what->address);
	return vm_require(vm, KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH",
			  "signal an eventfd for writes of any width", err);
}

static int ioeventfd(struct tenon_vm *vm, const struct tenon_vm_ioeventfd *what, bool attach, struct tenon_error *err)
{
	struct tenon_vm_ioeventfd known;
	int error = vm_options_copy(&known, sizeof(known), what, "tenon_vm_ioeventfd", err);
	if (!error && attach)
		error = check_ioeventfd(vm, &known, err);
	if (error)
		return error;

	struct kvm_ioeventfd request = {
		.datamatch = known.match ? known.value : 0,
		.addr = known.address,
		.len = known.width_bytes,
		.fd = known.eventfd,
		.flags = (known.match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u) | (known.io ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
			 (attach ? 0u : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};
	error = kcall_ioctl(vm->fd, KVM_IOEVENTFD, &request);
	if (error < 0)
		return tenon_fail(err, error, "ioeventfd at %#" PRIx64 ": cannot %s eventfd %d: %s%s", known.address,
				  attach ? "attach" : "detach", known.eventfd, strerror(-error),
				  error == -EEXIST ? "; the same write signals another eventfd" : "");
	return 0;
}

int tenon_vm_ioeventfd_attach(struct tenon_vm *vm, const struct tenon_vm_ioeventfd *what, struct tenon_error *err)
{
	return ioeventfd(vm, what, true, err);
}

int tenon_vm_ioeventfd_detach(struct tenon_vm *vm, const struct tenon_vm_ioeventfd *what, struct tenon_error *err)
{
	return ioeventfd(vm, what, false, err);
}

// SPDX-License-Identifier: MIT
/*
 * The KVM-VFIO device: tells KVM which VFIO files the VM owns, from which KVM derives whether WBINVD and guest memory types
 * matter. One per VM, created when the first file comes. (Documentation/virt/kvm/devices/vfio.rst)
 */
#include <errno.h>
#include <string.h>

#include "kernel_calls.h"
#include "vm_private.h"

/* Names since Linux 6.6; the numbers were there before, for group files only. */
#ifndef KVM_DEV_VFIO_FILE
#define KVM_DEV_VFIO_FILE     KVM_DEV_VFIO_GROUP
#define KVM_DEV_VFIO_FILE_ADD KVM_DEV_VFIO_GROUP_ADD
#define KVM_DEV_VFIO_FILE_DEL KVM_DEV_VFIO_GROUP_DEL
#endif

static int set_file(struct tenon_vm *vm, uint64_t attribute, int fd)
{
	int32_t file = fd;
	struct kvm_device_attr request = {
		.group = KVM_DEV_VFIO_FILE,
		.attr = attribute,
		.addr = (uintptr_t)&file,
	};
	return kcall_ioctl(vm->vfio_fd, KVM_SET_DEVICE_ATTR, &request);
}

static int create_device(struct tenon_vm *vm, struct tenon_error *err)
{
	/* Tried, not asked for: on x86, Linux 6.1 has the call and does not announce KVM_CAP_DEVICE_CTRL. */
	struct kvm_create_device create = {.type = KVM_DEV_TYPE_VFIO};
	int error = kcall_ioctl(vm->fd, KVM_CREATE_DEVICE, &create);
	if (error == -ENODEV || error == -ENOTTY)
		return tenon_fail(err, error,
				  "KVM: cannot create the KVM-VFIO device: this kernel has none (CONFIG_KVM_VFIO)");
	if (error < 0)
		return tenon_fail(err, error, "KVM: cannot create the KVM-VFIO device: %s", strerror(-error));
	vm->vfio_fd = (int)create.fd;
	return 0;
}

static int add_locked(struct tenon_vm *vm, int fd, struct tenon_error *err)
{
	int error = vm->vfio_fd < 0 ? create_device(vm, err) : 0;
	if (error)
		return error;
	error = set_file(vm, KVM_DEV_VFIO_FILE_ADD, fd);
	if (error == -EINVAL || error == -EBADF)
		return tenon_fail(
			err, error,
			"KVM: file descriptor %d is no VFIO file to KVM: %s; before Linux 6.6 only group files are", fd,
			strerror(-error));
	if (error < 0)
		return tenon_fail(err, error, "KVM: cannot add VFIO file %d: %s%s", fd, strerror(-error),
				  error == -EEXIST ? "; it was added before" : "");
	return 0;
}

int tenon_vm_file_add(struct tenon_vm *vm, int fd, struct tenon_error *err)
{
	pthread_mutex_lock(&vm->lock);
	int error = add_locked(vm, fd, err);
	pthread_mutex_unlock(&vm->lock);
	return error;
}

int tenon_vm_file_remove(struct tenon_vm *vm, int fd, struct tenon_error *err)
{
	pthread_mutex_lock(&vm->lock);
	int error = vm->vfio_fd < 0 ? -ENOENT : set_file(vm, KVM_DEV_VFIO_FILE_DEL, fd);
	pthread_mutex_unlock(&vm->lock);
	if (error < 0)
		return tenon_fail(err, error, "KVM: cannot remove VFIO file %d: %s", fd, strerror(-error));
	return 0;
}

// SPDX-License-Identifier: MIT
/*
 * The fake KVM's side of kvm/kernel_calls.h: descriptors, which call fails, threads, and the signal that interrupts KVM_RUN. As on
 * a real kernel, a signal that finds its thread outside KVM_RUN is gone.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "kernel_calls.h"
#include "kvm_model.h"

struct model model = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static const struct {
	unsigned long request;
	const char *name;
	bool cannot_fail;
} names[] = {
#define NAME(request)                                                                                                  \
	{                                                                                                              \
		request, #request, false                                                                               \
	}
	NAME(KVM_GET_API_VERSION),
	{KVM_CHECK_EXTENSION, "KVM_CHECK_EXTENSION", true},
	NAME(KVM_CREATE_VM),
	NAME(KVM_GET_VCPU_MMAP_SIZE),
	NAME(KVM_ENABLE_CAP),
	NAME(KVM_SET_IDENTITY_MAP_ADDR),
	NAME(KVM_SET_TSS_ADDR),
	NAME(KVM_CREATE_IRQCHIP),
	NAME(KVM_GET_IRQCHIP),
	NAME(KVM_SET_IRQCHIP),
	NAME(KVM_SET_GSI_ROUTING),
	NAME(KVM_SET_USER_MEMORY_REGION),
	NAME(KVM_GET_DIRTY_LOG),
	NAME(KVM_RESET_DIRTY_RINGS),
	NAME(KVM_IRQ_LINE),
	NAME(KVM_SIGNAL_MSI),
	NAME(KVM_IRQFD),
	NAME(KVM_IOEVENTFD),
	NAME(KVM_CREATE_DEVICE),
	NAME(KVM_SET_DEVICE_ATTR),
	NAME(KVM_CREATE_VCPU),
	NAME(KVM_RUN),
	NAME(KVM_SET_CPUID2),
	NAME(KVM_GET_REGS),
	NAME(KVM_SET_REGS),
	NAME(KVM_GET_SREGS),
	NAME(KVM_SET_SREGS),
	NAME(KVM_GET_MSR_INDEX_LIST),
	NAME(KVM_GET_MSRS),
	NAME(KVM_SET_MSRS),
	NAME(KVM_GET_MP_STATE),
	NAME(KVM_SET_MP_STATE),
	NAME(KVM_GET_VCPU_EVENTS),
	NAME(KVM_SET_VCPU_EVENTS),
	NAME(KVM_GET_DEBUGREGS),
	NAME(KVM_SET_DEBUGREGS),
	NAME(KVM_GET_LAPIC),
	NAME(KVM_SET_LAPIC),
	NAME(KVM_GET_XCRS),
	NAME(KVM_SET_XCRS),
	NAME(KVM_GET_XSAVE),
	NAME(KVM_SET_XSAVE),
	NAME(KVM_GET_NESTED_STATE),
	NAME(KVM_SET_NESTED_STATE),
	NAME(KVM_GET_TSC_KHZ),
	NAME(KVM_SET_TSC_KHZ),
	NAME(KVM_GET_XSAVE2),
	NAME(KVM_GET_DEVICE_ATTR),
	NAME(KVM_KVMCLOCK_CTRL),
	NAME(KVM_GET_CLOCK),
	NAME(KVM_SET_CLOCK),
	NAME(KVM_GET_PIT2),
	NAME(KVM_SET_PIT2),
#undef NAME
};

/* ---- Failures and counts ---- */

/* Notes a call and decides about its failure. @return 0 or -errno */
static int model_call(const char *name, bool can_fail)
{
	if (model.call_count < sizeof(model.calls) / sizeof(model.calls[0]))
		model.calls[model.call_count++] = name;
	if (!can_fail)
		return 0;
	if (model.fail_name && strcmp(model.fail_name, name) == 0) {
		model.failed = name;
		return -model.fail_error;
	}
	if (model.fail_at && pthread_equal(model.failing_thread, pthread_self()) && --model.fail_at == 0) {
		model.failed = name;
		return -model.fail_error;
	}
	return 0;
}

void fakekvm_fail_call(unsigned n, int error)
{
	pthread_mutex_lock(&model.lock);
	model.failing_thread = pthread_self();
	model.fail_at = n;
	model.fail_error = error;
	model.failed = NULL;
	pthread_mutex_unlock(&model.lock);
}

void fakekvm_fail_always(const char *name, int error)
{
	pthread_mutex_lock(&model.lock);
	model.fail_name = name;
	model.fail_error = error;
	model.failed = NULL;
	pthread_mutex_unlock(&model.lock);
}

const char *fakekvm_failed_call(void)
{
	pthread_mutex_lock(&model.lock);
	const char *failed = model.failed;
	pthread_mutex_unlock(&model.lock);
	return failed;
}

unsigned fakekvm_calls(const char *name)
{
	unsigned count = 0;
	pthread_mutex_lock(&model.lock);
	for (unsigned i = 0; i < model.call_count; i++)
		count += strcmp(model.calls[i], name) == 0;
	pthread_mutex_unlock(&model.lock);
	return count;
}

int fakekvm_call_position(const char *name)
{
	int position = -1;
	pthread_mutex_lock(&model.lock);
	for (unsigned i = 0; position < 0 && i < model.call_count; i++) {
		if (strcmp(model.calls[i], name) == 0)
			position = (int)i;
	}
	pthread_mutex_unlock(&model.lock);
	return position;
}

void fakekvm_forget_calls(void)
{
	pthread_mutex_lock(&model.lock);
	model.call_count = 0;
	pthread_mutex_unlock(&model.lock);
}

/* ---- Descriptors ---- */

int model_open(enum model_kind kind, unsigned vcpu)
{
	for (int i = 0; i < MODEL_FDS; i++) {
		if (model.fds[i].kind == MODEL_FREE) {
			model.fds[i] = (struct model_fd){.kind = kind, .vcpu = vcpu};
			return MODEL_FIRST_FD + i;
		}
	}
	return -EMFILE;
}

const struct model_fd *model_at(int fd)
{
	static const struct model_fd none;
	if (fd < MODEL_FIRST_FD || fd >= MODEL_FIRST_FD + MODEL_FDS)
		return &none;
	return &model.fds[fd - MODEL_FIRST_FD];
}

static bool vm_is_referred_to(void)
{
	for (unsigned i = 0; i < MODEL_FDS; i++) {
		enum model_kind kind = model.fds[i].kind;
		if (kind == MODEL_VM || kind == MODEL_VCPU || kind == MODEL_VFIO_DEVICE)
			return true;
	}
	return false;
}

static void close_locked(int fd)
{
	cr_assert_neq(model_at(fd)->kind, MODEL_FREE, "closed descriptor %d, which is not open", fd);
	model.fds[fd - MODEL_FIRST_FD].kind = MODEL_FREE;
	if (!vm_is_referred_to())
		model_forget_vm();
}

int kcall_open(const char *path)
{
	pthread_mutex_lock(&model.lock);
	int result = model_call("open", true);
	if (result == 0)
		result = strcmp(path, "/dev/kvm") == 0 ? model_open(MODEL_KVM, 0) : -ENOENT;
	pthread_mutex_unlock(&model.lock);
	return result;
}

void kcall_close(int fd)
{
	pthread_mutex_lock(&model.lock);
	model_call("close", false);
	close_locked(fd);
	pthread_mutex_unlock(&model.lock);
}

int fakekvm_eventfd(void)
{
	pthread_mutex_lock(&model.lock);
	int fd = model_open(MODEL_EVENTFD, 0);
	pthread_mutex_unlock(&model.lock);
	return fd;
}

int fakekvm_vfio_file(void)
{
	pthread_mutex_lock(&model.lock);
	int fd = model_open(MODEL_VFIO_FILE, 0);
	pthread_mutex_unlock(&model.lock);
	return fd;
}

void fakekvm_close(int fd)
{
	pthread_mutex_lock(&model.lock);
	close_locked(fd);
	pthread_mutex_unlock(&model.lock);
}

/* ---- Calls ---- */

static int ioctl_locked(int fd, unsigned long request, void *argument)
{
	const char *name = NULL;
	bool can_fail = true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].request == request) {
			name = names[i].name;
			can_fail = !names[i].cannot_fail;
		}
	}
	cr_assert_not_null(name, "ioctl %#lx is not one that the model knows", request);
	int error = model_call(name, can_fail);
	if (error)
		return error;

	switch (model_at(fd)->kind) {
	case MODEL_KVM:
		return model_system_ioctl(request, argument);
	case MODEL_VM:
		return request == KVM_CHECK_EXTENSION ? model_system_ioctl(request, argument)
						      : model_vm_ioctl(request, argument);
	case MODEL_VFIO_DEVICE:
		return model_vfio_device_ioctl(request, argument);
	case MODEL_VCPU:
		return model_vcpu_ioctl(model_at(fd)->vcpu, request, argument);
	default:
		return -EBADF;
	}
}

int kcall_ioctl(int fd, unsigned long request, void *argument)
{
	pthread_mutex_lock(&model.lock);
	int result = ioctl_locked(fd, request, argument);
	pthread_mutex_unlock(&model.lock);
	return result;
}

int kcall_ioctl_value(int fd, unsigned long request, unsigned long value)
{
	return kcall_ioctl(fd, request, (void *)value);
}

int kcall_map(int fd, size_t size_bytes, uint64_t offset, void **out)
{
	pthread_mutex_lock(&model.lock);
	int error = model_call("mmap", true);
	if (!error)
		error = model_at(fd)->kind == MODEL_VCPU ? model_map(model_at(fd)->vcpu, size_bytes, offset, out)
							 : -ENODEV;
	pthread_mutex_unlock(&model.lock);
	return error;
}

void kcall_unmap(void *address, size_t size_bytes)
{
	pthread_mutex_lock(&model.lock);
	model_call("munmap", false);
	bool found = false;
	for (unsigned i = 0; !found && i < MODEL_MAPPINGS; i++) {
		if (model.mappings[i] == address) {
			model.mappings[i] = NULL;
			found = true;
		}
	}
	cr_assert(found, "unmapped %p, which is not mapped", address);
	for (unsigned i = 0; i < MODEL_VCPUS; i++) {
		if ((void *)model.vcpus[i].run == address)
			model.vcpus[i].run = NULL;
		if ((void *)model.vcpus[i].ring == address)
			model.vcpus[i].ring = NULL;
	}
	free(address);
	pthread_mutex_unlock(&model.lock);
}

int kcall_thread_start(const char *name, void *(*entry)(void *), void *argument, pthread_t *out)
{
	pthread_mutex_lock(&model.lock);
	int error = model_call("pthread_create", true);
	if (!error)
		model.threads++;
	pthread_mutex_unlock(&model.lock);
	if (error)
		return error;
	cr_assert_eq(pthread_create(out, NULL, entry, argument), 0);
	return 0;
}

void kcall_thread_join(pthread_t thread)
{
	pthread_join(thread, NULL);
	pthread_mutex_lock(&model.lock);
	model.threads--;
	pthread_mutex_unlock(&model.lock);
}

int kcall_thread_id(void)
{
	return (int)syscall(SYS_gettid);
}

int kcall_kick_prepare(void)
{
	pthread_mutex_lock(&model.lock);
	int error = model_call("sigaction", true);
	pthread_mutex_unlock(&model.lock);
	return error;
}

void kcall_kick(int thread_id)
{
	pthread_mutex_lock(&model.lock);
	model_call("tgkill", false);
	for (unsigned i = 0; i < MODEL_VCPUS; i++) {
		if (model.vcpus[i].inside == thread_id)
			model.vcpus[i].interrupted = true;
	}
	pthread_cond_broadcast(&model.changed);
	pthread_mutex_unlock(&model.lock);
}

/* ---- Tests ---- */

void fakekvm_assert_nothing_left(void)
{
	pthread_mutex_lock(&model.lock);
	unsigned open = 0;
	for (unsigned i = 0; i < MODEL_FDS; i++)
		open += model.fds[i].kind != MODEL_FREE && model.fds[i].kind != MODEL_EVENTFD &&
			model.fds[i].kind != MODEL_VFIO_FILE;
	unsigned mapped = 0;
	for (unsigned i = 0; i < MODEL_MAPPINGS; i++)
		mapped += model.mappings[i] != NULL;
	unsigned threads = model.threads;
	pthread_mutex_unlock(&model.lock);
	cr_assert_eq(open, 0, "%u descriptors are left", open);
	cr_assert_eq(mapped, 0, "%u mappings are left", mapped);
	cr_assert_eq(threads, 0, "%u threads are left", threads);
}

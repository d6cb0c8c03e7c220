// SPDX-License-Identifier: MIT
/*
 * Creates and frees vCPUs, and steers their threads: start, kick, pause, resume, stop. What a thread does between those is
 * vcpu_run.c's; registers are registers.c's and vcpu_state.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"

static size_t ring_bytes(const struct tenon_vm *vm)
{
	return vm->ring_entries * sizeof(struct kvm_dirty_gfn);
}

static int map_shared(struct tenon_vcpu *vcpu, struct tenon_error *err)
{
	void *address = NULL;
	int error = kcall_map(vcpu->fd, vcpu->vm->run_bytes, 0, &address);
	if (error < 0)
		return tenon_fail(err, error, "vCPU %u: cannot map its kvm_run: %s", vcpu->index, strerror(-error));
	vcpu->run = address;

	if (vcpu->vm->ring_entries == 0)
		return 0;
	error = kcall_map(vcpu->fd, ring_bytes(vcpu->vm), (uint64_t)KVM_DIRTY_LOG_PAGE_OFFSET * VM_PAGE_BYTES,
			  &address);
	if (error < 0)
		return tenon_fail(err, error, "vCPU %u: cannot map its dirty ring: %s", vcpu->index, strerror(-error));
	vcpu->ring = address;
	return 0;
}

static int open_vcpu(struct tenon_vcpu *vcpu, struct tenon_error *err)
{
	int error = kcall_kick_prepare();
	if (error == -EBUSY)
		return tenon_fail(
			err, error,
			"vCPU %u: signal SIGRTMIN+1 has another handler; leave it to the vCPUs, which are kicked by it",
			vcpu->index);
	if (error < 0)
		return tenon_fail(err, error, "vCPU %u: cannot prepare the kick signal: %s", vcpu->index,
				  strerror(-error));

	int fd = kcall_ioctl_value(vcpu->vm->fd, KVM_CREATE_VCPU, vcpu->index);
	if (fd < 0)
		return tenon_fail(err, fd, "vCPU %u: KVM_CREATE_VCPU: %s%s", vcpu->index, strerror(-fd),
				  fd == -EEXIST ? "; a VM has each vCPU once, even after it was destroyed" : "");
	vcpu->fd = fd;
	return map_shared(vcpu, err);
}

int tenon_vcpu_create(struct tenon_vm *vm, unsigned index, const struct tenon_vcpu_handlers *handlers, void *context,
		      struct tenon_vcpu **out, struct tenon_error *err)
{
	struct tenon_vcpu_handlers known;
	int error = vm_options_copy(&known, sizeof(known), handlers, "tenon_vcpu_handlers", err);
	if (error)
		return error;
	if (index >= vm->max_vcpus)
		return tenon_fail(err, -EINVAL, "vCPU %u: this host allows %u vCPUs in a VM", index, vm->max_vcpus);

	struct tenon_vcpu *vcpu = calloc(1, sizeof(*vcpu));
	if (!vcpu)
		return tenon_fail(err, -ENOMEM, "vCPU %u: cannot create: out of memory", index);
	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->fd = -1;
	vcpu->handlers = known;
	vcpu->context = context;
	pthread_mutex_init(&vcpu->lock, NULL);
	pthread_cond_init(&vcpu->changed, NULL);

	error = open_vcpu(vcpu, err);
	if (error) {
		tenon_vcpu_destroy(vcpu);
		return error;
	}
	pthread_mutex_lock(&vm->lock);
	vcpu->next_in_vm = vm->vcpus;
	vm->vcpus = vcpu;
	pthread_mutex_unlock(&vm->lock);
	*out = vcpu;
	return 0;
}

void tenon_vcpu_destroy(struct tenon_vcpu *vcpu)
{
	if (!vcpu)
		return;
	tenon_vcpu_stop(vcpu);

	pthread_mutex_lock(&vcpu->vm->lock);
	for (struct tenon_vcpu **link = &vcpu->vm->vcpus; *link; link = &(*link)->next_in_vm) {
		if (*link == vcpu) {
			*link = vcpu->next_in_vm;
			break;
		}
	}
	pthread_mutex_unlock(&vcpu->vm->lock);

	if (vcpu->ring)
		kcall_unmap(vcpu->ring, ring_bytes(vcpu->vm));
	if (vcpu->run)
		kcall_unmap(vcpu->run, vcpu->vm->run_bytes);
	if (vcpu->fd >= 0)
		kcall_close(vcpu->fd);
	free(vcpu->cpuid);
	pthread_cond_destroy(&vcpu->changed);
	pthread_mutex_destroy(&vcpu->lock);
	free(vcpu);
}

int tenon_vcpu_fd(const struct tenon_vcpu *vcpu)
{
	return vcpu->fd;
}

unsigned tenon_vcpu_index(const struct tenon_vcpu *vcpu)
{
	return vcpu->index;
}

int tenon_vcpu_start(struct tenon_vcpu *vcpu, struct tenon_error *err)
{
	pthread_mutex_lock(&vcpu->lock);
	bool already = vcpu->started;
	if (!already) {
		vcpu->started = true;
		vcpu->running = true;
		vcpu->stopped_itself = false;
		atomic_store(&vcpu->attention, vcpu->pause_wanted);
	}
	pthread_mutex_unlock(&vcpu->lock);
	if (already)
		return tenon_fail(err, -EBUSY, "vCPU %u: is started already", vcpu->index);

	char name[16];
	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	int error = kcall_thread_start(name, vcpu_run_thread, vcpu, &vcpu->thread);
	if (error < 0) {
		pthread_mutex_lock(&vcpu->lock);
		vcpu->started = false;
		vcpu->running = false;
		pthread_mutex_unlock(&vcpu->lock);
		return tenon_fail(err, error, "vCPU %u: cannot start its thread: %s", vcpu->index, strerror(-error));
	}
	return 0;
}

void tenon_vcpu_kick(struct tenon_vcpu *vcpu)
{
	/*
	 * immediate_exit catches a vCPU that is on its way into the kernel, the signal one that is past KVM's look at it.
	 * A thread that has not told its id yet will find immediate_exit set.
	 */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	int thread_id = atomic_load(&vcpu->thread_id);
	if (thread_id)
		kcall_kick(thread_id);
}

/* Sets a wish and makes sure that the thread sees it, wherever it is. */
static void demand(struct tenon_vcpu *vcpu, bool *wish)
{
	pthread_mutex_lock(&vcpu->lock);
	*wish = true;
	atomic_store(&vcpu->attention, true);
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
	tenon_vcpu_kick(vcpu);
}

void tenon_vcpu_pause(struct tenon_vcpu *vcpu, bool wait)
{
	demand(vcpu, &vcpu->pause_wanted);
	if (!wait || atomic_load(&vcpu->thread_id) == kcall_thread_id())
		return;
	pthread_mutex_lock(&vcpu->lock);
	while (vcpu->running)
		pthread_cond_wait(&vcpu->changed, &vcpu->lock);
	pthread_mutex_unlock(&vcpu->lock);
}

void tenon_vcpu_resume(struct tenon_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	vcpu->pause_wanted = false;
	pthread_cond_broadcast(&vcpu->changed);
	pthread_mutex_unlock(&vcpu->lock);
}

void tenon_vcpu_stop(struct tenon_vcpu *vcpu)
{
	pthread_mutex_lock(&vcpu->lock);
	bool started = vcpu->started;
	pthread_mutex_unlock(&vcpu->lock);
	if (started) {
		demand(vcpu, &vcpu->stop_wanted);
		kcall_thread_join(vcpu->thread);
	}

	pthread_mutex_lock(&vcpu->lock);
	vcpu->started = false;
	vcpu->stop_wanted = false;
	vcpu->pause_wanted = false;
	pthread_mutex_unlock(&vcpu->lock);
}

int vcpu_check_idle(struct tenon_vcpu *vcpu, const char *what, struct tenon_error *err)
{
	pthread_mutex_lock(&vcpu->lock);
	bool running = vcpu->running;
	pthread_mutex_unlock(&vcpu->lock);
	if (!running || atomic_load(&vcpu->thread_id) == kcall_thread_id())
		return 0;
	return tenon_fail(err, -EBUSY, "vCPU %u: %s: it is running; pause it first", vcpu->index, what);
}

static uint64_t counted(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void tenon_vcpu_stats_read(const struct tenon_vcpu *vcpu, struct tenon_vcpu_stats *out)
{
	const struct vcpu_counters *counters = &vcpu->counters;
	*out = (struct tenon_vcpu_stats){
		.port_reads = counted(&counters->port_reads),
		.port_writes = counted(&counters->port_writes),
		.memory_reads = counted(&counters->memory_reads),
		.memory_writes = counted(&counters->memory_writes),
		.kicks = counted(&counters->kicks),
		.halts = counted(&counters->halts),
		.dirty_ring_full = counted(&counters->dirty_ring_full),
		.other = counted(&counters->other),
	};
}

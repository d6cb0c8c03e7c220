// SPDX-License-Identifier: MIT
/*
 * Fails each kernel call of kvm/ in turn, through the whole life of a VM: each failure gives a negative errno and a message,
 * and leaves nothing behind.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "kvm_fake.h"

static _Alignas(4096) unsigned char memory[16 * 4096];

struct life {
	bool ring;
	struct tenon_vm *vm;
	struct tenon_vcpu *vcpu;
	struct tenon_vcpu_state *state;
	struct tenon_error error;
};

static int set_up_memory(struct life *life)
{
	struct tenon_vm_memory ram = {.size = sizeof(ram), .size_bytes = sizeof(memory), .hva = memory};
	struct tenon_vm_memory rom = {
		.size = sizeof(rom), .gpa = 0x100000, .size_bytes = 4096, .hva = memory, .read_only = true};
	int error = tenon_vm_memory_add(life->vm, &ram, &life->error);
	if (!error)
		error = tenon_vm_memory_add(life->vm, &rom, &life->error);
	return error;
}

static int set_up_interrupts(struct life *life)
{
	int gsi = -1;
	int fds[3] = {fakekvm_eventfd(), fakekvm_eventfd(), fakekvm_eventfd()};
	int error = tenon_vm_route_set(life->vm, &gsi, 0xfee00000, 0x40, &life->error);
	if (!error)
		error = tenon_vm_route_commit(life->vm, &life->error);
	if (!error)
		error = tenon_vm_irqfd_attach(life->vm, gsi, fds[0], -1, &life->error);
	if (!error)
		error = tenon_vm_irqfd_attach(life->vm, 16, fds[1], fds[2], &life->error);
	if (!error)
		error = tenon_vm_irq_line(life->vm, 4, true, &life->error);
	if (!error)
		error = tenon_vm_msi_send(life->vm, 0xfee00000, 0x40, &life->error);
	struct tenon_vm_ioeventfd doorbell = {
		.size = sizeof(doorbell), .address = 0xd0000000, .width_bytes = 4, .eventfd = fds[2]};
	if (!error)
		error = tenon_vm_ioeventfd_attach(life->vm, &doorbell, &life->error);
	if (!error)
		error = tenon_vm_ioeventfd_detach(life->vm, &doorbell, &life->error);
	if (!error)
		error = tenon_vm_irqfd_detach(life->vm, gsi, fds[0], &life->error);
	for (unsigned i = 0; i < 3; i++)
		fakekvm_close(fds[i]);
	return error;
}

static int use_vfio_device(struct life *life)
{
	int file = fakekvm_vfio_file();
	int error = tenon_vm_file_add(life->vm, file, &life->error);
	if (!error)
		error = tenon_vm_file_remove(life->vm, file, &life->error);
	fakekvm_close(file);
	return error;
}

static int use_registers(struct life *life)
{
	struct kvm_cpuid2 cpuid = {0};
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_msr_entry msr = {.index = 0xc0000081, .data = 1};
	int error = tenon_vcpu_set_cpuid(life->vcpu, &cpuid, &life->error);
	if (!error)
		error = tenon_vcpu_get_regs(life->vcpu, &regs, &life->error);
	if (!error)
		error = tenon_vcpu_set_regs(life->vcpu, &regs, &life->error);
	if (!error)
		error = tenon_vcpu_get_sregs(life->vcpu, &sregs, &life->error);
	if (!error)
		error = tenon_vcpu_set_sregs(life->vcpu, &sregs, &life->error);
	if (!error)
		error = tenon_vcpu_set_msrs(life->vcpu, &msr, 1, &life->error);
	return error;
}

static int log_dirty_pages(struct life *life)
{
	uint64_t bitmap[1];
	int error = tenon_vm_dirty_log_enable(life->vm, true, &life->error);
	if (error)
		return error;
	fakekvm_guest_writes(0, 0x3000);
	if (life->ring) {
		error = tenon_vm_dirty_ring_collect(life->vm, NULL, NULL, &life->error);
		if (error >= 0)
			cr_expect_eq(error, 1);
	} else {
		error = tenon_vm_dirty_log_fetch(life->vm, 0, bitmap, 1, &life->error);
		if (!error)
			cr_expect_eq(bitmap[0], 1u << 3);
	}
	return error < 0 ? error : tenon_vm_dirty_log_enable(life->vm, false, &life->error);
}

static int run_and_reset(struct life *life)
{
	int error = tenon_vcpu_state_capture(life->vcpu, &life->state, &life->error);
	if (!error)
		error = tenon_vcpu_start(life->vcpu, &life->error);
	if (error)
		return error;
	tenon_vcpu_pause(life->vcpu, true);
	error = tenon_vm_irqchip_reset(life->vm, &life->error);
	if (!error)
		error = tenon_vcpu_state_restore(life->vcpu, life->state, TENON_VCPU_RESTORE_RESET, &life->error);
	fakekvm_set_tsc_khz(1000000); /* as if on another host */
	if (!error)
		error = tenon_vcpu_state_restore(life->vcpu, life->state, TENON_VCPU_RESTORE_MIGRATION, &life->error);
	tenon_vcpu_resume(life->vcpu);
	tenon_vcpu_stop(life->vcpu);
	return error;
}

/* Packs all and gives it back to the same VM, as if it were another's. */
static int migrate(struct life *life)
{
	void *data;
	size_t bytes;
	int error = tenon_vm_state_pack(life->vm, &data, &bytes, &life->error);
	if (error)
		return error;
	error = tenon_vm_state_unpack(life->vm, data, bytes, &life->error);
	free(data);
	if (!error)
		error = tenon_vcpu_state_pack(life->state, &data, &bytes, &life->error);
	if (error)
		return error;
	struct tenon_vcpu_state *state = NULL;
	error = tenon_vcpu_state_unpack(data, bytes, &state, &life->error);
	free(data);
	if (!error)
		error = tenon_vcpu_state_restore(life->vcpu, state, TENON_VCPU_RESTORE_MIGRATION, &life->error);
	tenon_vcpu_state_free(state);
	return error;
}

static int live(struct life *life)
{
	static const struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	struct tenon_vm_options options = {.size = sizeof(options), .dirty_ring = life->ring};
	int error = tenon_vm_create(&options, &life->vm, &life->error);
	if (!error)
		fakekvm_add_pit();
	if (!error)
		error = set_up_memory(life);
	if (!error)
		error = tenon_vcpu_create(life->vm, 0, &handlers, NULL, &life->vcpu, &life->error);
	if (!error)
		error = set_up_interrupts(life);
	if (!error)
		error = use_vfio_device(life);
	if (!error)
		error = use_registers(life);
	if (!error)
		error = log_dirty_pages(life);
	if (!error)
		error = run_and_reset(life);
	if (!error)
		error = migrate(life);
	if (!error)
		error = tenon_vm_memory_remove(life->vm, 0x100000, 4096, &life->error);
	return error;
}

/* Calls whose failure means no more than that KVM does not say. */
static bool may_fail_unnoticed(const char *call)
{
	return strcmp(call, "KVM_GET_TSC_KHZ") == 0;
}

static void fail_each_call(bool ring, int errno_value)
{
	for (unsigned n = 1;; n++) {
		cr_assert_lt(n, 1000);
		fakekvm_reset();
		struct life life = {.ring = ring};
		fakekvm_fail_call(n, errno_value);
		int error = live(&life);
		const char *failed = fakekvm_failed_call();
		fakekvm_fail_call(0, 0);
		tenon_vcpu_state_free(life.state);
		tenon_vcpu_destroy(life.vcpu);
		tenon_vm_destroy(life.vm);
		fakekvm_assert_nothing_left();
		if (!failed) {
			cr_expect_eq(error, 0, "%s", life.error.message);
			cr_expect_gt(n, 130, "only %u calls were failed", n - 1);
			return;
		}
		if (error == 0) {
			cr_expect(may_fail_unnoticed(failed), "nobody noticed that %s failed", failed);
			continue;
		}
		cr_expect_eq(error, -errno_value, "%s failed with %d and %d was returned", failed, errno_value, error);
		cr_expect_eq(life.error.code, error, "%s", failed);
		cr_expect_gt(strlen(life.error.message), 10, "%s failed without a message", failed);
		cr_expect_null(strchr(life.error.message, '\n'));
		cr_expect_not_null(strstr(life.error.message, strerror(errno_value)), "%s: %s", failed,
				   life.error.message);
	}
}

Test(kvm_failures, each_call_fails_cleanly_with_the_dirty_log, .timeout = 120)
{
	fail_each_call(false, EIO);
}

Test(kvm_failures, each_call_fails_cleanly_with_the_dirty_ring, .timeout = 120)
{
	fail_each_call(true, EIO);
}

Test(kvm_failures, each_call_fails_cleanly_for_want_of_memory, .timeout = 120)
{
	fail_each_call(false, ENOMEM);
}

Test(kvm_failures, failures_need_no_error_struct)
{
	fakekvm_reset();
	struct tenon_vm *vm = NULL;
	for (unsigned n = 1; n < 12; n++) {
		fakekvm_fail_call(n, EIO);
		if (tenon_vm_create(NULL, &vm, NULL) == 0) {
			tenon_vm_destroy(vm);
			break;
		}
	}
	fakekvm_fail_call(0, 0);
	fakekvm_assert_nothing_left();
}

// SPDX-License-Identifier: MIT
/* Reads and writes a vCPU's registers one kind at a time. Whole states are vcpu_state.c's. */
#include <errno.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"

static int exchange(struct tenon_vcpu *vcpu, unsigned long request, const char *name, void *argument,
		    struct tenon_error *err)
{
	int error = vcpu_check_idle(vcpu, name, err);
	if (error)
		return error;
	error = kcall_ioctl(vcpu->fd, request, argument);
	if (error < 0)
		return tenon_fail(err, error, "vCPU %u: %s: %s", vcpu->index, name, strerror(-error));
	return 0;
}

int tenon_vcpu_set_cpuid(struct tenon_vcpu *vcpu, const struct kvm_cpuid2 *cpuid, struct tenon_error *err)
{
	return exchange(vcpu, KVM_SET_CPUID2, "KVM_SET_CPUID2", (void *)cpuid, err);
}

int tenon_vcpu_get_regs(struct tenon_vcpu *vcpu, struct kvm_regs *regs, struct tenon_error *err)
{
	return exchange(vcpu, KVM_GET_REGS, "KVM_GET_REGS", regs, err);
}

int tenon_vcpu_set_regs(struct tenon_vcpu *vcpu, const struct kvm_regs *regs, struct tenon_error *err)
{
	return exchange(vcpu, KVM_SET_REGS, "KVM_SET_REGS", (void *)regs, err);
}

int tenon_vcpu_get_sregs(struct tenon_vcpu *vcpu, struct kvm_sregs *sregs, struct tenon_error *err)
{
	return exchange(vcpu, KVM_GET_SREGS, "KVM_GET_SREGS", sregs, err);
}

int tenon_vcpu_set_sregs(struct tenon_vcpu *vcpu, const struct kvm_sregs *sregs, struct tenon_error *err)
{
	return exchange(vcpu, KVM_SET_SREGS, "KVM_SET_SREGS", (void *)sregs, err);
}

int tenon_vcpu_set_msrs(struct tenon_vcpu *vcpu, const struct kvm_msr_entry *msrs, unsigned count,
			struct tenon_error *err)
{
	int error = vcpu_check_idle(vcpu, "KVM_SET_MSRS", err);
	if (error)
		return error;
	return vcpu_msrs_write(vcpu, msrs, count, err);
}

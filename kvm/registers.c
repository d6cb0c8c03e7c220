// SPDX-License-Identifier: MIT
/* Reads and writes a vCPU's registers one kind at a time, and keeps its CPUID. Whole states are vcpu_state.c's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpuid_compare.h"
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
	/* Kept, because KVM_GET_CPUID2 tells bits that mirror control registers as they are now. */
	size_t bytes = sizeof(*cpuid) + cpuid->nent * sizeof(cpuid->entries[0]);
	struct kvm_cpuid2 *copy = malloc(bytes);
	if (!copy)
		return tenon_fail(err, -ENOMEM, "vCPU %u: no memory to keep its CPUID", vcpu->index);
	memcpy(copy, cpuid, bytes);
	int error = exchange(vcpu, KVM_SET_CPUID2, "KVM_SET_CPUID2", copy, err);
	if (error) {
		free(copy);
		return error;
	}
	free(vcpu->cpuid);
	vcpu->cpuid = copy;
	return 0;
}

static int check_cpuid(const struct tenon_vcpu *vcpu, struct tenon_error *err)
{
	if (vcpu->cpuid)
		return 0;
	return tenon_fail(err, -EINVAL, "vCPU %u: has no CPUID yet; call tenon_vcpu_set_cpuid first", vcpu->index);
}

int tenon_vcpu_cpuid_pack(struct tenon_vcpu *vcpu, void **data, size_t *bytes, struct tenon_error *err)
{
	int error = check_cpuid(vcpu, err);
	return error ? error : cpuid_pack(vcpu->cpuid, data, bytes, err);
}

int tenon_vcpu_cpuid_compare(struct tenon_vcpu *vcpu, const void *packed, size_t bytes, struct tenon_error *err)
{
	int error = check_cpuid(vcpu, err);
	if (error)
		return error;
	char name[16];
	snprintf(name, sizeof(name), "vCPU %u", vcpu->index);
	return cpuid_compare(name, vcpu->cpuid, packed, bytes, err);
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

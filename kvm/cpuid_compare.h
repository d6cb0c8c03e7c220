/* SPDX-License-Identifier: MIT */
/* What a vCPU was told of its CPU, as bytes for another host, and the comparison there. */
#ifndef CPUID_COMPARE_H
#define CPUID_COMPARE_H

#include <stddef.h>

#include <linux/kvm.h>

#include <tenon/error.h>

/**
 * @param name    of the vCPU, for messages
 * @param here    what this host's vCPU was told
 * @param packed  untrusted
 * @return 0; -ENOTSUP naming what the guest saw and would miss; -EINVAL
 */
int cpuid_compare(const char *name, const struct kvm_cpuid2 *here, const void *packed, size_t bytes,
		  struct tenon_error *err);
int cpuid_pack(const struct kvm_cpuid2 *cpuid, void **data, size_t *bytes, struct tenon_error *err);

#endif

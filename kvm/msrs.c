// SPDX-License-Identifier: MIT
/* Model-specific registers in batches that KVM accepts. It goes through a batch in order and ends at the first it refuses. */
#include <errno.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"

#define BATCH 64u /* KVM takes up to 255 at once; this fits a small stack */

struct batch {
	_Alignas(struct kvm_msr_entry) unsigned char bytes[sizeof(struct kvm_msrs) +
							   BATCH * sizeof(struct kvm_msr_entry)];
};

static int exchange(struct tenon_vcpu *vcpu, unsigned long request, const struct kvm_msr_entry *from,
		    struct kvm_msr_entry *to, unsigned count, unsigned *done)
{
	struct batch batch;
	struct kvm_msrs *msrs = (struct kvm_msrs *)batch.bytes;

	for (*done = 0; *done < count;) {
		unsigned some = count - *done < BATCH ? count - *done : BATCH;
		memset(msrs, 0, sizeof(*msrs));
		msrs->nmsrs = some;
		memcpy(msrs->entries, from + *done, some * sizeof(*from));
		int taken = kcall_ioctl(vcpu->fd, request, msrs);
		if (taken < 0)
			return taken;
		if (to)
			memcpy(to + *done, msrs->entries, (unsigned)taken * sizeof(*to));
		*done += (unsigned)taken;
		if ((unsigned)taken < some)
			return 0;
	}
	return 0;
}

int vcpu_msrs_get(struct tenon_vcpu *vcpu, struct kvm_msr_entry *msrs, unsigned count, unsigned *done)
{
	return exchange(vcpu, KVM_GET_MSRS, msrs, msrs, count, done);
}

int vcpu_msrs_write(struct tenon_vcpu *vcpu, const struct kvm_msr_entry *msrs, unsigned count, struct tenon_error *err)
{
	unsigned done = 0;
	int error = exchange(vcpu, KVM_SET_MSRS, msrs, NULL, count, &done);
	if (error < 0)
		return tenon_fail(err, error, "vCPU %u: KVM_SET_MSRS: %s", vcpu->index, strerror(-error));
	if (done < count)
		return tenon_fail(err, -EINVAL, "vCPU %u: KVM refuses MSR %#x the value %#llx", vcpu->index,
				  msrs[done].index, (unsigned long long)msrs[done].data);
	return 0;
}

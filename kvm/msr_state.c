// SPDX-License-Identifier: MIT
/*
 * Which MSRs belong to a vCPU's state, and in which order they are written. All in that order: the ordinary ones, then those that
 * have to do with time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"

#define MSR_TSC_ADJUST   0x3bu
#define MSR_TSC_DEADLINE 0x6e0u

#define COMPARED_AT_ONCE 32u

/* Kept by KVM for each vCPU, but not in its list of MSRs to save. What a KVM does not have is skipped. */
static const struct {
	uint32_t first, count;
} unlisted_msrs[] = {
	{0x200, 16},  {0x250, 1}, {0x258, 2}, {0x268, 8}, {0x2ff, 1}, /* MTRRs */
	{0x400, 128},                                                 /* machine check banks */
	{0xda0, 1},                                                   /* XSS, which newer kernels list */
};

/* Hyper-V's, which the machine does not offer; merely writing one makes KVM set up its emulation. */
static bool is_hyperv_msr(uint32_t index)
{
	return index >= 0x40000000u && index < 0x40000200u;
}

/*
 * When to set an MSR: the clock that KVM shows the guest is computed from the TSC, and the deadline timer compares with it, so
 * the TSC goes before both.
 */
static int msr_rank(uint32_t index)
{
	if (index == MSR_TSC)
		return 1;
	if (index == MSR_TSC_ADJUST)
		return 2;
	if (index == 0x11 || index == 0x12 ||
	    (index >= 0x4b564d00u && index < 0x4b564e00u)) /* KVM's own: kvmclock and others */
		return 3;
	if (index == MSR_TSC_DEADLINE)
		return 4;
	return 0;
}

static int compare_rank(const void *a, const void *b)
{
	const struct kvm_msr_entry *left = a;
	const struct kvm_msr_entry *right = b;
	int order = msr_rank(left->index) - msr_rank(right->index);
	return order ? order : (left->index > right->index) - (left->index < right->index);
}

/* KVM's list of MSRs to save, which the caller frees. */
static int fetch_list(struct tenon_vcpu *vcpu, struct kvm_msr_list **out, struct tenon_error *err)
{
	struct kvm_msr_list size = {0};
	int error = kcall_ioctl(vcpu->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &size);
	if (error < 0 && error != -E2BIG) /* which is how it tells the size */
		return tenon_fail(err, error, "vCPU %u: KVM_GET_MSR_INDEX_LIST: %s", vcpu->index, strerror(-error));

	struct kvm_msr_list *list = calloc(1, sizeof(*list) + size.nmsrs * sizeof(list->indices[0]));
	if (!list)
		return tenon_fail(err, -ENOMEM, "vCPU %u: no memory for a list of %u MSRs", vcpu->index, size.nmsrs);
	list->nmsrs = size.nmsrs;
	error = kcall_ioctl(vcpu->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list);
	if (error < 0) {
		free(list);
		return tenon_fail(err, error, "vCPU %u: KVM_GET_MSR_INDEX_LIST: %s", vcpu->index, strerror(-error));
	}
	*out = list;
	return 0;
}

static unsigned unlisted_count(void)
{
	unsigned count = 0;
	for (size_t i = 0; i < sizeof(unlisted_msrs) / sizeof(unlisted_msrs[0]); i++)
		count += unlisted_msrs[i].count;
	return count;
}

static unsigned add_names(const struct kvm_msr_list *list, struct kvm_msr_entry *msrs)
{
	unsigned count = 0;
	for (unsigned i = 0; i < list->nmsrs; i++) {
		if (!is_hyperv_msr(list->indices[i]))
			msrs[count++] = (struct kvm_msr_entry){.index = list->indices[i]};
	}
	for (size_t i = 0; i < sizeof(unlisted_msrs) / sizeof(unlisted_msrs[0]); i++) {
		for (uint32_t j = 0; j < unlisted_msrs[i].count; j++)
			msrs[count++] = (struct kvm_msr_entry){.index = unlisted_msrs[i].first + j};
	}
	return count;
}

void msr_state_sort(struct kvm_msr_entry *msrs, unsigned count)
{
	qsort(msrs, count, sizeof(*msrs), compare_rank);
}

bool msr_state_belongs(uint32_t index)
{
	return !is_hyperv_msr(index);
}

/* In a sorted list. @return how many are left */
static unsigned drop_duplicates(struct kvm_msr_entry *msrs, unsigned count)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < count; i++) {
		if (kept == 0 || msrs[kept - 1].index != msrs[i].index)
			msrs[kept++] = msrs[i];
	}
	return kept;
}

int msr_state_names(struct tenon_vcpu *vcpu, struct kvm_msr_entry **out, unsigned *count, struct tenon_error *err)
{
	struct kvm_msr_list *list = NULL;
	int error = fetch_list(vcpu, &list, err);
	if (!list)
		return error;

	unsigned most = list->nmsrs + unlisted_count();
	struct kvm_msr_entry *msrs = calloc(most, sizeof(*msrs));
	if (msrs) {
		*count = add_names(list, msrs);
		msr_state_sort(msrs, *count);
		*count = drop_duplicates(msrs, *count);
		*out = msrs;
	}
	free(list);
	return msrs ? 0 : tenon_fail(err, -ENOMEM, "vCPU %u: no memory for %u MSRs", vcpu->index, most);
}

int msr_state_capture(struct tenon_vcpu *vcpu, struct kvm_msr_entry *msrs, uint32_t *count, struct tenon_error *err)
{
	unsigned kept = 0;
	for (unsigned next = 0; next < *count;) {
		unsigned done = 0;
		int error = vcpu_msrs_get(vcpu, msrs + next, *count - next, &done);
		if (error < 0)
			return tenon_fail(err, error, "vCPU %u: KVM_GET_MSRS: %s", vcpu->index, strerror(-error));
		memmove(msrs + kept, msrs + next, done * sizeof(*msrs));
		kept += done;
		next += done + 1; /* past the one that it refused */
	}
	*count = kept;
	return 0;
}

/*
 * Writes those that differ from what KVM holds. Some that KVM lets read cannot be written, and some writes cost much though they
 * change nothing: a memory type's drops all that KVM has mapped where a device is not coherent. One that is 0 and that this KVM
 * does not have is what another host's kernel lists and its CPU lacks.
 */
static int write_changed(struct tenon_vcpu *vcpu, const struct kvm_msr_entry *msrs, unsigned count,
			 struct tenon_error *err)
{
	struct kvm_msr_entry held[COMPARED_AT_ONCE];
	struct kvm_msr_entry changed[COMPARED_AT_ONCE];

	for (unsigned next = 0; next < count;) {
		unsigned some = count - next < COMPARED_AT_ONCE ? count - next : COMPARED_AT_ONCE;
		unsigned readable = 0;
		memcpy(held, msrs + next, some * sizeof(*held));
		int error = vcpu_msrs_get(vcpu, held, some, &readable);
		if (error < 0)
			return tenon_fail(err, error, "vCPU %u: KVM_GET_MSRS: %s", vcpu->index, strerror(-error));

		unsigned changes = 0;
		for (unsigned i = 0; i < readable; i++) {
			if (held[i].data != msrs[next + i].data)
				changed[changes++] = msrs[next + i];
		}
		next += readable;
		if (readable < some && msrs[next].data)
			changed[changes++] = msrs[next];
		next += readable < some;
		error = vcpu_msrs_write(vcpu, changed, changes, err);
		if (error)
			return error;
	}
	return 0;
}

int msr_state_restore(struct tenon_vcpu *vcpu, const struct kvm_msr_entry *msrs, unsigned count, bool write_tsc,
		      struct tenon_error *err)
{
	unsigned clocks = 0; /* where those begin that have to do with time, the TSC first */
	while (clocks < count && msr_rank(msrs[clocks].index) == 0)
		clocks++;
	int error = write_changed(vcpu, msrs, clocks, err);
	if (error)
		return error;

	if (!write_tsc && clocks < count && msrs[clocks].index == MSR_TSC)
		clocks++;
	/* Written though they may be equal: setting the LAPIC stopped the timer that the deadline starts again. */
	return vcpu_msrs_write(vcpu, msrs + clocks, count - clocks, err);
}

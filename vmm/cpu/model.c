/* SPDX-License-Identifier: MIT */
/*
 * Owns what all vCPUs share, KVM's supported CPUID, and gives each its own table and its MSRs at start.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cpu.h"
#include "cpuid.h"

#define MSR_MISC_ENABLE          0x1a0u
#define MISC_ENABLE_FAST_STRINGS 1ull
#define MSR_MTRR_DEFAULT         0x2ffu
#define MTRR_ENABLE              (1ull << 11)
#define MTRR_FIXED_ENABLE        (1ull << 10)
#define MTRR_WRITE_BACK          6ull
#define MTRR_ALL_UNCACHED        0ull
#define MTRR_ALL_WRITE_BACK      0x0606060606060606ull

struct cpu_model {
	unsigned count;
	bool tsc_deadline;
	union cpuid_table supported;
};

static int fetch_supported(struct tenon_vm *vm, union cpuid_table *table, struct tenon_error *err)
{
	/* The most that KVM_SET_CPUID2 would take back, and what KVM itself clamps nent to: E2BIG means a KVM unlike today's. */
	table->cpuid.nent = CPUID_ENTRIES_MAX;
	if (ioctl(tenon_vm_kvm_fd(vm), KVM_GET_SUPPORTED_CPUID, table) == 0)
		return 0;
	if (errno == E2BIG)
		return tenon_fail(err, -E2BIG,
				  "KVM: supports more than the %u CPUID leaves that this build knows to keep",
				  CPUID_ENTRIES_MAX);
	return tenon_fail(err, -errno, "KVM: cannot get the supported CPUID: %s", strerror(errno));
}

int cpu_model_create(struct tenon_vm *vm, unsigned count, struct cpu_model **out, struct tenon_error *err)
{
	if (count == 0 || count > CPU_COUNT_MAX)
		return tenon_fail(err, -EINVAL, "cpus %u: out of range; a guest has 1 to %u", count, CPU_COUNT_MAX);
	unsigned most = tenon_vm_max_vcpus(vm);
	if (count > most)
		return tenon_fail(err, -EINVAL, "cpus %u: this host's KVM allows %u", count, most);

	struct cpu_model *model = calloc(1, sizeof(*model));
	if (!model)
		return tenon_fail(err, -ENOMEM, "cpus: out of memory");
	int result = fetch_supported(vm, &model->supported, err);
	if (result < 0) {
		cpu_model_destroy(model);
		return result;
	}
	model->count = count;
	model->tsc_deadline = ioctl(tenon_vm_fd(vm), KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	*out = model;
	return 0;
}

void cpu_model_destroy(struct cpu_model *model)
{
	free(model);
}

unsigned cpu_model_physical_bits(const struct cpu_model *model)
{
	/* cpuid_find writes nothing; it serves builders too, hence its type. */
	const struct kvm_cpuid_entry2 *leaf = cpuid_find((struct kvm_cpuid2 *)&model->supported.cpuid, 0x80000008, 0);
	if (!leaf)
		return 36; /* SDM volume 3A, 4.1.4 */
	unsigned width = leaf->eax & 0xff;
	unsigned mappable = leaf->eax >> 16 & 0xff;
	return mappable && mappable < width ? mappable : width;
}

uint32_t cpu_tsc_khz(const struct tenon_vcpu *vcpu)
{
	/* -1 and an errno where KVM cannot tell; then the guest calibrates. */
	int tsc_khz = ioctl(tenon_vcpu_fd(vcpu), KVM_GET_TSC_KHZ, 0);
	return tsc_khz > 0 ? (uint32_t)tsc_khz : 0;
}

static int set_cpuid(const struct cpu_model *model, struct tenon_vcpu *vcpu, struct tenon_error *err)
{
	struct cpuid_vcpu identity = {
		.index = tenon_vcpu_index(vcpu),
		.count = model->count,
		.tsc_khz = cpu_tsc_khz(vcpu),
		.tsc_deadline = model->tsc_deadline,
	};
	union cpuid_table table = model->supported;

	if (identity.index >= identity.count)
		return tenon_fail(err, -EINVAL, "vCPU %u: the model is of %u", identity.index, identity.count);
	int result = cpuid_build(&table, &identity);
	if (result < 0)
		return tenon_fail(err, result, "vCPU %u: its CPUID leaves are more than KVM takes (%u)", identity.index,
				  CPUID_ENTRIES_MAX);
	return tenon_vcpu_set_cpuid(vcpu, &table.cpuid, err);
}

/* MISC_ENABLE as KVM made it (it says which debug facilities are missing) with fast strings: without them Linux drops ERMS. */
static unsigned add_fast_strings(struct tenon_vcpu *vcpu, struct kvm_msr_entry *msr)
{
	union {
		struct kvm_msrs msrs;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} now = {.msrs = {.nmsrs = 1}};
	now.msrs.entries[0].index = MSR_MISC_ENABLE;
	if (ioctl(tenon_vcpu_fd(vcpu), KVM_GET_MSRS, &now) != 1)
		return 0;
	*msr = (struct kvm_msr_entry){.index = MSR_MISC_ENABLE,
				      .data = now.msrs.entries[0].data | MISC_ENABLE_FAST_STRINGS};
	return 1;
}

/*
 * Once a non-coherent device is assigned, KVM on Intel honours the guest's memory types, and at reset all of them are
 * uncached. So: everything write-back, as a firmware would leave it, but the legacy video window. PCI BARs need no
 * range of their own: the guest's page tables map them uncached.
 */
static int set_msrs(struct tenon_vcpu *vcpu, struct tenon_error *err)
{
	struct kvm_msr_entry msrs[16] = {
		{.index = 0x250, .data = MTRR_ALL_WRITE_BACK}, /* 0-0x7ffff */
		{.index = 0x258, .data = MTRR_ALL_WRITE_BACK}, /* 0x80000-0x9ffff */
		{.index = 0x259, .data = MTRR_ALL_UNCACHED},   /* 0xa0000-0xbffff */
	};
	unsigned count = 3;
	for (uint32_t index = 0x268; index <= 0x26f; index++) /* 0xc0000-0xfffff, 32 KiB each */
		msrs[count++] = (struct kvm_msr_entry){.index = index, .data = MTRR_ALL_WRITE_BACK};
	msrs[count++] = (struct kvm_msr_entry){.index = MSR_MTRR_DEFAULT,
					       .data = MTRR_ENABLE | MTRR_FIXED_ENABLE | MTRR_WRITE_BACK};
	count += add_fast_strings(vcpu, &msrs[count]);
	return tenon_vcpu_set_msrs(vcpu, msrs, count, err);
}

int cpu_init(const struct cpu_model *model, struct tenon_vcpu *vcpu, struct tenon_error *err)
{
	int result = set_cpuid(model, vcpu, err);
	return result < 0 ? result : set_msrs(vcpu, err);
}

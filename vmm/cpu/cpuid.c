/* SPDX-License-Identifier: MIT */
/*
 * CPUID: the leaves in which a vCPU differs from what KVM supports: its ids, the topology, the caches' sharing, the clock's
 * frequency, and what this machine leaves out. Features are KVM's to decide and stay as it gives them.
 *
 * Intel's leaves: SDM volume 2A, CPUID. AMD's: APM volume 3, appendix E. KVM's: Documentation/virt/kvm/x86/cpuid.rst.
 */
#include <errno.h>
#include <string.h>

#include "cpuid.h"

#define BIT(n) (1u << (n))
/* A field of `width` bits at `shift`. */
#define FIELD_MASK(shift, width) ((uint32_t)(((1ull << (width)) - 1) << (shift)))

/* Leaf 1 */
#define L1_ECX_MONITOR      BIT(3)
#define L1_ECX_VMX          BIT(5)
#define L1_ECX_TSC_DEADLINE BIT(24)
#define L1_ECX_OSXSAVE      BIT(27)
#define L1_ECX_HYPERVISOR   BIT(31)
#define L1_EDX_HTT          BIT(28)
/* Leaf 7 */
#define L7_EBX_SGX    BIT(2)
#define L7_ECX_OSPKE  BIT(4)
#define L7_ECX_SGX_LC BIT(30)
/* Leaf 0x80000001 */
#define X1_ECX_CMP_LEGACY BIT(1)
#define X1_ECX_SVM        BIT(2)

/* Leaf 0xb and 0x1f level types */
#define LEVEL_SMT  1u
#define LEVEL_CORE 2u

#define HYPERVISOR_SIGNATURE 0x40000000u
#define HYPERVISOR_TIMING    0x40000010u
#define APIC_BUS_KHZ         1000000u /* KVM counts the LAPIC timer in nanoseconds */

struct kvm_cpuid_entry2 *cpuid_find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		if (entry->function == function &&
		    (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == index))
			return entry;
	}
	return NULL;
}

static struct kvm_cpuid_entry2 *leaf(union cpuid_table *table, uint32_t function)
{
	return cpuid_find(&table->cpuid, function, 0);
}

/* Sets a leaf, adding it if need be. */
static int set(union cpuid_table *table, const struct kvm_cpuid_entry2 *wanted)
{
	struct kvm_cpuid_entry2 *entry = cpuid_find(&table->cpuid, wanted->function, wanted->index);
	if (!entry) {
		if (table->cpuid.nent >= CPUID_ENTRIES_MAX)
			return -E2BIG;
		entry = &table->cpuid.entries[table->cpuid.nent++];
	}
	*entry = *wanted;
	return 0;
}

static void clear(union cpuid_table *table, uint32_t function)
{
	for (uint32_t i = 0; i < table->cpuid.nent; i++) {
		struct kvm_cpuid_entry2 *entry = &table->cpuid.entries[i];
		if (entry->function == function)
			entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
	}
}

static void insert(uint32_t *reg, unsigned shift, unsigned width, uint32_t value)
{
	*reg = (*reg & ~FIELD_MASK(shift, width)) | (value << shift & FIELD_MASK(shift, width));
}

/* Bits that number `count` things. */
static unsigned id_bits(unsigned count)
{
	unsigned bits = 0;
	while ((1u << bits) < count)
		bits++;
	return bits;
}

static uint32_t highest_basic(union cpuid_table *table)
{
	struct kvm_cpuid_entry2 *entry = leaf(table, 0);
	return entry ? entry->eax : 0;
}

static uint32_t highest_extended(union cpuid_table *table)
{
	struct kvm_cpuid_entry2 *entry = leaf(table, 0x80000000);
	return entry ? entry->eax : 0;
}

static bool vendor_is(union cpuid_table *table, const char *name)
{
	struct kvm_cpuid_entry2 *entry = leaf(table, 0);
	return entry && memcmp(&entry->ebx, name, 4) == 0 && memcmp(&entry->edx, name + 4, 4) == 0 &&
	       memcmp(&entry->ecx, name + 8, 4) == 0;
}

static bool is_amd(union cpuid_table *table)
{
	return vendor_is(table, "AuthenticAMD") || vendor_is(table, "HygonGenuine");
}

/* ---- Features ---- */

static void build_features(union cpuid_table *table, const struct cpuid_vcpu *vcpu)
{
	struct kvm_cpuid_entry2 *entry = leaf(table, 1);
	if (entry) {
		insert(&entry->ebx, 16, 8, vcpu->count);
		insert(&entry->ebx, 24, 8, vcpu->index);
		/* The OS* bits mirror CR4, which is clear now; KVM keeps them from here on. */
		entry->ecx &= ~(L1_ECX_MONITOR | L1_ECX_VMX | L1_ECX_OSXSAVE | L1_ECX_TSC_DEADLINE);
		entry->ecx |= L1_ECX_HYPERVISOR;
		if (vcpu->tsc_deadline)
			entry->ecx |= L1_ECX_TSC_DEADLINE;
		entry->edx &= ~L1_EDX_HTT;
		if (vcpu->count > 1)
			entry->edx |= L1_EDX_HTT;
	}
	clear(table, 5); /* MONITOR's parameters */

	entry = leaf(table, 7);
	if (entry) {
		/* SGX needs enclave memory, which this machine has none of. */
		entry->ebx &= ~L7_EBX_SGX;
		entry->ecx &= ~(L7_ECX_OSPKE | L7_ECX_SGX_LC);
	}
	clear(table, 0x12);

	entry = leaf(table, 0x80000001);
	if (entry)
		entry->ecx &= ~X1_ECX_SVM;
	clear(table, 0x8000000a);
	/* The guest's memory is not encrypted; Linux reads an MSR that KVM lacks where these bits say it might be. */
	clear(table, 0x8000001f);
}

/* ---- Caches and topology ---- */

/* Levels 1 and 2 belong to a core, the last level to the package. Same fields in Intel's leaf 4 and AMD's 0x8000001d. */
static void build_caches(union cpuid_table *table, uint32_t function, uint32_t package_sharers)
{
	for (uint32_t i = 0; i < table->cpuid.nent; i++) {
		struct kvm_cpuid_entry2 *entry = &table->cpuid.entries[i];
		if (entry->function != function || (entry->eax & FIELD_MASK(0, 5)) == 0)
			continue;
		uint32_t level = entry->eax >> 5 & 7;
		insert(&entry->eax, 14, 12, level >= 3 ? package_sharers - 1 : 0);
		/* Intel: core ids reserved in the package, minus 1; AMD reserves the field. */
		if (function == 4)
			insert(&entry->eax, 26, 6, package_sharers - 1);
	}
}

/* Leaves 0xb and 0x1f have the same contents: one thread per core, `count` cores in the package. */
static int build_levels(union cpuid_table *table, uint32_t function, const struct cpuid_vcpu *vcpu)
{
	if (highest_basic(table) < function)
		return 0;

	struct kvm_cpuid_entry2 levels[3] = {
		{.eax = 0, .ebx = 1, .ecx = LEVEL_SMT << 8},
		{.eax = id_bits(vcpu->count), .ebx = vcpu->count, .ecx = LEVEL_CORE << 8},
		{.eax = 0},
	};
	int result = 0;
	for (uint32_t i = 0; result == 0 && i < 3; i++) {
		levels[i].function = function;
		levels[i].index = i;
		levels[i].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		levels[i].ecx |= i;
		levels[i].edx = vcpu->index;
		result = set(table, &levels[i]);
	}
	return result;
}

static int build_topology_amd(union cpuid_table *table, const struct cpuid_vcpu *vcpu)
{
	/* HTT with CmpLegacy: leaf 1's count is one of cores. */
	struct kvm_cpuid_entry2 *entry = leaf(table, 0x80000001);
	if (entry) {
		entry->ecx &= ~X1_ECX_CMP_LEGACY;
		if (vcpu->count > 1)
			entry->ecx |= X1_ECX_CMP_LEGACY;
	}

	entry = leaf(table, 0x80000008);
	if (entry) {
		insert(&entry->ecx, 0, 8, vcpu->count - 1);       /* NC */
		insert(&entry->ecx, 12, 4, id_bits(vcpu->count)); /* ApicIdSize */
	}

	/* Here the sharers are counted, not the ids reserved for them. */
	build_caches(table, 0x8000001d, vcpu->count);
	if (highest_extended(table) < 0x8000001e)
		return 0;
	/* Core id = vCPU, one thread per core, one node. */
	return set(table, &(struct kvm_cpuid_entry2){.function = 0x8000001e, .eax = vcpu->index, .ebx = vcpu->index});
}

static int build_topology(union cpuid_table *table, const struct cpuid_vcpu *vcpu)
{
	int result = build_levels(table, 0xb, vcpu);
	if (result == 0)
		result = build_levels(table, 0x1f, vcpu);
	if (result == 0 && is_amd(table))
		return build_topology_amd(table, vcpu);
	build_caches(table, 4, 1u << id_bits(vcpu->count));
	return result;
}

/* ---- Clocks ---- */

/*
 * The fraction nearest to tsc_khz / APIC_BUS_KHZ whose numerator is at most `limit`, by continued fractions: exact for whole
 * MHz, a few millionths off for most others, 1 / (2 * limit) at worst.
 */
static void ratio_approximate(uint32_t tsc_khz, uint32_t limit, uint32_t *numerator, uint32_t *denominator)
{
	uint64_t a = tsc_khz, b = APIC_BUS_KHZ;
	uint64_t previous_n = 1, previous_d = 0, n = a / b, d = 1;

	while (a % b) {
		uint64_t rest = a % b;
		a = b;
		b = rest;
		uint64_t quotient = a / b;
		/* The last step goes as far as it may, if that is nearer than not going. */
		uint64_t step = n && quotient > (limit - previous_n) / n ? (limit - previous_n) / n : quotient;
		if (2 * step <= quotient && step < quotient)
			break;
		uint64_t next_n = step * n + previous_n, next_d = step * d + previous_d;
		previous_n = n;
		previous_d = d;
		n = next_n;
		d = next_d;
		if (step < quotient)
			break;
	}
	*numerator = (uint32_t)n;
	*denominator = (uint32_t)d;
}

/*
 * Leaves 0x15 and 0x16, which KVM leaves empty. Linux takes leaf 0x15's crystal for the LAPIC timer's clock too, so the crystal
 * must be KVM's 1 GHz; and it multiplies kHz by numerator in 32 bits, hence the limit.
 */
static int build_clock_intel(union cpuid_table *table, uint32_t tsc_khz)
{
	struct kvm_cpuid_entry2 *entry = leaf(table, 0x15);
	int result = 0;

	if (highest_basic(table) >= 0x15 && (!entry || entry->eax == 0 || entry->ebx == 0)) {
		struct kvm_cpuid_entry2 clock = {.function = 0x15, .ecx = APIC_BUS_KHZ * 1000};
		ratio_approximate(tsc_khz, UINT32_MAX / APIC_BUS_KHZ, &clock.ebx, &clock.eax);
		if (clock.ebx)
			result = set(table, &clock);
	}
	entry = leaf(table, 0x16);
	if (result == 0 && highest_basic(table) >= 0x16 && (!entry || entry->eax == 0)) {
		uint32_t mhz = (tsc_khz + 500) / 1000;
		result = set(table, &(struct kvm_cpuid_entry2){.function = 0x16, .eax = mhz, .ebx = mhz, .ecx = 100});
	}
	return result;
}

/* A leaf that hypervisors agreed on: EAX the TSC's kHz, EBX the LAPIC timer's. It spares guests a calibration. */
static int build_clock_hypervisor(union cpuid_table *table, uint32_t tsc_khz)
{
	struct kvm_cpuid_entry2 *signature = leaf(table, HYPERVISOR_SIGNATURE);
	if (!signature)
		return 0;
	if (signature->eax < HYPERVISOR_TIMING)
		signature->eax = HYPERVISOR_TIMING;
	return set(table,
		   &(struct kvm_cpuid_entry2){.function = HYPERVISOR_TIMING, .eax = tsc_khz, .ebx = APIC_BUS_KHZ});
}

int cpuid_build(union cpuid_table *table, const struct cpuid_vcpu *vcpu)
{
	build_features(table, vcpu);
	int result = build_topology(table, vcpu);
	if (result == 0 && vcpu->tsc_khz)
		result = build_clock_hypervisor(table, vcpu->tsc_khz);
	if (result == 0 && vcpu->tsc_khz && vendor_is(table, "GenuineIntel"))
		result = build_clock_intel(table, vcpu->tsc_khz);
	return result;
}

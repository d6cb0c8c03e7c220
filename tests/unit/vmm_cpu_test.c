/* SPDX-License-Identifier: MIT */
/* The virtual CPU: CPUID of both vendors as a pure function, and what a real KVM, where there is one, makes of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "layout.h"

#define MIB     (UINT64_C(1) << 20)
#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

/* ---- Tables as KVM gives them on two processors ---- */

static const struct kvm_cpuid_entry2 intel[] = {
	{.function = 0, .eax = 0x1f, .ebx = 0x756e6547, .ecx = 0x6c65746e, .edx = 0x49656e69},
	{.function = 1, .eax = 0x806f8, .ebx = 0x07400800, .ecx = 0xfffaf3ff, .edx = 0x0f8bfbff},
	{.function = 4, .index = 0, .flags = INDEXED, .eax = 0x7c004121, .ebx = 0x02c0003f, .ecx = 0x3f},
	{.function = 4, .index = 1, .flags = INDEXED, .eax = 0x7c004122, .ebx = 0x01c0003f, .ecx = 0x3f},
	{.function = 4, .index = 2, .flags = INDEXED, .eax = 0x7c004143, .ebx = 0x03c0003f, .ecx = 0x7ff},
	{.function = 4, .index = 3, .flags = INDEXED, .eax = 0x7c0fc163, .ebx = 0x0380003f, .ecx = 0x1bfff, .edx = 4},
	{.function = 4, .index = 4, .flags = INDEXED},
	{.function = 5, .eax = 0x40, .ebx = 0x40, .ecx = 3},
	{.function = 6, .eax = 4},
	{.function = 7,
	 .index = 0,
	 .flags = INDEXED,
	 .eax = 2,
	 .ebx = 0xf1bf07ef,
	 .ecx = 0x5b41415e,
	 .edx = 0xbc010400},
	{.function = 0xa, .eax = 0x08300802, .edx = 0x8603},
	{.function = 0xb, .index = 0, .flags = INDEXED, .edx = 7},
	{.function = 0x12, .index = 0, .flags = INDEXED, .eax = 3},
	{.function = 0x12, .index = 1, .flags = INDEXED, .eax = 0x36},
	{.function = 0x15},
	{.function = 0x16},
	{.function = 0x1f, .index = 0, .flags = INDEXED, .edx = 7},
	{.function = 0x80000000, .eax = 0x80000008},
	{.function = 0x80000001, .ecx = 0x121, .edx = 0x2c100800},
	{.function = 0x80000008, .eax = 0x00303934},
	{.function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d},
	{.function = 0x40000001, .eax = 0x01007efb},
};

static const struct kvm_cpuid_entry2 amd[] = {
	{.function = 0, .eax = 0x10, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65},
	{.function = 1, .eax = 0x00a00f11, .ebx = 0x0b800800, .ecx = 0xfefa320b, .edx = 0x178bfbff},
	{.function = 5, .eax = 0x40, .ebx = 0x40, .ecx = 3},
	{.function = 7, .index = 0, .flags = INDEXED, .ebx = 0x219c97a9, .ecx = 0x0040069c},
	{.function = 0xb, .index = 0, .flags = INDEXED, .edx = 11},
	{.function = 0x80000000, .eax = 0x80000021},
	{.function = 0x80000001, .eax = 0x00a00f11, .ecx = 0x004033f7, .edx = 0x2fd3fbff},
	{.function = 0x80000008, .eax = 0x3030, .ebx = 0x111ef657, .ecx = 0x707f},
	{.function = 0x8000000a, .eax = 1, .ebx = 8, .edx = 0x1bcff},
	{.function = 0x8000001d, .index = 0, .flags = INDEXED, .eax = 0x4121, .ebx = 0x01c0003f, .ecx = 0x3f},
	{.function = 0x8000001d, .index = 1, .flags = INDEXED, .eax = 0x4122, .ebx = 0x01c0003f, .ecx = 0x3f},
	{.function = 0x8000001d, .index = 2, .flags = INDEXED, .eax = 0x4143, .ebx = 0x01c0003f, .ecx = 0x3ff},
	{.function = 0x8000001d, .index = 3, .flags = INDEXED, .eax = 0x3c163, .ebx = 0x03c0003f, .ecx = 0x7fff},
	{.function = 0x8000001d, .index = 4, .flags = INDEXED},
	{.function = 0x8000001e, .eax = 0},
	{.function = 0x8000001f, .eax = 0x1780f, .ebx = 0x173, .ecx = 0x1fd, .edx = 1},
	{.function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d},
	{.function = 0x40000001, .eax = 0x01007efb},
};

static union cpuid_table table_of(const struct kvm_cpuid_entry2 *entries, size_t bytes)
{
	union cpuid_table table = {.cpuid = {.nent = (uint32_t)(bytes / sizeof(*entries))}};
	memcpy(table.cpuid.entries, entries, bytes);
	return table;
}

static union cpuid_table built(const struct kvm_cpuid_entry2 *entries, size_t bytes, unsigned index, unsigned count)
{
	union cpuid_table table = table_of(entries, bytes);
	struct cpuid_vcpu vcpu = {.index = index, .count = count, .tsc_khz = 2000000, .tsc_deadline = true};
	cr_assert_eq(cpuid_build(&table, &vcpu), 0);
	return table;
}

#define BUILT(entries, index, count) built(entries, sizeof(entries), index, count)

static const struct kvm_cpuid_entry2 *leaf(union cpuid_table *table, uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *entry = cpuid_find(&table->cpuid, function, index);
	cr_assert_not_null(entry, "leaf 0x%x.%u is missing", function, index);
	return entry;
}

static unsigned bits(uint32_t reg, unsigned high, unsigned low)
{
	return (unsigned)(reg >> low & ((UINT64_C(1) << (high - low + 1)) - 1));
}

/* What a guest computes: bits needed for `count` ids. */
static unsigned order(unsigned count)
{
	unsigned result = 0;
	while (1u << result < count)
		result++;
	return result;
}

static const unsigned counts[] = {1, 2, 3, 4, 6, 8, 12, 31, 32, 33, 63, 64};
#define COUNTS (sizeof(counts) / sizeof(counts[0]))

/* ---- Both vendors ---- */

static void expect_identity(const struct kvm_cpuid_entry2 *entries, size_t bytes)
{
	for (size_t i = 0; i < COUNTS; i++) {
		unsigned index = counts[i] - 1;
		union cpuid_table table = built(entries, bytes, index, counts[i]);
		const struct kvm_cpuid_entry2 *one = leaf(&table, 1, 0);
		cr_expect_eq(bits(one->ebx, 31, 24), index, "initial APIC id");
		cr_expect_eq(bits(one->ebx, 23, 16), counts[i], "logical processors");
		cr_expect_eq(bits(one->ebx, 15, 8), 8, "CLFLUSH line");
		cr_expect_eq(bits(one->edx, 28, 28), counts[i] > 1, "HTT");

		const struct kvm_cpuid_entry2 *smt = leaf(&table, 0xb, 0), *core = leaf(&table, 0xb, 1);
		const struct kvm_cpuid_entry2 *end = leaf(&table, 0xb, 2);
		cr_expect_eq(smt->eax, 0);
		cr_expect_eq(smt->ebx, 1);
		cr_expect_eq(smt->ecx, 1u << 8);
		cr_expect_eq(smt->edx, index);
		cr_expect_eq(core->eax, order(counts[i]));
		cr_expect_eq(core->ebx, counts[i]);
		cr_expect_eq(core->ecx, 2u << 8 | 1);
		cr_expect_eq(core->edx, index);
		cr_expect_eq(end->ecx, 2, "an invalid level ends the list");
		cr_expect_eq(end->edx, index);
		cr_expect_eq(index >> core->eax, 0, "all in package 0");
	}
}

Test(cpuid, every_vcpu_has_its_id_in_one_package)
{
	expect_identity(intel, sizeof(intel));
	expect_identity(amd, sizeof(amd));
}

static void expect_features(const struct kvm_cpuid_entry2 *entries, size_t bytes)
{
	union cpuid_table before = table_of(entries, bytes);
	union cpuid_table table = built(entries, bytes, 0, 2);
	const struct kvm_cpuid_entry2 *one = leaf(&table, 1, 0), *seven = leaf(&table, 7, 0);
	cr_expect_eq(bits(one->ecx, 31, 31), 1, "hypervisor");
	cr_expect_eq(bits(one->ecx, 24, 24), 1, "TSC deadline");
	cr_expect_eq(bits(one->ecx, 27, 27), 0, "OSXSAVE mirrors CR4");
	cr_expect_eq(bits(one->ecx, 3, 3), 0, "MONITOR");
	cr_expect_eq(bits(one->ecx, 5, 5), 0, "VMX");
	cr_expect_eq(bits(one->ecx, 21, 21), 1, "x2APIC, as KVM gives it");
	cr_expect_eq(bits(seven->ecx, 4, 4), 0, "OSPKE mirrors CR4");
	cr_expect_eq(bits(seven->ebx, 2, 2), 0, "SGX");
	cr_expect_eq(bits(seven->ecx, 30, 30), 0, "SGX launch control");
	cr_expect_eq(bits(leaf(&table, 0x80000001, 0)->ecx, 2, 2), 0, "SVM");
	cr_expect_eq(leaf(&table, 5, 0)->eax, 0, "MONITOR leaf");

	/* Nothing but these bits changes. */
	cr_expect_eq(one->ecx | 1u << 3 | 1u << 5 | 1u << 24 | 1u << 27 | 1u << 31,
		     leaf(&before, 1, 0)->ecx | 1u << 3 | 1u << 5 | 1u << 24 | 1u << 27 | 1u << 31);
	cr_expect_eq(one->edx | 1u << 28, leaf(&before, 1, 0)->edx | 1u << 28);
	cr_expect_eq(seven->ebx | 1u << 2, leaf(&before, 7, 0)->ebx | 1u << 2);
	cr_expect_eq(seven->edx, leaf(&before, 7, 0)->edx);
	cr_expect_eq(leaf(&table, 0x40000001, 0)->eax, 0x01007efb, "KVM's own features");
}

Test(cpuid, features_are_kvms_but_for_what_the_machine_lacks)
{
	expect_features(intel, sizeof(intel));
	expect_features(amd, sizeof(amd));
}

Test(cpuid, tsc_deadline_is_not_offered_where_kvm_lacks_it)
{
	union cpuid_table table = table_of(intel, sizeof(intel));
	cr_assert_eq(cpuid_build(&table, &(struct cpuid_vcpu){.count = 1}), 0);
	cr_expect_eq(bits(leaf(&table, 1, 0)->ecx, 24, 24), 0);
}

Test(cpuid, the_hypervisor_leaf_tells_both_clocks)
{
	union cpuid_table table = BUILT(amd, 0, 1);
	cr_expect_eq(leaf(&table, 0x40000000, 0)->eax, 0x40000010, "highest hypervisor leaf");
	cr_expect_eq(leaf(&table, 0x40000000, 0)->ebx, 0x4b4d564b, "KVMKVMKVM");
	cr_expect_eq(leaf(&table, 0x40000010, 0)->eax, 2000000, "TSC, kHz");
	cr_expect_eq(leaf(&table, 0x40000010, 0)->ebx, 1000000, "LAPIC timer, kHz");
}

Test(cpuid, an_unknown_clock_is_not_made_up)
{
	union cpuid_table table = table_of(intel, sizeof(intel));
	cr_assert_eq(cpuid_build(&table, &(struct cpuid_vcpu){.count = 1}), 0);
	cr_expect_null(cpuid_find(&table.cpuid, 0x40000010, 0));
	cr_expect_eq(leaf(&table, 0x15, 0)->ebx, 0);
	cr_expect_eq(leaf(&table, 0x16, 0)->eax, 0);
}

Test(cpuid, building_from_the_supported_table_is_the_same_each_time)
{
	union cpuid_table once = BUILT(intel, 3, 4), again = once;
	struct cpuid_vcpu vcpu = {.index = 3, .count = 4, .tsc_khz = 2000000, .tsc_deadline = true};
	cr_assert_eq(cpuid_build(&again, &vcpu), 0);
	cr_expect_eq(memcmp(once.room, again.room, sizeof(once.room)), 0);
}

Test(cpuid, a_full_table_is_refused_rather_than_overrun)
{
	union cpuid_table table = table_of(intel, sizeof(intel));
	while (table.cpuid.nent < CPUID_ENTRIES_MAX - 1)
		table.cpuid.entries[table.cpuid.nent++] = (struct kvm_cpuid_entry2){.function = 0xc0000000};
	cr_expect_eq(cpuid_build(&table, &(struct cpuid_vcpu){.count = 1, .tsc_khz = 2000000}), -E2BIG);
	cr_expect_eq(table.cpuid.nent, CPUID_ENTRIES_MAX);
}

Test(cpuid, an_empty_table_is_survived)
{
	union cpuid_table table = {.cpuid = {.nent = 0}};
	cr_expect_eq(cpuid_build(&table, &(struct cpuid_vcpu){.count = 4, .tsc_khz = 2000000}), 0);
	cr_expect_eq(table.cpuid.nent, 0);
}

/* ---- Intel ---- */

Test(cpuid_intel, caches_are_shared_as_the_topology_says)
{
	for (size_t i = 0; i < COUNTS; i++) {
		union cpuid_table table = BUILT(intel, 0, counts[i]);
		unsigned reserved = 1u << order(counts[i]);
		for (unsigned cache = 0; cache < 4; cache++) {
			uint32_t eax = leaf(&table, 4, cache)->eax;
			cr_expect_eq(bits(eax, 25, 14), cache == 3 ? reserved - 1 : 0,
				     "sharers of cache %u of %u vCPUs", cache, counts[i]);
			cr_expect_eq(bits(eax, 31, 26), reserved - 1, "core ids");
			cr_expect_eq(bits(eax, 13, 0), bits(intel[2 + cache].eax, 13, 0), "the rest stays");
			cr_expect_eq(leaf(&table, 4, cache)->ebx, intel[2 + cache].ebx);
		}
		cr_expect_eq(leaf(&table, 4, 4)->eax, 0, "the end of the list stays the end");
	}
}

Test(cpuid_intel, leaf_1f_says_what_leaf_b_says)
{
	union cpuid_table table = BUILT(intel, 5, 6);
	for (unsigned level = 0; level < 3; level++) {
		const struct kvm_cpuid_entry2 *b = leaf(&table, 0xb, level), *f = leaf(&table, 0x1f, level);
		cr_expect_eq(b->eax, f->eax);
		cr_expect_eq(b->ebx, f->ebx);
		cr_expect_eq(b->ecx, f->ecx);
		cr_expect_eq(b->edx, f->edx);
	}
}

Test(cpuid_intel, leaves_that_the_processor_lacks_are_not_invented)
{
	union cpuid_table table = table_of(intel, sizeof(intel));
	table.cpuid.entries[0].eax = 0xa;
	struct cpuid_vcpu vcpu = {.index = 1, .count = 2, .tsc_khz = 2000000};
	cr_assert_eq(cpuid_build(&table, &vcpu), 0);
	cr_expect_null(cpuid_find(&table.cpuid, 0xb, 1));
	cr_expect_null(cpuid_find(&table.cpuid, 0x1f, 1));
	cr_expect_eq(leaf(&table, 0x15, 0)->ebx, 0);
	cr_expect_null(cpuid_find(&table.cpuid, 0x8000001e, 0));
}

Test(cpuid_intel, sgx_has_no_leaves)
{
	union cpuid_table table = BUILT(intel, 0, 1);
	cr_expect_eq(leaf(&table, 0x12, 0)->eax, 0);
	cr_expect_eq(leaf(&table, 0x12, 1)->eax, 0);
}

/* As Linux computes it, in 32 bits. */
static uint32_t linux_tsc_khz(union cpuid_table *table)
{
	const struct kvm_cpuid_entry2 *clock = leaf(table, 0x15, 0);
	cr_assert_neq(clock->eax, 0);
	cr_assert_eq(clock->ecx, 1000000000, "the crystal is KVM's LAPIC timer clock");
	uint32_t crystal_khz = clock->ecx / 1000;
	return crystal_khz * clock->ebx / clock->eax;
}

static uint32_t khz_off(uint32_t khz)
{
	union cpuid_table table = table_of(intel, sizeof(intel));
	cr_assert_eq(cpuid_build(&table, &(struct cpuid_vcpu){.count = 1, .tsc_khz = khz}), 0);
	cr_assert_eq(leaf(&table, 0x16, 0)->eax, (khz + 500) / 1000);
	return (uint32_t)llabs((int64_t)linux_tsc_khz(&table) - khz);
}

Test(cpuid_intel, the_clock_leaves_give_linux_the_tsc)
{
	for (uint32_t mhz = 400; mhz <= 4290; mhz++)
		cr_assert_eq(khz_off(mhz * 1000), 0, "%u MHz", mhz);

	/* Others as well as Linux's 32-bit product lets them. */
	unsigned far_off = 0, tried = 0;
	for (uint32_t khz = 400000; khz <= 4290000; khz += 97, tried++) {
		uint32_t off = khz_off(khz);
		cr_assert_leq(off, 1 + khz / 8000, "%u kHz is %u off", khz, off);
		far_off += off > 1 + khz / 100000;
	}
	cr_expect_lt(far_off * 100, tried, "%u of %u are more than 10 millionths off", far_off, tried);
}

Test(cpuid_intel, clock_leaves_that_kvm_fills_are_kept)
{
	union cpuid_table table = table_of(intel, sizeof(intel));
	struct kvm_cpuid_entry2 *clock = cpuid_find(&table.cpuid, 0x15, 0);
	clock->eax = 2;
	clock->ebx = 160;
	clock->ecx = 25000000;
	cr_assert_eq(cpuid_build(&table, &(struct cpuid_vcpu){.count = 1, .tsc_khz = 2000000}), 0);
	cr_expect_eq(leaf(&table, 0x15, 0)->ebx, 160);
	cr_expect_eq(leaf(&table, 0x15, 0)->ecx, 25000000);
}

/* ---- AMD ---- */

Test(cpuid_amd, core_count_and_ids_are_in_amds_leaves)
{
	for (size_t i = 0; i < COUNTS; i++) {
		unsigned index = counts[i] - 1;
		union cpuid_table table = BUILT(amd, index, counts[i]);
		uint32_t ecx = leaf(&table, 0x80000008, 0)->ecx;
		cr_expect_eq(bits(ecx, 7, 0), counts[i] - 1, "NC");
		cr_expect_eq(bits(ecx, 15, 12), order(counts[i]), "ApicIdSize");
		cr_expect_eq(leaf(&table, 0x80000008, 0)->eax, 0x3030);
		cr_expect_eq(bits(leaf(&table, 0x80000001, 0)->ecx, 1, 1), counts[i] > 1, "CmpLegacy");

		const struct kvm_cpuid_entry2 *ids = leaf(&table, 0x8000001e, 0);
		cr_expect_eq(ids->eax, index, "extended APIC id");
		cr_expect_eq(bits(ids->ebx, 7, 0), index, "core id");
		cr_expect_eq(bits(ids->ebx, 15, 8), 0, "one thread per core");
		cr_expect_eq(ids->ecx, 0, "one node");
	}
}

Test(cpuid_amd, caches_are_shared_as_the_topology_says)
{
	for (size_t i = 0; i < COUNTS; i++) {
		union cpuid_table table = BUILT(amd, 0, counts[i]);
		for (unsigned cache = 0; cache < 4; cache++) {
			uint32_t eax = leaf(&table, 0x8000001d, cache)->eax;
			cr_expect_eq(bits(eax, 25, 14), cache == 3 ? counts[i] - 1 : 0);
			cr_expect_eq(bits(eax, 31, 26), 0, "reserved");
		}
	}
}

Test(cpuid_amd, nested_virtualization_and_encryption_are_not_offered)
{
	union cpuid_table table = BUILT(amd, 0, 1);
	cr_expect_eq(leaf(&table, 0x8000000a, 0)->eax, 0);
	cr_expect_eq(leaf(&table, 0x8000000a, 0)->edx, 0);
	cr_expect_eq(leaf(&table, 0x8000001f, 0)->eax, 0);
}

Test(cpuid_amd, intels_clock_leaves_are_not_added)
{
	union cpuid_table table = BUILT(amd, 0, 1);
	cr_expect_null(cpuid_find(&table.cpuid, 0x15, 0));
	cr_expect_null(cpuid_find(&table.cpuid, 0x1f, 0));
}

Test(cpuid_amd, hygon_is_encoded_like_amd)
{
	union cpuid_table table = table_of(amd, sizeof(amd));
	memcpy(&table.cpuid.entries[0].ebx, "Hygo", 4);
	memcpy(&table.cpuid.entries[0].edx, "nGen", 4);
	memcpy(&table.cpuid.entries[0].ecx, "uine", 4);
	cr_assert_eq(cpuid_build(&table, &(struct cpuid_vcpu){.index = 2, .count = 3}), 0);
	cr_expect_eq(bits(leaf(&table, 0x80000008, 0)->ecx, 7, 0), 2);
}

/* ---- On a real KVM ---- */

struct machine {
	struct tenon_vm *vm;
	struct cpu_model *model;
	struct tenon_vcpu *vcpu;
	struct memory memory;
	struct tenon_error err;
};

static struct machine machine_open(unsigned count)
{
	struct machine machine = {0};
	struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	struct memory_options options = {.size_bytes = 32 * MIB};

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		cr_skip_test("no usable /dev/kvm: %s", strerror(errno));
	if (tenon_vm_create(NULL, &machine.vm, &machine.err) < 0)
		cr_skip_test("no VM here: %s", machine.err.message);
	cr_assert_eq(memory_create(&options, &machine.memory, &machine.err), 0, "%s", machine.err.message);
	cr_assert_eq(cpu_model_create(machine.vm, count, &machine.model, &machine.err), 0, "%s", machine.err.message);
	cr_assert_eq(tenon_vcpu_create(machine.vm, 0, &handlers, NULL, &machine.vcpu, &machine.err), 0, "%s",
		     machine.err.message);
	return machine;
}

static void machine_close(struct machine *machine)
{
	tenon_vcpu_destroy(machine->vcpu);
	cpu_model_destroy(machine->model);
	tenon_vm_destroy(machine->vm);
	memory_destroy(&machine->memory);
}

static uint64_t read_msr(struct tenon_vcpu *vcpu, uint32_t index)
{
	union {
		struct kvm_msrs msrs;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} one = {.msrs = {.nmsrs = 1}};
	one.msrs.entries[0].index = index;
	cr_assert_eq(ioctl(tenon_vcpu_fd(vcpu), KVM_GET_MSRS, &one), 1, "MSR 0x%x", index);
	return one.msrs.entries[0].data;
}

Test(cpu, kvm_takes_the_table_and_the_msrs)
{
	struct machine machine = machine_open(4);
	cr_assert_eq(cpu_init(machine.model, machine.vcpu, &machine.err), 0, "%s", machine.err.message);

	union cpuid_table table = {.cpuid = {.nent = CPUID_ENTRIES_MAX}};
	cr_assert_eq(ioctl(tenon_vcpu_fd(machine.vcpu), KVM_GET_CPUID2, &table), 0);
	cr_expect_eq(bits(leaf(&table, 1, 0)->ebx, 23, 16), 4);
	cr_expect_eq(leaf(&table, 0xb, 1)->ebx, 4);
	cr_expect_geq(cpu_model_physical_bits(machine.model), 32);
	cr_expect_leq(cpu_model_physical_bits(machine.model), 52);

	cr_expect_eq(read_msr(machine.vcpu, 0x2ff), 0xc06, "default write-back, fixed ranges on");
	cr_expect_eq(read_msr(machine.vcpu, 0x250), 0x0606060606060606);
	cr_expect_eq(read_msr(machine.vcpu, 0x259), 0, "the legacy video window");
	cr_expect_eq(read_msr(machine.vcpu, 0x26f), 0x0606060606060606);
	cr_expect_eq(read_msr(machine.vcpu, 0x1a0) & 1, 1, "fast strings");
	machine_close(&machine);
}

Test(cpu, impossible_counts_are_refused)
{
	struct machine machine = machine_open(1);
	struct cpu_model *model = NULL;
	cr_expect_eq(cpu_model_create(machine.vm, 0, &model, &machine.err), -EINVAL);
	cr_expect(strstr(machine.err.message, "cpus 0: out of range; a guest has 1 to 64"), "%s", machine.err.message);
	cr_expect_eq(cpu_model_create(machine.vm, 65, &model, &machine.err), -EINVAL);
	cr_expect_null(model);
	machine_close(&machine);
}

/* What each descriptor of the table in RAM must be: flat, of this type, 64-bit or 32-bit. */
static void expect_descriptor(struct memory *memory, unsigned selector, uint64_t expected)
{
	cr_expect_eq(*(uint64_t *)memory_at(memory, LAYOUT_GDT + selector, 8), expected, "selector 0x%x is 0x%lx",
		     selector, (unsigned long)*(uint64_t *)memory_at(memory, LAYOUT_GDT + selector, 8));
}

/* Walks the tables in RAM as the processor would. */
static uint64_t translate(struct memory *memory, uint64_t cr3, uint64_t address)
{
	uint64_t entry = cr3;
	for (unsigned shift = 39; shift >= 21; shift -= 9) {
		const uint64_t *table = memory_at(memory, entry & 0xffffffffff000, 4096);
		cr_assert_not_null(table);
		entry = table[address >> shift & 511];
		cr_assert_eq(entry & 3, 3, "0x%lx is not mapped writable", (unsigned long)address);
	}
	cr_assert(entry & 0x80, "a 2 MiB page");
	return (entry & 0xfffffffe00000) | (address & 0x1fffff);
}

Test(cpu, linux_is_entered_in_long_mode_with_4_gib_mapped)
{
	struct machine machine = machine_open(1);
	struct loader_entry entry = {
		.protocol = LOADER_LINUX64, .entry_gpa = 0x1000200, .info_gpa = LAYOUT_BOOT_PARAMS};
	memset(machine.memory.hva, 0xff, 1 * MIB);
	cr_assert_eq(cpu_init(machine.model, machine.vcpu, &machine.err), 0, "%s", machine.err.message);
	cr_assert_eq(cpu_enter(machine.vcpu, &machine.memory, &entry, &machine.err), 0, "%s", machine.err.message);

	struct kvm_sregs sregs;
	struct kvm_regs regs;
	cr_assert_eq(tenon_vcpu_get_sregs(machine.vcpu, &sregs, &machine.err), 0);
	cr_assert_eq(tenon_vcpu_get_regs(machine.vcpu, &regs, &machine.err), 0);
	cr_expect_eq(regs.rip, 0x1000200);
	cr_expect_eq(regs.rsi, LAYOUT_BOOT_PARAMS);
	cr_expect_eq(regs.rflags, 2);
	cr_expect_eq(sregs.cr0 & 0xe0000001, 0x80000001, "paging, protection, caches on");
	cr_expect_eq(sregs.cr4 & 0x20, 0x20, "PAE");
	cr_expect_eq(sregs.efer & 0x500, 0x500, "long mode");
	cr_expect_eq(sregs.cs.selector, 0x10);
	cr_expect_eq(sregs.cs.l, 1);
	cr_expect_eq(sregs.ds.selector, 0x18);
	cr_expect_eq(sregs.es.selector, 0x18);
	cr_expect_eq(sregs.ss.selector, 0x18);
	cr_expect_eq(sregs.gdt.base, LAYOUT_GDT);
	expect_descriptor(&machine.memory, 0x00, 0);
	expect_descriptor(&machine.memory, 0x10, 0x00af9b000000ffff);
	expect_descriptor(&machine.memory, 0x18, 0x00cf93000000ffff);

	static const uint64_t addresses[] = {0, 0x1000200, 0x3fffffff, 0x40000000, LAYOUT_PCI32, 0xffffffff};
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
		cr_expect_eq(translate(&machine.memory, sregs.cr3, addresses[i]), addresses[i]);
	machine_close(&machine);
}

Test(cpu, pvh_is_entered_in_protected_mode_without_paging)
{
	struct machine machine = machine_open(1);
	struct loader_entry entry = {.protocol = LOADER_PVH, .entry_gpa = 0x1000123, .info_gpa = LAYOUT_PVH_INFO};
	cr_assert_eq(cpu_init(machine.model, machine.vcpu, &machine.err), 0, "%s", machine.err.message);
	/* As after a reset of a guest that had been in long mode. */
	entry.protocol = LOADER_LINUX64;
	cr_assert_eq(cpu_enter(machine.vcpu, &machine.memory, &entry, &machine.err), 0, "%s", machine.err.message);
	entry.protocol = LOADER_PVH;
	cr_assert_eq(cpu_enter(machine.vcpu, &machine.memory, &entry, &machine.err), 0, "%s", machine.err.message);

	struct kvm_sregs sregs;
	struct kvm_regs regs;
	cr_assert_eq(tenon_vcpu_get_sregs(machine.vcpu, &sregs, &machine.err), 0);
	cr_assert_eq(tenon_vcpu_get_regs(machine.vcpu, &regs, &machine.err), 0);
	cr_expect_eq(regs.rip, 0x1000123);
	cr_expect_eq(regs.rbx, LAYOUT_PVH_INFO);
	cr_expect_eq(regs.rsi, 0);
	cr_expect_eq(regs.rflags, 2);
	cr_expect_eq(sregs.cr0 & 0xe005002f, 1, "all that can be written is clear but PE");
	cr_expect_eq(sregs.cr4, 0);
	cr_expect_eq(sregs.efer & 0x500, 0);
	cr_expect_eq(sregs.cs.db, 1);
	cr_expect_eq(sregs.cs.l, 0);
	cr_expect_eq(sregs.cs.base, 0);
	cr_expect_eq(sregs.cs.limit, 0xffffffff);
	cr_expect_eq(sregs.ds.limit, 0xffffffff);
	cr_expect_eq(sregs.tr.limit, 0x67);
	cr_expect_eq(sregs.tr.type, 0xb, "a busy 32-bit TSS");
	expect_descriptor(&machine.memory, 0x10, 0x00cf9b000000ffff);
	expect_descriptor(&machine.memory, 0x18, 0x00cf93000000ffff);
	expect_descriptor(&machine.memory, 0x20, 0x00008b0000000067);
	machine_close(&machine);
}

// SPDX-License-Identifier: MIT
/* Whether a guest that saw one CPU can go on with another: what is a feature, what is not, and what the refusal says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#include "cpuid_features.h"
#include "fixture_file.h"
#include "kvm_fake.h"

#define ENTRIES 32u

union cpuid {
	struct kvm_cpuid2 table;
	unsigned char room[sizeof(struct kvm_cpuid2) + ENTRIES * sizeof(struct kvm_cpuid_entry2)];
};

static struct tenon_vm *vm;
static struct tenon_vcpu *here, *there;
static struct tenon_error error;
static union cpuid cpu;

static struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < cpu.table.nent; i++) {
		if (cpu.table.entries[i].function == function && cpu.table.entries[i].index == index)
			return &cpu.table.entries[i];
	}
	cr_assert_lt(cpu.table.nent, ENTRIES);
	struct kvm_cpuid_entry2 *entry = &cpu.table.entries[cpu.table.nent++];
	*entry = (struct kvm_cpuid_entry2){.function = function, .index = index};
	if (function == 7 || function == 0xb || function == 0xd)
		entry->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	return entry;
}

static void create(void)
{
	static const struct tenon_vcpu_handlers handlers = {.size = sizeof(handlers)};
	fakekvm_reset();
	cr_assert_eq(tenon_vm_create(NULL, &vm, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_create(vm, 0, &handlers, NULL, &here, &error), 0, "%s", error.message);
	cr_assert_eq(tenon_vcpu_create(vm, 1, &handlers, NULL, &there, &error), 0, "%s", error.message);

	cpu.table.nent = 0;
	struct kvm_cpuid_entry2 *vendor = leaf(0, 0);
	vendor->eax = 0x1f;
	memcpy(&vendor->ebx, "Genu", 4);
	memcpy(&vendor->edx, "ineI", 4);
	memcpy(&vendor->ecx, "ntel", 4);
	leaf(1, 0)->eax = 0x000806f0;
	leaf(1, 0)->ecx = 0xff;
	leaf(1, 0)->edx = 0x0fffffff;
	leaf(7, 0)->ebx = 0xff;
	leaf(0xd, 0)->eax = 7;
	leaf(0xd, 2)->eax = 256;
	leaf(0xd, 2)->ebx = 576;
	struct kvm_cpuid_entry2 *signature = leaf(0x40000000, 0);
	memcpy(&signature->ebx, "KVMK", 4);
	memcpy(&signature->ecx, "VMKV", 4);
	memcpy(&signature->edx, "M\0\0", 4);
	leaf(0x40000001, 0)->eax = 0x3f;
	leaf(0x80000008, 0)->eax = 0x392e;
}

static void destroy(void)
{
	tenon_vcpu_destroy(here);
	tenon_vcpu_destroy(there);
	tenon_vm_destroy(vm);
	fakekvm_assert_nothing_left();
}

TestSuite(kvm_cpuid, .init = create, .fini = destroy);

static void set(struct tenon_vcpu *vcpu)
{
	cr_assert_eq(tenon_vcpu_set_cpuid(vcpu, &cpu.table, &error), 0, "%s", error.message);
}

static int compare(void)
{
	void *data;
	size_t bytes;
	cr_assert_eq(tenon_vcpu_cpuid_pack(there, &data, &bytes, &error), 0, "%s", error.message);
	int result = tenon_vcpu_cpuid_compare(here, data, bytes, &error);
	free(data);
	return result;
}

static void expect_refused(const char *reason)
{
	cr_expect_eq(compare(), -ENOTSUP);
	cr_expect_not_null(strstr(error.message, reason), "%s", error.message);
	cr_expect_null(strchr(error.message, '\n'));
}

Test(kvm_cpuid, equal_cpus_are_right)
{
	set(here);
	set(there);
	cr_expect_eq(compare(), 0, "%s", error.message);
}

Test(kvm_cpuid, a_guest_may_go_to_a_cpu_that_has_more)
{
	set(there);
	leaf(7, 0)->ebx |= 1u << 16;
	leaf(7, 1)->eax = 1;
	leaf(0x80000008, 0)->eax = 0x3934;
	set(here);
	cr_expect_eq(compare(), 0, "%s", error.message);
}

Test(kvm_cpuid, missing_features_are_named)
{
	set(here);
	leaf(7, 0)->ebx |= 1u << 16;
	leaf(0xd, 1)->eax = 8;
	leaf(0x40000001, 0)->eax |= 1u << 6;
	set(there);
	expect_refused("lacks: avx512f, xsaves, kvm pv-eoi; use a host that has all");
}

Test(kvm_cpuid, a_feature_without_a_name_is_told_by_its_place)
{
	set(here);
	leaf(7, 1)->eax = 1u << 30;
	set(there);
	expect_refused("lacks: CPUID 0x7.1 eax bit 30; use a host that has it");
}

Test(kvm_cpuid, of_many_missing_features_the_first_are_named_and_the_others_counted)
{
	leaf(1, 0)->edx = 0;
	set(here);
	leaf(1, 0)->edx = 0xffffffff;
	set(there);
	expect_refused("fpu, vme, de, pse, tsc, msr, pae, mce and 23 more"); /* all but ht */
}

Test(kvm_cpuid, what_tells_processors_of_one_machine_apart_is_no_feature)
{
	set(here);
	leaf(1, 0)->ebx = 0x01020800;
	leaf(1, 0)->edx |= 1u << 28;
	leaf(1, 0)->ecx |= 1u << 27;
	leaf(0xb, 0)->edx = 7;
	leaf(0x15, 0)->ebx = 5;
	leaf(0x40000010, 0)->eax = 2900000;
	leaf(0x80000002, 0)->eax = 0x6c707041;
	set(there);
	cr_expect_eq(compare(), 0, "%s", error.message);
}

Test(kvm_cpuid, narrower_addresses_and_fewer_counters_are_refused)
{
	set(here);
	leaf(0x80000008, 0)->eax = 0x3934;
	leaf(0xa, 0)->eax = 0x0802;
	set(there);
	expect_refused(
		"version of performance monitoring 2 (here 0), number of performance counters 8 (here 0), width of "
		"physical addresses 52 (here 46)");
}

Test(kvm_cpuid, another_vendor_family_or_hypervisor_is_refused)
{
	set(here);
	memcpy(&leaf(0, 0)->ebx, "Auth", 4);
	memcpy(&leaf(0, 0)->edx, "enti", 4);
	memcpy(&leaf(0, 0)->ecx, "cAMD", 4);
	set(there);
	expect_refused("by \"AuthenticAMD\", and this host's is by \"GenuineIntel\"");
	set(here);
	leaf(1, 0)->eax = 0x00a00f10; /* family 15 + 10 */
	set(there);
	expect_refused("family 25, and this host's is of family 6");
	set(here);
	leaf(0x40000000, 0)->ebx = 0x72634d0a;
	set(there);
	expect_refused("hypervisor \"?Mcr");
}

Test(kvm_cpuid, extended_state_in_another_place_is_refused)
{
	set(here);
	leaf(0xd, 2)->ebx = 832;
	set(there);
	expect_refused("part 2 of the extended state in 256 bytes at 832, and this host's CPU in 256 at 576");
}

Test(kvm_cpuid, damaged_bytes_are_refused)
{
	void *data;
	size_t bytes;
	set(here);
	cr_assert_eq(tenon_vcpu_cpuid_pack(here, &data, &bytes, &error), 0, "%s", error.message);
	for (size_t cut = 0; cut < bytes; cut += 9)
		cr_expect_eq(tenon_vcpu_cpuid_compare(here, data, cut, &error), -EINVAL, "%zu bytes", cut);
	free(data);
}

Test(kvm_cpuid, a_vcpu_without_cpuid_has_nothing_to_compare)
{
	void *data = NULL;
	size_t bytes;
	cr_expect_eq(tenon_vcpu_cpuid_pack(here, &data, &bytes, &error), -EINVAL);
	cr_expect_eq(tenon_vcpu_cpuid_compare(here, "", 0, &error), -EINVAL);
	cr_expect_not_null(strstr(error.message, "tenon_vcpu_set_cpuid first"), "%s", error.message);
}

Test(kvm_cpuid, cpuid_that_kvm_refuses_is_not_kept)
{
	set(here);
	set(there);
	leaf(7, 0)->ebx |= 1u << 16;
	fakekvm_fail_always("KVM_SET_CPUID2", EINVAL);
	cr_expect_eq(tenon_vcpu_set_cpuid(there, &cpu.table, &error), -EINVAL);
	cr_expect_eq(compare(), 0, "the one before is compared: %s", error.message);
}

Test(kvm_cpuid, each_register_is_in_the_table_once_and_no_name_means_two_things_in_it)
{
	for (size_t i = 0; i < cpuid_features_count; i++) {
		const struct cpuid_features *left = &cpuid_features[i];
		for (unsigned a = 0; a < 32; a++) {
			for (unsigned b = 0; left->names[a] && b < a; b++)
				cr_expect(!left->names[b] || strcmp(left->names[a], left->names[b]) != 0, "%s",
					  left->names[a]);
		}
		for (size_t j = 0; j < i; j++) {
			const struct cpuid_features *right = &cpuid_features[j];
			cr_expect(left->function != right->function || left->index != right->index ||
					  left->reg != right->reg,
				  "leaf %#x.%u twice", left->function, left->index);
		}
	}
}

/* ---- What version 1 has packed: tests/fixtures/README.md ---- */

Test(kvm_cpuid, of_version_1_is_compared_still)
{
	static const struct {
		uint32_t function, index;
		size_t of; /* register of this entry, of which a bit is missing here */
		uint32_t bit;
		const char *why;
	} table[] = {
		{1, 0, offsetof(struct kvm_cpuid_entry2, ecx), 1u << 0, "lacks: sse3;"},
		{1, 0, offsetof(struct kvm_cpuid_entry2, edx), 1u << 25, "lacks: sse;"},
		{7, 0, offsetof(struct kvm_cpuid_entry2, ebx), 1u << 3, "lacks: bmi1;"},
		{0xd, 0, offsetof(struct kvm_cpuid_entry2, eax), 1u << 2, "lacks: xsave of avx;"},
		{0x40000001, 0, offsetof(struct kvm_cpuid_entry2, eax), 1u << 5, "steal"},
	};
	static struct fixture_file file;
	void *data;
	size_t bytes;
	set(there);
	cr_assert_eq(tenon_vcpu_cpuid_pack(there, &data, &bytes, &error), 0, "%s", error.message);
	fixture_expect_written("v1/cpuid", data, bytes);
	free(data);
	fixture_read("v1/cpuid", &file);
	set(here);
	cr_expect_eq(tenon_vcpu_cpuid_compare(here, file.data, file.bytes, &error), 0, "%s", error.message);
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint32_t *word = (uint32_t *)((char *)leaf(table[i].function, table[i].index) + table[i].of);
		*word &= ~table[i].bit;
		set(here);
		cr_expect_eq(tenon_vcpu_cpuid_compare(here, file.data, file.bytes, &error), -ENOTSUP, "row %u", i);
		cr_expect_not_null(strstr(error.message, table[i].why), "row %u: %s", i, error.message);
		*word |= table[i].bit;
	}
}

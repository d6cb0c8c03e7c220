// SPDX-License-Identifier: MIT
/*
 * Packs the CPUID of a vCPU, and compares another's with it: whether a guest that saw that CPU can go on with this one. Which bits
 * are features, and their names, is cpuid_features.c's.
 *
 * The form is records.h's, magic "TVCI", with one record, tag 1, required: the entries of struct kvm_cpuid2, each 7 times u32:
 * function, index, flags (1: the index is significant), EAX, EBX, ECX, EDX.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpuid_compare.h"
#include "cpuid_features.h"
#include "records.h"

#define MAGIC       "TVCI"
#define WHAT        "CPUID"
#define TAG_ENTRIES 1u

#define ENTRY_BYTES 28u
#define ENTRIES_MAX 1024u /* KVM takes 256 */
#define NAMED_MAX   8u    /* missing features that are named; the others are counted */

#define LEAF_VENDOR     0u
#define LEAF_VERSION    1u
#define LEAF_XSAVE      0xdu
#define LEAF_HYPERVISOR 0x40000000u

/* One side's table: either a struct kvm_cpuid2 or packed entries. */
struct table {
	const struct kvm_cpuid_entry2 *entries;
	uint32_t count;
};

static const struct kvm_cpuid_entry2 *find(const struct table *table, uint32_t function, uint32_t index)
{
	static const struct kvm_cpuid_entry2 none;
	for (uint32_t i = 0; i < table->count; i++) {
		const struct kvm_cpuid_entry2 *entry = &table->entries[i];
		if (entry->function == function &&
		    (entry->index == index || !(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
			return entry;
	}
	return &none; /* as the CPU answers: zeroes */
}

static uint32_t value_of(const struct table *table, uint32_t function, uint32_t index, enum cpuid_register reg)
{
	const struct kvm_cpuid_entry2 *entry = find(table, function, index);
	const uint32_t values[] = {entry->eax, entry->ebx, entry->ecx, entry->edx};
	return values[reg];
}

/* ---- Packing ---- */

int cpuid_pack(const struct kvm_cpuid2 *cpuid, void **data, size_t *bytes, struct tenon_error *err)
{
	unsigned char *room = malloc((size_t)cpuid->nent * ENTRY_BYTES + 1);
	if (!room)
		return tenon_fail(err, -ENOMEM, WHAT ": no memory to pack it");
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		const uint32_t values[] = {entry->function, entry->index, entry->flags, entry->eax,
					   entry->ebx,      entry->ecx,   entry->edx};
		for (size_t j = 0; j < sizeof(values) / sizeof(values[0]); j++)
			records_put32(room + (size_t)i * ENTRY_BYTES + j * 4, values[j]);
	}
	struct records records;
	records_begin(&records, MAGIC);
	records_add(&records, TAG_ENTRIES, RECORD_REQUIRED, room, (size_t)cpuid->nent * ENTRY_BYTES);
	free(room);
	return records_finish(&records, WHAT, data, bytes, err);
}

static int unpack(const void *packed, size_t bytes, struct table *out, struct tenon_error *err)
{
	struct record found[RECORD_TAGS];
	int error = records_read(packed, bytes, MAGIC, WHAT, 1u << TAG_ENTRIES, found, err);
	if (error)
		return error;
	const struct record *record = &found[TAG_ENTRIES];
	if (!record->payload || record->bytes % ENTRY_BYTES || record->bytes / ENTRY_BYTES > ENTRIES_MAX)
		return tenon_fail(err, -EINVAL, WHAT ": entries of %u bytes: it is damaged", record->bytes);

	uint32_t count = record->bytes / ENTRY_BYTES;
	struct kvm_cpuid_entry2 *entries = calloc(count + 1, sizeof(*entries));
	if (!entries)
		return tenon_fail(err, -ENOMEM, WHAT ": no memory to unpack it");
	for (uint32_t i = 0; i < count; i++) {
		const unsigned char *from = record->payload + (size_t)i * ENTRY_BYTES;
		entries[i] = (struct kvm_cpuid_entry2){
			.function = records_get32(from),
			.index = records_get32(from + 4),
			.flags = records_get32(from + 8),
			.eax = records_get32(from + 12),
			.ebx = records_get32(from + 16),
			.ecx = records_get32(from + 20),
			.edx = records_get32(from + 24),
		};
	}
	*out = (struct table){.entries = entries, .count = count};
	return 0;
}

/* ---- What is another CPU altogether ---- */

struct vendor {
	char name[13];
};

/* Letters only: it comes from the other side and goes into a message. */
static struct vendor signature_of(uint32_t first, uint32_t second, uint32_t third)
{
	struct vendor vendor = {""};
	const uint32_t values[] = {first, second, third};
	memcpy(vendor.name, values, sizeof(values));
	for (size_t i = 0; i < sizeof(values); i++) {
		if (vendor.name[i] && (vendor.name[i] < ' ' || vendor.name[i] > '~'))
			vendor.name[i] = '?';
	}
	return vendor;
}

static struct vendor vendor_of(const struct table *table)
{
	const struct kvm_cpuid_entry2 *entry = find(table, LEAF_VENDOR, 0);
	return signature_of(entry->ebx, entry->edx, entry->ecx);
}

static struct vendor hypervisor_of(const struct table *table)
{
	const struct kvm_cpuid_entry2 *entry = find(table, LEAF_HYPERVISOR, 0);
	return signature_of(entry->ebx, entry->ecx, entry->edx);
}

static uint32_t family_of(const struct table *table)
{
	uint32_t version = find(table, LEAF_VERSION, 0)->eax;
	uint32_t family = version >> 8 & 0xf;
	return family == 0xf ? family + (version >> 20 & 0xff) : family;
}

static int compare_kind(const char *name, const struct table *here, const struct table *there, struct tenon_error *err)
{
	struct vendor vendors[] = {vendor_of(there), vendor_of(here)};
	if (memcmp(&vendors[0], &vendors[1], sizeof(vendors[0])) != 0)
		return tenon_fail(err, -ENOTSUP,
				  "%s: its guest runs on a CPU by \"%s\", and this host's is by \"%s\"; use a host "
				  "with a CPU of the same vendor",
				  name, vendors[0].name, vendors[1].name);
	if (family_of(there) != family_of(here))
		return tenon_fail(
			err, -ENOTSUP,
			"%s: its guest runs on a CPU of family %u, and this host's is of family %u; use a host "
			"with a CPU of the same family",
			name, family_of(there), family_of(here));
	struct vendor hypervisors[] = {hypervisor_of(there), hypervisor_of(here)};
	if (memcmp(&hypervisors[0], &hypervisors[1], sizeof(hypervisors[0])) != 0)
		return tenon_fail(err, -ENOTSUP,
				  "%s: its guest sees the hypervisor \"%s\", and here \"%s\"; start both sides alike",
				  name, hypervisors[0].name, hypervisors[1].name);
	return 0;
}

/* ---- Features and numbers ---- */

struct missing {
	char names[400];
	size_t used;
	unsigned count;
};

__attribute__((format(printf, 2, 3))) static void add_missing(struct missing *missing, const char *format, ...)
{
	if (missing->count++ >= NAMED_MAX)
		return;
	va_list arguments;
	size_t room = sizeof(missing->names) - missing->used;
	va_start(arguments, format);
	int length = snprintf(missing->names + missing->used, room, "%s", missing->used ? ", " : "");
	missing->used += (size_t)length < room ? (size_t)length : room - 1;
	room = sizeof(missing->names) - missing->used;
	length = vsnprintf(missing->names + missing->used, room, format, arguments);
	missing->used += (size_t)length < room ? (size_t)length : room - 1;
	va_end(arguments);
}

static void find_missing_features(const struct table *here, const struct table *there, struct missing *missing)
{
	static const char *const registers[] = {"eax", "ebx", "ecx", "edx"};
	for (size_t i = 0; i < cpuid_features_count; i++) {
		const struct cpuid_features *features = &cpuid_features[i];
		uint32_t absent = value_of(there, features->function, features->index, features->reg) &
				  ~value_of(here, features->function, features->index, features->reg) &
				  ~features->ignored;
		for (unsigned bit = 0; bit < 32; bit++) {
			if (!(absent >> bit & 1))
				continue;
			if (features->names[bit])
				add_missing(missing, "%s", features->names[bit]);
			else
				add_missing(missing, "CPUID %#x.%u %s bit %u", features->function, features->index,
					    registers[features->reg], bit);
		}
	}
}

static void find_smaller_amounts(const struct table *here, const struct table *there, struct missing *missing)
{
	for (size_t i = 0; i < cpuid_amounts_count; i++) {
		const struct cpuid_amount *amount = &cpuid_amounts[i];
		uint32_t mask = (1u << amount->width) - 1;
		uint32_t wanted = value_of(there, amount->function, amount->index, amount->reg) >> amount->shift & mask;
		uint32_t given = value_of(here, amount->function, amount->index, amount->reg) >> amount->shift & mask;
		if (given < wanted)
			add_missing(missing, "%s %u (here %u)", amount->name, wanted, given);
	}
}

/* The guest's own memory holds areas in that layout. */
static int compare_xsave_layout(const char *name, const struct table *here, const struct table *there,
				struct tenon_error *err)
{
	uint64_t components =
		value_of(there, LEAF_XSAVE, 0, CPUID_EAX) | (uint64_t)value_of(there, LEAF_XSAVE, 0, CPUID_EDX) << 32;
	for (uint32_t i = 2; i < 63; i++) {
		const struct kvm_cpuid_entry2 *left = find(there, LEAF_XSAVE, i);
		const struct kvm_cpuid_entry2 *right = find(here, LEAF_XSAVE, i);
		if (components >> i & 1 && (left->eax != right->eax || left->ebx != right->ebx))
			return tenon_fail(err, -ENOTSUP,
					  "%s: its guest keeps part %u of the extended state in %u bytes at %u, and "
					  "this host's CPU in %u at %u; use a host with a like CPU",
					  name, i, left->eax, left->ebx, right->eax, right->ebx);
	}
	return 0;
}

static int compare_tables(const char *name, const struct table *here, const struct table *there,
			  struct tenon_error *err)
{
	int error = compare_kind(name, here, there, err);
	if (error)
		return error;

	struct missing missing = {.used = 0};
	find_missing_features(here, there, &missing);
	find_smaller_amounts(here, there, &missing);
	if (missing.count > NAMED_MAX)
		return tenon_fail(err, -ENOTSUP,
				  "%s: its guest uses what this host lacks: %s and %u more; use a host that has all",
				  name, missing.names, missing.count - NAMED_MAX);
	if (missing.count)
		return tenon_fail(err, -ENOTSUP, "%s: its guest uses what this host lacks: %s; use a host that has %s",
				  name, missing.names, missing.count == 1 ? "it" : "all");
	return compare_xsave_layout(name, here, there, err);
}

int cpuid_compare(const char *name, const struct kvm_cpuid2 *here, const void *packed, size_t bytes,
		  struct tenon_error *err)
{
	struct table own = {.entries = here->entries, .count = here->nent};
	struct table other;
	int error = unpack(packed, bytes, &other, err);
	if (error)
		return error;
	error = compare_tables(name, &own, &other, err);
	free((void *)other.entries);
	return error;
}

// SPDX-License-Identifier: MIT
/*
 * A vCPU's state as bytes, and back. The form is records.h's, magic "TVCS"; the tags and their payloads:
 *
 *    1  TSC frequency      u32 kHz, 0: not known                              required
 *    2  TSC offset         u64, guest's TSC less the (scaled) host's          optional; left out where KVM does not say
 *    3  MP state           struct kvm_mp_state                                required
 *    4  events             struct kvm_vcpu_events                             required
 *    5  registers          struct kvm_regs                                    required
 *    6  special registers  struct kvm_sregs                                   required
 *    7  debug registers    struct kvm_debugregs                               required
 *    8  XCRs               struct kvm_xcrs                                    required; left out where KVM has none
 *    9  LAPIC              struct kvm_lapic_state                             required
 *   10  xsave              4096 bytes or more, as KVM_GET_XSAVE2 gives them   required
 *   11  MSRs               n times u32 index, u64 value                       required
 *   12  nested state       struct kvm_nested_state and what follows it        required; left out where KVM has none
 *   13  TSC and kvmclock   u64 ns of kvmclock, u64 TSC at the same moment     optional; left out where record 2 is
 *
 * "Required" is the flag of records.h; a state without records 1, 3-7 and 9-11 is refused as well. MSRs come in any order, each
 * index once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "records.h"
#include "vcpu_private.h"
#include "vcpu_state.h"

#define MAGIC "TVCS"
#define WHAT  "vCPU state"

enum {
	TAG_TSC_KHZ = 1,
	TAG_TSC_OFFSET,
	TAG_MP_STATE,
	TAG_EVENTS,
	TAG_REGS,
	TAG_SREGS,
	TAG_DEBUGREGS,
	TAG_XCRS,
	TAG_LAPIC,
	TAG_XSAVE,
	TAG_MSRS,
	TAG_NESTED,
	TAG_MOMENT,
	TAG_END,
};

#define KNOWN_TAGS ((1u << TAG_END) - 2)

#define MSR_BYTES        12u
#define MSRS_MAX         4096u
#define XSAVE_MAX_BYTES  (64u << 10)
#define NESTED_MAX_BYTES (64u << 10)

/* What has a place of its own in struct tenon_vcpu_state. */
static const struct part {
	uint16_t tag;
	uint16_t bytes;
	uint16_t offset;
	const char *name;
} parts[] = {
#define PART(tag, field, name)                                                                                         \
	{                                                                                                              \
		tag, sizeof(((struct tenon_vcpu_state *)0)->field), offsetof(struct tenon_vcpu_state, field), name     \
	}
	PART(TAG_TSC_KHZ, tsc_khz,
	     "TSC frequency"), /* numbers are copied as they are, like the structs: both ends are x86 */
	PART(TAG_TSC_OFFSET, tsc_offset, "TSC offset"),
	PART(TAG_MOMENT, moment, "TSC beside kvmclock"),
	PART(TAG_MP_STATE, mp_state, "MP state"),
	PART(TAG_EVENTS, events, "events"),
	PART(TAG_REGS, regs, "registers"),
	PART(TAG_SREGS, sregs, "special registers"),
	PART(TAG_DEBUGREGS, debugregs, "debug registers"),
	PART(TAG_XCRS, xcrs, "XCRs"),
	PART(TAG_LAPIC, lapic, "LAPIC"),
#undef PART
};

#define PARTS (sizeof(parts) / sizeof(parts[0]))

static bool may_be_absent(uint16_t tag)
{
	return tag == TAG_TSC_OFFSET || tag == TAG_MOMENT || tag == TAG_XCRS || tag == TAG_NESTED;
}

/* ---- Packing ---- */

static bool is_present(const struct tenon_vcpu_state *state, uint16_t tag)
{
	switch (tag) {
	case TAG_TSC_OFFSET:
		return state->has_tsc_offset;
	case TAG_MOMENT:
		return state->has_moment;
	case TAG_XCRS:
		return state->has_xcrs;
	default:
		return true;
	}
}

/* A destination that does not know it does almost as well without. */
static bool is_hint(uint16_t tag)
{
	return tag == TAG_TSC_OFFSET || tag == TAG_MOMENT;
}

static void add_msrs(struct records *records, const struct tenon_vcpu_state *state, unsigned char *room)
{
	for (uint32_t i = 0; i < state->msr_count; i++) {
		records_put32(room + (size_t)i * MSR_BYTES, vcpu_state_msrs(state)[i].index);
		records_put64(room + (size_t)i * MSR_BYTES + 4, vcpu_state_msrs(state)[i].data);
	}
	records_add(records, TAG_MSRS, RECORD_REQUIRED, room, (size_t)state->msr_count * MSR_BYTES);
}

int tenon_vcpu_state_pack(const struct tenon_vcpu_state *state, void **data, size_t *bytes, struct tenon_error *err)
{
	unsigned char *msrs = malloc((size_t)state->msr_count * MSR_BYTES + 1);
	if (!msrs)
		return tenon_fail(err, -ENOMEM, WHAT ": no memory to pack it");

	struct records records;
	records_begin(&records, MAGIC);
	for (size_t i = 0; i < PARTS; i++) {
		if (is_present(state, parts[i].tag))
			records_add(&records, parts[i].tag, is_hint(parts[i].tag) ? RECORD_OPTIONAL : RECORD_REQUIRED,
				    (const unsigned char *)state + parts[i].offset, parts[i].bytes);
	}
	records_add(&records, TAG_XSAVE, RECORD_REQUIRED, state->data, state->xsave_bytes);
	add_msrs(&records, state, msrs);
	if (state->nested_bytes)
		records_add(&records, TAG_NESTED, RECORD_REQUIRED, vcpu_state_nested(state), state->nested_bytes);
	free(msrs);
	return records_finish(&records, WHAT, data, bytes, err);
}

/* ---- Unpacking ---- */

static int check_parts(const struct record *found, struct tenon_error *err)
{
	for (size_t i = 0; i < PARTS; i++) {
		const struct record *record = &found[parts[i].tag];
		if (!record->payload && !may_be_absent(parts[i].tag))
			return tenon_fail(err, -EINVAL, WHAT ": has no %s: it is damaged", parts[i].name);
		if (record->payload && record->bytes != parts[i].bytes)
			return tenon_fail(err, -EINVAL, WHAT ": %s of %u bytes, not %u: it is damaged", parts[i].name,
					  record->bytes, parts[i].bytes);
	}
	return 0;
}

/* KVM reads as many bytes as the nested state itself says, and takes it out of nested virtualization by its format. */
static int check_nested(const struct record *nested, struct tenon_error *err)
{
	struct kvm_nested_state state;
	if (!nested->payload)
		return 0;
	if (nested->bytes < sizeof(state) || nested->bytes > NESTED_MAX_BYTES)
		return tenon_fail(err, -EINVAL, WHAT ": nested state of %u bytes: it is damaged", nested->bytes);
	memcpy(&state, nested->payload, sizeof(state));
	if (state.size != nested->bytes)
		return tenon_fail(err, -EINVAL, WHAT ": nested state of %u bytes says that it has %u: it is damaged",
				  nested->bytes, state.size);
	if (state.format != KVM_STATE_NESTED_FORMAT_VMX && state.format != KVM_STATE_NESTED_FORMAT_SVM)
		return tenon_fail(err, -EINVAL, WHAT ": nested state of format %u, which is neither VMX's nor SVM's",
				  state.format);
	return 0;
}

static int check_sizes(const struct record *found, struct tenon_error *err)
{
	const struct record *xsave = &found[TAG_XSAVE];
	if (!xsave->payload || xsave->bytes < VCPU_XSAVE_BYTES || xsave->bytes > XSAVE_MAX_BYTES)
		return tenon_fail(err, -EINVAL, WHAT ": xsave area of %u bytes: it is damaged", xsave->bytes);
	const struct record *msrs = &found[TAG_MSRS];
	if (!msrs->payload || msrs->bytes % MSR_BYTES || msrs->bytes / MSR_BYTES > MSRS_MAX)
		return tenon_fail(err, -EINVAL, WHAT ": MSRs of %u bytes: it is damaged", msrs->bytes);
	return check_nested(&found[TAG_NESTED], err);
}

static int unpack_msrs(struct tenon_vcpu_state *state, const unsigned char *from, struct tenon_error *err)
{
	struct kvm_msr_entry *msrs = vcpu_state_msrs(state);
	for (uint32_t i = 0; i < state->msr_count; i++, from += MSR_BYTES)
		msrs[i] = (struct kvm_msr_entry){.index = records_get32(from), .data = records_get64(from + 4)};
	msr_state_sort(msrs, state->msr_count);
	for (uint32_t i = 0; i < state->msr_count; i++) {
		if (!msr_state_belongs(msrs[i].index))
			return tenon_fail(err, -EINVAL, WHAT ": holds MSR %#x, which no state has", msrs[i].index);
		if (i && msrs[i].index == msrs[i - 1].index)
			return tenon_fail(err, -EINVAL, WHAT ": holds MSR %#x twice: it is damaged", msrs[i].index);
	}
	return 0;
}

int tenon_vcpu_state_unpack(const void *data, size_t bytes, struct tenon_vcpu_state **out, struct tenon_error *err)
{
	struct record found[RECORD_TAGS];
	int error = records_read(data, bytes, MAGIC, WHAT, KNOWN_TAGS, found, err);
	if (!error)
		error = check_parts(found, err);
	if (!error)
		error = check_sizes(found, err);
	if (error)
		return error;

	uint32_t xsave_bytes = found[TAG_XSAVE].bytes;
	uint32_t nested_bytes = found[TAG_NESTED].payload ? found[TAG_NESTED].bytes : 0;
	struct tenon_vcpu_state *state =
		vcpu_state_allocate(xsave_bytes, found[TAG_MSRS].bytes / MSR_BYTES, nested_bytes);
	if (!state)
		return tenon_fail(err, -ENOMEM, WHAT ": no memory to unpack it");
	for (size_t i = 0; i < PARTS; i++) {
		const struct record *record = &found[parts[i].tag];
		if (record->payload)
			memcpy((unsigned char *)state + parts[i].offset, record->payload, record->bytes);
	}
	state->has_tsc_offset = found[TAG_TSC_OFFSET].payload;
	state->has_moment = found[TAG_MOMENT].payload;
	state->has_xcrs = found[TAG_XCRS].payload;
	memcpy(state->data, found[TAG_XSAVE].payload, xsave_bytes);
	if (nested_bytes)
		memcpy(vcpu_state_nested(state), found[TAG_NESTED].payload, nested_bytes);
	error = unpack_msrs(state, found[TAG_MSRS].payload, err);
	if (error) {
		free(state);
		return error;
	}
	*out = state;
	return 0;
}

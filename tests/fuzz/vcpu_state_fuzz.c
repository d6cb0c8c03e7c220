// SPDX-License-Identifier: MIT
/*
 * The bytes that another host sends for a vCPU, its CPUID and the VM, which tell themselves apart by their magic: each is refused in
 * one line, or understood; a vCPU's state that is understood packs, and unpacks to the same again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon-kvm/vcpu.h>

#include "cpuid_compare.h"
#include "vcpu_state.h"
#include "vm_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static void check_result(int result, const struct tenon_error *error)
{
	require(result == 0 || result == -EINVAL || result == -ENOTSUP, "an unexpected error");
	if (result)
		require(error->code == result && error->message[0] && !strchr(error->message, '\n'), "not one line");
}

/* Reads all of a state, as the restoring of it would. */
static void read_all(const struct tenon_vcpu_state *state)
{
	const unsigned char *bytes = (const unsigned char *)state;
	const unsigned char *end = (const unsigned char *)vcpu_state_nested(state) + state->nested_bytes;
	volatile unsigned char sum = 0;
	while (bytes < end)
		sum = (unsigned char)(sum + *bytes++);
	if (state->nested_bytes)
		require(vcpu_state_nested(state)->size == state->nested_bytes,
			"KVM would read beyond the nested state");
	for (uint32_t i = 1; i < state->msr_count; i++)
		require(vcpu_state_msrs(state)[i].index != vcpu_state_msrs(state)[i - 1].index, "an MSR twice");
}

static void fuzz_state(const uint8_t *data, size_t size)
{
	struct tenon_error error = {0};
	struct tenon_vcpu_state *state = NULL, *again = NULL;
	int result = tenon_vcpu_state_unpack(data, size, &state, &error);
	check_result(result, &error);
	if (result)
		return;
	read_all(state);

	void *packed, *packed_again;
	size_t bytes, bytes_again;
	require(tenon_vcpu_state_pack(state, &packed, &bytes, &error) == 0, "does not pack");
	require(tenon_vcpu_state_unpack(packed, bytes, &again, &error) == 0, "does not unpack what it packed");
	require(tenon_vcpu_state_pack(again, &packed_again, &bytes_again, &error) == 0, "does not pack again");
	require(bytes == bytes_again && memcmp(packed, packed_again, bytes) == 0, "packs to something else");
	free(packed);
	free(packed_again);
	tenon_vcpu_state_free(state);
	tenon_vcpu_state_free(again);
}

static void fuzz_cpuid(const uint8_t *data, size_t size)
{
	struct tenon_error error = {0};
	struct kvm_cpuid2 *here = calloc(1, sizeof(*here) + 2 * sizeof(here->entries[0]));
	require(here, "out of memory");
	here->nent = 2;
	here->entries[0] = (struct kvm_cpuid_entry2){.function = 0, .eax = 1};
	here->entries[1] = (struct kvm_cpuid_entry2){.function = 1, .eax = 0x600, .edx = 0x1f};
	check_result(cpuid_compare("vCPU 0", here, data, size, &error), &error);
	free(here);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tenon_error error = {0};
	struct vm_state state;
	fuzz_state(data, size);
	fuzz_cpuid(data, size);
	check_result(vm_state_parse(data, size, &state, &error), &error);
	return 0;
}

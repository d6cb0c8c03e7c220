// SPDX-License-Identifier: MIT
/* One line that says why KVM cannot run a vCPU any further, for the log and for bug reports. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernel_calls.h"
#include "vcpu_private.h"

struct line {
	char *text;
	size_t capacity;
	size_t used;
};

static void advance(struct line *line, int length)
{
	if (length > 0)
		line->used += (size_t)length;
	if (line->used >= line->capacity)
		line->used = line->capacity - 1;
}

#define APPEND(line, ...)                                                                                              \
	advance(line, snprintf((line)->text + (line)->used, (line)->capacity - (line)->used, __VA_ARGS__))

static void append_emulation_failure(struct line *line, const struct kvm_run *run)
{
	APPEND(line, "KVM cannot emulate an instruction");
	if (run->emulation_failure.ndata < 3 ||
	    !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		return;
	unsigned count = run->emulation_failure.insn_size;
	if (count > sizeof(run->emulation_failure.insn_bytes))
		count = sizeof(run->emulation_failure.insn_bytes);
	APPEND(line, " (");
	for (unsigned i = 0; i < count; i++)
		APPEND(line, "%s%02x", i ? " " : "", run->emulation_failure.insn_bytes[i]);
	APPEND(line, ")");
}

static void append_internal_error(struct line *line, const struct kvm_run *run)
{
	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
		append_emulation_failure(line, run);
		return;
	}
	APPEND(line, "KVM internal error, suberror %u", run->internal.suberror);
	unsigned count = run->internal.ndata;
	if (count > 4) /* more would push the registers off the line */
		count = 4;
	for (unsigned i = 0; i < count; i++)
		APPEND(line, "%s%#" PRIx64, i ? " " : ", data ", (uint64_t)run->internal.data[i]);
}

static void append_cause(struct line *line, const struct kvm_run *run, int result)
{
	if (result < 0) {
		APPEND(line, "KVM_RUN: %s", strerror(-result));
		if (result == -EFAULT)
			APPEND(line, ", the guest touched memory that the host cannot provide");
		return;
	}
	switch (run->exit_reason) {
	case KVM_EXIT_FAIL_ENTRY:
		APPEND(line, "the CPU refused to enter the guest, hardware reason %#" PRIx64,
		       (uint64_t)run->fail_entry.hardware_entry_failure_reason);
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		append_internal_error(line, run);
		return;
	case KVM_EXIT_UNKNOWN:
		APPEND(line, "KVM does not know hardware exit %#" PRIx64, (uint64_t)run->hw.hardware_exit_reason);
		return;
	case KVM_EXIT_SYSTEM_EVENT:
		APPEND(line, "the guest crashed or ended by system event %u", run->system_event.type);
		return;
	default:
		APPEND(line, "KVM left the guest for reason %u, which is not handled", run->exit_reason);
	}
}

static void append_registers(struct line *line, const struct tenon_vcpu *vcpu)
{
	struct kvm_regs regs;
	if (kcall_ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0)
		APPEND(line, "; rip %#" PRIx64 " rsp %#" PRIx64 " rflags %#" PRIx64, (uint64_t)regs.rip,
		       (uint64_t)regs.rsp, (uint64_t)regs.rflags);
	struct kvm_sregs sregs;
	if (kcall_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0)
		APPEND(line,
		       " cs %#x base %#" PRIx64 " cr0 %#" PRIx64 " cr3 %#" PRIx64 " cr4 %#" PRIx64 " efer %#" PRIx64,
		       sregs.cs.selector, (uint64_t)sregs.cs.base, (uint64_t)sregs.cr0, (uint64_t)sregs.cr3,
		       (uint64_t)sregs.cr4, (uint64_t)sregs.efer);
}

void vcpu_describe_failure(struct tenon_vcpu *vcpu, int result, char *text, size_t capacity)
{
	struct line line = {.text = text, .capacity = capacity};
	APPEND(&line, "vCPU %u: ", vcpu->index);
	append_cause(&line, vcpu->run, result);
	append_registers(&line, vcpu);
}

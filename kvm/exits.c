// SPDX-License-Identifier: MIT
/* Answers the exits of KVM_RUN: port and memory accesses by the VMM's handlers, the others by saying how to go on. */
#include <string.h>

#include "vcpu_private.h"

static void answer_port(struct tenon_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	const struct tenon_vcpu_handlers *handlers = &vcpu->handlers;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	unsigned size_bytes = run->io.size;

	if (run->io.direction == KVM_EXIT_IO_IN) {
		vcpu_count(&vcpu->counters.port_reads);
		memset(data, 0xff, (size_t)size_bytes * run->io.count);
		for (uint32_t i = 0; i < run->io.count && handlers->port_read; i++)
			handlers->port_read(vcpu->context, run->io.port, data + (size_t)i * size_bytes, size_bytes);
		return;
	}
	vcpu_count(&vcpu->counters.port_writes);
	for (uint32_t i = 0; i < run->io.count && handlers->port_write; i++)
		handlers->port_write(vcpu->context, run->io.port, data + (size_t)i * size_bytes, size_bytes);
}

/* The largest access that fits at offset; unaligned ones of an ordinary size stay whole. */
static unsigned piece_bytes(uint64_t gpa, unsigned offset, unsigned length)
{
	unsigned left = length - offset;
	if ((left & (left - 1)) == 0 && offset == 0)
		return left;
	unsigned piece = 4;
	while (piece > left || (gpa + offset) % piece)
		piece /= 2;
	return piece;
}

static void answer_memory(struct tenon_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	const struct tenon_vcpu_handlers *handlers = &vcpu->handlers;
	uint64_t gpa = run->mmio.phys_addr;
	uint8_t *data = run->mmio.data;
	unsigned length = run->mmio.len;

	if (length > sizeof(run->mmio.data))
		length = sizeof(run->mmio.data);
	vcpu_count(run->mmio.is_write ? &vcpu->counters.memory_writes : &vcpu->counters.memory_reads);
	if (!run->mmio.is_write)
		memset(data, 0xff, length);

	/* KVM splits an access that crosses a page there: the parts may have 3, 5, 6 or 7 bytes. */
	for (unsigned offset = 0, piece; offset < length; offset += piece) {
		piece = piece_bytes(gpa, offset, length);
		if (run->mmio.is_write && handlers->memory_write)
			handlers->memory_write(vcpu->context, gpa + offset, data + offset, piece);
		else if (!run->mmio.is_write && handlers->memory_read)
			handlers->memory_read(vcpu->context, gpa + offset, data + offset, piece);
	}
}

static enum vcpu_next stop(enum tenon_vcpu_stop *why, enum tenon_vcpu_stop reason)
{
	*why = reason;
	return VCPU_NEXT_STOP;
}

static enum vcpu_next answer_system_event(struct tenon_vcpu *vcpu, enum tenon_vcpu_stop *why)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		return stop(why, TENON_VCPU_STOP_SYSTEM_OFF);
	case KVM_SYSTEM_EVENT_RESET:
		return stop(why, TENON_VCPU_STOP_SYSTEM_RESET);
	default:
		return stop(why, TENON_VCPU_STOP_FAILED);
	}
}

enum vcpu_next vcpu_answer_exit(struct tenon_vcpu *vcpu, enum tenon_vcpu_stop *why)
{
	struct vcpu_counters *counters = &vcpu->counters;

	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		answer_port(vcpu);
		return VCPU_NEXT_COMPLETE;
	case KVM_EXIT_MMIO:
		answer_memory(vcpu);
		return VCPU_NEXT_COMPLETE;
	case KVM_EXIT_INTR:
		vcpu_count(&counters->kicks);
		return VCPU_NEXT_RUN;
	case KVM_EXIT_HLT:
		vcpu_count(&counters->halts);
		return VCPU_NEXT_RUN;
	case KVM_EXIT_DIRTY_RING_FULL:
		vcpu_count(&counters->dirty_ring_full);
		return VCPU_NEXT_RING;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		vcpu_count(&counters->other);
		return VCPU_NEXT_RUN;
	case KVM_EXIT_SHUTDOWN:
		vcpu_count(&counters->other);
		return stop(why, TENON_VCPU_STOP_SHUTDOWN);
	case KVM_EXIT_SYSTEM_EVENT:
		vcpu_count(&counters->other);
		return answer_system_event(vcpu, why);
	default:
		vcpu_count(&counters->other);
		return stop(why, TENON_VCPU_STOP_FAILED);
	}
}

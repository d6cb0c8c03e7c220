// SPDX-License-Identifier: MIT
/*
 * The fake KVM's vCPUs: registers, and a KVM_RUN that plays a script. It looks at immediate_exit once, at its start and after
 * completing an access; from then on only a signal gets it out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "kernel_calls.h"
#include "kvm_model.h"

int model_create_vcpu(unsigned index)
{
	if (index >= MODEL_VCPUS)
		return -EINVAL;
	struct model_vcpu *vcpu = &model.vcpus[index];
	if (vcpu->exists)
		return -EEXIST;
	int fd = model_open(MODEL_VCPU, index);
	if (fd < 0)
		return fd;
	/* A script may be there already. */
	vcpu->exists = true;
	vcpu->tsc_khz = model.tsc_khz;
	vcpu->tsc_offset = -model.host_tsc;
	vcpu->regs.rip = 0xfff0;
	vcpu->mp_state.mp_state = index == 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
	return fd;
}

int model_map(unsigned index, size_t size_bytes, uint64_t offset, void **out)
{
	struct model_vcpu *vcpu = &model.vcpus[index];
	bool ring = offset == KVM_DIRTY_LOG_PAGE_OFFSET * 4096ull;
	if ((ring && (model.ring_bytes == 0 || size_bytes != model.ring_bytes)) ||
	    (!ring && (offset || size_bytes != MODEL_RUN_BYTES)))
		return -EINVAL;
	void *memory = aligned_alloc(4096, (size_bytes + 4095) / 4096 * 4096);
	cr_assert_not_null(memory);
	memset(memory, 0, size_bytes);
	for (unsigned i = 0; i < MODEL_MAPPINGS; i++) {
		if (!model.mappings[i]) {
			model.mappings[i] = memory;
			break;
		}
	}
	if (ring)
		vcpu->ring = memory;
	else
		vcpu->run = memory;
	*out = memory;
	return 0;
}

/* ---- KVM_RUN ---- */

static int present_exit(struct model_vcpu *vcpu, const struct fakekvm_exit *exit)
{
	struct kvm_run *run = vcpu->run;
	if (exit->error)
		return -exit->error;
	run->exit_reason = exit->reason;
	switch (exit->reason) {
	case KVM_EXIT_IO:
		run->io.direction = exit->io.in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
		run->io.size = exit->io.size_bytes;
		run->io.port = exit->io.port;
		run->io.count = exit->io.count;
		run->io.data_offset = MODEL_PORT_DATA;
		memcpy((uint8_t *)run + MODEL_PORT_DATA, exit->io.data, sizeof(exit->io.data));
		vcpu->completing = true;
		break;
	case KVM_EXIT_MMIO:
		run->mmio.phys_addr = exit->mmio.gpa;
		run->mmio.len = exit->mmio.length;
		run->mmio.is_write = exit->mmio.write;
		memcpy(run->mmio.data, exit->mmio.data, sizeof(run->mmio.data));
		vcpu->completing = true;
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		run->system_event.type = (uint32_t)exit->detail;
		break;
	case KVM_EXIT_FAIL_ENTRY:
		run->fail_entry.hardware_entry_failure_reason = exit->detail;
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		run->internal.suberror = (uint32_t)exit->detail;
		run->internal.ndata = 2;
		run->internal.data[0] = 0xaa;
		run->internal.data[1] = 0xbb;
		if (exit->instruction) {
			run->emulation_failure.ndata = 4;
			run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
			run->emulation_failure.insn_size = 15;
			memcpy(run->emulation_failure.insn_bytes, exit->instruction, 15);
		}
		break;
	default:
		break;
	}
	return 0;
}

static void complete_access(struct model_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	vcpu->completing = false;
	vcpu->completed++;
	if (run->exit_reason == KVM_EXIT_IO)
		memcpy(vcpu->completed_data, (const uint8_t *)run + MODEL_PORT_DATA, sizeof(vcpu->completed_data));
	else
		memcpy(vcpu->completed_data, run->mmio.data, sizeof(run->mmio.data));
}

static bool ring_is_full(const struct model_vcpu *vcpu)
{
	return vcpu->ring && vcpu->ring_dirty - vcpu->ring_reset >= model.ring_bytes / sizeof(struct kvm_dirty_gfn);
}

/* An exit of the script, or 1 when there is none. */
static int next_exit(struct model_vcpu *vcpu)
{
	if (ring_is_full(vcpu)) {
		vcpu->run->exit_reason = KVM_EXIT_DIRTY_RING_FULL;
		return 0;
	}
	if (vcpu->script_next == vcpu->script_end)
		return 1;
	return present_exit(vcpu, &vcpu->script[vcpu->script_next++]);
}

static int run_locked(struct model_vcpu *vcpu)
{
	if (vcpu->completing) {
		complete_access(vcpu);
		/* The second part of an access that crosses a page comes at once, whatever immediate_exit says. */
		const struct fakekvm_exit *next = &vcpu->script[vcpu->script_next];
		if (vcpu->script_next < vcpu->script_end && next->reason == KVM_EXIT_MMIO && next->detail)
			return next_exit(vcpu);
	}
	if (__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_SEQ_CST))
		return -EINTR;

	vcpu->inside = kcall_thread_id();
	vcpu->interrupted = false;
	int result = next_exit(vcpu);
	pthread_cond_broadcast(&model.changed);
	while (result == 1) {
		pthread_cond_wait(&model.changed, &model.lock);
		result = vcpu->interrupted ? -EINTR : next_exit(vcpu);
	}
	if (result == -EINTR)
		vcpu->run->exit_reason = KVM_EXIT_INTR;
	vcpu->inside = 0;
	return result;
}

void fakekvm_script(unsigned index, const struct fakekvm_exit *exits, unsigned count)
{
	pthread_mutex_lock(&model.lock);
	struct model_vcpu *vcpu = &model.vcpus[index];
	cr_assert_leq(vcpu->script_end + count, MODEL_SCRIPT);
	for (unsigned i = 0; i < count; i++)
		vcpu->script[vcpu->script_end + i] = exits[i];
	vcpu->script_end += count;
	pthread_cond_broadcast(&model.changed);
	pthread_mutex_unlock(&model.lock);
}

unsigned fakekvm_completed(unsigned index, uint8_t data[64])
{
	pthread_mutex_lock(&model.lock);
	unsigned completed = model.vcpus[index].completed;
	if (data)
		memcpy(data, model.vcpus[index].completed_data, 64);
	pthread_mutex_unlock(&model.lock);
	return completed;
}

static bool idles_in_guest(const struct model_vcpu *vcpu)
{
	return vcpu->inside && !vcpu->interrupted && vcpu->script_next == vcpu->script_end;
}

void fakekvm_wait_until_in_guest(unsigned index)
{
	pthread_mutex_lock(&model.lock);
	while (!idles_in_guest(&model.vcpus[index]))
		pthread_cond_wait(&model.changed, &model.lock);
	pthread_mutex_unlock(&model.lock);
}

bool fakekvm_in_guest(unsigned index)
{
	pthread_mutex_lock(&model.lock);
	bool inside = model.vcpus[index].inside != 0;
	pthread_mutex_unlock(&model.lock);
	return inside;
}

/* ---- Registers ---- */

static struct model_msr *find_msr(uint32_t index)
{
	for (unsigned i = 0; i < model.msr_count; i++) {
		if (model.msrs[i].index == index)
			return &model.msrs[i];
	}
	return NULL;
}

int model_get_msr_list(struct kvm_msr_list *list)
{
	unsigned count = 0;
	for (unsigned i = 0; i < model.msr_count; i++)
		count += model.msrs[i].listed;
	unsigned capacity = list->nmsrs;
	list->nmsrs = count;
	if (capacity < count)
		return -E2BIG;
	count = 0;
	for (unsigned i = 0; i < model.msr_count; i++) {
		if (model.msrs[i].listed)
			list->indices[count++] = model.msrs[i].index;
	}
	return 0;
}

static uint64_t read_msr(const struct model_vcpu *vcpu, const struct model_msr *msr)
{
	return msr->index == MODEL_MSR_TSC ? model.host_tsc + vcpu->tsc_offset : vcpu->msrs[msr - model.msrs];
}

static void write_msr(struct model_vcpu *vcpu, const struct model_msr *msr, uint64_t value)
{
	if (msr->index == MODEL_MSR_TSC)
		vcpu->tsc_offset = value - model.host_tsc;
	else
		vcpu->msrs[msr - model.msrs] = value;
}

static int get_msrs(const struct model_vcpu *vcpu, struct kvm_msrs *msrs)
{
	if (msrs->nmsrs >= 256)
		return -E2BIG;
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		const struct model_msr *msr = find_msr(msrs->entries[i].index);
		if (!msr || !msr->readable)
			return (int)i;
		msrs->entries[i].data = read_msr(vcpu, msr);
	}
	return (int)msrs->nmsrs;
}

static int set_msrs(struct model_vcpu *vcpu, const struct kvm_msrs *msrs)
{
	if (msrs->nmsrs >= 256)
		return -E2BIG;
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		const struct model_msr *msr = find_msr(msrs->entries[i].index);
		if (!msr || !msr->writable)
			return (int)i;
		if (msr->index == 0x6e0 && msrs->entries[i].data && !vcpu->lapic.regs[MODEL_LVT_TIMER])
			continue;
		write_msr(vcpu, msr, msrs->entries[i].data);
	}
	return (int)msrs->nmsrs;
}

static int get_nested(const struct model_vcpu *vcpu, struct kvm_nested_state *state)
{
	uint32_t needed = sizeof(*state) + (vcpu->nested ? 64 : 0);
	if (state->size < needed)
		return -E2BIG;
	memset(state, 0, needed);
	state->size = needed;
	state->format = KVM_STATE_NESTED_FORMAT_VMX;
	state->hdr.vmx.vmxon_pa = vcpu->nested ? 0x1000 : UINT64_MAX;
	state->hdr.vmx.vmcs12_pa = UINT64_MAX;
	return 0;
}

static int set_nested(struct model_vcpu *vcpu, const struct kvm_nested_state *state)
{
	bool nested = state->hdr.vmx.vmxon_pa != UINT64_MAX;
	if (state->size < sizeof(*state) || state->format != KVM_STATE_NESTED_FORMAT_VMX ||
	    (!nested && state->hdr.vmx.vmcs12_pa != UINT64_MAX))
		return -EINVAL;
	/* VMXON needs CR4.VMXE. */
	if (nested && !(vcpu->sregs.cr4 & 0x2000))
		return -EINVAL;
	vcpu->nested = nested;
	return 0;
}

static int set_sregs(struct model_vcpu *vcpu, const struct kvm_sregs *sregs)
{
	if (vcpu->nested && !(sregs->cr4 & 0x2000))
		return -EINVAL;
	vcpu->sregs = *sregs;
	return 0;
}

static int get_events(const struct model_vcpu *vcpu, struct kvm_vcpu_events *events)
{
	*events = vcpu->events;
	events->flags |= model.event_flags;
	return 0;
}

static int set_events(struct model_vcpu *vcpu, const struct kvm_vcpu_events *events)
{
	uint32_t optional = KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	if (events->flags & optional & ~model.event_flags)
		return -EINVAL;
	vcpu->events = *events;
	return 0;
}

static size_t xsave_bytes(void)
{
	int size_bytes = model.capabilities[KVM_CAP_XSAVE2];
	return size_bytes > 4096 ? (size_t)size_bytes : 4096;
}

static int exchange_offset(struct model_vcpu *vcpu, unsigned long request, const struct kvm_device_attr *attribute)
{
	uint64_t *value = (uint64_t *)(uintptr_t)attribute->addr;
	if (attribute->group != KVM_VCPU_TSC_CTRL || attribute->attr != KVM_VCPU_TSC_OFFSET ||
	    !model.capabilities[KVM_CAP_VCPU_ATTRIBUTES])
		return -ENXIO;
	if (request == KVM_GET_DEVICE_ATTR)
		*value = vcpu->tsc_offset;
	else
		vcpu->tsc_offset = *value;
	return 0;
}

static int tell_paused(struct model_vcpu *vcpu)
{
	const struct model_msr *clock = find_msr(0x4b564d01);
	if (!(read_msr(vcpu, clock) & 1))
		return -EINVAL;
	vcpu->told_paused = true;
	return 0;
}

#define COPY_OUT(field)                                                                                                \
	do {                                                                                                           \
		memcpy(argument, &vcpu->field, sizeof(vcpu->field));                                                   \
		return 0;                                                                                              \
	} while (0)
#define COPY_IN(field)                                                                                                 \
	do {                                                                                                           \
		memcpy(&vcpu->field, argument, sizeof(vcpu->field));                                                   \
		return 0;                                                                                              \
	} while (0)

int model_vcpu_ioctl(unsigned index, unsigned long request, void *argument)
{
	struct model_vcpu *vcpu = &model.vcpus[index];
	switch (request) {
	case KVM_RUN:
		return run_locked(vcpu);
	case KVM_SET_CPUID2:
		return 0;
	case KVM_GET_REGS:
		COPY_OUT(regs);
	case KVM_SET_REGS:
		COPY_IN(regs);
	case KVM_GET_SREGS:
		COPY_OUT(sregs);
	case KVM_SET_SREGS:
		return set_sregs(vcpu, argument);
	case KVM_GET_DEBUGREGS:
		COPY_OUT(debugregs);
	case KVM_SET_DEBUGREGS:
		COPY_IN(debugregs);
	case KVM_GET_XCRS:
		COPY_OUT(xcrs);
	case KVM_SET_XCRS:
		COPY_IN(xcrs);
	case KVM_GET_XSAVE:
		memcpy(argument, vcpu->xsave, 4096);
		return 0;
	case KVM_GET_XSAVE2:
		memcpy(argument, vcpu->xsave, xsave_bytes());
		return 0;
	case KVM_SET_XSAVE:
		memcpy(vcpu->xsave, argument, xsave_bytes());
		return 0;
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
		return exchange_offset(vcpu, request, argument);
	case KVM_KVMCLOCK_CTRL:
		return tell_paused(vcpu);
	case KVM_GET_LAPIC:
		COPY_OUT(lapic);
	case KVM_SET_LAPIC:
		COPY_IN(lapic);
	case KVM_GET_VCPU_EVENTS:
		return get_events(vcpu, argument);
	case KVM_SET_VCPU_EVENTS:
		return set_events(vcpu, argument);
	case KVM_GET_MP_STATE:
		COPY_OUT(mp_state);
	case KVM_SET_MP_STATE:
		COPY_IN(mp_state);
	case KVM_GET_MSRS:
		return get_msrs(vcpu, argument);
	case KVM_SET_MSRS:
		return set_msrs(vcpu, argument);
	case KVM_GET_NESTED_STATE:
		return get_nested(vcpu, argument);
	case KVM_SET_NESTED_STATE:
		return set_nested(vcpu, argument);
	case KVM_GET_TSC_KHZ:
		return vcpu->tsc_khz;
	case KVM_SET_TSC_KHZ:
		vcpu->tsc_khz = (int)(uintptr_t)argument;
		return 0;
	default:
		return -ENOTTY;
	}
}

uint64_t fakekvm_msr(unsigned index, uint32_t msr)
{
	pthread_mutex_lock(&model.lock);
	const struct model_msr *found = find_msr(msr);
	cr_assert_not_null(found);
	uint64_t value = read_msr(&model.vcpus[index], found);
	pthread_mutex_unlock(&model.lock);
	return value;
}

void fakekvm_set_msr(unsigned index, uint32_t msr, uint64_t value)
{
	pthread_mutex_lock(&model.lock);
	const struct model_msr *found = find_msr(msr);
	cr_assert_not_null(found);
	write_msr(&model.vcpus[index], found, value);
	pthread_mutex_unlock(&model.lock);
}

struct kvm_regs *fakekvm_regs(unsigned index)
{
	return &model.vcpus[index].regs;
}

struct kvm_sregs *fakekvm_sregs(unsigned index)
{
	return &model.vcpus[index].sregs;
}

void fakekvm_advance_tsc(uint64_t ticks)
{
	model.host_tsc += ticks;
}

bool fakekvm_told_paused(unsigned index)
{
	return model.vcpus[index].told_paused;
}

struct kvm_vcpu_events *fakekvm_events(unsigned index)
{
	return &model.vcpus[index].events;
}

uint8_t *fakekvm_xsave(unsigned index)
{
	return model.vcpus[index].xsave;
}

void fakekvm_set_deadline_mode(unsigned index, bool on)
{
	model.vcpus[index].lapic.regs[MODEL_LVT_TIMER] = on;
}

void fakekvm_enter_nested(unsigned index)
{
	model.vcpus[index].nested = true;
	model.vcpus[index].sregs.cr4 |= 0x2000;
}

bool fakekvm_is_nested(unsigned index)
{
	return model.vcpus[index].nested;
}

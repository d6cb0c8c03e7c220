// SPDX-License-Identifier: MIT
/*
 * The VM's own state for another host: interrupt controllers and kvmclock. The form is records.h's, magic "TVMS":
 *
 *    1  PIC, first     struct kvm_pic_state       required
 *    2  PIC, second    struct kvm_pic_state       required
 *    3  IOAPIC         struct kvm_ioapic_state    required
 *    4  kvmclock       u64 ns                     required; left out where KVM does not tell it
 *    5  PIT            struct kvm_pit_state2      required; left out where the VM has none
 *
 * kvmclock goes on from where it was read, and so does the TSC (vcpu_clock.c): for the guest, the time that it was away did not
 * pass. KVM could add what has passed on the two hosts' wall clocks (KVM_CLOCK_REALTIME), but those agree only as well as somebody
 * keeps them, one ahead of the other would make all of the guest's timers expire, and a snapshot may be a year old. Its wall clock
 * is then late by the downtime, which a guest that cares corrects by NTP, as after any pause.
 *
 * Source: Documentation/virt/kvm/api.rst 4.27-4.30, 4.71, arch/x86/kvm/{ioapic,x86}.c
 */
#include <errno.h>
#include <string.h>

#include "kernel_calls.h"
#include "records.h"
#include "vcpu_private.h"
#include "vm_state.h"

#define MAGIC "TVMS"
#define WHAT  "VM state"

enum { TAG_PIC_FIRST = 1, TAG_PIC_SECOND, TAG_IOAPIC, TAG_CLOCK, TAG_PIT, TAG_END };

#define KNOWN_TAGS ((1u << TAG_END) - 2)
#define CHIPS      3u

static const struct {
	uint16_t tag;
	uint32_t id;
	uint32_t bytes;
	const char *name;
} chips[CHIPS] = {
	{TAG_PIC_FIRST, KVM_IRQCHIP_PIC_MASTER, sizeof(struct kvm_pic_state), "first PIC"},
	{TAG_PIC_SECOND, KVM_IRQCHIP_PIC_SLAVE, sizeof(struct kvm_pic_state), "second PIC"},
	{TAG_IOAPIC, KVM_IRQCHIP_IOAPIC, sizeof(struct kvm_ioapic_state), "IOAPIC"},
};

static int check_idle(struct tenon_vm *vm, const char *what, struct tenon_error *err)
{
	int error = 0;
	pthread_mutex_lock(&vm->lock);
	for (struct tenon_vcpu *vcpu = vm->vcpus; !error && vcpu; vcpu = vcpu->next_in_vm)
		error = vcpu_check_idle(vcpu, what, err);
	pthread_mutex_unlock(&vm->lock);
	return error;
}

static int call(struct tenon_vm *vm, unsigned long request, const char *name, void *argument, const char *object,
		struct tenon_error *err)
{
	int error = kcall_ioctl(vm->fd, request, argument);
	return error < 0 ? tenon_fail(err, error, "KVM: %s of the %s: %s", name, object, strerror(-error)) : 0;
}

#define CALL(vm, request, argument, object, err) call(vm, request, #request, argument, object, err)

/* ---- Packing ---- */

static int add_chips(struct tenon_vm *vm, struct records *records, struct tenon_error *err)
{
	for (size_t i = 0; i < CHIPS; i++) {
		struct kvm_irqchip chip = {.chip_id = chips[i].id};
		int error = CALL(vm, KVM_GET_IRQCHIP, &chip, chips[i].name, err);
		if (error)
			return error;
		records_add(records, chips[i].tag, RECORD_REQUIRED, &chip.chip, chips[i].bytes);
	}
	return 0;
}

/* This library makes no PIT; its user may have, by tenon_vm_fd. */
static int add_pit(struct tenon_vm *vm, struct records *records, struct tenon_error *err)
{
	struct kvm_pit_state2 pit = {0};
	if (vm_capability(vm, KVM_CAP_PIT_STATE2) <= 0)
		return 0;
	int error = kcall_ioctl(vm->fd, KVM_GET_PIT2, &pit);
	if (error == -ENXIO)
		return 0;
	if (error < 0)
		return tenon_fail(err, error, "KVM: KVM_GET_PIT2: %s", strerror(-error));
	records_add(records, TAG_PIT, RECORD_REQUIRED, &pit, sizeof(pit));
	return 0;
}

static int add_clock(struct tenon_vm *vm, struct records *records, struct tenon_error *err)
{
	struct kvm_clock_data clock = {0};
	unsigned char bytes[8];
	if (vm_capability(vm, KVM_CAP_ADJUST_CLOCK) <= 0)
		return 0;
	int error = CALL(vm, KVM_GET_CLOCK, &clock, "guest's clock", err);
	if (error)
		return error;
	records_put64(bytes, clock.clock);
	records_add(records, TAG_CLOCK, RECORD_REQUIRED, bytes, sizeof(bytes));
	return 0;
}

int tenon_vm_state_pack(struct tenon_vm *vm, void **data, size_t *bytes, struct tenon_error *err)
{
	int error = check_idle(vm, "cannot pack the VM's state", err);
	if (error)
		return error;
	struct records records;
	records_begin(&records, MAGIC);
	error = add_chips(vm, &records, err);
	if (!error)
		error = add_pit(vm, &records, err);
	if (!error)
		error = add_clock(vm, &records, err);
	if (error) {
		records_drop(&records);
		return error;
	}
	return records_finish(&records, WHAT, data, bytes, err);
}

/* ---- Unpacking ---- */

static int check_size(const struct record *record, size_t bytes, const char *name, struct tenon_error *err)
{
	if (record->bytes == bytes)
		return 0;
	return tenon_fail(err, -EINVAL, WHAT ": %s of %u bytes, not %zu: it is damaged", name, record->bytes, bytes);
}

/*
 * A level-triggered pin's request is its line as the devices drove it. They do so again here; one that does not any more would
 * leave its pin asserted for ever.
 */
static void drop_level_requests(struct kvm_ioapic_state *ioapic)
{
	for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
		if (ioapic->redirtbl[pin].fields.trig_mode)
			ioapic->irr &= ~(1u << pin);
	}
}

int vm_state_parse(const void *data, size_t bytes, struct vm_state *out, struct tenon_error *err)
{
	struct record found[RECORD_TAGS];
	int error = records_read(data, bytes, MAGIC, WHAT, KNOWN_TAGS, found, err);
	if (error)
		return error;

	*out = (struct vm_state){.has_pit = found[TAG_PIT].payload, .has_clock = found[TAG_CLOCK].payload};
	for (size_t i = 0; i < CHIPS; i++) {
		error = check_size(&found[chips[i].tag], chips[i].bytes, chips[i].name, err);
		if (error)
			return error;
		struct kvm_irqchip *chip = &out->chips[chips[i].id];
		chip->chip_id = chips[i].id;
		memcpy(&chip->chip, found[chips[i].tag].payload, chips[i].bytes);
	}
	drop_level_requests(&out->chips[KVM_IRQCHIP_IOAPIC].chip.ioapic);
	if (out->has_pit) {
		error = check_size(&found[TAG_PIT], sizeof(out->pit), "PIT", err);
		if (error)
			return error;
		memcpy(&out->pit, found[TAG_PIT].payload, sizeof(out->pit));
	}
	if (out->has_clock) {
		error = check_size(&found[TAG_CLOCK], sizeof(out->clock_ns), "guest's clock", err);
		if (error)
			return error;
		out->clock_ns = records_get64(found[TAG_CLOCK].payload);
	}
	return 0;
}

static int set_clock(struct tenon_vm *vm, uint64_t clock_ns, struct tenon_error *err)
{
	struct kvm_clock_data clock = {.clock = clock_ns};
	int error = vm_require(vm, KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK", "set the guest's clock", err);
	return error ? error : CALL(vm, KVM_SET_CLOCK, &clock, "guest's clock", err);
}

int tenon_vm_state_unpack(struct tenon_vm *vm, const void *data, size_t bytes, struct tenon_error *err)
{
	struct vm_state state;
	int error = check_idle(vm, "cannot unpack a VM's state", err);
	if (!error)
		error = vm_state_parse(data, bytes, &state, err);
	for (size_t i = 0; !error && i < CHIPS; i++)
		error = CALL(vm, KVM_SET_IRQCHIP, &state.chips[i], chips[i].name, err);
	if (!error && state.has_pit)
		error = CALL(vm, KVM_SET_PIT2, &state.pit, "PIT", err);
	if (!error && state.has_clock)
		error = set_clock(vm, state.clock_ns, err);
	if (error)
		return error;

	/* The vCPUs that are restored next come from one VM together. */
	pthread_mutex_lock(&vm->lock);
	vm->tsc_shift_known = false;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

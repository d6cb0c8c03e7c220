// SPDX-License-Identifier: MIT
/* The fake KVM's system and VM calls: capabilities, slots, interrupt controllers, routes, eventfds, the KVM-VFIO device. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvm_model.h"

#define PAGE 4096u

/* ---- The host ---- */

static const struct {
	int capability, value;
} everything[] = {
	{KVM_CAP_USER_MEMORY, 1},
	{KVM_CAP_IRQCHIP, 1},
	{KVM_CAP_IRQ_ROUTING, 4096},
	{KVM_CAP_SIGNAL_MSI, 1},
	{KVM_CAP_IRQFD, 1},
	{KVM_CAP_IRQFD_RESAMPLE, 1},
	{KVM_CAP_IOEVENTFD, 1},
	{KVM_CAP_IOEVENTFD_ANY_LENGTH, 1},
	{KVM_CAP_MP_STATE, 1},
	{KVM_CAP_VCPU_EVENTS, 1},
	{KVM_CAP_IMMEDIATE_EXIT, 1},
	{KVM_CAP_MAX_VCPUS, 1024},
	{KVM_CAP_NR_MEMSLOTS, MODEL_SLOTS},
	{KVM_CAP_SET_IDENTITY_MAP_ADDR, 1},
	{KVM_CAP_SET_TSS_ADDR, 1},
	{KVM_CAP_DIRTY_LOG_RING, 65536 * 16},
	{KVM_CAP_READONLY_MEM, 1},
	{KVM_CAP_DEVICE_CTRL, 1},
	{KVM_CAP_XSAVE, 1},
	{KVM_CAP_XCRS, 1},
	{KVM_CAP_DEBUGREGS, 1},
	{KVM_CAP_NESTED_STATE, MODEL_NESTED_MAX},
	{KVM_CAP_TSC_CONTROL, 1},
	{KVM_CAP_VCPU_ATTRIBUTES, 1},
	{KVM_CAP_ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE},
	{KVM_CAP_KVMCLOCK_CTRL, 1},
	{KVM_CAP_PIT_STATE2, 1},
	{KVM_CAP_EXCEPTION_PAYLOAD, 1},
	{KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1},
};

static void add_msr(uint32_t index, bool listed, bool readable, bool writable)
{
	model.msrs[model.msr_count++] =
		(struct model_msr){.index = index, .listed = listed, .readable = readable, .writable = writable};
}

void fakekvm_reset(void)
{
	pthread_mutex_lock(&model.lock);
	model_forget_vm();
	memset(model.fds, 0, sizeof(model.fds));
	memset(model.capabilities, 0, sizeof(model.capabilities));
	for (size_t i = 0; i < sizeof(everything) / sizeof(everything[0]); i++)
		model.capabilities[everything[i].capability] = everything[i].value;
	model.api_version = KVM_API_VERSION;
	model.tsc_khz = 2000000;
	model.host_tsc = 1ull << 40;
	model.fail_at = 0;
	model.fail_name = NULL;
	model.failed = NULL;
	model.call_count = 0;
	model.msr_count = 0;
	/* A deadline timer listed before the TSC, as KVM's list has no useful order. */
	static const uint32_t usual[] = {0x6e0, 0x4b564d01, 0x10, 0x3b, 0x3a, 0x174, 0xc0000081, 0xc0000082};
	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
		add_msr(usual[i], true, true, true);
	add_msr(0x2ff, false, true, true);
	pthread_mutex_unlock(&model.lock);
}

void fakekvm_set_capability(int capability, int value)
{
	pthread_mutex_lock(&model.lock);
	model.capabilities[capability] = value;
	pthread_mutex_unlock(&model.lock);
}

void fakekvm_set_api_version(int version)
{
	model.api_version = version;
}

void fakekvm_set_tsc_khz(int khz)
{
	pthread_mutex_lock(&model.lock);
	model.tsc_khz = khz;
	for (unsigned i = 0; i < MODEL_VCPUS; i++)
		model.vcpus[i].tsc_khz = khz;
	pthread_mutex_unlock(&model.lock);
}

void fakekvm_add_msr(uint32_t index, bool listed, bool writable)
{
	pthread_mutex_lock(&model.lock);
	add_msr(index, listed, true, writable);
	pthread_mutex_unlock(&model.lock);
}

void fakekvm_add_unreadable_msr(uint32_t index)
{
	pthread_mutex_lock(&model.lock);
	add_msr(index, true, false, true);
	pthread_mutex_unlock(&model.lock);
}

static bool vm_exists(void)
{
	for (unsigned i = 0; i < MODEL_FDS; i++) {
		if (model.fds[i].kind == MODEL_VM)
			return true;
	}
	return false;
}

int model_system_ioctl(unsigned long request, void *argument)
{
	uintptr_t value = (uintptr_t)argument;
	switch (request) {
	case KVM_GET_API_VERSION:
		return model.api_version;
	case KVM_CHECK_EXTENSION:
		return value < 512 ? model.capabilities[value] : 0;
	case KVM_CREATE_VM:
		return vm_exists() ? -EBUSY : model_open(MODEL_VM, 0);
	case KVM_GET_VCPU_MMAP_SIZE:
		return (int)MODEL_RUN_BYTES;
	case KVM_GET_MSR_INDEX_LIST:
		return model_get_msr_list(argument);
	default:
		return -ENOTTY;
	}
}

void model_forget_vm(void)
{
	for (unsigned i = 0; i < MODEL_SLOTS; i++)
		free(model.slots[i].dirty);
	memset(model.slots, 0, sizeof(model.slots));
	memset(model.irqfds, 0, sizeof(model.irqfds));
	memset(model.ioeventfds, 0, sizeof(model.ioeventfds));
	memset(model.vfio_files, 0, sizeof(model.vfio_files));
	memset(model.lines, 0, sizeof(model.lines));
	memset(model.chips, 0, sizeof(model.chips));
	memset(model.vcpus, 0, sizeof(model.vcpus));
	model.irqchip = false;
	model.clock_ns = 0;
	model.has_pit = false;
	model.event_flags = 0;
	model.vfio_device = false;
	model.ring_bytes = 0;
	model.route_count = 0;
}

/* ---- Slots ---- */

static int set_region(const struct kvm_userspace_memory_region *region)
{
	if (region->slot >= MODEL_SLOTS ||
	    (region->guest_phys_addr | region->memory_size | region->userspace_addr) % PAGE ||
	    (region->flags & ~(uint32_t)(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)))
		return -EINVAL;
	struct model_slot *slot = &model.slots[region->slot];
	if (region->memory_size == 0) {
		if (slot->region.memory_size == 0)
			return -EINVAL;
		free(slot->dirty);
		*slot = (struct model_slot){0};
		return 0;
	}
	for (unsigned i = 0; i < MODEL_SLOTS; i++) {
		const struct kvm_userspace_memory_region *other = &model.slots[i].region;
		if (i != region->slot && other->memory_size &&
		    region->guest_phys_addr < other->guest_phys_addr + other->memory_size &&
		    other->guest_phys_addr < region->guest_phys_addr + region->memory_size)
			return -EEXIST;
	}
	if (slot->region.memory_size && (slot->region.memory_size != region->memory_size ||
					 (slot->region.flags ^ region->flags) & KVM_MEM_READONLY))
		return -EINVAL;
	if (!slot->dirty)
		slot->dirty = calloc(1, (region->memory_size / PAGE + 63) / 64 * 8);
	slot->region = *region;
	return 0;
}

static struct model_slot *slot_holding(uint64_t gpa)
{
	for (unsigned i = 0; i < MODEL_SLOTS; i++) {
		const struct kvm_userspace_memory_region *region = &model.slots[i].region;
		if (gpa >= region->guest_phys_addr && gpa - region->guest_phys_addr < region->memory_size)
			return &model.slots[i];
	}
	return NULL;
}

static int get_dirty_log(const struct kvm_dirty_log *log)
{
	if (model.ring_bytes)
		return -ENXIO;
	if (log->slot >= MODEL_SLOTS)
		return -EINVAL;
	struct model_slot *slot = &model.slots[log->slot];
	if (!(slot->region.flags & KVM_MEM_LOG_DIRTY_PAGES))
		return -ENOENT;
	size_t size_bytes = (slot->region.memory_size / PAGE + 63) / 64 * 8;
	memcpy(log->dirty_bitmap, slot->dirty, size_bytes);
	memset(slot->dirty, 0, size_bytes);
	return 0;
}

static bool push_to_ring(struct model_vcpu *vcpu, uint32_t slot, uint64_t offset)
{
	uint32_t entries = (uint32_t)(model.ring_bytes / sizeof(struct kvm_dirty_gfn));
	if (vcpu->ring_dirty - vcpu->ring_reset >= entries)
		return false;
	struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->ring_dirty++ & (entries - 1)];
	entry->slot = slot;
	entry->offset = offset;
	__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_DIRTY, __ATOMIC_RELEASE);
	return true;
}

bool fakekvm_guest_writes(unsigned index, uint64_t gpa)
{
	bool room = true;
	pthread_mutex_lock(&model.lock);
	struct model_slot *slot = slot_holding(gpa);
	if (slot && slot->region.flags & KVM_MEM_LOG_DIRTY_PAGES) {
		uint64_t page = (gpa - slot->region.guest_phys_addr) / PAGE;
		if (model.ring_bytes)
			room = push_to_ring(&model.vcpus[index], (uint32_t)(slot - model.slots), page);
		else
			slot->dirty[page / 64] |= 1ull << (page % 64);
	}
	pthread_cond_broadcast(&model.changed);
	pthread_mutex_unlock(&model.lock);
	return room;
}

static int reset_rings(void)
{
	if (model.ring_bytes == 0)
		return -EINVAL;
	uint32_t entries = (uint32_t)(model.ring_bytes / sizeof(struct kvm_dirty_gfn));
	int count = 0;
	for (unsigned i = 0; i < MODEL_VCPUS; i++) {
		struct model_vcpu *vcpu = &model.vcpus[i];
		while (vcpu->ring) {
			struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->ring_reset & (entries - 1)];
			if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_RESET))
				break;
			__atomic_store_n(&entry->flags, 0, __ATOMIC_RELEASE);
			vcpu->ring_reset++;
			count++;
		}
	}
	return count;
}

bool fakekvm_slot_at(uint64_t gpa, struct kvm_userspace_memory_region *out)
{
	pthread_mutex_lock(&model.lock);
	const struct model_slot *slot = slot_holding(gpa);
	if (slot)
		*out = slot->region;
	pthread_mutex_unlock(&model.lock);
	return slot;
}

unsigned fakekvm_slot_count(void)
{
	unsigned count = 0;
	pthread_mutex_lock(&model.lock);
	for (unsigned i = 0; i < MODEL_SLOTS; i++)
		count += model.slots[i].region.memory_size != 0;
	pthread_mutex_unlock(&model.lock);
	return count;
}

/* ---- Interrupts ---- */

static int create_irqchip(void)
{
	if (model.irqchip)
		return -EEXIST;
	model.irqchip = true;
	for (uint32_t i = 0; i < 3; i++)
		model.chips[i].chip_id = i;
	for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
		model.chips[KVM_IRQCHIP_IOAPIC].chip.ioapic.redirtbl[pin].fields.mask = 1;
	return 0;
}

static int set_routing(const struct kvm_irq_routing *table)
{
	if (!model.irqchip || table->nr > 4096 || table->flags)
		return -EINVAL;
	for (uint32_t i = 0; i < table->nr; i++) {
		const struct kvm_irq_routing_entry *entry = &table->entries[i];
		if (entry->gsi >= 4096 || entry->flags ||
		    (entry->type == KVM_IRQ_ROUTING_IRQCHIP && entry->u.irqchip.pin >= KVM_IOAPIC_NUM_PINS))
			return -EINVAL;
		for (uint32_t j = 0; j < i; j++) {
			if (table->entries[j].gsi == entry->gsi)
				return -EINVAL;
		}
	}
	memcpy(model.routes, table->entries, table->nr * sizeof(model.routes[0]));
	model.route_count = table->nr;
	return 0;
}

static int set_irqfd(const struct kvm_irqfd *irqfd)
{
	int fd = (int)irqfd->fd;
	bool resample = irqfd->flags & KVM_IRQFD_FLAG_RESAMPLE;
	if (irqfd->flags & ~(uint32_t)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	if (model_at(fd)->kind != MODEL_EVENTFD ||
	    (resample && model_at((int)irqfd->resamplefd)->kind != MODEL_EVENTFD))
		return -EBADF;
	unsigned free_place = MODEL_IRQFDS;
	for (unsigned i = 0; i < MODEL_IRQFDS; i++) {
		if (model.irqfds[i].fd == 0 && free_place == MODEL_IRQFDS)
			free_place = i;
		if (model.irqfds[i].fd != fd)
			continue;
		if (!(irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN))
			return -EBUSY;
		if (model.irqfds[i].gsi == irqfd->gsi)
			model.irqfds[i].fd = 0;
	}
	if (irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN)
		return 0;
	if (free_place == MODEL_IRQFDS)
		return -ENOMEM;
	model.irqfds[free_place].fd = fd;
	model.irqfds[free_place].gsi = irqfd->gsi;
	model.irqfds[free_place].resample = resample ? (int)irqfd->resamplefd : -1;
	return 0;
}

static int set_ioeventfd(const struct kvm_ioeventfd *wanted)
{
	bool deassign = wanted->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
	uint32_t len = wanted->len;
	if ((len != 0 && len != 1 && len != 2 && len != 4 && len != 8) ||
	    (len == 0 && wanted->flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
		return -EINVAL;
	if (model_at(wanted->fd)->kind != MODEL_EVENTFD)
		return -EBADF;
	unsigned free_place = MODEL_IRQFDS;
	for (unsigned i = 0; i < MODEL_IRQFDS; i++) {
		struct kvm_ioeventfd *place = &model.ioeventfds[i];
		if (place->fd == 0 && free_place == MODEL_IRQFDS)
			free_place = i;
		bool same = place->fd != 0 && place->addr == wanted->addr && place->len == len &&
			    place->datamatch == wanted->datamatch &&
			    !((place->flags ^ wanted->flags) & ~(uint32_t)KVM_IOEVENTFD_FLAG_DEASSIGN);
		if (same && !deassign)
			return -EEXIST;
		if (same && place->fd == wanted->fd) {
			place->fd = 0;
			return 0;
		}
	}
	if (deassign)
		return -ENOENT;
	model.ioeventfds[free_place] = *wanted;
	return 0;
}

static int set_line(const struct kvm_irq_level *line)
{
	if (line->irq >= 24)
		return -EINVAL;
	model.lines[line->irq] = line->level;
	return 0;
}

static int send_message(const struct kvm_msi *message)
{
	model.message = *message;
	unsigned destination = message->address_lo >> 12 & 0xff;
	for (unsigned i = 0; i < MODEL_VCPUS; i++) {
		if (model.vcpus[i].exists && (destination == i || destination == 0xff))
			return 1;
	}
	return -EPERM;
}

bool fakekvm_route(uint32_t gsi, struct kvm_irq_routing_entry *out)
{
	bool found = false;
	pthread_mutex_lock(&model.lock);
	for (unsigned i = 0; !found && i < model.route_count; i++) {
		found = model.routes[i].gsi == gsi;
		if (found)
			*out = model.routes[i];
	}
	pthread_mutex_unlock(&model.lock);
	return found;
}

unsigned fakekvm_route_count(void)
{
	return model.route_count;
}

bool fakekvm_irqfd_attached(int fd, uint32_t gsi, int resample)
{
	for (unsigned i = 0; i < MODEL_IRQFDS; i++) {
		if (model.irqfds[i].fd == fd && model.irqfds[i].gsi == gsi && model.irqfds[i].resample == resample)
			return true;
	}
	return false;
}

unsigned fakekvm_irqfd_count(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < MODEL_IRQFDS; i++)
		count += model.irqfds[i].fd != 0;
	return count;
}

unsigned fakekvm_ioeventfd_count(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < MODEL_IRQFDS; i++)
		count += model.ioeventfds[i].fd != 0;
	return count;
}

bool fakekvm_line(uint32_t gsi)
{
	return model.lines[gsi];
}

void fakekvm_set_ioapic_register(uint64_t value)
{
	for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
		model.chips[KVM_IRQCHIP_IOAPIC].chip.ioapic.redirtbl[pin].bits = value;
}

uint64_t fakekvm_ioapic_register(unsigned pin)
{
	return model.chips[KVM_IRQCHIP_IOAPIC].chip.ioapic.redirtbl[pin].bits;
}

struct kvm_msi fakekvm_message(void)
{
	return model.message;
}

/* ---- The KVM-VFIO device ---- */

static int create_device(struct kvm_create_device *create)
{
	if (create->type != KVM_DEV_TYPE_VFIO)
		return -ENODEV;
	if (model.vfio_device)
		return -EBUSY;
	int fd = model_open(MODEL_VFIO_DEVICE, 0);
	if (fd < 0)
		return fd;
	model.vfio_device = true;
	create->fd = (uint32_t)fd;
	return 0;
}

int model_vfio_device_ioctl(unsigned long request, void *argument)
{
	const struct kvm_device_attr *attribute = argument;
	if (request != KVM_SET_DEVICE_ATTR || attribute->group != KVM_DEV_VFIO_GROUP)
		return -ENXIO;
	int32_t fd;
	memcpy(&fd, (const void *)(uintptr_t)attribute->addr, sizeof(fd));
	if (model_at(fd)->kind == MODEL_FREE)
		return -EBADF;
	if (model_at(fd)->kind != MODEL_VFIO_FILE)
		return -EINVAL;

	int *place = NULL;
	for (unsigned i = 0; i < 16; i++) {
		if (model.vfio_files[i] == fd) {
			if (attribute->attr == KVM_DEV_VFIO_GROUP_ADD)
				return -EEXIST;
			model.vfio_files[i] = 0;
			return 0;
		}
		if (model.vfio_files[i] == 0 && !place)
			place = &model.vfio_files[i];
	}
	if (attribute->attr != KVM_DEV_VFIO_GROUP_ADD)
		return -ENOENT;
	*place = fd;
	return 0;
}

unsigned fakekvm_vfio_file_count(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < 16; i++)
		count += model.vfio_files[i] != 0;
	return count;
}

struct kvm_irqchip *fakekvm_chip(uint32_t id)
{
	return &model.chips[id];
}

/* ---- Clocks ---- */

static int get_clock(struct kvm_clock_data *clock)
{
	*clock = (struct kvm_clock_data){.clock = model.clock_ns, .flags = KVM_CLOCK_TSC_STABLE};
	return 0;
}

static int set_clock(const struct kvm_clock_data *clock)
{
	if (clock->flags)
		return -EINVAL;
	model.clock_ns = clock->clock;
	return 0;
}

static int exchange_pit(unsigned long request, struct kvm_pit_state2 *pit)
{
	if (!model.has_pit)
		return -ENXIO;
	if (request == KVM_GET_PIT2)
		*pit = model.pit;
	else
		model.pit = *pit;
	return 0;
}

uint64_t fakekvm_clock(void)
{
	return model.clock_ns;
}

void fakekvm_set_clock(uint64_t ns)
{
	model.clock_ns = ns;
}

struct kvm_pit_state2 *fakekvm_add_pit(void)
{
	model.has_pit = true;
	model.pit = (struct kvm_pit_state2){0};
	return &model.pit;
}

/* ---- Calls ---- */

static int enable_capability(const struct kvm_enable_cap *enable)
{
	if (enable->cap == KVM_CAP_EXCEPTION_PAYLOAD && enable->args[0] <= 1) {
		model.event_flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
		return 0;
	}
	if (enable->cap == KVM_CAP_X86_TRIPLE_FAULT_EVENT && enable->args[0] <= 1) {
		model.event_flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
		return 0;
	}
	for (unsigned i = 0; i < MODEL_VCPUS; i++) {
		if (model.vcpus[i].exists)
			return -EINVAL;
	}
	if (enable->cap != KVM_CAP_DIRTY_LOG_RING || enable->args[0] < PAGE)
		return -EINVAL;
	model.ring_bytes = enable->args[0];
	return 0;
}

int model_vm_ioctl(unsigned long request, void *argument)
{
	switch (request) {
	case KVM_ENABLE_CAP:
		return enable_capability(argument);
	case KVM_SET_IDENTITY_MAP_ADDR:
	case KVM_SET_TSS_ADDR:
		return 0;
	case KVM_CREATE_IRQCHIP:
		return create_irqchip();
	case KVM_GET_IRQCHIP: {
		struct kvm_irqchip *chip = argument;
		*chip = model.chips[chip->chip_id];
		return 0;
	}
	case KVM_SET_IRQCHIP: {
		const struct kvm_irqchip *chip = argument;
		model.chips[chip->chip_id] = *chip;
		return 0;
	}
	case KVM_SET_GSI_ROUTING:
		return set_routing(argument);
	case KVM_SET_USER_MEMORY_REGION:
		return set_region(argument);
	case KVM_GET_DIRTY_LOG:
		return get_dirty_log(argument);
	case KVM_RESET_DIRTY_RINGS:
		return reset_rings();
	case KVM_GET_CLOCK:
		return get_clock(argument);
	case KVM_SET_CLOCK:
		return set_clock(argument);
	case KVM_GET_PIT2:
	case KVM_SET_PIT2:
		return exchange_pit(request, argument);
	case KVM_IRQ_LINE:
		return set_line(argument);
	case KVM_SIGNAL_MSI:
		return send_message(argument);
	case KVM_IRQFD:
		return set_irqfd(argument);
	case KVM_IOEVENTFD:
		return set_ioeventfd(argument);
	case KVM_CREATE_DEVICE:
		return create_device(argument);
	case KVM_CREATE_VCPU:
		return model_create_vcpu((unsigned)(uintptr_t)argument);
	default:
		return -ENOTTY;
	}
}

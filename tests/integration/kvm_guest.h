/* SPDX-License-Identifier: MIT */
/*
 * A tiny guest on the real KVM for tests: flat 32-bit protected mode (or 64-bit), 512 KiB of RAM at 0, code at GUEST_CODE, and a record of
 * what it wrote to ports. Code is written with GUEST_CODE_32 or _64 and must not depend on where it lies.
 */
#ifndef KVM_GUEST_H
#define KVM_GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <tenon-kvm/vcpu.h>
#include <tenon-kvm/vm.h>

#define GUEST_RAM_BYTES   0x80000u
#define GUEST_CODE        0x1000u
#define GUEST_GDT         0x500u
#define GUEST_IDT         0x9000u
#define GUEST_STACK       0x8000u     /* of vCPU 0; each further one 4 KiB below */
#define GUEST_PAGE_TABLES 0x70000u    /* 6 pages */
#define GUEST_DEVICE      0xd0000000u /* nothing is there: accesses exit */
#define GUEST_GATE        0x81        /* a port of one byte on which a guest can wait */
#define GUEST_RECORDS     64

/* Code as bytes guest_<name> to guest_<name>_end. */
#define GUEST_CODE_BYTES(name, mode, ...)                                                                              \
	extern const uint8_t guest_##name[], guest_##name##_end[];                                                     \
	__asm__(".pushsection .rodata\n" mode "\nguest_" #name ":\n" __VA_ARGS__ "\nguest_" #name "_end:\n"            \
		".code64\n.popsection")
#define GUEST_CODE_32(name, ...) GUEST_CODE_BYTES(name, ".code32", __VA_ARGS__)
#define GUEST_CODE_64(name, ...) GUEST_CODE_BYTES(name, ".code64", __VA_ARGS__)

struct guest_port_write {
	uint16_t port;
	unsigned size_bytes;
	uint32_t value;
};

struct guest {
	struct tenon_vm *vm;
	struct tenon_vcpu *vcpus[4];
	unsigned vcpu_count;
	uint8_t *ram;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct guest_port_write writes[GUEST_RECORDS]; /* the first ones */
	unsigned write_count;
	unsigned stop_count;
	enum tenon_vcpu_stop stop_reason;
	char stop_message[512];
	uint32_t port_value; /* what the next read of a port gives; counts up */
	uint8_t gate;        /* what the next read of GUEST_GATE gives, and the ones after it zero */
	uint8_t device[64];  /* registers at GUEST_DEVICE */
	unsigned device_sizes[16], device_accesses;
	unsigned ring_full;
};

static inline void guest_skip_without_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("no access to /dev/kvm");
}

static inline void guest_skip_without(const struct guest *guest, int capability, const char *name)
{
	if (ioctl(tenon_vm_fd(guest->vm), KVM_CHECK_EXTENSION, capability) <= 0)
		cr_skip_test("this KVM lacks %s", name);
}

static inline void guest_on_port_write(void *context, uint16_t port, const void *data, unsigned size_bytes)
{
	struct guest *guest = context;
	pthread_mutex_lock(&guest->lock);
	if (guest->write_count < GUEST_RECORDS) {
		struct guest_port_write *write = &guest->writes[guest->write_count];
		*write = (struct guest_port_write){.port = port, .size_bytes = size_bytes};
		memcpy(&write->value, data, size_bytes);
	}
	guest->write_count++;
	pthread_cond_broadcast(&guest->changed);
	pthread_mutex_unlock(&guest->lock);
}

static inline void guest_on_port_read(void *context, uint16_t port, void *data, unsigned size_bytes)
{
	struct guest *guest = context;
	pthread_mutex_lock(&guest->lock);
	if (port == GUEST_GATE) {
		memcpy(data, &guest->gate, 1);
		guest->gate = 0;
	} else {
		memcpy(data, &guest->port_value, size_bytes);
		guest->port_value++;
	}
	pthread_mutex_unlock(&guest->lock);
}

static inline void guest_note_access(struct guest *guest, unsigned size_bytes)
{
	if (guest->device_accesses < 16)
		guest->device_sizes[guest->device_accesses] = size_bytes;
	guest->device_accesses++;
	pthread_cond_broadcast(&guest->changed);
}

/* Elsewhere than in the device's 64 bytes: all ones. */
static inline void guest_on_memory_read(void *context, uint64_t gpa, void *data, unsigned size_bytes)
{
	struct guest *guest = context;
	pthread_mutex_lock(&guest->lock);
	if (gpa >= GUEST_DEVICE && gpa + size_bytes <= GUEST_DEVICE + sizeof(guest->device))
		memcpy(data, &guest->device[gpa - GUEST_DEVICE], size_bytes);
	guest_note_access(guest, size_bytes);
	pthread_mutex_unlock(&guest->lock);
}

static inline void guest_on_memory_write(void *context, uint64_t gpa, const void *data, unsigned size_bytes)
{
	struct guest *guest = context;
	pthread_mutex_lock(&guest->lock);
	if (gpa >= GUEST_DEVICE && gpa + size_bytes <= GUEST_DEVICE + sizeof(guest->device))
		memcpy(&guest->device[gpa - GUEST_DEVICE], data, size_bytes);
	guest_note_access(guest, size_bytes);
	pthread_mutex_unlock(&guest->lock);
}

static inline void guest_on_stop(void *context, unsigned index, enum tenon_vcpu_stop why, const char *message)
{
	struct guest *guest = context;
	pthread_mutex_lock(&guest->lock);
	guest->stop_count++;
	guest->stop_reason = why;
	snprintf(guest->stop_message, sizeof(guest->stop_message), "%s", message ? message : "");
	pthread_cond_broadcast(&guest->changed);
	pthread_mutex_unlock(&guest->lock);
}

static inline void guest_on_ring_full(void *context, unsigned index)
{
	struct guest *guest = context;
	pthread_mutex_lock(&guest->lock);
	guest->ring_full++;
	pthread_cond_broadcast(&guest->changed);
	pthread_mutex_unlock(&guest->lock);
}

/* Lets a guest that polls GUEST_GATE go on once. */
static inline void guest_open_gate(struct guest *guest)
{
	pthread_mutex_lock(&guest->lock);
	guest->gate = 1;
	pthread_mutex_unlock(&guest->lock);
}

/* A counter of the guest while its vCPUs run. */
static inline unsigned guest_read_count(struct guest *guest, const unsigned *counter)
{
	pthread_mutex_lock(&guest->lock);
	unsigned count = *counter;
	pthread_mutex_unlock(&guest->lock);
	return count;
}

/* Waits until *counter reaches `least`. @return false after `seconds` */
static inline bool guest_wait(struct guest *guest, const unsigned *counter, unsigned least, unsigned seconds)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	pthread_mutex_lock(&guest->lock);
	int error = 0;
	while (*counter < least && error == 0)
		error = pthread_cond_timedwait(&guest->changed, &guest->lock, &until);
	bool reached = *counter >= least;
	pthread_mutex_unlock(&guest->lock);
	return reached;
}

static inline void guest_set_flat_registers(struct guest *guest, struct tenon_vcpu *vcpu)
{
	struct tenon_error error;
	struct kvm_sregs sregs;
	cr_assert_eq(tenon_vcpu_get_sregs(vcpu, &sregs, &error), 0, "%s", error.message);
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.gdt.base = GUEST_GDT;
	sregs.gdt.limit = 23;
	sregs.idt.base = GUEST_IDT;
	sregs.idt.limit = 0xfff;
	sregs.cr0 |= 1;
	cr_assert_eq(tenon_vcpu_set_sregs(vcpu, &sregs, &error), 0, "%s", error.message);
	struct kvm_regs regs = {
		.rip = GUEST_CODE,
		.rsp = GUEST_STACK - tenon_vcpu_index(vcpu) * 0x1000,
		.rflags = 2,
	};
	cr_assert_eq(tenon_vcpu_set_regs(vcpu, &regs, &error), 0, "%s", error.message);
}

static inline void guest_add_vcpu(struct guest *guest)
{
	static const struct tenon_vcpu_handlers handlers = {
		.size = sizeof(handlers),
		.port_read = guest_on_port_read,
		.port_write = guest_on_port_write,
		.memory_read = guest_on_memory_read,
		.memory_write = guest_on_memory_write,
		.stopped = guest_on_stop,
		.dirty_ring_full = guest_on_ring_full,
	};
	struct tenon_error error;
	unsigned index = guest->vcpu_count;
	cr_assert_eq(tenon_vcpu_create(guest->vm, index, &handlers, guest, &guest->vcpus[index], &error), 0, "%s",
		     error.message);
	guest->vcpu_count++;
}

/* A guest with one vCPU at its first instruction. @param options of the VM; may be NULL */
static inline void guest_create(struct guest *guest, const struct tenon_vm_options *options, const uint8_t *code,
				const uint8_t *code_end)
{
	guest_skip_without_kvm();
	memset(guest, 0, sizeof(*guest));
	pthread_mutex_init(&guest->lock, NULL);
	pthread_cond_init(&guest->changed, NULL);

	struct tenon_error error;
	cr_assert_eq(tenon_vm_create(options, &guest->vm, &error), 0, "%s", error.message);
	guest->ram = mmap(NULL, GUEST_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(guest->ram, MAP_FAILED);
	static const uint64_t gdt[3] = {0, 0x00cf9b000000ffffull, 0x00cf93000000ffffull};
	memcpy(guest->ram + GUEST_GDT, gdt, sizeof(gdt));
	memcpy(guest->ram + GUEST_CODE, code, (size_t)(code_end - code));

	struct tenon_vm_memory memory = {.size = sizeof(memory), .size_bytes = GUEST_RAM_BYTES, .hva = guest->ram};
	cr_assert_eq(tenon_vm_memory_add(guest->vm, &memory, &error), 0, "%s", error.message);
	guest_add_vcpu(guest);
	guest_set_flat_registers(guest, guest->vcpus[0]);
}

/* All that this KVM has: without CPUID, a vCPU has not even long mode. */
static inline void guest_set_cpuid(struct guest *guest, struct tenon_vcpu *vcpu)
{
	const unsigned capacity = 256;
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + capacity * sizeof(cpuid->entries[0]));
	struct tenon_error error;
	cr_assert_not_null(cpuid);
	cpuid->nent = capacity;
	cr_assert_eq(ioctl(tenon_vm_kvm_fd(guest->vm), KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	cr_assert_eq(tenon_vcpu_set_cpuid(vcpu, cpuid, &error), 0, "%s", error.message);
	free(cpuid);
}

/*
 * From flat 32-bit to 64-bit mode with the first 4 GiB mapped as they are, which tests of interrupts need: a KVM that interprets
 * kernel code may know IRETQ but not IRET.
 */
static inline void guest_enter_long_mode(struct guest *guest)
{
	uint64_t *tables = (uint64_t *)(void *)(guest->ram + GUEST_PAGE_TABLES);
	const uint64_t present =
		0x63; /* present, writable, and already accessed and dirty, so that no walk writes them */
	tables[0] = (GUEST_PAGE_TABLES + 0x1000) | present;
	for (uint64_t i = 0; i < 4; i++)
		tables[512 + i] = (GUEST_PAGE_TABLES + 0x2000 + i * 0x1000) | present;
	for (uint64_t i = 0; i < 4 * 512; i++)
		tables[1024 + i] = (i << 21) | present | 0x80;
	static const uint64_t code_64 = 0x00af9b000000ffffull;
	memcpy(guest->ram + GUEST_GDT + 8, &code_64, sizeof(code_64));

	guest_set_cpuid(guest, guest->vcpus[0]);
	struct tenon_error error;
	struct kvm_sregs sregs;
	cr_assert_eq(tenon_vcpu_get_sregs(guest->vcpus[0], &sregs, &error), 0, "%s", error.message);
	sregs.cs.l = 1;
	sregs.cs.db = 0;
	sregs.cr3 = GUEST_PAGE_TABLES;
	sregs.cr4 |= 0x20;
	sregs.cr0 |= 0x80000000u;
	sregs.efer |= 0x500;
	cr_assert_eq(tenon_vcpu_set_sregs(guest->vcpus[0], &sregs, &error), 0, "%s", error.message);
}

/* Interrupt gate of 64-bit mode. */
static inline void guest_set_vector(struct guest *guest, unsigned vector, uint32_t handler)
{
	uint64_t gate[2] = {(handler & 0xffffu) | (8u << 16) | (0x8eull << 40) | ((uint64_t)(handler >> 16) << 48), 0};
	memcpy(guest->ram + GUEST_IDT + (size_t)vector * sizeof(gate), gate, sizeof(gate));
}

static inline void guest_start(struct guest *guest)
{
	struct tenon_error error;
	for (unsigned i = 0; i < guest->vcpu_count; i++)
		cr_assert_eq(tenon_vcpu_start(guest->vcpus[i], &error), 0, "%s", error.message);
}

static inline void guest_destroy(struct guest *guest)
{
	for (unsigned i = guest->vcpu_count; i-- > 0;)
		tenon_vcpu_destroy(guest->vcpus[i]);
	tenon_vm_destroy(guest->vm);
	munmap(guest->ram, GUEST_RAM_BYTES);
	pthread_cond_destroy(&guest->changed);
	pthread_mutex_destroy(&guest->lock);
}

static inline uint32_t guest_read32(const struct guest *guest, uint32_t gpa)
{
	return __atomic_load_n((const uint32_t *)(const void *)(guest->ram + gpa), __ATOMIC_ACQUIRE);
}

#endif

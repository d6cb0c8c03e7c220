// SPDX-License-Identifier: MIT
/*
 * The floor under a VMM's start: makes the VM that tenon makes for `--memory 256M --cpus 1` with the same KVM calls, and
 * nothing else, runs the payload's one segment and passes its bytes on to stdout. No option, no device, no error recovery.
 */
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

#define MEMORY_BYTES (256ull << 20)
#define SERIAL_PORT  0x3f8
#define EXIT_PORT    0x500
#define IDENTITY_MAP 0xfeffc000ull
#define TSS          0xfeffd000ul

/* A failing call ends the program; the benchmark reports it. */
static int call(int fd, unsigned long request, void *argument, const char *name)
{
	int result = ioctl(fd, request, argument);
	if (result < 0)
		err(1, "%s", name);
	return result;
}
#define CALL(fd, request, argument) call(fd, request, (void *)(uintptr_t)(argument), #request)

static void route_interrupts(int vm)
{
	struct {
		struct kvm_irq_routing header;
		struct kvm_irq_routing_entry entries[24];
	} routing = {.header.nr = 24};
	for (unsigned pin = 0; pin < 24; pin++)
		routing.entries[pin] = (struct kvm_irq_routing_entry){
			.gsi = pin,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin},
		};
	CALL(vm, KVM_SET_GSI_ROUTING, &routing);
	struct kvm_irqfd serial = {.fd = eventfd(0, EFD_CLOEXEC), .gsi = 4};
	CALL(vm, KVM_IRQFD, &serial);
}

static uint8_t *add_memory(int vm)
{
	int file = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (file < 0 || ftruncate(file, MEMORY_BYTES) ||
	    fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		err(1, "memory");
	uint8_t *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (memory == MAP_FAILED)
		err(1, "memory");
	struct kvm_userspace_memory_region slot = {.memory_size = MEMORY_BYTES, .userspace_addr = (uintptr_t)memory};
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
	return memory;
}

static uint64_t load(const char *path, uint8_t *memory)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || pread(file, &header, sizeof(header), 0) != sizeof(header) ||
	    pread(file, &segment, sizeof(segment), header.e_phoff) != sizeof(segment) ||
	    pread(file, memory + segment.p_paddr, segment.p_filesz, segment.p_offset) != (ssize_t)segment.p_filesz)
		err(1, "%s", path);
	return header.e_entry;
}

static void set_model(int kvm, int vcpu)
{
	struct {
		struct kvm_cpuid2 header;
		struct kvm_cpuid_entry2 entries[128];
	} cpuid = {.header.nent = 128};
	CALL(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	CALL(vcpu, KVM_SET_CPUID2, &cpuid);
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entries[1];
	} msrs = {.header.nmsrs = 1, .entries = {{.index = 0x2ff, .data = 0xc06}}}; /* MTRRdefType: on, write-back */
	CALL(vcpu, KVM_SET_MSRS, &msrs);
}

/* 32-bit protected mode without paging, flat segments: PVH's entry state. */
static void set_entry(int vcpu, uint64_t entry)
{
	struct kvm_sregs sregs;
	CALL(vcpu, KVM_GET_SREGS, &sregs);
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cs = data;
	sregs.cs.selector = 0x10;
	sregs.cs.type = 11;
	sregs.cr0 = 1;
	CALL(vcpu, KVM_SET_SREGS, &sregs);
	struct kvm_regs regs = {.rip = entry, .rflags = 2};
	CALL(vcpu, KVM_SET_REGS, &regs);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		errx(2, "usage: bare_kvm PAYLOAD");
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(1, "/dev/kvm");
	int vm = CALL(kvm, KVM_CREATE_VM, 0);
	uint64_t identity_map = IDENTITY_MAP;
	CALL(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	CALL(vm, KVM_SET_TSS_ADDR, TSS);
	CALL(vm, KVM_CREATE_IRQCHIP, 0);
	route_interrupts(vm);
	uint8_t *memory = add_memory(vm);
	int vcpu = CALL(vm, KVM_CREATE_VCPU, 0);
	struct kvm_run *run =
		mmap(NULL, CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "vCPU");
	set_model(kvm, vcpu);
	set_entry(vcpu, load(argv[1], memory));

	for (;;) {
		CALL(vcpu, KVM_RUN, 0);
		if (run->exit_reason != KVM_EXIT_IO)
			errx(1, "exit %u", run->exit_reason);
		const uint8_t *byte = (uint8_t *)run + run->io.data_offset;
		if (run->io.port == EXIT_PORT)
			return *byte;
		if (run->io.port == SERIAL_PORT && write(STDOUT_FILENO, byte, 1) != 1)
			err(1, "stdout");
	}
}

// SPDX-License-Identifier: MIT
/*
 * A virtual machine monitor in one file: boots Linux with a PCI device of the host in it, on the installed libtenon and /dev/kvm
 * alone. Its machine: one CPU, 256 MiB, a serial port that prints, PCI with the device at 00:01.0, and port 0x500, where the guest
 * leaves the exit status. There is no firmware and no ACPI: the guest is told where PCI is, and places the BARs itself.
 * Read main() first, then the host operations: they are all that libtenon asks of a VMM.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <tenon/tenon.h>

enum { PIC_PINS = 16, ROUTES = 64, SLOTS = 128 }; /* GSIs 0-15 are the PIC's pins, the next ones message routes */
enum { RAM_BYTES = 256 << 20, INITRD = 128 << 20, KERNEL = 16 << 20, COMMAND_LINE = 0x20000 };
enum { ZERO_PAGE = 0x7000, GDT = 0x500 };

static struct {
	int kvm, vm, vcpu;
	struct kvm_create_device vfio; /* the KVM-VFIO device */
	struct kvm_run *run;
	uint8_t *ram, serial[8];
	uint64_t slots[SLOTS]; /* where each memory slot begins; 0: free, or RAM, which is slot 0 */
	bool route_used[ROUTES];
	struct kvm_irq_routing routing;
	struct kvm_irq_routing_entry gsis[PIC_PINS + ROUTES]; /* the table that `routing` heads */
	struct kvm_cpuid2 cpuid;
	struct kvm_cpuid_entry2 leaves[256]; /* the table that `cpuid` heads */
	struct tenon_device *device;
	struct tenon_bar_placement bars[TENON_DEVICE_ROM + 1];
	uint32_t pci_address; /* what port 0xcf8 holds */
	int verdict, ended;   /* what the guest ended with; an eventfd */
} m = {.verdict = -1, .vfio.type = KVM_DEV_TYPE_VFIO, .routing.nr = PIC_PINS + ROUTES, .cpuid.nent = 256};

#define KVM(fd, request, argument) kvm(fd, request, #request, (const void *)(uintptr_t)(argument), err)
static int kvm(int fd, unsigned long request, const char *name, const void *argument, struct tenon_error *err)
{
	int result = ioctl(fd, request, argument);
	return result < 0 ? tenon_fail(err, -errno, "%s: %s", name, strerror(errno)) : result;
}

/* ---- Host operations. The device's lock is held; `host` is for VMMs that have more than one device. ---- */

/* KVM learns which VFIO groups or devices the VM owns; from that it concludes whether the guest's cache control matters. */
static int file_add(void *host, int fd, struct tenon_error *err)
{
	struct kvm_device_attr add = {0, KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD, (uintptr_t)&fd};
	return KVM((int)m.vfio.fd, KVM_SET_DEVICE_ATTR, &add);
}
static void file_remove(void *host, int fd)
{
	struct kvm_device_attr del = {0, KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_DEL, (uintptr_t)&fd};
	ioctl((int)m.vfio.fd, KVM_SET_DEVICE_ATTR, &del);
}

/* A piece of a BAR appears in the guest's memory, where the guest reaches the device without us. */
static int memory_map(void *host, uint64_t gpa, uint64_t size_bytes, void *hva, struct tenon_error *err)
{
	struct kvm_userspace_memory_region region = {1, 0, gpa, size_bytes, (uintptr_t)hva};
	while (region.slot < SLOTS && m.slots[region.slot])
		region.slot++;
	if (region.slot == SLOTS)
		return tenon_fail(err, -ENOSPC, "more than %d memory slots", SLOTS);
	int code = KVM(m.vm, KVM_SET_USER_MEMORY_REGION, &region);
	m.slots[region.slot] = code < 0 ? 0 : gpa;
	return code;
}
static int memory_unmap(void *host, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	struct kvm_userspace_memory_region nothing = {.slot = 1};
	while (m.slots[nothing.slot] != gpa)
		nothing.slot++;
	m.slots[nothing.slot] = 0;
	return KVM(m.vm, KVM_SET_USER_MEMORY_REGION, &nothing);
}

/* Accesses that no slot covers come out of KVM_RUN; this tells which BAR they belong to. */
static void bar_placed(void *host, const struct tenon_bar_placement *placement)
{
	m.bars[placement->bar] = *placement;
}

/* A route is a GSI: an eventfd that is attached to it sends the message to the guest's LAPIC. */
static int route_set(void *host, int *route, uint64_t address, uint32_t data, struct tenon_error *err)
{
	for (int i = 0; i < ROUTES && *route < 0; i++)
		*route = m.route_used[i] ? -1 : PIC_PINS + i;
	if (*route < 0)
		return tenon_fail(err, -ENOSPC, "more than %d message routes", ROUTES);
	m.route_used[*route - PIC_PINS] = true;
	m.gsis[*route].u.msi = (struct kvm_irq_routing_msi){(uint32_t)address, (uint32_t)(address >> 32), data, {0}};
	return 0;
}
static int route_commit(void *host, struct tenon_error *err)
{
	return KVM(m.vm, KVM_SET_GSI_ROUTING, &m.routing);
}
static void route_free(void *host, int route)
{
	m.route_used[route - PIC_PINS] = false;
}

static int irqfd_attach(void *host, int route, int eventfd, struct tenon_error *err)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd, .gsi = (uint32_t)route};
	return KVM(m.vm, KVM_IRQFD, &irqfd);
}
static void irqfd_detach(void *host, int route, int eventfd)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd, .gsi = (uint32_t)route, .flags = KVM_IRQFD_FLAG_DEASSIGN};
	ioctl(m.vm, KVM_IRQFD, &irqfd);
}

static void say(void *host, enum tenon_log_level level, const char *message)
{
	fprintf(stderr, "vmm: %s\n", message);
}

/* Without intx_attach the guest sees no INTx pin, and this machine needs no table of interrupt lines. */
static const struct tenon_host_ops host_ops = {
	.size = sizeof(host_ops),
	.file_add = file_add,
	.file_remove = file_remove,
	.memory_map = memory_map,
	.memory_unmap = memory_unmap,
	.bar_placed = bar_placed,
	.route_set = route_set,
	.route_commit = route_commit,
	.route_free = route_free,
	.irqfd_attach = irqfd_attach,
	.irqfd_detach = irqfd_detach,
	.log = say,
};

/* PCI Local Bus 3.0 section 3.2.2.3.2: port 0xcf8 takes enable, bus, device, function and register, 0xcfc is the data. */
static void pci_access(unsigned port, void *data, unsigned bytes, bool write)
{
	bool chosen = port >= 0xcfc && m.pci_address >> 8 == 0x800008; /* 00:01.0 */
	unsigned offset = (m.pci_address & 0xfc) | (port & 3);
	uint32_t value = 0;
	memcpy(&value, data, bytes);
	if (port == 0xcf8)
		value = m.pci_address = write ? value : m.pci_address;
	else if (chosen && write)
		tenon_device_config_write(m.device, offset, bytes, value);
	else if (chosen)
		value = tenon_device_config_read(m.device, offset, bytes);
	memcpy(data, &value, bytes);
}

/* As much of a 16450 as Linux needs to print: always ready, and an interrupt that says so while it is asked for. */
static void serial_access(unsigned at, uint8_t *data, bool write)
{
	if (at < 2 && m.serial[3] & 0x80) /* the divisor */
		return;
	if (!write)
		*data = at == 2 ? 1 + (m.serial[1] >> 1 & 1) : at == 5 ? 0x60 : m.serial[at];
	else if (at == 0)
		dprintf(STDOUT_FILENO, "%c", *data); /* at once, whatever ends us */
	else
		m.serial[at] = *data;
	for (unsigned level = 2; write && at < 2 && m.serial[1] & 2 && level-- > 0;)
		ioctl(m.vm, KVM_IRQ_LINE, &(struct kvm_irq_level){.irq = 4, .level = level});
}

/* A read finds all ones in data, which stay where nothing answers. */
static void guest_access(bool io, uint64_t address, uint8_t *data, unsigned bytes, bool write)
{
	if (!write)
		memset(data, 0xff, bytes);
	if (io && address >= 0xcf8 && address < 0xd00)
		pci_access((unsigned)address, data, bytes, write);
	else if (io && address >= 0x3f8 && address < 0x400)
		serial_access((unsigned)address - 0x3f8, data, write);
	else if (io && address == 0x500 && write)
		m.verdict = *data;
	for (unsigned i = 0; i <= TENON_DEVICE_ROM; i++) {
		uint64_t offset = address - m.bars[i].address;
		if (m.bars[i].enabled && m.bars[i].io == io && offset < m.bars[i].size_bytes)
			write ? tenon_device_bar_write(m.device, i, offset, data, bytes)
			      : tenon_device_bar_read(m.device, i, offset, data, bytes);
	}
}

static void *run_guest(void *unused)
{
	for (struct kvm_run *run = m.run; m.verdict < 0 && ioctl(m.vcpu, KVM_RUN, 0) == 0;) {
		uint8_t *data = (uint8_t *)run + run->io.data_offset;
		if (run->exit_reason == KVM_EXIT_MMIO)
			guest_access(false, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
		else if (run->exit_reason != KVM_EXIT_IO)
			break;
		for (unsigned i = 0; run->exit_reason == KVM_EXIT_IO && i < run->io.count; i++, data += run->io.size)
			guest_access(true, run->io.port, data, run->io.size, run->io.direction == KVM_EXIT_IO_OUT);
	}
	eventfd_write(m.ended, 1);
	return NULL;
}

/* Linux Documentation/arch/x86/boot.rst, "32-bit Boot Protocol": the kernel does the rest of its way to 64 bits itself. */
static int load_linux(int kernel, int initrd, const char *append, struct tenon_error *err)
{
	struct boot_params *zero = (struct boot_params *)(m.ram + ZERO_PAGE);
	ssize_t bytes = pread(kernel, &zero->hdr, sizeof(zero->hdr), 0x1f1);
	if (bytes < (ssize_t)sizeof(zero->hdr) || zero->hdr.header != 0x53726448)
		return tenon_fail(err, -ENOEXEC, "the kernel is no bzImage");
	bytes = pread(kernel, m.ram + KERNEL, INITRD - KERNEL, (zero->hdr.setup_sects + 1) * 512);
	zero->hdr.type_of_loader = 0xff;
	zero->hdr.ramdisk_image = INITRD;
	zero->hdr.ramdisk_size = (uint32_t)read(initrd, m.ram + INITRD, RAM_BYTES - INITRD);
	zero->hdr.cmd_line_ptr = COMMAND_LINE;
	snprintf((char *)m.ram + COMMAND_LINE, 2048, "console=ttyS0 acpi=off pci=conf1 reboot=t panic=-1 %s", append);
	zero->e820_table[0] = (struct boot_e820_entry){0, 0x9fc00, 1};
	zero->e820_table[1] = (struct boot_e820_entry){0x100000, RAM_BYTES - 0x100000, 1};
	zero->e820_entries = 2;
	return bytes > 0 && (int)zero->hdr.ramdisk_size > 0 ? 0 : tenon_fail(err, -EIO, "no kernel or initrd");
}

static int create_machine(struct tenon_error *err)
{
	/* Shared, because a private mapping is copied when it is pinned. */
	m.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region ram = {.memory_size = RAM_BYTES, .userspace_addr = (uintptr_t)m.ram};
	m.ended = eventfd(0, EFD_CLOEXEC);
	m.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if ((m.vm = KVM(m.kvm, KVM_CREATE_VM, 0)) < 0 || KVM(m.vm, KVM_SET_TSS_ADDR, 0xfffbd000) < 0 ||
	    KVM(m.vm, KVM_CREATE_IRQCHIP, 0) < 0 || KVM(m.vm, KVM_CREATE_PIT, 0) < 0 ||
	    KVM(m.vm, KVM_CREATE_DEVICE, &m.vfio) < 0 || KVM(m.vm, KVM_SET_USER_MEMORY_REGION, &ram) < 0 ||
	    (m.vcpu = KVM(m.vm, KVM_CREATE_VCPU, 0)) < 0)
		return -1;
	/* A table of one's own replaces KVM's, so the PIC's pins are in it. */
	for (uint32_t i = 0; i < PIC_PINS + ROUTES; i++)
		m.gsis[i] = (struct kvm_irq_routing_entry){.gsi = i, .type = KVM_IRQ_ROUTING_MSI};
	for (uint32_t i = 0; i < PIC_PINS; i++)
		m.gsis[i] = (struct kvm_irq_routing_entry){i, KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {i / 8, i % 8}};
	int run_bytes = KVM(m.kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	m.run = mmap(NULL, (size_t)run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu, 0);
	return m.run == MAP_FAILED ? tenon_fail(err, -errno, "kvm_run: %s", strerror(errno)) : 0;
}

static int set_up_cpu(struct tenon_error *err)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = KERNEL, .rsi = ZERO_PAGE, .rflags = 2};
	if (KVM(m.kvm, KVM_GET_SUPPORTED_CPUID, &m.cpuid) < 0 || KVM(m.vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	for (unsigned i = 0; i < m.cpuid.nent; i++) {
		/* There is a hypervisor; and the APIC id is not the host CPU's but this one's, 0. */
		m.leaves[i].ecx |= m.leaves[i].function == 1 ? 1u << 31 : 0;
		m.leaves[i].ebx &= m.leaves[i].function == 1 ? 0x00ffffff : UINT32_MAX;
		m.leaves[i].edx &= m.leaves[i].function == 0xb || m.leaves[i].function == 0x1f ? 0 : UINT32_MAX;
	}
	struct kvm_segment flat = {0, UINT32_MAX, 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
	sregs.ds = sregs.es = sregs.ss = sregs.cs = flat;
	sregs.cs.selector = 0x10;
	sregs.cs.type = 11;
	memcpy(m.ram + GDT, (uint64_t[]){0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff}, 32);
	sregs.gdt = (struct kvm_dtable){.base = GDT, .limit = 31};
	sregs.cr0 |= 1; /* protected mode */
	if (KVM(m.vcpu, KVM_SET_CPUID2, &m.cpuid) < 0 || KVM(m.vcpu, KVM_SET_SREGS, &sregs) < 0)
		return -1;
	return KVM(m.vcpu, KVM_SET_REGS, &regs);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return fprintf(stderr, "usage: vmm BZIMAGE INITRD DEVICE [COMMAND-LINE]\n"), 2;
	struct tenon_error err = {0};
	struct tenon_space *space = NULL;
	if (create_machine(&err) < 0 || set_up_cpu(&err) < 0 || tenon_space_create(NULL, &space, &err) < 0 ||
	    load_linux(open(argv[1], O_RDONLY), open(argv[2], O_RDONLY), argc > 4 ? argv[4] : "", &err) < 0)
		return fprintf(stderr, "vmm: %s\n", err.message), 1;
	/* The device joins the space, and then guest memory, which is pinned from here on. */
	struct tenon_space_region ram = {.size = sizeof(ram), .size_bytes = RAM_BYTES, .hva = m.ram};
	struct tenon_device_options options = {sizeof(options), .address = argv[3], .space = space, .ops = &host_ops};
	if (tenon_device_open(&options, &m.device, &err) < 0 || tenon_space_add(space, &ram, &err) < 0)
		return fprintf(stderr, "vmm: %s\n", err.message), 1;

	/* Beside the guest the library has work of its own, first interrupts of vectors say, and news of the device. */
	pthread_t cpu;
	pthread_create(&cpu, NULL, run_guest, NULL);
	struct pollfd fds[] = {{tenon_device_event_fd(m.device), POLLIN, 0}, {m.ended, POLLIN, 0}};
	while (poll(fds, 2, -1) > 0 && !fds[1].revents)
		if (tenon_device_next_event(m.device) != TENON_DEVICE_EVENT_NONE)
			return fprintf(stderr, "vmm: the device failed or must be given back\n"), 1;
	pthread_join(cpu, NULL);
	tenon_device_close(m.device); /* ends its DMA; only then may memory go */
	tenon_space_destroy(space);
	return m.verdict >= 0 ? m.verdict : (fprintf(stderr, "vmm: the guest died\n"), 1);
}

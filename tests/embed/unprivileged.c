// SPDX-License-Identifier: MIT
/*
 * Drives a device with no privilege, no hypervisor and an event loop of its own. It gets /dev/iommu and the VFIO device opened, as file
 * descriptors 3 and 4 (see launch.c), and plays the guest itself: its buffer is the guest's memory, its driver programs the config
 * space and the BAR that a guest would see, and interrupts come out of poll(). So works a user space driver, or an emulator of a CPU.
 *
 * The device is QEMU's `edu` (docs/specs/edu.txt): it computes factorials, copies memory by DMA, and interrupts by MSI and INTx.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <tenon/tenon.h>

#define IOMMU_FD  3
#define DEVICE_FD 4

/* The guest's addresses: any that the IOMMU allows will do. */
#define RAM_GPA     0x100000u
#define RAM_BYTES   0x10000u
#define BAR_GPA     0xc0000000u
#define MSI_ADDRESS 0xfee00000u
#define MSI_DATA    0x41u

#define EDU_LIVENESS         0x04
#define EDU_FACTORIAL        0x08
#define EDU_STATUS           0x20
#define EDU_STATUS_RAISE     0x80
#define EDU_IRQ_STATUS       0x24
#define EDU_IRQ_RAISE        0x60
#define EDU_IRQ_ACK          0x64
#define EDU_DMA_SOURCE       0x80
#define EDU_DMA_TARGET       0x88
#define EDU_DMA_COUNT        0x90
#define EDU_DMA_COMMAND      0x98
#define EDU_DMA_START        0x1
#define EDU_DMA_TO_RAM       0x2
#define EDU_DMA_RAISE        0x4
#define EDU_DMA_BUFFER       0x40000
#define EDU_IRQ_BY_FACTORIAL 0x001
#define EDU_IRQ_BY_DMA       0x100

#define AREAS   8
#define ROUTES  4
#define RAISED  5u
#define DMA_LEN 2048u

/* What the library told its host: where BARs are, and which eventfd means which interrupt. */
struct host {
	struct tenon_device *device;
	struct tenon_bar_placement bars[TENON_DEVICE_ROM + 1];
	struct {
		uint64_t gpa, size_bytes;
		uint8_t *hva;
	} areas[AREAS];
	struct {
		bool used;
		uint32_t data;
		int eventfd; /* -1: nobody listens */
	} routes[ROUTES];
	int line, end_of_interrupt; /* INTx: asserted by the one, taken back by the other; -1: off */
	uint8_t *ram;
};

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "unprivileged: %s: %s\n", what, why);
	exit(1);
}

/* ---- Host operations ---- */

static int memory_map(void *context, uint64_t gpa, uint64_t size_bytes, void *hva, struct tenon_error *err)
{
	struct host *host = context;
	for (unsigned i = 0; i < AREAS; i++) {
		if (host->areas[i].size_bytes)
			continue;
		host->areas[i].gpa = gpa;
		host->areas[i].size_bytes = size_bytes;
		host->areas[i].hva = hva;
		return 0;
	}
	return tenon_fail(err, -ENOSPC, "more than %d areas of BARs", AREAS);
}

static int memory_unmap(void *context, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	struct host *host = context;
	for (unsigned i = 0; i < AREAS; i++) {
		if (host->areas[i].gpa == gpa && host->areas[i].size_bytes == size_bytes)
			host->areas[i].size_bytes = 0;
	}
	return 0;
}

static void bar_placed(void *context, const struct tenon_bar_placement *placement)
{
	struct host *host = context;
	host->bars[placement->bar] = *placement;
}

/* The address of a message says which CPU; there is one, so the data alone tells interrupts apart. */
static int route_set(void *context, int *route, uint64_t address, uint32_t data, struct tenon_error *err)
{
	struct host *host = context;
	for (int i = 0; i < ROUTES && *route < 0; i++)
		*route = host->routes[i].used ? -1 : i;
	if (*route < 0)
		return tenon_fail(err, -ENOSPC, "more than %d message routes", ROUTES);
	if (!host->routes[*route].used)
		host->routes[*route].eventfd = -1;
	host->routes[*route].used = true;
	host->routes[*route].data = data;
	return 0;
}

static int route_commit(void *context, struct tenon_error *err)
{
	return 0; /* what is set counts at once */
}

static void route_free(void *context, int route)
{
	struct host *host = context;
	host->routes[route].used = false;
}

/* From now on the event loop polls it. A count that is there already comes out at once, as it must. */
static int irqfd_attach(void *context, int route, int eventfd, struct tenon_error *err)
{
	struct host *host = context;
	host->routes[route].eventfd = eventfd;
	return 0;
}

static void irqfd_detach(void *context, int route, int eventfd)
{
	struct host *host = context;
	host->routes[route].eventfd = -1;
}

static int intx_attach(void *context, unsigned pin, int trigger, int resample, struct tenon_error *err)
{
	struct host *host = context;
	host->line = trigger;
	host->end_of_interrupt = resample;
	return 0;
}

static void intx_detach(void *context, unsigned pin, int trigger, int resample)
{
	struct host *host = context;
	host->line = host->end_of_interrupt = -1;
}

static void say(void *context, enum tenon_log_level level, const char *message)
{
	fprintf(stderr, "unprivileged: %s\n", message);
}

static const struct tenon_host_ops host_ops = {
	.size = sizeof(host_ops),
	.memory_map = memory_map,
	.memory_unmap = memory_unmap,
	.bar_placed = bar_placed,
	.route_set = route_set,
	.route_commit = route_commit,
	.route_free = route_free,
	.irqfd_attach = irqfd_attach,
	.irqfd_detach = irqfd_detach,
	.intx_attach = intx_attach,
	.intx_detach = intx_detach,
	.log = say,
};

/* ---- The event loop: waits for one interrupt of the device and does the library's work in between ---- */

enum interrupt { INTERRUPT_NONE, INTERRUPT_MESSAGE, INTERRUPT_LINE };

static bool take(int fd)
{
	uint64_t count;
	return fd >= 0 && read(fd, &count, sizeof(count)) == sizeof(count);
}

static enum interrupt wait_interrupt(struct host *host, int milliseconds)
{
	for (;;) {
		/* Anew each time: what the library attaches and detaches changes the set. poll() skips negative ones. */
		struct pollfd fds[2 + ROUTES] = {{.fd = tenon_device_event_fd(host->device)}, {.fd = host->line}};
		for (unsigned i = 0; i < ROUTES; i++)
			fds[2 + i].fd = host->routes[i].used ? host->routes[i].eventfd : -1;
		for (unsigned i = 0; i < 2 + ROUTES; i++)
			fds[i].events = POLLIN;
		if (poll(fds, 2 + ROUTES, milliseconds) <= 0)
			return INTERRUPT_NONE;
		if (fds[0].revents && tenon_device_next_event(host->device) != TENON_DEVICE_EVENT_NONE)
			fail("the device", "failed, or the host wants it back");
		if (fds[1].revents && take(host->line))
			return INTERRUPT_LINE;
		for (unsigned i = 0; i < ROUTES; i++) {
			if (fds[2 + i].revents && take(host->routes[i].eventfd))
				return host->routes[i].data == MSI_DATA ? INTERRUPT_MESSAGE : INTERRUPT_NONE;
		}
	}
}

/* ---- The guest's side: loads and stores, and a driver made of them ---- */

/* Mapped parts of a BAR are plain memory; the rest goes through the library, as a VM exit would. */
static uint64_t load(struct host *host, unsigned offset, unsigned size_bytes)
{
	uint64_t gpa = BAR_GPA + offset, value = 0;
	for (unsigned i = 0; i < AREAS; i++) {
		uint8_t *at = host->areas[i].hva + (gpa - host->areas[i].gpa);
		if (gpa - host->areas[i].gpa < host->areas[i].size_bytes)
			return size_bytes == 8 ? *(volatile uint64_t *)at : *(volatile uint32_t *)at;
	}
	tenon_device_bar_read(host->device, 0, gpa - host->bars[0].address, &value, size_bytes);
	return value;
}

static void store(struct host *host, unsigned offset, uint64_t value, unsigned size_bytes)
{
	uint64_t gpa = BAR_GPA + offset;
	for (unsigned i = 0; i < AREAS; i++) {
		uint8_t *at = host->areas[i].hva + (gpa - host->areas[i].gpa);
		if (gpa - host->areas[i].gpa >= host->areas[i].size_bytes)
			continue;
		if (size_bytes == 8)
			*(volatile uint64_t *)at = value;
		else
			*(volatile uint32_t *)at = (uint32_t)value;
		return;
	}
	tenon_device_bar_write(host->device, 0, gpa - host->bars[0].address, &value, size_bytes);
}

/* The handler: asks the device why, and makes it take the interrupt back. */
static void handle(struct host *host, enum interrupt kind, uint32_t cause, const char *what)
{
	if (wait_interrupt(host, 5000) != kind)
		fail(what, kind == INTERRUPT_LINE ? "no INTx came" : "no MSI came");
	if (!(load(host, EDU_IRQ_STATUS, 4) & cause))
		fail(what, "an interrupt came whose cause the device does not know");
	store(host, EDU_IRQ_ACK, cause, 4);
	/* End of interrupt: the host's line is unmasked, and if the device still asserts it, the interrupt comes again. */
	if (kind == INTERRUPT_LINE)
		eventfd_write(host->end_of_interrupt, 1);
}

static void enable(struct host *host, bool msi)
{
	struct tenon_device *device = host->device;
	unsigned at = tenon_device_config_read(device, PCI_CAPABILITY_LIST, 1);
	while (at && tenon_device_config_read(device, at, 1) != PCI_CAP_ID_MSI)
		at = tenon_device_config_read(device, at + 1, 1);
	if (!at)
		fail("the device", "has no MSI capability");
	tenon_device_config_write(device, PCI_BASE_ADDRESS_0, 4, BAR_GPA);
	tenon_device_config_write(device, at + PCI_MSI_ADDRESS_LO, 4, MSI_ADDRESS);
	tenon_device_config_write(device, at + PCI_MSI_DATA_64, 2, MSI_DATA);
	tenon_device_config_write(device, at + PCI_MSI_FLAGS, 2, msi ? PCI_MSI_FLAGS_ENABLE : 0);
	tenon_device_config_write(device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	if (!host->bars[0].enabled || host->bars[0].address != BAR_GPA)
		fail("BAR 0", "is not where it was put");
}

static void compute(struct host *host)
{
	store(host, EDU_LIVENESS, 0x12345678, 4);
	if (load(host, EDU_LIVENESS, 4) != (uint32_t)~0x12345678)
		fail("the liveness register", "does not invert");
	store(host, EDU_STATUS, EDU_STATUS_RAISE, 4);
	store(host, EDU_FACTORIAL, 10, 4);
	handle(host, INTERRUPT_MESSAGE, EDU_IRQ_BY_FACTORIAL, "factorial");
	printf("factorial=%u\n", (uint32_t)load(host, EDU_FACTORIAL, 4));
	store(host, EDU_STATUS, 0, 4);
}

static void copy(struct host *host)
{
	for (unsigned i = 0; i < DMA_LEN; i++)
		host->ram[i] = (uint8_t)(i * 7 + i / 256);
	store(host, EDU_DMA_SOURCE, RAM_GPA, 8);
	store(host, EDU_DMA_TARGET, EDU_DMA_BUFFER, 8);
	store(host, EDU_DMA_COUNT, DMA_LEN, 8);
	store(host, EDU_DMA_COMMAND, EDU_DMA_START | EDU_DMA_RAISE, 8);
	handle(host, INTERRUPT_MESSAGE, EDU_IRQ_BY_DMA, "DMA out");
	store(host, EDU_DMA_SOURCE, EDU_DMA_BUFFER, 8);
	store(host, EDU_DMA_TARGET, RAM_GPA + RAM_BYTES / 2, 8);
	store(host, EDU_DMA_COMMAND, EDU_DMA_START | EDU_DMA_TO_RAM | EDU_DMA_RAISE, 8);
	handle(host, INTERRUPT_MESSAGE, EDU_IRQ_BY_DMA, "DMA back");
	if (memcmp(host->ram, host->ram + RAM_BYTES / 2, DMA_LEN) != 0)
		fail("DMA", "what came back is not what went out");
	printf("dma=%u\n", DMA_LEN);
}

static void interrupt(struct host *host, enum interrupt kind, const char *name)
{
	for (uint32_t cause = 1u << 1; cause <= 1u << RAISED; cause <<= 1) {
		store(host, EDU_IRQ_RAISE, cause, 4);
		handle(host, kind, cause, name);
	}
	if (wait_interrupt(host, 200) != INTERRUPT_NONE)
		fail(name, "came again after it was acknowledged");
	printf("%s=%u\n", name, RAISED);
}

int main(void)
{
	struct tenon_error err;
	struct tenon_space *space = NULL;
	struct host host = {.line = -1, .end_of_interrupt = -1};
	if (getuid() == 0 || open("/dev/iommu", O_RDWR) >= 0)
		fail("privilege", "there is some left; start this by launch");

	host.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tenon_space_options space_options = {.size = sizeof(space_options), .iommufd = IOMMU_FD};
	struct tenon_space_region ram = {.size = sizeof(ram), .gpa = RAM_GPA, .size_bytes = RAM_BYTES, .hva = host.ram};
	if (tenon_space_create(&space_options, &space, &err) < 0)
		fail("tenon_space_create", err.message);
	struct tenon_device_options options = {
		.size = sizeof(options), .cdev = DEVICE_FD, .space = space, .ops = &host_ops, .host = &host};
	if (tenon_device_open(&options, &host.device, &err) < 0 || tenon_space_add(space, &ram, &err) < 0)
		fail("the device", err.message);

	enable(&host, true);
	compute(&host);
	copy(&host);
	interrupt(&host, INTERRUPT_MESSAGE, "msi");
	enable(&host, false);
	interrupt(&host, INTERRUPT_LINE, "intx");
	tenon_device_close(host.device);
	tenon_space_destroy(space);
	printf("done=1\n");
	return 0;
}

// SPDX-License-Identifier: MIT
/*
 * Drives QEMU's `edu` device (docs/specs/edu.txt) through VFIO without an IOMMU: identification, the factorial unit, MSI
 * and INTx counted on an eventfd, and DMA out to the device and back; or a storm of INTx. Prints "@name=value" lines; exits
 * 0 if all is well.
 *
 * edu /dev/vfio/noiommu-N BDF [storm ROUNDS]
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "guest.h"

#define EDU_ID               0x00
#define EDU_LIVENESS         0x04
#define EDU_FACTORIAL        0x08
#define EDU_STATUS           0x20
#define EDU_STATUS_COMPUTING 0x01
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
#define EDU_IRQ_BY_DMA       0x100

#define DMA_BYTES 2048u
#define MESSAGES  5u

struct edu {
	int device;
	uint64_t config_offset;
	volatile uint8_t *registers;
	int event;
};

static void die(const char *what)
{
	printf("@failed=edu: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void require(bool good, const char *what)
{
	if (good)
		return;
	printf("@failed=edu: %s\n", what);
	exit(1);
}

static uint32_t get(struct edu *edu, unsigned offset)
{
	return *(volatile uint32_t *)(edu->registers + offset);
}

static void put(struct edu *edu, unsigned offset, uint32_t value)
{
	*(volatile uint32_t *)(edu->registers + offset) = value;
}

static void put_wide(struct edu *edu, unsigned offset, uint64_t value)
{
	*(volatile uint64_t *)(edu->registers + offset) = value;
}

static void open_device(struct edu *edu, const char *group_path, const char *bdf)
{
	edu->device = open_noiommu(group_path, bdf);
	struct vfio_region_info config = {.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX};
	struct vfio_region_info bar = {.argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX};
	if (ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &bar))
		die("regions");
	edu->config_offset = config.offset;
	edu->registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, edu->device, bar.offset);
	if (edu->registers == MAP_FAILED)
		die("BAR 0");
	uint16_t command;
	if (pread(edu->device, &command, 2, edu->config_offset + PCI_COMMAND) != 2)
		die("config space");
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(edu->device, &command, 2, edu->config_offset + PCI_COMMAND) != 2)
		die("config space");
	edu->event = eventfd(0, EFD_CLOEXEC);
}

/* Routes the interrupt `index` (VFIO_PCI_*_IRQ_INDEX) to the eventfd. */
static void enable_interrupt(struct edu *edu, unsigned index)
{
	struct {
		struct vfio_irq_set set;
		int32_t event;
	} request = {
		.set = {.argsz = sizeof(request),
			.index = index,
			.count = 1,
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD},
		.event = edu->event,
	};
	if (ioctl(edu->device, VFIO_DEVICE_SET_IRQS, &request))
		die("interrupt set-up");
}

static void disable_interrupt(struct edu *edu, unsigned index)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set), .index = index, .flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE};
	if (ioctl(edu->device, VFIO_DEVICE_SET_IRQS, &set))
		die("interrupt removal");
}

static void unmask_intx(struct edu *edu)
{
	struct vfio_irq_set set = {.argsz = sizeof(set),
				   .index = VFIO_PCI_INTX_IRQ_INDEX,
				   .count = 1,
				   .flags = VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_NONE};
	if (ioctl(edu->device, VFIO_DEVICE_SET_IRQS, &set))
		die("INTx unmask");
}

/* Waits for the interrupt, checks why it came and acknowledges it at the device. @return how often the eventfd was signalled */
static unsigned take_interrupt(struct edu *edu, uint32_t cause, const char *what)
{
	struct pollfd poll_event = {.fd = edu->event, .events = POLLIN};
	require(poll(&poll_event, 1, 5000) == 1, what);
	uint64_t count;
	if (read(edu->event, &count, 8) != 8)
		die("eventfd");
	require(get(edu, EDU_IRQ_STATUS) & cause, "an interrupt came whose cause the device does not know");
	put(edu, EDU_IRQ_ACK, cause);
	return count;
}

static void test_registers(struct edu *edu)
{
	require(get(edu, EDU_ID) == 0x010000edu, "the identification register is not edu's");
	put(edu, EDU_LIVENESS, 0x12345678u);
	require(get(edu, EDU_LIVENESS) == ~0x12345678u, "the liveness register does not invert");
	put(edu, EDU_STATUS, EDU_STATUS_RAISE);
	put(edu, EDU_FACTORIAL, 10);
	take_interrupt(edu, 0x1, "no MSI after the factorial");
	require(!(get(edu, EDU_STATUS) & EDU_STATUS_COMPUTING), "the factorial unit does not end");
	printf("@factorial=%u\n", get(edu, EDU_FACTORIAL));
	put(edu, EDU_STATUS, 0);
}

static void test_messages(struct edu *edu)
{
	unsigned count = 0;
	for (uint32_t cause = 1u << 1; cause <= 1u << MESSAGES; cause <<= 1) {
		put(edu, EDU_IRQ_RAISE, cause);
		count += take_interrupt(edu, cause, "no MSI after it was raised");
	}
	printf("@msi=%u\n", count);
}

static void test_dma(struct edu *edu)
{
	uint8_t *out = mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
	uint8_t *back = out + PAGE_BYTES;
	for (unsigned i = 0; i < DMA_BYTES; i++)
		out[i] = i * 7 + i / 256;
	memset(back, 0xa5, PAGE_BYTES);

	put_wide(edu, EDU_DMA_SOURCE, physical(out));
	put_wide(edu, EDU_DMA_TARGET, EDU_DMA_BUFFER);
	put_wide(edu, EDU_DMA_COUNT, DMA_BYTES);
	put_wide(edu, EDU_DMA_COMMAND, EDU_DMA_START | EDU_DMA_RAISE);
	take_interrupt(edu, EDU_IRQ_BY_DMA, "no MSI after DMA out");

	put_wide(edu, EDU_DMA_SOURCE, EDU_DMA_BUFFER);
	put_wide(edu, EDU_DMA_TARGET, physical(back));
	put_wide(edu, EDU_DMA_COMMAND, EDU_DMA_START | EDU_DMA_TO_RAM | EDU_DMA_RAISE);
	take_interrupt(edu, EDU_IRQ_BY_DMA, "no MSI after DMA back");
	require(!memcmp(out, back, DMA_BYTES), "what came back is not what went out");
	require(back[DMA_BYTES] == 0xa5, "DMA wrote past its end");
	printf("@dma=%u\n", DMA_BYTES);
}

static void test_line(struct edu *edu)
{
	unsigned count = 0;
	for (uint32_t cause = 1u << 1; cause <= 1u << MESSAGES; cause <<= 1) {
		put(edu, EDU_IRQ_RAISE, cause);
		count += take_interrupt(edu, cause, "no INTx after it was raised");
		unmask_intx(edu);
	}
	struct pollfd poll_event = {.fd = edu->event, .events = POLLIN};
	require(poll(&poll_event, 1, 200) == 0, "INTx came again after it was acknowledged");
	printf("@intx=%u\n", count);
}

static void wait_for_line(struct edu *edu, const char *what)
{
	struct pollfd poll_event = {.fd = edu->event, .events = POLLIN};
	uint64_t count;
	require(poll(&poll_event, 1, 10000) == 1, what);
	require(read(edu->event, &count, 8) == 8 && count == 1, "a masked line fired");
}

/*
 * A line is a level: as long as the device asserts it, it fires again each time it is unmasked, and once the device is silent
 * it does not. Each third round leaves the line asserted twice.
 */
static void test_storm(struct edu *edu, unsigned rounds)
{
	unsigned again = 0;
	for (unsigned round = 0; round < rounds; round++) {
		put(edu, EDU_IRQ_RAISE, 1);
		wait_for_line(edu, "no INTx after it was raised");
		for (unsigned i = 0; round % 3 == 0 && i < 2; i++, again++) {
			unmask_intx(edu);
			wait_for_line(edu, "a line that is still asserted did not fire again");
		}
		require(get(edu, EDU_IRQ_STATUS) == 1, "the device's status is not what was raised");
		put(edu, EDU_IRQ_ACK, 1);
		unmask_intx(edu);
	}
	struct pollfd poll_event = {.fd = edu->event, .events = POLLIN};
	require(poll(&poll_event, 1, 300) == 0, "INTx came again after it was acknowledged");
	printf("@storm=%u\n@again=%u\n", rounds, again);
}

int main(int argc, char **argv)
{
	bool storm = argc == 5 && strcmp(argv[3], "storm") == 0;
	if (argc != 3 && !storm) {
		fprintf(stderr, "usage: edu /dev/vfio/noiommu-N BDF [storm ROUNDS]\n");
		return 2;
	}
	setlinebuf(stdout);
	struct edu edu;
	open_device(&edu, argv[1], argv[2]);
	if (storm) {
		enable_interrupt(&edu, VFIO_PCI_INTX_IRQ_INDEX);
		test_storm(&edu, atoi(argv[4]));
		return 0;
	}
	enable_interrupt(&edu, VFIO_PCI_MSI_IRQ_INDEX);
	test_registers(&edu);
	test_messages(&edu);
	test_dma(&edu);
	disable_interrupt(&edu, VFIO_PCI_MSI_IRQ_INDEX);
	enable_interrupt(&edu, VFIO_PCI_INTX_IRQ_INDEX);
	test_line(&edu);
	return 0;
}

// SPDX-License-Identifier: MIT
/*
 * Drives the test device (tests/testdev/registers.h) through VFIO without an IOMMU: identification, each of its MSI-X vectors,
 * doorbells, a function level reset by the kernel; then it carries a part of a disk to another place on it: the disk's DMA brings
 * data into one buffer, the test device copies that into another one, page by page, and the disk takes it from there. Repeats that
 * until the file STOP exists; makes the file STARTED when the first round begins. Prints "@name=value" lines; exits 0 if all is well.
 *
 * testdev /dev/vfio/noiommu-N BDF DISK FROM TO BYTES STARTED STOP
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

#include "../../testdev/registers.h"
#include "guest.h"

#define PIECES         16u
#define CHUNK_BYTES    (PIECES * PAGE_BYTES)
#define COPY_VECTOR    40
#define INTERRUPT_WAIT 20000 /* ms: the machine that emulates the host may be busy */

struct testdev {
	int device;
	const char *bdf;
	volatile uint8_t *registers;
	int events[TD_MSIX_VECTORS];
	/* Physical addresses of what the device reads and writes. */
	uint8_t *list, *source, *target;
	uint64_t list_at, source_at[PIECES], target_at[PIECES];
};

static void die(const char *what)
{
	printf("@failed=testdev: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void require(bool good, const char *what)
{
	if (good)
		return;
	printf("@failed=testdev: %s\n", what);
	exit(1);
}

static uint32_t get(struct testdev *dev, unsigned offset)
{
	return *(volatile uint32_t *)(dev->registers + offset);
}

static void put(struct testdev *dev, unsigned offset, uint32_t value)
{
	*(volatile uint32_t *)(dev->registers + offset) = value;
}

static void put_wide(struct testdev *dev, unsigned offset, uint64_t value)
{
	*(volatile uint64_t *)(dev->registers + offset) = value;
}

/* ---- Set-up ---- */

static void open_device(struct testdev *dev, const char *group_path)
{
	dev->device = open_noiommu(group_path, dev->bdf);
	struct vfio_region_info config = {.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX};
	struct vfio_region_info bar = {.argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX + TD_BAR_REGISTERS};
	if (ioctl(dev->device, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    ioctl(dev->device, VFIO_DEVICE_GET_REGION_INFO, &bar))
		die("regions");
	require(bar.size == TD_REGISTERS_BYTES, "BAR 0 has another size than the test device's");
	dev->registers = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, dev->device, bar.offset);
	if (dev->registers == MAP_FAILED)
		die("BAR 0");
	uint16_t ids[2], command;
	if (pread(dev->device, ids, sizeof(ids), config.offset + PCI_VENDOR_ID) != sizeof(ids) ||
	    pread(dev->device, &command, 2, config.offset + PCI_COMMAND) != 2)
		die("config space");
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(dev->device, &command, 2, config.offset + PCI_COMMAND) != 2)
		die("config space");
	printf("@ids=%04x:%04x\n", ids[0], ids[1]);
	require(get(dev, TD_ID) == TD_ID_VALUE && get(dev, TD_VERSION) == TD_VERSION_VALUE,
		"the identification registers are not the test device's");
}

static void enable_vectors(struct testdev *dev)
{
	struct {
		struct vfio_irq_set set;
		int32_t events[TD_MSIX_VECTORS];
	} request = {
		.set = {.argsz = sizeof(request.set) + sizeof(request.events),
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = TD_MSIX_VECTORS,
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD},
	};
	for (unsigned i = 0; i < TD_MSIX_VECTORS; i++)
		request.events[i] = dev->events[i] = eventfd(0, EFD_CLOEXEC);
	if (ioctl(dev->device, VFIO_DEVICE_SET_IRQS, &request))
		die("MSI-X");
}

/* Locked, and each page touched, so that it has an address of its own. */
static uint8_t *memory(size_t bytes, uint64_t *physical_pages)
{
	uint8_t *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0);
	if (start == MAP_FAILED)
		die("memory");
	memset(start, 0xa5, bytes);
	for (size_t i = 0; i < bytes / PAGE_BYTES; i++)
		physical_pages[i] = physical(start + i * PAGE_BYTES);
	return start;
}

/* ---- Interrupts ---- */

static void take_interrupt(struct testdev *dev, unsigned vector, const char *what)
{
	struct pollfd poll_event = {.fd = dev->events[vector], .events = POLLIN};
	uint64_t count;
	require(poll(&poll_event, 1, INTERRUPT_WAIT) == 1, what);
	require(read(dev->events[vector], &count, 8) == 8 && count == 1, "an interrupt came twice");
}

static void test_vectors(struct testdev *dev, const char *fact)
{
	unsigned came = 0;
	for (unsigned vector = 0; vector < TD_MSIX_VECTORS; vector++, came++) {
		put(dev, TD_IRQ_RAISE, TD_IRQ(TD_IRQ_MSIX, vector));
		take_interrupt(dev, vector, "no MSI-X interrupt after it was raised");
	}
	printf("@%s=%u\n", fact, came);
}

/* Each but the first, which starts the copy engine. */
static void test_doorbells(struct testdev *dev)
{
	unsigned rung = 0;
	put(dev, TD_DOORBELL_IRQS, (1u << TD_DOORBELL_COUNT) - 2);
	for (unsigned bell = 1; bell < TD_DOORBELL_COUNT; bell++) {
		put(dev, TD_DOORBELL(bell), 1);
		take_interrupt(dev, bell, "no interrupt after a doorbell was rung");
		rung += get(dev, TD_DOORBELLS + 4 * bell);
	}
	printf("@doorbells=%u\n", rung);
}

/* ---- Reset ---- */

/* A function level reset reaches the device as the VMM has it: that, or the command that stands for it. */
static uint32_t resets_of(struct testdev *dev)
{
	return get(dev, TD_RESETS_FLR) + get(dev, TD_RESETS_COMMAND);
}

/* By sysfs, while the device is in use: the kernel brings back config space and its MSI-X table, and nothing else. */
static void test_reset(struct testdev *dev)
{
	char path[96];
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", dev->bdf);
	uint32_t resets = resets_of(dev);
	put(dev, TD_SCRATCH, 0x12345678);
	require(get(dev, TD_SCRATCH) == 0x12345678, "the scratch register does not hold what is written");
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) != 1)
		die(path);
	close(fd);
	require(get(dev, TD_SCRATCH) == 0, "the scratch register survived a reset");
	printf("@resets=%u\n", resets_of(dev) - resets);
}

/* ---- Copies ---- */

static uint32_t crc32_of(const uint8_t *bytes, size_t count)
{
	static uint32_t table[256];
	for (uint32_t i = 0; !table[255] && i < 256; i++) {
		uint32_t value = i;
		for (unsigned bit = 0; bit < 8; bit++)
			value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
		table[i] = value;
	}
	uint32_t crc = ~0u;
	while (count--)
		crc = crc >> 8 ^ table[(crc ^ *bytes++) & 0xff];
	return ~crc;
}

/* A list of one descriptor for each page: which is where is never the same in two of them. */
static void make_list(struct testdev *dev)
{
	for (unsigned i = 0; i < PIECES; i++) {
		uint8_t *descriptor = dev->list + i * TD_DESC_BYTES;
		const uint32_t length = PAGE_BYTES, flags = 0;
		memset(descriptor, 0, TD_DESC_BYTES);
		memcpy(descriptor + TD_DESC_SOURCE, &dev->source_at[i], 8);
		memcpy(descriptor + TD_DESC_TARGET, &dev->target_at[i], 8);
		memcpy(descriptor + TD_DESC_LENGTH, &length, 4);
		memcpy(descriptor + TD_DESC_FLAGS, &flags, 4);
	}
	put_wide(dev, TD_LIST_ADDRESS, dev->list_at);
	put(dev, TD_LIST_COUNT, PIECES);
	put(dev, TD_COPY_IRQ, TD_IRQ(TD_IRQ_MSIX, COPY_VECTOR));
}

/* By doorbell, until its interrupt. */
static void copy_chunk(struct testdev *dev)
{
	memset(dev->target, 0, CHUNK_BYTES);
	put(dev, TD_DOORBELL(0), 1);
	take_interrupt(dev, COPY_VECTOR, "no interrupt at the end of a copy");
	require(get(dev, TD_STATUS) == TD_STATUS_DONE, "the copy engine reports an error");
	require(get(dev, TD_CHECKSUM) == crc32_of(dev->source, CHUNK_BYTES),
		"the device read other bytes than there are");
	require(!memcmp(dev->source, dev->target, CHUNK_BYTES), "the device wrote other bytes than it read");
}

static void carry(struct testdev *dev, int disk, uint64_t from, uint64_t to, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += CHUNK_BYTES) {
		if (pread(disk, dev->source, CHUNK_BYTES, from + at) != CHUNK_BYTES)
			die("the disk's read");
		copy_chunk(dev);
		if (pwrite(disk, dev->target, CHUNK_BYTES, to + at) != CHUNK_BYTES)
			die("the disk's write");
	}
}

int main(int argc, char **argv)
{
	if (argc != 9) {
		fprintf(stderr, "usage: testdev /dev/vfio/noiommu-N BDF DISK FROM TO BYTES STARTED STOP\n");
		return 2;
	}
	setlinebuf(stdout);
	struct testdev dev = {.bdf = argv[2]};
	int disk = open(argv[3], O_RDWR | O_DIRECT);
	uint64_t from = strtoull(argv[4], NULL, 0), to = strtoull(argv[5], NULL, 0), bytes = strtoull(argv[6], NULL, 0);
	if (disk < 0)
		die(argv[3]);
	open_device(&dev, argv[1]);
	dev.list = memory(PAGE_BYTES, &dev.list_at);
	dev.source = memory(CHUNK_BYTES, dev.source_at);
	dev.target = memory(CHUNK_BYTES, dev.target_at);
	enable_vectors(&dev);
	test_vectors(&dev, "vectors");
	test_reset(&dev);
	test_vectors(&dev, "vectors.after");
	test_doorbells(&dev);

	unsigned rounds = 0;
	make_list(&dev);
	if (creat(argv[7], 0600) < 0)
		die(argv[7]);
	do {
		carry(&dev, disk, from, to, bytes);
		rounds++;
	} while (access(argv[8], F_OK) != 0);
	printf("@rounds=%u\n@copies=%u\n", rounds, get(&dev, TD_COPIES));
	printf("@shared=%d\n", !(get(&dev, TD_FEATURES) & TD_FEATURE_MESSAGES));
	printf("@violations=%u\n", get(&dev, TD_VIOLATIONS));
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device's identity, and whom a hot reset of it hits. The same questions to the same kernel interface on the host and in
 * a guest; the programs that ask them say for themselves, in die(), how they fail.
 *
 * The identity is what the device itself says and nobody in between changes: its ids, how many MSI-X vectors it has, and
 * the MAC address in the registers of a NIC of Intel's.
 */
#ifndef RESET_SET_H
#define RESET_SET_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#define CLASS_NVME     0x010802u
#define CLASS_ETHERNET 0x020000u
#define NIC_MAC        0x5400u /* receive address 0, low and high */
#define SET_MAX        64u

/* Ends the program, with errno in words. */
static void die(const char *what);

static inline uint64_t region_start(int device, unsigned region)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = region};
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info))
		die("region");
	return info.offset;
}

static inline uint32_t region_get(int device, unsigned region, unsigned offset, unsigned bytes)
{
	uint32_t value = 0;
	if (pread(device, &value, bytes, region_start(device, region) + offset) != (ssize_t)bytes)
		die("read");
	return value;
}

static inline void region_put(int device, unsigned region, unsigned offset, unsigned bytes, uint32_t value)
{
	if (pwrite(device, &value, bytes, region_start(device, region) + offset) != (ssize_t)bytes)
		die("write");
}

static inline uint32_t config_get(int device, unsigned offset, unsigned bytes)
{
	return region_get(device, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes);
}

static inline uint32_t class_of(int device)
{
	return config_get(device, PCI_CLASS_REVISION, 4) >> 8;
}

/* A VFIO device's registers answer only while its memory decoding is on. */
static inline void enable_memory(int device)
{
	region_put(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, 2,
		   config_get(device, PCI_COMMAND, 2) | PCI_COMMAND_MEMORY);
}

static inline unsigned msix_vectors(int device)
{
	if (!(config_get(device, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		return 0;
	unsigned at = config_get(device, PCI_CAPABILITY_LIST, 1);
	for (unsigned seen = 0; at && seen < 48; seen++) {
		if (config_get(device, at, 1) == PCI_CAP_ID_MSIX)
			return (config_get(device, at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
		at = config_get(device, at + PCI_CAP_LIST_NEXT, 1);
	}
	return 0;
}

/* One word. */
static inline void print_identity(int device)
{
	printf("%04x:%04x-%08x-%u", config_get(device, PCI_VENDOR_ID, 2), config_get(device, PCI_DEVICE_ID, 2),
	       config_get(device, PCI_SUBSYSTEM_VENDOR_ID, 4), msix_vectors(device));
	if (class_of(device) != CLASS_ETHERNET)
		return;
	enable_memory(device);
	printf("-%04x%08x", region_get(device, VFIO_PCI_BAR0_REGION_INDEX, NIC_MAC + 4, 4) & 0xffff,
	       region_get(device, VFIO_PCI_BAR0_REGION_INDEX, NIC_MAC, 4));
}

struct reset_set {
	struct vfio_pci_hot_reset_info info;
	struct vfio_pci_dependent_device devices[SET_MAX];
};

/* 0 or the errno with which the kernel says that there is no such reset. */
static inline int get_reset_set(int device, struct reset_set *set)
{
	memset(set, 0, sizeof(*set));
	set->info.argsz = sizeof(*set);
	return ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &set->info) ? errno : 0;
}

/* " 0000:01:00.0 0000:01:00.1" */
static inline void print_members(const struct reset_set *set)
{
	for (unsigned i = 0; i < set->info.count; i++) {
		const struct vfio_pci_dependent_device *one = &set->devices[i];
		printf(" %04x:%02x:%02x.%u", one->segment, one->bus, one->devfn >> 3, one->devfn & 7u);
	}
}

#endif

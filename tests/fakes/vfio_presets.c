// SPDX-License-Identifier: MIT
/*
 * Ready-made devices: an NVMe controller, an old MSI device, a card with nothing but INTx, and hostile ones.
 */
#include <stdlib.h>

#include <linux/pci_regs.h>

#include "vfio_fake.h"

/* A group of its own: 0x3b for 0000:3b:00.0. */
static int group_of_bus(const char *bdf)
{
	return (int)strtol(bdf + 5, NULL, 16);
}

struct fake_device *fake_nvme(const char *bdf)
{
	struct fake_device *device = fake_device_add(bdf, 0x1b36, 0x0010, group_of_bus(bdf));
	fake_config_set(device, PCI_CLASS_REVISION, 4, 0x01080202);
	fake_bar_memory(device, 0, 0x4000, true, false);
	fake_add_intx(device, 1);
	fake_add_pm(device, 0x60);
	fake_add_pcie(device, 0x80);
	fake_add_msi(device, 0xc0, 32, true, true);
	fake_add_msix(device, 0x40, FAKE_NVME_MSIX_VECTORS, 0, FAKE_NVME_TABLE, 0, FAKE_NVME_PBA);
	fake_add_aer(device, 0x100);
	/* A vendor's own capability of 0x20 bytes: 8 of header, registers behind. */
	fake_capability_extended(device, 0x140, PCI_EXT_CAP_ID_VNDR, 1);
	fake_config_set(device, 0x144, 4, 0x20u << 20 | 1);
	for (unsigned offset = 0x148; offset < 0x160; offset += 4)
		fake_config_writable(device, offset, 4, ~0u);
	fake_add_sriov(device, FAKE_NVME_SRIOV);
	fake_capability_extended(device, 0x1c0, PCI_EXT_CAP_ID_DSN, 1);
	fake_config_set(device, 0x1c4, 4, 0x12345678);
	return device;
}

struct fake_device *fake_edu(const char *bdf)
{
	struct fake_device *device = fake_device_add(bdf, 0x1234, 0x11e8, group_of_bus(bdf));
	fake_config_set(device, PCI_CLASS_REVISION, 4, 0x00ff0010);
	fake_bar_memory(device, 0, 0x100000, false, false);
	fake_add_intx(device, 1);
	fake_add_msi(device, 0x40, 1, true, false);
	return device;
}

struct fake_device *fake_serial_card(const char *bdf)
{
	struct fake_device *device = fake_device_add(bdf, 0x9710, 0x9835, group_of_bus(bdf));
	fake_config_set(device, PCI_CLASS_REVISION, 4, 0x07000200);
	fake_bar_io(device, 0, 32);
	fake_bar_memory(device, 1, 256, false, false);
	fake_add_intx(device, 2);
	return device;
}

static void break_table(struct fake_device *device, uint32_t table)
{
	fake_config_set(device, device->msix + PCI_MSIX_TABLE, 4, table);
}

struct fake_device *fake_hostile(const char *bdf, enum fake_hostility hostility)
{
	struct fake_device *device = fake_nvme(bdf);
	switch (hostility) {
	case FAKE_CAPABILITIES_LOOP:
		device->config[device->last_capability] = (uint8_t)device->pm;
		break;
	case FAKE_EXTENDED_LOOP:
		fake_config_set(device, 0x1c0, 4, PCI_EXT_CAP_ID_DSN | 1 << 16 | 0x100u << 20);
		break;
	case FAKE_CAPABILITY_BEYOND:
		/* A vendor capability of 255 bytes at 0xf8, and an extended one of 16 bytes in the last 8. */
		fake_capability(device, 0xf8, PCI_CAP_ID_VNDR, 4);
		device->config[0xfa] = 0xff;
		fake_capability_extended(device, 0xff8, PCI_EXT_CAP_ID_PWR, 1);
		break;
	case FAKE_TABLE_OUTSIDE_BAR:
		break_table(device, 0x3ff0);
		break;
	case FAKE_TABLE_IN_ABSENT_BAR:
		break_table(device, 0x2000 | 5);
		break;
	case FAKE_TABLE_OVER_PBA:
		break_table(device, FAKE_NVME_PBA);
		break;
	case FAKE_COUNT_HUGE:
		device->irq_count_lie = UINT32_MAX;
		break;
	case FAKE_HOSTILITIES:
		break;
	}
	return device;
}

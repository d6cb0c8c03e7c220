// SPDX-License-Identifier: MIT
/*
 * Parses as much of config space as the inventory shows. A device may answer anything, so the capability list is followed for
 * at most as many steps as it can have entries. Source: PCI Local Bus Specification 3.0, chapter 6; PCI Express Base
 * Specification 5.0, 7.5 and 7.7; Linux include/uapi/linux/pci_regs.h.
 */
#include <string.h>

#include <linux/pci_regs.h>

#include "config_space.h"

#define CAPABILITIES_MAX 48 /* as many four-byte entries as fit between the header and the end of the first 256 bytes */

static unsigned word(const uint8_t *config, unsigned offset)
{
	return config[offset] | (unsigned)config[offset + 1] << 8;
}

static void parse_capability(const uint8_t *config, unsigned at, struct device *device)
{
	switch (config[at]) {
	case PCI_CAP_ID_MSI:
		device->msi_vectors = 1u << ((word(config, at + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_QMASK) >> 1);
		break;
	case PCI_CAP_ID_MSIX:
		device->msix_vectors = (word(config, at + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1;
		break;
	case PCI_CAP_ID_EXP:
		device->express_type = (int)((word(config, at + PCI_EXP_FLAGS) & PCI_EXP_FLAGS_TYPE) >> 4);
		break;
	}
}

void config_space_parse(const uint8_t *config, size_t length, struct device *device)
{
	device->express_type = -1;
	/* A device that is gone, or asleep in D3cold, answers ones. */
	if (length < PCI_STD_HEADER_SIZEOF || word(config, PCI_VENDOR_ID) == 0xffff) {
		/* A VF has no vendor of its own in config space: the PF's counts, and the kernel knows it. */
		if (length < PCI_STD_HEADER_SIZEOF || word(config, PCI_COMMAND) == 0xffff)
			return;
	}
	device->config_read = true;
	device->header_type = config[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK;
	if (device->header_type == PCI_HEADER_TYPE_BRIDGE)
		device->secondary_bus = config[PCI_SECONDARY_BUS];
	if (length < PCI_CFG_SPACE_SIZE)
		return;
	device->config_whole = true;
	if (!(word(config, PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return;
	unsigned pointer =
		device->header_type == PCI_HEADER_TYPE_CARDBUS ? PCI_CB_CAPABILITY_LIST : PCI_CAPABILITY_LIST;
	unsigned at = config[pointer] & ~3u;
	for (unsigned i = 0; i < CAPABILITIES_MAX && at >= PCI_STD_HEADER_SIZEOF; i++) {
		parse_capability(config, at, device);
		at = config[at + PCI_CAP_LIST_NEXT] & ~3u;
	}
}

void config_space_read(const struct host *host, struct device *device)
{
	uint8_t config[PCI_CFG_SPACE_SIZE] = {0};
	ssize_t length = host_read(host, config, sizeof(config), "%s/config", device->path);
	config_space_parse(config, length < 0 ? 0 : (size_t)length, device);
}

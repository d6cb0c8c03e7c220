// SPDX-License-Identifier: MIT
/* MSI: up to 32 vectors that share one message, told apart by its low bits. Source: PCI Express Base 5.0 section 7.7.1. */
#include <linux/pci_regs.h>

#include "device.h"

unsigned msi_enabled_count(const struct tenon_device *device)
{
	uint16_t flags = config_value16(&device->config, device->config.msi + PCI_MSI_FLAGS);
	unsigned log2 = (flags & PCI_MSI_FLAGS_QSIZE) >> 4;
	unsigned count = log2 > 5 ? 32 : 1u << log2;
	return count > device->interrupts.msi_count ? device->interrupts.msi_count : count;
}

struct message msi_message(const struct tenon_device *device, unsigned vector)
{
	const struct config *config = &device->config;
	unsigned at = config->msi;
	uint16_t flags = config_value16(config, at + PCI_MSI_FLAGS);
	bool wide = flags & PCI_MSI_FLAGS_64BIT;
	unsigned count = msi_enabled_count(device);
	struct message message = {.wanted = (flags & PCI_MSI_FLAGS_ENABLE) && vector < count};

	message.usable = message.wanted;
	message.address = config_value32(config, at + PCI_MSI_ADDRESS_LO);
	if (wide)
		message.address |= (uint64_t)config_value32(config, at + PCI_MSI_ADDRESS_HI) << 32;
	message.data = config_value16(config, at + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32));
	if (count > 1)
		message.data = (message.data & ~(uint32_t)(count - 1)) | vector;
	if (flags & PCI_MSI_FLAGS_MASKBIT) {
		uint32_t masks = config_value32(config, at + (wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32));
		message.wanted = message.wanted && !(masks >> vector & 1);
	}
	return message;
}

uint32_t msi_pending(struct tenon_device *device)
{
	const struct interrupts *interrupts = &device->interrupts;
	uint32_t bits = 0;
	if (interrupts->mode != INTERRUPT_MSI)
		return 0;
	interrupts_settle(device); /* what is on its way already is not pending */
	for (unsigned i = 0; i < interrupts->vector_count && i < 32; i++) {
		if (vector_pending(&interrupts->vectors[i]))
			bits |= 1u << i;
	}
	return bits;
}

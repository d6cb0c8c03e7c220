// SPDX-License-Identifier: MIT
/*
 * MSI-X: the table and pending bits that the guest sees, 16 and 1/8 bytes a vector. The device's own table is the kernel's
 * alone. Source: PCI Express Base 5.0 section 6.1.4 and 7.7.2.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

static bool fits(const struct tenon_device *device, unsigned bar, uint64_t offset, uint64_t bytes,
		 struct transport_region *region)
{
	struct tenon_error ignored;
	if (bar >= TENON_DEVICE_BARS ||
	    device->transport->ops->region_info(device->transport, VFIO_PCI_BAR0_REGION_INDEX + bar, region, &ignored) <
		    0)
		return false;
	return offset <= region->size_bytes && bytes <= region->size_bytes - offset;
}

int msix_init(struct tenon_device *device, struct tenon_error *err)
{
	struct interrupts *interrupts = &device->interrupts;
	const struct config *config = &device->config;
	if (!config->msix)
		return 0;
	struct transport_irq info;
	int code = device->transport->ops->irq_info(device->transport, VFIO_PCI_MSIX_IRQ_INDEX, &info, err);
	if (code < 0)
		return code;

	uint32_t table = config_value32(config, config->msix + PCI_MSIX_TABLE);
	uint32_t pba = config_value32(config, config->msix + PCI_MSIX_PBA);
	struct msix_layout layout = {
		.count = (config_value16(config, config->msix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u,
		.table_bar = table & PCI_MSIX_TABLE_BIR,
		.table_offset = table & PCI_MSIX_TABLE_OFFSET,
		.pba_bar = pba & PCI_MSIX_PBA_BIR,
		.pba_offset = pba & PCI_MSIX_PBA_OFFSET,
	};
	struct transport_region region;
	if (info.count < layout.count ||
	    !fits(device, layout.table_bar, layout.table_offset, 16ull * layout.count, &region) ||
	    !fits(device, layout.pba_bar, layout.pba_offset, 8ull * ((layout.count + 63) / 64), &region))
		return tenon_fail(err, -ENODEV,
				  "%s: its MSI-X table of %u vectors contradicts its BARs or its host driver; the "
				  "device is broken, or needs a quirk",
				  device->address.name, layout.count);

	interrupts->msix_table = calloc(layout.count, PCI_MSIX_ENTRY_SIZE);
	interrupts->vectors = calloc(layout.count, sizeof(struct vector));
	if (!interrupts->msix_table || !interrupts->vectors)
		return tenon_fail(err, -ENOMEM, "%s: cannot set up MSI-X: out of memory; free some memory",
				  device->address.name);
	interrupts->msix = layout;
	interrupts->vector_count = layout.count;
	interrupts->msix_resizable = info.resizable;
	device->info.msix_vectors = layout.count;
	msix_reset_table(device);
	return 0;
}

/* At power-on every vector is masked. */
void msix_reset_table(struct tenon_device *device)
{
	struct interrupts *interrupts = &device->interrupts;
	if (!interrupts->msix_table)
		return;
	memset(interrupts->msix_table, 0, (size_t)interrupts->msix.count * PCI_MSIX_ENTRY_SIZE);
	for (unsigned i = 0; i < interrupts->msix.count; i++)
		interrupts->msix_table[i * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL] =
			PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

struct message msix_message(const struct tenon_device *device, unsigned vector)
{
	const struct interrupts *interrupts = &device->interrupts;
	const uint8_t *entry = interrupts->msix_table + (size_t)vector * PCI_MSIX_ENTRY_SIZE;
	uint16_t flags = config_value16(&device->config, device->config.msix + PCI_MSIX_FLAGS);
	bool open = (flags & PCI_MSIX_FLAGS_ENABLE) && !(flags & PCI_MSIX_FLAGS_MASKALL);
	struct message message = {
		.wanted = open && !(entry[PCI_MSIX_ENTRY_VECTOR_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT),
	};
	memcpy(&message.address, entry + PCI_MSIX_ENTRY_LOWER_ADDR, sizeof(message.address));
	memcpy(&message.data, entry + PCI_MSIX_ENTRY_DATA, sizeof(message.data));
	message.usable = message.wanted || (open && message.address != 0);
	return message;
}

static bool in_table(const struct tenon_device *device, unsigned bar, uint64_t offset)
{
	const struct msix_layout *msix = &device->interrupts.msix;
	return msix->count && bar == msix->table_bar && offset >= msix->table_offset &&
	       offset - msix->table_offset < (uint64_t)msix->count * PCI_MSIX_ENTRY_SIZE;
}

static bool in_pba(const struct tenon_device *device, unsigned bar, uint64_t offset)
{
	const struct msix_layout *msix = &device->interrupts.msix;
	return msix->count && bar == msix->pba_bar && offset >= msix->pba_offset &&
	       offset - msix->pba_offset < (msix->count + 63) / 64 * 8;
}

static uint8_t pba_byte(const struct tenon_device *device, uint64_t at)
{
	uint8_t byte = 0;
	for (unsigned bit = 0; bit < 8; bit++) {
		uint64_t vector = at * 8 + bit;
		if (vector < device->interrupts.msix.count && vector_pending(&device->interrupts.vectors[vector]))
			byte |= (uint8_t)(1u << bit);
	}
	return byte;
}

bool msix_read(struct tenon_device *device, unsigned bar, uint64_t offset, void *data, unsigned size_bytes)
{
	const struct msix_layout *msix = &device->interrupts.msix;
	uint8_t *bytes = data;
	if (!in_table(device, bar, offset) && !in_pba(device, bar, offset))
		return false;
	if (!in_table(device, bar, offset))
		interrupts_settle(device); /* what is on its way already is not pending */
	for (unsigned i = 0; i < size_bytes; i++) {
		if (in_table(device, bar, offset + i))
			bytes[i] = device->interrupts.msix_table[offset + i - msix->table_offset];
		else if (in_pba(device, bar, offset + i))
			bytes[i] = pba_byte(device, offset + i - msix->pba_offset);
		else
			bytes[i] = 0xff;
	}
	return true;
}

bool msix_write(struct tenon_device *device, unsigned bar, uint64_t offset, const void *data, unsigned size_bytes)
{
	struct interrupts *interrupts = &device->interrupts;
	if (in_pba(device, bar, offset))
		return true; /* read-only */
	if (!in_table(device, bar, offset))
		return false;
	/* The specification allows aligned double and quad words only; others are dropped. */
	uint64_t at = offset - interrupts->msix.table_offset;
	if ((size_bytes != 4 && size_bytes != 8) || at % size_bytes)
		return true;

	unsigned index = (unsigned)(at / PCI_MSIX_ENTRY_SIZE);
	uint8_t *entry = interrupts->msix_table + (size_t)index * PCI_MSIX_ENTRY_SIZE;
	if (interrupts->mode == INTERRUPT_MSIX)
		vectors_settle(device, index, msix_message);
	memcpy(interrupts->msix_table + at, data, size_bytes);
	entry[PCI_MSIX_ENTRY_LOWER_ADDR] &= 0xfc;
	entry[PCI_MSIX_ENTRY_VECTOR_CTRL] &= PCI_MSIX_ENTRY_CTRL_MASKBIT; /* the rest is reserved */
	memset(entry + PCI_MSIX_ENTRY_VECTOR_CTRL + 1, 0, 3);

	if (interrupts->mode == INTERRUPT_MSIX)
		vectors_sync(device, VFIO_PCI_MSIX_IRQ_INDEX, index, 1, msix_message);
	return true;
}

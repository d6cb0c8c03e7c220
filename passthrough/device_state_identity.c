// SPDX-License-Identifier: MIT
/* By what two devices are told apart when the state of one is to be loaded into the other. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "device_state.h"

#define BAR_IO           1u
#define BAR_64BIT        2u
#define BAR_PREFETCHABLE 4u

static uint32_t add_capabilities(const struct config *config, uint32_t sum)
{
	/* Lists that this library has built: they end. */
	bool any = config_value16(config, PCI_STATUS) & PCI_STATUS_CAP_LIST;
	for (unsigned at = any ? config->value[PCI_CAPABILITY_LIST] : 0; at; at = config->value[at + 1]) {
		const uint8_t entry[] = {(uint8_t)at, config->value[at]};
		sum = state_checksum(sum, entry, sizeof(entry));
	}
	if (config->size_bytes < TENON_CONFIG_BYTES)
		return sum;
	for (unsigned at = 0x100; at; at = PCI_EXT_CAP_NEXT(config_value32(config, at)))
		sum = state_checksum(sum, config->value + at, 4);
	return sum;
}

static uint32_t layout(const struct config *config)
{
	const uint8_t *const masks[] = {config->write, config->live, config->pass, config->hook};
	uint32_t sum = add_capabilities(config, 0);
	for (unsigned i = 0; i < sizeof(masks) / sizeof(masks[0]); i++)
		sum = state_checksum(sum, masks[i], config->size_bytes);
	return sum;
}

void state_identify(const struct tenon_device *device, uint64_t identity[STATE_IDS])
{
	const struct tenon_device_info *info = &device->info;
	const struct config *config = &device->config;
	const struct msix_layout *msix = &device->interrupts.msix;
	memset(identity, 0, STATE_IDS * sizeof(identity[0]));
	identity[STATE_ID_VENDOR] = info->vendor_id;
	identity[STATE_ID_DEVICE] = info->device_id;
	identity[STATE_ID_SUBSYSTEM_VENDOR] = info->subsystem_vendor_id;
	identity[STATE_ID_SUBSYSTEM] = info->subsystem_id;
	identity[STATE_ID_CLASS] = config_value32(config, PCI_CLASS_REVISION);
	identity[STATE_ID_CONFIG_BYTES] = config->size_bytes;
	identity[STATE_ID_MULTIFUNCTION] = config->value[PCI_HEADER_TYPE] >> 7;
	if (config->pcie)
		identity[STATE_ID_TYPE] =
			(config_value16(config, config->pcie + PCI_EXP_FLAGS) & PCI_EXP_FLAGS_TYPE) >> 4;
	identity[STATE_ID_INTX_PIN] = device->interrupts.intx_pin;
	identity[STATE_ID_MSI_VECTORS] = device->interrupts.msi_count;
	identity[STATE_ID_MSIX_VECTORS] = msix->count;
	identity[STATE_ID_MSIX_TABLE] = msix->table_offset | msix->table_bar;
	identity[STATE_ID_MSIX_PBA] = msix->pba_offset | msix->pba_bar;
	identity[STATE_ID_ROM_BYTES] = device->rom.size_bytes;
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		const struct tenon_bar_info *bar = &info->bars[i];
		identity[STATE_ID_BAR_BYTES + i] = bar->size_bytes;
		identity[STATE_ID_BAR_KIND + i] = (bar->io ? BAR_IO : 0) | (bar->is_64bit ? BAR_64BIT : 0) |
						  (bar->prefetchable ? BAR_PREFETCHABLE : 0);
	}
	identity[STATE_ID_LAYOUT] = layout(config);
}

static void name_identity(unsigned id, char name[64])
{
	static const char *const names[STATE_ID_BAR_BYTES] = {
		[STATE_ID_VENDOR] = "vendor id",
		[STATE_ID_DEVICE] = "device id",
		[STATE_ID_SUBSYSTEM_VENDOR] = "subsystem vendor id",
		[STATE_ID_SUBSYSTEM] = "subsystem id",
		[STATE_ID_CLASS] = "class and revision",
		[STATE_ID_CONFIG_BYTES] = "size of config space",
		[STATE_ID_MULTIFUNCTION] = "multi-function bit",
		[STATE_ID_TYPE] = "PCI Express device type",
		[STATE_ID_INTX_PIN] = "INTx pin",
		[STATE_ID_MSI_VECTORS] = "number of MSI vectors",
		[STATE_ID_MSIX_VECTORS] = "number of MSI-X vectors",
		[STATE_ID_MSIX_TABLE] = "place of the MSI-X table",
		[STATE_ID_MSIX_PBA] = "place of the MSI-X pending bits",
		[STATE_ID_ROM_BYTES] = "size of the expansion ROM",
	};
	if (id < STATE_ID_BAR_BYTES)
		snprintf(name, 64, "%s", names[id]);
	else if (id < STATE_ID_LAYOUT)
		snprintf(name, 64, "%s of BAR %u", id < STATE_ID_BAR_KIND ? "size" : "kind",
			 (id - STATE_ID_BAR_BYTES) % TENON_DEVICE_BARS);
	else
		snprintf(name, 64, "layout of capabilities (its checksum)");
}

int state_check_identity(const struct tenon_device *device, const uint64_t identity[STATE_IDS], struct tenon_error *err)
{
	uint64_t here[STATE_IDS];
	char name[64];
	state_identify(device, here);
	unsigned id = 0;
	while (id < STATE_IDS && here[id] == identity[id])
		id++;
	if (id == STATE_IDS)
		return 0;
	name_identity(id, name);
	return tenon_fail(
		err, -EINVAL,
		"%s: the state to be loaded is of another device: its %s is 0x%llx, here it is 0x%llx; assign "
		"a device like the one that was saved, in a slot like its",
		device->address.name, name, (unsigned long long)identity[id], (unsigned long long)here[id]);
}

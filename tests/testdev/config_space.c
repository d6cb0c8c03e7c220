// SPDX-License-Identifier: MIT
/*
 * Config space. The SR-IOV capability is the first extended one, which no VMM can simply unlink; a guest must not see it,
 * so a write to it breaks the contract.
 */
#include <linux/pci_regs.h>
#include <string.h>

#include "registers.h"
#include "testdev.h"

#define CAP_PM     0x40
#define CAP_MSI    0x50
#define CAP_MSIX   0x70
#define CAP_PCIE   0x80
#define CAP_VENDOR 0xc0

#define CAP_SRIOV       0x100
#define CAP_SRIOV_BYTES 0x40
#define CAP_SERIAL      0x140
#define CAP_AER         0x150

#define VFS 8

static void put(uint8_t *bytes, unsigned offset, unsigned size, uint64_t value)
{
	memcpy(bytes + offset, &value, size);
}

static uint16_t get16(const struct testdev *device, unsigned offset)
{
	uint16_t value;
	memcpy(&value, device->config.value + offset, sizeof(value));
	return value;
}

static void put_bar(struct config_space *config, unsigned index, uint32_t type, uint32_t bytes)
{
	unsigned at = PCI_BASE_ADDRESS_0 + 4 * index;
	put(config->value, at, 4, type);
	put(config->writable, at, 4, ~(bytes - 1));
	if (type & PCI_BASE_ADDRESS_MEM_TYPE_64)
		put(config->writable, at + 4, 4, UINT32_MAX);
}

static void put_head(struct config_space *config)
{
	put(config->value, PCI_VENDOR_ID, 2, TD_VENDOR_ID);
	put(config->value, PCI_DEVICE_ID, 2, TD_DEVICE_ID);
	put(config->writable, PCI_COMMAND, 2,
	    PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
		    PCI_COMMAND_INTX_DISABLE);
	put(config->value, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	put(config->value, PCI_CLASS_REVISION, 4, (uint32_t)TD_CLASS << 8 | TD_REVISION);
	put(config->writable, PCI_CACHE_LINE_SIZE, 1, 0xff);
	put(config->value, PCI_SUBSYSTEM_VENDOR_ID, 2, TD_VENDOR_ID);
	put(config->value, PCI_SUBSYSTEM_ID, 2, TD_DEVICE_ID);
	put(config->value, PCI_CAPABILITY_LIST, 1, CAP_PM);
	put(config->writable, PCI_INTERRUPT_LINE, 1, 0xff);
	put(config->value, PCI_INTERRUPT_PIN, 1, 1);

	put_bar(config, TD_BAR_REGISTERS, PCI_BASE_ADDRESS_MEM_TYPE_64, TD_REGISTERS_BYTES);
	put_bar(config, TD_BAR_MEMORY, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH, TD_MEMORY_BYTES);
	put_bar(config, TD_BAR_PORTS, PCI_BASE_ADDRESS_SPACE_IO, TD_PORTS_BYTES);
	put_bar(config, TD_BAR_PAGE, 0, TD_PAGE_BYTES);
	put(config->writable, PCI_ROM_ADDRESS, 4, ~(TD_ROM_BYTES - 1u) | PCI_ROM_ADDRESS_ENABLE);
}

static void put_capabilities(struct config_space *config)
{
	put(config->value, CAP_PM, 2, PCI_CAP_ID_PM | CAP_MSI << 8);
	put(config->value, CAP_PM + PCI_PM_PMC, 2, 3); /* version 1.2, no D1, no D2, no PME */
	put(config->value, CAP_PM + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET);
	put(config->writable, CAP_PM + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK);

	put(config->value, CAP_MSI, 2, PCI_CAP_ID_MSI | CAP_MSIX << 8);
	put(config->value, CAP_MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 5 << 1); /* 2^5 */
	put(config->writable, CAP_MSI + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	put(config->writable, CAP_MSI + PCI_MSI_ADDRESS_LO, 4, 0xfffffffc);
	put(config->writable, CAP_MSI + PCI_MSI_ADDRESS_HI, 4, UINT32_MAX);
	put(config->writable, CAP_MSI + PCI_MSI_DATA_64, 2, UINT16_MAX);
	put(config->writable, CAP_MSI + PCI_MSI_MASK_64, 4, UINT32_MAX);

	put(config->value, CAP_MSIX, 2, PCI_CAP_ID_MSIX | CAP_PCIE << 8);
	put(config->value, CAP_MSIX + PCI_MSIX_FLAGS, 2, TD_MSIX_VECTORS - 1);
	put(config->writable, CAP_MSIX + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	put(config->value, CAP_MSIX + PCI_MSIX_TABLE, 4, TD_MSIX_TABLE | TD_BAR_REGISTERS);
	put(config->value, CAP_MSIX + PCI_MSIX_PBA, 4, TD_MSIX_PBA | TD_BAR_REGISTERS);

	put(config->value, CAP_PCIE, 2, PCI_CAP_ID_EXP | CAP_VENDOR << 8);
	put(config->value, CAP_PCIE + PCI_EXP_FLAGS, 2, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
	put(config->value, CAP_PCIE + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
	put(config->writable, CAP_PCIE + PCI_EXP_DEVCTL, 2, 0x7fff); /* the top bit starts the reset and reads zero */
	put(config->value, CAP_PCIE + PCI_EXP_LNKCAP, 4, PCI_EXP_LNKCAP_SLS_2_5GB | 1 << 4);
	put(config->value, CAP_PCIE + PCI_EXP_LNKSTA, 2, PCI_EXP_LNKSTA_CLS_2_5GB | PCI_EXP_LNKSTA_NLW_X1);

	put(config->value, CAP_VENDOR, 2, PCI_CAP_ID_VNDR);
	put(config->value, CAP_VENDOR + 2, 1, 16);
	put(config->value, CAP_VENDOR + 4, 4, TD_ID_VALUE);
	put(config->writable, CAP_VENDOR + 8, 4, UINT32_MAX);
}

static void put_extended(struct config_space *config)
{
	put(config->value, CAP_SRIOV, 4, PCI_EXT_CAP_ID_SRIOV | 1u << 16 | (uint32_t)CAP_SERIAL << 20);
	put(config->writable, CAP_SRIOV + PCI_SRIOV_CTRL, 2, PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE);
	put(config->value, CAP_SRIOV + PCI_SRIOV_INITIAL_VF, 2, VFS);
	put(config->value, CAP_SRIOV + PCI_SRIOV_TOTAL_VF, 2, VFS);
	put(config->writable, CAP_SRIOV + PCI_SRIOV_NUM_VF, 2, UINT16_MAX);
	put(config->value, CAP_SRIOV + PCI_SRIOV_VF_OFFSET, 2, 1);
	put(config->value, CAP_SRIOV + PCI_SRIOV_VF_STRIDE, 2, 1);
	put(config->value, CAP_SRIOV + PCI_SRIOV_VF_DID, 2, TD_DEVICE_ID + 1);
	put(config->value, CAP_SRIOV + PCI_SRIOV_SUP_PGSIZE, 4, 0x553);
	put(config->value, CAP_SRIOV + PCI_SRIOV_SYS_PGSIZE, 4, 1);
	put(config->writable, CAP_SRIOV + PCI_SRIOV_SYS_PGSIZE, 4, UINT32_MAX);
	put(config->value, CAP_SRIOV + PCI_SRIOV_BAR, 4, PCI_BASE_ADDRESS_MEM_TYPE_64);
	put(config->writable, CAP_SRIOV + PCI_SRIOV_BAR, 4, ~(TD_REGISTERS_BYTES - 1u));
	put(config->writable, CAP_SRIOV + PCI_SRIOV_BAR + 4, 4, UINT32_MAX);

	put(config->value, CAP_SERIAL, 4, PCI_EXT_CAP_ID_DSN | 1u << 16 | (uint32_t)CAP_AER << 20);
	put(config->value, CAP_SERIAL + 4, 8, 0x0011223344556677);

	put(config->value, CAP_AER, 4, PCI_EXT_CAP_ID_ERR | 2u << 16);
	put(config->writable, CAP_AER + PCI_ERR_UNCOR_MASK, 4, 0x07fff030);
	put(config->writable, CAP_AER + PCI_ERR_UNCOR_SEVER, 4, 0x07fff030);
	put(config->writable, CAP_AER + PCI_ERR_COR_MASK, 4, 0x0000f1c1);
}

void config_space_reset(struct testdev *device)
{
	struct config_space *config = &device->config;
	memset(config, 0, sizeof(*config));
	put_head(config);
	put_capabilities(config);
	put_extended(config);
}

void config_space_read(struct testdev *device, unsigned offset, uint8_t *data, unsigned bytes)
{
	memcpy(data, device->config.value + offset, bytes);
}

static bool touches(unsigned offset, unsigned bytes, unsigned first, unsigned count)
{
	return offset < first + count && first < offset + bytes;
}

static bool is_stopped(const struct testdev *device)
{
	return !migration_runs(device->migration.state);
}

/* The bit that starts a function level reset is the top one of the register's second byte. */
static bool starts_reset(unsigned offset, const uint8_t *data, unsigned bytes)
{
	unsigned at = CAP_PCIE + PCI_EXP_DEVCTL + 1;
	return touches(offset, bytes, at, 1) && data[at - offset] & PCI_EXP_DEVCTL_BCR_FLR >> 8;
}

void config_space_write(struct testdev *device, unsigned offset, const uint8_t *data, unsigned bytes)
{
	struct config_space *config = &device->config;
	bool was_in_d3 = config_space_in_d3(device);
	if (touches(offset, bytes, CAP_SRIOV, CAP_SRIOV_BYTES))
		journal_add(device, TD_BAD_SRIOV, offset, "config write of %u bytes at 0x%x", bytes, offset);
	for (unsigned i = 0; i < bytes; i++) {
		uint8_t mask = config->writable[offset + i];
		config->value[offset + i] = (uint8_t)((config->value[offset + i] & ~mask) | (data[i] & mask));
	}
	if (was_in_d3 && !config_space_in_d3(device))
		device->resets_power++;
	if (starts_reset(offset, data, bytes)) {
		if (is_stopped(device)) {
			journal_add(device, TD_BAD_STOPPED_RESET, offset, "function level reset");
			return;
		}
		device->resets_flr++;
		testdev_reset(device);
	}
	irqs_update_line(device);
}

void config_space_load(struct testdev *device, const uint8_t saved[CONFIG_BYTES])
{
	config_space_reset(device);
	struct config_space *config = &device->config;
	for (unsigned i = 0; i < CONFIG_BYTES; i++)
		config->value[i] =
			(uint8_t)((config->value[i] & ~config->writable[i]) | (saved[i] & config->writable[i]));
}

bool config_space_decodes(const struct testdev *device, bool io)
{
	return get16(device, PCI_COMMAND) & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
}

bool config_space_masters(const struct testdev *device)
{
	return get16(device, PCI_COMMAND) & PCI_COMMAND_MASTER;
}

bool config_space_in_d3(const struct testdev *device)
{
	return (get16(device, CAP_PM + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK) == 3;
}

bool config_space_intx_disabled(const struct testdev *device)
{
	return get16(device, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
}

void config_space_show_line(struct testdev *device, bool asserted)
{
	uint8_t *status = device->config.value + PCI_STATUS;
	*status = (uint8_t)((*status & ~PCI_STATUS_INTERRUPT) | (asserted ? PCI_STATUS_INTERRUPT : 0));
}

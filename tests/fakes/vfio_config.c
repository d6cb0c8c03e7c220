// SPDX-License-Identifier: MIT
/*
 * The fake kernel's view of config space: which bits it virtualizes, which it lets through, what it does on the way. After
 * drivers/vfio/pci/vfio_pci_config.c: three arrays say for each bit whether it reads from vconfig (virt) and whether it may
 * be written (permitted); what is neither virtual nor permitted is the hardware's, read-only. Below it, the hardware with
 * its own rules (writable, write_1_clears).
 */
#include <errno.h>
#include <string.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "vfio_model.h"

#define CAPABILITIES_MAX 48
#define EXTENDED_MAX     960

static void set_perms(struct fake_device *device, unsigned offset, unsigned size_bytes, uint32_t virt,
		      uint32_t permitted)
{
	for (unsigned i = 0; i < size_bytes && offset + i < FAKE_CONFIG_MAX; i++) {
		device->virt[offset + i] = (uint8_t)(virt >> (8 * i));
		device->permitted[offset + i] = (uint8_t)(permitted >> (8 * i));
	}
}

static void header_perms(struct fake_device *device)
{
	set_perms(device, PCI_VENDOR_ID, 4, ~0u, 0);
	set_perms(device, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE, ~0u);
	set_perms(device, PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0);
	set_perms(device, PCI_CACHE_LINE_SIZE, 1, 0, ~0u);
	set_perms(device, PCI_LATENCY_TIMER, 1, 0, ~0u);
	set_perms(device, PCI_BIST, 1, 0, ~0u);
	for (unsigned i = 0; i < FAKE_BARS; i++)
		set_perms(device, PCI_BASE_ADDRESS_0 + 4 * i, 4, ~0u, ~0u);
	set_perms(device, PCI_ROM_ADDRESS, 4, ~0u, ~0u);
	set_perms(device, PCI_CAPABILITY_LIST, 1, ~0u, 0);
	set_perms(device, PCI_INTERRUPT_LINE, 1, ~0u, ~0u);
	set_perms(device, PCI_INTERRUPT_PIN, 1, ~0u, 0);
}

static unsigned msi_length(uint32_t flags)
{
	return 10 + (flags & PCI_MSI_FLAGS_64BIT ? 4 : 0) + (flags & PCI_MSI_FLAGS_MASKBIT ? 10 : 0);
}

static void msi_perms(struct fake_device *device, unsigned at)
{
	uint32_t flags = fake_config_get(device, at + PCI_MSI_FLAGS, 2);
	bool wide = flags & PCI_MSI_FLAGS_64BIT;
	set_perms(device, at + PCI_MSI_FLAGS, 1, ~0u, ~0u);
	set_perms(device, at + PCI_MSI_ADDRESS_LO, 4, ~0u, ~0u);
	if (wide)
		set_perms(device, at + PCI_MSI_ADDRESS_HI, 4, ~0u, ~0u);
	set_perms(device, at + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32), 2, ~0u, ~0u);
	if (flags & PCI_MSI_FLAGS_MASKBIT) {
		set_perms(device, at + (wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32), 4, 0, ~0u);
		set_perms(device, at + (wide ? PCI_MSI_PENDING_64 : PCI_MSI_PENDING_32), 4, 0, ~0u);
	}
}

/* Length of a capability as the kernel knows it; 0: it is taken out of the list. */
static unsigned capability_length(const struct fake_device *device, unsigned at, uint8_t id)
{
	switch (id) {
	case PCI_CAP_ID_PM:
	case PCI_CAP_ID_VPD:
	case PCI_CAP_ID_PCIX:
		return 8;
	case PCI_CAP_ID_MSI:
		return msi_length(fake_config_get(device, at + PCI_MSI_FLAGS, 2));
	case PCI_CAP_ID_VNDR:
		return device->config[at + 2];
	case PCI_CAP_ID_EXP:
		return 0x2c;
	case PCI_CAP_ID_MSIX:
		return 12;
	case PCI_CAP_ID_AF:
		return 6;
	default:
		return 0;
	}
}

static void capability_perms(struct fake_device *device, unsigned at, uint8_t id)
{
	set_perms(device, at, 2, 0xff00, 0);
	switch (id) {
	case PCI_CAP_ID_PM:
		set_perms(device, at + PCI_PM_PMC, 2, PCI_PM_CAP_PME_MASK, 0);
		set_perms(device, at + PCI_PM_CTRL, 4, PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS,
			  ~(uint32_t)(PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS | PCI_PM_CTRL_STATE_MASK));
		device->vconfig[at + PCI_PM_PMC + 1] &= 0x07;
		break;
	case PCI_CAP_ID_VPD: /* the kernel runs each access through pci_read_vpd() and pci_write_vpd() */
		set_perms(device, at + PCI_VPD_ADDR, 2, 0, ~0u);
		set_perms(device, at + PCI_VPD_DATA, 4, 0, ~0u);
		break;
	case PCI_CAP_ID_MSI:
		msi_perms(device, at);
		break;
	case PCI_CAP_ID_VNDR:
		memset(device->permitted + at + 2, 0xff, device->config[at + 2] - 2u);
		break;
	case PCI_CAP_ID_PCIX:
		set_perms(device, at + PCI_X_CMD, 2, 0, ~0u);
		break;
	case PCI_CAP_ID_EXP:
		set_perms(device, at + PCI_EXP_DEVCTL, 2,
			  PCI_EXP_DEVCTL_BCR_FLR | PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_READRQ,
			  (uint16_t)~PCI_EXP_DEVCTL_PHANTOM);
		set_perms(device, at + PCI_EXP_DEVCTL2, 2, 0, (uint16_t)~0x0020);
		break;
	case PCI_CAP_ID_AF:
		set_perms(device, at + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR, PCI_AF_CTRL_FLR);
		break;
	}
}

static void claim(struct fake_device *device, unsigned at, unsigned length)
{
	for (unsigned i = at; i < at + length && i < device->config_bytes; i++)
		device->area[i] = (uint16_t)at;
	memset(device->virt + at, 0, length);
	memset(device->permitted + at, 0, length);
}

static void walk_capabilities(struct fake_device *device)
{
	if (!(fake_config_get(device, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
		return;
	uint8_t *previous = &device->vconfig[PCI_CAPABILITY_LIST];
	unsigned at = device->config[PCI_CAPABILITY_LIST];
	for (unsigned i = 0; at && i < CAPABILITIES_MAX; i++) {
		uint8_t id = device->config[at], next = device->config[at + 1];
		unsigned length = capability_length(device, at, id);
		if (length == 0) {
			*previous = next;
		} else {
			if (length > 256 - at)
				length = 256 - at;
			claim(device, at, length);
			capability_perms(device, at, id);
			previous = &device->vconfig[at + 1];
		}
		at = next;
	}
}

static unsigned extended_length(const struct fake_device *device, unsigned at, uint16_t id)
{
	switch (id) {
	case PCI_EXT_CAP_ID_ERR:
		return 0x2c;
	case PCI_EXT_CAP_ID_DSN:
		return 12;
	case PCI_EXT_CAP_ID_ACS:
	case PCI_EXT_CAP_ID_ARI:
	case PCI_EXT_CAP_ID_ATS:
	case PCI_EXT_CAP_ID_LTR:
		return 8;
	case PCI_EXT_CAP_ID_PRI:
	case PCI_EXT_CAP_ID_PWR:
		return 16;
	case PCI_EXT_CAP_ID_SRIOV:
		return 0x40;
	case PCI_EXT_CAP_ID_REBAR:
		return 12;
	case PCI_EXT_CAP_ID_VNDR:
	case PCI_EXT_CAP_ID_DVSEC:
		return at + 8 <= FAKE_CONFIG_MAX ? fake_config_get(device, at + 4, 4) >> 20 : 0;
	default:
		return 0;
	}
}

static void extended_perms(struct fake_device *device, unsigned at, uint16_t id, unsigned length)
{
	set_perms(device, at, 4, ~0u, 0);
	if ((id == PCI_EXT_CAP_ID_VNDR || id == PCI_EXT_CAP_ID_DVSEC) && length > 4)
		memset(device->permitted + at + 4, 0xff, length - 4);
	if (id != PCI_EXT_CAP_ID_ERR)
		return;
	set_perms(device, at + PCI_ERR_UNCOR_STATUS, 4, 0, 0x03fff031);
	set_perms(device, at + PCI_ERR_UNCOR_MASK, 4, 0, 0x03fff031);
	set_perms(device, at + PCI_ERR_UNCOR_SEVER, 4, 0, 0x03fff031);
	set_perms(device, at + PCI_ERR_COR_STATUS, 4, 0, 0x0000f1c1);
	set_perms(device, at + PCI_ERR_COR_MASK, 4, 0, 0x0000f1c1);
	set_perms(device, at + PCI_ERR_CAP, 4, 0, PCI_ERR_CAP_ECRC_GENE | PCI_ERR_CAP_ECRC_CHKE);
}

static void put_vconfig(struct fake_device *device, unsigned at, uint32_t value)
{
	memcpy(device->vconfig + at, &value, sizeof(value));
}

static void walk_extended(struct fake_device *device)
{
	if (device->config_bytes < FAKE_CONFIG_MAX || fake_config_get(device, PCI_CFG_SPACE_SIZE, 4) == 0)
		return;
	unsigned previous = 0, at = PCI_CFG_SPACE_SIZE;
	for (unsigned i = 0; at >= PCI_CFG_SPACE_SIZE && i < EXTENDED_MAX; i++) {
		uint32_t header = fake_config_get(device, at, 4);
		uint16_t id = PCI_EXT_CAP_ID(header);
		unsigned length = extended_length(device, at, id), next = PCI_EXT_CAP_NEXT(header);
		if (length == 0 && previous) {
			uint32_t before;
			memcpy(&before, device->vconfig + previous, sizeof(before));
			put_vconfig(device, previous, (before & 0xfffff) | next << 20);
			at = next;
			continue;
		}
		bool hidden = length == 0;
		if (hidden)
			length = 4;
		if (length > FAKE_CONFIG_MAX - at)
			length = FAKE_CONFIG_MAX - at;
		claim(device, at, length);
		extended_perms(device, at, id, length);
		if (hidden) /* the list's head cannot go: an empty capability stands there */
			put_vconfig(device, at, header & 0xffc00000u);
		previous = at;
		at = next;
	}
}

void model_config_bind(struct fake_device *device)
{
	memcpy(device->vconfig, device->config, sizeof(device->vconfig));
	memset(device->virt, 0, sizeof(device->virt));
	memset(device->permitted, 0xff, sizeof(device->permitted)); /* gaps are raw */
	memset(device->area, 0xff, sizeof(device->area));
	claim(device, 0, PCI_STD_HEADER_SIZEOF);
	header_perms(device);
	device->bars_dirty = true;
	walk_capabilities(device);
	walk_extended(device);
}

bool model_config_memory_enabled(const struct fake_device *device)
{
	return device->power < 3 && device->vconfig[PCI_COMMAND] & PCI_COMMAND_MEMORY;
}

static bool is_bar(unsigned at)
{
	return (at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_5 + 4) || (at & ~3u) == PCI_ROM_ADDRESS;
}

/* Virtual BARs show sizes as hardware would. */
static void fix_bars(struct fake_device *device)
{
	device->bars_dirty = false;
	put_vconfig(device, PCI_ROM_ADDRESS, 0);
	for (unsigned i = 0; i < FAKE_BARS; i++) {
		const struct fake_bar *bar = &device->bars[i];
		unsigned at = PCI_BASE_ADDRESS_0 + 4 * i;
		uint64_t value = 0;
		memcpy(&value, device->vconfig + at, bar->is_64bit ? 8 : 4);
		value &= bar->size_bytes ? ~(bar->size_bytes - 1) : 0;
		put_vconfig(device, at, (uint32_t)value | (fake_config_get(device, at, 4) & (bar->io ? 3 : 15)));
		if (bar->is_64bit) {
			put_vconfig(device, at + 4, (uint32_t)(value >> 32));
			i++;
		}
	}
}

static void hardware_write(struct fake_device *device, unsigned at, unsigned size_bytes, uint32_t value)
{
	device->config_writes++;
	for (unsigned i = 0; i < size_bytes; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));
		uint8_t *config = &device->config[at + i];
		uint8_t clear = byte & device->write_1_clears[at + i], change = device->writable[at + i];
		*config = (uint8_t)((*config & ~clear & ~change) | (byte & change));
	}
	if (at <= PCI_COMMAND && at + size_bytes > PCI_COMMAND)
		fake_journal("command 0x%04x", fake_config_get(device, PCI_COMMAND, 2));
	else
		fake_journal("config 0x%03x %u 0x%x", at, size_bytes, value);
}

/*
 * A device without No_Soft_Reset forgets all when it leaves D3; the kernel saves its config space on the way in and restores
 * it on the way out. States that the device does not have are not entered.
 */
void model_config_set_power(struct fake_device *device, unsigned state)
{
	unsigned at = device->pm + PCI_PM_CTRL;
	uint32_t abilities = fake_config_get(device, device->pm + PCI_PM_PMC, 2);
	if (!device->pm || device->power == state || (state == 1 && !(abilities & PCI_PM_CAP_D1)) ||
	    (state == 2 && !(abilities & PCI_PM_CAP_D2)))
		return;
	bool forgets = !(fake_config_get(device, at, 2) & PCI_PM_CTRL_NO_SOFT_RESET);
	if (forgets && state == 3)
		memcpy(device->saved, device->config, sizeof(device->saved));
	if (forgets && device->power == 3 && state == 0) {
		memcpy(device->config, device->saved, sizeof(device->config));
		for (unsigned i = 0; i < FAKE_BARS; i++) {
			if (device->bars[i].memory)
				memset(device->bars[i].memory, 0, device->bars[i].size_bytes);
		}
	}
	device->power = state;
	device->config[at] = (uint8_t)((device->config[at] & ~PCI_PM_CTRL_STATE_MASK) | state);
	fake_journal("power D%u", state);
}

static void after_command(struct fake_device *device, unsigned at, uint32_t value)
{
	if (at == PCI_COMMAND) {
		const uint8_t decode = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;
		device->vconfig[at] = (uint8_t)((device->vconfig[at] & ~decode) | (value & decode));
	}
	bool disabled = device->vconfig[PCI_COMMAND + 1] & (PCI_COMMAND_INTX_DISABLE >> 8);
	if (disabled && !device->intx_disabled) {
		device->intx_disabled = true;
		model_irqs_intx_mask(device);
	} else if (!disabled && device->intx_disabled) {
		device->intx_disabled = false;
		model_irqs_intx_unmask(device);
	}
}

static void after_msi(struct fake_device *device)
{
	uint8_t *flags = &device->vconfig[device->msi + PCI_MSI_FLAGS];
	if (device->irq_kind != VFIO_PCI_MSI_IRQ_INDEX)
		*flags &= (uint8_t)~PCI_MSI_FLAGS_ENABLE;
	hardware_write(device, device->msi + PCI_MSI_FLAGS, 1, *flags);
}

static void after_flr(struct fake_device *device, unsigned at, uint8_t bit)
{
	if (device->vconfig[at] & bit) {
		device->vconfig[at] &= (uint8_t)~bit;
		model_cdev_reset_function(device);
	}
}

static bool touches(unsigned at, unsigned size_bytes, unsigned byte)
{
	return byte >= at && byte < at + size_bytes;
}

/* What writing some registers means beyond their bits. */
static void after_write(struct fake_device *device, unsigned at, unsigned size_bytes, uint32_t value)
{
	if (at == PCI_COMMAND || at == PCI_COMMAND + 1)
		after_command(device, at, value);
	if (is_bar(at))
		device->bars_dirty = true;
	if (device->pm && at == device->pm + PCI_PM_CTRL)
		model_config_set_power(device, value & PCI_PM_CTRL_STATE_MASK);
	if (device->msi && touches(at, size_bytes, device->msi + PCI_MSI_FLAGS))
		after_msi(device);
	if (device->pcie && touches(at, size_bytes, device->pcie + PCI_EXP_DEVCTL + 1))
		after_flr(device, device->pcie + PCI_EXP_DEVCTL + 1, PCI_EXP_DEVCTL_BCR_FLR >> 8);
	if (device->af && touches(at, size_bytes, device->af + PCI_AF_CTRL))
		after_flr(device, device->af + PCI_AF_CTRL, PCI_AF_CTRL_FLR);
}

static void write_chunk(struct fake_device *device, unsigned at, unsigned size_bytes, uint32_t value)
{
	uint32_t to_hardware = 0, merged = fake_config_get(device, at, size_bytes);
	uint8_t any = 0;
	for (unsigned i = 0; i < size_bytes; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));
		uint8_t virt = device->virt[at + i], permitted = device->permitted[at + i];
		uint8_t *shadow = &device->vconfig[at + i];
		any |= permitted;
		*shadow = (uint8_t)((*shadow & ~(permitted & virt)) | (byte & permitted & virt));
		to_hardware |= (uint32_t)(permitted & (uint8_t)~virt) << (8 * i);
	}
	if (to_hardware)
		hardware_write(device, at, size_bytes, (merged & ~to_hardware) | (value & to_hardware));
	if (any)
		after_write(device, at, size_bytes, value);
}

/* Accesses are chopped into aligned pieces that lie in one capability. */
static unsigned chunk_at(const struct fake_device *device, unsigned at, size_t left)
{
	unsigned same = 1;
	while ((at + same) % 4 && device->area[at + same] == device->area[at])
		same++;
	if (same > left)
		same = (unsigned)left;
	return same >= 4 && at % 4 == 0 ? 4 : same >= 2 && at % 2 == 0 ? 2 : 1;
}

int model_config_read(struct fake_device *device, void *buffer, size_t size, uint64_t offset)
{
	if (offset >= device->config_bytes || size > device->config_bytes - offset)
		return -EFAULT;
	if (device->bars_dirty)
		fix_bars(device);
	uint8_t *out = buffer;
	for (size_t i = 0; i < size; i++) {
		uint8_t virt = device->virt[offset + i];
		out[i] = (uint8_t)((device->config[offset + i] & ~virt) | (device->vconfig[offset + i] & virt));
	}
	return 0;
}

int model_config_write(struct fake_device *device, const void *buffer, size_t size, uint64_t offset)
{
	if (offset >= device->config_bytes || size > device->config_bytes - offset)
		return -EFAULT;
	const uint8_t *in = buffer;
	for (size_t done = 0; done < size;) {
		unsigned at = (unsigned)(offset + done), bytes = chunk_at(device, at, size - done);
		uint32_t value = 0;
		memcpy(&value, in + done, bytes);
		write_chunk(device, at, bytes, value);
		done += bytes;
	}
	return 0;
}

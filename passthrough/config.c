// SPDX-License-Identifier: MIT
/*
 * Executes the policy of config_table.c: builds the guest's config space at open and merges each access from the guest's copy and
 * the device. Behaviour of registers is in the parts that the hooks call.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "capabilities.h"
#include "config_table.h"
#include "device.h"

#define HEADER_BYTES   0x40u
#define STANDARD_BYTES 0x100u

uint16_t config_value16(const struct config *config, unsigned offset)
{
	return (uint16_t)(config->value[offset] | config->value[offset + 1] << 8);
}

uint32_t config_value32(const struct config *config, unsigned offset)
{
	return config_value16(config, offset) | (uint32_t)config_value16(config, offset + 2) << 16;
}

void config_set16(uint8_t *bytes, unsigned offset, uint16_t value)
{
	bytes[offset] = (uint8_t)value;
	bytes[offset + 1] = (uint8_t)(value >> 8);
}

void config_set32(uint8_t *bytes, unsigned offset, uint32_t value)
{
	config_set16(bytes, offset, (uint16_t)value);
	config_set16(bytes, offset + 2, (uint16_t)(value >> 16));
}

static uint32_t get(const uint8_t *bytes, unsigned offset, unsigned size_bytes)
{
	uint32_t value = 0;
	for (unsigned i = 0; i < size_bytes; i++)
		value |= (uint32_t)bytes[offset + i] << (8 * i);
	return value;
}

/* @param present  gets how many bytes the device has; a mediated one may have an odd number (mtty: 255) */
static int read_hardware(struct tenon_device *device, uint8_t *hardware, unsigned *present, struct tenon_error *err)
{
	struct transport_region region;
	int code = device->transport->ops->region_info(device->transport, VFIO_PCI_CONFIG_REGION_INDEX, &region, err);
	if (code < 0)
		return code;
	if (region.size_bytes < HEADER_BYTES)
		return tenon_fail(
			err, -ENODEV,
			"%s: its config space has %llu bytes, less than PCI's header of 64; report this kernel",
			device->address.name, (unsigned long long)region.size_bytes);
	*present = region.size_bytes >= TENON_CONFIG_BYTES ? TENON_CONFIG_BYTES
		   : region.size_bytes >= STANDARD_BYTES   ? STANDARD_BYTES
							   : (unsigned)region.size_bytes;
	code = device->transport->ops->region_read(device->transport, VFIO_PCI_CONFIG_REGION_INDEX, 0, hardware,
						   *present);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot read its config space: %s; see the host's kernel log",
				  device->address.name, strerror(-code));
	if ((hardware[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK) != PCI_HEADER_TYPE_NORMAL)
		return tenon_fail(err, -ENODEV,
				  "%s: a bridge or broken (header type 0x%02x); only endpoints can be assigned",
				  device->address.name, hardware[PCI_HEADER_TYPE]);
	return 0;
}

unsigned config_device_control(const struct config *config, unsigned index)
{
	unsigned offset = index == 0 ? PCI_EXP_DEVCTL : PCI_EXP_DEVCTL2;
	return config->pcie && offset + 2 <= config->pcie_bytes ? config->pcie + offset : 0;
}

/* What the device lacks reads zero, and so that no access reaches beyond its end, the last bytes before that never change. */
static void blank_rest(struct config *config, const uint8_t *hardware, unsigned present)
{
	for (unsigned i = present & ~3u; i < config->size_bytes; i++) {
		config->value[i] |= hardware[i] & config->live[i];
		config->live[i] = config->pass[i] = 0;
	}
	for (unsigned i = present; i < config->size_bytes; i++)
		config->value[i] = config->write[i] = config->hook[i] = 0;
}

int config_init(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err)
{
	struct config *config = &device->config;
	uint8_t hardware[TENON_CONFIG_BYTES];
	memset(hardware, 0, sizeof(hardware));
	unsigned present = 0;
	int code = read_hardware(device, hardware, &present, err);
	if (code < 0)
		return code;
	config->size_bytes = present < STANDARD_BYTES ? STANDARD_BYTES : present;

	memcpy(config->value, hardware, HEADER_BYTES);
	memset(config->value + PCI_BASE_ADDRESS_0, 0, 4 * TENON_DEVICE_BARS);
	config->value[PCI_HEADER_TYPE] = 0;
	for (unsigned i = 0; i < config_header_rule_count; i++)
		config_apply_rule(config, 0, &config_header_rules[i]);
	const struct capabilities_policy policy = {
		.sriov_shown = options->sriov == TENON_SRIOV_READ_ONLY,
		.standard_bytes = present < STANDARD_BYTES ? present : STANDARD_BYTES,
	};
	capabilities_build(config, hardware, &policy);
	blank_rest(config, hardware, present);
	for (unsigned i = 0; i < 2; i++) {
		unsigned at = config_device_control(config, i);
		config->device_control[i] = at ? (uint16_t)get(hardware, at, 2) : 0;
	}
	return 0;
}

void config_reset(struct tenon_device *device)
{
	struct config *config = &device->config;
	memcpy(config->value, config->initial, sizeof(config->value));
	memcpy(config->control_written, config->device_control, sizeof(config->control_written));
	config->vpd_address_low = 0;
	config->vpd_asked = 0;
}

static bool is_access(unsigned offset, unsigned size_bytes)
{
	return (size_bytes == 1 || size_bytes == 2 || size_bytes == 4) && offset % size_bytes == 0 &&
	       offset < TENON_CONFIG_BYTES; /* aligned, so the whole access is inside */
}

static uint32_t all_ones(unsigned size_bytes)
{
	return size_bytes == 1 ? 0xff : size_bytes == 2 ? 0xffff : UINT32_MAX;
}

/* MSI's pending bits exist nowhere but in the eventfds. */
static uint32_t merge_msi_pending(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value)
{
	const struct config *config = &device->config;
	if (!config->msi)
		return value;
	uint16_t flags = config_value16(config, config->msi + PCI_MSI_FLAGS);
	unsigned at = config->msi + (flags & PCI_MSI_FLAGS_64BIT ? PCI_MSI_PENDING_64 : PCI_MSI_PENDING_32);
	if (!(flags & PCI_MSI_FLAGS_MASKBIT) || offset + size_bytes <= at || offset >= at + 4)
		return value;
	return msi_pending(device) >> (8 * (offset - at)) & all_ones(size_bytes);
}

uint32_t config_read(struct tenon_device *device, unsigned offset, unsigned size_bytes)
{
	const struct config *config = &device->config;
	if (!is_access(offset, size_bytes) || device->remote.lost)
		return all_ones(size_bytes);
	if (offset >= config->size_bytes) /* extended space of a conventional device */
		return 0;

	uint32_t value = get(config->value, offset, size_bytes);
	uint32_t live = get(config->live, offset, size_bytes);
	if (live)
		value = (value & ~live) | (device_hardware_config_read(device, offset, size_bytes) & live);
	return merge_msi_pending(device, offset, size_bytes, value);
}

/* Bits that go to the device, half word by half word at most, so that no neighbour's write-one-to-clear bit is touched. */
static void write_through(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value)
{
	uint32_t pass = get(device->config.pass, offset, size_bytes);
	if (pass == 0)
		return;
	if (pass == all_ones(size_bytes)) {
		device_hardware_config_write(device, offset, size_bytes, value);
		return;
	}
	if (size_bytes == 4) {
		write_through(device, offset, 2, value & 0xffff);
		write_through(device, offset + 2, 2, value >> 16);
		return;
	}
	uint32_t kept = device_hardware_config_read(device, offset, size_bytes) & ~pass;
	device_hardware_config_write(device, offset, size_bytes, kept | (value & pass));
}

void config_restore_device(struct tenon_device *device)
{
	const struct config *config = &device->config;
	for (unsigned i = 0; i < 2; i++) {
		unsigned at = config_device_control(config, i);
		uint32_t pass = at ? get(config->pass, at, 2) : 0;
		if (pass && ((device_hardware_config_read(device, at, 2) ^ config->device_control[i]) & pass))
			write_through(device, at, 2, config->device_control[i]);
	}
}

/* Of INTX_DISABLE the kernel keeps a virtual copy, which masks and unmasks the host's line. */
#define COMMAND_TO_HARDWARE                                                                                            \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |            \
	 PCI_COMMAND_INTX_DISABLE)

/* The guest loses a BAR before the device stops decoding it, and gets it after the device decodes it. */
static void command_changed(struct tenon_device *device)
{
	uint16_t command = config_value16(&device->config, PCI_COMMAND) & COMMAND_TO_HARDWARE;
	bars_withdraw(device);
	device_hardware_config_write(device, PCI_COMMAND, 2, command);
	bars_place(device);
	interrupts_update(device);
}

void config_repeat(struct tenon_device *device)
{
	const struct config *config = &device->config;
	if (config->pm)
		device_hardware_config_write(device, config->pm + PCI_PM_CTRL, 2,
					     config_value16(config, config->pm + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK);
	device_hardware_config_write(device, PCI_COMMAND, 2, config_value16(config, PCI_COMMAND) & COMMAND_TO_HARDWARE);
}

static void bar_changed(struct tenon_device *device)
{
	bars_withdraw(device);
	bars_place(device);
}

/*
 * Back in D0 the device has the COMMAND that the kernel saved when it left, whatever the guest wrote since: it is written again
 * before any BAR is reachable. A state that the device does not have is not entered.
 */
static void power_changed(struct tenon_device *device)
{
	struct config *config = &device->config;
	unsigned at = config->pm + PCI_PM_CTRL;
	uint16_t abilities = config_value16(config, config->pm + PCI_PM_PMC);
	uint16_t state = config_value16(config, at) & PCI_PM_CTRL_STATE_MASK;
	if ((state == 1 && !(abilities & PCI_PM_CAP_D1)) || (state == 2 && !(abilities & PCI_PM_CAP_D2))) {
		state = (uint16_t)device_hardware_config_read(device, at, 2) & PCI_PM_CTRL_STATE_MASK;
		config->value[at] = (uint8_t)((config->value[at] & ~PCI_PM_CTRL_STATE_MASK) | state);
	}
	bars_withdraw(device);
	device_hardware_config_write(device, at, 2, state);
	if (state == 0)
		device_hardware_config_write(device, PCI_COMMAND, 2,
					     config_value16(config, PCI_COMMAND) & COMMAND_TO_HARDWARE);
	bars_place(device);
	if (state == 0) /* the kernel refuses to enable messages in any other state */
		interrupts_update(device);
}

/*
 * A function level reset that the guest asks for is the device reset of VFIO: the kernel waits and restores what it needs.
 * The bit reads zero, and does nothing on a device that does not claim the ability.
 */
static void function_reset_requested(struct tenon_device *device, uint8_t *control, uint8_t bit, bool able)
{
	struct tenon_error error;
	bool requested = *control & bit;
	*control &= (uint8_t)~bit;
	if (requested && able && reset_by_guest(device, &error) < 0)
		device_log_error(device, &error);
}

/*
 * The upper byte, written last or together with the lower, starts the read; only reads of vital product data: the flag of a
 * write request never reaches the device.
 */
static void vpd_address_written(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value)
{
	struct config *config = &device->config;
	unsigned low = config->vpd + PCI_VPD_ADDR, high = low + 1;
	if (offset <= low && low < offset + size_bytes)
		config->vpd_address_low = (uint8_t)(value >> 8 * (low - offset));
	if (offset > high || high >= offset + size_bytes)
		return;
	uint32_t address = config->vpd_address_low | (value >> 8 * (high - offset) & 0xff) << 8;
	if (address & PCI_VPD_ADDR_F)
		return;
	config->vpd_asked = (uint16_t)(address | PCI_VPD_ADDR_F);
	device_hardware_config_write(device, low, 2, address);
}

static void run_hook(struct tenon_device *device, enum config_hook hook, unsigned offset, unsigned size_bytes,
		     uint32_t value)
{
	struct config *config = &device->config;
	switch (hook) {
	case CONFIG_HOOK_NONE:
		break;
	case CONFIG_HOOK_COMMAND:
		command_changed(device);
		break;
	case CONFIG_HOOK_BAR:
		bar_changed(device);
		break;
	case CONFIG_HOOK_POWER:
		power_changed(device);
		break;
	case CONFIG_HOOK_MSI:
	case CONFIG_HOOK_MSIX:
		interrupts_update(device);
		break;
	case CONFIG_HOOK_PCIE_CONTROL:
		function_reset_requested(device, &config->value[config->pcie + PCI_EXP_DEVCTL + 1],
					 PCI_EXP_DEVCTL_BCR_FLR >> 8,
					 config_value32(config, config->pcie + PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_FLR);
		break;
	case CONFIG_HOOK_AF_CONTROL:
		function_reset_requested(device, &config->value[config->af + PCI_AF_CTRL], PCI_AF_CTRL_FLR,
					 config->value[config->af + PCI_AF_CAP] & PCI_AF_CAP_FLR);
		break;
	case CONFIG_HOOK_VPD:
		vpd_address_written(device, offset, size_bytes, value);
		break;
	}
}

static bool has_hook(const struct config *config, unsigned offset, unsigned size_bytes, enum config_hook hook)
{
	for (unsigned i = 0; i < size_bytes; i++) {
		if (config->hook[offset + i] == (uint8_t)hook)
			return true;
	}
	return false;
}

/* For whoever may not ask the device. */
static void remember_control(struct config *config, unsigned offset, unsigned size_bytes, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++) { /* both bytes of both registers */
		unsigned at = config_device_control(config, i / 2) + i % 2, shift = 8 * (i % 2);
		if (at < 2 || at < offset || at >= offset + size_bytes)
			continue;
		uint16_t mask = (uint16_t)(config->pass[at] << shift);
		uint16_t written = (uint16_t)((value >> 8 * (at - offset) & 0xff) << shift);
		config->control_written[i / 2] =
			(uint16_t)((config->control_written[i / 2] & ~mask) | (written & mask));
	}
}

void config_write(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value)
{
	struct config *config = &device->config;
	if (!is_access(offset, size_bytes) || offset >= config->size_bytes || device->remote.lost)
		return;
	if (has_hook(config, offset, size_bytes, CONFIG_HOOK_MSI) ||
	    has_hook(config, offset, size_bytes, CONFIG_HOOK_MSIX))
		interrupts_settle(device);
	for (unsigned i = 0; i < size_bytes; i++) {
		uint8_t mask = config->write[offset + i];
		uint8_t byte = (uint8_t)(value >> (8 * i));
		config->value[offset + i] = (uint8_t)((config->value[offset + i] & ~mask) | (byte & mask));
	}
	remember_control(config, offset, size_bytes, value);
	write_through(device, offset, size_bytes, value);

	enum config_hook last = CONFIG_HOOK_NONE;
	for (unsigned i = 0; i < size_bytes; i++) {
		enum config_hook hook = (enum config_hook)config->hook[offset + i];
		if (hook != last)
			run_hook(device, hook, offset, size_bytes, value);
		last = hook;
	}
}

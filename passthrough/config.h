/* SPDX-License-Identifier: MIT */
/*
 * The config space that the guest sees: 4096 bytes, each bit with one policy.
 *
 *   value   what the guest reads where `live` is clear
 *   write   bits of `value` that the guest may change
 *   live    bits that are read from the device at each access
 *   pass    bits whose writes go to the device
 *
 * A bit in none of write, live and pass is read-only. What is hidden has value zero. The policy itself is data: config_table.c.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>

struct tenon_device;

struct config {
	uint8_t value[TENON_CONFIG_BYTES];
	uint8_t write[TENON_CONFIG_BYTES];
	uint8_t live[TENON_CONFIG_BYTES];
	uint8_t pass[TENON_CONFIG_BYTES];
	uint8_t hook[TENON_CONFIG_BYTES];     /* enum config_hook of each byte */
	uint8_t initial[TENON_CONFIG_BYTES];  /* `value` as it is at power-on */
	uint8_t unplaced[TENON_CONFIG_BYTES]; /* the same, without what follows from the place in the guest (place.h) */
	unsigned size_bytes;                  /* 256 or 4096 */
	/* Offsets of capabilities that have behaviour; 0: absent. */
	unsigned pm, msi, msix, pcie, vpd, af;
	unsigned pcie_bytes;         /* length of the PCI Express capability */
	uint16_t device_control[2];  /* what the device had in its DEVCTL and DEVCTL2 at open */
	uint16_t control_written[2]; /* of them, the bits that go to the device, as the guest wrote them last */
	uint8_t vpd_address_low;     /* as the guest wrote it last */
	uint16_t vpd_asked;          /* the address that the guest read last, with PCI_VPD_ADDR_F; 0: none */
	bool sriov_hidden;
	unsigned ari; /* where the device has an ARI capability, which the guest does not see; 0: none */
};

/* Behaviour behind a register, run after the guest's write has changed `value`. */
enum config_hook {
	CONFIG_HOOK_NONE,
	CONFIG_HOOK_COMMAND,
	CONFIG_HOOK_BAR,
	CONFIG_HOOK_POWER,
	CONFIG_HOOK_MSI,
	CONFIG_HOOK_MSIX,
	CONFIG_HOOK_PCIE_CONTROL,
	CONFIG_HOOK_AF_CONTROL,
	CONFIG_HOOK_VPD,
};

/** Reads the device's config space and builds the guest's from it. */
int config_init(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err);

/** Back to power-on. Runs no hook. */
void config_reset(struct tenon_device *device);

/** What the guest set in the device itself back to what it was at open: a reset by the kernel would keep it. */
void config_restore_device(struct tenon_device *device);

/** Where DEVCTL (0) or DEVCTL2 (1) is; 0: nowhere. */
unsigned config_device_control(const struct config *config, unsigned index);

/** Writes the power state and COMMAND again, at a device that may have missed them. */
void config_repeat(struct tenon_device *device);

uint32_t config_read(struct tenon_device *device, unsigned offset, unsigned size_bytes);
void config_write(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value);

/* Little-endian accessors of the guest's values, for the parts that give registers their behaviour. */
uint16_t config_value16(const struct config *config, unsigned offset);
uint32_t config_value32(const struct config *config, unsigned offset);
void config_set16(uint8_t *bytes, unsigned offset, uint16_t value);
void config_set32(uint8_t *bytes, unsigned offset, uint32_t value);

#endif

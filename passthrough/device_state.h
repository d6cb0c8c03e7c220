/* SPDX-License-Identifier: MIT */
/*
 * What this library emulates of a device, as it moves to another one of its kind: what of it there is, and its bytes.
 *
 *   header    "TENONDEV", version (4 bytes), length of the whole (4)
 *   section   type (2), zero (2), length of the body (4), body
 *   sections  IDENTITY, CONFIG, PASSED, INTERRUPTS, MSIX_TABLE, CHECKSUM: each once, in this order
 *
 *   IDENTITY    8 bytes for each of enum state_identity: two devices are of a kind when all are equal
 *   CONFIG      config space, of which only those bits are kept that the guest may write and the library holds
 *   PASSED      what the guest wrote to the device itself: DEVCTL (2), DEVCTL2 (2), the address in VPD that was read last (2; 0: none, else
 *               with PCI_VPD_ADDR_F), its lower byte as written last (1), zero (1)
 *   INTERRUPTS  the kind that is on (1: enum interrupt_mode), INTx asserted (1), zero (2), a byte for each vector: STATE_VECTOR_*
 *   MSIX_TABLE  16 bytes for each vector
 *   CHECKSUM    CRC-32C of all before this section
 *
 * All numbers are little-endian. What a later version adds has a later version number; each version reads all before it.
 */
#ifndef DEVICE_STATE_H
#define DEVICE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/device.h>

#define STATE_VERSION     1u
#define STATE_VECTORS_MAX 2048u /* MSI-X has no more */

#define STATE_VECTOR_ARMED   1u /* it has an eventfd at the device */
#define STATE_VECTOR_PENDING 2u /* that holds an interrupt that the guest does not have */

/* By which two devices are told apart. */
enum state_identity {
	STATE_ID_VENDOR,
	STATE_ID_DEVICE,
	STATE_ID_SUBSYSTEM_VENDOR,
	STATE_ID_SUBSYSTEM,
	STATE_ID_CLASS, /* with the revision */
	STATE_ID_CONFIG_BYTES,
	STATE_ID_MULTIFUNCTION,
	STATE_ID_TYPE, /* PCI Express device type */
	STATE_ID_INTX_PIN,
	STATE_ID_MSI_VECTORS,
	STATE_ID_MSIX_VECTORS,
	STATE_ID_MSIX_TABLE,
	STATE_ID_MSIX_PBA,
	STATE_ID_ROM_BYTES,
	STATE_ID_BAR_BYTES,
	STATE_ID_BAR_KIND = STATE_ID_BAR_BYTES + TENON_DEVICE_BARS,
	STATE_ID_LAYOUT =
		STATE_ID_BAR_KIND + TENON_DEVICE_BARS, /* CRC-32C of where capabilities are and who holds which bit */
	STATE_IDS,
};

struct device_state {
	uint64_t identity[STATE_IDS];
	unsigned config_bytes;
	uint8_t config[TENON_CONFIG_BYTES];
	uint16_t device_control[2];
	uint16_t vpd_address;
	uint8_t vpd_address_low;
	uint8_t mode;
	bool intx_asserted;
	unsigned vector_count;
	uint8_t vectors[STATE_VECTORS_MAX];
	unsigned msix_count;
	uint8_t msix_table[STATE_VECTORS_MAX * 16];
};

struct tenon_device;

void state_identify(const struct tenon_device *device, uint64_t identity[STATE_IDS]);
/** @return 0, or -EINVAL: the message names what differs */
int state_check_identity(const struct tenon_device *device, const uint64_t identity[STATE_IDS],
			 struct tenon_error *err);

/** CRC-32C. @param before  0, or that of what goes before */
uint32_t state_checksum(uint32_t before, const void *data, size_t bytes);

/** @param name  of the device, for messages. @param data  the caller's to free. @return 0 or -ENOMEM */
int state_encode(const struct device_state *state, const char *name, void **data, size_t *bytes,
		 struct tenon_error *err);
/** Checks the bytes' form, not what they mean. @return 0, or -EINVAL with the reason */
int state_decode(const void *data, size_t bytes, const char *name, struct device_state *out, struct tenon_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The binary layout of the ACPI tables that the machine has. ACPI Specification 6.4 (section given at each structure),
 * little endian like the processor that this program runs on.
 */
#ifndef ACPI_FORMAT_H
#define ACPI_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define ACPI_PACKED __attribute__((packed))

/* 5.2.5.3 Root System Description Pointer */
struct acpi_rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum; /* of all 36 */
	uint8_t reserved[3];
} ACPI_PACKED;
static_assert(sizeof(struct acpi_rsdp) == 36, "RSDP");

#define ACPI_RSDP_CHECKSUM_BYTES 20

/* 5.2.6 System Description Table Header */
struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_header) == 36, "table header");

/* 5.2.3.2 Generic Address Structure */
struct acpi_gas {
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size;
	uint64_t address;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_gas) == 12, "generic address");

#define ACPI_GAS_SYSTEM_IO   1
#define ACPI_GAS_ACCESS_BYTE 1

/* 5.2.9 Fixed ACPI Description Table. Fields that a hardware-reduced machine leaves zero are named only in groups. */
struct acpi_fadt {
	struct acpi_header header;
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t reserved;
	uint8_t preferred_pm_profile;
	uint8_t pm_registers[63]; /* SCI_INT to CENTURY */
	uint16_t iapc_boot_arch;
	uint8_t reserved2;
	uint32_t flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct acpi_gas x_pm_registers[8]; /* X_PM1a_EVT_BLK to X_GPE1_BLK */
	struct acpi_gas sleep_control_reg;
	struct acpi_gas sleep_status_reg;
	char hypervisor_vendor[8];
} ACPI_PACKED;
static_assert(offsetof(struct acpi_fadt, iapc_boot_arch) == 109, "FADT IAPC_BOOT_ARCH");
static_assert(offsetof(struct acpi_fadt, reset_reg) == 116, "FADT RESET_REG");
static_assert(offsetof(struct acpi_fadt, x_dsdt) == 140, "FADT X_DSDT");
static_assert(offsetof(struct acpi_fadt, sleep_control_reg) == 244, "FADT SLEEP_CONTROL_REG");
static_assert(sizeof(struct acpi_fadt) == 276, "FADT");

#define ACPI_FADT_WBINVD          (1u << 0)
#define ACPI_FADT_PWR_BUTTON      (1u << 4) /* no fixed power button */
#define ACPI_FADT_SLP_BUTTON      (1u << 5) /* no fixed sleep button */
#define ACPI_FADT_FIX_RTC         (1u << 6) /* no RTC wake in fixed registers */
#define ACPI_FADT_RESET_REG_SUP   (1u << 10)
#define ACPI_FADT_HEADLESS        (1u << 12)
#define ACPI_FADT_HW_REDUCED_ACPI (1u << 20)

/* IAPC_BOOT_ARCH (table 5.11). LEGACY_DEVICES and 8042 say by their absence that there is no such thing to probe. */
#define ACPI_FADT_NO_VGA      (1u << 2)
#define ACPI_FADT_NO_CMOS_RTC (1u << 5)

/* 5.2.12 Multiple APIC Description Table: this, then entries that start with their type and length */
struct acpi_madt {
	struct acpi_header header;
	uint32_t local_apic;
	uint32_t flags;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_madt) == 44, "MADT");

struct acpi_madt_local_apic {
	uint8_t type;
	uint8_t length;
	uint8_t processor_uid;
	uint8_t apic_id;
	uint32_t flags;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_madt_local_apic) == 8, "MADT local APIC");

struct acpi_madt_io_apic {
	uint8_t type;
	uint8_t length;
	uint8_t id;
	uint8_t reserved;
	uint32_t address;
	uint32_t gsi_base;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_madt_io_apic) == 12, "MADT I/O APIC");

struct acpi_madt_local_nmi {
	uint8_t type;
	uint8_t length;
	uint8_t processor_uid;
	uint16_t flags;
	uint8_t lint;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_madt_local_nmi) == 6, "MADT local APIC NMI");

#define ACPI_MADT_LOCAL_APIC         0
#define ACPI_MADT_IO_APIC            1
#define ACPI_MADT_LOCAL_NMI          4
#define ACPI_MADT_LOCAL_APIC_ENABLED 1u
#define ACPI_MADT_ALL_PROCESSORS     0xff

/* PCI Firmware Specification 3.3, 4.1.2: one base address allocation */
struct acpi_mcfg {
	struct acpi_header header;
	uint8_t reserved[8];
	uint64_t ecam;
	uint16_t segment;
	uint8_t first_bus;
	uint8_t last_bus;
	uint8_t reserved2[4];
} ACPI_PACKED;
static_assert(sizeof(struct acpi_mcfg) == 60, "MCFG");

#endif

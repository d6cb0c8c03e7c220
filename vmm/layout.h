/* SPDX-License-Identifier: MIT */
/*
 * Guest physical addresses and ports of the machine that tenon offers. Plain numbers only: firmware/ includes this file.
 *
 *   0x0000'0000  RAM (first part, up to 3 GiB)
 *   0xc000'0000  32-bit PCI window
 *   0xe000'0000  ECAM, 1 MiB per bus
 *   0xfec0'0000  IOAPIC       0xfee0'0000  LAPIC and message window (never RAM: devices' writes there are interrupts)
 *   0xffff'0000  ROM with the firmware, when there is one
 *   0x1'0000'0000  RAM (the rest), then the 64-bit PCI window
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#define LAYOUT_VERSION 1u /* of all below: machines of one version can take over each other's guests */

/* First megabyte */
#define LAYOUT_GDT             0x500u   /* boot-time descriptor table */
#define LAYOUT_PVH_INFO        0x6000u  /* hvm_start_info, its modules and memory map: one page */
#define LAYOUT_BOOT_PARAMS     0x7000u  /* Linux boot_params ("zero page"): one page */
#define LAYOUT_PAGE_TABLES     0x9000u  /* identity map of the first 4 GiB: 6 pages */
#define LAYOUT_CMDLINE         0x20000u /* kernel command line */
#define LAYOUT_CMDLINE_BYTES   0x10000u
#define LAYOUT_FDT             0x30000u /* the machine's description for the firmware */
#define LAYOUT_FDT_BYTES       0x10000u
#define LAYOUT_FIRMWARE_RAM    0x40000u /* where the firmware copies itself to: code, data, stack */
#define LAYOUT_FIRMWARE_TABLES 0x70000u /* its page tables for what lies above 4 GiB: 24 pages */
#define LAYOUT_LOW_RAM_END     0x9fc00u /* usable RAM below the hole of the first megabyte ends here */
#define LAYOUT_ACPI            0xe0000u /* RSDP first (a firmware's search range), all other tables after it */
#define LAYOUT_ACPI_BYTES      0x20000u
#define LAYOUT_HIGH_RAM        0x100000u

/* Below 4 GiB */
#define LAYOUT_PCI32            0xc0000000u
#define LAYOUT_PCI32_BYTES      0x20000000u
#define LAYOUT_ECAM             0xe0000000u
#define LAYOUT_ECAM_BUS_BYTES   0x100000u
#define LAYOUT_IOAPIC           0xfec00000u
#define LAYOUT_LAPIC            0xfee00000u
#define LAYOUT_KVM_IDENTITY_MAP 0xfeffc000u /* Intel's real-mode helpers: 1 page, then the 3 pages of the TSS */
#define LAYOUT_KVM_TSS          0xfeffd000u
#define LAYOUT_ROM_BYTES_MAX    0x10000u /* the ROM ends at 4 GiB: 0xfffffff0 is where a CPU starts */
#define LAYOUT_RAM_ABOVE_4G     0x100000000ull

/* Ports */
#define LAYOUT_SERIAL_PORT        0x3f8u
#define LAYOUT_SERIAL_GSI         4u
#define LAYOUT_EXIT_PORT          0x500u /* 4 bytes: a write of any size ends the VM with that status (low 8 bits) */
#define LAYOUT_SLEEP_CONTROL_PORT 0x600u /* FADT SLEEP_CONTROL_REG: 1 byte */
#define LAYOUT_SLEEP_STATUS_PORT  0x601u /* FADT SLEEP_STATUS_REG: 1 byte */
#define LAYOUT_RESET_PORT         0x602u /* FADT RESET_REG: 1 byte */
#define LAYOUT_RESET_VALUE        0x01u
#define LAYOUT_SLEEP_TYPE_S5      5u
#define LAYOUT_PCI_IO             0x1000u /* I/O window of the host bridge */
#define LAYOUT_PCI_IO_BYTES       0xf000u

/* What the firmware writes to the exit port. Others end with statuses below these (vmm/loop.h) */
#define LAYOUT_FIRMWARE_PASSED      0u
#define LAYOUT_FIRMWARE_FAILED      16u /* a check failed, or data was not what it should be */
#define LAYOUT_FIRMWARE_CRASHED     17u /* an exception that nobody expected */
#define LAYOUT_FIRMWARE_DESCRIPTION 18u /* the machine's description is wrong, or its BARs do not fit */
#define LAYOUT_FIRMWARE_USAGE       19u /* a command line that the firmware does not understand */

/* IOAPIC pins (GSIs) of INTA-INTD of root bus devices: device d, pin p uses LAYOUT_INTX_GSI + (d + p) % 4 */
#define LAYOUT_INTX_GSI 16u

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables of the machine: RSDP, XSDT, FADT (hardware-reduced), MADT, MCFG, DSDT. ACPI Specification 6.4.
 */
#ifndef ACPI_TABLES_H
#define ACPI_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#define ACPI_CPUS_MAX    64
#define ACPI_BRIDGES_MAX 40

struct acpi_window {
	uint64_t first;
	uint64_t size_bytes; /* 0: absent */
};

/* A bridge on bus 0. Its secondary bus gets a _PRT: for device 0 behind a root port, for all 32 behind a conventional bridge. */
struct acpi_bridge {
	unsigned device, function;
	bool conventional;
};

/* What the tables describe. Fixed addresses and ports come from layout.h. */
struct acpi_machine {
	unsigned cpu_count;        /* 1 to ACPI_CPUS_MAX; APIC ids 0 .. count-1 */
	unsigned bus_count;        /* 1 to 256; buses 0 .. count-1 behind the one host bridge; sizes MCFG and _CRS */
	struct acpi_window pci_io; /* host bridge windows */
	struct acpi_window pci32;
	struct acpi_window pci64;
	bool exit_device;                             /* describe the exit device (_HID "TNON0001") with its port */
	struct acpi_bridge bridges[ACPI_BRIDGES_MAX]; /* no two at one place */
	unsigned bridge_count;
};

/**
 * Builds all tables into `image`, to be copied to LAYOUT_ACPI. The RSDP is at its start.
 *
 * @param image     `capacity` bytes, zeroed by the call; LAYOUT_ACPI_BYTES are enough for every machine
 * @return the number of bytes used; -E2BIG when `capacity` is too small; -EINVAL for a machine that cannot be described
 */
int acpi_build(const struct acpi_machine *machine, uint8_t *image, size_t capacity, struct tenon_error *err);

#endif

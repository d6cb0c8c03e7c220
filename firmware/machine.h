/* SPDX-License-Identifier: MIT */
/* The machine, as the VMM's flattened device tree describes it. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "../vmm/layout.h"

struct range {
	uint64_t first, bytes;
};

#define RAM_PARTS_MAX 4
#define RESERVED_MAX  8

/* What PCI places BARs in. */
enum space { SPACE_IO, SPACE_32, SPACE_64, SPACES };

struct machine {
	const void *fdt;
	const char *command_line; /* "": none */
	struct range ram[RAM_PARTS_MAX], reserved[RESERVED_MAX];
	unsigned ram_count, reserved_count, cpu_count;
	uint64_t tsc_hz;
	struct range ecam;
	unsigned last_bus;
	struct range windows[SPACES];
	uint64_t hotplug_bytes[SPACES]; /* what an empty port's windows should have */
	uint16_t serial_port, exit_port, sleep_port, reset_port;
	uint8_t sleep_value;
	bool has_kernel;
};

extern struct machine machine;

/** Reads the description at LAYOUT_FDT into `machine`. @return NULL, or what is wrong with it */
const char *machine_read(void);

/** GSI of a root bus device's pin (0: INTA), by the interrupt map; -1: none. */
int machine_gsi(unsigned device, unsigned pin);

/**
 * The host's address of the assigned device at a place; devfn is device << 3 | function.
 *
 * @param bridge_devfn  of the bridge that it is behind; -1: it is on the root bus
 * @return NULL: not an assigned device
 */
const char *machine_host_address(int bridge_devfn, unsigned devfn);

/** Offset of a property of /chosen; NULL: not there. */
const void *machine_chosen(const char *name, int *bytes);
/** A number of 8 bytes in /chosen; 0: not there. */
uint64_t machine_chosen_number(const char *name);

bool machine_is_ram(uint64_t address);

/** Ends the VM with that status; where there is no exit port, it is switched off. */
void machine_end(unsigned status) __attribute__((noreturn));

/* ---- Time, by the time stamp counter ---- */

uint64_t now_ns(void);
void wait_us(uint64_t us);

#endif

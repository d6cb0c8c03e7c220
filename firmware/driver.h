/* SPDX-License-Identifier: MIT */
/* What the self-test knows of devices that it can drive; of all others it tests what PCI says. */
#ifndef DRIVER_H
#define DRIVER_H

#include <stdbool.h>

#include "pci.h"

enum irq_kind { IRQ_LINE, IRQ_MSI, IRQ_MSIX };

/* Memory for DMA and copies: a megabyte that nothing else uses. */
#define DMA_MEMORY       LAYOUT_HIGH_RAM
#define DMA_MEMORY_BYTES 0x100000ul

struct driver {
	const char *name;
	uint16_t vendor, id; /* 0, 0: any, by class_code */
	uint32_t class_code;
	/* A register in memory that can be read at any time and whose value stays: to see whether a BAR is where it should be. */
	unsigned register_bar, register_offset;
	/* Makes the device able to interrupt and do DMA: decoding, bus mastering and interrupts are enabled. @return NULL, or what went wrong */
	const char *(*start)(const struct function *function);
	/* Makes it raise an interrupt. @return false: it cannot raise that vector */
	bool (*raise)(const struct function *function, enum irq_kind kind, unsigned vector);
	/* Lets the line go. */
	void (*quiet)(const struct function *function);
	/* Whether what start did is gone; NULL: cannot be seen. */
	bool (*is_reset)(const struct function *function);
	/* Checks of its own, DMA above all. */
	void (*check)(const struct function *function);
};

/** NULL: a device that the firmware does not know. */
const struct driver *driver_of(const struct function *function);

extern const struct driver driver_testdev, driver_nvme, driver_edu;

/* ---- The checks, in their order ---- */

void check_config(const struct function *function);
void check_bars(const struct function *function, const struct driver *driver);
void check_interrupts(const struct function *function, const struct driver *driver);
void check_reset(const struct function *function, const struct driver *driver);

/** The value of the driver's register, by where the BAR is now. */
uint32_t driver_register(const struct function *function, const struct driver *driver);

#endif

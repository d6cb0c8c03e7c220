/* SPDX-License-Identifier: MIT */
/*
 * The device's config space: what its registers hold, which of their bits a write changes, and what else a write does.
 * Source: PCI Express Base Specification 6.0, chapter 7 (config space), 9.3.3 (SR-IOV); PCI Local Bus 3.0, 6.8 (MSI).
 */
#ifndef CONFIG_SPACE_H
#define CONFIG_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_BYTES 4096u

struct config_space {
	uint8_t value[CONFIG_BYTES];
	uint8_t writable[CONFIG_BYTES]; /* bits */
};

struct testdev;

/** What the start gives, and a function level reset leaves. */
void config_space_reset(struct testdev *device);

/* Any size inside the config space. */
void config_space_read(struct testdev *device, unsigned offset, uint8_t *data, unsigned bytes);
void config_space_write(struct testdev *device, unsigned offset, const uint8_t *data, unsigned bytes);

/** Takes over a saved config space: only bits that can be written. */
void config_space_load(struct testdev *device, const uint8_t saved[CONFIG_BYTES]);

bool config_space_decodes(const struct testdev *device, bool io);
bool config_space_masters(const struct testdev *device);
bool config_space_in_d3(const struct testdev *device);
bool config_space_intx_disabled(const struct testdev *device);
/** The interrupt status bit of the status register. */
void config_space_show_line(struct testdev *device, bool asserted);

#endif

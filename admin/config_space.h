/* SPDX-License-Identifier: MIT */
/* What the inventory takes from a device's config space, as sysfs shows it: 64 bytes to everybody, all of it to root. */
#ifndef CONFIG_SPACE_H
#define CONFIG_SPACE_H

#include "inventory.h"

/* Intel VT-d specification, 11.4.3 Extended Capability Register. */
#define INTEL_ECAP_INTERRUPT_REMAPPING (1u << 3)
#define INTEL_ECAP_SNOOP_CONTROL       (1u << 7)

/** Fills the fields of `device` that come from config space. */
void config_space_read(const struct host *host, struct device *device);

/** The same from bytes. @param length  how many there are, 0 to 4096 */
void config_space_parse(const uint8_t *config, size_t length, struct device *device);

#endif

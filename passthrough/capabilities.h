/* SPDX-License-Identifier: MIT */
/* The capability lists of a device, walked as hostile input, and the guest's edited copies of them. */
#ifndef CAPABILITIES_H
#define CAPABILITIES_H

#include <tenon/error.h>

#include "config.h"
#include "config_table.h"

struct capabilities_policy {
	bool sriov_shown;        /* read-only */
	unsigned standard_bytes; /* where the device's standard space ends: 256, or less where it is cut short */
};

/**
 * Builds the guest's lists in config->value from the device's bytes in `hardware`: what the policy hides is unlinked and zeroed,
 * what it shows gets its rules. A list that loops or runs out of bounds ends where it goes wrong.
 */
void capabilities_build(struct config *config, const uint8_t *hardware, const struct capabilities_policy *policy);

/** Length of an extended capability's body, as it says itself or the table knows; 0: it says none. */
unsigned capabilities_extended_bytes(const uint8_t *bytes, unsigned at, const struct config_capability *row);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * How a guest ends or restarts its machine: the ACPI sleep control and reset registers, and the exit device.
 * Each calls back on the vCPU's thread.
 */
#ifndef POWER_H
#define POWER_H

#include <stdbool.h>
#include <stdint.h>

#include "../bus.h"

enum power_request { POWER_OFF, POWER_RESET, POWER_EXIT };

struct power {
	/* status: what the guest wrote, for POWER_EXIT; else 0 */
	void (*request)(void *context, enum power_request request, unsigned status);
	void *context;
};

/** Puts the registers on the port bus; the exit device only when asked. @param power outlives the bus */
int power_init(struct power *power, bool exit_device, struct bus *ports, struct tenon_error *err);

#endif

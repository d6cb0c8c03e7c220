// SPDX-License-Identifier: MIT
/*
 * Power and exit registers. Sources: ACPI 6.4 section 4.8.3.7 (sleep control and status registers), 4.8.3.6 (reset register);
 * the exit device is tenon's own: one port, whose first write is the VM's exit status.
 */
#include <string.h>

#include "../layout.h"
#include "power.h"

#define SLEEP_ENABLE      0x20u
#define SLEEP_TYPE(value) ((value) >> 2 & 7u)

/* Every register reads zero: no wake status, nothing pending. */
static void read_zero(void *context, uint64_t offset, void *data, unsigned size_bytes)
{
	memset(data, 0, size_bytes);
}

static void write_sleep(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
	const struct power *power = context;
	uint8_t value = *(const uint8_t *)data;
	if (offset == 0 && (value & SLEEP_ENABLE) && SLEEP_TYPE(value) == LAYOUT_SLEEP_TYPE_S5)
		power->request(power->context, POWER_OFF, 0);
}

static void write_reset(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
	const struct power *power = context;
	if (*(const uint8_t *)data == LAYOUT_RESET_VALUE)
		power->request(power->context, POWER_RESET, 0);
}

static void write_exit(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
	const struct power *power = context;
	if (offset == 0)
		power->request(power->context, POWER_EXIT, *(const uint8_t *)data);
}

int power_init(struct power *power, bool exit_device, struct bus *ports, struct tenon_error *err)
{
	const struct bus_range ranges[] = {
		{LAYOUT_SLEEP_CONTROL_PORT, 2, {read_zero, write_sleep, power}},
		{LAYOUT_RESET_PORT, 1, {read_zero, write_reset, power}},
		{LAYOUT_EXIT_PORT, 4, {read_zero, write_exit, power}},
	};
	for (unsigned i = 0; i < (exit_device ? 3 : 2); i++) {
		int code = bus_add(ports, &ranges[i], err);
		if (code < 0)
			return code;
	}
	return 0;
}

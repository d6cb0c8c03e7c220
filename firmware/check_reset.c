// SPDX-License-Identifier: MIT
/* Power states (PCI Bus Power Management 1.2, 5.6) and function level reset (PCI Express Base 5.0, 6.6.2; AF: ECN of 2006). */
#include <stddef.h>

#include "check.h"
#include "cpu.h"
#include "driver.h"

#define RECOVERY_US 100000 /* that a function may take after a reset */
#define WAKE_US     10000  /* from D3hot to D0 */

/* Puts back what a reset takes away. */
static void restore(const struct function *function)
{
	for (unsigned bar = 0; bar <= ROM; bar++) {
		if (function->bars[bar].bytes)
			bar_place(function, bar, function->bars[bar].address);
	}
}

static void check_power(const struct function *function, const struct driver *driver)
{
	unsigned at = find_capability(function, CAP_POWER);
	check_begin(function, "power");
	if (!at) {
		check_skip("the device has no power management");
		return;
	}
	set_command(function, COMMAND_MEMORY, COMMAND_MASTER);
	uint16_t control = config_read16(function, at + POWER_CONTROL);
	config_write16(function, at + POWER_CONTROL, (uint16_t)((control & ~POWER_STATE) | 3));
	wait_us(WAKE_US);
	uint16_t asleep = config_read16(function, at + POWER_CONTROL);
	uint32_t value = driver ? driver_register(function, driver) : 0xffffffff;
	config_write16(function, at + POWER_CONTROL, (uint16_t)(control & ~POWER_STATE));
	wait_us(WAKE_US);
	uint16_t awake = config_read16(function, at + POWER_CONTROL);
	restore(function);
	set_command(function, COMMAND_MEMORY, 0);
	uint32_t back = driver ? driver_register(function, driver) : 0;
	if ((asleep & POWER_STATE) != 3 || (awake & POWER_STATE) != 0)
		check_fail("D3hot reads as D%u, D0 as D%u", asleep & POWER_STATE, awake & POWER_STATE);
	else if (value != 0xffffffff)
		check_fail("answers %08x in D3hot", value);
	else if (back == 0xffffffff)
		check_fail("does not answer after D3hot");
	else
		check_pass("to D3hot, silent there, and back");
}

/* Starts a function level reset. @return false: there is none */
static bool start_reset(const struct function *function)
{
	unsigned express = find_capability(function, CAP_EXPRESS), af = find_capability(function, CAP_AF);
	if (express && config_read32(function, express + EXPRESS_CAPABILITIES) & EXPRESS_FLR) {
		uint16_t control = config_read16(function, express + EXPRESS_CONTROL);
		config_write16(function, express + EXPRESS_CONTROL, control | EXPRESS_CONTROL_FLR);
		return true;
	}
	if (af && config_read8(function, af + AF_CAPABILITIES) & AF_FLR) {
		config_write8(function, af + AF_CONTROL, 1);
		return true;
	}
	return false;
}

static void check_flr(const struct function *function, const struct driver *driver)
{
	unsigned msix = find_capability(function, CAP_MSIX);
	check_begin(function, "flr");
	set_command(function, COMMAND_MEMORY | COMMAND_MASTER, 0);
	const char *trouble = driver ? driver->start(function) : NULL;
	if (trouble) {
		check_fail("%s", trouble);
		return;
	}
	if (msix)
		config_write16(function, msix + MSIX_CONTROL, MSIX_ENABLE);
	uint64_t started = now_ns();
	if (!start_reset(function)) {
		check_skip("the device has no function level reset");
		if (msix)
			config_write16(function, msix + MSIX_CONTROL, 0);
		return;
	}
	wait_us(RECOVERY_US);
	uint32_t ids = config_read32(function, PCI_VENDOR);
	uint16_t command = config_read16(function, PCI_COMMAND);
	uint16_t control = msix ? config_read16(function, msix + MSIX_CONTROL) : 0;
	uint64_t took = now_ns() - started;
	restore(function);
	set_command(function, COMMAND_MEMORY, 0);
	if (ids != (function->vendor | (uint32_t)function->id << 16))
		check_fail("the device reads %08x after it", ids);
	else if (command & (COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER))
		check_fail("decoding or bus mastering is on after it: %04x", command);
	else if (control & MSIX_ENABLE)
		check_fail("MSI-X is enabled after it");
	else if (driver && driver->is_reset && !driver->is_reset(function))
		check_fail("the device still has what it was given before it");
	else
		check_pass("done after %lu us; command register and MSI-X are as after power-on%s", took / 1000,
			   driver && driver->is_reset ? ", the device's registers too" : "");
}

void check_reset(const struct function *function, const struct driver *driver)
{
	check_power(function, driver);
	check_flr(function, driver);
}

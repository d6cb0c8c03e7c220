// SPDX-License-Identifier: MIT
/*
 * Power states (PCI Bus Power Management 1.2, 5.6), function level reset (PCI Express Base 5.0, 6.6.2; AF: ECN of 2006), and the reset
 * of the bus by the bridge above it (PCI-to-PCI Bridge 1.2, 3.2.5.17), which hits all functions there.
 */
#include <stddef.h>

#include "check.h"
#include "cpu.h"
#include "driver.h"
#include "groups.h"

#define RECOVERY_US 100000        /* that a function may take after a reset */
#define WAKE_US     10000         /* from D3hot to D0 */
#define HOLD_US     2000          /* a bus is kept in reset for a millisecond at least */
#define BACK_NS     10000000000ul /* that functions may take to answer after a reset of their bus */

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

/* Decoding, mastering, MSI-X and what the driver leaves in the device: what a reset takes away. @return false: the check has failed */
static bool give_state(const struct function *function, const struct driver *driver, unsigned msix)
{
	set_command(function, COMMAND_MEMORY | COMMAND_MASTER, 0);
	const char *trouble = driver ? driver->start(function) : NULL;
	if (trouble) {
		check_fail("%s", trouble);
		return false;
	}
	if (msix)
		config_write16(function, msix + MSIX_CONTROL, MSIX_ENABLE);
	return true;
}

static void check_flr(const struct function *function, const struct driver *driver)
{
	unsigned msix = find_capability(function, CAP_MSIX);
	check_begin(function, "flr");
	if (!give_state(function, driver, msix))
		return;
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

/* ---- Of the bus ---- */

static struct {
	uint16_t command;
	uint8_t line;
} saved[FUNCTIONS_MAX];

static unsigned save_bus(int bridge)
{
	unsigned count = 0;
	for (unsigned i = 0; i < function_count; i++) {
		if (functions[i].parent != bridge)
			continue;
		saved[i].command = config_read16(&functions[i], PCI_COMMAND);
		saved[i].line = config_read8(&functions[i], PCI_INTERRUPT_LINE);
		count++;
	}
	return count;
}

static void restore_bus(int bridge)
{
	for (unsigned i = 0; i < function_count; i++) {
		if (functions[i].parent != bridge)
			continue;
		restore(&functions[i]);
		config_write8(&functions[i], PCI_INTERRUPT_LINE, saved[i].line);
		config_write16(&functions[i], PCI_COMMAND, saved[i].command);
	}
}

/* The first function that answers, or that does not; NULL: none. */
static const struct function *first_behind(int bridge, bool answers)
{
	for (unsigned i = 0; i < function_count; i++) {
		const struct function *function = &functions[i];
		uint32_t ids = function->vendor | (uint32_t)function->id << 16;
		if (function->parent == bridge && (config_read32(function, PCI_VENDOR) == ids) == answers)
			return function;
	}
	return NULL;
}

/* Its register without the bits that tell its kind; of the expansion ROM, without those that are reserved. */
static uint64_t bar_address(const struct function *function, unsigned bar)
{
	unsigned at = bar_register(function, bar);
	uint32_t low = config_read32(function, at);
	if (bar == ROM)
		return low & ROM_ADDRESS;
	if (low & BAR_IO)
		return low & ~3u;
	return (low & ~0xfu) | (function->bars[bar].is_64bit ? (uint64_t)config_read32(function, at + 4) << 32 : 0);
}

/* Reports the first function behind the bridge that is not as after power-on. @return whether there is one */
static bool kept_state(int bridge)
{
	char place[PLACE_BYTES];
	for (unsigned i = 0; i < function_count; i++) {
		const struct function *function = &functions[i];
		if (function->parent != bridge)
			continue;
		place_text(function, place);
		uint16_t command = config_read16(function, PCI_COMMAND);
		if (command & (COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER)) {
			check_fail("decoding or bus mastering of %s is on after it: %04x", place, command);
			return true;
		}
		for (unsigned bar = 0; bar <= ROM; bar++) {
			uint64_t address = function->bars[bar].bytes ? bar_address(function, bar) : 0;
			if (address) {
				check_fail("BAR %u of %s is still at %lx after it", bar, place, address);
				return true;
			}
		}
	}
	return false;
}

/* @return the function that does not answer BACK_NS after it; NULL: all are back. *answered: one does during the reset, or NULL */
static const struct function *reset_bus(int bridge, const struct function **answered)
{
	const struct function *port = &functions[bridge];
	uint16_t control = config_read16(port, BRIDGE_CONTROL);
	config_write16(port, BRIDGE_CONTROL, control | BRIDGE_CONTROL_RESET);
	wait_us(HOLD_US);
	*answered = first_behind(bridge, true);
	config_write16(port, BRIDGE_CONTROL, control & ~BRIDGE_CONTROL_RESET);
	uint64_t end = now_ns() + BACK_NS;
	const struct function *silent = first_behind(bridge, false);
	while (silent && now_ns() < end) {
		wait_us(1000);
		silent = first_behind(bridge, false);
	}
	return silent;
}

static bool offered(const struct function *function)
{
	const struct reset_group *group = group_of(function);
	if (function->parent >= 0 && group && group->bus_reset)
		return true;
	if (group && !group->bus_reset && group->why[0])
		check_skip("%s", group->why);
	else
		check_skip("%s", function->parent < 0 ? "the root bus has none" : "the machine offers none");
	return false;
}

static void check_bus(const struct function *function, const struct driver *driver)
{
	unsigned msix = find_capability(function, CAP_MSIX);
	char place[PLACE_BYTES];
	check_begin(function, "bus reset");
	if (!offered(function))
		return;
	unsigned count = save_bus(function->parent);
	if (!give_state(function, driver, msix))
		return;
	uint64_t started = now_ns();
	const struct function *answered, *silent = reset_bus(function->parent, &answered);
	uint64_t took = now_ns() - started;
	if (silent) {
		place_text(silent, place);
		check_fail("%s does not answer %lu s after it", place, BACK_NS / 1000000000);
		return;
	}
	bool kept = kept_state(function->parent);
	uint16_t control = msix ? config_read16(function, msix + MSIX_CONTROL) : 0;
	restore_bus(function->parent);
	set_command(function, COMMAND_MEMORY, COMMAND_MASTER);
	if (kept)
		return;
	if (answered) {
		place_text(answered, place);
		check_fail("%s answers while its bus is in reset", place);
	} else if (control & MSIX_ENABLE)
		check_fail("MSI-X is enabled after it");
	else if (driver && driver_register(function, driver) == 0xffffffff)
		check_fail("does not answer after it");
	else if (driver && driver->is_reset && !driver->is_reset(function))
		check_fail("the device still has what it was given before it");
	else
		check_pass("done after %lu us; functions behind the bridge: %u, all as after power-on%s", took / 1000,
			   count, driver && driver->is_reset ? ", the device's registers too" : "");
}

void check_reset(const struct function *function, const struct driver *driver)
{
	check_power(function, driver);
	check_flr(function, driver);
	check_bus(function, driver);
}

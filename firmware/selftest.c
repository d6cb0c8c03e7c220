// SPDX-License-Identifier: MIT
/* mode=selftest: every assigned device, seen from its guest. */
#include <stddef.h>

#include "check.h"
#include "console.h"
#include "cpu.h"
#include "driver.h"
#include "modes.h"

static const struct driver *const drivers[] = {&driver_testdev, &driver_nvme, &driver_edu};

const struct driver *driver_of(const struct function *function)
{
	for (unsigned i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		const struct driver *driver = drivers[i];
		if (driver->vendor ? driver->vendor == function->vendor && driver->id == function->id
				   : driver->class_code == function->class_code)
			return driver;
	}
	return NULL;
}

uint32_t driver_register(const struct function *function, const struct driver *driver)
{
	return read32(function->bars[driver->register_bar].address + driver->register_offset);
}

static void test(const struct function *function, const char *host)
{
	const struct driver *driver = driver_of(function);
	char place[PLACE_BYTES];
	place_text(function, place);
	print("# device %s host %s id %04x:%04x class %06x driver %s\n", place, host, function->vendor, function->id,
	      function->class_code, driver ? driver->name : "none");
	check_config(function);
	check_bars(function, driver);
	check_interrupts(function, driver);
	check_reset(function, driver);
	if (driver) {
		set_command(function, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_OFF, 0);
		driver->check(function);
	}
	set_command(function, 0, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER);
}

unsigned mode_selftest(void)
{
	uint64_t started = now_ns();
	unsigned tested = 0;
	print("TAP version 13\n");
	for (unsigned i = 0; i < function_count; i++) {
		const char *host = host_address(&functions[i]);
		if (!host)
			continue;
		test(&functions[i], host);
		tested++;
	}
	unsigned failures = check_end();
	print("# %u devices, %u checks failed, %lu us\n", tested, failures, (now_ns() - started) / 1000);
	return failures ? LAYOUT_FIRMWARE_FAILED : LAYOUT_FIRMWARE_PASSED;
}

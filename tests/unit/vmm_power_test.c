// SPDX-License-Identifier: MIT
/* The registers by which a guest ends or restarts its machine, as ACPI 6.4 section 4.8.3.6 and 4.8.3.7 and tenon(1) have them. */
#include <criterion/criterion.h>
#include <string.h>

#include "devices/power.h"
#include "layout.h"

#define SLEEP_ENABLE 0x20u

static struct bus ports;
static struct power power;
static unsigned requests;
static enum power_request last_request;
static unsigned last_status;

static void note_request(void *context, enum power_request request, unsigned status)
{
	cr_expect_eq(context, &requests);
	requests++;
	last_request = request;
	last_status = status;
}

static void setup(bool exit_device)
{
	struct tenon_error err = {0};
	requests = 0;
	bus_init(&ports, "port");
	power = (struct power){.request = note_request, .context = &requests};
	cr_assert_eq(power_init(&power, exit_device, &ports, &err), 0, "%s", err.message);
}

static void out(uint16_t port, uint32_t value, unsigned size_bytes)
{
	bus_write(&ports, port, &value, size_bytes);
}

static uint32_t in(uint16_t port, unsigned size_bytes)
{
	uint32_t value = 0;
	bus_read(&ports, port, &value, size_bytes);
	return value;
}

Test(power, only_the_s5_type_with_the_enable_bit_turns_off)
{
	setup(false);
	for (unsigned value = 0; value < 256; value++) {
		bool off = (value & SLEEP_ENABLE) && (value >> 2 & 7) == LAYOUT_SLEEP_TYPE_S5;
		requests = 0;
		out(LAYOUT_SLEEP_CONTROL_PORT, value, 1);
		cr_expect_eq(requests, off, "%#x", value);
		if (off) {
			cr_expect_eq(last_request, POWER_OFF);
			cr_expect_eq(last_status, 0);
		}
	}
}

Test(power, sleep_status_takes_writes_without_effect)
{
	setup(false);
	for (unsigned value = 0; value < 256; value++)
		out(LAYOUT_SLEEP_STATUS_PORT, value, 1);
	cr_expect_eq(requests, 0);
}

Test(power, only_the_reset_value_resets)
{
	setup(false);
	for (unsigned value = 0; value < 256; value++) {
		requests = 0;
		out(LAYOUT_RESET_PORT, value, 1);
		cr_expect_eq(requests, value == LAYOUT_RESET_VALUE, "%#x", value);
		if (requests)
			cr_expect_eq(last_request, POWER_RESET);
	}
}

Test(power, registers_read_zero)
{
	setup(true);
	cr_expect_eq(in(LAYOUT_SLEEP_CONTROL_PORT, 1), 0);
	cr_expect_eq(in(LAYOUT_SLEEP_STATUS_PORT, 1), 0);
	cr_expect_eq(in(LAYOUT_SLEEP_CONTROL_PORT, 2), 0);
	cr_expect_eq(in(LAYOUT_RESET_PORT, 1), 0);
	cr_expect_eq(in(LAYOUT_EXIT_PORT, 4), 0);
	cr_expect_eq(requests, 0, "reading asks for nothing");
}

Test(power, exit_device_gives_the_low_byte_of_a_write_of_any_size)
{
	static const struct {
		uint32_t value;
		unsigned size_bytes, status;
	} cases[] = {{0, 1, 0}, {42, 1, 42}, {255, 1, 255}, {0x1207, 2, 7}, {0x12345680, 4, 0x80}, {0xffffff00, 4, 0}};
	setup(true);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		requests = 0;
		out(LAYOUT_EXIT_PORT, cases[i].value, cases[i].size_bytes);
		cr_expect_eq(requests, 1);
		cr_expect_eq(last_request, POWER_EXIT);
		cr_expect_eq(last_status, cases[i].status);
	}
}

Test(power, exit_device_is_absent_unless_asked_for)
{
	setup(false);
	cr_expect_eq(in(LAYOUT_EXIT_PORT, 4), 0xffffffff);
	out(LAYOUT_EXIT_PORT, 1, 1);
	cr_expect_eq(requests, 0);
}

Test(power, neighbouring_ports_are_nobodys)
{
	setup(true);
	cr_expect_eq(in(LAYOUT_EXIT_PORT - 1, 1), 0xff);
	cr_expect_eq(in(LAYOUT_EXIT_PORT + 4, 1), 0xff);
	cr_expect_eq(in(LAYOUT_SLEEP_CONTROL_PORT - 1, 1), 0xff);
	cr_expect_eq(in(LAYOUT_RESET_PORT + 1, 1), 0xff);
	out(LAYOUT_EXIT_PORT + 4, 1, 4);
	out(LAYOUT_RESET_PORT + 1, 1, 1);
	cr_expect_eq(requests, 0);
}

Test(power, ports_that_are_taken_are_an_error)
{
	struct tenon_error err = {0};
	setup(false);
	cr_expect_lt(power_init(&power, true, &ports, &err), 0);
	cr_expect(strstr(err.message, "port 0x600"), "%s", err.message);
}

// SPDX-License-Identifier: MIT
/*
 * mode=timing rounds=N: how long the way from this guest to a test device and back takes, for tests/bench. Each round rings a doorbell
 * that the device answers with an interrupt, and reads a register that traps; a line has the time stamp counter at three moments,
 * and the device's own clock when the doorbell woke it:
 *
 *   timing ring=TSC woken=NS handled=TSC read=TICKS
 */
#include <stddef.h>

#include "../tests/testdev/registers.h"
#include "console.h"
#include "cpu.h"
#include "driver.h"
#include "interrupts.h"
#include "modes.h"
#include "testdev.h"

#define BELL           1u
#define ROUNDS_DEFAULT 200
#define SLEEP_US       500 /* until whoever answered is asleep again */
#define PATIENCE_US    2000000

static const struct function *find_testdev(void)
{
	for (unsigned i = 0; i < function_count; i++) {
		if (functions[i].vendor == TD_VENDOR_ID && functions[i].id == TD_DEVICE_ID)
			return &functions[i];
	}
	return NULL;
}

static void prepare(const struct function *function)
{
	unsigned capability = find_capability(function, CAP_MSIX);
	uint64_t entry = function->bars[TD_BAR_REGISTERS].address + TD_MSIX_TABLE + BELL * MSIX_ENTRY_BYTES;
	set_command(function, COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_OFF, 0);
	write32(entry, MESSAGE_ADDRESS);
	write32(entry + 4, 0);
	write32(entry + 8, MESSAGE_DATA(VECTOR_MESSAGES));
	write32(entry + 12, 0);
	config_write16(function, capability + MSIX_CONTROL, MSIX_ENABLE);
	testdev_write(function, TD_DOORBELL_IRQS, 1u << BELL);
}

static uint64_t woken_ns(const struct function *function)
{
	return testdev_read(function, TD_DOORBELL_WOKEN) | (uint64_t)testdev_read(function, TD_DOORBELL_WOKEN + 4)
								   << 32;
}

/* @return false: no interrupt came */
static bool time_round(const struct function *function)
{
	uint32_t before = interrupts_count(VECTOR_MESSAGES);
	wait_us(SLEEP_US);
	uint64_t ring = read_tsc();
	testdev_write(function, TD_DOORBELL(BELL), 1);
	if (!interrupts_wait(VECTOR_MESSAGES, before + 1, PATIENCE_US))
		return false;
	uint64_t woken = woken_ns(function), started = read_tsc();
	testdev_read(function, TD_ID);
	uint64_t ended = read_tsc();
	print("timing ring=%lu woken=%lu handled=%lu read=%lu\n", ring, woken, interrupts_time(VECTOR_MESSAGES),
	      ended - started);
	return true;
}

unsigned mode_timing(void)
{
	const struct function *function = find_testdev();
	if (!function) {
		print("# timing: there is no test device; give one with --device vfio-user:PATH\n");
		return LAYOUT_FIRMWARE_USAGE;
	}
	prepare(function);
	for (uint64_t rounds = word_number("rounds", ROUNDS_DEFAULT); rounds; rounds--) {
		if (!time_round(function)) {
			print("# timing: no interrupt came after a doorbell was rung\n");
			return LAYOUT_FIRMWARE_FAILED;
		}
	}
	return LAYOUT_FIRMWARE_PASSED;
}

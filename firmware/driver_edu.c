// SPDX-License-Identifier: MIT
/* QEMU's educational device, which the lab has: line and message interrupts, and a small DMA engine (QEMU docs/specs/edu.rst). */
#include <stddef.h>

#include "check.h"
#include "cpu.h"
#include "driver.h"

#define EDU_ID      0x00
#define EDU_LIVE    0x04
#define EDU_RAISE   0x60
#define EDU_LOWER   0x64
#define EDU_SOURCE  0x80
#define EDU_TARGET  0x88
#define EDU_COUNT   0x90
#define EDU_COMMAND 0x98

#define EDU_BUFFER     0x40000
#define COMMAND_START  1u
#define COMMAND_TO_RAM 2u
#define BYTES          1024u
#define FROM           DMA_MEMORY
#define TO             (DMA_MEMORY + 0x1000)
#define PATIENCE_NS    2000000000ull

static uint64_t registers(const struct function *function)
{
	return function->bars[0].address;
}

static const char *start(const struct function *function)
{
	write32(registers(function) + EDU_LIVE, 0x12345678);
	return read32(registers(function) + EDU_LIVE) == ~0x12345678u ? NULL : "the device does not answer";
}

static void quiet(const struct function *function)
{
	write32(registers(function) + EDU_LOWER, 1);
}

static bool raise(const struct function *function, enum irq_kind kind, unsigned vector)
{
	if (kind == IRQ_MSI)
		quiet(function);
	write32(registers(function) + EDU_RAISE, 1);
	return vector == 0;
}

static bool transfer(const struct function *function, uint64_t source, uint64_t target, uint32_t command)
{
	uint64_t at = registers(function), end = now_ns() + PATIENCE_NS;
	write64(at + EDU_SOURCE, source);
	write64(at + EDU_TARGET, target);
	write64(at + EDU_COUNT, BYTES);
	write64(at + EDU_COMMAND, command | COMMAND_START);
	while (read64(at + EDU_COMMAND) & COMMAND_START) {
		if (now_ns() > end)
			return false;
		wait_us(1000);
	}
	return true;
}

static void check(const struct function *function)
{
	check_begin(function, "dma copy");
	for (unsigned i = 0; i < BYTES; i += 4) {
		write32(FROM + i, 0x5a000000 + i);
		write32(TO + i, 0);
	}
	bool ended = transfer(function, FROM, EDU_BUFFER, 0) && transfer(function, EDU_BUFFER, TO, COMMAND_TO_RAM);
	unsigned right = 0;
	while (right < BYTES && read32(TO + right) == read32(FROM + right))
		right += 4;
	if (!ended)
		check_fail("a transfer does not end");
	else if (right < BYTES)
		check_fail("byte %u is wrong after a transfer to the device and back", right);
	else
		check_pass("%u bytes to the device and back", BYTES);
}

const struct driver driver_edu = {
	.name = "edu",
	.vendor = 0x1234,
	.id = 0x11e8,
	.register_bar = 0,
	.register_offset = EDU_ID,
	.start = start,
	.raise = raise,
	.quiet = quiet,
	.check = check,
};

// SPDX-License-Identifier: MIT
/* The test device: every interrupt that it has, its copy engine, its memory, its doorbells and its journal. */
#include <string.h>

#include "../tests/testdev/registers.h"
#include "check.h"
#include "cpu.h"
#include "driver.h"
#include "testdev.h"

#define SOURCE      DMA_MEMORY
#define TARGET      (DMA_MEMORY + 0x40000)
#define LIST        (DMA_MEMORY + 0x80000)
#define COPY_BYTES  0x4000u
#define PIECES      4u
#define PATIENCE_NS 2000000000ull
#define GONE        0xffffffffu
#define SOILED      0x736f696c6564ull

static uint64_t registers(const struct function *function)
{
	return function->bars[TD_BAR_REGISTERS].address;
}

uint32_t testdev_read(const struct function *function, unsigned offset)
{
	return read32(registers(function) + offset);
}

void testdev_write(const struct function *function, unsigned offset, uint32_t value)
{
	write32(registers(function) + offset, value);
}

void testdev_write64(const struct function *function, unsigned offset, uint64_t value)
{
	testdev_write(function, offset, (uint32_t)value);
	testdev_write(function, offset + 4, (uint32_t)(value >> 32));
}

static const char *start(const struct function *function)
{
	if (testdev_read(function, TD_ID) != TD_ID_VALUE || testdev_read(function, TD_VERSION) != TD_VERSION_VALUE)
		return "the test device is of another version than this firmware";
	testdev_write64(function, TD_SCRATCH, SOILED);
	return NULL;
}

static bool is_reset(const struct function *function)
{
	return testdev_read(function, TD_SCRATCH) == 0;
}

static bool raise(const struct function *function, enum irq_kind kind, unsigned vector)
{
	static const uint32_t kinds[] = {[IRQ_LINE] = TD_IRQ_INTX, [IRQ_MSI] = TD_IRQ_MSI, [IRQ_MSIX] = TD_IRQ_MSIX};
	testdev_write(function, TD_IRQ_RAISE, TD_IRQ(kinds[kind], vector));
	return true;
}

static void quiet(const struct function *function)
{
	testdev_write(function, TD_IRQ_LINE, 0);
}

/* ---- Copies ---- */

uint32_t testdev_crc(uint32_t crc, const void *bytes, uint64_t count)
{
	static uint32_t table[256];
	if (!table[1]) {
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t value = i;
			for (unsigned bit = 0; bit < 8; bit++)
				value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
			table[i] = value;
		}
	}
	crc = ~crc;
	for (const uint8_t *at = bytes, *end = at + count; at < end; at++)
		crc = crc >> 8 ^ table[(crc ^ *at) & 0xff];
	return ~crc;
}

void testdev_describe(uint64_t list, unsigned index, const struct testdev_copy *copy)
{
	uint64_t at = list + (uint64_t)index * TD_DESC_BYTES;
	write64(at + TD_DESC_SOURCE, copy->source);
	write64(at + TD_DESC_TARGET, copy->target);
	write32(at + TD_DESC_LENGTH, copy->bytes);
	write32(at + TD_DESC_FLAGS, copy->flags);
	write64(at + TD_DESC_UNUSED, 0);
}

const char *testdev_run(const struct function *function, uint64_t list, unsigned count, bool by_doorbell)
{
	testdev_write64(function, TD_LIST_ADDRESS, list);
	testdev_write(function, TD_LIST_COUNT, count);
	if (by_doorbell)
		testdev_write(function, TD_DOORBELL(0), 1);
	else
		testdev_write(function, TD_CONTROL, TD_CONTROL_START);
	uint64_t end = now_ns() + PATIENCE_NS;
	uint32_t status;
	while (!((status = testdev_read(function, TD_STATUS)) & (TD_STATUS_DONE | TD_STATUS_ERROR)) ||
	       status & TD_STATUS_BUSY) {
		if (status == GONE)
			return "the device is gone: its registers read as ones";
		if (now_ns() > end)
			return "the copy engine does not come to an end";
	}
	if (!(status & TD_STATUS_ERROR))
		return NULL;
	return TD_STATUS_REASON(status) == TD_REASON_FAULT ? "the device could not reach the guest's memory"
							   : "the copy engine reports an error";
}

static void fill(uint64_t address, uint32_t count, uint64_t seed)
{
	for (uint32_t i = 0; i < count; i += 8) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		write64(address + i, seed);
	}
}

static bool same(uint64_t left, uint64_t right, uint32_t count)
{
	for (uint32_t i = 0; i < count; i += 8) {
		if (read64(left + i) != read64(right + i))
			return false;
	}
	return true;
}

/* The pieces arrive in reverse order, so that a plain copy would not do. */
static void check_copy(const struct function *function)
{
	const uint32_t piece = COPY_BYTES / PIECES;
	check_begin(function, "dma copy");
	fill(SOURCE, COPY_BYTES, read_tsc());
	memset((void *)TARGET, 0, COPY_BYTES);
	for (unsigned i = 0; i < PIECES; i++) {
		const struct testdev_copy copy = {SOURCE + i * piece, TARGET + (PIECES - 1 - i) * piece, piece, 0};
		testdev_describe(LIST, i, &copy);
	}
	uint64_t started = now_ns();
	const char *trouble = testdev_run(function, LIST, PIECES, false);
	uint64_t took = now_ns() - started;
	uint32_t expected = testdev_crc(0, (const void *)SOURCE, COPY_BYTES), got = testdev_read(function, TD_CHECKSUM);
	bool arrived = true;
	for (unsigned i = 0; i < PIECES; i++)
		arrived &= same(SOURCE + i * piece, TARGET + (PIECES - 1 - i) * piece, piece);
	if (trouble)
		check_fail("%s", trouble);
	else if (got != expected)
		check_fail("the device read other bytes than the guest wrote: its checksum is %08x, the guest's %08x",
			   got, expected);
	else if (!arrived)
		check_fail("what the device wrote is not what it read");
	else
		check_pass("%u bytes in %u pieces, checksum %08x, in %lu ns", COPY_BYTES, PIECES, got, took);
}

/* Through the device's own memory, which the guest sees in a BAR, and started by a doorbell. */
static void check_memory(const struct function *function)
{
	const struct testdev_copy in = {SOURCE, 0x1000, COPY_BYTES, TD_DESC_TO_MEMORY};
	uint64_t memory = function->bars[TD_BAR_MEMORY].address + 0x1000;
	check_begin(function, "dma doorbell");
	fill(SOURCE, COPY_BYTES, read_tsc());
	testdev_describe(LIST, 0, &in);
	const char *trouble = testdev_run(function, LIST, 1, true);
	if (trouble)
		check_fail("%s", trouble);
	else if (!same(SOURCE, memory, COPY_BYTES))
		check_fail("BAR %u does not show what the device put into it", TD_BAR_MEMORY);
	else
		check_pass("%u bytes to the device's memory, started by a doorbell, seen in BAR %u", COPY_BYTES,
			   TD_BAR_MEMORY);
}

static void check_hole(const struct function *function)
{
	uint64_t memory = function->bars[TD_BAR_MEMORY].address, edge = memory + TD_HOLE_FIRST;
	check_begin(function, "bar 2 trapped hole");
	write64(edge - 8, 0x1111111111111111);
	write64(edge, 0x2222222222222222);
	write64(edge + TD_HOLE_BYTES - 8, 0x3333333333333333);
	write64(edge + TD_HOLE_BYTES, 0x4444444444444444);
	if (read64(edge - 8) != 0x1111111111111111 || read64(edge) != 0x2222222222222222 ||
	    read64(edge + TD_HOLE_BYTES - 8) != 0x3333333333333333 ||
	    read64(edge + TD_HOLE_BYTES) != 0x4444444444444444)
		check_fail("mapped and trapped parts do not join: %lx %lx %lx %lx", read64(edge - 8), read64(edge),
			   read64(edge + TD_HOLE_BYTES - 8), read64(edge + TD_HOLE_BYTES));
	else
		check_pass("mapped, trapped and mapped parts join");
}

static void check_ports(const struct function *function)
{
	uint16_t ports = (uint16_t)function->bars[TD_BAR_PORTS].address;
	check_begin(function, "bar 4 ports");
	out32(ports + TD_PORT_INDEX, TD_ID);
	uint32_t id = in32(ports + TD_PORT_DATA);
	out32(ports + TD_PORT_SCRATCH, 0x11223344);
	out8(ports + TD_PORT_SCRATCH + 1, 0x55);
	uint16_t half = in16(ports + TD_PORT_SCRATCH);
	if (id != TD_ID_VALUE || half != 0x5544)
		check_fail("the id reads %08x, the scratch register %04x", id, half);
	else
		check_pass("registers by index, scratch in bytes and words");
}

static void check_contract(const struct function *function)
{
	check_begin(function, "contract");
	uint32_t count = testdev_read(function, TD_VIOLATIONS), kinds = testdev_read(function, TD_VIOLATION_KINDS);
	testdev_write(function, TD_JOURNAL_INDEX, 0);
	if (count)
		check_fail("%u breaches, kinds %x, the last of kind %u at %x", count, kinds,
			   testdev_read(function, TD_JOURNAL_KIND), testdev_read(function, TD_JOURNAL_DETAIL));
	else
		check_pass("the device saw nothing that breaks it");
}

static void check(const struct function *function)
{
	check_copy(function);
	check_memory(function);
	check_hole(function);
	check_ports(function);
	check_contract(function);
}

const struct driver driver_testdev = {
	.name = "testdev",
	.vendor = TD_VENDOR_ID,
	.id = TD_DEVICE_ID,
	.register_bar = TD_BAR_REGISTERS,
	.register_offset = TD_ID,
	.start = start,
	.raise = raise,
	.quiet = quiet,
	.is_reset = is_reset,
	.check = check,
};

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
#define COPY_BYTES  0x1000u
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

/* Mapped whole, and not at the start of its file. */
static void check_page(const struct function *function)
{
	uint64_t page = function->bars[TD_BAR_PAGE].address, last = page + TD_PAGE_BYTES - 8;
	check_begin(function, "bar 5 page");
	write64(page, 0x5555555555555555);
	write64(last, 0x6666666666666666);
	write8(page + 1, 0x77);
	if (read64(page) != 0x5555555555557755 || read64(last) != 0x6666666666666666)
		check_fail("it does not hold what is written: %lx %lx", read64(page), read64(last));
	else
		check_pass("holds what is written, first byte to last");
}

/* ---- More of the copy engine ---- */

/* A pattern to memory, from there into the device, back, and a checksum of it: one list, with an interrupt in the middle and at its end. */
static void check_list(const struct function *function)
{
	static const uint64_t pattern = 0x0123456789abcdef;
	const struct testdev_copy list[] = {
		{pattern, SOURCE, 0x800, TD_DESC_FILL},
		{SOURCE, 0x2000, 0x800, TD_DESC_TO_MEMORY | TD_DESC_IRQ},
		{0x2000, TARGET + 8, 0x7f8, TD_DESC_FROM_MEMORY},
		{TARGET + 8, 0, 0x7f8, TD_DESC_CHECK},
	};
	const unsigned count = sizeof(list) / sizeof(list[0]);
	check_begin(function, "dma list");
	memset((void *)TARGET, 0, 0x808);
	for (unsigned i = 0; i < count; i++)
		testdev_describe(LIST, i, &list[i]);
	uint32_t raised = testdev_read(function, TD_IRQ_RAISED), copies = testdev_read(function, TD_COPIES);
	testdev_write(function, TD_COPY_IRQ, TD_IRQ(TD_IRQ_MSIX, 3));
	const char *trouble = testdev_run(function, LIST, count, false);
	testdev_write(function, TD_COPY_IRQ, 0);
	raised = testdev_read(function, TD_IRQ_RAISED) - raised;
	bool right = read64(TARGET) == 0 && read64(TARGET + 0x800) == 0;
	for (unsigned i = 0; i < 0x7f8; i += 8)
		right &= read64(TARGET + 8 + i) == pattern;
	if (trouble)
		check_fail("%s", trouble);
	else if (!right)
		check_fail("the pattern did not come back as it was");
	else if (testdev_read(function, TD_LIST_DONE) != count || testdev_read(function, TD_COPIES) != copies + 1)
		check_fail("%u of %u pieces done", testdev_read(function, TD_LIST_DONE), count);
	else if (raised != 2)
		check_fail("%u interrupts raised in the place of 2", raised);
	else
		check_pass("%u pieces: fill, to the device, from it, checksum; 2 interrupts raised", count);
}

static void check_bad_list(const struct function *function)
{
	static const uint32_t counts[] = {TD_LIST_MAX + 1, 0xffffffff};
	check_begin(function, "dma bad list");
	for (unsigned i = 0; i < 2; i++) {
		testdev_write(function, TD_LIST_COUNT, counts[i]);
		testdev_write(function, TD_CONTROL, TD_CONTROL_START);
		uint32_t status = testdev_read(function, TD_STATUS);
		if (!(status & TD_STATUS_ERROR) || TD_STATUS_REASON(status) != TD_REASON_LIST) {
			check_fail("%x pieces are not refused: status %x", counts[i], status);
			return;
		}
	}
	check_pass("lists that are too long are refused, and nothing is copied");
}

/* The first few can reach the device without the VMM, so they may be later than a read that is. */
static void check_doorbells(const struct function *function)
{
	uint32_t before[TD_DOORBELL_COUNT];
	uint64_t started = now_ns();
	check_begin(function, "doorbells");
	for (unsigned i = 0; i < TD_DOORBELL_COUNT; i++)
		before[i] = testdev_read(function, TD_DOORBELLS + 4 * i);
	for (unsigned i = 1; i < TD_DOORBELL_COUNT; i++) /* 0 starts the copy engine */
		testdev_write(function, TD_DOORBELL(i), i);
	for (unsigned i = 1; i < TD_DOORBELL_COUNT; i++) {
		while (testdev_read(function, TD_DOORBELLS + 4 * i) - before[i] != 1) {
			if (now_ns() - started < PATIENCE_NS)
				continue;
			check_fail("doorbell %u was rung once and counts %u", i,
				   testdev_read(function, TD_DOORBELLS + 4 * i) - before[i]);
			return;
		}
	}
	check_pass("%u rung, each arrived once", TD_DOORBELL_COUNT - 1);
}

/* The load engine's pages say where they belong. */
static void check_load(const struct function *function)
{
	enum { PAGES = 4 };
	uint64_t wrong = 0;
	check_begin(function, "dma load");
	memset((void *)TARGET, 0, PAGES * 4096);
	testdev_write64(function, TD_LOAD_ADDRESS, TARGET);
	testdev_write(function, TD_LOAD_PAGES, PAGES);
	testdev_write(function, TD_LOAD_STEP, 2 * PAGES);
	for (unsigned i = 0; i < PAGES && !wrong; i++) {
		uint64_t at = TARGET + i * 4096ul;
		testdev_write(function, TD_LOAD_PAGE, i);
		if (read64(at) != TD_LOAD_MAGIC || read64(at + 8) != at ||
		    read64(at + 16) != testdev_read(function, TD_LOAD_SEQUENCE) ||
		    read64(at + 24) != (read64(at) ^ read64(at + 8) ^ read64(at + 16)))
			wrong = at;
	}
	testdev_write(function, TD_LOAD_PAGES, 0);
	if (wrong)
		check_fail("the page at %lx is not as the device says", wrong);
	else
		check_pass("%u pages written twice, each where it belongs", PAGES);
}

/* From this device's memory to another's, which no CPU touches meanwhile. */
static void check_peer(const struct function *function)
{
	const struct function *peer = NULL;
	check_begin(function, "dma peer");
	for (unsigned i = 0; i < function_count && !peer; i++) {
		if (&functions[i] != function && driver_of(&functions[i]) == &driver_testdev)
			peer = &functions[i];
	}
	if (!peer) {
		check_skip("there is no other test device");
		return;
	}
	uint64_t own = function->bars[TD_BAR_MEMORY].address + 0x3000;
	uint64_t others = peer->bars[TD_BAR_MEMORY].address + 0x5000;
	const struct testdev_copy copy = {0x3000, others, 0x1000, TD_DESC_FROM_MEMORY};
	set_command(peer, COMMAND_MEMORY, 0);
	fill(own, 0x1000, read_tsc());
	testdev_describe(LIST, 0, &copy);
	const char *trouble = testdev_run(function, LIST, 1, false);
	bool arrived = same(own, others, 0x1000);
	set_command(peer, 0, COMMAND_MEMORY);
	if (trouble)
		check_fail("%s", trouble);
	else if (!arrived)
		check_fail("what arrived is not what was sent");
	else
		check_pass("4096 bytes to the memory of another device at %lx", others);
}

/* check_flr has reset it. */
static void check_resets(const struct function *function)
{
	uint32_t flr = testdev_read(function, TD_RESETS_FLR), command = testdev_read(function, TD_RESETS_COMMAND);
	check_begin(function, "resets counted");
	if (flr + command == 0)
		check_skip("the device saw none: the VMM cannot reset it");
	else
		check_pass("%u function level, %u by the VMM", flr, command);
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
	check_page(function);
	check_list(function);
	check_bad_list(function);
	check_doorbells(function);
	check_load(function);
	check_peer(function);
	check_resets(function);
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

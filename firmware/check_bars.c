// SPDX-License-Identifier: MIT
/*
 * BARs: what decodes, where, and that it moves. A register is read only where that is known to be harmless: the driver's, or memory
 * that is prefetchable, whose reads have no effect (PCI Local Bus 3.0, 6.2.5.1).
 */
#include "check.h"
#include "console.h"
#include "cpu.h"
#include "driver.h"

static char name[24];

/* Somewhere else in the host bridge's window: its end, where nothing was placed. 0: no room. */
static uint64_t elsewhere(const struct bar *bar)
{
	const struct range *window = &machine.windows[bar->space];
	uint64_t bytes = bar->bytes > 0x1000 || bar->space == SPACE_IO ? bar->bytes : 0x1000;
	uint64_t address = (window->first + window->bytes - bytes) & -bytes;
	for (unsigned i = 0; i < function_count; i++) {
		for (unsigned j = 0; j < ALL_BARS; j++) {
			const struct bar *other = &functions[i].bars[j];
			if (other->bytes && other->space == bar->space && other->address < address + bytes &&
			    address < other->address + other->bytes * other->copies)
				return 0;
		}
	}
	return address >= window->first ? address : 0;
}

static uint32_t bar_read(const struct bar *bar, uint64_t address, unsigned offset)
{
	return bar->space == SPACE_IO ? in32((uint16_t)(address + offset)) : read32(address + offset);
}

static void check_decoding(const struct function *function, unsigned index, unsigned offset)
{
	const struct bar *bar = &function->bars[index];
	uint16_t decode = bar->space == SPACE_IO ? COMMAND_IO : COMMAND_MEMORY;
	check_begin(function, name);
	set_command(function, 0, COMMAND_IO | COMMAND_MEMORY);
	uint32_t off = bar_read(bar, bar->address, offset);
	set_command(function, decode, 0);
	uint32_t on = bar_read(bar, bar->address, offset);
	uint64_t there = elsewhere(bar);
	if (off != 0xffffffff) {
		check_fail("answers %08x while its decoding is off", off);
		return;
	}
	if (!there) {
		check_pass("at 0x%lx; no room to move it", bar->address);
		return;
	}
	set_command(function, 0, decode);
	bar_place(function, index, there);
	set_command(function, decode, 0);
	uint32_t moved = bar_read(bar, there, offset), left = bar_read(bar, bar->address, offset);
	set_command(function, 0, decode);
	bar_place(function, index, bar->address);
	set_command(function, decode, 0);
	uint32_t back = bar_read(bar, bar->address, offset);
	set_command(function, 0, decode);
	if (moved != on)
		check_fail("holds %08x at 0x%lx, and %08x when moved to 0x%lx", on, bar->address, moved, there);
	else if (left != 0xffffffff)
		check_fail("answers %08x at 0x%lx still, though it was moved to 0x%lx", left, bar->address, there);
	else if (back != on)
		check_fail("holds %08x at 0x%lx, and %08x after it was moved away and back", on, bar->address, back);
	else
		check_pass("0x%lx bytes at 0x%lx: silent while decoding is off, moved to 0x%lx and back", bar->bytes,
			   bar->address, there);
}

/* Without a look into it: its register, and silence. */
static void check_register(const struct function *function, unsigned index)
{
	const struct bar *bar = &function->bars[index];
	unsigned at = bar_register(function, index);
	check_begin(function, name);
	set_command(function, 0, COMMAND_IO | COMMAND_MEMORY);
	uint32_t off = bar_read(bar, bar->address, 0), mask = bar->space == SPACE_IO ? 3 : 0xf;
	uint64_t address = config_read32(function, at) & ~mask;
	if (bar->is_64bit)
		address |= (uint64_t)config_read32(function, at + 4) << 32;
	if (address != bar->address)
		check_fail("was placed at 0x%lx and reads 0x%lx", bar->address, address);
	else if (off != 0xffffffff)
		check_fail("answers %08x while its decoding is off", off);
	else
		check_pass("0x%lx bytes at 0x%lx: silent while decoding is off; not touched otherwise", bar->bytes,
			   address);
}

static void check_rom(const struct function *function)
{
	const struct bar *bar = &function->bars[ROM];
	check_begin(function, "rom");
	config_write32(function, ROM_BAR, (uint32_t)bar->address | ROM_ENABLE);
	set_command(function, COMMAND_MEMORY, 0);
	uint16_t signature = read16(bar->address);
	config_write32(function, ROM_BAR, (uint32_t)bar->address);
	uint16_t off = read16(bar->address);
	set_command(function, 0, COMMAND_MEMORY);
	if (off != 0xffff)
		check_fail("answers %04x while it is off", off);
	else if (signature == 0xaa55)
		check_pass("0x%lx bytes at 0x%lx, with an image", bar->bytes, bar->address);
	else
		check_pass("0x%lx bytes at 0x%lx, without an image", bar->bytes, bar->address);
}

void check_bars(const struct function *function, const struct driver *driver)
{
	for (unsigned index = 0; index < BARS; index++) {
		const struct bar *bar = &function->bars[index];
		bool known = driver && index == driver->register_bar;
		if (!bar->bytes)
			continue;
		format_text(name, sizeof(name), "bar %u", index);
		if (known || bar->prefetchable)
			check_decoding(function, index, known ? driver->register_offset : 0);
		else
			check_register(function, index);
	}
	if (function->bars[ROM].bytes)
		check_rom(function);
}

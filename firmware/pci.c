// SPDX-License-Identifier: MIT
/* Config space and what is found in it. */
#include <stddef.h>

#include "console.h"
#include "cpu.h"
#include "pci.h"

struct function functions[FUNCTIONS_MAX];
unsigned function_count;

static uint64_t config_address(const struct function *function, unsigned offset)
{
	return machine.ecam.first + ((uint64_t)function->bus << 20 | (uint64_t)function->device << 15 |
				     (uint64_t)function->number << 12 | offset);
}

uint8_t config_read8(const struct function *function, unsigned offset)
{
	return read8(config_address(function, offset));
}

uint16_t config_read16(const struct function *function, unsigned offset)
{
	return read16(config_address(function, offset));
}

uint32_t config_read32(const struct function *function, unsigned offset)
{
	return read32(config_address(function, offset));
}

void config_write8(const struct function *function, unsigned offset, uint8_t value)
{
	write8(config_address(function, offset), value);
}

void config_write16(const struct function *function, unsigned offset, uint16_t value)
{
	write16(config_address(function, offset), value);
}

void config_write32(const struct function *function, unsigned offset, uint32_t value)
{
	write32(config_address(function, offset), value);
}

unsigned find_capability(const struct function *function, unsigned id)
{
	if (!(config_read16(function, PCI_STATUS) & STATUS_CAPABLE))
		return 0;
	unsigned at = config_read8(function, PCI_CAPABILITIES) & 0xfc;
	for (unsigned steps = 0; at >= 0x40 && steps < 48; steps++) {
		uint16_t head = config_read16(function, at);
		if ((head & 0xff) == id)
			return at;
		at = head >> 8 & 0xfc;
	}
	return 0;
}

unsigned find_extended(const struct function *function, unsigned id)
{
	unsigned at = EXT_FIRST;
	for (unsigned steps = 0; at >= EXT_FIRST && steps < 960; steps++) {
		uint32_t head = config_read32(function, at);
		if (head == 0 || head == 0xffffffff)
			return 0;
		if ((head & 0xffff) == id)
			return at;
		at = head >> 20 & 0xffc;
	}
	return 0;
}

unsigned bar_register(const struct function *function, unsigned bar)
{
	if (bar == ROM)
		return function->header == HEADER_BRIDGE ? BRIDGE_ROM : ROM_BAR;
	if (bar >= VF_BARS)
		return find_extended(function, EXT_SRIOV) + SRIOV_BAR0 + 4 * (bar - VF_BARS);
	return PCI_BAR0 + 4 * bar;
}

void bar_place(const struct function *function, unsigned bar, uint64_t address)
{
	unsigned at = bar_register(function, bar);
	config_write32(function, at, (uint32_t)address);
	if (function->bars[bar].is_64bit)
		config_write32(function, at + 4, (uint32_t)(address >> 32));
}

uint16_t set_command(const struct function *function, uint16_t on, uint16_t off)
{
	uint16_t was = config_read16(function, PCI_COMMAND);
	uint16_t wanted = (uint16_t)((was & ~off) | on);
	if (wanted != was)
		config_write16(function, PCI_COMMAND, wanted);
	return was;
}

unsigned function_rid(const struct function *function)
{
	return (unsigned)function->bus << 8 | (unsigned)function->device << 3 | function->number;
}

const struct function *function_at(unsigned rid)
{
	for (unsigned i = 0; i < function_count; i++) {
		if (function_rid(&functions[i]) == rid)
			return &functions[i];
	}
	return NULL;
}

void place_text(const struct function *function, char text[PLACE_BYTES])
{
	format_text(text, PLACE_BYTES, "%02x:%02x.%x", function->bus, function->device, function->number);
}

const char *host_address(const struct function *function)
{
	int bridge = -1;
	if (function->parent >= 0)
		bridge = (int)(function_rid(&functions[function->parent]) & 0xff);
	return machine_host_address(bridge, function_rid(function) & 0xff);
}

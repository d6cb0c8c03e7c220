// SPDX-License-Identifier: MIT
/* mode=list: the machine and its PCI functions, one line for each thing; and what resets together. */
#include "console.h"
#include "groups.h"
#include "modes.h"
#include "pci.h"

static void list_memory(void)
{
	for (unsigned i = 0; i < machine.ram_count; i++)
		print("memory %lx-%lx\n", machine.ram[i].first, machine.ram[i].first + machine.ram[i].bytes - 1);
	print("cpus %u tsc-hz %lu\n", machine.cpu_count, machine.tsc_hz);
}

static void list_windows(const char *what, const struct range windows[SPACES])
{
	static const char *const names[SPACES] = {"io", "memory32", "memory64"};
	for (enum space space = SPACE_IO; space < SPACES; space++) {
		if (windows[space].bytes)
			print("%s window %s %lx-%lx\n", what, names[space], windows[space].first,
			      windows[space].first + windows[space].bytes - 1);
	}
}

static void list_bar(const char *place, const struct bar *bar, unsigned index)
{
	static const char *const names[SPACES] = {"io", "memory", "memory"};
	print("%s ", place);
	if (index == ROM)
		print("rom");
	else
		print("%s%u", index >= VF_BARS ? "vf-bar" : "bar", index >= VF_BARS ? index - VF_BARS : index);
	print(" %s%s%s %lx bytes %lx", names[bar->space], bar->is_64bit ? " 64-bit" : "",
	      bar->prefetchable ? " prefetchable" : "", bar->address, bar->bytes);
	if (bar->copies > 1)
		print(" times %u", bar->copies);
	print("\n");
}

static void list_capabilities(const struct function *function, const char *place)
{
	unsigned at = config_read16(function, PCI_STATUS) & STATUS_CAPABLE
			      ? config_read8(function, PCI_CAPABILITIES) & 0xfcu
			      : 0;
	if (at)
		print("%s capabilities", place);
	bool any = at;
	for (unsigned steps = 0; at >= 0x40 && steps < 48; steps++) {
		uint16_t head = config_read16(function, at);
		print(" %02x@%02x", head & 0xff, at);
		at = head >> 8 & 0xfc;
	}
	uint32_t head = config_read32(function, EXT_FIRST);
	at = EXT_FIRST;
	for (unsigned steps = 0; at && head && head != 0xffffffff && steps < 960; steps++) {
		if (head & 0xffff) {
			if (!any)
				print("%s capabilities", place);
			any = true;
			print(" ext%04x@%03x", head & 0xffff, at);
		}
		at = head >> 20 & 0xffc;
		head = at ? config_read32(function, at) : 0;
	}
	if (any)
		print("\n");
}

static void list_function(const struct function *function)
{
	char place[PLACE_BYTES];
	place_text(function, place);
	print("%s id %04x:%04x class %06x", place, function->vendor, function->id, function->class_code);
	const char *host = host_address(function);
	if (host)
		print(" host %s", host);
	if (function->header == HEADER_BRIDGE)
		print(" bridge to %02x-%02x", function->secondary, function->subordinate);
	if (config_read8(function, PCI_INTERRUPT_PIN))
		print(" pin %c gsi %u", 'A' + config_read8(function, PCI_INTERRUPT_PIN) - 1,
		      config_read8(function, PCI_INTERRUPT_LINE));
	print("\n");
	if (function->header == HEADER_BRIDGE)
		list_windows(place, function->window);
	for (unsigned i = 0; i < ALL_BARS; i++) {
		if (function->bars[i].bytes)
			list_bar(place, &function->bars[i], i);
	}
	list_capabilities(function, place);
}

unsigned mode_list(void)
{
	list_memory();
	list_windows("pci", machine.windows);
	for (unsigned i = 0; i < function_count; i++)
		list_function(&functions[i]);
	groups_list();
	return LAYOUT_FIRMWARE_PASSED;
}

// SPDX-License-Identifier: MIT
/*
 * mode=hostile seconds=N seed=S: a guest that attacks its VMM. It writes anything anywhere that a guest can, but for what would end the
 * VM by design or itself: the power and exit ports, the serial port's registers, messages that are no ordinary interrupts, the power of
 * hot-plug slots, buses that stay in reset. What it did is decided by the seed alone; how far it gets, by time.
 */
#include <stddef.h>

#include "console.h"
#include "cpu.h"
#include "interrupts.h"
#include "modes.h"
#include "pci.h"

#define SECONDS_DEFAULT   10
#define NS_PER_SECOND     1000000000ull
#define ENUMERATE_EVERY   1000 /* attacks: after so many, little is where it was */
#define NOT_IN_LOW_MEMORY 0x80000000u
#define VECTOR_FIRST      0x20

enum attack {
	CONFIG_READ,
	CONFIG_WRITE,
	ECAM_HOLE,
	MEMORY_READ,
	MEMORY_WRITE,
	HOLE,
	PORT_READ,
	PORT_WRITE,
	MOVE,
	COMMAND,
	MESSAGE,
	RESET,
	ATTACKS
};

static const struct {
	const char *name;
	unsigned weight;
} attacks[ATTACKS] = {
	[CONFIG_READ] = {"config-read", 30},
	[CONFIG_WRITE] = {"config-write", 40},
	[ECAM_HOLE] = {"ecam-hole", 10},
	[MEMORY_READ] = {"memory-read", 40},
	[MEMORY_WRITE] = {"memory-write", 40},
	[HOLE] = {"hole", 20},
	[PORT_READ] = {"port-read", 20},
	[PORT_WRITE] = {"port-write", 20},
	[MOVE] = {"bar-move", 20},
	[COMMAND] = {"command", 15},
	[MESSAGE] = {"msi-x", 20},
	[RESET] = {"reset", 1},
};

static uint64_t state;
static uint32_t done[ATTACKS];
static uint64_t longest_ns[ATTACKS];

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators". */
static uint32_t any(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)(state * 0x2545f4914f6cdd1dull >> 32);
}

static uint32_t below(uint32_t bound)
{
	return bound ? any() % bound : 0;
}

static const struct function *victim(void)
{
	return &functions[below(function_count)];
}

static uint32_t nasty(void)
{
	static const uint32_t values[] = {0, 0xffffffff, 0x80000000, 0x7fffffff, 0xfffffffe, 1, 0x55555555};
	return below(3) ? any() : values[below(sizeof(values) / sizeof(values[0]))];
}

/* ---- Where ---- */

static uint64_t bar_address(unsigned *bytes_left)
{
	const struct function *function = victim();
	const struct bar *bar = &function->bars[below(BARS + 1)];
	if (!bar->bytes || bar->space == SPACE_IO)
		return 0;
	uint64_t offset = any() & (bar->bytes - 1);
	/* Registers are at the start, most of the time. */
	if (below(2))
		offset &= 0x3fff & (bar->bytes - 1);
	*bytes_left = bar->bytes - offset > 8 ? 8 : (unsigned)(bar->bytes - offset);
	return bar->address + offset;
}

static uint64_t hole_address(void)
{
	switch (below(6)) {
	case 0:
		return machine.windows[SPACE_32].first + any() % machine.windows[SPACE_32].bytes;
	case 1:
		return machine.windows[SPACE_64].first + ((uint64_t)any() << 12 | (any() & 0xfff));
	case 2:
		return 0xfec00000 + (any() & 0xffffc);
	case 3:
		return (uint64_t)any() << 16 | (any() & 0xffff) | LAYOUT_RAM_ABOVE_4G;
	case 4:
		return 0xfff00000 + (any() & 0xfffff); /* the ROM, too */
	default:
		return (uint64_t)any() << 32 | any(); /* not canonical, mostly */
	}
}

static uint64_t new_place(void)
{
	const struct function *function = victim();
	switch (below(7)) {
	case 0:
		return any() & 0x1ffff000; /* RAM */
	case 1:
		return machine.ecam.first + (any() & 0xfffff000) % machine.ecam.bytes;
	case 2:
		return LAYOUT_LAPIC;
	case 3:
		return LAYOUT_IOAPIC;
	case 4:
		return function->bars[below(BARS)].address;
	case 5:
		return 0xfffff000ull - (any() & 0x1f000);
	default:
		return (uint64_t)any() << 32 | any();
	}
}

/* ---- What ---- */

static void write_any(uint64_t address, uint32_t value)
{
	switch (below(4)) {
	case 0:
		write8(address, (uint8_t)value);
		break;
	case 1:
		write16(address, (uint16_t)value);
		break;
	case 2:
		write32(address, value);
		break;
	default:
		write64(address, (uint64_t)any() << 32 | value);
	}
}

static void read_any(uint64_t address)
{
	switch (below(4)) {
	case 0:
		read8(address);
		break;
	case 1:
		read16(address);
		break;
	case 2:
		read32(address);
		break;
	default:
		read64(address);
	}
}

static uint64_t config_place(const struct function *function, unsigned offset)
{
	return machine.ecam.first + ((uint64_t)function->bus << 20 | (uint64_t)function->device << 15 |
				     (uint64_t)function->number << 12 | offset);
}

/* A guest that switches a slot's power off, renumbers its bus, or keeps that in reset, would have nothing left to attack. */
static void attack_config(void)
{
	const struct function *function = victim();
	unsigned offset = below(2) ? below(0x100) : below(0x1000), last = offset + 7;
	if (function->header == HEADER_BRIDGE) {
		unsigned slot = find_capability(function, CAP_EXPRESS) + EXPRESS_SLOT;
		if ((offset <= slot + 7 && slot <= last) || (offset <= BRIDGE_SUBORDINATE && BRIDGE_PRIMARY <= last) ||
		    (offset <= BRIDGE_CONTROL + 1 && BRIDGE_CONTROL <= last))
			return;
	}
	unsigned msi = find_capability(function, CAP_MSI);
	/* Messages: see attack_message. */
	if (msi && offset <= msi + 0x17 && msi <= last)
		return;
	write_any(config_place(function, offset), nasty());
}

static bool port_is_forbidden(uint16_t port)
{
	uint16_t last = port + 3;
	const uint16_t ports[] = {machine.exit_port, machine.sleep_port, machine.reset_port};
	for (unsigned i = 0; i < 3; i++) {
		if (ports[i] && port <= ports[i] + 3 && ports[i] <= last)
			return true;
	}
	return port <= machine.serial_port + 7 && machine.serial_port <= last;
}

static uint16_t any_port(void)
{
	static const uint16_t favourites[] = {0xcf8, 0xcfc, 0x92, 0x64, 0x60, 0x70,
					      0x71,  0x20,  0x21, 0xa0, 0x40, 0xfffe};
	const struct bar *bar = &victim()->bars[below(BARS)];
	if (bar->bytes && bar->space == SPACE_IO && below(2))
		return (uint16_t)(bar->address + below((uint32_t)bar->bytes));
	return below(2) ? favourites[below(sizeof(favourites) / sizeof(favourites[0]))] : (uint16_t)any();
}

static void attack_port(bool write)
{
	uint16_t port = any_port();
	if (port_is_forbidden(port))
		return;
	unsigned size = below(3);
	if (write && size == 0)
		out8(port, (uint8_t)nasty());
	else if (write && size == 1)
		out16(port, (uint16_t)nasty());
	else if (write)
		out32(port, nasty());
	else if (size == 0)
		in8(port);
	else if (size == 1)
		in16(port);
	else
		in32(port);
}

static void move_bar(void)
{
	const struct function *function = victim();
	unsigned index = below(BARS + 1);
	if (!function->bars[index].bytes)
		return;
	bar_place(function, index, new_place() | (index == ROM ? below(2) : 0));
	if (below(2))
		bar_place(function, index, function->bars[index].address);
}

/* Fixed delivery to a vector that has a handler: NMI and INIT would hit nobody but this guest. */
static void attack_message(void)
{
	const struct function *function = victim();
	unsigned at = find_capability(function, CAP_MSIX);
	if (!at)
		return;
	uint32_t where = config_read32(function, at + MSIX_TABLE);
	unsigned entries = MSIX_SIZE(config_read16(function, at + MSIX_CONTROL));
	if (MSIX_BAR(where) >= BARS)
		return;
	uint64_t entry = function->bars[MSIX_BAR(where)].address + MSIX_OFFSET(where) +
			 (uint64_t)below(entries + 4) * MSIX_ENTRY_BYTES;
	uint32_t vector = VECTOR_FIRST + below(256 - VECTOR_FIRST);
	config_write16(function, at + MSIX_CONTROL, (uint16_t)(below(2) * MSIX_ENABLE | below(2) * MSIX_MASK_ALL));
	write32(entry, below(2) ? MESSAGE_ADDRESS : nasty());
	write32(entry + 4, below(4) ? 0 : nasty());
	write32(entry + 8, (nasty() & 0xfffff800) | vector);
	write32(entry + 12, nasty());
}

/* Sets and clears the bit without a wait, and looks for what is in reset, or on its way back. */
static void reset_bus_of(const struct function *function)
{
	const struct function *bridge = &functions[function->parent];
	uint16_t control = config_read16(bridge, BRIDGE_CONTROL);
	for (unsigned times = 1 + below(3); times; times--) {
		config_write16(bridge, BRIDGE_CONTROL, control | BRIDGE_CONTROL_RESET);
		read_any(config_place(function, below(0x1000)));
		if (function->bars[0].bytes && function->bars[0].space != SPACE_IO)
			read_any(function->bars[0].address);
		config_write16(bridge, BRIDGE_CONTROL, control & ~BRIDGE_CONTROL_RESET);
		write_any(config_place(function, PCI_COMMAND), COMMAND_MEMORY);
	}
}

static void reset_something(void)
{
	const struct function *function = victim();
	if (function->parent >= 0 && below(2)) {
		reset_bus_of(function);
		return;
	}
	unsigned express = find_capability(function, CAP_EXPRESS), power = find_capability(function, CAP_POWER);
	if (express && function->header != HEADER_BRIDGE && below(2))
		config_write16(function, express + EXPRESS_CONTROL, EXPRESS_CONTROL_FLR);
	else if (power)
		config_write16(function, power + POWER_CONTROL, (uint16_t)below(4));
}

static void attack(void *argument)
{
	const struct function *function = victim();
	unsigned left = 0;
	uint64_t address;
	switch (*(enum attack *)argument) {
	case CONFIG_READ:
		read_any(config_place(function, below(0x1000)));
		break;
	case CONFIG_WRITE:
		attack_config();
		break;
	case ECAM_HOLE:
		address = machine.ecam.first + any() % machine.ecam.bytes;
		read_any(address);
		break;
	case MEMORY_READ:
		if ((address = bar_address(&left)))
			read_any(address);
		break;
	case MEMORY_WRITE:
		/* A device that does DMA then should do it elsewhere than into this guest's code. */
		if ((address = bar_address(&left)))
			write_any(address, nasty() | NOT_IN_LOW_MEMORY);
		break;
	case HOLE:
		address = hole_address();
		if (machine_is_ram(address) || address - LAYOUT_IOAPIC < 0x1000 || address - LAYOUT_LAPIC < 0x1000)
			break;
		if (below(2))
			read_any(address);
		else
			write_any(address, nasty());
		break;
	case PORT_READ:
	case PORT_WRITE:
		attack_port(*(enum attack *)argument == PORT_WRITE);
		break;
	case MOVE:
		move_bar();
		break;
	case COMMAND:
		/* Not bus mastering: what these devices would do with what was written to them is not the VMM's business. */
		config_write16(function, PCI_COMMAND, (uint16_t)(any() & ~COMMAND_MASTER));
		break;
	case MESSAGE:
		attack_message();
		break;
	default:
		reset_something();
	}
}

static enum attack choose(void)
{
	unsigned sum = 0;
	for (unsigned i = 0; i < ATTACKS; i++)
		sum += attacks[i].weight;
	unsigned at = below(sum), i = 0;
	while (at >= attacks[i].weight)
		at -= attacks[i++].weight;
	return (enum attack)i;
}

static void find_again(void *argument)
{
	enumerate();
	for (unsigned i = 0; i < function_count; i++)
		set_command(&functions[i], COMMAND_IO | COMMAND_MEMORY, 0);
}

unsigned mode_hostile(void)
{
	uint64_t seconds = word_number("seconds", SECONDS_DEFAULT);
	uint64_t seed = word_number("seed", read_tsc()), started = now_ns(), now = started;
	uint32_t total = 0;
	state = seed ? seed : 1;
	print("# hostile seed=%lu seconds=%lu functions=%u\n", seed, seconds, function_count);
	find_again(NULL);
	while ((now = now_ns()) - started < seconds * NS_PER_SECOND) {
		enum attack what = choose();
		guarded_call(attack, &what);
		uint64_t took = now_ns() - now;
		longest_ns[what] = took > longest_ns[what] ? took : longest_ns[what];
		done[what]++;
		total++;
		if (total % ENUMERATE_EVERY == 0)
			guarded_call(find_again, NULL);
	}
	for (unsigned i = 0; i < ATTACKS; i++)
		print("# hostile %s count=%u longest_us=%lu\n", attacks[i].name, done[i], longest_ns[i] / 1000);
	print("ok 1 - hostile: %u attacks, %lu exceptions survived, %u interrupts, seed %lu # time_ns=%lu\n1..1\n",
	      total, interrupts_survived, interrupts_total(), seed, now - started);
	return LAYOUT_FIRMWARE_PASSED;
}

// SPDX-License-Identifier: MIT
/*
 * Reads the flattened device tree (Devicetree Specification 0.4; PCI nodes: IEEE 1275 "PCI Bus Binding" 2.1, and Linux
 * Documentation/devicetree/bindings/pci/host-generic-pci.yaml for ECAM). What the VMM writes: vmm/description.c.
 */
#include <libfdt.h>

#include "console.h"
#include "cpu.h"
#include "machine.h"

#define PHYS_HI_SPACE(word) ((word) >> 24 & 3)
#define PHYS_HI_DEVFN(word) ((word) >> 8 & 0xff)

struct machine machine;

static int pci_node; /* offset of the host bridge's node */

static uint64_t number_at(const fdt32_t *cells, unsigned count)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < count; i++)
		value = value << 32 | fdt32_to_cpu(cells[i]);
	return value;
}

static const fdt32_t *cells_of(int node, const char *name, unsigned *count)
{
	int bytes = 0;
	const fdt32_t *cells = node < 0 ? NULL : fdt_getprop(machine.fdt, node, name, &bytes);
	*count = cells && bytes > 0 ? (unsigned)bytes / 4 : 0;
	return cells;
}

static uint64_t cell_of(int node, const char *name)
{
	unsigned count;
	const fdt32_t *cells = cells_of(node, name, &count);
	return count ? number_at(cells, count > 2 ? 2 : count) : 0;
}

/* Adds the reg entries of a node whose addresses and sizes have two cells each. */
static void add_ranges(int node, struct range *ranges, unsigned *count, unsigned most)
{
	unsigned cells_count;
	const fdt32_t *cells = cells_of(node, "reg", &cells_count);
	for (unsigned i = 0; i + 4 <= cells_count && *count < most; i += 4)
		ranges[(*count)++] = (struct range){number_at(cells + i, 2), number_at(cells + i + 2, 2)};
}

static void read_memory(void)
{
	int node, root = fdt_path_offset(machine.fdt, "/");
	fdt_for_each_subnode(node, machine.fdt, root)
	{
		const char *type = fdt_getprop(machine.fdt, node, "device_type", NULL);
		if (type && strcmp(type, "memory") == 0)
			add_ranges(node, machine.ram, &machine.ram_count, RAM_PARTS_MAX);
	}
	int reserved = fdt_path_offset(machine.fdt, "/reserved-memory");
	if (reserved < 0)
		return;
	fdt_for_each_subnode(node, machine.fdt, reserved)
	{
		add_ranges(node, machine.reserved, &machine.reserved_count, RESERVED_MAX);
	}
}

static void read_cpus(void)
{
	int node, cpus = fdt_path_offset(machine.fdt, "/cpus");
	if (cpus < 0)
		return;
	machine.tsc_hz = cell_of(cpus, "timebase-frequency");
	fdt_for_each_subnode(node, machine.fdt, cpus)
	{
		machine.cpu_count++;
	}
}

static const char *read_pci(void)
{
	unsigned count;
	const fdt32_t *cells;
	pci_node = fdt_node_offset_by_compatible(machine.fdt, -1, "pci-host-ecam-generic");
	if (pci_node < 0)
		return "no PCI host bridge";
	cells = cells_of(pci_node, "reg", &count);
	if (count < 4)
		return "the PCI host bridge has no ECAM";
	machine.ecam = (struct range){number_at(cells, 2), number_at(cells + 2, 2)};
	cells = cells_of(pci_node, "bus-range", &count);
	machine.last_bus = count == 2 ? fdt32_to_cpu(cells[1]) : (unsigned)(machine.ecam.bytes >> 20) - 1;
	cells = cells_of(pci_node, "ranges", &count);
	for (unsigned i = 0; i + 7 <= count; i += 7) {
		static const enum space spaces[] = {[1] = SPACE_IO, [2] = SPACE_32, [3] = SPACE_64};
		unsigned space = PHYS_HI_SPACE(fdt32_to_cpu(cells[i]));
		if (space)
			machine.windows[spaces[space]] =
				(struct range){number_at(cells + i + 1, 2), number_at(cells + i + 5, 2)};
	}
	cells = cells_of(pci_node, "tenon,hotplug-bytes", &count);
	for (unsigned i = 0; i < SPACES && i * 2 + 2 <= count; i++)
		machine.hotplug_bytes[i] = number_at(cells + i * 2, 2);
	return NULL;
}

/* The port of a node below the ISA bus: its reg's entry `index` (bus, address, size). */
static uint16_t isa_port(const char *compatible, unsigned index, int *node)
{
	unsigned count;
	*node = fdt_node_offset_by_compatible(machine.fdt, -1, compatible);
	const fdt32_t *cells = cells_of(*node, "reg", &count);
	return count >= 3 * index + 3 ? (uint16_t)fdt32_to_cpu(cells[3 * index + 1]) : 0;
}

static void read_ports(void)
{
	int node;
	machine.serial_port = isa_port("ns16550a", 0, &node);
	machine.exit_port = isa_port("tenon,exit", 0, &node);
	machine.reset_port = isa_port("tenon,power", 1, &node);
	machine.sleep_port = isa_port("tenon,power", 0, &node);
	machine.sleep_value = (uint8_t)cell_of(node, "tenon,sleep-value");
}

const char *machine_read(void)
{
	int bytes = 0;
	machine = (struct machine){.fdt = (const void *)LAYOUT_FDT, .command_line = ""};
	if (fdt_check_header(machine.fdt) != 0 || fdt_totalsize(machine.fdt) > LAYOUT_FDT_BYTES)
		return "no flattened device tree where it should be";
	read_ports();
	console_init(machine.serial_port);
	read_memory();
	read_cpus();
	const char *text = machine_chosen("bootargs", &bytes);
	if (text && bytes > 0)
		machine.command_line = text;
	machine.has_kernel = machine_chosen("tenon,kernel-entry", &bytes) != NULL;
	return machine.ram_count == 0 ? "no memory" : read_pci();
}

const void *machine_chosen(const char *name, int *bytes)
{
	int node = fdt_path_offset(machine.fdt, "/chosen");
	return node < 0 ? NULL : fdt_getprop(machine.fdt, node, name, bytes);
}

uint64_t machine_chosen_number(const char *name)
{
	int bytes = 0;
	const fdt32_t *cells = machine_chosen(name, &bytes);
	return cells && bytes == 8 ? number_at(cells, 2) : 0;
}

/* interrupt-map rows: unit address (3 cells), pin, the controller's phandle, its 2 cells; the unit address and pin are masked. */
int machine_gsi(unsigned device, unsigned pin)
{
	unsigned count, mask_count;
	const fdt32_t *rows = cells_of(pci_node, "interrupt-map", &count);
	const fdt32_t *mask = cells_of(pci_node, "interrupt-map-mask", &mask_count);
	if (mask_count != 4)
		return -1;
	uint32_t unit = (uint32_t)device << 11 & fdt32_to_cpu(mask[0]);
	for (unsigned i = 0; i + 7 <= count; i += 7) {
		if (fdt32_to_cpu(rows[i]) == unit && fdt32_to_cpu(rows[i + 3]) == pin + 1)
			return (int)fdt32_to_cpu(rows[i + 5]);
	}
	return -1;
}

static int child_at(int parent, unsigned devfn)
{
	int node;
	fdt_for_each_subnode(node, machine.fdt, parent)
	{
		unsigned count;
		const fdt32_t *cells = cells_of(node, "reg", &count);
		uint32_t place = count ? fdt32_to_cpu(cells[0]) : 0;
		if (count && PHYS_HI_DEVFN(place) == devfn)
			return node;
	}
	return -1;
}

const char *machine_host_address(int bridge_devfn, unsigned devfn)
{
	int parent = bridge_devfn < 0 ? pci_node : child_at(pci_node, (unsigned)bridge_devfn);
	int node = parent < 0 ? -1 : child_at(parent, devfn);
	return node < 0 ? NULL : fdt_getprop(machine.fdt, node, "tenon,host-address", NULL);
}

bool machine_is_ram(uint64_t address)
{
	for (unsigned i = 0; i < machine.ram_count; i++) {
		if (address - machine.ram[i].first < machine.ram[i].bytes)
			return true;
	}
	return false;
}

void machine_end(unsigned status)
{
	console_flush();
	if (machine.exit_port)
		out8(machine.exit_port, (uint8_t)status);
	else if (machine.sleep_port)
		out8(machine.sleep_port, machine.sleep_value);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* A machine that does not tell gets a rate that none exceeds: waits are then too long, never too short. */
static uint64_t ticks_per_us(void)
{
	return machine.tsc_hz >= 1000000 ? machine.tsc_hz / 1000000 : 8000;
}

uint64_t now_ns(void)
{
	uint64_t ticks = read_tsc(), rate = ticks_per_us();
	return ticks / rate * 1000 + ticks % rate * 1000 / rate;
}

void wait_us(uint64_t us)
{
	uint64_t end = read_tsc() + us * ticks_per_us();
	while (read_tsc() < end)
		relax();
}

// SPDX-License-Identifier: MIT
/* Writes the device tree front to back with libfdt; the first step that fails is remembered, the others do nothing after it. */
#include <errno.h>
#include <libfdt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "description.h"
#include "layout.h"

#define PHANDLE_IOAPIC     1
#define IRQ_EDGE_RISING    1
#define IRQ_LEVEL_LOW      8
#define PHYS_IO            0x01000000u
#define PHYS_MEMORY        0x02000000u
#define PHYS_MEMORY64      0x03000000u
#define PHYS_PREFETCH      0x40000000u
#define PHYS_DEVICE(d)     ((d) << 11)
#define PHYS_DEVFN(devfn)  ((devfn) << 8)
#define ISA_IO             1
#define SLEEP_VALUE        (0x20u | LAYOUT_SLEEP_TYPE_S5 << 2) /* ACPI 6.4, 4.8.3.7: enable, and the type */
#define PINS               4u
#define INTERRUPT_MAP_MASK PHYS_DEVICE(3u) /* the wiring repeats every four devices */

struct tree {
	void *fdt;
	int code;
};

static void begin(struct tree *tree, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void begin(struct tree *tree, const char *format, ...)
{
	char name[64];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(name, sizeof(name), format, arguments);
	va_end(arguments);
	if (tree->code == 0)
		tree->code = fdt_begin_node(tree->fdt, name);
}

static void end(struct tree *tree)
{
	if (tree->code == 0)
		tree->code = fdt_end_node(tree->fdt);
}

static void bytes(struct tree *tree, const char *name, const void *value, size_t count)
{
	if (tree->code == 0)
		tree->code = fdt_property(tree->fdt, name, value, (int)count);
}

static void string(struct tree *tree, const char *name, const char *value)
{
	bytes(tree, name, value, strlen(value) + 1);
}

/* A property's value, to be written; NULL after a failure. */
static void *room(struct tree *tree, const char *name, unsigned cell_count)
{
	void *at = NULL;
	if (tree->code == 0)
		tree->code = fdt_property_placeholder(tree->fdt, name, (int)(cell_count * sizeof(fdt32_t)), &at);
	return tree->code == 0 ? at : NULL;
}

static void cells(struct tree *tree, const char *name, const uint32_t *values, unsigned count)
{
	void *at = room(tree, name, count);
	for (unsigned i = 0; at && i < count; i++)
		fdt32_st((fdt32_t *)at + i, values[i]);
}

#define CELLS(tree, name, ...)                                                                                         \
	cells(tree, name, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
/* A number of two cells. */
#define TWO(value) (uint32_t)((uint64_t)(value) >> 32), (uint32_t)(value)

static void chosen(struct tree *tree, const struct description *description)
{
	const struct description_kernel *kernel = description->kernel;
	begin(tree, "chosen");
	string(tree, "bootargs", description->command_line);
	string(tree, "stdout-path", "/isa/serial@i3f8");
	CELLS(tree, "tenon,acpi-rsdp", TWO(LAYOUT_ACPI));
	if (kernel) {
		string(tree, "tenon,kernel-protocol", kernel->protocol);
		CELLS(tree, "tenon,kernel-entry", TWO(kernel->entry_gpa));
		if (kernel->setup_header)
			bytes(tree, "tenon,linux-setup-header", kernel->setup_header, kernel->setup_header_bytes);
		if (kernel->initrd_end > kernel->initrd_first) {
			CELLS(tree, "linux,initrd-start", TWO(kernel->initrd_first));
			CELLS(tree, "linux,initrd-end", TWO(kernel->initrd_end));
		}
	}
	end(tree);
}

static void cpus(struct tree *tree, const struct description *description)
{
	begin(tree, "cpus");
	CELLS(tree, "#address-cells", 1);
	CELLS(tree, "#size-cells", 0);
	if (description->tsc_hz)
		CELLS(tree, "timebase-frequency", TWO(description->tsc_hz));
	for (unsigned i = 0; i < description->cpu_count; i++) {
		begin(tree, "cpu@%x", i);
		string(tree, "device_type", "cpu");
		CELLS(tree, "reg", i);
		end(tree);
	}
	end(tree);
}

static void reserve(struct tree *tree, const char *name, uint64_t first, uint64_t size_bytes)
{
	begin(tree, "%s@%llx", name, (unsigned long long)first);
	CELLS(tree, "reg", TWO(first), TWO(size_bytes));
	bytes(tree, "no-map", NULL, 0);
	end(tree);
}

static void memory(struct tree *tree, const struct description *description)
{
	for (unsigned i = 0; i < description->memory->part_count; i++) {
		const struct memory_part *part = &description->memory->parts[i];
		begin(tree, "memory@%llx", (unsigned long long)part->gpa);
		string(tree, "device_type", "memory");
		CELLS(tree, "reg", TWO(part->gpa), TWO(part->size_bytes));
		end(tree);
	}
	begin(tree, "reserved-memory");
	CELLS(tree, "#address-cells", 2);
	CELLS(tree, "#size-cells", 2);
	bytes(tree, "ranges", NULL, 0);
	reserve(tree, "legacy", LAYOUT_LOW_RAM_END, LAYOUT_HIGH_RAM - LAYOUT_LOW_RAM_END);
	reserve(tree, "firmware", LAYOUT_RAM_ABOVE_4G - description->rom_bytes, description->rom_bytes);
	end(tree);
}

static void ioapic(struct tree *tree)
{
	begin(tree, "ioapic@%x", LAYOUT_IOAPIC);
	string(tree, "compatible", "intel,ioapic");
	bytes(tree, "interrupt-controller", NULL, 0);
	CELLS(tree, "#interrupt-cells", 2);
	CELLS(tree, "#address-cells", 0);
	CELLS(tree, "reg", TWO(LAYOUT_IOAPIC), TWO(0x1000));
	CELLS(tree, "phandle", PHANDLE_IOAPIC);
	end(tree);
}

static void windows(struct tree *tree, const struct placement *placement)
{
	const struct {
		uint32_t space;
		struct placement_window window;
	} all[] = {{PHYS_IO, placement->io},
		   {PHYS_MEMORY, placement->memory32},
		   {PHYS_MEMORY64 | PHYS_PREFETCH, placement->memory64}};
	uint32_t rows[3 * 7];
	unsigned count = 0;
	for (unsigned i = 0; i < 3; i++) {
		if (!all[i].window.size_bytes)
			continue;
		const uint32_t row[7] = {all[i].space, TWO(all[i].window.first), TWO(all[i].window.first),
					 TWO(all[i].window.size_bytes)};
		memcpy(&rows[count], row, sizeof(row));
		count += 7;
	}
	cells(tree, "ranges", rows, count);
}

static void interrupt_map(struct tree *tree)
{
	uint32_t rows[4 * PINS * 7], *at = rows;
	for (unsigned device = 0; device < 4; device++) {
		for (unsigned pin = 0; pin < PINS; pin++) {
			const uint32_t row[7] = {PHYS_DEVICE(device),
						 0,
						 0,
						 pin + 1,
						 PHANDLE_IOAPIC,
						 LAYOUT_INTX_GSI + (device + pin) % PINS,
						 IRQ_LEVEL_LOW};
			memcpy(at, row, sizeof(row));
			at += 7;
		}
	}
	CELLS(tree, "#interrupt-cells", 1);
	CELLS(tree, "interrupt-map-mask", INTERRUPT_MAP_MASK, 0, 0, 7);
	cells(tree, "interrupt-map", rows, sizeof(rows) / sizeof(rows[0]));
}

/* A node named by its place as IEEE 1275's PCI binding has it: "device@4", "device@4,1". */
static void begin_function(struct tree *tree, const char *kind, unsigned devfn)
{
	if (devfn & 7)
		begin(tree, "%s@%x,%x", kind, devfn >> 3, devfn & 7);
	else
		begin(tree, "%s@%x", kind, devfn >> 3);
}

static void devices_on(struct tree *tree, const struct description *description, int bridge)
{
	for (unsigned i = 0; i < description->device_count; i++) {
		const struct description_device *device = &description->devices[i];
		if (device->bridge != bridge)
			continue;
		begin_function(tree, "device", device->devfn);
		CELLS(tree, "reg", PHYS_DEVFN(device->devfn), 0, 0, 0, 0);
		string(tree, "tenon,host-address", device->host_address);
		end(tree);
	}
}

static void bridge_with_devices(struct tree *tree, const struct description *description, unsigned index)
{
	const struct description_bridge *bridge = &description->bridges[index];
	unsigned devfn = bridge->device << 3 | bridge->function;
	begin_function(tree, "pci", devfn);
	string(tree, "device_type", "pci");
	CELLS(tree, "#address-cells", 3);
	CELLS(tree, "#size-cells", 2);
	CELLS(tree, "reg", PHYS_DEVFN(devfn), 0, 0, 0, 0);
	bytes(tree, "ranges", NULL, 0);
	if (bridge->conventional)
		bytes(tree, "tenon,conventional", NULL, 0);
	devices_on(tree, description, (int)index);
	end(tree);
}

static void pcie(struct tree *tree, const struct description *description)
{
	const struct pci_bridge_windows *hotplug = &description->hotplug;
	begin(tree, "pcie@%x", LAYOUT_ECAM);
	string(tree, "compatible", "pci-host-ecam-generic");
	string(tree, "device_type", "pci");
	CELLS(tree, "#address-cells", 3);
	CELLS(tree, "#size-cells", 2);
	CELLS(tree, "reg", TWO(LAYOUT_ECAM), TWO((uint64_t)description->bus_count * LAYOUT_ECAM_BUS_BYTES));
	CELLS(tree, "bus-range", 0, description->bus_count - 1);
	windows(tree, &description->windows);
	interrupt_map(tree);
	CELLS(tree, "tenon,hotplug-bytes", TWO(hotplug->io_bytes), TWO(hotplug->memory_bytes),
	      TWO(hotplug->prefetch_bytes));
	for (unsigned i = 0; i < description->bridge_count; i++)
		bridge_with_devices(tree, description, i);
	devices_on(tree, description, -1);
	end(tree);
}

static void members(struct tree *tree, const uint16_t *rids, unsigned count)
{
	void *at = room(tree, "tenon,members", count);
	for (unsigned i = 0; at && i < count; i++)
		fdt32_st((fdt32_t *)at + i, rids[i]);
}

static void reset_group(struct tree *tree, unsigned number, const struct description_group *group)
{
	begin(tree, "group@%x", number);
	CELLS(tree, "reg", number);
	members(tree, group->rids, group->count);
	if (group->bus_reset)
		bytes(tree, "tenon,bus-reset", NULL, 0);
	else if (group->why)
		string(tree, "tenon,why", group->why);
	end(tree);
}

static void reset_groups(struct tree *tree, const struct description *description)
{
	begin(tree, "reset-groups");
	CELLS(tree, "#address-cells", 1);
	CELLS(tree, "#size-cells", 0);
	for (unsigned i = 0; i < description->group_count; i++)
		reset_group(tree, i, &description->groups[i]);
	end(tree);
}

static void isa(struct tree *tree, bool exit_device)
{
	begin(tree, "isa");
	string(tree, "device_type", "isa");
	string(tree, "compatible", "isa");
	CELLS(tree, "#address-cells", 2);
	CELLS(tree, "#size-cells", 1);
	begin(tree, "serial@i%x", LAYOUT_SERIAL_PORT);
	string(tree, "compatible", "ns16550a");
	CELLS(tree, "reg", ISA_IO, LAYOUT_SERIAL_PORT, 8);
	CELLS(tree, "interrupts-extended", PHANDLE_IOAPIC, LAYOUT_SERIAL_GSI, IRQ_EDGE_RISING);
	end(tree);
	begin(tree, "power@i%x", LAYOUT_SLEEP_CONTROL_PORT);
	string(tree, "compatible", "tenon,power");
	CELLS(tree, "reg", ISA_IO, LAYOUT_SLEEP_CONTROL_PORT, 2, ISA_IO, LAYOUT_RESET_PORT, 1);
	CELLS(tree, "tenon,sleep-value", SLEEP_VALUE);
	CELLS(tree, "tenon,reset-value", LAYOUT_RESET_VALUE);
	end(tree);
	if (exit_device) {
		begin(tree, "exit@i%x", LAYOUT_EXIT_PORT);
		string(tree, "compatible", "tenon,exit");
		CELLS(tree, "reg", ISA_IO, LAYOUT_EXIT_PORT, 4);
		end(tree);
	}
	end(tree);
}

int description_build(const struct description *description, void *buffer, size_t capacity, struct tenon_error *err)
{
	struct tree tree = {.fdt = buffer, .code = fdt_create(buffer, (int)capacity)};
	if (tree.code == 0)
		tree.code = fdt_finish_reservemap(buffer);
	begin(&tree, "%s", "");
	CELLS(&tree, "#address-cells", 2);
	CELLS(&tree, "#size-cells", 2);
	string(&tree, "compatible", "tenon,machine");
	string(&tree, "model", "Tenon microVM");
	chosen(&tree, description);
	cpus(&tree, description);
	memory(&tree, description);
	ioapic(&tree);
	pcie(&tree, description);
	reset_groups(&tree, description);
	isa(&tree, description->exit_device);
	end(&tree);
	if (tree.code == 0)
		tree.code = fdt_finish(buffer);
	if (tree.code == 0)
		return 0;
	return tenon_fail(err, -ENOSPC,
			  "the machine's description: %s; it has %zu bytes of room: shorten the command line, or "
			  "assign fewer devices",
			  fdt_strerror(tree.code), capacity);
}

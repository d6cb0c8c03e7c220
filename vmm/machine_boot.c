// SPDX-License-Identifier: MIT
/*
 * Power-on: BAR placement, ACPI tables, memory map, kernel: the work of a firmware. A machine that has one gets a description instead,
 * finds BARs and bridges as a reset leaves them, and starts at the reset vector.
 */
#include <errno.h>

#include "acpi/tables.h"
#include "description.h"
#include "layout.h"
#include "machine_boot.h"

#define WINDOW_BITS_MAX 46 /* what a firmware with page tables of four levels can map, for sure */

enum { RANGE_RAM = 1, RANGE_RESERVED = 2 };

static uint64_t end_of_ram(const struct memory *memory)
{
	const struct memory_part *last = &memory->parts[memory->part_count - 1];
	uint64_t end = last->gpa + last->size_bytes;
	return end > LAYOUT_RAM_ABOVE_4G ? end : LAYOUT_RAM_ABOVE_4G;
}

/* A firmware places BARs in its own order: it gets all the room that there is. */
static void widen_windows(struct machine *machine)
{
	struct placement *placement = &machine->placement;
	unsigned bits = cpu_model_physical_bits(machine->cpu_model);
	uint64_t end = 1ull << (bits < WINDOW_BITS_MAX ? bits : WINDOW_BITS_MAX);
	placement->io = (struct placement_window){LAYOUT_PCI_IO, LAYOUT_PCI_IO_BYTES};
	placement->memory32 = (struct placement_window){LAYOUT_PCI32, LAYOUT_PCI32_BYTES};
	if (end > placement->memory64.first)
		placement->memory64.size_bytes = end - placement->memory64.first;
}

int machine_place_devices(struct machine *machine, struct tenon_error *err)
{
	struct placement_device placed[SLOTS_MAX];
	struct slots *slots = &machine->slots;
	for (unsigned i = 0; i < slots->count; i++) {
		const struct slot *slot = &slots->slot[i];
		const struct tenon_device_info *info =
			slot->assigned ? tenon_device_info(slot->assigned->device) : NULL;
		placed[i] = (struct placement_device){.name = info ? info->address : "--hotplug-ports",
						      .bars = info ? info->bars : NULL,
						      .rom_bytes = info ? info->rom_bytes : 0,
						      .port = slot->port,
						      .reserve = !info};
	}
	int code = placement_compute(placed, slots->count, end_of_ram(&machine->memory),
				     cpu_model_physical_bits(machine->cpu_model), &machine->placement, err);
	for (unsigned i = 0; i < slots->count; i++)
		slots->slot[i].placed = placed[i];
	if (code == 0 && machine->rom.hva)
		widen_windows(machine);
	return code;
}

static struct acpi_window acpi_window(const struct placement_window *window)
{
	return (struct acpi_window){.first = window->first, .size_bytes = window->size_bytes};
}

static int write_acpi(struct machine *machine, struct tenon_error *err)
{
	struct acpi_machine description = {
		.cpu_count = machine->options->cpus,
		.bus_count = machine->pci.bus_count,
		.pci_io = acpi_window(&machine->placement.io),
		.pci32 = acpi_window(&machine->placement.memory32),
		.pci64 = acpi_window(&machine->placement.memory64),
		.exit_device = machine->options->exit_device,
	};
	for (unsigned i = 0; i < machine->slots.count; i++) {
		if (machine->slots.slot[i].port)
			description.root_port_devices[description.root_port_count++] = machine->slots.slot[i].number;
	}
	uint8_t *image = memory_at(&machine->memory, LAYOUT_ACPI, LAYOUT_ACPI_BYTES);
	int bytes = acpi_build(&description, image, LAYOUT_ACPI_BYTES, err);
	return bytes < 0 ? bytes : 0;
}

int machine_configure(struct machine *machine, struct tenon_error *err)
{
	static const uint64_t unplaced[TENON_DEVICE_BARS + 1];
	static const struct pci_bridge_windows closed;
	bool place = !machine->rom.hva;
	for (unsigned i = 0; i < machine->slots.count; i++) {
		struct slot *slot = &machine->slots.slot[i];
		if (slot->assigned)
			assigned_set_bars(slot->assigned, place ? slot->placed.address : unplaced);
		if (slot->port)
			pci_bridge_reset(slot->port, place ? &slot->placed.port_windows : &closed);
	}
	return write_acpi(machine, err);
}

/* What the guest is told of, ascending. @return how many */
static unsigned ranges_of(const struct machine *machine, struct loader_range ranges[LOADER_RANGES_MAX])
{
	const struct memory *memory = &machine->memory;
	uint64_t low_end = memory->parts[0].gpa + memory->parts[0].size_bytes;
	unsigned count = 0;
	ranges[count++] = (struct loader_range){0, LAYOUT_LOW_RAM_END, RANGE_RAM};
	ranges[count++] =
		(struct loader_range){LAYOUT_LOW_RAM_END, LAYOUT_HIGH_RAM - LAYOUT_LOW_RAM_END, RANGE_RESERVED};
	ranges[count++] = (struct loader_range){LAYOUT_HIGH_RAM, low_end - LAYOUT_HIGH_RAM, RANGE_RAM};
	ranges[count++] = (struct loader_range){LAYOUT_ECAM, (uint64_t)machine->pci.bus_count * LAYOUT_ECAM_BUS_BYTES,
						RANGE_RESERVED};
	if (memory->part_count > 1)
		ranges[count++] = (struct loader_range){memory->parts[1].gpa, memory->parts[1].size_bytes, RANGE_RAM};
	return count;
}

int machine_load(struct machine *machine, struct loader_entry *entry, struct tenon_error *err)
{
	struct loader_range ranges[LOADER_RANGES_MAX];
	*entry = (struct loader_entry){0};
	if (!machine->options->kernel)
		return 0;
	const struct loader_input input = {
		.files = &machine->files,
		.memory = &machine->memory,
		.ranges = ranges,
		.range_count = ranges_of(machine, ranges),
		.rsdp_gpa = LAYOUT_ACPI,
		.without_parameters = machine->rom.hva != NULL,
	};
	return loader_load(&input, entry, err);
}

static void describe_places(const struct machine *machine, struct description *description)
{
	for (unsigned i = 0; i < machine->slots.count; i++) {
		const struct slot *slot = &machine->slots.slot[i];
		description->places[description->place_count++] = (struct description_place){
			.device = slot->number,
			.port = slot->port,
			.host_address = slot->assigned ? tenon_device_info(slot->assigned->device)->address : NULL,
		};
		if (!slot->assigned)
			description->hotplug = slot->placed.port_windows;
	}
}

static int write_description(struct machine *machine, const struct loader_entry *entry, struct tenon_error *err)
{
	static const char *const protocols[] = {[LOADER_LINUX64] = "linux64", [LOADER_PVH] = "pvh"};
	struct description_kernel kernel = {
		.protocol = protocols[entry->protocol],
		.entry_gpa = entry->entry_gpa,
		.initrd_first = entry->initrd_first,
		.initrd_end = entry->initrd_last ? entry->initrd_last + 1 : 0,
	};
	struct description description = {
		.memory = &machine->memory,
		.cpu_count = machine->options->cpus,
		.tsc_hz = cpu_tsc_khz(machine->vcpus[0].vcpu) * 1000ull,
		.bus_count = machine->pci.bus_count,
		.windows = machine->placement,
		.exit_device = machine->options->exit_device,
		.rom_bytes = machine->rom.size_bytes,
		.command_line = machine->options->append,
	};
	if (machine->options->kernel) {
		kernel.setup_header = loader_setup_header(&machine->files, &kernel.setup_header_bytes);
		description.kernel = &kernel;
	}
	describe_places(machine, &description);
	return description_build(&description, memory_at(&machine->memory, LAYOUT_FDT, LAYOUT_FDT_BYTES),
				 LAYOUT_FDT_BYTES, err);
}

int machine_enter(struct machine *machine, const struct loader_entry *entry, struct tenon_error *err)
{
	if (machine->rom.hva)
		return write_description(machine, entry, err);
	return cpu_enter(machine->vcpus[0].vcpu, &machine->memory, entry, err);
}

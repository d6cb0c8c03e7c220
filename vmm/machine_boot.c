// SPDX-License-Identifier: MIT
/*
 * Power-on: BAR placement, ACPI tables, memory map, kernel: the work of a firmware. A machine that has one gets a description instead,
 * finds BARs and bridges as a reset leaves them, and starts at the reset vector.
 */
#include <errno.h>
#include <string.h>

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

/* The bus of each slot, and what goes to it. @return how many buses there are behind bridges */
static unsigned collect(struct slots *slots, struct placement_device placed[SLOTS_MAX],
			struct placement_bus buses[SLOTS_MAX])
{
	unsigned bus_count = 0;
	for (unsigned i = 0; i < slots->count; i++) {
		const struct slot *slot = &slots->slot[i];
		const struct tenon_device_info *info =
			slot->assigned ? tenon_device_info(slot->assigned->device) : NULL;
		placed[i] = (struct placement_device){.name = info ? info->address : "--hotplug-ports",
						      .bars = info ? info->bars : NULL,
						      .rom_bytes = info ? info->rom_bytes : 0,
						      .bus = -1};
		if (slot->leader != slot)
			placed[i].bus = placed[slot->leader - slots->slot].bus; /* the leader comes first */
		else if (slot->bridge)
			placed[i].bus = (int)bus_count;
		if (slot->leader == slot && slot->bridge)
			buses[bus_count++] = (struct placement_bus){.name = placed[i].name, .reserve = !info};
	}
	return bus_count;
}

int machine_place_devices(struct machine *machine, struct tenon_error *err)
{
	struct placement_device placed[SLOTS_MAX];
	struct placement_bus buses[SLOTS_MAX];
	struct slots *slots = &machine->slots;
	unsigned bus_count = collect(slots, placed, buses);
	int code = placement_compute(placed, slots->count, buses, bus_count, end_of_ram(&machine->memory),
				     cpu_model_physical_bits(machine->cpu_model), &machine->placement, err);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < slots->count; i++) {
		memcpy(slots->slot[i].address, placed[i].address, sizeof(placed[i].address));
		if (placed[i].bus >= 0)
			slots->slot[i].windows = buses[placed[i].bus].windows;
	}
	if (machine->rom.hva)
		widen_windows(machine);
	return 0;
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
		const struct slot *slot = &machine->slots.slot[i];
		if (slot->bridge && slot->leader == slot)
			description.bridges[description.bridge_count++] =
				(struct acpi_bridge){.device = slot->device,
						     .function = slot->function,
						     .conventional = pci_bridge_is_conventional(slot->bridge)};
	}
	uint8_t *image = memory_at(&machine->memory, LAYOUT_ACPI, LAYOUT_ACPI_BYTES);
	int bytes = acpi_build(&description, image, LAYOUT_ACPI_BYTES, err);
	return bytes < 0 ? bytes : 0;
}

void machine_reset_bridges(struct machine *machine)
{
	static const struct pci_bridge_windows closed;
	for (unsigned i = 0; i < machine->slots.count; i++) {
		struct slot *slot = &machine->slots.slot[i];
		if (slot->bridge && slot->leader == slot)
			pci_bridge_reset(slot->bridge, machine->rom.hva ? &closed : &slot->windows);
	}
}

int machine_configure(struct machine *machine, struct tenon_error *err)
{
	static const uint64_t unplaced[TENON_DEVICE_BARS + 1];
	for (unsigned i = 0; i < machine->slots.count; i++) {
		struct slot *slot = &machine->slots.slot[i];
		if (slot->assigned)
			assigned_set_bars(slot->assigned, machine->rom.hva ? unplaced : slot->address);
	}
	machine_reset_bridges(machine);
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

/* One bridge with what is behind it, or a device of the root bus. @param rids  room for the members of the group */
static void describe_place(struct slot *leader, struct description *description, uint16_t *rids)
{
	struct description_group *group = &description->groups[description->group_count];
	unsigned bus = leader->bridge ? pci_bridge_secondary(leader->bridge) : 0;
	int bridge = leader->bridge ? (int)description->bridge_count : -1;
	if (leader->bridge)
		description->bridges[description->bridge_count++] =
			(struct description_bridge){.device = leader->device,
						    .function = leader->function,
						    .conventional = pci_bridge_is_conventional(leader->bridge)};
	*group = (struct description_group){.bus_reset = leader->bus_reset, .rids = rids, .why = leader->why};
	for (struct slot *slot = leader; slot; slot = slots_next_behind(slot)) {
		if (!slot->assigned)
			continue;
		rids[group->count++] = (uint16_t)(bus << 8 | slot->devfn);
		description->devices[description->device_count++] = (struct description_device){
			.bridge = bridge,
			.devfn = slot->devfn,
			.host_address = tenon_device_info(slot->assigned->device)->address,
		};
	}
	description->group_count += group->count > 0;
	if (leader->reserved)
		description->hotplug = leader->windows;
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
	struct slot *leaders[SLOTS_MAX];
	uint16_t rids[SLOTS_MAX];
	unsigned count = slots_leaders(&machine->slots, leaders);
	for (unsigned i = 0; i < count; i++)
		describe_place(leaders[i], &description, rids + description.device_count);
	return description_build(&description, memory_at(&machine->memory, LAYOUT_FDT, LAYOUT_FDT_BYTES),
				 LAYOUT_FDT_BYTES, err);
}

int machine_enter(struct machine *machine, const struct loader_entry *entry, struct tenon_error *err)
{
	if (machine->rom.hva)
		return write_description(machine, entry, err);
	return cpu_enter(machine->vcpus[0].vcpu, &machine->memory, entry, err);
}

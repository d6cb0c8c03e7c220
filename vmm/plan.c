// SPDX-License-Identifier: MIT
/* The plan of --dry-run, as JSON by json-c and as text. Both come from one walk over the machine: the JSON object. */
#include <errno.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>

#include "layout.h"
#include "plan.h"
#include "topology_json.h"

static json_object *address(uint64_t value)
{
	char text[32];
	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)value);
	return json_object_new_string(text);
}

static void add_range(json_object *list, const char *what, uint64_t first, uint64_t size_bytes)
{
	if (!size_bytes)
		return;
	json_object *range = json_object_new_object();
	json_object_object_add(range, "what", json_object_new_string(what));
	json_object_object_add(range, "first", address(first));
	json_object_object_add(range, "last", address(first + size_bytes - 1));
	json_object_object_add(range, "bytes", json_object_new_uint64(size_bytes));
	json_object_array_add(list, range);
}

static json_object *memory_map(const struct machine *machine)
{
	json_object *map = json_object_new_array();
	const struct memory *memory = &machine->memory;
	const struct placement *placement = &machine->placement;
	add_range(map, "RAM", memory->parts[0].gpa, memory->parts[0].size_bytes);
	add_range(map, "32-bit PCI window", placement->memory32.first, placement->memory32.size_bytes);
	add_range(map, "PCIe configuration (ECAM)", LAYOUT_ECAM,
		  (uint64_t)machine->pci.bus_count * LAYOUT_ECAM_BUS_BYTES);
	add_range(map, "IOAPIC", LAYOUT_IOAPIC, 0x1000);
	add_range(map, "LAPIC and interrupt messages", LAYOUT_LAPIC, 0x100000);
	if (memory->part_count > 1)
		add_range(map, "RAM", memory->parts[1].gpa, memory->parts[1].size_bytes);
	add_range(map, "64-bit PCI window", placement->memory64.first, placement->memory64.size_bytes);
	return map;
}

/* @param addresses  NULL: a firmware will choose them */
static json_object *bars(const struct tenon_device_info *info, const uint64_t *addresses)
{
	json_object *list = json_object_new_array();
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		const struct tenon_bar_info *bar = &info->bars[i];
		if (!bar->size_bytes)
			continue;
		json_object *one = json_object_new_object();
		json_object_object_add(one, "bar", json_object_new_int((int)i));
		json_object_object_add(one, "kind",
				       json_object_new_string(bar->io         ? "I/O"
							      : bar->is_64bit ? "64-bit memory"
									      : "32-bit memory"));
		json_object_object_add(one, "prefetchable", json_object_new_boolean(bar->prefetchable));
		json_object_object_add(one, "address", addresses ? address(addresses[i]) : NULL);
		json_object_object_add(one, "bytes", json_object_new_uint64(bar->size_bytes));
		json_object_object_add(one, "bytes_without_vm_exit", json_object_new_uint64(bar->mappable_bytes));
		json_object_array_add(list, one);
	}
	return list;
}

static json_object *reset(struct tenon_device *device)
{
	static const char *const methods[] = {
		[TENON_RESET_NONE] = "none",
		[TENON_RESET_FUNCTION] = "function",
		[TENON_RESET_BUS] = "bus",
		[TENON_RESET_POWER] = "power",
	};
	static const char *const owners[] = {
		[TENON_RESET_OWNER_SELF] = "self",
		[TENON_RESET_OWNER_SPACE] = "vm",
		[TENON_RESET_OWNER_GROUP] = "group",
		[TENON_RESET_OWNER_OTHER] = "other",
	};
	struct tenon_reset_plan plan = {.size = sizeof(plan)};
	struct tenon_error error;
	if (tenon_device_reset_plan(device, &plan, &error) < 0)
		snprintf(plan.why, sizeof(plan.why), "%.400s", error.message);
	json_object *one = json_object_new_object();
	json_object_object_add(one, "method", json_object_new_string(methods[plan.method]));
	json_object_object_add(one, "allowed", json_object_new_boolean(plan.allowed));
	json_object_object_add(one, "why", json_object_new_string(plan.why));
	json_object *affected = json_object_new_array();
	for (unsigned i = 0; i < plan.affected_count; i++) {
		const struct tenon_reset_affected *from = &plan.affected[i];
		json_object *each = json_object_new_object();
		json_object_object_add(each, "address", json_object_new_string(from->address));
		json_object_object_add(each, "driver", from->driver[0] ? json_object_new_string(from->driver) : NULL);
		json_object_object_add(each, "iommu_group", json_object_new_int(from->iommu_group));
		json_object_object_add(each, "owner", json_object_new_string(owners[from->owner]));
		json_object_array_add(affected, each);
	}
	json_object_object_add(one, "affected", affected);
	return one;
}

static json_object *expansion_rom(const struct tenon_device_info *info, const uint64_t *addresses)
{
	json_object *one = json_object_new_object();
	json_object_object_add(one, "address", addresses ? address(addresses[TENON_DEVICE_ROM]) : NULL);
	json_object_object_add(one, "bytes", json_object_new_uint64(info->rom_bytes));
	return one;
}

static json_object *device(const struct slot *slot, bool placed)
{
	const uint64_t *addresses = placed ? slot->address : NULL;
	static const char *const interfaces[] = {[TENON_INTERFACE_AUTO] = "auto",
						 [TENON_INTERFACE_IOMMUFD] = "iommufd",
						 [TENON_INTERFACE_CONTAINER] = "container",
						 [TENON_INTERFACE_VFIO_USER] = "vfio-user"};
	const struct tenon_device_info *info = tenon_device_info(slot->assigned->device);
	char text[64];
	json_object *one = json_object_new_object();
	json_object_object_add(one, "address", json_object_new_string(info->address));
	json_object_object_add(one, "path", json_object_new_string(info->path));
	snprintf(text, sizeof(text), "%04x:%04x", info->vendor_id, info->device_id);
	json_object_object_add(one, "id", json_object_new_string(text));
	snprintf(text, sizeof(text), "%06x", info->class_code);
	json_object_object_add(one, "class", json_object_new_string(text));
	json_object_object_add(one, "iommu_group", json_object_new_int(info->iommu_group));
	json_object_object_add(one, "interface", json_object_new_string(interfaces[info->interface]));
	json_object_object_add(one, "coherent", json_object_new_boolean(info->coherent));
	json_object_object_add(one, "peer_to_peer", json_object_new_boolean(info->peer_to_peer));
	slot_name(slot, text, sizeof(text));
	json_object_object_add(one, "slot", json_object_new_string(text));
	snprintf(text, sizeof(text), "00:%02x.%x", slot->device, slot->function);
	json_object_object_add(one, "port", slot->bridge ? json_object_new_string(text) : NULL);
	json_object_object_add(one, "reset", reset(slot->assigned->device));
	json_object *interrupts = json_object_new_object();
	json_object_object_add(interrupts, "msix", json_object_new_int((int)info->msix_vectors));
	json_object_object_add(interrupts, "msi", json_object_new_int((int)info->msi_vectors));
	snprintf(text, sizeof(text), "INT%c", 'A' + (char)info->intx_pin - 1);
	json_object_object_add(interrupts, "intx", info->intx_pin ? json_object_new_string(text) : NULL);
	json_object_object_add(one, "interrupts", interrupts);
	json_object_object_add(one, "sriov_hidden", json_object_new_boolean(info->sriov_hidden));
	json_object_object_add(one, "bars", bars(info, addresses));
	json_object_object_add(one, "expansion_rom", info->rom_bytes ? expansion_rom(info, addresses) : NULL);
	return one;
}

static json_object *describe(struct machine *machine)
{
	const struct run_options *options = machine->options;
	json_object *plan = json_object_new_object();
	json_object_object_add(plan, "firmware", options->firmware ? json_object_new_string(options->firmware) : NULL);
	json_object_object_add(plan, "kernel", options->kernel ? json_object_new_string(options->kernel) : NULL);
	json_object_object_add(plan, "initrd", options->initrd ? json_object_new_string(options->initrd) : NULL);
	json_object_object_add(plan, "command_line", json_object_new_string(options->append));
	json_object_object_add(plan, "cpus", json_object_new_int((int)options->cpus));
	json_object_object_add(plan, "memory_bytes", json_object_new_uint64(options->memory.size_bytes));
	json_object_object_add(plan, "serial", json_object_new_string(chardev_name(machine->chardev)));
	json_object_object_add(plan, "memory_map", memory_map(machine));
	json_object *devices = json_object_new_array();
	for (unsigned i = 0; i < options->device_count; i++)
		json_object_array_add(devices, device(&machine->slots.slot[i], !options->firmware));
	json_object_object_add(plan, "devices", devices);
	json_object_object_add(plan, "topology", topology_json(&machine->slots));
	json_object_object_add(plan, "empty_root_ports", json_object_new_int((int)options->hotplug_ports));
	return plan;
}

int plan_print_json(struct machine *machine, struct tenon_error *err)
{
	json_object *plan = describe(machine);
	const char *text =
		json_object_to_json_string_ext(plan, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text)
		puts(text);
	json_object_put(plan);
	return text ? 0 : tenon_fail(err, -ENOMEM, "cannot print the plan: out of memory; free some memory");
}

static const char *string_of(json_object *object, const char *key)
{
	json_object *value = json_object_object_get(object, key);
	return value ? json_object_get_string(value) : "none";
}

static uint64_t number_of(json_object *object, const char *key)
{
	return json_object_get_uint64(json_object_object_get(object, key));
}

static const char *place_of(json_object *bar)
{
	return json_object_object_get(bar, "address") ? string_of(bar, "address") : "where the firmware puts it";
}

static void print_reset(json_object *reset)
{
	json_object *affected = json_object_object_get(reset, "affected");
	bool allowed = json_object_get_boolean(json_object_object_get(reset, "allowed"));
	printf("  reset        %s%s: %s\n", string_of(reset, "method"), allowed ? "" : ", not possible",
	       string_of(reset, "why"));
	for (size_t i = 1; i < json_object_array_length(affected); i++) {
		json_object *each = json_object_array_get_idx(affected, i);
		printf("  resets too   %s, IOMMU group %s, driver %s, owner: %s\n", string_of(each, "address"),
		       string_of(each, "iommu_group"), string_of(each, "driver"), string_of(each, "owner"));
	}
}

static void print_device(json_object *one)
{
	json_object *interrupts = json_object_object_get(one, "interrupts");
	json_object *list = json_object_object_get(one, "bars");
	printf("device %s\n", string_of(one, "address"));
	printf("  node         %s\n", string_of(one, "path"));
	printf("  id, class    %s, %s\n", string_of(one, "id"), string_of(one, "class"));
	printf("  IOMMU group  %s\n", string_of(one, "iommu_group"));
	printf("  DMA          by %s%s%s\n", string_of(one, "interface"),
	       json_object_get_boolean(json_object_object_get(one, "coherent")) ? ", coherent"
										: ", not coherent with the CPU caches",
	       json_object_get_boolean(json_object_object_get(one, "peer_to_peer")) ? ", to other devices too" : "");
	printf("  guest slot   %s\n", string_of(one, "slot"));
	print_reset(json_object_object_get(one, "reset"));
	printf("  interrupts   MSI-X %s, MSI %s, INTx %s\n", string_of(interrupts, "msix"),
	       string_of(interrupts, "msi"), string_of(interrupts, "intx"));
	if (json_object_get_boolean(json_object_object_get(one, "sriov_hidden")))
		printf("  SR-IOV       hidden from the guest\n");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *bar = json_object_array_get_idx(list, i);
		printf("  BAR %s        %s, %s, %llu KiB, %llu KiB of it without VM exits\n", string_of(bar, "bar"),
		       place_of(bar), string_of(bar, "kind"),
		       (unsigned long long)(number_of(bar, "bytes") + 1023) / 1024,
		       (unsigned long long)number_of(bar, "bytes_without_vm_exit") / 1024);
	}
	json_object *rom = json_object_object_get(one, "expansion_rom");
	if (rom)
		printf("  ROM          %s, %llu KiB\n", place_of(rom),
		       (unsigned long long)number_of(rom, "bytes") / 1024);
}

void plan_print_text(struct machine *machine)
{
	json_object *plan = describe(machine);
	json_object *map = json_object_object_get(plan, "memory_map"),
		    *devices = json_object_object_get(plan, "devices");
	printf("firmware       %s\n", string_of(plan, "firmware"));
	printf("kernel         %s\n", string_of(plan, "kernel"));
	printf("initrd         %s\n", string_of(plan, "initrd"));
	printf("command line   %s\n", string_of(plan, "command_line"));
	printf("CPUs           %s\n", string_of(plan, "cpus"));
	printf("memory         %llu MiB\n", (unsigned long long)number_of(plan, "memory_bytes") >> 20);
	printf("serial port    %s\n", string_of(plan, "serial"));
	printf("empty ports    %s\n", string_of(plan, "empty_root_ports"));
	printf("memory map\n");
	for (size_t i = 0; i < json_object_array_length(map); i++) {
		json_object *range = json_object_array_get_idx(map, i);
		printf("  %14s - %-14s %s\n", string_of(range, "first"), string_of(range, "last"),
		       string_of(range, "what"));
	}
	for (size_t i = 0; i < json_object_array_length(devices); i++)
		print_device(json_object_array_get_idx(devices, i));
	puts("reset groups");
	topology_print(json_object_object_get(plan, "topology"));
	json_object_put(plan);
}

// SPDX-License-Identifier: MIT
/* Looks at a machine for its profile. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/migration.h>

#include "../layout.h"
#include "describe.h"
#include "places.h"
#include "profile.h"

/* FNV-1a: tells one file from another, and proves nothing. */
static uint64_t sum_of(const uint8_t *data, uint64_t bytes)
{
	uint64_t sum = 0xcbf29ce484222325u;
	for (uint64_t i = 0; i < bytes; i++)
		sum = (sum ^ data[i]) * 0x100000001b3u;
	return sum;
}

static void look_at_bridges(struct machine *machine, struct profile *profile)
{
	struct slot *leaders[SLOTS_MAX];
	unsigned count = slots_leaders(&machine->slots, leaders);
	for (unsigned i = 0; i < count; i++) {
		const struct slot *slot = leaders[i];
		if (!slot->bridge)
			continue;
		const struct pci_bridge_options *options = pci_bridge_options(slot->bridge);
		profile->bridges[profile->bridge_count++] = (struct profile_bridge){
			.device = slot->device,
			.function = slot->function,
			.conventional = options->kind == PCI_BRIDGE_CONVENTIONAL,
			.slot = options->slot,
			.isolated = options->isolated,
			.ari = options->ari,
			.bus_reset = slot->assigned && slot->bus_reset,
		};
	}
}

static int look_at_device(const struct slot *slot, struct profile_device *out, struct tenon_error *err)
{
	const struct tenon_device_info *info = tenon_device_info(slot->assigned->device);
	struct tenon_migration_info abilities = {.size = sizeof(abilities)};
	int code = tenon_device_migration_info(slot->assigned->device, &abilities, err);
	if (code < 0)
		return code;
	*out = (struct profile_device){
		.device = slot->device,
		.function = slot->function,
		.bridge = slot->bridge != NULL,
		.devfn = slot->devfn,
		.vendor_id = info->vendor_id,
		.device_id = info->device_id,
		.subsystem_vendor_id = info->subsystem_vendor_id,
		.subsystem_id = info->subsystem_id,
		.class_code = info->class_code,
		.pcie = info->pcie,
		.intx_pin = info->intx_pin,
		.msi_vectors = info->msi_vectors,
		.msix_vectors = info->msix_vectors,
		.rom_bytes = info->rom_bytes,
		.migratable = abilities.migratable,
		.p2p = abilities.p2p,
		.pre_copy = abilities.pre_copy,
	};
	snprintf(out->name, sizeof(out->name), "%s", info->address);
	snprintf(out->why, sizeof(out->why), "%s", abilities.why);
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++)
		out->bars[i] = (struct profile_bar){.size_bytes = info->bars[i].size_bytes,
						    .io = info->bars[i].io,
						    .is_64bit = info->bars[i].is_64bit,
						    .prefetchable = info->bars[i].prefetchable};
	return 0;
}

static int look_at(struct machine *machine, struct profile *profile, struct tenon_error *err)
{
	struct slot *devices[SLOTS_MAX];
	*profile = (struct profile){
		.memory_count = machine->memory.part_count,
		.cpus = machine->options->cpus,
		.address_bits = cpu_model_physical_bits(machine->cpu_model),
		.rom_bytes = machine->rom.size_bytes,
		.rom_sum = machine->rom.hva ? sum_of(machine->rom.hva, machine->rom.size_bytes) : 0,
		.exit_device = machine->options->exit_device,
		.layout = LAYOUT_VERSION,
		.buses = machine->pci.bus_count,
		.device_count = places_devices(&machine->slots, devices),
	};
	for (unsigned i = 0; i < machine->memory.part_count; i++)
		profile->memory[i] =
			(struct profile_range){machine->memory.parts[i].gpa, machine->memory.parts[i].size_bytes};
	look_at_bridges(machine, profile);
	int code = tenon_vcpu_cpuid_pack(machine->vcpus[0].vcpu, &profile->cpuid, &profile->cpuid_bytes, err);
	for (unsigned i = 0; code == 0 && i < profile->device_count; i++)
		code = look_at_device(devices[i], &profile->devices[i], err);
	return code;
}

/* Large ones, for a thread with a small stack. */
static struct profile *new_profiles(unsigned count, struct tenon_error *err)
{
	struct profile *profiles = calloc(count, sizeof(*profiles));
	if (!profiles)
		tenon_fail(err, -ENOMEM, "machine: cannot describe it: out of memory; free some memory");
	return profiles;
}

int machine_describe(struct machine *machine, char **text, struct tenon_error *err)
{
	struct profile *profile = new_profiles(1, err);
	if (!profile)
		return -ENOMEM;
	int code = look_at(machine, profile, err);
	if (code == 0)
		code = profile_write(profile, text, err);
	profile_finish(profile);
	free(profile);
	return code;
}

int machine_accept(struct machine *machine, const char *text, size_t bytes, struct tenon_error *err)
{
	struct tenon_error features = {0};
	struct profile *profiles = new_profiles(2, err);
	if (!profiles)
		return -ENOMEM;
	struct profile *source = &profiles[0], *here = &profiles[1];
	int code = look_at(machine, here, err);
	if (code == 0)
		code = profile_read(text, bytes, source, err);
	if (code == 0) {
		int cpus =
			tenon_vcpu_cpuid_compare(machine->vcpus[0].vcpu, source->cpuid, source->cpuid_bytes, &features);
		code = profile_compare(source, here, cpus < 0 ? features.message : NULL, err);
	}
	profile_finish(source);
	profile_finish(here);
	free(profiles);
	return code;
}

// SPDX-License-Identifier: MIT
/* The machine's RAM, devices, parts and switches for a migration. What the parts hold is parts.c's, how machines differ describe.c's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "describe.h"
#include "offer.h"
#include "parts.h"
#include "places.h"
#include "quiet.h"

static int describe(void *context, void **data, size_t *bytes, struct tenon_error *err)
{
	struct offer *offer = context;
	char *text = NULL;
	int code = machine_describe(offer->machine, &text, err);
	if (code < 0)
		return code;
	*data = text;
	*bytes = strlen(text);
	return 0;
}

static int accept(void *context, const void *data, size_t bytes, struct tenon_error *err)
{
	struct offer *offer = context;
	return machine_accept(offer->machine, data, bytes, err);
}

static int dirty_log(void *context, bool enable, struct tenon_error *err)
{
	struct offer *offer = context;
	struct machine *machine = offer->machine;
	int code = tenon_vm_dirty_log_enable(machine->vm, enable, err);
	if (!enable) {
		tenon_space_dirty_stop(machine->space);
		return code;
	}
	if (code == 0)
		code = tenon_space_dirty_start(machine->space, err);
	if (code < 0)
		tenon_vm_dirty_log_enable(machine->vm, false, NULL);
	return code;
}

static int dirty_fetch(void *context, unsigned ram, uint64_t *bitmap, struct tenon_error *err)
{
	struct offer *offer = context;
	const struct tenon_migration_ram *region = &offer->ram[ram];
	size_t words = (region->size_bytes / TENON_MIGRATION_PAGE_BYTES + 63) / 64;
	/* It must not wait for the end of pre-copy. */
	if (machine_wants_reset(offer->machine))
		return tenon_fail(err, -ECANCELED, "migration: the guest resets a bus at this moment; try again");
	int code = tenon_vm_dirty_log_fetch(offer->machine->vm, region->gpa, offer->dirty, offer->dirty_words, err);
	if (code < 0)
		return code;
	for (size_t i = 0; i < words; i++)
		bitmap[i] |= offer->dirty[i];
	if (offer->what.device_count == 0) /* then the space knows no memory */
		return 0;
	return tenon_space_dirty_fetch(offer->machine->space, region->gpa, region->size_bytes, bitmap, err);
}

/* The vCPUs of a machine that was asked to stop meanwhile stay paused: the main loop sees to it. */
static void resume(void *context)
{
	struct offer *offer = context;
	struct machine *machine = offer->machine;
	for (unsigned i = 0; atomic_load(&machine->stop) == MACHINE_RUNNING && i < machine->options->cpus; i++)
		tenon_vcpu_resume(machine->vcpus[i].vcpu);
	machine_quiet_end(machine);
}

/* A guest that resets or switches off has a machine that begins anew, or ends: that comes first. */
static int pause_machine(void *context, struct tenon_error *err)
{
	struct offer *offer = context;
	machine_quiet_begin(offer->machine);
	machine_pause(offer->machine);
	int code = machine_settled(offer->machine, offer->hotplug, err);
	if (code < 0)
		resume(offer);
	return code;
}

static int save(void *context, tenon_migration_part_fn part, void *part_context, struct tenon_error *err)
{
	struct offer *offer = context;
	return machine_parts_save(offer->machine, part, part_context, err);
}

static int load(void *context, const char *name, uint32_t version, const void *data, size_t bytes,
		struct tenon_error *err)
{
	struct offer *offer = context;
	return machine_part_load(offer->machine, name, version, data, bytes, err);
}

/* The vCPUs' threads, which may fail to start, are there before the guest may run here; they wait. */
static int loaded(void *context, struct tenon_error *err)
{
	struct offer *offer = context;
	struct machine *machine = offer->machine;
	int code = machine_parts_loaded(machine, err);
	for (unsigned i = 0; code == 0 && i < machine->options->cpus; i++)
		tenon_vcpu_pause(machine->vcpus[i].vcpu, false);
	return code < 0 ? code : machine_start(machine, err);
}

static void start(void *context)
{
	resume(context);
}

static const struct tenon_migration_machine_ops ops = {
	.size = sizeof(ops),
	.describe = describe,
	.accept = accept,
	.dirty_log = dirty_log,
	.dirty_fetch = dirty_fetch,
	.pause = pause_machine,
	.resume = resume,
	.save = save,
	.load = load,
	.loaded = loaded,
	.start = start,
};

static void offer_devices(struct offer *offer)
{
	struct slot *slots[SLOTS_MAX];
	unsigned count = places_devices(&offer->machine->slots, slots);
	for (unsigned i = 0; i < count; i++) {
		const struct assigned *assigned = slots[i]->assigned;
		struct tenon_migratable *device = &offer->devices[i];
		device->ops = &tenon_migratable_device;
		device->assume_all_dirty = assigned->options->assume_all_dirty;
		device->context = assigned->device;
		snprintf(device->name, sizeof(device->name), "%s", tenon_device_info(assigned->device)->address);
	}
	offer->what.device_count = count;
}

int offer_init(struct offer *offer, struct machine *machine, struct hotplug *hotplug, struct tenon_error *err)
{
	const struct memory *memory = &machine->memory;
	*offer = (struct offer){.machine = machine, .hotplug = hotplug};
	int code = machine_settled(machine, hotplug, err);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < memory->part_count; i++) {
		const struct memory_part *part = &memory->parts[i];
		size_t words = (part->size_bytes / TENON_MIGRATION_PAGE_BYTES + 63) / 64;
		offer->ram[i] = (struct tenon_migration_ram){part->gpa, part->size_bytes, part->hva};
		if (words > offer->dirty_words)
			offer->dirty_words = words;
	}
	offer->dirty = calloc(offer->dirty_words, sizeof(uint64_t));
	if (!offer->dirty)
		return tenon_fail(err, -ENOMEM, "migration: out of memory; free some");
	offer->what = (struct tenon_migration_machine){
		.size = sizeof(offer->what),
		.ram = offer->ram,
		.ram_count = memory->part_count,
		.devices = offer->devices,
		.ops = &ops,
		.context = offer,
	};
	offer_devices(offer);
	return 0;
}

void offer_finish(struct offer *offer)
{
	free(offer->dirty);
	offer->dirty = NULL;
}

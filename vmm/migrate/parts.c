// SPDX-License-Identifier: MIT
/* Names, versions and order of the machine's parts. What is in each is its owner's affair. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../machine.h"
#include "places.h"

/* One kind of part: of some there is one for each vCPU or bridge. */
struct kind {
	const char *name;
	uint32_t version;
	unsigned first; /* number of the first, of a kind with numbers */
	/* NULL: there is one, without a number */
	unsigned (*count)(const struct machine *machine);
	int (*save)(struct machine *machine, unsigned index, struct bytes_out *out, struct tenon_error *err);
	int (*load)(struct machine *machine, unsigned index, struct bytes_in *in, struct tenon_error *err);
};

/* Hands on what a library packed. */
static int put_packed(int code, void *data, size_t bytes, struct bytes_out *out)
{
	if (code < 0)
		return code;
	bytes_put(out, data, bytes);
	free(data);
	return 0;
}

/* ---- What KVM has ---- */

static int save_vm(struct machine *machine, unsigned index, struct bytes_out *out, struct tenon_error *err)
{
	void *data = NULL;
	size_t bytes = 0;
	int code = tenon_vm_state_pack(machine->vm, &data, &bytes, err);
	return put_packed(code, data, bytes, out);
}

static int load_vm(struct machine *machine, unsigned index, struct bytes_in *in, struct tenon_error *err)
{
	return tenon_vm_state_unpack(machine->vm, in->data, in->left, err);
}

static unsigned count_vcpus(const struct machine *machine)
{
	return machine->options->cpus;
}

static int save_vcpu(struct machine *machine, unsigned index, struct bytes_out *out, struct tenon_error *err)
{
	struct tenon_vcpu_state *state = NULL;
	void *data = NULL;
	size_t bytes = 0;
	int code = tenon_vcpu_state_capture(machine->vcpus[index].vcpu, &state, err);
	if (code == 0)
		code = tenon_vcpu_state_pack(state, &data, &bytes, err);
	tenon_vcpu_state_free(state);
	return put_packed(code, data, bytes, out);
}

static int load_vcpu(struct machine *machine, unsigned index, struct bytes_in *in, struct tenon_error *err)
{
	struct tenon_vcpu_state *state = NULL;
	int code = tenon_vcpu_state_unpack(in->data, in->left, &state, err);
	if (code == 0)
		code = tenon_vcpu_state_restore(machine->vcpus[index].vcpu, state, TENON_VCPU_RESTORE_MIGRATION, err);
	tenon_vcpu_state_free(state);
	return code;
}

/* ---- What the machine has ---- */

static int save_places(struct machine *machine, unsigned index, struct bytes_out *out, struct tenon_error *err)
{
	places_save(&machine->slots, &machine->placement, out);
	return 0;
}

static int load_places(struct machine *machine, unsigned index, struct bytes_in *in, struct tenon_error *err)
{
	return places_load(&machine->slots, &machine->placement, in, err);
}

static unsigned count_bridges(const struct machine *machine)
{
	return machine->pci.bridge_count;
}

static int save_bridge(struct machine *machine, unsigned index, struct bytes_out *out, struct tenon_error *err)
{
	pci_bridge_save(machine->pci.bridges[index], out);
	return 0;
}

static int load_bridge(struct machine *machine, unsigned index, struct bytes_in *in, struct tenon_error *err)
{
	return pci_bridge_load(machine->pci.bridges[index], in, err);
}

static int save_serial(struct machine *machine, unsigned index, struct bytes_out *out, struct tenon_error *err)
{
	serial_save(machine->serial, out);
	return 0;
}

static int load_serial(struct machine *machine, unsigned index, struct bytes_in *in, struct tenon_error *err)
{
	return serial_load(machine->serial, in, err);
}

/* In the order of the parts. Bridges are in the host's list in the order of their numbers. */
static const struct kind kinds[] = {
	{"vm", 1, 0, NULL, save_vm, load_vm},
	{"vcpu", 1, 0, count_vcpus, save_vcpu, load_vcpu},
	{"places", 1, 0, NULL, save_places, load_places},
	{"bridge", 1, 1, count_bridges, save_bridge, load_bridge},
	{"serial", 1, 0, NULL, save_serial, load_serial},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static unsigned count_of(const struct kind *kind, const struct machine *machine)
{
	return kind->count ? kind->count(machine) : 1;
}

static void name_part(const struct kind *kind, unsigned index, char name[TENON_MIGRATION_NAME_MAX])
{
	if (kind->count)
		snprintf(name, TENON_MIGRATION_NAME_MAX, "%s.%u", kind->name, kind->first + index);
	else
		snprintf(name, TENON_MIGRATION_NAME_MAX, "%s", kind->name);
}

/* The part whose turn is `turn`, from 0. @return NULL: there are no more */
static const struct kind *part_at(const struct machine *machine, unsigned turn, unsigned *index)
{
	for (unsigned i = 0; i < KINDS; i++) {
		*index = turn;
		if (turn < count_of(&kinds[i], machine))
			return &kinds[i];
		turn -= count_of(&kinds[i], machine);
	}
	return NULL;
}

/* ---- Saving ---- */

static int save_part(struct machine *machine, const struct kind *kind, unsigned index, tenon_migration_part_fn part,
		     void *context, struct tenon_error *err)
{
	struct bytes_out out = {0};
	char name[TENON_MIGRATION_NAME_MAX];
	name_part(kind, index, name);
	int code = kind->save(machine, index, &out, err);
	if (code == 0 && out.failed)
		code = tenon_fail(err, -ENOMEM, "%s: out of memory while it is saved; free some memory", name);
	if (code == 0)
		code = part(context, name, kind->version, out.data, out.count, err);
	bytes_out_finish(&out);
	return code;
}

int machine_parts_save(struct machine *machine, tenon_migration_part_fn part, void *context, struct tenon_error *err)
{
	const struct kind *kind;
	unsigned index;
	int code = 0;
	for (unsigned turn = 0; code == 0 && (kind = part_at(machine, turn, &index)); turn++)
		code = save_part(machine, kind, index, part, context, err);
	return code;
}

/* ---- Loading ---- */

/* A name that came from elsewhere, for messages: as far as it is one. */
static int plain_length(const char *name)
{
	return (int)strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-");
}

int machine_part_load(struct machine *machine, const char *name, uint32_t version, const void *data, size_t bytes,
		      struct tenon_error *err)
{
	unsigned index;
	const struct kind *kind = part_at(machine, machine->loaded.count, &index);
	char next[TENON_MIGRATION_NAME_MAX] = "the end";
	if (kind)
		name_part(kind, index, next);
	if (!kind || strcmp(name, next) != 0)
		return tenon_fail(
			err, -EINVAL,
			"the machine's part %.*s: came in the turn of %s; use the same version of tenon at both "
			"sides",
			plain_length(name), name, next);
	if (version == 0 || version > kind->version)
		return tenon_fail(err, -EINVAL,
				  "the machine's part %s: is of version %u, and this tenon knows up to %u; use the "
				  "source's version of tenon here",
				  name, version, kind->version);
	struct bytes_in in = {.data = data, .left = bytes};
	int code = kind->load(machine, index, &in, err);
	if (code == 0)
		machine->loaded.count++;
	return code;
}

int machine_parts_loaded(const struct machine *machine, struct tenon_error *err)
{
	unsigned index;
	const struct kind *kind = part_at(machine, machine->loaded.count, &index);
	char name[TENON_MIGRATION_NAME_MAX];
	if (!kind)
		return 0;
	name_part(kind, index, name);
	return tenon_fail(err, -EINVAL, "the machine's part %s: did not come; migrate again", name);
}

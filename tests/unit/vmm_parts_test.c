// SPDX-License-Identifier: MIT
/*
 * The machine's parts by name and order, with KVM's packed state made up here; and the guest's PCI addresses, which go with it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture_file.h"
#include "layout.h"
#include "machine.h"
#include "migrate/places.h"

static uint32_t card_read(void *context, unsigned offset, unsigned size_bytes)
{
	return 0;
}

static void card_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
}

static const struct pci_function card = {.config_read = card_read, .config_write = card_write};
static const struct pci_bridge_windows windows;

/* ---- A machine: a device on the root bus, one behind a port, an empty port; and what KVM would say of it ---- */

#define CPUS 2u

struct model {
	struct machine machine;
	struct run_options options;
	struct assigned assigned[2];
};

static unsigned vm_state, vcpu_states[CPUS]; /* what was unpacked and restored */

int __wrap_tenon_vm_state_pack(struct tenon_vm *vm, void **data, size_t *bytes, struct tenon_error *err);
int __wrap_tenon_vm_state_unpack(struct tenon_vm *vm, const void *data, size_t bytes, struct tenon_error *err);
int __wrap_tenon_vcpu_state_capture(struct tenon_vcpu *vcpu, struct tenon_vcpu_state **out, struct tenon_error *err);
void __wrap_tenon_vcpu_state_free(struct tenon_vcpu_state *state);
int __wrap_tenon_vcpu_state_pack(const struct tenon_vcpu_state *state, void **data, size_t *bytes,
				 struct tenon_error *err);
int __wrap_tenon_vcpu_state_unpack(const void *data, size_t bytes, struct tenon_vcpu_state **out,
				   struct tenon_error *err);
int __wrap_tenon_vcpu_state_restore(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state,
				    enum tenon_vcpu_restore purpose, struct tenon_error *err);

static int pack(unsigned value, void **data, size_t *bytes)
{
	unsigned *packed = malloc(sizeof(*packed));
	cr_assert(packed);
	*packed = value;
	*data = packed;
	*bytes = sizeof(*packed);
	return 0;
}

int __wrap_tenon_vm_state_pack(struct tenon_vm *vm, void **data, size_t *bytes, struct tenon_error *err)
{
	return pack(1000, data, bytes);
}

int __wrap_tenon_vm_state_unpack(struct tenon_vm *vm, const void *data, size_t bytes, struct tenon_error *err)
{
	if (bytes != sizeof(vm_state))
		return tenon_fail(err, -EINVAL, "VM: no state");
	memcpy(&vm_state, data, bytes);
	return 0;
}

/* A vCPU here is its index plus one; so is its state. */
int __wrap_tenon_vcpu_state_capture(struct tenon_vcpu *vcpu, struct tenon_vcpu_state **out, struct tenon_error *err)
{
	*out = malloc(sizeof(unsigned));
	cr_assert(*out);
	*(unsigned *)*out = (unsigned)(uintptr_t)vcpu;
	return 0;
}

void __wrap_tenon_vcpu_state_free(struct tenon_vcpu_state *state)
{
	free(state);
}

int __wrap_tenon_vcpu_state_pack(const struct tenon_vcpu_state *state, void **data, size_t *bytes,
				 struct tenon_error *err)
{
	return pack(*(const unsigned *)state, data, bytes);
}

int __wrap_tenon_vcpu_state_unpack(const void *data, size_t bytes, struct tenon_vcpu_state **out,
				   struct tenon_error *err)
{
	if (bytes != sizeof(unsigned))
		return tenon_fail(err, -EINVAL, "vCPU: no state");
	*out = malloc(bytes);
	cr_assert(*out);
	memcpy(*out, data, bytes);
	return 0;
}

int __wrap_tenon_vcpu_state_restore(struct tenon_vcpu *vcpu, const struct tenon_vcpu_state *state,
				    enum tenon_vcpu_restore purpose, struct tenon_error *err)
{
	cr_assert_eq(purpose, TENON_VCPU_RESTORE_MIGRATION);
	cr_assert_eq(vm_state, 1000, "the interrupt controllers come first");
	vcpu_states[(uintptr_t)vcpu - 1] = *(const unsigned *)state;
	return 0;
}

static void add_bridge(struct model *model, unsigned index, unsigned device, unsigned number)
{
	const struct pci_bridge_options options = {.kind = PCI_BRIDGE_ROOT_PORT, .number = number, .slot = true};
	const struct pci_bridge_ops ops = {.changed = NULL};
	struct slot *slot = &model->machine.slots.slot[index];
	cr_assert_eq(pci_bridge_create(&options, &ops, &slot->bridge, NULL), 0);
	cr_assert_eq(pci_bridge_plug(&model->machine.pci, device, 0, false, slot->bridge, NULL), 0);
	if (slot->assigned)
		cr_assert_eq(pci_bridge_insert(slot->bridge, &(struct pci_placed){0, &card}, 1, NULL), 0);
	pci_bridge_reset(slot->bridge, &windows);
}

/* The command line named the devices in another order where `swapped`. */
static void model_open(struct model *model, bool swapped)
{
	static const unsigned devices[] = {2, 4, 5};
	struct machine *machine = &model->machine;
	memset(model, 0, sizeof(*model));
	model->options.cpus = CPUS;
	machine->options = &model->options;
	for (unsigned i = 0; i < CPUS; i++)
		machine->vcpus[i].vcpu = (struct tenon_vcpu *)(uintptr_t)(i + 1);
	bus_init(&machine->mmio, "memory");
	cr_assert_eq(pci_host_init(&machine->pci, 4, &machine->mmio, NULL), 0);
	machine->slots.count = 3;
	for (unsigned i = 0; i < 3; i++) {
		unsigned index = swapped && i < 2 ? 1 - i : i;
		struct slot *slot = &machine->slots.slot[index];
		*slot = (struct slot){.slots = &machine->slots, .leader = slot, .device = devices[i]};
		slot->assigned = i < 2 ? &model->assigned[index] : NULL;
		if (i > 0)
			add_bridge(model, index, devices[i], i);
	}
	cr_assert_eq(serial_create(NULL, -1, &machine->serial, NULL), 0);
}

static void model_close(struct model *model)
{
	for (unsigned i = 0; i < 3; i++)
		pci_bridge_destroy(model->machine.slots.slot[i].bridge);
	serial_destroy(model->machine.serial);
	pci_host_finish(&model->machine.pci);
	bus_finish(&model->machine.mmio);
}

static struct slot *slot_at(struct model *model, unsigned device)
{
	struct slot *slot = model->machine.slots.slot;
	while (slot->device != device)
		slot++;
	return slot;
}

static struct model origin, target;

static void open_models(void)
{
	model_open(&origin, false);
	model_open(&target, true);
	vm_state = 0;
	memset(vcpu_states, 0, sizeof(vcpu_states));
}

static void close_models(void)
{
	model_close(&origin);
	model_close(&target);
}

/* ---- Places ---- */

TestSuite(places, .init = open_models, .fini = close_models);

static void decide_places(void)
{
	struct slot *alone = slot_at(&origin, 2), *behind = slot_at(&origin, 4), *empty = slot_at(&origin, 5);
	for (unsigned i = 0; i <= TENON_DEVICE_BARS; i++) {
		alone->address[i] = 0x100000000000 + i;
		behind->address[i] = 0xc0000000 + i * 0x1000;
	}
	behind->windows = (struct pci_bridge_windows){.io_first = 0x2000,
						      .io_bytes = 0x1000,
						      .memory_first = 0xc1000000,
						      .memory_bytes = 0x200000,
						      .prefetch_first = 0x1000000000,
						      .prefetch_bytes = 0x40000000};
	empty->windows = (struct pci_bridge_windows){.memory_first = LAYOUT_PCI32, .memory_bytes = LAYOUT_PCI32_BYTES};
	origin.machine.placement = (struct placement){.io = {LAYOUT_PCI_IO, LAYOUT_PCI_IO_BYTES},
						      .memory32 = {LAYOUT_PCI32, 0x1000000},
						      .memory64 = {LAYOUT_RAM_ABOVE_4G, 1ull << 40}};
}

static void save_places(struct bytes_out *out)
{
	places_save(&origin.machine.slots, &origin.machine.placement, out);
	cr_assert(!out->failed);
}

static int load_places(const void *data, size_t bytes, struct tenon_error *err)
{
	struct bytes_in in = {.data = data, .left = bytes};
	return places_load(&target.machine.slots, &target.machine.placement, &in, err);
}

static void expect_same_places(void)
{
	for (unsigned device = 2; device < 6; device += device == 2 ? 2 : 1) {
		struct slot *from = slot_at(&origin, device), *to = slot_at(&target, device);
		cr_expect_arr_eq(from->address, to->address, TENON_DEVICE_BARS + 1, "device %u", device);
		cr_expect_eq(memcmp(&from->windows, &to->windows, sizeof(from->windows)), 0, "device %u", device);
	}
	cr_expect_eq(memcmp(&origin.machine.placement, &target.machine.placement, sizeof(struct placement)), 0);
}

Test(places, go_with_the_guest_whatever_the_order_of_the_command_line)
{
	struct bytes_out out = {0};
	struct tenon_error err = {0};
	decide_places();
	save_places(&out);
	cr_assert_eq(load_places(out.data, out.count, &err), 0, "%s", err.message);
	bytes_out_finish(&out);
	expect_same_places();
}

/* tests/fixtures/README.md */
Test(places, of_version_1_are_loaded)
{
	static struct fixture_file file;
	struct bytes_out out = {0};
	struct tenon_error err = {0};
	decide_places();
	save_places(&out);
	fixture_expect_written("v1/places", out.data, out.count);
	bytes_out_finish(&out);
	fixture_read("v1/places", &file);
	cr_assert_eq(load_places(file.data, file.bytes, &err), 0, "%s", err.message);
	expect_same_places();
	cr_expect_eq(slot_at(&target, 4)->windows.prefetch_first, 0x1000000000);
	cr_expect_eq(slot_at(&target, 2)->address[1], 0x100000000001);
}

Test(places, devices_are_counted_by_place)
{
	struct slot *list[SLOTS_MAX];
	cr_assert_eq(places_devices(&target.machine.slots, list), 2);
	cr_expect_eq(list[0]->device, 2);
	cr_expect_eq(list[1]->device, 4);
}

Test(places, of_another_machine_are_refused_and_change_nothing)
{
	struct bytes_out out = {0};
	struct tenon_error err = {0};
	decide_places();
	slot_at(&origin, 5)->device = 6;
	save_places(&out);
	cr_expect_eq(load_places(out.data, out.count, &err), -EINVAL);
	cr_expect(strstr(err.message, "for another machine"), "%s", err.message);
	cr_expect_eq(slot_at(&target, 4)->windows.io_bytes, 0);
	cr_expect_eq(slot_at(&target, 2)->address[0], 0);
	bytes_out_finish(&out);
	slot_at(&origin, 6)->device = 5;
	save_places(&out);
	for (size_t bytes = 0; bytes < out.count; bytes++)
		cr_expect_eq(load_places(out.data, bytes, NULL), -EINVAL, "%zu bytes", bytes);
	bytes_put_u8(&out, 0);
	cr_expect_eq(load_places(out.data, out.count, NULL), -EINVAL);
	cr_expect_eq(load_places(out.data, out.count - 1, NULL), 0);
	bytes_out_finish(&out);
}

Test(places, windows_outside_of_what_the_machine_has_are_refused)
{
	struct slot *behind = slot_at(&origin, 4);
	struct placement *all = &origin.machine.placement;
	const struct {
		const char *what;
		void *field;
		unsigned size_bytes;
		uint64_t value;
	} table[] = {
		{"I/O below", &behind->windows.io_first, 4, 0},
		{"I/O beyond", &behind->windows.io_bytes, 4, 0xf000},
		{"half a page of I/O", &behind->windows.io_bytes, 4, 0x800},
		{"RAM", &behind->windows.memory_first, 4, 0x10000000},
		{"ECAM", &behind->windows.memory_bytes, 4, 0x20000000},
		{"overflow", &behind->windows.memory_bytes, 4, 0xfff00000},
		{"below 4 GiB", &behind->windows.prefetch_first, 8, 0xc0000000},
		{"no address", &behind->windows.prefetch_bytes, 8, 1ull << 52},
		{"overflow", &behind->windows.prefetch_bytes, 8, 0xfffffffffff00000},
		{"ports", &all->io.size_bytes, 8, 0x10000},
		{"32 bits", &all->memory32.size_bytes, 8, 1ull << 32},
		{"64 bits", &all->memory64.size_bytes, 8, 1ull << 53},
		{"a BAR", &behind->address[3], 8, 1ull << 52},
		{"a device", &behind->devfn, 4, 8},
	};
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct bytes_out out = {0};
		uint64_t before = 0;
		decide_places();
		memcpy(&before, table[i].field, table[i].size_bytes);
		memcpy(table[i].field, &table[i].value, table[i].size_bytes);
		save_places(&out);
		cr_expect_eq(load_places(out.data, out.count, NULL), -EINVAL, "%s", table[i].what);
		memcpy(table[i].field, &before, table[i].size_bytes);
		bytes_out_finish(&out);
	}
}

/* ---- All parts ---- */

TestSuite(parts, .init = open_models, .fini = close_models);

struct part {
	char name[TENON_MIGRATION_NAME_MAX];
	uint32_t version;
	uint8_t data[4096];
	size_t bytes;
};

static struct part parts[16];
static unsigned part_count;

static int keep(void *context, const char *name, uint32_t version, const void *data, size_t bytes,
		struct tenon_error *err)
{
	struct part *part = &parts[part_count++];
	cr_assert_leq(bytes, sizeof(part->data));
	strcpy(part->name, name);
	part->version = version;
	memcpy(part->data, data, bytes);
	part->bytes = bytes;
	return 0;
}

static int load_part(const struct part *part, struct tenon_error *err)
{
	return machine_part_load(&target.machine, part->name, part->version, part->data, part->bytes, err);
}

static void save_all(void)
{
	struct tenon_error err = {0};
	part_count = 0;
	decide_places();
	cr_assert_eq(machine_parts_save(&origin.machine, keep, NULL, &err), 0, "%s", err.message);
}

Test(parts, come_by_name_in_their_order)
{
	static const char *const names[] = {"vm", "vcpu.0", "vcpu.1", "places", "bridge.1", "bridge.2", "serial"};
	save_all();
	cr_assert_eq(part_count, sizeof(names) / sizeof(names[0]));
	for (unsigned i = 0; i < part_count; i++) {
		cr_expect_str_eq(parts[i].name, names[i]);
		cr_expect_eq(parts[i].version, 1);
	}
}

Test(parts, of_a_whole_machine_make_another_like_it)
{
	struct tenon_error err = {0};
	serial_write(origin.machine.serial, 7, 0x77);
	bus_write(&origin.machine.mmio, LAYOUT_ECAM + (5 << 15) + PCI_INTERRUPT_LINE, "\x63", 1);
	save_all();
	for (unsigned i = 0; i < part_count; i++)
		cr_assert_eq(load_part(&parts[i], &err), 0, "%s: %s", parts[i].name, err.message);
	cr_expect_eq(machine_parts_loaded(&target.machine, &err), 0, "%s", err.message);
	uint8_t line = 0;
	bus_read(&target.machine.mmio, LAYOUT_ECAM + (5 << 15) + PCI_INTERRUPT_LINE, &line, 1);
	cr_expect_eq(line, 0x63);
	cr_expect_eq(serial_read(target.machine.serial, 7), 0x77);
	cr_expect_eq(vm_state, 1000);
	cr_expect_eq(vcpu_states[0], 1);
	cr_expect_eq(vcpu_states[1], 2);
	cr_expect_eq(slot_at(&target, 2)->address[1], slot_at(&origin, 2)->address[1]);
}

Test(parts, that_are_missing_are_named)
{
	struct tenon_error err = {0};
	save_all();
	for (unsigned i = 0; i < part_count; i++) {
		char expected[TENON_MIGRATION_NAME_MAX + 32];
		cr_expect_eq(machine_parts_loaded(&target.machine, &err), -EINVAL);
		snprintf(expected, sizeof(expected), "part %s: did not come;", parts[i].name);
		cr_expect(strstr(err.message, expected), "%s", err.message);
		cr_assert_eq(load_part(&parts[i], &err), 0, "%s", err.message);
	}
}

Test(parts, that_come_out_of_turn_are_refused)
{
	struct tenon_error err = {0};
	save_all();
	for (unsigned turn = 0; turn < part_count; turn++) {
		for (unsigned i = 0; i < part_count; i++) {
			char expected[2 * TENON_MIGRATION_NAME_MAX + 32];
			if (i == turn)
				continue;
			cr_expect_eq(load_part(&parts[i], &err), -EINVAL);
			snprintf(expected, sizeof(expected), "part %s: came in the turn of %s;", parts[i].name,
				 parts[turn].name);
			cr_expect(strstr(err.message, expected), "%s", err.message);
		}
		cr_assert_eq(load_part(&parts[turn], &err), 0, "%s", err.message);
	}
	cr_expect_eq(load_part(&parts[0], &err), -EINVAL);
	cr_expect(strstr(err.message, "part vm: came in the turn of the end;"), "%s", err.message);
}

Test(parts, of_versions_to_come_and_of_none_are_refused)
{
	struct tenon_error err = {0};
	save_all();
	parts[0].version = 2;
	cr_expect_eq(load_part(&parts[0], &err), -EINVAL);
	cr_expect(strstr(err.message, "part vm: is of version 2, and this tenon knows up to 1"), "%s", err.message);
	parts[0].version = 0;
	cr_expect_eq(load_part(&parts[0], &err), -EINVAL);
}

Test(parts, that_this_machine_lacks_are_refused_in_plain_text)
{
	static const char *const names[] = {"vcpu.2",   "vcpu", "vcpu.00",   "vcpu.-1", "bridge.0", "bridge.3",
					    "serial.0", "",     "vm\x1b[2J", "VM",      "disk"};
	save_all();
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct tenon_error err = {0};
		cr_expect_eq(machine_part_load(&target.machine, names[i], 1, "", 0, &err), -EINVAL, "%s", names[i]);
		cr_expect(strstr(err.message, "in the turn of vm"), "%s", err.message);
		cr_expect(!strchr(err.message, 0x1b));
	}
}

static int refuse(void *context, const char *name, uint32_t version, const void *data, size_t bytes,
		  struct tenon_error *err)
{
	++*(unsigned *)context;
	return strcmp(name, "vcpu.1") == 0 ? tenon_fail(err, -EPIPE, "connection: lost") : 0;
}

Test(parts, saving_ends_with_the_first_that_is_not_taken)
{
	struct tenon_error err = {0};
	unsigned count = 0;
	cr_expect_eq(machine_parts_save(&origin.machine, refuse, &count, &err), -EPIPE);
	cr_expect_eq(count, 3);
	cr_expect_str_eq(err.message, "connection: lost");
}

Test(parts, that_are_no_state_can_be_told_from_those_that_came)
{
	struct tenon_error err = {0};
	save_all();
	parts[0].bytes--;
	cr_expect_eq(load_part(&parts[0], &err), -EINVAL);
	cr_expect_eq(machine_parts_loaded(&target.machine, &err), -EINVAL);
	cr_expect(strstr(err.message, "part vm: did not come"), "%s", err.message);
}

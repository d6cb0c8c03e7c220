// SPDX-License-Identifier: MIT
/* The machine, on /dev/kvm: vmm/ and kvm/ as they are, without the program around them. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "cpu/cpu.h"
#include "firmware_machine.h"
#include "layout.h"

#define RAM_BYTES   (16ull << 20)
#define PATIENCE_US 60000000

struct firmware_machine machine;

static struct tenon_error err;

/* ---- Functions ---- */

static uint32_t model_read(void *context, unsigned offset, unsigned size_bytes)
{
	const struct model *model = context;
	uint32_t value = 0;
	memcpy(&value, model->value + offset, size_bytes);
	return value;
}

static void model_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
	struct model *model = context;
	for (unsigned i = 0; i < size_bytes; i++, value >>= 8)
		model->value[offset + i] = (uint8_t)((model->value[offset + i] & ~model->write[offset + i]) |
						     (value & model->write[offset + i]));
}

void model_put32(uint8_t *registers, unsigned offset, uint32_t value)
{
	memcpy(registers + offset, &value, sizeof(value));
}

void model_init(struct model *model, uint32_t ids)
{
	*model = (struct model){.function = {.config_read = model_read, .config_write = model_write, .context = model}};
	model_put32(model->value, PCI_VENDOR_ID, ids);
	model_put32(model->value, PCI_REVISION_ID, 0xff000000);
	model_put32(model->write, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void model_put_bar(struct model *model, unsigned offset, uint32_t flags, uint64_t size_bytes)
{
	uint64_t mask = -size_bytes;
	model_put32(model->value, offset, flags);
	model_put32(model->write, offset, (uint32_t)mask & (flags & 1 ? 0xfffc : 0xfffffff0));
	if (flags & PCI_BASE_ADDRESS_MEM_TYPE_64)
		model_put32(model->write, offset + 4, (uint32_t)(mask >> 32));
}

uint64_t model_bar(const struct model *model, unsigned offset)
{
	uint32_t low, high = 0;
	memcpy(&low, model->value + offset, sizeof(low));
	if (low & PCI_BASE_ADDRESS_SPACE_IO)
		return low & ~3u;
	if (low & PCI_BASE_ADDRESS_MEM_TYPE_64)
		memcpy(&high, model->value + offset + 4, sizeof(high));
	return (uint64_t)high << 32 | (low & ~0xfu);
}

void model_reset(struct model *model)
{
	for (unsigned i = 0; i < sizeof(model->value); i++)
		model->value[i] &= (uint8_t)~model->write[i];
}

/* ---- The vCPU's exits ---- */

static void port_read(void *context, uint16_t port, void *data, unsigned size_bytes)
{
	memset(data, port == LAYOUT_SERIAL_PORT + 5 ? 0x60 : 0, size_bytes);
}

static void port_write(void *context, uint16_t port, const void *data, unsigned size_bytes)
{
	uint8_t value = *(const uint8_t *)data;
	if (port == LAYOUT_SERIAL_PORT && machine.said_bytes + 1 < FIRMWARE_SAID_MAX && value != '\r')
		machine.said[machine.said_bytes++] = (char)value;
	if (port != LAYOUT_EXIT_PORT)
		return;
	machine.status = value;
	tenon_vcpu_pause(machine.vcpu, false);
}

static void memory_read(void *context, uint64_t gpa, void *data, unsigned size_bytes)
{
	bus_read(&machine.mmio, gpa, data, size_bytes);
}

static void memory_write(void *context, uint64_t gpa, const void *data, unsigned size_bytes)
{
	bus_write(&machine.mmio, gpa, data, size_bytes);
}

static void stopped(void *context, unsigned index, enum tenon_vcpu_stop why, const char *message)
{
	machine.status = 1000 + (int)why;
}

static const struct tenon_vcpu_handlers handlers = {
	.size = sizeof(handlers),
	.port_read = port_read,
	.port_write = port_write,
	.memory_read = memory_read,
	.memory_write = memory_write,
	.stopped = stopped,
};

/* ---- The machine ---- */

void firmware_skip_without_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("no access to /dev/kvm");
}

static void add_memory(uint64_t gpa, uint64_t size_bytes, void *hva, bool read_only)
{
	const struct tenon_vm_memory slot = {
		.size = sizeof(slot), .gpa = gpa, .size_bytes = size_bytes, .hva = hva, .read_only = read_only};
	cr_assert_eq(tenon_vm_memory_add(machine.vm, &slot, &err), 0, "%s", err.message);
}

void firmware_machine_create(struct description *out, unsigned bus_count, const char *command_line)
{
	const struct memory_options options = {.size_bytes = RAM_BYTES};
	memset(&machine, 0, sizeof(machine));
	machine.status = -1;
	cr_assert_eq(rom_load(TENON_FIRMWARE, &machine.rom, &err), 0, "%s", err.message);
	cr_assert_eq(tenon_vm_create(NULL, &machine.vm, &err), 0, "%s", err.message);
	cr_assert_eq(memory_create(&options, &machine.memory, &err), 0, "%s", err.message);
	add_memory(0, RAM_BYTES, machine.memory.hva, false);
	add_memory(rom_gpa(&machine.rom), machine.rom.size_bytes, machine.rom.hva, true);
	bus_init(&machine.mmio, "address");
	cr_assert_eq(pci_host_init(&machine.pci, bus_count, &machine.mmio, &err), 0, "%s", err.message);
	*out = (struct description){
		.memory = &machine.memory,
		.cpu_count = 1,
		.bus_count = bus_count,
		.windows = {.io = {LAYOUT_PCI_IO, LAYOUT_PCI_IO_BYTES},
			    .memory32 = {LAYOUT_PCI32, LAYOUT_PCI32_BYTES},
			    .memory64 = {1ull << 33, 1ull << 38}},
		.exit_device = true,
		.rom_bytes = machine.rom.size_bytes,
		.command_line = command_line,
	};
}

void firmware_machine_run(struct description *description)
{
	struct cpu_model *model;
	cr_assert_eq(cpu_model_create(machine.vm, 1, &model, &err), 0, "%s", err.message);
	cr_assert_eq(tenon_vcpu_create(machine.vm, 0, &handlers, NULL, &machine.vcpu, &err), 0, "%s", err.message);
	cr_assert_eq(cpu_init(model, machine.vcpu, &err), 0, "%s", err.message);
	description->tsc_hz = cpu_tsc_khz(machine.vcpu) * 1000ull;
	cr_assert_eq(description_build(description, memory_at(&machine.memory, LAYOUT_FDT, LAYOUT_FDT_BYTES),
				       LAYOUT_FDT_BYTES, &err),
		     0, "%s", err.message);
	cr_assert_eq(tenon_vcpu_start(machine.vcpu, &err), 0, "%s", err.message);
	for (long waited = 0; machine.status < 0 && waited < PATIENCE_US; waited += 10000)
		usleep(10000);
	tenon_vcpu_destroy(machine.vcpu);
	cpu_model_destroy(model);
	tenon_vm_destroy(machine.vm);
	memory_destroy(&machine.memory);
	rom_finish(&machine.rom);
	cr_assert(machine.status >= 0 && machine.status < 1000, "%d: %s", machine.status, machine.said);
}

uint32_t firmware_config32(unsigned rid, unsigned offset)
{
	uint32_t value = 0;
	bus_read(&machine.mmio, LAYOUT_ECAM + ((uint64_t)rid << 12 | offset), &value, sizeof(value));
	return value;
}

// SPDX-License-Identifier: MIT
/*
 * The firmware enumerates a machine that the program cannot be asked for: 32 functions under 16 root ports, with BARs of each kind, and
 * an SR-IOV capability that is visible. Functions are models of config space; the rest is vmm/ and kvm/ as they are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "bus.h"
#include "cpu/cpu.h"
#include "description.h"
#include "layout.h"
#include "memory.h"
#include "pci/host.h"
#include "pci/bridge.h"
#include "rom.h"

#define PORTS       16
#define FUNCTIONS   2 /* behind each port */
#define RAM_BYTES   (16ull << 20)
#define SAID_MAX    65536
#define PATIENCE_US 60000000
#define MIB         (1ull << 20)
#define SRIOV_AT    0x100
#define VFS         4

TestSuite(firmware_enumeration, .timeout = 120);

/* ---- A function: registers whose writable bits are known ---- */

struct model {
	struct pci_function function;
	uint8_t value[4096], write[4096];
};

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

static void put32(uint8_t *registers, unsigned offset, uint32_t value)
{
	memcpy(registers + offset, &value, sizeof(value));
}

static void put_bar(struct model *model, unsigned offset, uint32_t flags, uint64_t size_bytes)
{
	uint64_t mask = -size_bytes;
	put32(model->value, offset, flags);
	put32(model->write, offset, (uint32_t)mask & (flags & 1 ? 0xfffc : 0xfffffff0));
	if (flags & PCI_BASE_ADDRESS_MEM_TYPE_64)
		put32(model->write, offset + 4, (uint32_t)(mask >> 32));
}

static void describe_model(struct model *model, unsigned port, unsigned number)
{
	model->function =
		(struct pci_function){.config_read = model_read, .config_write = model_write, .context = model};
	put32(model->value, PCI_VENDOR_ID, 0x00017e4f | (port * FUNCTIONS + number) << 16);
	put32(model->value, PCI_REVISION_ID, 0xff000000);
	model->value[PCI_HEADER_TYPE] = number == 0 ? 0x80 : 0;
	put32(model->write, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	put_bar(model, PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_MEM_TYPE_64, 16384ull << port % 4);
	put_bar(model, PCI_BASE_ADDRESS_2, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH,
		MIB << (port % 8 + 4 * number));
	put_bar(model, PCI_BASE_ADDRESS_4, PCI_BASE_ADDRESS_SPACE_IO, 32);
	if (port == 0 && number == 0) {
		put32(model->value, SRIOV_AT, PCI_EXT_CAP_ID_SRIOV | 1 << 16);
		put32(model->value, SRIOV_AT + PCI_SRIOV_INITIAL_VF, VFS | VFS << 16);
		put_bar(model, SRIOV_AT + PCI_SRIOV_BAR, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH,
			65536);
	}
}

/* ---- The machine ---- */

static struct machine {
	struct tenon_vm *vm;
	struct tenon_vcpu *vcpu;
	struct memory memory;
	struct rom rom;
	struct bus mmio;
	struct pci_host pci;
	struct pci_bridge *ports[PORTS];
	struct model models[PORTS][FUNCTIONS];
	char said[SAID_MAX];
	size_t said_bytes;
	_Atomic int status; /* -1: runs */
} machine;

static void port_read(void *context, uint16_t port, void *data, unsigned size_bytes)
{
	memset(data, port == LAYOUT_SERIAL_PORT + 5 ? 0x60 : 0, size_bytes);
}

static void port_write(void *context, uint16_t port, const void *data, unsigned size_bytes)
{
	uint8_t value = *(const uint8_t *)data;
	if (port == LAYOUT_SERIAL_PORT && machine.said_bytes + 1 < SAID_MAX && value != '\r')
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

static struct tenon_error err;

static void add_memory(uint64_t gpa, uint64_t size_bytes, void *hva, bool read_only)
{
	const struct tenon_vm_memory slot = {
		.size = sizeof(slot), .gpa = gpa, .size_bytes = size_bytes, .hva = hva, .read_only = read_only};
	cr_assert_eq(tenon_vm_memory_add(machine.vm, &slot, &err), 0, "%s", err.message);
}

static void plug_all(struct description *description)
{
	static const struct pci_bridge_ops ops;
	static const struct pci_bridge_windows closed;
	for (unsigned i = 0; i < PORTS; i++) {
		cr_assert_eq(pci_bridge_create(i + 1, &ops, &machine.ports[i], &err), 0, "%s", err.message);
		cr_assert_eq(pci_bridge_plug(&machine.pci, i + 1, machine.ports[i], &err), 0, "%s", err.message);
		for (unsigned number = 0; number < FUNCTIONS; number++) {
			describe_model(&machine.models[i][number], i, number);
			cr_assert_eq(pci_bus_add(&machine.pci, pci_bridge_bus(machine.ports[i]), 0, number,
						 &machine.models[i][number].function, &err),
				     0, "%s", err.message);
		}
		pci_bridge_reset(machine.ports[i], &closed);
		description->places[i] = (struct description_place){.device = i + 1, .port = true};
	}
	description->place_count = PORTS;
}

static void run_machine(void)
{
	const struct memory_options options = {.size_bytes = RAM_BYTES};
	struct cpu_model *model;
	struct description description = {
		.memory = &machine.memory,
		.cpu_count = 1,
		.bus_count = 1 + PORTS,
		.windows = {.io = {LAYOUT_PCI_IO, LAYOUT_PCI_IO_BYTES},
			    .memory32 = {LAYOUT_PCI32, LAYOUT_PCI32_BYTES},
			    .memory64 = {1ull << 33, 1ull << 38}},
		.exit_device = true,
		.command_line = "mode=list",
	};
	machine.status = -1;
	cr_assert_eq(rom_load(TENON_FIRMWARE, &machine.rom, &err), 0, "%s", err.message);
	description.rom_bytes = machine.rom.size_bytes;
	cr_assert_eq(tenon_vm_create(NULL, &machine.vm, &err), 0, "%s", err.message);
	cr_assert_eq(memory_create(&options, &machine.memory, &err), 0, "%s", err.message);
	add_memory(0, RAM_BYTES, machine.memory.hva, false);
	add_memory(rom_gpa(&machine.rom), machine.rom.size_bytes, machine.rom.hva, true);
	bus_init(&machine.mmio, "address");
	cr_assert_eq(pci_host_init(&machine.pci, 1 + PORTS, &machine.mmio, &err), 0, "%s", err.message);
	plug_all(&description);
	cr_assert_eq(cpu_model_create(machine.vm, 1, &model, &err), 0, "%s", err.message);
	cr_assert_eq(tenon_vcpu_create(machine.vm, 0, &handlers, NULL, &machine.vcpu, &err), 0, "%s", err.message);
	cr_assert_eq(cpu_init(model, machine.vcpu, &err), 0, "%s", err.message);
	description.tsc_hz = cpu_tsc_khz(machine.vcpu) * 1000ull;
	cr_assert_eq(description_build(&description, memory_at(&machine.memory, LAYOUT_FDT, LAYOUT_FDT_BYTES),
				       LAYOUT_FDT_BYTES, &err),
		     0, "%s", err.message);
	cr_assert_eq(tenon_vcpu_start(machine.vcpu, &err), 0, "%s", err.message);
	for (long waited = 0; machine.status < 0 && waited < PATIENCE_US; waited += 10000)
		usleep(10000);
	tenon_vcpu_destroy(machine.vcpu);
	cpu_model_destroy(model);
	tenon_vm_destroy(machine.vm);
	cr_assert_eq(machine.status, LAYOUT_FIRMWARE_PASSED, "%s", machine.said);
}

/* ---- What it found ---- */

static const char *line_of(const char *format, unsigned first, unsigned second)
{
	char start[64];
	snprintf(start, sizeof(start), format, first, second);
	const char *at = strstr(machine.said, start);
	cr_assert_not_null(at, "no '%s' in %s", start, machine.said);
	return at + strlen(start);
}

struct span {
	unsigned long long first, last;
};

static struct span window_of(unsigned port, const char *space)
{
	char format[64];
	struct span window;
	snprintf(format, sizeof(format), "\n00:%%02x.%%u window %s ", space);
	cr_assert_eq(sscanf(line_of(format, port, 0), "%llx-%llx", &window.first, &window.last), 2);
	return window;
}

static uint64_t bar_in(const struct model *model, unsigned offset)
{
	uint32_t low, high = 0;
	memcpy(&low, model->value + offset, sizeof(low));
	if (low & PCI_BASE_ADDRESS_SPACE_IO)
		return low & ~3u;
	if (low & PCI_BASE_ADDRESS_MEM_TYPE_64)
		memcpy(&high, model->value + offset + 4, sizeof(high));
	return (uint64_t)high << 32 | (low & ~0xfu);
}

static void expect_inside(const struct model *model, unsigned offset, uint64_t size_bytes, struct span window)
{
	uint64_t address = bar_in(model, offset);
	cr_expect_eq(address % size_bytes, 0, "%lx is not aligned to %lx", address, size_bytes);
	cr_expect(address >= window.first && address + size_bytes - 1 <= window.last, "%lx is not in %llx-%llx",
		  address, window.first, window.last);
}

/* Of 64 KiB, without the first 4, 15 bridges can have the 4 KiB that a bridge's window takes at least. */
static unsigned without_io;

static void expect_placed(unsigned port)
{
	struct span memory = window_of(port + 1, "memory32"), prefetch = window_of(port + 1, "memory64");
	for (unsigned number = 0; number < FUNCTIONS; number++) {
		const struct model *model = &machine.models[port][number];
		expect_inside(model, PCI_BASE_ADDRESS_0, 16384ull << port % 4, memory);
		expect_inside(model, PCI_BASE_ADDRESS_2, MIB << (port % 8 + 4 * number), prefetch);
		if (bar_in(model, PCI_BASE_ADDRESS_4))
			expect_inside(model, PCI_BASE_ADDRESS_4, 32, window_of(port + 1, "io"));
		else
			without_io++;
	}
	cr_expect_neq(bar_in(&machine.models[port][0], PCI_BASE_ADDRESS_0),
		      bar_in(&machine.models[port][1], PCI_BASE_ADDRESS_0));
	for (unsigned other = 0; other < port; other++) {
		struct span two = window_of(other + 1, "memory64");
		cr_expect(prefetch.last < two.first || two.last < prefetch.first, "ports %u and %u overlap", port,
			  other);
	}
}

Test(firmware_enumeration, finds_and_places_32_functions_under_16_root_ports)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("no access to /dev/kvm");
	run_machine();
	cr_expect(strstr(machine.said, "# 49 functions enumerated"), "%s", machine.said);
	for (unsigned port = 0; port < PORTS; port++) {
		line_of("\n00:%02x.0 id 1b36:000c class 060400 bridge to %02x-", port + 1, port + 1);
		for (unsigned number = 0; number < FUNCTIONS; number++)
			line_of("\n%02x:00.%u id 7e4f:", port + 1, number);
		expect_placed(port);
	}
	cr_expect_eq(without_io, FUNCTIONS);
}

Test(firmware_enumeration, gives_vf_bars_of_a_visible_sriov_capability_room_for_all_vfs)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		cr_skip_test("no access to /dev/kvm");
	run_machine();
	line_of("\n%02x:00.%u vf-bar0 memory 64-bit prefetchable ", 1, 0);
	uint64_t first = bar_in(&machine.models[0][0], SRIOV_AT + PCI_SRIOV_BAR);
	struct span window = window_of(1, "memory64");
	cr_expect_geq(first, window.first);
	cr_expect_leq(first + VFS * 65536 - 1, window.last);
	for (unsigned number = 0; number < FUNCTIONS; number++) {
		uint64_t bar = bar_in(&machine.models[0][number], PCI_BASE_ADDRESS_2), bytes = MIB << 4 * number;
		cr_expect(first + VFS * 65536 <= bar || bar + bytes <= first, "VF BARs overlap BAR 2 of function %u",
			  number);
	}
}

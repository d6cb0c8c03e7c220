// SPDX-License-Identifier: MIT
/*
 * The firmware enumerates a machine that the program cannot be asked for: 32 functions under 16 root ports, with BARs of each kind, and
 * an SR-IOV capability that is visible. Functions are models of config space; the rest is vmm/ and kvm/ as they are.
 */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>
#include <linux/pci_regs.h>

#include "firmware_machine.h"
#include "layout.h"

#define PORTS     16
#define FUNCTIONS 2 /* behind each port */
#define MIB       (1ull << 20)
#define SRIOV_AT  0x100
#define VFS       4

TestSuite(firmware_enumeration, .init = firmware_skip_without_kvm, .timeout = 120);

static struct model models[PORTS][FUNCTIONS];
static struct tenon_error err;

static void describe_model(struct model *model, unsigned port, unsigned number)
{
	model_init(model, 0x00017e4f | (port * FUNCTIONS + number) << 16);
	model->value[PCI_HEADER_TYPE] = number == 0 ? 0x80 : 0;
	model_put_bar(model, PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_MEM_TYPE_64, 16384ull << port % 4);
	model_put_bar(model, PCI_BASE_ADDRESS_2, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH,
		      MIB << (port % 8 + 4 * number));
	model_put_bar(model, PCI_BASE_ADDRESS_4, PCI_BASE_ADDRESS_SPACE_IO, 32);
	if (port == 0 && number == 0) {
		model_put32(model->value, SRIOV_AT, PCI_EXT_CAP_ID_SRIOV | 1 << 16);
		model_put32(model->value, SRIOV_AT + PCI_SRIOV_INITIAL_VF, VFS | VFS << 16);
		model_put_bar(model, SRIOV_AT + PCI_SRIOV_BAR,
			      PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH, 65536);
	}
}

static void plug_all(struct description *description)
{
	static const struct pci_bridge_ops ops;
	static const struct pci_bridge_windows closed;
	for (unsigned i = 0; i < PORTS; i++) {
		struct pci_bridge *port;
		cr_assert_eq(pci_bridge_create(&(struct pci_bridge_options){.number = i + 1, .slot = true}, &ops, &port,
					       &err),
			     0, "%s", err.message);
		cr_assert_eq(pci_bridge_plug(&machine.pci, i + 1, 0, false, port, &err), 0, "%s", err.message);
		for (unsigned number = 0; number < FUNCTIONS; number++) {
			describe_model(&models[i][number], i, number);
			cr_assert_eq(pci_bus_add(&machine.pci, pci_bridge_bus(port), 0, number,
						 &models[i][number].function, &err),
				     0, "%s", err.message);
		}
		pci_bridge_reset(port, &closed);
		description->bridges[i] = (struct description_bridge){.device = i + 1};
	}
	description->bridge_count = PORTS;
}

static void run_machine(void)
{
	struct description description;
	firmware_machine_create(&description, 1 + PORTS, "mode=list");
	plug_all(&description);
	firmware_machine_run(&description);
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

static void expect_inside(const struct model *model, unsigned offset, uint64_t size_bytes, struct span window)
{
	uint64_t address = model_bar(model, offset);
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
		const struct model *model = &models[port][number];
		expect_inside(model, PCI_BASE_ADDRESS_0, 16384ull << port % 4, memory);
		expect_inside(model, PCI_BASE_ADDRESS_2, MIB << (port % 8 + 4 * number), prefetch);
		if (model_bar(model, PCI_BASE_ADDRESS_4))
			expect_inside(model, PCI_BASE_ADDRESS_4, 32, window_of(port + 1, "io"));
		else
			without_io++;
	}
	cr_expect_neq(model_bar(&models[port][0], PCI_BASE_ADDRESS_0), model_bar(&models[port][1], PCI_BASE_ADDRESS_0));
	for (unsigned other = 0; other < port; other++) {
		struct span two = window_of(other + 1, "memory64");
		cr_expect(prefetch.last < two.first || two.last < prefetch.first, "ports %u and %u overlap", port,
			  other);
	}
}

Test(firmware_enumeration, finds_and_places_32_functions_under_16_root_ports)
{
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
	run_machine();
	line_of("\n%02x:00.%u vf-bar0 memory 64-bit prefetchable ", 1, 0);
	uint64_t first = model_bar(&models[0][0], SRIOV_AT + PCI_SRIOV_BAR);
	struct span window = window_of(1, "memory64");
	cr_expect_geq(first, window.first);
	cr_expect_leq(first + VFS * 65536 - 1, window.last);
	for (unsigned number = 0; number < FUNCTIONS; number++) {
		uint64_t bar = model_bar(&models[0][number], PCI_BASE_ADDRESS_2), bytes = MIB << 4 * number;
		cr_expect(first + VFS * 65536 <= bar || bar + bytes <= first, "VF BARs overlap BAR 2 of function %u",
			  number);
	}
}

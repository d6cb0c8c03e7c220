// SPDX-License-Identifier: MIT
/*
 * A root port as a guest sees it: through ECAM, by the offsets of PCI-to-PCI Bridge Architecture 1.2 section 3.2 and PCI Express
 * Base 5.0 section 7.5.3.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "bridge_fixture.h"

static const struct pci_bridge_ops no_ops;

static const struct pci_bridge_windows some_windows = {
	.io_first = 0x3000,
	.io_bytes = 0x2000,
	.memory_first = 0xc0200000,
	.memory_bytes = 0x300000,
	.prefetch_first = 0x4200000000,
	.prefetch_bytes = 0x100000000,
};

static void setup(void)
{
	fixture_init(&with_slot, &no_ops, &some_windows);
}

static unsigned find_capability(unsigned id)
{
	unsigned at = get(PCI_CAPABILITY_LIST, 1);
	for (unsigned steps = 0; at && steps < 48; steps++) {
		cr_assert(at >= 0x40 && at % 4 == 0, "capability at %#x", at);
		if (get(at, 1) == id)
			return at;
		at = get(at + 1, 1);
	}
	return 0;
}

/* Windows as the registers tell them; size 0 when base is above limit. */
static struct pci_bridge_windows decode(void)
{
	struct pci_bridge_windows windows = {0};
	uint32_t io_first = (get(PCI_IO_BASE, 1) & 0xf0) << 8, io_last = (get(PCI_IO_LIMIT, 1) & 0xf0) << 8 | 0xfff;
	if (io_first < io_last) {
		windows.io_first = io_first;
		windows.io_bytes = io_last - io_first + 1;
	}
	uint32_t first = (get(PCI_MEMORY_BASE, 2) & 0xfff0) << 16,
		 last = (get(PCI_MEMORY_LIMIT, 2) & 0xfff0) << 16 | 0xfffff;
	if (first < last) {
		windows.memory_first = first;
		windows.memory_bytes = last - first + 1;
	}
	uint64_t prefetch_first =
			 (uint64_t)get(PCI_PREF_BASE_UPPER32, 4) << 32 | (get(PCI_PREF_MEMORY_BASE, 2) & 0xfff0) << 16,
		 prefetch_last = (uint64_t)get(PCI_PREF_LIMIT_UPPER32, 4) << 32 |
				 (get(PCI_PREF_MEMORY_LIMIT, 2) & 0xfff0) << 16 | 0xfffff;
	if (prefetch_first < prefetch_last) {
		windows.prefetch_first = prefetch_first;
		windows.prefetch_bytes = prefetch_last - prefetch_first + 1;
	}
	return windows;
}

static void expect_windows(const struct pci_bridge_windows *expected)
{
	struct pci_bridge_windows seen = decode();
	cr_expect_eq(seen.io_first, expected->io_first);
	cr_expect_eq(seen.io_bytes, expected->io_bytes);
	cr_expect_eq(seen.memory_first, expected->memory_first);
	cr_expect_eq(seen.memory_bytes, expected->memory_bytes);
	cr_expect_eq(seen.prefetch_first, expected->prefetch_first);
	cr_expect_eq(seen.prefetch_bytes, expected->prefetch_bytes);
}

TestSuite(bridge, .init = setup, .fini = fixture_finish, .timeout = 60);

Test(bridge, is_a_bridge_with_a_pcie_root_port_capability)
{
	cr_expect_neq(get(PCI_VENDOR_ID, 2), 0xffff);
	cr_expect_eq(get(PCI_CLASS_DEVICE, 2), 0x0604);
	cr_expect_eq(get(PCI_HEADER_TYPE, 1), 1, "one function, type 1 header");
	cr_expect(get(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	unsigned express = find_capability(PCI_CAP_ID_EXP);
	cr_assert_neq(express, 0);
	uint32_t flags = get(express + PCI_EXP_FLAGS, 2);
	cr_expect_eq(flags & PCI_EXP_FLAGS_VERS, 2);
	cr_expect_eq((flags & PCI_EXP_FLAGS_TYPE) >> 4, PCI_EXP_TYPE_ROOT_PORT);
	cr_expect(flags & PCI_EXP_FLAGS_SLOT);
	cr_expect_eq(get(express + PCI_EXP_SLTCAP, 4) >> 19, NUMBER, "physical slot number");
}

Test(bridge, has_no_bars_and_no_rom)
{
	static const unsigned offsets[] = {PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_1, PCI_ROM_ADDRESS1};
	for (unsigned i = 0; i < 3; i++) {
		set(offsets[i], 4, 0xffffffff);
		cr_expect_eq(get(offsets[i], 4), 0);
	}
}

Test(bridge, has_no_extended_capabilities)
{
	for (unsigned offset = 0x100; offset < 0x1000; offset += 4) {
		set(offset, 4, 0xffffffff);
		cr_expect_eq(get(offset, 4), 0, "%#x", offset);
	}
}

Test(bridge, reset_programs_bus_numbers_and_windows_as_firmware_would)
{
	cr_expect_eq(get(PCI_PRIMARY_BUS, 1), 0);
	cr_expect_eq(get(PCI_SECONDARY_BUS, 1), NUMBER);
	cr_expect_eq(get(PCI_SUBORDINATE_BUS, 1), NUMBER);
	cr_expect_eq(pci_bridge_secondary(port), NUMBER);
	expect_windows(&some_windows);
	cr_expect_eq(get(PCI_COMMAND, 2), 0, "decoding is the guest's to enable");
}

Test(bridge, windows_of_no_size_are_closed)
{
	const struct pci_bridge_windows none = {0};
	pci_bridge_reset(port, &none);
	expect_windows(&none);
}

Test(bridge, each_window_may_be_the_only_one)
{
	static const struct pci_bridge_windows cases[] = {
		{.io_first = 0x1000, .io_bytes = 0x1000},
		{.io_first = 0xf000, .io_bytes = 0x1000},
		{.memory_first = 0xc0000000, .memory_bytes = 0x100000},
		{.memory_first = 0xdff00000, .memory_bytes = 0x100000},
		{.prefetch_first = 0x100000000, .prefetch_bytes = 0x100000},
		{.prefetch_first = 0xfffffff00000, .prefetch_bytes = 0x100000},
		{.prefetch_first = 0x40000000000, .prefetch_bytes = 0x10000000000},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pci_bridge_reset(port, &cases[i]);
		expect_windows(&cases[i]);
	}
}

Test(bridge, guest_can_program_its_own_windows)
{
	const struct pci_bridge_windows wanted = {
		.io_first = 0x5000,
		.io_bytes = 0x1000,
		.memory_first = 0xc8000000,
		.memory_bytes = 0x8000000,
		.prefetch_first = 0x7700000000,
		.prefetch_bytes = 0x200000,
	};
	set(PCI_IO_BASE, 2, 0x5050);
	set(PCI_MEMORY_BASE, 4, 0xcff0c800);
	set(PCI_PREF_MEMORY_BASE, 4, 0x00100000);
	set(PCI_PREF_BASE_UPPER32, 4, 0x77);
	set(PCI_PREF_LIMIT_UPPER32, 4, 0x77);
	expect_windows(&wanted);
	cr_expect_eq(get(PCI_PREF_MEMORY_BASE, 1) & 0xf, PCI_PREF_RANGE_TYPE_64, "the type is the port's");
	cr_expect_eq(get(PCI_PREF_MEMORY_LIMIT, 1) & 0xf, PCI_PREF_RANGE_TYPE_64);
}

Test(bridge, bytes_words_and_doublewords_are_the_same_registers)
{
	set(PCI_PRIMARY_BUS, 4, 0x00a09080);
	cr_expect_eq(get(PCI_SECONDARY_BUS, 1), 0x90);
	cr_expect_eq(get(PCI_SUBORDINATE_BUS, 1), 0xa0);
	set(PCI_SECONDARY_BUS, 1, 0x33);
	cr_expect_eq(get(PCI_PRIMARY_BUS, 4), 0x00a03380);
	set(PCI_SUBORDINATE_BUS, 2, 0x44);
	cr_expect_eq(get(PCI_PRIMARY_BUS, 2), 0x3380);
	cr_expect_eq(get(PCI_SUBORDINATE_BUS, 1), 0x44);
}

Test(bridge, reset_undoes_whatever_the_guest_wrote)
{
	static uint32_t before[1024];
	for (unsigned i = 0; i < 1024; i++)
		before[i] = get(4 * i, 4);
	static const uint32_t values[] = {0, 0xffffffff, 0x5a5a5a5a};
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 1024; i++)
			set(4 * i, 4, values[round]);
		pci_bridge_reset(port, &some_windows);
		for (unsigned i = 0; i < 1024; i++)
			cr_expect_eq(get(4 * i, 4), before[i], "%#x", 4 * i);
	}
}

Test(bridge, random_writes_change_neither_identity_nor_capabilities)
{
	static const unsigned fixed[] = {PCI_VENDOR_ID, PCI_CLASS_REVISION};
	uint32_t before[2];
	for (unsigned i = 0; i < 2; i++)
		before[i] = get(fixed[i], 4);
	unsigned express = find_capability(PCI_CAP_ID_EXP);
	uint32_t random = 7;
	for (unsigned step = 0; step < 100000; step++) {
		random = random * 1664525 + 1013904223;
		unsigned size_bytes = 1u << (random >> 30) % 3, offset = (random >> 10) % 0x1000;
		set(offset, size_bytes, random * 2654435761u);
	}
	for (unsigned i = 0; i < 2; i++)
		cr_expect_eq(get(fixed[i], 4), before[i], "%#x", fixed[i]);
	cr_expect_eq(get(PCI_HEADER_TYPE, 1), 1);
	cr_expect_eq(find_capability(PCI_CAP_ID_EXP), express);
	cr_expect_eq(get(express + PCI_EXP_SLTCAP, 4) >> 19, NUMBER);
}

Test(bridge, more_ports_than_the_host_takes_are_refused_with_advice)
{
	struct pci_bridge *ports[PCI_BRIDGES_MAX + 1];
	struct tenon_error err = {0};
	for (unsigned i = 1; i <= PCI_BRIDGES_MAX; i++) {
		const struct pci_bridge_options options = {.number = i + 10};
		cr_assert_eq(pci_bridge_create(&options, &no_ops, &ports[i], &err), 0);
		int code = pci_bridge_plug(&host, DEVICE + i / 8, i % 8, true, ports[i], &err);
		if (i < PCI_BRIDGES_MAX)
			cr_assert_eq(code, 0, "%s", err.message);
		else
			cr_expect_eq(code, -ENOSPC);
	}
	cr_expect(strstr(err.message, "bridge 50: ") && strstr(err.message, "; "), "%s", err.message);
	for (unsigned i = 1; i <= PCI_BRIDGES_MAX; i++)
		pci_bridge_destroy(ports[i]);
}

Test(bridge, taken_slot_is_refused_and_the_port_is_not_on_the_host)
{
	struct pci_bridge *second;
	struct tenon_error err = {0};
	cr_assert_eq(pci_bridge_create(&with_slot, &no_ops, &second, &err), 0);
	cr_expect_eq(pci_bridge_plug(&host, DEVICE, 0, false, second, &err), -EBUSY);
	cr_expect(strstr(err.message, "; "), "%s", err.message);
	cr_expect_eq(host.bridge_count, 1);
	pci_bridge_destroy(second);
	pci_bridge_destroy(NULL);
}

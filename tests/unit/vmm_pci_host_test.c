// SPDX-License-Identifier: MIT
/* ECAM (PCI Express Base 5.0 section 7.2.2): which function an address reaches, and what it reads where there is none. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "layout.h"
#include "pci/host.h"
#include "pci/bridge.h"

/* A function that notes what it is asked and answers with a number of its own. */
struct endpoint {
	struct pci_function function;
	uint32_t id;
	unsigned reads, writes;
	unsigned offset, size_bytes;
	uint32_t written;
};

static uint32_t endpoint_read(void *context, unsigned offset, unsigned size_bytes)
{
	struct endpoint *endpoint = context;
	endpoint->reads++;
	endpoint->offset = offset;
	endpoint->size_bytes = size_bytes;
	return endpoint->id;
}

static void endpoint_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
	struct endpoint *endpoint = context;
	endpoint->writes++;
	endpoint->offset = offset;
	endpoint->size_bytes = size_bytes;
	endpoint->written = value;
}

static struct endpoint make_endpoint(uint32_t id)
{
	return (struct endpoint){.function = {.config_read = endpoint_read, .config_write = endpoint_write}, .id = id};
}

static struct bus memory;
static struct pci_host host;

static void plug(struct pci_bus *bus, unsigned device, unsigned function, struct endpoint *endpoint)
{
	struct tenon_error err = {0};
	endpoint->function.context = endpoint;
	cr_assert_eq(pci_bus_add(&host, bus, device, function, &endpoint->function, &err), 0, "%s", err.message);
}

#define BUSES 4u

static void setup(void)
{
	struct tenon_error err = {0};
	bus_init(&memory, "memory");
	cr_assert_eq(pci_host_init(&host, BUSES, &memory, &err), 0, "%s", err.message);
}

static void teardown(void)
{
	bus_finish(&memory);
}

static uint64_t ecam(unsigned bus, unsigned device, unsigned function, unsigned offset)
{
	return LAYOUT_ECAM + ((uint64_t)bus << 20) + (device << 15) + (function << 12) + offset;
}

static uint64_t get(uint64_t address, unsigned size_bytes)
{
	uint64_t value = 0;
	bus_read(&memory, address, &value, size_bytes);
	return value;
}

static void set(uint64_t address, unsigned size_bytes, uint64_t value)
{
	bus_write(&memory, address, &value, size_bytes);
}

TestSuite(pci_host, .init = setup, .fini = teardown, .timeout = 60);

/* ---- Functions ---- */

Test(pci_host, bridge_is_a_host_bridge_that_takes_no_writes)
{
	cr_expect_neq(get(ecam(0, 0, 0, PCI_VENDOR_ID), 2), 0xffff);
	cr_expect_eq(get(ecam(0, 0, 0, PCI_CLASS_DEVICE), 2), 0x0600);
	cr_expect_eq(get(ecam(0, 0, 0, PCI_HEADER_TYPE), 1), 0);
	cr_expect_eq(get(ecam(0, 0, 0, PCI_STATUS), 2) & PCI_STATUS_CAP_LIST, 0);
	for (unsigned offset = 0; offset < 0x1000; offset += 4) {
		uint64_t before = get(ecam(0, 0, 0, offset), 4);
		set(ecam(0, 0, 0, offset), 4, 0xffffffff);
		cr_expect_eq(get(ecam(0, 0, 0, offset), 4), before, "%#x", offset);
	}
}

Test(pci_host, bridge_reads_the_same_in_every_size)
{
	for (unsigned offset = 0; offset < 0x1000; offset += 4) {
		uint64_t whole = get(ecam(0, 0, 0, offset), 4);
		uint64_t halves = get(ecam(0, 0, 0, offset), 2) | get(ecam(0, 0, 0, offset + 2), 2) << 16;
		uint64_t bytes = 0;
		for (unsigned i = 0; i < 4; i++)
			bytes |= get(ecam(0, 0, 0, offset + i), 1) << 8 * i;
		cr_expect_eq(halves, whole, "%#x", offset);
		cr_expect_eq(bytes, whole, "%#x", offset);
	}
}

Test(pci_host, absent_functions_read_ones_and_swallow_writes)
{
	for (unsigned bus = 0; bus < BUSES; bus++) {
		for (unsigned slot = bus ? 0 : 1; slot < 32 * 8; slot++) {
			cr_assert_eq(get(ecam(bus, slot / 8, slot % 8, 0), 4), 0xffffffff);
			cr_assert_eq(get(ecam(bus, slot / 8, slot % 8, 0xffc), 4), 0xffffffff);
			set(ecam(bus, slot / 8, slot % 8, PCI_COMMAND), 2, 7);
		}
	}
}

Test(pci_host, every_device_and_function_number_reaches_its_own)
{
	static struct endpoint endpoints[PCI_DEVICES][PCI_FUNCTIONS];
	for (unsigned device = 1; device < PCI_DEVICES; device++) {
		for (unsigned function = 0; function < PCI_FUNCTIONS; function++) {
			endpoints[device][function] = make_endpoint(device << 8 | function);
			plug(&host.root, device, function, &endpoints[device][function]);
		}
	}
	for (unsigned device = 1; device < PCI_DEVICES; device++) {
		for (unsigned function = 0; function < PCI_FUNCTIONS; function++)
			cr_expect_eq(get(ecam(0, device, function, 0x10), 4), device << 8 | function);
	}
}

Test(pci_host, offsets_sizes_and_values_arrive_as_the_guest_gave_them)
{
	static const struct {
		unsigned offset, size_bytes;
	} cases[] = {{0, 1}, {1, 1}, {3, 1}, {0xfff, 1}, {0, 2}, {2, 2}, {0xffe, 2}, {0, 4}, {0x104, 4}, {0xffc, 4}};
	struct endpoint endpoint = make_endpoint(0x44332211);
	plug(&host.root, 2, 0, &endpoint);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned size_bytes = cases[i].size_bytes;
		uint32_t mask = 0xffffffff >> (32 - 8 * size_bytes);
		cr_expect_eq(get(ecam(0, 2, 0, cases[i].offset), size_bytes), 0x44332211 & mask);
		cr_expect_eq(endpoint.offset, cases[i].offset);
		cr_expect_eq(endpoint.size_bytes, size_bytes);
		set(ecam(0, 2, 0, cases[i].offset), size_bytes, 0x88776655);
		cr_expect_eq(endpoint.offset, cases[i].offset);
		cr_expect_eq(endpoint.size_bytes, size_bytes);
		cr_expect_eq(endpoint.written, 0x88776655 & mask);
	}
}

Test(pci_host, unaligned_and_too_wide_accesses_reach_no_function)
{
	static const struct {
		unsigned offset, size_bytes;
	} cases[] = {{1, 2},     {3, 2}, {0xfff, 2}, {1, 4},     {2, 4},    {3, 4},
		     {0xffe, 4}, {0, 8}, {4, 8},     {0xff8, 8}, {0xffc, 8}};
	struct endpoint endpoint = make_endpoint(0x44332211), next = make_endpoint(0x11111111);
	plug(&host.root, 2, 0, &endpoint);
	plug(&host.root, 2, 1, &next);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t ones = UINT64_MAX >> (64 - 8 * cases[i].size_bytes);
		cr_expect_eq(get(ecam(0, 2, 0, cases[i].offset), cases[i].size_bytes), ones, "case %zu", i);
		set(ecam(0, 2, 0, cases[i].offset), cases[i].size_bytes, 0);
	}
	cr_expect_eq(endpoint.reads + endpoint.writes + next.reads + next.writes, 0);
}

Test(pci_host, a_place_is_given_once)
{
	struct endpoint endpoint = make_endpoint(1), other = make_endpoint(2);
	struct tenon_error err = {0};
	plug(&host.root, 1, 0, &endpoint);
	cr_expect_eq(pci_bus_add(&host, &host.root, 1, 0, &other.function, &err), -EBUSY);
	cr_expect(strstr(err.message, "slot 01.0") && strstr(err.message, "; "), "%s", err.message);
	cr_expect_eq(get(ecam(0, 1, 0, 0), 4), 1, "the first stays");
}

Test(pci_host, ecam_ends_after_the_last_bus)
{
	cr_expect_neq(get(ecam(0, 0, 0, 0), 4), 0xffffffff);
	cr_expect_eq(get(ecam(BUSES, 0, 0, 0), 4), 0xffffffff);
	struct endpoint behind = make_endpoint(1);
	const struct bus_range range = {ecam(BUSES, 0, 0, 0), 0x1000, {.context = &behind}};
	cr_expect_eq(bus_add(&memory, &range, NULL), 0, "the address after it is free");
}

/* ---- Buses behind root ports ---- */

static struct pci_bridge *ports[3];
static struct endpoint behind[3];

static const struct pci_bridge_windows no_windows;
static const struct pci_bridge_ops no_ops;

/* Ports at 00:01.0 to 00:03.0, whose endpoints answer 0x101 to 0x103. */
static void setup_ports(void)
{
	struct tenon_error err = {0};
	setup();
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(pci_bridge_create(&(struct pci_bridge_options){.number = i + 1, .slot = true}, &no_ops,
					       &ports[i], &err),
			     0, "%s", err.message);
		cr_assert_eq(pci_bridge_plug(&host, i + 1, 0, false, ports[i], &err), 0, "%s", err.message);
		behind[i] = make_endpoint(0x101 + i);
		plug(pci_bridge_bus(ports[i]), 0, 0, &behind[i]);
		pci_bridge_reset(ports[i], &no_windows);
	}
}

static void teardown_ports(void)
{
	for (unsigned i = 0; i < 3; i++)
		pci_bridge_destroy(ports[i]);
	teardown();
}

static void renumber(unsigned port, unsigned secondary)
{
	set(ecam(0, port + 1, 0, PCI_SECONDARY_BUS), 1, secondary);
}

TestSuite(pci_host_buses, .init = setup_ports, .fini = teardown_ports, .timeout = 60);

Test(pci_host_buses, devices_are_found_at_the_numbers_of_power_on)
{
	for (unsigned i = 0; i < 3; i++) {
		unsigned secondary = (unsigned)get(ecam(0, i + 1, 0, PCI_SECONDARY_BUS), 1);
		cr_expect_eq(get(ecam(secondary, 0, 0, 0), 4), 0x101 + i);
		cr_expect_eq(get(ecam(secondary, 1, 0, 0), 4), 0xffffffff);
		cr_expect_eq(get(ecam(secondary, 0, 1, 0), 4), 0xffffffff);
	}
}

Test(pci_host_buses, devices_follow_the_numbers_that_the_guest_gives)
{
	renumber(0, 3);
	renumber(1, 1);
	renumber(2, 2);
	cr_expect_eq(get(ecam(1, 0, 0, 0), 4), 0x102);
	cr_expect_eq(get(ecam(2, 0, 0, 0), 4), 0x103);
	cr_expect_eq(get(ecam(3, 0, 0, 0), 4), 0x101);
}

Test(pci_host_buses, bus_zero_stays_the_root_bus_whatever_a_port_claims)
{
	uint64_t bridge = get(ecam(0, 0, 0, 0), 4);
	for (unsigned i = 0; i < 3; i++)
		renumber(i, 0);
	cr_expect_eq(get(ecam(0, 0, 0, 0), 4), bridge);
	for (unsigned bus = 1; bus < BUSES; bus++)
		cr_expect_eq(get(ecam(bus, 0, 0, 0), 4), 0xffffffff);
	renumber(2, 1);
	cr_expect_eq(get(ecam(1, 0, 0, 0), 4), 0x103, "and the guest can repair it");
}

Test(pci_host_buses, numbers_beyond_ecam_hide_the_device)
{
	renumber(0, 255);
	renumber(1, BUSES);
	cr_expect_eq(get(ecam(1, 0, 0, 0), 4), 0xffffffff);
	cr_expect_eq(get(ecam(2, 0, 0, 0), 4), 0xffffffff);
	cr_expect_eq(get(ecam(3, 0, 0, 0), 4), 0x103);
}

Test(pci_host_buses, one_number_for_two_buses_gives_one_of_them)
{
	renumber(0, 2);
	renumber(1, 2);
	uint64_t seen = get(ecam(2, 0, 0, 0), 4);
	cr_expect(seen == 0x101 || seen == 0x102, "%#lx", (unsigned long)seen);
	cr_expect_eq(behind[0].reads + behind[1].reads, 1, "one answers, not both");
}

Test(pci_host_buses, random_numbers_never_reach_the_wrong_place)
{
	uint32_t random = 3;
	for (unsigned step = 0; step < 20000; step++) {
		random = random * 1664525 + 1013904223;
		set(ecam(0, 1 + (random >> 8) % 3, 0, PCI_PRIMARY_BUS), 4, random * 2654435761u);
		unsigned bus = 1 + (random >> 16) % (BUSES - 1);
		uint64_t seen = get(ecam(bus, 0, 0, 0), 4);
		bool claimed = false;
		for (unsigned i = 0; i < 3; i++)
			claimed |= pci_bridge_secondary(ports[i]) == bus && seen == 0x101 + i;
		cr_assert(claimed || seen == 0xffffffff, "bus %u reads %#lx", bus, (unsigned long)seen);
	}
	for (unsigned i = 0; i < 3; i++)
		pci_bridge_reset(ports[i], &no_windows);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_eq(get(ecam(i + 1, 0, 0, 0), 4), 0x101 + i, "a reset puts all back");
}

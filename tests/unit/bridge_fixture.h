/* SPDX-License-Identifier: MIT */
/* A root port on a host of its own, and a guest's accesses to its config space. */
#ifndef BRIDGE_FIXTURE_H
#define BRIDGE_FIXTURE_H

#include <criterion/criterion.h>

#include "layout.h"
#include "pci/bridge.h"

#define NUMBER 5u
#define DEVICE 6u
#define BUSES  256u

static struct bus memory;
static struct pci_host host;
static struct pci_bridge *port;

static const struct pci_bridge_options with_slot = {.kind = PCI_BRIDGE_ROOT_PORT, .number = NUMBER, .slot = true};

static void fixture_init(const struct pci_bridge_options *options, const struct pci_bridge_ops *ops,
			 const struct pci_bridge_windows *windows)
{
	struct tenon_error err = {0};
	bus_init(&memory, "memory");
	cr_assert_eq(pci_host_init(&host, BUSES, &memory, &err), 0, "%s", err.message);
	cr_assert_eq(pci_bridge_create(options, ops, &port, &err), 0, "%s", err.message);
	cr_assert_eq(pci_bridge_plug(&host, DEVICE, 0, false, port, &err), 0, "%s", err.message);
	pci_bridge_reset(port, windows);
}

static void fixture_finish(void)
{
	pci_bridge_destroy(port);
	pci_host_finish(&host);
	bus_finish(&memory);
}

static uint32_t get(unsigned offset, unsigned size_bytes)
{
	uint32_t value = 0;
	bus_read(&memory, LAYOUT_ECAM + (DEVICE << 15) + offset, &value, size_bytes);
	return value;
}

static void set(unsigned offset, unsigned size_bytes, uint32_t value)
{
	bus_write(&memory, LAYOUT_ECAM + (DEVICE << 15) + offset, &value, size_bytes);
}

#endif

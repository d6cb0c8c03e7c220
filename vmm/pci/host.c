// SPDX-License-Identifier: MIT
/*
 * ECAM (PCI Express Base 5.0 section 7.2.2): address bits 27:20 bus, 19:15 device, 14:12 function, 11:0 register. The hot path of a
 * guest's boot, so it is a table look-up and nothing else.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <string.h>

#include "../layout.h"
#include "host.h"
#include "bridge.h"

/* The host bridge has nothing to configure: an id that names what it is, and its class. */
#define BRIDGE_VENDOR 0x1b36 /* Red Hat: id of a generic PCIe host bridge */
#define BRIDGE_DEVICE 0x0008
#define CLASS_BRIDGE  0x0600 /* bridge, host */

static uint32_t bridge_read(void *context, unsigned offset, unsigned size_bytes)
{
	static const uint8_t registers[64] = {
		[PCI_VENDOR_ID] = BRIDGE_VENDOR & 0xff,
		[PCI_VENDOR_ID + 1] = BRIDGE_VENDOR >> 8,
		[PCI_DEVICE_ID] = BRIDGE_DEVICE,
		[PCI_CLASS_DEVICE + 1] = CLASS_BRIDGE >> 8,
	};
	uint32_t value = 0;
	for (unsigned i = 0; i < size_bytes && offset + i < sizeof(registers); i++)
		value |= (uint32_t)registers[offset + i] << (8 * i);
	return value;
}

static void bridge_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
}

static struct pci_bus *find_bus(struct pci_host *host, unsigned number)
{
	if (number == 0)
		return &host->root;
	for (unsigned i = 0; i < host->bridge_count; i++) {
		if (pci_bridge_secondary(host->bridges[i]) == number)
			return pci_bridge_bus(host->bridges[i]);
	}
	return NULL;
}

/* Copied and entered under the lock: it may be removed right after. */
static bool find_function(struct pci_host *host, uint64_t offset, struct pci_function *out)
{
	pthread_rwlock_rdlock(&host->lock);
	struct pci_bus *bus = find_bus(host, (unsigned)(offset >> 20) & 0xff);
	unsigned number = (unsigned)(offset >> 12) & 0xff;
	const struct pci_function *function = bus ? bus->functions[number >> 3][number & 7] : NULL;
	if (bus && !function && number == 0)
		atomic_store(&bus->missed, true);
	if (function) {
		*out = *function;
		in_use_enter(out->in_use);
	}
	pthread_rwlock_unlock(&host->lock);
	return function;
}

static void ecam_read(void *context, uint64_t offset, void *data, unsigned size_bytes)
{
	struct pci_function function;
	memset(data, 0xff, size_bytes);
	if (size_bytes > 4 || offset % size_bytes || !find_function(context, offset, &function))
		return;
	uint32_t value = function.config_read(function.context, offset & 0xfff, size_bytes);
	memcpy(data, &value, size_bytes);
	in_use_leave(function.in_use);
}

static void ecam_write(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
	struct pci_function function;
	uint32_t value = 0;
	if (size_bytes > 4 || offset % size_bytes || !find_function(context, offset, &function))
		return;
	memcpy(&value, data, size_bytes);
	function.config_write(function.context, offset & 0xfff, size_bytes, value);
	in_use_leave(function.in_use);
}

int pci_host_init(struct pci_host *host, unsigned bus_count, struct bus *memory, struct tenon_error *err)
{
	memset(host, 0, sizeof(*host));
	pthread_rwlock_init(&host->lock, NULL);
	host->bus_count = bus_count;
	host->bridge = (struct pci_function){.config_read = bridge_read, .config_write = bridge_write, .context = host};
	host->root.functions[0][0] = &host->bridge;
	const struct bus_range ecam = {
		.first = LAYOUT_ECAM,
		.size_bytes = (uint64_t)bus_count * LAYOUT_ECAM_BUS_BYTES,
		.handler = {.read = ecam_read, .write = ecam_write, .context = host},
	};
	return bus_add(memory, &ecam, err);
}

void pci_host_finish(struct pci_host *host)
{
	pthread_rwlock_destroy(&host->lock);
}

int pci_bus_add(struct pci_host *host, struct pci_bus *bus, unsigned device, unsigned function,
		const struct pci_function *what, struct tenon_error *err)
{
	pthread_rwlock_wrlock(&host->lock);
	const struct pci_function *taken = bus->functions[device][function];
	if (!taken)
		bus->functions[device][function] = what;
	pthread_rwlock_unlock(&host->lock);
	if (!taken)
		return 0;
	return tenon_fail(err, -EBUSY, "guest slot %02x.%x: already taken; give another slot= to one of the devices",
			  device, function);
}

static void set_all(struct pci_host *host, struct pci_bus *bus, const struct pci_placed *functions, unsigned count,
		    bool shown)
{
	pthread_rwlock_wrlock(&host->lock);
	for (unsigned i = 0; i < count; i++)
		bus->functions[functions[i].devfn >> 3][functions[i].devfn & 7] = shown ? functions[i].function : NULL;
	pthread_rwlock_unlock(&host->lock);
}

void pci_bus_show(struct pci_host *host, struct pci_bus *bus, const struct pci_placed *functions, unsigned count)
{
	set_all(host, bus, functions, count, true);
}

void pci_bus_hide(struct pci_host *host, struct pci_bus *bus, const struct pci_placed *functions, unsigned count)
{
	set_all(host, bus, functions, count, false);
}

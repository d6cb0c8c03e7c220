// SPDX-License-Identifier: MIT
/*
 * Root ports. Sources: PCI-to-PCI Bridge Architecture 1.2 chapter 3 (type 1 header), PCI Express Base 5.0 section 7.5.3.
 */
#include <errno.h>
#include <stdlib.h>

#include "bridge_private.h"

#define PORT_VENDOR      0x1b36 /* Red Hat: id of a generic PCIe root port */
#define PORT_DEVICE      0x000c
#define CLASS_BRIDGE_PCI 0x0604
#define EXP_AT           BRIDGE_EXP

static uint32_t config_read(void *context, unsigned offset, unsigned size_bytes)
{
	struct pci_bridge *port = context;
	uint32_t value = 0;
	if (offset + size_bytes > BRIDGE_CONFIG_BYTES)
		return value;
	pthread_mutex_lock(&port->lock);
	memcpy(&value, port->value + offset, size_bytes);
	pthread_mutex_unlock(&port->lock);
	return value;
}

static void config_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
	struct pci_bridge *port = context;
	pthread_mutex_lock(&port->lock);
	uint16_t control = bridge_get16(port, EXP_AT + PCI_EXP_SLTCTL);
	for (unsigned i = 0; i < size_bytes && offset + i < BRIDGE_CONFIG_BYTES; i++) {
		uint8_t mask = port->write[offset + i];
		uint8_t byte = (uint8_t)(value >> (8 * i));
		uint8_t old = port->value[offset + i] & (uint8_t) ~(byte & port->clear[offset + i]);
		port->value[offset + i] = (uint8_t)((old & ~mask) | (byte & mask));
	}
	atomic_store(&port->secondary, port->value[PCI_SECONDARY_BUS]);
	bool slot_changed = bridge_slot_written(port, control);
	pthread_mutex_unlock(&port->lock);
	if (slot_changed && port->ops.slot_changed)
		port->ops.slot_changed(port->ops.context);
}

static void describe(struct pci_bridge *port)
{
	uint8_t *value = port->value, *write = port->write;
	bridge_put16(value, PCI_VENDOR_ID, PORT_VENDOR);
	bridge_put16(value, PCI_DEVICE_ID, PORT_DEVICE);
	bridge_put16(value, PCI_STATUS, PCI_STATUS_CAP_LIST);
	bridge_put16(value, PCI_CLASS_DEVICE, CLASS_BRIDGE_PCI);
	value[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	value[PCI_CAPABILITY_LIST] = EXP_AT;
	bridge_put16(write, PCI_COMMAND,
		     PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
			     PCI_COMMAND_INTX_DISABLE);
	write[PCI_CACHE_LINE_SIZE] = 0xff;
	memset(write + PCI_PRIMARY_BUS, 0xff, 3);
	write[PCI_IO_BASE] = write[PCI_IO_LIMIT] = 0xf0;
	bridge_put16(write, PCI_MEMORY_BASE, 0xfff0);
	bridge_put16(write, PCI_MEMORY_LIMIT, 0xfff0);
	bridge_put16(write, PCI_PREF_MEMORY_BASE, 0xfff0);
	bridge_put16(write, PCI_PREF_MEMORY_LIMIT, 0xfff0);
	bridge_put32(write, PCI_PREF_BASE_UPPER32, 0xffffffff);
	bridge_put32(write, PCI_PREF_LIMIT_UPPER32, 0xffffffff);
	write[PCI_INTERRUPT_LINE] = 0xff;
	bridge_put16(write, PCI_BRIDGE_CONTROL, PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR | PCI_BRIDGE_CTL_BUS_RESET);

	value[EXP_AT] = PCI_CAP_ID_EXP;
	value[EXP_AT + PCI_CAP_LIST_NEXT] = BRIDGE_MSI;
	bridge_put16(value, EXP_AT + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ROOT_PORT << 4 | PCI_EXP_FLAGS_SLOT);
	bridge_put32(value, EXP_AT + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER);
	bridge_put16(write, EXP_AT + PCI_EXP_DEVCTL, 0x78ef);
	bridge_put32(value, EXP_AT + PCI_EXP_LNKCAP,
		     PCI_EXP_LNKCAP_SLS_2_5GB | 1 << 4 | PCI_EXP_LNKCAP_DLLLARC |
			     port->number << 24); /* x1, port number */
	bridge_put16(write, EXP_AT + PCI_EXP_LNKCTL, PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC);
	bridge_put16(value, EXP_AT + PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_CLS_2_5GB | PCI_EXP_LNKSTA_NLW_X1);
	bridge_put16(write, EXP_AT + PCI_EXP_RTCTL, 0x001f);
	bridge_slot_describe(port);
}

int pci_bridge_create(unsigned number, const struct pci_bridge_ops *ops, struct pci_bridge **out,
		      struct tenon_error *err)
{
	struct pci_bridge *port = calloc(1, sizeof(*port));
	if (!port)
		return tenon_fail(err, -ENOMEM, "root port %u: out of memory; free some memory", number);
	pthread_mutex_init(&port->lock, NULL);
	port->number = number;
	port->ops = *ops;
	port->function =
		(struct pci_function){.config_read = config_read, .config_write = config_write, .context = port};
	describe(port);
	*out = port;
	return 0;
}

void pci_bridge_destroy(struct pci_bridge *port)
{
	if (port)
		pthread_mutex_destroy(&port->lock);
	free(port);
}

int pci_bridge_plug(struct pci_host *host, unsigned device, struct pci_bridge *port, struct tenon_error *err)
{
	if (host->port_count == PCI_BRIDGES_MAX)
		return tenon_fail(err, -ENOSPC, "root port %u: more than %d of them; put devices on the root bus",
				  port->number, PCI_BRIDGES_MAX);
	port->host = host;
	port->device = device;
	int code = pci_bus_add(host, &host->root, device, 0, &port->function, err);
	if (code == 0)
		host->ports[host->port_count++] = port;
	return code;
}

void pci_bridge_reset(struct pci_bridge *port, const struct pci_bridge_windows *windows)
{
	uint8_t *value = port->value;
	pthread_mutex_lock(&port->lock);
	/* Every writable register is zero at power-on; then what firmware programs. */
	for (unsigned i = 0; i < BRIDGE_CONFIG_BYTES; i++)
		value[i] &= (uint8_t)~port->write[i];
	value[PCI_SECONDARY_BUS] = value[PCI_SUBORDINATE_BUS] = (uint8_t)port->number;
	atomic_store(&port->secondary, port->number);

	/* A window is closed by a base above its limit. */
	uint32_t io_last = windows->io_bytes ? windows->io_first + windows->io_bytes - 1 : 0;
	value[PCI_IO_BASE] = (uint8_t)((windows->io_bytes ? windows->io_first >> 8 : 0xf0) & 0xf0);
	value[PCI_IO_LIMIT] = (uint8_t)(io_last >> 8 & 0xf0);
	uint32_t last = windows->memory_bytes ? windows->memory_first + windows->memory_bytes - 1 : 0;
	bridge_put16(value, PCI_MEMORY_BASE,
		     (uint16_t)((windows->memory_bytes ? windows->memory_first >> 16 : 0xfff0) & 0xfff0));
	bridge_put16(value, PCI_MEMORY_LIMIT, (uint16_t)(last >> 16 & 0xfff0));
	uint64_t prefetch_last = windows->prefetch_bytes ? windows->prefetch_first + windows->prefetch_bytes - 1 : 0;
	uint64_t prefetch_first = windows->prefetch_bytes ? windows->prefetch_first : 0xfff00000;
	bridge_put16(value, PCI_PREF_MEMORY_BASE, (uint16_t)((prefetch_first >> 16 & 0xfff0) | PCI_PREF_RANGE_TYPE_64));
	bridge_put16(value, PCI_PREF_MEMORY_LIMIT, (uint16_t)((prefetch_last >> 16 & 0xfff0) | PCI_PREF_RANGE_TYPE_64));
	bridge_put32(value, PCI_PREF_BASE_UPPER32, (uint32_t)(prefetch_first >> 32));
	bridge_put32(value, PCI_PREF_LIMIT_UPPER32, (uint32_t)(prefetch_last >> 32));
	bridge_slot_reset(port);
	pthread_mutex_unlock(&port->lock);
}

unsigned pci_bridge_secondary(const struct pci_bridge *port)
{
	return atomic_load(&port->secondary);
}

struct pci_bus *pci_bridge_bus(struct pci_bridge *port)
{
	return &port->bus;
}

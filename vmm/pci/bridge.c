// SPDX-License-Identifier: MIT
/*
 * A bridge's registers. Sources: PCI-to-PCI Bridge Architecture 1.2 chapter 3 (type 1 header), PCI Express Base 5.0 sections 7.5.3
 * and 7.7.8 (ACS).
 */
#include <errno.h>
#include <stdlib.h>

#include "bridge_private.h"

#define BRIDGE_VENDOR       0x1b36 /* Red Hat: ids of a generic PCIe root port and of a generic PCI bridge */
#define ROOT_PORT_DEVICE    0x000c
#define CONVENTIONAL_DEVICE 0x0001
#define CLASS_BRIDGE_PCI    0x0604
#define MULTIFUNCTION       0x80
#define EXP_AT              BRIDGE_EXP
#define ACS_BITS            (PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF)

static uint32_t config_read(void *context, unsigned offset, unsigned size_bytes)
{
	struct pci_bridge *bridge = context;
	uint32_t value = 0;
	if (offset + size_bytes > BRIDGE_CONFIG_BYTES)
		return value;
	pthread_mutex_lock(&bridge->lock);
	memcpy(&value, bridge->value + offset, size_bytes);
	pthread_mutex_unlock(&bridge->lock);
	return value;
}

static void config_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
	struct pci_bridge *bridge = context;
	pthread_mutex_lock(&bridge->lock);
	uint16_t slot_control = bridge_get16(bridge, EXP_AT + PCI_EXP_SLTCTL);
	uint16_t control = bridge_get16(bridge, PCI_BRIDGE_CONTROL);
	for (unsigned i = 0; i < size_bytes && offset + i < BRIDGE_CONFIG_BYTES; i++) {
		uint8_t mask = bridge->write[offset + i];
		uint8_t byte = (uint8_t)(value >> (8 * i));
		uint8_t old = bridge->value[offset + i] & (uint8_t) ~(byte & bridge->clear[offset + i]);
		bridge->value[offset + i] = (uint8_t)((old & ~mask) | (byte & mask));
	}
	atomic_store(&bridge->secondary, bridge->value[PCI_SECONDARY_BUS]);
	bool changed = bridge_bus_written(bridge, control);
	if (bridge->options.slot)
		changed |= bridge_slot_written(bridge, slot_control);
	bool released = control & ~bridge_get16(bridge, PCI_BRIDGE_CONTROL) & PCI_BRIDGE_CTL_BUS_RESET;
	bool await = released && bridge->wants_reset && bridge->options.kind == PCI_BRIDGE_CONVENTIONAL;
	pthread_mutex_unlock(&bridge->lock);
	if (changed && bridge->ops.changed)
		bridge->ops.changed(bridge->ops.context);
	if (await && bridge->ops.reset_awaited)
		bridge->ops.reset_awaited(bridge->ops.context);
}

static void describe_header(struct pci_bridge *bridge)
{
	uint8_t *value = bridge->value, *write = bridge->write;
	bool port = bridge->options.kind == PCI_BRIDGE_ROOT_PORT;
	bridge_put16(value, PCI_VENDOR_ID, BRIDGE_VENDOR);
	bridge_put16(value, PCI_DEVICE_ID, port ? ROOT_PORT_DEVICE : CONVENTIONAL_DEVICE);
	bridge_put16(value, PCI_CLASS_DEVICE, CLASS_BRIDGE_PCI);
	value[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	bridge_put16(write, PCI_COMMAND,
		     PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
			     PCI_COMMAND_INTX_DISABLE);
	write[PCI_CACHE_LINE_SIZE] = 0xff;
	memset(write + PCI_PRIMARY_BUS, 0xff, 3);
	if (!port)
		write[PCI_SEC_LATENCY_TIMER] = 0xff;
	write[PCI_IO_BASE] = write[PCI_IO_LIMIT] = 0xf0;
	bridge_put16(write, PCI_MEMORY_BASE, 0xfff0);
	bridge_put16(write, PCI_MEMORY_LIMIT, 0xfff0);
	bridge_put16(write, PCI_PREF_MEMORY_BASE, 0xfff0);
	bridge_put16(write, PCI_PREF_MEMORY_LIMIT, 0xfff0);
	bridge_put32(write, PCI_PREF_BASE_UPPER32, 0xffffffff);
	bridge_put32(write, PCI_PREF_LIMIT_UPPER32, 0xffffffff);
	write[PCI_INTERRUPT_LINE] = 0xff;
	bridge_put16(write, PCI_BRIDGE_CONTROL, PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR | PCI_BRIDGE_CTL_BUS_RESET);
}

static void describe_root_port(struct pci_bridge *bridge)
{
	const struct pci_bridge_options *options = &bridge->options;
	uint8_t *value = bridge->value, *write = bridge->write;
	bridge_put16(value, PCI_STATUS, PCI_STATUS_CAP_LIST);
	value[PCI_CAPABILITY_LIST] = EXP_AT;
	value[EXP_AT] = PCI_CAP_ID_EXP;
	bridge_put16(value, EXP_AT + PCI_EXP_FLAGS,
		     2 | PCI_EXP_TYPE_ROOT_PORT << 4 | (options->slot ? PCI_EXP_FLAGS_SLOT : 0));
	bridge_put32(value, EXP_AT + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER);
	bridge_put16(write, EXP_AT + PCI_EXP_DEVCTL, 0x78ef);
	bridge_put32(value, EXP_AT + PCI_EXP_LNKCAP,
		     PCI_EXP_LNKCAP_SLS_2_5GB | 1 << 4 | PCI_EXP_LNKCAP_DLLLARC |
			     options->number << 24); /* x1, port number */
	bridge_put16(write, EXP_AT + PCI_EXP_LNKCTL, PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC);
	bridge_put16(value, EXP_AT + PCI_EXP_LNKSTA,
		     PCI_EXP_LNKSTA_CLS_2_5GB | PCI_EXP_LNKSTA_NLW_X1 | (options->slot ? 0 : PCI_EXP_LNKSTA_DLLLA));
	bridge_put16(write, EXP_AT + PCI_EXP_RTCTL, 0x001f);
	if (options->ari) {
		bridge_put32(value, EXP_AT + PCI_EXP_DEVCAP2, PCI_EXP_DEVCAP2_ARI);
		bridge_put16(write, EXP_AT + PCI_EXP_DEVCTL2, PCI_EXP_DEVCTL2_ARI);
	}
	if (options->isolated) {
		bridge_put32(value, BRIDGE_ACS, PCI_EXT_CAP_ID_ACS | 1 << 16);
		bridge_put16(value, BRIDGE_ACS + PCI_ACS_CAP, ACS_BITS);
		bridge_put16(write, BRIDGE_ACS + PCI_ACS_CTRL, ACS_BITS);
	}
	if (options->slot)
		bridge_slot_describe(bridge);
}

int pci_bridge_create(const struct pci_bridge_options *options, const struct pci_bridge_ops *ops,
		      struct pci_bridge **out, struct tenon_error *err)
{
	struct pci_bridge *bridge = calloc(1, sizeof(*bridge));
	if (!bridge)
		return tenon_fail(err, -ENOMEM, "bridge %u: out of memory; free some memory", options->number);
	pthread_mutex_init(&bridge->lock, NULL);
	bridge->options = *options;
	bridge->ops = *ops;
	bridge->function =
		(struct pci_function){.config_read = config_read, .config_write = config_write, .context = bridge};
	describe_header(bridge);
	if (options->kind == PCI_BRIDGE_ROOT_PORT)
		describe_root_port(bridge);
	*out = bridge;
	return 0;
}

void pci_bridge_destroy(struct pci_bridge *bridge)
{
	if (bridge)
		pthread_mutex_destroy(&bridge->lock);
	free(bridge);
}

int pci_bridge_plug(struct pci_host *host, unsigned device, unsigned function, bool multifunction,
		    struct pci_bridge *bridge, struct tenon_error *err)
{
	if (host->bridge_count == PCI_BRIDGES_MAX)
		return tenon_fail(err, -ENOSPC, "bridge %u: more than %d of them; assign fewer devices",
				  bridge->options.number, PCI_BRIDGES_MAX);
	bridge->host = host;
	bridge->device = device;
	bridge->value[PCI_HEADER_TYPE] |= multifunction ? MULTIFUNCTION : 0;
	int code = pci_bus_add(host, &host->root, device, function, &bridge->function, err);
	if (code == 0)
		host->bridges[host->bridge_count++] = bridge;
	return code;
}

void pci_bridge_reset(struct pci_bridge *bridge, const struct pci_bridge_windows *windows)
{
	uint8_t *value = bridge->value;
	unsigned number = bridge->options.number;
	pthread_mutex_lock(&bridge->lock);
	/* Every writable register is zero at power-on; then what firmware programs. */
	for (unsigned i = 0; i < BRIDGE_CONFIG_BYTES; i++)
		value[i] &= (uint8_t)~bridge->write[i];
	value[PCI_SECONDARY_BUS] = value[PCI_SUBORDINATE_BUS] = (uint8_t)number;
	atomic_store(&bridge->secondary, number);

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
	bridge_bus_reset(bridge);
	if (bridge->options.slot)
		bridge_slot_reset(bridge);
	pthread_mutex_unlock(&bridge->lock);
}

bool pci_bridge_is_conventional(const struct pci_bridge *bridge)
{
	return bridge->options.kind == PCI_BRIDGE_CONVENTIONAL;
}

const struct pci_bridge_options *pci_bridge_options(const struct pci_bridge *bridge)
{
	return &bridge->options;
}

unsigned pci_bridge_secondary(const struct pci_bridge *bridge)
{
	return atomic_load(&bridge->secondary);
}

struct pci_bus *pci_bridge_bus(struct pci_bridge *bridge)
{
	return &bridge->bus;
}

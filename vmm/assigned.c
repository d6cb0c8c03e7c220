// SPDX-License-Identifier: MIT
/* Glue between libtenon's device and the machine's buses; no decision about the device itself is made here. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "assigned.h"
#include "layout.h"
#include "log.h"

static uint32_t config_read(void *context, unsigned offset, unsigned size_bytes)
{
	struct assigned *assigned = context;
	return tenon_device_config_read(assigned->device, offset, size_bytes);
}

static void config_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
	struct assigned *assigned = context;
	/* The guest may get here before its memory is mapped for DMA; the device must not. */
	bool masters = offset <= PCI_COMMAND && PCI_COMMAND < offset + size_bytes &&
		       (value >> 8 * (PCI_COMMAND - offset) & PCI_COMMAND_MASTER);
	if (masters && !dma_memory_wait(assigned->machine.dma))
		return;
	tenon_device_config_write(assigned->device, offset, size_bytes, value);
}

static void bar_read(void *context, uint64_t offset, void *data, unsigned size_bytes)
{
	struct assigned_bar *bar = context;
	tenon_device_bar_read(bar->owner->device, bar->bar, offset, data, size_bytes);
}

static void bar_write(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
	struct assigned_bar *bar = context;
	tenon_device_bar_write(bar->owner->device, bar->bar, offset, data, size_bytes);
}

/* Called with the device's lock held; the buses have their own. */
static void bar_placed(void *context, const struct tenon_bar_placement *placement)
{
	struct assigned *assigned = context;
	struct assigned_bar *bar = &assigned->bars[placement->bar];
	struct tenon_error error;

	if (bar->on_bus)
		bus_remove(bar->io ? assigned->machine.ports : assigned->machine.memory, bar->first, bar);
	bar->on_bus = false;
	if (!placement->enabled)
		return;
	const struct bus_range range = {
		.first = placement->address,
		.size_bytes = placement->size_bytes,
		.handler = {.read = bar_read, .write = bar_write, .context = bar, .in_use = &assigned->bars_in_use},
	};
	bar->io = placement->io;
	bar->first = placement->address;
	/* A guest that puts one BAR over another gets what it asked for: only the first answers, until it moves away. */
	bar->on_bus =
		bus_add_or_wait(bar->io ? assigned->machine.ports : assigned->machine.memory, &range, &error) == 0;
}

/* Called with the device's lock held, after bar_placed. */
static bool answers(void *context, uint64_t gpa, uint64_t size_bytes)
{
	struct assigned *assigned = context;
	const struct assigned_bar *owner = bus_owner(assigned->machine.memory, gpa, size_bytes);
	for (unsigned i = 0; i <= TENON_DEVICE_ROM; i++) {
		if (owner == &assigned->bars[i])
			return true;
	}
	return false;
}

static void log_message(void *context, enum tenon_log_level level, const char *message)
{
	if (level == TENON_LOG_INFO)
		log_info("%s", message);
	else
		log_warning("%s", message);
}

int assigned_create(const struct device_options *options, struct assigned **out, struct tenon_error *err)
{
	struct assigned *assigned = calloc(1, sizeof(*assigned));
	if (!assigned)
		return tenon_fail(err, -ENOMEM, "%s: out of memory; free some memory", options->address);
	assigned->options = options;
	assigned->function = (struct pci_function){.config_read = config_read,
						   .config_write = config_write,
						   .context = assigned,
						   .in_use = &assigned->config_in_use};
	for (unsigned i = 0; i <= TENON_DEVICE_ROM; i++)
		assigned->bars[i] = (struct assigned_bar){.owner = assigned, .bar = i};
	*out = assigned;
	return 0;
}

void assigned_wire(struct assigned *assigned, unsigned number)
{
	for (unsigned pin = 0; pin < 4; pin++)
		assigned->host.intx_gsi[pin] = (int)(LAYOUT_INTX_GSI + (number + pin) % 4);
}

int assigned_open(struct assigned *assigned, const struct assigned_machine *machine, struct tenon_error *err)
{
	assigned->machine = *machine;
	assigned->host.vm = machine->vm;
	assigned->host.bar_placed = bar_placed;
	assigned->host.answers = answers;
	assigned->host.log = log_message;
	assigned->host.context = assigned;

	const struct tenon_device_options options = {
		.size = sizeof(options),
		.address = assigned->options->address,
		.cdev = assigned->options->fd,
		.space = machine->space,
		.ops = &tenon_vm_host_ops,
		.host = &assigned->host,
		.reset = assigned->options->reset,
		.sriov = assigned->options->sriov,
		.rom = assigned->options->rom,
		.intx = assigned->options->intx,
		.rom_file = assigned->options->rom_file,
		.vf_token = assigned->options->vf_token,
		.reconnect = assigned->options->reconnect,
		.timeout_ms = assigned->options->timeout_ms,
	};
	return tenon_device_open(&options, &assigned->device, err);
}

void assigned_set_bars(struct assigned *assigned, const uint64_t address[TENON_DEVICE_BARS + 1])
{
	const struct tenon_device_info *info = tenon_device_info(assigned->device);
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		if (!info->bars[i].size_bytes)
			continue;
		tenon_device_config_write(assigned->device, PCI_BASE_ADDRESS_0 + 4 * i, 4, (uint32_t)address[i]);
		if (info->bars[i].is_64bit)
			tenon_device_config_write(assigned->device, PCI_BASE_ADDRESS_0 + 4 * (i + 1), 4,
						  (uint32_t)(address[i] >> 32));
	}
	tenon_device_config_write(assigned->device, PCI_ROM_ADDRESS, 4, (uint32_t)address[TENON_DEVICE_ROM]);
	tenon_device_config_write(assigned->device, PCI_INTERRUPT_LINE, 1,
				  info->intx_pin ? (uint32_t)assigned->host.intx_gsi[info->intx_pin - 1] : 0);
}

void assigned_get_bars(struct assigned *assigned, uint64_t address[TENON_DEVICE_BARS + 1])
{
	const struct tenon_device_info *info = tenon_device_info(assigned->device);
	address[TENON_DEVICE_ROM] =
		tenon_device_config_read(assigned->device, PCI_ROM_ADDRESS, 4) & PCI_ROM_ADDRESS_MASK;
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		const struct tenon_bar_info *bar = &info->bars[i];
		address[i] = 0;
		if (!bar->size_bytes)
			continue;
		address[i] = tenon_device_config_read(assigned->device, PCI_BASE_ADDRESS_0 + 4 * i, 4) &
			     (bar->io ? (uint32_t)PCI_BASE_ADDRESS_IO_MASK : (uint32_t)PCI_BASE_ADDRESS_MEM_MASK);
		if (bar->is_64bit)
			address[i] |= (uint64_t)tenon_device_config_read(assigned->device,
									 PCI_BASE_ADDRESS_0 + 4 * (i + 1), 4)
				      << 32;
	}
}

void assigned_destroy(struct assigned *assigned)
{
	if (!assigned)
		return;
	/* A config write that is still inside may put a BAR on a bus; after it, nothing does. */
	in_use_wait(&assigned->config_in_use);
	for (unsigned i = 0; i <= TENON_DEVICE_ROM; i++) {
		struct assigned_bar *bar = &assigned->bars[i];
		if (bar->on_bus)
			bus_remove(bar->io ? assigned->machine.ports : assigned->machine.memory, bar->first, bar);
		bar->on_bus = false;
	}
	in_use_wait(&assigned->bars_in_use);
	tenon_device_close(assigned->device);
	options_finish_device(&assigned->own);
	free(assigned);
}

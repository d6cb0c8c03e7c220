// SPDX-License-Identifier: MIT
/* Registers to and from the migration stream. What comes from there is checked where the device relies on it. */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "saved_registers.h"
#include "testdev.h"

static void get_engine(const struct copy_engine *engine, struct saved_registers *out)
{
	out->list_address = engine->list_address;
	out->list_count = engine->list_count;
	out->copy_irq = engine->irq;
	out->status = engine->status;
	out->lists_done = engine->lists_done;
	out->checksum = engine->checksum;
	out->moved_bytes = engine->moved_bytes;
	out->fault_address = engine->fault_address;
	out->copying = engine->phase != COPY_IDLE;
	out->fetched = engine->phase == COPY_READ || engine->phase == COPY_WRITE;
	out->copy_address = engine->address;
	out->copy_count = engine->count;
	out->copy_index = engine->index;
	out->copy_position = engine->position;
	out->source = engine->descriptor.source;
	out->target = engine->descriptor.target;
	out->length = engine->descriptor.length;
	out->flags = engine->descriptor.flags;
}

void saved_registers_get(const struct testdev *device, struct saved_registers *out)
{
	memset(out, 0, sizeof(*out));
	get_engine(&device->engine, out);
	memcpy(out->scratch, device->scratch, sizeof(out->scratch));
	out->load_address = device->load.address;
	out->load_written = device->load.written;
	out->load_due = device->load.due;
	out->load_pages = device->load.pages;
	out->load_rate = device->load.rate;
	out->load_page = device->load.page;
	out->load_faults = device->load.faults;
	out->block_changes = device->migration.changes;
	out->irq_line = device->irqs.line;
	out->msi_pending = device->irqs.pending[VFIO_PCI_MSI_IRQ_INDEX];
	out->msix_pending = device->irqs.pending[VFIO_PCI_MSIX_IRQ_INDEX];
	out->irqs_raised = device->irqs.raised;
	out->irqs_delivered = device->irqs.delivered;
	out->doorbell_irqs = device->doorbells.irqs;
	memcpy(out->doorbells, device->doorbells.counts, sizeof(out->doorbells));
	out->port_index = device->port_index;
	out->port_scratch = device->port_scratch;
	memcpy(out->msix_table, device->msix_table, sizeof(out->msix_table));
}

static bool is_sound(const struct saved_registers *saved)
{
	const struct copy_descriptor descriptor = {
		.source = saved->source, .target = saved->target, .length = saved->length, .flags = saved->flags};
	if (!saved->copying)
		return true;
	if (saved->copy_count == 0 || saved->copy_count > TD_LIST_MAX || saved->copy_index >= saved->copy_count)
		return false;
	return !saved->fetched || (copy_descriptor_is_sound(&descriptor) && saved->copy_position < saved->length);
}

static void set_engine(struct copy_engine *engine, const struct saved_registers *saved)
{
	engine->list_address = saved->list_address;
	engine->list_count = saved->list_count;
	engine->irq = saved->copy_irq;
	engine->status = saved->status;
	engine->lists_done = saved->lists_done;
	engine->checksum = saved->checksum;
	engine->moved_bytes = saved->moved_bytes;
	engine->fault_address = saved->fault_address;
	engine->phase = !saved->copying ? COPY_IDLE : saved->fetched ? COPY_READ : COPY_FETCH;
	engine->address = saved->copy_address;
	engine->count = saved->copy_count;
	engine->index = saved->copy_index;
	engine->position = saved->copy_position;
	engine->descriptor = (struct copy_descriptor){
		.source = saved->source, .target = saved->target, .length = saved->length, .flags = saved->flags};
	engine->part = engine->chunk = 0;
}

int saved_registers_set(struct testdev *device, const struct saved_registers *saved)
{
	if (!is_sound(saved))
		return -EBADMSG;
	set_engine(&device->engine, saved);
	memcpy(device->scratch, saved->scratch, sizeof(device->scratch));
	device->load.address = saved->load_address;
	device->load.written = saved->load_written;
	device->load.due = saved->load_due < LOAD_DUE_MAX ? saved->load_due : LOAD_DUE_MAX;
	device->load.pages = saved->load_pages;
	device->load.rate = saved->load_rate;
	device->load.page = saved->load_page;
	device->load.faults = saved->load_faults;
	device->migration.changes = saved->block_changes;
	device->irqs.line = saved->irq_line;
	device->irqs.pending[VFIO_PCI_MSI_IRQ_INDEX] = saved->msi_pending & UINT32_MAX;
	device->irqs.pending[VFIO_PCI_MSIX_IRQ_INDEX] = saved->msix_pending;
	device->irqs.raised = saved->irqs_raised;
	device->irqs.delivered = saved->irqs_delivered;
	device->doorbells.irqs = saved->doorbell_irqs;
	memcpy(device->doorbells.counts, saved->doorbells, sizeof(saved->doorbells));
	device->port_index = saved->port_index;
	device->port_scratch = saved->port_scratch;
	memcpy(device->msix_table, saved->msix_table, sizeof(saved->msix_table));
	return 0;
}

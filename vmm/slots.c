// SPDX-License-Identifier: MIT
/* The places of the root bus, and what the root ports there need of the machine: messages, shared lines, news of their slots. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "layout.h"
#include "log.h"
#include "slots.h"

static void port_msi(void *context, uint64_t address, uint32_t data)
{
	const struct slot *slot = context;
	struct tenon_error error;
	if (tenon_vm_msi_send(slot->slots->vm, address, data, &error) < 0)
		log_error(&error);
}

/* A line that other ports and devices hold too. */
static void port_intx(void *context, unsigned device, bool asserted)
{
	const struct slot *slot = context;
	struct tenon_error error;
	if (tenon_vm_irq_line_hold(slot->slots->vm, LAYOUT_INTX_GSI + device % 4, asserted, &error) < 0)
		log_error(&error);
}

static void port_changed(void *context)
{
	const struct slot *slot = context;
	if (slot->slots->changed)
		slot->slots->changed(slot->slots->context);
}

int slots_init(struct slots *slots, struct tenon_error *err)
{
	pthread_mutex_init(&slots->lock, NULL);
	slots->events = epoll_create1(EPOLL_CLOEXEC);
	if (slots->events < 0)
		return tenon_fail(err, -errno,
				  "devices: cannot watch them: %s; raise the limit of open files (ulimit -n)",
				  strerror(errno));
	return 0;
}

void slots_finish(struct slots *slots)
{
	for (unsigned i = 0; i < slots->count; i++)
		assigned_destroy(slots->slot[i].assigned);
	for (unsigned i = 0; i < slots->count; i++)
		pci_bridge_destroy(slots->slot[i].port);
	slots->count = 0;
	if (slots->events > 0)
		close(slots->events);
}

static int plug_port(struct slot *slot, struct pci_host *host, struct tenon_error *err)
{
	const struct pci_bridge_ops ops = {
		.msi = port_msi, .intx = port_intx, .slot_changed = port_changed, .context = slot};
	int code = pci_bridge_create(host->port_count + 1, &ops, &slot->port, err);
	return code < 0 ? code : pci_bridge_plug(host, slot->number, slot->port, err);
}

static int plug(struct slots *slots, struct slot *slot, const struct device_options *options, struct pci_host *host,
		struct tenon_error *err)
{
	int number = options && options->slot ? (int)options->slot : pci_bus_free_device(&host->root);
	if (number < 0)
		return tenon_fail(err, -ENOSPC,
				  "%s: no free slot on the guest's root bus; assign fewer devices, or ask for fewer "
				  "empty ports",
				  options ? options->address : "--hotplug-ports");
	*slot = (struct slot){.slots = slots, .number = (unsigned)number};
	int code = options ? assigned_create(options, &slot->assigned, err) : 0;
	if (code < 0)
		return code;
	if (options)
		assigned_wire(slot->assigned, slot->number);
	if (options && !options->root_port)
		return pci_bus_add(host, &host->root, slot->number, 0, &slot->assigned->function, err);
	code = plug_port(slot, host, err);
	return code < 0 || !options ? code : pci_bridge_insert(slot->port, &slot->assigned->function, err);
}

int slots_plug(struct slots *slots, const struct run_options *options, struct pci_host *host, struct tenon_error *err)
{
	int code = 0;
	slots->count = options->device_count + options->hotplug_ports;
	/* Those with a wish first, so that the others do not take their slot. */
	for (int wish = 1; wish >= 0; wish--) {
		for (unsigned i = 0; code == 0 && i < options->device_count; i++) {
			if ((options->devices[i].slot != 0) == (wish == 1))
				code = plug(slots, &slots->slot[i], &options->devices[i], host, err);
		}
	}
	for (unsigned i = options->device_count; code == 0 && i < slots->count; i++)
		code = plug(slots, &slots->slot[i], NULL, host, err);
	return code;
}

int slots_watch(struct slots *slots, struct slot *slot, struct assigned *assigned, struct tenon_error *err)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(slot - slots->slot)};
	if (epoll_ctl(slots->events, EPOLL_CTL_ADD, tenon_device_event_fd(assigned->device), &event) < 0)
		return tenon_fail(err, -errno, "%s: cannot watch for its events: %s; report this",
				  assigned->options->address, strerror(errno));
	pthread_mutex_lock(&slots->lock);
	slot->assigned = assigned;
	pthread_mutex_unlock(&slots->lock);
	return 0;
}

struct assigned *slots_take(struct slots *slots, struct slot *slot)
{
	struct assigned *assigned = slot->assigned;
	epoll_ctl(slots->events, EPOLL_CTL_DEL, tenon_device_event_fd(assigned->device), NULL);
	pthread_mutex_lock(&slots->lock);
	slot->assigned = NULL;
	pthread_mutex_unlock(&slots->lock);
	slot->placed.bars = NULL;
	return assigned;
}

struct assigned *slots_hold(struct slots *slots, unsigned index)
{
	pthread_mutex_lock(&slots->lock);
	struct assigned *assigned = index < slots->count ? slots->slot[index].assigned : NULL;
	if (assigned)
		in_use_enter(&assigned->config_in_use);
	pthread_mutex_unlock(&slots->lock);
	return assigned;
}

void slots_release(struct assigned *assigned)
{
	in_use_leave(&assigned->config_in_use);
}

void slot_name(const struct slot *slot, char *text, size_t capacity)
{
	if (slot->port)
		snprintf(text, capacity, "%02x:00.0", pci_bridge_secondary(slot->port));
	else
		snprintf(text, capacity, "00:%02x.0", slot->number);
}

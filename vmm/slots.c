// SPDX-License-Identifier: MIT
/*
 * Slots: what the topology says becomes bridges and functions on the guest's buses; and what bridges need of the machine: messages,
 * shared lines, news of their slots.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"
#include "log.h"
#include "slots.h"
#include "topology.h"

#define ROOT_DEVICES 32u

/* How long a guest that does not look whether its devices are back is held, and how often it is looked whether it may go on. */
#define RESET_WAIT_SECONDS 10
#define RESET_LOOK_MS      2

/* ---- What bridges ask for ---- */

static void bridge_msi(void *context, uint64_t address, uint32_t data)
{
	const struct slot *slot = context;
	struct tenon_error error;
	if (tenon_vm_msi_send(slot->slots->vm, address, data, &error) < 0)
		log_error(&error);
}

/* A line that other ports and devices hold too. */
static void bridge_intx(void *context, unsigned device, bool asserted)
{
	const struct slot *slot = context;
	struct tenon_error error;
	if (tenon_vm_irq_line_hold(slot->slots->vm, LAYOUT_INTX_GSI + device % 4, asserted, &error) < 0)
		log_error(&error);
}

static void bridge_changed(void *context)
{
	const struct slot *slot = context;
	if (slot->slots->changed)
		slot->slots->changed(slot->slots->context);
}

/* On a vCPU's thread, which holds nothing. */
static void bridge_reset_awaited(void *context)
{
	const struct slot *slot = context;
	const struct slots *slots = slot->slots;
	const struct timespec pause = {.tv_nsec = RESET_LOOK_MS * 1000000l};
	for (unsigned i = 0; i < RESET_WAIT_SECONDS * 1000 / RESET_LOOK_MS; i++) {
		if (!pci_bridge_wants_reset(slot->bridge) || !slots->stops || slots->stops(slots->stops_context))
			return;
		nanosleep(&pause, NULL);
	}
}

/* ---- Life ---- */

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
	for (unsigned i = 0; i < slots->count; i++) {
		if (slots->slot[i].leader == &slots->slot[i])
			pci_bridge_destroy(slots->slot[i].bridge);
	}
	slots->count = 0;
	if (slots->events > 0)
		close(slots->events);
}

int slots_create(struct slots *slots, const struct run_options *options, struct tenon_error *err)
{
	slots->mode = options->topology;
	slots->count = options->device_count + options->hotplug_ports;
	for (unsigned i = 0; i < slots->count; i++) {
		struct slot *slot = &slots->slot[i];
		*slot = (struct slot){.slots = slots, .leader = slot};
		int code = i < options->device_count ? assigned_create(&options->devices[i], &slot->assigned, err) : 0;
		if (code < 0)
			return code;
	}
	return 0;
}

/* ---- Places ---- */

static void take_place(struct slots *slots, unsigned index, const struct tenon_topology *topology)
{
	const struct tenon_topology_place *place = &topology->places[index];
	const struct tenon_topology_bus *bus = &topology->buses[place->bus];
	struct slot *slot = &slots->slot[index];
	slot->devfn = place->devfn;
	slot->bus_reset = bus->bus_reset;
	memcpy(slot->why, place->why, sizeof(slot->why));
	slot->device = bus->kind == TENON_TOPOLOGY_ROOT ? place->devfn >> 3 : bus->slot;
	slot->function = bus->kind == TENON_TOPOLOGY_ROOT ? place->devfn & 7 : bus->function;
	/* A bridge turns the pins of what is behind it by its device number there (PCI-to-PCI Bridge 1.2, 9.1). */
	slot->wiring = slot->device + (bus->kind == TENON_TOPOLOGY_BRIDGE ? place->devfn >> 3 : 0);
	for (unsigned i = 0; i < index; i++) {
		if (place->bus && topology->places[i].bus == place->bus) {
			slot->leader = slots->slot[i].leader;
			return;
		}
	}
}

/* The lowest device number of the root bus that nothing has; 0: none. */
static unsigned free_device(const struct slots *slots, unsigned count)
{
	for (unsigned device = 1; device < ROOT_DEVICES; device++) {
		unsigned i = 0;
		while (i < count && slots->slot[i].device != device)
			i++;
		if (i == count)
			return device;
	}
	return 0;
}

static int place_empty_ports(struct slots *slots, unsigned first, struct tenon_error *err)
{
	for (unsigned i = first; i < slots->count; i++) {
		struct slot *slot = &slots->slot[i];
		slot->device = free_device(slots, i);
		slot->wiring = slot->device;
		slot->reserved = true;
		if (slot->device == 0)
			return tenon_fail(
				err, -ENOSPC,
				"--hotplug-ports: no free slot on the guest's root bus; assign fewer devices, or "
				"ask for fewer empty ports");
	}
	return 0;
}

static bool shares_device(const struct slots *slots, const struct slot *slot)
{
	for (unsigned i = 0; i < slots->count; i++) {
		const struct slot *other = &slots->slot[i];
		if (other->leader == other && other->device == slot->device && other->function != slot->function)
			return true;
	}
	return false;
}

static int plug_bridge(struct slot *slot, const struct tenon_topology_bus *bus, unsigned number, struct pci_host *host,
		       struct tenon_error *err)
{
	const struct pci_bridge_ops ops = {.msi = bridge_msi,
					   .intx = bridge_intx,
					   .changed = bridge_changed,
					   .reset_awaited = bridge_reset_awaited,
					   .context = slot};
	const struct pci_bridge_options options = {
		.kind = bus && bus->kind == TENON_TOPOLOGY_BRIDGE ? PCI_BRIDGE_CONVENTIONAL : PCI_BRIDGE_ROOT_PORT,
		.number = number,
		.slot = !bus || (bus->kind == TENON_TOPOLOGY_PORT && !bus->ari),
		.isolated = slot->slots->mode == TENON_TOPOLOGY_MIRROR && (!bus || bus->isolated),
		.ari = bus && bus->ari,
	};
	slot->removable = options.slot;
	int code = pci_bridge_create(&options, &ops, &slot->bridge, err);
	return code < 0 ? code
			: pci_bridge_plug(host, slot->device, slot->function, shares_device(slot->slots, slot),
					  slot->bridge, err);
}

static int place_device(struct slot *slot, const struct tenon_topology_place *place, struct tenon_error *err)
{
	const struct tenon_device_place where = {
		.size = sizeof(where),
		.slot = slot->leader->bridge ? TENON_SLOT_ROOT_PORT : TENON_SLOT_ROOT_BUS,
		.multifunction = place->multifunction,
		.ari = place->ari,
		.ari_next = place->ari_next,
	};
	slot->bridge = slot->leader->bridge;
	slot->removable = slot->leader->removable;
	assigned_wire(slot->assigned, slot->wiring);
	return tenon_device_place(slot->assigned->device, &where, err);
}

/* Bridges by ascending place, so that their buses are numbered as an operating system would. */
static int plug_bridges(struct slots *slots, const struct tenon_topology *topology, unsigned devices,
			struct pci_host *host, struct tenon_error *err)
{
	struct slot *leaders[SLOTS_MAX];
	unsigned count = slots_leaders(slots, leaders), number = 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned index = (unsigned)(leaders[i] - slots->slot);
		const struct tenon_topology_bus *bus =
			index < devices ? &topology->buses[topology->places[index].bus] : NULL;
		if (bus && bus->kind == TENON_TOPOLOGY_ROOT)
			continue;
		int code = plug_bridge(leaders[i], bus, ++number, host, err);
		if (code < 0)
			return code;
	}
	return 0;
}

static int plug_devices(struct slots *slots, const struct tenon_topology *topology, unsigned devices,
			struct pci_host *host, struct tenon_error *err)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < devices; i++)
		code = place_device(&slots->slot[i], &topology->places[i], err);
	for (unsigned i = 0; code == 0 && i < devices; i++) {
		struct slot *slot = &slots->slot[i];
		if (!slot->bridge)
			code = pci_bus_add(host, &host->root, slot->device, slot->function, &slot->assigned->function,
					   err);
		else if (slot->leader == slot)
			code = slots_insert(slot, err);
	}
	return code;
}

int slots_arrange(struct slots *slots, const struct run_options *options, struct pci_host *host,
		  struct tenon_error *err)
{
	unsigned devices = options->device_count;
	struct tenon_topology *topology = calloc(1, sizeof(*topology));
	if (!topology)
		return tenon_fail(err, -ENOMEM, "the guest's topology: out of memory; free some memory");
	int code = topology_compute(slots, devices, topology, err);
	for (unsigned i = 0; code == 0 && i < devices; i++)
		take_place(slots, i, topology);
	if (code == 0)
		code = place_empty_ports(slots, devices, err);
	if (code == 0)
		code = plug_bridges(slots, topology, devices, host, err);
	if (code == 0)
		code = plug_devices(slots, topology, devices, host, err);
	free(topology);
	return code;
}

struct slot *slots_next_behind(struct slot *slot)
{
	const struct slots *slots = slot->slots;
	for (struct slot *next = slot + 1; next < slots->slot + slots->count; next++) {
		if (next->leader == slot->leader)
			return next;
	}
	return NULL;
}

int slots_insert(struct slot *leader, struct tenon_error *err)
{
	struct pci_placed functions[SLOTS_MAX];
	unsigned count = 0;
	for (struct slot *slot = leader; slot; slot = slots_next_behind(slot)) {
		if (slot->assigned)
			functions[count++] =
				(struct pci_placed){.devfn = slot->devfn, .function = &slot->assigned->function};
	}
	return pci_bridge_insert(leader->bridge, functions, count, err);
}

static int by_place(const void *a, const void *b)
{
	const struct slot *left = *(struct slot *const *)a, *right = *(struct slot *const *)b;
	return (int)(left->device << 3 | left->function) - (int)(right->device << 3 | right->function);
}

unsigned slots_leaders(struct slots *slots, struct slot *out[SLOTS_MAX])
{
	unsigned count = 0;
	for (unsigned i = 0; i < slots->count; i++) {
		if (slots->slot[i].leader == &slots->slot[i])
			out[count++] = &slots->slot[i];
	}
	qsort(out, count, sizeof(struct slot *), by_place);
	return count;
}

/* ---- Devices that come and go ---- */

void slots_place_late(struct slot *slot, bool bus_reset)
{
	pthread_mutex_lock(&slot->slots->lock);
	slot->devfn = 0;
	slot->bus_reset = bus_reset;
	snprintf(slot->why, sizeof(slot->why), "added while the guest ran, to an empty port");
	pthread_mutex_unlock(&slot->slots->lock);
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
	unsigned bus = slot->bridge ? pci_bridge_secondary(slot->bridge) : 0;
	/* An empty port is where the next device will be. */
	unsigned devfn = slot->assigned || !slot->bridge ? slot->devfn : 0;
	snprintf(text, capacity, "%02x:%02x.%x", bus, devfn >> 3, devfn & 7);
}

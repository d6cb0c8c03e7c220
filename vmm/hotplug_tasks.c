// SPDX-License-Identifier: MIT
/*
 * How a device comes and goes, step by step. Each step returns at once but for what the host takes to open, reset or close a
 * device; what the guest takes is waited for between steps.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hotplug_tasks.h"
#include "log.h"

/*
 * A slot that the guest has not done with yet (Linux rests for 1 s after it switched one off, and forgets what happens
 * meanwhile) is waited for before something is put in: after a surprise removal until the driver is gone, which may have
 * requests to give up first.
 */
#define INSERT_SECONDS 10
#define RETURN_SECONDS 120
/*
 * A press that the guest took without a sign of it is repeated after this time: pciehp drops one from before it was loaded, and a
 * reset drops all. Two that it has not looked at count as one, and one that it has makes the power indicator blink.
 */
#define PRESS_SECONDS 3

static const char *name_of(const struct slot *slot)
{
	return tenon_device_info(slot->assigned->device)->address;
}

static void answer(struct hotplug_request *request, const struct slot *slot, const char *address,
		   const struct tenon_error *error)
{
	if (!request)
		return;
	struct hotplug_result result = {0};
	if (error)
		result.error = *error;
	snprintf(result.address, sizeof(result.address), "%s", address ? address : "");
	if (slot)
		slot_name(slot, result.slot, sizeof(result.slot));
	request->done(request->context, &result);
	options_finish_device(&request->device);
	free(request);
}

static struct hotplug_task *task_of(struct hotplug_tasks *tasks, const struct slot *slot)
{
	return &tasks->of[slot - tasks->machine->slots.slot];
}

/* The task ends; who waits for it is told. */
static void finish(struct hotplug_task *task, const struct slot *slot, const char *address,
		   const struct tenon_error *error)
{
	struct hotplug_request *request = task->request;
	task->state = HOTPLUG_TASK_NONE;
	task->force = false;
	task->request = NULL;
	answer(request, slot, address, error);
}

/* The device is in no slot of the guest any more: gives it back to the host. */
static void close_device(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = task_of(tasks, slot);
	char address[64];
	snprintf(address, sizeof(address), "%s", name_of(slot));
	assigned_destroy(slots_take(&tasks->machine->slots, slot));
	/* No event of it can come any more; one that came is not the next device's. */
	atomic_store(&task->events, 0);
	finish(task, slot, address, NULL);
}

static void take_out(struct hotplug_tasks *tasks, struct slot *slot)
{
	pci_bridge_eject(slot->port);
	close_device(tasks, slot);
}

/* ---- Adding ---- */

static struct slot *find_device(struct machine *machine, const char *address)
{
	for (unsigned i = 0; i < machine->slots.count; i++) {
		struct slot *slot = &machine->slots.slot[i];
		if (slot->assigned &&
		    (strcmp(name_of(slot), address) == 0 || strcmp(slot->assigned->options->address, address) == 0))
			return slot;
	}
	return NULL;
}

static int check_add(struct machine *machine, const struct device_options *options, struct tenon_error *err)
{
	bool port = false, any = false;
	for (unsigned i = 0; i < machine->slots.count; i++) {
		const struct slot *slot = &machine->slots.slot[i];
		any |= slot->port != NULL;
		port |= slot->port && !slot->assigned && (!options->slot || options->slot == slot->number);
	}
	if (options->fd)
		return tenon_fail(err, -EINVAL, "%s: a running VM takes no open file; give the device's address",
				  options->address);
	if (find_device(machine, options->address))
		return tenon_fail(err, -EEXIST, "%s: the VM has it already; remove it first", options->address);
	if (options->slot && !port)
		return tenon_fail(err, -EBUSY, "%s: slot=%u is no empty root port; tenon ctl devices shows the VM's",
				  options->address, options->slot);
	if (!port)
		return tenon_fail(err, -ENOSPC, "%s: %s; %s", options->address,
				  any ? "no root port is empty" : "this VM has no root port to plug it into",
				  any ? "remove a device first, or start the VM with more --hotplug-ports"
				      : "start it with --hotplug-ports");
	return 0;
}

static uint64_t window_bytes(const struct slot *slot)
{
	const struct pci_bridge_windows *windows = &slot->placed.port_windows;
	return windows->memory_bytes + windows->prefetch_bytes;
}

/* The empty port with the smallest windows that the device fits into; one at rest, if there is one. */
static struct slot *choose_port(struct hotplug_tasks *tasks, const struct assigned *assigned, struct tenon_error *err)
{
	struct slots *slots = &tasks->machine->slots;
	const struct tenon_device_info *info = tenon_device_info(assigned->device);
	struct placement_device chosen = {0};
	struct slot *best = NULL;
	bool best_rests = false;
	for (unsigned i = 0; i < slots->count; i++) {
		struct slot *slot = &slots->slot[i];
		if (!slot->port || slot->assigned ||
		    (assigned->options->slot && assigned->options->slot != slot->number))
			continue;
		struct placement_device placed = {.name = info->address,
						  .bars = info->bars,
						  .rom_bytes = info->rom_bytes,
						  .port = slot->port,
						  .port_windows = slot->placed.port_windows};
		struct pci_slot_state state;
		if (placement_inside(&placed, err) < 0)
			continue;
		pci_bridge_slot(slot->port, &state);
		if (best && (best_rests != state.at_rest ? best_rests : window_bytes(best) <= window_bytes(slot)))
			continue;
		best = slot;
		best_rests = state.at_rest;
		chosen = placed;
	}
	if (best)
		best->placed = chosen;
	return best;
}

static void begin_insert(struct hotplug_tasks *tasks, struct slot *slot, struct hotplug_request *request,
			 unsigned seconds)
{
	struct hotplug_task *task = task_of(tasks, slot);
	task->state = HOTPLUG_TASK_INSERT;
	task->deadline_ns = log_now_ns() + seconds * HOTPLUG_SECOND_NS;
	task->request = request;
}

static int open_and_place(struct hotplug_tasks *tasks, struct assigned *assigned, struct slot **out,
			  struct tenon_error *err)
{
	struct machine *machine = tasks->machine;
	const struct assigned_machine parts = machine_for_devices(machine);
	/* The thread that maps memory at start uses the space until it has ended; opening must not overlap with that. */
	int code = machine->dma.started ? dma_memory_map(&machine->dma, err) : 0;
	if (code == 0)
		code = assigned_open(assigned, &parts, TENON_SLOT_ROOT_PORT, err);
	if (code == 0)
		code = tenon_space_check_resets(machine->space, err);
	if (code == 0)
		code = dma_memory_map(&machine->dma, err);
	if (code < 0)
		return code;
	struct slot *slot = choose_port(tasks, assigned, err);
	if (!slot)
		return -ENOSPC;
	assigned_wire(assigned, slot->number);
	code = slots_watch(&machine->slots, slot, assigned, err);
	*out = slot;
	return code;
}

static void add(struct hotplug_tasks *tasks, struct hotplug_request *request)
{
	struct machine *machine = tasks->machine;
	struct assigned *assigned = NULL;
	struct slot *slot = NULL;
	struct tenon_error error = {0};
	char address[64];
	snprintf(address, sizeof(address), "%s", request->device.address);

	uint64_t started = log_now_ns();
	int code = check_add(machine, &request->device, &error);
	if (code == 0)
		code = assigned_create(&request->device, &assigned, &error);
	if (code == 0) {
		assigned->own = request->device;
		assigned->options = &assigned->own;
		request->device = (struct device_options){0};
		code = open_and_place(tasks, assigned, &slot, &error);
	}
	if (code < 0) {
		assigned_destroy(assigned);
		answer(request, NULL, address, &error);
		return;
	}
	log_step(log_now_ns() - started, "%s: adding", address);
	begin_insert(tasks, slot, request, INSERT_SECONDS);
}

static void insert(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = task_of(tasks, slot);
	struct tenon_error error;
	char name[16];
	/* For a guest that boots and finds it; one that is told of it chooses its own. */
	assigned_set_bars(slot->assigned, slot->placed.address);
	/* Nothing else puts functions there. */
	if (pci_bridge_insert(slot->port, &slot->assigned->function, &error) < 0) {
		log_error(&error);
		return;
	}
	slot_name(slot, name, sizeof(name));
	log_info("%s: plugged in at the guest's %s", name_of(slot), name);
	finish(task, slot, name_of(slot), NULL);
}

/* ---- Removing ---- */

/* A guest that has not switched the slot on may still use the device: one that knows nothing of hot-plug slots. */
static bool guest_uses(const struct slot *slot)
{
	return tenon_device_config_read(slot->assigned->device, PCI_COMMAND, 2) &
	       (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* A press while the indicator blinks would cancel what the guest is about to do; one at a slot without power would switch it on. */
static void look_after_button(struct hotplug_task *task, const struct slot *slot, const struct pci_slot_state *state)
{
	if (log_now_ns() < task->press_ns)
		return;
	if (state->powered && !state->pressed && !state->blinking)
		pci_bridge_press_button(slot->port);
	task->press_ns = log_now_ns() + PRESS_SECONDS * HOTPLUG_SECOND_NS;
}

static void begin_remove(struct hotplug_tasks *tasks, struct slot *slot, struct hotplug_request *request,
			 unsigned seconds)
{
	struct hotplug_task *task = task_of(tasks, slot);
	struct pci_slot_state state;
	pci_bridge_slot(slot->port, &state);
	task->state = HOTPLUG_TASK_REMOVE;
	task->deadline_ns = log_now_ns() + seconds * HOTPLUG_SECOND_NS;
	task->force = !request;
	task->request = request;
	task->press_ns = 0;
	if (!state.powered && !guest_uses(slot))
		take_out(tasks, slot);
	else
		look_after_button(task, slot, &state);
}

static int check_remove(struct hotplug_tasks *tasks, const struct slot *slot, const struct hotplug_request *request,
			struct tenon_error *err)
{
	if (!slot)
		return tenon_fail(err, -ENODEV, "%s: this VM has no such device; tenon ctl devices lists them",
				  request->address);
	if (!slot->port)
		return tenon_fail(err, -EOPNOTSUPP,
				  "%s: it is on the guest's root bus, which nothing can leave; start the VM with "
				  "--device %s,root-port",
				  request->address, request->address);
	if (task_of(tasks, slot)->state == HOTPLUG_TASK_REMOVE && !request->force)
		return tenon_fail(err, -EBUSY,
				  "%s: the guest has been asked already; wait for it, or remove it with --force",
				  request->address);
	return 0;
}

static void remove_device(struct hotplug_tasks *tasks, struct hotplug_request *request)
{
	struct slot *slot = find_device(tasks->machine, request->address);
	struct tenon_error error;
	char address[64];
	snprintf(address, sizeof(address), "%s", request->address);
	if (check_remove(tasks, slot, request, &error) < 0) {
		answer(request, NULL, address, &error);
		return;
	}
	struct hotplug_task *task = task_of(tasks, slot);
	/* One that was never plugged in goes as it came, and one that is forced out answers both who asked. */
	if (task->state == HOTPLUG_TASK_INSERT || request->force) {
		take_out(tasks, slot);
		answer(request, slot, address, NULL);
		return;
	}
	begin_remove(tasks, slot, request,
		     request->timeout_seconds ? request->timeout_seconds : HOTPLUG_REMOVE_SECONDS);
}

static void remove_timed_out(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = task_of(tasks, slot);
	struct tenon_error error;
	if (task->force) {
		log_warning("%s: the guest did not release it; it is taken out", name_of(slot));
		take_out(tasks, slot);
		return;
	}
	pci_bridge_release_button(slot->port);
	tenon_fail(&error, -ETIMEDOUT,
		   "%s: the guest did not release it in time; try again when its driver is idle, or remove it with "
		   "--force",
		   name_of(slot));
	finish(task, slot, name_of(slot), &error);
}

/* ---- Events of the host ---- */

/* A reset that hits other devices of the guest is worse than the error. */
static bool resets_others(struct assigned *assigned, struct tenon_error *error)
{
	struct tenon_reset_plan plan = {.size = sizeof(plan)};
	if (tenon_device_reset_plan(assigned->device, &plan, error) < 0)
		return true;
	for (unsigned i = 0; i < plan.affected_count; i++) {
		if (plan.affected[i].owner == TENON_RESET_OWNER_SPACE) {
			tenon_fail(error, -EBUSY,
				   "%s: not reset after its error: that would reset %s too, which the guest uses; "
				   "remove it from the VM, or restart the VM",
				   tenon_device_info(assigned->device)->address, plan.affected[i].address);
			return true;
		}
	}
	return false;
}

/*
 * What the guest sees of a reset that it did not ask for: behind a port the device is pulled and plugged in again, which every
 * driver understands; on the root bus it comes back as from a function level reset, with the addresses of its BARs.
 */
static void reset_device(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = task_of(tasks, slot);
	struct assigned *assigned = slot->assigned;
	uint64_t bars[TENON_DEVICE_BARS + 1];
	struct tenon_error error;
	if (task->state != HOTPLUG_TASK_NONE)
		return; /* it leaves, or has not come yet: opening resets it */
	if (resets_others(assigned, &error)) {
		log_error(&error);
		return;
	}
	if (slot->port) {
		pci_bridge_eject(slot->port);
		in_use_wait(&assigned->config_in_use); /* a write from before would reach the device after its reset */
	}
	assigned_get_bars(assigned, bars);
	if (tenon_device_reset(assigned->device, &error) < 0)
		log_error(&error);
	else
		log_info("%s: reset after an error", name_of(slot));
	if (slot->port)
		begin_insert(tasks, slot, NULL, RETURN_SECONDS);
	else
		assigned_set_bars(assigned, bars);
}

static void give_back(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = task_of(tasks, slot);
	switch (task->state) {
	case HOTPLUG_TASK_NONE:
		log_warning("%s: the host wants this device back; the guest has %d s to release it", name_of(slot),
			    HOTPLUG_REQUEST_SECONDS);
		begin_remove(tasks, slot, NULL, HOTPLUG_REQUEST_SECONDS);
		break;
	case HOTPLUG_TASK_INSERT:
	case HOTPLUG_TASK_AWAY:
		take_out(tasks, slot);
		break;
	case HOTPLUG_TASK_REMOVE: /* the host asks again and again */
		task->force = true;
		break;
	}
}

/* On the root bus nothing can leave: there the guest reads ones, until the device is back. */
static void let_go(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = task_of(tasks, slot);
	if (!slot->port)
		return;
	if (!slot->assigned->options->reconnect || task->state == HOTPLUG_TASK_REMOVE) {
		take_out(tasks, slot);
		return;
	}
	pci_bridge_eject(slot->port);
	if (task->state == HOTPLUG_TASK_INSERT)
		finish(task, slot, name_of(slot), NULL);
	task->state = HOTPLUG_TASK_AWAY;
	task->deadline_ns = UINT64_MAX;
}

/* As after power-on, whatever the guest had. One that waits to be plugged in, or leaves, goes on with that. */
static void take_back(struct hotplug_tasks *tasks, struct slot *slot)
{
	enum hotplug_task_state state = task_of(tasks, slot)->state;
	if (!slot->port) {
		assigned_set_bars(slot->assigned, slot->placed.address);
		return;
	}
	if (state == HOTPLUG_TASK_NONE)
		pci_bridge_eject(slot->port);
	if (state == HOTPLUG_TASK_NONE || state == HOTPLUG_TASK_AWAY)
		begin_insert(tasks, slot, NULL, RETURN_SECONDS);
}

unsigned hotplug_tasks_merge(unsigned pending, enum hotplug_event event)
{
	return event | (event == HOTPLUG_EVENT_GONE ? pending & ~(unsigned)HOTPLUG_EVENT_BACK : pending);
}

static void take_events(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = task_of(tasks, slot);
	unsigned events = atomic_exchange(&task->events, 0);
	if (slot->assigned && events & HOTPLUG_EVENT_ERROR)
		reset_device(tasks, slot);
	if (slot->assigned && events & HOTPLUG_EVENT_REQUESTED)
		give_back(tasks, slot);
	if (slot->assigned && events & HOTPLUG_EVENT_GONE)
		let_go(tasks, slot);
	if (slot->assigned && events & HOTPLUG_EVENT_BACK)
		take_back(tasks, slot);
}

/* ---- Steps ---- */

static void look_at(struct hotplug_tasks *tasks, struct slot *slot, uint64_t now_ns)
{
	struct hotplug_task *task = task_of(tasks, slot);
	struct pci_slot_state state;
	take_events(tasks, slot);
	if (!slot->assigned || !slot->port || task->state == HOTPLUG_TASK_AWAY)
		return;
	pci_bridge_slot(slot->port, &state);
	bool late = now_ns >= task->deadline_ns;
	if (task->state == HOTPLUG_TASK_INSERT) {
		if (state.at_rest || late)
			insert(tasks, slot);
	} else if (!state.occupied) {
		log_info("%s: released by the guest", name_of(slot));
		close_device(tasks, slot);
	} else if (task->state == HOTPLUG_TASK_REMOVE && late) {
		remove_timed_out(tasks, slot);
	} else if (task->state == HOTPLUG_TASK_REMOVE) {
		look_after_button(task, slot, &state);
	}
}

void hotplug_tasks_step(struct hotplug_tasks *tasks, struct hotplug_request *request)
{
	struct slots *slots = &tasks->machine->slots;
	machine_lock_topology(tasks->machine);
	if (request && request->action == HOTPLUG_ADD)
		add(tasks, request);
	else if (request)
		remove_device(tasks, request);
	for (unsigned i = 0; i < slots->count; i++)
		look_at(tasks, &slots->slot[i], log_now_ns());
	machine_unlock_topology(tasks->machine);
}

uint64_t hotplug_tasks_deadline(const struct hotplug_tasks *tasks)
{
	uint64_t next = UINT64_MAX;
	for (unsigned i = 0; i < SLOTS_MAX; i++) {
		const struct hotplug_task *task = &tasks->of[i];
		if (task->state != HOTPLUG_TASK_NONE && task->deadline_ns < next)
			next = task->deadline_ns;
		if (task->state == HOTPLUG_TASK_REMOVE && task->press_ns < next)
			next = task->press_ns;
	}
	return next;
}

void hotplug_request_cancel(struct hotplug_request *request)
{
	struct tenon_error error;
	tenon_fail(&error, -ECANCELED, "the VM ended before this was done; run it again");
	answer(request, NULL, NULL, &error);
}

void hotplug_tasks_cancel(struct hotplug_tasks *tasks)
{
	for (unsigned i = 0; i < SLOTS_MAX; i++) {
		if (tasks->of[i].request)
			hotplug_request_cancel(tasks->of[i].request);
	}
}

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
#include <time.h>

#include "hotplug_tasks.h"
#include "log.h"
#include "topology.h"

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
/* A guest resets buses as often as it likes; what cannot be done is said this often for each. */
#define COMPLAINTS_MAX 4
/* One that fails for a reason that passes is tried again. */
#define RESET_AGAIN    5
#define RESET_AGAIN_MS 100

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

/* What is under way at a bridge is its leader's. */
static struct hotplug_task *task_of(struct hotplug_tasks *tasks, const struct slot *slot)
{
	return &tasks->of[slot->leader - tasks->machine->slots.slot];
}

static unsigned devices_behind(struct slot *slot)
{
	unsigned count = 0;
	if (!slot->bridge)
		return slot->assigned != NULL;
	for (struct slot *each = slot->leader; each; each = slots_next_behind(each))
		count += each->assigned != NULL;
	return count;
}

/* What comes and goes with the bridge's slot comes and goes alone. */
static bool is_alone(struct slot *slot)
{
	return slot->removable && devices_behind(slot) == 1;
}

/* A device behind the bridge, for messages. There is one. */
static const char *name_behind(struct slot *slot)
{
	struct slot *each = slot->leader;
	while (!each->assigned)
		each = slots_next_behind(each);
	return name_of(each);
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

/* What is behind the bridge leaves, and goes back to the host. @param how  for the log; NULL: whoever asked knows */
static void take_out(struct hotplug_tasks *tasks, struct slot *slot, const char *how)
{
	struct slots *slots = &tasks->machine->slots;
	struct hotplug_task *task = task_of(tasks, slot);
	struct slot *asked = task->request ? find_device(tasks->machine, task->request->address) : NULL;
	char address[64];
	snprintf(address, sizeof(address), "%s", asked ? name_of(asked) : name_behind(slot));
	pci_bridge_eject(slot->bridge);
	for (struct slot *each = slot->leader; each; each = slots_next_behind(each)) {
		if (!each->assigned)
			continue;
		if (how)
			log_info("%s: %s", name_of(each), how);
		assigned_destroy(slots_take(slots, each));
		/* No event of it can come any more; one that came is not the next device's. */
		atomic_store(&tasks->of[each - slots->slot].events, 0);
	}
	task->complaints = 0;
	finish(task, asked ? asked : slot, address, NULL);
}

/* ---- Adding ---- */

static bool is_empty_port(struct slot *slot)
{
	return slot->removable && slot->leader == slot && devices_behind(slot) == 0;
}

static int check_add(struct machine *machine, const struct device_options *options, struct tenon_error *err)
{
	bool port = false, any = false;
	for (unsigned i = 0; i < machine->slots.count; i++) {
		struct slot *slot = &machine->slots.slot[i];
		any |= slot->removable;
		port |= is_empty_port(slot) && (!options->slot || options->slot == slot->device);
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
	const struct pci_bridge_windows *windows = &slot->windows;
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
		if (!is_empty_port(slot) || (assigned->options->slot && assigned->options->slot != slot->device))
			continue;
		struct placement_device placed = {
			.name = info->address, .bars = info->bars, .rom_bytes = info->rom_bytes};
		struct pci_slot_state state;
		if (placement_inside(&placed, &slot->windows, err) < 0)
			continue;
		pci_bridge_slot(slot->bridge, &state);
		if (best && (best_rests != state.at_rest ? best_rests : window_bytes(best) <= window_bytes(slot)))
			continue;
		best = slot;
		best_rests = state.at_rest;
		chosen = placed;
	}
	if (best)
		memcpy(best->address, chosen.address, sizeof(chosen.address));
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
	const struct tenon_device_place place = {.size = sizeof(place), .slot = TENON_SLOT_ROOT_PORT};
	/* The thread that maps memory at start uses the space until it has ended; opening must not overlap with that. */
	int code = machine->dma.started ? dma_memory_map(&machine->dma, err) : 0;
	if (code == 0)
		code = assigned_open(assigned, &parts, err);
	if (code == 0)
		code = tenon_space_check_resets(machine->space, err);
	if (code == 0)
		code = dma_memory_map(&machine->dma, err);
	if (code < 0)
		return code;
	bool bus_reset = false;
	code = topology_check_late(&machine->slots, assigned, &bus_reset, err);
	if (code < 0)
		return code;
	struct slot *slot = choose_port(tasks, assigned, err);
	if (!slot)
		return -ENOSPC;
	slots_place_late(slot, bus_reset);
	assigned_wire(assigned, slot->wiring);
	code = tenon_device_place(assigned->device, &place, err);
	if (code == 0)
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
	for (struct slot *each = slot; each; each = slots_next_behind(each)) {
		if (each->assigned)
			assigned_set_bars(each->assigned, each->address);
	}
	/* Nothing else puts functions there. */
	if (slots_insert(slot, &error) < 0) {
		log_error(&error);
		return;
	}
	slot_name(slot, name, sizeof(name));
	log_info("%s: plugged in at the guest's %s", name_behind(slot), name);
	finish(task, slot, name_behind(slot), NULL);
}

/* ---- Removing ---- */

/* A guest that has not switched the slot on may still use the device: one that knows nothing of hot-plug slots. */
static bool guest_uses(struct slot *slot)
{
	uint32_t command = 0;
	for (struct slot *each = slot->leader; each; each = slots_next_behind(each)) {
		if (each->assigned)
			command |= tenon_device_config_read(each->assigned->device, PCI_COMMAND, 2);
	}
	return command & (PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* A press while the indicator blinks would cancel what the guest is about to do; one at a slot without power would switch it on. */
static void look_after_button(struct hotplug_task *task, const struct slot *slot, const struct pci_slot_state *state)
{
	if (log_now_ns() < task->press_ns)
		return;
	if (state->powered && !state->pressed && !state->blinking)
		pci_bridge_press_button(slot->bridge);
	task->press_ns = log_now_ns() + PRESS_SECONDS * HOTPLUG_SECOND_NS;
}

static void begin_remove(struct hotplug_tasks *tasks, struct slot *slot, struct hotplug_request *request,
			 unsigned seconds)
{
	struct hotplug_task *task = task_of(tasks, slot);
	struct pci_slot_state state;
	pci_bridge_slot(slot->bridge, &state);
	task->state = HOTPLUG_TASK_REMOVE;
	task->deadline_ns = log_now_ns() + seconds * HOTPLUG_SECOND_NS;
	task->force = !request;
	task->request = request;
	task->press_ns = 0;
	if (state.released || (!state.powered && !guest_uses(slot)))
		take_out(tasks, slot, NULL);
	else
		look_after_button(task, slot, &state);
}

static int check_remove(struct hotplug_tasks *tasks, struct slot *slot, const struct hotplug_request *request,
			struct tenon_error *err)
{
	if (!slot)
		return tenon_fail(err, -ENODEV, "%s: this VM has no such device; tenon ctl devices lists them",
				  request->address);
	if (!slot->removable)
		return tenon_fail(err, -EOPNOTSUPP,
				  "%s: it is in no hot-plug slot of the guest, so it cannot leave; start the VM with "
				  "--device %s,root-port, where its resets allow that",
				  request->address, request->address);
	if (!request->group && devices_behind(slot) > 1)
		return tenon_fail(err, -EBUSY,
				  "%s: it shares its slot with devices that it resets together with, and they leave "
				  "together; tenon ctl device-remove --group removes all of them",
				  request->address);
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
		take_out(tasks, slot, NULL);
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
		take_out(tasks, slot, "taken out: the guest did not release it");
		return;
	}
	pci_bridge_release_button(slot->bridge);
	tenon_fail(&error, -ETIMEDOUT,
		   "%s: the guest did not release it in time; try again when its driver is idle, or remove it with "
		   "--force",
		   name_behind(slot));
	finish(task, slot, name_behind(slot), &error);
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
 * What the guest sees of a reset that it did not ask for: a device that is alone in its slot is pulled and plugged in again, which
 * every driver understands; another comes back as from a function level reset, with the addresses of its BARs.
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
	bool alone = is_alone(slot);
	if (alone) {
		pci_bridge_eject(slot->bridge);
		in_use_wait(&assigned->config_in_use); /* a write from before would reach the device after its reset */
	}
	assigned_get_bars(assigned, bars);
	if (tenon_device_reset(assigned->device, &error) < 0)
		log_error(&error);
	else
		log_info("%s: reset after an error", name_of(slot));
	if (alone)
		begin_insert(tasks, slot->leader, NULL, RETURN_SECONDS);
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
		take_out(tasks, slot, "given back to the host");
		break;
	case HOTPLUG_TASK_REMOVE: /* the host asks again and again */
		task->force = true;
		break;
	}
}

/* What is not alone in a slot cannot leave: there the guest reads ones, until the device is back. */
static void let_go(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = task_of(tasks, slot);
	if (!is_alone(slot))
		return;
	if (!slot->assigned->options->reconnect || task->state == HOTPLUG_TASK_REMOVE) {
		take_out(tasks, slot, NULL);
		return;
	}
	pci_bridge_eject(slot->bridge);
	if (task->state == HOTPLUG_TASK_INSERT)
		finish(task, slot, name_of(slot), NULL);
	task->state = HOTPLUG_TASK_AWAY;
	task->deadline_ns = UINT64_MAX;
}

/* As after power-on, whatever the guest had. One that waits to be plugged in, or leaves, goes on with that. */
static void take_back(struct hotplug_tasks *tasks, struct slot *slot)
{
	enum hotplug_task_state state = task_of(tasks, slot)->state;
	if (!is_alone(slot)) {
		assigned_set_bars(slot->assigned, slot->address);
		return;
	}
	if (state == HOTPLUG_TASK_NONE)
		pci_bridge_eject(slot->bridge);
	if (state == HOTPLUG_TASK_NONE || state == HOTPLUG_TASK_AWAY)
		begin_insert(tasks, slot->leader, NULL, RETURN_SECONDS);
}

unsigned hotplug_tasks_merge(unsigned pending, enum hotplug_event event)
{
	return event | (event == HOTPLUG_EVENT_GONE ? pending & ~(unsigned)HOTPLUG_EVENT_BACK : pending);
}

static void take_events(struct hotplug_tasks *tasks, struct slot *slot)
{
	struct hotplug_task *task = &tasks->of[slot - tasks->machine->slots.slot];
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

/* ---- Resets by the guest ---- */

/* What resets together was put behind one bridge, so this hits nothing else. What the guest sees of it is all ones until it is done. */
static void reset_bus(struct hotplug_tasks *tasks, struct slot *leader)
{
	struct tenon_device *devices[SLOTS_MAX];
	unsigned count = 0;
	struct tenon_error error;
	for (struct slot *each = leader; each; each = slots_next_behind(each)) {
		if (!each->assigned)
			continue;
		in_use_wait(&each->assigned
				     ->config_in_use); /* a write from before would reach the device after its reset */
		devices[count++] = each->assigned->device;
	}
	struct hotplug_task *task = task_of(tasks, leader);
	const struct timespec pause = {.tv_nsec = RESET_AGAIN_MS * 1000000l};
	int code = tenon_bus_reset(devices, count, &error);
	for (unsigned i = 0; i < RESET_AGAIN && (code == -EAGAIN || code == -EBUSY); i++) {
		nanosleep(&pause, NULL);
		code = tenon_bus_reset(devices, count, &error);
	}
	if (code < 0 && task->complaints++ < COMPLAINTS_MAX)
		log_error(&error);
	/* Where there is no reset they are switched off, as by a function reset that there is not: the guest was promised none. */
	pci_bridge_reset_done(leader->bridge, code < 0 && code != -EOPNOTSUPP);
}

/* ---- Steps ---- */

/* Of a slot that leads, with devices behind its bridge. */
static void look_at_bridge(struct hotplug_tasks *tasks, struct slot *slot, uint64_t now_ns)
{
	struct hotplug_task *task = task_of(tasks, slot);
	struct pci_slot_state state;
	pci_bridge_slot(slot->bridge, &state);
	bool late = now_ns >= task->deadline_ns;
	if (task->state == HOTPLUG_TASK_INSERT) {
		if (state.at_rest || late)
			insert(tasks, slot);
	} else if (task->state == HOTPLUG_TASK_REMOVE && state.released) {
		take_out(tasks, slot, "released by the guest");
	} else if (task->state == HOTPLUG_TASK_REMOVE && late) {
		remove_timed_out(tasks, slot);
	} else if (pci_bridge_wants_reset(slot->bridge)) {
		reset_bus(tasks, slot);
	} else if (task->state == HOTPLUG_TASK_REMOVE) {
		look_after_button(task, slot, &state);
	}
}

static void look_at(struct hotplug_tasks *tasks, struct slot *slot, uint64_t now_ns)
{
	take_events(tasks, slot);
	if (slot->bridge && slot->leader == slot && devices_behind(slot) &&
	    task_of(tasks, slot)->state != HOTPLUG_TASK_AWAY)
		look_at_bridge(tasks, slot, now_ns);
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

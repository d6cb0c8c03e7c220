// SPDX-License-Identifier: MIT
/*
 * Resets devices as their plan says: each set that resets together is quiesced, reset once, and shown to the guest as at
 * power-on. Owns the order of these steps and the policies; what can be reset how is worked out in reset_plan.c.
 */
#include <errno.h>
#include <linux/pci_regs.h>

#include "device.h"

void reset_quiesce_hardware(struct tenon_device *device)
{
	struct config *config = &device->config;
	device->migration.quiesce_owed = device_migration_is_moving(device);
	if (device->migration.quiesce_owed)
		return;
	/* D0 first: on the way back from D3 the kernel restores the COMMAND that it saved on the way in. */
	if (config->pm && config_value16(config, config->pm + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK)
		device_hardware_config_write(device, config->pm + PCI_PM_CTRL, 2, 0);
	/* DMA ends before its payload sizes and flags change. */
	device_hardware_config_write(device, PCI_COMMAND, 2, 0);
	config_restore_device(device);
}

void reset_quiesce(struct tenon_device *device)
{
	interrupts_reset(device);
	config_set16(device->config.value, PCI_COMMAND, 0);
	bars_withdraw(device);
	bars_direct(device, true);
	reset_quiesce_hardware(device);
}

/* What the guest sees of a device that was reset, or at least quiesced. */
static void power_on(struct tenon_device *device, bool was_reset)
{
	if (was_reset)
		device_migration_was_reset(device);
	config_reset(device);
	device->reset.used = false;
	device->reset.dirty &= !was_reset;
	if (!device->reset.by_guest)
		device->guest_messages = 0;
}

/* Devices of a space. */
struct reset_set {
	const struct tenon_space *space;
	struct tenon_device *const *devices; /* NULL: all */
	unsigned count;
};

static bool has(const struct reset_set *set, const struct tenon_device *device)
{
	for (unsigned i = 0; set->devices && i < set->count; i++) {
		if (set->devices[i] == device)
			return true;
	}
	return !set->devices;
}

/* Goes through the set in the order of the space's list, whatever the caller's. @param member  NULL: from the start */
static struct space_member *next_of(const struct reset_set *set, const struct space_member *member)
{
	struct space_member *next = member ? member->next : space_members(set->space);
	while (next && !has(set, next->device))
		next = next->next;
	return next;
}

static void lock_set(const struct reset_set *set)
{
	for (struct space_member *member = next_of(set, NULL); member; member = next_of(set, member))
		pthread_mutex_lock(&member->device->lock);
	for (struct space_member *member = next_of(set, NULL); member; member = next_of(set, member))
		remote_begin(member->device, REMOTE_RESET_MS);
}

static void unlock_set(const struct reset_set *set)
{
	for (struct space_member *member = next_of(set, NULL); member; member = next_of(set, member)) {
		remote_end(member->device);
		pthread_mutex_unlock(&member->device->lock);
	}
}

static void lock_space(const struct tenon_space *space)
{
	const struct reset_set all = {.space = space};
	lock_set(&all);
}

static void unlock_space(const struct tenon_space *space)
{
	const struct reset_set all = {.space = space};
	unlock_set(&all);
}

/* Failures after which the same reset may work later. */
static bool is_passing(int code)
{
	return code == -EAGAIN || code == -EBUSY || code == -EINVAL || code == -ENOMEM;
}

/* A hot reset of all that the plan hits, with their locks held. */
static int reset_bus(struct tenon_device *device, const struct reset_plan *plan, struct tenon_error *err)
{
	for (unsigned i = 0; i < plan->public.affected_count; i++) {
		if (plan->devices[i])
			reset_quiesce(plan->devices[i]);
	}
	int code = device->transport->ops->hot_reset(device->transport, plan->group_fds, plan->group_fd_count, err);
	for (unsigned i = 0; i < plan->public.affected_count; i++) {
		struct tenon_device *affected = plan->devices[i];
		if (!affected)
			continue;
		affected->reset.done |= code == 0;
		affected->reset.bus_reset |= code == 0;
		affected->reset.bus_failed |= code < 0 && !is_passing(code);
		power_on(affected, code == 0);
	}
	return code;
}

/*
 * With the lock held. Nothing but the device's own quiescence happens when the plan is not allowed. One that does not answer must not
 * go on with its old DMA when it does, in memory that is somebody else's by then.
 */
static int reset_function(struct tenon_device *device, const struct reset_plan *plan, struct tenon_error *err)
{
	struct transport *transport = device->transport;
	reset_quiesce(device);
	int code = 0;
	if (plan->public.allowed)
		code = transport->ops->reset(transport, err);
	else if (device->reset.policy != TENON_RESET_NEVER)
		code = tenon_fail(err, -EOPNOTSUPP, "%s: cannot be reset: %s", device->address.name, plan->public.why);
	if (transport->remote && transport->health == TRANSPORT_HUNG)
		transport->remote->end(transport, "it did not reset in time");
	power_on(device, code == 0 && plan->public.allowed);
	return code;
}

/* With the locks of all that the plan may hit. After a bus reset that failed, what is left is tried. */
static int execute(struct tenon_device *device, const struct reset_plan *plan, struct tenon_error *err)
{
	if (!plan->hot || !plan->public.allowed)
		return reset_function(device, plan, err);
	struct tenon_error error;
	int code = reset_bus(device, plan, &error);
	if (code == 0)
		return 0;
	if (!device->transport->can_reset)
		return tenon_fail(err, code, "%s", error.message);
	device_log(device, TENON_LOG_WARNING, "%s", error.message);
	code = device->transport->ops->reset(device->transport, err);
	if (code == 0)
		device_migration_was_reset(device);
	return code;
}

int reset_by_guest(struct tenon_device *device, struct tenon_error *err)
{
	struct reset_plan plan;
	struct tenon_error error;
	device->reset.by_guest = true;
	reset_plan_make(device, RESET_ALONE, &plan);
	int code = execute(device, &plan, &error);
	device->reset.by_guest = false;
	if (code == -EOPNOTSUPP)
		return tenon_fail(err, code,
				  "%s: the guest's function reset only switched it off: no reset hits it alone; reset "
				  "the VM",
				  device->address.name);
	return code < 0 ? tenon_fail(err, code, "%s", error.message) : 0;
}

int tenon_device_reset(struct tenon_device *device, struct tenon_error *err)
{
	struct reset_plan plan;
	lock_space(device->space);
	reset_plan_make(device, RESET_WITH_SPACE, &plan);
	int code = execute(device, &plan, err);
	unlock_space(device->space);
	return code;
}

/* What a bus reset hits needs no reset of its own, so those whose plan it is go first. */
static void reset_all(struct tenon_space *space, bool by_bus, struct tenon_error *first)
{
	for (struct space_member *member = space_members(space); member; member = member->next) {
		struct tenon_device *device = member->device;
		struct reset_plan plan;
		struct tenon_error error;
		if (device->reset.done)
			continue;
		reset_plan_make(device, RESET_WITH_SPACE, &plan);
		if (by_bus && (!plan.hot || !plan.public.allowed))
			continue;
		device->reset.done = true;
		if (execute(device, &plan, &error) < 0 && first->code == 0)
			*first = error;
	}
}

int tenon_space_reset(struct tenon_space *space, struct tenon_error *err)
{
	struct tenon_error first = {0};
	lock_space(space);
	/* All of them before any is reset: no device may write into one that starts afresh. */
	for (struct space_member *member = space_members(space); member; member = member->next) {
		member->device->reset.done = false;
		reset_quiesce(member->device);
	}
	reset_all(space, true, &first);
	reset_all(space, false, &first);
	unlock_space(space);
	return first.code ? tenon_fail(err, first.code, "%s", first.message) : 0;
}

/* ---- Of a guest's bus ---- */

/* A plan that hits the device and no other. @return whether there is one */
static bool plan_alone(struct tenon_device *device, struct reset_plan *plan)
{
	reset_plan_make(device, RESET_ALONE, plan);
	return plan->public.allowed && plan->public.affected_count == 1;
}

/* The first device that does not reset alone; NULL: each does. */
static struct tenon_device *first_tied(const struct reset_set *set)
{
	for (struct space_member *member = next_of(set, NULL); member; member = next_of(set, member)) {
		struct reset_plan plan;
		if (!plan_alone(member->device, &plan))
			return member->device;
	}
	return NULL;
}

/* Whether the plan hits the set's devices, each of them and nothing else. A list that names one twice says nothing new. */
static bool is_exact(const struct reset_set *set, const struct reset_plan *plan)
{
	for (unsigned i = 0; i < plan->public.affected_count; i++) {
		if (!plan->devices[i] || !has(set, plan->devices[i]))
			return false;
	}
	for (unsigned i = 0; i < set->count; i++) {
		const struct tenon_device *device = set->devices[i];
		unsigned at = 0;
		while (at < plan->public.affected_count && plan->devices[at] != device)
			at++;
		if (at == plan->public.affected_count)
			return false;
	}
	return true;
}

static int reset_each(const struct reset_set *set, struct tenon_error *err)
{
	struct tenon_error first = {0};
	for (struct space_member *member = next_of(set, NULL); member; member = next_of(set, member)) {
		struct tenon_device *device = member->device;
		struct reset_plan plan;
		struct tenon_error error;
		int code;
		if (plan_alone(device, &plan)) {
			code = execute(device, &plan, &error);
		} else {
			power_on(device, false);
			code = tenon_fail(&error, -EAGAIN,
					  "%s: is not reset: what its reset would hit changed meanwhile; try again",
					  device->address.name);
		}
		if (code < 0 && first.code == 0)
			first = error;
	}
	return first.code ? tenon_fail(err, first.code, "%s", first.message) : 0;
}

/* Why the device's bus reset is not that of the set, and its own reset does not exist. */
static int refuse_set(const struct reset_set *set, struct tenon_device *tied, struct tenon_error *err)
{
	struct reset_plan plan;
	if (tied->reset.policy == TENON_RESET_NEVER)
		return tenon_fail(err, -EOPNOTSUPP,
				  "%s: is not reset: its resets are forbidden (reset=none); allow them",
				  tied->address.name);
	reset_plan_make_bus(tied, &plan);
	if (plan.public.method == TENON_RESET_NONE)
		return tenon_fail(
			err, -EOPNOTSUPP,
			"%s: is not reset: nothing resets it alone, nor with its bus; it is only switched off",
			tied->address.name);
	for (unsigned i = 0; plan.public.allowed && i < plan.public.affected_count; i++) {
		if (!plan.devices[i] || !has(set, plan.devices[i]))
			return tenon_fail(err, -EOPNOTSUPP,
					  "%s: is not reset: the host resets it only together with %s, which is not on "
					  "the guest's bus with it; put it there too",
					  tied->address.name, plan.public.affected[i].address);
	}
	if (plan.public.allowed)
		return tenon_fail(
			err, -EOPNOTSUPP,
			"%s: is not reset: others are on the guest's bus with it that the host does not reset "
			"together with it; give it a bus of its own",
			tied->address.name);
	return tenon_fail(err, -EOPNOTSUPP, "%s: is not reset: nothing resets it alone, and %s", tied->address.name,
			  plan.public.why);
}

/* With the locks of all of them. */
static int reset_set(const struct reset_set *set, struct tenon_error *err)
{
	struct tenon_error error = {0};
	struct reset_plan plan;
	for (struct space_member *member = next_of(set, NULL); member; member = next_of(set, member))
		reset_quiesce(member->device);
	reset_plan_make_bus(set->devices[0], &plan);
	if (plan.public.allowed && is_exact(set, &plan) && reset_bus(set->devices[0], &plan, &error) == 0)
		return 0;
	struct tenon_device *tied = first_tied(set);
	if (!tied && error.code)
		device_log(set->devices[0], TENON_LOG_WARNING, "%s", error.message);
	if (!tied)
		return reset_each(set, err);
	for (struct space_member *member = next_of(set, NULL); member; member = next_of(set, member))
		power_on(member->device, false);
	return error.code ? tenon_fail(err, error.code, "%s", error.message) : refuse_set(set, tied, err);
}

static void set_by_guest(const struct reset_set *set, bool by_guest)
{
	for (struct space_member *member = next_of(set, NULL); member; member = next_of(set, member))
		member->device->reset.by_guest = by_guest;
}

int tenon_bus_reset(struct tenon_device *const *devices, unsigned count, struct tenon_error *err)
{
	if (!devices || count == 0 || count > TENON_RESET_AFFECTED_MAX)
		return tenon_fail(err, -EINVAL, "bus reset: of %u devices; give 1 to %d", count,
				  TENON_RESET_AFFECTED_MAX);
	for (unsigned i = 0; i < count; i++) {
		const struct reset_set before = {.devices = devices, .count = i};
		if (!devices[i] || devices[i]->space != devices[0]->space || has(&before, devices[i]))
			return tenon_fail(err, -EINVAL,
					  "bus reset: device %u is NULL, of another space, or named twice; give each "
					  "device of one bus once",
					  i);
	}
	const struct reset_set set = {.space = devices[0]->space, .devices = devices, .count = count};
	lock_set(&set);
	set_by_guest(&set, true);
	int code = reset_set(&set, err);
	set_by_guest(&set, false);
	unlock_set(&set);
	return code;
}

/* ---- At open ---- */

/* Nobody in the space loses anything by the reset. */
static bool is_unused(const struct tenon_device *device, const struct reset_plan *plan)
{
	for (unsigned i = 0; i < plan->public.affected_count; i++) {
		if (plan->devices[i] && plan->devices[i] != device && plan->devices[i]->reset.used)
			return false;
	}
	return true;
}

static bool same_group(const struct tenon_device *a, const struct tenon_device *b)
{
	return a->info.iommu_group >= 0 && a->info.iommu_group == b->info.iommu_group;
}

/* A function of the same group was opened before and its bus reset; nobody reached this one since (reset_before_close). */
static bool was_hit_before(const struct tenon_device *device, const struct reset_plan *plan)
{
	for (unsigned i = 0; i < plan->public.affected_count; i++) {
		const struct tenon_device *other = plan->devices[i];
		if (other && other != device && other->reset.bus_reset && same_group(other, device))
			return true;
	}
	return false;
}

static int first_bus_reset(struct tenon_device *device, const struct reset_plan *plan, struct tenon_error *err)
{
	if (was_hit_before(device, plan)) {
		device->reset.bus_reset = true;
		return 0;
	}
	if (!is_unused(device, plan)) {
		device_log(device, TENON_LOG_WARNING,
			   "%s: keeps the state of its last user until the VM is reset: it resets only together with a "
			   "device that the guest uses",
			   device->address.name);
		return 0;
	}
	return reset_bus(device, plan, err);
}

static int hold_against_policy(struct tenon_device *device, const struct reset_plan *plan, struct tenon_error *err)
{
	if (plan->public.allowed || device->reset.policy == TENON_RESET_NEVER)
		return 0;
	if (device->reset.policy == TENON_RESET_REQUIRE)
		return tenon_fail(err, -EBUSY, "%s: its reset is required, but %s", device->address.name,
				  plan->public.why);
	if (!device->reset.warned)
		device_log(device, TENON_LOG_WARNING, "%s: cannot be reset: %s", device->address.name,
			   plan->public.why);
	device->reset.warned = true;
	return 0;
}

static int reset_first(struct tenon_device *device, struct tenon_error *err)
{
	struct reset_plan plan;
	reset_plan_make(device, RESET_WITH_SPACE, &plan);
	if (plan.hot && plan.public.allowed && !device->transport->can_reset) {
		struct tenon_error error;
		if (first_bus_reset(device, &plan, &error) < 0) {
			device_log(device, TENON_LOG_WARNING, "%s", error.message);
			reset_plan_make(device, RESET_WITH_SPACE, &plan);
		}
	}
	device->info.reset = plan.public.allowed ? plan.public.method : TENON_RESET_NONE;
	return plan.may_come ? 0 : hold_against_policy(device, &plan, err);
}

int reset_at_open(struct tenon_device *device, struct tenon_error *err)
{
	/* It joins the list last, so its lock is the last of the order. */
	lock_space(device->space);
	pthread_mutex_lock(&device->lock);
	int code = reset_first(device, err);
	pthread_mutex_unlock(&device->lock);
	unlock_space(device->space);
	return code;
}

void reset_before_close(struct tenon_device *device)
{
	if (!device->reset.dirty)
		return;
	for (struct space_member *member = space_members(device->space); member; member = member->next) {
		struct tenon_device *other = member->device;
		pthread_mutex_lock(&other->lock);
		other->reset.bus_reset &= !same_group(other, device);
		pthread_mutex_unlock(&other->lock);
	}
}

int tenon_space_check_resets(struct tenon_space *space, struct tenon_error *err)
{
	for (struct space_member *member = space_members(space); member; member = member->next) {
		struct reset_plan plan;
		pthread_mutex_lock(&member->device->lock);
		reset_plan_make(member->device, RESET_WITH_SPACE, &plan);
		member->device->info.reset = plan.public.allowed ? plan.public.method : TENON_RESET_NONE;
		int code = hold_against_policy(member->device, &plan, err);
		pthread_mutex_unlock(&member->device->lock);
		if (code < 0)
			return code;
	}
	return 0;
}

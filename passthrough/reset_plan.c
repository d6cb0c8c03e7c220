// SPDX-License-Identifier: MIT
/*
 * What a reset of a device would do, predicted from what the kernel tells: the method that VFIO_DEVICE_RESET would use, the devices
 * that a hot reset would hit, and who has each. Owns the words for why a reset is not possible; resets nothing.
 * Source: Linux drivers/pci/pci.c (pci_reset_fn_methods), drivers/vfio/pci/vfio_pci_core.c (hot reset and its info).
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "group.h"
#include "kernel.h"
#include "sized.h"

#define SYSFS_DEVICES  "/sys/bus/pci/devices/"
#define BLOCKERS_NAMED 3

SIZED_WHOLE(struct tenon_reset_affected, reserved);
SIZED_WHOLE(struct tenon_reset_plan, affected);

/* What the first version of the plan had: never changed, whatever is appended. */
#define PLAN_FIRST_BYTES SIZED_THROUGH(struct tenon_reset_plan, affected)

/* Why the kernel, or we, would not let a bus reset hit a device. */
enum obstacle {
	OBSTACLE_NONE,
	OBSTACLE_FOREIGN, /* a VFIO driver has it, but this space does not */
	OBSTACLE_DRIVER,  /* a driver of the host */
	OBSTACLE_UNBOUND, /* no driver: the kernel wants VFIO's on each, so that none appears during the reset */
	OBSTACLE_BRIDGE,
	OBSTACLE_VF, /* a VF and its PF do not reset together */
	OBSTACLE_NEVER,
};

/* The bus reset of a device. */
struct bus_reset {
	bool exists, allowed, may_come;
	unsigned count;          /* of devices that it hits */
	char text[384];          /* why not */
	const char *consequence; /* of there being no other reset either; or "" */
};

/* What VFIO_DEVICE_RESET would do. */
struct function_reset {
	enum tenon_reset_method method;
	/*
	 * The kernel names the bus, but binding found that it does not work: it failed, and then a hot reset fails too; or the
	 * device is not alone there. The kernel looked when it found the device, maybe before it found the others.
	 */
	bool bus_failed;
	char own[64]; /* why there is none */
};

__attribute__((format(printf, 3, 4))) static void append(char *text, size_t capacity, const char *format, ...)
{
	size_t used = strlen(text);
	va_list args;
	va_start(args, format);
	vsnprintf(text + used, capacity - used, format, args);
	va_end(args);
}

static bool sysfs_link(const char *bdf, const char *link, char *name, size_t capacity)
{
	char path[128];
	snprintf(path, sizeof(path), SYSFS_DEVICES "%.23s/%s", bdf, link);
	if (kernel_link_name(path, name, capacity) == 0)
		return true;
	name[0] = '\0';
	return false;
}

static bool is_bridge(const char *bdf)
{
	char path[128], line[32];
	snprintf(path, sizeof(path), SYSFS_DEVICES "%.23s/class", bdf);
	return kernel_read_line(path, line, sizeof(line)) > 0 && strncmp(line, "0x06", 4) == 0;
}

static bool is_vf(const char *bdf)
{
	char name[64];
	return sysfs_link(bdf, "physfn", name, sizeof(name));
}

/* What an older kernel (before 5.15), which does not tell its methods, would find first. */
static enum tenon_reset_method method_by_config(struct tenon_device *device, const char **name)
{
	const struct config *config = &device->config;
	*name = "flr";
	if (config->pcie && device_hardware_config_read(device, config->pcie + PCI_EXP_DEVCAP, 4) & PCI_EXP_DEVCAP_FLR)
		return TENON_RESET_FUNCTION;
	*name = "af_flr";
	if (config->af && device_hardware_config_read(device, config->af + PCI_AF_CAP, 1) & PCI_AF_CAP_FLR)
		return TENON_RESET_FUNCTION;
	*name = "pm";
	if (config->pm &&
	    !(device_hardware_config_read(device, config->pm + PCI_PM_CTRL, 2) & PCI_PM_CTRL_NO_SOFT_RESET))
		return TENON_RESET_POWER;
	*name = "a method that the kernel does not name";
	return TENON_RESET_FUNCTION;
}

/*
 * The method of VFIO_DEVICE_RESET: the first that the kernel lists, if binding found that it works. All of them, the kernel's "bus"
 * included (the device is alone on its bus then), hit this function only.
 */
static struct function_reset function_reset(struct tenon_device *device, char *why, size_t capacity)
{
	static const char *const words[] = {
		[TENON_RESET_FUNCTION] = "by the function itself",
		[TENON_RESET_BUS] = "by its bus, on which it is alone",
		[TENON_RESET_POWER] = "through D3hot and back",
	};
	char path[128], line[128] = "";
	const char *name = line;
	struct function_reset reset = {.method = TENON_RESET_FUNCTION, .own = "it has no reset of its own"};
	snprintf(path, sizeof(path), SYSFS_DEVICES "%s/reset_method", device->address.bdf);
	if (device->transport->remote && device->transport->can_reset) {
		append(why, capacity, "%s (its server's)", words[TENON_RESET_FUNCTION]);
		return reset;
	}
	ssize_t length = device->address.bdf[0] ? kernel_read_line(path, line, sizeof(line)) : -ENOENT;
	/* An empty file: what binding found was taken away since, and the kernel now refuses VFIO_DEVICE_RESET. */
	bool taken = length == 0 && device->transport->can_reset;
	if (length > 0) {
		line[strcspn(line, " ")] = '\0';
		if (strcmp(line, "pm") == 0)
			reset.method = TENON_RESET_POWER;
		if (strcmp(line, "bus") == 0 || strcmp(line, "cxl_bus") == 0)
			reset.method = TENON_RESET_BUS;
	} else if (device->transport->can_reset) {
		reset.method = method_by_config(device, &name);
	}
	if (device->transport->can_reset && !taken) {
		append(why, capacity, "%s (%s)", words[reset.method], name);
		return reset;
	}
	reset.bus_failed = reset.method == TENON_RESET_BUS;
	if (taken)
		snprintf(reset.own, sizeof(reset.own), "its reset_method in sysfs was emptied");
	else if (line[0] && !reset.bus_failed)
		snprintf(reset.own, sizeof(reset.own), "its own reset (%.20s) failed at open", line);
	reset.method = TENON_RESET_NONE;
	return reset;
}

/* The member that an entry of the kernel's list is. */
static struct tenon_device *find_member(struct tenon_device *device, enum reset_reach reach,
					const struct transport_hot_reset *info, const struct transport_affected *entry,
					const char *bdf)
{
	struct space_member *first = reach == RESET_ALONE ? NULL : space_members(device->space);
	if (info->by_device_id) {
		if (entry->id <= 0)
			return NULL;
		if ((uint32_t)entry->id == device->member.device_id)
			return device;
		for (struct space_member *member = first; member; member = member->next) {
			if (member->device_id == (uint32_t)entry->id)
				return member->device;
		}
		return NULL;
	}
	if (strcmp(bdf, device->address.bdf) == 0)
		return device;
	for (struct space_member *member = first; member; member = member->next) {
		if (strcmp(bdf, member->device->address.bdf) == 0)
			return member->device;
	}
	return NULL;
}

/* The file of a group that this space has, or -1. */
static int group_fd_of(struct tenon_device *device, int group)
{
	if (device->member.group == group)
		return device->member.group_fd;
	struct space_member *member = space_members(device->space);
	while (member && member->group != group)
		member = member->next;
	return member ? member->group_fd : -1;
}

static void add_group_fd(struct reset_plan *plan, int fd)
{
	for (unsigned i = 0; i < plan->group_fd_count; i++) {
		if (plan->group_fds[i] == fd)
			return;
	}
	plan->group_fds[plan->group_fd_count++] = fd;
}

/* Who has a device that is not the space's own, and why that is in the way. */
static enum obstacle judge_stranger(const struct tenon_device *device, const struct tenon_reset_affected *affected,
				    bool owned)
{
	/* The kernel has looked at what it numbers; a group's number says nothing of drivers. */
	if (owned && device->member.device_id)
		return OBSTACLE_NONE;
	if (is_vf(affected->address) || (device->address.bdf[0] && is_vf(device->address.bdf)))
		return OBSTACLE_VF;
	if (group_driver_is_vfio(affected->driver))
		return owned ? OBSTACLE_NONE : OBSTACLE_FOREIGN;
	if (is_bridge(affected->address))
		return OBSTACLE_BRIDGE;
	return affected->driver[0] ? OBSTACLE_DRIVER : OBSTACLE_UNBOUND;
}

static enum obstacle judge(struct tenon_device *device, enum reset_reach reach, const struct transport_hot_reset *info,
			   unsigned index, struct reset_plan *plan)
{
	const struct transport_affected *entry = &info->affected[index];
	struct tenon_reset_affected *affected = &plan->public.affected[index];
	snprintf(affected->address, sizeof(affected->address), "%04x:%02x:%02x.%x", entry->segment, entry->bus,
		 entry->devfn >> 3, entry->devfn & 7u);
	sysfs_link(affected->address, "driver", affected->driver, sizeof(affected->driver));
	char folder[64];
	snprintf(folder, sizeof(folder), "/sys/bus/pci/devices/%s", affected->address);
	affected->iommu_group = info->by_device_id ? group_of(folder) : entry->id;
	struct tenon_device *member = find_member(device, reach, info, entry, affected->address);
	plan->devices[index] = member;

	bool owned = info->by_device_id && entry->id == 0;
	if (!info->by_device_id) {
		/* A group's number does not tell whether the guest has that device of it: alone, only the device itself counts. */
		int fd = reach == RESET_WITH_SPACE || member == device ? group_fd_of(device, entry->id) : -1;
		owned = fd >= 0;
		if (owned)
			add_group_fd(plan, fd);
		else
			member = plan->devices[index] = NULL;
	}
	affected->owner = member == device ? TENON_RESET_OWNER_SELF
			  : member         ? TENON_RESET_OWNER_SPACE
			  : owned          ? TENON_RESET_OWNER_GROUP
					   : TENON_RESET_OWNER_OTHER;
	if (member == device)
		return OBSTACLE_NONE;
	if (member && member->reset.policy == TENON_RESET_NEVER)
		return OBSTACLE_NEVER;
	if (member && info->by_device_id)
		return OBSTACLE_NONE;
	enum obstacle obstacle = judge_stranger(device, affected, owned);
	if (obstacle != OBSTACLE_NONE && !member)
		affected->owner = TENON_RESET_OWNER_OTHER;
	return obstacle;
}

static void name_blocker(const struct tenon_reset_affected *affected, enum obstacle obstacle, char *text,
			 size_t capacity)
{
	char group[32] = "no IOMMU group";
	if (affected->iommu_group >= 0)
		snprintf(group, sizeof(group), "IOMMU group %d", affected->iommu_group);
	switch (obstacle) {
	case OBSTACLE_NONE:
		break;
	case OBSTACLE_FOREIGN:
		append(text, capacity, "%s (%s, driver %s, not this VM's)", affected->address, group, affected->driver);
		break;
	case OBSTACLE_DRIVER:
		append(text, capacity, "%s (%s, the host's driver %s)", affected->address, group, affected->driver);
		break;
	case OBSTACLE_UNBOUND:
		append(text, capacity, "%s (%s, no driver)", affected->address, group);
		break;
	case OBSTACLE_BRIDGE:
		append(text, capacity, "%s (a bridge)", affected->address);
		break;
	case OBSTACLE_VF:
		append(text, capacity, "%s (%s, which SR-IOV ties to it)", affected->address, group);
		break;
	case OBSTACLE_NEVER:
		append(text, capacity, "%s (%s, this VM's, with reset=none)", affected->address, group);
		break;
	}
}

static void advise(const struct tenon_reset_affected *affected, enum obstacle obstacle, char *text, size_t capacity)
{
	switch (obstacle) {
	case OBSTACLE_NONE:
		break;
	case OBSTACLE_FOREIGN:
		append(text, capacity, "; end whoever uses it and assign it to this VM too");
		break;
	case OBSTACLE_DRIVER:
	case OBSTACLE_UNBOUND:
		append(text, capacity, "; tenon bind %s, and assign it to this VM too", affected->address);
		break;
	case OBSTACLE_BRIDGE:
		append(text, capacity, "; move the device to a slot of its own");
		break;
	case OBSTACLE_VF:
		append(text, capacity, "; destroy the virtual functions first");
		break;
	case OBSTACLE_NEVER:
		append(text, capacity, "; allow its reset");
		break;
	}
}

/* The device itself first. @return false when the kernel's list does not name it */
static bool put_self_first(struct tenon_device *device, struct reset_plan *plan)
{
	for (unsigned i = 0; i < plan->public.affected_count; i++) {
		if (plan->devices[i] != device)
			continue;
		struct tenon_reset_affected self = plan->public.affected[i];
		plan->public.affected[i] = plan->public.affected[0];
		plan->public.affected[0] = self;
		plan->devices[i] = plan->devices[0];
		plan->devices[0] = device;
		return true;
	}
	return false;
}

static void judge_all(struct tenon_device *device, enum reset_reach reach, const struct transport_hot_reset *info,
		      struct reset_plan *plan, struct bus_reset *bus)
{
	unsigned blockers = 0, first = 0;
	enum obstacle first_obstacle = OBSTACLE_NONE;
	bus->may_come = true;
	plan->public.affected_count = info->count;
	for (unsigned i = 0; i < info->count; i++) {
		enum obstacle obstacle = judge(device, reach, info, i, plan);
		if (obstacle == OBSTACLE_NONE)
			continue;
		bus->may_come &= obstacle == OBSTACLE_FOREIGN;
		if (blockers == 0) {
			first = i;
			first_obstacle = obstacle;
			append(bus->text, sizeof(bus->text), "a reset of its bus would also hit ");
		} else if (blockers < BLOCKERS_NAMED) {
			append(bus->text, sizeof(bus->text), ", ");
		}
		if (blockers++ < BLOCKERS_NAMED)
			name_blocker(&plan->public.affected[i], obstacle, bus->text, sizeof(bus->text));
	}
	if (blockers > BLOCKERS_NAMED)
		append(bus->text, sizeof(bus->text), " and %u more", blockers - BLOCKERS_NAMED);
	if (blockers)
		advise(&plan->public.affected[first], first_obstacle, bus->text, sizeof(bus->text));
	bus->allowed = blockers == 0;
}

static void probe_bus(struct tenon_device *device, enum reset_reach reach, struct reset_plan *plan,
		      struct bus_reset *bus)
{
	struct transport_hot_reset info;
	struct tenon_error error;
	int code = device->transport->ops->hot_reset_info(device->transport, &info, &error);
	if (code < 0) {
		append(bus->text, sizeof(bus->text),
		       "the kernel does not tell what a reset of its bus would hit (%s); see the host's kernel log",
		       strerror(-code));
		return;
	}
	if (info.count == 0) {
		append(bus->text, sizeof(bus->text), "its bus cannot be reset");
		bus->consequence = "; it keeps what its last user left in it";
		return;
	}
	bus->exists = true;
	bus->count = info.count;
	if (info.count > TRANSPORT_AFFECTED_MAX) {
		append(bus->text, sizeof(bus->text),
		       "a reset of its bus would hit more than %d devices; move it to a slot of its own",
		       TRANSPORT_AFFECTED_MAX);
		return;
	}
	judge_all(device, reach, &info, plan, bus);
	if (!put_self_first(device, plan)) {
		bus->allowed = bus->may_come = false;
		plan->public.affected_count = 0;
		snprintf(bus->text, sizeof(bus->text),
			 "the kernel does not name it among what a reset of its bus would hit; report this kernel");
	} else if (bus->allowed && info.by_device_id && !info.owned) {
		bus->allowed = bus->may_come = false;
		snprintf(bus->text, sizeof(bus->text),
			 "the kernel says that its bus is not ours, but not why; report this kernel");
	}
}

/* Nothing but the device itself is hit. */
static void set_alone(struct tenon_device *device, struct reset_plan *plan)
{
	struct tenon_reset_affected *self = &plan->public.affected[0];
	memset(plan->public.affected, 0, sizeof(plan->public.affected));
	memset(plan->devices, 0, sizeof(plan->devices));
	*self = (struct tenon_reset_affected){.iommu_group = device->info.iommu_group, .owner = TENON_RESET_OWNER_SELF};
	snprintf(self->address, sizeof(self->address), "%.23s",
		 device->address.bdf[0] ? device->address.bdf : device->address.name);
	if (device->address.bdf[0])
		sysfs_link(device->address.bdf, "driver", self->driver, sizeof(self->driver));
	plan->devices[0] = device;
	plan->public.affected_count = 1;
	plan->group_fd_count = 0;
}

/* What was tried is not promised again. */
static void remember_failure(const struct tenon_device *device, const struct function_reset *function,
			     struct bus_reset *bus)
{
	if (!bus->exists || !((function->bus_failed && bus->count == 1) || device->reset.bus_failed))
		return;
	bus->allowed = bus->may_come = false;
	snprintf(bus->text, sizeof(bus->text), "the reset of its bus was tried and failed; see the host's kernel log");
}

/* @param own  why it is not another reset, before why it is not this one; NULL: nobody asked for another */
static void set_bus(struct tenon_device *device, const struct bus_reset *bus, const char *own, struct reset_plan *plan)
{
	char *why = plan->public.why;
	plan->public.method = TENON_RESET_BUS;
	plan->public.allowed = bus->allowed;
	plan->may_come = bus->may_come;
	plan->hot = true;
	if (plan->public.affected_count == 0)
		set_alone(device, plan);
	why[0] = '\0';
	if (!bus->allowed) {
		append(why, sizeof(plan->public.why), "%s%s%s", own ? own : "", own ? ", and " : "", bus->text);
		return;
	}
	append(why, sizeof(plan->public.why), "by its bus");
	for (unsigned i = 1; i < plan->public.affected_count && i <= BLOCKERS_NAMED; i++)
		append(why, sizeof(plan->public.why), "%s%s", i == 1 ? ", together with " : ", ",
		       plan->public.affected[i].address);
	if (plan->public.affected_count > BLOCKERS_NAMED + 1)
		append(why, sizeof(plan->public.why), " and %u more", plan->public.affected_count - BLOCKERS_NAMED - 1);
}

void reset_plan_make(struct tenon_device *device, enum reset_reach reach, struct reset_plan *plan)
{
	struct bus_reset bus = {.consequence = ""};
	*plan = (struct reset_plan){.public.size = sizeof(plan->public)};
	char *why = plan->public.why;
	if (device->reset.policy == TENON_RESET_NEVER) {
		set_alone(device, plan);
		append(why, sizeof(plan->public.why), "its resets are forbidden, so it is quiesced only; allow them");
		return;
	}
	struct function_reset function = function_reset(device, why, sizeof(plan->public.why));
	if (function.method != TENON_RESET_FUNCTION)
		probe_bus(device, reach, plan, &bus);
	if (function.method == TENON_RESET_BUS && bus.count > 1)
		function.method = TENON_RESET_NONE; /* others came since */
	if (function.method == TENON_RESET_NONE || function.method == TENON_RESET_POWER) {
		remember_failure(device, &function, &bus);
		if (bus.allowed || (bus.exists && function.method == TENON_RESET_NONE)) {
			set_bus(device, &bus, function.own, plan);
			return;
		}
		if (function.method == TENON_RESET_NONE)
			append(why, sizeof(plan->public.why), "%s, and %s%s", function.own, bus.text, bus.consequence);
		else
			append(why, sizeof(plan->public.why), ", because %s", bus.text);
	}
	set_alone(device, plan);
	plan->public.method = function.method;
	plan->public.allowed = function.method != TENON_RESET_NONE;
}

void reset_plan_make_bus(struct tenon_device *device, struct reset_plan *plan)
{
	struct bus_reset bus = {.consequence = ""};
	char *why = plan->public.why, own[sizeof(plan->public.why)] = "";
	*plan = (struct reset_plan){.public.size = sizeof(plan->public)};
	if (device->transport->remote)
		append(bus.text, sizeof(bus.text), "it is a device of another process, which is on no bus of the host");
	else if (device->address.uuid[0])
		append(bus.text, sizeof(bus.text), "it is a mediated device, which is on no bus of the host");
	else
		probe_bus(device, RESET_WITH_SPACE, plan, &bus);
	if (!bus.exists) {
		set_alone(device, plan);
		append(why, sizeof(plan->public.why), "%s; what remains is a reset of its own", bus.text);
		return;
	}
	const struct function_reset function = function_reset(device, own, sizeof(own));
	remember_failure(device, &function, &bus);
	if (device->reset.policy == TENON_RESET_NEVER) {
		bus.allowed = bus.may_come = false;
		snprintf(bus.text, sizeof(bus.text), "its resets are forbidden (reset=none); allow them");
	}
	set_bus(device, &bus, NULL, plan);
}

static int give_plan(struct tenon_device *device, void (*make)(struct tenon_device *device, struct reset_plan *plan),
		     struct tenon_reset_plan *plan, struct tenon_error *err)
{
	if (!device || !plan || plan->size < PLAN_FIRST_BYTES)
		return tenon_fail(err, -EINVAL,
				  "reset plan: no room for it; set .size = sizeof(struct tenon_reset_plan)");
	struct reset_plan whole;
	pthread_mutex_lock(&device->lock);
	make(device, &whole);
	pthread_mutex_unlock(&device->lock);
	sized_fill(plan, &whole.public, sizeof(whole.public), PLAN_FIRST_BYTES);
	return 0;
}

static void make_with_space(struct tenon_device *device, struct reset_plan *plan)
{
	reset_plan_make(device, RESET_WITH_SPACE, plan);
}

int tenon_device_reset_plan(struct tenon_device *device, struct tenon_reset_plan *plan, struct tenon_error *err)
{
	return give_plan(device, make_with_space, plan, err);
}

int tenon_device_bus_reset_plan(struct tenon_device *device, struct tenon_reset_plan *plan, struct tenon_error *err)
{
	return give_plan(device, reset_plan_make_bus, plan, err);
}

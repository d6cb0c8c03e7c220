// SPDX-License-Identifier: MIT
/*
 * The host's reset groups, and whether each is complete: all of it belongs to this VM, the host may reset it, and no member sees it
 * otherwise. Trusts nothing that the kernel says; knows nothing of the guest's buses, which topology.c makes of the groups.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sized.h"
#include "topology_groups.h"

#define MISSING_NAMED 3

void topology_bdf(uint32_t rid, char *bdf)
{
	snprintf(bdf, TOPOLOGY_BDF_BYTES, "%04x:%02x:%02x.%x", rid >> 16, rid >> 8 & 0xff, rid >> 3 & 0x1f, rid & 7);
}

__attribute__((format(printf, 2, 3))) static void append(struct topology_reason *why, const char *format, ...)
{
	size_t used = strlen(why->text);
	va_list args;
	va_start(args, format);
	vsnprintf(why->text + used, sizeof(why->text) - used, format, args);
	va_end(args);
}

static bool has_rid(const struct tenon_topology_device *device)
{
	return device->rid != TENON_TOPOLOGY_NO_RID;
}

static int check_device(const struct tenon_topology_device *device, unsigned index, struct tenon_error *err)
{
	if (!device->name || !device->name[0])
		return tenon_fail(err, -EINVAL, "topology: device %u has no name; give it one", index);
	if (device->affected_count > TENON_TOPOLOGY_MEMBERS_MAX)
		return tenon_fail(err, -EINVAL,
				  "%s: a reset of its bus hits %u devices, more than %d; move it to a slot of its own",
				  device->name, device->affected_count, TENON_TOPOLOGY_MEMBERS_MAX);
	if (device->affected_count > 0 && !device->affected)
		return tenon_fail(err, -EINVAL, "%s: affected_count is %u, but affected is NULL; set both",
				  device->name, device->affected_count);
	if (device->slot > 31)
		return tenon_fail(err, -EINVAL, "%s: the root bus has no slot %u; choose one of 1 to 31", device->name,
				  device->slot);
	if (device->wish != TENON_TOPOLOGY_ANYWHERE && device->wish != TENON_TOPOLOGY_BEHIND_PORT)
		return tenon_fail(err, -EINVAL, "%s: unknown wish %d; use one of enum tenon_topology_wish",
				  device->name, (int)device->wish);
	if (device->reset_group && has_rid(device))
		return tenon_fail(err, -EINVAL,
				  "%s: cannot be put into reset group %s: the host's kernel tells what resets with it; "
				  "leave the reset group out",
				  device->name, device->reset_group);
	if (!sized_is_zero(device->reserved, sizeof(device->reserved)))
		return tenon_fail(err, -EINVAL, "%s: reserved is not zero; use a library as new as the headers",
				  device->name);
	return 0;
}

static int check_pair(const struct tenon_topology_device *a, const struct tenon_topology_device *b,
		      struct tenon_error *err)
{
	if (strcmp(a->name, b->name) == 0)
		return tenon_fail(err, -EINVAL, "%s: is there twice; name it once", a->name);
	if (has_rid(a) && a->rid == b->rid) {
		char bdf[TOPOLOGY_BDF_BYTES];
		topology_bdf(a->rid, bdf);
		return tenon_fail(err, -EINVAL, "%s: is the same device, %s, as %s; assign it once", a->name, bdf,
				  b->name);
	}
	return 0;
}

int topology_host_read(const struct tenon_topology_device *devices, unsigned count, struct topology_host *host,
		       struct tenon_error *err)
{
	if (count > TENON_TOPOLOGY_DEVICES_MAX)
		return tenon_fail(err, -ENOSPC, "topology: %u devices, and a guest has room for %d; assign fewer",
				  count, TENON_TOPOLOGY_DEVICES_MAX);
	if (count > 0 && !devices)
		return tenon_fail(err, -EINVAL, "topology: %u devices, but no array of them; pass it", count);
	host->count = 0;
	for (unsigned i = 0; i < count; i++) {
		const struct tenon_topology_device *device = &devices[i];
		int code = check_device(device, i, err);
		for (unsigned j = 0; j < i && code == 0; j++)
			code = check_pair(device, &devices[j], err);
		if (code < 0)
			return code;
		/* Those without a RID sort last, because theirs is the highest, and stay in the caller's order. */
		unsigned at = host->count++;
		for (; at > 0 && host->devices[at - 1]->rid > device->rid; at--) {
			host->devices[at] = host->devices[at - 1];
			host->index[at] = host->index[at - 1];
		}
		host->devices[at] = device;
		host->index[at] = i;
	}
	return 0;
}

bool topology_share_iommu_group(const struct tenon_topology_device *a, const struct tenon_topology_device *b)
{
	return a->iommu_group >= 0 && a->iommu_group == b->iommu_group;
}

bool topology_port_is_own_reset(const struct tenon_topology_device *device)
{
	return has_rid(device) && device->affected_count == 0 && device->resets_alone;
}

static bool hits(const struct tenon_topology_device *device, uint32_t rid)
{
	for (unsigned i = 0; i < device->affected_count; i++) {
		if (device->affected[i] == rid)
			return true;
	}
	return false;
}

/* As sets: a strange kernel may name one twice. */
static bool same_set(const struct tenon_topology_device *a, const struct tenon_topology_device *b)
{
	for (unsigned i = 0; i < a->affected_count; i++) {
		if (!hits(b, a->affected[i]))
			return false;
	}
	for (unsigned i = 0; i < b->affected_count; i++) {
		if (!hits(a, b->affected[i]))
			return false;
	}
	return true;
}

/* The devices of the VM that a reset of the device's bus hits. */
static uint64_t hit_devices(const struct topology_host *host, const struct tenon_topology_device *device)
{
	uint64_t set = 0;
	for (unsigned i = 0; i < host->count; i++) {
		if (has_rid(host->devices[i]) && hits(device, host->devices[i]->rid))
			set |= topology_bit(i);
	}
	return set;
}

static bool is_assigned(const struct topology_host *host, uint64_t set, uint32_t rid)
{
	for (; set; set &= set - 1) {
		if (host->devices[topology_first(set)]->rid == rid)
			return true;
	}
	return false;
}

/* Whom the VM lacks of the device's group. @return whether it lacks anybody */
static bool name_missing(const struct topology_host *host, const struct tenon_topology_device *device, uint64_t set,
			 struct topology_reason *why)
{
	unsigned missing = 0;
	for (unsigned i = 0; i < device->affected_count; i++) {
		char bdf[TOPOLOGY_BDF_BYTES];
		if (is_assigned(host, set, device->affected[i]))
			continue;
		topology_bdf(device->affected[i], bdf);
		if (missing++ < MISSING_NAMED)
			append(why, missing == 1 ? "a reset of its bus would also hit %s" : ", %s", bdf);
	}
	if (missing > MISSING_NAMED)
		append(why, " and %u more", missing - MISSING_NAMED);
	if (missing > 0)
		append(why, ", which this VM does not have; assign %s too", missing == 1 ? "it" : "them");
	return missing > 0;
}

/* A device of the host. */
static uint64_t complete_by_host(const struct topology_host *host, unsigned device, struct topology_reason *why)
{
	const struct tenon_topology_device *own = host->devices[device];
	if (own->affected_count == 0) {
		append(why, "%s", own->why_not ? own->why_not : "the host has no reset of its bus");
		return 0;
	}
	if (!hits(own, own->rid)) {
		append(why, "the kernel does not name it among what a reset of its bus would hit; report this kernel");
		return 0;
	}
	/* The host knows more than which RIDs there are: who has them, and what can be done about it. */
	if (!own->bus_reset_allowed && own->why_not) {
		append(why, "%s", own->why_not);
		return 0;
	}
	uint64_t set = hit_devices(host, own);
	if (name_missing(host, own, set, why))
		return 0;
	for (uint64_t left = set; left; left &= left - 1) {
		const struct tenon_topology_device *other = host->devices[topology_first(left)];
		if (!same_set(own, other)) {
			append(why,
			       "a reset of its bus would also hit %s, whose bus reset hits other devices; a newer "
			       "kernel may tell one set for both",
			       other->name);
			return 0;
		}
		if (!other->bus_reset_allowed) {
			append(why, "this VM may not reset the bus of %s: %s", other->name,
			       other->why_not ? other->why_not : "the reason is not known; see tenon check");
			return 0;
		}
	}
	return set;
}

/* A device in another process, or made by a host driver: it resets with those that its user says. Only such have a reset group. */
static uint64_t complete_by_user(const struct topology_host *host, unsigned device, struct topology_reason *why)
{
	const char *name = host->devices[device]->reset_group;
	uint64_t set = topology_bit(device);
	for (unsigned i = 0; i < host->count && name; i++) {
		const struct tenon_topology_device *other = host->devices[i];
		if (other->reset_group && strcmp(other->reset_group, name) == 0)
			set |= topology_bit(i);
	}
	for (uint64_t left = set; left; left &= left - 1) {
		const struct tenon_topology_device *other = host->devices[topology_first(left)];
		if (other->resets_alone)
			continue;
		if (set == topology_bit(device))
			append(why, "nothing resets it: %s",
			       other->why_not ? other->why_not : "give it a server or driver that can");
		else
			append(why, "%s of reset group %s has no reset; take it out of that group", other->name, name);
		return 0;
	}
	return set;
}

uint64_t topology_complete_group(const struct topology_host *host, unsigned device, struct topology_reason *why)
{
	why->text[0] = '\0';
	return has_rid(host->devices[device]) ? complete_by_host(host, device, why)
					      : complete_by_user(host, device, why);
}

/* SPDX-License-Identifier: MIT */
/*
 * The host's facts as a topology needs them: checked, in an order that does not depend on the caller, and with the verdict whether
 * the host resets exactly a device's group. A set of devices is a mask: bit N is the Nth device of the order.
 */
#ifndef TOPOLOGY_GROUPS_H
#define TOPOLOGY_GROUPS_H

#include <tenon/topology.h>

_Static_assert(TENON_TOPOLOGY_DEVICES_MAX <= 64, "a set of devices is a mask of 64 bits");

struct topology_host {
	unsigned count;
	const struct tenon_topology_device *devices[TENON_TOPOLOGY_DEVICES_MAX]; /* by RID, then those that have none */
	unsigned index[TENON_TOPOLOGY_DEVICES_MAX];                              /* in the caller's array */
};

/* Why a device's group gets no bus reset, or why a wish is refused. */
struct topology_reason {
	char text[464]; /* "cause; what to do" */
};

#define TOPOLOGY_BDF_BYTES sizeof("ffff:ff:ff.7")

/* @param bdf  TOPOLOGY_BDF_BYTES */
void topology_bdf(uint32_t rid, char *bdf);

/** @return 0; -EINVAL, -ENOSPC: facts that nothing can be planned from */
int topology_host_read(const struct tenon_topology_device *devices, unsigned count, struct topology_host *host,
		       struct tenon_error *err);

/**
 * The devices of the VM that reset together with a device, itself included, where exactly these do.
 *
 * @param why  set where it returns 0
 * @return 0: the group is not complete
 */
uint64_t topology_complete_group(const struct topology_host *host, unsigned device, struct topology_reason *why);

/** The host offers no reset of its bus, but the device resets by itself: behind a port of its own, that is what the port's reset is. */
bool topology_port_is_own_reset(const struct tenon_topology_device *device);

/** Whether two devices share an IOMMU group on the host. */
bool topology_share_iommu_group(const struct tenon_topology_device *a, const struct tenon_topology_device *b);

static inline uint64_t topology_bit(unsigned device)
{
	return UINT64_C(1) << device;
}

/** The lowest device of a set that is not empty; `set &= set - 1` is the set without it. */
static inline unsigned topology_first(uint64_t set)
{
	return (unsigned)__builtin_ctzll(set);
}

static inline unsigned topology_size(uint64_t set)
{
	return (unsigned)__builtin_popcountll(set);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the host, or a process on it, uses a device for: mounted disks, swap, RAID and device mapper, network interfaces, consoles,
 * displays, open device nodes, VFs. Asked before a device is taken away, and shown as the reason why it cannot be assigned.
 */
#ifndef USAGE_H
#define USAGE_H

#include "inventory.h"

#define USES_MAX 12

/* What goes on on the host at this moment, read once for all devices. */
struct activity {
	char *mounts;   /* /proc/self/mountinfo */
	char *swaps;    /* /proc/swaps */
	char *routes;   /* /proc/net/route */
	char *consoles; /* /sys/class/tty/console/active */
	struct open_node *nodes;
	unsigned node_count;
};

/* A process that has a device node open. */
struct open_node {
	unsigned pid;
	char process[NAME_BYTES];
	char node[NAME_BYTES * 2];
};

struct use {
	char what[240]; /* "/dev/nvme0n1p2 is mounted on /home" */
	char fix[160];  /* a command, or what to do */
	bool by_vfio;   /* a user of VFIO has it, such as a running VM */
};

struct uses {
	struct use list[USES_MAX]; /* the first ones, where there are more */
	unsigned count;
};

void activity_read(const struct host *host, struct activity *activity);
void activity_finish(struct activity *activity);

void usage_find(const struct host *host, const struct activity *activity, const struct device *device,
		struct uses *uses);

/** The VFIO user of a device, or of its group through the container interface; NULL: none that this process may see. */
const struct open_node *usage_vfio_holder(const struct host *host, const struct activity *activity,
					  const struct device *device);

/** Whether anything has one of the device's disks for itself that usage_find could not name. @param node  receives it */
bool usage_claimed(const struct host *host, const struct device *device, char *node, size_t capacity);

/** The device's VFIO character device and the node of its group; "" where there is none. */
void device_vfio_nodes(const struct host *host, const struct device *device, char cdev[NAME_BYTES],
		       char group[NAME_BYTES]);

#endif

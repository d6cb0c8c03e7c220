/* SPDX-License-Identifier: MIT */
/*
 * What the library's parts share about one device. Each part owns one member struct and is called with the lock held,
 * except where it says otherwise; a part reaches the device only through `transport` and the VMM only through `ops`.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>

#include "address.h"
#include "bars.h"
#include "config.h"
#include "events.h"
#include "interrupts.h"
#include "migration.h"
#include "remote.h"
#include "reset.h"
#include "rom.h"
#include "space.h"
#include "transport.h"

struct tenon_device {
	pthread_mutex_t lock;
	struct address address;
	struct tenon_device_info info;
	struct tenon_space *space;
	struct space_member member;
	struct tenon_host_ops known_ops;  /* the caller's, with those absent that its version lacks */
	const struct tenon_host_ops *ops; /* known_ops */
	void *host;
	int fd;          /* the device's file; owned by `transport` once that exists; -1 before */
	bool file_added; /* this device's operations gave the hypervisor that file, or that of the device's group */
	struct transport *transport;
	struct config config;
	struct bars bars;
	struct rom rom;
	struct interrupts interrupts;
	struct events events;
	struct reset_state reset;
	struct remote remote;
	struct migration migration;
	unsigned
		guest_messages; /* log lines that the guest caused; bounded, so that a hostile guest cannot flood the log */
};

/** Logs one line through the VMM, at most 64 per device between resets: most are caused by the guest. */
void device_log(struct tenon_device *device, enum tenon_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/** Logs an error that a callee recorded. */
void device_log_error(struct tenon_device *device, const struct tenon_error *error);

/** Reads a little-endian value of the device's own config space; all ones when the device does not answer. */
uint32_t device_hardware_config_read(struct tenon_device *device, unsigned offset, unsigned size_bytes);
void device_hardware_config_write(struct tenon_device *device, unsigned offset, unsigned size_bytes, uint32_t value);

#endif

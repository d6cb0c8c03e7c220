/* SPDX-License-Identifier: MIT */
/* What the host tells about the device while it runs: errors (AER) and "give it back", by eventfds. */
#ifndef EVENTS_H
#define EVENTS_H

#include <tenon/device.h>

struct tenon_device;

struct events {
	int error_fd; /* -1: the device has no such event */
	int request_fd;
	int poll_fd;
};

int events_init(struct tenon_device *device, struct tenon_error *err);
void events_finish(struct tenon_device *device);
enum tenon_device_event events_next(struct tenon_device *device);

#endif

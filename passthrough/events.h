/* SPDX-License-Identifier: MIT */
/*
 * What the VMM's event loop is woken for, gathered behind one file descriptor: the host's news of the device (errors, "give
 * it back"), and interrupts that user space has a hand in.
 */
#ifndef EVENTS_H
#define EVENTS_H

#include <tenon/device.h>

struct tenon_device;

/* What a file descriptor in the set stands for; below EVENT_ID_ERROR: the message vector of that number. */
enum event_id { EVENT_ID_ERROR = 0x10000, EVENT_ID_REQUEST, EVENT_ID_INTX, EVENT_ID_REMOTE, EVENT_ID_REMOTE_TIMER };

struct events {
	int error_fd; /* -1: the device has no such event */
	int request_fd;
	int poll_fd;
};

int events_init(struct tenon_device *device, struct tenon_error *err);
void events_finish(struct tenon_device *device);
enum tenon_device_event events_next(struct tenon_device *device);

#endif

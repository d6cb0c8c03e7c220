/* SPDX-License-Identifier: MIT */
/*
 * A device in another process that can hang, die and come back. For as long as a guest's access waits, the device's lock is held, so
 * the wait is short: all that one access asks of the server has timeout_ms. What is not answered by then reads as ones, and so
 * does everything after it, at once, until the server answers.
 *
 * A device that is gone reads as ones everywhere, as one that was pulled out: its BARs are not mapped into the guest any more, its
 * interrupts are off. Where it is to be reconnected, the event loop tries, first soon and then less and less often; the guest then
 * finds it as after power-on.
 *
 * All of this does nothing for a device of the kernel's.
 */
#ifndef REMOTE_H
#define REMOTE_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>

#define REMOTE_TIMEOUT_MS     250u /* unless the caller chose another */
#define REMOTE_TIMEOUT_MS_MAX 10000u
#define REMOTE_RESET_MS       500u

struct tenon_device;

struct remote {
	bool reconnect;
	unsigned timeout_ms; /* for all that one access asks */
	bool lost;           /* it is gone, and the guest was told by ones */
	bool hung;           /* the user was told that it does not answer */
	int timer;           /* wakes the event loop for news and attempts; -1 */
	unsigned wait_ms;    /* before the next attempt, if this one fails */
	unsigned pause_ms;   /* before the first, when the VMM has been told that it is gone */
	bool was_back;       /* it came back at: */
	uint64_t back_ns;
	bool refusal_told;         /* the user was told why an attempt failed */
	bool gone_news, back_news; /* events that the VMM has not taken */
};

/** Watches the other end. After events_init. */
int remote_init(struct tenon_device *device, struct tenon_error *err);
void remote_finish(struct tenon_device *device);

/**
 * What has become of the other end while the device was opened: what failed first, whatever failed or did not fail because of it.
 *
 * @param code  of opening
 * @return it, or the other end's failure, in `err`
 */
int remote_check_open(struct tenon_device *device, int code, struct tenon_error *err);

/** Before anything is asked of the device, and after: what has become of the other end. With the device's lock held. */
void remote_begin(struct tenon_device *device, unsigned milliseconds);
void remote_end(struct tenon_device *device);

/** The event loop's share. @return an event for the VMM, or TENON_DEVICE_EVENT_NONE */
enum tenon_device_event remote_run(struct tenon_device *device);

#endif

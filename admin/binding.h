/* SPDX-License-Identifier: MIT */
/*
 * Moves one device between drivers by driver_override, and remembers in /run/tenon/bind what it had before, so that it can be
 * given back. Callers hold binding_lock. Source: Linux Documentation/ABI/testing/sysfs-bus-pci, drivers/base/bus.c.
 */
#ifndef BINDING_H
#define BINDING_H

#include "inventory.h"

/* What a device had before it was taken. */
struct previous {
	bool known;              /* false: it was not tenon bind that took it */
	char driver[NAME_BYTES]; /* "": none */
	char override[NAME_BYTES];
};

/** @return a file descriptor to close, or -errno */
int binding_lock(const struct host *host, struct tenon_error *err);

/** @return 0, also when nothing is remembered (`known` is false then); -EBADMSG: the file is damaged */
int binding_recall(const struct host *host, const char *bdf, struct previous *previous, struct tenon_error *err);

/** Makes sure that the kernel has the driver, loading its module where it can. */
int binding_find_driver(const struct host *host, const char *driver, struct tenon_error *err);

/** Gives the device to `driver`. On failure it has its previous driver again, or the message says that it has not. */
int binding_take(const struct host *host, const struct device *device, const char *driver, struct tenon_error *err);

/** Whether a previous driver of the device is remembered. */
bool binding_is_noted(const struct host *host, const char *bdf);

/** Drops what is remembered of a device. */
void binding_forget(const struct host *host, const char *bdf);

/** Puts a device that binding_take took back to what `device` says. @param noted  keep the note, which is older */
int binding_undo(const struct host *host, const struct device *device, bool noted, struct tenon_error *err);

/** Gives the device back to what it had. @param now  receives the driver that it has then; "": none */
int binding_give_back(const struct host *host, const struct device *device, const struct previous *previous,
		      char now[NAME_BYTES], struct tenon_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/* How a device comes from its address into its space: found, opened, bound and joined, through whichever interface. */
#ifndef BINDING_H
#define BINDING_H

#include <tenon/device.h>

struct tenon_device;

/** Up to an open transport. After a failure, as ever, binding_close. */
int binding_open(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err);

/** Gives back whatever binding_open got. */
void binding_close(struct tenon_device *device);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What of the guest's config space follows from where the guest sees the device: the PCI Express device type and link, the
 * multi-function bit, and the ARI capability.
 */
#ifndef PLACE_H
#define PLACE_H

#include <tenon/device.h>

/**
 * Makes power-on's config space from config.unplaced, and shows it. With the device's lock held, or at open.
 *
 * @return 0; -ENOSPC no room for an ARI capability, and nothing is changed
 */
int place_set(struct tenon_device *device, const struct tenon_device_place *place, struct tenon_error *err);

#endif

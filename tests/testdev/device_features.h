/* SPDX-License-Identifier: MIT */
/* The device features of VFIO that vfio-user carries: migration states, and the log of the device's DMA. */
#ifndef DEVICE_FEATURES_H
#define DEVICE_FEATURES_H

#include <stdint.h>

#include "commands.h"

struct testdev;

int feature_execute(struct testdev *device, const struct message *message, struct reply *reply);

/** Size of a bitmap for a range, in whole 64-bit words; 0 when range or page size make no sense, or it is beyond reason. */
uint64_t feature_bitmap_bytes(uint64_t address, uint64_t bytes, uint64_t page_bytes);

/** Fills a bitmap, which is zero, from the log, and clears the log there. */
void feature_report(struct testdev *device, uint64_t address, uint64_t bytes, uint64_t page_bytes, uint8_t *bitmap);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The data of devices that stand, read by a thread for each, so that all of them read at the same time, and while the last pages are sent. What is
 * read and not sent yet is bounded.
 */
#ifndef PUMP_H
#define PUMP_H

#include <tenon-migration/migratable.h>

struct pump;

/** Begins to read. @param device  borrowed until pump_destroy */
int pump_create(const struct tenon_migratable *device, struct pump **out, struct tenon_error *err);
/** Waits for the call that the thread is in. NULL is accepted. */
void pump_destroy(struct pump *pump);

/**
 * Waits for the next piece.
 *
 * @param data  valid until the next call
 * @return its bytes; 0: that was all; or the device's error
 */
int64_t pump_take(struct pump *pump, const void **data, struct tenon_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * One line for each check, in the Test Anything Protocol:
 *
 *   ok 3 - 01:00.0 msi-x: 64 vectors; vector 5 delivered after 21000 ns # time_ns=310000
 *   not ok 4 - 01:00.0 dma: ...
 *   ok 5 - 01:00.0 flr: the device has none # SKIP
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>

#include "pci.h"

/** A check of that device begins; it ends with exactly one of the three below. */
void check_begin(const struct function *function, const char *name);

void check_pass(const char *format, ...) __attribute__((format(printf, 1, 2)));
void check_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void check_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Prints the plan. @return how many failed */
unsigned check_end(void);

#endif

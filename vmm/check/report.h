/* SPDX-License-Identifier: MIT */
/*
 * What the firmware's self-test says on its serial port (firmware/check.h), taken apart, and shown in one of three forms. Devices
 * can put text into it: nothing of it is trusted, and only printable characters are passed on.
 */
#ifndef CHECK_REPORT_H
#define CHECK_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum report_form { REPORT_TEXT, REPORT_JSON, REPORT_TAP };

struct report;

struct report_sums {
	unsigned passed, failed, skipped;
	bool complete; /* the self-test came to its end */
};

/** @return NULL: out of memory */
struct report *report_create(enum report_form form);
void report_destroy(struct report *report); /* NULL is accepted */

/** Takes what the guest printed, in any pieces. Text and TAP appear as lines come. */
void report_take(struct report *report, const char *bytes, size_t count);

/**
 * Prints what is left to print.
 *
 * @param trouble  NULL, or why the self-test did not come to its end
 */
void report_end(struct report *report, const char *trouble, uint64_t took_ns);

struct report_sums report_sums(const struct report *report);

#endif

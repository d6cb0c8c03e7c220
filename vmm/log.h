/* SPDX-License-Identifier: MIT */
/* The program's own words, on stderr: one line each, after "tenon: ". Threads: any. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/error.h>

/** --quiet: only errors and warnings are printed from now on. Before any thread starts. */
void log_set_quiet(bool quiet);

void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const struct tenon_error *error);

/** Nanoseconds of CLOCK_MONOTONIC. */
uint64_t log_now_ns(void);

/** Tells that a step is done, if it took long enough (half a second) to be worth a line. */
void log_step(uint64_t took_ns, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

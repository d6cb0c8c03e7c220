/* SPDX-License-Identifier: MIT */
/* Numbers of a migration in the words of people, and back. */
#ifndef MIGRATE_UNITS_H
#define MIGRATE_UNITS_H

#include <stdint.h>

#include <tenon/error.h>

struct units_text {
	char text[24];
};

/** "1.5 GiB" */
struct units_text units_bytes(uint64_t bytes);
/** "1.5 GiB/s" */
struct units_text units_rate(uint64_t bytes_per_second);
/** "2:05 min", "12.3 s", "34.1 ms", "0.05 ms" */
struct units_text units_time(uint64_t ns);
/** "12.345 s": when something was, among others that were near */
struct units_text units_moment(uint64_t ns);

/** "20ms", "0.5s", "20": milliseconds. From 1 ms to an hour. @param option  for the message */
int units_parse_time(const char *option, const char *text, uint64_t *ms, struct tenon_error *err);

/** "1G", "1.5M", "500000": bytes, K, M, G and T being powers of 1024. From 1 to INT64_MAX */
int units_parse_bytes(const char *option, const char *text, uint64_t *bytes, struct tenon_error *err);

#endif

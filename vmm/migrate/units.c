// SPDX-License-Identifier: MIT
/* Bytes, rates and times as text, with as many digits as somebody reads. */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "units.h"

static struct units_text format_bytes(uint64_t bytes, const char *after)
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	struct units_text out;
	double value = (double)bytes;
	unsigned name = 0;
	/* What would be printed as 1024 of something is 1.0 of the next. */
	while (value >= 1023.5 && name < 6) {
		value /= 1024;
		name++;
	}
	/* Only whole bytes, and hundreds need no more digits. */
	int digits = name == 0 || value >= 99.95 ? 0 : 1;
	snprintf(out.text, sizeof(out.text), "%.*f %s%s", digits, value, names[name], after);
	return out;
}

struct units_text units_bytes(uint64_t bytes)
{
	return format_bytes(bytes, "");
}

struct units_text units_rate(uint64_t bytes_per_second)
{
	return format_bytes(bytes_per_second, "/s");
}

struct units_text units_time(uint64_t ns)
{
	struct units_text out;
	double seconds = (double)ns / 1e9;
	uint64_t whole = ns / 1000000000;
	if (whole >= 3600)
		snprintf(out.text, sizeof(out.text), "%llu:%02u h", (unsigned long long)(whole / 3600),
			 (unsigned)(whole / 60 % 60));
	else if (whole >= 100)
		snprintf(out.text, sizeof(out.text), "%u:%02u min", (unsigned)(whole / 60), (unsigned)(whole % 60));
	else if (ns >= 999950000)
		snprintf(out.text, sizeof(out.text), "%.1f s", seconds);
	else
		snprintf(out.text, sizeof(out.text), "%.*f ms", ns >= 1000000 ? 1 : ns ? 2 : 0, seconds * 1e3);
	return out;
}

struct units_text units_moment(uint64_t ns)
{
	struct units_text out;
	snprintf(out.text, sizeof(out.text), "%.3f s", (double)ns / 1e9);
	return out;
}

/* A decimal number that begins with a digit. */
static bool parse_decimal(const char *text, const char **end, double *out)
{
	size_t length = strspn(text, "0123456789.");
	char copy[32], *after;
	if (!isdigit((unsigned char)*text) || length >= sizeof(copy))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	*out = strtod(copy, &after);
	*end = text + length;
	return *after == '\0';
}

int units_parse_time(const char *option, const char *text, uint64_t *ms, struct tenon_error *err)
{
	const char *end;
	double value;
	if (parse_decimal(text, &end, &value)) {
		bool seconds = strcmp(end, "s") == 0;
		value *= seconds ? 1000 : 1;
		if ((seconds || !*end || strcmp(end, "ms") == 0) && value >= 1 && value <= 3600000) {
			*ms = (uint64_t)(value + 0.5);
			return 0;
		}
	}
	return tenon_fail(err, -EINVAL, "%s %s: no time from 1 ms to an hour; write it like 20ms or 0.5s", option,
			  text);
}

int units_parse_bytes(const char *option, const char *text, uint64_t *bytes, struct tenon_error *err)
{
	static const char letters[] = "KMGT";
	const char *end;
	double value = 0;
	if (parse_decimal(text, &end, &value)) {
		const char *letter = *end ? strchr(letters, toupper((unsigned char)*end)) : NULL;
		if (letter) {
			value *= (double)(UINT64_C(1) << (10 * (letter - letters + 1)));
			end++;
		}
		if (!*end && value >= 1 && value < 9.2e18) {
			*bytes = (uint64_t)value;
			return 0;
		}
	}
	return tenon_fail(err, -EINVAL, "%s %s: no number of bytes; write it like 500M or 1.5G", option, text);
}

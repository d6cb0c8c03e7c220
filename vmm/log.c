// SPDX-License-Identifier: MIT
/* One write per line, so that lines of several threads do not mix. The only process-wide state of the program lives here. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define LONG_STEP_NS 500000000ull

static bool quiet_lines;

void log_set_quiet(bool quiet)
{
	quiet_lines = quiet;
}

static void print(const char *kind, const char *format, va_list args)
{
	char line[700];
	size_t used = (size_t)snprintf(line, sizeof(line), "tenon: %s", kind);
	const size_t room = sizeof(line) - used - 1;
	int length = vsnprintf(line + used, room, format, args);
	if (length > 0)
		used += (size_t)length < room ? (size_t)length : room - 1;
	line[used++] = '\n';
	/* Nobody is left to tell when stderr is gone. */
	if (write(STDERR_FILENO, line, used) < 0)
		return;
}

void log_info(const char *format, ...)
{
	if (quiet_lines)
		return;
	va_list args;
	va_start(args, format);
	print("", format, args);
	va_end(args);
}

void log_warning(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	print("warning: ", format, args);
	va_end(args);
}

static void print_error(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	print("", format, args);
	va_end(args);
}

void log_error(const struct tenon_error *error)
{
	print_error("%s", error->message);
}

uint64_t log_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

void log_step(uint64_t took_ns, const char *format, ...)
{
	if (quiet_lines || took_ns < LONG_STEP_NS)
		return;
	char what[400];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	log_info("%s took %.1f s", what, (double)took_ns / 1e9);
}

// SPDX-License-Identifier: MIT
/* Numbers, times and prints checks. */
#include "check.h"
#include "console.h"

static unsigned number, failures;
static uint64_t started;
static char place[PLACE_BYTES];
static const char *check;

void check_begin(const struct function *function, const char *name)
{
	place_text(function, place);
	check = name;
	started = now_ns();
}

static void result(const char *verdict, const char *format, va_list arguments, bool skipped)
{
	uint64_t took = now_ns() - started;
	print("%s %u - %s %s: ", verdict, ++number, place, check);
	print_list(format, arguments);
	if (skipped)
		print(" # SKIP\n");
	else
		print(" # time_ns=%lu\n", took);
}

void check_pass(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	result("ok", format, arguments, false);
	va_end(arguments);
}

void check_fail(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	result("not ok", format, arguments, false);
	va_end(arguments);
	failures++;
}

void check_skip(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	result("ok", format, arguments, true);
	va_end(arguments);
}

unsigned check_end(void)
{
	print("1..%u\n", number);
	return failures;
}

// SPDX-License-Identifier: MIT
/*
 * The one way to fail: a code and a one-line message in the caller's struct tenon_error. Allocates nothing, so that running
 * out of memory can be reported too.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <tenon/error.h>

int tenon_fail(struct tenon_error *err, int code, const char *format, ...)
{
	if (err) {
		va_list args;
		va_start(args, format);
		vsnprintf(err->message, sizeof(err->message), format, args);
		va_end(args);
		err->code = code;
	}
	return code;
}

int tenon_fail_wrap(struct tenon_error *err, const char *format, ...)
{
	if (!err || err->code == 0)
		return -EINVAL;

	char message[sizeof(err->message)];
	va_list args;
	va_start(args, format);
	int length = vsnprintf(message, sizeof(message), format, args);
	va_end(args);

	/* What does not fit is cut from the end: the context says more than the tail of a long cause. */
	size_t used = length < 0 ? 0 : (size_t)length;
	if (used > sizeof(message) - 1)
		used = sizeof(message) - 1;
	const char *parts[] = {": ", err->message};
	for (unsigned i = 0; i < 2; i++) {
		size_t room = sizeof(message) - 1 - used;
		size_t bytes = strnlen(parts[i], room);
		memcpy(message + used, parts[i], bytes);
		used += bytes;
	}
	message[used] = '\0';
	memcpy(err->message, message, used + 1);
	return err->code;
}

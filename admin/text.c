// SPDX-License-Identifier: MIT
/* Words in buffers of fixed size. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

void text_add(char *buffer, size_t capacity, const char *format, ...)
{
	size_t used = strnlen(buffer, capacity);
	if (used >= capacity)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(buffer + used, capacity - used, format, args);
	va_end(args);
}

bool text_has_word(const char *list, const char *word)
{
	size_t length = strlen(word);
	for (const char *at = list; length && (at = strstr(at, word)); at += length) {
		if ((at == list || at[-1] == ' ') && (at[length] == '\0' || at[length] == ' ' || at[length] == '\n'))
			return true;
	}
	return false;
}

void text_size(char *buffer, size_t capacity, unsigned long long size_bytes)
{
	static const char units[] = {'B', 'K', 'M', 'G', 'T'};
	unsigned unit = 0;
	while (unit + 1 < sizeof(units) && size_bytes && size_bytes % 1024 == 0) {
		size_bytes /= 1024;
		unit++;
	}
	snprintf(buffer, capacity, "%llu%c", size_bytes, units[unit]);
}

const char *text_plural(unsigned long long count)
{
	return count == 1 ? "" : "s";
}

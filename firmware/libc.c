// SPDX-License-Identifier: MIT
/*
 * What libfdt and the compiler want of a C library. Copies and fills are string instructions: one instruction to interpret, where a
 * KVM interprets.
 */
#include <stddef.h>
#include <stdint.h>

#include "console.h"
#include "machine.h"

void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *left, const void *right, size_t count);
void *memchr(const void *from, int value, size_t count);
int strcmp(const char *left, const char *right);
size_t strlen(const char *text);
size_t strnlen(const char *text, size_t most);
char *strrchr(const char *text, int value);
void __stack_chk_fail(void);

void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
	void *at = to;
	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t count)
{
	if ((uintptr_t)to - (uintptr_t)from >= count)
		return memcpy(to, from, count);
	for (size_t i = count; i > 0; i--)
		((uint8_t *)to)[i - 1] = ((const uint8_t *)from)[i - 1];
	return to;
}

void *memset(void *to, int value, size_t count)
{
	void *at = to;
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
	return to;
}

int memcmp(const void *left, const void *right, size_t count)
{
	const uint8_t *a = left, *b = right;
	for (size_t i = 0; i < count; i++) {
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	}
	return 0;
}

void *memchr(const void *from, int value, size_t count)
{
	const uint8_t *bytes = from;
	for (size_t i = 0; i < count; i++) {
		if (bytes[i] == (uint8_t)value)
			return (void *)(uintptr_t)(bytes + i);
	}
	return NULL;
}

int strcmp(const char *left, const char *right)
{
	while (*left && *left == *right) {
		left++;
		right++;
	}
	return (uint8_t)*left - (uint8_t)*right;
}

size_t strlen(const char *text)
{
	size_t length = 0;
	while (text[length])
		length++;
	return length;
}

size_t strnlen(const char *text, size_t most)
{
	size_t length = 0;
	while (length < most && text[length])
		length++;
	return length;
}

char *strrchr(const char *text, int value)
{
	const char *found = NULL;
	for (;; text++) {
		if (*text == (char)value)
			found = text;
		if (!*text)
			return (char *)(uintptr_t)found;
	}
}

/* Debian builds libfdt with stack protectors. The canary is what lies at %fs:0x28: RAM that nobody writes. */
void __stack_chk_fail(void)
{
	print("# firmware: a function of libfdt overran its stack\n");
	machine_end(LAYOUT_FIRMWARE_CRASHED);
}

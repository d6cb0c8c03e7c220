/* SPDX-License-Identifier: MIT */
/* The serial port: lines out, a byte in. */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/** Nothing is printed before this. */
void console_init(uint16_t port);

/** %s %c %d %u %x with a width, 0 and ll; %% . */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_list(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));
/** The same into `text`, cut to `capacity` with its terminator. */
void format_text(char *text, size_t capacity, const char *format, ...) __attribute__((format(printf, 3, 4)));
void format_text_list(char *text, size_t capacity, const char *format, va_list arguments)
	__attribute__((format(printf, 3, 0)));

/** Lets the other side send; before, nothing comes. */
void console_listen(void);
/** @return the byte that came, or -1 */
int console_take(void);

/** Waits until all that was printed has left. */
void console_flush(void);

#endif

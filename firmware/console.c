// SPDX-License-Identifier: MIT
/* A 16550 UART, polled, and the few conversions of printf that the firmware needs. */
#include <stdbool.h>

#include "console.h"
#include "cpu.h"

#define UART_DATA          0
#define UART_MODEM_CONTROL 4
#define UART_LINE_STATUS   5
#define MODEM_READY        0x03 /* DTR and RTS: the other side may send */
#define STATUS_RECEIVED    0x01
#define STATUS_EMPTY       0x20 /* the transmitter takes a byte */
#define STATUS_IDLE        0x40

static uint16_t uart;

void console_init(uint16_t port)
{
	uart = port;
}

void console_listen(void)
{
	if (uart)
		out8(uart + UART_MODEM_CONTROL, MODEM_READY);
}

int console_take(void)
{
	return uart && in8(uart + UART_LINE_STATUS) & STATUS_RECEIVED ? in8(uart + UART_DATA) : -1;
}

void console_flush(void)
{
	while (uart && !(in8(uart + UART_LINE_STATUS) & STATUS_IDLE))
		relax();
}

/* Where formatted text goes: the port, or memory. */
struct sink {
	char *text;
	size_t capacity, used;
};

static void put(struct sink *sink, char byte)
{
	if (sink->text) {
		if (sink->used + 1 < sink->capacity)
			sink->text[sink->used++] = byte;
		return;
	}
	if (!uart)
		return;
	while (!(in8(uart + UART_LINE_STATUS) & STATUS_EMPTY))
		relax();
	out8(uart + UART_DATA, (uint8_t)byte);
}

struct conversion {
	bool zero, left;
	unsigned width, longs;
};

static void put_padded(struct sink *sink, const struct conversion *how, const char *text, size_t length)
{
	for (size_t i = length; !how->left && i < how->width; i++)
		put(sink, how->zero ? '0' : ' ');
	for (size_t i = 0; i < length; i++)
		put(sink, text[i]);
	for (size_t i = length; how->left && i < how->width; i++)
		put(sink, ' ');
}

static void put_number(struct sink *sink, const struct conversion *how, uint64_t value, unsigned base, bool negative)
{
	char digits[24];
	size_t at = sizeof(digits);
	do {
		digits[--at] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	if (negative)
		digits[--at] = '-';
	put_padded(sink, how, digits + at, sizeof(digits) - at);
}

static const char *parse(const char *format, struct conversion *how)
{
	*how = (struct conversion){0};
	for (; *format == '0' || *format == '-'; format++) {
		how->zero |= *format == '0';
		how->left |= *format == '-';
	}
	for (; *format >= '0' && *format <= '9'; format++)
		how->width = how->width * 10 + (unsigned)(*format - '0');
	for (; *format == 'l'; format++)
		how->longs++;
	return format;
}

static void format_into(struct sink *sink, const char *format, va_list arguments)
{
	for (; *format; format++) {
		struct conversion how;
		if (*format != '%') {
			if (*format == '\n' && !sink->text)
				put(sink, '\r');
			put(sink, *format);
			continue;
		}
		format = parse(format + 1, &how);
		switch (*format) {
		case 's': {
			const char *text = va_arg(arguments, const char *);
			size_t length = 0;
			while (text[length])
				length++;
			put_padded(sink, &how, text, length);
			break;
		}
		case 'c':
			put(sink, (char)va_arg(arguments, int));
			break;
		case 'd': {
			int64_t value = how.longs ? va_arg(arguments, long) : va_arg(arguments, int);
			put_number(sink, &how, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, value < 0);
			break;
		}
		case 'u':
		case 'x': {
			uint64_t value = how.longs ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned);
			put_number(sink, &how, value, *format == 'x' ? 16 : 10, false);
			break;
		}
		case '\0':
			return;
		default:
			put(sink, *format);
		}
	}
}

void print_list(const char *format, va_list arguments)
{
	struct sink sink = {0};
	format_into(&sink, format, arguments);
}

void print(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	print_list(format, arguments);
	va_end(arguments);
}

void format_text_list(char *text, size_t capacity, const char *format, va_list arguments)
{
	struct sink sink = {.text = text, .capacity = capacity};
	format_into(&sink, format, arguments);
	text[sink.used] = '\0';
}

void format_text(char *text, size_t capacity, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	format_text_list(text, capacity, format, arguments);
	va_end(arguments);
}

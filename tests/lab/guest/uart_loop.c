// SPDX-License-Identifier: MIT
/*
 * Talks to itself through the UART at an I/O port, which loops back what it is sent, as the kernel's mtty does: bytes of a fixed
 * sequence, some of which are always in the device, and each of which must come back once and in order. Polls: the kernel of the lab
 * has no driver for a second serial port. By /dev/port, since QEMU's emulation of a processor forgets a task's right to ports when KVM
 * sets its TR.
 *
 * uart_loop PORT STOP     until the file STOP exists. "@uart=N", twice a second: so many bytes came back
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <linux/serial_reg.h>

#include "guest.h"

#define IN_FLIGHT 8u   /* of the 16 bytes that the device's FIFO holds */
#define SCRATCH   0xa7 /* what the device keeps all the while */
#define REPORT_NS 500000000ull

static void die(const char *what)
{
	printf("@failed=uart_loop: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* Of period 2^64, so that no loss stays unseen. */
static uint8_t sequence(uint64_t index)
{
	return (uint8_t)(index * 0x9e3779b97f4a7c15ull >> 56);
}

static int ports;

static void put(uint16_t port, uint8_t value)
{
	if (pwrite(ports, &value, 1, port) != 1)
		die("/dev/port");
}

static uint8_t get(uint16_t port)
{
	uint8_t value;
	if (pread(ports, &value, 1, port) != 1)
		die("/dev/port");
	return value;
}

static void set_up(uint16_t port)
{
	put(port + UART_IER, 0);
	put(port + UART_LCR, UART_LCR_WLEN8);
	put(port + UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
	put(port + UART_SCR, SCRATCH);
}

static void take_back(uint16_t port, uint64_t index)
{
	uint8_t status = get(port + UART_LSR), scratch = get(port + UART_SCR), found;
	if (!(status & UART_LSR_DR) || status & UART_LSR_OE || scratch != SCRATCH) {
		printf("@failed=uart_loop: before byte %lu, line status %#x, scratch register %#x\n", index, status,
		       scratch);
		exit(1);
	}
	found = get(port + UART_RX);
	if (found == sequence(index))
		return;
	printf("@failed=uart_loop: byte %lu is %#x, not %#x\n", index, found, sequence(index));
	exit(1);
}

int main(int count, char **words)
{
	uint16_t port = count == 3 ? (uint16_t)strtoul(words[1], NULL, 0) : 0;
	ports = open("/dev/port", O_RDWR);
	if (!port || ports < 0)
		die("/dev/port");
	setvbuf(stdout, NULL, _IOLBF, 0);
	set_up(port);
	uint64_t sent = 0, back = 0, reported = now_ns();
	while (access(words[2], F_OK)) {
		while (sent - back < IN_FLIGHT)
			put(port + UART_TX, sequence(sent++));
		while (sent - back > IN_FLIGHT / 2)
			take_back(port, back++);
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
		if (now_ns() - reported < REPORT_NS)
			continue;
		reported = now_ns();
		printf("@uart=%lu\n", back);
	}
	while (back < sent)
		take_back(port, back++);
	printf("@uart.all=%lu %lu\n", sent, back);
	return 0;
}

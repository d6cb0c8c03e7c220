// SPDX-License-Identifier: MIT
/*
 * The serial port seen through its registers, in front of a chardev that is modelled here: a queue of input, a log of
 * output, and a limit to what it takes. The interrupt is a real eventfd, and several kinds of drivers live on its edges
 * alone.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "devices/serial.h"

/* ---- The chardev ---- */

struct chardev {
	pthread_mutex_t lock;
	uint8_t input[65536], output[65536];
	unsigned input_first, input_end, output_end;
	unsigned room; /* how many bytes it takes before it refuses */
};

static struct chardev chardev = {.lock = PTHREAD_MUTEX_INITIALIZER, .room = sizeof(chardev.output)};

size_t chardev_read(struct chardev *from, uint8_t *bytes, size_t capacity)
{
	size_t count = 0;
	pthread_mutex_lock(&from->lock);
	while (count < capacity && from->input_first < from->input_end)
		bytes[count++] = from->input[from->input_first++];
	pthread_mutex_unlock(&from->lock);
	return count;
}

bool chardev_write(struct chardev *to, uint8_t byte)
{
	pthread_mutex_lock(&to->lock);
	bool taken = to->room > 0;
	if (taken) {
		to->room--;
		to->output[to->output_end++] = byte;
	}
	pthread_mutex_unlock(&to->lock);
	return taken;
}

/* ---- The port ---- */

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static struct serial *serial;
static int irq;

static void create(void)
{
	struct tenon_error err;
	irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	cr_assert_geq(irq, 0);
	cr_assert_eq(serial_create(&chardev, irq, &serial, &err), 0);
}

static void destroy(void)
{
	serial_destroy(serial);
	close(irq);
}

TestSuite(serial, .init = create, .fini = destroy);
TestSuite(serial_driver, .init = create, .fini = destroy, .timeout = 60);

static uint8_t in(unsigned offset)
{
	return serial_read(serial, offset);
}

static void out(unsigned offset, uint8_t value)
{
	serial_write(serial, offset, value);
}

/* Whether an edge came since the last time; forgets it. */
static bool edge(void)
{
	uint64_t count;
	return read(irq, &count, sizeof(count)) == sizeof(count);
}

static void type(const void *bytes, unsigned count)
{
	pthread_mutex_lock(&chardev.lock);
	memcpy(chardev.input + chardev.input_end, bytes, count);
	chardev.input_end += count;
	pthread_mutex_unlock(&chardev.lock);
	serial_receive(serial);
}

static void accept_output(unsigned room)
{
	pthread_mutex_lock(&chardev.lock);
	chardev.room = room;
	pthread_mutex_unlock(&chardev.lock);
	serial_transmit_ready(serial);
}

/* ---- Registers ---- */

Test(serial, starts_idle_without_interrupts)
{
	cr_assert_eq(in(IER), 0);
	cr_assert_eq(in(IIR), 0x01);
	cr_assert_eq(in(LCR), 0);
	cr_assert_eq(in(MCR), 0);
	cr_assert_eq(in(LSR), 0x60);
	cr_assert_eq(in(MSR), 0xb0, "CTS, DSR and DCD, nothing changed");
	cr_assert_eq(in(DATA), 0);
	cr_assert(!edge());
}

Test(serial, scratch_keeps_its_value)
{
	out(SCR, 0xae);
	cr_assert_eq(in(SCR), 0xae);
}

Test(serial, divisor_is_behind_dlab)
{
	out(IER, 0x05);
	out(LCR, 0x83);
	out(DATA, 0x34);
	out(IER, 0x12);
	cr_assert_eq(in(DATA), 0x34);
	cr_assert_eq(in(IER), 0x12);
	out(LCR, 0x03);
	cr_assert_eq(in(IER), 0x05);
	cr_assert_eq(in(LCR), 0x03);
	cr_assert_eq(chardev.output_end, 0, "the divisor was not sent");
}

Test(serial, divisor_is_not_zero_at_power_on)
{
	out(LCR, 0x80);
	cr_assert_neq(in(DATA) | in(IER) << 8, 0, "drivers divide by it");
}

Test(serial, bits_that_do_not_exist_read_zero)
{
	out(IER, 0xff);
	cr_assert_eq(in(IER), 0x0f);
	out(MCR, 0xff);
	cr_assert_eq(in(MCR), 0x1f);
}

Test(serial, status_registers_cannot_be_written)
{
	out(LSR, 0);
	out(MSR, 0);
	cr_assert_eq(in(LSR), 0x60);
	cr_assert_eq(in(MSR), 0xb0);
}

Test(serial, iir_shows_whether_fifos_are_on)
{
	cr_assert_eq(in(IIR), 0x01);
	out(FCR, 0x01);
	cr_assert_eq(in(IIR), 0xc1);
	out(FCR, 0x21);
	cr_assert_eq(in(IIR), 0xc1, "no 64 byte FIFO");
	out(FCR, 0xc6);
	cr_assert_eq(in(IIR), 0x01, "other bits do not count without the enable bit");
}

Test(serial, reset_returns_to_power_on)
{
	out(MCR, 0x03);
	out(FCR, 0x01);
	type("typed", 5);
	accept_output(0);
	out(DATA, 'x');
	out(IER, 0x0f);
	out(SCR, 1);
	out(LCR, 0x83);
	serial_reset(serial);
	edge();
	cr_assert_eq(in(IER), 0);
	cr_assert_eq(in(IIR), 0x01);
	cr_assert_eq(in(LCR), 0);
	cr_assert_eq(in(MCR), 0);
	cr_assert_eq(in(LSR), 0x60);
	cr_assert_eq(in(SCR), 0);
	accept_output(1);
	cr_assert_eq(chardev.output_end, 0, "what the transmitter held is gone");
	cr_assert(!edge());
}

/* ---- What a driver tries out ---- */

Test(serial, loopback_reflects_modem_outputs)
{
	static const struct {
		uint8_t mcr, msr;
	} cases[] = {{0x10, 0x00}, {0x11, 0x20}, {0x12, 0x10}, {0x14, 0x40}, {0x18, 0x80}, {0x1a, 0x90}, {0x1f, 0xf0}};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		out(MCR, cases[i].mcr);
		cr_assert_eq(in(MSR)&0xf0, cases[i].msr, "MCR %#x", cases[i].mcr);
	}
	out(MCR, 0);
	cr_assert_eq(in(MSR)&0xf0, 0xb0);
}

Test(serial, modem_changes_are_reported_once_and_ri_only_when_it_falls)
{
	out(MCR, 0x10);
	cr_assert_eq(in(MSR), 0x0b, "CTS, DSR, DCD fell");
	cr_assert_eq(in(MSR), 0x00);
	out(MCR, 0x14);
	cr_assert_eq(in(MSR), 0x40, "RI rose");
	out(MCR, 0x10);
	cr_assert_eq(in(MSR), 0x04, "RI fell");
}

Test(serial, fifo_holds_sixteen_bytes)
{
	out(FCR, 0x07);
	out(MCR, 0x10);
	for (unsigned i = 0; i < 256; i++)
		out(DATA, (uint8_t)i);
	unsigned count = 0;
	for (; in(LSR)&0x01; count++)
		cr_assert_eq(in(DATA), count, "the first ones are kept");
	cr_assert_eq(count, 16);
	cr_assert_eq(chardev.output_end, 0, "loopback sends nothing");
}

Test(serial, without_fifo_the_newest_byte_overruns_the_older)
{
	out(MCR, 0x10);
	out(DATA, 'a');
	out(DATA, 'b');
	cr_assert_eq(in(LSR), 0x63);
	cr_assert_eq(in(LSR), 0x61, "reading clears the overrun");
	cr_assert_eq(in(DATA), 'b');
	cr_assert_eq(in(LSR), 0x60);
}

Test(serial, switching_or_clearing_fifos_drops_what_they_hold)
{
	static const uint8_t controls[] = {0x01, 0x03, 0x00}; /* on, cleared, off */
	out(MCR, 0x10);
	for (unsigned i = 0; i < sizeof(controls); i++) {
		out(DATA, 'a');
		cr_assert(in(LSR)&0x01);
		out(FCR, controls[i]);
		cr_assert(!(in(LSR)&0x01), "FCR %#x", controls[i]);
	}
	out(DATA, 'a');
	out(FCR, 0x02);
	cr_assert(in(LSR)&0x01, "clearing takes the enable bit too");
}

Test(serial, input_waits_while_looped_back)
{
	out(FCR, 0x01);
	out(MCR, 0x12);
	type("ab", 2);
	cr_assert(!(in(LSR)&0x01));
	out(MCR, 0x02);
	cr_assert(in(LSR)&0x01);
	cr_assert_eq(in(DATA), 'a');
}

/* ---- Interrupts ---- */

Test(serial, enabling_the_transmitter_interrupt_raises_it_and_reading_iir_answers_it)
{
	out(IER, 0x02);
	cr_assert(edge());
	cr_assert_eq(in(IIR), 0x02);
	cr_assert_eq(in(IIR), 0x01);
	out(IER, 0x00);
	cr_assert(!edge());
	out(IER, 0x02);
	cr_assert(edge(), "enabling it again raises it again");
	cr_assert_eq(in(IIR), 0x02);
}

Test(serial, each_byte_sent_raises_the_transmitter_interrupt)
{
	out(IER, 0x02);
	in(IIR);
	edge();
	out(DATA, 'a');
	cr_assert(edge());
	out(DATA, 'b');
	cr_assert(edge(), "the line fell when the byte was written");
	cr_assert_eq(in(IIR), 0x02);
}

Test(serial, received_data_interrupts_until_it_is_read)
{
	out(MCR, 0x02);
	out(IER, 0x01);
	cr_assert(!edge());
	type("a", 1);
	cr_assert(edge());
	cr_assert_eq(in(IIR), 0x04);
	cr_assert_eq(in(IIR), 0x04);
	cr_assert_eq(in(DATA), 'a');
	cr_assert_eq(in(IIR), 0x01);
}

Test(serial, data_below_the_trigger_level_is_a_timeout)
{
	static const unsigned levels[] = {1, 4, 8, 14};
	out(MCR, 0x02);
	out(IER, 0x01);
	for (unsigned i = 0; i < 4; i++) {
		out(FCR, (uint8_t)(0x03 | i << 6));
		for (unsigned count = 1; count <= 16; count++) {
			type("a", 1);
			cr_assert_eq(in(IIR), count < levels[i] ? 0xcc : 0xc4, "%u bytes, level %u", count, levels[i]);
		}
	}
}

Test(serial, causes_are_reported_by_priority_each_with_an_edge)
{
	out(FCR, 0x01);
	out(MCR, 0x10);
	for (unsigned i = 0; i < 17; i++)
		out(DATA, 'a');
	cr_assert(!edge());
	out(IER, 0x0f);
	cr_assert(edge());
	cr_assert_eq(in(IIR), 0xc6, "overrun");
	in(LSR);
	cr_assert(edge());
	cr_assert_eq(in(IIR), 0xc4, "data");
}

Test(serial, lower_causes_follow_as_higher_ones_are_serviced)
{
	out(FCR, 0x01);
	out(MCR, 0x10);
	out(DATA, 'a');
	out(IER, 0x0f);
	cr_assert(edge());
	cr_assert_eq(in(IIR), 0xc4);
	in(DATA);
	cr_assert(edge());
	cr_assert_eq(in(IIR), 0xc2);
	cr_assert(edge());
	cr_assert_eq(in(IIR), 0xc0, "modem lines changed when loopback began");
	in(MSR);
	cr_assert(!edge());
	cr_assert_eq(in(IIR), 0xc1);
}

Test(serial, masked_causes_interrupt_once_enabled)
{
	out(MCR, 0x02);
	type("a", 1);
	cr_assert(!edge());
	out(IER, 0x01);
	cr_assert(edge());
	out(IER, 0x00);
	out(IER, 0x01);
	cr_assert(edge());
}

/* ---- Flow ---- */

Test(serial, nothing_typed_before_the_driver_starts_is_lost)
{
	type("hello", 5);
	/* What a driver does: clear FIFOs, read stale status away, enable, and raise DTR and RTS last. */
	out(FCR, 0x01);
	out(FCR, 0x07);
	out(FCR, 0x00);
	in(LSR), in(DATA), in(IIR), in(MSR);
	out(LCR, 0x03);
	out(MCR, 0x08);
	out(IER, 0x05);
	out(FCR, 0x81);
	cr_assert(!edge());
	out(MCR, 0x0b);
	cr_assert(edge());
	char got[6] = "";
	for (unsigned i = 0; in(LSR)&0x01; i++)
		got[i] = (char)in(DATA);
	cr_assert_str_eq(got, "hello");
}

Test(serial, dropping_rts_holds_input_back)
{
	out(FCR, 0x01);
	out(MCR, 0x02);
	type("aaaaaaaaaaaaaaaabbbb", 20);
	out(MCR, 0x00);
	for (unsigned i = 0; i < 16; i++)
		cr_assert_eq(in(DATA), 'a');
	cr_assert(!(in(LSR)&0x01));
	out(MCR, 0x02);
	cr_assert_eq(in(DATA), 'b');
}

Test(serial, a_guest_that_polls_without_rts_gets_input)
{
	type("k", 1);
	unsigned polls = 0;
	while (!(in(LSR)&0x01))
		cr_assert_lt(++polls, 1000);
	cr_assert_eq(in(DATA), 'k');
	cr_assert_gt(polls, 4, "a few reads of the status do not make a polling reader");
}

Test(serial, input_larger_than_the_fifo_arrives_whole)
{
	uint8_t bytes[1000];
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	out(FCR, 0x01);
	out(MCR, 0x02);
	type(bytes, sizeof(bytes));
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		cr_assert(in(LSR)&0x01);
		cr_assert_eq(in(DATA), bytes[i]);
	}
	cr_assert(!(in(LSR)&0x02), "and without an overrun");
}

Test(serial, slow_reader_keeps_the_transmitter_busy_and_loses_nothing_that_fits_the_fifo)
{
	out(FCR, 0x01);
	accept_output(2);
	for (unsigned i = 0; i < 18; i++)
		out(DATA, (uint8_t)('a' + i));
	cr_assert_eq(in(LSR), 0x00, "neither THRE nor TEMT");
	out(IER, 0x02);
	cr_assert(!edge());

	accept_output(10);
	cr_assert_eq(in(LSR), 0x00, "six bytes are still held");
	cr_assert(!edge());
	accept_output(100);
	cr_assert_eq(in(LSR), 0x60);
	cr_assert(edge());
	cr_assert_eq(in(IIR), 0xc2);
	cr_assert_eq(chardev.output_end, 18);
	cr_assert_eq(memcmp(chardev.output, "abcdefghijklmnopqr", 18), 0);
}

Test(serial, clearing_the_transmitter_fifo_drops_held_bytes)
{
	out(FCR, 0x01);
	accept_output(0);
	out(IER, 0x02);
	in(IIR), edge();
	out(DATA, 'a');
	out(FCR, 0x05);
	cr_assert_eq(in(LSR), 0x60);
	cr_assert(edge());
	accept_output(100);
	cr_assert_eq(chardev.output_end, 0);
}

/* ---- Drivers that act on edges alone ---- */

struct driver {
	const char *name;
	uint8_t fifo_control;
	void (*interrupt)(struct driver *driver);
	unsigned to_send, received;
	uint8_t interrupt_enable;
	bool broken; /* received something out of order */
};

static void driver_take(struct driver *driver)
{
	driver->broken |= in(DATA) != (uint8_t)(driver->received * 5);
	driver->received++;
}

static void driver_enable(struct driver *driver, uint8_t bits)
{
	driver->interrupt_enable = bits;
	out(IER, bits);
}

/* Up to `count` bytes; without any left the interrupt is switched off, as drivers do. */
static void driver_send(struct driver *driver, unsigned count)
{
	if (driver->to_send == 0)
		driver_enable(driver, driver->interrupt_enable & ~0x02);
	for (; count && driver->to_send; count--, driver->to_send--)
		out(DATA, (uint8_t)(driver->to_send * 3));
}

/* Linux' way: until nothing is pending, whatever the cause was. */
static void loop_until_idle(struct driver *driver)
{
	while (!(in(IIR)&0x01)) {
		uint8_t status = in(LSR);
		for (unsigned most = 256; status & 0x01 && most; most--, status = in(LSR))
			driver_take(driver);
		in(MSR);
		if (status & 0x20 && driver->interrupt_enable & 0x02)
			driver_send(driver, 16);
	}
}

/* Believes that every cause brings an interrupt of its own. */
static void one_cause_each(struct driver *driver)
{
	switch (in(IIR)&0x0f) {
	case 0x06:
		in(LSR);
		break;
	case 0x04:
	case 0x0c:
		while (in(LSR)&0x01)
			driver_take(driver);
		break;
	case 0x02:
		driver_send(driver, 16);
		break;
	case 0x00:
		in(MSR);
		break;
	}
}

/* For a port without FIFOs: one byte per interrupt. */
static void one_byte_each(struct driver *driver)
{
	switch (in(IIR)&0x0f) {
	case 0x04:
		driver_take(driver);
		break;
	case 0x02:
		driver_send(driver, 1);
		break;
	}
}

/* Never reads IIR: writing THR is its answer. */
static void answer_by_writing(struct driver *driver)
{
	uint8_t status = in(LSR);
	for (; status & 0x01; status = in(LSR))
		driver_take(driver);
	if (status & 0x20)
		driver_send(driver, 1);
}

static unsigned random_state;

static unsigned random_below(unsigned limit)
{
	random_state = random_state * 1103515245 + 12345;
	return (random_state >> 16) % limit;
}

static void start_sending(struct driver *driver, unsigned count)
{
	driver->to_send += count;
	driver_enable(driver, driver->interrupt_enable | 0x02);
}

/* An edge during the service is latched, as an I/O APIC does. */
static void service_edges(struct driver *driver)
{
	while (edge())
		driver->interrupt(driver);
}

static void check_driver(struct driver driver, unsigned seed)
{
	random_state = seed;
	memset(chardev.output, 0, sizeof(chardev.output));
	chardev.input_first = chardev.input_end = chardev.output_end = 0;
	accept_output(0);
	serial_reset(serial);
	edge();
	out(FCR, driver.fifo_control);
	out(MCR, 0x0b);
	driver_enable(&driver, 0x0d);

	unsigned typed = 0, sent = 0;
	for (unsigned step = 0; step < 300; step++) {
		unsigned count = random_below(40);
		uint8_t bytes[40];
		switch (random_below(4)) {
		case 0:
			for (unsigned i = 0; i < count; i++)
				bytes[i] = (uint8_t)(typed++ * 5);
			type(bytes, count);
			break;
		case 1:
			start_sending(&driver, count);
			sent += count;
			break;
		case 2:
			accept_output(count);
			break;
		case 3:
			service_edges(&driver);
			break;
		}
	}
	accept_output(sizeof(chardev.output) - chardev.output_end);
	service_edges(&driver);
	cr_assert_eq(driver.to_send, 0, "%s hangs with %u bytes to send, seed %u", driver.name, driver.to_send, seed);
	cr_assert_eq(driver.received, typed, "%s hangs with input, seed %u", driver.name, seed);
	cr_assert_eq(chardev.output_end, sent, "%s lost output, seed %u", driver.name, seed);
	cr_assert(!driver.broken, "%s received bytes out of order, seed %u", driver.name, seed);
}

static void check_driver_often(struct driver driver)
{
	for (unsigned seed = 0; seed < 200; seed++)
		check_driver(driver, seed);
}

Test(serial_driver, that_loops_until_idle_never_hangs)
{
	check_driver_often(
		(struct driver){.name = "looping, FIFO", .fifo_control = 0x81, .interrupt = loop_until_idle});
}

Test(serial_driver, that_services_one_cause_per_edge_never_hangs)
{
	check_driver_often(
		(struct driver){.name = "one cause, FIFO", .fifo_control = 0x81, .interrupt = one_cause_each});
}

Test(serial_driver, that_moves_one_byte_per_edge_never_hangs)
{
	check_driver_often(
		(struct driver){.name = "one byte, no FIFO", .fifo_control = 0x00, .interrupt = one_byte_each});
}

Test(serial_driver, that_answers_by_writing_never_hangs)
{
	check_driver_often(
		(struct driver){.name = "no IIR, FIFO", .fifo_control = 0x01, .interrupt = answer_by_writing});
	check_driver_often(
		(struct driver){.name = "no IIR, no FIFO", .fifo_control = 0x00, .interrupt = answer_by_writing});
}

/* ---- Threads ---- */

#define THREADED_BYTES 20000

/* The event loop: types, and takes output in small portions. */
static void *event_loop(void *context)
{
	for (unsigned typed = 0; typed < THREADED_BYTES;) {
		uint8_t bytes[64];
		unsigned count = 0;
		while (count < sizeof(bytes) && typed < THREADED_BYTES)
			bytes[count++] = (uint8_t)(typed++ * 5);
		type(bytes, count);
		accept_output(typed % 3 ? 50 : 0);
	}
	accept_output(sizeof(chardev.output));
	return NULL;
}

Test(serial_driver, on_another_thread_than_the_event_loop_loses_nothing)
{
	struct driver driver = {.name = "threaded", .fifo_control = 0x81, .interrupt = loop_until_idle};
	pthread_t loop;
	out(FCR, driver.fifo_control);
	out(MCR, 0x0b);
	driver_enable(&driver, 0x05);
	start_sending(&driver, THREADED_BYTES);
	cr_assert_eq(pthread_create(&loop, NULL, event_loop, NULL), 0);
	while (driver.received < THREADED_BYTES || driver.to_send)
		service_edges(&driver);
	pthread_join(loop, NULL);
	serial_transmit_ready(serial);
	cr_assert_eq(chardev.output_end, THREADED_BYTES);
	cr_assert(!driver.broken);
}

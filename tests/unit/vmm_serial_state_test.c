// SPDX-License-Identifier: MIT
/*
 * The serial port saved at one host and loaded at another: a guest that goes on there notices nothing, whatever it did before. Each port
 * has a model of a chardev: a queue of input, a log of output, and a limit to what it takes.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/serial.h"
#include "fixture_file.h"

static uint64_t random_state;

static unsigned choose(unsigned count)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(random_state >> 33) % count;
}

static struct bytes_in in_of(const struct bytes_out *out)
{
	return (struct bytes_in){.data = out->data, .left = out->count};
}

struct chardev {
	uint8_t input[4096], output[65536];
	unsigned input_first, input_end, output_end, room;
};

size_t chardev_read(struct chardev *from, uint8_t *bytes, size_t capacity)
{
	size_t count = 0;
	while (count < capacity && from->input_first < from->input_end)
		bytes[count++] = from->input[from->input_first++];
	return count;
}

bool chardev_write(struct chardev *to, uint8_t byte)
{
	if (to->room == 0)
		return false;
	to->room--;
	to->output[to->output_end++] = byte;
	return true;
}

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

/* A port at one host. */
struct station {
	struct chardev chardev;
	struct serial *serial;
	int irq;
};

static void station_open(struct station *station)
{
	memset(station, 0, sizeof(*station));
	station->chardev.room = sizeof(station->chardev.output);
	station->irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	cr_assert_geq(station->irq, 0);
	cr_assert_eq(serial_create(&station->chardev, station->irq, &station->serial, NULL), 0);
}

static void station_close(struct station *station)
{
	serial_destroy(station->serial);
	close(station->irq);
}

/* Whether an edge came since the last time; forgets it. */
static bool edge(struct station *station)
{
	uint64_t count;
	return read(station->irq, &count, sizeof(count)) == sizeof(count);
}

static void type(struct station *station, const char *text)
{
	unsigned count = (unsigned)strlen(text);
	memcpy(station->chardev.input + station->chardev.input_end, text, count);
	station->chardev.input_end += count;
	serial_receive(station->serial);
}

static int move(struct station *from, struct station *to, struct tenon_error *err)
{
	struct bytes_out out = {0};
	serial_hold(from->serial, true);
	serial_save(from->serial, &out);
	struct bytes_in in = in_of(&out);
	int code = serial_load(to->serial, &in, err);
	bytes_out_finish(&out);
	return code;
}

static struct station here, there;

static void open_stations(void)
{
	random_state = 1;
	station_open(&here);
	station_open(&there);
}

static void close_stations(void)
{
	station_close(&here);
	station_close(&there);
}

TestSuite(serial_state, .init = open_stations, .fini = close_stations, .timeout = 120);

/* One access of a guest, or something at the other end. @return what a read gave */
static unsigned act(struct station *station, unsigned action, uint8_t value)
{
	switch (action) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
	case 5:
	case 6:
	case 7:
		return serial_read(station->serial, action);
	case 8:
		station->chardev.input[station->chardev.input_end++] = value;
		serial_receive(station->serial);
		break;
	case 9:
		station->chardev.room = value % 4;
		serial_transmit_ready(station->serial);
		break;
	default:
		serial_write(station->serial, action - 10, value);
		break;
	}
	return 0;
}

static void act_at_random(unsigned count, bool both)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned action = choose(18);
		uint8_t value = (uint8_t)choose(256);
		/* Loopback and the divisor are rare, so that there is traffic beside them. */
		if (action == 10 + LCR && choose(4))
			value &= 0x7f;
		if (action == 10 + MCR && choose(4))
			value = 0x0b;
		unsigned mine = act(&here, action, value);
		if (!both)
			continue;
		cr_assert_eq(act(&there, action, value), mine, "step %u: action %u, value 0x%02x", i, action, value);
		cr_assert_eq(edge(&there), edge(&here), "step %u: action %u, value 0x%02x", i, action, value);
	}
}

Test(serial_state, goes_on_elsewhere_as_if_nothing_had_been_after_anything)
{
	for (unsigned round = 0; round < 300; round++) {
		struct tenon_error err = {0};
		act_at_random(choose(60), false);
		cr_assert_eq(move(&here, &there, &err), 0, "round %u: %s", round, err.message);
		there.chardev = here.chardev; /* as if its user had come along */
		serial_hold(here.serial, false);
		serial_hold(there.serial, false);
		edge(&here);
		edge(&there);
		serial_read(here.serial, SCR); /* how often it was polled does not move */
		act_at_random(60, true);
		cr_assert_eq(here.chardev.output_end, there.chardev.output_end);
		cr_assert_arr_eq(here.chardev.output, there.chardev.output, here.chardev.output_end);
		here.chardev = there.chardev = (struct chardev){.room = 4};
	}
}

Test(serial_state, half_full_fifos_and_a_pending_interrupt_move)
{
	serial_write(here.serial, FCR, 0x81); /* FIFOs, trigger level 8 */
	serial_write(here.serial, MCR, 0x0b);
	serial_write(here.serial, IER, 0x03);
	here.chardev.room = 0;
	for (const char *c = "hello"; *c; c++)
		serial_write(here.serial, DATA, (uint8_t)*c);
	type(&here, "12345");
	cr_assert(edge(&here));

	struct tenon_error err = {0};
	cr_assert_eq(move(&here, &there, &err), 0, "%s", err.message);
	cr_expect(!edge(&there), "no interrupt before it runs there");
	cr_expect_eq(there.chardev.output_end, 0, "and no output");
	serial_hold(there.serial, false);
	cr_expect(edge(&there));
	cr_expect_eq(serial_read(there.serial, IIR), 0xcc, "input below the trigger level");
	char input[6] = {0};
	for (unsigned i = 0; i < 5; i++) {
		cr_expect_eq(serial_read(there.serial, LSR) & 1, 1);
		input[i] = (char)serial_read(there.serial, DATA);
	}
	cr_expect_str_eq(input, "12345");
	cr_expect_eq(there.chardev.output_end, 5);
	cr_expect_arr_eq(there.chardev.output, "hello", 5);
	cr_expect_eq(serial_read(there.serial, IIR), 0xc2, "and the transmitter is empty");
	cr_expect_eq(here.chardev.output_end, 0, "what the port held is not written out twice");
}

Test(serial_state, input_that_comes_while_held_waits_and_is_not_lost)
{
	serial_write(here.serial, MCR, 0x0b);
	serial_write(here.serial, IER, 0x01);
	serial_hold(here.serial, true);
	type(&here, "x");
	cr_expect(!edge(&here));
	cr_expect_eq(serial_read(here.serial, LSR) & 1, 0);
	serial_hold(here.serial, false);
	cr_expect(edge(&here));
	cr_expect_eq(serial_read(here.serial, DATA), 'x');
}

Test(serial_state, output_that_could_leave_while_held_leaves_after_it)
{
	here.chardev.room = 0;
	serial_write(here.serial, IER, 0x02);
	serial_read(here.serial, IIR);
	serial_write(here.serial, DATA, 'y');
	edge(&here);
	serial_hold(here.serial, true);
	here.chardev.room = 10;
	serial_transmit_ready(here.serial);
	cr_expect_eq(here.chardev.output_end, 0);
	cr_expect_eq(serial_read(here.serial, LSR) & 0x20, 0, "busy");
	serial_hold(here.serial, false);
	cr_expect_eq(here.chardev.output_end, 1);
	cr_expect(edge(&here), "the guest learns of it");
}

Test(serial_state, letting_go_of_a_port_that_was_not_held_does_nothing)
{
	serial_write(here.serial, IER, 0x02);
	cr_assert(edge(&here));
	serial_hold(here.serial, false);
	cr_expect(!edge(&here));
}

Test(serial_state, that_no_port_can_have_is_refused_and_changes_nothing)
{
	/* Of a port at power-on: registers, divisor, flags, and two empty FIFOs. */
	static const uint8_t sound[] = {0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
	static const struct {
		unsigned at;
		uint8_t value;
		const char *why;
	} table[] = {
		{0, 0x10, "bits that it lacks"},   {1, 0x40, "bits that it lacks"},  {1, 0x09, "bits that it lacks"},
		{3, 0x20, "bits that it lacks"},   {4, 0x10, "bits that it lacks"},  {8, 0x04, "bits that it lacks"},
		{9, 2, "more than the 1 bytes"},   {10, 2, "more than the 1 bytes"}, {9, 1, "too early"},
		{9, 255, "more than the 1 bytes"},
	};
	serial_write(there.serial, SCR, 0x5a);
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint8_t data[sizeof(sound)];
		struct tenon_error err = {0};
		memcpy(data, sound, sizeof(data));
		data[table[i].at] = table[i].value;
		struct bytes_in in = {.data = data, .left = sizeof(data)};
		cr_expect_eq(serial_load(there.serial, &in, &err), -EINVAL, "row %u", i);
		cr_expect(strstr(err.message, table[i].why), "row %u: %s", i, err.message);
		cr_expect_eq(serial_read(there.serial, SCR), 0x5a, "row %u", i);
	}
	for (size_t bytes = 0; bytes < sizeof(sound); bytes++) {
		struct bytes_in in = {.data = sound, .left = bytes};
		cr_expect_eq(serial_load(there.serial, &in, NULL), -EINVAL, "%zu bytes", bytes);
	}
	struct bytes_in in = {.data = sound, .left = sizeof(sound)};
	cr_expect_eq(serial_load(there.serial, &in, NULL), 0);
	cr_expect_eq(serial_read(there.serial, SCR), 0);
}

/* tests/fixtures/README.md */
Test(serial_state, of_version_1_is_loaded)
{
	static struct fixture_file file;
	struct bytes_out out = {0};
	struct tenon_error err = {0};
	serial_write(here.serial, LCR, 0x83); /* 8 bits, and the divisor */
	serial_write(here.serial, DATA, 0x34);
	serial_write(here.serial, IER, 0x12);
	serial_write(here.serial, LCR, 0x1b);
	serial_write(here.serial, FCR, 0x81); /* FIFOs, trigger level 8 */
	serial_write(here.serial, MCR, 0x0b);
	serial_write(here.serial, IER, 0x03);
	serial_write(here.serial, SCR, 0x5a);
	here.chardev.room = 0;
	for (const char *c = "output"; *c; c++)
		serial_write(here.serial, DATA, (uint8_t)*c);
	type(&here, "in");
	serial_hold(here.serial, true);
	serial_save(here.serial, &out);
	fixture_expect_written("v1/serial", out.data, out.count);
	bytes_out_finish(&out);

	fixture_read("v1/serial", &file);
	struct bytes_in in = {.data = file.data, .left = file.bytes};
	cr_assert_eq(serial_load(there.serial, &in, &err), 0, "%s", err.message);
	serial_hold(there.serial, false);
	cr_expect_eq(serial_read(there.serial, LCR), 0x1b);
	cr_expect_eq(serial_read(there.serial, MCR), 0x0b);
	cr_expect_eq(serial_read(there.serial, IER), 0x03);
	cr_expect_eq(serial_read(there.serial, SCR), 0x5a);
	cr_expect_eq(serial_read(there.serial, IIR) & 0xc0, 0xc0, "FIFOs");
	cr_expect_eq(serial_read(there.serial, DATA), 'i');
	cr_expect_eq(serial_read(there.serial, DATA), 'n');
	cr_expect_eq(serial_read(there.serial, LSR) & 1, 0);
	serial_write(there.serial, LCR, 0x83);
	cr_expect_eq(serial_read(there.serial, DATA), 0x34);
	cr_expect_eq(serial_read(there.serial, IER), 0x12);
	cr_expect_eq(there.chardev.output_end, 6);
	cr_expect_arr_eq(there.chardev.output, "output", 6);
}

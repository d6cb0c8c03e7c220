// SPDX-License-Identifier: MIT
/*
 * The 16550A's registers, FIFOs and interrupt. Bytes leave at once unless the chardev refuses them, so the
 * transmitter's FIFO holds something only while the reader is slow.
 *
 * The interrupt reaches the guest as an edge, and an edge that comes while another is being serviced is latched. So
 * there is one rule: signal whenever the cause that IIR reports changes to one. It covers a line that falls and rises
 * again within one access, and the next cause in priority once the first was serviced. A signal too many is answered by
 * "no interrupt pending"; one too few would hang the guest.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serial.h"

enum {
	REG_DATA = 0,             /* RBR, THR; DLL with DLAB */
	REG_INTERRUPT_ENABLE = 1, /* IER; DLM with DLAB */
	REG_INTERRUPT_ID = 2,     /* IIR when read */
	REG_FIFO_CONTROL = 2,     /* FCR when written */
	REG_LINE_CONTROL = 3,
	REG_MODEM_CONTROL = 4,
	REG_LINE_STATUS = 5,
	REG_MODEM_STATUS = 6,
	REG_SCRATCH = 7,
};

#define IER_DATA        0x01
#define IER_TRANSMITTER 0x02
#define IER_LINE        0x04
#define IER_MODEM       0x08
#define IER_MASK        0x0f

#define IIR_NONE         0x01
#define IIR_LINE         0x06
#define IIR_DATA         0x04
#define IIR_DATA_TIMEOUT 0x0c /* data below the trigger level that nobody fetched */
#define IIR_TRANSMITTER  0x02
#define IIR_MODEM        0x00
#define IIR_FIFOS        0xc0

#define FCR_ENABLE            0x01
#define FCR_CLEAR_RECEIVER    0x02
#define FCR_CLEAR_TRANSMITTER 0x04
#define FCR_TRIGGER_SHIFT     6

#define LCR_DLAB 0x80

#define MCR_DTR  0x01
#define MCR_RTS  0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_DATA_READY        0x01
#define LSR_OVERRUN           0x02
#define LSR_THR_EMPTY         0x20
#define LSR_TRANSMITTER_EMPTY 0x40

#define MSR_CTS         0x10
#define MSR_DSR         0x20
#define MSR_RI          0x40
#define MSR_DCD         0x80
#define MSR_DELTA_SHIFT 4 /* a line's "changed" bit is this far below it */

#define FIFO_BYTES     16
#define DIVISOR_115200 1
/* Reads of LSR in a row, with nothing to send, that make a guest a polling reader. */
#define POLLING_READER 32

/* In the order of IIR's priority */
enum cause {
	CAUSE_NONE,
	CAUSE_LINE,
	CAUSE_DATA,
	CAUSE_TRANSMITTER,
	CAUSE_MODEM,
};

struct fifo {
	uint8_t bytes[FIFO_BYTES];
	unsigned first;
	unsigned count;
};

struct serial {
	struct chardev *chardev;
	int irq_fd;
	pthread_mutex_t lock; /* guards all below */

	uint8_t interrupt_enable;
	uint8_t fifo_control; /* FCR_ENABLE and the trigger level */
	uint8_t line_control;
	uint8_t modem_control;
	uint8_t modem_delta;
	uint8_t scratch;
	uint16_t divisor;
	bool overrun;
	bool transmitter_pending; /* "THR is empty" happened and was not yet answered */
	struct fifo receiver;
	struct fifo transmitter;

	enum cause cause; /* what IIR reports now; for telling edges */
	unsigned polls;
	bool held; /* nothing comes from the chardev or goes there by itself */
};

static unsigned fifo_capacity(const struct serial *serial)
{
	return serial->fifo_control & FCR_ENABLE ? FIFO_BYTES : 1;
}

static void fifo_put(struct fifo *fifo, uint8_t byte)
{
	fifo->bytes[(fifo->first + fifo->count++) % FIFO_BYTES] = byte;
}

static uint8_t fifo_get(struct fifo *fifo)
{
	uint8_t byte = fifo->bytes[fifo->first];
	fifo->first = (fifo->first + 1) % FIFO_BYTES;
	fifo->count--;
	return byte;
}

static void fifo_clear(struct fifo *fifo)
{
	fifo->count = 0;
}

static enum cause top_cause(const struct serial *serial)
{
	if (serial->interrupt_enable & IER_LINE && serial->overrun)
		return CAUSE_LINE;
	if (serial->interrupt_enable & IER_DATA && serial->receiver.count)
		return CAUSE_DATA;
	if (serial->interrupt_enable & IER_TRANSMITTER && serial->transmitter_pending)
		return CAUSE_TRANSMITTER;
	if (serial->interrupt_enable & IER_MODEM && serial->modem_delta)
		return CAUSE_MODEM;
	return CAUSE_NONE;
}

/* To call after every step that may change a cause, not only once per access: see the top of this file. */
static void update_interrupt(struct serial *serial)
{
	enum cause cause = top_cause(serial);
	bool edge = cause != CAUSE_NONE && cause != serial->cause;
	serial->cause = cause;
	if (edge) {
		/* Fails only when the counter is full: then there is an edge to be taken anyway. */
		ssize_t written = write(serial->irq_fd, &(uint64_t){1}, sizeof(uint64_t));
		(void)written;
	}
}

/* ---- Receiver ---- */

/* A byte from the line. The FIFO keeps what it has; without it, the newest byte wins. */
static void receive_byte(struct serial *serial, uint8_t byte)
{
	if (serial->receiver.count < fifo_capacity(serial)) {
		fifo_put(&serial->receiver, byte);
		return;
	}
	serial->overrun = true;
	if (fifo_capacity(serial) == 1)
		serial->receiver.bytes[serial->receiver.first] = byte;
}

/* In loopback the pins are disconnected from the line. */
static void receive_input(struct serial *serial)
{
	if (serial->modem_control & MCR_LOOP)
		return;
	uint8_t bytes[FIFO_BYTES];
	size_t count = chardev_read(serial->chardev, bytes, fifo_capacity(serial) - serial->receiver.count);
	for (size_t i = 0; i < count; i++)
		receive_byte(serial, bytes[i]);
	update_interrupt(serial);
}

static void receive_input_if_ready(struct serial *serial)
{
	if (serial->modem_control & MCR_RTS)
		receive_input(serial);
}

static uint8_t read_data(struct serial *serial)
{
	if (serial->receiver.count == 0)
		return 0;
	uint8_t byte = fifo_get(&serial->receiver);
	update_interrupt(serial); /* the line falls here, before more input raises it again */
	if (serial->receiver.count == 0)
		receive_input_if_ready(serial);
	return byte;
}

/* ---- Transmitter ---- */

static void transmitter_became_empty(struct serial *serial)
{
	serial->transmitter_pending = true;
	update_interrupt(serial);
}

static void write_data(struct serial *serial, uint8_t byte)
{
	struct fifo *fifo = &serial->transmitter;
	serial->transmitter_pending = false;
	update_interrupt(serial);
	if (serial->modem_control & MCR_LOOP) {
		receive_byte(serial, byte);
		transmitter_became_empty(serial);
	} else if (fifo->count == 0 && chardev_write(serial->chardev, byte)) {
		transmitter_became_empty(serial);
	} else if (fifo->count < fifo_capacity(serial)) {
		fifo_put(fifo, byte);
	} else if (fifo_capacity(serial) == 1) {
		fifo->bytes[fifo->first] = byte; /* a guest that ignores THRE overwrites what waits */
	}
}

static void transmit_held(struct serial *serial)
{
	struct fifo *fifo = &serial->transmitter;
	if (fifo->count == 0)
		return;
	while (fifo->count && chardev_write(serial->chardev, fifo->bytes[fifo->first]))
		fifo_get(fifo);
	if (fifo->count == 0)
		transmitter_became_empty(serial);
}

/* ---- The other registers ---- */

static uint8_t read_interrupt_id(struct serial *serial)
{
	static const unsigned trigger_levels[] = {1, 4, 8, 14};
	uint8_t fifos = serial->fifo_control & FCR_ENABLE ? IIR_FIFOS : 0;
	unsigned trigger = fifos ? trigger_levels[serial->fifo_control >> FCR_TRIGGER_SHIFT] : 1;

	switch (top_cause(serial)) {
	case CAUSE_LINE:
		return fifos | IIR_LINE;
	case CAUSE_DATA:
		/* Time does not pass on this line: input that is here and below the level has timed out. */
		return fifos | (serial->receiver.count >= trigger ? IIR_DATA : IIR_DATA_TIMEOUT);
	case CAUSE_TRANSMITTER:
		serial->transmitter_pending = false; /* reading it is the answer */
		update_interrupt(serial);
		return fifos | IIR_TRANSMITTER;
	case CAUSE_MODEM:
		return fifos | IIR_MODEM;
	case CAUSE_NONE:
		break;
	}
	return fifos | IIR_NONE;
}

static uint8_t line_status(const struct serial *serial)
{
	return (serial->receiver.count ? LSR_DATA_READY : 0) | (serial->overrun ? LSR_OVERRUN : 0) |
	       (serial->transmitter.count ? 0 : LSR_THR_EMPTY | LSR_TRANSMITTER_EMPTY);
}

static uint8_t read_line_status(struct serial *serial)
{
	bool idle = !serial->receiver.count && !serial->transmitter.count;
	if (idle && ++serial->polls >= POLLING_READER)
		receive_input(serial);
	uint8_t status = line_status(serial);
	serial->overrun = false;
	update_interrupt(serial);
	return status;
}

/* The modem's outputs as the port sees them: all there, or its own in loopback. */
static uint8_t modem_lines(const struct serial *serial)
{
	uint8_t control = serial->modem_control;
	if (!(control & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (control & MCR_RTS ? MSR_CTS : 0) | (control & MCR_DTR ? MSR_DSR : 0) |
	       (control & MCR_OUT1 ? MSR_RI : 0) | (control & MCR_OUT2 ? MSR_DCD : 0);
}

static uint8_t read_modem_status(struct serial *serial)
{
	uint8_t status = modem_lines(serial) | serial->modem_delta;
	serial->modem_delta = 0;
	update_interrupt(serial);
	return status;
}

static void write_modem_control(struct serial *serial, uint8_t value)
{
	uint8_t before = modem_lines(serial);
	serial->modem_control = value & MCR_MASK;
	uint8_t after = modem_lines(serial);
	/* RI counts only when it falls (TERI). */
	uint8_t changed = ((before ^ after) & ~MSR_RI) | (before & ~after & MSR_RI);
	serial->modem_delta |= changed >> MSR_DELTA_SHIFT;
	update_interrupt(serial);
	receive_input_if_ready(serial);
}

static void write_interrupt_enable(struct serial *serial, uint8_t value)
{
	bool enables = value & ~serial->interrupt_enable & IER_TRANSMITTER;
	serial->interrupt_enable = value & IER_MASK;
	if (enables && serial->transmitter.count == 0)
		serial->transmitter_pending = true;
	update_interrupt(serial);
}

static void write_fifo_control(struct serial *serial, uint8_t value)
{
	/* The other bits count only together with the enable bit; switching clears both FIFOs. */
	bool switched = (value ^ serial->fifo_control) & FCR_ENABLE;
	bool enabled = value & FCR_ENABLE;
	serial->fifo_control = enabled ? value & (FCR_ENABLE | 3u << FCR_TRIGGER_SHIFT) : 0;
	if (switched || (enabled && value & FCR_CLEAR_RECEIVER))
		fifo_clear(&serial->receiver);
	update_interrupt(serial);
	if ((switched || (enabled && value & FCR_CLEAR_TRANSMITTER)) && serial->transmitter.count) {
		fifo_clear(&serial->transmitter);
		transmitter_became_empty(serial);
	}
	receive_input_if_ready(serial);
}

/* ---- Interface ---- */

static uint8_t read_register(struct serial *serial, unsigned offset)
{
	bool divisor = serial->line_control & LCR_DLAB;
	switch (offset) {
	case REG_DATA:
		return divisor ? (uint8_t)serial->divisor : read_data(serial);
	case REG_INTERRUPT_ENABLE:
		return divisor ? (uint8_t)(serial->divisor >> 8) : serial->interrupt_enable;
	case REG_INTERRUPT_ID:
		return read_interrupt_id(serial);
	case REG_LINE_CONTROL:
		return serial->line_control;
	case REG_MODEM_CONTROL:
		return serial->modem_control;
	case REG_LINE_STATUS:
		return read_line_status(serial);
	case REG_MODEM_STATUS:
		return read_modem_status(serial);
	case REG_SCRATCH:
		return serial->scratch;
	default:
		return 0xff;
	}
}

static void write_register(struct serial *serial, unsigned offset, uint8_t value)
{
	bool divisor = serial->line_control & LCR_DLAB;
	switch (offset) {
	case REG_DATA:
		if (divisor)
			serial->divisor = (serial->divisor & 0xff00) | value;
		else
			write_data(serial, value);
		break;
	case REG_INTERRUPT_ENABLE:
		if (divisor)
			serial->divisor = (uint16_t)((serial->divisor & 0xff) | value << 8);
		else
			write_interrupt_enable(serial, value);
		break;
	case REG_FIFO_CONTROL:
		write_fifo_control(serial, value);
		break;
	case REG_LINE_CONTROL:
		serial->line_control = value;
		break;
	case REG_MODEM_CONTROL:
		write_modem_control(serial, value);
		break;
	case REG_SCRATCH:
		serial->scratch = value;
		break;
	default: /* LSR and MSR: writing is for factory tests */
		break;
	}
}

uint8_t serial_read(struct serial *serial, unsigned offset)
{
	pthread_mutex_lock(&serial->lock);
	if (offset != REG_LINE_STATUS)
		serial->polls = 0;
	uint8_t value = read_register(serial, offset);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

void serial_write(struct serial *serial, unsigned offset, uint8_t value)
{
	pthread_mutex_lock(&serial->lock);
	serial->polls = 0;
	write_register(serial, offset, value);
	pthread_mutex_unlock(&serial->lock);
}

void serial_receive(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	if (!serial->held)
		receive_input_if_ready(serial);
	pthread_mutex_unlock(&serial->lock);
}

void serial_transmit_ready(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	if (!serial->held)
		transmit_held(serial);
	pthread_mutex_unlock(&serial->lock);
}

void serial_reset(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->interrupt_enable = 0;
	serial->fifo_control = 0;
	serial->line_control = 0;
	serial->modem_control = 0;
	serial->modem_delta = 0;
	serial->scratch = 0;
	serial->divisor = DIVISOR_115200;
	serial->overrun = false;
	serial->transmitter_pending = false;
	fifo_clear(&serial->receiver);
	fifo_clear(&serial->transmitter);
	serial->cause = CAUSE_NONE;
	serial->polls = 0;
	pthread_mutex_unlock(&serial->lock);
}

/* ---- Another host ---- */

#define SAVED_OVERRUN     0x01
#define SAVED_TRANSMITTER 0x02 /* "THR is empty" is pending */

void serial_hold(struct serial *serial, bool hold)
{
	pthread_mutex_lock(&serial->lock);
	bool released = serial->held && !hold;
	serial->held = hold;
	if (released) {
		/* An edge may be on its way through the kernel at the host that it was signalled at: one more does no harm. */
		serial->cause = CAUSE_NONE;
		update_interrupt(serial);
		receive_input_if_ready(serial);
		transmit_held(serial);
	}
	pthread_mutex_unlock(&serial->lock);
}

static void put_fifo(struct bytes_out *out, const struct fifo *fifo)
{
	bytes_put_u8(out, (uint8_t)fifo->count);
	for (unsigned i = 0; i < fifo->count; i++)
		bytes_put_u8(out, fifo->bytes[(fifo->first + i) % FIFO_BYTES]);
}

static bool get_fifo(struct bytes_in *in, struct fifo *fifo, unsigned capacity)
{
	*fifo = (struct fifo){.count = bytes_get_u8(in)};
	if (fifo->count > capacity)
		return false;
	bytes_get(in, fifo->bytes, fifo->count);
	return true;
}

void serial_save(struct serial *serial, struct bytes_out *out)
{
	pthread_mutex_lock(&serial->lock);
	bytes_put_u8(out, serial->interrupt_enable);
	bytes_put_u8(out, serial->fifo_control);
	bytes_put_u8(out, serial->line_control);
	bytes_put_u8(out, serial->modem_control);
	bytes_put_u8(out, serial->modem_delta);
	bytes_put_u8(out, serial->scratch);
	bytes_put_u16(out, serial->divisor);
	bytes_put_u8(out,
		     (serial->overrun ? SAVED_OVERRUN : 0) | (serial->transmitter_pending ? SAVED_TRANSMITTER : 0));
	put_fifo(out, &serial->receiver);
	put_fifo(out, &serial->transmitter);
	pthread_mutex_unlock(&serial->lock);
}

/* What no sequence of accesses leads to is no state. */
static bool is_possible(const struct serial *state, uint8_t flags)
{
	uint8_t fifo_bits = state->fifo_control & FCR_ENABLE ? FCR_ENABLE | 3u << FCR_TRIGGER_SHIFT : 0;
	return !(state->interrupt_enable & ~IER_MASK) && !(state->fifo_control & ~fifo_bits) &&
	       !(state->modem_control & ~MCR_MASK) && !(state->modem_delta >> MSR_DELTA_SHIFT) &&
	       !(flags & ~(SAVED_OVERRUN | SAVED_TRANSMITTER));
}

int serial_load(struct serial *serial, struct bytes_in *in, struct tenon_error *err)
{
	struct serial state = {0};
	state.interrupt_enable = bytes_get_u8(in);
	state.fifo_control = bytes_get_u8(in);
	state.line_control = bytes_get_u8(in);
	state.modem_control = bytes_get_u8(in);
	state.modem_delta = bytes_get_u8(in);
	state.scratch = bytes_get_u8(in);
	state.divisor = bytes_get_u16(in);
	uint8_t flags = bytes_get_u8(in);
	if (!is_possible(&state, flags))
		return tenon_fail(err, -EINVAL,
				  "serial port: its saved registers have bits that it lacks; save it again");
	unsigned capacity = fifo_capacity(&state);
	if (!get_fifo(in, &state.receiver, capacity) || !get_fifo(in, &state.transmitter, capacity))
		return tenon_fail(
			err, -EINVAL,
			"serial port: its saved FIFOs hold more than the %u bytes that they can; save it again",
			capacity);
	int code = bytes_get_end(in, "serial port", err);
	if (code < 0)
		return code;
	pthread_mutex_lock(&serial->lock);
	serial->interrupt_enable = state.interrupt_enable;
	serial->fifo_control = state.fifo_control;
	serial->line_control = state.line_control;
	serial->modem_control = state.modem_control;
	serial->modem_delta = state.modem_delta;
	serial->scratch = state.scratch;
	serial->divisor = state.divisor;
	serial->overrun = flags & SAVED_OVERRUN;
	serial->transmitter_pending = flags & SAVED_TRANSMITTER;
	serial->receiver = state.receiver;
	serial->transmitter = state.transmitter;
	serial->polls = 0;
	serial->held = true;
	pthread_mutex_unlock(&serial->lock);
	return 0;
}

int serial_create(struct chardev *chardev, int irq_fd, struct serial **out, struct tenon_error *err)
{
	struct serial *serial = calloc(1, sizeof(*serial));
	if (!serial)
		return tenon_fail(err, -ENOMEM, "serial port: cannot create: out of memory");
	serial->chardev = chardev;
	serial->irq_fd = irq_fd;
	pthread_mutex_init(&serial->lock, NULL);
	serial_reset(serial);
	*out = serial;
	return 0;
}

void serial_destroy(struct serial *serial)
{
	if (!serial)
		return;
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

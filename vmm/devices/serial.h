/* SPDX-License-Identifier: MIT */
/*
 * A 16550A serial port (PC16550D data sheet) in front of a chardev. The interrupt is an edge on an eventfd that the
 * caller wired to LAYOUT_SERIAL_GSI.
 *
 * Threads: port accesses come from vCPU threads, serial_receive and serial_transmit_ready from the event loop; it locks
 * itself. The guest never blocks on a slow reader: when the chardev's buffer is full, the transmitter stays busy (THRE
 * and TEMT clear) until the event loop drained it.
 *
 * Flow control: what is at the other end obeys RTS. Input is not delivered before the guest raises RTS, and waits when
 * the guest drops it, so nothing that was typed or piped in early is lost when a driver clears the FIFOs at its start.
 * A guest that polls for input without ever raising RTS gets it too, once it has been polling for a while.
 */
#ifndef SERIAL_H
#define SERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/error.h>

#include "../migrate/bytes.h"
#include "chardev.h"

struct serial;

/** @param irq_fd eventfd, borrowed @param chardev borrowed, outlives the port */
int serial_create(struct chardev *chardev, int irq_fd, struct serial **out, struct tenon_error *err);
void serial_destroy(struct serial *serial); /* accepts NULL */

/** @param offset register 0-7. One byte each; wider accesses are split by the caller. */
uint8_t serial_read(struct serial *serial, unsigned offset);
void serial_write(struct serial *serial, unsigned offset, uint8_t value);

/** The chardev has input (CHARDEV_READABLE): takes as much as the FIFO holds; the rest is taken as the guest reads. */
void serial_receive(struct serial *serial);
/** The chardev takes output again (CHARDEV_DRAINED): restarts the transmitter if it was held. */
void serial_transmit_ready(struct serial *serial);
/** Power-on state. Bytes that the transmitter still held are dropped; the chardev keeps its own. */
void serial_reset(struct serial *serial);

/* ---- Another host ---- */

/**
 * While held, nothing passes between the port and its chardev by itself: input stays in the chardev, and what the transmitter holds stays
 * there. Letting go does what has waited, and signals what is pending anew.
 */
void serial_hold(struct serial *serial, bool hold);

/**
 * Appends the registers, both FIFOs and what is pending. The vCPUs do not run, and the port is held.
 * What the chardev has of it, in either direction, is not the port's: output is written out at this host, input stays here.
 */
void serial_save(struct serial *serial, struct bytes_out *out);

/**
 * The reverse, in a port where no vCPU ran. Untrusted input. The port is held after it, so that output goes nowhere, and no interrupt
 * comes, before the machine runs here: serial_hold ends that.
 *
 * @return 0; -EINVAL no state of such a port, which is as before
 */
int serial_load(struct serial *serial, struct bytes_in *in, struct tenon_error *err);

#endif

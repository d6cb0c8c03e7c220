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

#include <stdint.h>

#include <tenon/error.h>

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

#endif

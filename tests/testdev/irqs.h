/* SPDX-License-Identifier: MIT */
/*
 * The device's interrupts, by eventfds that the client gives: INTx with its level and automatic masking, MSI and MSI-X with
 * what is pending while nothing is armed, and the two events of VFIO (error, request).
 */
#ifndef IRQS_H
#define IRQS_H

#include <stdbool.h>
#include <stdint.h>

#include "registers.h"

#define IRQ_KINDS       5 /* VFIO_PCI_INTX_IRQ_INDEX to VFIO_PCI_REQ_IRQ_INDEX */
#define IRQ_VECTORS_MAX TD_MSIX_VECTORS

struct irqs {
	int trigger[IRQ_KINDS][IRQ_VECTORS_MAX]; /* eventfds; -1 */
	unsigned enabled[IRQ_KINDS];             /* vectors that arming gave room to; 0: off */
	uint64_t pending[IRQ_KINDS];             /* raised while not armed or not running */
	bool line;                               /* what TD_IRQ_LINE asserts */
	bool intx_masked;
	int intx_unmask; /* eventfd; -1 */
	uint32_t raised, delivered;
};

struct testdev;
struct vu_irq_set;

void irqs_init(struct testdev *device);
/** Closes every eventfd, as when the client leaves. */
void irqs_release(struct testdev *device);
void irqs_reset(struct testdev *device);

unsigned irqs_count(unsigned kind);
uint32_t irqs_flags(const struct testdev *device, unsigned kind);

/**
 * A set message.
 *
 * @param flags  what follows the structure, one byte for each vector
 * @param fds    those that are taken over become -1
 * @return 0 or -errno
 */
int irqs_set(struct testdev *device, const struct vu_irq_set *set, const uint8_t *flags, unsigned flag_count, int *fds,
	     unsigned fd_count);

/** @param what  TD_IRQ(kind, vector); one that does not exist is a bad access */
void irqs_raise(struct testdev *device, uint32_t what);
void irqs_set_line(struct testdev *device, bool asserted);
/** Something that the line depends on has changed. */
void irqs_update_line(struct testdev *device);
/** The device runs again: what is pending goes out. */
void irqs_resume(struct testdev *device);
/** The unmask eventfd was signalled. */
void irqs_unmask(struct testdev *device);

#endif

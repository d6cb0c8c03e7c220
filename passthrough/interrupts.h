/* SPDX-License-Identifier: MIT */
/*
 * A device's interrupts: INTx, MSI or MSI-X, never two at once. Each message vector is an eventfd that the kernel's VFIO
 * signals and KVM turns into the guest's message; user space sees none of it.
 *
 * A vector's life: idle -> armed (the device signals its eventfd) -> delivered (the eventfd is attached to a route).
 * A masked vector stays armed but is not delivered: its eventfd then holds what the pending bit reports, and
 * attaching it again delivers that. Nothing is lost and nothing is asked of the device.
 */
#ifndef INTERRUPTS_H
#define INTERRUPTS_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>

#include "transport.h"

struct tenon_device;

struct vector {
	int eventfd; /* -1: none yet */
	int route;   /* -1: none yet */
	bool armed;
	bool delivered;
	bool dirty; /* the guest changed the message since the route was set */
};

enum interrupt_mode { INTERRUPT_NONE, INTERRUPT_INTX, INTERRUPT_MSI, INTERRUPT_MSIX };

struct msix_layout {
	unsigned count; /* 0: no MSI-X */
	unsigned table_bar, pba_bar;
	uint64_t table_offset, pba_offset;
};

struct interrupts {
	enum interrupt_mode mode;
	unsigned intx_pin; /* 0: none, or it cannot be delivered */
	bool intx_failed;
	unsigned msi_count;
	struct msix_layout msix;
	bool msix_resizable;    /* the kernel adds vectors one by one; it never does for MSI */
	uint8_t *msix_table;    /* 16 bytes a vector, as the guest wrote it */
	struct vector *vectors; /* as many as MSI-X or MSI has */
	unsigned vector_count;
	unsigned allocated; /* vectors that the host has allocated in this mode */
	int intx_trigger, intx_unmask;
};

/** Learns what the device has. Before bars_init, which must know where the MSI-X table lies. */
int interrupts_init(struct tenon_device *device, struct tenon_error *err);
void interrupts_finish(struct tenon_device *device);

/** Everything off and the MSI-X table as at power-on. */
void interrupts_reset(struct tenon_device *device);

/** A control register of config space changed: picks the mode and updates its vectors. */
void interrupts_update(struct tenon_device *device);

/** Accesses to the MSI-X table and PBA. @return false when the BAR's offset is neither */
bool msix_read(struct tenon_device *device, unsigned bar, uint64_t offset, void *data, unsigned size_bytes);
bool msix_write(struct tenon_device *device, unsigned bar, uint64_t offset, const void *data, unsigned size_bytes);

/** MSI's pending bits, read at `offset` of config space. */
uint32_t msi_pending(const struct tenon_device *device);

/* ---- Between the kinds ---- */

/* A message as the guest wants it, or that it wants none now. */
struct message {
	bool wanted;
	uint64_t address;
	uint32_t data;
};

/** Brings vectors [first, first + count) to what `message_of` says: in as few calls as their number allows. */
void vectors_sync(struct tenon_device *device, unsigned irq, unsigned first, unsigned count,
		  struct message (*message_of)(const struct tenon_device *device, unsigned vector));
/** Turns a message kind off and releases all its vectors. */
void vectors_release(struct tenon_device *device, unsigned irq);

/** Whether an interrupt came in while the vector was masked. */
bool vector_pending(const struct vector *vector);

/* How many vectors the guest enabled in MSI's control register. */
unsigned msi_enabled_count(const struct tenon_device *device);
struct message msi_message(const struct tenon_device *device, unsigned vector);
struct message msix_message(const struct tenon_device *device, unsigned vector);
int msix_init(struct tenon_device *device, struct tenon_error *err);
void msix_reset_table(struct tenon_device *device);

int intx_enable(struct tenon_device *device, struct tenon_error *err);
void intx_disable(struct tenon_device *device);

#endif

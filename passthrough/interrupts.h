/* SPDX-License-Identifier: MIT */
/*
 * A device's interrupts: INTx, MSI or MSI-X, never two at once. Each message vector is an eventfd that the kernel's VFIO
 * signals and KVM turns into the guest's message; once a vector is in use, user space sees none of it.
 *
 * A vector's life: idle -> armed (the device signals its eventfd) -> watched (the guest wants it: the event loop hears of its
 * first interrupt) -> delivered (the eventfd is attached to a route). All vectors that the guest has programmed are armed
 * together, so that enabling costs a fixed number of calls; routes and attachments come with use. A vector that is armed and
 * not delivered keeps its interrupts as a count in its eventfd, which is what its pending bit reports; attaching it
 * delivers them. Nothing is lost and nothing is asked of the device.
 *
 * All of this is done with the device's lock held, by vCPU threads and by the event loop; only the device signals at any
 * moment. Whatever it signals stays in the eventfd until an attached route takes it.
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
	bool watched; /* in the event loop's set */
	bool fired;   /* the set reported it, and it is not delivered yet */
	bool delivered;
	bool ready;  /* passing: to be delivered by the batch that is being made */
	bool kept;   /* it was armed where the loaded state was saved: it is armed here, used or not */
	bool came;   /* with an interrupt that was not delivered there */
	bool routed; /* the committed route says this: */
	uint32_t data;
	uint64_t address;
};

enum interrupt_mode { INTERRUPT_NONE, INTERRUPT_INTX, INTERRUPT_MSI, INTERRUPT_MSIX };

struct msix_layout {
	unsigned count; /* 0: no MSI-X */
	unsigned table_bar, pba_bar;
	uint64_t table_offset, pba_offset;
};

struct interrupts {
	enum interrupt_mode mode;
	enum tenon_intx_policy intx_policy;
	unsigned intx_pin;  /* 0: none, or it cannot be delivered */
	bool intx_failed;   /* it could not be turned on, or its line not raised: off until the next reset */
	bool intx_trapped;  /* through the event loop, not inside the kernel */
	bool intx_waiting;  /* trapped: it fired, and the guest has not touched the device since */
	bool intx_asserted; /* trapped: the line as the VMM was last told */
	bool intx_came;     /* a state is loaded in which the line was asserted */
	unsigned msi_count;
	struct msix_layout msix;
	bool msix_resizable;    /* the kernel adds vectors one by one; it never does for MSI */
	uint8_t *msix_table;    /* 16 bytes a vector, as the guest wrote it */
	struct vector *vectors; /* as many as MSI-X or MSI has */
	unsigned vector_count;
	unsigned asked, allocated; /* vectors wanted of the host in this mode, and given */
	bool scarce;               /* too few vectors or files for all: only what is in use is armed */
	bool shortage_told;
	int intx_trigger, intx_unmask;
};

/** Learns what the device has. Before bars_init, which must know where the MSI-X table lies. */
int interrupts_init(struct tenon_device *device, struct tenon_error *err);
void interrupts_finish(struct tenon_device *device);

/** Everything off and the MSI-X table as at power-on. */
void interrupts_reset(struct tenon_device *device);

/** A control register of config space changed: picks the mode and updates its vectors. */
void interrupts_update(struct tenon_device *device);

/** Turns everything off and on again, at a device of which it is not known what is on. */
void interrupts_repeat(struct tenon_device *device);

/** Before a control register changes: what the device signalled until now goes where the registers say until now. */
void interrupts_settle(struct tenon_device *device);

/** The event loop's share: first interrupts of vectors, and trapped INTx. */
void interrupts_run(struct tenon_device *device);

/** Accesses to the MSI-X table and PBA. @return false when the BAR's offset is neither */
bool msix_read(struct tenon_device *device, unsigned bar, uint64_t offset, void *data, unsigned size_bytes);
bool msix_write(struct tenon_device *device, unsigned bar, uint64_t offset, const void *data, unsigned size_bytes);

/** MSI's pending bits, read at `offset` of config space. */
uint32_t msi_pending(struct tenon_device *device);

/* ---- Between the kinds ---- */

/* A message as the guest has it at the moment. */
struct message {
	bool wanted; /* nothing masks it */
	bool usable; /* the function's mask is off, and the vector is wanted or at least filled in */
	uint64_t address;
	uint32_t data;
};

typedef struct message (*message_fn)(const struct tenon_device *device, unsigned vector);

/** Brings vectors [first, first + count) to what `message_of` says: in as few calls as their number allows. */
void vectors_sync(struct tenon_device *device, unsigned irq, unsigned first, unsigned count, message_fn message_of);
/** Delivers what watched vectors signalled until now, if the guest wants it. */
void vectors_collect(struct tenon_device *device, message_fn message_of);
/** The same for one vector, at less cost. */
void vectors_settle(struct tenon_device *device, unsigned index, message_fn message_of);
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
/** Trapped: the eventfd was signalled. */
void intx_run(struct tenon_device *device);
/** The command register changed; the kernel holds the line back by itself, a trapped one is held back here. */
void intx_gate(struct tenon_device *device);
/** The guest accessed a BAR: a trapped line goes down, and comes back if the device still asserts it. */
void intx_accessed(struct tenon_device *device);
/** Whether INTx is on and depends on every access being seen. */
bool intx_traps(const struct tenon_device *device);

#endif

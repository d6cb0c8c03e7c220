/* SPDX-License-Identifier: MIT */
/*
 * What libtenon asks of the VMM that embeds it: one table of operations.
 *
 * The library never talks to a hypervisor by itself. It maps BARs into the guest, routes interrupts and tells the
 * hypervisor which device files the VM owns through these operations, each of which gets the `host` pointer that
 * struct tenon_device_options carried. On KVM, <tenon-kvm/host.h> of this tree implements them.
 *
 * Threads: an operation is called on the thread that called into the library (a vCPU thread that accesses config space,
 * say) with that device's lock held; during a reset of the space, with the locks of all its devices. It must not call back into a
 * device of the space, nor wait for a thread that may.
 */
#ifndef TENON_HOST_H
#define TENON_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum tenon_log_level {
	TENON_LOG_ERROR,   /* the guest loses something; the user must know */
	TENON_LOG_WARNING, /* works, but not as well as it could */
	TENON_LOG_INFO,
};

/* What a base address register decodes at the moment. */
struct tenon_bar_placement {
	unsigned bar;        /* 0-5, or 6: the expansion ROM */
	bool enabled;        /* the guest has decoding on for this kind of BAR and the device is in D0 */
	bool io;             /* I/O port space, else memory */
	uint64_t address;    /* guest physical address, or port */
	uint64_t size_bytes; /* power of two */
};

/* A guest's write to memory that signals an eventfd and does nothing else. */
struct tenon_ioeventfd {
	size_t size; /* sizeof(struct tenon_ioeventfd) */
	uint64_t gpa;
	uint64_t value;      /* with `match`: only a write of this */
	int eventfd;         /* borrowed until it is detached */
	uint8_t width_bytes; /* of the write: 1, 2, 4 or 8; 0: any */
	bool match;
	uint8_t reserved[2]; /* zero */
};

/* Optional operations are marked; the others must be set. */
struct tenon_host_ops {
	size_t size; /* sizeof(struct tenon_host_ops) */

	/*
	 * The VM owns this file from now on / no longer: a VFIO character device, or on the container interface the file of an
	 * IOMMU group, which is added once, with the first device of the group in the space, and removed with the last, each
	 * through that device's operations. On KVM: KVM_DEV_VFIO_FILE_ADD and _DEL, from which KVM derives whether WBINVD and
	 * guest memory types matter. Called before the device is opened or bound, and when it is given back, just before its last
	 * file descriptor here is closed. Optional.
	 */
	int (*file_add)(void *host, int fd, struct tenon_error *err);
	void (*file_remove)(void *host, int fd);

	/*
	 * Makes host memory (a mapped part of a BAR) directly visible to the guest, or takes it away. Page aligned.
	 * After memory_unmap succeeds no vCPU can reach the memory any more; after it fails, the library keeps the memory
	 * mapped for good. Optional: without them every access traps.
	 */
	int (*memory_map)(void *host, uint64_t gpa, uint64_t size_bytes, void *hva, struct tenon_error *err);
	int (*memory_unmap)(void *host, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err);

	/*
	 * A BAR moved, or was switched on or off. Accesses that no memory_map covers must come back as
	 * tenon_device_bar_read() and tenon_device_bar_write(). A guest may put one over another: the one that came first
	 * answers, and the other from when the first is gone.
	 */
	void (*bar_placed)(void *host, const struct tenon_bar_placement *placement);

	/*
	 * Message routes: a route turns a signalled eventfd into one MSI message. *route is -1 for "a new one" and is
	 * then set. Nothing changes for the guest until route_commit; many routes may be set before one commit.
	 */
	int (*route_set)(void *host, int *route, uint64_t address, uint32_t data, struct tenon_error *err);
	int (*route_commit)(void *host, struct tenon_error *err);
	void (*route_free)(void *host, int route);

	/* Delivers eventfd into the guest along a committed route without leaving the kernel; a count already pending
	 * is delivered at once. Signals after irqfd_detach stay in the
	 * eventfd; those before it have been delivered. */
	int (*irqfd_attach)(void *host, int route, int eventfd, struct tenon_error *err);
	void (*irqfd_detach)(void *host, int route, int eventfd);

	/*
	 * Delivers a level interrupt: `trigger` asserts the line of INTx pin 1-4 (INTA-INTD), and the guest's end of
	 * interrupt deasserts it and signals `resample`. Optional: without them a device has no INTx.
	 */
	int (*intx_attach)(void *host, unsigned pin, int trigger, int resample, struct tenon_error *err);
	void (*intx_detach)(void *host, unsigned pin, int trigger, int resample);

	/* One line without a full stop. Optional. */
	void (*log)(void *host, enum tenon_log_level level, const char *message);

	/*
	 * Sets the line of INTx pin 1-4 of this device; a line shared by devices is high while any of them holds it high.
	 * For INTx where intx_attach is missing or refuses with -ENOTSUP (any other refusal leaves the device without INTx).
	 * Called when the level changes. A refusal leaves the line as it was: of true (the pin leads nowhere, say) it is logged and
	 * the device has no INTx until it is reset; of false it is logged and tried again. Optional.
	 */
	int (*intx_level)(void *host, unsigned pin, bool asserted, struct tenon_error *err);

	/*
	 * Has a guest's write signal an eventfd inside the kernel: a doorbell of a vfio-user device, in one of its BARs as placed now.
	 * Refused where this BAR does not answer, it comes as tenon_device_bar_write(). Optional, both or none.
	 */
	int (*ioeventfd_attach)(void *host, const struct tenon_ioeventfd *ioeventfd, struct tenon_error *err);
	void (*ioeventfd_detach)(void *host, const struct tenon_ioeventfd *ioeventfd);
};

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

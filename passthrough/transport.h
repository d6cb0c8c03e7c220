/* SPDX-License-Identifier: MIT */
/*
 * How the library talks to one device, whatever carries it: a VFIO file descriptor, or a socket to another process. Regions and
 * interrupt indexes are VFIO's (VFIO_PCI_BAR0_REGION_INDEX ..., VFIO_PCI_INTX_IRQ_INDEX ...).
 */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/error.h>

#include "uapi.h"

#define TRANSPORT_AREAS_MAX 16

struct transport_area {
	uint64_t offset;
	uint64_t size_bytes;
};

struct transport_region {
	uint64_t size_bytes; /* 0: not implemented */
	/* What may be mapped; none where the region must be trapped. From the sparse-mmap capability, else all of it. */
	struct transport_area areas[TRANSPORT_AREAS_MAX];
	unsigned area_count;
	/* A file that other processes may map the areas of, the region at `file_offset`; borrowed. 0: none. */
	int file;
	uint64_t file_offset;
};

/* A write to the region that can signal an eventfd instead. */
struct transport_doorbell {
	uint64_t offset;
	unsigned width_bytes; /* 0: any */
	bool match;           /* only this value: */
	uint64_t value;
	int eventfd; /* borrowed */
};

struct transport_irq {
	unsigned count; /* vectors; 0: this kind does not exist */
	bool resizable; /* vectors can be added while others are in use (no VFIO_IRQ_INFO_NORESIZE) */
};

#define TRANSPORT_AFFECTED_MAX 64

/* A device that a hot reset would hit. */
struct transport_affected {
	uint16_t segment;
	uint8_t bus, devfn;
	/* By device id: > 0 an id in our address space, 0 not open but in a group that we own, -1 not ours. Else an IOMMU group. */
	int32_t id;
};

struct transport_hot_reset {
	bool by_device_id;
	bool owned;     /* by_device_id: the kernel says that it would do it for us */
	unsigned count; /* 0: no hot reset; more than TRANSPORT_AFFECTED_MAX: `affected` holds none of them */
	struct transport_affected affected[TRANSPORT_AFFECTED_MAX];
};

struct transport;

/* A device in another process, which can hang, die and come back. */
struct transport_remote_ops {
	/* Readable when there is something to serve. */
	int (*poll_fd)(struct transport *transport);
	void (*serve)(struct transport *transport);
	/* Why it is gone. */
	const char *(*reason)(struct transport *transport);
	/* Gives it up. @param reason  a constant */
	void (*end)(struct transport *transport, const char *reason);
	/* Which writes to a region can signal an eventfd. @return how many, at most `capacity`; or -errno */
	int (*doorbells)(struct transport *transport, unsigned region, struct transport_doorbell *out,
			 unsigned capacity, struct tenon_error *err);
	/*
	 * Of a device that is gone: connects again to one that is the same, which is reset and joins the space as before. Interrupts
	 * are off, mapped regions are to be mapped again.
	 */
	int (*reconnect)(struct transport *transport, struct tenon_error *err);
};

enum transport_health {
	TRANSPORT_WELL,
	TRANSPORT_HUNG, /* an answer is overdue; until it comes everything fails at once */
	TRANSPORT_GONE, /* for good, or until it is connected again */
};

struct transport_ops {
	int (*region_info)(struct transport *transport, unsigned region, struct transport_region *out,
			   struct tenon_error *err);
	int (*irq_info)(struct transport *transport, unsigned irq, struct transport_irq *out, struct tenon_error *err);

	/* Whole or not at all; 0 or -errno. */
	int (*region_read)(struct transport *transport, unsigned region, uint64_t offset, void *data,
			   unsigned size_bytes);
	int (*region_write)(struct transport *transport, unsigned region, uint64_t offset, const void *data,
			    unsigned size_bytes);

	/* Maps one area over reserved address space. */
	int (*region_map)(struct transport *transport, unsigned region, const struct transport_area *area,
			  void *address, struct tenon_error *err);

	/*
	 * Gives vectors first .. first + count - 1 their eventfds (-1: none) in one call; enables the kind if it was off.
	 * 0; or how many vectors the host has, when those are too few: then nothing is on; or -errno.
	 */
	int (*irq_arm)(struct transport *transport, unsigned irq, unsigned first, unsigned count, const int *eventfds,
		       struct tenon_error *err);
	/* Turns the kind off; all its eventfds are released. */
	int (*irq_disable)(struct transport *transport, unsigned irq, struct tenon_error *err);
	/* Level interrupts: a signal of `eventfd` unmasks the line. */
	int (*irq_unmask_on)(struct transport *transport, unsigned irq, int eventfd, struct tenon_error *err);
	/* Level interrupts: unmasks the line now. */
	int (*irq_unmask)(struct transport *transport, unsigned irq, struct tenon_error *err);

	/*
	 * VFIO_DEVICE_FEATURE: `argument` is struct vfio_device_feature with its data, in and out; `argsz` bytes of it. What a vfio-user
	 * peer answers is checked for its size. -ENOTTY: the device has no such feature.
	 */
	int (*feature)(struct transport *transport, struct vfio_device_feature *argument, struct tenon_error *err);
	/*
	 * The data of the state that the device is in. Of a VFIO file they go by `data_fd`, which came with that state; a vfio-user
	 * peer has none (-1). @return bytes, fewer than asked for, 0 at the end; or -errno: -EAGAIN and -ENOMSG nothing for now, and
	 * then `err` says nothing
	 */
	int64_t (*migration_read)(struct transport *transport, int data_fd, void *data, size_t capacity,
				  struct tenon_error *err);
	int64_t (*migration_write)(struct transport *transport, int data_fd, const void *data, size_t bytes,
				   struct tenon_error *err);
	/* VFIO_MIG_GET_PRECOPY_INFO, in PRE_COPY and PRE_COPY_P2P. `data_fd` as above. */
	int (*migration_pre_copy)(struct transport *transport, int data_fd, uint64_t *initial_bytes,
				  uint64_t *dirty_bytes, struct tenon_error *err);

	int (*reset)(struct transport *transport, struct tenon_error *err);
	/* What a reset of the device's slot or bus would hit. */
	int (*hot_reset_info)(struct transport *transport, struct transport_hot_reset *out, struct tenon_error *err);
	/* Does it. `group_fds` prove what is ours where hot_reset_info was not by device id; none otherwise. */
	int (*hot_reset)(struct transport *transport, const int *group_fds, unsigned count, struct tenon_error *err);
	void (*close)(struct transport *transport);
};

struct transport {
	const struct transport_ops *ops;
	const struct transport_remote_ops *remote; /* NULL: the kernel's device, which answers at once */
	enum transport_health health;
	bool missed; /* of `remote`: it did not hear in time, or at all, what sets it up: config space and interrupts */
	uint64_t
		budget_ns; /* how long its other end may keep the caller waiting, all calls together; of `remote` only */
	bool can_reset;
	unsigned region_count;
	unsigned irq_count;
};

#endif

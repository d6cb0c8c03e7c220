/* SPDX-License-Identifier: MIT */
/*
 * A VMM for tests: implements struct tenon_host_ops, keeps the rules of host.h and of KVM, and remembers all it is asked
 * for. Broken rules are reported as misuse (vfio_fake.h), so that every test sees them.
 */
#ifndef VFIO_HOST_H
#define VFIO_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/host.h>

#define HOST_FILES    32
#define HOST_ROUTES   4096
#define HOST_MAPS     32
#define HOST_MESSAGES 4096
#define HOST_LOGS     64
#define HOST_BELLS    64

enum host_op {
	HOST_FILE_ADD,
	HOST_MEMORY_MAP,
	HOST_MEMORY_UNMAP,
	HOST_ROUTE_SET,
	HOST_ROUTE_COMMIT,
	HOST_IRQFD_ATTACH,
	HOST_INTX_ATTACH,
	HOST_INTX_LEVEL,
	HOST_IOEVENTFD,
	HOST_OPS,
};

struct host_message {
	uint64_t address;
	uint32_t data;
};

struct host_route {
	bool used;
	struct host_message next, committed; /* what route_set said, and what is in force since the last commit */
	bool valid;                          /* was committed once */
	int eventfd;                         /* attached irqfd, -1: none */
};

struct fake_host {
	struct tenon_device *device; /* whose events the VMM's loop takes; NULL: there is no loop */
	struct tenon_host_ops ops;   /* a test may take optional ones out before it opens a device */
	unsigned calls[HOST_OPS];

	struct {
		uint64_t gpa, size_bytes;
		uint8_t *hva;
	} maps[HOST_MAPS];
	unsigned map_count;

	struct tenon_bar_placement bars[7]; /* the last: the expansion ROM */
	unsigned placements;

	struct host_route routes[HOST_ROUTES];
	unsigned route_count, route_count_max, irqfd_count;
	struct host_message delivered[HOST_MESSAGES];
	unsigned delivered_count;

	struct {
		int trigger, resample; /* -1: not attached */
		bool level;            /* what the guest sees: trigger's, or intx_level's */
		unsigned edges;        /* how often the line rose */
	} intx[5];                     /* by pin, 1-4 */

	struct tenon_ioeventfd bells[HOST_BELLS];
	unsigned bell_count;

	struct {
		enum tenon_log_level level;
		char text[512];
	} logs[HOST_LOGS];
	unsigned log_count;

	unsigned fail_in[HOST_OPS];
	int fail_error[HOST_OPS];
	int always_error[HOST_OPS];
};

void host_init(struct fake_host *host);
/** Fails the n-th call of an operation from now on. */
void host_fail(struct fake_host *host, enum host_op op, unsigned n, int error);
/** Fails every call of an operation from now on. */
void host_fail_always(struct fake_host *host, enum host_op op, int error);
/** Fails the n-th call of an operation from now on, counted over all hosts. @return whether the previous one has failed */
bool host_fail_any(enum host_op op, unsigned n, int error);

/** Lets "KVM" notice eventfds: delivers messages, raises lines. */
void host_run(struct fake_host *host);
/** host_run, and what the VMM's event loop does as long as it is woken. */
void host_loop(struct fake_host *host);
/** The guest ends the interrupt of an INTx pin. */
void host_end_of_interrupt(struct fake_host *host, unsigned pin);
/** How many messages with this data have been delivered, after host_loop. */
unsigned host_messages(struct fake_host *host, uint32_t data);

/** The guest writes to memory. @return whether that signalled an eventfd; else it traps */
bool host_ring(const struct fake_host *host, uint64_t gpa, unsigned size_bytes, uint64_t value);

/** Whether a guest physical address reaches BAR memory without a trap; the memory if so. */
uint8_t *host_mapped(const struct fake_host *host, uint64_t gpa);
bool host_logged(const struct fake_host *host, const char *text);
/** Describes what the VMM still holds for a device that is closed, or "". */
const char *host_leftovers(const struct fake_host *host);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * An emulated PCI Express device behind a vfio-user socket, made to exercise a VMM: every kind of interrupt, BAR, DMA and
 * migration state, faults on demand, and a journal of what broke the contract. Each part owns one member; registers.h is
 * what a driver sees. One thread; one client at a time.
 *
 * Call order: testdev_create; server_serve for each client; testdev_destroy. The device keeps its state between clients.
 */
#ifndef TESTDEV_H
#define TESTDEV_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/error.h>

#include "config_space.h"
#include "copy_engine.h"
#include "dma.h"
#include "doorbells.h"
#include "faults.h"
#include "irqs.h"
#include "journal.h"
#include "load.h"
#include "bar_memory.h"
#include "migration.h"

/* Zero means the default: everything on. */
struct testdev_options {
	bool no_migration; /* neither migration nor DMA logging */
	bool no_pre_copy;
	bool no_p2p;
	bool no_logging;
	bool no_twin_socket;
	bool no_mapping;         /* BARs are trapped whole */
	bool no_doorbell_fds;    /* doorbells are trapped */
	bool no_reset;           /* the reset message is not offered */
	bool fixed_msix;         /* vectors cannot be added one by one (VFIO_IRQ_INFO_NORESIZE) */
	bool long_sub_regions;   /* libvfio-user's layout of region I/O fds, not the specification's */
	bool quiet;              /* the journal is kept, not printed */
	uint32_t dma_timeout_ms; /* for an answer to a request for memory; 0: 5000 */
	uint32_t load_rate;      /* TD_LOAD_RATE after a reset */
	uint32_t block_rate;     /* chunks of the block that change in a second */
	uint64_t block_bytes;    /* multiple of 4 KiB; 0: 64 KiB */
	uint64_t data_bytes;     /* max_data_xfer_size; 0: 1 MiB */
	unsigned fault_count;
	struct fault faults[FAULTS_MAX];
};

struct session;

struct testdev {
	struct testdev_options options;
	struct journal journal;
	struct config_space config;
	struct bar_memory memory;
	struct irqs irqs;
	struct dma dma;
	struct copy_engine engine;
	struct load load;
	struct doorbells doorbells;
	struct migration migration;
	struct faults faults;
	struct session *session; /* NULL: no client */
	uint64_t scratch[2];
	uint32_t port_index, port_scratch;
	uint8_t msix_table[16 * TD_MSIX_VECTORS]; /* a driver may keep messages here; delivery is by eventfd */
	uint32_t resets_flr, resets_command, resets_power, connections;
};

/** @param out  owned by the caller */
int testdev_create(const struct testdev_options *options, struct testdev **out, struct tenon_error *err);
void testdev_destroy(struct testdev *device);

/** Puts registers and memory in their first state. Counts, journal, interrupts' eventfds and DMA mappings stay. */
void testdev_reset(struct testdev *device);

/** Whether the device may start DMA: running, and not quiescent for the sake of its peers. */
bool testdev_may_dma(const struct testdev *device);

uint64_t now_ns(void);

/** CRC-32 as zlib's: start with 0, pass the result on. */
uint32_t checksum(uint32_t before, const void *data, uint64_t bytes);

#endif

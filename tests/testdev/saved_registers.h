/* SPDX-License-Identifier: MIT */
/* The bodies of the stream's records IDENTITY and REGISTERS. */
#ifndef SAVED_REGISTERS_H
#define SAVED_REGISTERS_H

#include <stdint.h>

#include "registers.h"

#define STREAM_MAGIC UINT64_C(0x76656474736574)

struct stream_identity {
	uint64_t magic;
	uint32_t version;
	uint32_t unused;
	uint64_t block_bytes;
};

/* What a driver can see change when it is lost. Without padding. */
struct saved_registers {
	uint64_t scratch[2];
	uint64_t list_address, moved_bytes, fault_address;
	uint64_t copy_address; /* of the list in work */
	uint64_t source, target;
	uint64_t load_address, load_written, load_due;
	uint64_t block_changes;
	uint64_t msi_pending, msix_pending;
	uint32_t list_count, copy_irq, status, lists_done, checksum;
	uint32_t copying; /* 0 or 1 */
	uint32_t copy_count, copy_index, copy_position, length, flags, fetched;
	uint32_t load_pages, load_rate, load_page, load_faults;
	uint32_t irq_line, irqs_raised, irqs_delivered;
	uint32_t doorbell_irqs;
	uint32_t port_index, port_scratch;
	uint32_t doorbells[TD_DOORBELL_COUNT];
	uint8_t msix_table[16 * TD_MSIX_VECTORS];
};

struct testdev;

void saved_registers_get(const struct testdev *device, struct saved_registers *out);
/** @return 0, or -EBADMSG when no device can be in that state; nothing has changed then */
int saved_registers_set(struct testdev *device, const struct saved_registers *saved);

#endif

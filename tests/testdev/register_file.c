// SPDX-License-Identifier: MIT
/*
 * The registers of registers.h, each 32 bits at a time. An access of 8 bytes is two of 4, lower one first; any other size or
 * alignment is a bad access, which reads all ones and writes nothing.
 */
#include <linux/vfio.h>
#include <string.h>

#include "register_file.h"
#include "server.h"
#include "testdev.h"

#define MSIX_TABLE_BYTES (16 * TD_MSIX_VECTORS)

static uint32_t low(uint64_t value)
{
	return (uint32_t)value;
}

static uint32_t high(uint64_t value)
{
	return (uint32_t)(value >> 32);
}

/* One half of a 64-bit register. */
static void set_half(uint64_t *value, bool upper, uint32_t half)
{
	*value = upper ? low(*value) | (uint64_t)half << 32 : (*value & ~(uint64_t)UINT32_MAX) | half;
}

static void bad_access(struct testdev *device, uint32_t offset, const char *what)
{
	journal_add(device, TD_BAD_ACCESS, offset, "%s at 0x%x", what, offset);
}

static uint32_t features(const struct testdev *device)
{
	const struct testdev_options *options = &device->options;
	uint32_t bits = 0;
	if (!options->no_migration) {
		bits |= TD_FEATURE_MIGRATION | (options->no_pre_copy ? 0 : TD_FEATURE_PRE_COPY) |
			(options->no_p2p ? 0 : TD_FEATURE_P2P) | (options->no_logging ? 0 : TD_FEATURE_LOGGING);
	}
	if (device->dma.by_message)
		bits |= TD_FEATURE_MESSAGES | (server_has_twin(device) ? TD_FEATURE_TWIN : 0);
	return bits;
}

/* 64-bit registers that hold what is written: the address of the value, or NULL. */
static uint64_t *wide_register(struct testdev *device, uint32_t offset)
{
	switch (offset & ~7u) {
	case TD_SCRATCH:
		return &device->scratch[0];
	case TD_SCRATCH2:
		return &device->scratch[1];
	case TD_LIST_ADDRESS:
		return &device->engine.list_address;
	case TD_LOAD_ADDRESS:
		return &device->load.address;
	default:
		return NULL;
	}
}

/* 32-bit registers that hold what is written. */
static uint32_t *narrow_register(struct testdev *device, uint32_t offset)
{
	switch (offset) {
	case TD_LIST_COUNT:
		return &device->engine.list_count;
	case TD_COPY_IRQ:
		return &device->engine.irq;
	case TD_LOAD_PAGES:
		return &device->load.pages;
	case TD_LOAD_RATE:
		return &device->load.rate;
	case TD_LOAD_PAGE:
		return &device->load.page;
	case TD_DOORBELL_IRQS:
		return &device->doorbells.irqs;
	case TD_JOURNAL_INDEX:
		return &device->journal.index;
	default:
		return NULL;
	}
}

static uint32_t read_journal(const struct testdev *device, uint32_t offset)
{
	const struct journal *journal = &device->journal;
	const struct journal_entry *entry = journal_entry(journal, journal->index);
	switch (offset) {
	case TD_VIOLATIONS:
		return journal->count;
	case TD_VIOLATION_KINDS:
		return journal->kinds;
	case TD_JOURNAL_KIND:
		return entry ? entry->kind : 0;
	case TD_JOURNAL_STATE:
		return entry ? entry->state : 0;
	case TD_JOURNAL_DETAIL:
		return entry ? low(entry->detail) : 0;
	default:
		return entry ? high(entry->detail) : 0;
	}
}

static uint32_t read_engine(const struct testdev *device, uint32_t offset)
{
	const struct copy_engine *engine = &device->engine;
	switch (offset) {
	case TD_STATUS:
		return engine->status;
	case TD_COPIES:
		return engine->lists_done;
	case TD_COPIED_BYTES:
		return low(engine->moved_bytes);
	case TD_COPIED_BYTES + 4:
		return high(engine->moved_bytes);
	case TD_CHECKSUM:
		return engine->checksum;
	case TD_FAULT_ADDRESS:
		return low(engine->fault_address);
	case TD_FAULT_ADDRESS + 4:
		return high(engine->fault_address);
	default:
		return engine->index;
	}
}

/* Those that the device alone changes, and those that writing makes do something: what they read. */
static uint32_t read_status(struct testdev *device, uint32_t offset)
{
	switch (offset) {
	case TD_ID:
		return TD_ID_VALUE;
	case TD_VERSION:
		return TD_VERSION_VALUE;
	case TD_FEATURES:
		return features(device);
	case TD_STATE:
		return device->migration.state;
	case TD_RESETS_FLR:
		return device->resets_flr;
	case TD_RESETS_COMMAND:
		return device->resets_command;
	case TD_RESETS_POWER:
		return device->resets_power;
	case TD_CONNECTIONS:
		return device->connections;
	case TD_IRQ_LINE:
		return device->irqs.line;
	case TD_IRQ_RAISED:
		return device->irqs.raised;
	case TD_IRQ_DELIVERED:
		return device->irqs.delivered;
	case TD_LOAD_WRITTEN:
		return low(device->load.written);
	case TD_LOAD_WRITTEN + 4:
		return high(device->load.written);
	case TD_LOAD_SEQUENCE:
		return device->load.page < TD_LOAD_PAGES_MAX ? device->load.sequence[device->load.page] : 0;
	case TD_LOAD_FAULTS:
		return device->load.faults;
	case TD_DOORBELL_WOKEN:
		return low(device->doorbells.woken_ns);
	case TD_DOORBELL_WOKEN + 4:
		return high(device->doorbells.woken_ns);
	case TD_BLOCK_BYTES:
		return low(device->migration.block_bytes);
	case TD_BLOCK_BYTES + 4:
		return high(device->migration.block_bytes);
	case TD_BLOCK_CHECKSUM:
		return checksum(0, device->migration.block, device->migration.block_bytes);
	case TD_IRQ_RAISE:
	case TD_CONTROL:
	case TD_LOAD_STEP:
	case TD_BLOCK_CHANGE:
		return 0;
	default:
		bad_access(device, offset, "no register to read");
		return UINT32_MAX;
	}
}

static uint32_t read_word(struct testdev *device, uint32_t offset)
{
	if (offset >= TD_MSIX_PBA && offset < TD_MSIX_PBA + 8)
		return (uint32_t)(device->irqs.pending[VFIO_PCI_MSIX_IRQ_INDEX] >> (8 * (offset - TD_MSIX_PBA)));
	if (offset >= TD_MSIX_TABLE && offset < TD_MSIX_TABLE + MSIX_TABLE_BYTES) {
		uint32_t value;
		memcpy(&value, device->msix_table + (offset - TD_MSIX_TABLE), sizeof(value));
		return value;
	}
	if (offset >= TD_DOORBELL(0) && offset < TD_DOORBELL(TD_DOORBELL_COUNT))
		return 0;
	if (offset >= TD_DOORBELLS && offset < TD_DOORBELLS + 4 * TD_DOORBELL_COUNT)
		return device->doorbells.counts[(offset - TD_DOORBELLS) / 4];
	const uint64_t *wide = wide_register(device, offset);
	if (wide)
		return offset & 4 ? high(*wide) : low(*wide);
	const uint32_t *narrow = narrow_register(device, offset);
	if (narrow)
		return *narrow;
	if (offset >= TD_STATUS && offset <= TD_LIST_DONE)
		return read_engine(device, offset);
	if (offset >= TD_VIOLATIONS && offset <= TD_JOURNAL_DETAIL + 4 && offset != TD_JOURNAL_STATE + 4)
		return read_journal(device, offset);
	return read_status(device, offset);
}

static void write_control(struct testdev *device, uint32_t value)
{
	if (value & TD_CONTROL_ABORT)
		copy_engine_abort(device, TD_REASON_ABORT);
	if (value & TD_CONTROL_START)
		copy_engine_start(device);
}

static void write_word(struct testdev *device, uint32_t offset, uint32_t value)
{
	uint64_t *wide = wide_register(device, offset);
	uint32_t *narrow = narrow_register(device, offset);
	if (offset >= TD_MSIX_TABLE && offset < TD_MSIX_TABLE + MSIX_TABLE_BYTES) {
		memcpy(device->msix_table + (offset - TD_MSIX_TABLE), &value, sizeof(value));
	} else if (offset >= TD_DOORBELL(0) && offset < TD_DOORBELL(TD_DOORBELL_COUNT)) {
		if (offset % 8 == 0)
			doorbells_ring(device, (offset - TD_DOORBELL(0)) / 8);
	} else if (wide) {
		set_half(wide, offset & 4, value);
	} else if (narrow) {
		*narrow = value;
	} else {
		switch (offset) {
		case TD_CONTROL:
			write_control(device, value);
			break;
		case TD_IRQ_RAISE:
			irqs_raise(device, value);
			break;
		case TD_IRQ_LINE:
			irqs_set_line(device, value & 1);
			break;
		case TD_LOAD_STEP:
			load_step(device, value);
			break;
		case TD_BLOCK_CHANGE:
			migration_change_block(device, value);
			break;
		default:
			bad_access(device, offset, "no register to write");
		}
	}
}

static bool is_register_access(uint32_t offset, uint32_t bytes)
{
	return (bytes == 4 || bytes == 8) && offset % bytes == 0;
}

void registers_read(struct testdev *device, uint32_t offset, uint8_t *data, uint32_t bytes)
{
	if (!is_register_access(offset, bytes)) {
		bad_access(device, offset, "read of a bad size or alignment");
		memset(data, 0xff, bytes);
		return;
	}
	for (uint32_t i = 0; i < bytes; i += 4) {
		uint32_t value = read_word(device, offset + i);
		memcpy(data + i, &value, sizeof(value));
	}
}

void registers_write(struct testdev *device, uint32_t offset, const uint8_t *data, uint32_t bytes)
{
	if (!is_register_access(offset, bytes)) {
		bad_access(device, offset, "write of a bad size or alignment");
		return;
	}
	for (uint32_t i = 0; i < bytes; i += 4) {
		uint32_t value;
		memcpy(&value, data + i, sizeof(value));
		write_word(device, offset + i, value);
	}
}

/* The register that TD_PORT_INDEX selects; doorbells and MSI-X have no way through the ports. */
static bool port_selects(const struct testdev *device)
{
	return device->port_index < 0x1000 && device->port_index % 4 == 0;
}

void ports_read(struct testdev *device, uint32_t offset, uint8_t *data, uint32_t bytes)
{
	if (offset == TD_PORT_INDEX && bytes == 4)
		memcpy(data, &device->port_index, 4);
	else if (offset == TD_PORT_DATA && bytes == 4 && port_selects(device))
		registers_read(device, device->port_index, data, 4);
	else if (offset >= TD_PORT_SCRATCH && offset + bytes <= TD_PORT_SCRATCH + 4)
		memcpy(data, (const uint8_t *)&device->port_scratch + (offset - TD_PORT_SCRATCH), bytes);
	else {
		bad_access(device, offset, "no port to read");
		memset(data, 0xff, bytes);
	}
}

void ports_write(struct testdev *device, uint32_t offset, const uint8_t *data, uint32_t bytes)
{
	if (offset == TD_PORT_INDEX && bytes == 4)
		memcpy(&device->port_index, data, 4);
	else if (offset == TD_PORT_DATA && bytes == 4 && port_selects(device))
		registers_write(device, device->port_index, data, 4);
	else if (offset >= TD_PORT_SCRATCH && offset + bytes <= TD_PORT_SCRATCH + 4)
		memcpy((uint8_t *)&device->port_scratch + (offset - TD_PORT_SCRATCH), data, bytes);
	else
		bad_access(device, offset, "no port to write");
}

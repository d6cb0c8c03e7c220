// SPDX-License-Identifier: MIT
/*
 * Interrupts: INTx (PCI Local Bus 3.0, 2.2.6), MSI and MSI-X (6.8). Where no driver can make the device interrupt, registers are
 * what is left to check.
 */
#include <stddef.h>

#include "check.h"
#include "cpu.h"
#include "driver.h"
#include "interrupts.h"

#define PATIENCE_US 2000000 /* for an interrupt that comes */
#define LOOK_US     50000   /* until then, whether the device is still there */
#define SILENCE_US  2000    /* for one that must not */

static const struct function *line_owner;
static const struct driver *line_driver;

static void quiet_line(void)
{
	line_driver->quiet(line_owner);
}

static uint64_t ns_of_ticks(uint64_t ticks)
{
	uint64_t hz = machine.tsc_hz ? machine.tsc_hz : 1;
	return ticks * 1000 / (hz / 1000000 ? hz / 1000000 : 1);
}

enum raised { CAME, LOST, UNABLE };

/* A device that is gone does not keep us waiting. */
static bool comes(const struct function *function, const struct driver *driver, unsigned vector, uint32_t count)
{
	for (unsigned i = 0; i < PATIENCE_US / LOOK_US; i++) {
		if (interrupts_wait(vector, count, LOOK_US))
			return true;
		if (driver_register(function, driver) == 0xffffffff)
			return false;
	}
	return false;
}

/* Raises an interrupt and waits for it. */
static enum raised raise(const struct function *function, const struct driver *driver, enum irq_kind kind,
			 unsigned number, unsigned vector, uint64_t *latency_ns)
{
	uint32_t before = interrupts_count(vector);
	uint64_t started = read_tsc();
	if (!driver->raise(function, kind, number))
		return UNABLE;
	if (!comes(function, driver, vector, before + 1))
		return LOST;
	*latency_ns = ns_of_ticks(interrupts_time(vector) - started);
	return CAME;
}

/* Makes the device able to interrupt. Some take note of the kind of interrupt at that moment, so it is enabled already. */
static bool starts(const struct function *function, const struct driver *driver)
{
	const char *trouble = driver->start(function);
	if (trouble)
		check_fail("%s", trouble);
	return !trouble;
}

/* raise, where nothing but its coming will do: else the check has failed. */
static bool must_come(const struct function *function, const struct driver *driver, enum irq_kind kind, unsigned vector,
		      uint64_t *latency_ns)
{
	enum raised raised = raise(function, driver, kind, 0, vector, latency_ns);
	if (raised == UNABLE)
		check_fail("the device could not be made to raise an interrupt");
	else if (raised == LOST)
		check_fail("an interrupt was raised and did not come");
	return raised == CAME;
}

static void check_line(const struct function *function, const struct driver *driver)
{
	uint8_t pin = config_read8(function, PCI_INTERRUPT_PIN);
	unsigned gsi = config_read8(function, PCI_INTERRUPT_LINE);
	uint64_t first, second;
	check_begin(function, "intx");
	if (!pin) {
		check_skip("the device has no interrupt pin");
		return;
	}
	if (!driver || !driver->quiet) {
		check_skip("pin INT%c at GSI %u; no driver here makes it interrupt", 'A' + pin - 1, gsi);
		return;
	}
	line_owner = function;
	line_driver = driver;
	interrupts_route_line(gsi, quiet_line);
	set_command(function, 0, COMMAND_INTX_OFF);
	/* Twice: the second one shows that the end of the first was noticed. */
	if (starts(function, driver) && must_come(function, driver, IRQ_LINE, VECTOR_LINE, &first) &&
	    must_come(function, driver, IRQ_LINE, VECTOR_LINE, &second))
		check_pass("INT%c at GSI %u delivered after %lu ns, and again after %lu ns", 'A' + pin - 1, gsi, first,
			   second);
	set_command(function, COMMAND_INTX_OFF, 0);
	interrupts_unroute_line(gsi);
}

/* The others, after vector 0; a driver that cannot raise them need not. */
static void drive_msi(const struct function *function, const struct driver *driver, unsigned vectors, uint64_t first)
{
	unsigned delivered = 1;
	uint64_t latency;
	for (unsigned i = 1; i < vectors; i++) {
		enum raised raised = raise(function, driver, IRQ_MSI, i, VECTOR_MESSAGES + i, &latency);
		if (raised == LOST) {
			check_fail("vector %u was raised and did not come", i);
			return;
		}
		delivered += raised == CAME;
	}
	check_pass("%u vectors; vector 0 delivered after %lu ns, %u of them in all", vectors, first, delivered);
}

static void check_msi(const struct function *function, const struct driver *driver)
{
	unsigned at = find_capability(function, CAP_MSI);
	uint64_t latency;
	check_begin(function, "msi");
	if (!at) {
		check_skip("the device has none");
		return;
	}
	uint16_t control = config_read16(function, at + MSI_CONTROL);
	unsigned vectors = MSI_CAPABLE(control), log = control >> 1 & 7;
	config_write32(function, at + MSI_ADDRESS, MESSAGE_ADDRESS);
	if (control & MSI_64BIT)
		config_write32(function, at + MSI_ADDRESS + 4, 0);
	config_write16(function, at + MSI_ADDRESS + (control & MSI_64BIT ? 8 : 4), MESSAGE_DATA(VECTOR_MESSAGES));
	config_write16(function, at + MSI_CONTROL, (uint16_t)(log << 4 | MSI_ENABLE));
	if (!(config_read16(function, at + MSI_CONTROL) & MSI_ENABLE))
		check_fail("cannot be enabled");
	else if (!driver)
		check_pass("%u vectors, can be enabled; no driver here makes it interrupt", vectors);
	else if (starts(function, driver) && must_come(function, driver, IRQ_MSI, VECTOR_MESSAGES, &latency))
		drive_msi(function, driver, vectors, latency);
	config_write16(function, at + MSI_CONTROL, 0);
}

/* ---- MSI-X ---- */

struct table {
	uint64_t entries, pending; /* addresses */
	unsigned vectors;
};

static void set_entry(const struct table *table, unsigned index, unsigned vector, bool masked)
{
	uint64_t entry = table->entries + (uint64_t)index * MSIX_ENTRY_BYTES;
	write32(entry, MESSAGE_ADDRESS);
	write32(entry + 4, 0);
	write32(entry + 8, MESSAGE_DATA(vector));
	write32(entry + 12, masked);
}

static bool is_pending(const struct table *table, unsigned index)
{
	return read64(table->pending + index / 64 * 8) >> index % 64 & 1;
}

/* A masked vector is remembered, and comes when it is unmasked (PCI Local Bus 3.0, 6.8.3.4). */
static bool masked_waits(const struct function *function, const struct driver *driver, const struct table *table,
			 unsigned index, unsigned vector)
{
	uint64_t entry = table->entries + (uint64_t)index * MSIX_ENTRY_BYTES;
	uint32_t before = interrupts_count(vector);
	write32(entry + 12, 1);
	driver->raise(function, IRQ_MSIX, index);
	wait_us(SILENCE_US);
	if (interrupts_count(vector) != before) {
		check_fail("vector %u came though it is masked", index);
		return false;
	}
	bool pending = is_pending(table, index);
	write32(entry + 12, 0);
	if (!comes(function, driver, vector, before + 1)) {
		check_fail("vector %u was raised while it was masked%s, and did not come when it was unmasked", index,
			   pending ? "" : " (its pending bit was not set)");
		return false;
	}
	return true;
}

static void drive_msix(const struct function *function, const struct driver *driver, const struct table *table)
{
	uint64_t first = 0, latency = 0;
	unsigned delivered = 0;
	for (unsigned i = 0; i < table->vectors; i++) {
		enum raised raised = raise(function, driver, IRQ_MSIX, i, VECTOR_MESSAGES + i % VECTOR_COUNT, &latency);
		if (raised == LOST) {
			check_fail("vector %u was raised and did not come", i);
			return;
		}
		if (raised == CAME)
			first = delivered++ ? first : latency;
	}
	if (masked_waits(function, driver, table, 0, VECTOR_MESSAGES))
		check_pass(
			"%u vectors; %u raised and delivered, the first after %lu ns; a masked one came when unmasked",
			table->vectors, delivered, first);
}

static void check_table(const struct function *function, const struct driver *driver, const struct table *table)
{
	uint64_t last = table->entries + (uint64_t)(table->vectors - 1) * MSIX_ENTRY_BYTES;
	if (!(read32(table->entries + 12) & 1)) {
		check_fail("vector 0 is not masked, though nobody has unmasked it");
		return;
	}
	for (unsigned i = 0; i < table->vectors; i++)
		set_entry(table, i, VECTOR_MESSAGES + i % VECTOR_COUNT, !driver);
	if (read32(last) != MESSAGE_ADDRESS ||
	    read32(last + 8) != MESSAGE_DATA(VECTOR_MESSAGES + (table->vectors - 1) % VECTOR_COUNT))
		check_fail("the table does not hold what is written: entry %u reads %08x, %08x", table->vectors - 1,
			   read32(last), read32(last + 8));
	else if (!driver)
		check_pass("%u vectors, the table holds what is written; no driver here makes it interrupt",
			   table->vectors);
	else if (starts(function, driver))
		drive_msix(function, driver, table);
}

static void check_msix(const struct function *function, const struct driver *driver)
{
	unsigned at = find_capability(function, CAP_MSIX);
	check_begin(function, "msi-x");
	if (!at) {
		check_skip("the device has none");
		return;
	}
	uint32_t where = config_read32(function, at + MSIX_TABLE), pba = config_read32(function, at + MSIX_PBA);
	const struct bar *bar = &function->bars[MSIX_BAR(where)], *pba_bar = &function->bars[MSIX_BAR(pba)];
	const struct table table = {
		.entries = bar->address + MSIX_OFFSET(where),
		.pending = pba_bar->address + MSIX_OFFSET(pba),
		.vectors = MSIX_SIZE(config_read16(function, at + MSIX_CONTROL)),
	};
	if (MSIX_BAR(where) >= BARS || MSIX_BAR(pba) >= BARS ||
	    MSIX_OFFSET(where) + table.vectors * MSIX_ENTRY_BYTES > bar->bytes || MSIX_OFFSET(pba) >= pba_bar->bytes) {
		check_fail("its table or its pending bits are in no BAR: %08x, %08x", where, pba);
		return;
	}
	config_write16(function, at + MSIX_CONTROL, MSIX_ENABLE);
	if (!(config_read16(function, at + MSIX_CONTROL) & MSIX_ENABLE))
		check_fail("cannot be enabled");
	else
		check_table(function, driver, &table);
	for (unsigned i = 0; i < table.vectors; i++)
		write32(table.entries + (uint64_t)i * MSIX_ENTRY_BYTES + 12, 1);
	config_write16(function, at + MSIX_CONTROL, 0);
}

void check_interrupts(const struct function *function, const struct driver *driver)
{
	set_command(function, COMMAND_MEMORY | COMMAND_IO | COMMAND_MASTER | COMMAND_INTX_OFF, 0);
	check_line(function, driver);
	check_msi(function, driver);
	check_msix(function, driver);
}

// SPDX-License-Identifier: MIT
/* The journal: a ring of entries and a count of each kind. */
#include <stdarg.h>

#include "testdev.h"

static const char *const kind_names[TD_BAD_KINDS] = {
	[TD_BAD_STOPPED_ACCESS] = "access-while-stopped",
	[TD_BAD_STOPPED_MEMORY] = "memory-changed-while-stopped",
	[TD_BAD_STOPPED_RESET] = "reset-while-stopped",
	[TD_BAD_DECODE] = "access-without-decoding",
	[TD_BAD_POWER] = "access-in-d3",
	[TD_BAD_MASTER] = "dma-without-bus-mastering",
	[TD_BAD_ACCESS] = "bad-access",
	[TD_BAD_SRIOV] = "sriov-write",
	[TD_BAD_DMA] = "dma-fault",
	[TD_BAD_UNMAP] = "unmapped-in-use",
	[TD_BAD_IRQ] = "two-interrupt-kinds",
	[TD_BAD_MESSAGE] = "bad-message",
	[TD_BAD_STREAM] = "bad-migration-data",
	[TD_BAD_TRANSITION] = "bad-transition",
};

static const char *kind_name(unsigned kind)
{
	return kind < TD_BAD_KINDS && kind_names[kind] ? kind_names[kind] : "unknown";
}

void journal_add(struct testdev *device, unsigned kind, uint64_t detail, const char *format, ...)
{
	struct journal *journal = &device->journal;
	struct journal_entry *entry = &journal->entries[journal->count++ % TD_JOURNAL_MAX];
	*entry = (struct journal_entry){.kind = kind, .state = device->migration.state, .detail = detail};
	journal->kinds |= 1u << kind;
	journal->counts[kind]++;

	va_list args;
	va_start(args, format);
	vsnprintf(entry->text, sizeof(entry->text), format, args);
	va_end(args);
	/* A hostile client breaks it as often as it likes; the first lines of each kind say what it does. */
	if (!device->options.quiet && journal->counts[kind] <= 16)
		fprintf(stderr, "tenon-testdev: %s in state %s: %s\n", kind_name(kind),
			migration_state_name(entry->state), entry->text);
}

const struct journal_entry *journal_entry(const struct journal *journal, uint32_t n)
{
	uint32_t kept = journal->count < TD_JOURNAL_MAX ? journal->count : TD_JOURNAL_MAX;
	return n < kept ? &journal->entries[(journal->count - 1 - n) % TD_JOURNAL_MAX] : NULL;
}

void journal_print(const struct journal *journal, FILE *out)
{
	for (unsigned kind = 1; kind < TD_BAD_KINDS; kind++) {
		if (journal->counts[kind])
			fprintf(out, "violation %s %u\n", kind_name(kind), journal->counts[kind]);
	}
	fprintf(out, "violations %u\n", journal->count);
}

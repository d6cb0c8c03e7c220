// SPDX-License-Identifier: MIT
/* What the caller is told of an outgoing migration. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "outgoing.h"

#define REPORT_NS 100000000u

static uint64_t sent_pages(const struct ram_sender_counts *counts)
{
	return counts->pages + counts->zero_pages;
}

void outgoing_due(struct tenon_outgoing *outgoing, uint64_t bytes)
{
	struct ram_sender_counts counts;
	ram_sender_counts(outgoing->ram, &counts);
	outgoing->due_bytes = outgoing->progress.left_bytes = bytes;
	outgoing->due_pages = sent_pages(&counts);
}

static void fill(struct tenon_outgoing *outgoing, uint64_t now)
{
	struct tenon_migration_progress *progress = &outgoing->progress;
	struct ram_sender_counts counts = {0};
	progress->size = sizeof(*progress);
	progress->elapsed_ns = now - outgoing->started_ns;
	progress->ram_bytes = 0;
	for (unsigned i = 0; i < outgoing->machine->ram_count; i++)
		progress->ram_bytes += outgoing->machine->ram[i].size_bytes;
	if (outgoing->ram)
		ram_sender_counts(outgoing->ram, &counts);
	uint64_t since = (sent_pages(&counts) - outgoing->due_pages) * TENON_MIGRATION_PAGE_BYTES;
	if (outgoing->ram)
		progress->left_bytes = since < outgoing->due_bytes ? outgoing->due_bytes - since : 0;
	progress->pages = counts.pages;
	progress->zero_pages = counts.zero_pages;
	progress->sent_bytes = counts.bytes;
	progress->device_count = outgoing->devices.count;
	for (unsigned i = 0; i < outgoing->devices.count; i++) {
		const struct tenon_migratable *device = &outgoing->devices.list[i];
		snprintf(progress->devices[i].name, sizeof(progress->devices[i].name), "%s", device->name);
		progress->devices[i].state = device->ops->state(device->context);
		progress->sent_bytes += progress->devices[i].sent_bytes;
	}
	if (outgoing->round_started_ns && now > outgoing->round_started_ns &&
	    progress->phase == TENON_MIGRATION_PHASE_PRE_COPY)
		progress->bytes_per_second = (uint64_t)((double)(counts.bytes - outgoing->round_sent_bytes) * 1e9 /
							(double)(now - outgoing->round_started_ns));
}

void outgoing_report(struct tenon_outgoing *outgoing, bool now)
{
	uint64_t time_ns = clock_now_ns();
	if (!outgoing->options.progress || (!now && time_ns - outgoing->reported_ns < REPORT_NS))
		return;
	outgoing->reported_ns = time_ns;
	fill(outgoing, time_ns);
	outgoing->options.progress(outgoing->options.progress_context, &outgoing->progress);
}

void outgoing_phase(struct tenon_outgoing *outgoing, enum tenon_migration_phase phase)
{
	outgoing->progress.phase = phase;
	outgoing_report(outgoing, true);
}

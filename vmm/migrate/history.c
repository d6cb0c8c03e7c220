// SPDX-License-Identifier: MIT
/* Keeps of a migration's events what its report draws. */
#include <string.h>

#include "history.h"

static void add_sample(struct history *history, const struct tenon_migration_progress *progress)
{
	if (history->stride == 0)
		history->stride = 1;
	if (history->skipped++ % history->stride)
		return;
	if (history->sample_count == HISTORY_SAMPLES_MAX) {
		for (unsigned i = 0; i < HISTORY_SAMPLES_MAX / 2; i++)
			history->samples[i] = history->samples[2 * i];
		history->sample_count /= 2;
		history->stride *= 2;
	}
	history->samples[history->sample_count++] =
		(struct history_sample){.at_ns = progress->elapsed_ns, .left_bytes = progress->left_bytes};
}

static void add_phase(struct history *history, const struct tenon_migration_progress *progress)
{
	struct history_phase *phase = history->phase_count ? &history->phases[history->phase_count - 1] : NULL;
	if (phase)
		phase->end_ns = progress->elapsed_ns;
	if (phase && (phase->phase == progress->phase || history->phase_count == HISTORY_PHASES_MAX))
		return;
	history->phases[history->phase_count++] =
		(struct history_phase){/* The first event may come late: what came before it is of its phase. */
				       .phase = progress->phase,
				       .begin_ns = phase ? progress->elapsed_ns : 0,
				       .end_ns = progress->elapsed_ns};
}

/* How many phases came before the switch. */
static unsigned phases_before(const struct history *history)
{
	unsigned count = 0;
	while (count < history->phase_count && history->phases[count].phase < TENON_MIGRATION_PHASE_STOPPING)
		count++;
	return count;
}

/* Whether it is over, and told what the switch took, without anybody having had to find out who runs. */
static bool has_plain_switch(const struct history *history, const struct tenon_migration_progress *progress)
{
	unsigned count = phases_before(history);
	uint64_t begin = count ? history->phases[count - 1].begin_ns : 0;
	for (unsigned i = count; i < history->phase_count; i++) {
		if (history->phases[i].phase == TENON_MIGRATION_PHASE_RESOLVE)
			return false;
	}
	return progress->phase == TENON_MIGRATION_PHASE_DONE && progress->downtime_ns &&
	       count + 4 <= HISTORY_PHASES_MAX && progress->downtime_ns <= progress->elapsed_ns &&
	       progress->elapsed_ns - progress->downtime_ns >= begin;
}

/*
 * The switch takes milliseconds, and events come ten times a second: of its phases some are never seen. What it took is told in the end,
 * and that is where they were.
 */
static void place_switch(struct history *history, const struct tenon_migration_progress *progress)
{
	const struct {
		enum tenon_migration_phase phase;
		uint64_t ns;
	} parts[] = {
		{TENON_MIGRATION_PHASE_STOPPING, progress->stop_vcpus_ns + progress->stop_devices_ns},
		{TENON_MIGRATION_PHASE_STOP_COPY,
		 progress->last_pages_ns + progress->device_data_ns + progress->parts_ns},
		{TENON_MIGRATION_PHASE_COMMIT, progress->commit_ns},
		{TENON_MIGRATION_PHASE_DONE, 0},
	};
	uint64_t at = progress->elapsed_ns - progress->downtime_ns;
	unsigned count = phases_before(history);
	if (count)
		history->phases[count - 1].end_ns = at;
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		history->phases[count++] =
			(struct history_phase){.phase = parts[i].phase, .begin_ns = at, .end_ns = at + parts[i].ns};
		at += parts[i].ns;
	}
	history->phase_count = count;
}

static void add_round(struct history *history, const struct tenon_migration_progress *progress)
{
	struct history_round *round = history->round_count ? &history->rounds[history->round_count - 1] : NULL;
	bool goes_on = progress->phase == TENON_MIGRATION_PHASE_PRE_COPY && progress->round > 0;
	/* What was written to in a round is known when it is over: the next round's first event tells. */
	if (round && history->last.phase == TENON_MIGRATION_PHASE_PRE_COPY) {
		round->end_ns = progress->elapsed_ns;
		round->sent_bytes =
			progress->sent_bytes > history->sent_before ? progress->sent_bytes - history->sent_before : 0;
		round->dirty_per_second = progress->dirty_per_second;
		/* Of a short round no event may have come that says it. */
		if (round->end_ns > round->begin_ns)
			round->bytes_per_second =
				(uint64_t)((double)round->sent_bytes * 1e9 / (double)(round->end_ns - round->begin_ns));
	}
	if (!goes_on || (round && round->number == progress->round))
		return;
	if (history->round_count == HISTORY_ROUNDS_MAX) {
		memmove(history->rounds, history->rounds + 1, (HISTORY_ROUNDS_MAX - 1) * sizeof(*round));
		history->round_count--;
		history->rounds_dropped++;
	}
	history->sent_before = progress->sent_bytes;
	history->rounds[history->round_count++] = (struct history_round){
		.number = progress->round,
		.begin_ns = progress->elapsed_ns,
		.end_ns = progress->elapsed_ns,
		.left_bytes = progress->left_bytes,
		.bytes_per_second = progress->bytes_per_second,
		.dirty_per_second = progress->dirty_per_second,
	};
}

void history_add(struct history *history, const struct tenon_migration_progress *progress)
{
	add_sample(history, progress);
	add_phase(history, progress);
	if (has_plain_switch(history, progress))
		place_switch(history, progress);
	add_round(history, progress);
	history->last = *progress;
}

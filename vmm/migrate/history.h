/* SPDX-License-Identifier: MIT */
/* What a migration's progress was over time, for its report: bounded, however long it takes. */
#ifndef MIGRATE_HISTORY_H
#define MIGRATE_HISTORY_H

#include <tenon-migration/migrate.h>

#define HISTORY_SAMPLES_MAX 4096u
#define HISTORY_ROUNDS_MAX  512u
#define HISTORY_PHASES_MAX  16u

struct history_sample {
	uint64_t at_ns, left_bytes;
};

/* A phase, from its first event to the next phase's; in the end those of the switch are where its times say that they were. */
struct history_phase {
	enum tenon_migration_phase phase;
	uint64_t begin_ns, end_ns;
};

/* A round of pre-copy. */
struct history_round {
	unsigned number;
	uint64_t begin_ns, end_ns, left_bytes, sent_bytes; /* at its begin; by it */
	uint64_t bytes_per_second, dirty_per_second;
};

struct history {
	struct history_sample samples[HISTORY_SAMPLES_MAX];
	struct history_phase phases[HISTORY_PHASES_MAX];
	struct history_round rounds[HISTORY_ROUNDS_MAX]; /* the last so many */
	unsigned sample_count, phase_count, round_count, rounds_dropped;
	unsigned stride, skipped; /* one of so many samples is kept, since there is no room for all */
	uint64_t sent_before;     /* the round under way */
	struct tenon_migration_progress last;
};

/** @param history  all zero at first */
void history_add(struct history *history, const struct tenon_migration_progress *progress);

#endif

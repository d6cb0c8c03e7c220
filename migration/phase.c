// SPDX-License-Identifier: MIT
/* The names of a migration's phases. */
#include <tenon-migration/migrate.h>

const char *tenon_migration_phase_name(enum tenon_migration_phase phase)
{
	static const char *const names[TENON_MIGRATION_PHASES] = {
		[TENON_MIGRATION_PHASE_SETUP] = "set-up",      [TENON_MIGRATION_PHASE_PRE_COPY] = "pre-copy",
		[TENON_MIGRATION_PHASE_STOPPING] = "stopping", [TENON_MIGRATION_PHASE_STOP_COPY] = "stop-copy",
		[TENON_MIGRATION_PHASE_COMMIT] = "commit",     [TENON_MIGRATION_PHASE_RESOLVE] = "resolve",
		[TENON_MIGRATION_PHASE_DONE] = "done",         [TENON_MIGRATION_PHASE_FAILED] = "failed",
	};
	return (unsigned)phase < TENON_MIGRATION_PHASES ? names[phase] : "unknown";
}

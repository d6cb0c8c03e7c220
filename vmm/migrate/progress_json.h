/* SPDX-License-Identifier: MIT */
/*
 * What is told of a migration, as JSON: the engine's side writes it, the command's reads it.
 *
 * {"event": "progress", "phase": "pre-copy", "round": 2, "elapsed_ns": ..., every other number of struct tenon_migration_progress by its
 * name, "devices": [{"name": "0000:3b:00.0", "state": "PRE_COPY", "sent_bytes": ..., "left_bytes": ...}]}
 */
#ifndef MIGRATE_PROGRESS_JSON_H
#define MIGRATE_PROGRESS_JSON_H

#include <json-c/json.h>

#include "engine.h"

json_object *progress_json(const struct tenon_migration_progress *progress);

/** Reads it back. What the object lacks is zero. @return 0, or -EINVAL: it is no progress of a migration */
int progress_parse(json_object *object, struct tenon_migration_progress *progress, struct tenon_error *err);

/** {"ok": true, "possible": ..., "total_ns": ..., "downtime_ns": ..., "blockers": ["...", ...]} */
json_object *check_json(const struct tenon_migration_check *check);

/** {"ok": true, "state": "running", "incoming": false, "end": "moved", "error": "...", "progress": {...}}; the last three where they are */
json_object *outcome_json(const struct engine_outcome *outcome, const struct tenon_migration_progress *progress);

/** What ends the answer to "migrate": {"ok": true, "end": "moved"}, or {"ok": false, "error": "...", "end": "resumed"}. */
json_object *end_json(const struct engine_outcome *outcome);

#endif

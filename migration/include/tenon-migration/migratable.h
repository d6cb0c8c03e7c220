/* SPDX-License-Identifier: MIT */
/*
 * What moves: a machine is RAM, devices and named parts (vCPUs, interrupt controllers, the VMM's own devices), offered to a migration by
 * these tables. The migration calls them from its own thread, one call at a time.
 */
#ifndef TENON_MIGRATION_MIGRATABLE_H
#define TENON_MIGRATION_MIGRATABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>
#include <tenon/migration.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define TENON_MIGRATION_PAGE_BYTES 4096u
#define TENON_MIGRATION_NAME_MAX   64u /* of a device or part, with its end */
#define TENON_MIGRATION_DEVICES    32u
#define TENON_MIGRATION_RAM        16u

struct tenon_migration_ram {
	uint64_t gpa; /* page aligned */
	uint64_t size_bytes;
	void *hva; /* borrowed */
};

/* A device. Each call as the one of <tenon/migration.h> with that name; `set` goes to any state. */
struct tenon_migratable_ops {
	size_t size;
	int (*info)(void *context, struct tenon_migration_info *info, struct tenon_error *err);
	enum tenon_migration_state (*state)(void *context);
	int (*set)(void *context, enum tenon_migration_state state, struct tenon_error *err);
	int64_t (*read)(void *context, void *data, size_t capacity, struct tenon_error *err);
	int (*write)(void *context, const void *data, size_t bytes, struct tenon_error *err);
	int (*pre_copy)(void *context, uint64_t *initial_bytes, uint64_t *dirty_bytes, struct tenon_error *err);
	int (*size_bytes)(void *context, uint64_t *bytes, struct tenon_error *err);
	int (*save)(void *context, void **data, size_t *bytes, struct tenon_error *err);
	int (*load)(void *context, const void *data, size_t bytes, struct tenon_error *err);
};

struct tenon_migratable {
	char name[TENON_MIGRATION_NAME_MAX]; /* for people: its address on this host */
	bool assume_all_dirty;               /* where nobody tracks what it writes, all of RAM counts as written */
	const struct tenon_migratable_ops *ops;
	void *context;
};

/** libtenon's device as one. `context` is the struct tenon_device. */
extern const struct tenon_migratable_ops tenon_migratable_device;

/* Takes one named part. @param data  borrowed during the call */
typedef int (*tenon_migration_part_fn)(void *context, const char *name, uint32_t version, const void *data,
				       size_t bytes, struct tenon_error *err);

struct tenon_migration_machine_ops {
	size_t size;
	/* What the other side must agree to before anything moves: bytes that its `accept` understands. free() */
	int (*describe)(void *context, void **data, size_t *bytes, struct tenon_error *err);
	/* Destination: refuses a machine that this one is not equal to, naming what differs. Untrusted input. */
	int (*accept)(void *context, const void *data, size_t bytes, struct tenon_error *err);

	/* Source: begins or ends to log writes to RAM by vCPUs and devices. */
	int (*dirty_log)(void *context, bool enable, struct tenon_error *err);
	/* Source: sets a bit for each page of RAM region `ram` written since the last call; never clears one. */
	int (*dirty_fetch)(void *context, unsigned ram, uint64_t *bitmap, struct tenon_error *err);

	/* Source: no vCPU runs any more, and nobody but the migration touches the devices; and the reverse. */
	int (*pause)(void *context, struct tenon_error *err);
	void (*resume)(void *context);

	/* Paused: every part, in the order in which the other side is to load them. */
	int (*save)(void *context, tenon_migration_part_fn part, void *part_context, struct tenon_error *err);
	/* Destination: the reverse, one part. Untrusted input. */
	int (*load)(void *context, const char *name, uint32_t version, const void *data, size_t bytes,
		    struct tenon_error *err);
	/* Destination: all parts are there, or the message names one that is missing. */
	int (*loaded)(void *context, struct tenon_error *err);
	/* Destination: the vCPUs run. Does not fail. */
	void (*start)(void *context);
};

struct tenon_migration_machine {
	size_t size;
	const struct tenon_migration_ram *ram;
	unsigned ram_count;
	const struct tenon_migratable *devices;
	unsigned device_count;
	const struct tenon_migration_machine_ops *ops;
	void *context;
};

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

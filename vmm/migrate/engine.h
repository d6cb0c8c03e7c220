/* SPDX-License-Identifier: MIT */
/*
 * The machine's migrations, as what commands them sees them: one at a time, in the background.
 *
 * Threads: any, but engine_migrate, engine_status and engine_fd's reader are one thread, the control socket's. None of these calls
 * waits for a migration.
 */
#ifndef MIGRATE_ENGINE_H
#define MIGRATE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon-migration/migrate.h>

struct engine;
struct hotplug;
struct machine;

/** @param machine, hotplug  borrowed until engine_destroy. No vCPU runs yet */
int engine_create(struct machine *machine, struct hotplug *hotplug, struct engine **out, struct tenon_error *err);

/** Begins to wait for the guest that the options say comes from elsewhere. What it comes to is the outcome; a failure stops the machine. */
int engine_incoming(struct engine *engine, struct tenon_error *err);

/** Ends what is under way, and waits for that. The vCPUs are paused for good. NULL is accepted. */
void engine_stop(struct engine *engine);

/** Ends what is under way, as far as that may still be ended, and waits for it. NULL is accepted. */
void engine_destroy(struct engine *engine);

/* Of a TLS connection; NULL: not given. */
struct engine_tls {
	const char *ca, *cert, *key; /* files: who is trusted, and who this side is */
	const char *psk;             /* file: instead of these, a key that both sides have */
	const char *peer; /* whose certificate the other side must show, where that is not the address's host */
};

/*
 * What to do, as the fields of struct tenon_outgoing_options. Its strings are its own. Without `insecure` or TLS of its own it has those of
 * `tenon run`.
 */
struct engine_request {
	char *address; /* "fd:N": the engine owns that descriptor once engine_migrate returned 0 */
	struct engine_tls tls;
	uint64_t downtime_limit_ns, bytes_per_second; /* 0: the library's choice, and without limit */
	unsigned connections, rounds;                 /* 0: the library's choice */
	bool force, assume_all_dirty, insecure, compress, stay_stopped;
};

/** Frees what it holds; all of it is zero then. */
void engine_request_finish(struct engine_request *request);

/**
 * Refuses what no migration could use: an address of no known kind, TLS files that do not belong together.
 *
 * @param what  in front of the message: "--incoming", "request"
 */
int engine_address_check(const char *what, const char *address, struct tenon_error *err);
int engine_tls_check(const char *what, const struct engine_tls *tls, struct tenon_error *err);

enum engine_state {
	ENGINE_IDLE,    /* there has been none */
	ENGINE_RUNNING, /* one is under way, or a destination waits for its source */
	ENGINE_BLOCKED, /* under way, and only a person can say who runs: `error` says what happened and what each choice does */
	ENGINE_OVER, /* `end` and `error` are those of the last one */
};

struct engine_outcome {
	enum engine_state state;
	bool incoming;               /* this machine is, or was, the destination */
	enum tenon_outgoing_end end; /* ENGINE_OVER of an outgoing one */
	struct tenon_error error;    /* ENGINE_OVER: code 0 unless it failed */
};

/**
 * Begins a migration. What is only found out later (blockers, connection) is its outcome.
 *
 * @param request  taken over, also on failure: nothing of it is left
 * @return 0: the state is ENGINE_RUNNING or already ENGINE_OVER, as engine_status tells; -EBUSY one is under way, or is over without
 *         engine_status having told so yet
 */
int engine_migrate(struct engine *engine, struct engine_request *request, struct tenon_error *err);

/** Ends it with the machine running here. @return 0: it will; -EALREADY the commit point is passed; -ENOENT none is under way */
int engine_cancel(struct engine *engine, struct tenon_error *err);

/** What would stand in the way. Asks the devices, and waits for no more. */
int engine_check(struct engine *engine, bool assume_all_dirty, struct tenon_migration_check *check,
		 struct tenon_error *err);

/** The one under way, or the last one. @param progress  all zero when there has been none */
void engine_status(struct engine *engine, struct tenon_migration_progress *progress, struct engine_outcome *outcome);

/**
 * A person's decision, in ENGINE_BLOCKED: this machine runs from now on, or never again. Whoever says "run" has made sure that the other
 * side does not and never will.
 *
 * @return 0; -ENOENT nothing is blocked
 */
int engine_resolve(struct engine *engine, bool run, struct tenon_error *err);

/** A non-blocking eventfd that polls readable when what engine_status tells has changed; its reader resets it. Borrowed. */
int engine_fd(const struct engine *engine);

#endif

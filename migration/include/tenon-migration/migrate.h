/* SPDX-License-Identifier: MIT */
/*
 * A migration: the source's side sends a running machine, the destination's side receives it, and whatever fails, at most one runs.
 *
 * Source: create, run (blocks; a thread of its own is best), destroy. Destination: create, run, destroy. cancel from any thread.
 * docs/migration-stream.md has the bytes; docs/migration-commit.md who may run when, at each point at which either side can die.
 */
#ifndef TENON_MIGRATION_MIGRATE_H
#define TENON_MIGRATION_MIGRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon-migration/channel.h>
#include <tenon-migration/migratable.h>
#include <tenon/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum tenon_migration_phase {
	TENON_MIGRATION_PHASE_SETUP,     /* connecting; the other side compares */
	TENON_MIGRATION_PHASE_PRE_COPY,  /* rounds, while the guest runs */
	TENON_MIGRATION_PHASE_STOPPING,  /* vCPUs, then devices in two steps */
	TENON_MIGRATION_PHASE_STOP_COPY, /* what is left of RAM, devices and parts */
	TENON_MIGRATION_PHASE_COMMIT,    /* the other side is asked to run */
	TENON_MIGRATION_PHASE_RESOLVE,   /* connection lost after that: finding out who runs */
	TENON_MIGRATION_PHASE_DONE,      /* it runs at the destination; a snapshot: it is written */
	TENON_MIGRATION_PHASE_FAILED,    /* it runs at the source, as before */
	TENON_MIGRATION_PHASES,
};

/** "pre-copy" and the like. */
const char *tenon_migration_phase_name(enum tenon_migration_phase phase);

struct tenon_migration_device_progress {
	char name[TENON_MIGRATION_NAME_MAX];
	enum tenon_migration_state state;
	uint64_t sent_bytes;
	uint64_t left_bytes; /* as it says */
};

/* Times are CLOCK_MONOTONIC nanoseconds since the migration began, or lengths. */
struct tenon_migration_progress {
	size_t size;
	enum tenon_migration_phase phase;
	unsigned round; /* from 1 */
	uint64_t elapsed_ns;
	uint64_t ram_bytes;         /* of the guest */
	uint64_t left_bytes;        /* RAM to be sent in this round, and what is known to be dirty again */
	uint64_t sent_bytes;        /* on the wire, everything */
	uint64_t pages, zero_pages; /* sent */
	uint64_t dirty_per_second;  /* bytes, of the last round */
	uint64_t bytes_per_second;  /* of the last round, or of its part so far */
	uint64_t downtime_estimate_ns;
	/* Of the switch, once it is over: their sum is the downtime as the source sees it. */
	uint64_t stop_vcpus_ns, stop_devices_ns, last_pages_ns, device_data_ns, parts_ns, commit_ns, downtime_ns;
	unsigned device_count;
	struct tenon_migration_device_progress devices[TENON_MIGRATION_DEVICES];
};

typedef void (*tenon_migration_progress_fn)(void *context, const struct tenon_migration_progress *progress);

struct tenon_outgoing_options {
	size_t size;
	const char *
		address; /* of the destination, or "file:PATH": a snapshot, after which the guest goes on or stays stopped */
	struct tenon_channel_options channel;
	uint64_t downtime_limit_ns; /* 0: 100 ms */
	uint64_t bytes_per_second;  /* 0: as fast as it goes */
	unsigned connections;       /* 1-16; 0: 1 */
	unsigned rounds;            /* at most so many, then it gives up, unless `force`; 0: 50 */
	bool assume_all_dirty; /* devices that nobody tracks are let through: all of RAM is sent again when the guest stands */
	bool force;            /* stops the guest after `rounds`, whatever the downtime */
	bool stay_stopped;   /* after a snapshot */
	bool compress;       /* pages, by zstd: for slow networks; zero pages are never sent in any case */
	uint8_t reserved[4]; /* zero */
	tenon_migration_progress_fn progress; /* at each change of phase or round and ten times a second; may be NULL */
	void *progress_context;
	/* What speaks for this side should it die at a delicate moment: see tenon_migration_guardian_main. NULL: nobody does. */
	const char *const *guardian_command;
	/* The connection was lost past the commit point, and nobody answers yet: a person may decide. May be NULL. */
	void (*blocked)(void *context, const char *message);
	void *blocked_context;
};

struct tenon_outgoing;

/** @param machine, options  borrowed until destroy, with what they point to */
int tenon_outgoing_create(const struct tenon_migration_machine *machine, const struct tenon_outgoing_options *options,
			  struct tenon_outgoing **out, struct tenon_error *err);

/* Who runs when an outgoing migration is over. */
enum tenon_outgoing_end {
	TENON_OUTGOING_MOVED,   /* the destination; this machine never again */
	TENON_OUTGOING_RESUMED, /* this machine, as if nothing had been; `err` says what failed */
	TENON_OUTGOING_LEFT, /* not known: tenon_outgoing_leave ended the wait; this machine stands, and its guardian speaks for it */
	TENON_OUTGOING_SAVED, /* a snapshot is written; this machine runs, unless stay_stopped */
};

/**
 * Moves the machine. Returns when it is certain who runs: after the commit point it does not return before the other side, or what it left
 * behind, has said so.
 */
enum tenon_outgoing_end tenon_outgoing_run(struct tenon_outgoing *outgoing, struct tenon_error *err);

/** Ends it, with the machine running here, if the commit point is not passed. From any thread. @return 0; -EALREADY too late */
int tenon_outgoing_cancel(struct tenon_outgoing *outgoing);

/**
 * Ends a wait for the other side past the commit point, because this process ends. From any thread. Who runs is then settled between the
 * destination and the guardian; the machine here must not run again.
 */
void tenon_outgoing_leave(struct tenon_outgoing *outgoing);

/**
 * A person's decision, who is certain about the other side, once `blocked` was called. From any thread.
 *
 * @param run  this machine runs on; else never again
 * @return 0; -ENOENT nothing waits for it
 */
int tenon_outgoing_resolve(struct tenon_outgoing *outgoing, bool run);
void tenon_outgoing_destroy(struct tenon_outgoing *outgoing);

/* What the estimates of tenon_migration_check take for a connection: a gigabit link. */
#define TENON_MIGRATION_CHECK_BYTES_PER_SECOND 110000000.0

struct tenon_migration_check {
	size_t size;
	bool possible;
	uint8_t reserved[7];
	uint64_t total_ns, downtime_ns; /* estimates; 0: not known */
	unsigned blocker_count;
	char blockers[16][512]; /* each one line: device, reason, remedy */
};

/** What would stand in the way. Moves nothing. @param assume_all_dirty  as in the options */
int tenon_migration_check(const struct tenon_migration_machine *machine, bool assume_all_dirty,
			  struct tenon_migration_check *out, struct tenon_error *err);

struct tenon_incoming_options {
	size_t size;
	const char *address; /* to listen at, or "file:PATH" */
	struct tenon_channel_options channel;
	tenon_migration_progress_fn progress; /* may be NULL */
	void *progress_context;
	/* Called once with where it listens. May be NULL. */
	void (*listening)(void *context, const char *address);
	void *listening_context;
	const char *const *guardian_command; /* these as in struct tenon_outgoing_options */
	void (*blocked)(void *context, const char *message);
	void *blocked_context;
};

struct tenon_incoming;

int tenon_incoming_create(const struct tenon_migration_machine *machine, const struct tenon_incoming_options *options,
			  struct tenon_incoming **out, struct tenon_error *err);

/**
 * Waits for a source, loads the machine and starts it.
 *
 * @return 0 the machine runs here; or -errno: it does not and never will, and the source knows or will learn
 */
int tenon_incoming_run(struct tenon_incoming *incoming, struct tenon_error *err);

/**
 * After a run that returned 0: answers a source that has not heard yet that the machine runs here. Returns once it knows, or after
 * tenon_incoming_leave.
 */
void tenon_incoming_settle(struct tenon_incoming *incoming);

/** Gives up, unless the machine was promised to run here. From any thread. @return 0; -EALREADY too late, and nothing has changed */
int tenon_incoming_cancel(struct tenon_incoming *incoming);
/**
 * Ends every wait, because this process ends: a machine that has no right to run yet will not get it any more, and the guardian says so. From
 * any thread.
 */
void tenon_incoming_leave(struct tenon_incoming *incoming);
/** As tenon_outgoing_resolve. */
int tenon_incoming_resolve(struct tenon_incoming *incoming, bool run);
void tenon_incoming_destroy(struct tenon_incoming *incoming);

/**
 * What a guardian does: a process that each side starts, which knows when the side is dead, and then tells the other side or answers it, so
 * that the machine goes on without a person. It ends by itself: at once when all went well, ten minutes after its side at the latest.
 *
 * `guardian_command` in the options is the program and its arguments, up to a NULL: {"/proc/self/exe", "migration-guardian", NULL}. The
 * number of a descriptor is appended as a last argument, and the program is to call this with it, first thing, and to exit with the result.
 * Without a guardian nothing runs twice either, but what its side's death leaves waiting waits for a person.
 *
 * @param fd  consumed
 * @return an exit status
 */
int tenon_migration_guardian_main(int fd);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

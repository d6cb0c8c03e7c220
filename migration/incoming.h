/* SPDX-License-Identifier: MIT */
/*
 * The destination's side, in parts: incoming.c (its life), incoming_accept.c (who connects, and whether the machines are equal),
 * incoming_load.c (what arrives), incoming_commit.c (who runs). All of them run on the thread that called tenon_incoming_run, but for
 * lanes 1 and up, which have a thread each while the machine is loaded.
 */
#ifndef INCOMING_H
#define INCOMING_H

#include <pthread.h>

#include <tenon-migration/migrate.h>

#include "commit.h"
#include "devices.h"
#include "guardian.h"
#include "messages.h"
#include "ram.h"
#include "resolve.h"
#include "stream.h"

struct incoming_lane {
	struct tenon_incoming *incoming;
	unsigned number;
	struct tenon_channel *channel; /* changes under the lock */
	struct stream_reader reader;
	pthread_t thread;
	bool running;
	int code;
	struct tenon_error error;
};

enum incoming_decision { INCOMING_UNDECIDED, INCOMING_RUN, INCOMING_STOP };

struct tenon_incoming {
	const struct tenon_migration_machine *machine;
	struct tenon_incoming_options options;
	bool file;
	struct devices devices;

	struct tenon_listener *listener;
	uint8_t session[COMMIT_SESSION_BYTES];
	struct incoming_lane lanes[RAM_LANES_MAX];
	unsigned lane_count;
	struct stream_writer answers; /* on lane 0 */
	struct ram_receiver *ram;
	struct part part;
	struct end_counts counts;                /* what came of devices and parts */
	bool has_state[TENON_MIGRATION_DEVICES]; /* the device has its data, and what libtenon emulates of it */
	struct guardian *guardian;
	enum commit_destination_phase phase;
	bool lost;                      /* the connection is */
	struct resolve_visitor visitor; /* who brought a VERDICT, and waits for the ANSWER */
	int wake;                       /* an eventfd: `leave` or `decision` changed */

	uint64_t started_ns, reported_ns;
	struct tenon_migration_progress progress;

	pthread_mutex_t lock; /* of those below, and of opening and closing channels */
	bool cancelled;
	bool promised; /* READY was said */
	bool blocked;  /* a person was told that it waits */
	bool leave;    /* nobody waits any more */
	enum incoming_decision decision;
};

bool incoming_cancelled(struct tenon_incoming *incoming);
void incoming_report(struct tenon_incoming *incoming, bool now);

/* ---- incoming_accept.c ---- */

/** Waits for a source whose machine this one is equal to, and for all its lanes. A file: opens it. */
int incoming_accept(struct tenon_incoming *incoming, struct tenon_error *err);

/* ---- incoming_load.c ---- */

/** Takes all that comes, up to END. */
int incoming_load(struct tenon_incoming *incoming, struct tenon_error *err);

/* ---- incoming_commit.c ---- */

/** It speaks for this side once that is dead. */
int incoming_start_guardian(struct tenon_incoming *incoming, struct tenon_error *err);
/** Says READY, and runs the machine if it may. @return 0 it runs; or why it never will */
int incoming_commit(struct tenon_incoming *incoming, struct tenon_error *err);
/** Runs the machine: devices in two steps, then vCPUs. */
int incoming_start(struct tenon_incoming *incoming, struct tenon_error *err);
/** Tells the source why the machine will not run here, and lets it read that. */
void incoming_say_failed(struct tenon_incoming *incoming, const struct tenon_error *reason);

#endif

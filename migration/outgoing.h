/* SPDX-License-Identifier: MIT */
/*
 * The source's side, in parts: outgoing.c (its life, and who runs at the end), outgoing_setup.c (connecting and agreeing),
 * outgoing_rounds.c (while the guest runs), outgoing_stop.c (while it stands), outgoing_commit.c (who runs), outgoing_progress.c.
 * All run on the thread that called tenon_outgoing_run, but for what is under `lock`.
 */
#ifndef OUTGOING_H
#define OUTGOING_H

#include <pthread.h>
#include <stdatomic.h>

#include <tenon-migration/migrate.h>

#include "commit.h"
#include "devices.h"
#include "guardian.h"
#include "messages.h"
#include "pump.h"
#include "ram.h"
#include "stream.h"

enum outgoing_decision { OUTGOING_UNDECIDED, OUTGOING_RUN, OUTGOING_STOP };

struct tenon_outgoing {
	const struct tenon_migration_machine *machine;
	struct tenon_outgoing_options options;
	bool file;
	struct devices devices;

	uint8_t session[COMMIT_SESSION_BYTES];
	struct tenon_channel *channels[RAM_LANES_MAX];
	struct stream_writer writers[RAM_LANES_MAX];
	struct stream_writer *lanes[RAM_LANES_MAX];
	unsigned lane_count;
	struct stream_reader reader; /* of what the destination says, on lane 0 */
	struct ram_sender *ram;
	uint8_t *buffer;                             /* SECTION_BYTES_MAX: a device's data on its way */
	struct pump *pumps[TENON_MIGRATION_DEVICES]; /* while it stands */
	struct guardian *guardian;
	enum commit_source_phase phase;

	struct tenon_error failure; /* found during a pass */
	bool refused;               /* the destination said REFUSED or FAILED */

	uint64_t
		slowest_device_ns; /* of the estimate: what a device takes to give what it only gives while it stands */
	uint64_t device_bytes, parts; /* sent, for END */
	double device_bandwidth
		[TENON_MIGRATION_DEVICES]; /* bytes a second, as it was read while the guest ran; 0: not yet */

	bool logging;     /* writes to RAM are logged */
	bool paused;      /* the guest stands */
	bool announced;   /* the devices' initial data is out, and the destination was asked whether it has it */
	bool initial_has; /* it has */
	uint64_t announced_ns;

	uint64_t started_ns, stopped_ns, sent_ns; /* of it all; of the switch; when END was out */
	uint64_t bandwidth; /* bytes a second, as last measured with enough to measure; 0: not yet */
	double wire_ratio; /* of the bytes of pages, how many went over the wire then: less than 1 where they are compressed */
	uint64_t reported_ns;
	uint64_t round_started_ns, round_sent_bytes, round_sent_pages;
	uint64_t due_bytes,
		due_pages; /* RAM that was to be sent when that was last counted, and the pages that were sent until then */
	struct tenon_migration_progress progress;

	pthread_mutex_t lock; /* of those below, and of opening and closing channels */
	pthread_cond_t changed;
	bool cancelled;
	bool committed;
	bool blocked; /* a person was told that it waits */
	bool leave;
	enum outgoing_decision decision;
};

/* ---- outgoing_setup.c ---- */

/** Connects all lanes, and has the destination agree. */
int outgoing_connect(struct tenon_outgoing *outgoing, struct tenon_error *err);
void outgoing_disconnect(struct tenon_outgoing *outgoing);

/** Reads what the destination said, if it said something. @return 0; or why it is over */
int outgoing_listen(struct tenon_outgoing *outgoing, struct tenon_error *err);
/** Waits for a section of this type. @return 0; or why it will not come */
int outgoing_expect(struct tenon_outgoing *outgoing, enum section_type type, struct tenon_error *err);
/** The connection failed with `*err`: if the destination said why before it went, that is what `*err` says then. */
void outgoing_ask_why(struct tenon_outgoing *outgoing, struct tenon_error *err);

/* ---- outgoing_rounds.c ---- */

/** Sends RAM and device data in rounds, until what is left fits into the downtime. */
int outgoing_rounds(struct tenon_outgoing *outgoing, struct tenon_error *err);
/** Adds what was written since to the RAM to be sent. */
int outgoing_fetch_dirty(struct tenon_outgoing *outgoing, struct tenon_error *err);
/** Sends the RAM to be sent. @param unlimited  whatever the user's limit of bandwidth */
int outgoing_pass(struct tenon_outgoing *outgoing, bool unlimited, struct tenon_error *err);
/** Sends a piece of a device's data. */
int outgoing_send_data(struct tenon_outgoing *outgoing, unsigned device, const void *data, size_t bytes,
		       struct tenon_error *err);

/* ---- outgoing_stop.c ---- */

/** Stops the guest and its devices, and sends all that is left. */
int outgoing_stop(struct tenon_outgoing *outgoing, struct tenon_error *err);

/* ---- outgoing_commit.c ---- */

/** The guardian speaks for this side once it is dead. */
int outgoing_start_guardian(struct tenon_outgoing *outgoing, struct tenon_error *err);
/** From END on the destination may get the right to run. */
void outgoing_before_end(struct tenon_outgoing *outgoing);
/** Has the destination run the machine. Returns when it is certain who runs. */
enum tenon_outgoing_end outgoing_commit(struct tenon_outgoing *outgoing, struct tenon_error *err);
/** The source goes on: the guardian knows, before the guest runs again. @return whether the destination is to be told */
bool outgoing_abort(struct tenon_outgoing *outgoing, const struct tenon_error *reason);

/* ---- outgoing_progress.c ---- */

void outgoing_phase(struct tenon_outgoing *outgoing, enum tenon_migration_phase phase);
/** Tells the caller how it goes. @param now  also when it was told just now */
void outgoing_report(struct tenon_outgoing *outgoing, bool now);
/** So much RAM is to be sent; from now on that counts down. */
void outgoing_due(struct tenon_outgoing *outgoing, uint64_t bytes);
#endif

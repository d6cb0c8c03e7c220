/* SPDX-License-Identifier: MIT */
/*
 * A guardian: a small process that outlives its side of a migration and then speaks for it. It holds a pidfd of the side, so that it knows
 * when the side is dead, and a page that the side shares, which has the last phase that the side said. What it does follows from the two:
 * commit_source_guardian(), commit_destination_guardian().
 *
 * It is started before anything can depend on it; as soon as the session is known is best, since the machine runs then and nobody waits.
 * It belongs to no terminal and no process group of its side, ignores the signals that end programs in the ordinary way, and ends by itself.
 */
#ifndef GUARDIAN_H
#define GUARDIAN_H

#include <sys/types.h>

#include <tenon-migration/channel.h>

#include "commit.h"

enum guardian_role { GUARDIAN_OF_SOURCE, GUARDIAN_OF_DESTINATION };

struct guardian_options {
	const char *const *command; /* whose program calls tenon_migration_guardian_main(); NULL: no guardian */
	enum guardian_role role;
	uint8_t session[COMMIT_SESSION_BYTES];
	const char *address; /* where the destination listens */
	struct tenon_channel_options channel;
	int listener_fd;      /* the destination's, borrowed; -1 for a source's */
	uint32_t retry_ms;    /* between questions; 0: 1000 */
	uint32_t patience_ms; /* after its side's end; 0: ten minutes */
};

struct guardian;

/**
 * Starts one and waits until it is in place. The first phase, 0, counts as said.
 *
 * @param out  NULL where the options have no command: the other functions accept it
 * @return 0; -EINVAL misuse; -ETIMEDOUT, -ENODATA the command did not become a guardian; or -errno
 */
int guardian_start(const struct guardian_options *options, struct guardian **out, struct tenon_error *err);

/**
 * Says an enum commit_source_phase or enum commit_destination_phase. It cannot fail, and is known to the guardian when this returns,
 * whatever becomes of this process.
 */
void guardian_say(struct guardian *guardian, uint32_t phase);

/** For messages and tests. @return 0: none */
pid_t guardian_pid(const struct guardian *guardian);

/** Lets go of it. The guardian goes on as its duty says. NULL is accepted. */
void guardian_destroy(struct guardian *guardian);

#endif

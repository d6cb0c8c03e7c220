/* SPDX-License-Identifier: MIT */
/*
 * All devices of a machine, moved from state to state together. None writes into a peer that stands: those that have P2P first stop to
 * start DMA, all of them, and only then any device stops; and the reverse. One device without P2P may be among them: while all others
 * are in a P2P state it is the only one that writes, so it stops first and starts first.
 */
#ifndef DEVICES_H
#define DEVICES_H

#include <tenon-migration/migratable.h>

struct devices {
	const struct tenon_migratable *list; /* borrowed */
	unsigned count;
	struct tenon_migration_info info[TENON_MIGRATION_DEVICES];
};

/** Asks each what it can. */
int devices_init(struct devices *devices, const struct tenon_migration_machine *machine, struct tenon_error *err);

/**
 * What stands in the way of moving them.
 *
 * @param each  called for each blocker, with one line that names device, reason and remedy
 * @return how many there are
 */
unsigned devices_blockers(const struct devices *devices, bool assume_all_dirty,
			  void (*each)(void *context, const char *blocker), void *context);

/** The same as an error: the first of them. @return 0; -ENOTSUP */
int devices_check(const struct devices *devices, bool assume_all_dirty, struct tenon_error *err);

/** Some device writes memory, and nobody knows where. */
bool devices_untracked(const struct devices *devices);

/** Source, while the guest runs: every device that can sends its data from now on. */
int devices_pre_copy(struct devices *devices, struct tenon_error *err);

/** Source: no device was reset since devices_pre_copy, by the guest: what the destination has of it would be void. The guest stands. */
int devices_check_sessions(const struct devices *devices, struct tenon_error *err);

/** No device starts DMA any more but the one without P2P, if there is one. */
int devices_quiesce(struct devices *devices, struct tenon_error *err);
/** Source: no device does anything any more, and each gives its data. */
int devices_stop(struct devices *devices, struct tenon_error *err);

/** Destination: each takes its data. */
int devices_resuming(struct devices *devices, struct tenon_error *err);

/**
 * All of them work again, from whatever states they are in.
 *
 * @param go_on  whatever fails, the others are to work; else a failure makes all of them stand again, in STOP where they can
 * @return 0, or the first failure
 */
int devices_start(struct devices *devices, bool go_on, struct tenon_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * VMs that migrate: the firmware's `load` guest, which says at once when a byte is not what it was, its test devices, and what a client
 * of the control socket asks and hears.
 */
#ifndef MIGRATION_RUN_H
#define MIGRATION_RUN_H

#include <json-c/json.h>

#include "control/talk.h"
#include "testdev_run.h"

#define MOVER_DEVICES_MAX 3
/* For what takes the guest long: this CPU may be an interpreter, on a machine that is busy. */
#define LONG_MS 240000
/* What a busy machine needs for a switch is not asked, but where it is what is tested. */
#define NO_HURRY "\"downtime-limit-ms\":10000"

/* What source and destination have in common. */
struct mover_plan {
	const char *memory; /* "16M" */
	const char *append; /* the firmware's command line; NULL: it boots `kernel` */
	const char *kernel;
	unsigned devices;
	const char *const *device_options; /* of all of them, NULL-terminated; or NULL */
	const char *const *run_options;    /* NULL-terminated, or NULL */
};

struct mover {
	struct run run;
	struct testdev_run devices[MOVER_DEVICES_MAX];
	unsigned device_count;
	char folder[40], control[64];
	char address[128]; /* where it listens */
};

/** Starts a VM with new devices. @param incoming  where it is to listen; NULL: it boots */
void mover_start(struct mover *mover, const struct mover_plan *plan, const char *incoming);
/** Listens at a port that is its own. */
void mover_start_destination(struct mover *mover, const struct mover_plan *plan);
/** Waits until it listens; `address` is where. */
void mover_expect_listening(struct mover *mover);
/** Waits until the `load` guest has filled its memory. */
void mover_expect_filled(struct mover *mover);
/** Waits until the guest has said more than once, from now on, that nothing is damaged. */
void mover_expect_goes_on(struct mover *mover);
/** Ends the `load` guest, which verifies all of its memory before; it must be whole. */
void mover_quit(struct mover *mover);
/** Frees what a VM that has ended leaves, and its devices: none may have seen its contract broken. */
void mover_finish(struct mover *mover);
/** The same of a VM that runs, or is blocked: it is killed, and its devices are not asked. */
void mover_drop(struct mover *mover);

/* How a migration ended, as the source says. */
struct moved {
	bool ok;
	char end[16];
	char error[600];
	unsigned rounds;
	uint64_t total_ns, downtime_ns, estimate_ns, sent_bytes;
};

/** Begins a migration. @param more  further members, such as "\"rounds\":3"; or NULL */
void mover_migrate_begin(struct mover *mover, const char *address, const char *more, int passed, struct talk *talk);
/** Waits until the migration is in this phase, and round or a later one. */
void mover_migrate_expect(struct talk *talk, const char *phase, unsigned round);
void mover_migrate_end(struct talk *talk, struct moved *moved);
void mover_migrate(struct mover *mover, const char *address, const char *more, struct moved *moved);
/** One request with one answer. @return 0, or -EREMOTEIO: refused */
int mover_ask(struct mover *mover, const char *request, struct tenon_error *err);

/** Moves it into a new VM, which `mover` is then; the old one must have ended well. */
void mover_move(struct mover *mover, const struct mover_plan *plan, const char *more, struct moved *moved);

/*
 * For a suite's begin and end: programs may leave guardians, which end within a time of their own. The end waits for them, ends those that
 * wait for longer, and fails if anything else is left.
 */
void movers_begin(void);
void movers_end(void);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The machine as what a migration moves (<tenon-migration/migratable.h>). Whoever uses it has the machine's topology, so that no device comes
 * or goes and the guest's reset waits.
 */
#ifndef MIGRATE_OFFER_H
#define MIGRATE_OFFER_H

#include <tenon-migration/migratable.h>

#include "../hotplug.h"

struct offer {
	struct machine *machine;
	struct hotplug *hotplug;
	struct tenon_migration_machine what; /* for the migration; points into this struct */
	struct tenon_migration_ram ram[2];
	struct tenon_migratable devices[SLOTS_MAX];
	uint64_t *dirty; /* of the largest region: KVM's log is fetched into it */
	size_t dirty_words;
};

/**
 * The machine as it is now.
 *
 * @param offer  finished by offer_finish
 * @return 0; -EBUSY, -ECANCELED it is in no state to be moved (machine_settled)
 */
int offer_init(struct offer *offer, struct machine *machine, struct hotplug *hotplug, struct tenon_error *err);
void offer_finish(struct offer *offer); /* accepts a zeroed struct */

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the two machines of a migration agree on before anything moves: memory, CPUs and their features, firmware, buses, bridges and
 * devices with their places. How each host calls its devices, where its guest's console goes and what kernel a reset of the guest
 * would load is its own.
 *
 * Threads: the migration's, which has the topology (quiet.h). The vCPUs may run.
 */
#ifndef MIGRATE_DESCRIBE_H
#define MIGRATE_DESCRIBE_H

#include "../machine.h"

/** @param text  JSON of 256 KiB at most, ended by a zero byte; owned by the caller: free() */
int machine_describe(struct machine *machine, char **text, struct tenon_error *err);

/**
 * Whether this machine can take over the guest of the one that was described. Untrusted input.
 *
 * @return 0; -EINVAL with the first difference, what to do here about it, and how many more there are; -EINVAL or -ENOTSUP no such text
 */
int machine_accept(struct machine *machine, const char *text, size_t bytes, struct tenon_error *err);

#endif

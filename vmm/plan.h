/* SPDX-License-Identifier: MIT */
/* What --dry-run prints: the machine as it would run. */
#ifndef PLAN_H
#define PLAN_H

#include "machine.h"

void plan_print_text(struct machine *machine);
/** @return 0 or -ENOMEM */
int plan_print_json(struct machine *machine, struct tenon_error *err);

#endif

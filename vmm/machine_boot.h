/* SPDX-License-Identifier: MIT */
/* What happens at power-on, first and after each reset: what a firmware would do. */
#ifndef MACHINE_BOOT_H
#define MACHINE_BOOT_H

#include "machine.h"

/** Decides where BARs go, once; the devices are open. */
int machine_place_devices(struct machine *machine, struct tenon_error *err);

/** Bridges as at power-on. */
void machine_reset_bridges(struct machine *machine);

/** Programs BARs and bridges, writes the ACPI tables. */
int machine_configure(struct machine *machine, struct tenon_error *err);

/** Loads the kernel into RAM, if there is one. @param entry all zero without */
int machine_load(struct machine *machine, struct loader_entry *entry, struct tenon_error *err);

/** The last step: the boot processor's registers for the loaded kernel; or, for a firmware, the machine's description. */
int machine_enter(struct machine *machine, const struct loader_entry *entry, struct tenon_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the machine decided about the guest's PCI addresses when it started, and when devices came: windows and BAR addresses that the
 * ACPI tables tell and a reset of the guest goes back to. The running guest knows the source's, so they go with it.
 *
 * Both machines have the same bridges and the same devices at the same places, in whatever order their command lines name them.
 */
#ifndef MIGRATE_PLACES_H
#define MIGRATE_PLACES_H

#include "../pci/placement.h"
#include "../slots.h"
#include "bytes.h"

/**
 * The devices in the order in which both sides of a migration count them: by their places in the guest.
 *
 * @return how many
 */
unsigned places_devices(struct slots *slots, struct slot *out[SLOTS_MAX]);

/** The caller has the topology. */
void places_save(struct slots *slots, const struct placement *placement, struct bytes_out *out);

/**
 * Likewise. Untrusted input.
 *
 * @return 0; -EINVAL not the places of such a machine: nothing has changed
 */
int places_load(struct slots *slots, struct placement *placement, struct bytes_in *in, struct tenon_error *err);

#endif

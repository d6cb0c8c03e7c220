/* SPDX-License-Identifier: MIT */
/*
 * The machine's state beside RAM and devices, as named parts, each in its turn:
 *
 *   vm        version 1  interrupt controllers and the guest's clock (tenon_vm_state_pack)
 *   vcpu.N    version 1  of each vCPU, from 0 (tenon_vcpu_state_pack)
 *   places    version 1  PCI windows and BAR addresses, as the guest was told (migrate/places.h)
 *   bridge.N  version 1  of each root port and bridge, by its number, from 1 (pci_bridge_save)
 *   serial    version 1  registers and FIFOs of the serial port (serial_save)
 *
 * RAM is complete before they are loaded, because KVM writes the guest's clock into it. Devices get what libtenon emulates of them
 * (tenon_device_state_load) after them: who holds an interrupt line asserts it anew, and the interrupt controllers notice that only
 * once they have their own state. A bridge does so when it is loaded.
 *
 * What is no part has no state that moves: the host bridge and the power and exit registers have none; the chardev is another one at each
 * host; the firmware's ROM, the kernel for a guest's reset and the state of a vCPU at power-on are each host's own; devices and RAM
 * are the migration's.
 *
 * A part of an older version can be loaded; one of a newer version is refused. What changes a part's bytes makes a new version of it.
 *
 * Threads: the migration's, which keeps to what quiet.h says.
 */
#ifndef MIGRATE_PARTS_H
#define MIGRATE_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon-migration/migratable.h>
#include <tenon/error.h>

struct machine;

struct parts_loaded {
	unsigned count; /* of parts that came, from the first on */
};

/** Gives each part to `part`, which may end it with a failure. The vCPUs are paused. @return 0; or the first failure, naming the part */
int machine_parts_save(struct machine *machine, tenon_migration_part_fn part, void *context, struct tenon_error *err);

/**
 * Takes the next part. Untrusted input. The vCPUs never ran.
 *
 * @return 0; -EINVAL no such part, not of such a machine, or out of turn; or what KVM says. After a failure the machine is of no use.
 */
int machine_part_load(struct machine *machine, const char *name, uint32_t version, const void *data, size_t bytes,
		      struct tenon_error *err);

/** Whether all came. @return 0; -EINVAL naming the first that is missing */
int machine_parts_loaded(const struct machine *machine, struct tenon_error *err);

#endif

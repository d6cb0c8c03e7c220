/* SPDX-License-Identifier: MIT */
/*
 * What else runs in this program beside the vCPUs and the migration, and how each is kept from the state while that is saved or loaded.
 *
 *   hotplug's thread   opens, closes and resets devices, and moves cards in slots: only with the topology (machine.h). The migration has
 *                      it from before the first dirty page is asked for until the machine runs at one side; machine_settled tells
 *                      whether something was half done when it got it. On the destination, too: a bus reset that the guest wants is
 *                      done once it runs there (hotplug_wake).
 *   main loop          input of the chardev, and output that it takes again: machine_quiet_begin holds the serial port. A reset that the
 *                      guest asks for waits for the topology: whoever has it looks at machine->stop, and gives the migration up then
 *                      (machine_settled refuses, too). Devices' events go to hotplug, which has to wait, or into libtenon, which locks.
 *   control socket     what it wants of devices goes to hotplug; it reads slots under their lock
 *   mapping of memory  (dma_memory.h) machine_settled waits for its end: no device is loaded, and none is logged, before
 *   vCPUs              before they are paused, machine_quiet_begin makes those return that wait for a bus reset, for up to 10 s else
 *
 * A guest that wants a bus reset gets it when the topology is free again. It may not wait for as long as pre-copy takes: the migration
 * looks at machine_wants_reset between rounds, and begins anew, or gives up, when that is so.
 *
 * Source: lock the topology; machine_settled; pre-copy; machine_quiet_begin; machine_pause; machine_settled again, since the guest may
 * have ended or reset itself meanwhile; machine_parts_save. If the machine runs on here: resume the vCPUs; machine_quiet_end; unlock.
 * Destination: lock the topology; machine_settled; RAM; the parts; the devices' emulated state; devices and vCPUs run; machine_quiet_end;
 * unlock; hotplug_wake.
 *
 * Input that nobody has read from the source's chardev is not moved: it is the terminal or socket of another host. Input in the port's
 * FIFO is. What the guest has sent and the chardev has taken is written out at the source.
 */
#ifndef MIGRATE_QUIET_H
#define MIGRATE_QUIET_H

#include "../hotplug.h"
#include "../machine.h"

/**
 * Whether the machine is in a state that can be saved: nothing comes or goes, all memory is mapped, the guest neither ended nor resets
 * itself. May wait for memory to be mapped.
 *
 * @param hotplug  NULL: there is none
 * @return 0; -EBUSY a device is on its way; -ECANCELED the guest stopped; or why memory is not mapped
 */
int machine_settled(struct machine *machine, struct hotplug *hotplug, struct tenon_error *err);

/** Whether the guest waits for the reset of a bus. From any thread. */
bool machine_wants_reset(struct machine *machine);

/** Nothing but vCPUs changes the machine's parts after it. */
void machine_quiet_begin(struct machine *machine);
/** Ends that, or what loading began. What came meanwhile is not lost. */
void machine_quiet_end(struct machine *machine);

#endif

// SPDX-License-Identifier: MIT
/* Brings everything beside the vCPUs to rest, and says when that cannot be. */
#include <errno.h>

#include "quiet.h"

static int check_running(const struct machine *machine, struct tenon_error *err)
{
	static const char *const reasons[] = {
		[MACHINE_POWER_OFF] = "the guest switched itself off",
		[MACHINE_RESET] = "the guest reset itself",
		[MACHINE_EXIT] = "the guest ended itself",
		[MACHINE_TRIPLE_FAULT] = "the guest crashed",
		[MACHINE_QUIT] = "the VM was told to end",
		[MACHINE_MOVED] = "the guest left, or was saved and stopped,",
		[MACHINE_FAILED] = "the VM failed",
	};
	enum machine_stop stop = atomic_load(&machine->stop);
	if (stop == MACHINE_RUNNING)
		return 0;
	return tenon_fail(err, -ECANCELED, "%s at this moment; %s", reasons[stop],
			  stop == MACHINE_RESET ? "migrate it again" : "there is nothing left to migrate");
}

int machine_settled(struct machine *machine, struct hotplug *hotplug, struct tenon_error *err)
{
	int code = check_running(machine, err);
	if (code == 0 && hotplug)
		code = hotplug_settled(hotplug, err);
	if (code < 0)
		return code;
	if (machine->dma.started && !dma_memory_wait(&machine->dma)) {
		if (!dma_memory_failed(&machine->dma) || machine->dma.error.code == 0)
			return tenon_fail(err, -ECANCELED,
					  "guest memory: its mapping ended with the VM; start it again");
		*err = machine->dma.error;
		return err->code;
	}
	return 0;
}

bool machine_wants_reset(struct machine *machine)
{
	for (unsigned i = 0; i < machine->pci.bridge_count; i++) {
		if (pci_bridge_wants_reset(machine->pci.bridges[i]))
			return true;
	}
	return false;
}

void machine_quiet_begin(struct machine *machine)
{
	atomic_store(&machine->quiet, true);
	serial_hold(machine->serial, true);
}

void machine_quiet_end(struct machine *machine)
{
	atomic_store(&machine->quiet, false);
	serial_hold(machine->serial, false);
}

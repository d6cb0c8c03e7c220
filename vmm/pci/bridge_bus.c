// SPDX-License-Identifier: MIT
/*
 * What is behind a bridge, and when the guest sees it: not while its bus is held in reset, not without power, and not before a
 * reset that it asked for is done.
 */
#include <errno.h>

#include "bridge_private.h"

static bool is_held(const struct pci_bridge *bridge)
{
	return bridge_get16(bridge, PCI_BRIDGE_CONTROL) & PCI_BRIDGE_CTL_BUS_RESET;
}

void bridge_bus_update(struct pci_bridge *bridge)
{
	bool show = bridge_is_occupied(bridge) && !bridge->cut && !bridge->wants_reset && !bridge->failed &&
		    !is_held(bridge);
	if (show == bridge->shown)
		return;
	if (show)
		pci_bus_show(bridge->host, &bridge->bus, bridge->behind, bridge->behind_count);
	else
		pci_bus_hide(bridge->host, &bridge->bus, bridge->behind, bridge->behind_count);
	bridge->shown = show;
}

void bridge_bus_reset(struct pci_bridge *bridge)
{
	bridge->cut = bridge->wants_reset = bridge->failed = false;
	bridge_bus_update(bridge);
}

bool bridge_bus_written(struct pci_bridge *bridge, uint16_t control)
{
	bool asked = is_held(bridge) && !(control & PCI_BRIDGE_CTL_BUS_RESET) && bridge_is_occupied(bridge);
	bridge->wants_reset |= asked;
	bridge_bus_update(bridge);
	return asked;
}

int pci_bridge_insert(struct pci_bridge *bridge, const struct pci_placed *functions, unsigned count,
		      struct tenon_error *err)
{
	if (count == 0 || count > PCI_BRIDGE_FUNCTIONS_MAX)
		return tenon_fail(err, -EINVAL, "bridge %u: %u functions behind it: 1 to %u are possible; assign fewer",
				  bridge->options.number, count, PCI_BRIDGE_FUNCTIONS_MAX);
	pthread_mutex_lock(&bridge->lock);
	int code = bridge_is_occupied(bridge)
			   ? tenon_fail(err, -EBUSY, "bridge %u: its slot is occupied; choose an empty one",
					bridge->options.number)
			   : 0;
	if (code == 0) {
		memcpy(bridge->behind, functions, count * sizeof(*functions));
		bridge->behind_count = count;
		bridge_bus_update(bridge);
		if (bridge->options.slot)
			bridge_slot_inserted(bridge);
	}
	pthread_mutex_unlock(&bridge->lock);
	return code;
}

void pci_bridge_eject(struct pci_bridge *bridge)
{
	pthread_mutex_lock(&bridge->lock);
	if (bridge_is_occupied(bridge)) {
		bridge->cut = true;
		bridge_bus_update(bridge);
		bridge->behind_count = 0;
		bridge->cut = bridge->wants_reset = bridge->failed = false;
		if (bridge->options.slot)
			bridge_slot_ejected(bridge);
	}
	pthread_mutex_unlock(&bridge->lock);
}

bool pci_bridge_wants_reset(struct pci_bridge *bridge)
{
	pthread_mutex_lock(&bridge->lock);
	bool wants = bridge->wants_reset;
	pthread_mutex_unlock(&bridge->lock);
	return wants;
}

void pci_bridge_reset_done(struct pci_bridge *bridge, bool failed)
{
	pthread_mutex_lock(&bridge->lock);
	bridge->wants_reset = false;
	bridge->failed = failed && bridge_is_occupied(bridge);
	bridge_bus_update(bridge);
	if (bridge->options.slot)
		bridge_slot_show(bridge);
	pthread_mutex_unlock(&bridge->lock);
}

// SPDX-License-Identifier: MIT
/* A bridge's state for another host. What is behind it is there already; what is pending is worked out from the registers. */
#include <errno.h>
#include <stdio.h>

#include "bridge_private.h"

enum {
	SAVED_OCCUPIED = 0x01,
	SAVED_CUT = 0x02,
	SAVED_WANTS_RESET = 0x04,
	SAVED_FAILED = 0x08,
	SAVED_MISSED = 0x10, /* the guest has looked into the slot */
	SAVED_KNOWN = 0x1f,
};

void pci_bridge_save(struct pci_bridge *bridge, struct bytes_out *out)
{
	pthread_mutex_lock(&bridge->lock);
	bytes_put_u8(out, (bridge_is_occupied(bridge) ? SAVED_OCCUPIED : 0) | (bridge->cut ? SAVED_CUT : 0) |
				  (bridge->wants_reset ? SAVED_WANTS_RESET : 0) | (bridge->failed ? SAVED_FAILED : 0) |
				  (atomic_load(&bridge->bus.missed) ? SAVED_MISSED : 0));
	bytes_put_u16(out, BRIDGE_CONFIG_BYTES);
	bytes_put(out, bridge->value, BRIDGE_CONFIG_BYTES);
	pthread_mutex_unlock(&bridge->lock);
}

/* Bits that the bridge itself changes: they follow from the rest. */
static uint8_t derived_bits(const struct pci_bridge *bridge, unsigned at)
{
	if (!bridge->options.slot)
		return 0;
	switch (at) {
	case PCI_STATUS:
		return PCI_STATUS_INTERRUPT;
	case BRIDGE_EXP + PCI_EXP_SLTSTA:
		return PCI_EXP_SLTSTA_PDS;
	case BRIDGE_EXP + PCI_EXP_LNKSTA + 1:
		return PCI_EXP_LNKSTA_DLLLA >> 8;
	default:
		return 0;
	}
}

static int check_flags(const struct pci_bridge *bridge, uint8_t flags, struct tenon_error *err)
{
	unsigned number = bridge->options.number;
	bool occupied = flags & SAVED_OCCUPIED, cut = flags & SAVED_CUT;
	if (flags & ~SAVED_KNOWN || (!occupied && flags & ~SAVED_MISSED) || (cut && !bridge->options.slot))
		return tenon_fail(err, -EINVAL,
				  "bridge %u: its saved state 0x%02x is none that it can be in; save it again", number,
				  flags);
	if (occupied != bridge_is_occupied(bridge))
		return tenon_fail(err, -EINVAL,
				  "bridge %u: there is %s behind it at the source, and %s here; give this machine the "
				  "same devices at the same places",
				  number, occupied ? "a device" : "nothing", occupied ? "nothing" : "a device");
	return 0;
}

/* What no guest can change is the bridge's kind. */
static int check_fixed(const struct pci_bridge *bridge, const uint8_t *value, struct tenon_error *err)
{
	for (unsigned i = 0; i < BRIDGE_CONFIG_BYTES; i++) {
		uint8_t fixed = (uint8_t) ~(bridge->write[i] | bridge->clear[i] | derived_bits(bridge, i));
		if ((value[i] ^ bridge->value[i]) & fixed)
			return tenon_fail(err, -EINVAL,
					  "bridge %u: its register 0x%03x is 0x%02x at the source and 0x%02x here, and "
					  "not the guest's to change; give this machine the options of the source's",
					  bridge->options.number, i, value[i], bridge->value[i]);
	}
	return 0;
}

static void take(struct pci_bridge *bridge, uint8_t flags, const uint8_t *value)
{
	for (unsigned i = 0; i < BRIDGE_CONFIG_BYTES; i++) {
		uint8_t mask = bridge->write[i] | bridge->clear[i];
		bridge->value[i] = (uint8_t)((bridge->value[i] & ~mask) | (value[i] & mask));
	}
	atomic_store(&bridge->secondary, bridge->value[PCI_SECONDARY_BUS]);
	bridge->cut = flags & SAVED_CUT;
	bridge->wants_reset = flags & SAVED_WANTS_RESET;
	bridge->failed = flags & SAVED_FAILED;
	bridge_bus_update(bridge);
	if (bridge->options.slot)
		bridge_slot_loaded(bridge);
	atomic_store(&bridge->bus.missed, (flags & SAVED_MISSED) != 0);
}

int pci_bridge_load(struct pci_bridge *bridge, struct bytes_in *in, struct tenon_error *err)
{
	char what[16];
	uint8_t value[BRIDGE_CONFIG_BYTES];
	snprintf(what, sizeof(what), "bridge %u", bridge->options.number);
	uint8_t flags = bytes_get_u8(in);
	uint16_t count = bytes_get_u16(in);
	if (!in->failed && count != BRIDGE_CONFIG_BYTES)
		return tenon_fail(err, -EINVAL,
				  "%s: it has %u bytes of registers at the source, and %u here; use the same version "
				  "of tenon at both",
				  what, count, BRIDGE_CONFIG_BYTES);
	bytes_get(in, value, sizeof(value));
	int code = bytes_get_end(in, what, err);
	if (code < 0)
		return code;
	pthread_mutex_lock(&bridge->lock);
	code = check_flags(bridge, flags, err);
	if (code == 0)
		code = check_fixed(bridge, value, err);
	if (code == 0)
		take(bridge, flags, value);
	pthread_mutex_unlock(&bridge->lock);
	return code;
}

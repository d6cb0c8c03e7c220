// SPDX-License-Identifier: MIT
/*
 * The hot-plug slot of a root port: PCI Express Base 5.0, 6.7 (hot-plug) and 7.5.3.9 - 7.5.3.11 (slot registers), and the port's
 * own interrupt. The slot has a power controller, an attention button and both indicators; every command completes with the
 * write that gives it, so there is no Command Completed.
 *
 * How Linux's pciehp uses it (drivers/pci/hotplug of 6.12) decides two things that the specification leaves open:
 * - The link comes up with presence, before the guest switches the power on. pciehp takes a link that comes up as the order to
 *   switch the slot on, at once; a press of the button would make it wait 5 s.
 * - A card that the guest switches off stays present, without a link; pciehp forgets whatever else changes for 1 s after that, so that
 *   one which the guest was asked to release may leave at any time then, and nothing switches the slot on again by itself.
 * And one that comes before the guest has looked into the slot, since it boots, is like one that was there at power-on: switched
 * on already, no news. pciehp would take one that the bus scan found for switched on whatever the register said.
 */
#include <errno.h>

#include "../layout.h"
#include "bridge_private.h"

#define SLTCTL (BRIDGE_EXP + PCI_EXP_SLTCTL)
#define SLTSTA (BRIDGE_EXP + PCI_EXP_SLTSTA)
#define LNKSTA (BRIDGE_EXP + PCI_EXP_LNKSTA)

#define EVENT_ENABLES (PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PFDE | PCI_EXP_SLTCTL_MRLSCE | PCI_EXP_SLTCTL_PDCE)
#define INDICATORS    (PCI_EXP_SLTCTL_AIC | PCI_EXP_SLTCTL_PIC)
#define EVENTS                                                                                                         \
	(PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PFD | PCI_EXP_SLTSTA_MRLSC | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_CC |     \
	 PCI_EXP_SLTSTA_DLLSC)

static void set16(struct pci_bridge *bridge, unsigned at, uint16_t bits)
{
	bridge_put16(bridge->value, at, bridge_get16(bridge, at) | bits);
}

static void clear16(struct pci_bridge *bridge, unsigned at, uint16_t bits)
{
	bridge_put16(bridge->value, at, (uint16_t)(bridge_get16(bridge, at) & ~bits));
}

void bridge_slot_describe(struct pci_bridge *bridge)
{
	uint8_t *value = bridge->value, *write = bridge->write;
	bridge_put32(value, BRIDGE_EXP + PCI_EXP_SLTCAP,
		     PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_AIP | PCI_EXP_SLTCAP_PIP |
			     PCI_EXP_SLTCAP_HPS | PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_NCCS |
			     bridge->options.number << 19);
	bridge_put16(write, SLTCTL,
		     EVENT_ENABLES | PCI_EXP_SLTCTL_HPIE | INDICATORS | PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_DLLSCE);
	bridge_put16(bridge->clear, SLTSTA, EVENTS);

	value[BRIDGE_EXP + PCI_CAP_LIST_NEXT] = BRIDGE_MSI;
	value[BRIDGE_MSI] = PCI_CAP_ID_MSI;
	bridge_put16(value, BRIDGE_MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT);
	bridge_put16(write, BRIDGE_MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	bridge_put32(write, BRIDGE_MSI + PCI_MSI_ADDRESS_LO, 0xfffffffc);
	bridge_put32(write, BRIDGE_MSI + PCI_MSI_ADDRESS_HI, 0xffffffff);
	bridge_put16(write, BRIDGE_MSI + PCI_MSI_DATA_64, 0xffff);
	value[PCI_INTERRUPT_PIN] = 1;
}

static bool uses_messages(const struct pci_bridge *bridge)
{
	return bridge_get16(bridge, BRIDGE_MSI + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE;
}

/* An enabled event waits, and hot-plug interrupts are on. The status register tells. */
static bool take_pending(struct pci_bridge *bridge)
{
	uint16_t control = bridge_get16(bridge, SLTCTL), status = bridge_get16(bridge, SLTSTA);
	/* The enable bits of the first four events are at their status bits' places. */
	bool event = (control & status & EVENT_ENABLES) ||
		     ((control & PCI_EXP_SLTCTL_DLLSCE) && (status & PCI_EXP_SLTSTA_DLLSC));
	bridge->pending = event && (control & PCI_EXP_SLTCTL_HPIE);
	(bridge->pending ? set16 : clear16)(bridge, PCI_STATUS, PCI_STATUS_INTERRUPT);
	return bridge->pending;
}

static void update_line(struct pci_bridge *bridge)
{
	bool line = bridge->pending && !uses_messages(bridge) &&
		    !(bridge_get16(bridge, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);
	if (line != bridge->line && bridge->ops.intx)
		bridge->ops.intx(bridge->ops.context, bridge->device, line);
	bridge->line = line;
}

/* 6.7.3.4: a message at the moment when the first enabled event comes up; a line for as long as one is there. */
static void update_interrupt(struct pci_bridge *bridge)
{
	bool before = bridge->pending, pending = take_pending(bridge);
	if (pending && !before && uses_messages(bridge) && (bridge_get16(bridge, PCI_COMMAND) & PCI_COMMAND_MASTER) &&
	    bridge->ops.msi) {
		uint32_t low, high;
		memcpy(&low, bridge->value + BRIDGE_MSI + PCI_MSI_ADDRESS_LO, sizeof(low));
		memcpy(&high, bridge->value + BRIDGE_MSI + PCI_MSI_ADDRESS_HI, sizeof(high));
		bridge->ops.msi(bridge->ops.context, (uint64_t)high << 32 | low,
				bridge_get16(bridge, BRIDGE_MSI + PCI_MSI_DATA_64));
	}
	update_line(bridge);
}

void bridge_slot_loaded(struct pci_bridge *bridge)
{
	bridge_slot_show(bridge);
	take_pending(bridge);
	update_line(bridge);
}

/* A firmware would have switched a filled slot on and left an empty one off. */
static void set_power_on_state(struct pci_bridge *bridge)
{
	clear16(bridge, SLTCTL, INDICATORS | PCI_EXP_SLTCTL_PCC);
	set16(bridge, SLTCTL,
	      bridge_is_occupied(bridge)
		      ? PCI_EXP_SLTCTL_PWR_IND_ON | PCI_EXP_SLTCTL_ATTN_IND_OFF
		      : PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_ATTN_IND_OFF);
}

void bridge_slot_show(struct pci_bridge *bridge)
{
	bool present = bridge_is_occupied(bridge), link = present && !bridge->cut && !bridge->failed;
	(present ? set16 : clear16)(bridge, SLTSTA, PCI_EXP_SLTSTA_PDS);
	(link ? set16 : clear16)(bridge, LNKSTA, PCI_EXP_LNKSTA_DLLLA);
}

static void change(struct pci_bridge *bridge, uint16_t events)
{
	atomic_store(&bridge->bus.missed, true); /* what comes next is news in any case */
	bridge_slot_show(bridge);
	set16(bridge, SLTSTA, events);
}

void bridge_slot_reset(struct pci_bridge *bridge)
{
	clear16(bridge, SLTSTA, EVENTS);
	set_power_on_state(bridge);
	atomic_store(&bridge->bus.missed, bridge_is_occupied(bridge));
	bridge->value[PCI_INTERRUPT_LINE] = (uint8_t)(LAYOUT_INTX_GSI + bridge->device % 4);
	bridge_slot_show(bridge);
	update_interrupt(bridge);
}

/*
 * A card stays in the slot that the guest switches off: it is reset, and there again when the power is. (One that the guest was asked
 * to release leaves then: that is the machine's affair.)
 */
static void power_switched(struct pci_bridge *bridge, bool on)
{
	bridge->wants_reset |= !on;
	bridge->cut = !on;
	bridge_bus_update(bridge);
	change(bridge, PCI_EXP_SLTSTA_DLLSC);
}

bool bridge_slot_written(struct pci_bridge *bridge, uint16_t control)
{
	uint16_t now = bridge_get16(bridge, SLTCTL), changed = control ^ now;
	bool off = changed & now & PCI_EXP_SLTCTL_PCC, on = changed & control & PCI_EXP_SLTCTL_PCC;
	if (bridge_is_occupied(bridge) && (off || (on && bridge->cut)))
		power_switched(bridge, on);
	update_interrupt(bridge);
	return changed & (PCI_EXP_SLTCTL_PCC | INDICATORS);
}

void bridge_slot_inserted(struct pci_bridge *bridge)
{
	if (atomic_load(&bridge->bus.missed)) {
		change(bridge, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
		update_interrupt(bridge);
	} else {
		set_power_on_state(bridge);
		bridge_slot_show(bridge);
	}
}

void bridge_slot_ejected(struct pci_bridge *bridge)
{
	change(bridge, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
	update_interrupt(bridge);
}

void pci_bridge_slot(struct pci_bridge *bridge, struct pci_slot_state *out)
{
	pthread_mutex_lock(&bridge->lock);
	uint16_t control = bridge_get16(bridge, SLTCTL);
	bool powered = !(control & PCI_EXP_SLTCTL_PCC);
	*out = (struct pci_slot_state){
		.occupied = bridge_is_occupied(bridge),
		.released = bridge->cut,
		.powered = powered,
		.pressed = bridge_get16(bridge, SLTSTA) & PCI_EXP_SLTSTA_ABP,
		.blinking = (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_BLINK,
		.attention = (control & PCI_EXP_SLTCTL_AIC) == PCI_EXP_SLTCTL_ATTN_IND_ON,
		.at_rest = !powered && (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_OFF,
	};
	pthread_mutex_unlock(&bridge->lock);
}

void pci_bridge_press_button(struct pci_bridge *bridge)
{
	pthread_mutex_lock(&bridge->lock);
	set16(bridge, SLTSTA, PCI_EXP_SLTSTA_ABP);
	update_interrupt(bridge);
	pthread_mutex_unlock(&bridge->lock);
}

void pci_bridge_release_button(struct pci_bridge *bridge)
{
	pthread_mutex_lock(&bridge->lock);
	uint16_t control = bridge_get16(bridge, SLTCTL);
	if (bridge_get16(bridge, SLTSTA) & PCI_EXP_SLTSTA_ABP)
		clear16(bridge, SLTSTA, PCI_EXP_SLTSTA_ABP);
	else if (!(control & PCI_EXP_SLTCTL_PCC) && (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_BLINK)
		set16(bridge, SLTSTA, PCI_EXP_SLTSTA_ABP);
	update_interrupt(bridge);
	pthread_mutex_unlock(&bridge->lock);
}

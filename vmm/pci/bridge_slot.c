// SPDX-License-Identifier: MIT
/*
 * The hot-plug slot of a root port: PCI Express Base 5.0, 6.7 (hot-plug) and 7.5.3.9 - 7.5.3.11 (slot registers), and the port's
 * own interrupt. The slot has a power controller, an attention button and both indicators; every command completes with the
 * write that gives it, so there is no Command Completed.
 *
 * How Linux's pciehp uses it (drivers/pci/hotplug of 6.12) decides two things that the specification leaves open:
 * - The link comes up with presence, before the guest switches the power on. pciehp takes a link that comes up as the order to
 *   switch the slot on, at once; a press of the button would make it wait 5 s.
 * - Power off ejects: link and presence fall with the write itself, since a slot that were present for a moment longer would be
 *   switched on again.
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

static void set16(struct pci_bridge *port, unsigned at, uint16_t bits)
{
	bridge_put16(port->value, at, bridge_get16(port, at) | bits);
}

static void clear16(struct pci_bridge *port, unsigned at, uint16_t bits)
{
	bridge_put16(port->value, at, (uint16_t)(bridge_get16(port, at) & ~bits));
}

void bridge_slot_describe(struct pci_bridge *port)
{
	uint8_t *value = port->value, *write = port->write;
	bridge_put32(value, BRIDGE_EXP + PCI_EXP_SLTCAP,
		     PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_AIP | PCI_EXP_SLTCAP_PIP |
			     PCI_EXP_SLTCAP_HPS | PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_NCCS | port->number << 19);
	bridge_put16(write, SLTCTL,
		     EVENT_ENABLES | PCI_EXP_SLTCTL_HPIE | INDICATORS | PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_DLLSCE);
	bridge_put16(port->clear, SLTSTA, EVENTS);

	value[BRIDGE_MSI] = PCI_CAP_ID_MSI;
	bridge_put16(value, BRIDGE_MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT);
	bridge_put16(write, BRIDGE_MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	bridge_put32(write, BRIDGE_MSI + PCI_MSI_ADDRESS_LO, 0xfffffffc);
	bridge_put32(write, BRIDGE_MSI + PCI_MSI_ADDRESS_HI, 0xffffffff);
	bridge_put16(write, BRIDGE_MSI + PCI_MSI_DATA_64, 0xffff);
	value[PCI_INTERRUPT_PIN] = 1;
}

/* 6.7.3.4: a message at the moment when the first enabled event comes up; a line for as long as one is there. */
static void update_interrupt(struct pci_bridge *port)
{
	uint16_t control = bridge_get16(port, SLTCTL), status = bridge_get16(port, SLTSTA);
	uint16_t command = bridge_get16(port, PCI_COMMAND);
	bool messages = bridge_get16(port, BRIDGE_MSI + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE;
	/* The enable bits of the first four events are at their status bits' places. */
	bool event = (control & status & EVENT_ENABLES) ||
		     ((control & PCI_EXP_SLTCTL_DLLSCE) && (status & PCI_EXP_SLTSTA_DLLSC));
	bool pending = event && (control & PCI_EXP_SLTCTL_HPIE);
	bool line = pending && !messages && !(command & PCI_COMMAND_INTX_DISABLE);

	if (pending && !port->pending && messages && (command & PCI_COMMAND_MASTER) && port->ops.msi) {
		uint32_t low, high;
		memcpy(&low, port->value + BRIDGE_MSI + PCI_MSI_ADDRESS_LO, sizeof(low));
		memcpy(&high, port->value + BRIDGE_MSI + PCI_MSI_ADDRESS_HI, sizeof(high));
		port->ops.msi(port->ops.context, (uint64_t)high << 32 | low,
			      bridge_get16(port, BRIDGE_MSI + PCI_MSI_DATA_64));
	}
	port->pending = pending;
	if (pending)
		set16(port, PCI_STATUS, PCI_STATUS_INTERRUPT);
	else
		clear16(port, PCI_STATUS, PCI_STATUS_INTERRUPT);
	if (line != port->line && port->ops.intx)
		port->ops.intx(port->ops.context, port->device, line);
	port->line = line;
}

static bool occupied(const struct pci_bridge *port)
{
	return port->bus.functions[0][0];
}

/* A firmware would have switched a filled slot on and left an empty one off. */
static void set_power_on_state(struct pci_bridge *port)
{
	clear16(port, SLTCTL, INDICATORS | PCI_EXP_SLTCTL_PCC);
	set16(port, SLTCTL,
	      occupied(port) ? PCI_EXP_SLTCTL_PWR_IND_ON | PCI_EXP_SLTCTL_ATTN_IND_OFF
			     : PCI_EXP_SLTCTL_PWR_OFF | PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_ATTN_IND_OFF);
}

/* Presence and link, which always change together. */
static void show(struct pci_bridge *port)
{
	if (occupied(port)) {
		set16(port, SLTSTA, PCI_EXP_SLTSTA_PDS);
		set16(port, LNKSTA, PCI_EXP_LNKSTA_DLLLA);
	} else {
		clear16(port, SLTSTA, PCI_EXP_SLTSTA_PDS);
		clear16(port, LNKSTA, PCI_EXP_LNKSTA_DLLLA);
	}
}

static void change(struct pci_bridge *port)
{
	atomic_store(&port->bus.missed, true); /* what comes next is news in any case */
	show(port);
	set16(port, SLTSTA, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
}

void bridge_slot_reset(struct pci_bridge *port)
{
	clear16(port, SLTSTA, EVENTS);
	set_power_on_state(port);
	atomic_store(&port->bus.missed, occupied(port));
	port->value[PCI_INTERRUPT_LINE] = (uint8_t)(LAYOUT_INTX_GSI + port->device % 4);
	show(port);
	update_interrupt(port);
}

bool bridge_slot_written(struct pci_bridge *port, uint16_t control)
{
	uint16_t now = bridge_get16(port, SLTCTL), changed = control ^ now;
	if ((changed & now & PCI_EXP_SLTCTL_PCC) && occupied(port)) {
		pci_bus_remove(port->host, &port->bus, 0, 0);
		change(port);
	}
	update_interrupt(port);
	return changed & (PCI_EXP_SLTCTL_PCC | INDICATORS);
}

void pci_bridge_slot(struct pci_bridge *port, struct pci_slot_state *out)
{
	pthread_mutex_lock(&port->lock);
	uint16_t control = bridge_get16(port, SLTCTL);
	bool powered = !(control & PCI_EXP_SLTCTL_PCC);
	*out = (struct pci_slot_state){
		.occupied = occupied(port),
		.powered = powered,
		.pressed = bridge_get16(port, SLTSTA) & PCI_EXP_SLTSTA_ABP,
		.blinking = (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_BLINK,
		.attention = (control & PCI_EXP_SLTCTL_AIC) == PCI_EXP_SLTCTL_ATTN_IND_ON,
		.at_rest = !powered && (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_OFF,
	};
	pthread_mutex_unlock(&port->lock);
}

int pci_bridge_insert(struct pci_bridge *port, const struct pci_function *function, struct tenon_error *err)
{
	pthread_mutex_lock(&port->lock);
	int code = pci_bus_add(port->host, &port->bus, 0, 0, function, err);
	if (code == 0 && !atomic_load(&port->bus.missed)) {
		set_power_on_state(port);
		show(port);
	} else if (code == 0) {
		change(port);
		update_interrupt(port);
	}
	pthread_mutex_unlock(&port->lock);
	return code;
}

void pci_bridge_eject(struct pci_bridge *port)
{
	pthread_mutex_lock(&port->lock);
	if (occupied(port)) {
		pci_bus_remove(port->host, &port->bus, 0, 0);
		change(port);
		update_interrupt(port);
	}
	pthread_mutex_unlock(&port->lock);
}

void pci_bridge_press_button(struct pci_bridge *port)
{
	pthread_mutex_lock(&port->lock);
	set16(port, SLTSTA, PCI_EXP_SLTSTA_ABP);
	update_interrupt(port);
	pthread_mutex_unlock(&port->lock);
}

void pci_bridge_release_button(struct pci_bridge *port)
{
	pthread_mutex_lock(&port->lock);
	uint16_t control = bridge_get16(port, SLTCTL);
	if (bridge_get16(port, SLTSTA) & PCI_EXP_SLTSTA_ABP)
		clear16(port, SLTSTA, PCI_EXP_SLTSTA_ABP);
	else if (!(control & PCI_EXP_SLTCTL_PCC) && (control & PCI_EXP_SLTCTL_PIC) == PCI_EXP_SLTCTL_PWR_IND_BLINK)
		set16(port, SLTSTA, PCI_EXP_SLTSTA_ABP);
	update_interrupt(port);
	pthread_mutex_unlock(&port->lock);
}

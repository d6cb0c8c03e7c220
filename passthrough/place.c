// SPDX-License-Identifier: MIT
/*
 * Fits the guest's config space to the device's place in the guest. Owns what depends on the place and on nothing else; the rest is
 * built once, at open, by config.c and capabilities.c.
 * Source: PCI Express Base 5.0 sections 7.5.3 (device types and links) and 7.8.8 (ARI).
 */
#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "capabilities.h"
#include "device.h"
#include "place.h"
#include "sized.h"

#define MULTIFUNCTION  0x80u
#define EXTENDED_FIRST 0x100u
#define VERSION_1      (1u << 16)
#define NEXT_SHIFT     20
#define SHORTEST       8 /* a vendor's capability with its length */

SIZED_WHOLE(struct tenon_device_place, reserved);

/* What the first version had: never changed, whatever is appended. */
#define PLACE_FIRST_BYTES SIZED_THROUGH(struct tenon_device_place, reserved)

/* ---- Device type and link ---- */

/* Some devices end their capability early. */
static bool has_register(const struct config *config, unsigned offset)
{
	return offset + 4 <= config->pcie_bytes;
}

/* What the guest may write of the link, if there is one. */
static void set_link(struct config *config, bool link)
{
	static const struct config_rule no_link[] = {
		{PCI_EXP_LNKCAP, 4, 0xffffffff, CONFIG_ZERO, CONFIG_HOOK_NONE},
		{PCI_EXP_LNKCTL, 4, 0xffffffff, CONFIG_ZERO, CONFIG_HOOK_NONE},
		{PCI_EXP_LNKCAP2, 4, 0xffffffff, CONFIG_ZERO, CONFIG_HOOK_NONE},
		{PCI_EXP_LNKCTL2, 4, 0xffffffff, CONFIG_ZERO, CONFIG_HOOK_NONE},
	};
	const struct config_capability *row = config_standard_capability(PCI_CAP_ID_EXP);
	for (unsigned i = 0; link && i < CONFIG_RULES_MAX; i++) {
		if (row->rules[i].offset == PCI_EXP_LNKCTL && has_register(config, PCI_EXP_LNKCTL))
			config_apply_rule(config, config->pcie, &row->rules[i]);
	}
	for (unsigned i = 0; !link && i < sizeof(no_link) / sizeof(no_link[0]); i++) {
		if (!has_register(config, no_link[i].offset))
			continue;
		config_apply_rule(config, config->pcie, &no_link[i]);
		memset(config->write + config->pcie + no_link[i].offset, 0, no_link[i].bytes);
	}
}

/* The device type must match the slot, and an integrated endpoint has no link. */
static void fit_express(struct config *config, bool root_bus)
{
	unsigned at = config->pcie;
	if (!at)
		return;
	uint16_t flags = config_value16(config, at + PCI_EXP_FLAGS);
	unsigned type = (flags & PCI_EXP_FLAGS_TYPE) >> 4;
	if (type != PCI_EXP_TYPE_ENDPOINT && type != PCI_EXP_TYPE_LEG_END && type != PCI_EXP_TYPE_RC_END)
		return;
	type = root_bus ? PCI_EXP_TYPE_RC_END : type == PCI_EXP_TYPE_RC_END ? PCI_EXP_TYPE_ENDPOINT : type;
	config_set16(config->value, at + PCI_EXP_FLAGS, (uint16_t)((flags & ~PCI_EXP_FLAGS_TYPE) | type << 4));
	/* No latency tolerance or buffer flush towards the host's root port. */
	if (has_register(config, PCI_EXP_DEVCAP2)) {
		uint32_t caps2 = config_value32(config, at + PCI_EXP_DEVCAP2);
		config_set32(config->value, at + PCI_EXP_DEVCAP2,
			     caps2 & ~(uint32_t)(PCI_EXP_DEVCAP2_LTR | PCI_EXP_DEVCAP2_OBFF_MASK));
	}
	set_link(config, !root_bus);
}

/* ---- ARI ---- */

static uint32_t unplaced_header(const struct config *config, unsigned at)
{
	uint32_t header;
	memcpy(&header, config->unplaced + at, sizeof(header));
	return le32toh(header);
}

/* The chain of extended capabilities as the guest has it without ARI: built by us, so it ends. @return the last; 0: it is empty */
static unsigned last_extended(const struct config *config, bool *taken)
{
	unsigned last = 0;
	uint32_t header;
	for (unsigned at = EXTENDED_FIRST; at; last = at, at = PCI_EXT_CAP_NEXT(header)) {
		header = unplaced_header(config, at);
		if (header == 0)
			break;
		/* A null capability heads the chain where the device's first is hidden. */
		if (PCI_EXT_CAP_ID(header) == 0)
			continue;
		const struct config_capability *row = config_extended_capability(PCI_EXT_CAP_ID(header));
		unsigned bytes = capabilities_extended_bytes(config->unplaced, at, row);
		/* One that says to be shorter than the field that says so has lost that. */
		if (bytes < SHORTEST)
			bytes = SHORTEST;
		for (unsigned i = 0; i < bytes && at + i < TENON_CONFIG_BYTES; i++)
			taken[at + i] = true;
	}
	return last;
}

static bool is_free(const bool *taken, unsigned at)
{
	if (at + PCI_EXT_CAP_ARI_SIZEOF > TENON_CONFIG_BYTES)
		return false;
	for (unsigned i = 0; i < PCI_EXT_CAP_ARI_SIZEOF; i++) {
		if (taken[at + i])
			return false;
	}
	return true;
}

/* Where the device has one, else where nothing is. @return 0: nowhere */
static unsigned find_room(const struct config *config, const bool *taken)
{
	if (config->ari && is_free(taken, config->ari))
		return config->ari;
	for (unsigned at = EXTENDED_FIRST; at < TENON_CONFIG_BYTES; at += 4) {
		if (is_free(taken, at))
			return at;
	}
	return 0;
}

/* @param last  the chain's end; 0: it is empty */
static void link_ari(struct config *config, unsigned at, unsigned last, uint8_t next_function)
{
	uint32_t next = config_value32(config, EXTENDED_FIRST) & (0xfffu << NEXT_SHIFT);
	config_set32(config->value, at, PCI_EXT_CAP_ID_ARI | VERSION_1);
	config_set16(config->value, at + PCI_ARI_CAP, (uint16_t)(next_function << 8)); /* without function groups */
	if (at == EXTENDED_FIRST) { /* in place of a null capability, or of none */
		config_set32(config->value, at, PCI_EXT_CAP_ID_ARI | VERSION_1 | next);
		return;
	}
	if (!last) {
		config_set32(config->value, EXTENDED_FIRST, VERSION_1);
		last = EXTENDED_FIRST;
	}
	config_set32(config->value, last, config_value32(config, last) | at << NEXT_SHIFT);
}

/* ---- The place ---- */

int place_set(struct tenon_device *device, const struct tenon_device_place *place, struct tenon_error *err)
{
	struct config *config = &device->config;
	bool taken[TENON_CONFIG_BYTES] = {false};
	unsigned last = 0, ari = 0;
	if (place->ari && config->size_bytes == TENON_CONFIG_BYTES) {
		last = last_extended(config, taken);
		ari = find_room(config, taken);
	}
	if (place->ari && !ari)
		return tenon_fail(
			err, -ENOSPC,
			"%s: its config space of %u bytes has no room for an ARI capability, which a function "
			"number above 7 takes; put fewer functions into its slot",
			device->address.name, config->size_bytes);
	if (device->reset.used) /* too late by the contract; but what the guest sees and what is must agree */
		reset_quiesce(device);
	memcpy(config->value, config->unplaced, sizeof(config->value));
	if (place->multifunction)
		config->value[PCI_HEADER_TYPE] |= MULTIFUNCTION;
	fit_express(config, place->slot == TENON_SLOT_ROOT_BUS);
	if (ari)
		link_ari(config, ari, last, place->ari_next);
	memcpy(config->initial, config->value, sizeof(config->initial));
	config_reset(device);
	device->reset.used = false;
	return 0;
}

int tenon_device_place(struct tenon_device *device, const struct tenon_device_place *place, struct tenon_error *err)
{
	struct tenon_device_place known;
	if (!device || !place || !sized_copy(&known, place, sizeof(known), PLACE_FIRST_BYTES) ||
	    !sized_is_zero(known.reserved, sizeof(known.reserved)) || (known.ari_next && !known.ari))
		return tenon_fail(
			err, -EINVAL,
			"device: bad place; set .size = sizeof(struct tenon_device_place), .ari_next only with "
			".ari, and nothing that this library does not know");
	if ((unsigned)known.slot > TENON_SLOT_ROOT_PORT)
		return tenon_fail(err, -EINVAL, "device: .slot has no choice %u; see <tenon/device.h>",
				  (unsigned)known.slot);
	pthread_mutex_lock(&device->lock);
	remote_begin(device, REMOTE_RESET_MS);
	int code = place_set(device, &known, err);
	remote_end(device);
	pthread_mutex_unlock(&device->lock);
	return code;
}

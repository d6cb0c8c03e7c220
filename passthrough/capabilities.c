// SPDX-License-Identifier: MIT
/*
 * Capability lists: walking the device's, linking the guest's. A hidden capability's body reads zero, and so does extended
 * space outside any capability. Standard space outside any capability is the device's own (tg3 and tulip keep registers
 * there that their drivers need) and passes through, as the kernel lets it.
 * Sources: PCI Local Bus 3.0 section 6.7; PCI Express Base 5.0 section 7.6 (extended capabilities start at 0x100, and the
 * first one cannot be unlinked: a null capability takes its place and keeps the next pointer).
 */
#include <linux/pci_regs.h>
#include <string.h>

#include "capabilities.h"

#define STANDARD_END     0x100u
#define STANDARD_FIRST   0x40u
#define STANDARD_MAX     ((STANDARD_END - STANDARD_FIRST) / 4)
#define EXP_BYTES_V1     0x14u /* up to link status; an endpoint has no slot or root registers */
#define EXP_BYTES_V2     0x3cu /* with all registers of version 2 */
#define DVSEC_VENDOR_CXL 0x1e98u
#define EXTENDED_MAX     ((TENON_CONFIG_BYTES - STANDARD_END) / 4)

struct builder {
	struct config *config;
	const uint8_t *hardware;
	const struct capabilities_policy *policy;
	bool starts[STANDARD_END + 4];    /* where the device's standard capabilities begin; ends with one */
	bool claimed[TENON_CONFIG_BYTES]; /* bytes that belong to a capability, so that no two can overlap */
};

static bool claim(struct builder *builder, unsigned at, unsigned bytes)
{
	for (unsigned i = at; i < at + bytes; i++) {
		if (builder->claimed[i])
			return false;
	}
	memset(builder->claimed + at, true, bytes);
	return true;
}

static uint16_t get16(const uint8_t *bytes, unsigned offset)
{
	return (uint16_t)(bytes[offset] | bytes[offset + 1] << 8);
}

static uint32_t get32(const uint8_t *bytes, unsigned offset)
{
	return get16(bytes, offset) | (uint32_t)get16(bytes, offset + 2) << 16;
}

static unsigned msi_bytes(uint16_t flags)
{
	unsigned bytes = flags & PCI_MSI_FLAGS_64BIT ? 14 : 10;
	return flags & PCI_MSI_FLAGS_MASKBIT ? bytes + 10 : bytes;
}

/* Length of a standard capability's body, as the device says or the table knows. */
static unsigned standard_bytes(const uint8_t *hardware, unsigned at, const struct config_capability *row)
{
	switch (row->id) {
	case PCI_CAP_ID_MSI:
		return msi_bytes(get16(hardware, at + PCI_MSI_FLAGS));
	case PCI_CAP_ID_EXP:
		return (get16(hardware, at + PCI_EXP_FLAGS) & PCI_EXP_FLAGS_VERS) >= 2 ? EXP_BYTES_V2 : EXP_BYTES_V1;
	case PCI_CAP_ID_VNDR:
		return hardware[at + 2];
	default:
		return row->bytes;
	}
}

/* MSI's address, data and masks move with the 64-bit and mask flags, so they are no rows of the table. */
static void apply_msi_layout(struct config *config, unsigned at)
{
	uint16_t flags = get16(config->value, at + PCI_MSI_FLAGS);
	bool wide = flags & PCI_MSI_FLAGS_64BIT;
	const struct config_rule address = {PCI_MSI_ADDRESS_LO, 4, 0xfffffffc, CONFIG_EMULATE, CONFIG_HOOK_MSI};
	const struct config_rule address_high = {PCI_MSI_ADDRESS_HI, 4, 0xffffffff, CONFIG_EMULATE, CONFIG_HOOK_MSI};
	const struct config_rule data = {wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32, 2, 0xffff, CONFIG_EMULATE,
					 CONFIG_HOOK_MSI};
	const struct config_rule mask = {wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32, 4, 0xffffffff, CONFIG_EMULATE,
					 CONFIG_HOOK_MSI};
	config_apply_rule(config, at, &address);
	if (wide)
		config_apply_rule(config, at, &address_high);
	config_apply_rule(config, at, &data);
	if (flags & PCI_MSI_FLAGS_MASKBIT)
		config_apply_rule(config, at, &mask);
}

/* Where the place of a capability that has behaviour is kept; NULL for the others. */
static unsigned *behaviour_slot(struct config *config, uint8_t id)
{
	switch (id) {
	case PCI_CAP_ID_PM:
		return &config->pm;
	case PCI_CAP_ID_MSI:
		return &config->msi;
	case PCI_CAP_ID_MSIX:
		return &config->msix;
	case PCI_CAP_ID_EXP:
		return &config->pcie;
	case PCI_CAP_ID_VPD:
		return &config->vpd;
	case PCI_CAP_ID_AF:
		return &config->af;
	default:
		return NULL;
	}
}

static void pass_body(struct config *config, unsigned first, unsigned end)
{
	memset(config->live + first, 0xff, end - first);
	memset(config->pass + first, 0xff, end - first);
}

static unsigned bytes_to_next(const struct builder *builder, unsigned at)
{
	unsigned end = at + 4;
	while (!builder->starts[end])
		end += 4;
	return end - at;
}

/* Copies one visible standard capability; false when it is hidden, broken, or overlaps another. */
static bool show_standard(struct builder *builder, unsigned at)
{
	struct config *config = builder->config;
	uint8_t id = builder->hardware[at];
	const struct config_capability *row = config_standard_capability(id);
	unsigned *slot = behaviour_slot(config, id);
	if (!row->visible || (slot && *slot)) /* a second one of a kind that has behaviour is not shown */
		return false;
	unsigned bytes = standard_bytes(builder->hardware, at, row);
	if (id == PCI_CAP_ID_EXP && bytes > bytes_to_next(builder, at)) /* some devices end it early */
		bytes = bytes_to_next(builder, at);
	if (bytes < 3 || at + bytes > builder->policy->standard_bytes || !claim(builder, at, bytes))
		return false;

	memcpy(config->value + at, builder->hardware + at, bytes);
	if (slot)
		*slot = at;
	if (row->pass_body)
		pass_body(config, at + 3, at + bytes); /* byte 2 is the length */
	for (unsigned i = 0; i < CONFIG_RULES_MAX && row->rules[i].bytes; i++) {
		if (row->rules[i].offset + row->rules[i].bytes <= bytes)
			config_apply_rule(config, at, &row->rules[i]);
	}
	if (id == PCI_CAP_ID_MSI)
		apply_msi_layout(config, at);
	if (id == PCI_CAP_ID_EXP)
		config->pcie_bytes = bytes;
	return true;
}

/* A hidden capability's length is often unknown: all up to the next capability's start is taken for its body. */
static void hide_standard(struct builder *builder, unsigned at)
{
	memset(builder->claimed + at, true, bytes_to_next(builder, at));
}

static unsigned next_standard(const struct builder *builder, unsigned at)
{
	return builder->hardware[at + 1] & ~3u;
}

static void build_standard(struct builder *builder)
{
	struct config *config = builder->config;
	unsigned link = PCI_CAPABILITY_LIST; /* where the guest's next pointer goes */
	unsigned order[STANDARD_MAX], count = 0;

	config->value[link] = 0;
	builder->starts[STANDARD_END] = true;
	unsigned at = get16(builder->hardware, PCI_STATUS) & PCI_STATUS_CAP_LIST
			      ? builder->hardware[PCI_CAPABILITY_LIST] & ~3u
			      : 0;
	for (; at >= STANDARD_FIRST && !builder->starts[at]; at = next_standard(builder, at)) {
		builder->starts[at] = true;
		order[count++] = at;
	}
	for (unsigned i = 0; i < count; i++) {
		at = order[i];
		if (!show_standard(builder, at)) {
			hide_standard(builder, at);
			continue;
		}
		config->value[link] = (uint8_t)at;
		link = at + 1;
		config->value[link] = 0;
	}
	if (!config->value[PCI_CAPABILITY_LIST])
		config->value[PCI_STATUS] &= (uint8_t)~PCI_STATUS_CAP_LIST;
	for (at = STANDARD_FIRST; at < STANDARD_END; at++) {
		if (!builder->claimed[at])
			pass_body(config, at, at + 1);
	}
}

unsigned capabilities_extended_bytes(const uint8_t *bytes, unsigned at, const struct config_capability *row)
{
	if (row->id == PCI_EXT_CAP_ID_VNDR || row->id == PCI_EXT_CAP_ID_DVSEC)
		return at + 8 <= TENON_CONFIG_BYTES ? (unsigned)get16(bytes, at + 6) >> 4
						    : 0; /* length field, 12 bits */
	return row->bytes;
}

/* The addresses are the host's, and no guest may size VF BARs: each shows its type, and reads the same whatever is written. */
static void fix_vf_bars(struct config *config, unsigned at)
{
	for (unsigned bar = 0; bar < PCI_SRIOV_NUM_BARS; bar++) {
		unsigned offset = at + PCI_SRIOV_BAR + 4 * bar;
		uint32_t type = get32(config->value, offset) & ~(uint32_t)PCI_BASE_ADDRESS_MEM_MASK;
		config_set32(config->value, offset, type);
		if ((type & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64 &&
		    ++bar < PCI_SRIOV_NUM_BARS)
			config_set32(config->value, offset + 4, 0);
	}
}

static bool show_extended(struct builder *builder, unsigned at)
{
	struct config *config = builder->config;
	const struct config_capability *row = config_extended_capability(get16(builder->hardware, at));
	bool sriov = row->id == PCI_EXT_CAP_ID_SRIOV && builder->policy->sriov_shown;
	unsigned bytes = row->visible || sriov ? capabilities_extended_bytes(builder->hardware, at, row) : 0;
	/* CXL's registers are no vendor's secret: they hold host physical addresses. */
	if (row->id == PCI_EXT_CAP_ID_DVSEC && bytes >= 8 && get16(builder->hardware, at + 4) == DVSEC_VENDOR_CXL)
		return false;
	if (bytes < 4 || at + bytes > TENON_CONFIG_BYTES || !claim(builder, at, bytes))
		return false;
	memcpy(config->value + at, builder->hardware + at, bytes);
	unsigned head = row->id == PCI_EXT_CAP_ID_DVSEC ? 10 : 8;
	if (row->pass_body && bytes > head)
		pass_body(config, at + head, at + bytes);
	for (unsigned i = 0; i < CONFIG_RULES_MAX && row->rules[i].bytes; i++)
		config_apply_rule(config, at, &row->rules[i]);
	if (sriov)
		fix_vf_bars(config, at);
	return true;
}

static void set_next_extended(struct config *config, unsigned at, unsigned next)
{
	config_set16(config->value, at + 2, (uint16_t)((get16(config->value, at + 2) & 0x000f) | next << 4));
}

static void build_extended(struct builder *builder)
{
	struct config *config = builder->config;
	unsigned at = STANDARD_END, last = 0;
	bool seen[EXTENDED_MAX] = {false};

	while (at >= STANDARD_END && at <= TENON_CONFIG_BYTES - 4 && !seen[(at - STANDARD_END) / 4]) {
		seen[(at - STANDARD_END) / 4] = true;
		uint32_t header = get32(builder->hardware, at);
		if (header == 0 || header == 0xffffffff)
			break;
		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_SRIOV)
			config->sriov_hidden = !builder->policy->sriov_shown;
		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_ARI && !config->ari)
			config->ari = at;
		if (show_extended(builder, at)) {
			set_next_extended(config, at, 0);
			if (at != STANDARD_END) {
				/* The null capability: id 0, version 1, so that the chain goes on behind a hidden head. */
				if (last == 0)
					config_set32(config->value, STANDARD_END, 1u << 16);
				set_next_extended(config, last ? last : STANDARD_END, at);
			}
			last = at;
		}
		at = PCI_EXT_CAP_NEXT(header);
	}
}

void capabilities_build(struct config *config, const uint8_t *hardware, const struct capabilities_policy *policy)
{
	struct builder builder = {.config = config, .hardware = hardware, .policy = policy};
	build_standard(&builder);
	if (config->size_bytes == TENON_CONFIG_BYTES)
		build_extended(&builder);
}

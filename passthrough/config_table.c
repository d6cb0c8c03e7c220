// SPDX-License-Identifier: MIT
/*
 * The policy table. One row per register or capability, each with its reason; config.c only executes it.
 * Sources: PCI Local Bus 3.0 chapter 6, PCI Express Base 5.0 section 7, Linux include/uapi/linux/pci_regs.h and, for what
 * the kernel already virtualises below us, drivers/vfio/pci/vfio_pci_config.c.
 */
#include <linux/pci_regs.h>

#include "config_table.h"

/* Capabilities of PCI Express Base 6.0 that the kernel's header does not name, or not in every version. */
enum {
	CAP_ID_FPB = 0x15,
	EXT_CAP_ID_LNR = 0x1c,
	EXT_CAP_ID_MPCIE = 0x20,
	EXT_CAP_ID_FRS = 0x21,
	EXT_CAP_ID_RTR = 0x22,
	EXT_CAP_ID_VF_REBAR = 0x24,
	EXT_CAP_ID_LANE_MARGINING = 0x27,
	EXT_CAP_ID_HIERARCHY = 0x28,
	EXT_CAP_ID_NPEM = 0x29,
	EXT_CAP_ID_PL_32GT = 0x2a,
	EXT_CAP_ID_ALTERNATE = 0x2b,
	EXT_CAP_ID_SFI = 0x2c,
	EXT_CAP_ID_SHADOW = 0x2d,
	EXT_CAP_ID_DEVICE3 = 0x2f,
};

/* Type 0 header. BARs and the expansion ROM's are added by bars.c, which knows their sizes. */
const struct config_rule config_header_rules[] = {
	/* Decoding, bus mastering and the INTx switch have behaviour; parity and SERR are the device's own affair. */
	{PCI_COMMAND, 2,
	 PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
		 PCI_COMMAND_INTX_DISABLE,
	 CONFIG_EMULATE, CONFIG_HOOK_COMMAND},
	/* Error bits are write-one-to-clear and belong to the device; nothing else is in that half word that could change. */
	{PCI_STATUS, 2,
	 PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT | PCI_STATUS_REC_MASTER_ABORT |
		 PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY,
	 CONFIG_PASS, CONFIG_HOOK_NONE},
	{PCI_STATUS, 2, PCI_STATUS_INTERRUPT, CONFIG_LIVE, CONFIG_HOOK_NONE},
	{PCI_CACHE_LINE_SIZE, 1, 0xff, CONFIG_EMULATE, CONFIG_HOOK_NONE},
	{PCI_LATENCY_TIMER, 1, 0xff, CONFIG_EMULATE, CONFIG_HOOK_NONE},
	{PCI_BIST, 1, 0xff, CONFIG_ZERO, CONFIG_HOOK_NONE},
	{PCI_CARDBUS_CIS, 4, 0xffffffff, CONFIG_ZERO, CONFIG_HOOK_NONE},
	{PCI_ROM_ADDRESS, 4, 0xffffffff, CONFIG_ZERO, CONFIG_HOOK_NONE},
	{PCI_INTERRUPT_LINE, 1, 0xff, CONFIG_EMULATE, CONFIG_HOOK_NONE},
};
const unsigned config_header_rule_count = sizeof(config_header_rules) / sizeof(config_header_rules[0]);

static const struct config_capability standard[] = {
	{PCI_CAP_ID_PM,
	 true,
	 PCI_PM_SIZEOF,
	 false,
	 "drivers put the device to sleep; the state gates BAR access",
	 {{PCI_PM_PMC, 2, PCI_PM_CAP_PME_MASK, CONFIG_ZERO, CONFIG_HOOK_NONE}, /* no wake-up path to the guest */
	  {PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK, CONFIG_EMULATE, CONFIG_HOOK_POWER},
	  {PCI_PM_CTRL, 2, PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS, CONFIG_ZERO, CONFIG_HOOK_NONE}}},
	{PCI_CAP_ID_VPD,
	 true,
	 PCI_CAP_VPD_SIZEOF,
	 false,
	 "reading identifies the card; writing would change the host's card for good",
	 {{PCI_VPD_ADDR, 2, 0xffff, CONFIG_LIVE, CONFIG_HOOK_VPD},
	  {PCI_VPD_DATA, 4, 0xffffffff, CONFIG_LIVE, CONFIG_HOOK_NONE}}},
	{PCI_CAP_ID_MSI,
	 true,
	 0,
	 false,
	 "the guest's message is a route, never the device's",
	 {{PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE, CONFIG_EMULATE, CONFIG_HOOK_MSI}}},
	{PCI_CAP_ID_MSIX,
	 true,
	 PCI_CAP_MSIX_SIZEOF,
	 false,
	 "the guest's messages are routes, never the device's",
	 {{PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, CONFIG_EMULATE, CONFIG_HOOK_MSIX}}},
	{PCI_CAP_ID_EXP,
	 true,
	 0,
	 false,
	 "drivers need it; its type follows the guest's slot",
	 {{PCI_EXP_DEVCTL, 2,
	   PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE | PCI_EXP_DEVCTL_URRE |
		   PCI_EXP_DEVCTL_PAYLOAD,
	   CONFIG_EMULATE, CONFIG_HOOK_NONE}, /* errors and payload size are settled with the host's root port */
	  {PCI_EXP_DEVCTL, 2,
	   PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_EXT_TAG | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ,
	   CONFIG_PASS, CONFIG_HOOK_NONE},
	  {PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR, CONFIG_EMULATE,
	   CONFIG_HOOK_PCIE_CONTROL}, /* becomes the device reset */
	  {PCI_EXP_DEVSTA, 2, PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD,
	   CONFIG_PASS, CONFIG_HOOK_NONE},
	  {PCI_EXP_DEVSTA, 2, PCI_EXP_DEVSTA_TRPND, CONFIG_LIVE, CONFIG_HOOK_NONE},
	  {PCI_EXP_LNKCTL, 2, PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES,
	   CONFIG_EMULATE, CONFIG_HOOK_NONE}, /* the link is between the device and the host */
	  {PCI_EXP_DEVCTL2, 2, PCI_EXP_DEVCTL2_COMP_TIMEOUT | PCI_EXP_DEVCTL2_COMP_TMOUT_DIS, CONFIG_PASS,
	   CONFIG_HOOK_NONE},
	  {PCI_EXP_DEVCTL2, 2, PCI_EXP_DEVCTL2_LTR_EN | PCI_EXP_DEVCTL2_OBFF_MSGA_EN | PCI_EXP_DEVCTL2_OBFF_MSGB_EN,
	   CONFIG_ZERO, CONFIG_HOOK_NONE}}},
	{PCI_CAP_ID_VNDR, true, 0, true, "only the device's own driver knows what it means"},
	{PCI_CAP_ID_AF,
	 true,
	 PCI_CAP_AF_SIZEOF,
	 false,
	 "function reset of conventional devices",
	 {{PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR, CONFIG_EMULATE, CONFIG_HOOK_AF_CONTROL},
	  {PCI_AF_STATUS, 1, PCI_AF_STATUS_TP, CONFIG_LIVE, CONFIG_HOOK_NONE}}},
	{PCI_CAP_ID_SSVID, true, 8, false, "subsystem ids"},
	{PCI_CAP_ID_AGP, false, 0, false, "a graphics port that the guest does not have"},
	{PCI_CAP_ID_SLOTID, false, 0, false, "numbers the host's chassis and slots; of bridges only"},
	{PCI_CAP_ID_CHSWP, false, 0, false, "pulling the card is the host's affair"},
	{PCI_CAP_ID_PCIX, false, 0, false, "bus tuning of a bus that the guest does not have"},
	{PCI_CAP_ID_HT, false, 0, false, "links and interrupt mapping of the host's HyperTransport chain"},
	{PCI_CAP_ID_DBG, false, 0, false, "where a debug port is, which also lies in a BAR; nothing looks for it here"},
	{PCI_CAP_ID_CCRC, false, 0, false, "resource control of the host's chassis"},
	{PCI_CAP_ID_SHPC, false, 0, false, "hot-plug control belongs to ports"},
	{PCI_CAP_ID_AGP3, false, 0, false, "as AGP"},
	{PCI_CAP_ID_SECDEV, false, 0, false, "controls an IOMMU of the host"},
	{PCI_CAP_ID_SATA, false, 0, false, "a second way to registers that drivers reach through a BAR"},
	{PCI_CAP_ID_EA, false, 0, false, "fixed host addresses, which would contradict the emulated BARs"},
	{CAP_ID_FPB, false, 0, false, "bus numbering below bridges"},
};

static const struct config_capability extended[] = {
	{PCI_EXT_CAP_ID_DSN, true, 12, false, "serial number"},
	{PCI_EXT_CAP_ID_VNDR, true, 0, true, "only the device's own driver knows what it means"},
	{PCI_EXT_CAP_ID_DVSEC, true, 0, true, "only the device's own driver knows what it means"},
	{PCI_EXT_CAP_ID_PWR, true, 16, false, "power budget, for information"},
	{PCI_EXT_CAP_ID_ERR, false, 0, false, "the host handles errors; the guest would unmask them under it"},
	{PCI_EXT_CAP_ID_VC, false, 0, false, "virtual channels reach up to the host's root port"},
	{PCI_EXT_CAP_ID_RCLD, false, 0, false, "links inside the host's root complex, with host addresses"},
	{PCI_EXT_CAP_ID_RCILC, false, 0, false, "as the links' declaration"},
	{PCI_EXT_CAP_ID_RCEC, false, 0, false, "collects the errors of other devices of the host"},
	{PCI_EXT_CAP_ID_MFVC, false, 0, false, "shares the host's link among functions that the guest may not have"},
	{PCI_EXT_CAP_ID_VC9, false, 0, false, "as VC"},
	{PCI_EXT_CAP_ID_RCRB, false, 0, false, "belongs to the host's root complex"},
	{PCI_EXT_CAP_ID_CAC, false, 0, false, "opens a second config space that nobody filters; obsolete"},
	{PCI_EXT_CAP_ID_ACS, false, 0, false, "isolation is decided by the host"},
	{PCI_EXT_CAP_ID_ARI, false, 0, false,
	 "chains to functions that the guest does not have; where the guest's slot has such, place.c makes one"},
	{PCI_EXT_CAP_ID_ATS, false, 0, false, "translation requests are the host IOMMU's affair"},
	{PCI_EXT_CAP_ID_SRIOV,
	 false, /* unless the user asks for it */
	 PCI_EXT_CAP_SRIOV_SIZEOF,
	 false,
	 "VFs are made by the host; a visible one breaks firmware that sizes VF BARs",
	 {{PCI_SRIOV_CTRL, 2, 0xffff, CONFIG_LIVE, CONFIG_HOOK_NONE}, /* how many VFs the host has made, to look at */
	  {PCI_SRIOV_NUM_VF, 2, 0xffff, CONFIG_LIVE, CONFIG_HOOK_NONE}}},
	{PCI_EXT_CAP_ID_MRIOV, false, 0, false, "as SR-IOV"},
	{PCI_EXT_CAP_ID_MCAST, false, 0, false, "multicast addresses are the host's"},
	{PCI_EXT_CAP_ID_PRI, false, 0, false, "as ATS"},
	{PCI_EXT_CAP_ID_AMD_XXX, false, 0, false, "reserved for one vendor, and undocumented"},
	{PCI_EXT_CAP_ID_REBAR, false, 0, false, "BAR sizes are fixed while the device is assigned"},
	{PCI_EXT_CAP_ID_DPA, false, 0, false, "power is budgeted by the host"},
	{PCI_EXT_CAP_ID_TPH, false, 0, false, "steering tags name host CPUs"},
	{PCI_EXT_CAP_ID_LTR, false, 0, false, "latency of the host's link"},
	{PCI_EXT_CAP_ID_SECPCI, false, 0, false, "lane equalisation of the host's link"},
	{PCI_EXT_CAP_ID_PMUX, false, 0, false, "other protocols on the host's link"},
	{PCI_EXT_CAP_ID_PASID, false, 0, false, "as ATS"},
	{EXT_CAP_ID_LNR, false, 0, false, "subscribes to the host's cache lines"},
	{PCI_EXT_CAP_ID_DPC, false, 0, false, "containment belongs to ports"},
	{PCI_EXT_CAP_ID_L1SS, false, 0, false, "power states of the host's link"},
	{PCI_EXT_CAP_ID_PTM, false, 0, false, "time of the host's root port"},
	{EXT_CAP_ID_MPCIE, false, 0, false, "electrical setting of the host's link"},
	{EXT_CAP_ID_FRS, false, 0, false, "readiness messages go to the host's root port"},
	{EXT_CAP_ID_RTR, false, 0, false, "the kernel waits for the device after a reset, not the guest"},
	{EXT_CAP_ID_VF_REBAR, false, 0, false, "as SR-IOV"},
	{PCI_EXT_CAP_ID_DLF, false, 0, false, "features of the host's link"},
	{PCI_EXT_CAP_ID_PL_16GT, false, 0, false, "lanes of the host's link"},
	{EXT_CAP_ID_LANE_MARGINING, false, 0, false, "can take the host's link down"},
	{EXT_CAP_ID_HIERARCHY, false, 0, false, "names the host's hierarchy"},
	{EXT_CAP_ID_NPEM, false, 0, false, "the enclosure's lights are the host's"},
	{EXT_CAP_ID_PL_32GT, false, 0, false, "lanes of the host's link"},
	{EXT_CAP_ID_ALTERNATE, false, 0, false, "other protocols on the host's link"},
	{EXT_CAP_ID_SFI, false, 0, false, "firmware intermediary of ports"},
	{EXT_CAP_ID_SHADOW, false, 0, false, "extends one function by another, which the guest may not have"},
	{PCI_EXT_CAP_ID_DOE, false, 0, false,
	 "a mailbox to the device's firmware: attestation and keys are the host's"},
	{EXT_CAP_ID_DEVICE3, false, 0, false, "settings that must agree with the host's root port"},
};

static const struct config_capability unknown = {.visible = false,
						 .reason = "what it would let the guest do is not known"};

const struct config_capability *config_standard_capability(uint8_t id)
{
	for (unsigned i = 0; i < sizeof(standard) / sizeof(standard[0]); i++) {
		if (standard[i].id == id)
			return &standard[i];
	}
	return &unknown;
}

const struct config_capability *config_extended_capability(uint16_t id)
{
	for (unsigned i = 0; i < sizeof(extended) / sizeof(extended[0]); i++) {
		if (extended[i].id == id)
			return &extended[i];
	}
	return &unknown;
}

void config_apply_rule(struct config *config, unsigned base, const struct config_rule *rule)
{
	for (unsigned i = 0; i < rule->bytes; i++) {
		unsigned at = base + rule->offset + i;
		if (at >= config->size_bytes)
			return;
		uint8_t bits = (uint8_t)(rule->bits >> (8 * i));
		switch (rule->policy) {
		case CONFIG_READ_ONLY:
			break;
		case CONFIG_EMULATE:
			config->write[at] |= bits;
			config->value[at] &= (uint8_t)~bits; /* the guest's power-on, not what the host left there */
			break;
		case CONFIG_LIVE:
			config->live[at] |= bits;
			break;
		case CONFIG_PASS:
			config->live[at] |= bits;
			config->pass[at] |= bits;
			break;
		case CONFIG_ZERO:
			config->value[at] &= (uint8_t)~bits;
			break;
		}
		if (rule->hook != CONFIG_HOOK_NONE)
			config->hook[at] = (uint8_t)rule->hook;
	}
}

/* SPDX-License-Identifier: MIT */
/* PCI functions: config space by ECAM, capabilities, BARs. Numbers are those of PCI Local Bus 3.0 and PCI Express Base 5.0. */
#ifndef PCI_H
#define PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "machine.h"

/* Registers of both header types */
#define PCI_VENDOR         0x00
#define PCI_DEVICE         0x02
#define PCI_COMMAND        0x04
#define PCI_STATUS         0x06
#define PCI_REVISION       0x08 /* and the class code above it */
#define PCI_HEADER         0x0e
#define PCI_BAR0           0x10
#define PCI_CAPABILITIES   0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN  0x3d

#define COMMAND_IO        0x0001
#define COMMAND_MEMORY    0x0002
#define COMMAND_MASTER    0x0004
#define COMMAND_INTX_OFF  0x0400
#define STATUS_CAPABLE    0x0010
#define HEADER_TYPE       0x7f
#define HEADER_MULTI      0x80
#define HEADER_BRIDGE     0x01
#define CLASS_BRIDGE_HOST 0x060000
#define CLASS_NVME        0x010802

#define BAR_IO       0x1
#define BAR_TYPE     0x6
#define BAR_64BIT    0x4
#define BAR_PREFETCH 0x8
#define ROM_BAR      0x30
#define ROM_ENABLE   0x1
#define ROM_ADDRESS  0xfffff800u

/* Type 1 header */
#define BRIDGE_PRIMARY        0x18
#define BRIDGE_SECONDARY      0x19
#define BRIDGE_SUBORDINATE    0x1a
#define BRIDGE_IO_BASE        0x1c
#define BRIDGE_MEMORY_BASE    0x20
#define BRIDGE_PREFETCH_BASE  0x24
#define BRIDGE_PREFETCH_UPPER 0x28
#define BRIDGE_IO_UPPER       0x30
#define BRIDGE_ROM            0x38
#define BRIDGE_CONTROL        0x3e
#define BRIDGE_CONTROL_RESET  0x0040 /* of the secondary bus */

/* Capabilities */
#define CAP_POWER   0x01
#define CAP_MSI     0x05
#define CAP_EXPRESS 0x10
#define CAP_MSIX    0x11
#define CAP_AF      0x13

#define POWER_CONTROL 4
#define POWER_STATE   0x0003

#define MSI_CONTROL    2
#define MSI_ENABLE     0x0001
#define MSI_64BIT      0x0080
#define MSI_ADDRESS    4
#define MSI_CAPABLE(w) (1u << ((w) >> 1 & 7))

#define MSIX_CONTROL     2
#define MSIX_SIZE(w)     (((w)&0x7ff) + 1u)
#define MSIX_ENABLE      0x8000
#define MSIX_MASK_ALL    0x4000
#define MSIX_TABLE       4
#define MSIX_PBA         8
#define MSIX_BAR(w)      ((w)&7)
#define MSIX_OFFSET(w)   ((w) & ~7u)
#define MSIX_ENTRY_BYTES 16

#define EXPRESS_FLAGS         2
#define EXPRESS_VERSION(w)    ((w)&0xf)
#define EXPRESS_TYPE(w)       ((w) >> 4 & 0xf)
#define EXPRESS_ROOT_PORT     4
#define EXPRESS_DOWNSTREAM    6 /* port of a switch */
#define EXPRESS_FROM_PCI      8 /* bridge from PCI to PCI Express */
#define EXPRESS_HAS_SLOT      0x0100
#define EXPRESS_CAPABILITIES  4
#define EXPRESS_FLR           0x10000000u
#define EXPRESS_CONTROL       8
#define EXPRESS_CONTROL_FLR   0x8000
#define EXPRESS_SLOT          0x14
#define SLOT_HOTPLUG          0x40u
#define EXPRESS_CAPABILITIES2 0x24
#define EXPRESS_CONTROL2      0x28
#define EXPRESS_ARI           0x20 /* forwarding: in both of them */

#define AF_CAPABILITIES 3
#define AF_FLR          0x02
#define AF_CONTROL      4

/* Extended capabilities */
#define EXT_FIRST 0x100
#define EXT_ARI   0x0e
#define EXT_SRIOV 0x10

#define ARI_NEXT 5 /* the next function's number; 0: none */

#define SRIOV_TOTAL_VFS 0x0e
#define SRIOV_BAR0      0x24

#define BARS     6
#define ROM      BARS /* index of the expansion ROM among a function's BARs */
#define VF_BARS  (BARS + 1)
#define ALL_BARS (VF_BARS + BARS)

struct bar {
	uint64_t address; /* 0: not placed */
	uint64_t bytes;   /* 0: not there */
	enum space space;
	bool is_64bit, prefetchable;
	uint8_t copies; /* VFs that the BAR is repeated for; 1 */
};

#define FUNCTIONS_MAX 128

struct function {
	uint8_t bus, device, number; /* with ARI: the number's high bits are in `device` */
	uint8_t header;              /* type, without the multi-function bit */
	bool link;                   /* a bridge to a link: behind it is one device, and that has number 0 */
	int parent;                  /* index of the bridge that it is behind; -1: on the root bus */
	uint16_t vendor, id;
	uint32_t class_code;
	struct bar bars[ALL_BARS];
	struct range window[SPACES]; /* of a bridge */
	uint8_t secondary, subordinate;
};

extern struct function functions[FUNCTIONS_MAX];
extern unsigned function_count;

uint8_t config_read8(const struct function *function, unsigned offset);
uint16_t config_read16(const struct function *function, unsigned offset);
uint32_t config_read32(const struct function *function, unsigned offset);
void config_write8(const struct function *function, unsigned offset, uint8_t value);
void config_write16(const struct function *function, unsigned offset, uint16_t value);
void config_write32(const struct function *function, unsigned offset, uint32_t value);

/** Offset of a capability; 0: not there. The walk ends after as many steps as there is room for. */
unsigned find_capability(const struct function *function, unsigned id);
unsigned find_extended(const struct function *function, unsigned id);

/** Offset of a BAR's register; VF BARs are in their capability. */
unsigned bar_register(const struct function *function, unsigned bar);
/** Writes a BAR's address into its register. */
void bar_place(const struct function *function, unsigned bar, uint64_t address);

/** Switches decoding and bus mastering: COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER. @return what it was */
uint16_t set_command(const struct function *function, uint16_t on, uint16_t off);

/** bus << 8 | device << 3 | function */
unsigned function_rid(const struct function *function);
/** NULL: none was found there. */
const struct function *function_at(unsigned rid);

/** "01:00.0" */
#define PLACE_BYTES 8
void place_text(const struct function *function, char text[PLACE_BYTES]);

/** The host's address of an assigned device; NULL: the machine's own. */
const char *host_address(const struct function *function);

/* ---- enumerate.c ---- */

/** Finds every function, numbers the buses, sizes and places every BAR. @return NULL, or what does not fit */
const char *enumerate(void);

#endif

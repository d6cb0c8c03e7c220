// SPDX-License-Identifier: MIT
/* Config space: PCI Local Bus 3.0 chapter 6, PCI Express Base 5.0 section 7.5.1 and 7.6. */
#include "check.h"
#include "driver.h"

#define COMMAND_KNOWN 0x0547 /* I/O, memory, master, parity, SERR#, INTx off: the bits that PCI Express has */

static void check_identity(const struct function *function)
{
	check_begin(function, "config ids");
	uint32_t ids = config_read32(function, PCI_VENDOR), class_code = config_read32(function, PCI_REVISION);
	uint32_t pieces = config_read16(function, PCI_VENDOR) | (uint32_t)config_read8(function, PCI_DEVICE) << 16 |
			  (uint32_t)config_read8(function, PCI_DEVICE + 1) << 24;
	config_write32(function, PCI_VENDOR, 0x12345678);
	config_write32(function, PCI_REVISION, 0x12345678);
	uint8_t header = config_read8(function, PCI_HEADER);
	config_write8(function, PCI_HEADER, 0x7e);
	if (pieces != ids)
		check_fail("read in bytes and words they are %08x, as one %08x", pieces, ids);
	else if (config_read32(function, PCI_VENDOR) != ids || config_read32(function, PCI_REVISION) != class_code ||
		 config_read8(function, PCI_HEADER) != header)
		check_fail("a write changed what is read-only");
	else
		check_pass("%04x:%04x, class %06x, revision %02x; writes change nothing", function->vendor,
			   function->id, function->class_code, class_code & 0xff);
}

static void check_command(const struct function *function)
{
	check_begin(function, "config command");
	uint16_t was = config_read16(function, PCI_COMMAND);
	bool io = false, memory = false;
	for (unsigned bar = 0; bar < BARS; bar++) {
		io |= function->bars[bar].bytes && function->bars[bar].space == SPACE_IO;
		memory |= function->bars[bar].bytes && function->bars[bar].space != SPACE_IO;
	}
	config_write16(function, PCI_COMMAND, 0xffff & ~COMMAND_MASTER);
	uint16_t ones = config_read16(function, PCI_COMMAND);
	config_write16(function, PCI_COMMAND, 0);
	uint16_t zeros = config_read16(function, PCI_COMMAND);
	config_write16(function, PCI_COMMAND, was);
	if (ones & ~COMMAND_KNOWN)
		check_fail("reserved bits can be set: %04x", ones);
	else if (zeros & (COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER))
		check_fail("decoding cannot be switched off: %04x", zeros);
	else if ((memory && !(ones & COMMAND_MEMORY)) || (io && !(ones & COMMAND_IO)))
		check_fail("there are BARs whose decoding cannot be switched on: %04x", ones);
	else
		check_pass("%04x of ffff stay", ones);
}

static void check_capabilities(const struct function *function)
{
	uint64_t seen = 0;
	unsigned count = 0, at = 0;
	check_begin(function, "config capabilities");
	if (config_read16(function, PCI_STATUS) & STATUS_CAPABLE)
		at = config_read8(function, PCI_CAPABILITIES);
	while (at) {
		if (at < 0x40 || at & 3 || seen & 1ull << at / 4) {
			check_fail("the list leads to %02x, which is %s", at,
				   at < 0x40 ? "in the header"
				   : at & 3  ? "not aligned"
					     : "in it already");
			return;
		}
		seen |= 1ull << at / 4;
		count++;
		at = config_read8(function, at + 1);
	}
	check_pass("%u in the list, which ends", count);
}

static void check_extended(const struct function *function)
{
	unsigned at = EXT_FIRST, last = 0, count = 0;
	check_begin(function, "config extended capabilities");
	for (uint32_t head; at; at = head >> 20) {
		head = config_read32(function, at);
		if (head == 0xffffffff && at == EXT_FIRST) {
			check_skip("the function has no extended config space");
			return;
		}
		/* Nobody sorts them by the specification, but all devices do; more than fit is a loop. */
		if (at < EXT_FIRST || at & 3 || count > 960) {
			check_fail("the list leads from %03x to %03x", last, at);
			return;
		}
		if ((head & 0xffff) == EXT_SRIOV) {
			check_fail(
				"SR-IOV is visible at %03x: a guest's firmware would size its BARs; leave sriov= out",
				at);
			return;
		}
		count += (head & 0xffff) != 0;
		last = at;
		if (head == 0)
			break;
	}
	check_pass("%u in the list, which ends; no SR-IOV", count);
}

void check_config(const struct function *function)
{
	check_identity(function);
	check_command(function);
	check_capabilities(function);
	check_extended(function);
}

// SPDX-License-Identifier: MIT
/* Regions: bounds, the contract of access, and the way to config space, registers, memory, ports and ROM. */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "regions.h"
#include "register_file.h"
#include "testdev.h"

void region_describe(const struct testdev *device, unsigned index, struct region *out)
{
	bool mapped = !device->options.no_mapping;
	*out = (struct region){.writable = true};
	switch (index) {
	case VFIO_PCI_BAR0_REGION_INDEX + TD_BAR_REGISTERS:
		out->bytes = TD_REGISTERS_BYTES;
		break;
	case VFIO_PCI_BAR0_REGION_INDEX + TD_BAR_MEMORY:
		out->bytes = TD_MEMORY_BYTES;
		out->mappable = mapped;
		out->area_count = mapped ? 2 : 0;
		out->areas[0].bytes = TD_HOLE_FIRST;
		out->areas[1].offset = TD_HOLE_FIRST + TD_HOLE_BYTES;
		out->areas[1].bytes = TD_MEMORY_BYTES - out->areas[1].offset;
		break;
	case VFIO_PCI_BAR0_REGION_INDEX + TD_BAR_PORTS:
		out->bytes = TD_PORTS_BYTES;
		break;
	case VFIO_PCI_BAR0_REGION_INDEX + TD_BAR_PAGE:
		out->bytes = TD_PAGE_BYTES;
		out->mappable = mapped;
		out->file_offset = MEMORY_PAGE_OFFSET;
		break;
	case VFIO_PCI_ROM_REGION_INDEX:
		out->bytes = TD_ROM_BYTES;
		out->writable = false;
		break;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		out->bytes = CONFIG_BYTES;
		break;
	default:
		out->writable = false;
	}
}

static int check_bounds(const struct testdev *device, unsigned index, uint64_t offset, uint32_t bytes, bool write)
{
	struct region region;
	region_describe(device, index, &region);
	if (bytes == 0 || offset >= region.bytes || bytes > region.bytes - offset)
		return -EINVAL;
	return write && !region.writable ? -EPERM : 0;
}

/* The table's page answers in every state: VFIO, "RUNNING_P2P -> STOP". */
static bool is_msix(unsigned index, uint64_t offset)
{
	return index == TD_BAR_REGISTERS && offset >= TD_MSIX_TABLE;
}

/* The driver's side of the contract. */
static bool may_access_bar(struct testdev *device, unsigned index, uint64_t offset)
{
	bool io = index == TD_BAR_PORTS;
	unsigned kind = 0;
	if (!migration_touchable(device->migration.state) && !is_msix(index, offset))
		kind = TD_BAD_STOPPED_ACCESS;
	else if (config_space_in_d3(device))
		kind = TD_BAD_POWER;
	else if (!config_space_decodes(device, io))
		kind = TD_BAD_DECODE;
	if (kind)
		journal_add(device, kind, offset, "BAR %u at 0x%llx", index, (unsigned long long)offset);
	return kind == 0;
}

/* A ROM that has a header and no code. PCI Firmware Specification 3.3, 5.1. */
static void rom_read(uint64_t offset, uint8_t *data, uint32_t bytes)
{
	static const uint8_t head[] = {
		[0x00] = 0x55,
		[0x01] = 0xaa,
		[0x02] = TD_ROM_BYTES / 512,
		[0x18] = 0x1c, /* where PCIR is */
		[0x1c] = 'P',
		[0x1d] = 'C',
		[0x1e] = 'I',
		[0x1f] = 'R',
		[0x20] = TD_VENDOR_ID & 0xff,
		[0x21] = TD_VENDOR_ID >> 8,
		[0x22] = TD_DEVICE_ID,
		[0x26] = 0x18,
		[0x28] = 3,    /* length and revision of PCIR */
		[0x2b] = 0xff, /* class */
		[0x2c] = TD_ROM_BYTES / 512,
		[0x30] = 0xff,
		/* no kind of code */[0x31] = 0x80, /* the last image */
	};
	for (uint32_t i = 0; i < bytes; i++)
		data[i] = offset + i < sizeof(head) ? head[offset + i] : 0;
}

static uint8_t *memory_of(struct testdev *device, unsigned index)
{
	return device->memory.bytes + (index == TD_BAR_PAGE ? MEMORY_PAGE_OFFSET : 0);
}

int region_read(struct testdev *device, unsigned index, uint64_t offset, uint8_t *data, uint32_t bytes)
{
	int code = check_bounds(device, index, offset, bytes, false);
	if (code < 0)
		return code;
	if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
		config_space_read(device, (unsigned)offset, data, bytes);
	} else if (index == VFIO_PCI_ROM_REGION_INDEX) {
		rom_read(offset, data, bytes);
	} else if (!may_access_bar(device, index, offset)) {
		memset(data, 0xff, bytes);
	} else if (index == TD_BAR_REGISTERS) {
		registers_read(device, (uint32_t)offset, data, bytes);
	} else if (index == TD_BAR_PORTS) {
		ports_read(device, (uint32_t)offset, data, bytes);
	} else {
		memcpy(data, memory_of(device, index) + offset, bytes);
	}
	return 0;
}

int region_write(struct testdev *device, unsigned index, uint64_t offset, const uint8_t *data, uint32_t bytes)
{
	int code = check_bounds(device, index, offset, bytes, true);
	if (code < 0)
		return code;
	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		config_space_write(device, (unsigned)offset, data, bytes);
	else if (!may_access_bar(device, index, offset))
		return 0;
	else if (index == TD_BAR_REGISTERS)
		registers_write(device, (uint32_t)offset, data, bytes);
	else if (index == TD_BAR_PORTS)
		ports_write(device, (uint32_t)offset, data, bytes);
	else
		memcpy(memory_of(device, index) + offset, data, bytes);
	return 0;
}

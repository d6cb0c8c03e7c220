// SPDX-License-Identifier: MIT
/*
 * Expansion ROMs. Owns the copy from which the guest's reads are served: each read of the device's own would make the kernel
 * switch its decoder on, walk its images and switch it off again (drivers/vfio/pci/vfio_pci_rdwr.c). The guest's ROM BAR is
 * a register of bars.c; the device's is the kernel's alone.
 * Source: PCI Firmware Specification 3.0 section 5.1 (an image starts with 55h AAh), PCI Local Bus 3.0 section 6.2.5.2.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "kernel.h"
#include "rom.h"

#define ROM_BYTES_MIN 2048u /* the register has no lower address bits */

static uint64_t rounded(uint64_t bytes)
{
	uint64_t size = ROM_BYTES_MIN;
	while (size < bytes)
		size *= 2;
	return size;
}

/* Up to one byte more than the largest ROM, so that a file that is too large shows. @return bytes or -errno */
static ssize_t read_file(const char *path, uint8_t *content)
{
	int fd = kernel_open(path, O_RDONLY | O_NONBLOCK); /* a FIFO must not hold the VMM up */
	if (fd < 0)
		return fd;
	size_t done = 0;
	ssize_t part = 1;
	while (part > 0 && done <= ROM_BYTES_MAX) {
		part = kernel_pread(fd, content + done, ROM_BYTES_MAX + 1 - done, done);
		done += part > 0 ? (size_t)part : 0;
	}
	kernel_close(fd);
	return part < 0 ? part : (ssize_t)done;
}

static int load_file(struct tenon_device *device, const char *path, struct tenon_error *err)
{
	struct rom *rom = &device->rom;
	if (!path)
		return tenon_fail(err, -EINVAL, "%s: no ROM file is named; set .rom_file", device->address.name);
	uint8_t *content = malloc(ROM_BYTES_MAX + 1);
	if (!content)
		return tenon_fail(err, -ENOMEM, "%s: cannot read the ROM file: out of memory; free some memory",
				  device->address.name);
	ssize_t bytes = read_file(path, content);
	int code = 0;
	if (bytes < 0)
		code = tenon_fail(err, (int)bytes, "%s: cannot read the ROM file %s: %s; give a readable file",
				  device->address.name, path, strerror((int)-bytes));
	else if ((size_t)bytes > ROM_BYTES_MAX)
		code = tenon_fail(err, -EFBIG,
				  "%s: the ROM file %s is larger than 16 MiB; give an expansion ROM's image",
				  device->address.name, path);
	else if (bytes < 2 || content[0] != 0x55 || content[1] != 0xaa)
		code = tenon_fail(err, -EINVAL,
				  "%s: the ROM file %s does not begin with 55 AA; give an expansion ROM's image, not a "
				  "firmware volume",
				  device->address.name, path);
	if (code < 0) {
		free(content);
		return code;
	}
	rom->size_bytes = rounded((uint64_t)bytes);
	memset(content + bytes, 0xff, rom->size_bytes - (uint64_t)bytes);
	uint8_t *smaller = realloc(content, rom->size_bytes);
	rom->content = smaller ? smaller : content;
	return 0;
}

static int find_in_device(struct tenon_device *device, struct tenon_error *err)
{
	struct transport_region region;
	int code = device->transport->ops->region_info(device->transport, VFIO_PCI_ROM_REGION_INDEX, &region, err);
	if (code < 0 || region.size_bytes == 0)
		return code;
	if (region.size_bytes > ROM_BYTES_MAX) {
		device_log(device, TENON_LOG_WARNING,
			   "%s: its expansion ROM has an impossible size of 0x%llx bytes; the guest will not see it",
			   device->address.name, (unsigned long long)region.size_bytes);
		return 0;
	}
	device->rom.size_bytes = rounded(region.size_bytes);
	device->rom.device_bytes = region.size_bytes;
	return 0;
}

int rom_init(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err)
{
	int code = 0;
	switch (options->rom) {
	case TENON_ROM_DEVICE:
		code = find_in_device(device, err);
		break;
	case TENON_ROM_OFF:
		break;
	case TENON_ROM_FILE:
		code = load_file(device, options->rom_file, err);
		break;
	}
	device->info.rom_bytes = device->rom.size_bytes;
	return code;
}

void rom_finish(struct tenon_device *device)
{
	free(device->rom.content);
	device->rom.content = NULL;
}

void rom_placed(struct tenon_device *device)
{
	device->rom.failed = false;
}

static int load_piece(struct tenon_device *device, size_t piece)
{
	struct rom *rom = &device->rom;
	uint64_t at = (uint64_t)piece * ROM_PIECE_BYTES;
	if (rom->loaded[piece])
		return 0;
	uint64_t bytes = at < rom->device_bytes ? rom->device_bytes - at : 0;
	if (bytes > ROM_PIECE_BYTES)
		bytes = ROM_PIECE_BYTES;
	int code = bytes ? device->transport->ops->region_read(device->transport, VFIO_PCI_ROM_REGION_INDEX, at,
							       rom->content + at, (unsigned)bytes)
			 : 0;
	rom->loaded[piece] = code == 0;
	return code;
}

/* Reading is slow, and other vCPUs wait meanwhile: never more than the guest's access needs, nor twice what failed. */
static int load_from_device(struct tenon_device *device, uint64_t offset, unsigned size_bytes)
{
	struct rom *rom = &device->rom;
	if (!rom->content) {
		rom->content = malloc(rom->size_bytes);
		if (!rom->content)
			return -ENOMEM;
		memset(rom->content, 0xff, rom->size_bytes);
	}
	int code = rom->failed ? -EIO : load_piece(device, offset / ROM_PIECE_BYTES);
	if (code == 0)
		code = load_piece(device, (offset + size_bytes - 1) / ROM_PIECE_BYTES);
	rom->failed = code < 0;
	return code;
}

int rom_read(struct tenon_device *device, uint64_t offset, void *data, unsigned size_bytes)
{
	struct rom *rom = &device->rom;
	int code = rom->device_bytes ? load_from_device(device, offset, size_bytes) : 0;
	if (code == 0)
		memcpy(data, rom->content + offset, size_bytes);
	return code;
}

/* SPDX-License-Identifier: MIT */
/* What the guest reads behind its expansion ROM BAR: the device's own ROM, or a file's content. Nothing writes it. */
#ifndef ROM_H
#define ROM_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>

struct tenon_device;

struct rom {
	uint64_t size_bytes;   /* of the BAR; 0: none */
	uint64_t device_bytes; /* of the device's ROM */
	uint8_t *content;      /* size_bytes; NULL: not read from the device yet */
};

/** Finds the ROM that the options ask for. A file is read here, a device at the guest's first access. */
int rom_init(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err);
void rom_finish(struct tenon_device *device);

/** An access inside the BAR. @return 0, or -errno when the device does not answer */
int rom_read(struct tenon_device *device, uint64_t offset, void *data, unsigned size_bytes);

#endif

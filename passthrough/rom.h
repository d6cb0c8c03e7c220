/* SPDX-License-Identifier: MIT */
/* What the guest reads behind its expansion ROM BAR: the device's own ROM, or a file's content. Nothing writes it. */
#ifndef ROM_H
#define ROM_H

#include <stdbool.h>
#include <stdint.h>

#include <tenon/device.h>

struct tenon_device;

#define ROM_BYTES_MAX   ((size_t)16u << 20) /* the register has no more address bits that can be zero */
#define ROM_PIECE_BYTES 65536u
#define ROM_PIECES_MAX  (ROM_BYTES_MAX / ROM_PIECE_BYTES)

struct rom {
	uint64_t size_bytes;   /* of the BAR; 0: none */
	uint64_t device_bytes; /* of the device's ROM */
	uint8_t *content;      /* size_bytes; NULL: nothing was read from the device yet */
	bool loaded[ROM_PIECES_MAX];
	bool failed; /* the device did not answer since the guest placed its ROM */
};

/** Finds the ROM that the options ask for. A file is read here, a device piece by piece at the guest's accesses. */
int rom_init(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err);
void rom_finish(struct tenon_device *device);

/** The guest has switched its ROM BAR on: a device that did not answer may be asked again. */
void rom_placed(struct tenon_device *device);

/** An access inside the BAR. @return 0, or -errno when the device does not answer */
int rom_read(struct tenon_device *device, uint64_t offset, void *data, unsigned size_bytes);

#endif

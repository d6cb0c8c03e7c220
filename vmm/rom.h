/* SPDX-License-Identifier: MIT */
/* The ROM below 4 GiB that holds a firmware: the first thing that the CPU executes. */
#ifndef ROM_H
#define ROM_H

#include <stdint.h>

#include <tenon/error.h>

#define ROM_DEFAULT "default" /* the name of the firmware that comes with this program */

struct rom {
	uint8_t *hva; /* NULL: none */
	uint64_t size_bytes;
};

/**
 * Reads the file into memory of its own, so that whoever changes the file later changes nothing of the guest.
 *
 * @param file  a path, or ROM_DEFAULT
 * @param rom   finished by rom_finish
 */
int rom_load(const char *file, struct rom *rom, struct tenon_error *err);
void rom_finish(struct rom *rom); /* accepts a zeroed struct */

/** Where it starts in the guest. */
uint64_t rom_gpa(const struct rom *rom);

#endif

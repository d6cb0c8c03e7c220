/* SPDX-License-Identifier: MIT */
/* What the firmware can do, and the words of its command line. */
#ifndef MODES_H
#define MODES_H

#include <stdint.h>

/* Each returns the VM's exit status (LAYOUT_FIRMWARE_*). PCI is enumerated. */
unsigned mode_list(void);
unsigned mode_selftest(void);
unsigned mode_boot(void);
unsigned mode_hostile(void);
unsigned mode_load(void);
unsigned mode_timing(void);

/** The number of key=N among the firmware's words, in decimal or with 0x; `otherwise` when it is not there. */
uint64_t word_number(const char *key, uint64_t otherwise);

/** What of the command line is the kernel's: what follows " -- ", or all of it when it names no mode. */
const char *words_of_kernel(void);

#endif

/* SPDX-License-Identifier: MIT */
/* The identity map: 4 GiB from the start (start.S), more where it is touched. */
#ifndef PAGING_H
#define PAGING_H

#include <stdbool.h>
#include <stdint.h>

/** Maps 2 MiB around the address, which is above 4 GiB. @return false: no address that can be mapped */
bool paging_map(uint64_t address);

#endif

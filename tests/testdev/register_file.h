/* SPDX-License-Identifier: MIT */
/* What is behind TD_BAR_REGISTERS and TD_BAR_PORTS; inside the BAR, decoding and state checked. */
#ifndef REGISTER_FILE_H
#define REGISTER_FILE_H

#include <stdint.h>

struct testdev;

void registers_read(struct testdev *device, uint32_t offset, uint8_t *data, uint32_t bytes);
void registers_write(struct testdev *device, uint32_t offset, const uint8_t *data, uint32_t bytes);
void ports_read(struct testdev *device, uint32_t offset, uint8_t *data, uint32_t bytes);
void ports_write(struct testdev *device, uint32_t offset, const uint8_t *data, uint32_t bytes);

#endif

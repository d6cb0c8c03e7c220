/* SPDX-License-Identifier: MIT */
/* Names of devices from the pci.ids database, through libpci. */
#ifndef NAMES_H
#define NAMES_H

#include "inventory.h"

struct names;

/** NULL when out of memory: then everything is named by number. */
struct names *names_open(void);
void names_close(struct names *names);

/** "Non-Volatile memory controller" */
void names_class(struct names *names, const struct device *device, char *text, size_t capacity);
void names_vendor(struct names *names, const struct device *device, char *text, size_t capacity);
void names_device(struct names *names, const struct device *device, char *text, size_t capacity);

#endif

/* SPDX-License-Identifier: MIT */
/* Whether a device can migrate: plain vfio-pci cannot, a variant driver made for the device can. */
#ifndef MIGRATION_H
#define MIGRATION_H

#include "inventory.h"

/* The alias lines of this kernel's modules that name VFIO variants. */
struct variants {
	char *aliases; /* lines "pattern module" */
};

void variants_read(const struct host *host, struct variants *variants);
void variants_finish(struct variants *variants);

/** The variant driver's module that fits a device, or false. */
bool variants_find(const struct variants *variants, const struct device *device, char *module, size_t capacity);

/** "mlx5_vfio_pci is bound", "none: ...": one line. @return whether the device can migrate as it is bound now */
bool migration_describe(const struct variants *variants, const struct device *device, char *text, size_t capacity);

#endif

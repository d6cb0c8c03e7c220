// SPDX-License-Identifier: MIT
/*
 * Finds the VFIO variant driver of a device, which is what gives it migration. depmod lists them in modules.alias, with the device's
 * modalias behind "vfio_pci:" in place of "pci:" (Linux Documentation/driver-api/vfio-pci-device-specific-driver-acceptance.rst,
 * scripts/mod/file2alias.c).
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "migration.h"

#define ALIAS "alias vfio_pci:"

void variants_read(const struct host *host, struct variants *variants)
{
	struct utsname kernel;
	uname(&kernel);
	variants->aliases = host_read_text(host, "/lib/modules/%s/modules.alias", kernel.release);
}

void variants_finish(struct variants *variants)
{
	free(variants->aliases);
	variants->aliases = NULL;
}

bool variants_find(const struct variants *variants, const struct device *device, char *module, size_t capacity)
{
	if (strncmp(device->modalias, "pci:", 4) != 0)
		return false;
	for (const char *line = variants->aliases; line && (line = strstr(line, ALIAS)); line++) {
		char pattern[160], name[64];
		if (sscanf(line + sizeof(ALIAS) - 1, "%159s %63s", pattern, name) != 2 ||
		    strcmp(name, "vfio_pci") == 0 || fnmatch(pattern, device->modalias + 4, 0) != 0)
			continue;
		snprintf(module, capacity, "%s", name);
		return true;
	}
	return false;
}

bool migration_describe(const struct variants *variants, const struct device *device, char *text, size_t capacity)
{
	char module[64];
	if (device_on_vfio(device) && strcmp(device->driver, "vfio-pci") != 0) {
		snprintf(text, capacity, "yes: its variant driver %s is bound", device->driver);
		return true;
	}
	if (variants_find(variants, device, module, sizeof(module)))
		snprintf(text, capacity, "with its variant driver: tenon bind --driver %s %s", module, device->bdf);
	else
		snprintf(text, capacity,
			 "no: this kernel has no variant driver for it, and plain vfio-pci has no migration");
	return false;
}

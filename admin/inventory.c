// SPDX-License-Identifier: MIT
/*
 * Reads the host's PCI functions from sysfs. What a file does not say stays unknown; nothing here fails because of one device.
 * Source: Linux Documentation/ABI/testing/sysfs-bus-pci, drivers/pci/pci-sysfs.c, drivers/iommu/iommu-sysfs.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_space.h"
#include "inventory.h"

#define DEVICES     "/sys/bus/pci/devices"
#define DEVICES_MAX 65536u

/* Flags of the resource file: include/linux/ioport.h. */
#define RESOURCE_IO       0x00000100ull
#define RESOURCE_MEM      0x00000200ull
#define RESOURCE_PREFETCH 0x00002000ull
#define RESOURCE_64BIT    0x00100000ull
#define RESOURCE_ROM      6

bool bdf_parse(const char *text, char bdf[BDF_BYTES])
{
	unsigned domain = 0, bus, slot, function;
	int used = 0;
	if (strspn(text, "0123456789abcdefABCDEF:.") != strlen(text))
		return false;
	if (sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &used) != 4 || text[used]) {
		domain = 0;
		used = 0;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &slot, &function, &used) != 3 || text[used])
			return false;
	}
	if (slot > 31 || function > 7)
		return false;
	snprintf(bdf, BDF_BYTES, "%04x:%02x:%02x.%x", domain, bus & 0xff, slot, function);
	return true;
}

static uint32_t number(const struct host *host, const char *bdf, const char *file, uint32_t otherwise)
{
	uint64_t value;
	return host_read_number(host, &value, DEVICES "/%s/%s", bdf, file) == 0 ? (uint32_t)value : otherwise;
}

static void read_resources(const struct host *host, struct device *device)
{
	char *text = host_read_text(host, "%s/resource", device->path);
	char *rest = text;
	for (unsigned i = 0; rest && i <= RESOURCE_ROM; i++) {
		unsigned long long first, last, flags;
		const char *line = strsep(&rest, "\n");
		if (sscanf(line, "%llx %llx %llx", &first, &last, &flags) != 3 || last < first ||
		    !(flags & (RESOURCE_IO | RESOURCE_MEM)) || (last == 0 && first == 0))
			continue;
		if (i == RESOURCE_ROM) {
			device->rom_bytes = last - first + 1;
			continue;
		}
		device->bars[i] = (struct bar){.size_bytes = last - first + 1,
					       .io = flags & RESOURCE_IO,
					       .is_64bit = flags & RESOURCE_64BIT,
					       .prefetchable = flags & RESOURCE_PREFETCH};
	}
	free(text);
}

/*
 * What libtenon learns from the kernel when it opens the device, known beforehand: VFIO asks the IOMMU driver whether it can
 * enforce coherency, and that is the unit's snoop control on Intel and given on AMD.
 */
static void read_iommu(const struct host *host, struct device *device)
{
	char group[16], *end, ecap[32];
	if (host_link_name(host, group, sizeof(group), "%s/iommu_group", device->path) == 0) {
		long value = strtol(group, &end, 10);
		device->group = end != group && !*end && value >= 0 && value < 1 << 24 ? (int)value : -1;
	}
	if (host_link_name(host, device->iommu, sizeof(device->iommu), "%s/iommu", device->path) < 0)
		return;
	if (host_read_line(host, ecap, sizeof(ecap), "%s/iommu/intel-iommu/ecap", device->path) > 0)
		device->coherency =
			strtoull(ecap, NULL, 16) & INTEL_ECAP_SNOOP_CONTROL ? COHERENCY_FULL : COHERENCY_NONE;
	else if (host_exists(host, "%s/iommu/amd-iommu", device->path))
		device->coherency = COHERENCY_FULL;
}

static void read_sriov(const struct host *host, struct device *device)
{
	device->vfs_total = number(host, device->bdf, "sriov_totalvfs", 0) & 0xffff;
	device->vfs = number(host, device->bdf, "sriov_numvfs", 0) & 0xffff;
	device->is_pf = host_exists(host, "%s/sriov_totalvfs", device->path);
	char pf[BDF_BYTES];
	if (host_link_name(host, pf, sizeof(pf), "%s/physfn", device->path) == 0)
		bdf_parse(pf, device->pf);
}

/* The names of the folders above tell the bridge and the host bridge: /sys/devices/pci0000:00/0000:00:05.0/0000:01:00.0. */
static void read_place(struct device *device)
{
	const char *at = strstr(device->path, "/pci");
	if (at) {
		size_t length = strcspn(at + 1, "/");
		snprintf(device->root_bus, sizeof(device->root_bus), "%.*s", (int)length, at + 1);
	}
	char above[SYSFS_PATH_BYTES];
	snprintf(above, sizeof(above), "%s", device->path);
	char *slash = strrchr(above, '/');
	if (!slash)
		return;
	*slash = '\0';
	slash = strrchr(above, '/');
	if (slash && !bdf_parse(slash + 1, device->above))
		device->above[0] = '\0';
}

static void read_device(const struct host *host, const char *bdf, struct device *device)
{
	memset(device, 0, sizeof(*device));
	snprintf(device->bdf, sizeof(device->bdf), "%s", bdf);
	sscanf(bdf, "%x:%x:%x.%x", &device->domain, &device->bus, &device->slot, &device->function);
	if (host_real_path(host, device->path, sizeof(device->path), DEVICES "/%s", bdf) < 0)
		snprintf(device->path, sizeof(device->path), DEVICES "/%s", bdf);
	read_place(device);

	device->vendor = (uint16_t)number(host, bdf, "vendor", 0xffff);
	device->device = (uint16_t)number(host, bdf, "device", 0xffff);
	device->subsystem_vendor = (uint16_t)number(host, bdf, "subsystem_vendor", 0);
	device->subsystem_device = (uint16_t)number(host, bdf, "subsystem_device", 0);
	device->class_code = number(host, bdf, "class", 0) & 0xffffff;
	device->revision = (uint8_t)number(host, bdf, "revision", 0);
	device->boot_display = number(host, bdf, "boot_vga", 0) == 1;
	device->numa_node = (int)number(host, bdf, "numa_node", (uint32_t)-1);
	host_read_line(host, device->modalias, sizeof(device->modalias), "%s/modalias", device->path);
	host_link_name(host, device->driver, sizeof(device->driver), "%s/driver", device->path);
	host_read_line(host, device->override, sizeof(device->override), "%s/driver_override", device->path);
	if (strcmp(device->override, "(null)") == 0)
		device->override[0] = '\0';

	device->group = -1;
	read_iommu(host, device);
	/* The kernel shows the file only where there is a method; one before 5.15 shows only "reset". */
	device->reset_methods_known =
		host_exists(host, "%s/reset_method", device->path) || !host_exists(host, "%s/reset", device->path);
	host_read_line(host, device->reset_methods, sizeof(device->reset_methods), "%s/reset_method", device->path);
	read_resources(host, device);
	config_space_read(host, device);
	read_sriov(host, device);
}

struct reader {
	const struct host *host;
	struct inventory *inventory;
	unsigned capacity;
};

static int add_device(void *context, const char *name)
{
	struct reader *reader = context;
	struct inventory *inventory = reader->inventory;
	char bdf[BDF_BYTES];
	if (!bdf_parse(name, bdf) || strcmp(bdf, name) != 0)
		return 0;
	if (inventory->count == reader->capacity) {
		unsigned capacity = reader->capacity ? reader->capacity * 2 : 64;
		struct device *larger = capacity > DEVICES_MAX
						? NULL
						: realloc(inventory->devices, capacity * sizeof(*inventory->devices));
		if (!larger)
			return -ENOMEM;
		inventory->devices = larger;
		reader->capacity = capacity;
	}
	read_device(reader->host, bdf, &inventory->devices[inventory->count++]);
	return 0;
}

static int by_address(const void *one, const void *other)
{
	const struct device *a = one, *b = other;
	if (a->domain != b->domain)
		return a->domain < b->domain ? -1 : 1;
	return strcmp(a->bdf, b->bdf);
}

static int any(void *context, const char *name)
{
	return 1;
}

int inventory_read(const struct host *host, struct inventory *inventory, struct tenon_error *err)
{
	*inventory = (struct inventory){.iommu = host_list(host, "/sys/class/iommu", any, NULL) == 1 ||
						 host_list(host, "/sys/kernel/iommu_groups", any, NULL) == 1};
	struct reader reader = {.host = host, .inventory = inventory};
	int code = host_list(host, DEVICES, add_device, &reader);
	if (code < 0) {
		inventory_finish(inventory);
		return tenon_fail(err, code, DEVICES ": cannot be read: %s; %s", strerror(-code),
				  code == -ENOMEM ? "free some memory" : "mount sysfs on /sys, on a host that has PCI");
	}
	if (inventory->count)
		qsort(inventory->devices, inventory->count, sizeof(*inventory->devices), by_address);
	return 0;
}

void inventory_finish(struct inventory *inventory)
{
	free(inventory->devices);
	*inventory = (struct inventory){0};
}

struct device *inventory_find(const struct inventory *inventory, const char *bdf)
{
	for (unsigned i = 0; i < inventory->count; i++) {
		if (strcmp(inventory->devices[i].bdf, bdf) == 0)
			return &inventory->devices[i];
	}
	return NULL;
}

int inventory_look_up(const struct inventory *inventory, const char *text, struct device **out, struct tenon_error *err)
{
	char bdf[BDF_BYTES];
	if (!bdf_parse(text, bdf))
		return tenon_fail(err, -EINVAL, "%.64s: not a PCI address; give one such as 0000:3b:00.0", text);
	*out = inventory_find(inventory, bdf);
	if (!*out)
		return tenon_fail(err, -ENODEV, "%s: the host has no such PCI device; tenon devices lists those it has",
				  bdf);
	return 0;
}

bool device_is_infrastructure(const struct device *device)
{
	/* PCI Code and ID Assignment Specification: base class 06 is bridges of any kind, 08 06 an IOMMU. */
	return (device->config_read && device->header_type != 0) || device->class_code >> 16 == 0x06 ||
	       device->class_code >> 8 == 0x0806;
}

bool device_on_vfio(const struct device *device)
{
	/* Variants are named by convention only: mlx5_vfio_pci, vfio_pds, hisi_acc_vfio_pci, qat_vfio_pci, nvgrace-gpu-vfio-pci. */
	return strstr(device->driver, "vfio") != NULL;
}

bool driver_leaves_group_free(const char *driver)
{
	return !driver[0] || strstr(driver, "vfio") || strcmp(driver, "pci-stub") == 0 ||
	       strcmp(driver, "pcieport") == 0;
}

bool device_has_bus_reset(const struct inventory *inventory, const struct device *device)
{
	const struct device *above = device->above[0] ? inventory_find(inventory, device->above) : NULL;
	/* VFs that did not fit on their PF's bus have a bus number that no bridge leads to, and no bus to reset. */
	return above && (!above->config_read || above->secondary_bus == device->bus);
}

bool device_resets_with(const struct inventory *inventory, const struct device *device, const struct device *other)
{
	if (device == other)
		return true;
	if (!device_has_bus_reset(inventory, device))
		return false;
	const struct device *above = inventory_find(inventory, device->above);
	size_t length = strlen(above->path);
	return strncmp(other->path, above->path, length) == 0 && other->path[length] == '/';
}

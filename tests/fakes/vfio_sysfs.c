// SPDX-License-Identifier: MIT
/*
 * The fake kernel's sysfs: links, files and folders of PCI devices and IOMMU groups, made up from the device list when
 * they are asked for. Only what the library reads exists; anything else is -ENOENT.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kernel.h"
#include "vfio_model.h"

bool model_driver_is_vfio(const struct fake_device *device)
{
	return strstr(device->driver, "vfio");
}

/* Splits "/sys/bus/pci/devices/<bdf>/<rest>", and the like for mediated devices. */
static struct fake_device *device_of_path(const char *path, const char **rest)
{
	static const char *const folders[] = {"/sys/bus/pci/devices/", "/sys/bus/mdev/devices/"};
	for (unsigned i = 0; i < 2 * world.device_count; i++) {
		struct fake_device *device = world.devices[i / 2];
		const char *folder = folders[i % 2], *wanted = model_sysfs_name(device);
		if (device->hidden_in_sysfs || (device->uuid[0] != 0) != i % 2 ||
		    strncmp(path, folder, strlen(folder)) != 0)
			continue;
		const char *name = path + strlen(folder);
		size_t length = strcspn(name, "/");
		if (strlen(wanted) != length || strncmp(wanted, name, length) != 0)
			continue;
		*rest = name[length] ? name + length + 1 : "";
		return device;
	}
	return NULL;
}

struct fake_device *model_sysfs_device_of_node(const char *path)
{
	int node, used = 0;
	if (sscanf(path, "/dev/vfio/devices/vfio%d%n", &node, &used) != 1 || path[used])
		return NULL;
	for (unsigned i = 0; i < world.device_count; i++) {
		if (world.devices[i]->node == node)
			return world.devices[i];
	}
	return NULL;
}

const char *model_sysfs_name(const struct fake_device *device)
{
	return device->uuid[0] ? device->uuid : device->bdf;
}

static int copy_name(const char *text, char *name, size_t capacity)
{
	if (strlen(text) >= capacity)
		return -ENAMETOOLONG;
	strcpy(name, text);
	return 0;
}

static int virtual_function(const struct fake_device *pf, unsigned number, char *name, size_t capacity)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		if (strcmp(world.devices[i]->physfn, pf->bdf) == 0 && number-- == 0)
			return copy_name(world.devices[i]->bdf, name, capacity);
	}
	return -ENOENT;
}

static int sysfs_link(const char *path, char *name, size_t capacity)
{
	const char *rest;
	const struct fake_device *device = device_of_path(path, &rest);
	if (device && strcmp(rest, "subsystem") == 0)
		return copy_name(device->uuid[0] ? "mdev" : "pci", name, capacity);
	if (device && strcmp(rest, "physfn") == 0 && device->physfn[0])
		return copy_name(device->physfn, name, capacity);
	unsigned number;
	if (device && sscanf(rest, "virtfn%u", &number) == 1)
		return virtual_function(device, number, name, capacity);
	if (device && strcmp(rest, "driver") == 0 && device->driver[0])
		return copy_name(device->driver, name, capacity);
	if (device && strcmp(rest, "iommu_group") == 0 && device->group >= 0) {
		char group[16];
		snprintf(group, sizeof(group), "%d", device->group);
		return copy_name(group, name, capacity);
	}

	int node, used = 0;
	if (sscanf(path, "/sys/class/vfio-dev/vfio%d/device%n", &node, &used) != 1 || used == 0 || path[used])
		return -ENOENT;
	char device_path[64];
	snprintf(device_path, sizeof(device_path), "/dev/vfio/devices/vfio%d", node);
	device = model_sysfs_device_of_node(device_path);
	return device && !device->hidden_in_sysfs ? copy_name(model_sysfs_name(device), name, capacity) : -ENOENT;
}

static int sysfs_line(const char *path, char *line, size_t capacity)
{
	const char *rest;
	const struct fake_device *device = device_of_path(path, &rest);
	char text[32], number[32];
	if (device)
		snprintf(number, sizeof(number), "vfio-dev/vfio%d/dev", device->node);
	if (device && strcmp(rest, number) == 0 && device->node >= 0 && !world.no_cdevs)
		snprintf(text, sizeof(text), "510:%d", device->node);
	else if (device && strcmp(rest, "sriov_totalvfs") == 0 && device->is_pf)
		snprintf(text, sizeof(text), "8");
	else if (device && strcmp(rest, "iommu/intel-iommu/ecap") == 0)
		snprintf(text, sizeof(text), device->non_coherent ? "f00f1a" : "f00f9a");
	else if (device && strcmp(rest, "vendor") == 0)
		snprintf(text, sizeof(text), "0x%04x", fake_config_get(device, 0, 2));
	else if (device && strcmp(rest, "device") == 0)
		snprintf(text, sizeof(text), "0x%04x", fake_config_get(device, 2, 2));
	else if (device && strcmp(rest, "class") == 0)
		snprintf(text, sizeof(text), "0x%06x", fake_config_get(device, 8, 4) >> 8);
	else if (device && strcmp(rest, "reset_method") == 0 && device->reset_method[0] == ' ')
		return copy_name("", line, capacity);
	else if (device && strcmp(rest, "reset_method") == 0 && device->reset_method[0])
		return copy_name(device->reset_method, line, capacity);
	else
		return -ENOENT;
	return copy_name(text, line, capacity);
}

static int list_group(int group, int (*entry)(void *context, const char *name), void *context)
{
	bool found = false;
	for (unsigned i = 0; i < world.device_count; i++) {
		if (world.devices[i]->group != group)
			continue;
		found = true;
		int result = entry(context, world.devices[i]->bdf);
		if (result)
			return result;
	}
	return found ? 0 : -ENOENT;
}

static int sysfs_list(const char *path, int (*entry)(void *context, const char *name), void *context)
{
	int group, used = 0;
	if (sscanf(path, "/sys/kernel/iommu_groups/%d/devices%n", &group, &used) == 1 && used && !path[used])
		return list_group(group, entry, context);

	const char *rest;
	const struct fake_device *device = device_of_path(path, &rest);
	if (device && strcmp(rest, "vfio-dev") == 0 && device->node >= 0) {
		char name[16];
		snprintf(name, sizeof(name), "vfio%d", device->node);
		return entry(context, name);
	}
	return -ENOENT;
}

ssize_t kernel_read_line(const char *path, char *line, size_t capacity)
{
	int code = model_calls_enter(FAKE_READ_LINE);
	if (code == 0)
		code = sysfs_line(path, line, capacity);
	return code < 0 ? code : (ssize_t)strlen(line);
}

int kernel_link_name(const char *path, char *name, size_t capacity)
{
	int code = model_calls_enter(FAKE_LINK_NAME);
	return code < 0 ? code : sysfs_link(path, name, capacity);
}

int kernel_list(const char *path, int (*entry)(void *context, const char *name), void *context)
{
	int code = model_calls_enter(FAKE_LIST);
	return code < 0 ? code : sysfs_list(path, entry, context);
}

/* Time does not pass in the model. */
void kernel_sleep_ms(unsigned milliseconds)
{
}

uint64_t kernel_memlock_limit(void)
{
	return world.memlock;
}

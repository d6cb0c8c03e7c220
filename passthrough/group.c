// SPDX-License-Identifier: MIT
/*
 * IOMMU groups, read from sysfs. Nothing is unbound here: a group that is not free is refused in words that name who
 * blocks it. Source: Linux Documentation/driver-api/vfio.rst, "Groups, Devices, and IOMMUs".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "kernel.h"

int group_of(const char *folder)
{
	char path[128], name[32];
	snprintf(path, sizeof(path), "%.100s/iommu_group", folder);
	if (kernel_link_name(path, name, sizeof(name)) < 0)
		return -1;
	return atoi(name);
}

bool group_driver_is_vfio(const char *driver)
{
	return strstr(driver, "vfio");
}

/* Drivers that do no DMA of their own: VFIO's, the stub, and port drivers of bridges (the kernel lets those stay). */
static bool is_harmless(const char *driver)
{
	return group_driver_is_vfio(driver) || strcmp(driver, "pci-stub") == 0 || strcmp(driver, "pcieport") == 0;
}

/* Lists that end with "[...]" when they would grow too long for a message. */
struct members {
	char all[176];      /* each with its driver */
	char blocking[112]; /* addresses only: the arguments of the command */
};

static void append(char *list, size_t capacity, const char *separator, const char *text)
{
	static const char more[] = "[...]";
	size_t used = strlen(list);
	if (used >= strlen(more) && strcmp(list + used - strlen(more), more) == 0)
		return;
	bool fits = used + 2 * strlen(separator) + strlen(text) + sizeof(more) <= capacity;
	snprintf(list + used, capacity - used, "%s%s", used ? separator : "", fits ? text : more);
}

static int add_member(void *context, const char *bdf)
{
	struct members *members = context;
	char path[320], driver[64] = "", text[128];
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.63s/driver", bdf);
	bool blocks = kernel_link_name(path, driver, sizeof(driver)) == 0 && !is_harmless(driver);
	snprintf(text, sizeof(text), "%.31s (%s)", bdf, driver[0] ? driver : "no driver");
	append(members->all, sizeof(members->all), ", ", text);
	snprintf(text, sizeof(text), "%.31s", bdf);
	if (blocks)
		append(members->blocking, sizeof(members->blocking), " ", text);
	return 0;
}

void group_describe(int group, char *text, size_t capacity)
{
	char path[64];
	struct members members = {0};
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d/devices", group);
	bool known = group >= 0 && kernel_list(path, add_member, &members) == 0;
	snprintf(text, capacity, "%s", known ? members.all : "unknown");
}

/* Lines of "first last kind". */
bool group_is_firmware_s(int group)
{
	char path[64], text[4096], kind[32];
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d/reserved_regions", group);
	int fd = group >= 0 ? kernel_open(path, O_RDONLY) : -ENOENT;
	if (fd < 0)
		return false;
	ssize_t bytes = kernel_pread(fd, text, sizeof(text) - 1, 0);
	kernel_close(fd);
	text[bytes > 0 ? bytes : 0] = '\0';
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%*s %*s %31s", kind) == 1 && strcmp(kind, "direct") == 0)
			return true;
	}
	return false;
}

int group_refuse_firmware_s(int group, const char *name, struct tenon_error *err)
{
	return tenon_fail(
		err, -EOPNOTSUPP,
		"%s: cannot be assigned: the host's firmware keeps memory of its own for IOMMU group %d (direct "
		"in /sys/kernel/iommu_groups/%d/reserved_regions); assign another device, or turn off what "
		"needs it in the firmware",
		name, group, group);
}

int group_check(const char *bdf, int group, struct tenon_error *err)
{
	if (group < 0)
		return tenon_fail(err, -ENODEV,
				  "%s: has no IOMMU group, so its DMA cannot be confined; turn the IOMMU on in the "
				  "firmware and boot the host with intel_iommu=on",
				  bdf);
	char path[64];
	struct members members = {0};
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%d/devices", group);
	int code = kernel_list(path, add_member, &members);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot read the members of IOMMU group %d in %s: %s; mount sysfs",
				  bdf, group, path, strerror(-code));
	if (members.blocking[0])
		return tenon_fail(
			err, -EBUSY,
			"%s: its IOMMU group %d is given as a whole, and the host uses %s; members: %s; if the "
			"host can spare them: tenon bind %s",
			bdf, group, members.blocking, members.all, members.blocking);
	return 0;
}

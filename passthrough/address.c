// SPDX-License-Identifier: MIT
/*
 * Finds host devices in sysfs. Owns the words for "there is no such device" and "no VFIO driver holds it".
 * Source: Linux Documentation/driver-api/vfio.rst, "VFIO device cdev"; vfio-mediated-device.rst.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "group.h"
#include "kernel.h"
#include "vf_token.h"

#define SYSFS_DEVICES "/sys/bus/pci/devices/"
#define SYSFS_MDEVS   "/sys/bus/mdev/devices/"
#define SYSFS_CDEVS   "/sys/class/vfio-dev/"
#define CDEV_FOLDER   "/dev/vfio/devices/"

bool address_parse_bdf(const char *text, char bdf[ADDRESS_BDF_BYTES])
{
	unsigned domain = 0, bus, device, function;
	int used = 0;
	if (sscanf(text, "%8x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &used) != 4 || text[used]) {
		domain = 0;
		used = 0;
		if (sscanf(text, "%2x:%2x.%1x%n", &bus, &device, &function, &used) != 3 || text[used])
			return false;
	}
	/* sscanf skips blanks and takes signs; a BDF has neither. */
	if (strspn(text, "0123456789abcdefABCDEF:.") != strlen(text) || device > 31 || function > 7)
		return false;
	snprintf(bdf, ADDRESS_BDF_BYTES, "%04x:%02x:%02x.%x", domain, bus & 0xff, device, function);
	return true;
}

static int first_vfio_name(void *context, const char *name)
{
	char *out = context;
	if (strncmp(name, "vfio", 4) != 0 || strlen(name) >= 32)
		return 0;
	strcpy(out, name);
	return 1;
}

static int check_driver(const char *bdf, struct tenon_error *err)
{
	char path[128], driver[64];
	snprintf(path, sizeof(path), SYSFS_DEVICES "%s/driver", bdf);
	if (kernel_link_name(path, driver, sizeof(driver)) < 0)
		return tenon_fail(err, -ENODEV,
				  "%s: has no driver on the host, so VFIO cannot offer it; bind it: tenon bind %s", bdf,
				  bdf);
	if (group_driver_is_vfio(driver))
		return 0;
	return tenon_fail(err, -EBUSY,
			  "%s: the host's driver %s holds it, not vfio-pci; if the host can spare it: tenon bind %s",
			  bdf, driver, bdf);
}

/*
 * Sets the path of the character device of the device in `folder`, if it has one. Linux 6.1 to 6.5, and later kernels without
 * CONFIG_VFIO_DEVICE_CDEV, have the folder vfio-dev too, but no number of a device in it.
 * @return whether there is a folder vfio-dev, so that a VFIO driver holds the device
 */
static bool find_cdev(const char *folder, struct address *out)
{
	char path[160], node[32] = "", number[16];
	snprintf(path, sizeof(path), "%s/vfio-dev", folder);
	if (kernel_list(path, first_vfio_name, node) != 1)
		return false;
	snprintf(path, sizeof(path), "%s/vfio-dev/%s/dev", folder, node);
	if (kernel_read_line(path, number, sizeof(number)) > 0)
		snprintf(out->path, sizeof(out->path), CDEV_FOLDER "%s", node);
	return true;
}

static int find_bdf(struct address *out, struct tenon_error *err)
{
	char folder[96], path[128], link[64];
	snprintf(folder, sizeof(folder), SYSFS_DEVICES "%s", out->bdf);
	snprintf(path, sizeof(path), "%s/subsystem", folder);
	if (kernel_link_name(path, link, sizeof(link)) < 0)
		return tenon_fail(err, -ENODEV, "%s: the host has no such PCI device; lspci -D lists those it has",
				  out->bdf);
	out->group = group_of(folder);
	/* Kernels before 6.1 have no folder vfio-dev at all: there the driver's name tells. */
	return find_cdev(folder, out) ? 0 : check_driver(out->bdf, err);
}

static int find_uuid(struct address *out, struct tenon_error *err)
{
	char folder[96], path[128], link[64];
	snprintf(folder, sizeof(folder), SYSFS_MDEVS "%s", out->uuid);
	snprintf(path, sizeof(path), "%s/subsystem", folder);
	if (kernel_link_name(path, link, sizeof(link)) < 0)
		return tenon_fail(err, -ENODEV,
				  "%s: the host has no such mediated device; ls " SYSFS_MDEVS
				  " shows those it has, mdevctl "
				  "makes them",
				  out->uuid);
	out->group = group_of(folder);
	find_cdev(folder, out);
	return 0;
}

/* Fills in what sysfs shows of the device behind a node. */
static void identify_node(struct address *out)
{
	const char *node = strrchr(out->path, '/');
	char path[PATH_MAX], name[64];
	uint8_t uuid[16];
	snprintf(path, sizeof(path), SYSFS_CDEVS "%s/device", node ? node + 1 : out->path);
	if (kernel_link_name(path, name, sizeof(name)) < 0)
		return;
	if (address_parse_bdf(name, out->bdf)) {
		snprintf(path, sizeof(path), SYSFS_DEVICES "%s", out->bdf);
	} else if (uuid_parse(name, uuid)) {
		memcpy(out->uuid, name, sizeof(out->uuid));
		snprintf(path, sizeof(path), SYSFS_MDEVS "%s", out->uuid);
	} else {
		return;
	}
	out->group = group_of(path);
}

const char *address_of_socket(const struct address *address)
{
	return address->socket[0] ? address->socket + strlen(ADDRESS_SOCKET) : NULL;
}

static int take_socket(const char *text, struct address *out, struct tenon_error *err)
{
	if (!text[strlen(ADDRESS_SOCKET)])
		return tenon_fail(
			err, -EINVAL,
			"%s: no path; give that of the server's socket, as in " ADDRESS_SOCKET "/run/dev.sock", text);
	if (strlen(text) >= sizeof(out->socket))
		return tenon_fail(err, -ENAMETOOLONG, "%.40s...: path too long for a socket; give a shorter one", text);
	strcpy(out->socket, text);
	out->name = out->socket;
	return 0;
}

const char *address_of_device(const struct address *address)
{
	return address->bdf[0] ? address->bdf : address->uuid;
}

int address_find(const char *text, struct address *out, struct tenon_error *err)
{
	uint8_t uuid[16];
	*out = (struct address){.group = -1};
	if (address_parse_bdf(text, out->bdf)) {
		out->name = out->bdf;
		return find_bdf(out, err);
	}
	if (uuid_parse(text, uuid)) {
		memcpy(out->uuid, text, sizeof(out->uuid));
		out->name = out->uuid;
		return find_uuid(out, err);
	}
	if (strncmp(text, ADDRESS_SOCKET, strlen(ADDRESS_SOCKET)) == 0)
		return take_socket(text, out, err);
	if (text[0] != '/')
		return tenon_fail(
			err, -EINVAL,
			"%.64s: not a PCI address; give one such as 0000:3b:00.0, the UUID of a mediated device, "
			"a path such as " CDEV_FOLDER "vfio0, or vfio-user: and that of a server's socket",
			text);
	if (strlen(text) >= sizeof(out->path))
		return tenon_fail(err, -ENAMETOOLONG, "%.40s...: path too long; give a node in " CDEV_FOLDER, text);
	strcpy(out->path, text);
	identify_node(out);
	out->name = out->bdf[0] ? out->bdf : out->path;
	return 0;
}

void address_of_fd(int fd, struct address *out)
{
	*out = (struct address){.group = -1};
	char path[PATH_MAX];
	if (kernel_fd_path(fd, path, sizeof(path)) == 0 && strncmp(path, CDEV_FOLDER, strlen(CDEV_FOLDER)) == 0 &&
	    strlen(path) < sizeof(out->path)) {
		strcpy(out->path, path);
		identify_node(out);
	}
	snprintf(out->fallback_name, sizeof(out->fallback_name), "fd %d", fd);
	out->name = out->bdf[0] ? out->bdf : out->path[0] ? out->path : out->fallback_name;
}

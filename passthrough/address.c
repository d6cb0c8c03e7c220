// SPDX-License-Identifier: MIT
/*
 * Finds host devices in sysfs. Owns the words for "there is no such device" and "no VFIO driver holds it".
 * Source: Linux Documentation/driver-api/vfio.rst, "VFIO device cdev".
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "kernel.h"

#define SYSFS_DEVICES "/sys/bus/pci/devices/"
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

static int refuse_driver(const char *bdf, struct tenon_error *err)
{
	char path[128], driver[64];
	snprintf(path, sizeof(path), SYSFS_DEVICES "%s/driver", bdf);
	if (kernel_link_name(path, driver, sizeof(driver)) < 0)
		return tenon_fail(err, -ENODEV,
				  "%s: has no driver on the host, so VFIO cannot offer it; bind it: driverctl "
				  "set-override %s vfio-pci",
				  bdf, bdf);
	if (strncmp(driver, "vfio", 4) == 0)
		return tenon_fail(
			err, -ENODEV,
			"%s: %s holds it but made no character device; the kernel needs CONFIG_VFIO_DEVICE_CDEV", bdf,
			driver);
	return tenon_fail(err, -EBUSY,
			  "%s: the host's driver %s holds it, not vfio-pci; if the host can spare it: driverctl "
			  "set-override %s vfio-pci",
			  bdf, driver, bdf);
}

static int find_bdf(struct address *out, struct tenon_error *err)
{
	char path[128], node[32] = "", link[64];
	snprintf(path, sizeof(path), SYSFS_DEVICES "%s/subsystem", out->bdf);
	if (kernel_link_name(path, link, sizeof(link)) < 0)
		return tenon_fail(err, -ENODEV, "%s: the host has no such PCI device; lspci -D lists those it has",
				  out->bdf);

	snprintf(path, sizeof(path), SYSFS_DEVICES "%s/vfio-dev", out->bdf);
	if (kernel_list(path, first_vfio_name, node) != 1)
		return refuse_driver(out->bdf, err);
	snprintf(out->path, sizeof(out->path), CDEV_FOLDER "%s", node);
	return 0;
}

/* Fills the BDF of a node by its class device, if sysfs shows one. */
static void bdf_of_path(struct address *out)
{
	const char *node = strrchr(out->path, '/');
	char path[PATH_MAX], name[64];
	snprintf(path, sizeof(path), SYSFS_CDEVS "%s/device", node ? node + 1 : out->path);
	if (kernel_link_name(path, name, sizeof(name)) == 0)
		address_parse_bdf(name, out->bdf);
}

int address_find(const char *text, struct address *out, struct tenon_error *err)
{
	*out = (struct address){0};
	if (address_parse_bdf(text, out->bdf)) {
		out->name = out->bdf;
		return find_bdf(out, err);
	}
	if (text[0] != '/')
		return tenon_fail(err, -EINVAL,
				  "%s: not a PCI address; give one such as 0000:3b:00.0, or a path such as " CDEV_FOLDER
				  "vfio0",
				  text);
	if (strlen(text) >= sizeof(out->path))
		return tenon_fail(err, -ENAMETOOLONG, "%.40s...: path too long; give a node in " CDEV_FOLDER, text);
	strcpy(out->path, text);
	bdf_of_path(out);
	out->name = out->bdf[0] ? out->bdf : out->path;
	return 0;
}

void address_of_fd(int fd, struct address *out)
{
	*out = (struct address){0};
	char path[PATH_MAX];
	if (kernel_fd_path(fd, path, sizeof(path)) == 0 && strncmp(path, CDEV_FOLDER, strlen(CDEV_FOLDER)) == 0 &&
	    strlen(path) < sizeof(out->path)) {
		strcpy(out->path, path);
		bdf_of_path(out);
	}
	snprintf(out->fallback_name, sizeof(out->fallback_name), "fd %d", fd);
	out->name = out->bdf[0] ? out->bdf : out->path[0] ? out->path : out->fallback_name;
}

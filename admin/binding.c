// SPDX-License-Identifier: MIT
/* The writes to sysfs that move a device between drivers, each checked, and the memory of what was before. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"

#define STATE  "/run/tenon/bind"
#define DEVICE "/sys/bus/pci/devices/%s"

/* udev or devtmpfs make the node at once; a driver may end its work after the bind has returned. */
#define VERIFY_TRIES   20
#define VERIFY_STEP_MS 50

int binding_lock(const struct host *host, struct tenon_error *err)
{
	int fd = host_lock(host, STATE);
	if (fd < 0)
		return tenon_fail(err, fd, STATE ": cannot lock: %s; %s", strerror(-fd),
				  fd == -EACCES || fd == -EPERM ? "run it as root" : "see to /run");
	return fd;
}

/* The name of a driver becomes part of a path. */
static bool is_name(const char *text)
{
	return text[0] != '.' && !strchr(text, '/') && !strchr(text, '?');
}

static bool take_field(const char *text, const char *key, char *out, size_t capacity)
{
	const char *at = strstr(text, key);
	if (!at || (at != text && at[-1] != '\n'))
		return false;
	at += strlen(key);
	size_t length = strcspn(at, "\n");
	if (at[length] != '\n' || length >= capacity)
		return false;
	snprintf(out, capacity, "%.*s", (int)length, at);
	for (const char *c = out; *c; c++) {
		if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
			return false;
	}
	return is_name(out);
}

bool binding_is_noted(const struct host *host, const char *bdf)
{
	return host_exists(host, STATE "/%s", bdf);
}

void binding_forget(const struct host *host, const char *bdf)
{
	host_forget(host, STATE "/%s", bdf);
}

int binding_recall(const struct host *host, const char *bdf, struct previous *previous, struct tenon_error *err)
{
	*previous = (struct previous){0};
	if (!binding_is_noted(host, bdf))
		return 0;
	char *text = host_read_text(host, STATE "/%s", bdf);
	bool good = text && take_field(text, "driver=", previous->driver, sizeof(previous->driver)) &&
		    take_field(text, "override=", previous->override, sizeof(previous->override));
	free(text);
	previous->known = good;
	if (!good)
		return tenon_fail(err, -EBADMSG,
				  "%s: the note of its previous driver, " STATE "/%s, is damaged; remove that file",
				  bdf, bdf);
	return 0;
}

static int remember(const struct host *host, const struct device *device, struct tenon_error *err)
{
	char text[NAME_BYTES * 2 + 32];
	/* Taken twice, it is still the first driver that it goes back to. */
	if (binding_is_noted(host, device->bdf))
		return 0;
	snprintf(text, sizeof(text), "driver=%s\noverride=%s\n", device->driver, device->override);
	int code = host_store(host, text, STATE, device->bdf);
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot note its driver in " STATE ": %s; make room in /run",
				  device->bdf, strerror(-code));
	return 0;
}

int binding_find_driver(const struct host *host, const char *driver, struct tenon_error *err)
{
	if (!is_name(driver) || !driver[0])
		return tenon_fail(err, -EINVAL, "--driver %.64s: not the name of a driver; give one such as vfio-pci",
				  driver);
	if (host_exists(host, "/sys/bus/pci/drivers/%s", driver))
		return 0;
	int code = host_load_module(host, driver);
	if (code == 0 && host_exists(host, "/sys/bus/pci/drivers/%s", driver))
		return 0;
	return tenon_fail(err, -ENOENT, "%s: the kernel has no such PCI driver, and modprobe %s %s; %s", driver, driver,
			  code < 0 ? "failed" : "did not bring it",
			  strcmp(driver, "vfio-pci") == 0 ? "the kernel needs CONFIG_VFIO_PCI" : "check its name");
}

static void current_driver(const struct host *host, const char *bdf, char driver[NAME_BYTES])
{
	host_link_name(host, driver, NAME_BYTES, DEVICE "/driver", bdf);
}

static int refuse_write(const struct device *device, const char *what, int code, struct tenon_error *err)
{
	if (code == -EACCES || code == -EPERM)
		return tenon_fail(err, code, "%s: cannot %s: %s; run it as root", device->bdf, what, strerror(-code));
	/* -EINVAL is kept for a wrong command line. */
	return tenon_fail(err, code == -EINVAL ? -EIO : code, "%s: cannot %s: %s; dmesg says more", device->bdf, what,
			  strerror(-code));
}

static int set_override(const struct host *host, const struct device *device, const char *driver,
			struct tenon_error *err)
{
	/* An empty line takes the override away. */
	int code = host_write(host, driver[0] ? driver : "\n", DEVICE "/driver_override", device->bdf);
	return code < 0 ? refuse_write(device, "set driver_override", code, err) : 0;
}

static int detach(const struct host *host, const struct device *device, struct tenon_error *err)
{
	char driver[NAME_BYTES], what[NAME_BYTES + 32];
	current_driver(host, device->bdf, driver);
	if (!driver[0])
		return 0;
	int code = host_write(host, device->bdf, "/sys/bus/pci/drivers/%s/unbind", driver);
	snprintf(what, sizeof(what), "unbind it from %s", driver);
	if (code < 0)
		return refuse_write(device, what, code, err);
	char left[NAME_BYTES];
	current_driver(host, device->bdf, left);
	if (left[0])
		return tenon_fail(err, -EBUSY, "%s: %s still holds it after the unbind; dmesg says more", device->bdf,
				  left);
	return 0;
}

/* Whether the driver has it, and a VFIO driver has made a node for it. */
static bool arrived(const struct host *host, const struct device *device, const char *driver, bool *node)
{
	char now[NAME_BYTES], path[SYSFS_PATH_BYTES + 16], name[NAME_BYTES];
	current_driver(host, device->bdf, now);
	if (strcmp(now, driver) != 0)
		return false;
	snprintf(path, sizeof(path), "%s/vfio-dev", device->path);
	*node = host_first(host, path, "vfio", name, sizeof(name)) && host_exists(host, "/dev/vfio/devices/%s", name);
	*node |= device->group >= 0 && host_exists(host, "/dev/vfio/%d", device->group);
	*node |= host_exists(host, "/dev/vfio/noiommu-%d", device->group);
	return *node || !strstr(driver, "vfio");
}

static int probe(const struct host *host, const struct device *device, const char *driver, struct tenon_error *err)
{
	char what[NAME_BYTES + 32];
	bool node = false;
	int code = host_write(host, device->bdf, "/sys/bus/pci/drivers_probe");
	snprintf(what, sizeof(what), "bind it to %s", driver);
	if (code < 0)
		return refuse_write(device, what, code, err);
	for (unsigned i = 0; i < VERIFY_TRIES; i++) {
		if (arrived(host, device, driver, &node))
			return 0;
		host_sleep_ms(VERIFY_STEP_MS);
	}
	char now[NAME_BYTES];
	current_driver(host, device->bdf, now);
	if (strcmp(now, driver) == 0)
		return tenon_fail(err, -ENOENT,
				  "%s: %s has it but made no node in /dev/vfio; mount devtmpfs on /dev, or see to udev",
				  device->bdf, driver);
	return tenon_fail(err, -EIO, "%s: %s did not take it%s%s; dmesg says why", device->bdf, driver,
			  now[0] ? ", but " : "", now);
}

/* The driver may be a module that was unloaded in between. */
static int reattach(const struct host *host, const struct device *device, const char *driver, char now[NAME_BYTES],
		    struct tenon_error *err)
{
	int code = host_write(host, device->bdf, "/sys/bus/pci/drivers_probe");
	current_driver(host, device->bdf, now);
	if (!now[0] && device->modalias[0] && host_load_module(host, device->modalias) == 0) {
		host_write(host, device->bdf, "/sys/bus/pci/drivers_probe");
		current_driver(host, device->bdf, now);
	}
	if (!driver[0] || strcmp(now, driver) == 0)
		return 0;
	if (now[0]) { /* another driver was quicker */
		int detached = detach(host, device, err);
		if (detached < 0)
			return detached;
	}
	int bound = host_write(host, device->bdf, "/sys/bus/pci/drivers/%s/bind", driver);
	current_driver(host, device->bdf, now);
	if (strcmp(now, driver) == 0)
		return 0;
	if (bound == -ENOENT)
		return tenon_fail(err, bound,
				  "%s: its driver %s is gone from the kernel; modprobe it, then run this again",
				  device->bdf, driver);
	code = bound < 0 ? bound : code < 0 ? code : -EIO;
	return tenon_fail(err, code, "%s: %s did not take it back: %s; dmesg says why", device->bdf, driver,
			  strerror(-code));
}

static int restore(const struct host *host, const struct device *device, const struct previous *previous,
		   char now[NAME_BYTES], struct tenon_error *err)
{
	now[0] = '\0';
	int code = set_override(host, device, previous->override, err);
	if (code < 0)
		return code;
	current_driver(host, device->bdf, now);
	if (now[0] && strcmp(now, previous->driver) == 0)
		return 0;
	code = detach(host, device, err);
	now[0] = '\0';
	/* If it is known that it had none, it is left so. */
	if (code == 0 && (previous->driver[0] || !previous->known))
		code = reattach(host, device, previous->driver, now, err);
	return code;
}

int binding_give_back(const struct host *host, const struct device *device, const struct previous *previous,
		      char now[NAME_BYTES], struct tenon_error *err)
{
	int code = restore(host, device, previous, now, err);
	if (code == 0)
		binding_forget(host, device->bdf);
	return code;
}

int binding_undo(const struct host *host, const struct device *device, bool noted, struct tenon_error *err)
{
	struct previous before = {.known = true};
	char now[NAME_BYTES];
	snprintf(before.driver, sizeof(before.driver), "%s", device->driver);
	snprintf(before.override, sizeof(before.override), "%s", device->override);
	int code = restore(host, device, &before, now, err);
	if (code == 0 && !noted)
		binding_forget(host, device->bdf);
	return code;
}

int binding_take(const struct host *host, const struct device *device, const char *driver, struct tenon_error *err)
{
	bool noted = binding_is_noted(host, device->bdf);
	int code = remember(host, device, err);
	if (code < 0)
		return code;
	code = set_override(host, device, driver, err);
	if (code == 0)
		code = detach(host, device, err);
	if (code == 0)
		code = probe(host, device, driver, err);
	if (code == 0)
		return 0;

	struct tenon_error undo = {0};
	if (binding_undo(host, device, noted, &undo) < 0)
		tenon_fail_wrap(err, "not undone (%.200s)", undo.message);
	return code;
}

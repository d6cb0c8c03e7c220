/* SPDX-License-Identifier: MIT */
/*
 * A made-up host for admin/: a folder with /sys, /proc, /dev and /run, and a model of what the kernel does when sysfs is
 * written to: drivers that bind, unbind and match, VFIO's nodes, VFs that come and go. One host at a time.
 */
#ifndef ADMIN_HOST_H
#define ADMIN_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "host.h"

extern struct host fake_host;

void fake_host_create(void);
void fake_host_destroy(void);

void fake_file(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fake_bytes(const char *path, const void *bytes, unsigned count);
void fake_folder(const char *path);
/** A symbolic link; `target` is a path of the made-up host. */
void fake_link(const char *path, const char *target);
/** The same with the target as it stands, for /proc/PID/fd. */
void fake_raw_link(const char *path, const char *target);
void fake_remove(const char *path);
bool fake_has(const char *path);
/** A file's first line; valid until the next call. */
const char *fake_read(const char *path);

/** Turns the IOMMU on: dmar0, Intel, with this extended capability register. */
void fake_iommu(uint64_t ecap);

struct fake_pci {
	const char *bdf;
	const char *above; /* the bridge's BDF; NULL: on the root bus */
	uint32_t class_code;
	int group;          /* -1: none */
	const char *driver; /* what it has now, and what its ids match; NULL: none */
	unsigned vfs_total; /* a PF */
};

/** A device with 256 bytes of config space, one 16 KiB BAR, FLR, and MSI-X with 17 vectors. A bridge where the class says so. */
void fake_pci(const struct fake_pci *device);
/** Changes bytes of config space. */
void fake_config(const char *bdf, unsigned offset, const void *bytes, unsigned count);
/** The device's folder in /sys/devices, with something appended; valid until the fourth next call. */
const char *fake_path(const char *bdf, const char *below);

void fake_driver(const char *name);
/** A module that modprobe finds; it brings the driver of that name. `alias`: a modalias that also loads it, or NULL. */
void fake_module(const char *name, const char *alias);
/** A driver that refuses every device. */
void fake_driver_refuses(const char *name);

/** A disk /dev/NAME with number 259:`minor`, made by the device's driver; with a partition NAMEp1 of number 259:`minor`+1. */
void fake_disk(const char *bdf, const char *name, unsigned minor);
void fake_interface(const char *bdf, const char *name, unsigned flags);
/** Process `pid` has a node open. */
void fake_open(unsigned pid, const char *name, const char *node);
void fake_claim(const char *node);

/** The `nth` write from now on (1: the next) whose path contains `part` fails with `error`. */
void fake_fail_write(const char *part, unsigned nth, int error);
/** Writes so far whose path contains `part`. */
unsigned fake_writes(const char *part);

#endif

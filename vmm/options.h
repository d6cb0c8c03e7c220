/* SPDX-License-Identifier: MIT */
/* What the user asked for: the command line of `tenon run`, parsed and checked as far as it can be without opening anything. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>

#include <tenon/error.h>

#include "memory.h"

#define OPTIONS_DEVICES_MAX 30 /* the root bus has 31 slots beside the host bridge */

/* --device ADDRESS[,slot=N][,root-port][,fd=N] */
struct device_options {
	char *address;  /* owned */
	unsigned slot;  /* 1-31; 0: the next free one */
	bool root_port; /* behind a root port of its own */
	int fd;         /* an open VFIO device that the caller passed; 0: none */
};

struct run_options {
	const char *kernel, *initrd, *append, *serial; /* borrowed from argv */
	struct memory_options memory;
	unsigned cpus;
	struct device_options devices[OPTIONS_DEVICES_MAX];
	unsigned device_count;
	int iommufd; /* an open /dev/iommu that the caller passed; 0: none */
	bool exit_device, no_reboot, stats, dry_run, json, quiet, help;
};

/**
 * Parses argv (argv[0] is "tenon run" for messages). --help is printed here; the
 * caller then has nothing more to do.
 *
 * @param options  finished by options_finish; nothing to finish after a failure
 * @param err      required
 */
int options_parse(int argc, char **argv, struct run_options *options, struct tenon_error *err);
void options_finish(struct run_options *options);

/** Parses one --device argument. */
int options_parse_device(const char *text, struct device_options *device, struct tenon_error *err);

#endif

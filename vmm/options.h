/* SPDX-License-Identifier: MIT */
/* What the user asked for: the command line of `tenon run`, parsed and checked as far as it can be without opening anything. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>

#include <tenon/device.h>
#include <tenon/error.h>
#include <tenon/topology.h>

#include "memory.h"
#include "migrate/engine.h"

#define OPTIONS_DEVICES_MAX       30 /* the root bus has 31 slots beside the host bridge */
#define OPTIONS_HOTPLUG_PORTS_MAX 8

/* What the VM does when the host reports an uncorrectable error of a device. */
enum on_error { ON_ERROR_STOP, ON_ERROR_RESET, ON_ERROR_IGNORE };

/* --device ADDRESS[,OPTION...] */
struct device_options {
	char *address;  /* owned */
	char *text;     /* owned: what the other strings point into */
	unsigned slot;  /* of it or its bridge on the root bus: 1-31; 0: the next free one */
	bool root_port; /* behind a root port */
	int fd;         /* an open VFIO device that the caller passed; 0: none */
	enum tenon_reset_policy reset;
	enum tenon_sriov_policy sriov;
	enum tenon_rom_policy rom;
	enum tenon_intx_policy intx;
	enum on_error on_error;
	bool assume_all_dirty; /* at a migration: where nobody tracks what it writes, all of RAM counts as written */
	bool reconnect;        /* a vfio-user device whose server went is picked up again */
	unsigned timeout_ms;   /* how long an access may wait for its server; 0: the library's choice */
	const char *rom_file, *vf_token;
	const char *reset_group; /* vfio-user devices of one name reset together; NULL: alone */
};

struct run_options {
	const char *kernel, *initrd, *append, *serial; /* borrowed from argv */
	const char *firmware;                          /* likewise; NULL: the kernel is started directly */
	struct memory_options memory;
	unsigned cpus;
	struct device_options devices[OPTIONS_DEVICES_MAX];
	unsigned device_count;
	int iommufd; /* an open /dev/iommu that the caller passed; 0: none */
	enum tenon_interface iommu;
	const char *control; /* path of the control socket; NULL: none */
	enum tenon_topology_mode topology;
	const char *incoming;    /* the guest comes from there; NULL: it is booted */
	bool migration_insecure; /* plain TCP to or from elsewhere */
	struct engine_tls tls;   /* of migrations in both directions; borrowed from argv */
	unsigned hotplug_ports;  /* empty root ports for devices that come later */
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

/** Parses one --device argument. @param device finished by options_finish_device; nothing to finish after a failure */
int options_parse_device(const char *text, struct device_options *device, struct tenon_error *err);
void options_finish_device(struct device_options *device);

#endif

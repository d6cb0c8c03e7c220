/* SPDX-License-Identifier: MIT */
/*
 * What of a machine its guest relies on, as plain data; its text, which goes to another host; and the comparison of two of them.
 * Touches no machine: describe.h makes it from one.
 */
#ifndef MIGRATE_PROFILE_H
#define MIGRATE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/device.h>
#include <tenon/error.h>

#include "../slots.h"

#define PROFILE_TEXT_MAX    (256u << 10)
#define PROFILE_CPUID_MAX   (32u << 10)
#define PROFILE_ADDRESS_MAX 64

struct profile_bar {
	uint64_t size_bytes;
	bool io, is_64bit, prefetchable;
};

struct profile_range {
	uint64_t first, size_bytes;
};

/* A root port or conventional bridge of the root bus. */
struct profile_bridge {
	unsigned device, function;
	bool conventional;
	bool slot, isolated, ari; /* as in struct pci_bridge_options */
	bool bus_reset;           /* its guest may reset its bus */
};

struct profile_device {
	char name[PROFILE_ADDRESS_MAX]; /* at its host: for messages */
	unsigned device, function;      /* its place on the root bus, or its bridge's */
	bool bridge;                    /* behind a bridge, as `devfn` */
	unsigned devfn;
	uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
	uint32_t class_code;
	bool pcie;
	unsigned intx_pin, msi_vectors, msix_vectors;
	struct profile_bar bars[TENON_DEVICE_BARS];
	uint64_t rom_bytes;
	bool migratable, p2p, pre_copy;
	char why[496]; /* it is not migratable; of this host's own devices */
};

/* Zeroed to begin with. */
struct profile {
	struct profile_range memory[2];
	unsigned memory_count;
	unsigned cpus, address_bits;
	void *cpuid; /* as tenon_vcpu_cpuid_pack; free() by profile_finish */
	size_t cpuid_bytes;
	uint64_t rom_bytes; /* of the firmware; 0: none */
	uint64_t rom_sum;
	bool exit_device;
	unsigned layout; /* LAYOUT_VERSION */
	unsigned buses;
	struct profile_bridge bridges[PCI_BRIDGES_MAX];
	unsigned bridge_count;
	struct profile_device devices[SLOTS_MAX]; /* in the order of places_devices */
	unsigned device_count;
};

void profile_finish(struct profile *profile);

/** @param text  owned by the caller: free() */
int profile_write(const struct profile *profile, char **text, struct tenon_error *err);

/** Untrusted input. @param out  all of it is set; nothing to finish after a failure. @return 0; -EINVAL; -ENOTSUP another format; -ENOMEM */
int profile_read(const char *text, size_t bytes, struct profile *out, struct tenon_error *err);

/**
 * Whether a guest of the first machine can go on in the second.
 *
 * @param cpu_difference  what tenon_vcpu_cpuid_compare says of their CPUs; NULL: nothing
 * @return 0; -EINVAL with the first difference, what to do about it, and how many more there are
 */
int profile_compare(const struct profile *source, const struct profile *here, const char *cpu_difference,
		    struct tenon_error *err);

#endif

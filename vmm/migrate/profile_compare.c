// SPDX-License-Identifier: MIT
/*
 * Two machines, difference by difference, each with what to do about it here: the source runs, and stays as it is. Devices and bridges
 * are matched by their places in the guest; their names are each host's own.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "profile.h"

struct differences {
	unsigned count;
	char first[440]; /* leaves room for how many more there are */
};

__attribute__((format(printf, 2, 3))) static void differ(struct differences *differences, const char *format, ...)
{
	va_list arguments;
	if (differences->count++ > 0)
		return;
	va_start(arguments, format);
	vsnprintf(differences->first, sizeof(differences->first), format, arguments);
	va_end(arguments);
}

/* ---- Memory, CPUs and what else there is one of ---- */

static uint64_t total(const struct profile *profile)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < profile->memory_count; i++)
		bytes += profile->memory[i].size_bytes;
	return bytes;
}

static void compare_memory(const struct profile *source, const struct profile *here, struct differences *differences)
{
	uint64_t there_mib = total(source) >> 20, here_mib = total(here) >> 20;
	if (total(source) != total(here)) {
		differ(differences,
		       "memory: the source has %" PRIu64 " MiB, this machine %" PRIu64
		       "; start it with --memory %" PRIu64 "M",
		       there_mib, here_mib, there_mib);
		return;
	}
	bool same = source->memory_count == here->memory_count;
	for (unsigned i = 0; same && i < here->memory_count; i++)
		same = source->memory[i].first == here->memory[i].first &&
		       source->memory[i].size_bytes == here->memory[i].size_bytes;
	if (!same)
		differ(differences,
		       "memory: it is not at the same guest addresses at the source and here; use the same "
		       "version of tenon at both sides");
}

static void compare_cpus(const struct profile *source, const struct profile *here, const char *cpu_difference,
			 struct differences *differences)
{
	if (source->cpus != here->cpus)
		differ(differences, "CPUs: the source has %u, this machine %u; start it with --cpus %u", source->cpus,
		       here->cpus, source->cpus);
	if (cpu_difference)
		differ(differences, "%s", cpu_difference);
	if (source->address_bits > here->address_bits)
		differ(differences,
		       "CPUs: the source's guest has physical addresses of %u bits, this host's CPUs %u; migrate to a "
		       "host with as many",
		       source->address_bits, here->address_bits);
}

static void compare_firmware(const struct profile *source, const struct profile *here, struct differences *differences)
{
	if (source->rom_bytes && !here->rom_bytes)
		differ(differences,
		       "firmware: the source has one, this machine none; start it with the source's --firmware");
	else if (!source->rom_bytes && here->rom_bytes)
		differ(differences, "firmware: the source has none, this machine one; start it without --firmware");
	else if (source->rom_bytes != here->rom_bytes || source->rom_sum != here->rom_sum)
		differ(differences,
		       "firmware: the source's has %" PRIu64 " bytes and checksum %016" PRIx64
		       ", this machine's %" PRIu64 " and %016" PRIx64 "; start it with a copy of the source's file",
		       source->rom_bytes, source->rom_sum, here->rom_bytes, here->rom_sum);
}

static void compare_machine(const struct profile *source, const struct profile *here, struct differences *differences)
{
	compare_firmware(source, here, differences);
	if (source->exit_device != here->exit_device)
		differ(differences, "exit device: the source has %s; start this machine with%s --exit-device",
		       source->exit_device ? "one, this machine none" : "none, this machine one",
		       source->exit_device ? "" : "out");
	if (source->layout != here->layout)
		differ(differences,
		       "guest addresses: the source has those of version %u, this machine of %u; use the same version "
		       "of "
		       "tenon at both sides",
		       source->layout, here->layout);
	if (source->buses != here->buses)
		differ(differences,
		       "PCI buses: the source has %u, this machine %u; start it with as many --device and "
		       "--hotplug-ports together as the source",
		       source->buses, here->buses);
}

/* ---- Bridges ---- */

static const struct profile_bridge *find_bridge(const struct profile *profile, unsigned device, unsigned function)
{
	for (unsigned i = 0; i < profile->bridge_count; i++) {
		if (profile->bridges[i].device == device && profile->bridges[i].function == function)
			return &profile->bridges[i];
	}
	return NULL;
}

static const char *kind_of(const struct profile_bridge *bridge)
{
	return bridge->conventional ? "conventional bridge" : "root port";
}

static void compare_feature(const struct profile_bridge *bridge, const char *feature, bool there, bool here,
			    struct differences *differences)
{
	if (there != here)
		differ(differences,
		       "%s 00:%02x.%x: %s %s; what is behind it must be grouped, reset and isolated as on the source's "
		       "host, or be alone in a port of --hotplug-ports at both",
		       kind_of(bridge), bridge->device, bridge->function, feature,
		       there ? "at the source, and not here" : "here, and not at the source");
}

static void compare_bridge(const struct profile_bridge *source, const struct profile_bridge *here,
			   struct differences *differences)
{
	if (source->conventional != here->conventional) {
		differ(differences,
		       "00:%02x.%x: is a %s at the source and a %s here; give this machine devices that are grouped as "
		       "on the source's host",
		       source->device, source->function, kind_of(source), kind_of(here));
		return;
	}
	compare_feature(source, "a hot-plug slot", source->slot, here->slot, differences);
	compare_feature(source, "access control (ACS)", source->isolated, here->isolated, differences);
	compare_feature(source, "function numbers above 7 (ARI)", source->ari, here->ari, differences);
	/* A reset that is offered here, and was not there, harms nobody. */
	if (source->bus_reset && !here->bus_reset)
		differ(differences,
		       "%s 00:%02x.%x: the source's guest may reset its bus, and this host cannot do that; give this "
		       "machine devices that reset together as on the source's host",
		       kind_of(source), source->device, source->function);
}

static void compare_bridges(const struct profile *source, const struct profile *here, struct differences *differences)
{
	for (unsigned i = 0; i < source->bridge_count; i++) {
		const struct profile_bridge *one = &source->bridges[i];
		const struct profile_bridge *other = find_bridge(here, one->device, one->function);
		if (other)
			compare_bridge(one, other, differences);
		else
			differ(differences,
			       "%s 00:%02x.%x: is at the source, and not here; start this machine with the device "
			       "behind "
			       "it as --device ADDRESS,%s=%u, or with --hotplug-ports where it is empty",
			       kind_of(one), one->device, one->function, one->conventional ? "slot" : "port",
			       one->device);
	}
	for (unsigned i = 0; i < here->bridge_count; i++) {
		const struct profile_bridge *one = &here->bridges[i];
		if (!find_bridge(source, one->device, one->function))
			differ(differences,
			       "%s 00:%02x.%x: is here, and not at the source; start this machine without it",
			       kind_of(one), one->device, one->function);
	}
}

/* ---- Devices ---- */

static const struct profile_device *find_device(const struct profile *profile, const struct profile_device *like)
{
	for (unsigned i = 0; i < profile->device_count; i++) {
		const struct profile_device *one = &profile->devices[i];
		if (one->device == like->device && one->function == like->function && one->bridge == like->bridge &&
		    one->devfn == like->devfn)
			return one;
	}
	return NULL;
}

/* Where the guest sees it: "00:03.0", or "00:03.0 > 00.0" behind a bridge. */
static const char *place_of(const struct profile_device *device, char text[20])
{
	int length = snprintf(text, 20, "00:%02x.%x", device->device, device->function);
	if (device->bridge)
		snprintf(text + length, 20 - (size_t)length, " > %02x.%x", device->devfn >> 3 & 31, device->devfn & 7);
	return text;
}

/* One of the numbers that a driver goes by. */
static void compare_number(const struct profile_device *source, const struct profile_device *here, const char *what,
			   uint64_t there_value, uint64_t here_value, struct differences *differences)
{
	char place[20];
	if (there_value != here_value)
		differ(differences,
		       "device %s at %s: %s is 0x%" PRIx64 " at the source (%s), and 0x%" PRIx64
		       " here; give this machine a device of the same model and settings there",
		       here->name, place_of(here, place), what, there_value, source->name, here_value);
}

static void compare_bars(const struct profile_device *source, const struct profile_device *here,
			 struct differences *differences)
{
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		const struct profile_bar *one = &source->bars[i], *other = &here->bars[i];
		char what[24];
		snprintf(what, sizeof(what), "the size of BAR %u", i);
		compare_number(source, here, what, one->size_bytes, other->size_bytes, differences);
		snprintf(what, sizeof(what), "the kind of BAR %u", i);
		compare_number(source, here, what, one->io | one->is_64bit << 2 | one->prefetchable << 3,
			       other->io | other->is_64bit << 2 | other->prefetchable << 3, differences);
	}
	compare_number(source, here, "the size of its expansion ROM", source->rom_bytes, here->rom_bytes, differences);
}

static void compare_abilities(const struct profile_device *source, const struct profile_device *here, bool alone,
			      struct differences *differences)
{
	char place[20];
	if (source->migratable && !here->migratable)
		differ(differences, "device %s at %s: cannot be loaded: %s", here->name, place_of(here, place),
		       here->why);
	else if (here->migratable && !here->p2p && !alone)
		differ(differences,
		       "device %s at %s: cannot stop its DMA while the others still answer (it has no P2P states), as "
		       "each must that is not alone; give this machine one whose driver can",
		       here->name, place_of(here, place));
}

static void compare_device(const struct profile_device *source, const struct profile_device *here, bool alone,
			   struct differences *differences)
{
	const struct {
		const char *what;
		uint64_t there, here;
	} numbers[] = {
		{"the vendor id", source->vendor_id, here->vendor_id},
		{"the device id", source->device_id, here->device_id},
		{"the subsystem vendor id", source->subsystem_vendor_id, here->subsystem_vendor_id},
		{"the subsystem id", source->subsystem_id, here->subsystem_id},
		{"the class", source->class_code, here->class_code},
		{"its being PCI Express", source->pcie, here->pcie},
		{"the interrupt pin", source->intx_pin, here->intx_pin},
		{"the number of MSI vectors", source->msi_vectors, here->msi_vectors},
		{"the number of MSI-X vectors", source->msix_vectors, here->msix_vectors},
	};
	unsigned before = differences->count;
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		compare_number(source, here, numbers[i].what, numbers[i].there, numbers[i].here, differences);
	compare_bars(source, here, differences);
	if (differences->count == before)
		compare_abilities(source, here, alone, differences);
}

static bool is_behind_port(const struct profile *profile, const struct profile_device *device)
{
	const struct profile_bridge *bridge = find_bridge(profile, device->device, device->function);
	return device->bridge && bridge && !bridge->conventional;
}

static void compare_devices(const struct profile *source, const struct profile *here, struct differences *differences)
{
	char place[20];
	for (unsigned i = 0; i < source->device_count; i++) {
		const struct profile_device *one = &source->devices[i], *other = find_device(here, one);
		if (other)
			compare_device(one, other, here->device_count == 1, differences);
		else
			differ(differences,
			       "device at %s: the source has %s there, this machine nothing; start it with --device "
			       "ADDRESS,%s=%u for its counterpart",
			       place_of(one, place), one->name, is_behind_port(source, one) ? "port" : "slot",
			       one->device);
	}
	for (unsigned i = 0; i < here->device_count; i++) {
		const struct profile_device *one = &here->devices[i];
		if (!find_device(source, one))
			differ(differences,
			       "device %s at %s: the source has nothing there; start this machine without it, or give "
			       "it "
			       "the place of its counterpart with slot= or port=",
			       one->name, place_of(one, place));
	}
}

int profile_compare(const struct profile *source, const struct profile *here, const char *cpu_difference,
		    struct tenon_error *err)
{
	struct differences differences = {.count = 0};
	compare_memory(source, here, &differences);
	compare_cpus(source, here, cpu_difference, &differences);
	compare_machine(source, here, &differences);
	compare_bridges(source, here, &differences);
	compare_devices(source, here, &differences);
	if (differences.count == 0)
		return 0;
	if (differences.count == 1)
		return tenon_fail(err, -EINVAL, "%s", differences.first);
	return tenon_fail(err, -EINVAL, "%s (and %u more %s)", differences.first, differences.count - 1,
			  differences.count == 2 ? "difference" : "differences");
}

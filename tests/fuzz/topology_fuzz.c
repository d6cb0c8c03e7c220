/* SPDX-License-Identifier: MIT */
/*
 * Facts of any kind, as no kernel would tell them: a plan is refused in one line, or gives each device a place that no other has,
 * and the same one when asked again. Each device is a record of the input.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tenon/tenon.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEVICES (TENON_TOPOLOGY_DEVICES_MAX + 1) /* one too many is an input too */

struct record {
	uint8_t flags;
	uint8_t bus, devfn;
	uint8_t iommu_group, slot;
	uint8_t names;        /* which names and reset groups */
	uint8_t affected[10]; /* the first: how many; then records, or 255: a stranger */
};

enum {
	FLAG_RID = 1,
	FLAG_PCIE = 2,
	FLAG_RESETS_ALONE = 4,
	FLAG_ALLOWED = 8,
	FLAG_PORT = 16,
	FLAG_WHY_NOT = 32,
};

static struct tenon_topology_device devices[DEVICES];
static char names[DEVICES][16];
static uint32_t sets[DEVICES][16];

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static uint32_t rid_of(const struct record *record)
{
	return (uint32_t)(record->bus << 8 | record->devfn);
}

static void read_device(const struct record *records, unsigned count, unsigned i)
{
	static const char *const groups[] = {NULL, NULL, "blue", "green"};
	const struct record *record = &records[i];
	snprintf(names[i], sizeof(names[i]), "device %u", record->names & 0x40 ? 0 : i);
	devices[i] = (struct tenon_topology_device){
		.name = names[i],
		.rid = record->flags & FLAG_RID ? rid_of(record) : TENON_TOPOLOGY_NO_RID,
		.pcie = record->flags & FLAG_PCIE,
		.resets_alone = record->flags & FLAG_RESETS_ALONE,
		.affected_count = record->affected[0] % 16u,
		.affected = sets[i],
		.bus_reset_allowed = record->flags & FLAG_ALLOWED,
		.why_not = record->flags & FLAG_WHY_NOT ? "it must not; see to it" : NULL,
		.iommu_group = record->iommu_group % 32 - 1,
		.reset_group = groups[record->names % 4],
		.wish = record->flags & FLAG_PORT ? TENON_TOPOLOGY_BEHIND_PORT : TENON_TOPOLOGY_ANYWHERE,
		.slot = record->slot,
	};
	for (unsigned k = 0; k < 16; k++) {
		uint8_t other = record->affected[1 + k % (sizeof(record->affected) - 1)];
		sets[i][k] = other == 255 ? 0xffff : rid_of(&records[other % count]);
	}
}

static void check_places(const struct tenon_topology *topology, unsigned count)
{
	static bool taken[TENON_TOPOLOGY_BUSES_MAX][256];
	memset(taken, 0, sizeof(taken));
	require(topology->bus_count >= 1 && topology->bus_count <= TENON_TOPOLOGY_BUSES_MAX, "number of buses");
	for (unsigned i = 1; i < topology->bus_count; i++) {
		const struct tenon_topology_bus *bus = &topology->buses[i];
		require(bus->slot >= 1 && bus->slot < 32 && bus->function < 8, "place of a bridge");
		require(!taken[0][bus->slot << 3 | bus->function], "two bridges in one place");
		taken[0][bus->slot << 3 | bus->function] = true;
	}
	for (unsigned i = 0; i < count; i++) {
		const struct tenon_topology_place *place = &topology->places[i];
		require(place->bus < topology->bus_count && place->devfn < 256, "place of a device");
		require(!taken[place->bus][place->devfn], "two devices in one place");
		taken[place->bus][place->devfn] = true;
		require(place->why[0] && memchr(place->why, '\0', sizeof(place->why)), "reason of a place");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct record records[DEVICES];
	static struct tenon_topology topology, again;
	struct tenon_error error = {0};
	if (size < 1)
		return 0;
	enum tenon_topology_mode mode = data[0] & 1 ? TENON_TOPOLOGY_FLAT : TENON_TOPOLOGY_MIRROR;
	uint32_t reserved_slots = UINT32_C(0x01010101) * (data[0] >> 1);
	size_t count = (size - 1) / sizeof(records[0]);
	if (count > DEVICES)
		count = DEVICES;
	memcpy(records, data + 1, count * sizeof(records[0]));
	for (unsigned i = 0; i < count; i++)
		read_device(records, (unsigned)count, i);

	memset(&topology, 0, sizeof(topology));
	topology.size = sizeof(topology);
	int code = tenon_topology_plan(devices, (unsigned)count, mode, reserved_slots, &topology, &error);
	again = (struct tenon_topology){.size = sizeof(again)};
	require(tenon_topology_plan(devices, (unsigned)count, mode, reserved_slots, &again, NULL) == code,
		"same answer");
	if (code == 0) {
		check_places(&topology, (unsigned)count);
		require(memcmp(&topology, &again, sizeof(topology)) == 0, "same places");
	} else {
		require(code == -EINVAL || code == -ENOSPC, "code of a refusal");
		require(error.code == code && strstr(error.message, "; ") && !strchr(error.message, '\n'), "refusal");
	}
	if (count > 0)
		tenon_topology_check_late(devices, (unsigned)count - 1, &devices[count - 1], mode, &error);
	return 0;
}

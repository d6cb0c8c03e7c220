/* SPDX-License-Identifier: MIT */
/*
 * Saved parts and a machine's description as no source would send them. The first byte chooses what is loaded, and for bridges of which
 * kind. What is refused has a reason in one line and changed nothing; what is taken is saved again as it came, but for bits that follow
 * from others, and a guest can go on with it.
 */
#include <linux/pci_regs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/serial.h"
#include "layout.h"
#include "migrate/places.h"
#include "migrate/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void check_message(const struct tenon_error *error)
{
	require(error->code < 0 && error->message[0], "a refusal has a reason");
	for (const char *at = error->message; *at; at++)
		require((unsigned char)*at >= 0x20 && *at != 0x7f, "the reason is one line of plain text");
}

static bool equal(const struct bytes_out *a, const struct bytes_out *b)
{
	return a->count == b->count && memcmp(a->data, b->data, a->count) == 0;
}

/* ---- The serial port, with a chardev that takes little and types much ---- */

size_t chardev_read(struct chardev *chardev, uint8_t *bytes, size_t capacity)
{
	memset(bytes, 'x', capacity);
	return capacity;
}

bool chardev_write(struct chardev *chardev, uint8_t byte)
{
	return byte & 1;
}

static void fuzz_serial(struct bytes_in in)
{
	struct serial *serial = NULL;
	struct tenon_error error = {0};
	struct bytes_out before = {0}, after = {0};
	const struct bytes_in all = in;
	require(serial_create(NULL, -1, &serial, &error) == 0, "memory");
	serial_save(serial, &before);
	int code = serial_load(serial, &in, &error);
	serial_save(serial, &after);
	if (code < 0) {
		check_message(&error);
		require(equal(&before, &after), "a port that refuses is as before");
	} else {
		require(after.count == all.left && memcmp(after.data, all.data, all.left) == 0,
			"it is saved as it came");
		serial_hold(serial, false);
		for (unsigned i = 0; i < 64; i++) {
			serial_read(serial, i % 8);
			serial_write(serial, i / 8 % 8, (uint8_t)(i * 37));
			serial_receive(serial);
			serial_transmit_ready(serial);
		}
	}
	bytes_out_finish(&before);
	bytes_out_finish(&after);
	serial_destroy(serial);
}

/* ---- Bridges ---- */

static uint32_t card_read(void *context, unsigned offset, unsigned size_bytes)
{
	return 0;
}

static void card_write(void *context, unsigned offset, unsigned size_bytes, uint32_t value)
{
}

static const struct pci_function card = {.config_read = card_read, .config_write = card_write};

struct site {
	struct bus memory;
	struct pci_host host;
	struct pci_bridge *bridge;
	unsigned lines, messages;
};

static void on_msi(void *context, uint64_t address, uint32_t data)
{
	((struct site *)context)->messages++;
}

static void on_intx(void *context, unsigned device, bool asserted)
{
	((struct site *)context)->lines++;
}

static void site_open(struct site *site, const struct pci_bridge_options *options, bool occupied)
{
	const struct pci_bridge_ops ops = {.msi = on_msi, .intx = on_intx, .context = site};
	const struct pci_bridge_windows windows = {.memory_first = LAYOUT_PCI32, .memory_bytes = 0x100000};
	memset(site, 0, sizeof(*site));
	bus_init(&site->memory, "memory");
	require(pci_host_init(&site->host, 256, &site->memory, NULL) == 0, "a host");
	require(pci_bridge_create(options, &ops, &site->bridge, NULL) == 0, "memory");
	require(pci_bridge_plug(&site->host, 6, 0, false, site->bridge, NULL) == 0, "a place");
	if (occupied)
		require(pci_bridge_insert(site->bridge, &(struct pci_placed){0, &card}, 1, NULL) == 0, "a card");
	pci_bridge_reset(site->bridge, &windows);
}

static void site_close(struct site *site)
{
	pci_bridge_destroy(site->bridge);
	pci_host_finish(&site->host);
	bus_finish(&site->memory);
}

static void use_bridge(struct site *site)
{
	uint32_t value = 0;
	for (unsigned offset = 0; offset < 0x110; offset += 2) {
		bus_read(&site->memory, LAYOUT_ECAM + (6 << 15) + offset, &value, 2);
		bus_write(&site->memory, LAYOUT_ECAM + (6 << 15) + offset, &value, 2);
	}
	for (unsigned bus = 0; bus < 256; bus++)
		bus_read(&site->memory, LAYOUT_ECAM + (bus << 20), &value, 4);
	pci_bridge_press_button(site->bridge);
	pci_bridge_reset_done(site->bridge, false);
	pci_bridge_eject(site->bridge);
}

static void fuzz_bridge(struct bytes_in in, unsigned kind, bool occupied)
{
	static const struct pci_bridge_options kinds[] = {
		{.kind = PCI_BRIDGE_ROOT_PORT, .number = 5, .slot = true, .isolated = true},
		{.kind = PCI_BRIDGE_CONVENTIONAL, .number = 5},
		{.kind = PCI_BRIDGE_ROOT_PORT, .number = 5, .ari = true},
		{.kind = PCI_BRIDGE_ROOT_PORT, .number = 5, .slot = true},
	};
	struct site one, other;
	struct tenon_error error = {0};
	struct bytes_out before = {0}, after = {0}, again = {0};
	site_open(&one, &kinds[kind], occupied);
	site_open(&other, &kinds[kind], occupied);
	pci_bridge_save(one.bridge, &before);
	int code = pci_bridge_load(one.bridge, &in, &error);
	pci_bridge_save(one.bridge, &after);
	require(one.messages == 0 && one.lines <= (code == 0), "loading asserts a line at most");
	if (code < 0) {
		check_message(&error);
		require(equal(&before, &after), "a bridge that refuses is as before");
	} else {
		struct bytes_in saved = {.data = after.data, .left = after.count};
		require(pci_bridge_load(other.bridge, &saved, &error) == 0, "what was taken is taken again");
		pci_bridge_save(other.bridge, &again);
		require(equal(&after, &again), "and is the same then");
		use_bridge(&one);
	}
	bytes_out_finish(&before);
	bytes_out_finish(&after);
	bytes_out_finish(&again);
	site_close(&one);
	site_close(&other);
}

/* ---- Places, of a machine with a device on the root bus, one behind a port, and an empty port ---- */

static void fuzz_places(struct bytes_in in)
{
	static struct slots slots;
	static struct assigned assigned[2];
	static struct pci_bridge *const bridge = (struct pci_bridge *)&slots; /* only whether there is one is asked */
	struct placement placement = {0};
	struct tenon_error error = {0};
	struct bytes_out before = {0}, after = {0};
	const struct bytes_in all = in;
	slots.count = 3;
	for (unsigned i = 0; i < 3; i++) {
		struct slot *slot = &slots.slot[i];
		*slot = (struct slot){.slots = &slots, .leader = slot, .device = 2 + i};
		slot->assigned = i < 2 ? &assigned[i] : NULL;
		slot->bridge = i > 0 ? bridge : NULL;
	}
	places_save(&slots, &placement, &before);
	int code = places_load(&slots, &placement, &in, &error);
	places_save(&slots, &placement, &after);
	if (code < 0) {
		check_message(&error);
		require(equal(&before, &after), "a machine that refuses is as before");
	} else {
		require(after.count == all.left && memcmp(after.data, all.data, all.left) == 0,
			"they are saved as they came");
	}
	bytes_out_finish(&before);
	bytes_out_finish(&after);
}

/* ---- Descriptions ---- */

static void fuzz_profile(const uint8_t *data, size_t size)
{
	struct profile *profiles = calloc(2, sizeof(*profiles));
	struct tenon_error error = {0};
	char *text = NULL, *again = NULL;
	require(profiles, "memory");
	if (profile_read((const char *)data, size, &profiles[0], &error) < 0) {
		check_message(&error);
	} else {
		if (profile_compare(&profiles[0], &profiles[1], NULL, &error) < 0)
			check_message(&error);
		require(profile_write(&profiles[0], &text, &error) == 0, "what was read can be written");
		require(profile_read(text, strlen(text), &profiles[1], &error) == 0, "and read again");
		require(profile_write(&profiles[1], &again, &error) == 0 && strcmp(text, again) == 0,
			"and is the same");
	}
	profile_finish(&profiles[0]);
	profile_finish(&profiles[1]);
	free(profiles);
	free(text);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	/* A copy that ends where the input does, so that reading on is found. */
	uint8_t *copy = malloc(size);
	require(copy, "memory");
	memcpy(copy, data + 1, size - 1);
	const struct bytes_in in = {.data = copy, .left = size - 1};
	switch (data[0] & 15) {
	case 0:
		fuzz_serial(in);
		break;
	case 1:
		fuzz_places(in);
		break;
	case 2:
		fuzz_profile(copy, size - 1);
		break;
	default:
		fuzz_bridge(in, data[0] & 3, data[0] & 16);
		break;
	}
	free(copy);
	return 0;
}

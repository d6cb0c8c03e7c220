// SPDX-License-Identifier: MIT
/*
 * A device's saved state as hostile input. Whatever is loaded: nothing crashes or is left open, no rule of the kernel or the VMM is
 * broken, a refusal has a reason, and what was taken is what would be saved again.
 *
 * Input: one byte of choices (below); then either the state, or changes of a sound one: offset (2 bytes) and value (1), each.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <tenon/tenon.h>

#include "device_state.h"
#include "vfio_fake.h"
#include "vfio_host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	CHOICE_DEVICE = 0x03,  /* NVMe, the same with a ROM and vital product data, edu, serial card */
	CHOICE_CHANGES = 0x04, /* of a sound state */
	CHOICE_SIGNED = 0x08,  /* length and checksum are made right */
	CHOICE_TRAPPED = 0x10, /* INTx */
	CHOICE_STATIC = 0x20,  /* the host's kernel adds no vectors later */
};

#define RAM_BYTES    0x10000u
#define STATE_MAX    65536u
#define BAR_GPA      0xe0000000u
#define LENGTH_AT    12u
#define TRAILER      12u /* CHECKSUM's section */
#define HEADER_LEAST (16u + TRAILER)

/* One VMM. */
struct machine {
	struct fake_host host;
	struct fake_device *fake;
	struct tenon_space *space;
	struct tenon_device *device;
};

static void require(bool holds, const char *what, const char *detail)
{
	if (holds)
		return;
	fprintf(stderr, "broken: %s: %s\n", what, detail);
	abort();
}

static struct fake_device *make_device(uint8_t choices, const char *bdf)
{
	struct fake_device *fake;
	switch (choices & CHOICE_DEVICE) {
	case 2:
		return fake_edu(bdf);
	case 3:
		return fake_serial_card(bdf);
	default:
		fake = fake_nvme(bdf);
	}
	fake->static_msix = choices & CHOICE_STATIC;
	if (choices & CHOICE_DEVICE) {
		fake_add_rom(fake, 0x10000, 0x8000);
		fake_add_vpd(fake, 0xe8);
	}
	return fake;
}

static void *ram(void)
{
	static void *memory;
	if (!memory)
		memory = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return memory;
}

static void open_machine(struct machine *machine, uint8_t choices, const char *bdf)
{
	struct tenon_error err = {0};
	fake_world_reset();
	memset(machine, 0, sizeof(*machine));
	host_init(&machine->host);
	machine->fake = make_device(choices, bdf);
	const struct tenon_space_region region = {.size = sizeof(region), .size_bytes = RAM_BYTES, .hva = ram()};
	require(tenon_space_create(NULL, &machine->space, &err) == 0, "space", err.message);
	require(tenon_space_add(machine->space, &region, &err) == 0, "memory", err.message);
	const struct tenon_device_options options = {
		.size = sizeof(options),
		.address = machine->fake->bdf,
		.space = machine->space,
		.ops = &machine->host.ops,
		.host = &machine->host,
		.slot = TENON_SLOT_ROOT_PORT,
		.intx = choices & CHOICE_TRAPPED ? TENON_INTX_TRAPPED : TENON_INTX_AUTO,
	};
	require(tenon_device_open(&options, &machine->device, &err) == 0, "open", err.message);
	machine->host.device = machine->device;
}

static void close_machine(struct machine *machine)
{
	machine->host.device = NULL;
	tenon_device_close(machine->device);
	tenon_space_destroy(machine->space);
	require(!host_leftovers(&machine->host)[0], "the VMM still has something", host_leftovers(&machine->host));
	require(!fake_leftovers()[0], "the kernel still has something", fake_leftovers());
}

/* ---- The sound state ---- */

static void use(struct machine *machine)
{
	struct tenon_device *device = machine->device;
	for (unsigned bar = 0; bar < TENON_DEVICE_BARS; bar++)
		tenon_device_config_write(device, PCI_BASE_ADDRESS_0 + 4 * bar, 4, bar ? 0 : BAR_GPA);
	tenon_device_config_write(device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	if (!machine->fake->msix) {
		fake_intx(machine->fake, true);
		return;
	}
	tenon_device_config_write(device, machine->fake->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned vector = 0; vector < 4; vector++) {
		const uint64_t address = 0xfee00000, control = (uint64_t)(vector == 3) << 32 | (0x40 + vector);
		tenon_device_bar_write(device, 0, FAKE_NVME_TABLE + 16 * vector, &address, 8);
		tenon_device_bar_write(device, 0, FAKE_NVME_TABLE + 16 * vector + 8, &control, 8);
		fake_fire(machine->fake, vector);
	}
}

/* Each is made once. */
static size_t sound_state(uint8_t choices, uint8_t *out)
{
	static struct {
		void *data;
		size_t bytes;
	} states[256];
	static struct machine machine;
	struct tenon_error err = {0};
	choices &= CHOICE_DEVICE | CHOICE_TRAPPED | CHOICE_STATIC;
	if (!states[choices].data) {
		open_machine(&machine, choices, "0000:3b:00.0");
		use(&machine);
		require(tenon_device_state_save(machine.device, &states[choices].data, &states[choices].bytes, &err) ==
				0,
			"save", err.message);
		require(states[choices].bytes <= STATE_MAX, "save", "too large");
		close_machine(&machine);
	}
	memcpy(out, states[choices].data, states[choices].bytes);
	return states[choices].bytes;
}

static void change(uint8_t *state, size_t bytes, const uint8_t *data, size_t size)
{
	for (; size >= 3; data += 3, size -= 3)
		state[((size_t)data[0] << 8 | data[1]) % bytes] = data[2];
}

static void sign(uint8_t *state, size_t bytes)
{
	if (bytes < HEADER_LEAST)
		return;
	uint32_t length = (uint32_t)bytes, sum;
	memcpy(state + LENGTH_AT, &length, sizeof(length));
	sum = state_checksum(0, state, bytes - TRAILER);
	memcpy(state + bytes - sizeof(sum), &sum, sizeof(sum));
}

/* ---- What holds ---- */

static struct device_state *decoded(const void *data, size_t bytes)
{
	struct tenon_error err = {0};
	struct device_state *state = malloc(sizeof(*state));
	require(state && state_decode(data, bytes, "state", state, &err) == 0, "what was taken is no state",
		err.message);
	return state;
}

/* Of the device's own registers, and of a line that it asserts, the model may think otherwise. */
static void check_same(struct machine *machine, const uint8_t *data, size_t bytes)
{
	struct tenon_error err = {0};
	void *again = NULL;
	size_t again_bytes = 0;
	require(tenon_device_state_save(machine->device, &again, &again_bytes, &err) == 0, "save", err.message);
	struct device_state *before = decoded(data, bytes), *after = decoded(again, again_bytes);
	require(memcmp(before->identity, after->identity, sizeof(before->identity)) == 0, "identity", "changed");
	require(memcmp(before->config, after->config, sizeof(before->config)) == 0, "config space", "changed");
	require(memcmp(before->msix_table, after->msix_table, sizeof(before->msix_table)) == 0, "table", "changed");
	require(before->mode == after->mode || before->mode == 0, "mode", "changed");
	unsigned delivered = 0;
	for (unsigned i = 0; i < before->vector_count; i++) {
		uint8_t gone = before->vectors[i] & (uint8_t)~after->vectors[i];
		require(!(gone & STATE_VECTOR_ARMED), "vectors", "one is not armed");
		delivered += gone == STATE_VECTOR_PENDING;
	}
	require(delivered <= machine->host.delivered_count, "vectors", "an interrupt is lost");
	free(before);
	free(after);
	free(again);
}

static void check_refusal(int code, const struct tenon_error *err)
{
	require(code == err->code && strstr(err->message, ": ") && strstr(err->message, "; "), "a refusal",
		err->message);
	require(code == -EINVAL || code == -ENOSPC || code == -EIO, "a refusal's code", err->message);
}

static void guest_goes_on(struct machine *machine)
{
	uint64_t value;
	for (unsigned at = 0; at < 256; at += 4)
		tenon_device_config_read(machine->device, at, 4);
	for (unsigned bar = 0; bar <= TENON_DEVICE_ROM; bar++)
		tenon_device_bar_read(machine->device, bar, 0, &value, 8);
	host_loop(&machine->host);
	tenon_device_config_write(machine->device, PCI_COMMAND, 2, 0);
}

static void load(uint8_t choices, const uint8_t *bytes, size_t count)
{
	static struct machine machine;
	struct tenon_error err = {0};
	/* Exactly as large, so that a read beyond it shows. */
	uint8_t *state = malloc(count ? count : 1);
	require(state != NULL, "memory", "none left");
	memcpy(state, bytes, count);
	open_machine(&machine, choices, "0000:3c:00.0");
	int code = tenon_device_state_load(machine.device, state, count, &err);
	if (code == 0)
		check_same(&machine, state, count);
	else
		check_refusal(code, &err);
	guest_goes_on(&machine);
	close_machine(&machine);
	free(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[STATE_MAX];
	if (size == 0 || size > STATE_MAX)
		return 0;
	uint8_t choices = *data++;
	size_t bytes = --size;
	if (choices & CHOICE_CHANGES) {
		bytes = sound_state(choices, room);
		change(room, bytes, data, size);
	} else {
		memcpy(room, data, bytes);
	}
	if (choices & CHOICE_SIGNED)
		sign(room, bytes);
	load(choices, room, bytes);
	return 0;
}

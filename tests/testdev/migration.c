// SPDX-License-Identifier: MIT
/*
 * Migration states. The arcs are data; a way between two states is the shortest that does not pass through the saving group
 * (PRE_COPY, PRE_COPY_P2P, STOP_COPY), unless it stays inside.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vfio_user_protocol.h>

#include "testdev.h"

#define TICK_NS   UINT64_C(10000000)
#define SECOND_NS UINT64_C(1000000000)

#define BIT(state) (1u << VU_STATE_##state)

/* Arcs of a device that has all states. */
static const uint32_t arcs[VU_STATES] = {
	[VU_STATE_STOP] = BIT(RUNNING_P2P) | BIT(STOP_COPY) | BIT(RESUMING),
	[VU_STATE_RUNNING] = BIT(RUNNING_P2P) | BIT(PRE_COPY),
	[VU_STATE_STOP_COPY] = BIT(STOP),
	[VU_STATE_RESUMING] = BIT(STOP),
	[VU_STATE_RUNNING_P2P] = BIT(RUNNING) | BIT(STOP) | BIT(PRE_COPY_P2P),
	[VU_STATE_PRE_COPY] = BIT(RUNNING) | BIT(PRE_COPY_P2P),
	[VU_STATE_PRE_COPY_P2P] = BIT(RUNNING_P2P) | BIT(PRE_COPY) | BIT(STOP_COPY),
};

static const char *const state_names[VU_STATES] = {
	"ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P",
};

const char *migration_state_name(uint32_t state)
{
	return state < VU_STATES ? state_names[state] : "unknown";
}

bool migration_runs(uint32_t state)
{
	return state < VU_STATES && 1u << state & (BIT(RUNNING) | BIT(PRE_COPY) | BIT(RUNNING_P2P) | BIT(PRE_COPY_P2P));
}

bool migration_touchable(uint32_t state)
{
	return state == VU_STATE_RUNNING || state == VU_STATE_PRE_COPY;
}

bool migration_saves(uint32_t state)
{
	return state < VU_STATES && 1u << state & (BIT(PRE_COPY) | BIT(PRE_COPY_P2P) | BIT(STOP_COPY));
}

uint64_t migration_flags(const struct testdev *device)
{
	const struct testdev_options *options = &device->options;
	return VU_MIGRATION_STOP_COPY | (options->no_p2p ? 0 : VU_MIGRATION_P2P) |
	       (options->no_pre_copy ? 0 : VU_MIGRATION_PRE_COPY);
}

static bool is_offered(uint64_t flags, uint32_t state)
{
	bool p2p = flags & VU_MIGRATION_P2P, pre_copy = flags & VU_MIGRATION_PRE_COPY;
	switch (state) {
	case VU_STATE_RUNNING_P2P:
		return p2p;
	case VU_STATE_PRE_COPY:
		return pre_copy;
	case VU_STATE_PRE_COPY_P2P:
		return p2p && pre_copy;
	default:
		return state < VU_STATES;
	}
}

/* Without the quiescent states, the arcs that led to them and from them join. */
static uint32_t arcs_from(uint64_t flags, uint32_t state)
{
	uint32_t to = arcs[state];
	if (!(flags & VU_MIGRATION_P2P)) {
		if (to & BIT(RUNNING_P2P))
			to |= arcs[VU_STATE_RUNNING_P2P] & (BIT(RUNNING) | BIT(STOP));
		if (to & BIT(PRE_COPY_P2P))
			to |= arcs[VU_STATE_PRE_COPY_P2P] & BIT(STOP_COPY);
		to &= ~(1u << state);
	}
	for (uint32_t other = 0; other < VU_STATES; other++) {
		if (!is_offered(flags, other))
			to &= ~(1u << other);
	}
	return to;
}

/* Steps from `from` to `to`; VU_STATES: no way. Breadth first, over sets of states. */
static unsigned distance(uint64_t flags, uint32_t from, uint32_t to)
{
	const uint32_t saving = BIT(PRE_COPY) | BIT(PRE_COPY_P2P) | BIT(STOP_COPY);
	bool inside = 1u << from & saving && 1u << to & saving;
	uint32_t reached = 1u << from;
	for (unsigned steps = 0; steps < VU_STATES; steps++) {
		if (reached & 1u << to)
			return steps;
		uint32_t next = reached;
		for (uint32_t state = 0; state < VU_STATES; state++) {
			bool passes = state == from || (1u << state & saving ? inside : !inside);
			if (reached & 1u << state && passes)
				next |= arcs_from(flags, state);
		}
		reached = next;
	}
	return VU_STATES;
}

uint32_t migration_next(uint64_t flags, uint32_t from, uint32_t to)
{
	if (!is_offered(flags, from) || !is_offered(flags, to) || from == VU_STATE_ERROR || to == VU_STATE_ERROR)
		return VU_STATE_ERROR;
	if (from == to)
		return to;
	unsigned least = distance(flags, from, to);
	for (uint32_t next = 0; least < VU_STATES && next < VU_STATES; next++) {
		if (!(arcs_from(flags, from) & 1u << next))
			continue;
		/* A step inside the saving group must not be the way out of it, nor one through it. */
		bool passes = next == to || !migration_saves(next) || (migration_saves(from) && migration_saves(to));
		if (passes && distance(flags, next, to) == least - 1)
			return next;
	}
	return VU_STATE_ERROR;
}

static void check_stopped_memory(struct testdev *device)
{
	if (bar_memory_sum(&device->memory) != device->memory.stopped_sum)
		journal_add(device, TD_BAD_STOPPED_MEMORY, 0, "memory of BAR %u or %u changed", TD_BAR_MEMORY,
			    TD_BAR_PAGE);
}

static bool is_stopped(uint32_t state)
{
	return !migration_runs(state);
}

/* What the device does on an arc. */
static int take_arc(struct testdev *device, uint32_t to)
{
	struct migration *migration = &device->migration;
	uint32_t from = migration->state;
	int code = 0;

	/* A bell that was rung before the device was told to stop still counts. */
	if (migration_touchable(from) && !migration_touchable(to))
		doorbells_take(device);
	if (is_stopped(to) && !is_stopped(from))
		device->memory.stopped_sum = bar_memory_sum(&device->memory);
	if (is_stopped(from) && !is_stopped(to))
		check_stopped_memory(device);

	if (migration_saves(from) && !migration_saves(to))
		saver_end(device);
	else if (!migration_saves(from) && migration_saves(to))
		saver_begin(device);
	if (to == VU_STATE_RESUMING) {
		loader_begin(device);
	} else if (from == VU_STATE_RESUMING) {
		code = loader_end(device);
		device->memory.stopped_sum = bar_memory_sum(&device->memory);
	}
	migration->state = code < 0 ? VU_STATE_ERROR : to;
	if (is_stopped(from) && !is_stopped(to))
		irqs_resume(device);
	return code;
}

int migration_set(struct testdev *device, uint32_t state)
{
	struct migration *migration = &device->migration;
	uint64_t flags = migration_flags(device);
	while (migration->state != state) {
		uint32_t next = migration_next(flags, migration->state, state);
		if (next == VU_STATE_ERROR) {
			journal_add(device, TD_BAD_TRANSITION, state, "from %s to %s",
				    migration_state_name(migration->state), migration_state_name(state));
			return -EINVAL;
		}
		int code = take_arc(device, next);
		if (code < 0)
			return code;
	}
	return 0;
}

/* What the block holds at first: every byte depends on its place, so that a chunk in the wrong place shows. */
static void fill_block(struct migration *migration)
{
	for (uint64_t at = 0; at < migration->block_bytes; at += sizeof(uint64_t)) {
		uint64_t word = (at + 1) * UINT64_C(0xd6e8feb86659fd93);
		memcpy(migration->block + at, &word, sizeof(word));
	}
}

int migration_init(struct testdev *device, struct tenon_error *err)
{
	struct migration *migration = &device->migration;
	migration->block_bytes = device->options.block_bytes ? device->options.block_bytes : 65536;
	if (migration->block_bytes % BLOCK_CHUNK_BYTES || migration->block_bytes > UINT64_C(1) << 32)
		return tenon_fail(
			err, -EINVAL,
			"test device: state of %llu bytes: not a multiple of 4 KiB up to 4 GiB; give such a size",
			(unsigned long long)migration->block_bytes);
	migration->block = malloc(migration->block_bytes);
	migration->changed = calloc(migration->block_bytes / BLOCK_CHUNK_BYTES, 1);
	if (!migration->block || !migration->changed)
		return tenon_fail(err, -ENOMEM, "test device: no memory for %llu bytes of state; give a smaller size",
				  (unsigned long long)migration->block_bytes);
	return 0;
}

void migration_finish(struct testdev *device)
{
	saver_end(device);
	free(device->migration.block);
	free(device->migration.changed);
}

void migration_reset(struct testdev *device)
{
	struct migration *migration = &device->migration;
	saver_end(device);
	loader_begin(device);
	migration->state = VU_STATE_RUNNING;
	migration->changes = migration->last_ns = migration->carry = 0;
	fill_block(migration);
}

void migration_change_block(struct testdev *device, uint32_t chunks)
{
	struct migration *migration = &device->migration;
	uint64_t count = migration->block_bytes / BLOCK_CHUNK_BYTES;
	for (uint32_t i = 0; i < chunks && i < 4 * count; i++) {
		uint64_t chunk = migration->changes++ * UINT64_C(0x9e3779b97f4a7c15) % count;
		uint8_t *bytes = migration->block + chunk * BLOCK_CHUNK_BYTES;
		memcpy(bytes, &migration->changes, sizeof(migration->changes));
		bytes[BLOCK_CHUNK_BYTES - 1]++;
		migration->changed[chunk] = 1;
	}
}

void migration_run(struct testdev *device)
{
	struct migration *migration = &device->migration;
	uint64_t now = now_ns();
	if (!device->options.block_rate || !migration_runs(migration->state)) {
		migration->last_ns = 0;
		return;
	}
	if (migration->last_ns) {
		uint64_t passed = now - migration->last_ns < SECOND_NS ? now - migration->last_ns : SECOND_NS;
		uint64_t total = migration->carry + passed * device->options.block_rate;
		migration->carry = total % SECOND_NS;
		migration_change_block(device, (uint32_t)(total / SECOND_NS));
	}
	migration->last_ns = now;
}

uint64_t migration_deadline_ns(const struct testdev *device)
{
	return device->migration.last_ns ? device->migration.last_ns + TICK_NS : UINT64_MAX;
}

uint64_t migration_bytes(const struct testdev *device)
{
	return saver_bytes(device);
}

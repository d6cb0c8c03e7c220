// SPDX-License-Identifier: MIT
/*
 * The migration states of a device as data, and the way from one to another: the shortest over the arcs of migration_states.def,
 * found by search, so that an arc that is not there is never taken.
 */
#include <errno.h>

#include <tenon/migration.h>

/* What an arc needs of the device, or may not find. */
#define P2P   1u
#define NOP2P 2u
#define PRE   4u

#define STATE(n, number, u, d, a, s, l) _Static_assert(TENON_MIGRATION_##n == (number), "one number for a state");
#define ARC(from, to, needs)
#include "migration_states.def"
#undef STATE
#undef ARC

static const struct tenon_migration_rule rules[TENON_MIGRATION_STATES] = {
#define STATE(n, number, u, d, a, s, l)                                                                                \
	[number] = {.name = #n, .usable = (u), .dma = (d), .answers = (a), .saves = (s), .loads = (l)},
#define ARC(from, to, needs)
#include "migration_states.def"
#undef STATE
#undef ARC
};

struct arc {
	enum tenon_migration_state from, to;
	unsigned needs;
};

static const struct arc arcs[] = {
#define STATE(n, number, u, d, a, s, l)
#define ARC(a, b, n) {.from = TENON_MIGRATION_##a, .to = TENON_MIGRATION_##b, .needs = (n)},
#include "migration_states.def"
#undef STATE
#undef ARC
};

#define ARCS (sizeof(arcs) / sizeof(arcs[0]))

static bool is_state(enum tenon_migration_state state)
{
	return (unsigned)state < TENON_MIGRATION_STATES;
}

const struct tenon_migration_rule *tenon_migration_rule(enum tenon_migration_state state)
{
	return is_state(state) ? &rules[state] : NULL;
}

/* A state that no arc of the device touches is one that it lacks. */
static bool has_arc(const struct arc *arc, bool p2p, bool pre_copy)
{
	return !(arc->needs & (p2p ? NOP2P : P2P)) && (pre_copy || !(arc->needs & PRE));
}

static bool has_state(enum tenon_migration_state state, bool p2p, bool pre_copy)
{
	for (unsigned i = 0; i < ARCS; i++) {
		if (arcs[i].from == state && has_arc(&arcs[i], p2p, pre_copy))
			return true;
	}
	return false;
}

/*
 * The first step of the shortest way. It is searched from its end, so that what is found last is the step out of `from`.
 *
 * The states that save share one stream of data, which every other state ends: a way between two of them stays inside, and no other
 * way leads through one, or a stream would begin, or end, that nobody asked for (uapi/linux/vfio.h, "saving group states").
 */
static int search(enum tenon_migration_state from, enum tenon_migration_state to, bool p2p, bool pre_copy)
{
	bool inside = rules[from].saves && rules[to].saves;
	enum tenon_migration_state queue[TENON_MIGRATION_STATES] = {to};
	bool seen[TENON_MIGRATION_STATES] = {false};
	unsigned queued = 1;
	seen[to] = true;
	for (unsigned at = 0; at < queued; at++) {
		for (unsigned i = 0; i < ARCS; i++) {
			const struct arc *arc = &arcs[i];
			if (arc->to != queue[at] || seen[arc->from] || !has_arc(arc, p2p, pre_copy))
				continue;
			if (arc->from == from)
				return arc->to;
			if (rules[arc->from].saves != inside)
				continue;
			seen[arc->from] = true;
			queue[queued++] = arc->from;
		}
	}
	return -EINVAL;
}

int tenon_migration_next(enum tenon_migration_state from, enum tenon_migration_state to, bool p2p, bool pre_copy)
{
	if (!is_state(from) || !is_state(to) || !has_state(from, p2p, pre_copy) || !has_state(to, p2p, pre_copy))
		return -EINVAL;
	return from == to ? (int)from : search(from, to, p2p, pre_copy);
}

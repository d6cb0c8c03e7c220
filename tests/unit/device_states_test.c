// SPDX-License-Identifier: MIT
/*
 * The migration states. What is expected is written down a second time, from the kernel's words: the arcs that a driver must have
 * (drivers/vfio/vfio_main.c, vfio_mig_get_next_state) and the ways that it lists for a device with all features, from which those of
 * devices with less follow by leaving out what they lack.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon/tenon.h>

TestSuite(device_states);

#define ERROR        TENON_MIGRATION_ERROR
#define STOP         TENON_MIGRATION_STOP
#define RUNNING      TENON_MIGRATION_RUNNING
#define STOP_COPY    TENON_MIGRATION_STOP_COPY
#define RESUMING     TENON_MIGRATION_RESUMING
#define RUNNING_P2P  TENON_MIGRATION_RUNNING_P2P
#define PRE_COPY     TENON_MIGRATION_PRE_COPY
#define PRE_COPY_P2P TENON_MIGRATION_PRE_COPY_P2P
#define STATES       TENON_MIGRATION_STATES

/*
 * The kernel's first step from a state (row) to another (column), of a device with P2P and pre-copy. ERROR: there is no way.
 * Columns in the order of the numbers: ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P.
 */
static const enum tenon_migration_state full[STATES][STATES] = {
	[ERROR] = {0},
	[STOP] = {ERROR, STOP, RUNNING_P2P, STOP_COPY, RESUMING, RUNNING_P2P, RUNNING_P2P, RUNNING_P2P},
	[RUNNING] = {ERROR, RUNNING_P2P, RUNNING, RUNNING_P2P, RUNNING_P2P, RUNNING_P2P, PRE_COPY, RUNNING_P2P},
	[STOP_COPY] = {ERROR, STOP, STOP, STOP_COPY, STOP, STOP, ERROR, ERROR},
	[RESUMING] = {ERROR, STOP, STOP, STOP, RESUMING, STOP, STOP, STOP},
	[RUNNING_P2P] = {ERROR, STOP, RUNNING, STOP, STOP, RUNNING_P2P, RUNNING, PRE_COPY_P2P},
	[PRE_COPY] = {ERROR, RUNNING, RUNNING, PRE_COPY_P2P, RUNNING, RUNNING, PRE_COPY, PRE_COPY_P2P},
	[PRE_COPY_P2P] = {ERROR, RUNNING_P2P, RUNNING_P2P, STOP_COPY, RUNNING_P2P, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P},
};

static bool lacks(enum tenon_migration_state state, bool p2p, bool pre_copy)
{
	bool needs_p2p = state == RUNNING_P2P || state == PRE_COPY_P2P;
	bool needs_pre_copy = state == PRE_COPY || state == PRE_COPY_P2P;
	return (needs_p2p && !p2p) || (needs_pre_copy && !pre_copy);
}

/* As the kernel: steps into states that the device lacks are left out. */
static int expected(enum tenon_migration_state from, enum tenon_migration_state to, bool p2p, bool pre_copy)
{
	if (lacks(from, p2p, pre_copy) || lacks(to, p2p, pre_copy))
		return -EINVAL;
	enum tenon_migration_state next = full[from][to];
	while (next != ERROR && lacks(next, p2p, pre_copy))
		next = full[next][to];
	return next == ERROR ? -EINVAL : (int)next;
}

Test(device_states, every_next_state_is_the_kernels)
{
	for (unsigned features = 0; features < 4; features++) {
		bool p2p = features & 1, pre_copy = features & 2;
		for (unsigned from = 0; from < STATES; from++) {
			for (unsigned to = 0; to < STATES; to++)
				cr_expect_eq(tenon_migration_next(from, to, p2p, pre_copy),
					     expected(from, to, p2p, pre_copy),
					     "from %u to %u, P2P %d, pre-copy %d: %d, not %d", from, to, p2p, pre_copy,
					     tenon_migration_next(from, to, p2p, pre_copy),
					     expected(from, to, p2p, pre_copy));
		}
	}
}

/* The arcs that the kernel asks of a driver, one by one; a step is one of them and nothing else. */
static bool is_arc(unsigned from, unsigned to, bool p2p, bool pre_copy)
{
	static const struct {
		enum tenon_migration_state from, to;
		int p2p, pre_copy; /* 1: only with; 0: only without; -1: always */
	} arcs[] = {
		{RESUMING, STOP, -1, -1},
		{STOP, RESUMING, -1, -1},
		{STOP, STOP_COPY, -1, -1},
		{STOP_COPY, STOP, -1, -1},
		{RUNNING, STOP, 0, -1},
		{STOP, RUNNING, 0, -1},
		{RUNNING, RUNNING_P2P, 1, -1},
		{RUNNING_P2P, RUNNING, 1, -1},
		{RUNNING_P2P, STOP, 1, -1},
		{STOP, RUNNING_P2P, 1, -1},
		{RUNNING, PRE_COPY, -1, 1},
		{PRE_COPY, RUNNING, -1, 1},
		{PRE_COPY, STOP_COPY, 0, 1},
		{PRE_COPY, PRE_COPY_P2P, 1, 1},
		{PRE_COPY_P2P, PRE_COPY, 1, 1},
		{PRE_COPY_P2P, STOP_COPY, 1, 1},
		{PRE_COPY_P2P, RUNNING_P2P, 1, 1},
		{RUNNING_P2P, PRE_COPY_P2P, 1, 1},
	};
	for (unsigned i = 0; i < sizeof(arcs) / sizeof(arcs[0]); i++) {
		if (arcs[i].from == from && arcs[i].to == to && (arcs[i].p2p < 0 || arcs[i].p2p == p2p) &&
		    (arcs[i].pre_copy < 0 || arcs[i].pre_copy == pre_copy))
			return true;
	}
	return false;
}

Test(device_states, every_step_is_an_arc_and_every_way_ends)
{
	for (unsigned features = 0; features < 4; features++) {
		bool p2p = features & 1, pre_copy = features & 2;
		unsigned ways = 0;
		for (unsigned from = 0; from < STATES; from++) {
			for (unsigned to = 0; to < STATES; to++) {
				int at = (int)from;
				unsigned steps = 0;
				while (at >= 0 && at != (int)to && steps < STATES) {
					int next = tenon_migration_next(at, to, p2p, pre_copy);
					cr_assert(next < 0 || is_arc((unsigned)at, (unsigned)next, p2p, pre_copy),
						  "%d to %d is no arc", at, next);
					cr_assert(next >= 0 || at == (int)from, "the way ends in %d", at);
					at = next;
					steps++;
				}
				cr_assert_lt(steps, STATES, "from %u to %u never ends", from, to);
				ways += at == (int)to && steps;
			}
		}
		cr_assert_geq(ways, 12, "four states at least, each reaches each other");
	}
}

Test(device_states, nothing_leads_out_of_error_or_into_it)
{
	for (unsigned state = 0; state < STATES; state++) {
		cr_assert_eq(tenon_migration_next(ERROR, state, true, true), -EINVAL);
		cr_assert_eq(tenon_migration_next(state, ERROR, true, true), -EINVAL);
	}
}

Test(device_states, a_number_that_is_no_state_has_no_rule_and_no_way)
{
	cr_assert_null(tenon_migration_rule(STATES));
	cr_assert_null(tenon_migration_rule((enum tenon_migration_state) - 1));
	cr_assert_eq(tenon_migration_next(STATES, RUNNING, true, true), -EINVAL);
	cr_assert_eq(tenon_migration_next(RUNNING, (enum tenon_migration_state) - 1, true, true), -EINVAL);
}

Test(device_states, rules_say_what_the_contract_says)
{
	static const struct {
		const char *name;
		const char *may; /* u: usable, d: starts DMA, a: answers, s: saves, l: loads */
	} contract[STATES] = {
		[ERROR] = {"ERROR", ""},           [STOP] = {"STOP", ""},
		[RUNNING] = {"RUNNING", "uda"},    [STOP_COPY] = {"STOP_COPY", "s"},
		[RESUMING] = {"RESUMING", "l"},    [RUNNING_P2P] = {"RUNNING_P2P", "a"},
		[PRE_COPY] = {"PRE_COPY", "udas"}, [PRE_COPY_P2P] = {"PRE_COPY_P2P", "as"},
	};
	for (unsigned state = 0; state < STATES; state++) {
		const struct tenon_migration_rule *rule = tenon_migration_rule(state);
		char may[8];
		snprintf(may, sizeof(may), "%s%s%s%s%s", rule->usable ? "u" : "", rule->dma ? "d" : "",
			 rule->answers ? "a" : "", rule->saves ? "s" : "", rule->loads ? "l" : "");
		cr_expect_str_eq(rule->name, contract[state].name);
		cr_expect_str_eq(may, contract[state].may, "%s", rule->name);
	}
}

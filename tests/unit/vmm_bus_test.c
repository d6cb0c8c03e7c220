// SPDX-License-Identifier: MIT
/* Which handler answers which access, what nobody answers, and ranges that come and go meanwhile. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <criterion/criterion.h>

#include "bus.h"

/* A handler that answers with its own number in every byte and notes what it was asked. */
struct device {
	uint8_t number;
	unsigned reads, writes;
	uint64_t offset;
	unsigned size_bytes;
	uint8_t written[8];
};

static void device_read(void *context, uint64_t offset, void *data, unsigned size_bytes)
{
	struct device *device = context;
	device->reads++;
	device->offset = offset;
	device->size_bytes = size_bytes;
	memset(data, device->number, size_bytes);
}

static void device_write(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
	struct device *device = context;
	device->writes++;
	device->offset = offset;
	device->size_bytes = size_bytes;
	memcpy(device->written, data, size_bytes);
}

static struct bus bus;

static int add(uint64_t first, uint64_t size_bytes, struct device *device, struct tenon_error *err)
{
	const struct bus_range range = {first, size_bytes, {device_read, device_write, device}};
	return bus_add(&bus, &range, err);
}

static void must_add(uint64_t first, uint64_t size_bytes, struct device *device)
{
	struct tenon_error err = {0};
	cr_assert_eq(add(first, size_bytes, device, &err), 0, "%s", err.message);
}

static uint64_t read_bytes(uint64_t address, unsigned size_bytes)
{
	uint64_t value = 0;
	bus_read(&bus, address, &value, size_bytes);
	return value;
}

static void setup(void)
{
	bus_init(&bus, "memory");
}

static void teardown(void)
{
	bus_finish(&bus);
}

TestSuite(bus, .init = setup, .fini = teardown, .timeout = 60);

/* ---- Accesses ---- */

Test(bus, empty_space_reads_ones_and_swallows_writes)
{
	const uint64_t value = 0;
	for (unsigned size_bytes = 1; size_bytes <= 8; size_bytes *= 2) {
		cr_expect_eq(read_bytes(0x1000, size_bytes), UINT64_MAX >> (64 - 8 * size_bytes));
		bus_write(&bus, 0x1000, &value, size_bytes);
	}
	cr_expect_eq(read_bytes(0, 1), 0xff);
	cr_expect_eq(read_bytes(UINT64_MAX, 1), 0xff);
	cr_expect_eq(read_bytes(UINT64_MAX, 8), UINT64_MAX, "it would wrap around");
}

Test(bus, handler_sees_the_offset_in_its_range_the_size_and_the_data)
{
	struct device device = {.number = 0x5a};
	must_add(0xd0001000, 0x100, &device);
	for (unsigned size_bytes = 1; size_bytes <= 8; size_bytes *= 2) {
		cr_expect_eq(read_bytes(0xd00010f8, size_bytes), 0x5a5a5a5a5a5a5a5a >> (64 - 8 * size_bytes));
		cr_expect_eq(device.offset, 0xf8);
		cr_expect_eq(device.size_bytes, size_bytes);
	}
	const uint64_t value = 0x8877665544332211;
	bus_write(&bus, 0xd0001010, &value, 8);
	cr_expect_eq(device.offset, 0x10);
	cr_expect_arr_eq(device.written, &value, 8);
}

Test(bus, first_and_last_byte_belong_to_the_range_and_their_neighbours_do_not)
{
	struct device device = {.number = 1};
	must_add(0x100, 0x10, &device);
	cr_expect_eq(read_bytes(0xff, 1), 0xff);
	cr_expect_eq(read_bytes(0x100, 1), 1);
	cr_expect_eq(read_bytes(0x10f, 1), 1);
	cr_expect_eq(read_bytes(0x110, 1), 0xff);
	cr_expect_eq(device.reads, 2);
}

Test(bus, access_across_an_end_is_nobodys_even_where_another_range_begins)
{
	struct device low = {.number = 1}, high = {.number = 2};
	const uint32_t value = 0;
	must_add(0x100, 0x10, &low);
	must_add(0x110, 0x10, &high);
	cr_expect_eq(read_bytes(0x10e, 4), 0xffffffff);
	cr_expect_eq(read_bytes(0xfe, 4), 0xffffffff);
	cr_expect_eq(read_bytes(0x11c, 8), UINT64_MAX);
	bus_write(&bus, 0x10e, &value, 4);
	bus_write(&bus, 0x11e, &value, 4);
	cr_expect_eq(low.reads + low.writes + high.reads + high.writes, 0);
}

Test(bus, ranges_reach_the_very_top)
{
	struct device device = {.number = 7};
	must_add(UINT64_MAX - 0xfff, 0x1000, &device);
	cr_expect_eq(read_bytes(UINT64_MAX, 1), 7);
	cr_expect_eq(read_bytes(UINT64_MAX - 7, 8), 0x0707070707070707);
	cr_expect_eq(read_bytes(UINT64_MAX - 3, 8), UINT64_MAX, "it would wrap around");
	cr_expect_lt(add(UINT64_MAX, 1, &device, NULL), 0);
	cr_expect_eq(add(0, 0x1000, &device, NULL), 0, "the top does not reach around to zero");
}

/* ---- Adding and removing ---- */

Test(bus, overlap_is_refused_and_touching_is_not)
{
	static const struct {
		uint64_t first, size_bytes;
		bool fits;
	} cases[] = {
		{0x200, 0x100, false}, {0x1ff, 2, false},    {0x2ff, 1, false},
		{0x2ff, 0x100, false}, {0x280, 1, false},    {0x100, 0x300, false},
		{0x100, 0x100, true},  {0x300, 0x100, true}, {0, UINT64_MAX, false},
	};
	struct device owner = {.number = 1}, other = {.number = 2};
	must_add(0x200, 0x100, &owner);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tenon_error err = {0};
		int code = add(cases[i].first, cases[i].size_bytes, &other, &err);
		if (cases[i].fits) {
			cr_expect_eq(code, 0, "case %zu: %s", i, err.message);
			bus_remove(&bus, cases[i].first, &other);
		} else {
			cr_expect_eq(code, -EEXIST, "case %zu", i);
			cr_expect(strstr(err.message, "memory 0x") && strstr(err.message, "; "), "%s", err.message);
		}
		cr_expect_eq(read_bytes(0x200, 1), 1);
		cr_expect_eq(read_bytes(0x2ff, 1), 1);
	}
}

Test(bus, removing_takes_only_the_range_that_starts_there)
{
	struct device a = {.number = 1}, b = {.number = 2};
	must_add(0x100, 0x10, &a);
	must_add(0x200, 0x10, &b);
	bus_remove(&bus, 0x0, &a);
	bus_remove(&bus, 0x101, &a);
	bus_remove(&bus, 0x300, &a);
	bus_remove(&bus, 0x100, &b);
	cr_expect_eq(read_bytes(0x100, 1), 1);
	cr_expect_eq(read_bytes(0x200, 1), 2);
	bus_remove(&bus, 0x100, &a);
	cr_expect_eq(read_bytes(0x100, 1), 0xff);
	cr_expect_eq(read_bytes(0x200, 1), 2);
	must_add(0x0f8, 0x10, &a);
	cr_expect_eq(read_bytes(0x100, 1), 1);
}

Test(bus, full_bus_says_so_and_has_room_again_after_a_removal)
{
	struct device device = {.number = 3};
	for (uint64_t i = 0; i < BUS_RANGES_MAX; i++)
		must_add(i * 0x1000, 0x1000, &device);
	struct tenon_error err = {0};
	cr_expect_eq(add(0x10000000, 1, &device, &err), -ENOSPC);
	cr_expect(strstr(err.message, "256") && strstr(err.message, "; "), "%s", err.message);
	bus_remove(&bus, 17 * 0x1000, &device);
	must_add(0x10000000, 1, &device);
	cr_expect_eq(read_bytes(17 * 0x1000, 1), 0xff);
	cr_expect_eq(read_bytes(0x10000000, 1), 3);
}

Test(bus, each_address_finds_its_owner_whatever_the_order_of_adding_and_removing)
{
	enum { PLACES = 200 };
	static struct device devices[PLACES];
	static bool present[PLACES];
	uint32_t random = 1;
	for (unsigned step = 0; step < 20000; step++) {
		random = random * 1664525 + 1013904223;
		unsigned i = (random >> 8) % PLACES;
		devices[i].number = (uint8_t)i;
		/* Place i has 0x20 bytes, the first 0x18 of them taken. */
		if (!present[i])
			must_add(i * 0x20, 0x18, &devices[i]);
		else
			bus_remove(&bus, i * 0x20, &devices[i]);
		present[i] = !present[i];
		unsigned asked = (random >> 20) % PLACES, offset = (random >> 3) % 0x20;
		uint8_t expected = present[asked] && offset < 0x18 ? (uint8_t)asked : 0xff;
		cr_assert_eq(read_bytes(asked * 0x20 + offset, 1), expected, "step %u, place %u+%#x", step, asked,
			     offset);
	}
}

/* ---- Ranges that a guest puts over each other ---- */

static void must_add_or_wait(uint64_t first, uint64_t size_bytes, struct device *device)
{
	struct tenon_error err = {0};
	const struct bus_range range = {first, size_bytes, {device_read, device_write, device}};
	cr_assert_eq(bus_add_or_wait(&bus, &range, &err), 0, "%s", err.message);
}

Test(bus, range_that_overlaps_answers_once_the_first_has_moved_away)
{
	struct device winner = {.number = 1}, loser = {.number = 2};
	must_add(0x1000, 0x1000, &winner);
	must_add_or_wait(0x1000, 0x1000, &loser);
	cr_expect_eq(read_bytes(0x1000, 1), 1);
	bus_remove(&bus, 0x1000, &winner);
	cr_expect_eq(read_bytes(0x1000, 1), 2);
	must_add_or_wait(0x1000, 0x1000, &winner);
	cr_expect_eq(read_bytes(0x1000, 1), 2, "it came back behind the other");
}

Test(bus, range_that_waits_may_be_removed)
{
	struct device winner = {.number = 1}, loser = {.number = 2};
	must_add(0x1000, 0x1000, &winner);
	must_add_or_wait(0x1000, 0x1000, &loser);
	bus_remove(&bus, 0x1000, &loser);
	cr_expect_eq(read_bytes(0x1000, 1), 1);
	bus_remove(&bus, 0x1000, &winner);
	cr_expect_eq(read_bytes(0x1000, 1), 0xff);
}

Test(bus, range_over_two_waits_for_both)
{
	struct device low = {.number = 1}, high = {.number = 2}, wide = {.number = 3};
	must_add(0x1000, 0x1000, &low);
	must_add(0x2000, 0x1000, &high);
	must_add_or_wait(0x1000, 0x2000, &wide);
	bus_remove(&bus, 0x1000, &low);
	cr_expect_eq(read_bytes(0x1000, 1), 0xff);
	cr_expect_eq(read_bytes(0x2000, 1), 2);
	bus_remove(&bus, 0x2000, &high);
	cr_expect_eq(read_bytes(0x1000, 1), 3);
	cr_expect_eq(read_bytes(0x2fff, 1), 3);
}

Test(bus, ranges_that_wait_go_in_the_order_in_which_they_came)
{
	static struct device devices[8];
	for (unsigned i = 0; i < 8; i++) {
		devices[i].number = (uint8_t)(i + 1);
		must_add_or_wait(0x1000, 0x1000, &devices[i]);
	}
	for (unsigned i = 0; i < 8; i++) {
		cr_expect_eq(read_bytes(0x1000, 1), i + 1);
		bus_remove(&bus, 0x1000, &devices[i]);
	}
	cr_expect_eq(read_bytes(0x1000, 1), 0xff);
}

Test(bus, owner_is_who_answers_in_all_of_a_range)
{
	struct device winner = {.number = 1}, loser = {.number = 2};
	must_add(0x1000, 0x1000, &winner);
	must_add_or_wait(0x1800, 0x1000, &loser);
	cr_expect_eq(bus_owner(&bus, 0x1000, 0x1000), &winner);
	cr_expect_eq(bus_owner(&bus, 0x1fff, 1), &winner);
	cr_expect_null(bus_owner(&bus, 0x1fff, 2));
	cr_expect_null(bus_owner(&bus, 0x2000, 0x100), "it waits");
	cr_expect_null(bus_owner(&bus, 0xfff, 1));
	bus_remove(&bus, 0x1000, &winner);
	cr_expect_eq(bus_owner(&bus, 0x2000, 0x100), &loser);
}

Test(bus, ranges_that_wait_count)
{
	static struct device devices[BUS_RANGES_MAX + 1];
	for (unsigned i = 0; i < BUS_RANGES_MAX; i++)
		must_add_or_wait(0x1000, 0x1000, &devices[i]);
	const struct bus_range range = {0x1000, 0x1000, {device_read, device_write, &devices[BUS_RANGES_MAX]}};
	cr_expect_eq(bus_add_or_wait(&bus, &range, NULL), -ENOSPC);
}

/* ---- Changes meanwhile ---- */

/* A register that moves its own range, as a write to a BAR does. */
static void moving_write(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
	uint64_t *place = context, to = 0;
	memcpy(&to, data, size_bytes);
	bus_remove(&bus, *place, context);
	const struct bus_range range = {to, 0x10, {device_read, moving_write, context}};
	cr_assert_eq(bus_add(&bus, &range, NULL), 0);
	*place = to;
}

Test(bus, handler_may_move_its_own_range)
{
	uint64_t place = 0x1000;
	const struct bus_range range = {place, 0x10, {device_read, moving_write, &place}};
	cr_assert_eq(bus_add(&bus, &range, NULL), 0);
	for (uint64_t to = 0x2000; to < 0x10000; to += 0x1000) {
		bus_write(&bus, place + 4, &to, 8);
		cr_expect_eq(place, to);
		cr_expect_eq(read_bytes(to - 0x1000, 1), 0xff);
	}
}

static void read_number(void *context, uint64_t offset, void *data, unsigned size_bytes)
{
	memset(data, *(const uint8_t *)context, size_bytes);
}

static void write_nothing(void *context, uint64_t offset, const void *data, unsigned size_bytes)
{
}

static atomic_bool done;

static void *read_all_the_time(void *argument)
{
	uintptr_t wrong = 0;
	while (!atomic_load(&done)) {
		uint8_t moving = (uint8_t)read_bytes(0x2000, 1), below = (uint8_t)read_bytes(0x1000, 1),
			above = (uint8_t)read_bytes(0x3000, 1);
		wrong += (moving != 2 && moving != 0xff) || below != 1 || above != 3;
	}
	return (void *)wrong;
}

Test(bus, readers_never_see_half_a_change)
{
	static uint8_t numbers[] = {1, 2, 3};
	struct bus_range ranges[3];
	for (unsigned i = 0; i < 3; i++) {
		ranges[i] = (struct bus_range){0x1000 * (i + 1), 0x10, {read_number, write_nothing, &numbers[i]}};
		cr_assert_eq(bus_add(&bus, &ranges[i], NULL), 0);
	}
	pthread_t readers[2];
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&readers[i], NULL, read_all_the_time, NULL), 0);
	for (unsigned i = 0; i < 2000; i++) {
		bus_remove(&bus, 0x2000, &numbers[1]);
		cr_assert_eq(bus_add(&bus, &ranges[1], NULL), 0);
	}
	atomic_store(&done, true);
	for (unsigned i = 0; i < 2; i++) {
		void *wrong;
		pthread_join(readers[i], &wrong);
		cr_expect_null(wrong);
	}
}

// SPDX-License-Identifier: MIT
/* Structs that grow at their end, between a caller and a library of different age. */
#include <stdint.h>
#include <string.h>

#include <criterion/criterion.h>

#include "sized.h"

/* The same struct as two versions have it. */
struct early {
	size_t size;
	uint32_t first;
	uint8_t reserved[4];
};

struct late {
	size_t size;
	uint32_t first;
	uint8_t reserved[4];
	uint64_t second;
};

SIZED_WHOLE(struct early, reserved);
SIZED_WHOLE(struct late, second);

#define FIRST SIZED_THROUGH(struct late, reserved)

Test(sized, what_an_older_caller_lacks_is_zero)
{
	const struct early given = {.size = sizeof(given), .first = 7};
	struct late taken = {.second = 9};
	cr_assert(sized_copy(&taken, &given, sizeof(taken), FIRST));
	cr_assert_eq(taken.first, 7);
	cr_assert_eq(taken.second, 0);
}

/* Whatever follows in its memory is no part of the struct that it knew. */
Test(sized, what_lies_behind_an_older_caller_s_struct_is_not_read)
{
	const struct late given = {.size = sizeof(struct early), .first = 7, .second = 9};
	struct late taken;
	cr_assert(sized_copy(&taken, &given, sizeof(taken), FIRST));
	cr_assert_eq(taken.second, 0);
}

Test(sized, what_a_newer_caller_asks_for_is_refused_unless_it_is_zero)
{
	struct late given = {.size = sizeof(given), .first = 7};
	struct early taken;
	cr_assert(sized_copy(&taken, &given, sizeof(taken), FIRST));
	cr_assert_eq(taken.first, 7);
	given.second = 1;
	cr_assert_not(sized_copy(&taken, &given, sizeof(taken), FIRST));
}

Test(sized, struct_smaller_than_the_first_version_is_refused)
{
	const struct late given = {.size = FIRST - 1};
	struct late taken;
	cr_assert_not(sized_copy(&taken, &given, sizeof(taken), FIRST));
}

Test(sized, size_that_is_no_struct_s_is_refused)
{
	static const struct {
		struct late late;
		uint8_t zero[SIZED_BYTES_MAX];
	} given = {.late.size = SIZED_BYTES_MAX + 1};
	struct late taken;
	cr_assert_not(sized_copy(&taken, &given, sizeof(taken), FIRST));
}

Test(sized, result_fills_only_the_room_that_an_older_caller_has)
{
	struct late result = {.size = 1, .first = 7, .second = 9}, room = {.size = sizeof(struct early), .second = 5};
	cr_assert(sized_fill(&room, &result, sizeof(result), FIRST));
	cr_assert_eq(room.size, sizeof(struct early), "the caller's own size");
	cr_assert_eq(room.first, 7);
	cr_assert_eq(room.second, 5, "written behind the caller's struct");
}

Test(sized, result_is_zero_where_a_newer_caller_has_more_room)
{
	struct early result = {.first = 7};
	struct late room = {.size = sizeof(room), .second = 5};
	cr_assert(sized_fill(&room, &result, sizeof(result), FIRST));
	cr_assert_eq(room.size, sizeof(room));
	cr_assert_eq(room.first, 7);
	cr_assert_eq(room.second, 0);
}

Test(sized, result_does_not_fit_in_less_than_the_first_version)
{
	const struct late result = {.first = 7};
	struct late room = {.size = FIRST - 1, .first = 3};
	cr_assert_not(sized_fill(&room, &result, sizeof(result), FIRST));
	cr_assert_eq(room.first, 3);
}

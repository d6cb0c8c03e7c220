// SPDX-License-Identifier: MIT
/* CRC-32C in each of its forms: known values, and each other. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "crc32c.h"

static struct {
	const char *name;
	crc32c_fn sum;
	bool present;
} forms[3];

static void find_forms(void)
{
	forms[0].name = "table";
	forms[0].sum = crc32c_table;
	forms[0].present = true;
#ifdef __x86_64__
	forms[1].name = "narrow";
	forms[1].sum = crc32c_narrow;
	forms[1].present =
		__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("avx");
	forms[2].name = "wide";
	forms[2].sum = crc32c_wide;
	forms[2].present = forms[1].present && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq");
#endif
}

#define EACH_FORM(i)                                                                                                   \
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)                                                  \
		if (forms[i].present)

TestSuite(migration_crc, .init = find_forms);

/* RFC 3720, B.4, and the check value of the catalogue of CRCs. */
Test(migration_crc, known_values)
{
	uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
	memset(ones, 0xff, sizeof(ones));
	for (unsigned i = 0; i < 32; i++) {
		up[i] = (uint8_t)i;
		down[i] = (uint8_t)(31 - i);
	}
	EACH_FORM(i)
	{
		cr_assert_eq(forms[i].sum(0, NULL, "123456789", 9), 0xe3069283u, "%s", forms[i].name);
		cr_assert_eq(forms[i].sum(0, NULL, zeros, 32), 0x8a9136aau, "%s", forms[i].name);
		cr_assert_eq(forms[i].sum(0, NULL, ones, 32), 0x62a8ab43u, "%s", forms[i].name);
		cr_assert_eq(forms[i].sum(0, NULL, up, 32), 0x46dd794eu, "%s", forms[i].name);
		cr_assert_eq(forms[i].sum(0, NULL, down, 32), 0x113fdb5cu, "%s", forms[i].name);
		cr_assert_eq(forms[i].sum(0, NULL, NULL, 0), 0u, "%s", forms[i].name);
	}
	cr_assert_eq(crc32c(0, "123456789", 9), 0xe3069283u);
}

Test(migration_crc, all_forms_agree_at_every_length_and_alignment_and_copy_exactly)
{
	enum { MOST = 1100 };
	uint8_t from[MOST + 16], to[MOST + 2];
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 167 + (i >> 5) * 59);
	for (size_t length = 0; length <= MOST; length++) {
		const uint8_t *start = from + length % 16;
		uint32_t before = (uint32_t)length * 0x9e3779b9u, expected = crc32c_table(before, NULL, start, length);
		EACH_FORM(i)
		{
			cr_assert_eq(forms[i].sum(before, NULL, start, length), expected, "%s, %zu bytes",
				     forms[i].name, length);
			memset(to, 0xa5, sizeof(to));
			cr_assert_eq(forms[i].sum(before, to + 1, start, length), expected);
			cr_assert(memcmp(to + 1, start, length) == 0 && to[0] == 0xa5 && to[length + 1] == 0xa5,
				  "%s, copy of %zu bytes", forms[i].name, length);
		}
	}
}

Test(migration_crc, sum_of_two_parts_is_that_of_the_whole)
{
	uint8_t data[5000], copy[5000];
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i >> 3);
	for (size_t cut = 0; cut <= sizeof(data); cut += 61) {
		uint32_t first = crc32c(0, data, cut);
		cr_assert_eq(crc32c_copy(first, copy, data + cut, sizeof(data) - cut), crc32c(0, data, sizeof(data)));
	}
}

Test(migration_crc, any_flipped_bit_changes_it)
{
	uint8_t data[300] = {1, 2, 3};
	uint32_t sound = crc32c(0, data, sizeof(data));
	for (size_t bit = 0; bit < sizeof(data) * 8; bit++) {
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_neq(crc32c(0, data, sizeof(data)), sound);
		data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

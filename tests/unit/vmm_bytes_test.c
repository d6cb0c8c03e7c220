// SPDX-License-Identifier: MIT
/* The bytes of saved parts. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "migrate/bytes.h"

static struct bytes_in in_of(const struct bytes_out *out)
{
	return (struct bytes_in){.data = out->data, .left = out->count};
}

Test(bytes, come_back_little_endian_and_in_order)
{
	struct bytes_out out = {0};
	bytes_put_u8(&out, 0x01);
	bytes_put_u16(&out, 0x0302);
	bytes_put_u32(&out, 0x07060504);
	bytes_put_u64(&out, 0x0f0e0d0c0b0a0908);
	cr_assert(!out.failed);
	cr_assert_eq(out.count, 15);
	for (unsigned i = 0; i < 15; i++)
		cr_expect_eq(out.data[i], i + 1);
	struct bytes_in in = in_of(&out);
	cr_expect_eq(bytes_get_u8(&in), 0x01);
	cr_expect_eq(bytes_get_u16(&in), 0x0302);
	cr_expect_eq(bytes_get_u32(&in), 0x07060504);
	cr_expect_eq(bytes_get_u64(&in), 0x0f0e0d0c0b0a0908);
	cr_expect_eq(bytes_get_end(&in, "test", NULL), 0);
	bytes_out_finish(&out);
}

Test(bytes, that_end_too_early_fail_once_and_for_all)
{
	static const uint8_t data[3] = {1, 2, 3};
	struct bytes_in in = {.data = data, .left = sizeof(data)};
	struct tenon_error err = {0};
	cr_expect_eq(bytes_get_u32(&in), 0);
	cr_expect_eq(bytes_get_u8(&in), 0, "what is left is not taken for something else");
	cr_expect_eq(bytes_get_end(&in, "test", &err), -EINVAL);
	cr_expect(strstr(err.message, "too early"), "%s", err.message);
}

Test(bytes, that_are_too_many_are_refused)
{
	static const uint8_t data[3] = {1, 2, 3};
	struct bytes_in in = {.data = data, .left = sizeof(data)};
	struct tenon_error err = {0};
	bytes_get_u8(&in);
	cr_expect_eq(bytes_get_end(&in, "test", &err), -EINVAL);
	cr_expect(strstr(err.message, "2 bytes too long"), "%s", err.message);
}

Test(bytes, grow_as_they_must)
{
	struct bytes_out out = {0};
	for (unsigned i = 0; i < 10000; i++)
		bytes_put_u16(&out, (uint16_t)i);
	struct bytes_in in = in_of(&out);
	for (unsigned i = 0; i < 10000; i++)
		cr_assert_eq(bytes_get_u16(&in), i);
	cr_expect_eq(bytes_get_end(&in, "test", NULL), 0);
	bytes_out_finish(&out);
}

// SPDX-License-Identifier: MIT
/* tenon_error: one way to fail, one line, owned by the caller. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include <tenon/error.h>

Test(error, failing_returns_the_code_and_records_both)
{
	struct tenon_error err = {0};
	cr_assert_eq(tenon_fail(&err, -EBUSY, "%s: no: %d; wait", "it", 7), -EBUSY);
	cr_assert_eq(err.code, -EBUSY);
	cr_assert_str_eq(err.message, "it: no: 7; wait");
}

Test(error, nobody_has_to_listen)
{
	cr_assert_eq(tenon_fail(NULL, -EBUSY, "lost"), -EBUSY);
}

Test(error, long_message_is_cut_and_terminated)
{
	struct tenon_error err;
	memset(&err, 'x', sizeof(err));
	char text[1000];
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	tenon_fail(&err, -EIO, "%s", text);
	cr_assert_eq(strlen(err.message), sizeof(err.message) - 1);
}

Test(error, wrapping_prepends_context)
{
	struct tenon_error err = {0};
	tenon_fail(&err, -EIO, "disk: broken; buy another");
	cr_assert_eq(tenon_fail_wrap(&err, "guest %d", 3), -EIO);
	cr_assert_str_eq(err.message, "guest 3: disk: broken; buy another");
}

Test(error, wrapping_too_much_cuts_the_tail)
{
	struct tenon_error err = {0};
	char text[500];
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	tenon_fail(&err, -EIO, "%s", text);
	cr_assert_eq(tenon_fail_wrap(&err, "context"), -EIO);
	cr_assert_eq(strncmp(err.message, "context: aaaa", 13), 0);
	cr_assert_eq(strlen(err.message), sizeof(err.message) - 1);
	cr_assert_eq(tenon_fail_wrap(&err, "%s%s", text, text), -EIO);
	cr_assert_eq(strlen(err.message), sizeof(err.message) - 1);
}

Test(error, wrapping_nothing_is_an_error_of_its_own)
{
	struct tenon_error err = {0};
	cr_assert_eq(tenon_fail_wrap(NULL, "context"), -EINVAL);
	cr_assert_eq(tenon_fail_wrap(&err, "context"), -EINVAL);
}

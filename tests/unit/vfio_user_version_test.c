// SPDX-License-Identifier: MIT
/* The capabilities of vfio-user's version message: what is read from JSON, what is refused, what is written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "vfio_user_protocol.h"
#include "vfio_user_version.h"

static struct vu_capabilities capabilities;
static struct tenon_error error;

/* From memory that ends where the text ends, so that AddressSanitizer sees a read behind it. */
static int parse_bytes(const char *text, size_t bytes)
{
	char *copy = malloc(bytes ? bytes : 1);
	memcpy(copy, text, bytes);
	error = (struct tenon_error){0};
	int code = vu_capabilities_parse(copy, bytes, &capabilities, &error);
	free(copy);
	return code;
}

static int parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static void expect_defaults(const char *text)
{
	cr_expect_eq(parse(text), 0, "%s: %s", text, error.message);
	cr_expect_eq(capabilities.msg_fds, 1);
	cr_expect_eq(capabilities.data_bytes, 1048576);
	cr_expect_eq(capabilities.dma_maps, 65535);
	cr_expect_eq(capabilities.page_sizes, 4096);
	cr_expect_not(capabilities.twin_socket);
	cr_expect_not(capabilities.write_multiple);
}

Test(vfio_user_version, what_is_not_mentioned_is_the_default)
{
	expect_defaults("");
	expect_defaults("{}");
	expect_defaults(" {\n} ");
	expect_defaults("{\"capabilities\":{}}");
	expect_defaults("{\"else\":[1,2,{\"max_msg_fds\":9}]}");
	cr_expect_eq(parse_bytes("", 1), 0, "a terminating zero alone");
}

Test(vfio_user_version, everything_known_is_read)
{
	cr_assert_eq(parse("{\"capabilities\": {\"max_msg_fds\": 8, \"max_data_xfer_size\":65536,\"max_dma_maps\":100,"
			   "\"pgsizes\":2101248,\"write_multiple\":true,"
			   "\"twin_socket\":{\"supported\":true,\"fd_index\":2}}}"),
		     0, "%s", error.message);
	cr_expect_eq(capabilities.msg_fds, 8);
	cr_expect_eq(capabilities.data_bytes, 65536);
	cr_expect_eq(capabilities.dma_maps, 100);
	cr_expect_eq(capabilities.page_sizes, 2101248);
	cr_expect(capabilities.write_multiple);
	cr_expect(capabilities.twin_socket);
	cr_expect(capabilities.twin_fd_present);
	cr_expect_eq(capabilities.twin_fd_index, 2);
}

Test(vfio_user_version, what_servers_send_today_is_read)
{
	cr_expect_eq(parse("{ \"capabilities\": { \"max_msg_fds\": 8, \"max_data_xfer_size\": 1048576, "
			   "\"migration\": { \"pgsize\": 4096 } } }"),
		     0);
	cr_expect_eq(capabilities.msg_fds, 8);
}

Test(vfio_user_version, unknown_names_are_skipped_whatever_they_hold)
{
	cr_expect_eq(parse("{\"x\":null,\"capabilities\":{\"a\":-1.5e+10,\"b\":\"\\u00e9\\\"}{\",\"c\":[[],[{}]],"
			   "\"max_msg_fds\":3,\"d\":false,\"max\\u005fmsg_fds\":4,\"e\":0.25,\"f\":1E5}}"),
		     0, "%s", error.message);
	cr_expect_eq(capabilities.msg_fds, 3);
}

Test(vfio_user_version, last_of_two_values_holds)
{
	cr_expect_eq(parse("{\"capabilities\":{\"max_msg_fds\":3,\"max_msg_fds\":4}}"), 0);
	cr_expect_eq(capabilities.msg_fds, 4);
}

Test(vfio_user_version, text_that_is_no_json_is_refused)
{
	static const char *const texts[] = {
		"{",
		"}",
		"[]",
		"3",
		"\"\"",
		"null",
		"{]",
		"{,}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{}{}",
		"{} x",
		"{\"a\":01}",
		"{\"a\":-}",
		"{\"a\":1.}",
		"{\"a\":1e}",
		"{\"a\":+1}",
		"{\"a\":.5}",
		"{\"a\":tru}",
		"{\"a\":nul}",
		"{\"a\":[1,]}",
		"{\"a\":[1 2]}",
		"{\"a\":\"}",
		"{\"a\":\"\\q\"}",
		"{\"a\":\"\\u12g4\"}",
		"{\"a\":\"\\u12",
		"{\"a\":\"\\",
		"{\"a\":\"\n\"}",
		"{\"a\":1 \"b\":2}",
		"{'a':1}",
		"{\"a\":0x10}",
	};
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		cr_expect_eq(parse(texts[i]), -EINVAL, "%s", texts[i]);
		cr_expect_eq(error.code, -EINVAL);
		cr_expect(strstr(error.message, "not JSON"), "%s", error.message);
	}
	cr_expect_eq(parse_bytes("{}\0{}", 5), -EINVAL, "a zero inside");
	cr_expect_eq(parse_bytes("{}\0\0", 4), -EINVAL, "two at the end");
}

Test(vfio_user_version, every_prefix_of_a_text_is_refused_without_a_read_behind_it)
{
	const char *text =
		"{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":{\"supported\":true},\"x\":\"\\u0041\"}}";
	for (size_t bytes = 1; bytes < strlen(text); bytes++)
		cr_expect_eq(parse_bytes(text, bytes), -EINVAL, "%zu bytes", bytes);
	cr_expect_eq(parse(text), 0);
}

Test(vfio_user_version, known_name_with_a_value_of_the_wrong_kind_is_refused_by_name)
{
	static const struct {
		const char *text, *name;
	} cases[] = {
		{"{\"capabilities\":[]}", "capabilities"},
		{"{\"capabilities\":{\"max_msg_fds\":\"8\"}}", "max_msg_fds"},
		{"{\"capabilities\":{\"max_msg_fds\":-1}}", "max_msg_fds"},
		{"{\"capabilities\":{\"max_msg_fds\":1.5}}", "max_msg_fds"},
		{"{\"capabilities\":{\"max_msg_fds\":1e3}}", "max_msg_fds"},
		{"{\"capabilities\":{\"max_data_xfer_size\":9223372036854775808}}", "max_data_xfer_size"},
		{"{\"capabilities\":{\"max_dma_maps\":99999999999999999999999}}", "max_dma_maps"},
		{"{\"capabilities\":{\"pgsizes\":null}}", "pgsizes"},
		{"{\"capabilities\":{\"write_multiple\":1}}", "write_multiple"},
		{"{\"capabilities\":{\"twin_socket\":true}}", "twin_socket"},
		{"{\"capabilities\":{\"twin_socket\":{\"supported\":\"yes\"}}}", "twin_socket.supported"},
		{"{\"capabilities\":{\"twin_socket\":{\"fd_index\":{}}}}", "twin_socket.fd_index"},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(parse(cases[i].text), -EINVAL, "%s", cases[i].text);
		cr_expect(strstr(error.message, cases[i].name), "%s", error.message);
	}
}

Test(vfio_user_version, largest_number_is_read)
{
	cr_expect_eq(parse("{\"capabilities\":{\"max_data_xfer_size\":9223372036854775807}}"), 0);
	cr_expect_eq(capabilities.data_bytes, INT64_MAX);
}

Test(vfio_user_version, nesting_is_bounded)
{
	char text[4096];
	memset(text, '[', sizeof(text));
	memcpy(text, "{\"a\":", 5);
	cr_expect_eq(parse_bytes(text, sizeof(text)), -EINVAL);
	cr_expect_eq(parse("{\"a\":[[[[[[[[[[1]]]]]]]]]]}"), 0);
}

Test(vfio_user_version, what_is_written_is_read_again)
{
	const struct vu_capabilities written = {.msg_fds = UINT32_MAX,
						.data_bytes = INT64_MAX,
						.dma_maps = INT64_MAX,
						.page_sizes = INT64_MAX,
						.write_multiple = true,
						.twin_socket = true,
						.twin_fd_present = true,
						.twin_fd_index = INT64_MAX};
	char text[VU_CAPABILITIES_TEXT_MAX];
	size_t bytes = vu_capabilities_format(&written, text);
	cr_assert_leq(bytes, sizeof(text));
	cr_expect_eq(text[bytes - 1], 0);
	cr_expect_eq(strlen(text), bytes - 1);
	cr_assert_eq(parse_bytes(text, bytes), 0, "%s", error.message);
	cr_expect_eq(memcmp(&capabilities, &written, sizeof(written)), 0, "%s", text);
}

Test(vfio_user_version, client_s_wish_for_a_twin_socket_has_no_index)
{
	const struct vu_capabilities written = {.twin_socket = true};
	char text[VU_CAPABILITIES_TEXT_MAX];
	vu_capabilities_format(&written, text);
	cr_expect_null(strstr(text, "fd_index"), "%s", text);
	cr_assert_eq(parse(text), 0);
	cr_expect(capabilities.twin_socket);
	cr_expect_not(capabilities.twin_fd_present);
}

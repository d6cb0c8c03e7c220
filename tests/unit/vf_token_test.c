// SPDX-License-Identifier: MIT
/* VF tokens, on both interfaces and on kernels that do and do not check them on character devices. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "vf_token.h"
#include "vfio_fixture.h"

#define TOKEN "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3"
#define WRONG "00000000-5a5f-4f5a-a211-f591514ba1f3"

static const uint8_t token_bytes[16] = {0xbd, 0x8d, 0x9d, 0x2b, 0x5a, 0x5f, 0x4f, 0x5a,
					0xa2, 0x11, 0xf5, 0x91, 0x51, 0x4b, 0xa1, 0xf3};

TestSuite(vf_token, .init = fake_world_reset);

struct trio {
	struct fake_device *pf, *vf;
	struct fixture fixture;
};

static void init(struct trio *trio, enum tenon_interface interface)
{
	trio->pf = fake_nvme("0000:3b:00.0");
	trio->vf = fake_nvme("0000:3b:10.0");
	trio->vf->group = 0x77;
	fake_device_vf(trio->vf, trio->pf);
	const struct tenon_space_options options = {.size = sizeof(options), .interface = interface};
	fixture_init(&trio->fixture);
	tenon_space_destroy(trio->fixture.space);
	cr_assert_eq(tenon_space_create(&options, &trio->fixture.space, NULL), 0);
}

static int try_open(struct trio *trio, const struct fake_device *fake, const char *token, struct tenon_device **out)
{
	struct tenon_device_options options = fixture_options(&trio->fixture, fake);
	options.vf_token = token;
	trio->fixture.err = (struct tenon_error){0};
	return tenon_device_open(&options, out, &trio->fixture.err);
}

static struct tenon_device *open_device(struct trio *trio, const struct fake_device *fake, const char *token)
{
	struct tenon_device *device = NULL;
	int code = try_open(trio, fake, token, &device);
	cr_assert_eq(code, 0, "%s", trio->fixture.err.message);
	return device;
}

static void assert_refused(struct trio *trio, const struct fake_device *fake, const char *token, int expected,
			   const char *word)
{
	struct tenon_device *device = NULL;
	int code = try_open(trio, fake, token, &device);
	cr_assert_eq(code, expected, "got %d: %s", code, trio->fixture.err.message);
	assert_message(&trio->fixture.err, code);
	cr_assert(strstr(trio->fixture.err.message, word), "\"%s\" is missing: %s", word, trio->fixture.err.message);
}

Test(vf_token, uuid_is_parsed_in_the_order_of_its_digits)
{
	uint8_t uuid[16];
	cr_assert(uuid_parse(TOKEN, uuid));
	cr_assert_arr_eq(uuid, token_bytes, 16);
	cr_assert(uuid_parse("BD8D9D2B-5A5F-4F5A-A211-F591514BA1F3", uuid));
	cr_assert_arr_eq(uuid, token_bytes, 16);
}

Test(vf_token, what_is_no_uuid_is_refused)
{
	static const char *const bad[] = {
		"",
		"bd8d9d2b",
		"bd8d9d2b-5a5f-4f5a-a211-f591514ba1f",
		"bd8d9d2b-5a5f-4f5a-a211-f591514ba1f33",
		"bd8d9d2b-5a5f-4f5a-a211_f591514ba1f3",
		"bd8d9d2b-5a5f-4f5a-a211-f591514ba1fg",
		"bd8d9d2b5a5f-4f5a-a211-f591514ba1f3-",
		"{bd8d9d2b-5a5f-4f5a-a211-f591514ba1f",
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vf_token token;
		struct tenon_error err = {0};
		int code = vf_token_parse(bad[i], "0000:3b:00.0", &token, &err);
		cr_assert_eq(code, -EINVAL, "\"%s\" is accepted", bad[i]);
		assert_message(&err, code);
	}
}

/* ---- What holds on every interface that checks ---- */

static void pf_and_vf_share_a_token(enum tenon_interface interface)
{
	struct trio trio;
	init(&trio, interface);
	struct tenon_device *pf = open_device(&trio, trio.pf, TOKEN);
	cr_assert_arr_eq(trio.pf->vf_token, token_bytes, 16);
	assert_refused(&trio, trio.vf, NULL, -EACCES, "vf-token=UUID");
	assert_refused(&trio, trio.vf, WRONG, -EACCES, "not the one that is in use");
	struct tenon_device *vf = open_device(&trio, trio.vf, TOKEN);
	/* The PF's user goes; who comes after must know the token, as long as a VF is in use. */
	tenon_device_close(pf);
	assert_refused(&trio, trio.pf, NULL, -EACCES, "vf-token=UUID");
	assert_refused(&trio, trio.pf, WRONG, -EACCES, "not the one that is in use");
	pf = open_device(&trio, trio.pf, TOKEN);
	tenon_device_close(pf);
	tenon_device_close(vf);
	cr_assert_eq(trio.fixture.host.log_count, 0, "%s", trio.fixture.host.logs[0].text);
	fixture_close(&trio.fixture);
}

Test(vf_token, pf_and_vf_share_it_on_a_container)
{
	pf_and_vf_share_a_token(TENON_INTERFACE_CONTAINER);
}

Test(vf_token, pf_and_vf_share_it_on_a_kernel_that_checks_character_devices)
{
	fake_set_bind_tokens(true);
	pf_and_vf_share_a_token(TENON_INTERFACE_IOMMUFD);
}

/* ---- A kernel that does not check it on character devices ---- */

Test(vf_token, kernel_that_does_not_check_it_is_warned_of)
{
	struct trio trio;
	init(&trio, TENON_INTERFACE_IOMMUFD);
	struct tenon_device *vf = open_device(&trio, trio.vf, WRONG);
	cr_assert(host_logged(&trio.fixture.host, "checks no VF token"));
	tenon_device_close(vf);
	fixture_close(&trio.fixture);
}

Test(vf_token, pf_sets_it_where_binding_does_not)
{
	struct trio trio;
	init(&trio, TENON_INTERFACE_IOMMUFD);
	struct tenon_device *pf = open_device(&trio, trio.pf, TOKEN);
	cr_assert_arr_eq(trio.pf->vf_token, token_bytes, 16);
	tenon_device_close(pf);
	fixture_close(&trio.fixture);
}

Test(vf_token, replacing_what_users_of_vfs_may_know_is_warned_of)
{
	struct trio trio;
	init(&trio, TENON_INTERFACE_IOMMUFD);
	struct tenon_device *pf = open_device(&trio, trio.pf, TOKEN);
	cr_assert(host_logged(&trio.fixture.host, "in use with another: 0000:3b:10.0 (vfio-pci)"));
	tenon_device_close(pf);
	fake_device_driver(trio.vf, "nvme");
	trio.fixture.host.log_count = 0;
	pf = open_device(&trio, trio.pf, TOKEN);
	cr_assert_not(host_logged(&trio.fixture.host, "in use with another"), "a host driver knows no token");
	tenon_device_close(pf);
	fixture_close(&trio.fixture);
}

Test(vf_token, one_that_cannot_be_set_refuses_the_pf)
{
	struct trio trio;
	init(&trio, TENON_INTERFACE_IOMMUFD);
	fake_fail_kind(FAKE_FEATURE, 1, EIO);
	assert_refused(&trio, trio.pf, TOKEN, -EIO, "cannot set its VF token");
	cr_assert_eq(fake_ioas_count(), 0);
	fixture_close(&trio.fixture);
}

Test(vf_token, device_in_use_is_refused_as_such)
{
	struct trio trio;
	init(&trio, TENON_INTERFACE_IOMMUFD);
	trio.vf->open_elsewhere = true;
	assert_refused(&trio, trio.vf, TOKEN, -EBUSY, "already open");
	fixture_close(&trio.fixture);
}

/* ---- Devices that have no use for one ---- */

static void useless_token(enum tenon_interface interface)
{
	struct trio trio;
	struct fake_device *plain = fake_edu("0000:04:00.0");
	init(&trio, interface);
	assert_refused(&trio, plain, TOKEN, -EINVAL, "neither an SR-IOV PF nor a VF");
	fake_device_driver(trio.pf, "nvme");
	assert_refused(&trio, trio.vf, TOKEN, -EINVAL, "its PF 0000:3b:00.0 is nvme");
	tenon_device_close(open_device(&trio, trio.vf, NULL));
	fixture_close(&trio.fixture);
}

Test(vf_token, that_is_of_no_use_is_refused_in_words_on_a_container)
{
	useless_token(TENON_INTERFACE_CONTAINER);
}

Test(vf_token, that_is_of_no_use_is_refused_in_words_on_iommufd)
{
	useless_token(TENON_INTERFACE_IOMMUFD);
}

Test(vf_token, kernel_that_refuses_it_all_the_same_is_put_into_words)
{
	struct trio trio;
	init(&trio, TENON_INTERFACE_CONTAINER);
	fake_fail_kind(FAKE_GET_DEVICE_FD, 1, EINVAL);
	assert_refused(&trio, trio.pf, TOKEN, -EINVAL, "takes no VF token");
	fixture_close(&trio.fixture);
}

Test(vf_token, malformed_one_is_refused_before_anything_is_opened)
{
	struct trio trio;
	init(&trio, TENON_INTERFACE_AUTO);
	fake_calls_forget();
	assert_refused(&trio, trio.pf, "secret", -EINVAL, "UUID");
	cr_assert_eq(fake_calls(FAKE_OPEN), 0);
	fixture_close(&trio.fixture);
}

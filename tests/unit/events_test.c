// SPDX-License-Identifier: MIT
/* What the host has to say about a device that runs: uncorrectable errors, and the wish to have it back. */
#include <errno.h>
#include <poll.h>

#include <criterion/criterion.h>

#include "vfio_fixture.h"

TestSuite(events, .init = fake_world_reset);

static bool readable(const struct fixture *fixture)
{
	struct pollfd poll_fd = {.fd = tenon_device_event_fd(fixture->device), .events = POLLIN};
	cr_assert_geq(poll_fd.fd, 0);
	return poll(&poll_fd, 1, 0) == 1 && poll_fd.revents & POLLIN;
}

Test(events, quiet_device_has_none)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert(!readable(&fixture));
	cr_assert_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_NONE);
	fixture_close(&fixture);
}

Test(events, uncorrectable_error_is_reported_once)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert(fake_aer_error(fixture.fake), "nobody listens");
	cr_assert(readable(&fixture));
	cr_assert_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_ERROR);
	cr_assert(!readable(&fixture));
	cr_assert_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_NONE);
	fixture_close(&fixture);
}

Test(events, request_is_reported_once)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert(fake_device_request(fixture.fake), "nobody listens");
	cr_assert(readable(&fixture));
	cr_assert_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_REQUEST);
	cr_assert(!readable(&fixture));
	fixture_close(&fixture);
}

Test(events, both_are_reported)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	fake_aer_error(fixture.fake);
	fake_device_request(fixture.fake);
	enum tenon_device_event first = tenon_device_next_event(fixture.device);
	cr_assert(readable(&fixture));
	enum tenon_device_event second = tenon_device_next_event(fixture.device);
	cr_assert_eq(first + second, TENON_DEVICE_EVENT_ERROR + TENON_DEVICE_EVENT_REQUEST);
	cr_assert_neq(first, second);
	cr_assert(!readable(&fixture));
	fixture_close(&fixture);
}

Test(events, conventional_device_can_be_asked_back_too)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_edu("0000:04:00.0"));
	cr_assert(!fake_aer_error(fixture.fake));
	cr_assert(fake_device_request(fixture.fake));
	cr_assert_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_REQUEST);
	fixture_close(&fixture);
}

Test(events, are_heard_after_a_reset)
{
	struct fixture fixture;
	fixture_open(&fixture, fake_nvme("0000:3b:00.0"));
	cr_assert_eq(tenon_device_reset(fixture.device, NULL), 0);
	cr_assert(fake_device_request(fixture.fake));
	cr_assert_eq(tenon_device_next_event(fixture.device), TENON_DEVICE_EVENT_REQUEST);
	fixture_close(&fixture);
}

Test(events, device_works_without_them)
{
	/* An old kernel, or one that runs out of memory: the first SET_IRQS of an open device are for events. */
	for (unsigned n = 1; n <= 2; n++) {
		struct fixture fixture;
		struct fake_device *fake = fake_nvme(n == 1 ? "0000:3b:00.0" : "0000:3c:00.0");
		fixture_init(&fixture);
		fixture.fake = fake;
		const struct tenon_device_options options = fixture_options(&fixture, fake);
		fake_fail_kind(FAKE_SET_IRQS, n, ENOTTY);
		int code = tenon_device_open(&options, &fixture.device, &fixture.err);
		if (code < 0) {
			assert_message(&fixture.err, code);
		} else {
			cr_assert_gt(fixture.host.log_count, 0, "the loss is not logged");
			guest_place(&fixture);
		}
		fixture_close(&fixture);
	}
}

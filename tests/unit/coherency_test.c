// SPDX-License-Identifier: MIT
/* Whether the IOMMU makes a device's DMA coherent with the CPU caches: what is asked, and what is told. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "kernel.h"
#include "uapi.h"
#include "vfio_fixture.h"

TestSuite(coherency, .init = fake_world_reset);

static void use_interface(struct fixture *fixture, const struct tenon_space_options *options)
{
	fixture_init(fixture);
	tenon_space_destroy(fixture->space);
	cr_assert_eq(tenon_space_create(options, &fixture->space, NULL), 0);
}

static struct tenon_device *open_device(struct fixture *fixture, struct fake_device *fake)
{
	const struct tenon_device_options options = fixture_options(fixture, fake);
	struct tenon_device *device = NULL;
	int code = tenon_device_open(&options, &device, &fixture->err);
	cr_assert_eq(code, 0, "%s", fixture->err.message);
	return device;
}

static bool is_coherent(const struct tenon_device *device)
{
	return tenon_device_info(device)->coherent;
}

/* One after the other: a coherent device, one that is not, and again a coherent one, which the second does not taint. */
static void tell_apart(enum tenon_interface interface)
{
	const struct tenon_space_options options = {.size = sizeof(options), .interface = interface};
	struct fixture fixture;
	struct fake_device *fakes[3] = {fake_nvme("0000:3b:00.0"), fake_edu("0000:04:00.0"), fake_edu("0000:05:00.0")};
	struct tenon_device *devices[3];
	fakes[1]->non_coherent = true;
	use_interface(&fixture, &options);
	for (unsigned i = 0; i < 3; i++)
		devices[i] = open_device(&fixture, fakes[i]);
	cr_assert(is_coherent(devices[0]));
	cr_assert(!is_coherent(devices[1]));
	cr_assert(is_coherent(devices[2]));
	cr_assert_eq(fixture.host.log_count, 1);
	cr_assert_eq(fixture.host.logs[0].level, TENON_LOG_INFO);
	cr_assert(strstr(fixture.host.logs[0].text, "0000:04:00.0"), "%s", fixture.host.logs[0].text);
	cr_assert(strstr(fixture.host.logs[0].text, "WBINVD"), "%s", fixture.host.logs[0].text);
	for (unsigned i = 0; i < 3; i++)
		tenon_device_close(devices[i]);
	fixture_close(&fixture);
}

Test(coherency, device_that_lacks_it_is_told_from_the_others_on_iommufd)
{
	tell_apart(TENON_INTERFACE_IOMMUFD);
}

Test(coherency, device_that_lacks_it_is_told_from_the_others_on_a_container)
{
	tell_apart(TENON_INTERFACE_CONTAINER);
}

Test(coherency, iommu_that_sysfs_does_not_show_gets_the_kernel_s_answer)
{
	const struct tenon_space_options options = {.size = sizeof(options)};
	struct fixture fixture;
	struct fake_device *fake = fake_nvme("0000:3b:00.0");
	fake->non_coherent = true;
	use_interface(&fixture, &options);
	fake_fail_kind(FAKE_READ_LINE, 2, ENOENT); /* the first is the number of the character device */
	fixture.device = open_device(&fixture, fake);
	cr_assert(!is_coherent(fixture.device));
	fixture_close(&fixture);
}

static void kernel_does_not_say(enum tenon_interface interface, enum fake_call call)
{
	const struct tenon_space_options options = {.size = sizeof(options), .interface = interface};
	for (int lacks_it = 0; lacks_it < 2; lacks_it++) {
		fake_world_reset();
		struct fixture fixture;
		struct fake_device *fake = fake_nvme("0000:3b:00.0");
		fake->non_coherent = lacks_it;
		use_interface(&fixture, &options);
		fake_fail_kind(call, 1, ENOTTY);
		fixture.device = open_device(&fixture, fake);
		cr_assert_eq(is_coherent(fixture.device), !lacks_it, "sysfs tells");
		cr_assert(host_logged(&fixture.host, "does not say"));
		fixture_close(&fixture);
	}
}

Test(coherency, kernel_that_does_not_say_is_warned_of)
{
	kernel_does_not_say(TENON_INTERFACE_IOMMUFD, FAKE_VFIO_IOAS);
	kernel_does_not_say(TENON_INTERFACE_IOMMUFD, FAKE_CHECK_EXTENSION);
	kernel_does_not_say(TENON_INTERFACE_CONTAINER, FAKE_CHECK_EXTENSION);
}

/* Its owner may use a container's calls on it at any moment, so that not even a passing change is allowed. */
Test(coherency, borrowed_iommufd_s_compatibility_ioas_is_never_touched)
{
	for (int lacks_it = 0; lacks_it < 2; lacks_it++) {
		fake_world_reset();
		int iommufd = kernel_open("/dev/iommu", 2);
		struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
		cr_assert_eq(kernel_ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc), 0);
		struct iommu_vfio_ioas compat = {
			.size = sizeof(compat), .op = IOMMU_VFIO_IOAS_SET, .ioas_id = alloc.out_ioas_id};
		cr_assert_eq(kernel_ioctl(iommufd, IOMMU_VFIO_IOAS, &compat), 0);

		const struct tenon_space_options options = {.size = sizeof(options), .iommufd = iommufd};
		struct fixture fixture;
		struct fake_device *fake = fake_nvme("0000:3b:00.0");
		fake->non_coherent = lacks_it;
		use_interface(&fixture, &options);
		fake_calls_forget();
		fixture.device = open_device(&fixture, fake);
		cr_assert_eq(fake_calls(FAKE_VFIO_IOAS), 0);
		cr_assert_eq(is_coherent(fixture.device), !lacks_it, "sysfs tells");
		cr_assert(!host_logged(&fixture.host, "does not say"));
		tenon_device_close(fixture.device);
		tenon_space_destroy(fixture.space);
		kernel_close(iommufd);
		assert_nothing_left(&fixture);
	}
}

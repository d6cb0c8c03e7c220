// SPDX-License-Identifier: MIT
/* What isolates together: passthrough/group.h, and the words in which a group that is not free is refused. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "group.h"
#include "vfio_fixture.h"

TestSuite(group, .init = fake_world_reset);

static struct fake_device *member(const char *bdf, const char *driver)
{
	struct fake_device *device = fake_device_add(bdf, 0x8086, 0x1533, 17);
	fake_device_driver(device, driver);
	return device;
}

Test(group, number_is_read_from_sysfs)
{
	member("0000:3b:00.0", "vfio-pci");
	cr_assert_eq(group_of("/sys/bus/pci/devices/0000:3b:00.0"), 17);
}

Test(group, device_without_iommu_has_none)
{
	member("0000:3b:00.0", "vfio-pci")->group = -1;
	cr_assert_eq(group_of("/sys/bus/pci/devices/0000:3b:00.0"), -1);
	struct tenon_error err = {0};
	int code = group_check("0000:3b:00.0", -1, &err);
	cr_assert_eq(code, -ENODEV);
	assert_message(&err, code);
}

Test(group, free_group_is_accepted)
{
	member("0000:3b:00.0", "vfio-pci");
	member("0000:3b:00.1", "vfio-pci");
	cr_assert_eq(group_check("0000:3b:00.0", 17, NULL), 0);
}

Test(group, members_without_dma_of_their_own_do_not_block)
{
	member("0000:3b:00.0", "vfio-pci");
	member("0000:3a:00.0", "pcieport");
	member("0000:3b:00.1", "pci-stub");
	member("0000:3b:00.2", NULL);
	member("0000:3b:00.3", "mlx5_vfio_pci");
	cr_assert_eq(group_check("0000:3b:00.0", 17, NULL), 0);
}

Test(group, other_groups_do_not_block)
{
	member("0000:3b:00.0", "vfio-pci");
	member("0000:04:00.0", "nvme")->group = 18;
	cr_assert_eq(group_check("0000:3b:00.0", 17, NULL), 0);
}

Test(group, refusal_names_the_group_its_members_their_drivers_which_of_them_block_and_the_command)
{
	member("0000:3b:00.0", "vfio-pci");
	member("0000:3b:00.1", "snd_hda_intel");
	member("0000:3b:00.2", "xhci_hcd");
	member("0000:3b:00.3", NULL);
	struct tenon_error err = {0};
	int code = group_check("0000:3b:00.0", 17, &err);
	cr_assert_eq(code, -EBUSY);
	assert_message(&err, code);
	static const char *const words[] = {
		"0000:3b:00.0",
		"group 17",
		"0000:3b:00.1",
		"snd_hda_intel",
		"0000:3b:00.2",
		"xhci_hcd",
		"0000:3b:00.0 (vfio-pci)",
		"0000:3b:00.3 (no driver)",
		"tenon bind 0000:3b:00.1 0000:3b:00.2",
	};
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		cr_assert(strstr(err.message, words[i]), "\"%s\" is missing: %s", words[i], err.message);
}

Test(group, refusal_of_a_large_group_still_ends_with_the_command)
{
	member("0000:3b:00.0", "vfio-pci");
	for (unsigned i = 1; i < 15; i++) {
		char bdf[16];
		snprintf(bdf, sizeof(bdf), "0000:3c:%02x.0", i);
		member(bdf, "a_driver_with_a_long_name_0123");
	}
	struct tenon_error err = {0};
	int code = group_check("0000:3b:00.0", 17, &err);
	cr_assert_eq(code, -EBUSY);
	assert_message(&err, code);
	cr_assert(strstr(err.message, "tenon bind 0000:3c:01.0 0000:3c:02.0"), "%s", err.message);
}

Test(group, folder_that_cannot_be_read_is_an_error)
{
	member("0000:3b:00.0", "vfio-pci");
	fake_fail_kind(FAKE_LIST, 1, EACCES);
	struct tenon_error err = {0};
	int code = group_check("0000:3b:00.0", 17, &err);
	cr_assert_eq(code, -EACCES);
	assert_message(&err, code);
}

// SPDX-License-Identifier: MIT
/* From what a user types to one host device: passthrough/address.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "address.h"
#include "kernel.h"
#include "vfio_fixture.h"

TestSuite(address, .init = fake_world_reset);

Test(address, bdf_is_normalised)
{
	static const struct {
		const char *text, *bdf;
	} good[] = {
		{"0000:3b:00.0", "0000:3b:00.0"}, {"3b:00.0", "0000:3b:00.0"},
		{"3B:1F.7", "0000:3b:1f.7"},      {"1:2.3", "0000:01:02.3"},
		{"ffff:ff:1f.7", "ffff:ff:1f.7"}, {"10000:e1:00.0", "10000:e1:00.0"}, /* behind Intel VMD */
	};
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char bdf[ADDRESS_BDF_BYTES];
		cr_assert(address_parse_bdf(good[i].text, bdf), "%s is refused", good[i].text);
		cr_assert_str_eq(bdf, good[i].bdf);
	}
}

Test(address, what_is_no_bdf_is_refused)
{
	static const char *const bad[] = {
		"",
		"3b",
		"3b:00",
		"3b:00.",
		"3b:00.8",
		"3b:20.0",
		"0000:3b:00.0.0",
		"0000:3b:00.0x",
		" 3b:00.0",
		"3b:00.0 ",
		"+3b:00.0",
		"-1:00.0",
		"0x3b:00.0",
		"3b:0x1.0",
		"3b: 0.0",
		"0000:3b:00:0",
		"00000:3b:00.0x",
		"3b.00.0",
		"/dev/vfio/vfio",
		"vfio0",
		"3b:00.0\n",
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char bdf[ADDRESS_BDF_BYTES];
		cr_assert(!address_parse_bdf(bad[i], bdf), "\"%s\" is accepted", bad[i]);
	}
}

Test(address, socket_is_told_from_other_paths)
{
	struct address address;
	cr_assert_eq(address_find("vfio-user:/run/dev.sock", &address, NULL), 0);
	cr_expect_str_eq(address_of_socket(&address), "/run/dev.sock");
	cr_expect_str_eq(address.name, "vfio-user:/run/dev.sock");
	cr_expect_eq(address.group, -1);
	cr_expect(!address.bdf[0] && !address.path[0]);
	fake_nvme("0000:3b:00.0");
	cr_assert_eq(address_find("3b:00.0", &address, NULL), 0);
	cr_expect_null(address_of_socket(&address));
}

Test(address, device_is_found_by_bdf)
{
	fake_nvme("0000:02:00.0");
	fake_nvme("0000:3b:00.0");
	struct address address;
	cr_assert_eq(address_find("3b:00.0", &address, NULL), 0);
	cr_assert_str_eq(address.bdf, "0000:3b:00.0");
	cr_assert_str_eq(address.path, "/dev/vfio/devices/vfio1");
	cr_assert_str_eq(address.name, "0000:3b:00.0");
}

Test(address, device_is_found_by_its_node)
{
	fake_nvme("0000:02:00.0");
	fake_nvme("0000:3b:00.0");
	struct address address;
	cr_assert_eq(address_find("/dev/vfio/devices/vfio1", &address, NULL), 0);
	cr_assert_str_eq(address.bdf, "0000:3b:00.0");
	cr_assert_str_eq(address.name, "0000:3b:00.0");
}

Test(address, node_that_sysfs_does_not_know_is_taken_by_its_path)
{
	struct address address;
	cr_assert_eq(address_find("/run/passed/vfio-of-a-container", &address, NULL), 0);
	cr_assert_str_eq(address.bdf, "");
	cr_assert_str_eq(address.name, "/run/passed/vfio-of-a-container");
}

static void assert_refused(const char *text, int expected, const char *word)
{
	struct address address;
	struct tenon_error err = {0};
	int code = address_find(text, &address, &err);
	cr_assert_eq(code, expected, "%s gave %d: %s", text, code, err.message);
	assert_message(&err, code);
	cr_assert(strstr(err.message, word), "\"%s\" is missing: %s", word, err.message);
}

Test(address, absent_device_is_refused_with_the_command_that_lists_devices)
{
	assert_refused("0000:3b:00.0", -ENODEV, "lspci");
}

Test(address, device_without_a_driver_is_refused_with_the_command_that_binds_it)
{
	fake_device_driver(fake_nvme("0000:3b:00.0"), NULL);
	assert_refused("0000:3b:00.0", -ENODEV, "tenon bind 0000:3b:00.0");
}

Test(address, device_with_a_host_driver_is_refused_with_its_name)
{
	fake_device_driver(fake_nvme("0000:3b:00.0"), "nvme");
	assert_refused("0000:3b:00.0", -EBUSY, "nvme");
	assert_refused("0000:3b:00.0", -EBUSY, "tenon bind 0000:3b:00.0");
}

Test(address, vfio_without_character_devices_is_found_by_its_group)
{
	fake_nvme("0000:3b:00.0");
	fake_set_cdevs(false);
	struct address address;
	cr_assert_eq(address_find("0000:3b:00.0", &address, NULL), 0);
	cr_assert_str_eq(address.path, "");
	cr_assert_eq(address.group, 0x3b);
}

Test(address, kernel_that_shows_nothing_but_the_driver_is_believed)
{
	fake_nvme("0000:3b:00.0")->node = -1;
	struct address address;
	cr_assert_eq(address_find("0000:3b:00.0", &address, NULL), 0);
	cr_assert_str_eq(address.path, "");
}

#define UUID "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

Test(address, mediated_device_is_found_by_its_uuid)
{
	fake_device_mediated(fake_nvme("0000:3b:00.0"), UUID);
	struct address address;
	cr_assert_eq(address_find(UUID, &address, NULL), 0);
	cr_assert_str_eq(address.uuid, UUID);
	cr_assert_str_eq(address.bdf, "");
	cr_assert_str_eq(address.name, UUID);
	cr_assert_str_eq(address_of_device(&address), UUID);
	cr_assert_str_eq(address.path, "/dev/vfio/devices/vfio0");
	cr_assert_eq(address.group, 0x3b);
}

Test(address, mediated_device_is_found_by_its_node)
{
	fake_device_mediated(fake_nvme("0000:3b:00.0"), UUID);
	struct address address;
	cr_assert_eq(address_find("/dev/vfio/devices/vfio0", &address, NULL), 0);
	cr_assert_str_eq(address.uuid, UUID);
	cr_assert_eq(address.group, 0x3b);
}

Test(address, absent_mediated_device_is_refused_with_the_command_that_makes_one)
{
	fake_nvme("0000:3b:00.0");
	assert_refused(UUID, -ENODEV, "mdevctl");
}

Test(address, text_that_is_neither_address_nor_path_is_refused_with_examples)
{
	assert_refused("nvme0", -EINVAL, "0000:3b:00.0");
}

Test(address, path_that_is_too_long_is_refused)
{
	char path[200];
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_refused(path, -ENAMETOOLONG, "; ");
}

Test(address, passed_fd_is_recognised)
{
	fake_nvme("0000:3b:00.0");
	int fd = kernel_open("/dev/vfio/devices/vfio0", 2);
	struct address address;
	address_of_fd(fd, &address);
	cr_assert_str_eq(address.bdf, "0000:3b:00.0");
	cr_assert_str_eq(address.path, "/dev/vfio/devices/vfio0");
	kernel_close(fd);
}

Test(address, passed_fd_of_unknown_origin_is_named_by_its_number)
{
	fake_nvme("0000:3b:00.0");
	int fd = kernel_open("/dev/vfio/devices/vfio0", 2);
	fake_fail_always(FAKE_FD_PATH, EACCES);
	struct address address;
	address_of_fd(fd, &address);
	cr_assert_str_eq(address.bdf, "");
	cr_assert_str_eq(address.path, "");
	char name[16];
	snprintf(name, sizeof(name), "fd %d", fd);
	cr_assert_str_eq(address.name, name);
	kernel_close(fd);
}

// SPDX-License-Identifier: MIT
/* tenon vf on a made-up host: what is made, what is refused, and in which words. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "admin_host.h"
#include "commands.h"

#define PORT "0000:00:00.0"
#define PF   "0000:01:00.0"
#define VF0  "0000:01:10.0"
#define VF1  "0000:01:10.1"

static void make_host(void)
{
	fake_host_create();
	fake_iommu(0x88);
	fake_driver("vfio-pci");
	fake_pci(&(struct fake_pci){.bdf = PORT, .class_code = 0x060400, .group = 1, .driver = "pcieport"});
	fake_pci(&(struct fake_pci){
		.bdf = PF, .above = PORT, .class_code = 0x020000, .group = 17, .driver = "igb", .vfs_total = 7});
}

TestSuite(admin_vf, .init = make_host, .fini = fake_host_destroy);

static struct tenon_error error;

static int run(struct options options)
{
	error.code = 0;
	while (options.arguments[options.argument_count])
		options.argument_count++;
	return command_vf(&fake_host, &options, &error);
}

#define VF(...) run((struct options){.arguments = {__VA_ARGS__}})

static const char *driver_of(const char *bdf)
{
	static char driver[64];
	host_link_name(&fake_host, driver, sizeof(driver), "/sys/bus/pci/devices/%s/driver", bdf);
	return driver;
}

static void bind_to_vfio(const char *bdf)
{
	struct options options = {.arguments = {bdf}, .argument_count = 1, .force = true};
	cr_assert_eq(command_bind(&fake_host, &options, &error), STATUS_OK, "%s", error.message);
}

Test(admin_vf, vfs_get_no_driver_of_the_host)
{
	cr_assert_eq(VF("create", PF, "2"), STATUS_OK, "%s", error.message);
	cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" PF "/sriov_numvfs"), "2");
	cr_assert_str_eq(driver_of(VF0), "");
	cr_assert_str_eq(driver_of(VF1), "");
	cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" PF "/sriov_drivers_autoprobe"), "1");
}

Test(admin_vf, autoprobe_lets_the_host_take_them)
{
	cr_assert_eq(run((struct options){.arguments = {"create", PF, "1"}, .autoprobe = true}), STATUS_OK);
	cr_assert_str_eq(driver_of(VF0), "igb");
}

Test(admin_vf, autoprobe_is_as_it_was_after_a_failure)
{
	fake_fail_write("sriov_numvfs", 1, ENOMEM);
	cr_assert_eq(VF("create", PF, "2"), STATUS_FAILED);
	cr_assert_str_eq(error.message, PF ": cannot set sriov_numvfs to 2: Cannot allocate memory; dmesg says more");
	cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" PF "/sriov_drivers_autoprobe"), "1");
}

Test(admin_vf, autoprobe_that_cannot_be_set_stops_before_any_vf)
{
	fake_fail_write("sriov_drivers_autoprobe", 1, EACCES);
	cr_assert_eq(VF("create", PF, "2"), STATUS_FAILED);
	cr_assert_str_eq(error.message, PF ": cannot set sriov_drivers_autoprobe: Permission denied; run it as root");
	cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" PF "/sriov_numvfs"), "0");
}

Test(admin_vf, count_is_held_against_the_device)
{
	static const char *const wrong[] = {"0", "8", "-1", "two", "2x", ""};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		cr_assert_eq(VF("create", PF, wrong[i]), STATUS_USAGE, "%s", wrong[i]);
		cr_assert(strstr(error.message, "not a number from 1 to 7"), "%s", error.message);
	}
	cr_assert_eq(fake_writes("/sys"), 0);
}

Test(admin_vf, wrong_verbs_are_usage)
{
	cr_assert_eq(VF("make", PF, "1"), STATUS_USAGE);
	cr_assert_eq(VF("create", PF), STATUS_USAGE);
	cr_assert_eq(VF("destroy"), STATUS_USAGE);
	cr_assert_str_eq(error.message, "tenon vf: not understood; it is create PF N, list [PF], or destroy PF");
}

Test(admin_vf, number_changes_only_by_way_of_none)
{
	cr_assert_eq(VF("create", PF, "2"), STATUS_OK);
	cr_assert_eq(VF("create", PF, "3"), STATUS_FAILED);
	cr_assert_str_eq(error.message,
			 PF ": has 2 VFs already, and the kernel changes their number only by way of none; tenon vf "
			    "destroy " PF);
}

Test(admin_vf, pf_without_driver_and_device_without_sriov_are_refused)
{
	fake_remove(fake_path(PF, "/driver"));
	cr_assert_eq(VF("create", PF, "2"), STATUS_FAILED);
	cr_assert(strstr(error.message, "has no driver, and VFs are made by the PF's driver"), "%s", error.message);
	cr_assert_eq(VF("create", PORT, "2"), STATUS_FAILED);
	cr_assert(strstr(error.message, "has no SR-IOV that the kernel uses"), "%s", error.message);
}

Test(admin_vf, vf_is_no_pf)
{
	cr_assert_eq(VF("create", PF, "1"), STATUS_OK);
	cr_assert_eq(VF("destroy", VF0), STATUS_FAILED);
	cr_assert_str_eq(error.message, VF0 ": is a VF; VFs are made from its PF: tenon vf list " PF);
}

Test(admin_vf, pf_on_vfio_needs_enable_sriov)
{
	bind_to_vfio(PF);
	cr_assert_eq(VF("create", PF, "2"), STATUS_FAILED);
	cr_assert(strstr(error.message, "echo Y > /sys/module/vfio_pci/parameters/enable_sriov"), "%s", error.message);
	fake_file("/sys/module/vfio_pci/parameters/enable_sriov", "Y\n");
	cr_assert_eq(VF("create", PF, "2"), STATUS_OK, "%s", error.message);
	/* vfio-pci takes its VFs itself, so that no host driver can. */
	cr_assert_eq(fake_writes("sriov_drivers_autoprobe"), 0);
}

Test(admin_vf, vfs_in_use_are_not_destroyed_without_force)
{
	cr_assert_eq(VF("create", PF, "2"), STATUS_OK);
	bind_to_vfio(VF1);
	fake_open(500, "tenon", "/dev/vfio/devices/vfio0");
	cr_assert_eq(VF("destroy", PF), STATUS_FAILED);
	cr_assert_str_eq(error.message, PF
			 ": its VF " VF1 " (driver vfio-pci, IOMMU group 101) is in use: process 500 (tenon) has it "
			 "through VFIO: /dev/vfio/devices/vfio0; end the VM: kill 500, or take it away with --force");
	cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" PF "/sriov_numvfs"), "2");
	cr_assert_eq(run((struct options){.arguments = {"destroy", PF}, .force = true}), STATUS_OK);
	cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" PF "/sriov_numvfs"), "0");
}

Test(admin_vf, destroying_forgets_what_the_vfs_had)
{
	cr_assert_eq(VF("create", PF, "2"), STATUS_OK);
	bind_to_vfio(VF0);
	cr_assert(fake_has("/run/tenon/bind/" VF0));
	cr_assert_eq(VF("destroy", PF), STATUS_OK, "%s", error.message);
	cr_assert_not(fake_has("/run/tenon/bind/" VF0));
	cr_assert_eq(VF("destroy", PF), STATUS_OK);
}

Test(admin_vf, interface_of_a_vf_that_is_up_is_use)
{
	cr_assert_eq(VF("create", PF, "1"), STATUS_OK);
	fake_interface(VF0, "eth7", 0x1003);
	cr_assert_eq(VF("destroy", PF), STATUS_FAILED);
	cr_assert(strstr(error.message, "network interface eth7 is up; ip link set eth7 down"), "%s", error.message);
}

Test(admin_vf, list_is_of_a_pf_or_of_all)
{
	cr_assert_eq(VF("list"), STATUS_OK);
	cr_assert_eq(VF("list", PF), STATUS_OK);
	cr_assert_eq(VF("list", PORT), STATUS_FAILED);
	cr_assert_eq(run((struct options){.arguments = {"list"}, .json = true}), STATUS_OK);
}

// SPDX-License-Identifier: MIT
/* tenon bind and unbind on a made-up host: state, rollback, refusals. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "admin_host.h"
#include "commands.h"

#define NVME  "0000:01:00.0"
#define SOUND "0000:01:00.1"
#define NIC   "0000:02:00.0"

static void make_host(void)
{
	fake_host_create();
	fake_iommu(0x88);
	fake_driver("vfio-pci");
	fake_pci(&(struct fake_pci){.bdf = "0000:00:00.0", .class_code = 0x060400, .group = 1, .driver = "pcieport"});
	fake_pci(&(struct fake_pci){.bdf = "0000:00:01.0", .class_code = 0x060400, .group = 2, .driver = "pcieport"});
	fake_pci(&(struct fake_pci){
		.bdf = NVME, .above = "0000:00:00.0", .class_code = 0x010802, .group = 17, .driver = "nvme"});
	fake_pci(&(struct fake_pci){
		.bdf = SOUND, .above = "0000:00:00.0", .class_code = 0x040300, .group = 17, .driver = "snd_hda_intel"});
	fake_pci(&(struct fake_pci){
		.bdf = NIC, .above = "0000:00:01.0", .class_code = 0x020000, .group = 18, .driver = "e1000e"});
}

TestSuite(admin_bind, .init = make_host, .fini = fake_host_destroy);

static struct tenon_error error;

static int bind(struct options options)
{
	error.code = 0;
	while (options.argument_count < ARGUMENTS_MAX && options.arguments[options.argument_count])
		options.argument_count++;
	return command_bind(&fake_host, &options, &error);
}

static int unbind(struct options options)
{
	error.code = 0;
	while (options.argument_count < ARGUMENTS_MAX && options.arguments[options.argument_count])
		options.argument_count++;
	return command_unbind(&fake_host, &options, &error);
}

static const char *driver_of(const char *bdf)
{
	static char driver[64];
	host_link_name(&fake_host, driver, sizeof(driver), "/sys/bus/pci/devices/%s/driver", bdf);
	return driver;
}

#define BIND(...)   bind((struct options){.arguments = {__VA_ARGS__}})
#define UNBIND(...) unbind((struct options){.arguments = {__VA_ARGS__}})

Test(admin_bind, device_goes_to_vfio_and_comes_back_to_its_driver)
{
	cr_assert_eq(BIND(NVME), STATUS_OK, "%s", error.message);
	cr_assert_str_eq(driver_of(NVME), "vfio-pci");
	cr_assert_str_eq(fake_read("/run/tenon/bind/" NVME), "driver=nvme");
	cr_assert_eq(UNBIND(NVME), STATUS_OK, "%s", error.message);
	cr_assert_str_eq(driver_of(NVME), "nvme");
	cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" NVME "/driver_override"), "(null)");
	cr_assert_not(fake_has("/run/tenon/bind/" NVME));
}

Test(admin_bind, short_address_is_understood)
{
	cr_assert_eq(BIND("01:00.0"), STATUS_OK);
	cr_assert_str_eq(driver_of(NVME), "vfio-pci");
}

Test(admin_bind, device_without_driver_goes_back_to_none)
{
	fake_remove(fake_path(NIC, "/driver"));
	cr_assert_eq(BIND(NIC), STATUS_OK, "%s", error.message);
	cr_assert_eq(UNBIND(NIC), STATUS_OK, "%s", error.message);
	cr_assert_str_eq(driver_of(NIC), "");
}

Test(admin_bind, previous_override_comes_back)
{
	fake_driver("pci-stub");
	fake_file(fake_path(NIC, "/driver_override"), "e1000e\n");
	cr_assert_eq(BIND(NIC), STATUS_OK);
	cr_assert_eq(UNBIND(NIC), STATUS_OK);
	cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" NIC "/driver_override"), "e1000e");
	cr_assert_str_eq(driver_of(NIC), "e1000e");
}

Test(admin_bind, binding_twice_keeps_the_first_memory_and_writes_nothing)
{
	cr_assert_eq(BIND(NVME), STATUS_OK);
	unsigned writes = fake_writes("/sys");
	cr_assert_eq(BIND(NVME), STATUS_OK);
	cr_assert_eq(fake_writes("/sys"), writes);
	cr_assert_str_eq(fake_read("/run/tenon/bind/" NVME), "driver=nvme");
}

Test(admin_bind, another_vfio_driver_keeps_the_memory_of_the_host_driver)
{
	fake_module("mlx5_vfio_pci", NULL);
	cr_assert_eq(BIND(NVME), STATUS_OK);
	cr_assert_eq(bind((struct options){.arguments = {NVME}, .driver = "mlx5_vfio_pci"}), STATUS_OK, "%s",
		     error.message);
	cr_assert_str_eq(driver_of(NVME), "mlx5_vfio_pci");
	cr_assert_eq(UNBIND(NVME), STATUS_OK);
	cr_assert_str_eq(driver_of(NVME), "nvme");
}

Test(admin_bind, module_is_loaded_when_the_driver_is_absent)
{
	fake_remove("/sys/bus/pci/drivers/vfio-pci");
	cr_assert_eq(BIND(NVME), STATUS_FAILED);
	cr_assert_str_eq(error.message,
			 "vfio-pci: the kernel has no such PCI driver, and modprobe vfio-pci failed; the "
			 "kernel needs CONFIG_VFIO_PCI");
	cr_assert_str_eq(driver_of(NVME), "nvme");
	fake_module("vfio-pci", NULL);
	cr_assert_eq(BIND(NVME), STATUS_OK, "%s", error.message);
}

Test(admin_bind, driver_name_cannot_leave_its_folder)
{
	cr_assert_eq(bind((struct options){.arguments = {NVME}, .driver = "../../devices"}), STATUS_USAGE);
	cr_assert_eq(fake_writes("/sys"), 0);
}

Test(admin_bind, group_takes_every_member_but_bridges)
{
	cr_assert_eq(bind((struct options){.arguments = {NVME}, .group = true}), STATUS_OK, "%s", error.message);
	cr_assert_str_eq(driver_of(NVME), "vfio-pci");
	cr_assert_str_eq(driver_of(SOUND), "vfio-pci");
	cr_assert_str_eq(driver_of(NIC), "e1000e");
	cr_assert_eq(unbind((struct options){.arguments = {SOUND}, .group = true}), STATUS_OK);
	cr_assert_str_eq(driver_of(NVME), "nvme");
	cr_assert_str_eq(driver_of(SOUND), "snd_hda_intel");
}

Test(admin_bind, bridge_is_refused)
{
	cr_assert_eq(BIND("0000:00:00.0"), STATUS_FAILED);
	cr_assert_str_eq(error.message, "0000:00:00.0: is a bridge or the like, part of the host's own tree (driver "
					"pcieport); bind the devices below it");
}

Test(admin_bind, no_device_is_touched_when_one_of_them_is_refused)
{
	cr_assert_eq(BIND(NVME, SOUND, "0000:00:00.0"), STATUS_FAILED);
	cr_assert_eq(BIND(NVME, "0000:7f:00.0"), STATUS_FAILED);
	cr_assert_str_eq(error.message,
			 "0000:7f:00.0: the host has no such PCI device; tenon devices lists those it has");
	cr_assert_eq(fake_writes("/sys"), 0);
}

Test(admin_bind, device_without_group_is_refused)
{
	fake_remove(fake_path(NIC, "/iommu_group"));
	cr_assert_eq(BIND(NIC), STATUS_FAILED);
	cr_assert(strstr(error.message, "has no IOMMU group: no IOMMU of the host covers it"), "%s", error.message);
}

Test(admin_bind, mounted_disk_is_refused_without_force)
{
	fake_disk(NVME, "nvme0n1", 0);
	fake_file("/proc/self/mountinfo", "30 1 259:1 / /data rw - ext4 /dev/nvme0n1p1 rw\n");
	cr_assert_eq(BIND(NVME), STATUS_FAILED);
	cr_assert_str_eq(error.message,
			 NVME ": the host uses it (driver nvme): /dev/nvme0n1p1 is mounted on /data; umount "
			      "/data, or take it away with --force");
	cr_assert_eq(fake_writes("/sys"), 0);
	cr_assert_eq(bind((struct options){.arguments = {NVME}, .force = true}), STATUS_OK);
	cr_assert_str_eq(driver_of(NVME), "vfio-pci");
}

Test(admin_bind, disk_that_something_unnamed_claims_is_refused)
{
	fake_disk(NVME, "nvme0n1", 0);
	fake_claim("/dev/nvme0n1");
	cr_assert_eq(BIND(NVME), STATUS_FAILED);
	cr_assert(strstr(error.message, "something on the host has /dev/nvme0n1 for itself"), "%s", error.message);
}

Test(admin_bind, interface_that_is_up_is_refused_and_names_its_route)
{
	fake_interface(NIC, "eth0", 0x1003);
	fake_file("/proc/net/route",
		  "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
		  "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	cr_assert_eq(BIND(NIC), STATUS_FAILED);
	cr_assert_str_eq(error.message,
			 NIC ": the host uses it (driver e1000e): network interface eth0 is up and carries the default "
			     "route; ip link set eth0 down, or take it away with --force");
}

Test(admin_bind, dry_run_changes_nothing)
{
	cr_assert_eq(bind((struct options){.arguments = {NVME}, .dry_run = true}), STATUS_OK);
	cr_assert_eq(fake_writes("/sys"), 0);
	cr_assert_not(fake_has("/run/tenon"));
}

Test(admin_bind, driver_that_refuses_the_device_leaves_it_as_it_was)
{
	fake_driver_refuses("vfio-pci");
	cr_assert_eq(BIND(NVME), STATUS_FAILED);
	cr_assert_str_eq(error.message, NVME ": vfio-pci did not take it; dmesg says why");
	cr_assert_str_eq(driver_of(NVME), "nvme");
	cr_assert_not(fake_has("/run/tenon/bind/" NVME));
}

/* Each write of a bind of two devices fails once; both must have their drivers again, and no note may stay. */
Test(admin_bind, failure_half_way_puts_everything_back)
{
	static const char *const parts[] = {"driver_override", "unbind", "drivers_probe"};
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned nth = 1; nth <= 2; nth++) {
			fake_fail_write(parts[i], nth, EIO);
			cr_assert_eq(BIND(NVME, NIC), STATUS_FAILED, "%s %u", parts[i], nth);
			cr_assert_eq(error.code, -EIO);
			cr_assert_str_eq(driver_of(NVME), "nvme", "%s %u", parts[i], nth);
			cr_assert_str_eq(driver_of(NIC), "e1000e", "%s %u", parts[i], nth);
			cr_assert_not(fake_has("/run/tenon/bind/" NVME), "%s %u", parts[i], nth);
			cr_assert_not(fake_has("/run/tenon/bind/" NIC), "%s %u", parts[i], nth);
			cr_assert_str_eq(fake_read("/sys/bus/pci/devices/" NIC "/driver_override"), "(null)");
		}
	}
}

Test(admin_bind, permission_failure_says_root)
{
	fake_fail_write("driver_override", 1, EACCES);
	cr_assert_eq(BIND(NVME), STATUS_FAILED);
	cr_assert_str_eq(error.message, NVME ": cannot set driver_override: Permission denied; run it as root");
}

Test(admin_bind, device_of_a_running_vm_is_neither_rebound_nor_given_back)
{
	cr_assert_eq(BIND(NIC), STATUS_OK);
	fake_open(4242, "tenon", "/dev/vfio/devices/vfio0");
	unsigned writes = fake_writes("/sys");
	cr_assert_eq(UNBIND(NIC), STATUS_FAILED);
	cr_assert_str_eq(error.message,
			 NIC ": process 4242 (tenon) has it through VFIO: /dev/vfio/devices/vfio0, IOMMU group "
			     "18; end the VM: kill 4242");
	cr_assert_eq(fake_writes("/sys"), writes);
}

Test(admin_bind, unbind_without_memory_lets_the_kernel_choose)
{
	cr_assert_eq(BIND(NVME), STATUS_OK);
	fake_remove("/run/tenon/bind");
	cr_assert_eq(UNBIND(NVME), STATUS_OK);
	cr_assert_str_eq(driver_of(NVME), "nvme");
}

Test(admin_bind, unbind_of_a_host_device_changes_nothing)
{
	cr_assert_eq(UNBIND(NVME), STATUS_OK);
	cr_assert_eq(fake_writes("/sys"), 0);
}

Test(admin_bind, damaged_memory_is_refused_by_name)
{
	cr_assert_eq(BIND(NVME), STATUS_OK);
	static const char *const damaged[] = {"", "driver=nvme", "driver=../../x\noverride=\n", "override=\n",
					      "driver=n\x1bme\noverride=\n"};
	for (unsigned i = 0; i < 5; i++) {
		fake_file("/run/tenon/bind/" NVME, "%s", damaged[i]);
		cr_assert_eq(UNBIND(NVME), STATUS_FAILED, "%u", i);
		cr_assert_str_eq(error.message, NVME ": the note of its previous driver, /run/tenon/bind/" NVME
						     ", is damaged; remove that file");
	}
	cr_assert_str_eq(driver_of(NVME), "vfio-pci");
}

Test(admin_bind, unbind_loads_the_previous_driver_when_its_module_went_away)
{
	cr_assert_eq(BIND(NVME), STATUS_OK);
	fake_remove("/sys/bus/pci/drivers/nvme");
	cr_assert_eq(UNBIND(NVME), STATUS_FAILED);
	cr_assert_str_eq(error.message,
			 NVME ": its driver nvme is gone from the kernel; modprobe it, then run this again");
	cr_assert(fake_has("/run/tenon/bind/" NVME));
	fake_module("nvme", fake_read("/sys/bus/pci/devices/" NVME "/modalias"));
	cr_assert_eq(UNBIND(NVME), STATUS_OK, "%s", error.message);
	cr_assert_str_eq(driver_of(NVME), "nvme");
}

Test(admin_bind, unbind_takes_the_device_from_a_driver_that_was_quicker)
{
	cr_assert_eq(BIND(NVME), STATUS_OK);
	fake_driver("other");
	fake_file(fake_path(NVME, "/.home"), "other\n");
	cr_assert_eq(UNBIND(NVME), STATUS_OK, "%s", error.message);
	cr_assert_str_eq(driver_of(NVME), "nvme");
}

// SPDX-License-Identifier: MIT
/* "Can be assigned", word for word, and what counts as use by the host. */
#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "admin_host.h"
#include "verdict.h"

#define PORT  "0000:00:00.0"
#define NVME  "0000:01:00.0"
#define SOUND "0000:01:00.1"

static struct inventory inventory;
static struct activity activity;

static void make_host(void)
{
	fake_host_create();
	fake_iommu(0x88);
	fake_pci(&(struct fake_pci){.bdf = PORT, .class_code = 0x060400, .group = 17, .driver = "pcieport"});
	fake_pci(&(struct fake_pci){.bdf = NVME, .above = PORT, .class_code = 0x010802, .group = 17, .driver = "nvme"});
}

static void finish_host(void)
{
	activity_finish(&activity);
	inventory_finish(&inventory);
	fake_host_destroy();
}

TestSuite(admin_verdict, .init = make_host, .fini = finish_host);

static const struct facts *read_facts(void)
{
	static struct facts facts;
	struct tenon_error err = {0};
	activity_finish(&activity);
	inventory_finish(&inventory);
	cr_assert_eq(inventory_read(&fake_host, &inventory, &err), 0, "%s", err.message);
	activity_read(&fake_host, &activity);
	facts = (struct facts){&fake_host, &inventory, &activity};
	return &facts;
}

static const char *say(const char *bdf)
{
	static char line[640];
	struct verdict verdict;
	const struct facts *facts = read_facts();
	verdict_of_device(facts, inventory_find(&inventory, bdf), &verdict);
	verdict_print(&verdict, line, sizeof(line));
	return line;
}

static const char *say_group(int group)
{
	static char line[640];
	struct verdict verdict;
	verdict_of_group(read_facts(), group, &verdict);
	snprintf(line, sizeof(line), "%s|%s|%s", verdict_word(verdict.kind), verdict.because, verdict.action);
	return line;
}

Test(admin_verdict, spare_device_is_one_command_away)
{
	cr_assert_str_eq(say(NVME), "yes, after: tenon bind " NVME);
	cr_assert_str_eq(say_group(17), "after-bind|" NVME " (driver nvme)|tenon bind --group " NVME);
}

Test(admin_verdict, bound_device_is_ready)
{
	fake_pci(&(struct fake_pci){.bdf = "0000:00:05.0", .class_code = 0x020000, .group = 5, .driver = "vfio-pci"});
	cr_assert_str_eq(say("0000:00:05.0"), "yes: tenon run --kernel FILE --device 0000:00:05.0");
	cr_assert_str_eq(say_group(5), "yes||tenon run --kernel FILE --device 0000:00:05.0");
}

Test(admin_verdict, bridge_is_never_assigned_and_does_not_block)
{
	cr_assert_str_eq(
		say(PORT),
		"no, because it is a bridge, part of the host's own tree; do: assign a device below it instead");
	fake_pci(&(struct fake_pci){.bdf = "0000:00:1e.0", .class_code = 0x060400, .group = 9, .driver = "pcieport"});
	cr_assert_str_eq(
		say_group(9),
		"never|it holds nothing but bridges, part of the host's own tree|assign devices of other groups");
}

Test(admin_verdict, member_of_the_group_that_the_host_uses_is_named_with_its_driver_and_use)
{
	fake_pci(&(struct fake_pci){
		.bdf = SOUND, .above = PORT, .class_code = 0x020000, .group = 17, .driver = "e1000e"});
	cr_assert_str_eq(say(NVME), "no, because it shares IOMMU group 17 with " SOUND
				    " (driver e1000e), which the host uses; do: "
				    "tenon bind --group " NVME);
	fake_interface(SOUND, "eth1", 0x1003);
	cr_assert_str_eq(say(NVME), "no, because it shares IOMMU group 17 with " SOUND
				    " (driver e1000e: network interface eth1 is "
				    "up), which the host uses; do: tenon bind --group " NVME);
	cr_assert_str_eq(say_group(17),
			 "no|" NVME " (driver nvme), " SOUND
			 " (driver e1000e: network interface eth1 is up) in use|ip link set eth1 down, then tenon "
			 "bind --group " NVME);
}

Test(admin_verdict, no_iommu_and_no_group_are_different_reasons)
{
	fake_remove(fake_path(NVME, "/iommu_group"));
	cr_assert_str_eq(
		say(NVME),
		"no, because it has no IOMMU group: no IOMMU of the host covers it; do: use another slot of the "
		"machine; tenon doctor says more");
	fake_remove("/sys/class/iommu");
	fake_remove("/sys/kernel/iommu_groups");
	cr_assert_str_eq(
		say(NVME),
		"no, because the host's IOMMU is off, so nothing could confine its DMA; do: turn the IOMMU on; "
		"tenon doctor says how");
}

Test(admin_verdict, device_that_does_not_answer)
{
	uint8_t ones[64];
	memset(ones, 0xff, sizeof(ones));
	fake_config(NVME, 0, ones, sizeof(ones));
	cr_assert(strstr(say(NVME), "no, because it does not answer: its config space reads ones; do: echo 1 > "), "%s",
		  say(NVME));
}

Test(admin_verdict, boot_display_is_in_use)
{
	fake_file(fake_path(NVME, "/boot_vga"), "1\n");
	cr_assert_str_eq(say(NVME),
			 "no, because it is the display that the host booted with; do: give the host another console "
			 "first, then tenon bind " NVME);
}

Test(admin_verdict, root_disk_can_not_be_spared)
{
	fake_disk(NVME, "nvme0n1", 0);
	fake_file("/proc/self/mountinfo", "22 1 0:20 / /proc rw - proc proc rw\n"
					  "30 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw\n");
	cr_assert_str_eq(
		say(NVME),
		"no, because /dev/nvme0n1p1 is mounted on /; do: nothing: the host runs from it and cannot spare "
		"it");
}

Test(admin_verdict, mounts_are_found_by_number_and_by_source)
{
	fake_disk(NVME, "nvme0n1", 0);
	/* btrfs shows a number of its own. */
	fake_file("/proc/self/mountinfo", "30 1 0:44 /@ /pool rw - btrfs /dev/nvme0n1 rw\n");
	cr_assert_str_eq(say(NVME),
			 "no, because /dev/nvme0n1 is mounted on /pool; do: umount /pool, then tenon bind " NVME);
	fake_file("/proc/self/mountinfo", "30 1 0:44 /@ /pool rw - btrfs /dev/sda rw\n");
	fake_link("/sys/fs/btrfs/uuid/devices/nvme0n1p1", "/sys/class/block/nvme0n1p1");
	cr_assert_str_eq(
		say(NVME),
		"no, because /dev/nvme0n1p1 belongs to a mounted btrfs; do: unmount it, then tenon bind " NVME);
}

Test(admin_verdict, what_is_built_on_a_disk_is_followed_to_its_mount)
{
	fake_disk(NVME, "nvme0n1", 0);
	fake_file("/sys/devices/virtual/block/dm-0/dev", "254:0\n");
	fake_file("/sys/devices/virtual/block/dm-0/dm/name", "vg-home\n");
	fake_link("/sys/class/block/dm-0", "/sys/devices/virtual/block/dm-0");
	fake_link("/sys/class/block/nvme0n1p1/holders/dm-0", "/sys/class/block/dm-0");
	cr_assert_str_eq(say(NVME),
			 "no, because /dev/nvme0n1p1 belongs to /dev/dm-0 (vg-home); do: dmsetup remove vg-home, then "
			 "tenon bind " NVME);
	fake_file("/proc/self/mountinfo", "30 1 254:0 / /home rw - ext4 /dev/mapper/vg-home rw\n");
	cr_assert_str_eq(say(NVME),
			 "no, because /dev/nvme0n1p1 belongs to /dev/dm-0 (vg-home), which is mounted on /home; do: "
			 "umount /home, then tenon bind " NVME);
}

Test(admin_verdict, holders_in_a_ring_end)
{
	fake_disk(NVME, "nvme0n1", 0);
	fake_link("/sys/class/block/md0", "/sys/devices/virtual/block/md0");
	fake_folder("/sys/devices/virtual/block/md0/holders");
	fake_link("/sys/class/block/nvme0n1/holders/md0", "/sys/class/block/md0");
	fake_link("/sys/class/block/md0/holders/md0", "/sys/class/block/md0");
	cr_assert(strncmp(say(NVME), "no, because /dev/nvme0n1 belongs to /dev/md0", 44) == 0, "%s", say(NVME));
}

Test(admin_verdict, multipath_namespace_counts_for_its_controller)
{
	fake_file(fake_path(NVME, "/nvme/nvme0/dev"), "240:0\n");
	fake_link(fake_path(NVME, "/nvme/nvme0/subsystem"), "/sys/class/nvme");
	fake_file("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/size", "1000\n");
	fake_file("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/dev", "259:7\n");
	fake_link("/sys/class/nvme-subsystem/nvme-subsys0", "/sys/devices/virtual/nvme-subsystem/nvme-subsys0");
	fake_link("/sys/class/nvme-subsystem/nvme-subsys0/nvme0", fake_path(NVME, "/nvme/nvme0"));
	fake_link("/sys/class/block/nvme0n1", "/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1");
	fake_file("/proc/self/mountinfo", "30 1 259:7 / /data rw - xfs /dev/nvme0n1 rw\n");
	cr_assert_str_eq(say(NVME),
			 "no, because /dev/nvme0n1 is mounted on /data; do: umount /data, then tenon bind " NVME);
}

Test(admin_verdict, swap_is_use)
{
	fake_disk(NVME, "nvme0n1", 0);
	fake_file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/nvme0n1p1 partition\t1024\t0\t-2\n");
	cr_assert_str_eq(say(NVME),
			 "no, because /dev/nvme0n1p1 is swap; do: swapoff /dev/nvme0n1p1, then tenon bind " NVME);
	fake_file("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/nvme0n1p10 partition\t1024\t0\t-2\n");
	cr_assert_str_eq(say(NVME), "yes, after: tenon bind " NVME);
}

Test(admin_verdict, open_nodes_are_use_and_are_named_with_the_process)
{
	fake_disk(NVME, "nvme0n1", 0);
	fake_open(77, "fio\x1b[1m", "/dev/nvme0n1");
	cr_assert_str_eq(say(NVME),
			 "no, because process 77 (fio?[1m) has /dev/nvme0n1 open; do: kill 77, then tenon bind " NVME);
}

Test(admin_verdict, interface_that_is_down_or_enslaved)
{
	fake_pci(&(struct fake_pci){.bdf = "0000:00:05.0", .class_code = 0x020000, .group = 5, .driver = "igb"});
	fake_interface("0000:00:05.0", "eth0", 0x1002);
	cr_assert_str_eq(say("0000:00:05.0"), "yes, after: tenon bind 0000:00:05.0");
	fake_link(fake_path("0000:00:05.0", "/net/eth0/master"), "/sys/class/net/br0");
	cr_assert_str_eq(say("0000:00:05.0"),
			 "no, because network interface eth0 belongs to br0; do: ip link set eth0 nomaster, then "
			 "tenon bind 0000:00:05.0");
}

Test(admin_verdict, console_is_use)
{
	fake_file("/sys/class/tty/console/active", "tty0 ttyS4\n");
	fake_folder(fake_path(NVME, "/tty/ttyS4"));
	fake_link(fake_path(NVME, "/tty/ttyS4/subsystem"), "/sys/class/tty");
	cr_assert(strstr(say(NVME), "no, because ttyS4 is the host's console"), "%s", say(NVME));
}

Test(admin_verdict, device_of_a_running_vm_names_the_process)
{
	fake_pci(&(struct fake_pci){.bdf = "0000:00:05.0", .class_code = 0x020000, .group = 5, .driver = "vfio-pci"});
	fake_open(900, "tenon", "/dev/vfio/5");
	cr_assert_str_eq(say("0000:00:05.0"),
			 "no, because process 900 (tenon) has it through VFIO: /dev/vfio/5; do: end the VM: kill "
			 "900");
	cr_assert_str_eq(say_group(5), "no|process 900 (tenon) has it through VFIO: /dev/vfio/5|end the VM: kill 900");
}

Test(admin_verdict, pf_with_vfs_on_a_host_driver_is_in_use)
{
	fake_pci(&(struct fake_pci){
		.bdf = "0000:00:06.0", .class_code = 0x020000, .group = 6, .driver = "igb", .vfs_total = 7});
	fake_file(fake_path("0000:00:06.0", "/sriov_numvfs"), "2\n");
	cr_assert_str_eq(say("0000:00:06.0"),
			 "no, because it has 2 VFs, which go with its driver; do: tenon vf destroy 0000:00:06.0, "
			 "then tenon bind 0000:00:06.0");
}

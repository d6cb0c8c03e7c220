// SPDX-License-Identifier: MIT
/* tenon doctor on made-up hosts: each finding with its level and its fix. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "admin_host.h"
#include "doctor.h"

#define KERNEL "6.12.0-test"

static struct inventory inventory;
static struct examination exam;

static void make_host(void)
{
	fake_host_create();
	fake_iommu(0x88);
	fake_pci(&(struct fake_pci){.bdf = "0000:00:04.0", .class_code = 0x010802, .group = 1, .driver = "nvme"});
	fake_file("/proc/interrupts", "  24:  0  IR-PCI-MSIX-0000:00:04.0  0-edge  nvme0q0\n");
	fake_file("/proc/meminfo", "MemTotal: 33554432 kB\nMemAvailable:   16777216 kB\n");
	fake_file("/proc/self/limits",
		  "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         8388608              8388608 "
		  "             bytes\n");
	fake_file("/proc/self/status", "Name:\ttenon\nCapEff:\t0000000000000000\n");
	exam = (struct examination){
		.host = &fake_host, .inventory = &inventory, .memory_bytes = 4ull << 30, .release = KERNEL};
}

static void finish_host(void)
{
	free(exam.config);
	inventory_finish(&inventory);
	fake_host_destroy();
}

TestSuite(admin_doctor, .init = make_host, .fini = finish_host);

static void examine(void (*part)(struct examination *exam))
{
	struct tenon_error err = {0};
	inventory_finish(&inventory);
	cr_assert_eq(inventory_read(&fake_host, &inventory, &err), 0, "%s", err.message);
	exam.count = 0;
	part(&exam);
}

static const struct finding *find(const char *topic)
{
	for (unsigned i = 0; i < exam.count; i++) {
		if (strcmp(exam.findings[i].topic, topic) == 0)
			return &exam.findings[i];
	}
	cr_assert(false, "no finding about %s", topic);
	return NULL;
}

static void assert_finding(const char *topic, enum finding_level level, const char *text, const char *fix)
{
	const struct finding *finding = find(topic);
	cr_assert_eq(finding->level, level, "%s: %s", topic, finding->text);
	cr_assert(strstr(finding->text, text), "%s: %s", topic, finding->text);
	cr_assert(strstr(finding->fix, fix), "%s: %s", topic, finding->fix);
}

/* Whatever the host is like: a finding that is not ok says what to do. */
static void assert_every_fix(void)
{
	for (unsigned i = 0; i < exam.count; i++)
		cr_assert(exam.findings[i].level == FINDING_OK || exam.findings[i].fix[0], "%s has no fix",
			  exam.findings[i].topic);
}

Test(admin_doctor, iommu_that_is_on)
{
	examine(doctor_iommu);
	assert_finding("IOMMU", FINDING_OK, "on: dmar0; 1 of 1 PCI functions have a group", "");
	assert_finding("interrupt remapping", FINDING_OK, "on", "");
	assert_finding("DMA coherency", FINDING_OK, "enforced by every IOMMU", "");
	assert_finding("isolation", FINDING_OK, "no group", "");
}

Test(admin_doctor, iommu_that_the_firmware_offers_and_the_kernel_does_not_use)
{
	fake_remove(fake_path("0000:00:04.0", "/iommu_group"));
	examine(doctor_iommu);
	assert_finding("IOMMU", FINDING_PROBLEM, "off", "in the firmware's setup");
	fake_file("/sys/firmware/acpi/tables/DMAR", "x");
	fake_file("/proc/cmdline", "quiet\n");
	examine(doctor_iommu);
	assert_finding("IOMMU", FINDING_PROBLEM, "off", "the firmware offers VT-d: add intel_iommu=on");
	assert_every_fix();
}

Test(admin_doctor, interrupts_that_are_not_remapped)
{
	fake_file("/proc/interrupts", "  24:  0  PCI-MSIX-0000:00:04.0  0-edge  nvme0q0\n");
	examine(doctor_iommu);
	assert_finding("interrupt remapping", FINDING_PROBLEM,
		       "off, although the IOMMU has it, so VFIO refuses every device", "intremap=off");
	fake_iommu(0x80);
	examine(doctor_iommu);
	assert_finding("interrupt remapping", FINDING_PROBLEM, "the IOMMU has none", "allow_unsafe_interrupts");
	fake_file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
	examine(doctor_iommu);
	assert_finding("interrupt remapping", FINDING_WARNING, "a guest can forge interrupts",
		       "allow_unsafe_interrupts");
}

Test(admin_doctor, unit_without_snoop_control_is_named)
{
	fake_iommu(0x08);
	examine(doctor_iommu);
	assert_finding("DMA coherency", FINDING_OK, "dmar0 cannot enforce it", "");
}

Test(admin_doctor, group_of_several_slots_and_the_override_that_hides_it)
{
	fake_pci(&(struct fake_pci){.bdf = "0000:00:05.0", .class_code = 0x020000, .group = 1});
	examine(doctor_iommu);
	assert_finding("isolation", FINDING_WARNING, "IOMMU group 1 holds devices of several slots",
		       "another root port");
	fake_file("/proc/cmdline", "quiet pcie_acs_override=downstream,multifunction\n");
	examine(doctor_iommu);
	assert_finding("isolation", FINDING_WARNING, "runs with pcie_acs_override", "take pcie_acs_override from");
}

Test(admin_doctor, functions_of_one_slot_are_no_lack_of_isolation)
{
	fake_pci(&(struct fake_pci){.bdf = "0000:00:04.1", .class_code = 0x020000, .group = 1});
	examine(doctor_iommu);
	assert_finding("isolation", FINDING_OK, "no group", "");
}

Test(admin_doctor, no_iommu_mode_is_a_warning)
{
	fake_file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
	examine(doctor_iommu);
	assert_finding("no-IOMMU mode", FINDING_WARNING, "without any protection", "echo N");
}

Test(admin_doctor, locked_memory_is_a_number_in_every_unit)
{
	examine(doctor_memory);
	assert_finding("locked memory", FINDING_PROBLEM, "limit 8388608 bytes, but a VM of 4G needs 4294967296",
		       "USER - memlock 4194304; in a systemd unit: LimitMEMLOCK=4294967296; now: prlimit "
		       "--memlock=4294967296");
	exam.memory_bytes = 8 << 20;
	examine(doctor_memory);
	assert_finding("locked memory", FINDING_OK, "limit 8M, a VM of 8M needs 8388608 bytes", "");
}

Test(admin_doctor, capability_lifts_the_limit)
{
	fake_file("/proc/self/status", "CapEff:\t0000000000004000\n"); /* CAP_IPC_LOCK is 14 */
	examine(doctor_memory);
	assert_finding("locked memory", FINDING_OK, "CAP_IPC_LOCK: no limit", "");
	fake_file("/proc/self/status", "CapEff:\t0000000000008000\n");
	examine(doctor_memory);
	assert_finding("locked memory", FINDING_PROBLEM, "", "");
}

Test(admin_doctor, unlimited_is_no_number)
{
	fake_file("/proc/self/limits", "Max locked memory         unlimited            unlimited            bytes\n");
	examine(doctor_memory);
	assert_finding("locked memory", FINDING_OK, "limit none", "");
}

Test(admin_doctor, pool_of_huge_pages_says_how_many_are_missing)
{
	fake_file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "100\n");
	fake_file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "60\n");
	examine(doctor_memory);
	assert_finding("2 MiB pages", FINDING_OK,
		       "60 of 100 free; --memory ...,hugepages=2M would need 2048: echo 2088 > ", "");
	assert_finding("1 GiB pages", FINDING_OK, "has none", "");
}

Test(admin_doctor, transparent_huge_pages_that_are_off_cost_time)
{
	fake_file("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
	examine(doctor_memory);
	assert_finding("transparent huge pages", FINDING_OK, "enabled: madvise; guest memory gets them", "");
	fake_file("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
	examine(doctor_memory);
	assert_finding("transparent huge pages", FINDING_WARNING, "guest memory gets none", "echo madvise > ");
}

Test(admin_doctor, memory_that_the_host_does_not_have)
{
	fake_file("/proc/meminfo", "MemAvailable: 1048576 kB\n");
	examine(doctor_memory);
	assert_finding("free memory", FINDING_PROBLEM, "1024 MiB, but the VM has 4096 MiB", "--memory");
}

Test(admin_doctor, one_interface_is_enough)
{
	fake_file("/dev/kvm", "%s", "");
	fake_file("/dev/vfio/vfio", "%s", "");
	examine(doctor_access);
	assert_finding("iommufd", FINDING_OK, "missing, the other interface is there", "");
	assert_finding("container", FINDING_OK, "read and write", "");
	fake_remove("/dev/vfio/vfio");
	examine(doctor_access);
	assert_finding("iommufd", FINDING_PROBLEM, "missing", "modprobe iommufd");
	assert_finding("container", FINDING_PROBLEM, "missing", "modprobe vfio-pci");
	fake_remove("/dev/kvm");
	examine(doctor_access);
	assert_finding("KVM", FINDING_PROBLEM, "/dev/kvm: missing", "modprobe kvm_intel");
	assert_every_fix();
}

Test(admin_doctor, every_node_of_vfio_is_tried)
{
	fake_file("/dev/vfio/vfio", "%s", "");
	fake_file("/dev/vfio/17", "%s", "");
	fake_file("/dev/vfio/devices/vfio0", "%s", "");
	examine(doctor_access);
	assert_finding("VFIO group", FINDING_OK, "/dev/vfio/17: read and write", "");
	assert_finding("VFIO device", FINDING_OK, "/dev/vfio/devices/vfio0: read and write", "");
}

Test(admin_doctor, more_nodes_than_findings_do_not_overflow)
{
	for (unsigned i = 0; i < FINDINGS_MAX + 20; i++) {
		char path[64];
		snprintf(path, sizeof(path), "/dev/vfio/%u", i);
		fake_file(path, "%s", "");
	}
	examine(doctor_access);
	cr_assert_eq(exam.count, FINDINGS_MAX);
}

Test(admin_doctor, kernel_configuration_is_asked)
{
	exam.config =
		strdup("CONFIG_IOMMUFD=m\n# CONFIG_VFIO_DEVICE_CDEV is not set\nCONFIG_VFIO_PCI=m\nXCONFIG_KVM=y\n");
	cr_assert_eq(exam_config(&exam, "CONFIG_IOMMUFD"), 1);
	cr_assert_eq(exam_config(&exam, "CONFIG_VFIO_DEVICE_CDEV"), 0);
	cr_assert_eq(exam_config(&exam, "CONFIG_KVM"), 0);
	examine(doctor_kernel);
	assert_finding("vfio-pci", FINDING_OK, "a module, not loaded", "");
	assert_finding("kernel interface", FINDING_PROBLEM, "neither", "CONFIG_VFIO_IOMMU_TYPE1");
	free(exam.config);
	exam.config = strdup("CONFIG_IOMMUFD=y\nCONFIG_VFIO_DEVICE_CDEV=y\n");
	examine(doctor_kernel);
	assert_finding("kernel interface", FINDING_OK, "iommufd with VFIO character devices", "");
	assert_finding("vfio-pci", FINDING_PROBLEM, "no such driver", "CONFIG_VFIO_PCI");
}

Test(admin_doctor, module_that_is_only_on_disk_counts)
{
	fake_file("/lib/modules/" KERNEL "/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/x.ko\n"
							 "kernel/drivers/vfio/vfio_iommu_type1.ko.xz:\n");
	examine(doctor_kernel);
	assert_finding("vfio-pci", FINDING_OK, "a module, not loaded", "");
	assert_finding("kernel interface", FINDING_OK, "the container (type1)", "");
}

Test(admin_doctor, kind_of_kvm_is_told_honestly)
{
	fake_folder("/sys/module/kvm_pvm");
	examine(doctor_kernel);
	assert_finding("virtualization", FINDING_WARNING, "by kvm-pvm, without the CPU's help",
		       "a host with VT-x or SVM");
	fake_remove("/sys/module/kvm_pvm");
	examine(doctor_kernel);
	assert_finding("virtualization", FINDING_PROBLEM, "the CPU shows neither VT-x nor SVM", "firmware");
	fake_file("/proc/cpuinfo", "flags\t\t: fpu vmx hypervisor\n");
	examine(doctor_kernel);
	assert_finding("virtualization", FINDING_PROBLEM, "KVM is not loaded", "modprobe");
	fake_folder("/sys/module/kvm_intel");
	examine(doctor_kernel);
	assert_finding("virtualization", FINDING_OK, "by the CPU (kvm_intel); this host is a VM itself", "");
	assert_every_fix();
}

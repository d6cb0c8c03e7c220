// SPDX-License-Identifier: MIT
/* Does the kernel have what device assignment takes, and is its KVM the real thing? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor.h"
#include "text.h"

/* Loaded, built in, or a module that modprobe would find. */
static bool has_module(const struct examination *exam, const char *file)
{
	static const char *const lists[] = {"modules.dep", "modules.builtin"};
	char name[64];
	snprintf(name, sizeof(name), "/%s.ko", file);
	for (unsigned i = 0; i < 2; i++) {
		char *text = host_read_text(exam->host, "/lib/modules/%s/%s", exam->release, lists[i]);
		bool found = text && strstr(text, name);
		free(text);
		if (found)
			return true;
	}
	return false;
}

static void check_vfio_pci(struct examination *exam)
{
	if (host_exists(exam->host, "/sys/bus/pci/drivers/vfio-pci"))
		finding_add(exam, FINDING_OK, "vfio-pci", "loaded");
	else if (has_module(exam, "vfio-pci") || exam_config(exam, "CONFIG_VFIO_PCI") == 1)
		finding_add(exam, FINDING_OK, "vfio-pci", "a module, not loaded; tenon bind loads it");
	else
		finding_fix(finding_add(exam, FINDING_PROBLEM, "vfio-pci", "this kernel has no such driver"),
			    "boot a kernel with CONFIG_VFIO_PCI");
}

/* With the name of the interface, what it takes, and what it is good for. */
static void check_interfaces(struct examination *exam)
{
	bool iommufd = host_exists(exam->host, "/dev/iommu") || exam_config(exam, "CONFIG_IOMMUFD") == 1 ||
		       has_module(exam, "iommufd");
	int cdev = exam_config(exam, "CONFIG_VFIO_DEVICE_CDEV");
	bool type1 = host_exists(exam->host, "/sys/module/vfio_iommu_type1") || has_module(exam, "vfio_iommu_type1") ||
		     exam_config(exam, "CONFIG_VFIO_IOMMU_TYPE1") == 1;
	bool modern = iommufd && (cdev == 1 || (cdev < 0 && host_is_folder(exam->host, "/dev/vfio/devices")));
	if (modern)
		finding_add(exam, FINDING_OK, "kernel interface", "iommufd with VFIO character devices%s",
			    type1 ? "; the container too" : "");
	else if (type1 && iommufd && cdev < 0)
		finding_add(exam, FINDING_OK, "kernel interface",
			    "the container (type1); iommufd too, if VFIO makes character devices, which shows once a "
			    "device "
			    "is bound");
	else if (type1)
		finding_add(exam, FINDING_OK, "kernel interface",
			    "the container (type1); iommufd would take Linux 6.6 with CONFIG_IOMMUFD and "
			    "CONFIG_VFIO_DEVICE_CDEV");
	else if (iommufd && cdev < 0)
		finding_add(exam, FINDING_OK, "kernel interface",
			    "iommufd; whether it has VFIO character devices shows once a device is bound");
	else
		finding_fix(finding_add(exam, FINDING_PROBLEM, "kernel interface",
					"neither iommufd with VFIO character devices nor the container"),
			    "boot a kernel with CONFIG_VFIO_IOMMU_TYPE1, or with CONFIG_IOMMUFD and "
			    "CONFIG_VFIO_DEVICE_CDEV");
}

static bool cpu_has(const char *cpuinfo, const char *flag)
{
	const char *line = cpuinfo ? strstr(cpuinfo, "flags") : NULL;
	char flags[4096];
	if (!line)
		return false;
	snprintf(flags, sizeof(flags), "%.*s", (int)strcspn(line, "\n"), line);
	return text_has_word(flags, flag);
}

/* Not every /dev/kvm runs Linux: say which kind it is. */
static void check_kvm(struct examination *exam)
{
	const struct host *host = exam->host;
	char *cpuinfo = host_read_text(host, "/proc/cpuinfo");
	bool hardware = cpu_has(cpuinfo, "vmx") || cpu_has(cpuinfo, "svm");
	bool nested = cpu_has(cpuinfo, "hypervisor");
	free(cpuinfo);
	if (host_exists(host, "/sys/module/kvm_pvm"))
		finding_fix(
			finding_add(
				exam, FINDING_WARNING, "virtualization",
				"by kvm-pvm, without the CPU's help: it interprets guest kernels, slowly and in part; "
				"freestanding guests run, stock Linux may not boot"),
			"for Linux guests use a host with VT-x or SVM");
	else if (host_exists(host, "/sys/module/kvm_intel") || host_exists(host, "/sys/module/kvm_amd"))
		finding_add(exam, FINDING_OK, "virtualization", "by the CPU (%s)%s",
			    host_exists(host, "/sys/module/kvm_intel") ? "kvm_intel" : "kvm_amd",
			    nested ? "; this host is a VM itself, so guests are nested and slower" : "");
	else if (hardware)
		finding_fix(
			finding_add(exam, FINDING_PROBLEM, "virtualization", "the CPU can, KVM is not loaded"),
			"modprobe kvm_intel or kvm_amd; where that fails, turn VT-x or SVM on in the firmware's setup");
	else
		finding_fix(finding_add(exam, FINDING_PROBLEM, "virtualization", "the CPU shows neither VT-x nor SVM%s",
					nested ? ", and this host is a VM" : ""),
			    nested ? "turn nested virtualization on in this VM's own host"
				   : "turn VT-x or SVM on in the firmware's setup");
}

void doctor_kernel(struct examination *exam)
{
	finding_add(exam, FINDING_OK, "kernel", "Linux %s, configuration %s", exam->release,
		    exam->config ? "found" : "not found (/boot/config-*, /proc/config.gz)");
	check_vfio_pci(exam);
	check_interfaces(exam);
	check_kvm(exam);
}

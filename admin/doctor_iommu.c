// SPDX-License-Identifier: MIT
/*
 * Is the IOMMU on, does it remap interrupts, what is its grain? Source: Intel VT-d specification 11.4; Linux
 * drivers/iommu/iommu-sysfs.c; interrupt chips of remapped interrupts are named "IR-..." in /proc/interrupts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_space.h"
#include "doctor.h"
#include "text.h"

struct units {
	struct examination *exam;
	unsigned count, remapping;
	char names[160];
	char non_coherent[160];
};

static int add_unit(void *context, const char *name)
{
	struct units *units = context;
	const struct host *host = units->exam->host;
	char ecap[32];
	units->count++;
	text_add(units->names, sizeof(units->names), "%s%s", units->names[0] ? " " : "", name);
	if (host_read_line(host, ecap, sizeof(ecap), "/sys/class/iommu/%s/intel-iommu/ecap", name) > 0) {
		uint64_t value = strtoull(ecap, NULL, 16);
		units->remapping += (value & INTEL_ECAP_INTERRUPT_REMAPPING) != 0;
		if (!(value & INTEL_ECAP_SNOOP_CONTROL))
			text_add(units->non_coherent, sizeof(units->non_coherent), "%s%s",
				 units->non_coherent[0] ? " " : "", name);
	} else if (host_exists(host, "/sys/class/iommu/%s/amd-iommu", name)) {
		units->remapping++; /* AMD's have it by definition */
	}
	return 0;
}

static bool command_line_has(const struct host *host, const char *word)
{
	char line[4096];
	host_read_line(host, line, sizeof(line), "/proc/cmdline");
	return text_has_word(line, word);
}

/* A module's parameter of the boolean kind. */
static bool is_on(const struct host *host, const char *path)
{
	char value[8];
	return host_read_line(host, value, sizeof(value), "%s", path) > 0 && (value[0] == 'Y' || value[0] == '1');
}

static void check_off(struct examination *exam)
{
	const struct host *host = exam->host;
	struct finding *finding =
		finding_add(exam, FINDING_PROBLEM, "IOMMU", "off, so that no device can be assigned safely");
	if (host_exists(host, "/sys/firmware/acpi/tables/DMAR") && !command_line_has(host, "intel_iommu=on"))
		finding_fix(finding, "the firmware offers VT-d: add intel_iommu=on to GRUB_CMDLINE_LINUX in "
				     "/etc/default/grub, run update-grub, and reboot");
	else if (host_exists(host, "/sys/firmware/acpi/tables/IVRS"))
		finding_fix(finding,
			    "the firmware offers AMD-Vi: take amd_iommu=off and iommu=off from the kernel's command "
			    "line in /etc/default/grub, run update-grub, and reboot");
	else
		finding_fix(finding,
			    "turn VT-d (Intel) or AMD-Vi (AMD) on in the firmware's setup; on Intel add intel_iommu=on "
			    "to GRUB_CMDLINE_LINUX in /etc/default/grub and run update-grub; a VM needs a virtual "
			    "IOMMU from its host");
}

static void check_remapping(const struct units *units)
{
	struct examination *exam = units->exam;
	const struct host *host = exam->host;
	char *interrupts = host_read_text(host, "/proc/interrupts");
	bool on = interrupts && strstr(interrupts, " IR-");
	free(interrupts);
	if (on) {
		finding_add(exam, FINDING_OK, "interrupt remapping", "on");
		return;
	}
	bool allowed = is_on(host, "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts") ||
		       is_on(host, "/sys/module/iommufd/parameters/allow_unsafe_interrupts");
	struct finding *finding =
		finding_add(exam, allowed ? FINDING_WARNING : FINDING_PROBLEM, "interrupt remapping", "%s%s",
			    units->remapping ? "off, although the IOMMU has it" : "the IOMMU has none",
			    allowed ? "; allow_unsafe_interrupts is on, so a guest can forge interrupts of the host"
				    : ", so VFIO refuses every device");
	if (units->remapping)
		finding_fix(finding, "take intremap=off from the kernel's command line, turn interrupt "
				     "remapping or x2APIC on in the firmware's setup, and reboot");
	else
		finding_fix(finding, "only for guests that you trust: echo 1 > "
				     "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
}

static void check_coherency(const struct units *units)
{
	if (units->non_coherent[0])
		finding_add(
			units->exam, FINDING_OK, "DMA coherency",
			"%s cannot enforce it: a VM with a device behind it gets real WBINVD and its own memory types, "
			"which costs some speed",
			units->non_coherent);
	else
		finding_add(units->exam, FINDING_OK, "DMA coherency", "enforced by every IOMMU");
}

/* Endpoints of different slots in one group: what is above them cannot keep them apart. */
static void check_isolation(struct examination *exam)
{
	const struct inventory *inventory = exam->inventory;
	char groups[160] = "";
	unsigned count = 0;
	for (unsigned i = 0; i < inventory->count; i++) {
		const struct device *one = &inventory->devices[i];
		bool first = one->group >= 0 && !device_is_infrastructure(one), mixed = false;
		for (unsigned j = 0; first && j < inventory->count; j++) {
			const struct device *other = &inventory->devices[j];
			if (j == i || other->group != one->group || device_is_infrastructure(other))
				continue;
			first = j > i;
			mixed |= other->bus != one->bus || other->slot != one->slot;
		}
		if (!first || !mixed)
			continue;
		count++;
		text_add(groups, sizeof(groups), "%s%d", groups[0] ? " " : "", one->group);
	}
	if (command_line_has(exam->host, "pcie_acs_override=downstream") ||
	    command_line_has(exam->host, "pcie_acs_override=downstream,multifunction")) {
		struct finding *finding = finding_add(exam, FINDING_WARNING, "isolation",
						      "the kernel runs with pcie_acs_override: its groups are smaller "
						      "than what the hardware isolates, and a "
						      "guest may reach devices of others");
		finding_fix(finding, "take pcie_acs_override from the kernel's command line");
	} else if (count) {
		struct finding *finding = finding_add(
			exam, FINDING_WARNING, "isolation",
			"IOMMU group%s %s hold%s devices of several slots, because a bridge above them lacks ACS; "
			"such a group goes to one VM as a whole",
			text_plural(count), groups, count == 1 ? "s" : "");
		finding_fix(finding,
			    "move a device to a slot below another root port (tenon topology shows them); a kernel "
			    "patched for pcie_acs_override only hides the lack");
	} else {
		finding_add(exam, FINDING_OK, "isolation", "no group holds devices of more than one slot");
	}
}

void doctor_iommu(struct examination *exam)
{
	struct units units = {.exam = exam};
	unsigned grouped = 0;
	host_list(exam->host, "/sys/class/iommu", add_unit, &units);
	for (unsigned i = 0; i < exam->inventory->count; i++)
		grouped += exam->inventory->devices[i].group >= 0;
	if (is_on(exam->host, "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")) {
		struct finding *finding = finding_add(exam, FINDING_WARNING, "no-IOMMU mode",
						      "on: VFIO gives devices away without any protection of the host");
		finding_fix(finding, "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
	}
	if (!grouped) {
		check_off(exam);
		return;
	}
	finding_add(exam, FINDING_OK, "IOMMU", "on: %s; %u of %u PCI functions have a group",
		    units.names[0] ? units.names : "of a kind that sysfs does not name", grouped,
		    exam->inventory->count);
	check_remapping(&units);
	if (units.count)
		check_coherency(&units);
	check_isolation(exam);
}

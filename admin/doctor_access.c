// SPDX-License-Identifier: MIT
/* May this user open each node that a VM needs? */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "doctor.h"

static void check_node(struct examination *exam, const char *node, const char *topic, const char *missing)
{
	int code = host_access(exam->host, "%s", node);
	if (code == 0)
		finding_add(exam, FINDING_OK, topic, "%s: read and write", node);
	else if (code == -ENOENT)
		finding_fix(finding_add(exam, FINDING_PROBLEM, topic, "%s: missing", node), "%s", missing);
	else
		finding_fix(finding_add(exam, FINDING_PROBLEM, topic, "%s: %s for this user", node, strerror(-code)),
			    "as root: setfacl -m u:USER:rw %s; for good: a udev rule", node);
}

struct nodes {
	struct examination *exam;
	const char *folder;
	unsigned count;
};

static int check_entry(void *context, const char *name)
{
	struct nodes *nodes = context;
	char node[320];
	if (strcmp(name, "vfio") == 0 || strcmp(name, "devices") == 0)
		return 0;
	snprintf(node, sizeof(node), "%s/%.200s", nodes->folder, name);
	nodes->count++;
	check_node(nodes->exam, node, strcmp(nodes->folder, "/dev/vfio") == 0 ? "VFIO group" : "VFIO device", "");
	return 0;
}

/* One of the kernel's two interfaces to VFIO is enough. */
static void check_interfaces(struct examination *exam)
{
	int iommufd = host_access(exam->host, "/dev/iommu"), container = host_access(exam->host, "/dev/vfio/vfio");
	static const struct {
		const char *node, *name;
	} both[] = {{"/dev/iommu", "iommufd"}, {"/dev/vfio/vfio", "container"}};
	for (unsigned i = 0; i < 2; i++) {
		int code = i ? container : iommufd, other = i ? iommufd : container;
		if (code != -ENOENT)
			check_node(exam, both[i].node, both[i].name, "");
		else if (other == 0)
			finding_add(exam, FINDING_OK, both[i].name, "%s: missing, the other interface is there",
				    both[i].node);
		else
			finding_fix(finding_add(exam, other == -ENOENT ? FINDING_PROBLEM : FINDING_WARNING,
						both[i].name, "%s: missing", both[i].node),
				    i ? "modprobe vfio-pci" : "modprobe iommufd, on a kernel with CONFIG_IOMMUFD");
	}
}

void doctor_access(struct examination *exam)
{
	check_node(exam, "/dev/kvm", "KVM",
		   "modprobe kvm_intel or kvm_amd; turn VT-x or SVM on in the firmware's setup");
	check_interfaces(exam);
	struct nodes devices = {exam, "/dev/vfio/devices", 0}, groups = {exam, "/dev/vfio", 0};
	host_list(exam->host, devices.folder, check_entry, &devices);
	host_list(exam->host, groups.folder, check_entry, &groups);
	if (devices.count + groups.count == 0)
		finding_add(exam, FINDING_OK, "VFIO device",
			    "no device is bound to VFIO yet: tenon devices, tenon bind");
}

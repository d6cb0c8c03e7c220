// SPDX-License-Identifier: MIT
/*
 * Opens devices. On iommufd a device is its own file, which is bound; on a container the group's file comes first and gives out
 * the device's. Owns what must happen in which order: KVM learns of a file before the device behind it is opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "device.h"
#include "group.h"
#include "group_file.h"
#include "kernel.h"
#include "vf_token.h"
#include "vfio_file.h"
#include "vfio_user_transport.h"

#define ECAP_SNOOP_CONTROL (1ull << 7) /* Intel VT-d specification, Extended Capability Register, SC */

static int find(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err)
{
	struct address *address = &device->address;
	if (options->cdev > 0) {
		address_of_fd(options->cdev, address);
		return 0;
	}
	int code = address_find(options->address, address, err);
	if (code == 0 && address->bdf[0])
		code = group_check(address->bdf, address->group, err);
	return code;
}

static int open_cdev(struct tenon_device *device, int passed, struct tenon_error *err)
{
	const struct address *address = &device->address;
	if (passed > 0) {
		device->fd = kernel_dup(passed);
		if (device->fd < 0)
			return tenon_fail(err, device->fd,
					  "%s: cannot duplicate the file descriptor: %s; pass an open VFIO device",
					  address->name, strerror(-device->fd));
		return 0;
	}
	device->fd = kernel_open(address->path, O_RDWR);
	if (device->fd == -ENOENT)
		return tenon_fail(
			err, -ENOENT,
			"%s: %s does not exist; give the path that ls /dev/vfio/devices shows, or mount devtmpfs",
			address->name, address->path);
	if (device->fd < 0)
		return tenon_fail(err, device->fd, "%s: cannot open %s: %s; %s", address->name, address->path,
				  strerror(-device->fd),
				  device->fd == -EACCES || device->fd == -EPERM
					  ? "give this user read-write access to it"
					  : "end what uses it (fuser -v shows that)");
	return 0;
}

/* KVM first: the device captures its VM when it is opened. Documentation/virt/kvm/devices/vfio.rst. */
static int add_file(struct tenon_device *device, int fd, struct tenon_error *err)
{
	if (!device->ops->file_add)
		return 0;
	int code = device->ops->file_add(device->host, fd, err);
	if (code < 0) {
		tenon_fail_wrap(err, "%s", device->address.name);
		return code;
	}
	device->file_added = true;
	return 0;
}

static int open_iommufd(struct tenon_device *device, int passed, const struct vf_token *token, struct tenon_error *err)
{
	char holders[192];
	int code = open_cdev(device, passed, err);
	device->member.passed = passed > 0;
	if (code == 0)
		code = add_file(device, device->fd, err);
	if (code == 0)
		code = space_join_iommufd(device->space, device->fd, token, device->address.name, &device->member, err);
	if (code <= 0)
		return code;
	device_log(device, TENON_LOG_WARNING,
		   "%s: this kernel checks no VF token on character devices: whoever may open those of its PF and VFs "
		   "gets them without; the container interface checks",
		   device->address.name);
	/* vfio_pci_core_feature_token() replaces what the users of VFs know without a question. */
	if (vf_token_holders(device->address.bdf, holders, sizeof(holders)))
		device_log(
			device, TENON_LOG_WARNING,
			"%s: its token is replaced, and its VFs may be in use with another: %s; give all of them the "
			"same, or they and it cannot be opened again",
			device->address.name, holders);
	return vf_token_set(device->fd, token, device->address.name, err);
}

/* KVM gets each group once, by whichever of its devices comes first and has the operation. */
struct group_siblings {
	struct tenon_device *adder; /* has added the file */
	struct tenon_device *heir;  /* can take it back in the place of who added it */
};

/* Among the other devices of the space that have the same group. */
static struct group_siblings group_siblings(const struct tenon_device *device)
{
	struct group_siblings siblings = {0};
	for (struct space_member *other = space_members(device->space); other; other = other->next) {
		if (other == &device->member || other->group_fd < 0 || other->group_fd != device->member.group_fd)
			continue;
		if (other->device->file_added)
			siblings.adder = other->device;
		else if (other->device->ops->file_remove)
			siblings.heir = other->device;
	}
	return siblings;
}

/* The kernel would give out the same device twice to whoever has the group. */
static int check_twice(const struct tenon_device *device, struct tenon_error *err)
{
	const char *name = address_of_device(&device->address);
	for (const struct space_member *other = space_members(device->space); other; other = other->next) {
		if (strcmp(address_of_device(&other->device->address), name) == 0)
			return tenon_fail(err, -EBUSY, "%s: the VM has it already; assign it once", name);
	}
	return 0;
}

static int open_through_group(struct tenon_device *device, const struct vf_token *token, struct tenon_error *err)
{
	struct address *address = &device->address;
	int code = check_twice(device, err);
	if (code == 0)
		code = space_join_group(device->space, address->name, &device->member, err);
	if (code < 0)
		return code;
	if (!group_siblings(device).adder)
		code = add_file(device, device->member.group_fd, err);
	if (code < 0)
		return code;
	device->fd = group_file_device(device->member.group_fd, device->member.group, address_of_device(address), token,
				       err);
	if (device->fd < 0)
		return device->fd;
	snprintf(address->path, sizeof(address->path), "/dev/vfio/%d", device->member.group);
	return 0;
}

/*
 * The kernel's answer is for the whole space. Where that is no, what the device's own IOMMU can tells whether it is this device's
 * fault: Intel's is the only one that lacks it in part, and the bit is what KVM goes by (IOMMU_CAP_ENFORCE_CACHE_COHERENCY). A
 * mediated device has no IOMMU, which KVM takes for a no.
 */
static bool is_coherent(struct tenon_device *device)
{
	const struct address *address = &device->address;
	char path[128], line[32];
	if (address->uuid[0])
		return false;
	int all = space_coherent(device->space);
	if (all > 0)
		return true;
	if (all < 0)
		device_log(
			device, TENON_LOG_WARNING,
			"%s: the kernel does not say whether all DMA is coherent with the CPU caches: %s; what sysfs "
			"shows of its IOMMU counts",
			address->name, strerror(-all));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu/intel-iommu/ecap", address->bdf);
	return address->bdf[0] && kernel_read_line(path, line, sizeof(line)) > 0 &&
	       (strtoull(line, NULL, 16) & ECAP_SNOOP_CONTROL);
}

static void describe(struct tenon_device *device, enum tenon_interface interface)
{
	device->info.interface = interface;
	device->info.peer_to_peer = space_maps_bars(device->space);
	device->info.coherent = is_coherent(device);
	if (!device->info.coherent)
		device_log(
			device, TENON_LOG_INFO,
			"%s: its IOMMU does not make its DMA coherent with the CPU caches; as long as it is assigned "
			"KVM honours the guest's WBINVD and memory types, which costs the whole VM speed",
			device->address.name);
}

/* Its memory is ordinary memory of this host, which the caches know; nobody but the space learns of it. */
static int open_remote(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err)
{
	const char *name = device->address.name;
	if (options->vf_token)
		return tenon_fail(err, -EINVAL, "%s: has no VF token; leave that out", name);
	for (const struct space_member *other = space_members(device->space); other; other = other->next) {
		if (strcmp(other->device->address.name, name) == 0)
			return tenon_fail(err, -EBUSY, "%s: the VM has it already; assign it once", name);
	}
	int code = vu_transport_open(address_of_socket(&device->address), name, device->space, &device->member,
				     &device->transport, err);
	device->info.interface = TENON_INTERFACE_VFIO_USER;
	device->info.coherent = device->info.peer_to_peer = true;
	return code;
}

int binding_open(struct tenon_device *device, const struct tenon_device_options *options, struct tenon_error *err)
{
	struct address *address = &device->address;
	struct vf_token token;
	int code = find(device, options, err);
	if (code == 0 && address_of_socket(address))
		return open_remote(device, options, err);
	if (code == 0 && (options->reconnect || options->timeout_ms))
		code = tenon_fail(
			err, -EINVAL,
			"%s: only a vfio-user device has a server to wait for; leave .reconnect and .timeout_ms out",
			address->name);
	if (code == 0 && options->vf_token)
		code = vf_token_parse(options->vf_token, address->name, &token, err);
	if (code == 0 && options->vf_token)
		code = vf_token_check(address->bdf, err);
	if (code < 0)
		return code;

	device->member.group = address->group;
	device->member.mediated = address->uuid[0];
	int interface = space_choose(device->space, options->cdev > 0 || address->path[0],
				     options->cdev <= 0 && address->group >= 0 && address_of_device(address)[0],
				     address->name, err);
	if (interface < 0)
		return interface;
	const struct vf_token *given = options->vf_token ? &token : NULL;
	if (interface == TENON_INTERFACE_IOMMUFD)
		code = open_iommufd(device, options->cdev, given, err);
	else
		code = open_through_group(device, given, err);
	if (code == 0)
		code = vfio_file_create(device->fd, address->name, &device->transport, err);
	if (code == 0)
		describe(device, (enum tenon_interface)interface);
	return code;
}

void binding_close(struct tenon_device *device)
{
	/* The file goes from KVM before its last reference is closed, else KVM would keep the device alive. */
	bool by_group = device->member.group_fd >= 0;
	struct tenon_device *heir = by_group ? group_siblings(device).heir : NULL;
	if (device->file_added && heir)
		heir->file_added = true;
	else if (device->file_added)
		device->ops->file_remove(device->host, by_group ? device->member.group_fd : device->fd);
	space_leave(device->space, device->fd, &device->member);
	if (device->transport)
		device->transport->ops->close(device->transport);
	else if (device->fd >= 0)
		kernel_close(device->fd);
}

// SPDX-License-Identifier: MIT
/*
 * The fake kernel's hot reset: which devices a slot has, whom they belong to, and the reset of them all. After
 * vfio_pci_ioctl_get_pci_hot_reset_info() and vfio_pci_dev_set_hot_reset() of drivers/vfio/pci/vfio_pci_core.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "uapi.h"
#include "vfio_model.h"

#define NEXT_IN_SLOT(device, at) next_in_slot((device)->slot, at)

/* The first device of the slot at or after world.devices[*at], which then counts on; NULL: no more. */
static struct fake_device *next_in_slot(unsigned slot, unsigned *at)
{
	while (*at < world.device_count) {
		struct fake_device *device = world.devices[(*at)++];
		if (device->slot == slot)
			return device;
	}
	return NULL;
}

/* Whether vfio_find_device_in_devset() finds it: a VF has a set of its own, and a host driver's device is in none. */
static bool in_set(const struct fake_device *of, const struct fake_device *device)
{
	return model_driver_is_vfio(device) && (of == device || (!of->physfn[0] && !device->physfn[0]));
}

/* vfio_iommufd_get_dev_id(): an id, 0 for a device of a group that is bound to the same iommufd, or -1. */
static int32_t id_of(const struct fake_device *of, const struct fake_device *device, const struct fake_file *iommufd)
{
	if (!in_set(of, device))
		return VFIO_PCI_DEVID_NOT_OWNED;
	if (device->owner && device->owner->iommufd == iommufd)
		return (int32_t)device->id;
	for (unsigned i = 0; i < world.device_count; i++) {
		const struct fake_device *other = world.devices[i];
		if (other->group >= 0 && other->group == device->group && other->owner &&
		    other->owner->iommufd == iommufd)
			return VFIO_PCI_DEVID_OWNED;
	}
	return VFIO_PCI_DEVID_NOT_OWNED;
}

static void fill(const struct fake_file *file, const struct fake_device *device, struct vfio_pci_dependent_device *out)
{
	unsigned long segment = strtoul(device->bdf, NULL, 16), bus = strtoul(device->bdf + 5, NULL, 16);
	unsigned long number = strtoul(device->bdf + 8, NULL, 16), function = strtoul(device->bdf + 11, NULL, 16);
	*out = (struct vfio_pci_dependent_device){
		.group_id = (uint32_t)(file->kind == FILE_CDEV ? id_of(file->device, device, file->iommufd)
							       : device->group),
		.segment = (uint16_t)segment,
		.bus = (uint8_t)bus,
		.devfn = (uint8_t)(number << 3 | function),
	};
}

static unsigned count_slot(const struct fake_device *device)
{
	unsigned count = 0;
	for (unsigned at = 0; NEXT_IN_SLOT(device, &at);)
		count++;
	return count;
}

int model_hot_reset_info(struct fake_file *file, void *argument)
{
	struct vfio_pci_hot_reset_info *info = argument;
	const struct fake_device *device = file->device;
	if (info->argsz < sizeof(*info))
		return -EINVAL;
	if (device->slot == 0)
		return -ENODEV;
	uint32_t count = count_slot(device), room = (info->argsz - (uint32_t)sizeof(*info)) / sizeof(info->devices[0]);
	if (device->lie == FAKE_LIE_GROWING)
		count = room + 1;
	info->flags = 0;
	info->count = count;
	if (count > room)
		return -ENOSPC;

	if (file->kind == FILE_CDEV)
		info->flags = VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
	uint32_t filled = 0;
	const struct fake_device *each;
	for (unsigned at = 0; (each = NEXT_IN_SLOT(device, &at));) {
		if (file->kind != FILE_CDEV && each->group < 0)
			return -EPERM;
		if (device->lie == FAKE_LIE_SELF_ABSENT && each == device)
			continue;
		fill(file, each, &info->devices[filled]);
		if ((int32_t)info->devices[filled++].group_id == VFIO_PCI_DEVID_NOT_OWNED)
			info->flags &= ~VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
	}
	info->count = filled;
	if (device->lie == FAKE_LIE_COUNT_HUGE)
		info->count = UINT32_MAX;
	if (device->lie == FAKE_LIE_COUNT_ZERO)
		info->count = 0;
	if (device->lie == FAKE_LIE_NOT_OWNED)
		info->flags &= ~VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
	return 0;
}

/* vfio_pci_ioctl_pci_hot_reset_groups(): each a group's file, and not more of them than devices. */
static int check_groups(const struct fake_device *device, const struct vfio_pci_hot_reset *request)
{
	if (request->count > count_slot(device))
		return -EINVAL;
	for (uint32_t i = 0; i < request->count; i++) {
		const struct fake_file *group = model_files_of(request->group_fds[i]);
		if (!group)
			return -EBADF;
		if (group->kind != FILE_GROUP)
			return -EINVAL;
	}
	return 0;
}

static bool is_owned(const struct fake_file *file, const struct fake_device *device,
		     const struct vfio_pci_hot_reset *request)
{
	if (file->kind == FILE_CDEV)
		return id_of(file->device, device, file->iommufd) >= 0;
	for (uint32_t i = 0; i < request->count; i++) {
		if (model_files_of(request->group_fds[i])->group == device->group)
			return true;
	}
	return false;
}

void fake_on_hot_reset(void (*hook)(void *context), void *context)
{
	world.hot_reset_hook = hook;
	world.hot_reset_context = context;
}

int model_hot_reset(struct fake_file *file, const void *argument)
{
	const struct vfio_pci_hot_reset *request = argument;
	struct fake_device *device = file->device, *each;
	if (request->argsz < sizeof(*request) + request->count * sizeof(request->group_fds[0]) || request->flags)
		return -EINVAL;
	if ((request->count == 0) != (file->kind == FILE_CDEV))
		return -EINVAL;
	if (device->slot == 0)
		return -ENODEV;
	int code = check_groups(device, request);
	for (unsigned at = 0; code == 0 && (each = NEXT_IN_SLOT(device, &at));) {
		if (!in_set(device, each) || !is_owned(file, each, request))
			code = -EINVAL;
	}
	if (code < 0)
		return code;
	if (device->hot_reset_busy) {
		device->hot_reset_busy--;
		return -EBUSY;
	}
	for (unsigned at = 0; (each = NEXT_IN_SLOT(device, &at));) {
		each->power_at_reset = each->power;
		if (each->owner)
			model_config_set_power(each, 0);
	}
	if (world.hot_reset_hook)
		world.hot_reset_hook(world.hot_reset_context);
	if (device->hot_reset_error)
		return -device->hot_reset_error;
	for (unsigned at = 0; (each = NEXT_IN_SLOT(device, &at));) {
		model_cdev_forget(each);
		each->hot_resets++;
	}
	fake_journal("hot reset %s", device->bdf);
	return 0;
}

// SPDX-License-Identifier: MIT
/*
 * The fake kernel's group files, after drivers/vfio/group.c, and the VF tokens of drivers/vfio/pci/vfio_pci_core.c. A device's
 * file holds the group's; the group leaves its container when the last of them is closed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "uapi.h"
#include "vfio_model.h"

static struct fake_file *open_file_of(int group)
{
	for (unsigned i = 0; i < MODEL_FILES; i++) {
		if (world.files[i].kind == FILE_GROUP && world.files[i].group == group)
			return &world.files[i];
	}
	return NULL;
}

bool model_group_is_open(int group)
{
	return open_file_of(group);
}

int model_group_open(int group)
{
	bool exists = false;
	if (world.no_container)
		return -ENOENT;
	for (unsigned i = 0; i < world.device_count; i++) {
		const struct fake_device *device = world.devices[i];
		if (device->group != group || !model_driver_is_vfio(device))
			continue;
		exists = true;
		if (device->open_error)
			return -device->open_error;
		if (device->open_elsewhere || (device->owner && device->owner->kind == FILE_CDEV))
			return -EBUSY;
	}
	if (!exists)
		return -ENOENT;
	if (model_group_is_open(group))
		return -EBUSY;
	fake_journal("open group %d", group);
	return 0;
}

static const struct fake_device *any_member(int group)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		if (world.devices[i]->group == group)
			return world.devices[i];
	}
	return NULL;
}

static int get_status(const struct fake_file *file, struct vfio_group_status *status)
{
	if (status->argsz < sizeof(*status))
		return -EINVAL;
	status->flags = 0;
	if (file->container)
		status->flags = VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_VIABLE;
	else if (!model_cdev_group_blocked(any_member(file->group)))
		status->flags = VFIO_GROUP_FLAGS_VIABLE;
	return 0;
}

static int set_container(struct fake_file *file, int fd)
{
	struct fake_file *container = model_files_of(fd);
	if (!container)
		return -EBADF;
	if (file->container)
		return -EINVAL;
	if (container->kind != FILE_CONTAINER)
		return -EBADFD;
	int code = model_cdev_claim_group(any_member(file->group));
	if (code < 0)
		return code;
	struct fake_ioas *ioas = model_ioas_of(container, container->ioas);
	for (unsigned i = 0; ioas && i < world.device_count; i++) {
		if (world.devices[i]->group == file->group && model_ioas_attach(ioas, world.devices[i]) < 0) {
			for (; i-- > 0;) {
				if (world.devices[i]->group == file->group)
					model_iommufd_detach_device(world.devices[i]);
			}
			return -EINVAL;
		}
	}
	file->container = container;
	model_files_hold(container);
	fake_journal("group %d joins", file->group);
	return 0;
}

static struct fake_device *pf_of(const struct fake_device *device)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		if (device->physfn[0] && strcmp(world.devices[i]->bdf, device->physfn) == 0)
			return world.devices[i];
	}
	return NULL;
}

int model_group_match_token(struct fake_device *device, const uint8_t *uuid)
{
	const struct fake_device *pf = pf_of(device);
	if (device->physfn[0] && (!pf || !model_driver_is_vfio(pf)))
		return uuid ? -EINVAL : 0;
	if (pf)
		return uuid && memcmp(uuid, pf->vf_token, sizeof(pf->vf_token)) == 0 ? 0 : -EACCES;
	if (!device->is_pf)
		return uuid ? -EINVAL : 0;
	if (device->vf_users)
		return uuid && memcmp(uuid, device->vf_token, sizeof(device->vf_token)) == 0 ? 0 : -EACCES;
	if (uuid)
		memcpy(device->vf_token, uuid, sizeof(device->vf_token));
	return 0;
}

void model_group_count_vf(const struct fake_device *device, int change)
{
	struct fake_device *pf = pf_of(device);
	if (pf)
		pf->vf_users += (unsigned)change;
}

/* "NAME", or "NAME vf_token=UUID". */
static int parse_token(const char *options, uint8_t uuid[16])
{
	unsigned byte;
	int used = 0;
	if (sscanf(options, " vf_token=%n", &used) != 0 || !used)
		return -EINVAL;
	options += used;
	for (unsigned i = 0; i < 16; i++) {
		options += *options == '-';
		if (sscanf(options, "%2x", &byte) != 1)
			return -EINVAL;
		uuid[i] = (uint8_t)byte;
		options += 2;
	}
	return *options ? -EINVAL : 0;
}

static int get_device_fd(struct fake_file *file, const char *text)
{
	struct fake_device *device = NULL;
	uint8_t uuid[16];
	const char *options = "";
	for (unsigned i = 0; i < world.device_count && !device; i++) {
		const char *name = model_sysfs_name(world.devices[i]);
		if (world.devices[i]->group != file->group || strncmp(text, name, strlen(name)) != 0)
			continue;
		device = world.devices[i];
		options = text + strlen(name);
	}
	if (!device || !model_driver_is_vfio(device))
		return -ENODEV;
	if (*options && parse_token(options, uuid) < 0)
		return -EINVAL;
	int code = model_group_match_token(device, *options ? uuid : NULL);
	if (code < 0)
		return code;
	if (!file->container || !file->container->ioas)
		return -EINVAL;
	code = model_cdev_try_lock(device);
	if (code < 0)
		return code;
	if (device->owner)
		fake_report_misuse("%s is opened twice", device->bdf);

	struct fake_file *opened = model_files_add(FILE_DEVICE, model_files_real_fd());
	opened->device = device;
	opened->iommufd = file;
	model_files_hold(file);
	fake_journal("bind %s", device->bdf);
	model_cdev_enable(device, opened);
	return opened->real;
}

int model_group_ioctl(struct fake_file *file, void *argument, enum fake_call kind)
{
	int fd;
	switch (kind) {
	case FAKE_GROUP_STATUS:
		return get_status(file, argument);
	case FAKE_SET_CONTAINER:
		memcpy(&fd, argument, sizeof(fd));
		return set_container(file, fd);
	case FAKE_GET_DEVICE_FD:
		return get_device_fd(file, argument);
	default:
		return -ENOTTY;
	}
}

/* With the last group the IOMMU goes, and all that is mapped in it. */
void model_group_closed(struct fake_file *file)
{
	struct fake_file *container = file->container;
	fake_journal("close group %d", file->group);
	if (!container)
		return;
	for (unsigned i = 0; i < world.device_count; i++) {
		if (world.devices[i]->group == file->group)
			model_iommufd_detach_device(world.devices[i]);
	}
	struct fake_ioas *ioas = model_ioas_of(container, container->ioas);
	if (ioas && !ioas->attached) {
		model_ioas_remove(ioas);
		container->ioas = 0;
	}
	file->container = NULL;
	model_files_release(container);
}

// SPDX-License-Identifier: MIT
/*
 * /dev/iommu: one IOAS that all devices of a VM share. Owns the iommufd, the IOAS in it, and its page tables with dirty bits.
 * Source: Linux Documentation/userspace-api/iommufd.rst and include/uapi/linux/iommufd.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "iommufd.h"
#include "kernel.h"
#include "patience.h"
#include "uapi.h"
#include "vf_token.h"

#define IOMMUFD_PATH "/dev/iommu"
#define PAGE_BYTES   4096u
#define HWPTS_MAX    8 /* as many kinds of IOMMU with dirty bits */

/* A page table with dirty bits, which devices of like IOMMUs share. The kernel makes those without by itself. */
struct hwpt {
	uint32_t id;
	unsigned devices;
	bool tracked; /* its dirty bits count */
};

struct iommufd {
	struct space_backend backend;
	int fd;
	bool own_fd;
	uint32_t ioas;
	struct hwpt hwpts[HWPTS_MAX];
	unsigned hwpt_count;
};

static struct iommufd *iommufd(struct space_backend *backend)
{
	return (struct iommufd *)backend; /* first member */
}

static int map(struct space_backend *backend, const struct tenon_space_region *region, struct tenon_error *err)
{
	struct iommufd *self = iommufd(backend);
	struct iommu_ioas_map request = {
		.size = sizeof(request),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 (region->read_only ? 0 : IOMMU_IOAS_MAP_WRITEABLE),
		.ioas_id = self->ioas,
		.user_va = (uintptr_t)region->hva,
		.length = region->size_bytes,
		.iova = region->gpa,
	};
	int code = kernel_ioctl(self->fd, IOMMU_IOAS_MAP, &request);
	if (code < 0)
		return tenon_fail(err, code, "guest memory at 0x%llx: cannot map %llu MiB for DMA: %s%s",
				  (unsigned long long)region->gpa, (unsigned long long)(region->size_bytes >> 20),
				  strerror(-code),
				  code == -ENOMEM ? "; raise RLIMIT_MEMLOCK (ulimit -l) to the size of all guests of "
						    "this user, or free memory"
						  : "; see the host's kernel log");
	return 0;
}

static int unmap(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	struct iommufd *self = iommufd(backend);
	struct iommu_ioas_unmap request = {
		.size = sizeof(request),
		.ioas_id = self->ioas,
		.iova = gpa,
		.length = size_bytes,
	};
	int code = kernel_ioctl(self->fd, IOMMU_IOAS_UNMAP, &request);
	if (code < 0)
		return tenon_fail(err, code,
				  "guest memory at 0x%llx: cannot unmap it from devices: %s; keep it until the devices "
				  "are closed",
				  (unsigned long long)gpa, strerror(-code));
	return 0;
}

static int allowed(struct space_backend *backend, struct tenon_iova_range *ranges, size_t capacity,
		   struct tenon_error *err)
{
	struct iommufd *self = iommufd(backend);
	/* struct iommu_iova_range has the shape of struct tenon_iova_range: two inclusive 64-bit addresses. */
	_Static_assert(sizeof(struct iommu_iova_range) == sizeof(struct tenon_iova_range), "same shape");
	struct iommu_ioas_iova_ranges request = {
		.size = sizeof(request),
		.ioas_id = self->ioas,
		.num_iovas = (uint32_t)capacity,
		.allowed_iovas = (uintptr_t)ranges,
	};
	int code = kernel_ioctl(self->fd, IOMMU_IOAS_IOVA_RANGES, &request);
	if (code < 0 && code != -EMSGSIZE)
		return tenon_fail(err, code,
				  "%s: cannot fetch the allowed DMA addresses: %s; see the host's kernel log",
				  IOMMUFD_PATH, strerror(-code));
	return (int)request.num_iovas;
}

static int select_compat(const struct iommufd *self, uint16_t op, uint32_t *ioas)
{
	struct iommu_vfio_ioas request = {.size = sizeof(request), .ioas_id = *ioas, .op = op};
	int code = kernel_ioctl(self->fd, IOMMU_VFIO_IOAS, &request);
	*ioas = request.ioas_id;
	return code;
}

/*
 * An iommufd answers the container's question too, with or without CONFIG_IOMMUFD_VFIO_CONTAINER, for the one IOAS that was made
 * its compatibility IOAS (drivers/iommu/iommufd/vfio_compat.c). Not on an iommufd that we borrow: its owner may use a container's
 * calls on it meanwhile, and they would reach our IOAS.
 */
static int coherent(struct space_backend *backend)
{
	struct iommufd *self = iommufd(backend);
	uint32_t ioas = self->ioas;
	if (!self->own_fd)
		return 0;
	int code = select_compat(self, IOMMU_VFIO_IOAS_SET, &ioas);
	if (code < 0)
		return code;
	code = kernel_ioctl(self->fd, VFIO_CHECK_EXTENSION, (void *)(uintptr_t)VFIO_DMA_CC_IOMMU);
	select_compat(self, IOMMU_VFIO_IOAS_CLEAR, &ioas);
	return code;
}

/* ---- Page tables with dirty bits ---- */

static void destroy_object(const struct iommufd *self, uint32_t id)
{
	struct iommu_destroy request = {.size = sizeof(request), .id = id};
	kernel_ioctl(self->fd, IOMMU_DESTROY, &request);
}

static struct hwpt *hwpt_of(struct iommufd *self, uint32_t id)
{
	for (unsigned i = 0; i < self->hwpt_count; i++) {
		if (self->hwpts[i].id == id)
			return &self->hwpts[i];
	}
	return NULL;
}

static int dirty_tracks(struct space_backend *backend, const struct space_member *member, char *why, size_t capacity)
{
	(void)backend;
	if (member->hwpt)
		return 1;
	snprintf(why, capacity, "%s",
		 member->mediated
			 ? "a mediated device has no IOMMU of its own, and iommufd does not tell what its driver "
			   "writes; use the container interface"
			 : "its IOMMU has no dirty bits that this kernel can use; use a host with Linux 6.7 and "
			   "VT-d in scalable mode, AMD-Vi or SMMUv3 with dirty bits");
	return 0;
}

static int set_tracking(const struct iommufd *self, struct hwpt *hwpt, bool on)
{
	struct hwpt_set_dirty_tracking request = {
		.size = sizeof(request), .flags = on ? HWPT_TRACKING_ENABLE : 0, .hwpt_id = hwpt->id};
	int code = kernel_ioctl(self->fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &request);
	if (code == 0 || !on)
		hwpt->tracked = on;
	return code;
}

static int dirty_start(struct space_backend *backend, const struct space_member *member, struct tenon_error *err)
{
	struct iommufd *self = iommufd(backend);
	struct hwpt *hwpt = hwpt_of(self, member->hwpt);
	int code = hwpt->tracked ? 0 : set_tracking(self, hwpt, true);
	if (code < 0)
		return tenon_fail(err, code,
				  "cannot turn its IOMMU's dirty bits on: %s; see the host's kernel log, or let all "
				  "memory count as written",
				  strerror(-code));
	return 0;
}

static void dirty_stop(struct space_backend *backend)
{
	struct iommufd *self = iommufd(backend);
	for (unsigned i = 0; i < self->hwpt_count; i++) {
		if (self->hwpts[i].tracked)
			set_tracking(self, &self->hwpts[i], false);
	}
}

static int dirty_fetch(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, uint64_t *bitmap,
		       struct tenon_error *err)
{
	struct iommufd *self = iommufd(backend);
	for (unsigned i = 0; i < self->hwpt_count; i++) {
		struct hwpt_get_dirty_bitmap request = {
			.size = sizeof(request),
			.hwpt_id = self->hwpts[i].id,
			.iova = gpa,
			.length = size_bytes,
			.page_size = PAGE_BYTES,
			.data = (uintptr_t)bitmap,
		};
		int code = self->hwpts[i].tracked ? kernel_ioctl(self->fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &request) : 0;
		if (code < 0)
			return tenon_fail(err, code,
					  "guest memory at 0x%llx: cannot read the IOMMU's dirty bits: %s; all of it "
					  "counts as written now",
					  (unsigned long long)gpa, strerror(-code));
	}
	return 0;
}

static void destroy(struct space_backend *backend)
{
	struct iommufd *self = iommufd(backend);
	destroy_object(self, self->ioas);
	if (self->own_fd)
		kernel_close(self->fd);
	free(self);
}

static const struct space_backend_ops iommufd_ops = {
	.map = map,
	.unmap = unmap,
	.allowed = allowed,
	.coherent = coherent,
	.dirty_tracks = dirty_tracks,
	.dirty_start = dirty_start,
	.dirty_stop = dirty_stop,
	.dirty_fetch = dirty_fetch,
	.destroy = destroy,
};

bool iommufd_is_missing(int code)
{
	return code == -ENOENT || code == -ENODEV || code == -ENXIO;
}

static int open_iommufd(struct tenon_error *err)
{
	int fd = kernel_open(IOMMUFD_PATH, O_RDWR);
	if (iommufd_is_missing(fd))
		return tenon_fail(
			err, fd,
			"%s: missing; the kernel needs CONFIG_IOMMUFD (modprobe iommufd loads it where it is a module)",
			IOMMUFD_PATH);
	if (fd < 0)
		return tenon_fail(err, fd, "%s: cannot open: %s; give this user read-write access to it", IOMMUFD_PATH,
				  strerror(-fd));
	return fd;
}

int iommufd_create(int fd, struct space_backend **out, struct tenon_error *err)
{
	struct iommufd *self = calloc(1, sizeof(*self));
	if (!self)
		return tenon_fail(err, -ENOMEM, "%s: cannot set up: out of memory; free some memory", IOMMUFD_PATH);
	self->backend.ops = &iommufd_ops;
	self->own_fd = fd == 0;
	self->fd = fd ? fd : open_iommufd(err);
	if (self->fd < 0) {
		int code = self->fd;
		free(self);
		return code;
	}

	struct iommu_ioas_alloc request = {.size = sizeof(request)};
	int code = kernel_ioctl(self->fd, IOMMU_IOAS_ALLOC, &request);
	if (code < 0) {
		if (self->own_fd)
			kernel_close(self->fd);
		free(self);
		return tenon_fail(err, code,
				  "%s: cannot make a DMA address space: %s; the kernel needs a current CONFIG_IOMMUFD",
				  IOMMUFD_PATH, strerror(-code));
	}
	self->ioas = request.out_ioas_id;
	*out = &self->backend;
	return 0;
}

/* @return 0, or 1 when the kernel knows no tokens here and bound the device without */
static int bind_cdev(const struct iommufd *self, int cdev, const struct vf_token *token, uint32_t *device_id)
{
	struct bind_iommufd_with_token request = {
		.argsz = token ? sizeof(request) : sizeof(struct vfio_device_bind_iommufd),
		.flags = token ? VFIO_DEVICE_BIND_FLAG_TOKEN : 0,
		.iommufd = self->fd,
		.token_uuid_ptr = token ? (uintptr_t)token->uuid : 0,
	};
	/* Binding resets the function, and fails as a whole where that finds a lock taken: vfio_pci_core_enable(). */
	int code = patient_ioctl(cdev, VFIO_DEVICE_BIND_IOMMUFD, &request, PATIENT_WITH_LOCKS);
	bool unchecked = code == -EINVAL && token;
	if (unchecked) {
		request.argsz = sizeof(struct vfio_device_bind_iommufd);
		request.flags = 0;
		code = patient_ioctl(cdev, VFIO_DEVICE_BIND_IOMMUFD, &request, PATIENT_WITH_LOCKS);
	}
	*device_id = request.out_devid;
	return code < 0 ? code : unchecked;
}

/* In words; what the kernel has one code for, and sysfs does not tell apart, is named together. */
static int refuse_bind(int code, const struct vf_token *token, const char *name, const struct space_member *member,
		       struct tenon_error *err)
{
	char members[192], group[32] = "";
	if ((code == -EINVAL || code == -EPERM) && group_is_firmware_s(member->group))
		return group_refuse_firmware_s(member->group, name, err);
	if (member->group >= 0)
		snprintf(group, sizeof(group), " %d", member->group);
	switch (code) {
	case -EINVAL: /* also what the kernel says of a device whose DMA its IOMMU cannot keep coherent with the caches */
		return tenon_fail(
			err, -EBUSY,
			"%s: cannot bind: already open, in another process or twice in this one%s; end the process "
			"that "
			"uses it (fuser -v /dev/vfio/devices/* shows it)%s",
			name, member->passed ? ", or its open file was bound before, by an open that failed, too" : "",
			member->passed ? ", or pass a file that was opened anew" : "");
	case -EBUSY: /* vfio_device_block_group() */
		return tenon_fail(err, code,
				  "%s: cannot bind: another process has its IOMMU group%s open; end the process that "
				  "uses it (fuser -v /dev/vfio/* shows it)",
				  name, group);
	case -EPERM: /* iommu_device_claim_dma_owner(), a host driver being an owner, too; or iommufd_device_bind() */
		group_describe(member->group, members, sizeof(members));
		return tenon_fail(
			err, code,
			"%s: cannot bind: a host driver or another process has a device of its IOMMU group%s (%s), "
			"which goes to one VM as a whole, or the host cannot isolate its interrupts; tenon bind them, "
			"end that process (fuser -v /dev/vfio/devices/*), or turn interrupt remapping on in the "
			"firmware",
			name, group, members);
	case -EAGAIN:
		return patience_ended("bind", name, err);
	case -EACCES:
		return vf_token_refused(token, name, err);
	default:
		return tenon_fail(err, code, "%s: cannot bind to %s: %s; see the host's kernel log", name, IOMMUFD_PATH,
				  strerror(-code));
	}
}

static int attach_to(int cdev, uint32_t id)
{
	struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = id};
	return kernel_ioctl(cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

/* Of a mediated device, and by older kernels, refused. */
static bool has_dirty_bits(const struct iommufd *self, uint32_t device_id)
{
	struct hw_info info = {.size = sizeof(info), .dev_id = device_id};
	return kernel_ioctl(self->fd, IOMMU_GET_HW_INFO, &info) == 0 &&
	       info.out_capabilities & HW_CAPABILITY_DIRTY_TRACKING;
}

static int use_hwpt(struct hwpt *hwpt, int cdev, struct space_member *member)
{
	int code = attach_to(cdev, hwpt->id);
	if (code == 0) {
		hwpt->devices++;
		member->hwpt = hwpt->id;
	}
	return code;
}

static int attach_to_new_hwpt(struct iommufd *self, int cdev, struct space_member *member)
{
	struct hwpt_alloc request = {
		.size = sizeof(request),
		.flags = HWPT_WITH_DIRTY_TRACKING,
		.dev_id = member->device_id,
		.pt_id = self->ioas,
	};
	if (self->hwpt_count == HWPTS_MAX || kernel_ioctl(self->fd, IOMMU_HWPT_ALLOC, &request) < 0)
		return attach_to(cdev, self->ioas);
	struct hwpt *hwpt = &self->hwpts[self->hwpt_count];
	*hwpt = (struct hwpt){.id = request.out_hwpt_id};
	int code = use_hwpt(hwpt, cdev, member);
	if (code == 0)
		self->hwpt_count++;
	else
		destroy_object(self, hwpt->id);
	/* Its group has a table without dirty bits, since none could be made for the first of its devices. */
	return code == -EINVAL ? attach_to(cdev, self->ioas) : code;
}

/*
 * The kernel's own page tables, which it picks where only an IOAS is named, have no dirty bits: whether the VM will move must be
 * decided here, and it may. A table that another IOMMU has made answers EINVAL.
 */
static int attach_with_dirty_bits(struct iommufd *self, int cdev, struct space_member *member)
{
	if (!has_dirty_bits(self, member->device_id))
		return attach_to(cdev, self->ioas);
	for (unsigned i = 0; i < self->hwpt_count; i++) {
		int code = use_hwpt(&self->hwpts[i], cdev, member);
		if (code != -EINVAL)
			return code;
	}
	return attach_to_new_hwpt(self, cdev, member);
}

int iommufd_attach(struct space_backend *backend, int cdev, const struct vf_token *token, const char *name,
		   struct space_member *member, struct tenon_error *err)
{
	struct iommufd *self = iommufd(backend);
	int unchecked = bind_cdev(self, cdev, token, &member->device_id);
	if (unchecked < 0)
		return refuse_bind(unchecked, token, name, member, err);

	int code = attach_with_dirty_bits(self, cdev, member);
	if (code == -EADDRINUSE)
		return tenon_fail(err, code,
				  "%s: cannot join the VM: the host reserves DMA addresses for it inside guest memory; "
				  "use less memory",
				  name);
	if (code < 0)
		return tenon_fail(err, code,
				  "%s: cannot attach to the VM's address space: %s; is interrupt remapping on? see the "
				  "host's kernel log",
				  name, strerror(-code));
	return unchecked;
}

void iommufd_detach(struct space_backend *backend, int cdev, struct space_member *member)
{
	struct iommufd *self = iommufd(backend);
	struct hwpt *hwpt = hwpt_of(self, member->hwpt);
	struct vfio_device_detach_iommufd_pt request = {.argsz = sizeof(request)};
	kernel_ioctl(cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &request);
	member->hwpt = 0;
	if (!hwpt || --hwpt->devices)
		return;
	destroy_object(self, hwpt->id);
	*hwpt = self->hwpts[--self->hwpt_count];
}

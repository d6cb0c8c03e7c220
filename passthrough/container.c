// SPDX-License-Identifier: MIT
/*
 * /dev/vfio/vfio: one container that the groups of all devices of a VM share, with the type1 IOMMU driver. Owns the container
 * and the groups' files in it. The first group brings the IOMMU driver and the last takes it, with all that is mapped.
 * Source: Linux Documentation/driver-api/vfio.rst, include/uapi/linux/vfio.h; what its errors mean: vfio_iommu_type1.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container.h"
#include "group.h"
#include "group_file.h"
#include "info.h"
#include "kernel.h"
#include "uapi.h"

#define CONTAINER_PATH "/dev/vfio/vfio"
#define GROUPS_MAX     64
#define PAGE_BYTES     4096u

struct container_group {
	int number;
	int fd;
	unsigned devices;
	bool mediated;
};

struct container {
	struct space_backend backend;
	int fd;
	bool own_fd;
	bool tracked; /* VFIO_IOMMU_DIRTY_PAGES is on */
	struct container_group groups[GROUPS_MAX];
	unsigned group_count;
};

static struct container *container(struct space_backend *backend)
{
	return (struct container *)backend; /* first member */
}

static int dma_map(const struct container *self, uint64_t gpa, uint64_t size_bytes, void *hva, uint32_t access)
{
	struct vfio_iommu_type1_dma_map request = {
		.argsz = sizeof(request),
		.flags = access,
		.vaddr = (uintptr_t)hva,
		.iova = gpa,
		.size = size_bytes,
	};
	return kernel_ioctl(self->fd, VFIO_IOMMU_MAP_DMA, &request);
}

/* One ioctl whatever the size: the kernel pins and merges pages by itself, and each mapping counts against its limit. */
static int map(struct space_backend *backend, const struct tenon_space_region *region, struct tenon_error *err)
{
	int code = dma_map(container(backend), region->gpa, region->size_bytes, region->hva,
			   VFIO_DMA_MAP_FLAG_READ | (region->read_only ? 0 : VFIO_DMA_MAP_FLAG_WRITE));
	if (code == -ENOSPC)
		return tenon_fail(err, code,
				  "guest memory at 0x%llx: the container takes no more mappings; raise "
				  "vfio_iommu_type1.dma_entry_limit",
				  (unsigned long long)region->gpa);
	if (code == -EEXIST) /* not other memory, which the space would have seen */
		return tenon_fail(
			err, code,
			"guest memory at 0x%llx: a device's BAR is mapped there for DMA between devices; add the "
			"memory elsewhere, or have the guest move the BAR",
			(unsigned long long)region->gpa);
	if (code < 0)
		return tenon_fail(err, code, "guest memory at 0x%llx: cannot map %llu MiB for DMA: %s; %s",
				  (unsigned long long)region->gpa, (unsigned long long)(region->size_bytes >> 20),
				  strerror(-code),
				  code == -ENOMEM ? "raise RLIMIT_MEMLOCK (ulimit -l), or free memory"
						  : "see the host's kernel log");
	return 0;
}

static int map_bar(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, void *hva, struct tenon_error *err)
{
	int code = dma_map(container(backend), gpa, size_bytes, hva, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
	if (code < 0)
		return tenon_fail(err, code,
				  "DMA address 0x%llx: cannot map a BAR there: %s; keep DMA between devices in memory",
				  (unsigned long long)gpa, strerror(-code));
	return 0;
}

static int unmap(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	struct vfio_iommu_type1_dma_unmap request = {.argsz = sizeof(request), .iova = gpa, .size = size_bytes};
	int code = kernel_ioctl(container(backend)->fd, VFIO_IOMMU_UNMAP_DMA, &request);
	if (code < 0)
		return tenon_fail(err, code,
				  "guest memory at 0x%llx: cannot unmap it from devices: %s; keep it until the devices "
				  "are closed",
				  (unsigned long long)gpa, strerror(-code));
	/* The kernel calls it a success when nothing was there. */
	if (request.size != size_bytes)
		return tenon_fail(
			err, -EIO,
			"DMA address 0x%llx: only 0x%llx of 0x%llx bytes were still mapped for devices; end what "
			"else changes the container's mappings",
			(unsigned long long)gpa, (unsigned long long)request.size, (unsigned long long)size_bytes);
	return 0;
}

/* VFIO_IOMMU_GET_INFO with its capabilities, in memory that the caller frees. @return its size or -errno */
static int get_info(const struct container *self, uint8_t **out, struct tenon_error *err)
{
	const struct vfio_iommu_type1_info head = {0};
	int bytes = info_query(self->fd, VFIO_IOMMU_GET_INFO, &head, sizeof(head), out);
	if (bytes < 0)
		return tenon_fail(err, bytes, "%s: VFIO_IOMMU_GET_INFO failed: %s; report this kernel", CONTAINER_PATH,
				  strerror(-bytes));
	return bytes;
}

/* Offset of a capability of at least `size` bytes, 0: none. */
static uint32_t find_capability(const uint8_t *info, int bytes, uint16_t id, size_t size)
{
	struct vfio_iommu_type1_info head;
	memcpy(&head, info, sizeof(head));
	return info_capability(info, (uint32_t)bytes, sizeof(head),
			       head.flags & VFIO_IOMMU_INFO_CAPS ? head.cap_offset : 0, id, size);
}

static int allowed(struct space_backend *backend, struct tenon_iova_range *ranges, size_t capacity,
		   struct tenon_error *err)
{
	struct vfio_iommu_type1_info_cap_iova_range cap;
	/* struct vfio_iova_range has the shape of struct tenon_iova_range: two inclusive 64-bit addresses. */
	_Static_assert(sizeof(struct vfio_iova_range) == sizeof(struct tenon_iova_range), "same shape");
	uint8_t *info;
	int bytes = get_info(container(backend), &info, err);
	if (bytes < 0)
		return bytes;
	uint32_t at = find_capability(info, bytes, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, sizeof(cap));
	if (!at) {
		/* Kernels before 5.4 do not tell, and for devices without an IOMMU of their own (mdev) nothing is reserved. */
		if (capacity > 0)
			ranges[0] = (struct tenon_iova_range){.first = 0, .last = UINT64_MAX};
		free(info);
		return 1;
	}
	memcpy(&cap, info + at, sizeof(cap));
	uint32_t fits = ((uint32_t)bytes - at - (uint32_t)sizeof(cap)) / (uint32_t)sizeof(struct vfio_iova_range);
	uint32_t count = cap.nr_iovas < fits ? cap.nr_iovas : fits;
	memcpy(ranges, info + at + sizeof(cap), (count < capacity ? count : capacity) * sizeof(ranges[0]));
	free(info);
	return (int)count;
}

static int room(struct space_backend *backend, struct tenon_error *err)
{
	struct vfio_iommu_type1_info_dma_avail cap = {.avail = INT_MAX};
	uint8_t *info;
	int bytes = get_info(container(backend), &info, err);
	if (bytes < 0)
		return bytes;
	uint32_t at = find_capability(info, bytes, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, sizeof(cap));
	if (at)
		memcpy(&cap, info + at, sizeof(cap));
	free(info);
	return cap.avail > INT_MAX ? INT_MAX : (int)cap.avail;
}

static int coherent(struct space_backend *backend)
{
	return kernel_ioctl(container(backend)->fd, VFIO_CHECK_EXTENSION, (void *)(uintptr_t)VFIO_DMA_CC_IOMMU);
}

/*
 * What a group with an IOMMU may reach counts as written as a whole, always, whatever other groups do (vfio_iommu_type1.c,
 * num_non_pinned_groups); that is no tracking. What drivers of mediated devices pin, it knows.
 */
static int dirty_tracks(struct space_backend *backend, const struct space_member *member, char *why, size_t capacity)
{
	const struct container *self = container(backend);
	struct vfio_iommu_type1_info_cap_migration cap = {0};
	uint8_t *info;
	for (unsigned i = 0; i < self->group_count; i++) {
		if (self->groups[i].mediated)
			continue;
		snprintf(why, capacity, "%s",
			 member->mediated
				 ? "the container takes all memory for written as long as a device with an IOMMU "
				   "is in it; keep them in VMs of their own"
				 : "the container takes all memory for written; use iommufd");
		return 0;
	}
	int bytes = get_info(self, &info, NULL);
	if (bytes < 0)
		return bytes;
	uint32_t at = find_capability(info, bytes, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, sizeof(cap));
	if (at)
		memcpy(&cap, info + at, sizeof(cap));
	free(info);
	if (cap.pgsize_bitmap & PAGE_BYTES)
		return 1;
	snprintf(why, capacity,
		 "this kernel's container does not tell which pages are written; use Linux 5.8 or later");
	return 0;
}

static int set_tracking(struct container *self, bool on)
{
	struct vfio_iommu_type1_dirty_bitmap request = {
		.argsz = sizeof(request),
		.flags = on ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START : VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
	};
	int code = kernel_ioctl(self->fd, VFIO_IOMMU_DIRTY_PAGES, &request);
	if (code == 0 || !on)
		self->tracked = on;
	return code;
}

static int dirty_start(struct space_backend *backend, const struct space_member *member, struct tenon_error *err)
{
	struct container *self = container(backend);
	(void)member;
	int code = self->tracked ? 0 : set_tracking(self, true);
	if (code < 0)
		return tenon_fail(err, code,
				  "the container cannot log what is written: %s; free some memory, or let all memory "
				  "count as written",
				  strerror(-code));
	return 0;
}

static void dirty_stop(struct space_backend *backend)
{
	struct container *self = container(backend);
	if (self->tracked)
		set_tracking(self, false);
}

/* The kernel refuses a range that cuts through what was mapped as one. */
static int dirty_fetch(struct space_backend *backend, uint64_t gpa, uint64_t size_bytes, uint64_t *bitmap,
		       struct tenon_error *err)
{
	struct container *self = container(backend);
	if (!self->tracked)
		return 0;
	size_t words = (size_t)((size_bytes / PAGE_BYTES + 63) / 64);
	uint64_t *fresh = calloc(words, sizeof(*fresh)); /* the kernel overwrites */
	union {
		struct vfio_iommu_type1_dirty_bitmap head;
		uint8_t bytes[sizeof(struct vfio_iommu_type1_dirty_bitmap) +
			      sizeof(struct vfio_iommu_type1_dirty_bitmap_get)];
	} request = {.head = {.argsz = sizeof(request.bytes), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP}};
	const struct vfio_iommu_type1_dirty_bitmap_get range = {
		.iova = gpa,
		.size = size_bytes,
		.bitmap = {.pgsize = PAGE_BYTES, .size = words * sizeof(*fresh), .data = (__u64 *)fresh},
	};
	memcpy(request.bytes + sizeof(request.head), &range, sizeof(range));
	int code = fresh ? kernel_ioctl(self->fd, VFIO_IOMMU_DIRTY_PAGES, &request) : -ENOMEM;
	for (size_t i = 0; code == 0 && i < words; i++)
		bitmap[i] |= fresh[i];
	free(fresh);
	if (code < 0)
		return tenon_fail(err, code,
				  "guest memory at 0x%llx: the container does not tell what is written: %s; all of it "
				  "counts as written now",
				  (unsigned long long)gpa, strerror(-code));
	return 0;
}

static void destroy(struct space_backend *backend)
{
	struct container *self = container(backend);
	for (unsigned i = 0; i < self->group_count; i++)
		kernel_close(self->groups[i].fd);
	if (self->own_fd)
		kernel_close(self->fd);
	free(self);
}

static const struct space_backend_ops container_ops = {
	.map = map,
	.unmap = unmap,
	.allowed = allowed,
	.room = room,
	.map_bar = map_bar,
	.coherent = coherent,
	.dirty_tracks = dirty_tracks,
	.dirty_start = dirty_start,
	.dirty_stop = dirty_stop,
	.dirty_fetch = dirty_fetch,
	.dirty_by_region = true,
	.destroy = destroy,
};

static int open_container(struct tenon_error *err)
{
	int fd = kernel_open(CONTAINER_PATH, O_RDWR);
	if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO)
		return tenon_fail(
			err, fd,
			"%s: missing; the kernel needs CONFIG_VFIO_CONTAINER (modprobe vfio loads it where it is "
			"a module)",
			CONTAINER_PATH);
	if (fd < 0)
		return tenon_fail(err, fd, "%s: cannot open: %s; give this user read-write access to it",
				  CONTAINER_PATH, strerror(-fd));
	return fd;
}

int container_create(int fd, struct space_backend **out, struct tenon_error *err)
{
	struct container *self = calloc(1, sizeof(*self));
	if (!self)
		return tenon_fail(err, -ENOMEM, "%s: cannot set up: out of memory; free some memory", CONTAINER_PATH);
	self->backend.ops = &container_ops;
	self->own_fd = fd == 0;
	self->fd = fd ? fd : open_container(err);
	if (self->fd < 0) {
		int code = self->fd;
		free(self);
		return code;
	}
	int version = kernel_ioctl(self->fd, VFIO_GET_API_VERSION, NULL);
	if (version != VFIO_API_VERSION) {
		destroy(&self->backend);
		return tenon_fail(err, version < 0 ? version : -EPROTO, "%s: VFIO_GET_API_VERSION: %s; give an open %s",
				  CONTAINER_PATH, version < 0 ? strerror(-version) : "an unknown version",
				  CONTAINER_PATH);
	}
	*out = &self->backend;
	return 0;
}

/* In words, for both ways in which a group gets its IOMMU: with the driver, and into a container that has one. */
static int refuse_group(int code, bool first, int group, const char *name, struct tenon_error *err)
{
	char members[192];
	if ((code == -EINVAL || code == -EPERM) && group_is_firmware_s(group))
		return group_refuse_firmware_s(group, name, err);
	if (code == -EINVAL && first)
		return tenon_fail(err, code,
				  "%s: the container cannot take IOMMU group %d: %s; pass one that nobody uses", name,
				  group, strerror(-code));
	switch (code) {
	case -EPERM: /* iommu_group_claim_dma_owner(), a host driver being an owner, too; or vfio_iommu_type1_attach_group() */
		group_describe(group, members, sizeof(members));
		return tenon_fail(
			err, code,
			"%s: cannot join: IOMMU group %d (%s) has another owner, or the host cannot isolate its "
			"interrupts; tenon bind what a host driver has and end what uses the others, or turn interrupt "
			"remapping on in the firmware",
			name, group, members);
	case -ENODEV:
		return tenon_fail(err, code,
				  "%s: the kernel has no type1 IOMMU for IOMMU group %d; it needs "
				  "CONFIG_VFIO_IOMMU_TYPE1 (modprobe vfio_iommu_type1 loads it where it is a module)",
				  name, group);
	case -EBUSY: /* a domain that is neither the host's nor VFIO's */
		group_describe(group, members, sizeof(members));
		return tenon_fail(
			err, code,
			"%s: IOMMU group %d (%s) has an address space that a host driver gave it; tenon bind the "
			"device that has this driver",
			name, group, members);
	case -EINVAL: /* vfio_iommu_type1_attach_group() says so of what is mapped already */
		return tenon_fail(
			err, -EADDRINUSE,
			"%s: cannot join the VM: the host reserves DMA addresses for it inside guest memory or a "
			"guest's BAR, or its IOMMU has no address space for it; use less memory, or see the host's "
			"kernel log",
			name);
	default:
		return tenon_fail(err, code,
				  "%s: cannot put IOMMU group %d into the container: %s; see the host's kernel log",
				  name, group, strerror(-code));
	}
}

int container_join(struct space_backend *backend, int group, bool mediated, const char *name, struct tenon_error *err)
{
	struct container *self = container(backend);
	for (unsigned i = 0; i < self->group_count; i++) {
		if (self->groups[i].number != group)
			continue;
		self->groups[i].devices++;
		return self->groups[i].fd;
	}
	if (self->group_count == GROUPS_MAX)
		return tenon_fail(err, -ENOSPC, "%s: more than %d IOMMU groups; assign fewer devices", name,
				  GROUPS_MAX);
	int fd = group_file_open(group, name, err);
	if (fd < 0)
		return fd;
	int code = kernel_ioctl(fd, VFIO_GROUP_SET_CONTAINER, &self->fd);
	if (code == 0 && self->group_count == 0)
		code = kernel_ioctl(self->fd, VFIO_SET_IOMMU, (void *)(uintptr_t)VFIO_TYPE1v2_IOMMU);
	if (code < 0) {
		kernel_close(fd); /* takes it out of the container, too */
		return refuse_group(code, self->group_count == 0, group, name, err);
	}
	self->groups[self->group_count++] =
		(struct container_group){.number = group, .fd = fd, .devices = 1, .mediated = mediated};
	return fd;
}

void container_leave(struct space_backend *backend, int group)
{
	struct container *self = container(backend);
	for (unsigned i = 0; i < self->group_count; i++) {
		if (self->groups[i].number != group || --self->groups[i].devices)
			continue;
		kernel_close(self->groups[i].fd);
		self->groups[i] = self->groups[--self->group_count];
		return;
	}
}

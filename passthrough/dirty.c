// SPDX-License-Identifier: MIT
/*
 * tenon_space_dirty_*: the union of what all devices of a space wrote. Owns who is asked how, and what must be told of pages beyond
 * what a log says: where a log was lost, all of them.
 * Source: Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_*; iommufd.c and container.c for the IOMMU's part.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "dirty.h"
#include "users_dirty.h"

#define PAGE_BYTES 4096u
#define WORD_BITS  64u

/* A vfio-user device's messages go over one socket. The kernel's calls need no lock, and no vCPU should wait for a long report. */
static void lock(struct tenon_device *device)
{
	if (!device->transport->remote)
		return;
	pthread_mutex_lock(&device->lock);
	remote_begin(device, REMOTE_RESET_MS);
}

static void unlock(struct tenon_device *device)
{
	if (!device->transport->remote)
		return;
	remote_end(device);
	pthread_mutex_unlock(&device->lock);
}

/* ---- Who can ---- */

static int logs_itself(struct tenon_device *device)
{
	int code = device_migration_feature(
		device, VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
		NULL, 0, NULL);
	return code == -ENOTTY ? 0 : code < 0 ? code : 1;
}

/* @param why  gets a clause when it does not */
static int iommu_tracks(const struct tenon_device *device, char *why, size_t capacity)
{
	struct space_backend *backend = space_backend(device->space);
	if (!device->transport->remote)
		return backend->ops->dirty_tracks(backend, &device->member, why, capacity);
	snprintf(why, capacity, "its server has no IOMMU; use one that logs DMA");
	return 0;
}

/*
 * How a device's writes can be logged; -errno where that cannot be found out. Then it must not count as one that cannot be logged, which
 * the caller may have allowed for another.
 *
 * @param why  gets a clause with DIRTY_LOGGING_NONE
 */
static int choose(struct tenon_device *device, char *why, size_t capacity)
{
	int code = logs_itself(device);
	if (code)
		return code < 0 ? code : (int)DIRTY_LOGGING_SELF;
	code = iommu_tracks(device, why, capacity);
	return code < 0 ? code : (int)(code ? DIRTY_LOGGING_IOMMU : DIRTY_LOGGING_NONE);
}

enum tenon_dirty_tracking dirty_tracking(struct tenon_device *device, char *why, size_t capacity)
{
	char clause[256];
	int logging = choose(device, clause, sizeof(clause));
	why[0] = '\0';
	if (logging == DIRTY_LOGGING_SELF)
		return TENON_DIRTY_DEVICE;
	if (logging == DIRTY_LOGGING_IOMMU)
		return TENON_DIRTY_IOMMU;
	if (logging < 0)
		snprintf(why, capacity,
			 "%s: cannot find out who tells which pages it writes: %s; see the host's kernel log",
			 device->address.name, strerror(-logging));
	else
		snprintf(why, capacity,
			 "%s: nobody tells which pages it writes: it logs no DMA, and %s, or let all memory count as "
			 "written (dirty-tracking=assume-all)",
			 device->address.name, clause);
	return TENON_DIRTY_NONE;
}

/* ---- A device's own log ---- */

/* Read-only regions are not written. @return how many */
static unsigned list_ranges(const struct tenon_space *space, struct vfio_device_feature_dma_logging_range *out)
{
	const struct tenon_space_region *regions;
	unsigned count = space_regions(space, &regions), listed = 0;
	for (unsigned i = 0; i < count; i++) {
		if (!regions[i].read_only)
			out[listed++] = (struct vfio_device_feature_dma_logging_range){.iova = regions[i].gpa,
										       .length = regions[i].size_bytes};
	}
	return listed;
}

static int start_ranges(struct tenon_device *device, const struct vfio_device_feature_dma_logging_range *ranges,
			unsigned count)
{
	struct vfio_device_feature_dma_logging_control control = {
		.page_size = PAGE_BYTES, .num_ranges = count, .ranges = (uintptr_t)ranges};
	return device_migration_feature(device, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
					&control, sizeof(control), NULL);
}

static struct vfio_device_feature_dma_logging_range cover(const struct vfio_device_feature_dma_logging_range *ranges,
							  unsigned count)
{
	uint64_t first = UINT64_MAX, last = 0;
	for (unsigned i = 0; i < count; i++) {
		uint64_t end = ranges[i].iova + (ranges[i].length - 1);
		first = ranges[i].iova < first ? ranges[i].iova : first;
		last = end > last ? end : last;
	}
	return (struct vfio_device_feature_dma_logging_range){.iova = first, .length = last - first + 1};
}

/* Devices have room for few ranges, and drivers say so in many ways. */
static bool is_too_many(int code)
{
	return code == -EINVAL || code == -ENOSPC || code == -E2BIG || code == -EOPNOTSUPP || code == -ENOMEM;
}

static int log_start(struct tenon_device *device, struct tenon_error *err)
{
	struct vfio_device_feature_dma_logging_range ranges[DIRTY_REGIONS_MAX];
	struct space_member *member = &device->member;
	unsigned count = list_ranges(device->space, ranges);
	member->logged = (struct tenon_iova_range){.first = UINT64_MAX, .last = 0};
	if (count == 0) /* which the kernel refuses */
		return 0;
	int code = start_ranges(device, ranges, count);
	if (is_too_many(code) && count > 1) {
		ranges[0] = cover(ranges, count);
		count = 1;
		code = start_ranges(device, ranges, count);
	}
	if (code < 0)
		return tenon_fail(err, code,
				  "%s: cannot log its DMA: %s; see the host's kernel log, or let all memory count as "
				  "written (dirty-tracking=assume-all)",
				  device->address.name, strerror(-code));
	if (count == 1)
		member->logged = (struct tenon_iova_range){.first = ranges[0].iova,
							   .last = ranges[0].iova + (ranges[0].length - 1)};
	return 0;
}

static void log_stop(struct tenon_device *device)
{
	device_migration_feature(device, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0, NULL);
}

/* The kernel only sets bits. */
static int log_fetch(struct tenon_device *device, uint64_t gpa, uint64_t size_bytes, uint64_t *bitmap,
		     struct tenon_error *err)
{
	struct vfio_device_feature_dma_logging_report report = {
		.iova = gpa, .length = size_bytes, .page_size = PAGE_BYTES, .bitmap = (uintptr_t)bitmap};
	return device_migration_feature(device, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
					&report, sizeof(report), err);
}

/* ---- Members ---- */

static int member_start(struct tenon_space *space, struct space_member *member, struct tenon_error *err)
{
	struct tenon_device *device = member->device;
	struct space_backend *backend = space_backend(space);
	char clause[256];
	int code = 0;
	lock(device);
	int logging = choose(device, clause, sizeof(clause));
	if (logging == DIRTY_LOGGING_SELF)
		code = log_start(device, err);
	unlock(device);
	if (logging < 0)
		return tenon_fail(err, logging,
				  "%s: cannot find out who tells which pages it writes: %s; see the host's kernel log",
				  device->address.name, strerror(-logging));
	if (logging == DIRTY_LOGGING_IOMMU) {
		code = backend->ops->dirty_start(backend, member, err);
		if (code < 0)
			tenon_fail_wrap(err, "%s", device->address.name);
	}
	member->logging = code < 0 ? DIRTY_LOGGING_OFF : (enum dirty_logging)logging;
	return code;
}

static void member_stop(struct space_member *member)
{
	if (member->logging == DIRTY_LOGGING_SELF) {
		lock(member->device);
		log_stop(member->device);
		unlock(member->device);
	}
	member->logging = DIRTY_LOGGING_OFF;
}

/* A server that has no file of the region asks this library to write, which logs that (users_dirty.h). */
static bool writes_directly(struct tenon_space *space, const struct tenon_device *device, uint64_t gpa)
{
	const struct tenon_space_region *regions;
	unsigned count = space_regions(space, &regions);
	for (unsigned i = 0; device->transport->remote && i < count; i++) {
		if (regions[i].gpa == gpa)
			return regions[i].fd > 0;
	}
	return true;
}

/* @param region  that the range is in */
static int device_fetch(struct tenon_device *device, struct dirty_region *region, uint64_t gpa, uint64_t size_bytes,
			uint64_t *bitmap, struct tenon_error *err)
{
	struct tenon_error error;
	int code = log_fetch(device, gpa, size_bytes, bitmap, &error);
	if (code == -EOPNOTSUPP && device->transport->remote) { /* libvfio-user tells of whole regions only */
		code = log_fetch(device, region->gpa, region->size_bytes, region->written, &error);
		region->any |= code == 0;
	}
	return code < 0 ? tenon_fail(err, code, "%s", error.message) : 0;
}

static int member_fetch(struct tenon_space *space, struct space_member *member, struct dirty_region *region,
			uint64_t gpa, uint64_t size_bytes, uint64_t *bitmap, struct tenon_error *err)
{
	const char *name = member->device->address.name;
	if (member->logging == DIRTY_LOGGING_OFF)
		return tenon_fail(err, -ESTALE,
				  "%s: came while it was logged which pages devices write, and is not part of that; "
				  "stop that and start again",
				  name);
	if (member->logging == DIRTY_LOGGING_LOST)
		return tenon_fail(err, -ESTALE, "%s: its log of the pages that it writes is lost; stop and start again",
				  name);
	if (member->logging != DIRTY_LOGGING_SELF || !writes_directly(space, member->device, region->gpa))
		return 0;
	lock(member->device);
	int code = device_fetch(member->device, region, gpa, size_bytes, bitmap, err);
	unlock(member->device);
	return code;
}

/* ---- Regions ---- */

static int region_add(struct space_dirty *dirty, const struct tenon_space_region *region, struct tenon_error *err)
{
	size_t words = (size_t)((region->size_bytes / PAGE_BYTES + WORD_BITS - 1) / WORD_BITS);
	uint64_t *written = calloc(words, sizeof(*written));
	if (!written)
		return tenon_fail(err, -ENOMEM,
				  "guest memory at 0x%llx: no memory for its bitmap of written pages; free some",
				  (unsigned long long)region->gpa);
	dirty->regions[dirty->region_count++] = (struct dirty_region){
		.gpa = region->gpa,
		.size_bytes = region->size_bytes,
		.written = written,
		.read_only = region->read_only,
	};
	return 0;
}

static struct dirty_region *region_of(struct space_dirty *dirty, uint64_t gpa, uint64_t size_bytes)
{
	for (unsigned i = 0; i < dirty->region_count; i++) {
		struct dirty_region *region = &dirty->regions[i];
		if (gpa >= region->gpa && gpa - region->gpa < region->size_bytes &&
		    size_bytes <= region->size_bytes - (gpa - region->gpa))
			return region;
	}
	return NULL;
}

/* A log is gone: whatever was in it was written. */
static void count_all(struct space_dirty *dirty)
{
	for (unsigned i = 0; i < dirty->region_count; i++) {
		struct dirty_region *region = &dirty->regions[i];
		uint64_t pages = region->size_bytes / PAGE_BYTES;
		memset(region->written, 0xff, (size_t)(pages / WORD_BITS) * sizeof(uint64_t));
		if (pages % WORD_BITS)
			region->written[pages / WORD_BITS] = (UINT64_C(1) << pages % WORD_BITS) - 1;
		region->any = true;
	}
}

/* Moves the bits of some pages over. */
static void take(struct dirty_region *region, uint64_t first, uint64_t count, uint64_t *bitmap)
{
	if (!region->any)
		return;
	region->any = false;
	for (uint64_t page = 0; page < region->size_bytes / PAGE_BYTES; page++) {
		uint64_t *word = &region->written[page / WORD_BITS], bit = UINT64_C(1) << page % WORD_BITS;
		if (!*word) {
			page |= WORD_BITS - 1;
			continue;
		}
		if (!(*word & bit))
			continue;
		if (page < first || page - first >= count) {
			region->any = true;
			continue;
		}
		*word &= ~bit;
		bitmap[(page - first) / WORD_BITS] |= UINT64_C(1) << (page - first) % WORD_BITS;
	}
}

/* ---- The public functions ---- */

int tenon_space_dirty_start(struct tenon_space *space, struct tenon_error *err)
{
	struct space_dirty *dirty = space_dirty(space);
	const struct tenon_space_region *regions;
	unsigned count = space_regions(space, &regions);
	int code = 0;
	if (dirty->on)
		return tenon_fail(err, -EBUSY,
				  "space: it is logged already which pages devices write; stop that first");
	dirty->on = true;
	code = space_users_dirty_start(space_users(space), err);
	for (unsigned i = 0; i < count && code == 0; i++)
		code = region_add(dirty, &regions[i], err);
	for (struct space_member *member = space_members(space); member && code == 0; member = member->next)
		code = member_start(space, member, err);
	if (code < 0)
		tenon_space_dirty_stop(space);
	return code;
}

void tenon_space_dirty_stop(struct tenon_space *space)
{
	struct space_dirty *dirty = space_dirty(space);
	struct space_backend *backend = space_backend(space);
	for (struct space_member *member = space_members(space); member; member = member->next)
		member_stop(member);
	if (backend)
		backend->ops->dirty_stop(backend);
	for (unsigned i = 0; i < dirty->region_count; i++)
		free(dirty->regions[i].written);
	space_users_dirty_stop(space_users(space));
	*dirty = (struct space_dirty){0};
}

/* What the IOMMU knows of the range; all that it knows of the region, where it does not tell of parts. */
static int backend_fetch(struct space_backend *backend, struct dirty_region *region, uint64_t gpa, uint64_t size_bytes,
			 uint64_t *bitmap, struct tenon_error *err)
{
	if (!backend)
		return 0;
	if (!backend->ops->dirty_by_region)
		return backend->ops->dirty_fetch(backend, gpa, size_bytes, bitmap, err);
	int code = backend->ops->dirty_fetch(backend, region->gpa, region->size_bytes, region->written, err);
	region->any = true;
	return code;
}

int tenon_space_dirty_fetch(struct tenon_space *space, uint64_t gpa, uint64_t size_bytes, uint64_t *bitmap,
			    struct tenon_error *err)
{
	struct space_dirty *dirty = space_dirty(space);
	struct dirty_region *region = region_of(dirty, gpa, size_bytes);
	int code = 0;
	if (!dirty->on)
		return tenon_fail(err, -EINVAL,
				  "space: it is not logged which pages devices write; call tenon_space_dirty_start");
	if (!region || size_bytes == 0 || (gpa | size_bytes) % PAGE_BYTES)
		return tenon_fail(
			err, -EINVAL,
			"guest memory at 0x%llx: 0x%llx bytes are no pages of one region; ask for each region",
			(unsigned long long)gpa, (unsigned long long)size_bytes);
	if (region->read_only)
		return 0;
	for (struct space_member *member = space_members(space); member && code == 0; member = member->next)
		code = member_fetch(space, member, region, gpa, size_bytes, bitmap, err);
	if (code == 0)
		code = backend_fetch(space_backend(space), region, gpa, size_bytes, bitmap, err);
	if (code == 0)
		space_users_dirty_fetch(space_users(space), gpa, size_bytes, bitmap);
	if (code == 0)
		take(region, (gpa - region->gpa) / PAGE_BYTES, size_bytes / PAGE_BYTES, bitmap);
	return code;
}

/* ---- What changes meanwhile ---- */

/* A log's ranges are given once. What the device writes before it starts again nobody knows. */
static int log_again(struct tenon_space *space, struct space_member *member, struct tenon_error *err)
{
	lock(member->device);
	log_stop(member->device);
	int code = log_start(member->device, err);
	unlock(member->device);
	if (code < 0)
		member->logging = DIRTY_LOGGING_LOST;
	count_all(space_dirty(space));
	return code;
}

int dirty_add(struct tenon_space *space, const struct tenon_space_region *region, struct tenon_error *err)
{
	struct space_dirty *dirty = space_dirty(space);
	uint64_t last = region->gpa + (region->size_bytes - 1);
	if (!dirty->on)
		return 0;
	int code = region_add(dirty, region, err);
	for (struct space_member *member = space_members(space); member && code == 0; member = member->next) {
		bool covered = region->gpa >= member->logged.first && last <= member->logged.last;
		if (member->logging == DIRTY_LOGGING_SELF && !region->read_only && !covered)
			code = log_again(space, member, err);
	}
	return code;
}

void dirty_remove(struct tenon_space *space, uint64_t gpa)
{
	struct space_dirty *dirty = space_dirty(space);
	for (unsigned i = 0; i < dirty->region_count; i++) {
		if (dirty->regions[i].gpa != gpa)
			continue;
		free(dirty->regions[i].written);
		dirty->regions[i] = dirty->regions[--dirty->region_count];
		return;
	}
}

void dirty_leave(struct tenon_space *space, struct space_member *member)
{
	if (!space_dirty(space)->on)
		return;
	if (member->logging != DIRTY_LOGGING_NONE && member->logging != DIRTY_LOGGING_OFF)
		count_all(space_dirty(space));
	member_stop(member);
}

// SPDX-License-Identifier: MIT
/*
 * Who in the fake kernel knows which pages devices write: a device's driver (drivers/vfio/vfio_main.c), a page table with dirty bits
 * (drivers/iommu/iommufd/hw_pagetable.c, io_pagetable.c), and a container (drivers/vfio/vfio_iommu_type1.c).
 */
#include <errno.h>
#include <string.h>

#include "uapi.h"
#include "vfio_model.h"

#define PAGE_BYTES 4096u

static void note(struct fake_pages *pages, uint64_t page)
{
	for (unsigned i = 0; i < pages->count; i++) {
		if (pages->page[i] == page)
			return;
	}
	if (pages->count == FAKE_PAGES_MAX)
		fake_report_misuse("a test writes more than %d pages", FAKE_PAGES_MAX);
	else
		pages->page[pages->count++] = page;
}

/* Sets bits, and forgets. */
static void report(struct fake_pages *pages, uint64_t iova, uint64_t length, uint64_t *bitmap)
{
	uint64_t first = iova / PAGE_BYTES;
	for (unsigned i = 0; i < pages->count;) {
		uint64_t page = pages->page[i];
		if (page < first || page - first >= length / PAGE_BYTES) {
			i++;
			continue;
		}
		bitmap[(page - first) / 64] |= UINT64_C(1) << (page - first) % 64;
		pages->page[i] = pages->page[--pages->count];
	}
}

bool fake_dma_write(struct fake_device *device, uint64_t iova)
{
	struct fake_logging *logging = &device->logging;
	if (!fake_dma_reaches(device, iova, true))
		return false;
	for (unsigned i = 0; logging->on && i < logging->range_count; i++) {
		if (iova >= logging->ranges[i].first && iova <= logging->ranges[i].last)
			note(&logging->written, iova / PAGE_BYTES);
	}
	if (device->hwpt && device->hwpt->tracked)
		note(&device->hwpt->written, iova / PAGE_BYTES);
	if (device->ioas->tracked)
		note(&device->ioas->written, iova / PAGE_BYTES);
	return true;
}

/* ---- A device's driver ---- */

static int logging_start(struct fake_logging *logging, const struct vfio_device_feature_dma_logging_control *control)
{
	const struct vfio_device_feature_dma_logging_range *ranges = (const void *)(uintptr_t)control->ranges;
	if (control->num_ranges == 0 || control->page_size != PAGE_BYTES)
		return -EINVAL;
	if (control->num_ranges > PAGE_BYTES / sizeof(*ranges))
		return -E2BIG;
	if (logging->on)
		return -EINVAL;
	if (logging->ranges_max && control->num_ranges > logging->ranges_max)
		return -logging->too_many;
	logging->range_count = 0;
	for (uint32_t i = 0; i < control->num_ranges; i++) {
		uint64_t last = ranges[i].iova + ranges[i].length - 1;
		if ((ranges[i].iova | ranges[i].length) % PAGE_BYTES)
			return -EINVAL;
		if (last < ranges[i].iova)
			return -EOVERFLOW;
		logging->ranges[logging->range_count].first = ranges[i].iova;
		logging->ranges[logging->range_count++].last = last;
	}
	logging->on = true;
	logging->written.count = 0;
	return 0;
}

int model_logging_feature(struct fake_device *device, const struct vfio_device_feature *request)
{
	struct fake_logging *logging = &device->logging;
	struct vfio_device_feature_dma_logging_control control;
	struct vfio_device_feature_dma_logging_report range;
	size_t room = request->argsz - sizeof(*request);
	uint32_t feature = request->flags & VFIO_DEVICE_FEATURE_MASK;
	uint32_t allowed =
		feature == VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT ? VFIO_DEVICE_FEATURE_GET : VFIO_DEVICE_FEATURE_SET;
	if (!logging->present)
		return -ENOTTY;
	if (request->flags & (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET) & ~allowed)
		return -EINVAL;
	if (request->flags & VFIO_DEVICE_FEATURE_PROBE)
		return 0;
	switch (feature) {
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
		if (room < sizeof(control))
			return -EINVAL;
		memcpy(&control, request->data, sizeof(control));
		fake_journal("%s logs %u ranges", device->bdf, control.num_ranges);
		return logging_start(logging, &control);
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
		fake_journal("%s logs no more", device->bdf);
		logging->on = false;
		return 0;
	default:
		model_migration_wait(device);
		if (room < sizeof(range) || !logging->on)
			return -EINVAL;
		memcpy(&range, request->data, sizeof(range));
		if (range.page_size != PAGE_BYTES)
			return -EINVAL;
		report(&logging->written, range.iova, range.length, (uint64_t *)(uintptr_t)range.bitmap);
		return 0;
	}
}

/* ---- iommufd ---- */

int model_hwpt_set_tracking(struct fake_hwpt *hwpt, const void *argument)
{
	const struct hwpt_set_dirty_tracking *request = argument;
	if (request->flags & ~HWPT_TRACKING_ENABLE)
		return -EOPNOTSUPP;
	if (!hwpt)
		return -ENOENT;
	hwpt->tracked = request->flags & HWPT_TRACKING_ENABLE;
	hwpt->written.count = 0;
	return 0;
}

/* @return the mapping that an address is in, or -1 */
static int mapping_of(const struct fake_ioas *ioas, uint64_t iova)
{
	for (unsigned i = 0; i < ioas->mapping_count; i++) {
		if (iova >= ioas->mappings[i].iova && iova - ioas->mappings[i].iova < ioas->mappings[i].length)
			return (int)i;
	}
	return -1;
}

int model_hwpt_get_dirty(struct fake_hwpt *hwpt, const void *argument)
{
	const struct hwpt_get_dirty_bitmap *request = argument;
	if (request->flags || request->reserved)
		return -EOPNOTSUPP;
	if (!hwpt)
		return -ENOENT;
	if (request->length == 0 || request->page_size != PAGE_BYTES ||
	    (request->iova | request->length) % PAGE_BYTES || mapping_of(hwpt->ioas, request->iova) < 0)
		return -EINVAL;
	report(&hwpt->written, request->iova, request->length, (uint64_t *)(uintptr_t)request->data);
	return 0;
}

/* ---- The container ---- */

/* It sees what drivers of mediated devices write; with another device in it, all may have been. */
static bool is_all_written(const struct fake_ioas *ioas)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		if (world.devices[i]->ioas == ioas && !world.devices[i]->uuid[0])
			return true;
	}
	return false;
}

static int get_bitmap(struct fake_ioas *ioas, const struct vfio_iommu_type1_dirty_bitmap_get *range)
{
	uint64_t pages = range->size / PAGE_BYTES, *bitmap = (uint64_t *)range->bitmap.data;
	int at = mapping_of(ioas, range->iova);
	if (!ioas->tracked || range->bitmap.pgsize != world.dirty_page_bytes || pages == 0 ||
	    range->bitmap.size < (pages + 63) / 64 * 8)
		return -EINVAL;
	if (at < 0 || ioas->mappings[at].iova != range->iova || ioas->mappings[at].length != range->size)
		return -EINVAL;
	memset(bitmap, is_all_written(ioas) ? 0xff : 0, (pages + 63) / 64 * 8);
	report(&ioas->written, range->iova, range->size, bitmap);
	return 0;
}

int model_dirty_pages(struct fake_ioas *ioas, const void *argument)
{
	const struct vfio_iommu_type1_dirty_bitmap *request = argument;
	struct vfio_iommu_type1_dirty_bitmap_get range;
	if (request->argsz < sizeof(*request))
		return -EINVAL;
	switch (request->flags) {
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
		ioas->tracked = true;
		ioas->written.count = 0;
		return 0;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		ioas->tracked = false;
		return 0;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
		if (request->argsz < sizeof(*request) + sizeof(range))
			return -EINVAL;
		memcpy(&range, request->data, sizeof(range));
		return get_bitmap(ioas, &range);
	default:
		return -EINVAL;
	}
}

// SPDX-License-Identifier: MIT
/*
 * The fake kernel's container with its type1 IOMMU, after drivers/vfio/container.c and vfio_iommu_type1.c. The IOMMU is one of
 * the address spaces of vfio_iommufd.c; unlike an iommufd it maps BARs.
 */
#include <errno.h>
#include <string.h>

#include "uapi.h"
#include "vfio_model.h"

#define RANGES_MAX 16

static bool has_group(const struct fake_file *container)
{
	for (unsigned i = 0; i < MODEL_FILES; i++) {
		if (world.files[i].kind == FILE_GROUP && world.files[i].container == container)
			return true;
	}
	return false;
}

static int set_iommu(struct fake_file *file, uintptr_t type)
{
	if (!has_group(file) || file->ioas)
		return -EINVAL;
	if (type != VFIO_TYPE1v2_IOMMU)
		return -ENODEV;
	struct fake_ioas *ioas = model_ioas_add(file);
	if (!ioas)
		return -ENOMEM;
	file->ioas = ioas->id;
	for (unsigned i = 0; i < MODEL_FILES; i++) {
		const struct fake_file *group = &world.files[i];
		if (group->kind != FILE_GROUP || group->container != file)
			continue;
		for (unsigned d = 0; d < world.device_count; d++) {
			if (world.devices[d]->group == group->group)
				model_ioas_attach(ioas, world.devices[d]);
		}
	}
	return 0;
}

/* A capability that the library does not know, the mappings that are left, and the allowed addresses. */
static int get_info(const struct fake_ioas *ioas, struct vfio_iommu_type1_info *info)
{
	struct {
		struct vfio_iommu_type1_info head;
		struct vfio_iommu_type1_info_cap_migration migration __attribute__((aligned(8)));
		struct vfio_iommu_type1_info_dma_avail avail __attribute__((aligned(8)));
		struct {
			struct vfio_info_cap_header header;
			uint32_t nr_iovas;
			uint32_t reserved;
		} iova __attribute__((aligned(8))); /* struct vfio_iommu_type1_info_cap_iova_range up to its ranges */
		struct vfio_iova_range ranges[RANGES_MAX];
	} all = {0};
	uint32_t given = info->argsz;
	if (given < offsetof(struct vfio_iommu_type1_info, cap_offset))
		return -EINVAL;
	unsigned count = model_ioas_allowed(ioas, (struct iommu_iova_range *)all.ranges, RANGES_MAX);
	uint32_t bytes = (uint32_t)(world.no_iova_capability ? offsetof(__typeof__(all), iova)
							     : offsetof(__typeof__(all), ranges[count]));
	all.head = (struct vfio_iommu_type1_info){
		.argsz = bytes,
		.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
		.iova_pgsizes = 4096,
		.cap_offset = given < bytes ? 0 : (uint32_t)offsetof(__typeof__(all), migration),
	};
	all.migration.header = (struct vfio_info_cap_header){
		.id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, .version = 1, .next = offsetof(__typeof__(all), avail)};
	all.migration.pgsize_bitmap = world.dirty_page_bytes;
	all.migration.max_dirty_bitmap_size = 256u << 20;
	all.avail.header =
		(struct vfio_info_cap_header){.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
					      .version = 1,
					      .next = world.no_iova_capability ? 0 : offsetof(__typeof__(all), iova)};
	all.avail.avail = world.dma_entries - ioas->mapping_count;
	all.iova.header = (struct vfio_info_cap_header){.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, .version = 1};
	all.iova.nr_iovas = count;
	memcpy(info, &all, given < bytes ? sizeof(all.head) : bytes);
	return 0;
}

static int dma_map(struct fake_ioas *ioas, const struct vfio_iommu_type1_dma_map *request)
{
	const uint32_t access = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	if (request->argsz < sizeof(*request) || !(request->flags & access) || request->flags & ~access)
		return -EINVAL;
	if (ioas->mapping_count >= world.dma_entries)
		return -ENOSPC;
	/* The BAR's page faults, and its device answers only while it decodes. */
	const struct fake_bar *bar = model_memory_bar(request->vaddr, request->size);
	for (unsigned i = 0; bar && i < world.device_count; i++) {
		const struct fake_device *device = world.devices[i];
		if (bar >= device->bars && bar < device->bars + FAKE_BARS && !model_config_memory_enabled(device))
			return -EFAULT;
	}
	return model_ioas_map(ioas, request->iova, request->size, request->vaddr,
			      request->flags & VFIO_DMA_MAP_FLAG_WRITE);
}

static int dma_unmap(struct fake_ioas *ioas, struct vfio_iommu_type1_dma_unmap *request)
{
	if (request->argsz < sizeof(*request) || request->flags)
		return -EINVAL;
	int64_t unmapped = model_ioas_unmap(ioas, request->iova, request->size);
	if (unmapped < 0)
		return -EINVAL;
	request->size = (uint64_t)unmapped;
	return 0;
}

int model_container_ioctl(struct fake_file *file, void *argument, enum fake_call kind)
{
	struct fake_ioas *ioas = model_ioas_of(file, file->ioas);
	if (kind == FAKE_API_VERSION)
		return VFIO_API_VERSION;
	if (kind == FAKE_SET_IOMMU)
		return set_iommu(file, (uintptr_t)argument);
	if (!ioas)
		return -EINVAL;
	switch (kind) {
	case FAKE_CHECK_EXTENSION:
		return (uintptr_t)argument == VFIO_DMA_CC_IOMMU ? model_ioas_coherent(ioas) : 0;
	case FAKE_IOMMU_INFO:
		return get_info(ioas, argument);
	case FAKE_DMA_MAP:
		return dma_map(ioas, argument);
	case FAKE_DMA_UNMAP:
		return dma_unmap(ioas, argument);
	case FAKE_DIRTY_PAGES:
		return model_dirty_pages(ioas, argument);
	default:
		return -ENOTTY;
	}
}

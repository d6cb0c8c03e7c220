// SPDX-License-Identifier: MIT
/*
 * The fake kernel's address spaces (IOASes; a container has one too) with DMA mappings and reserved addresses, and its iommufd. After drivers/iommu/iommufd/ioas.c and
 * io_pagetable.c. An IOAS without devices reserves nothing; each device brings the MSI window, the end of its
 * translation, and a range of its own.
 */
#include <errno.h>
#include <string.h>

#include "uapi.h"
#include "vfio_model.h"

#define MSI_FIRST     0xfee00000ull
#define MSI_LAST      0xfeefffffull
#define APERTURE_LAST 0x7fffffffffull /* 39 bits */
#define RANGES_MAX    40

struct ranges {
	struct iommu_iova_range list[RANGES_MAX];
	unsigned count;
};

struct fake_ioas *model_ioas_of(const struct fake_file *owner, uint32_t id)
{
	for (unsigned i = 0; i < MODEL_IOASES; i++) {
		if (id && world.ioases[i].id == id && world.ioases[i].iommufd == owner)
			return &world.ioases[i];
	}
	return NULL;
}

struct fake_ioas *model_ioas_add(struct fake_file *owner)
{
	for (unsigned i = 0; i < MODEL_IOASES; i++) {
		if (world.ioases[i].id)
			continue;
		world.ioases[i] = (struct fake_ioas){.id = ++world.next_id, .iommufd = owner};
		return &world.ioases[i];
	}
	return NULL;
}

void model_ioas_remove(struct fake_ioas *ioas)
{
	*ioas = (struct fake_ioas){0};
}

static void reserve(struct ranges *ranges, uint64_t first, uint64_t last)
{
	struct ranges left = {.count = 0};
	for (unsigned i = 0; i < ranges->count; i++) {
		struct iommu_iova_range range = ranges->list[i];
		if (range.start < first)
			left.list[left.count++] = (struct iommu_iova_range){
				.start = range.start, .last = range.last < first ? range.last : first - 1};
		if (range.last > last)
			left.list[left.count++] = (struct iommu_iova_range){
				.start = range.start > last ? range.start : last + 1, .last = range.last};
	}
	*ranges = left;
}

static void reserve_for(struct ranges *ranges, const struct fake_device *device)
{
	reserve(ranges, MSI_FIRST, MSI_LAST);
	reserve(ranges, APERTURE_LAST + 1, UINT64_MAX);
	if (device->reserved_last)
		reserve(ranges, device->reserved_first, device->reserved_last);
}

static struct ranges allowed(const struct fake_ioas *ioas)
{
	struct ranges ranges = {.list = {{.start = 0, .last = UINT64_MAX}}, .count = 1};
	for (unsigned i = 0; i < world.device_count; i++) {
		if (world.devices[i]->ioas == ioas)
			reserve_for(&ranges, world.devices[i]);
	}
	return ranges;
}

static bool is_allowed(const struct ranges *ranges, uint64_t first, uint64_t last)
{
	for (unsigned i = 0; i < ranges->count; i++) {
		if (first >= ranges->list[i].start && last <= ranges->list[i].last)
			return true;
	}
	return false;
}

unsigned model_ioas_allowed(const struct fake_ioas *ioas, struct iommu_iova_range *out, unsigned capacity)
{
	struct ranges ranges = allowed(ioas);
	for (unsigned i = 0; i < ranges.count && i < capacity; i++)
		out[i] = ranges.list[i];
	return ranges.count;
}

int model_ioas_attach(struct fake_ioas *ioas, struct fake_device *device)
{
	struct ranges ranges = allowed(ioas);
	reserve_for(&ranges, device);
	for (unsigned i = 0; i < ioas->mapping_count; i++) {
		uint64_t first = ioas->mappings[i].iova;
		if (!is_allowed(&ranges, first, first + ioas->mappings[i].length - 1))
			return -EADDRINUSE;
	}
	device->ioas = ioas;
	ioas->attached++;
	fake_journal("attach %s", device->bdf);
	return 0;
}

static struct fake_hwpt *hwpt_of(const struct fake_file *owner, uint32_t id)
{
	for (unsigned i = 0; i < MODEL_HWPTS; i++) {
		struct fake_hwpt *hwpt = &world.hwpts[i];
		if (id && hwpt->id == id && hwpt->ioas->iommufd == owner)
			return hwpt;
	}
	return NULL;
}

/* A group has one page table. */
static bool group_has_another(const struct fake_device *device, const struct fake_hwpt *hwpt)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		const struct fake_device *other = world.devices[i];
		if (other != device && other->group == device->group && other->ioas && other->hwpt != hwpt)
			return true;
	}
	return false;
}

int model_iommufd_attach_device(struct fake_device *device, uint32_t id)
{
	struct fake_ioas *ioas = model_ioas_of(device->owner->iommufd, id);
	struct fake_hwpt *hwpt = hwpt_of(device->owner->iommufd, id);
	if (!ioas && !hwpt)
		return -ENOENT;
	if (device->ioas || (hwpt && (device->uuid[0] || hwpt->iommu != device->iommu)) ||
	    group_has_another(device, hwpt))
		return -EINVAL;
	int code = model_ioas_attach(ioas ? ioas : hwpt->ioas, device);
	if (code == 0 && hwpt) {
		device->hwpt = hwpt;
		hwpt->attached++;
	}
	return code;
}

void model_iommufd_detach_device(struct fake_device *device)
{
	if (device->ioas)
		device->ioas->attached--;
	if (device->hwpt)
		device->hwpt->attached--;
	device->ioas = NULL;
	device->hwpt = NULL;
}

/* Of a device with an IOMMU: iommufd knows a mediated one as something else. */
static const struct fake_device *bound_device(const struct fake_file *file, uint32_t id)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		const struct fake_device *device = world.devices[i];
		if (device->owner && device->owner->iommufd == file && device->id == id && !device->uuid[0])
			return device;
	}
	return NULL;
}

static int hw_info(const struct fake_file *file, struct hw_info *request)
{
	const struct fake_device *device = bound_device(file, request->dev_id);
	if (!device)
		return -ENOENT;
	if (request->flags || request->reserved || request->data_len)
		return -EOPNOTSUPP;
	request->out_data_type = 0;
	request->out_capabilities = device->dirty_bits ? HW_CAPABILITY_DIRTY_TRACKING : 0;
	return 0;
}

static int hwpt_alloc(struct fake_file *file, struct hwpt_alloc *request)
{
	const struct fake_device *device = bound_device(file, request->dev_id);
	struct fake_ioas *ioas = model_ioas_of(file, request->pt_id);
	if (!device)
		return -ENOENT;
	if (!ioas || request->data_type || request->data_len)
		return -EINVAL;
	if (request->reserved || request->flags != HWPT_WITH_DIRTY_TRACKING || !device->dirty_bits)
		return -EOPNOTSUPP;
	for (unsigned i = 0; i < MODEL_HWPTS; i++) {
		if (world.hwpts[i].id)
			continue;
		world.hwpts[i] = (struct fake_hwpt){.id = ++world.next_id, .ioas = ioas, .iommu = device->iommu};
		request->out_hwpt_id = world.hwpts[i].id;
		return 0;
	}
	return -ENOMEM;
}

/* hwpt_id has another place in each argument. */
static struct fake_hwpt *hwpt_of_request(struct fake_file *file, const void *argument, size_t offset)
{
	uint32_t id;
	memcpy(&id, (const uint8_t *)argument + offset, sizeof(id));
	return hwpt_of(file, id);
}

static bool holds_ioas(const struct fake_ioas *ioas)
{
	for (unsigned i = 0; i < MODEL_HWPTS; i++) {
		if (world.hwpts[i].id && world.hwpts[i].ioas == ioas)
			return true;
	}
	return false;
}

static int ioas_alloc(struct fake_file *file, struct iommu_ioas_alloc *request)
{
	const struct fake_ioas *ioas = model_ioas_add(file);
	if (!ioas)
		return -ENOMEM;
	request->out_ioas_id = ioas->id;
	return 0;
}

static int ioas_destroy(struct fake_file *file, const struct iommu_destroy *request)
{
	struct fake_ioas *ioas = model_ioas_of(file, request->id);
	struct fake_hwpt *hwpt = hwpt_of(file, request->id);
	if (hwpt && hwpt->attached)
		return -EBUSY;
	if (hwpt) {
		*hwpt = (struct fake_hwpt){0};
		return 0;
	}
	if (!ioas)
		return -ENOENT;
	if (ioas->attached || holds_ioas(ioas))
		return -EBUSY;
	if (file->ioas == ioas->id)
		file->ioas = 0;
	model_ioas_remove(ioas);
	return 0;
}

static int iova_ranges(struct fake_file *file, struct iommu_ioas_iova_ranges *request)
{
	const struct fake_ioas *ioas = model_ioas_of(file, request->ioas_id);
	if (!ioas)
		return -ENOENT;
	unsigned count = model_ioas_allowed(ioas, (struct iommu_iova_range *)(uintptr_t)request->allowed_iovas,
					    request->num_iovas);
	int code = count > request->num_iovas ? -EMSGSIZE : 0;
	request->num_iovas = count;
	request->out_iova_alignment = 4096;
	return code;
}

static uint64_t locked_bytes(void)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < MODEL_IOASES; i++) {
		for (unsigned m = 0; m < world.ioases[i].mapping_count; m++)
			bytes += world.ioases[i].mappings[m].bar ? 0 : world.ioases[i].mappings[m].length;
	}
	return bytes;
}

int model_ioas_map(struct fake_ioas *ioas, uint64_t iova, uint64_t length, uint64_t user_va, bool writable)
{
	const struct fake_bar *bar = model_memory_bar(user_va, length);
	if ((iova | length | user_va) % 4096 || length == 0)
		return -EINVAL;
	uint64_t last = iova + length - 1;
	if (last < iova)
		return -EOVERFLOW;
	struct ranges ranges = allowed(ioas);
	if (!is_allowed(&ranges, iova, last))
		return -EINVAL;
	for (unsigned i = 0; i < ioas->mapping_count; i++) {
		if (iova < ioas->mappings[i].iova + ioas->mappings[i].length && ioas->mappings[i].iova <= last)
			return -EEXIST;
	}
	if (ioas->mapping_count == MODEL_DMA_MAPPINGS || (!bar && locked_bytes() + length > world.memlock))
		return -ENOMEM;
	ioas->mappings[ioas->mapping_count].iova = iova;
	ioas->mappings[ioas->mapping_count].length = length;
	ioas->mappings[ioas->mapping_count].user_va = user_va;
	ioas->mappings[ioas->mapping_count].writable = writable;
	ioas->mappings[ioas->mapping_count].bar = bar;
	ioas->mapping_count++;
	fake_journal("dma map 0x%llx", (unsigned long long)iova);
	return 0;
}

int64_t model_ioas_unmap(struct fake_ioas *ioas, uint64_t iova, uint64_t length)
{
	uint64_t last = iova + length - 1, unmapped = 0;
	for (unsigned i = 0; i < ioas->mapping_count;) {
		uint64_t first = ioas->mappings[i].iova, end = first + ioas->mappings[i].length - 1;
		if (first > last || end < iova) {
			i++;
			continue;
		}
		if (first < iova || end > last)
			return -ENOENT;
		unmapped += ioas->mappings[i].length;
		ioas->mappings[i] = ioas->mappings[--ioas->mapping_count];
	}
	fake_journal("dma unmap 0x%llx", (unsigned long long)iova);
	return (int64_t)unmapped;
}

int model_ioas_coherent(const struct fake_ioas *ioas)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		if (world.devices[i]->ioas == ioas && world.devices[i]->non_coherent)
			return 0;
	}
	return 1;
}

static int ioas_map(struct fake_file *file, const struct iommu_ioas_map *request)
{
	struct fake_ioas *ioas = model_ioas_of(file, request->ioas_id);
	const uint32_t access = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
	if (!(request->flags & access))
		return -EINVAL;
	if (!ioas)
		return -ENOENT;
	/* Pinning finds pages only: what is mapped from a device has none. */
	if (model_memory_bar(request->user_va, request->length))
		return -EFAULT;
	return model_ioas_map(ioas, request->iova, request->length, request->user_va,
			      request->flags & IOMMU_IOAS_MAP_WRITEABLE);
}

static int ioas_unmap(struct fake_file *file, struct iommu_ioas_unmap *request)
{
	struct fake_ioas *ioas = model_ioas_of(file, request->ioas_id);
	if (!ioas)
		return -ENOENT;
	int64_t unmapped = model_ioas_unmap(ioas, request->iova, request->length);
	if (unmapped < 0)
		return (int)unmapped;
	request->length = (uint64_t)unmapped;
	return unmapped ? 0 : -ENOENT;
}

/* Which IOAS the container's ioctls on this iommufd are about. */
static int vfio_ioas(struct fake_file *file, struct iommu_vfio_ioas *request)
{
	switch (request->op) {
	case IOMMU_VFIO_IOAS_GET:
		request->ioas_id = file->ioas;
		return file->ioas ? 0 : -ENODEV;
	case IOMMU_VFIO_IOAS_SET:
		if (!model_ioas_of(file, request->ioas_id))
			return -ENOENT;
		file->ioas = request->ioas_id;
		return 0;
	case IOMMU_VFIO_IOAS_CLEAR:
		file->ioas = 0;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int check_extension(const struct fake_file *file, uintptr_t extension)
{
	const struct fake_ioas *ioas = model_ioas_of(file, file->ioas);
	if (extension != VFIO_DMA_CC_IOMMU)
		return 0;
	return ioas ? model_ioas_coherent(ioas) : -ENODEV;
}

int model_iommufd_ioctl(struct fake_file *file, unsigned long request, void *argument, enum fake_call kind)
{
	static const struct {
		enum fake_call kind;
		uint32_t size_bytes;
	} sizes[] = {
		{FAKE_IOAS_ALLOC, sizeof(struct iommu_ioas_alloc)},
		{FAKE_IOMMU_DESTROY, sizeof(struct iommu_destroy)},
		{FAKE_IOVA_RANGES, sizeof(struct iommu_ioas_iova_ranges)},
		{FAKE_IOAS_MAP, sizeof(struct iommu_ioas_map)},
		{FAKE_IOAS_UNMAP, sizeof(struct iommu_ioas_unmap)},
		{FAKE_VFIO_IOAS, sizeof(struct iommu_vfio_ioas)},
		{FAKE_HW_INFO, sizeof(struct hw_info)},
		{FAKE_HWPT_ALLOC, sizeof(struct hwpt_alloc)},
		{FAKE_SET_TRACKING, sizeof(struct hwpt_set_dirty_tracking)},
		{FAKE_GET_DIRTY, sizeof(struct hwpt_get_dirty_bitmap)},
	};
	if (kind == FAKE_CHECK_EXTENSION)
		return check_extension(file, (uintptr_t)argument);
	uint32_t size;
	memcpy(&size, argument, sizeof(size));
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (sizes[i].kind == kind && size < sizes[i].size_bytes)
			return -EINVAL;
	}
	switch (kind) {
	case FAKE_IOAS_ALLOC:
		return ioas_alloc(file, argument);
	case FAKE_IOMMU_DESTROY:
		return ioas_destroy(file, argument);
	case FAKE_IOVA_RANGES:
		return iova_ranges(file, argument);
	case FAKE_IOAS_MAP:
		return ioas_map(file, argument);
	case FAKE_IOAS_UNMAP:
		return ioas_unmap(file, argument);
	case FAKE_VFIO_IOAS:
		return vfio_ioas(file, argument);
	case FAKE_HW_INFO:
		return hw_info(file, argument);
	case FAKE_HWPT_ALLOC:
		return hwpt_alloc(file, argument);
	case FAKE_SET_TRACKING:
		return model_hwpt_set_tracking(
			hwpt_of_request(file, argument, offsetof(struct hwpt_set_dirty_tracking, hwpt_id)), argument);
	case FAKE_GET_DIRTY:
		return model_hwpt_get_dirty(
			hwpt_of_request(file, argument, offsetof(struct hwpt_get_dirty_bitmap, hwpt_id)), argument);
	default:
		return -ENOTTY;
	}
}

void model_iommufd_closed(const struct fake_file *file)
{
	for (unsigned i = 0; i < MODEL_HWPTS; i++) {
		if (world.hwpts[i].id && world.hwpts[i].ioas->iommufd == file)
			world.hwpts[i] = (struct fake_hwpt){0};
	}
	for (unsigned i = 0; i < MODEL_IOASES; i++) {
		if (world.ioases[i].iommufd == file)
			world.ioases[i] = (struct fake_ioas){0};
	}
}

unsigned fake_hwpt_count(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < MODEL_HWPTS; i++)
		count += world.hwpts[i].id != 0;
	return count;
}

unsigned fake_ioas_count(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < MODEL_IOASES; i++)
		count += world.ioases[i].id != 0;
	return count;
}

unsigned fake_dma_mappings(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < MODEL_IOASES; i++)
		count += world.ioases[i].mapping_count;
	return count;
}

bool fake_dma_reaches(const struct fake_device *device, uint64_t iova, bool write)
{
	const struct fake_ioas *ioas = device->ioas;
	for (unsigned i = 0; ioas && i < ioas->mapping_count; i++) {
		if (iova >= ioas->mappings[i].iova && iova - ioas->mappings[i].iova < ioas->mappings[i].length)
			return !write || ioas->mappings[i].writable;
	}
	return false;
}

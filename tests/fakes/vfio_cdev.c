// SPDX-License-Identifier: MIT
/*
 * The fake kernel's VFIO character device: binding, what it tells of regions, their contents, reset. After
 * drivers/vfio/device_cdev.c and drivers/vfio/pci/vfio_pci_core.c. Interrupts are in vfio_irqs.c, config space in
 * vfio_config.c.
 */
#include <errno.h>
#include <string.h>

#include <linux/pci_regs.h>

#include "uapi.h"
#include "vfio_model.h"

#define OFFSET_SHIFT 40 /* VFIO_PCI_OFFSET_SHIFT */
#define OFFSET_MASK  ((1ull << OFFSET_SHIFT) - 1)

/* Another member of the group with a driver that does DMA keeps the group from being owned by user space. */
bool model_cdev_group_blocked(const struct fake_device *device)
{
	for (unsigned i = 0; i < world.device_count; i++) {
		const struct fake_device *other = world.devices[i];
		if (other->group == device->group && other->driver[0] && !model_driver_is_vfio(other) &&
		    strcmp(other->driver, "pcieport") != 0 && strcmp(other->driver, "pci-stub") != 0)
			return true;
	}
	return device->group_owned;
}

/* iommu_device_claim_dma_owner, iommu_group_claim_dma_owner: a host driver is an owner, too. */
int model_cdev_claim_group(const struct fake_device *device)
{
	return model_cdev_group_blocked(device) ? -EPERM : device->firmware_memory ? -EINVAL : 0;
}

/* The reset in vfio_pci_core_enable. */
int model_cdev_try_lock(struct fake_device *device)
{
	if (!device->open_busy)
		return 0;
	device->open_busy--;
	return -EAGAIN;
}

void model_cdev_forget(struct fake_device *device)
{
	device->resets++;
	device->command_at_reset = (uint16_t)fake_config_get(device, PCI_COMMAND, 2);
	device->interrupts_at_reset = device->irq_kind >= 0;
	device->intx_line = false;
	model_migration_reset(device);
	for (unsigned i = 0; i < FAKE_BARS; i++) {
		if (device->bars[i].memory)
			memset(device->bars[i].memory, 0, device->bars[i].size_bytes);
	}
	for (unsigned i = 0; i < FAKE_VECTORS_MAX; i++)
		device->vectors[i].pending = false;
}

int model_cdev_reset_function(struct fake_device *device)
{
	if (device->reset_error)
		return -device->reset_error;
	model_cdev_forget(device);
	fake_journal("reset %s", device->bdf);
	return 0;
}

void model_cdev_enable(struct fake_device *device, struct fake_file *file)
{
	device->owner = file;
	device->irq_kind = -1;
	device->intx_disabled = false;
	model_migration_reset(device);
	/* Decoding on, bus mastering off, and a function reset where there is one. */
	uint32_t command = fake_config_get(device, PCI_COMMAND, 2) & ~PCI_COMMAND_MASTER;
	fake_config_set(device, PCI_COMMAND, 2, command | PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	device->power = 0;
	if (!device->no_reset)
		model_cdev_reset_function(device);
	model_config_bind(device);
	model_group_count_vf(device, 1);
}

static int bind(struct fake_file *file, struct vfio_device_bind_iommufd *request)
{
	struct fake_device *device = file->device;
	struct fake_file *iommufd = model_files_of(request->iommufd);
	const uint8_t *token = NULL;
	if (file->kind != FILE_CDEV || request->argsz < sizeof(*request) || request->iommufd < 0)
		return -EINVAL;
	if (world.bind_tokens && request->flags == VFIO_DEVICE_BIND_FLAG_TOKEN) {
		struct bind_iommufd_with_token longer;
		if (request->argsz < sizeof(longer))
			return -EINVAL;
		memcpy(&longer, request, sizeof(longer));
		token = (const uint8_t *)(uintptr_t)longer.token_uuid_ptr;
	} else if (request->flags) {
		return -EINVAL;
	}
	if (model_group_is_open(device->group))
		return -EBUSY;
	if (file->iommufd || device->owner || device->open_elsewhere)
		return -EINVAL;
	if (!iommufd || iommufd->kind != FILE_IOMMUFD)
		return -EBADF;
	int code = world.bind_tokens ? model_group_match_token(device, token) : 0;
	if (code == 0)
		code = model_cdev_claim_group(device);
	if (code == 0)
		code = model_cdev_try_lock(device);
	if (code < 0)
		return code;

	fake_journal("bind %s", device->bdf);
	file->iommufd = iommufd;
	model_files_hold(iommufd);
	model_cdev_enable(device, file);
	request->out_devid = device->id = ++world.next_id;
	return 0;
}

static int reset(struct fake_device *device)
{
	if (device->no_reset)
		return -EINVAL;
	if (device->reset_method[0] == ' ') /* pci_reset_supported() */
		return -ENOTTY;
	if (device->reset_busy) {
		device->reset_busy--;
		return -EAGAIN;
	}
	device->power_at_reset = device->power;
	model_config_set_power(device, 0);
	return model_cdev_reset_function(device);
}

static int get_info(const struct fake_device *device, struct vfio_device_info *info)
{
	if (info->argsz < offsetof(struct vfio_device_info, num_irqs) + sizeof(info->num_irqs))
		return -EINVAL;
	info->flags = VFIO_DEVICE_FLAGS_PCI | (device->no_reset ? 0 : VFIO_DEVICE_FLAGS_RESET);
	info->num_regions = VFIO_PCI_NUM_REGIONS;
	info->num_irqs = VFIO_PCI_NUM_IRQS;
	return 0;
}

/* A kernel without MSIX_MAPPABLE leaves the pages of the MSI-X table out of what may be mapped. */
static void leave_table_out(const struct fake_device *device, unsigned index, struct fake_bar *bar)
{
	uint32_t table = fake_config_get(device, device->msix + PCI_MSIX_TABLE, 4);
	if (!bar->no_msix_cap || (table & PCI_MSIX_TABLE_BIR) != index)
		return;
	uint64_t vectors = (fake_config_get(device, device->msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
	uint64_t first = (table & PCI_MSIX_TABLE_OFFSET) & ~0xfffull;
	uint64_t end = ((table & PCI_MSIX_TABLE_OFFSET) + vectors * PCI_MSIX_ENTRY_SIZE + 0xfff) & ~0xfffull;
	unsigned count = 0;
	if (first > 0) {
		bar->sparse[count].offset = 0;
		bar->sparse[count++].size_bytes = first;
	}
	if (end < bar->size_bytes) {
		bar->sparse[count].offset = end;
		bar->sparse[count++].size_bytes = bar->size_bytes - end;
	}
}

/* The capability chain of a BAR: first one that the library does not know, then its sparse areas, then MSIX_MAPPABLE. */
static size_t region_capabilities(const struct fake_device *device, unsigned index, uint8_t *out)
{
	struct fake_bar bar = device->bars[index];
	bool has_table = device->msix &&
			 (fake_config_get(device, device->msix + PCI_MSIX_TABLE, 4) & PCI_MSIX_TABLE_BIR) == index;
	if (has_table)
		leave_table_out(device, index, &bar);

	size_t at = 0;
	uint32_t base = sizeof(struct vfio_region_info);
	struct vfio_info_cap_header *last = NULL;
	if (bar.caps_loop) {
		struct vfio_info_cap_header itself = {.id = 0x7ff, .version = 1, .next = base};
		memcpy(out, &itself, sizeof(itself));
		return sizeof(itself);
	}
	if (bar.sparse[0].size_bytes) {
		struct vfio_info_cap_header unknown = {.id = 0x7ff, .version = 1, .next = base + 16};
		memcpy(out, &unknown, sizeof(unknown));
		at = 16;

		struct vfio_region_info_cap_sparse_mmap head = {
			.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1}};
		while (head.nr_areas < 4 && bar.sparse[head.nr_areas].size_bytes)
			head.nr_areas++;
		last = (struct vfio_info_cap_header *)(out + at);
		memcpy(out + at, &head, sizeof(head));
		at += sizeof(head);
		for (unsigned i = 0; i < head.nr_areas; i++) {
			struct vfio_region_sparse_mmap_area area = {bar.sparse[i].offset, bar.sparse[i].size_bytes};
			memcpy(out + at, &area, sizeof(area));
			at += sizeof(area);
		}
	}
	if (has_table && !bar.no_msix_cap) {
		struct vfio_info_cap_header mappable = {.id = VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, .version = 1};
		if (last)
			last->next = (uint32_t)(base + at);
		memcpy(out + at, &mappable, sizeof(mappable));
		at += sizeof(mappable);
	}
	return at;
}

static bool is_mappable(const struct fake_bar *bar)
{
	return bar->size_bytes && !bar->io && !bar->not_mappable;
}

static int region_info(const struct fake_device *device, struct vfio_region_info *info)
{
	if (info->argsz < sizeof(*info))
		return -EINVAL;
	info->flags = 0;
	info->cap_offset = 0;
	info->size = 0;
	info->offset = (uint64_t)info->index << OFFSET_SHIFT;
	if (info->index == VFIO_PCI_CONFIG_REGION_INDEX) {
		info->size = device->config_bytes;
		info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
		return 0;
	}
	if (info->index == VFIO_PCI_ROM_REGION_INDEX) {
		info->size = device->rom_bar_bytes;
		info->flags = device->rom_bar_bytes ? VFIO_REGION_INFO_FLAG_READ : 0;
		return 0;
	}
	if (info->index > VFIO_PCI_BAR5_REGION_INDEX)
		return -EINVAL;

	const struct fake_bar *bar = &device->bars[info->index];
	info->size = bar->size_bytes;
	if (!bar->size_bytes)
		return 0;
	info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	if (!is_mappable(bar))
		return 0;
	info->flags |= VFIO_REGION_INFO_FLAG_MMAP;
	uint8_t chain[256] __attribute__((aligned(8)));
	size_t bytes = region_capabilities(device, info->index, chain);
	if (bytes == 0)
		return 0;
	info->flags |= VFIO_REGION_INFO_FLAG_CAPS;
	if (info->argsz < sizeof(*info) + bytes) {
		info->argsz = (uint32_t)(sizeof(*info) + bytes);
		return 0;
	}
	info->cap_offset = sizeof(*info);
	memcpy(info + 1, chain, bytes);
	return 0;
}

static int attach(struct fake_device *device, const struct vfio_device_attach_iommufd_pt *request)
{
	if (request->argsz < sizeof(*request) || request->flags)
		return -EINVAL;
	return model_iommufd_attach_device(device, request->pt_id);
}

static int feature(struct fake_device *device, struct vfio_device_feature *request)
{
	switch (request->flags & VFIO_DEVICE_FEATURE_MASK) {
	case VFIO_DEVICE_FEATURE_MIGRATION:
	case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
	case VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
		return model_migration_feature(device, request);
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
		return model_logging_feature(device, request);
	}
	if ((request->flags & VFIO_DEVICE_FEATURE_MASK) != VFIO_DEVICE_FEATURE_PCI_VF_TOKEN || !device->is_pf)
		return -ENOTTY;
	if (!(request->flags & VFIO_DEVICE_FEATURE_SET) || request->argsz < sizeof(*request) + sizeof(device->vf_token))
		return -EINVAL;
	memcpy(device->vf_token, request->data, sizeof(device->vf_token));
	return 0;
}

static int detach(struct fake_file *file, const struct vfio_device_detach_iommufd_pt *request)
{
	if (file->kind != FILE_CDEV || request->argsz < sizeof(*request) || request->flags)
		return -EINVAL;
	model_iommufd_detach_device(file->device);
	fake_journal("detach %s", file->device->bdf);
	return 0;
}

int model_cdev_ioctl(struct fake_file *file, unsigned long request, void *argument, enum fake_call kind)
{
	struct fake_device *device = file->device;
	if (kind == FAKE_BIND)
		return bind(file, argument);
	if (!file->iommufd)
		return -EINVAL;
	switch (kind) {
	case FAKE_ATTACH:
		return attach(device, argument);
	case FAKE_DETACH:
		return detach(file, argument);
	case FAKE_FEATURE:
		return feature(device, argument);
	case FAKE_GET_INFO:
		return get_info(device, argument);
	case FAKE_REGION_INFO:
		return region_info(device, argument);
	case FAKE_IRQ_INFO:
		return model_irqs_info(device, argument);
	case FAKE_SET_IRQS:
		return model_irqs_set(device, argument);
	case FAKE_DEVICE_RESET:
		return reset(device);
	case FAKE_HOT_RESET_INFO:
		return model_hot_reset_info(file, argument);
	case FAKE_HOT_RESET:
		return model_hot_reset(file, argument);
	default:
		return -ENOTTY;
	}
}

/* Reads and writes of the MSI-X table are ones and nothing: the kernel programs it. */
static bool in_table(const struct fake_device *device, unsigned index, uint64_t at)
{
	if (!device->msix)
		return false;
	uint32_t table = fake_config_get(device, device->msix + PCI_MSIX_TABLE, 4);
	uint64_t vectors = (fake_config_get(device, device->msix + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
	uint64_t first = table & PCI_MSIX_TABLE_OFFSET;
	return (table & PCI_MSIX_TABLE_BIR) == index && at >= first && at < first + vectors * PCI_MSIX_ENTRY_SIZE;
}

static ssize_t bar_access(struct fake_device *device, unsigned index, uint8_t *data, size_t size, uint64_t at,
			  bool write)
{
	struct fake_bar *bar = &device->bars[index];
	if (!bar->size_bytes || at >= bar->size_bytes)
		return -EINVAL;
	if (size > bar->size_bytes - at)
		size = bar->size_bytes - at;
	if (!bar->io && !model_config_memory_enabled(device))
		return -EIO;
	for (size_t i = 0; i < size; i++) {
		bool excluded = in_table(device, index, at + i);
		if (write && !excluded)
			bar->memory[at + i] = data[i];
		if (!write)
			data[i] = excluded ? 0xff : bar->memory[at + i];
	}
	if (write && device->bar_written)
		device->bar_written(device->bar_written_context, device);
	return (ssize_t)size;
}

/* The kernel maps the ROM anew for each access; it is not there while memory decoding is off. */
static ssize_t rom_read(struct fake_device *device, uint8_t *data, size_t size, uint64_t at)
{
	if (at >= device->rom_bar_bytes)
		return -EINVAL;
	if (!model_config_memory_enabled(device))
		return -EIO;
	device->rom_reads++;
	device->rom_read_max = size > device->rom_read_max ? size : device->rom_read_max;
	if (size > device->rom_bar_bytes - at)
		size = device->rom_bar_bytes - at;
	for (size_t i = 0; i < size; i++)
		data[i] = at + i < device->rom_bytes ? fake_rom_byte((uint32_t)(at + i)) : 0xff;
	return (ssize_t)size;
}

ssize_t model_cdev_read(struct fake_file *file, void *buffer, size_t size, uint64_t offset)
{
	unsigned index = (unsigned)(offset >> OFFSET_SHIFT);
	uint64_t at = offset & OFFSET_MASK;
	if (!file->iommufd || index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	model_migration_accessed(file->device, index == VFIO_PCI_CONFIG_REGION_INDEX);
	if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
		int code = model_config_read(file->device, buffer, size, at);
		return code < 0 ? code : (ssize_t)size;
	}
	if (index == VFIO_PCI_ROM_REGION_INDEX)
		return rom_read(file->device, buffer, size, at);
	return index <= VFIO_PCI_BAR5_REGION_INDEX ? bar_access(file->device, index, buffer, size, at, false) : -EINVAL;
}

ssize_t model_cdev_write(struct fake_file *file, const void *buffer, size_t size, uint64_t offset)
{
	unsigned index = (unsigned)(offset >> OFFSET_SHIFT);
	uint64_t at = offset & OFFSET_MASK;
	if (!file->iommufd || index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	model_migration_accessed(file->device, index == VFIO_PCI_CONFIG_REGION_INDEX);
	if (index == VFIO_PCI_CONFIG_REGION_INDEX) {
		int code = model_config_write(file->device, buffer, size, at);
		return code < 0 ? code : (ssize_t)size;
	}
	if (index > VFIO_PCI_BAR5_REGION_INDEX)
		return -EINVAL;
	return bar_access(file->device, index, (uint8_t *)(uintptr_t)buffer, size, at, true);
}

int model_cdev_bar_of_map(struct fake_file *file, uint64_t offset, size_t size, struct fake_bar **out)
{
	unsigned index = (unsigned)(offset >> OFFSET_SHIFT);
	uint64_t at = offset & OFFSET_MASK;
	if (!file->iommufd || index > VFIO_PCI_BAR5_REGION_INDEX)
		return -EINVAL;
	struct fake_bar *bar = &file->device->bars[index];
	uint64_t whole = (bar->size_bytes + 4095) & ~4095ull;
	if (!is_mappable(bar) || at % 4096 || at > whole || size > whole - at)
		return -EINVAL;
	*out = bar;
	return 0;
}

/* What vfio_pci_core_disable() does when the last reference goes: DMA and interrupts off, function reset. */
void model_cdev_closed(struct fake_file *file)
{
	struct fake_device *device = file->device;
	if (!file->iommufd)
		return;
	model_config_set_power(device, 0);
	fake_config_set(device, PCI_COMMAND, 2, fake_config_get(device, PCI_COMMAND, 2) & ~PCI_COMMAND_MASTER);
	model_irqs_closed(device);
	model_migration_reset(device);
	device->logging.on = false;
	if (file->kind == FILE_CDEV) /* the others go with their group */
		model_iommufd_detach_device(device);
	model_group_count_vf(device, -1);
	device->owner = NULL;
	model_files_release(file->iommufd);
	fake_journal("unbind %s", device->bdf);
}

// SPDX-License-Identifier: MIT
/*
 * Describes devices: config space with its capability chains and what is writable in it, and BARs. Also the world they
 * live in, and what is left of it at the end.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "vfio_model.h"

struct world world;

static void free_device(struct fake_device *device)
{
	for (unsigned i = 0; i < FAKE_BARS; i++) {
		struct fake_bar *bar = &device->bars[i];
		if (!bar->memory)
			continue;
		munmap(bar->memory, bar->size_bytes);
		close(bar->memory_fd);
	}
	free(device);
}

void fake_world_reset(void)
{
	for (unsigned i = 0; i < world.device_count; i++)
		free_device(world.devices[i]);
	memset(&world, 0, sizeof(world));
	world.memlock = UINT64_MAX;
	world.dma_entries = 65535;
	world.dirty_page_bytes = 4096;
	model_calls_reset();

	/* 2048 vectors are 2048 eventfds. */
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

void fake_set_iommufd(bool present)
{
	world.no_iommufd = !present;
}

void fake_set_container(bool present)
{
	world.no_container = !present;
}

void fake_set_cdevs(bool present)
{
	world.no_cdevs = !present;
}

void fake_set_dma_entries(unsigned count)
{
	world.dma_entries = count;
}

void fake_set_dirty_page(unsigned bytes)
{
	world.dirty_page_bytes = bytes;
}

void fake_set_iova_capability(bool present)
{
	world.no_iova_capability = !present;
}

void fake_set_bind_tokens(bool known)
{
	world.bind_tokens = known;
}

void fake_set_memlock(uint64_t bytes)
{
	world.memlock = bytes;
}

uint32_t fake_config_get(const struct fake_device *device, unsigned offset, unsigned size_bytes)
{
	uint32_t value = 0;
	memcpy(&value, device->config + offset, size_bytes);
	return value;
}

void fake_config_set(struct fake_device *device, unsigned offset, unsigned size_bytes, uint32_t value)
{
	memcpy(device->config + offset, &value, size_bytes);
}

void fake_config_writable(struct fake_device *device, unsigned offset, unsigned size_bytes, uint32_t mask)
{
	memcpy(device->writable + offset, &mask, size_bytes);
}

static void write_1_clears(struct fake_device *device, unsigned offset, unsigned size_bytes, uint32_t mask)
{
	memcpy(device->write_1_clears + offset, &mask, size_bytes);
}

struct fake_device *fake_device_add(const char *bdf, uint16_t vendor, uint16_t id, int group)
{
	struct fake_device *device = calloc(1, sizeof(*device));
	if (!device || world.device_count == MODEL_DEVICES)
		abort();
	snprintf(device->bdf, sizeof(device->bdf), "%s", bdf);
	device->group = group;
	device->node = (int)world.device_count;
	device->config_bytes = 256;
	device->irq_kind = -1;
	snprintf(device->reset_method, sizeof(device->reset_method), "flr pm");
	fake_device_driver(device, "vfio-pci");

	fake_config_set(device, PCI_VENDOR_ID, 2, vendor);
	fake_config_set(device, PCI_DEVICE_ID, 2, id);
	fake_config_set(device, PCI_SUBSYSTEM_VENDOR_ID, 2, 0x1af4);
	fake_config_set(device, PCI_SUBSYSTEM_ID, 2, 0x1100);
	fake_config_writable(device, PCI_COMMAND, 2,
			     PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
				     PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	write_1_clears(device, PCI_STATUS, 2, 0xf900);
	fake_config_writable(device, PCI_CACHE_LINE_SIZE, 2, 0xffff);
	fake_config_writable(device, PCI_INTERRUPT_LINE, 1, 0xff);
	device->last_capability = PCI_CAPABILITY_LIST;
	world.devices[world.device_count++] = device;
	return device;
}

void fake_device_driver(struct fake_device *device, const char *driver)
{
	snprintf(device->driver, sizeof(device->driver), "%s", driver ? driver : "");
	if (!model_driver_is_vfio(device))
		device->node = -1;
}

void fake_device_mediated(struct fake_device *device, const char *uuid)
{
	snprintf(device->uuid, sizeof(device->uuid), "%s", uuid);
}

void fake_device_vf(struct fake_device *vf, struct fake_device *pf)
{
	snprintf(vf->physfn, sizeof(vf->physfn), "%s", pf->bdf);
	pf->is_pf = true;
	memset(pf->vf_token, 0x5a, sizeof(pf->vf_token)); /* a random one, until somebody sets it */
}

void fake_device_reset_method(struct fake_device *device, const char *method)
{
	/* A kernel that has no method has an empty file. */
	snprintf(device->reset_method, sizeof(device->reset_method), "%s", method[0] ? method : " ");
	device->no_reset = !method[0];
}

void fake_empty_reset_method(struct fake_device *device)
{
	fake_device_reset_method(device, " ");
}

void fake_device_bridge(struct fake_device *device)
{
	fake_device_driver(device, "pcieport");
	fake_config_set(device, PCI_CLASS_REVISION, 4, 0x06040000);
}

static void add_bar(struct fake_device *device, unsigned index, uint64_t size_bytes)
{
	struct fake_bar *bar = &device->bars[index];
	bar->size_bytes = size_bytes;
	uint64_t whole = (size_bytes + 4095) & ~4095ull;
	bar->memory_fd = memfd_create("fake-bar", MFD_CLOEXEC);
	if (bar->memory_fd < 0 || ftruncate(bar->memory_fd, (off_t)whole) < 0)
		abort();
	bar->memory = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, bar->memory_fd, 0);
	if (bar->memory == MAP_FAILED)
		abort();
}

void fake_bar_memory(struct fake_device *device, unsigned bar, uint64_t size_bytes, bool is_64bit, bool prefetchable)
{
	add_bar(device, bar, size_bytes);
	device->bars[bar].is_64bit = is_64bit;
	device->bars[bar].prefetchable = prefetchable;
	/* Where the host put it: the guest never learns. */
	uint32_t flags =
		(is_64bit ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) | (prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
	unsigned at = PCI_BASE_ADDRESS_0 + 4 * bar;
	fake_config_set(device, at, 4, (uint32_t)(is_64bit ? 0 : 0xc0000000u) | flags);
	fake_config_writable(device, at, 4, ~(uint32_t)(size_bytes - 1) & ~15u);
	if (is_64bit) {
		fake_config_set(device, at + 4, 4, 0x38);
		fake_config_writable(device, at + 4, 4, ~(uint32_t)((size_bytes - 1) >> 32));
	}
}

void fake_bar_io(struct fake_device *device, unsigned bar, uint32_t size_bytes)
{
	add_bar(device, bar, size_bytes);
	device->bars[bar].io = true;
	fake_config_set(device, PCI_BASE_ADDRESS_0 + 4 * bar, 4, 0xc000 | PCI_BASE_ADDRESS_SPACE_IO);
	fake_config_writable(device, PCI_BASE_ADDRESS_0 + 4 * bar, 4, ~(size_bytes - 1) & ~3u);
}

unsigned fake_capability(struct fake_device *device, unsigned offset, uint8_t id, unsigned size_bytes)
{
	device->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	device->config[device->last_capability] = (uint8_t)offset;
	memset(device->config + offset, 0, size_bytes);
	device->config[offset] = id;
	device->last_capability = (uint8_t)(offset + PCI_CAP_LIST_NEXT);
	return offset;
}

unsigned fake_capability_extended(struct fake_device *device, unsigned offset, uint16_t id, unsigned version)
{
	if (device->last_extended) {
		uint32_t previous = fake_config_get(device, device->last_extended, 4) & 0xfffff;
		fake_config_set(device, device->last_extended, 4, previous | offset << 20);
	}
	fake_config_set(device, offset, 4, id | version << 16);
	device->last_extended = (uint16_t)offset;
	return offset;
}

void fake_add_pm(struct fake_device *device, unsigned offset)
{
	device->pm = fake_capability(device, offset, PCI_CAP_ID_PM, PCI_PM_SIZEOF);
	fake_config_set(device, offset + PCI_PM_PMC, 2, 0xc803); /* version 3, PME from D3hot and D0 */
	fake_config_set(device, offset + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET);
	fake_config_writable(device, offset + PCI_PM_CTRL, 2, PCI_PM_CTRL_PME_ENABLE);
}

void fake_add_msi(struct fake_device *device, unsigned offset, unsigned vectors, bool is_64bit, bool maskable)
{
	unsigned log2 = 0;
	while (1u << log2 < vectors)
		log2++;
	unsigned size_bytes = 10 + (is_64bit ? 4 : 0) + (maskable ? 10 : 0);
	device->msi = fake_capability(device, offset, PCI_CAP_ID_MSI, size_bytes);
	fake_config_set(device, offset + PCI_MSI_FLAGS, 2,
			log2 << 1 | (is_64bit ? PCI_MSI_FLAGS_64BIT : 0) | (maskable ? PCI_MSI_FLAGS_MASKBIT : 0));
	/* The host's own message: it must never reach the guest, nor the guest's the device. */
	unsigned data = offset + (is_64bit ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32);
	fake_config_set(device, offset + PCI_MSI_ADDRESS_LO, 4, 0xfee0100c);
	fake_config_set(device, data, 2, 0x4021);
	fake_config_writable(device, offset + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	fake_config_writable(device, offset + PCI_MSI_ADDRESS_LO, 4, ~3u);
	if (is_64bit)
		fake_config_writable(device, offset + PCI_MSI_ADDRESS_HI, 4, ~0u);
	fake_config_writable(device, data, 2, 0xffff);
	if (maskable)
		fake_config_writable(device, offset + (is_64bit ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32), 4,
				     (uint32_t)((1ull << vectors) - 1));
}

void fake_add_msix(struct fake_device *device, unsigned offset, unsigned vectors, unsigned table_bar,
		   uint32_t table_offset, unsigned pba_bar, uint32_t pba_offset)
{
	device->msix = fake_capability(device, offset, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	fake_config_set(device, offset + PCI_MSIX_FLAGS, 2, vectors - 1);
	fake_config_writable(device, offset + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	fake_config_set(device, offset + PCI_MSIX_TABLE, 4, table_offset | table_bar);
	fake_config_set(device, offset + PCI_MSIX_PBA, 4, pba_offset | pba_bar);
}

void fake_add_pcie(struct fake_device *device, unsigned offset)
{
	device->config_bytes = FAKE_CONFIG_MAX;
	device->pcie = fake_capability(device, offset, PCI_CAP_ID_EXP, 0x3c);
	fake_config_set(device, offset + PCI_EXP_FLAGS, 2, 0x0002); /* version 2, endpoint */
	fake_config_set(device, offset + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_FLR | PCI_EXP_DEVCAP_RBER | 1);
	fake_config_set(device, offset + PCI_EXP_DEVCTL, 2, 0x2830);
	fake_config_writable(device, offset + PCI_EXP_DEVCTL, 2, 0x7fff);
	write_1_clears(device, offset + PCI_EXP_DEVSTA, 2, 0x000f);
	fake_config_set(device, offset + PCI_EXP_LNKCAP, 4, 0x00000043);
	fake_config_writable(device, offset + PCI_EXP_LNKCTL, 2, 0x01fb);
	fake_config_set(device, offset + PCI_EXP_LNKSTA, 2, 0x0043);
	fake_config_writable(device, offset + PCI_EXP_DEVCTL2, 2, 0x043f);
}

void fake_add_af(struct fake_device *device, unsigned offset)
{
	device->af = fake_capability(device, offset, PCI_CAP_ID_AF, 6);
	device->config[offset + 2] = 6;
	device->config[offset + PCI_AF_CAP] = PCI_AF_CAP_TP | PCI_AF_CAP_FLR;
}

void fake_add_vpd(struct fake_device *device, unsigned offset)
{
	fake_capability(device, offset, PCI_CAP_ID_VPD, PCI_CAP_VPD_SIZEOF);
	fake_config_writable(device, offset + PCI_VPD_ADDR, 2, 0xffff);
	fake_config_writable(device, offset + PCI_VPD_DATA, 4, ~0u);
}

void fake_add_sriov(struct fake_device *device, unsigned offset)
{
	fake_capability_extended(device, offset, PCI_EXT_CAP_ID_SRIOV, 1);
	fake_config_set(device, offset + PCI_SRIOV_INITIAL_VF, 4, 8 | 8 << 16);
	fake_config_set(device, offset + PCI_SRIOV_VF_OFFSET, 4, 1 | 1 << 16);
	fake_config_set(device, offset + PCI_SRIOV_VF_DID, 2, 0x5555);
	fake_config_set(device, offset + PCI_SRIOV_SUP_PGSIZE, 4, 0x553);
	fake_config_set(device, offset + PCI_SRIOV_BAR, 4, 4);
	fake_config_writable(device, offset + PCI_SRIOV_CTRL, 2, 0x1f);
	fake_config_writable(device, offset + PCI_SRIOV_NUM_VF, 2, 0xffff);
	fake_config_writable(device, offset + PCI_SRIOV_BAR, 4, 0xffffc000);
}

void fake_add_aer(struct fake_device *device, unsigned offset)
{
	fake_capability_extended(device, offset, PCI_EXT_CAP_ID_ERR, 2);
	write_1_clears(device, offset + PCI_ERR_UNCOR_STATUS, 4, 0x03fff031);
	fake_config_writable(device, offset + PCI_ERR_UNCOR_MASK, 4, 0x03fff031);
	fake_config_writable(device, offset + PCI_ERR_UNCOR_SEVER, 4, 0x03fff031);
	write_1_clears(device, offset + PCI_ERR_COR_STATUS, 4, 0x0000f1c1);
	fake_config_writable(device, offset + PCI_ERR_COR_MASK, 4, 0x0000f1c1);
}

uint8_t fake_rom_byte(uint32_t offset)
{
	return offset == 0 ? 0x55 : offset == 1 ? 0xaa : (uint8_t)(offset * 7 + (offset >> 8));
}

void fake_add_rom(struct fake_device *device, uint32_t bar_bytes, uint32_t image_bytes)
{
	device->rom_bar_bytes = bar_bytes;
	device->rom_bytes = image_bytes;
	fake_config_writable(device, PCI_ROM_ADDRESS, 4, ~(bar_bytes - 1) | PCI_ROM_ADDRESS_ENABLE);
}

void fake_add_intx(struct fake_device *device, unsigned pin)
{
	fake_config_set(device, PCI_INTERRUPT_PIN, 1, pin);
}

/* ---- What is left ---- */

const char *fake_misuse(void)
{
	return world.misuse;
}

void fake_report_misuse(const char *format, ...)
{
	if (world.misuse[0])
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(world.misuse, sizeof(world.misuse), format, args);
	va_end(args);
}

unsigned fake_open_files(void)
{
	unsigned count = 0;
	for (unsigned i = 0; i < MODEL_FILES; i++)
		count += world.files[i].kind != FILE_FREE;
	return count;
}

static void describe_file(const struct fake_file *file, char *text, size_t capacity)
{
	static const char *const kinds[] = {"nothing",        "a device",    "an iommufd",    "an eventfd",
					    "a poll set",     "a container", "a group",       "a device of a group",
					    "a file",         "a socket",    "a passed file", "a timer",
					    "a device's data"};
	snprintf(text, capacity, "%s (fd %d) is still open: %u descriptors, %u holds", kinds[file->kind], file->real,
		 file->fds, file->holds);
}

const char *fake_leftovers(void)
{
	static char text[256];
	if (world.misuse[0])
		return world.misuse;
	text[0] = '\0';
	for (unsigned i = 0; i < MODEL_FILES && !text[0]; i++) {
		if (world.files[i].kind != FILE_FREE)
			describe_file(&world.files[i], text, sizeof(text));
	}
	for (unsigned i = 0; i < world.memory_count; i++) {
		const struct memory_range *range = &world.memory[i];
		if (!range->blocked)
			snprintf(text, sizeof(text), "%zu bytes of %s are still there", range->end - range->start,
				 range->bar ? "a mapped BAR" : "reserved address space");
	}
	if (fake_ioas_count())
		snprintf(text, sizeof(text), "%u IOASes with %u mappings are still there", fake_ioas_count(),
			 fake_dma_mappings());
	for (unsigned i = 0; i < world.device_count; i++) {
		const struct fake_device *device = world.devices[i];
		if (device->owner || fake_vectors_armed(device) || device->error_event || device->request_event)
			snprintf(text, sizeof(text), "%s is still bound or armed", device->bdf);
		if (fake_config_get(device, PCI_COMMAND, 2) & PCI_COMMAND_MASTER)
			snprintf(text, sizeof(text), "%s can still master the bus", device->bdf);
	}
	return text;
}

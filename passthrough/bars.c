// SPDX-License-Identifier: MIT
/*
 * Base address registers. Owns the BAR mappings of this process and what the guest sees of them; the MSI-X table's pages
 * are never mapped, whatever the kernel would allow, because a guest that writes there writes the host's messages.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "bars.h"
#include "device.h"
#include "kernel.h"

#define PAGE_BYTES         4096ull
#define HUGE_ALIGNMENT_MAX (1ull << 30)
#define PLACES             (TENON_DEVICE_BARS + 1) /* BARs and the expansion ROM */

/* Cuts [first, end) out of the mappable areas. */
static void trap_range(struct transport_region *region, uint64_t first, uint64_t end)
{
	struct transport_area kept[TRANSPORT_AREAS_MAX];
	unsigned count = 0;
	for (unsigned i = 0; i < region->area_count; i++) {
		uint64_t area_first = region->areas[i].offset, area_end = area_first + region->areas[i].size_bytes;
		if (end <= area_first || first >= area_end) {
			if (count < TRANSPORT_AREAS_MAX)
				kept[count++] = region->areas[i];
			continue;
		}
		if (first > area_first && count < TRANSPORT_AREAS_MAX)
			kept[count++] = (struct transport_area){.offset = area_first, .size_bytes = first - area_first};
		if (end < area_end && count < TRANSPORT_AREAS_MAX)
			kept[count++] = (struct transport_area){.offset = end, .size_bytes = area_end - end};
	}
	memcpy(region->areas, kept, count * sizeof(kept[0]));
	region->area_count = count;
}

/* Whole pages only: KVM and the MMU know no smaller unit. */
static void trim_to_pages(struct transport_region *region)
{
	unsigned count = 0;
	for (unsigned i = 0; i < region->area_count; i++) {
		uint64_t first = (region->areas[i].offset + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
		uint64_t end = (region->areas[i].offset + region->areas[i].size_bytes) & ~(PAGE_BYTES - 1);
		if (first < end)
			region->areas[count++] = (struct transport_area){.offset = first, .size_bytes = end - first};
	}
	region->area_count = count;
}

static void trap_msix(const struct tenon_device *device, unsigned bar, struct transport_region *region)
{
	const struct msix_layout *msix = &device->interrupts.msix;
	if (!msix->count)
		return;
	if (msix->table_bar == bar)
		trap_range(region, msix->table_offset & ~(PAGE_BYTES - 1),
			   (msix->table_offset + 16ull * msix->count + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1));
	if (msix->pba_bar == bar)
		trap_range(region, msix->pba_offset & ~(PAGE_BYTES - 1),
			   (msix->pba_offset + 8ull * ((msix->count + 63) / 64) + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1));
}

static void map_areas(struct tenon_device *device, unsigned index)
{
	struct bar *bar = &device->bars.bar[index];
	struct transport_region *region = &bar->region;
	if (region->area_count == 0 || !device->ops->memory_map || region->size_bytes < PAGE_BYTES)
		return;
	/* Aligned to its size up to 1 GiB, so that the kernel can use huge page table entries on both sides. */
	uint64_t alignment = region->size_bytes < HUGE_ALIGNMENT_MAX ? region->size_bytes : HUGE_ALIGNMENT_MAX;
	if (kernel_reserve(region->size_bytes, alignment, &bar->hva) < 0) {
		device_log(device, TENON_LOG_WARNING,
			   "%s: BAR %u: no address space to map it; it works trapped, but slowly", device->address.name,
			   index);
		bar->hva = NULL;
		return;
	}
	bar->reserved_bytes = region->size_bytes;

	unsigned mapped = 0;
	for (unsigned i = 0; i < region->area_count; i++) {
		struct tenon_error error;
		uint8_t *address = (uint8_t *)bar->hva + region->areas[i].offset;
		if (device->transport->ops->region_map(device->transport, index, &region->areas[i], address, &error) <
		    0) {
			device_log(device, TENON_LOG_WARNING, "%s", error.message);
			continue;
		}
		region->areas[mapped++] = region->areas[i];
		device->info.bars[index].mappable_bytes += region->areas[i].size_bytes;
	}
	region->area_count = mapped;
}

static bool is_power_of_two(uint64_t value)
{
	return value && (value & (value - 1)) == 0;
}

/* The register of a BAR: type bits fixed, address bits above the size writable. */
static void make_register(struct tenon_device *device, unsigned index)
{
	struct config *config = &device->config;
	const struct tenon_bar_info *info = &device->info.bars[index];
	unsigned at = PCI_BASE_ADDRESS_0 + 4 * index;
	uint64_t writable = ~(info->size_bytes - 1);
	uint32_t type = info->io ? PCI_BASE_ADDRESS_SPACE_IO
				 : (info->is_64bit ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
					   (info->prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
	config_set32(config->value, at, type);
	config_set32(config->write, at, (uint32_t)writable & (info->io ? 0xfffffffcu : 0xfffffff0u));
	memset(config->hook + at, CONFIG_HOOK_BAR, 4);
	if (info->is_64bit) {
		config_set32(config->write, at + 4, (uint32_t)(writable >> 32));
		memset(config->hook + at + 4, CONFIG_HOOK_BAR, 4);
	}
}

static void make_rom_register(struct tenon_device *device)
{
	struct config *config = &device->config;
	uint32_t address = (uint32_t) ~(device->rom.size_bytes - 1) & (uint32_t)PCI_ROM_ADDRESS_MASK;
	if (device->rom.size_bytes == 0)
		return;
	config_set32(config->write, PCI_ROM_ADDRESS, address | PCI_ROM_ADDRESS_ENABLE);
	memset(config->hook + PCI_ROM_ADDRESS, CONFIG_HOOK_BAR, 4);
}

static int query_bar(struct tenon_device *device, unsigned index, struct tenon_error *err)
{
	struct bar *bar = &device->bars.bar[index];
	struct tenon_bar_info *info = &device->info.bars[index];
	int code = device->transport->ops->region_info(device->transport, VFIO_PCI_BAR0_REGION_INDEX + index,
						       &bar->region, err);
	if (code < 0 || bar->region.size_bytes == 0)
		return code;
	uint32_t hardware = device_hardware_config_read(device, PCI_BASE_ADDRESS_0 + 4 * index, 4);
	if (device->transport->health != TRANSPORT_WELL)
		return remote_check_open(device, 0, err);
	info->io = hardware & PCI_BASE_ADDRESS_SPACE_IO;
	info->is_64bit = !info->io && (hardware & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
	info->prefetchable = !info->io && (hardware & PCI_BASE_ADDRESS_MEM_PREFETCH);
	info->size_bytes = bar->region.size_bytes;
	if (!is_power_of_two(info->size_bytes) || (info->is_64bit && index == TENON_DEVICE_BARS - 1) ||
	    (info->io && info->size_bytes > 256)) {
		device_log(device, TENON_LOG_WARNING,
			   "%s: BAR %u has an impossible size of 0x%llx bytes; the guest will not see it",
			   device->address.name, index, (unsigned long long)info->size_bytes);
		*info = (struct tenon_bar_info){0};
		bar->region = (struct transport_region){0};
	}
	return 0;
}

/* Only what the guest can reach without a trap can be reached by other devices. */
static bool is_any_mapped(const struct tenon_device *device)
{
	bool any = false;
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++)
		any |= device->info.bars[i].mappable_bytes > 0;
	return any;
}

int bars_init(struct tenon_device *device, struct tenon_error *err)
{
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		if (i > 0 && device->info.bars[i - 1].is_64bit)
			continue; /* the upper half of the one before */
		int code = query_bar(device, i, err);
		if (code < 0)
			return code;
		if (device->info.bars[i].size_bytes == 0)
			continue;
		make_register(device, i);
		trap_msix(device, i, &device->bars.bar[i].region);
		trim_to_pages(&device->bars.bar[i].region);
		if (!device->info.bars[i].io)
			map_areas(device, i);
		code = bells_query(device, i, err);
		if (code < 0)
			return code;
	}
	make_rom_register(device);
	device->info.peer_to_peer = device->info.peer_to_peer && is_any_mapped(device);
	return 0;
}

static bool is_awake(const struct tenon_device *device)
{
	const struct config *config = &device->config;
	return !config->pm || (config_value16(config, config->pm + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK) == 0;
}

static struct tenon_bar_placement wanted_rom(const struct tenon_device *device)
{
	uint32_t value = config_value32(&device->config, PCI_ROM_ADDRESS);
	uint16_t command = config_value16(&device->config, PCI_COMMAND);
	struct tenon_bar_placement placement = {
		.bar = TENON_DEVICE_ROM,
		.address = value & (uint32_t)PCI_ROM_ADDRESS_MASK,
		.size_bytes = device->rom.size_bytes,
	};
	placement.enabled = placement.size_bytes && placement.address &&
			    placement.address + placement.size_bytes <= UINT32_MAX && is_awake(device) &&
			    (value & PCI_ROM_ADDRESS_ENABLE) && (command & PCI_COMMAND_MEMORY);
	return placement;
}

/* What the guest's registers say now. */
static struct tenon_bar_placement wanted(const struct tenon_device *device, unsigned index)
{
	if (index == TENON_DEVICE_ROM)
		return wanted_rom(device);
	const struct tenon_bar_info *info = &device->info.bars[index];
	unsigned at = PCI_BASE_ADDRESS_0 + 4 * index;
	uint16_t command = config_value16(&device->config, PCI_COMMAND);
	struct tenon_bar_placement placement = {.bar = index, .io = info->io, .size_bytes = info->size_bytes};

	placement.address = config_value32(&device->config, at) & (info->io ? 0xfffffffcu : 0xfffffff0u);
	if (info->is_64bit)
		placement.address |= (uint64_t)config_value32(&device->config, at + 4) << 32;
	/* Address 0 and the all-ones of sizing are no places. */
	bool placeable = placement.address != 0 && placement.address + info->size_bytes - 1 >= placement.address &&
			 placement.address + info->size_bytes - 1 != (info->is_64bit ? UINT64_MAX : UINT32_MAX);
	if (info->io)
		placeable = placeable && placement.address + info->size_bytes <= 0x10000;
	placement.enabled = info->size_bytes && placeable && is_awake(device) &&
			    (command & (info->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY));
	return placement;
}

static bool same_place(const struct tenon_bar_placement *a, const struct tenon_bar_placement *b)
{
	return a->enabled == b->enabled && (!a->enabled || a->address == b->address);
}

/* Where the guest is to see an area without a trap; 0: nowhere. */
static uint64_t wanted_gpa(const struct tenon_device *device, const struct bar *bar, unsigned area)
{
	if (!bar->hva || !bar->placed.enabled || bar->placed.address % PAGE_BYTES || device->bars.trapped ||
	    device->remote.lost)
		return 0;
	return bar->placed.address + bar->region.areas[area].offset;
}

static uint64_t wanted_bells(const struct tenon_device *device, const struct bar *bar)
{
	bool seen = device->bars.trapped || device->remote.lost;
	return bar->placed.enabled && !seen ? bar->placed.address : 0;
}

/*
 * Other devices reach what the guest reaches, at the same address. Not all of a guest's addresses are DMA addresses.
 *
 * The kernel maps a BAR page by page, at each time that the guest turns decoding on. Kept mapped meanwhile, a peer's DMA would reach
 * a device that does not answer, which the host may take for a fatal error.
 */
static void map_for_peers(struct tenon_device *device, struct bar *bar, unsigned area)
{
	struct tenon_error error;
	if (!device->info.peer_to_peer || bar->peer_gpa[area] || bar->peers_refused)
		return;
	const struct transport_area *from = &bar->region.areas[area];
	const struct tenon_space_region window = {
		.gpa = bar->area_gpa[area],
		.size_bytes = from->size_bytes,
		.hva = (uint8_t *)bar->hva + from->offset,
		.fd = bar->region.file,
		.fd_offset = bar->region.file ? bar->region.file_offset + from->offset : 0,
	};
	int code = space_map_bar(device->space, &device->member, &window, &error);
	if (code >= 0)
		bar->peer_gpa[area] = bar->area_gpa[area];
	if (code == 0)
		return;
	bar->peers_refused |= code < 0 && code != -EBUSY; /* which passes */
	if (!bar->peers_told)
		device_log(
			device, TENON_LOG_WARNING,
			"%s: BAR %u is out of reach of other devices' DMA, at 0x%llx and wherever else that fails: %s",
			device->address.name, bar->placed.bar, (unsigned long long)bar->placed.address, error.message);
	bar->peers_told = true;
}

/* @return whether it is gone */
static bool take_back(struct tenon_device *device, struct bar *bar, unsigned area, bool from_peers)
{
	struct tenon_error error;
	uint64_t *gpa = from_peers ? &bar->peer_gpa[area] : &bar->area_gpa[area];
	uint64_t size_bytes = bar->region.areas[area].size_bytes;
	int code = from_peers ? space_unmap_bar(device->space, &device->member, *gpa, size_bytes, &error)
			      : device->ops->memory_unmap(device->host, *gpa, size_bytes, &error);
	if (code == 0) {
		*gpa = 0;
		bar->stuck_told = false;
		return true;
	}
	if (!bar->stuck_told)
		device_log_error(device, &error);
	bar->stuck_told = true;
	return false;
}

/* Takes back what is not where it is to be. What cannot be taken back stays where it is, and is tried again every time. */
static void withdraw(struct tenon_device *device, struct bar *bar)
{
	bells_withdraw(device, bar, wanted_bells(device, bar));
	for (unsigned i = 0; i < bar->region.area_count; i++) {
		uint64_t gpa = wanted_gpa(device, bar, i);
		if (bar->peer_gpa[i] && bar->peer_gpa[i] != gpa)
			take_back(device, bar, i, true);
		if (bar->area_gpa[i] && bar->area_gpa[i] != gpa)
			take_back(device, bar, i, false);
	}
}

/* Maps what is not mapped yet, but never what was refused since the BAR was placed. */
static void map_into_guest(struct tenon_device *device, struct bar *bar)
{
	bool refused = bar->refused;
	for (unsigned i = 0; i < bar->region.area_count; i++) {
		const struct transport_area *area = &bar->region.areas[i];
		uint64_t gpa = wanted_gpa(device, bar, i);
		struct tenon_error error;
		/* Refused where the guest put the BAR over something else; it then works trapped, if at all, as on hardware. */
		if (gpa && !bar->area_gpa[i] && !refused) {
			if (device->ops->memory_map(device->host, gpa, area->size_bytes,
						    (uint8_t *)bar->hva + area->offset, &error) == 0) {
				bar->area_gpa[i] = gpa;
			} else {
				bar->refused = true;
				device_log(device, TENON_LOG_WARNING, "%s: BAR %u at 0x%llx stays trapped: %s",
					   device->address.name, bar->placed.bar,
					   (unsigned long long)bar->placed.address, error.message);
			}
		}
		if (gpa && bar->area_gpa[i] == gpa)
			map_for_peers(device, bar, i);
	}
	bells_place(device, bar, wanted_bells(device, bar));
}

void bars_withdraw(struct tenon_device *device)
{
	for (unsigned i = 0; i < PLACES; i++) {
		struct bar *bar = &device->bars.bar[i];
		struct tenon_bar_placement now = wanted(device, i);
		bool leaves = bar->placed.enabled && !same_place(&bar->placed, &now);
		bar->placed.enabled = bar->placed.enabled && !leaves;
		withdraw(device, bar);
		if (leaves)
			device->ops->bar_placed(device->host, &bar->placed);
	}
}

void bars_place(struct tenon_device *device)
{
	for (unsigned i = 0; i < PLACES; i++) {
		struct bar *bar = &device->bars.bar[i];
		struct tenon_bar_placement now = wanted(device, i);
		if (!bar->placed.enabled && now.enabled) {
			bar->placed = now;
			bar->refused = bar->peers_refused = false;
			if (i == TENON_DEVICE_ROM)
				rom_placed(device);
			device->ops->bar_placed(device->host, &bar->placed);
		}
		map_into_guest(device, bar);
	}
}

void bars_update(struct tenon_device *device)
{
	for (unsigned i = 0; i < PLACES; i++) {
		struct bar *bar = &device->bars.bar[i];
		bar->refused = bar->peers_refused = false;
		withdraw(device, bar);
		map_into_guest(device, bar);
	}
}

void bars_direct(struct tenon_device *device, bool direct)
{
	if (device->bars.trapped == !direct)
		return;
	device->bars.trapped = !direct;
	bars_update(device);
}

static bool is_at_peers(const struct bar *bar)
{
	for (unsigned i = 0; i < bar->region.area_count; i++) {
		if (bar->peer_gpa[i])
			return true;
	}
	return false;
}

int bars_map_again(struct tenon_device *device, struct tenon_error *err)
{
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		struct bar *bar = &device->bars.bar[i];
		struct transport_region region;
		/* What could not be taken back is what it was before, not what it will be. */
		if (is_at_peers(bar))
			return tenon_fail(
				err, -EBUSY,
				"%s: other devices still have what its BAR %u was; wait until their servers answer",
				device->address.name, i);
		int code = bells_query(device, i, err);
		if (bar->hva && code == 0)
			code = device->transport->ops->region_info(device->transport, i, &region, err);
		for (unsigned area = 0; bar->hva && code == 0 && area < bar->region.area_count; area++)
			code = device->transport->ops->region_map(device->transport, i, &bar->region.areas[area],
								  (uint8_t *)bar->hva + bar->region.areas[area].offset,
								  err);
		if (code < 0)
			return code;
		if (bar->hva) {
			bar->region.file = region.file;
			bar->region.file_offset = region.file_offset;
		}
	}
	return 0;
}

bool bars_decoded(const struct tenon_device *device, unsigned bar)
{
	return device->bars.bar[bar].placed.enabled;
}

static bool is_visible(const struct bar *bar)
{
	for (unsigned i = 0; i < bar->region.area_count; i++) {
		if (bar->area_gpa[i])
			return true;
	}
	return false;
}

void bars_finish(struct tenon_device *device)
{
	for (unsigned i = 0; i < TENON_DEVICE_BARS; i++) {
		struct bar *bar = &device->bars.bar[i];
		bar->placed.enabled = false;
		withdraw(device, bar);
		/* Addresses that the guest may still reach must never become other memory of this process. */
		if (bar->hva && is_visible(bar))
			kernel_block(bar->hva, bar->reserved_bytes);
		else if (bar->hva)
			kernel_unmap(bar->hva, bar->reserved_bytes);
		bar->hva = NULL;
	}
}

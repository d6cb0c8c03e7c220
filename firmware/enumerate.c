// SPDX-License-Identifier: MIT
/*
 * What a UEFI firmware does with PCI: buses are numbered depth first, BARs are sized by writing ones, a bridge's windows are as large
 * as what is behind it, and everything goes into the host bridge's windows, most aligned first. PCI Local Bus 3.0, 6.2.5.1; PCI-to-PCI
 * Bridge 1.2, 3.2.5.
 */
#include <stddef.h>

#include "pci.h"

#define IO_GRANULE     0x1000ull   /* of a bridge's I/O window */
#define MEMORY_GRANULE 0x100000ull /* of its memory windows */
#define PAGE_BYTES     0x1000ull
#define ADDRESS_BITS   64

/* Something to place: a BAR, or a bridge's window. */
struct resource {
	uint16_t function;
	int8_t bar; /* -1: the window */
	uint8_t space, alignment_bits;
};

#define RESOURCES_MAX (FUNCTIONS_MAX * 4)

static struct resource resources[RESOURCES_MAX];
static unsigned resource_count;
static unsigned last_bus;
static const char *trouble;

/* ---- Sizing ---- */

static uint64_t size_of(const struct function *function, unsigned at, bool is_64bit, uint32_t flags)
{
	uint32_t low = config_read32(function, at), high = 0;
	config_write32(function, at, 0xffffffff);
	uint64_t mask = config_read32(function, at) & ~flags;
	config_write32(function, at, low);
	if (is_64bit) {
		high = config_read32(function, at + 4);
		config_write32(function, at + 4, 0xffffffff);
		mask |= (uint64_t)config_read32(function, at + 4) << 32;
		config_write32(function, at + 4, high);
	} else if (mask) {
		mask |= flags == 3 && !(mask & 0xffff0000) ? 0xffffffffffff0000 : 0xffffffff00000000;
	}
	return mask & -mask;
}

/* @return how many registers the BAR takes */
static unsigned size_bar(struct function *function, unsigned bar)
{
	unsigned at = bar_register(function, bar);
	uint32_t value = config_read32(function, at);
	struct bar *out = &function->bars[bar];
	out->copies = 1;
	if (bar == ROM) {
		out->space = SPACE_32;
		out->bytes = size_of(function, at, false, ~ROM_ADDRESS);
		return 1;
	}
	if (value & BAR_IO) {
		out->space = SPACE_IO;
		out->bytes = size_of(function, at, false, 3);
		return 1;
	}
	out->is_64bit = (value & BAR_TYPE) == BAR_64BIT;
	out->prefetchable = value & BAR_PREFETCH;
	/* A bridge has one window for non-prefetchable memory, below 4 GiB. */
	out->space = out->is_64bit && (out->prefetchable || function->parent < 0) ? SPACE_64 : SPACE_32;
	out->bytes = size_of(function, at, out->is_64bit, 0xf);
	return out->is_64bit ? 2 : 1;
}

static void size_bars(struct function *function)
{
	unsigned count = function->header == HEADER_BRIDGE ? 2 : BARS;
	for (unsigned bar = 0; bar < count;)
		bar += size_bar(function, bar);
	size_bar(function, ROM);
	unsigned sriov = function->header == HEADER_BRIDGE ? 0 : find_extended(function, EXT_SRIOV);
	if (!sriov)
		return;
	uint16_t vfs = config_read16(function, sriov + SRIOV_TOTAL_VFS);
	for (unsigned bar = VF_BARS; bar < ALL_BARS;) {
		unsigned at = bar;
		bar += size_bar(function, bar);
		function->bars[at].copies = vfs > 255 ? 255 : (uint8_t)vfs;
		if (!vfs)
			function->bars[at].bytes = 0;
	}
}

/* ---- Scanning ---- */

static void scan_bus(unsigned bus, int parent);

/* Behind all other bridges is a bus with room for 32 devices: conventional PCI, or the inside of a switch. */
static bool leads_to_link(const struct function *bridge)
{
	unsigned express = find_capability(bridge, CAP_EXPRESS);
	unsigned type = express ? EXPRESS_TYPE(config_read16(bridge, express + EXPRESS_FLAGS)) : 0;
	return type == EXPRESS_ROOT_PORT || type == EXPRESS_DOWNSTREAM || type == EXPRESS_FROM_PCI;
}

static void scan_bridge(struct function *bridge)
{
	if (last_bus == machine.last_bus) {
		trouble = "more buses than ECAM has room for";
		return;
	}
	bridge->link = leads_to_link(bridge);
	bridge->secondary = (uint8_t)++last_bus;
	config_write8(bridge, BRIDGE_PRIMARY, bridge->bus);
	config_write8(bridge, BRIDGE_SECONDARY, bridge->secondary);
	config_write8(bridge, BRIDGE_SUBORDINATE, 0xff);
	scan_bus(bridge->secondary, (int)(bridge - functions));
	bridge->subordinate = (uint8_t)last_bus;
	config_write8(bridge, BRIDGE_SUBORDINATE, bridge->subordinate);
}

/* @return whether there may be more functions in the device */
static bool scan_function(unsigned bus, unsigned device, unsigned number, int parent)
{
	struct function *function = &functions[function_count];
	*function = (struct function){
		.bus = (uint8_t)bus, .device = (uint8_t)device, .number = (uint8_t)number, .parent = parent};
	uint32_t ids = config_read32(function, PCI_VENDOR);
	if ((ids & 0xffff) == 0xffff)
		return number > 0;
	if (function_count + 1 == FUNCTIONS_MAX) {
		trouble = "more functions than this firmware has room for";
		return false;
	}
	uint8_t header = config_read8(function, PCI_HEADER);
	function->vendor = (uint16_t)ids;
	function->id = (uint16_t)(ids >> 16);
	function->header = header & HEADER_TYPE;
	function->class_code = config_read32(function, PCI_REVISION) >> 8;
	function_count++;
	set_command(function, 0, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER);
	if (function->class_code != CLASS_BRIDGE_HOST)
		size_bars(function);
	if (function->header == HEADER_BRIDGE)
		scan_bridge(function);
	return number > 0 || header & HEADER_MULTI;
}

static bool forwards_ari(const struct function *port)
{
	unsigned express = find_capability(port, CAP_EXPRESS);
	return express && EXPRESS_VERSION(config_read16(port, express + EXPRESS_FLAGS)) >= 2 &&
	       config_read32(port, express + EXPRESS_CAPABILITIES2) & EXPRESS_ARI;
}

/*
 * Alternative Routing-ID Interpretation (PCI Express Base 5.0, 6.13): the one device of a link has up to 256 functions, each of
 * which names the next. Numbers only rise, so that a list that is wrong ends, too.
 */
static void scan_ari(struct function *port)
{
	const struct function *first = function_at((unsigned)port->secondary << 8);
	if (!first || !find_extended(first, EXT_ARI) || !forwards_ari(port))
		return;
	unsigned control = find_capability(port, CAP_EXPRESS) + EXPRESS_CONTROL2;
	config_write16(port, control, config_read16(port, control) | EXPRESS_ARI);
	for (unsigned devfn = 0;;) {
		const struct function at = {
			.bus = port->secondary, .device = (uint8_t)(devfn >> 3), .number = devfn & 7};
		unsigned ari = find_extended(&at, EXT_ARI);
		unsigned next = ari ? config_read8(&at, ari + ARI_NEXT) : 0;
		if (next <= devfn)
			return;
		devfn = next;
		if (!function_at((unsigned)port->secondary << 8 | devfn))
			scan_function(port->secondary, devfn >> 3, devfn & 7, (int)(port - functions));
	}
}

static void scan_bus(unsigned bus, int parent)
{
	bool link = parent >= 0 && functions[parent].link;
	/* Every read of another device would be answered by silence. */
	unsigned devices = link ? 1 : 32;
	for (unsigned device = 0; device < devices; device++) {
		for (unsigned number = 0; number < 8; number++) {
			if (!scan_function(bus, device, number, parent))
				break;
		}
	}
	if (link)
		scan_ari(&functions[parent]);
}

/* ---- Placing ---- */

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & -alignment;
}

static uint8_t bits_of(uint64_t alignment)
{
	return (uint8_t)__builtin_ctzll(alignment);
}

static uint64_t bytes_of(const struct resource *resource)
{
	const struct function *function = &functions[resource->function];
	if (resource->bar < 0)
		return function->window[resource->space].bytes;
	const struct bar *bar = &function->bars[resource->bar];
	return bar->bytes * bar->copies;
}

static void add_resource(unsigned function, int bar, enum space space, uint64_t alignment)
{
	if (resource_count < RESOURCES_MAX)
		resources[resource_count++] = (struct resource){.function = (uint16_t)function,
								.bar = (int8_t)bar,
								.space = (uint8_t)space,
								.alignment_bits = bits_of(alignment)};
	else
		trouble = "more BARs than this firmware has room for";
}

static void add_bars(unsigned index)
{
	for (unsigned i = 0; i < ALL_BARS; i++) {
		const struct bar *bar = &functions[index].bars[i];
		/* Memory takes a page at least, so that no two BARs share one. */
		uint64_t least = bar->space == SPACE_IO ? 1 : PAGE_BYTES;
		if (bar->bytes)
			add_resource(index, (int)i, bar->space, bar->bytes > least ? bar->bytes : least);
	}
}

/*
 * Lays out what is directly behind `parent`, most aligned first, from `at` on. @return the end.
 * With `place` set the addresses are kept.
 */
static uint64_t lay_out(int parent, enum space space, uint64_t at, bool place, unsigned *most_aligned)
{
	uint64_t present = 0; /* alignments that occur */
	for (unsigned i = 0; i < resource_count; i++) {
		if (resources[i].space == space && functions[resources[i].function].parent == parent)
			present |= 1ull << resources[i].alignment_bits;
	}
	*most_aligned = present ? ADDRESS_BITS - 1 - (unsigned)__builtin_clzll(present) : 0;
	while (present) {
		unsigned bits = ADDRESS_BITS - 1 - (unsigned)__builtin_clzll(present);
		present &= ~(1ull << bits);
		for (unsigned i = 0; i < resource_count; i++) {
			const struct resource *resource = &resources[i];
			struct function *function = &functions[resource->function];
			if (resource->space != space || resource->alignment_bits != bits || function->parent != parent)
				continue;
			at = align_up(at, 1ull << bits);
			if (place && resource->bar < 0)
				function->window[space].first = at;
			else if (place)
				function->bars[resource->bar].address = at;
			at += bytes_of(resource);
		}
	}
	return at;
}

static bool takes_hotplug(const struct function *bridge)
{
	unsigned express = find_capability(bridge, CAP_EXPRESS);
	return express && config_read16(bridge, express + EXPRESS_FLAGS) & EXPRESS_HAS_SLOT &&
	       config_read32(bridge, express + EXPRESS_SLOT) & SLOT_HOTPLUG;
}

static void size_windows(unsigned index)
{
	struct function *bridge = &functions[index];
	bool empty = bridge->secondary == bridge->subordinate &&
		     (index + 1 == function_count || functions[index + 1].parent != (int)index);
	bool reserve = empty && takes_hotplug(bridge);
	for (enum space space = SPACE_IO; space < SPACES; space++) {
		unsigned bits;
		uint64_t granule = space == SPACE_IO ? IO_GRANULE : MEMORY_GRANULE;
		uint64_t bytes = align_up(lay_out((int)index, space, 0, false, &bits), granule);
		uint64_t alignment = 1ull << bits > granule ? 1ull << bits : granule;
		if (reserve && machine.hotplug_bytes[space])
			bytes = alignment = machine.hotplug_bytes[space];
		bridge->window[space].bytes = bytes;
		if (bytes)
			add_resource(index, -1, space, alignment);
	}
}

/* A window is closed by a base above its limit. */
static void write_windows(const struct function *bridge)
{
	const struct range *io = &bridge->window[SPACE_IO], *memory = &bridge->window[SPACE_32],
			   *prefetch = &bridge->window[SPACE_64];
	uint64_t first = io->bytes ? io->first : 0xf000, last = io->bytes ? io->first + io->bytes - 1 : 0xfff;
	config_write16(bridge, BRIDGE_IO_BASE, (uint16_t)((first >> 8 & 0xf0) | (last & 0xf000)));
	config_write32(bridge, BRIDGE_IO_UPPER, 0);
	first = memory->bytes ? memory->first : 0xfff00000;
	last = memory->bytes ? memory->first + memory->bytes - 1 : 0xfffff;
	config_write32(bridge, BRIDGE_MEMORY_BASE, (uint32_t)((first >> 16 & 0xfff0) | (last & 0xfff00000)));
	first = prefetch->bytes ? prefetch->first : 0xfff00000;
	last = prefetch->bytes ? prefetch->first + prefetch->bytes - 1 : 0xfffff;
	config_write32(bridge, BRIDGE_PREFETCH_BASE, (uint32_t)((first >> 16 & 0xfff0) | (last & 0xfff00000)));
	config_write32(bridge, BRIDGE_PREFETCH_UPPER, (uint32_t)(first >> 32));
	config_write32(bridge, BRIDGE_PREFETCH_UPPER + 4, (uint32_t)(last >> 32));
}

static bool is_behind(const struct function *function, int bridge)
{
	while (function->parent >= 0 && function->parent != bridge)
		function = &functions[function->parent];
	return function->parent == bridge;
}

/* What of the function is on the root bus and in I/O space beyond `end`: the function itself, or what is behind it, loses it. */
static void drop_function_io(int index, uint64_t end)
{
	struct function *function = &functions[index];
	struct range *window = &function->window[SPACE_IO];
	for (unsigned i = 0; i < BARS; i++) {
		struct bar *bar = &function->bars[i];
		if (bar->space == SPACE_IO && bar->address + bar->bytes > end)
			bar->bytes = 0;
	}
	if (window->first + window->bytes <= end)
		return;
	window->bytes = 0;
	for (unsigned i = 0; i < function_count; i++) {
		if (!is_behind(&functions[i], index))
			continue;
		functions[i].window[SPACE_IO].bytes = 0;
		for (unsigned j = 0; j < BARS; j++) {
			if (functions[i].bars[j].space == SPACE_IO)
				functions[i].bars[j].bytes = 0;
		}
	}
}

/* I/O space is small and every PCI Express device does without: what does not fit gets none. */
static void drop_io(uint64_t end)
{
	for (unsigned i = 0; i < function_count; i++) {
		if (functions[i].parent < 0)
			drop_function_io((int)i, end);
	}
}

static void place_all(void)
{
	static const char *const full[SPACES] = {NULL, "the BARs do not fit into the 32-bit window",
						 "the BARs do not fit into the 64-bit window"};
	unsigned bits;
	resource_count = 0;
	for (unsigned i = 0; i < function_count; i++)
		add_bars(i);
	/* What is behind a bridge comes after it. */
	for (unsigned i = function_count; i-- > 0;) {
		if (functions[i].header == HEADER_BRIDGE)
			size_windows(i);
	}
	for (enum space space = SPACE_IO; space < SPACES; space++) {
		const struct range *window = &machine.windows[space];
		uint64_t end = lay_out(-1, space, window->first, true, &bits);
		if (end > window->first + window->bytes && space == SPACE_IO)
			drop_io(window->first + window->bytes);
		else if (end > window->first + window->bytes)
			trouble = full[space];
	}
	for (unsigned i = 0; i < function_count; i++) {
		const struct function *bridge = &functions[i];
		if (bridge->header != HEADER_BRIDGE)
			continue;
		for (enum space space = SPACE_IO; space < SPACES; space++)
			lay_out((int)i, space, bridge->window[space].first, true, &bits);
	}
}

/* With ARI, what looks like a device number is part of a function's. */
static unsigned device_of(const struct function *function)
{
	return function->parent >= 0 && functions[function->parent].link ? 0 : function->device;
}

/* A bridge turns the pins of a device behind it by that device's number (PCI-to-PCI Bridge 1.2, 9.1). */
static int line_of(const struct function *function, unsigned pin)
{
	unsigned device = device_of(function);
	for (int parent = function->parent; parent >= 0; parent = functions[parent].parent) {
		pin += device;
		device = device_of(&functions[parent]);
	}
	return machine_gsi(device, pin % 4);
}

static void write_function(const struct function *function)
{
	for (unsigned bar = 0; bar < ALL_BARS; bar++) {
		if (function->bars[bar].bytes)
			bar_place(function, bar, function->bars[bar].address);
	}
	uint8_t pin = config_read8(function, PCI_INTERRUPT_PIN);
	int gsi = pin ? line_of(function, pin - 1u) : -1;
	if (gsi >= 0)
		config_write8(function, PCI_INTERRUPT_LINE, (uint8_t)gsi);
	if (function->header == HEADER_BRIDGE) {
		write_windows(function);
		set_command(function, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER, 0);
	}
}

const char *enumerate(void)
{
	function_count = last_bus = 0;
	trouble = NULL;
	scan_bus(0, -1);
	if (!trouble)
		place_all();
	for (unsigned i = 0; !trouble && i < function_count; i++)
		write_function(&functions[i]);
	return trouble;
}

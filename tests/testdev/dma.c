// SPDX-License-Identifier: MIT
/* Windows into the client's memory, and access to them in the three ways the protocol has: mapped, as a file, by message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vfio_user_protocol.h>

#include "server.h"
#include "testdev.h"

#define HOST_PAGE_BYTES 4096u

static void map_release(struct dma_map *map)
{
	if (map->mapping)
		munmap(map->mapping, map->mapping_bytes);
	if (map->fd >= 0)
		close(map->fd);
}

/* The first window that ends behind the address; dma->count when there is none. */
static unsigned find(const struct dma *dma, uint64_t address)
{
	unsigned low = 0, high = dma->count;
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		const struct dma_map *map = &dma->maps[middle];
		if (map->address + (map->bytes - 1) < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Maps whole pages, though the client may start inside one. */
static int map_file(struct dma_map *map, int fd, uint64_t offset)
{
	int protection = (map->flags & VU_DMA_READABLE ? PROT_READ : 0) |
			 (map->flags & VU_DMA_WRITEABLE ? PROT_READ | PROT_WRITE : 0);
	uint64_t slack = offset % HOST_PAGE_BYTES;
	if (map->bytes > SIZE_MAX / 2 - slack || offset > INT64_MAX - map->bytes)
		return -EOVERFLOW;
	map->mapping_bytes = map->bytes + slack;
	void *mapping =
		mmap(NULL, map->mapping_bytes, protection, MAP_SHARED | MAP_NORESERVE, fd, (off_t)(offset - slack));
	if (mapping == MAP_FAILED)
		return -errno;
	map->mapping = mapping;
	map->hva = (uint8_t *)mapping + slack;
	return 0;
}

static int check_map(const struct dma *dma, const struct vu_dma_map *request, int fd)
{
	const uint32_t known = VU_DMA_READABLE | VU_DMA_WRITEABLE | VU_DMA_MMAP | VU_DMA_FILE_IO;
	const uint32_t file_flags = request->flags & (VU_DMA_MMAP | VU_DMA_FILE_IO);
	if (request->flags & ~known || !(request->flags & (VU_DMA_READABLE | VU_DMA_WRITEABLE)))
		return -EINVAL;
	if (file_flags == (VU_DMA_MMAP | VU_DMA_FILE_IO) || (file_flags && fd < 0))
		return -EINVAL;
	if (request->bytes == 0 || request->address + (request->bytes - 1) < request->address)
		return -EINVAL;
	unsigned at = find(dma, request->address);
	if (at < dma->count && dma->maps[at].address <= request->address + (request->bytes - 1))
		return -EEXIST;
	return dma->count == DMA_MAPS_MAX ? -ENOSPC : 0;
}

int dma_map(struct testdev *device, const struct vu_dma_map *request, int fd)
{
	struct dma *dma = &device->dma;
	struct dma_map map = {.address = request->address,
			      .bytes = request->bytes,
			      .flags = request->flags & (VU_DMA_READABLE | VU_DMA_WRITEABLE),
			      .fd = -1,
			      .offset = request->offset};
	int code = check_map(dma, request, fd);
	if (code == 0 && fd >= 0 && !(request->flags & VU_DMA_FILE_IO))
		code = map_file(&map, fd, request->offset);
	struct dma_map *grown = code == 0 ? realloc(dma->maps, (dma->count + 1) * sizeof(map)) : NULL;
	if (code == 0 && !grown)
		code = -ENOMEM;
	if (grown)
		dma->maps = grown;
	if (code == 0 && request->flags & VU_DMA_FILE_IO)
		map.fd = fd;
	else if (fd >= 0)
		close(fd); /* a mapping keeps its file */
	if (code < 0) {
		map_release(&map);
		return code;
	}
	unsigned at = find(dma, map.address);
	memmove(dma->maps + at + 1, dma->maps + at, (dma->count - at) * sizeof(map));
	dma->maps[at] = map;
	dma->count++;
	return 0;
}

static void remove_at(struct testdev *device, unsigned at)
{
	struct dma *dma = &device->dma;
	if (copy_engine_uses(device, dma->maps[at].address, dma->maps[at].bytes))
		journal_add(device, TD_BAD_UNMAP, dma->maps[at].address, "0x%llx bytes at 0x%llx",
			    (unsigned long long)dma->maps[at].bytes, (unsigned long long)dma->maps[at].address);
	map_release(&dma->maps[at]);
	dma->count--;
	memmove(dma->maps + at, dma->maps + at + 1, (dma->count - at) * sizeof(dma->maps[0]));
}

int dma_unmap(struct testdev *device, uint64_t address, uint64_t bytes)
{
	struct dma *dma = &device->dma;
	unsigned at = find(dma, address);
	if (at == dma->count || dma->maps[at].address != address || dma->maps[at].bytes != bytes)
		return -ENOENT;
	remove_at(device, at);
	return 0;
}

void dma_unmap_all(struct testdev *device)
{
	while (device->dma.count)
		remove_at(device, device->dma.count - 1);
}

void dma_finish(struct testdev *device)
{
	dma_unmap_all(device);
	free(device->dma.maps);
	device->dma.maps = NULL;
	dma_log_stop(device);
}

uint32_t dma_span(const struct testdev *device, uint64_t address, uint32_t bytes, bool write)
{
	const struct dma *dma = &device->dma;
	unsigned at = find(dma, address);
	if (at == dma->count || dma->maps[at].address > address)
		return 0;
	const struct dma_map *map = &dma->maps[at];
	if (!(map->flags & (write ? VU_DMA_WRITEABLE : VU_DMA_READABLE)))
		return 0;
	uint64_t left = map->bytes - (address - map->address);
	uint64_t most = server_data_bytes(device);
	if (most > DMA_CHUNK_MAX)
		most = DMA_CHUNK_MAX;
	if (most > left)
		most = left;
	return bytes < most ? bytes : (uint32_t)most;
}

static int access_file(const struct dma_map *map, const struct dma_access *access)
{
	off_t at = (off_t)(map->offset + (access->address - map->address));
	ssize_t done = access->write ? pwrite(map->fd, access->data, access->bytes, at)
				     : pread(map->fd, access->data, access->bytes, at);
	return done == (ssize_t)access->bytes ? 1 : -EFAULT;
}

static int access_mapping(const struct dma_map *map, const struct dma_access *access)
{
	uint8_t *hva = map->hva + (access->address - map->address);
	int code = access->write ? guarded_copy(hva, access->data, access->bytes)
				 : guarded_copy(access->data, hva, access->bytes);
	return code < 0 ? code : 1;
}

static int access_message(struct testdev *device, const struct dma_access *access)
{
	struct dma *dma = &device->dma;
	if (dma->pending.active)
		return -EBUSY;
	struct vu_header header = {
		.id = dma->next_id, .command = access->write ? VU_DMA_WRITE : VU_DMA_READ, .flags = VU_TYPE_COMMAND};
	const struct vu_dma_access payload = {.address = access->address, .count = access->bytes};
	int code = server_command(device, &header, &payload, access->write ? access->data : NULL,
				  access->write ? access->bytes : 0);
	if (code < 0)
		return code;
	uint32_t timeout_ms = device->options.dma_timeout_ms ? device->options.dma_timeout_ms : 5000;
	dma->pending = (struct dma_pending){.active = true,
					    .id = dma->next_id++,
					    .deadline_ns = now_ns() + timeout_ms * UINT64_C(1000000),
					    .access = *access};
	return 0;
}

static bool is_logged(const struct dma_log *log, uint64_t page)
{
	uint64_t first = page * log->page_bytes, last = first + (log->page_bytes - 1);
	for (unsigned i = 0; i < log->range_count; i++) {
		const struct vu_log_range *range = &log->ranges[i];
		if (range->address <= last && first <= range->address + (range->bytes - 1))
			return true;
	}
	return log->range_count == 0;
}

static void log_insert(struct dma_log *log, uint64_t page)
{
	size_t at = (size_t)((page * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (log->capacity - 1);
	while (log->pages[at] && log->pages[at] != page + 1)
		at = (at + 1) & (log->capacity - 1);
	if (!log->pages[at]) {
		log->pages[at] = page + 1;
		log->used++;
	}
}

/* At most half full, so that a search ends soon; 16 M pages at most, which is 64 GiB of pages of 4 KiB. */
static bool log_make_room(struct dma_log *log)
{
	enum { CAPACITY_FIRST = 1 << 12, CAPACITY_MAX = 1 << 25 };
	if (2 * (log->used + 1) <= log->capacity)
		return true;
	size_t capacity = log->capacity ? 2 * log->capacity : CAPACITY_FIRST;
	uint64_t *pages = capacity <= CAPACITY_MAX ? calloc(capacity, sizeof(pages[0])) : NULL;
	if (!pages)
		return false;
	struct dma_log grown = {.pages = pages, .capacity = capacity};
	for (size_t i = 0; i < log->capacity; i++) {
		if (log->pages[i])
			log_insert(&grown, log->pages[i] - 1);
	}
	free(log->pages);
	log->pages = grown.pages;
	log->capacity = grown.capacity;
	return true;
}

static void log_write(struct testdev *device, uint64_t address, uint32_t bytes)
{
	struct dma_log *log = &device->dma.log;
	if (!log->on)
		return;
	for (uint64_t page = address / log->page_bytes; page <= (address + (bytes - 1)) / log->page_bytes; page++) {
		if (!is_logged(log, page))
			continue;
		if (log_make_room(log))
			log_insert(log, page);
		else
			log->overflowed = true;
	}
}

int dma_access(struct testdev *device, const struct dma_access *access)
{
	struct dma *dma = &device->dma;
	if (access->bytes == 0 || dma_span(device, access->address, access->bytes, access->write) < access->bytes)
		return -EFAULT;
	const struct dma_map *map = &dma->maps[find(dma, access->address)];
	int code;
	if (map->hva)
		code = access_mapping(map, access);
	else if (map->fd >= 0)
		code = access_file(map, access);
	else
		code = access_message(device, access);
	if (code >= 0)
		dma->by_message = code == 0;
	if (code >= 0 && access->write)
		log_write(device, access->address, access->bytes);
	return code;
}

static bool forget_cancelled(struct dma *dma, uint16_t id)
{
	for (unsigned i = 0; i < dma->cancelled_count; i++) {
		if (dma->cancelled[i] != id)
			continue;
		dma->cancelled[i] = dma->cancelled[--dma->cancelled_count];
		return true;
	}
	return false;
}

static int check_reply(const struct dma_access *access, const struct vu_header *header, const uint8_t *payload,
		       size_t bytes)
{
	if (header->flags & VU_FLAG_ERROR)
		return -EFAULT;
	struct vu_dma_access reply;
	size_t wanted = sizeof(reply) + (access->write ? 0 : access->bytes);
	/* The specification's table of a write's reply has 4 bytes less than everybody sends. */
	if (bytes != wanted && !(access->write && bytes == sizeof(reply) - 4))
		return -EPROTO;
	memset(&reply, 0, sizeof(reply));
	memcpy(&reply, payload, bytes < sizeof(reply) ? bytes : sizeof(reply));
	return reply.address == access->address && reply.count == access->bytes ? 0 : -EPROTO;
}

void dma_reply(struct testdev *device, const struct vu_header *header, const uint8_t *payload, size_t bytes)
{
	struct dma_pending *pending = &device->dma.pending;
	if (!pending->active || pending->id != header->id) {
		if (!forget_cancelled(&device->dma, header->id))
			journal_add(device, TD_BAD_MESSAGE, header->id, "reply to nothing, id %u", header->id);
		return;
	}
	struct dma_access access = pending->access;
	int code = header->command == (access.write ? VU_DMA_WRITE : VU_DMA_READ)
			   ? check_reply(&access, header, payload, bytes)
			   : -EPROTO;
	if (code == -EPROTO)
		journal_add(device, TD_BAD_MESSAGE, header->id, "reply of %zu bytes to a DMA %s of %u bytes", bytes,
			    access.write ? "write" : "read", access.bytes);
	if (code == 0 && !access.write)
		memcpy(access.data, payload + sizeof(struct vu_dma_access), access.bytes);
	pending->active = false;
	access.done(device, code);
}

void dma_cancel(struct testdev *device, int code)
{
	struct dma *dma = &device->dma;
	if (!dma->pending.active)
		return;
	dma->pending.active = false;
	if (dma->cancelled_count < DMA_CANCELLED)
		dma->cancelled[dma->cancelled_count++] = dma->pending.id;
	dma->pending.access.done(device, code);
}

int dma_log_start(struct testdev *device, const struct vu_log_start *request, const struct vu_log_range *ranges)
{
	struct dma_log *log = &device->dma.log;
	if (log->on)
		return -EBUSY;
	struct vu_log_range *copy = request->ranges ? calloc(request->ranges, sizeof(*copy)) : NULL;
	if (request->ranges && !copy)
		return -ENOMEM;
	if (copy)
		memcpy(copy, ranges, request->ranges * sizeof(*copy));
	*log = (struct dma_log){
		.on = true, .page_bytes = request->page_bytes, .range_count = request->ranges, .ranges = copy};
	return 0;
}

int dma_log_stop(struct testdev *device)
{
	struct dma_log *log = &device->dma.log;
	bool was_on = log->on;
	free(log->ranges);
	free(log->pages);
	*log = (struct dma_log){0};
	return was_on ? 0 : -EINVAL;
}

void dma_log_report(struct testdev *device, uint64_t address, uint64_t bytes, uint64_t page_bytes, uint64_t *bitmap)
{
	struct dma_log *log = &device->dma.log;
	uint64_t last = address + (bytes - 1);
	if (log->overflowed) {
		for (uint64_t page = 0; page <= (bytes - 1) / page_bytes; page++)
			bitmap[page / 64] |= UINT64_C(1) << page % 64;
		return;
	}
	struct dma_log kept = {.on = log->on,
			       .page_bytes = log->page_bytes,
			       .range_count = log->range_count,
			       .ranges = log->ranges,
			       .pages = calloc(log->capacity ? log->capacity : 1, sizeof(uint64_t)),
			       .capacity = log->capacity};
	for (size_t i = 0; i < log->capacity; i++) {
		if (!log->pages[i])
			continue;
		uint64_t first = (log->pages[i] - 1) * log->page_bytes, end = first + (log->page_bytes - 1);
		if (end < address || first > last) {
			if (kept.pages)
				log_insert(&kept, log->pages[i] - 1);
			continue;
		}
		uint64_t from = (first > address ? first - address : 0) / page_bytes;
		uint64_t to = ((end < last ? end : last) - address) / page_bytes;
		for (uint64_t page = from; page <= to; page++)
			bitmap[page / 64] |= UINT64_C(1) << page % 64;
	}
	/* Without memory for what stays, nothing is cleared: pages are then reported once too often, never once too rarely. */
	if (!kept.pages)
		return;
	free(log->pages);
	*log = kept;
}

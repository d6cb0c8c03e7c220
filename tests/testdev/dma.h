/* SPDX-License-Identifier: MIT */
/*
 * The device's way to memory: the windows that the client mapped, with a file to map or without, and the log of what the
 * device wrote. Memory without a file is asked for by messages, one at a time.
 */
#ifndef DMA_H
#define DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DMA_MAPS_MAX  4096u
#define DMA_CHUNK_MAX 65536u
#define DMA_CANCELLED 8u

struct dma_map {
	uint64_t address;
	uint64_t bytes;
	uint32_t flags; /* VU_DMA_READABLE, VU_DMA_WRITEABLE */
	void *mapping;  /* NULL: by messages or by `fd` */
	size_t mapping_bytes;
	uint8_t *hva; /* in the mapping */
	int fd;       /* read and written as a file; -1 */
	uint64_t offset;
};

struct testdev;

/* Part of a transfer; the owner keeps it until `done` is called. */
struct dma_access {
	uint64_t address;
	uint8_t *data;
	uint32_t bytes;
	bool write;
	/* For accesses by message only, once the answer is there or is given up. */
	void (*done)(struct testdev *device, int code);
};

/* The one request that waits for the client. */
struct dma_pending {
	bool active;
	uint16_t id;
	uint64_t deadline_ns;
	struct dma_access access;
};

struct dma_log {
	bool on;
	bool overflowed; /* everything counts as written */
	uint64_t page_bytes;
	unsigned range_count; /* 0: everything */
	struct vu_log_range *ranges;
	/* A hash set of page numbers, each plus one; 0: free. */
	uint64_t *pages;
	size_t capacity;
	size_t used;
};

struct dma {
	struct dma_map *maps; /* by address */
	unsigned count;
	struct dma_pending pending;
	uint16_t next_id;
	uint16_t cancelled[DMA_CANCELLED]; /* requests whose answer does not matter any more */
	unsigned cancelled_count;
	bool by_message; /* the last access went over the socket */
	struct dma_log log;
};

struct vu_dma_map;
struct vu_header;
struct vu_log_start;
struct vu_log_range;

void dma_finish(struct testdev *device);

/** @param fd  -1, or consumed in any case. @return 0 or -errno */
int dma_map(struct testdev *device, const struct vu_dma_map *request, int fd);
/** @return 0; -ENOENT when no window is exactly this */
int dma_unmap(struct testdev *device, uint64_t address, uint64_t bytes);
void dma_unmap_all(struct testdev *device);

/** How many bytes from `address` on one access can take: at most `bytes`; 0 when the device cannot reach it so. */
uint32_t dma_span(const struct testdev *device, uint64_t address, uint32_t bytes, bool write);

/**
 * One access inside a span. Writes are logged.
 *
 * @return 1 done; 0 the answer comes by access->done; -EFAULT, -EBUSY (a request is waiting), or an error of the socket
 */
int dma_access(struct testdev *device, const struct dma_access *access);

/** A reply to a request of ours. */
void dma_reply(struct testdev *device, const struct vu_header *header, const uint8_t *payload, size_t bytes);
/** Gives the waiting request up; its `done` is called with `code`. */
void dma_cancel(struct testdev *device, int code);

/** @return 0; -EBUSY logging is on; -ENOMEM */
int dma_log_start(struct testdev *device, const struct vu_log_start *request, const struct vu_log_range *ranges);
int dma_log_stop(struct testdev *device);
/** Fills and clears. `bitmap` is zero and has room for all pages. */
void dma_log_report(struct testdev *device, uint64_t address, uint64_t bytes, uint64_t page_bytes, uint64_t *bitmap);

#endif

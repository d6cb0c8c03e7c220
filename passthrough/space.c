// SPDX-License-Identifier: MIT
/*
 * tenon_space: the list of guest memory, and its fan-out to every backend in use. Backends come into being with the first
 * device that needs them. Partial failure rolls back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "iommufd.h"
#include "kernel.h"
#include "sized.h"
#include "space.h"

#define PAGE_BYTES  4096u
#define REGIONS_MAX 64
#define ALLOWED_MAX 64

struct tenon_space {
	int borrowed_iommufd;
	struct space_backend *iommufd; /* NULL until a device needs it */
	struct tenon_space_region regions[REGIONS_MAX];
	unsigned region_count;
	bool mapped; /* the regions are in the backend */
	struct space_member *members;
};

int tenon_space_create(const struct tenon_space_options *options, struct tenon_space **out, struct tenon_error *err)
{
	if (!out || (options && !sized_usable(options, sizeof(*options))))
		return tenon_fail(err, -EINVAL,
				  "space: bad options; set .size = sizeof(struct tenon_space_options), and nothing "
				  "that this library does not know");
	struct tenon_space *space = calloc(1, sizeof(*space));
	if (!space)
		return tenon_fail(err, -ENOMEM, "space: out of memory; free some memory");
	space->borrowed_iommufd = options ? options->iommufd : 0;
	*out = space;
	return 0;
}

void tenon_space_destroy(struct tenon_space *space)
{
	if (!space)
		return;
	if (space->iommufd) {
		for (unsigned i = 0; space->mapped && i < space->region_count; i++)
			space->iommufd->ops->unmap(space->iommufd, space->regions[i].gpa, space->regions[i].size_bytes,
						   NULL);
		space->iommufd->ops->destroy(space->iommufd);
	}
	free(space);
}

static bool overlaps(const struct tenon_space_region *a, const struct tenon_space_region *b)
{
	return a->gpa <= b->gpa + (b->size_bytes - 1) && b->gpa <= a->gpa + (a->size_bytes - 1);
}

static int check_region(const struct tenon_space *space, const struct tenon_space_region *region,
			struct tenon_error *err)
{
	if (!region || !sized_usable(region, sizeof(*region)))
		return tenon_fail(err, -EINVAL,
				  "space: bad region; set .size = sizeof(struct tenon_space_region), and nothing that "
				  "this library does not know");
	uint64_t bits = region->gpa | region->size_bytes | (uintptr_t)region->hva;
	if (bits % PAGE_BYTES || region->size_bytes == 0 || !region->hva ||
	    region->gpa + region->size_bytes - 1 < region->gpa)
		return tenon_fail(err, -EINVAL,
				  "guest memory at 0x%llx: 0x%llx bytes is not a page-aligned range; align it to 4 KiB",
				  (unsigned long long)region->gpa, (unsigned long long)region->size_bytes);
	for (unsigned i = 0; i < space->region_count; i++) {
		if (overlaps(region, &space->regions[i]))
			return tenon_fail(err, -EEXIST,
					  "guest memory at 0x%llx: overlaps the region at 0x%llx; remove that first",
					  (unsigned long long)region->gpa, (unsigned long long)space->regions[i].gpa);
	}
	if (space->region_count == REGIONS_MAX)
		return tenon_fail(err, -ENOSPC, "guest memory at 0x%llx: more than %d regions; join neighbouring ones",
				  (unsigned long long)region->gpa, REGIONS_MAX);
	return 0;
}

static bool is_allowed(const struct tenon_space_region *region, const struct tenon_iova_range *ranges, unsigned count)
{
	uint64_t last = region->gpa + region->size_bytes - 1;
	for (unsigned i = 0; i < count; i++) {
		if (region->gpa >= ranges[i].first && last <= ranges[i].last)
			return true;
	}
	return false;
}

/* The first stretch of addresses, from inside the region on, that no range allows. Ranges ascend. */
static struct tenon_iova_range first_reserved(const struct tenon_space_region *region,
					      const struct tenon_iova_range *ranges, unsigned count)
{
	struct tenon_iova_range reserved = {.first = region->gpa, .last = UINT64_MAX};
	for (unsigned i = 0; i < count; i++) {
		if (reserved.first >= ranges[i].first && reserved.first <= ranges[i].last)
			reserved.first = ranges[i].last + 1;
	}
	for (unsigned i = count; i-- > 0;) {
		if (ranges[i].first > reserved.first)
			reserved.last = ranges[i].first - 1;
	}
	return reserved;
}

static int check_allowed(struct space_backend *backend, const struct tenon_space_region *region,
			 struct tenon_error *err)
{
	struct tenon_iova_range ranges[ALLOWED_MAX];
	int count = backend->ops->allowed(backend, ranges, ALLOWED_MAX, err);
	if (count < 0)
		return count;
	unsigned known = count < ALLOWED_MAX ? (unsigned)count : ALLOWED_MAX;
	if (is_allowed(region, ranges, known))
		return 0;
	struct tenon_iova_range reserved = first_reserved(region, ranges, known);
	return tenon_fail(err, -ERANGE,
			  "guest memory at 0x%llx: the host's IOMMU does not allow 0x%llx-0x%llx; lay RAM out around "
			  "it or use less",
			  (unsigned long long)region->gpa, (unsigned long long)reserved.first,
			  (unsigned long long)reserved.last);
}

static int check_memlock(const struct tenon_space *space, uint64_t more_bytes, struct tenon_error *err)
{
	uint64_t total = more_bytes;
	for (unsigned i = 0; i < space->region_count; i++)
		total += space->regions[i].size_bytes;
	uint64_t limit = kernel_memlock_limit();
	if (total <= limit)
		return 0;
	return tenon_fail(err, -ENOMEM,
			  "guest memory: devices need %llu KiB locked, RLIMIT_MEMLOCK is %llu KiB; raise it: ulimit -l "
			  "%llu, or LimitMEMLOCK= in the service",
			  (unsigned long long)(total >> 10), (unsigned long long)(limit >> 10),
			  (unsigned long long)(total >> 10));
}

/* Against those before it, which are known to be sound. */
static int check_against(const struct tenon_space_region *regions, size_t index, struct tenon_error *err)
{
	for (size_t i = 0; i < index; i++) {
		if (overlaps(&regions[i], &regions[index]))
			return tenon_fail(err, -EEXIST,
					  "guest memory at 0x%llx: overlaps that at 0x%llx; lay it out without overlap",
					  (unsigned long long)regions[index].gpa, (unsigned long long)regions[i].gpa);
	}
	return 0;
}

int tenon_space_check(struct tenon_space *space, const struct tenon_space_region *regions, size_t count,
		      struct tenon_error *err)
{
	uint64_t more_bytes = 0;
	if (count > REGIONS_MAX - space->region_count)
		return tenon_fail(err, -ENOSPC, "guest memory: more than %d regions; join neighbouring ones",
				  REGIONS_MAX);
	for (size_t i = 0; i < count; i++) {
		int code = check_region(space, &regions[i], err);
		if (code == 0)
			code = check_against(regions, i, err);
		if (code == 0 && space->iommufd)
			code = check_allowed(space->iommufd, &regions[i], err);
		if (code < 0)
			return code;
		more_bytes += regions[i].size_bytes;
	}
	return space->iommufd ? check_memlock(space, more_bytes, err) : 0;
}

static int map_region(struct tenon_space *space, const struct tenon_space_region *region, struct tenon_error *err)
{
	int code = check_allowed(space->iommufd, region, err);
	if (code < 0)
		return code;
	return space->iommufd->ops->map(space->iommufd, region, err);
}

int tenon_space_add(struct tenon_space *space, const struct tenon_space_region *region, struct tenon_error *err)
{
	int code = check_region(space, region, err);
	if (code < 0)
		return code;
	if (space->mapped) {
		code = check_memlock(space, region->size_bytes, err);
		if (code < 0)
			return code;
		code = map_region(space, region, err);
		if (code < 0)
			return code;
	}
	space->regions[space->region_count++] = *region;
	return 0;
}

int tenon_space_remove(struct tenon_space *space, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	for (unsigned i = 0; i < space->region_count; i++) {
		if (space->regions[i].gpa != gpa || space->regions[i].size_bytes != size_bytes)
			continue;
		int code = space->mapped ? space->iommufd->ops->unmap(space->iommufd, gpa, size_bytes, err) : 0;
		if (code < 0)
			return code;
		space->regions[i] = space->regions[--space->region_count];
		return 0;
	}
	return tenon_fail(err, -ENOENT,
			  "guest memory at 0x%llx: no region of 0x%llx bytes starts there; remove what was added",
			  (unsigned long long)gpa, (unsigned long long)size_bytes);
}

int tenon_space_allowed(struct tenon_space *space, struct tenon_iova_range *ranges, size_t capacity,
			struct tenon_error *err)
{
	if (space->iommufd)
		return space->iommufd->ops->allowed(space->iommufd, ranges, capacity, err);
	if (capacity > 0)
		ranges[0] = (struct tenon_iova_range){.first = 0, .last = UINT64_MAX};
	return 1;
}

/* RAM that was added before the first device came. */
static int map_all(struct tenon_space *space, struct tenon_error *err)
{
	int limited = check_memlock(space, 0, err);
	if (limited < 0)
		return limited;
	for (unsigned i = 0; i < space->region_count; i++) {
		int code = map_region(space, &space->regions[i], err);
		if (code < 0) {
			while (i-- > 0)
				space->iommufd->ops->unmap(space->iommufd, space->regions[i].gpa,
							   space->regions[i].size_bytes, NULL);
			return code;
		}
	}
	return 0;
}

struct space_member *space_members(const struct tenon_space *space)
{
	return space->members;
}

void space_enlist(struct tenon_space *space, struct space_member *member)
{
	struct space_member **end = &space->members;
	while (*end)
		end = &(*end)->next;
	member->next = NULL;
	*end = member;
}

void space_delist(struct tenon_space *space, struct space_member *member)
{
	for (struct space_member **at = &space->members; *at; at = &(*at)->next) {
		if (*at != member)
			continue;
		*at = member->next;
		return;
	}
}

enum tenon_interface tenon_space_interface(const struct tenon_space *space)
{
	return space->iommufd ? TENON_INTERFACE_IOMMUFD : TENON_INTERFACE_AUTO;
}

int space_join_iommufd(struct tenon_space *space, int cdev, const char *name, struct space_member *member,
		       struct tenon_error *err)
{
	if (!space->iommufd) {
		int code = iommufd_create(space->borrowed_iommufd, &space->iommufd, err);
		if (code < 0)
			return code;
	}
	/* Attach before mapping: the device's reserved addresses are known only then. */
	int code = iommufd_attach(space->iommufd, cdev, name, &member->device_id, err);
	if (code == 0 && !space->mapped)
		code = map_all(space, err);
	/* On failure the empty IOAS stays with the space: the device, which the caller closes, may still be attached to it. */
	if (code == 0)
		space->mapped = true;
	return code;
}

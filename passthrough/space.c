// SPDX-License-Identifier: MIT
/*
 * tenon_space: the list of guest memory, and the backend that it is mapped in. The backend comes with the first device, which
 * decides its kind, and goes with the last. Partial failure rolls back.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "container.h"
#include "dirty.h"
#include "iommufd.h"
#include "kernel.h"
#include "sized.h"
#include "space.h"

#define PAGE_BYTES  4096u
#define REGIONS_MAX DIRTY_REGIONS_MAX
#define ALLOWED_MAX 64

SIZED_WHOLE(struct tenon_space_options, reserved);
SIZED_WHOLE(struct tenon_space_region, fd_offset);

/* What their first versions had: never changed, whatever is appended. */
#define OPTIONS_FIRST_BYTES SIZED_THROUGH(struct tenon_space_options, reserved)
#define REGION_FIRST_BYTES  SIZED_THROUGH(struct tenon_space_region, reserved)

struct tenon_space {
	int borrowed_iommufd, borrowed_container;
	enum tenon_interface wanted;
	enum tenon_interface interface; /* what the first device decided; TENON_INTERFACE_AUTO without devices */
	struct space_backend *backend;  /* NULL without devices */
	unsigned joined;
	struct tenon_space_region regions[REGIONS_MAX];
	unsigned region_count;
	bool mapped; /* the regions are in the backend */
	struct space_member *members;
	struct space_users users;
	struct space_dirty dirty;
};

int tenon_space_create(const struct tenon_space_options *options, struct tenon_space **out, struct tenon_error *err)
{
	struct tenon_space_options known = {0};
	if (!out || (options && !sized_copy(&known, options, sizeof(known), OPTIONS_FIRST_BYTES)))
		return tenon_fail(err, -EINVAL,
				  "space: bad options; set .size = sizeof(struct tenon_space_options), and nothing "
				  "that this library does not know");
	if (known.iommufd < 0 || known.container < 0)
		return tenon_fail(err, -EINVAL,
				  "space: %s is %d, which is no open file; pass an open one, or 0 to have it opened",
				  known.iommufd < 0 ? ".iommufd" : ".container",
				  known.iommufd < 0 ? known.iommufd : known.container);
	if (known.reserved || (unsigned)known.interface > TENON_INTERFACE_CONTAINER ||
	    (known.iommufd > 0 && known.container > 0) ||
	    (known.iommufd > 0 && known.interface == TENON_INTERFACE_CONTAINER) ||
	    (known.container > 0 && known.interface == TENON_INTERFACE_IOMMUFD))
		return tenon_fail(err, -EINVAL,
				  "space: options that exclude each other; pass an iommufd or a container, and the "
				  "interface that goes with it or TENON_INTERFACE_AUTO");
	struct tenon_space *space = calloc(1, sizeof(*space));
	if (!space)
		return tenon_fail(err, -ENOMEM, "space: out of memory; free some memory");
	space->borrowed_iommufd = known.iommufd;
	space->borrowed_container = known.container;
	space->wanted = known.iommufd > 0     ? TENON_INTERFACE_IOMMUFD
			: known.container > 0 ? TENON_INTERFACE_CONTAINER
					      : known.interface;
	space_users_init(&space->users);
	*out = space;
	return 0;
}

static void unmap_all(struct tenon_space *space)
{
	for (unsigned i = 0; space->mapped && i < space->region_count; i++)
		space->backend->ops->unmap(space->backend, space->regions[i].gpa, space->regions[i].size_bytes, NULL);
	space->mapped = false;
}

static void close_backend(struct tenon_space *space)
{
	if (!space->backend)
		return;
	unmap_all(space);
	space->backend->ops->destroy(space->backend);
	space->backend = NULL;
	space->interface = TENON_INTERFACE_AUTO;
}

void tenon_space_destroy(struct tenon_space *space)
{
	if (!space)
		return;
	tenon_space_dirty_stop(space);
	close_backend(space);
	space_users_finish(&space->users);
	free(space);
}

static bool overlaps(const struct tenon_space_region *a, const struct tenon_space_region *b)
{
	return a->gpa <= b->gpa + (b->size_bytes - 1) && b->gpa <= a->gpa + (a->size_bytes - 1);
}

/* @param known  gets the caller's region as this library knows it */
static int check_region(const struct tenon_space *space, const struct tenon_space_region *region,
			struct tenon_space_region *known, struct tenon_error *err)
{
	if (!region || !sized_copy(known, region, sizeof(*known), REGION_FIRST_BYTES) ||
	    !sized_is_zero(known->reserved, sizeof(known->reserved)) || known->reserved_2)
		return tenon_fail(err, -EINVAL,
				  "space: bad region; set .size = sizeof(struct tenon_space_region), and nothing that "
				  "this library does not know");
	region = known;
	uint64_t bits = region->gpa | region->size_bytes | (uintptr_t)region->hva;
	if (bits % PAGE_BYTES || region->size_bytes == 0 || !region->hva ||
	    region->gpa + region->size_bytes - 1 < region->gpa)
		return tenon_fail(err, -EINVAL,
				  "guest memory at 0x%llx: 0x%llx bytes is not a page-aligned range; align it to 4 KiB",
				  (unsigned long long)region->gpa, (unsigned long long)region->size_bytes);
	if (region->fd < 0 || region->fd_offset % PAGE_BYTES || (region->fd_offset && !region->fd))
		return tenon_fail(
			err, -EINVAL,
			"guest memory at 0x%llx: file %d at offset 0x%llx is no place of it; pass an open file and "
			"a page-aligned offset, or 0 and 0 for none",
			(unsigned long long)region->gpa, region->fd, (unsigned long long)region->fd_offset);
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

/* Before anything is pinned, which takes long. */
static int check_room(struct tenon_space *space, size_t mappings, struct tenon_error *err)
{
	int room = space->backend->ops->room ? space->backend->ops->room(space->backend, err) : INT_MAX;
	if (room < 0)
		return room;
	if (mappings <= (size_t)room)
		return 0;
	return tenon_fail(err, -ENOSPC,
			  "guest memory: the container takes %d more mappings, %zu are needed; raise "
			  "vfio_iommu_type1.dma_entry_limit",
			  room, mappings);
}

/* Against those before it, which are known to be sound. */
static int check_against(const struct tenon_space_region *regions, size_t count,
			 const struct tenon_space_region *region, struct tenon_error *err)
{
	for (size_t i = 0; i < count; i++) {
		if (overlaps(&regions[i], region))
			return tenon_fail(err, -EEXIST,
					  "guest memory at 0x%llx: overlaps that at 0x%llx; lay it out without overlap",
					  (unsigned long long)region->gpa, (unsigned long long)regions[i].gpa);
	}
	return 0;
}

int tenon_space_check(struct tenon_space *space, const struct tenon_space_region *regions, size_t count,
		      struct tenon_error *err)
{
	struct tenon_space_region known[REGIONS_MAX];
	uint64_t more_bytes = 0;
	if (count > REGIONS_MAX - space->region_count)
		return tenon_fail(err, -ENOSPC, "guest memory: more than %d regions; join neighbouring ones",
				  REGIONS_MAX);
	for (size_t i = 0; i < count; i++) {
		/* The caller's structs may be larger than ours. */
		const void *region = (const uint8_t *)regions + i * regions->size;
		int code = check_region(space, region, &known[i], err);
		if (code == 0)
			code = check_against(known, i, &known[i], err);
		if (code == 0 && space->backend)
			code = check_allowed(space->backend, &known[i], err);
		if (code < 0)
			return code;
		more_bytes += known[i].size_bytes;
	}
	if (!space->backend)
		return 0;
	int code = check_room(space, count, err);
	return code < 0 ? code : check_memlock(space, more_bytes, err);
}

static int map_region(struct tenon_space *space, const struct tenon_space_region *region, struct tenon_error *err)
{
	int code = check_allowed(space->backend, region, err);
	if (code < 0)
		return code;
	return space->backend->ops->map(space->backend, region, err);
}

int tenon_space_add(struct tenon_space *space, const struct tenon_space_region *region, struct tenon_error *err)
{
	struct tenon_space_region known;
	int code = check_region(space, region, &known, err);
	if (code < 0)
		return code;
	if (space->mapped) {
		code = check_memlock(space, known.size_bytes, err);
		if (code < 0)
			return code;
		code = map_region(space, &known, err);
		if (code < 0)
			return code;
	}
	code = space_users_add(&space->users, &known, NULL, err);
	if (code < 0) {
		if (space->mapped)
			space->backend->ops->unmap(space->backend, known.gpa, known.size_bytes, NULL);
		return code;
	}
	space->regions[space->region_count++] = known;
	code = dirty_add(space, &known, err);
	if (code < 0)
		tenon_space_remove(space, known.gpa, known.size_bytes, NULL);
	return code;
}

int tenon_space_remove(struct tenon_space *space, uint64_t gpa, uint64_t size_bytes, struct tenon_error *err)
{
	for (unsigned i = 0; i < space->region_count; i++) {
		if (space->regions[i].gpa != gpa || space->regions[i].size_bytes != size_bytes)
			continue;
		int code = space->mapped ? space->backend->ops->unmap(space->backend, gpa, size_bytes, err) : 0;
		if (code < 0)
			return code;
		space_users_remove(&space->users, gpa, size_bytes, NULL, NULL);
		dirty_remove(space, gpa);
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
	if (space->backend)
		return space->backend->ops->allowed(space->backend, ranges, capacity, err);
	if (capacity > 0)
		ranges[0] = (struct tenon_iova_range){.first = 0, .last = UINT64_MAX};
	return 1;
}

/* RAM that was added before the first device came. */
static int map_all(struct tenon_space *space, struct tenon_error *err)
{
	if (space->mapped)
		return 0;
	int code = check_memlock(space, 0, err);
	if (code == 0)
		code = check_room(space, space->region_count, err);
	if (code < 0)
		return code;
	for (unsigned i = 0; i < space->region_count; i++) {
		code = map_region(space, &space->regions[i], err);
		if (code < 0) {
			while (i-- > 0)
				space->backend->ops->unmap(space->backend, space->regions[i].gpa,
							   space->regions[i].size_bytes, NULL);
			return code;
		}
	}
	space->mapped = true;
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

struct space_backend *space_backend(const struct tenon_space *space)
{
	return space->backend;
}

struct space_users *space_users(struct tenon_space *space)
{
	return &space->users;
}

struct space_dirty *space_dirty(struct tenon_space *space)
{
	return &space->dirty;
}

unsigned space_regions(const struct tenon_space *space, const struct tenon_space_region **out)
{
	*out = space->regions;
	return space->region_count;
}

void space_delist(struct tenon_space *space, struct space_member *member)
{
	dirty_leave(space, member);
	for (struct space_member **at = &space->members; *at; at = &(*at)->next) {
		if (*at != member)
			continue;
		*at = member->next;
		return;
	}
}

enum tenon_interface tenon_space_interface(const struct tenon_space *space)
{
	return space->interface;
}

static int open_backend(struct tenon_space *space, enum tenon_interface interface, struct tenon_error *err)
{
	int code = interface == TENON_INTERFACE_IOMMUFD
			   ? iommufd_create(space->borrowed_iommufd, &space->backend, err)
			   : container_create(space->borrowed_container, &space->backend, err);
	if (code == 0)
		space->interface = interface;
	return code;
}

int space_choose(struct tenon_space *space, bool cdev, bool group, const char *name, struct tenon_error *err)
{
	enum tenon_interface interface = space->backend ? space->interface : space->wanted;
	if (interface == TENON_INTERFACE_IOMMUFD && !cdev)
		return tenon_fail(err, -ENODEV,
				  "%s: cannot be used through iommufd%s: it has no character device (the kernel lacks "
				  "CONFIG_VFIO_DEVICE_CDEV); %s",
				  name, space->backend ? ", as the VM's other devices are" : "",
				  space->backend ? "use the container interface for all"
						 : "use the container interface");
	if (interface == TENON_INTERFACE_CONTAINER && !group)
		return tenon_fail(err, -ENODEV,
				  "%s: cannot be used through a container%s: it is not known by its address and IOMMU "
				  "group; %s",
				  name, space->backend ? ", as the VM's other devices are" : "",
				  "give its address, or use iommufd for all");
	if (space->backend)
		return (int)interface;

	if (!cdev && !group)
		return tenon_fail(err, -ENODEV,
				  "%s: has neither a character device nor an IOMMU group; turn the IOMMU on in the "
				  "firmware and boot the host with intel_iommu=on",
				  name);
	struct tenon_error error; /* one way that fails is no failure yet */
	int code = -ENOENT;
	if (interface != TENON_INTERFACE_CONTAINER && cdev)
		code = open_backend(space, TENON_INTERFACE_IOMMUFD, &error);
	/* No iommufd in this kernel, or no character devices. */
	bool both_missing = false;
	if (interface != TENON_INTERFACE_IOMMUFD && group && iommufd_is_missing(code)) {
		code = open_backend(space, TENON_INTERFACE_CONTAINER, &error);
		both_missing = interface == TENON_INTERFACE_AUTO && cdev && iommufd_is_missing(code);
	}
	if (both_missing)
		return tenon_fail(err, code,
				  "%s: the kernel has neither /dev/iommu (CONFIG_IOMMUFD) nor /dev/vfio/vfio "
				  "(CONFIG_VFIO_CONTAINER); modprobe loads them where they are modules: iommufd, vfio",
				  name);
	return code < 0 ? tenon_fail(err, code, "%s: %s", name, error.message) : (int)space->interface;
}

/* Without devices a space is of no kind again: one that could not join decides nothing. */
static int end_join(struct tenon_space *space, struct space_member *member, int code)
{
	if (code >= 0) {
		member->joined = true;
		space->joined++;
	} else if (space->joined == 0) {
		close_backend(space);
	}
	return code;
}

int space_join_iommufd(struct tenon_space *space, int cdev, const struct vf_token *token, const char *name,
		       struct space_member *member, struct tenon_error *err)
{
	/* Attach before mapping: the device's reserved addresses are known only then. */
	int unchecked = iommufd_attach(space->backend, cdev, token, name, member, err);
	int code = unchecked < 0 ? unchecked : map_all(space, err);
	if (code < 0 && unchecked >= 0)
		iommufd_detach(space->backend, cdev, member);
	return end_join(space, member, code < 0 ? code : unchecked);
}

int space_join_group(struct tenon_space *space, const char *name, struct space_member *member, struct tenon_error *err)
{
	int fd = container_join(space->backend, member->group, member->mediated, name, err);
	int code = fd < 0 ? fd : map_all(space, err);
	if (code < 0 && fd >= 0)
		container_leave(space->backend, member->group);
	if (code == 0)
		member->group_fd = fd;
	return end_join(space, member, code);
}

struct vu_memory space_memory(struct tenon_space *space)
{
	return space_users_memory(&space->users);
}

int space_join_user(struct tenon_space *space, struct vu_socket *socket, const char *name, struct space_member *member,
		    struct tenon_error *err)
{
	return space_users_join(&space->users, member, socket, name, err);
}

int space_rejoin_user(struct tenon_space *space, struct space_member *member, struct vu_socket *socket,
		      struct tenon_error *err)
{
	return space_users_rejoin(&space->users, member, socket, err);
}

void space_leave(struct tenon_space *space, int fd, struct space_member *member)
{
	space_users_leave(&space->users, member);
	if (member->joined) {
		space->joined--;
		if (space->interface == TENON_INTERFACE_IOMMUFD)
			iommufd_detach(space->backend, fd, member);
		/* Before the group leaves, which would unmap it too, but not as long as somebody else holds the group's file. */
		if (space->joined == 0)
			unmap_all(space);
		if (space->interface == TENON_INTERFACE_CONTAINER)
			container_leave(space->backend, member->group);
	}
	member->joined = false;
	member->group_fd = -1;
	if (space->joined == 0)
		close_backend(space);
}

bool space_maps_bars(const struct tenon_space *space)
{
	return space->backend && space->backend->ops->map_bar;
}

int space_map_bar(struct tenon_space *space, const struct space_member *owner, const struct tenon_space_region *bar,
		  struct tenon_error *err)
{
	if (bar->fd)
		return space_users_add(&space->users, bar, owner, err);
	/* Asked first: a guest may place BARs where no DMA reaches, and the kernel's refusal would not say that. */
	struct tenon_iova_range ranges[ALLOWED_MAX];
	int count = space->backend->ops->allowed(space->backend, ranges, ALLOWED_MAX, err);
	if (count < 0)
		return count;
	if (!is_allowed(bar, ranges, count < ALLOWED_MAX ? (unsigned)count : ALLOWED_MAX))
		return tenon_fail(
			err, -ERANGE,
			"DMA address 0x%llx: the host's IOMMU does not allow it; let the guest place its BARs "
			"lower, or keep DMA between devices in memory",
			(unsigned long long)bar->gpa);
	return space->backend->ops->map_bar(space->backend, bar->gpa, bar->size_bytes, bar->hva, err);
}

int space_unmap_bar(struct tenon_space *space, const struct space_member *owner, uint64_t gpa, uint64_t size_bytes,
		    struct tenon_error *err)
{
	if (owner->user.socket)
		return space_users_remove(&space->users, gpa, size_bytes, owner, err);
	return space->backend->ops->unmap(space->backend, gpa, size_bytes, err);
}

int space_coherent(struct tenon_space *space)
{
	return space->backend->ops->coherent(space->backend);
}

// SPDX-License-Identifier: MIT
/*
 * Finds out what uses a device by walking its folder in /sys/devices, where every disk, interface and node that its drivers made
 * appears. Source: Linux Documentation/ABI/stable/sysfs-block, testing/sysfs-class-net; proc(5), proc_pid_mountinfo(5).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "usage.h"

/* A device that has more than this below it is either broken or made up. */
#define WALK_DEPTH_MAX   10
#define WALK_ENTRIES_MAX 20000
#define STACK_DEPTH_MAX  6 /* a file system on LUKS on LVM on RAID on a partition, and one to spare */

struct search {
	const struct host *host;
	const struct activity *activity;
	const struct device *device;
	struct uses *uses;
	char folder[SYSFS_PATH_BYTES * 2]; /* of the walk */
	unsigned depth, entries;
	char *claimed; /* when looking for nodes that are claimed: receives the first */
	size_t claimed_capacity;
	struct use spare; /* stands in for what is known already, or too much */
};

static struct use *add_use(struct search *search, const char *format, ...) __attribute__((format(printf, 2, 3)));
static struct use *add_use(struct search *search, const char *format, ...)
{
	struct use one = {0};
	va_list args;
	va_start(args, format);
	vsnprintf(one.what, sizeof(one.what), format, args);
	va_end(args);
	struct uses *uses = search->uses;
	for (unsigned i = 0; i < uses->count && i < USES_MAX; i++) {
		if (strcmp(uses->list[i].what, one.what) == 0)
			return &search->spare;
	}
	if (uses->count >= USES_MAX)
		return &search->spare;
	uses->list[uses->count] = one;
	return &uses->list[uses->count++];
}

/* Where what has this number, or this source, is mounted: the mount point, or false. */
static bool mounted_from(const struct activity *activity, const char *number, const char *source, char *point,
			 size_t capacity)
{
	for (const char *line = activity->mounts; line && *line;) {
		char dev[32], where[256], found[256] = "";
		const char *end = strchr(line, '\n');
		size_t length = end ? (size_t)(end - line) : strlen(line);
		char copy[1024];
		snprintf(copy, sizeof(copy), "%.*s", (int)(length < sizeof(copy) ? length : sizeof(copy) - 1), line);
		const char *rest = strstr(copy, " - ");
		if (rest)
			sscanf(rest, " - %*s %255s", found);
		if (sscanf(copy, "%*s %*s %31s %*s %255s", dev, where) == 2 &&
		    (strcmp(dev, number) == 0 || strcmp(found, source) == 0)) {
			snprintf(point, capacity, "%s", where);
			return true;
		}
		line = end ? end + 1 : NULL;
	}
	return false;
}

static bool is_swap(const struct activity *activity, const char *name)
{
	char node[NAME_BYTES + 8];
	int length = snprintf(node, sizeof(node), "/dev/%s", name);
	for (const char *line = activity->swaps; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, node, (size_t)length) == 0 && (line[length] == ' ' || line[length] == '\t'))
			return true;
	}
	return false;
}

struct finder {
	const struct search *search;
	const char *name;
};

static int has_member(void *context, const char *file_system)
{
	const struct finder *finder = context;
	return host_exists(finder->search->host, "/sys/fs/btrfs/%s/devices/%s", file_system, finder->name);
}

/* btrfs over several disks shows only one of them as what is mounted. */
static bool is_btrfs_member(const struct search *search, const char *name)
{
	struct finder finder = {search, name};
	return host_list(search->host, "/sys/fs/btrfs", has_member, &finder) == 1;
}

static void check_open(struct search *search, const char *node)
{
	for (unsigned i = 0; i < search->activity->node_count; i++) {
		const struct open_node *open = &search->activity->nodes[i];
		if (strcmp(open->node, node) != 0)
			continue;
		struct use *use = add_use(search, "process %u (%s) has %s open", open->pid, open->process, node);
		snprintf(use->fix, sizeof(use->fix), "kill %u", open->pid);
	}
}

struct block {
	struct search *search;
	const char *name;
	const char *chain; /* "/dev/nvme0n1p2 belongs to /dev/dm-0, which": "" for the device's own */
	unsigned depth;
};

static void check_block(struct search *search, const char *name, const char *chain, unsigned depth);

static int check_holder(void *context, const char *holder)
{
	const struct block *block = context;
	struct search *search = block->search;
	char chain[160], title[NAME_BYTES] = "";
	host_read_line(search->host, title, sizeof(title), "/sys/class/block/%s/dm/name", holder);
	snprintf(chain, sizeof(chain), "%s%s/dev/%.31s belongs to /dev/%.31s%s%.31s%s, which ", block->chain,
		 block->chain[0] ? "as " : "", block->name, holder, title[0] ? " (" : "", title, title[0] ? ")" : "");
	unsigned before = search->uses->count;
	if (block->depth < STACK_DEPTH_MAX)
		check_block(search, holder, chain, block->depth + 1);
	if (search->uses->count > before || search->claimed)
		return 0;
	/* Set up, but nothing is mounted: still the kernel's. */
	struct use *use = add_use(search, "%.*s", (int)strlen(chain) - 8, chain);
	snprintf(use->fix, sizeof(use->fix),
		 strncmp(holder, "md", 2) == 0 ? "mdadm --stop /dev/%s" : "dmsetup remove %s",
		 title[0] ? title : holder);
	return 0;
}

static int check_partition(void *context, const char *name)
{
	const struct block *block = context;
	if (host_exists(block->search->host, "/sys/class/block/%s/%s/partition", block->name, name))
		check_block(block->search, name, block->chain, block->depth + 1);
	return 0;
}

static void check_block(struct search *search, const char *name, const char *chain, unsigned depth)
{
	const struct host *host = search->host;
	char number[32], node[NAME_BYTES + 8], where[256], folder[NAME_BYTES * 2];
	snprintf(node, sizeof(node), "/dev/%.63s", name);
	if (search->claimed) {
		if (!search->claimed[0] && host_claimed(host, node))
			snprintf(search->claimed, search->claimed_capacity, "%s", node);
		return;
	}
	/* "belongs to /dev/dm-0, which is mounted": the node itself is only named at the head of a chain. */
	const char *subject = chain[0] ? "" : node, *blank = chain[0] ? "" : " ";
	if (host_read_line(host, number, sizeof(number), "/sys/class/block/%s/dev", name) < 0)
		number[0] = '\0';
	if (mounted_from(search->activity, number, node, where, sizeof(where))) {
		struct use *use = add_use(search, "%s%s%sis mounted on %s", chain, subject, blank, where);
		if (strcmp(where, "/") == 0)
			snprintf(use->fix, sizeof(use->fix), "nothing: the host runs from it and cannot spare it");
		else
			snprintf(use->fix, sizeof(use->fix), "umount %.150s", where);
	} else if (is_btrfs_member(search, name)) {
		struct use *use = add_use(search, "%s%s%sbelongs to a mounted btrfs", chain, subject, blank);
		snprintf(use->fix, sizeof(use->fix), "unmount it");
	}
	if (is_swap(search->activity, name)) {
		struct use *use = add_use(search, "%s%s%sis swap", chain, subject, blank);
		snprintf(use->fix, sizeof(use->fix), "swapoff %s", node);
	}
	struct block block = {search, name, chain, depth};
	snprintf(folder, sizeof(folder), "/sys/class/block/%.63s/holders", name);
	host_list(host, folder, check_holder, &block);
	snprintf(folder, sizeof(folder), "/sys/class/block/%.63s", name);
	if (depth < STACK_DEPTH_MAX)
		host_list(host, folder, check_partition, &block);
	check_open(search, node);
}

static bool carries_default_route(const struct activity *activity, const char *interface)
{
	size_t length = strlen(interface);
	for (const char *line = activity->routes; line; line = strchr(line, '\n')) {
		unsigned long destination, mask;
		line += *line == '\n';
		if (strncmp(line, interface, length) == 0 && line[length] == '\t' &&
		    sscanf(line + length, " %lx %*x %*x %*d %*d %*d %lx", &destination, &mask) == 2 &&
		    destination == 0 && mask == 0)
			return true;
	}
	return false;
}

static void check_interface(struct search *search, const char *name)
{
	uint64_t flags = 0;
	char master[NAME_BYTES];
	if (host_link_name(search->host, master, sizeof(master), "%s/master", search->folder) == 0) {
		struct use *use = add_use(search, "network interface %s belongs to %s", name, master);
		snprintf(use->fix, sizeof(use->fix), "ip link set %s nomaster", name);
	}
	host_read_number(search->host, &flags, "%s/flags", search->folder);
	if (!(flags & 1)) /* IFF_UP */
		return;
	struct use *use =
		add_use(search, "network interface %s is up%s", name,
			carries_default_route(search->activity, name) ? " and carries the default route" : "");
	snprintf(use->fix, sizeof(use->fix), "ip link set %s down", name);
}

struct subsystem {
	struct search *search;
	const char *controller, *name;
};

static int check_namespace(void *context, const char *name)
{
	const struct subsystem *subsystem = context;
	if (strncmp(name, "nvme", 4) == 0 &&
	    host_exists(subsystem->search->host, "/sys/class/nvme-subsystem/%s/%s/size", subsystem->name, name))
		check_block(subsystem->search, name, "", 0);
	return 0;
}

static int check_subsystem(void *context, const char *name)
{
	struct subsystem *subsystem = context;
	char folder[NAME_BYTES * 2];
	if (!host_exists(subsystem->search->host, "/sys/class/nvme-subsystem/%s/%s", name, subsystem->controller))
		return 0;
	subsystem->name = name;
	snprintf(folder, sizeof(folder), "/sys/class/nvme-subsystem/%.63s", name);
	host_list(subsystem->search->host, folder, check_namespace, subsystem);
	return 0;
}

/* With native multipath the disk hangs off the NVMe subsystem, not off the PCI device. */
static void check_nvme_subsystem(struct search *search, const char *controller)
{
	struct subsystem subsystem = {.search = search, .controller = controller};
	host_list(search->host, "/sys/class/nvme-subsystem", check_subsystem, &subsystem);
}

/* A file system that is shared with this host, which is a VM itself, by a virtio device. */
static void check_share(struct search *search)
{
	char tag[NAME_BYTES], where[256];
	if (host_read_line(search->host, tag, sizeof(tag), "%s/mount_tag", search->folder) <= 0)
		return;
	tag[strcspn(tag, "?")] = '\0'; /* it ends with a zero byte */
	if (!mounted_from(search->activity, "", tag, where, sizeof(where)))
		return;
	struct use *use = add_use(search, "the shared folder %s is mounted on %s", tag, where);
	snprintf(use->fix, sizeof(use->fix), "umount %.150s", where);
}

static void check_node(struct search *search)
{
	char *uevent = host_read_text(search->host, "%s/uevent", search->folder);
	char *name = uevent ? strstr(uevent, "DEVNAME=") : NULL;
	if (name) {
		char node[NAME_BYTES * 2];
		name += 8;
		snprintf(node, sizeof(node), "/dev/%.*s", (int)(strcspn(name, "\n") & 0x7f), name);
		check_open(search, node);
	}
	free(uevent);
}

/* One folder of the device's tree: what it is tells its subsystem. @return whether to look below it */
static bool check_folder(struct search *search, const char *name)
{
	char subsystem[NAME_BYTES];
	host_link_name(search->host, subsystem, sizeof(subsystem), "%s/subsystem", search->folder);
	if (strcmp(subsystem, "pci") == 0) /* another function, below a bridge */
		return false;
	if (strcmp(subsystem, "block") == 0) {
		check_block(search, name, "", 0);
		return false;
	}
	if (strcmp(subsystem, "nvme") == 0)
		check_nvme_subsystem(search, name);
	if (search->claimed)
		return true;
	if (strcmp(subsystem, "virtio") == 0)
		check_share(search);
	if (strcmp(subsystem, "net") == 0)
		check_interface(search, name);
	else if (strcmp(subsystem, "tty") == 0 && search->activity->consoles &&
		 text_has_word(search->activity->consoles, name))
		snprintf(add_use(search, "%s is the host's console", name)->fix, sizeof(search->uses->list[0].fix),
			 "boot the host with another console=");
	if (strcmp(subsystem, "vfio-dev") != 0 && host_exists(search->host, "%s/dev", search->folder))
		check_node(search);
	return true;
}

static int walk(void *context, const char *name)
{
	struct search *search = context;
	size_t used = strlen(search->folder);
	if (++search->entries > WALK_ENTRIES_MAX)
		return 1;
	if (used + strlen(name) + 2 > sizeof(search->folder))
		return 0;
	search->folder[used] = '/';
	strcpy(search->folder + used + 1, name);
	/* Symbolic links lead out of the device's tree. */
	if (search->depth < WALK_DEPTH_MAX && host_is_folder(search->host, "%s", search->folder)) {
		search->depth++;
		if (check_folder(search, name)) {
			char folder[sizeof(search->folder)];
			strcpy(folder, search->folder);
			host_list(search->host, folder, walk, search);
		}
		search->depth--;
	}
	search->folder[used] = '\0';
	return 0;
}

void device_vfio_nodes(const struct host *host, const struct device *device, char cdev[NAME_BYTES],
		       char group[NAME_BYTES])
{
	char path[SYSFS_PATH_BYTES + 16], name[NAME_BYTES / 2] = "";
	cdev[0] = group[0] = '\0';
	snprintf(path, sizeof(path), "%s/vfio-dev", device->path);
	if (host_first(host, path, "vfio", name, sizeof(name)))
		snprintf(cdev, NAME_BYTES, "/dev/vfio/devices/%s", name);
	if (device->group >= 0 && host_exists(host, "/dev/vfio/%d", device->group))
		snprintf(group, NAME_BYTES, "/dev/vfio/%d", device->group);
}

const struct open_node *usage_vfio_holder(const struct host *host, const struct activity *activity,
					  const struct device *device)
{
	char cdev[NAME_BYTES], group[NAME_BYTES];
	if (!device_on_vfio(device))
		return NULL;
	device_vfio_nodes(host, device, cdev, group);
	for (unsigned i = 0; i < activity->node_count; i++) {
		const struct open_node *open = &activity->nodes[i];
		if ((cdev[0] && strcmp(open->node, cdev) == 0) || (group[0] && strcmp(open->node, group) == 0))
			return open;
	}
	return NULL;
}

void usage_find(const struct host *host, const struct activity *activity, const struct device *device,
		struct uses *uses)
{
	*uses = (struct uses){0};
	struct search search = {.host = host, .activity = activity, .device = device, .uses = uses};
	if (device->boot_display && device->driver[0] && !device_on_vfio(device))
		snprintf(add_use(&search, "it is the display that the host booted with")->fix,
			 sizeof(uses->list[0].fix), "give the host another console first");
	if (device->vfs && !device_on_vfio(device))
		snprintf(add_use(&search, "it has %u VF%s, which go with its driver", device->vfs,
				 text_plural(device->vfs))
				 ->fix,
			 sizeof(uses->list[0].fix), "tenon vf destroy %s", device->bdf);
	const struct open_node *holder = usage_vfio_holder(host, activity, device);
	if (holder) {
		struct use *use = add_use(&search, "process %u (%s) has it through VFIO: %s", holder->pid,
					  holder->process, holder->node);
		snprintf(use->fix, sizeof(use->fix), "end the VM: kill %u", holder->pid);
		use->by_vfio = true;
	}
	snprintf(search.folder, sizeof(search.folder), "%s", device->path);
	host_list(host, device->path, walk, &search);
}

bool usage_claimed(const struct host *host, const struct device *device, char *node, size_t capacity)
{
	static const struct activity nothing;
	struct uses unused = {0};
	struct search search = {.host = host,
				.activity = &nothing,
				.device = device,
				.uses = &unused,
				.claimed = node,
				.claimed_capacity = capacity};
	node[0] = '\0';
	snprintf(search.folder, sizeof(search.folder), "%s", device->path);
	host_list(host, device->path, walk, &search);
	return node[0] != '\0';
}

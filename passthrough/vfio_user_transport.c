// SPDX-License-Identifier: MIT
/*
 * A device in another process, as VFIO describes one: regions, interrupts, reset, each a message. Owns the connection and the
 * regions' files. The server is not trusted: sizes are checked, and what it lets us map is sealed against shrinking first, because
 * an access beyond a file's end would kill this process, or fail its vCPUs.
 * Source: vfio-user Protocol Specification, "Commands".
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "info.h"
#include "kernel.h"
#include "space.h"
#include "vfio_user_migration.h"
#include "vfio_user_socket.h"
#include "vfio_user_transport.h"

#define REGIONS_MAX      VFIO_PCI_NUM_REGIONS
#define IRQS_MAX         VFIO_PCI_NUM_IRQS
#define INFO_BYTES_MAX   4096u /* of a region's description with its capabilities */
#define CHUNK_BYTES_MAX  4096u /* of a region's content in one message */
#define RESET_TIMEOUT_MS 500u
#define DOORBELLS_MAX    VU_FDS_ANNOUNCED /* of a region: each comes with its eventfd, in one message */

#define NS_PER_MS    UINT64_C(1000000)
#define OPEN_NS      (10000 * NS_PER_MS) /* for all that opening asks */
#define GREET_MS     100u                /* a server that is back: for its first answer, */
#define RECONNECT_NS (1000 * NS_PER_MS)  /* and for all others */
#define HEADER_BYTES 0x40u

struct vu_region {
	bool known;
	struct transport_region info; /* whose file is owned */
	uint64_t file_bytes;
	int eventfds[DOORBELLS_MAX]; /* owned */
	unsigned eventfd_count;
};

struct vu_transport {
	struct transport transport;
	struct vu_socket *socket;
	const char *name, *path;
	struct tenon_space *space;
	struct space_member *member;
	struct vu_region regions[REGIONS_MAX];
	bool irq_known[IRQS_MAX];
	struct transport_irq irqs[IRQS_MAX];
	bool automasked[IRQS_MAX];    /* the server masks the line at each interrupt, as the kernel does */
	uint8_t header[HEADER_BYTES]; /* of config space, as it was after the reset */
	struct vu_migration_peer migration;
};

static struct vu_transport *vu_transport(struct transport *transport)
{
	return (struct vu_transport *)transport; /* first member */
}

/* ---- Calls ---- */

static int note(struct vu_transport *self, int code)
{
	if (code == -ENOTCONN)
		self->transport.health = TRANSPORT_GONE;
	else if (code == -ETIMEDOUT)
		self->transport.health = TRANSPORT_HUNG;
	else
		self->transport.health = TRANSPORT_WELL;
	return code;
}

/* When earlier calls used it up, enough is left for a server that does answer. */
static uint64_t *budget(struct vu_transport *self)
{
	uint64_t *left_ns = &self->transport.budget_ns;
	if (*left_ns < NS_PER_MS)
		*left_ns = NS_PER_MS;
	return left_ns;
}

static int call(struct vu_transport *self, struct vu_call *call, struct tenon_error *err)
{
	if (self->transport.health == TRANSPORT_GONE)
		return tenon_fail(err, -ENOTCONN, "%s: the device is gone; restart its server", self->name);
	if (!call->timeout_ms)
		call->budget_ns = budget(self);
	return note(self, vu_socket_call(self->socket, call, err));
}

/* Nothing after such a lie can be believed. */
static int fail_lie(struct vu_transport *self, const char *lie, struct tenon_error *err)
{
	vu_socket_end(self->socket, lie);
	return tenon_fail(err, note(self, -ENOTCONN), "%s: the device is gone: %s; restart its server", self->name,
			  lie);
}

static void drop_fds(struct vu_call *call)
{
	for (unsigned i = 0; i < call->reply_fd_count; i++)
		kernel_close(call->reply_fds[i]);
	call->reply_fd_count = 0;
}

/* A request and a reply of one fixed struct. */
static int ask(struct vu_transport *self, uint16_t command, void *both, size_t bytes, struct tenon_error *err)
{
	struct vu_call request = {.command = command,
				  .request = {.head = both, .head_bytes = bytes},
				  .reply = both,
				  .reply_room = bytes,
				  .reply_least = bytes};
	int code = call(self, &request, err);
	drop_fds(&request);
	return code;
}

/* ---- Regions ---- */

static void close_region(struct vu_region *region)
{
	if (region->info.file)
		kernel_close(region->info.file);
	for (unsigned i = 0; i < region->eventfd_count; i++)
		kernel_close(region->eventfds[i]);
	*region = (struct vu_region){0};
}

static void close_regions(struct vu_transport *self)
{
	for (unsigned i = 0; i < REGIONS_MAX; i++)
		close_region(&self->regions[i]);
}

/* Whole in the region, and whole in the file. */
static bool is_mappable(const struct vu_region *region, const struct transport_area *area)
{
	const struct transport_region *info = &region->info;
	return area->size_bytes && area->offset < info->size_bytes &&
	       area->size_bytes <= info->size_bytes - area->offset && info->file_offset <= region->file_bytes &&
	       area->offset <= region->file_bytes - info->file_offset &&
	       area->size_bytes <= region->file_bytes - info->file_offset - area->offset;
}

/* Areas that are whole in the region. */
static bool overlaps(const struct transport_region *info, const struct transport_area *area)
{
	for (unsigned i = 0; i < info->area_count; i++) {
		const struct transport_area *other = &info->areas[i];
		if (area->offset < other->offset + other->size_bytes && other->offset < area->offset + area->size_bytes)
			return true;
	}
	return false;
}

static void add_area(struct vu_region *region, uint64_t offset, uint64_t size_bytes)
{
	const struct transport_area area = {.offset = offset, .size_bytes = size_bytes};
	struct transport_region *info = &region->info;
	if (info->area_count < TRANSPORT_AREAS_MAX && is_mappable(region, &area) && !overlaps(info, &area))
		info->areas[info->area_count++] = area;
}

static void add_areas(struct vu_region *region, const uint8_t *reply, uint32_t bytes)
{
	struct vu_region_info head;
	struct vu_sparse sparse;
	memcpy(&head, reply, sizeof(head));
	uint32_t first = head.flags & VFIO_REGION_INFO_FLAG_CAPS ? head.cap_offset : 0;
	uint32_t at =
		info_capability(reply, bytes, sizeof(head), first, VFIO_REGION_INFO_CAP_SPARSE_MMAP, sizeof(sparse));
	if (!at) {
		add_area(region, 0, head.bytes);
		return;
	}
	memcpy(&sparse, reply + at, sizeof(sparse));
	at += (uint32_t)sizeof(sparse);
	for (uint32_t i = 0; i < sparse.areas && bytes - at >= sizeof(struct vu_sparse_area); i++) {
		struct vu_sparse_area area;
		memcpy(&area, reply + at, sizeof(area));
		at += (uint32_t)sizeof(area);
		add_area(region, area.offset, area.bytes);
	}
}

/*
 * Takes the region's file, if accesses to a mapping of it can never fail: not of a file that its owner could truncate later, nor of
 * a device's, whose mappings come and go. The region works trapped then.
 */
static void take_file(struct vu_region *region, struct vu_call *reply)
{
	struct vu_region_info head;
	const uint32_t flags = VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	memcpy(&head, reply->reply, sizeof(head));
	bool cut = head.argsz > reply->reply_bytes; /* its capabilities did not fit */
	/* Number 0 means none here; a process that has closed its standard input could get it. */
	if ((head.flags & flags) != flags || cut || reply->reply_fd_count == 0 || reply->reply_fds[0] == 0 ||
	    kernel_seal(reply->reply_fds[0], &region->file_bytes) < 0)
		return;
	region->info.file = reply->reply_fds[0];
	region->info.file_offset = head.offset;
	memmove(reply->reply_fds, reply->reply_fds + 1, (reply->reply_fd_count - 1) * sizeof(reply->reply_fds[0]));
	reply->reply_fd_count--;
	add_areas(region, reply->reply, (uint32_t)reply->reply_bytes);
}

static int query_region(struct vu_transport *self, unsigned index, struct tenon_error *err)
{
	struct vu_region *region = &self->regions[index];
	const struct vu_region_info request = {.argsz = INFO_BYTES_MAX, .index = index};
	uint8_t reply[INFO_BYTES_MAX];
	struct vu_region_info head;
	struct vu_call query = {.command = VU_GET_REGION_INFO,
				.request = {.head = &request, .head_bytes = sizeof(request)},
				.reply = reply,
				.reply_room = sizeof(reply),
				.reply_least = sizeof(head)};
	int code = call(self, &query, err);
	if (code == -EINVAL && index >= VFIO_PCI_VGA_REGION_INDEX)
		code = 0; /* an optional one, as with the kernel */
	else if (code == 0) {
		memcpy(&head, reply, sizeof(head));
		if (head.index != index)
			code = fail_lie(self, "it describes another region than it was asked for", err);
		region->info.size_bytes = head.flags & VFIO_REGION_INFO_FLAG_READ ? head.bytes : 0;
		if (code == 0 && region->info.size_bytes)
			take_file(region, &query);
	}
	drop_fds(&query);
	region->known = code == 0;
	return code;
}

static int region_info(struct transport *transport, unsigned region, struct transport_region *out,
		       struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	*out = (struct transport_region){0};
	if (region >= REGIONS_MAX || region >= transport->region_count)
		return 0;
	int code = self->regions[region].known ? 0 : query_region(self, region, err);
	if (code == 0)
		*out = self->regions[region].info;
	return code;
}

static unsigned chunk_bytes(const struct vu_transport *self, unsigned size_bytes)
{
	uint64_t most = vu_socket_data_bytes(self->socket);
	if (most > CHUNK_BYTES_MAX)
		most = CHUNK_BYTES_MAX;
	return size_bytes < most ? size_bytes : (unsigned)most;
}

static bool is_same(const struct vu_region_access *a, const struct vu_region_access *b)
{
	return a->offset == b->offset && a->region == b->region && a->count == b->count;
}

static int read_chunk(struct vu_transport *self, unsigned region, uint64_t offset, uint8_t *data, unsigned bytes)
{
	const struct vu_region_access access = {.offset = offset, .region = region, .count = bytes};
	struct vu_region_access answer;
	uint8_t reply[sizeof(answer) + CHUNK_BYTES_MAX];
	struct vu_call request = {.command = VU_REGION_READ,
				  .request = {.head = &access, .head_bytes = sizeof(access)},
				  .reply = reply,
				  .reply_room = sizeof(answer) + bytes,
				  .reply_least = sizeof(answer) + bytes};
	int code = call(self, &request, NULL);
	if (code < 0)
		return code;
	drop_fds(&request);
	memcpy(&answer, reply, sizeof(answer));
	if (!is_same(&answer, &access))
		return fail_lie(self, "it answers another read than it was asked for", NULL);
	memcpy(data, reply + sizeof(answer), bytes);
	return 0;
}

static int write_chunk(struct vu_transport *self, unsigned region, uint64_t offset, const uint8_t *data, unsigned bytes)
{
	struct vu_region_access access = {.offset = offset, .region = region, .count = bytes};
	struct vu_region_access answer;
	struct vu_call request = {
		.command = VU_REGION_WRITE,
		.request = {.head = &access, .head_bytes = sizeof(access), .data = data, .data_bytes = bytes},
		.reply = &answer,
		.reply_room = sizeof(answer),
		.reply_least = sizeof(answer)};
	int code = call(self, &request, NULL);
	self->transport.missed |= code == -ETIMEDOUT && region == VFIO_PCI_CONFIG_REGION_INDEX;
	if (code < 0)
		return code;
	drop_fds(&request);
	return is_same(&answer, &access) ? 0 : fail_lie(self, "it answers another write than it was asked for", NULL);
}

static int region_read(struct transport *transport, unsigned region, uint64_t offset, void *data, unsigned size_bytes)
{
	struct vu_transport *self = vu_transport(transport);
	int code = 0;
	for (unsigned done = 0, bytes; code == 0 && done < size_bytes; done += bytes) {
		bytes = chunk_bytes(self, size_bytes - done);
		code = read_chunk(self, region, offset + done, (uint8_t *)data + done, bytes);
	}
	return code;
}

/*
 * A write to a memory BAR is posted, as on PCI, where nothing can overtake it: a doorbell's eventfd or a store to mapped memory goes
 * past the socket, and would reach the device before what the driver wrote first.
 */
static bool may_post(const struct vu_transport *self, unsigned region)
{
	if (region > VFIO_PCI_BAR5_REGION_INDEX ||
	    self->header[PCI_BASE_ADDRESS_0 + 4 * region] & PCI_BASE_ADDRESS_SPACE_IO)
		return false;
	for (unsigned i = VFIO_PCI_BAR0_REGION_INDEX; i <= VFIO_PCI_BAR5_REGION_INDEX; i++) {
		if (self->regions[i].eventfd_count || self->regions[i].info.area_count)
			return false;
	}
	return true;
}

static int post_chunk(struct vu_transport *self, unsigned region, uint64_t offset, const void *data, unsigned bytes)
{
	const struct vu_region_access access = {.offset = offset, .region = region, .count = bytes};
	struct vu_call request = {
		.command = VU_REGION_WRITE,
		.budget_ns = budget(self),
		.request = {.head = &access, .head_bytes = sizeof(access), .data = data, .data_bytes = bytes}};
	return note(self, vu_socket_post(self->socket, &request, NULL));
}

static int region_write(struct transport *transport, unsigned region, uint64_t offset, const void *data,
			unsigned size_bytes)
{
	struct vu_transport *self = vu_transport(transport);
	bool post = may_post(self, region);
	int code = transport->health == TRANSPORT_GONE ? -ENOTCONN : 0;
	for (unsigned done = 0, bytes; code == 0 && done < size_bytes; done += bytes) {
		bytes = chunk_bytes(self, size_bytes - done);
		code = post ? post_chunk(self, region, offset + done, (const uint8_t *)data + done, bytes)
			    : write_chunk(self, region, offset + done, (const uint8_t *)data + done, bytes);
	}
	return code;
}

static int region_map(struct transport *transport, unsigned region, const struct transport_area *area, void *address,
		      struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	const struct vu_region *from = &self->regions[region];
	void *mapped;
	int code = is_mappable(from, area) ? kernel_map(address, area->size_bytes, PROT_READ | PROT_WRITE,
							from->info.file, from->info.file_offset + area->offset, &mapped)
					   : -ERANGE;
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot map BAR %u at 0x%llx: %s; the BAR works trapped, but slowly",
				  self->name, region, (unsigned long long)area->offset, strerror(-code));
	return 0;
}

/* ---- Doorbells ---- */

/* @return whether it is one that a hypervisor can signal */
static bool read_doorbell(const uint8_t *entry, size_t entry_bytes, struct vu_call *reply, uint64_t region_bytes,
			  struct transport_doorbell *out, unsigned *fd_index)
{
	struct vu_sub_region sub = {0};
	memcpy(&sub, entry, entry_bytes);
	if (entry_bytes == VU_SUB_REGION_SHORT_BYTES)
		memcpy(&sub.match, entry + VU_SUB_REGION_MATCH_SHORT, sizeof(sub.match));
	bool match = sub.flags & VU_IOEVENTFD_MATCH;
	bool width = sub.bytes == 0 ? !match : sub.bytes <= 8 && (sub.bytes & (sub.bytes - 1)) == 0;
	if (sub.type != VU_IO_FD_IOEVENTFD || sub.flags & ~VU_IOEVENTFD_MATCH || !width ||
	    sub.fd_index >= reply->reply_fd_count || sub.offset >= region_bytes ||
	    sub.bytes > region_bytes - sub.offset)
		return false;
	*out = (struct transport_doorbell){.offset = sub.offset,
					   .width_bytes = (unsigned)sub.bytes,
					   .match = match,
					   .value = match ? sub.match : 0};
	*fd_index = sub.fd_index;
	return true;
}

static int doorbells(struct transport *transport, unsigned index, struct transport_doorbell *out, unsigned capacity,
		     struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	struct vu_region *region = &self->regions[index];
	uint8_t reply[sizeof(struct vu_region_io_fds) + DOORBELLS_MAX * sizeof(struct vu_sub_region)];
	struct vu_region_io_fds head = {.argsz = sizeof(reply), .index = index};
	struct vu_call query = {.command = VU_GET_REGION_IO_FDS,
				.request = {.head = &head, .head_bytes = sizeof(head)},
				.reply = reply,
				.reply_room = sizeof(reply),
				.reply_least = sizeof(head)};
	int code = call(self, &query, err);
	if (code < 0) /* a server need not know the command */
		return code == -ENOTCONN || code == -ETIMEDOUT ? code : 0;
	memcpy(&head, reply, sizeof(head));
	size_t bytes = query.reply_bytes - sizeof(head);
	size_t entry_bytes = head.count ? bytes / head.count : 0;
	unsigned count = 0, fd_index;
	/* None where more exist than fit: those that came are then not told. */
	bool known = (entry_bytes == sizeof(struct vu_sub_region) || entry_bytes == VU_SUB_REGION_SHORT_BYTES) &&
		     bytes == entry_bytes * head.count;
	for (unsigned i = 0; known && i < head.count && count < capacity; i++) {
		if (!read_doorbell(reply + sizeof(head) + i * entry_bytes, entry_bytes, &query, region->info.size_bytes,
				   &out[count], &fd_index))
			continue;
		out[count++].eventfd = query.reply_fds[fd_index];
	}
	/* They stay open as long as any is in use. */
	for (unsigned i = 0; count && i < query.reply_fd_count; i++)
		region->eventfds[region->eventfd_count++] = query.reply_fds[i];
	if (!count)
		drop_fds(&query);
	return (int)count;
}

/* ---- Interrupts ---- */

static int irq_info(struct transport *transport, unsigned irq, struct transport_irq *out, struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	*out = (struct transport_irq){0};
	if (irq >= transport->irq_count || irq >= IRQS_MAX)
		return 0;
	if (!self->irq_known[irq]) {
		struct vu_irq_info info = {.argsz = sizeof(info), .index = irq};
		int code = ask(self, VU_GET_IRQ_INFO, &info, sizeof(info), err);
		if (code == -EINVAL) /* a kind that this device lacks */
			info = (struct vu_irq_info){.index = irq};
		else if (code < 0)
			return code;
		if (info.index != irq)
			return fail_lie(self, "it describes another interrupt than it was asked for", err);
		self->irqs[irq] = (struct transport_irq){
			.count = info.flags & VFIO_IRQ_INFO_EVENTFD ? info.count : 0,
			.resizable = !(info.flags & VFIO_IRQ_INFO_NORESIZE),
		};
		self->automasked[irq] = info.flags & VFIO_IRQ_INFO_AUTOMASKED;
		self->irq_known[irq] = true;
	}
	*out = self->irqs[irq];
	return 0;
}

static int set_irqs(struct vu_transport *self, unsigned irq, uint32_t flags, unsigned first, unsigned count,
		    const int *fds, unsigned fd_count, struct tenon_error *err)
{
	const struct vu_irq_set set = {
		.argsz = sizeof(set), .flags = flags, .index = irq, .start = first, .count = count};
	struct vu_call request = {
		.command = VU_SET_IRQS,
		.request = {.head = &set, .head_bytes = sizeof(set), .fds = fds, .fd_count = fd_count}};
	int code = call(self, &request, err);
	drop_fds(&request);
	self->transport.missed |= code == -ETIMEDOUT;
	return code;
}

/* How many of the first are alike: with eventfds, as many as fit into a message; or without, any number. */
static unsigned run_length(const int *eventfds, unsigned count, unsigned fds_max)
{
	bool without = eventfds[0] < 0;
	unsigned most = without ? count : count < fds_max ? count : fds_max;
	unsigned length = 1;
	while (length < most && (eventfds[length] < 0) == without)
		length++;
	return length;
}

static int irq_arm(struct transport *transport, unsigned irq, unsigned first, unsigned count, const int *eventfds,
		   struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	unsigned most = vu_socket_fds(self->socket);
	int code = 0;
	for (unsigned done = 0, run; code == 0 && done < count; done += run) {
		run = run_length(eventfds + done, count - done, most ? most : 1);
		code = set_irqs(self, irq, VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD, first + done, run,
				eventfds + done, eventfds[done] < 0 ? 0 : run, err);
	}
	return code;
}

static int irq_disable(struct transport *transport, unsigned irq, struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	if (transport->health == TRANSPORT_GONE) /* it signals nobody any more */
		return 0;
	return set_irqs(self, irq, VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE, 0, 0, NULL, 0, err);
}

static int irq_unmask_on(struct transport *transport, unsigned irq, int eventfd, struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	if (irq >= IRQS_MAX || !self->automasked[irq]) /* libvfio-user: it is never masked */
		return 0;
	return set_irqs(self, irq, VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_EVENTFD, 0, 1, &eventfd, 1, err);
}

static int irq_unmask(struct transport *transport, unsigned irq, struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	if (irq >= IRQS_MAX || !self->automasked[irq])
		return 0;
	return set_irqs(self, irq, VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_NONE, 0, 1, NULL, 0, err);
}

/* ---- Migration ---- */

static int64_t note_data(struct vu_transport *self, int64_t done)
{
	if (done < 0)
		note(self, (int)done);
	return done;
}

static int fail_gone(struct vu_transport *self, struct tenon_error *err)
{
	return tenon_fail(err, -ENOTCONN, "%s: the device is gone; restart its server", self->name);
}

static int feature(struct transport *transport, struct vfio_device_feature *argument, struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	if (transport->health == TRANSPORT_GONE)
		return fail_gone(self, err);
	return note(self, vu_migration_feature(&self->migration, argument, err));
}

static int64_t migration_read(struct transport *transport, int data_fd, void *data, size_t capacity,
			      struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	if (transport->health == TRANSPORT_GONE)
		return fail_gone(self, err);
	return note_data(self, vu_migration_read(&self->migration, data, capacity, err));
}

static int64_t migration_write(struct transport *transport, int data_fd, const void *data, size_t bytes,
			       struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	if (transport->health == TRANSPORT_GONE)
		return fail_gone(self, err);
	return note_data(self, vu_migration_write(&self->migration, data, bytes, err));
}

static int migration_pre_copy(struct transport *transport, int data_fd, uint64_t *initial, uint64_t *dirty,
			      struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	if (transport->health == TRANSPORT_GONE)
		return fail_gone(self, err);
	return note(self, vu_migration_pre_copy(&self->migration, initial, dirty, err));
}

/* ---- Resets ---- */

static int reset(struct transport *transport, struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	/* One that a guest asks for in an access takes longer than that may. */
	bool hurried = transport->budget_ns <= RESET_TIMEOUT_MS * NS_PER_MS;
	struct vu_call request = {.command = VU_RESET, .timeout_ms = hurried ? RESET_TIMEOUT_MS : 0};
	int code = call(self, &request, err);
	drop_fds(&request);
	return code;
}

/* It is alone wherever it is. */
static int hot_reset_info(struct transport *transport, struct transport_hot_reset *out, struct tenon_error *err)
{
	*out = (struct transport_hot_reset){0};
	return 0;
}

static int hot_reset(struct transport *transport, const int *group_fds, unsigned count, struct tenon_error *err)
{
	return tenon_fail(err, -EOPNOTSUPP, "%s: no bus of it can be reset; reset the device",
			  vu_transport(transport)->name);
}

/* ---- Beginning and end ---- */

static int get_info(struct vu_transport *self, struct tenon_error *err)
{
	struct vu_info info = {.argsz = sizeof(info)};
	int code = ask(self, VU_GET_INFO, &info, sizeof(info), err);
	if (code < 0)
		return code;
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return tenon_fail(err, -ENODEV, "%s: not a PCI device; only PCI devices can be assigned", self->name);
	if (info.regions <= VFIO_PCI_CONFIG_REGION_INDEX || info.irqs <= VFIO_PCI_MSIX_IRQ_INDEX)
		return tenon_fail(err, -ENODEV,
				  "%s: has %u regions and %u interrupt kinds, too few for PCI; update its server",
				  self->name, info.regions, info.irqs);
	self->transport.can_reset = info.flags & VFIO_DEVICE_FLAGS_RESET;
	self->transport.region_count = info.regions;
	self->transport.irq_count = info.irqs;
	return 0;
}

static int read_config(struct vu_transport *self, struct tenon_error *err)
{
	int code = region_read(&self->transport, VFIO_PCI_CONFIG_REGION_INDEX, 0, self->header, sizeof(self->header));
	if (code == -ENOTCONN)
		return tenon_fail(err, code, "%s: the device is gone: %s; restart its server", self->name,
				  vu_socket_ended(self->socket));
	if (code < 0)
		return tenon_fail(err, code, "%s: cannot read its config space: %s; see what its server says",
				  self->name, strerror(-code));
	return 0;
}

/* From a connection to a device that is as after power-on. */
static int set_up(struct vu_transport *self, struct tenon_error *err)
{
	struct transport_region config;
	int code = get_info(self, err);
	if (code == 0 && self->transport.can_reset)
		code = reset(&self->transport, err);
	if (code == 0)
		code = region_info(&self->transport, VFIO_PCI_CONFIG_REGION_INDEX, &config, err);
	if (code == 0 && config.size_bytes < HEADER_BYTES)
		code = tenon_fail(
			err, -ENODEV,
			"%s: its config space has %llu bytes, less than PCI's header of 64; update its server",
			self->name, (unsigned long long)config.size_bytes);
	if (code == 0)
		code = read_config(self, err);
	return code;
}

static int open_socket(struct vu_transport *self, unsigned timeout_ms, struct tenon_error *err)
{
	const struct vu_memory memory = space_memory(self->space);
	int code = vu_socket_connect(self->path, timeout_ms, &memory, &self->socket, err);
	self->migration = (struct vu_migration_peer){.socket = self->socket, .name = self->name};
	return code;
}

static void finish(struct vu_transport *self)
{
	close_regions(self);
	vu_socket_destroy(self->socket);
}

static int poll_fd(struct transport *transport)
{
	return vu_socket_poll_fd(vu_transport(transport)->socket);
}

static void serve(struct transport *transport)
{
	struct vu_transport *self = vu_transport(transport);
	int code = vu_socket_serve(self->socket);
	if (code < 0 || (code == 0 && transport->health == TRANSPORT_HUNG))
		note(self, code);
}

static const char *reason(struct transport *transport)
{
	const char *text = vu_socket_ended(vu_transport(transport)->socket);
	return text ? text : "it was given up";
}

static void end(struct transport *transport, const char *why)
{
	struct vu_transport *self = vu_transport(transport);
	vu_socket_end(self->socket, why);
	note(self, -ENOTCONN);
}

/* Who it is, and the kinds of its BARs; not what drivers change. */
static bool is_same_device(const uint8_t *a, const uint8_t *b)
{
	bool same = memcmp(a + PCI_VENDOR_ID, b + PCI_VENDOR_ID, 4) == 0 &&
		    memcmp(a + PCI_CLASS_REVISION, b + PCI_CLASS_REVISION, 4) == 0 &&
		    a[PCI_HEADER_TYPE] == b[PCI_HEADER_TYPE] &&
		    memcmp(a + PCI_SUBSYSTEM_VENDOR_ID, b + PCI_SUBSYSTEM_VENDOR_ID, 4) == 0 &&
		    a[PCI_CAPABILITY_LIST] == b[PCI_CAPABILITY_LIST] && a[PCI_INTERRUPT_PIN] == b[PCI_INTERRUPT_PIN];
	for (unsigned at = PCI_BASE_ADDRESS_0; at <= PCI_BASE_ADDRESS_5; at += 4)
		same &= ((a[at] ^ b[at]) & 0xf) == 0;
	return same;
}

static bool is_same_region(const struct transport_region *a, const struct transport_region *b)
{
	return a->size_bytes == b->size_bytes && a->area_count == b->area_count &&
	       memcmp(a->areas, b->areas, a->area_count * sizeof(a->areas[0])) == 0;
}

/* What was ever asked is asked again. @return 1 the same; 0 another; or -errno */
static int compare(struct vu_transport *old, struct vu_transport *new, struct tenon_error *err)
{
	struct transport_region region;
	struct transport_irq irq;
	bool same = is_same_device(old->header, new->header) && old->transport.can_reset == new->transport.can_reset;
	int code = 0;
	for (unsigned i = 0; code == 0 && same && i < REGIONS_MAX; i++) {
		if (!old->regions[i].known)
			continue;
		code = region_info(&new->transport, i, &region, err);
		same = is_same_region(&old->regions[i].info, &region);
	}
	for (unsigned i = 0; code == 0 && same && i < IRQS_MAX; i++) {
		if (!old->irq_known[i])
			continue;
		code = irq_info(&new->transport, i, &irq, err);
		same = irq.count == old->irqs[i].count && irq.resizable == old->irqs[i].resizable;
	}
	return code < 0 ? code : same;
}

static int reconnect(struct transport *transport, struct tenon_error *err)
{
	struct vu_transport *self = vu_transport(transport);
	struct vu_transport fresh = {
		.transport = {.ops = transport->ops, .remote = transport->remote, .budget_ns = RECONNECT_NS},
		.name = self->name,
		.path = self->path,
		.space = self->space,
		.member = self->member,
	};
	vu_socket_end(self->socket, "it is given up"); /* most servers take one client at a time */
	int code = open_socket(&fresh, GREET_MS, err);
	if (code == 0)
		code = set_up(&fresh, err);
	if (code == 0)
		code = compare(self, &fresh, err);
	if (code == 0)
		code = tenon_fail(err, -ENODEV,
				  "%s: another device answers there; start the server of the one that was", self->name);
	if (code > 0)
		code = space_rejoin_user(self->space, self->member, fresh.socket, err);
	if (code < 0) {
		finish(&fresh);
		return code;
	}
	finish(self);
	*self = fresh;
	return 0;
}

static void close_transport(struct transport *transport)
{
	struct vu_transport *self = vu_transport(transport);
	finish(self);
	free(self);
}

static const struct transport_remote_ops remote_ops = {
	.poll_fd = poll_fd,
	.serve = serve,
	.reason = reason,
	.end = end,
	.doorbells = doorbells,
	.reconnect = reconnect,
};

static const struct transport_ops vu_transport_ops = {
	.region_info = region_info,
	.irq_info = irq_info,
	.region_read = region_read,
	.region_write = region_write,
	.region_map = region_map,
	.irq_arm = irq_arm,
	.irq_disable = irq_disable,
	.irq_unmask_on = irq_unmask_on,
	.irq_unmask = irq_unmask,
	.feature = feature,
	.migration_read = migration_read,
	.migration_write = migration_write,
	.migration_pre_copy = migration_pre_copy,
	.reset = reset,
	.hot_reset_info = hot_reset_info,
	.hot_reset = hot_reset,
	.close = close_transport,
};

int vu_transport_open(const char *path, const char *name, struct tenon_space *space, struct space_member *member,
		      struct transport **out, struct tenon_error *err)
{
	struct vu_transport *self = calloc(1, sizeof(*self));
	if (!self)
		return tenon_fail(err, -ENOMEM, "%s: cannot open: out of memory; free some memory", name);
	*self = (struct vu_transport){
		.transport = {.ops = &vu_transport_ops, .remote = &remote_ops, .budget_ns = OPEN_NS},
		.name = name,
		.path = path,
		.space = space,
		.member = member,
	};
	int code = open_socket(self, 0, err);
	if (code == 0)
		code = set_up(self, err);
	if (code == 0)
		code = space_join_user(space, self->socket, name, member, err);
	if (code < 0)
		close_transport(&self->transport);
	else
		*out = &self->transport;
	return code;
}

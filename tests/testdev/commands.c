// SPDX-License-Identifier: MIT
/*
 * The commands of vfio-user on this device. A request is copied into its structure before it is looked at; sizes are checked
 * against the payload that came, never against what the request says of itself.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "commands.h"
#include "device_features.h"
#include "regions.h"
#include "server.h"
#include "testdev.h"

void *reply_make(struct reply *reply, size_t bytes)
{
	reply->payload = calloc(1, bytes ? bytes : 1);
	reply->bytes = reply->payload ? bytes : 0;
	return reply->payload;
}

void reply_finish(struct reply *reply)
{
	free(reply->payload);
	if (reply->owned_fd >= 0)
		close(reply->owned_fd);
	*reply = (struct reply){.owned_fd = -1};
}

/* The fixed part of a request. @return false when there is less */
static bool get(const struct message *message, void *out, size_t bytes)
{
	if (message->bytes < bytes)
		return false;
	memcpy(out, message->payload, bytes);
	return true;
}

static int get_version(struct testdev *device, const struct message *message, struct vu_version *version)
{
	struct session *session = device->session;
	if (!get(message, version, sizeof(*version)) || version->major != VU_MAJOR || message->fd_count)
		return -EINVAL;
	const char *text = (const char *)message->payload + sizeof(*version);
	size_t bytes = message->bytes - sizeof(*version);
	if (bytes && text[bytes - 1])
		return -EINVAL;
	int code = vu_capabilities_parse(text, bytes, &session->client, NULL);
	/* A client that takes less than one register is of no use, and its limit must bound buffers. */
	if (code < 0 || session->client.data_bytes < 16)
		return -EINVAL;
	return 0;
}

/* The device's requests get a socket of their own when the client takes one. */
static int make_twin(struct testdev *device, struct vu_capabilities *ours, struct reply *reply)
{
	struct session *session = device->session;
	int pair[2];
	if (device->options.no_twin_socket || !session->client.twin_socket || session->client.msg_fds == 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	reply->fds[0] = reply->owned_fd = pair[1];
	reply->fd_count = 1;
	ours->twin_socket = ours->twin_fd_present = true;
	return link_init(&session->twin, pair[0], session->main.message_max);
}

int command_greet(struct testdev *device, struct message *message, struct reply *reply)
{
	struct vu_version version;
	char text[VU_CAPABILITIES_TEXT_MAX];
	struct vu_capabilities ours = {.msg_fds = TD_MSIX_VECTORS,
				       .data_bytes = device->options.data_bytes ? device->options.data_bytes
										: VU_DEFAULT_DATA_BYTES,
				       .dma_maps = DMA_MAPS_MAX,
				       .page_sizes = VU_DEFAULT_PAGE_SIZES,
				       .write_multiple = true};
	if (message->header.command != VU_VERSION)
		return -EINVAL;
	int code = get_version(device, message, &version);
	if (code == 0)
		code = make_twin(device, &ours, reply);
	if (code < 0)
		return code;
	if (version.minor > VU_MINOR)
		version.minor = VU_MINOR;
	size_t bytes = vu_capabilities_format(&ours, text);
	uint8_t *payload = reply_make(reply, sizeof(version) + bytes);
	if (!payload)
		return -ENOMEM;
	memcpy(payload, &version, sizeof(version));
	memcpy(payload + sizeof(version), text, bytes);
	return 0;
}

static int execute_dma_map(struct testdev *device, struct message *message)
{
	struct vu_dma_map request;
	if (!get(message, &request, sizeof(request)) || request.argsz < sizeof(request) || message->fd_count > 1)
		return -EINVAL;
	int fd = -1;
	if (message->fd_count) {
		fd = message->fds[0];
		message->fds[0] = -1;
	}
	return dma_map(device, &request, fd);
}

static int unmap_all(struct testdev *device, const struct vu_dma_unmap *request, struct reply *reply)
{
	if (request->address || request->bytes)
		return -EINVAL;
	struct vu_dma_unmap *out = reply_make(reply, sizeof(*out));
	if (!out)
		return -ENOMEM;
	*out = *request;
	dma_unmap_all(device);
	return 0;
}

static int execute_dma_unmap(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_dma_unmap request;
	struct vu_bitmap bitmap = {0};
	if (!get(message, &request, sizeof(request)))
		return -EINVAL;
	if (request.flags == VU_UNMAP_ALL)
		return unmap_all(device, &request, reply);
	if (request.flags & ~VU_UNMAP_DIRTY_BITMAP || request.argsz < sizeof(request))
		return -EINVAL;
	size_t head = sizeof(request) + (request.flags ? sizeof(bitmap) : 0);
	if (request.flags) {
		if (message->bytes < head)
			return -EINVAL;
		memcpy(&bitmap, message->payload + sizeof(request), sizeof(bitmap));
		uint64_t needed = feature_bitmap_bytes(request.address, request.bytes, bitmap.page_bytes);
		if (!device->dma.log.on || needed == 0 || bitmap.bytes != needed || request.argsz < head + needed ||
		    head + needed > server_data_bytes(device))
			return -EINVAL;
	}
	uint8_t *out = reply_make(reply, head + bitmap.bytes);
	if (!out)
		return -ENOMEM;
	int code = dma_unmap(device, request.address, request.bytes);
	if (code < 0)
		return code;
	memcpy(out, message->payload, head);
	if (request.flags)
		feature_report(device, request.address, request.bytes, bitmap.page_bytes, out + head);
	return 0;
}

static int execute_info(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_info request;
	if (!get(message, &request, sizeof(request)) || request.argsz < sizeof(request))
		return -EINVAL;
	struct vu_info *out = reply_make(reply, sizeof(*out));
	if (!out)
		return -ENOMEM;
	*out = (struct vu_info){.argsz = sizeof(*out),
				.flags = VFIO_DEVICE_FLAGS_PCI |
					 (device->options.no_reset ? 0 : VFIO_DEVICE_FLAGS_RESET),
				.regions = REGION_COUNT,
				.irqs = IRQ_KINDS};
	return 0;
}

static void put_sparse(uint8_t *at, const struct region *region)
{
	const struct vu_sparse sparse = {.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1},
					 .areas = region->area_count};
	memcpy(at, &sparse, sizeof(sparse));
	for (unsigned i = 0; i < region->area_count; i++) {
		const struct vu_sparse_area area = {.offset = region->areas[i].offset, .bytes = region->areas[i].bytes};
		memcpy(at + sizeof(sparse) + i * sizeof(area), &area, sizeof(area));
	}
}

static int execute_region_info(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_region_info request;
	struct region region;
	if (!get(message, &request, sizeof(request)) || request.argsz < sizeof(request) ||
	    request.index >= REGION_COUNT)
		return -EINVAL;
	region_describe(device, request.index, &region);
	size_t caps =
		region.area_count ? sizeof(struct vu_sparse) + region.area_count * sizeof(struct vu_sparse_area) : 0;
	bool fits = request.argsz >= sizeof(request) + caps;
	uint8_t *out = reply_make(reply, sizeof(request) + (fits ? caps : 0));
	if (!out)
		return -ENOMEM;
	const struct vu_region_info info = {
		.argsz = (uint32_t)(sizeof(info) + caps),
		.flags = (region.bytes ? VFIO_REGION_INFO_FLAG_READ : 0) |
			 (region.writable ? VFIO_REGION_INFO_FLAG_WRITE : 0) |
			 (region.mappable ? VFIO_REGION_INFO_FLAG_MMAP : 0) | (caps ? VFIO_REGION_INFO_FLAG_CAPS : 0),
		.index = request.index,
		.cap_offset = fits && caps ? sizeof(info) : 0,
		.bytes = region.bytes,
		.offset = region.file_offset,
	};
	memcpy(out, &info, sizeof(info));
	if (fits && caps)
		put_sparse(out + sizeof(info), &region);
	if (region.mappable && device->session->client.msg_fds) {
		reply->fds[0] = device->memory.fd;
		reply->fd_count = 1;
	}
	return 0;
}

/* One doorbell, in the layout that the client is to get. */
static void put_doorbell(uint8_t *at, size_t size, unsigned bell)
{
	const struct vu_sub_region entry = {
		.offset = TD_DOORBELL(bell), .bytes = 4, .fd_index = bell, .type = VU_IO_FD_IOEVENTFD};
	/* Without a value to match, the short layout is the start of the long one. */
	memcpy(at, &entry, size);
}

static int execute_region_io_fds(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_region_io_fds request;
	if (!get(message, &request, sizeof(request)) || request.argsz < sizeof(request) || request.flags ||
	    request.count || request.index >= REGION_COUNT)
		return -EINVAL;
	unsigned count = 0;
	size_t size = device->options.long_sub_regions ? sizeof(struct vu_sub_region) : VU_SUB_REGION_SHORT_BYTES;
	if (request.index == VFIO_PCI_BAR0_REGION_INDEX + TD_BAR_REGISTERS && !device->options.no_doorbell_fds)
		count = device->session->client.msg_fds < TD_DOORBELL_FAST ? (unsigned)device->session->client.msg_fds
									   : TD_DOORBELL_FAST;
	bool fits = request.argsz >= sizeof(request) + count * size;
	uint8_t *out = reply_make(reply, sizeof(request) + (fits ? count * size : 0));
	if (!out)
		return -ENOMEM;
	request.argsz = (uint32_t)(sizeof(request) + count * size);
	request.count = count;
	memcpy(out, &request, sizeof(request));
	for (unsigned bell = 0; fits && bell < count; bell++) {
		put_doorbell(out + sizeof(request) + bell * size, size, bell);
		reply->fds[reply->fd_count++] = device->doorbells.fds[bell];
	}
	return 0;
}

static int execute_irq_info(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_irq_info request;
	if (!get(message, &request, sizeof(request)) || request.argsz < sizeof(request) || request.index >= IRQ_KINDS)
		return -EINVAL;
	struct vu_irq_info *out = reply_make(reply, sizeof(*out));
	if (!out)
		return -ENOMEM;
	*out = (struct vu_irq_info){.argsz = sizeof(*out),
				    .flags = irqs_flags(device, request.index),
				    .index = request.index,
				    .count = irqs_count(request.index)};
	return 0;
}

static int execute_set_irqs(struct testdev *device, const struct message *message)
{
	struct vu_irq_set request;
	if (!get(message, &request, sizeof(request)))
		return -EINVAL;
	size_t flags = message->bytes - sizeof(request);
	if (flags > IRQ_VECTORS_MAX)
		return -EINVAL;
	return irqs_set(device, &request, message->payload + sizeof(request), (unsigned)flags, message->fds,
			message->fd_count);
}

static int execute_region_read(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_region_access request;
	if (!get(message, &request, sizeof(request)) || request.count > server_data_bytes(device))
		return -EINVAL;
	uint8_t *out = reply_make(reply, sizeof(request) + request.count);
	if (!out)
		return -ENOMEM;
	memcpy(out, &request, sizeof(request));
	return region_read(device, request.region, request.offset, out + sizeof(request), request.count);
}

static int execute_region_write(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_region_access request;
	if (!get(message, &request, sizeof(request)) || request.count != message->bytes - sizeof(request))
		return -EINVAL;
	uint8_t *out = reply_make(reply, sizeof(request));
	if (!out)
		return -ENOMEM;
	memcpy(out, &request, sizeof(request));
	return region_write(device, request.region, request.offset, message->payload + sizeof(request), request.count);
}

/* Up to the first that fails; the reply says how many were done. */
static int execute_write_multi(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_write_multi request;
	struct vu_one_write one;
	if (!get(message, &request, sizeof(request)) || request.writes == 0 ||
	    request.writes != (message->bytes - sizeof(request)) / sizeof(one) ||
	    (message->bytes - sizeof(request)) % sizeof(one))
		return -EINVAL;
	struct vu_write_multi *out = reply_make(reply, sizeof(*out));
	if (!out)
		return -ENOMEM;
	for (; out->writes < request.writes; out->writes++) {
		memcpy(&one, message->payload + sizeof(request) + out->writes * sizeof(one), sizeof(one));
		if (one.count == 0 || one.count > sizeof(one.data) ||
		    region_write(device, one.region, one.offset, one.data, one.count) < 0)
			break;
	}
	return out->writes ? 0 : -EINVAL;
}

static int execute_reset(struct testdev *device, const struct message *message)
{
	if (message->bytes)
		return -EINVAL;
	if (device->options.no_reset)
		return -ENOTTY;
	device->resets_command++;
	testdev_reset(device);
	migration_reset(device);
	return 0;
}

static int execute_mig_data_read(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_mig_data request;
	if (!get(message, &request, sizeof(request)) || request.bytes == 0 ||
	    request.bytes > server_data_bytes(device) || request.argsz < sizeof(request) + request.bytes)
		return -EINVAL;
	if (device->options.no_migration || !migration_saves(device->migration.state))
		return -EINVAL;
	uint8_t *out = reply_make(reply, sizeof(request) + request.bytes);
	if (!out)
		return -ENOMEM;
	int64_t got = saver_read(device, out + sizeof(request), request.bytes);
	if (got < 0)
		return (int)got;
	request.bytes = (uint32_t)got;
	request.argsz = (uint32_t)(sizeof(request) + (size_t)got);
	memcpy(out, &request, sizeof(request));
	reply->bytes = request.argsz;
	return 0;
}

static int execute_mig_data_write(struct testdev *device, const struct message *message)
{
	struct vu_mig_data request;
	if (!get(message, &request, sizeof(request)) || request.bytes != message->bytes - sizeof(request))
		return -EINVAL;
	if (device->options.no_migration || device->migration.state != VU_STATE_RESUMING)
		return -EINVAL;
	return loader_write(device, message->payload + sizeof(request), request.bytes);
}

bool command_waits_for_dma(const struct message *message)
{
	struct vu_feature feature;
	switch (message->header.command) {
	case VU_DMA_UNMAP:
	case VU_RESET:
		return true;
	case VU_FEATURE:
		return get(message, &feature, sizeof(feature)) && feature.flags & VU_FEATURE_SET &&
		       (feature.flags & VU_FEATURE_NUMBER) == VU_FEATURE_STATE;
	default:
		return false;
	}
}

/* Only these come with file descriptors. */
static bool takes_fds(uint16_t command)
{
	return command == VU_DMA_MAP || command == VU_SET_IRQS;
}

int command_execute(struct testdev *device, struct message *message, struct reply *reply)
{
	if (message->fd_count && !takes_fds(message->header.command))
		return -EINVAL;
	switch (message->header.command) {
	case VU_DMA_MAP:
		return execute_dma_map(device, message);
	case VU_DMA_UNMAP:
		return execute_dma_unmap(device, message, reply);
	case VU_GET_INFO:
		return execute_info(device, message, reply);
	case VU_GET_REGION_INFO:
		return execute_region_info(device, message, reply);
	case VU_GET_REGION_IO_FDS:
		return execute_region_io_fds(device, message, reply);
	case VU_GET_IRQ_INFO:
		return execute_irq_info(device, message, reply);
	case VU_SET_IRQS:
		return execute_set_irqs(device, message);
	case VU_REGION_READ:
		return execute_region_read(device, message, reply);
	case VU_REGION_WRITE:
		return execute_region_write(device, message, reply);
	case VU_REGION_WRITE_MULTI:
		return execute_write_multi(device, message, reply);
	case VU_RESET:
		return execute_reset(device, message);
	case VU_FEATURE:
		return feature_execute(device, message, reply);
	case VU_MIG_DATA_READ:
		return execute_mig_data_read(device, message, reply);
	case VU_MIG_DATA_WRITE:
		return execute_mig_data_write(device, message);
	case VU_VERSION: /* once is enough */
		return -EINVAL;
	default:
		return -ENOTSUP;
	}
}

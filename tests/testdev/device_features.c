// SPDX-License-Identifier: MIT
/* Device features: which there are, what may be done with each, and doing it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device_features.h"
#include "server.h"
#include "testdev.h"

#define METHODS      (VU_FEATURE_GET | VU_FEATURE_SET | VU_FEATURE_PROBE)
#define RANGES_MAX   256u
#define LOG_PAGE_MIN UINT64_C(4096)
#define LOG_PAGE_MAX (UINT64_C(1) << 30)

/* What can be done with a feature; 0: it does not exist. */
static uint32_t methods_of(const struct testdev *device, uint32_t feature)
{
	const struct testdev_options *options = &device->options;
	if (options->no_migration)
		return 0;
	switch (feature) {
	case VU_FEATURE_MIGRATION:
	case VU_FEATURE_STATE_BYTES:
		return VU_FEATURE_GET;
	case VU_FEATURE_STATE:
		return VU_FEATURE_GET | VU_FEATURE_SET;
	case VU_FEATURE_LOG_START:
	case VU_FEATURE_LOG_STOP:
		return options->no_logging ? 0 : VU_FEATURE_SET;
	case VU_FEATURE_LOG_REPORT:
		return options->no_logging ? 0 : VU_FEATURE_GET;
	default:
		return 0;
	}
}

/* The reply to a set: the request again. */
static uint8_t *echo(const struct message *message, struct reply *reply)
{
	uint8_t *out = reply_make(reply, message->bytes);
	if (out)
		memcpy(out, message->payload, message->bytes);
	return out;
}

static int get_data(const struct vu_feature *request, const void *data, size_t bytes, struct reply *reply)
{
	if (request->argsz < sizeof(*request) + bytes)
		return -EINVAL;
	uint8_t *out = reply_make(reply, sizeof(*request) + bytes);
	if (!out)
		return -ENOMEM;
	const struct vu_feature head = {.argsz = (uint32_t)(sizeof(head) + bytes), .flags = request->flags};
	memcpy(out, &head, sizeof(head));
	memcpy(out + sizeof(head), data, bytes);
	return 0;
}

static bool is_power_of_two(uint64_t value)
{
	return value && !(value & (value - 1));
}

uint64_t feature_bitmap_bytes(uint64_t address, uint64_t bytes, uint64_t page_bytes)
{
	if (bytes == 0 || address + (bytes - 1) < address || !is_power_of_two(page_bytes))
		return 0;
	uint64_t pages = (bytes - 1) / page_bytes + 1;
	return pages > UINT64_C(1) << 32 ? 0 : (pages + 63) / 64 * 8;
}

void feature_report(struct testdev *device, uint64_t address, uint64_t bytes, uint64_t page_bytes, uint8_t *bitmap)
{
	uint64_t size = feature_bitmap_bytes(address, bytes, page_bytes);
	uint64_t *words = calloc(1, size);
	if (!words) {
		memset(bitmap, 0xff, size); /* too much is right, too little is not */
		return;
	}
	dma_log_report(device, address, bytes, page_bytes, words);
	memcpy(bitmap, words, size);
	free(words);
}

static int report(struct testdev *device, const struct message *message, const struct vu_feature *request,
		  struct reply *reply)
{
	struct vu_log_report range;
	size_t head = sizeof(*request) + sizeof(range);
	if (message->bytes < head || !device->dma.log.on)
		return -EINVAL;
	memcpy(&range, message->payload + sizeof(*request), sizeof(range));
	uint64_t size = feature_bitmap_bytes(range.address, range.bytes, range.page_bytes);
	if (size == 0 || head + size > server_data_bytes(device) || request->argsz < head + size)
		return -EINVAL;
	uint8_t *out = reply_make(reply, head + size);
	if (!out)
		return -ENOMEM;
	const struct vu_feature answer = {.argsz = (uint32_t)(head + size), .flags = request->flags};
	memcpy(out, &answer, sizeof(answer));
	memcpy(out + sizeof(answer), &range, sizeof(range));
	feature_report(device, range.address, range.bytes, range.page_bytes, out + head);
	return 0;
}

static int get_feature(struct testdev *device, const struct message *message, const struct vu_feature *request,
		       struct reply *reply)
{
	const struct vu_migration migration = {.flags = migration_flags(device)};
	const struct vu_state state = {.state = device->migration.state, .data_fd = -1};
	const struct vu_state_bytes bytes = {.stop_copy_bytes = migration_bytes(device)};
	switch (request->flags & VU_FEATURE_NUMBER) {
	case VU_FEATURE_MIGRATION:
		return get_data(request, &migration, sizeof(migration), reply);
	case VU_FEATURE_STATE:
		return get_data(request, &state, sizeof(state), reply);
	case VU_FEATURE_STATE_BYTES:
		return get_data(request, &bytes, sizeof(bytes), reply);
	default:
		return report(device, message, request, reply);
	}
}

static int set_state(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_state state;
	if (message->bytes < sizeof(struct vu_feature) + sizeof(state))
		return -EINVAL;
	memcpy(&state, message->payload + sizeof(struct vu_feature), sizeof(state));
	state.data_fd = -1;
	uint8_t *out = echo(message, reply);
	if (!out)
		return -ENOMEM;
	memcpy(out + sizeof(struct vu_feature), &state, sizeof(state));
	return migration_set(device, state.state);
}

static bool are_sound(const struct vu_log_range *ranges, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (ranges[i].bytes == 0 || ranges[i].address + (ranges[i].bytes - 1) < ranges[i].address)
			return false;
	}
	return true;
}

static int log_start(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_log_start start;
	struct vu_log_range ranges[RANGES_MAX];
	size_t head = sizeof(struct vu_feature) + sizeof(start);
	if (message->bytes < head)
		return -EINVAL;
	memcpy(&start, message->payload + sizeof(struct vu_feature), sizeof(start));
	if (start.ranges > RANGES_MAX || message->bytes - head < start.ranges * sizeof(ranges[0]) ||
	    !is_power_of_two(start.page_bytes))
		return -EINVAL;
	memcpy(ranges, message->payload + head, start.ranges * sizeof(ranges[0]));
	if (!are_sound(ranges, start.ranges))
		return -EINVAL;
	if (start.page_bytes < LOG_PAGE_MIN)
		start.page_bytes = LOG_PAGE_MIN;
	if (start.page_bytes > LOG_PAGE_MAX)
		start.page_bytes = LOG_PAGE_MAX;
	uint8_t *out = echo(message, reply);
	if (!out)
		return -ENOMEM;
	memcpy(out + sizeof(struct vu_feature), &start, sizeof(start));
	return dma_log_start(device, &start, ranges);
}

static int set_feature(struct testdev *device, const struct message *message, const struct vu_feature *request,
		       struct reply *reply)
{
	switch (request->flags & VU_FEATURE_NUMBER) {
	case VU_FEATURE_STATE:
		return set_state(device, message, reply);
	case VU_FEATURE_LOG_START:
		return log_start(device, message, reply);
	default:
		return echo(message, reply) ? dma_log_stop(device) : -ENOMEM;
	}
}

int feature_execute(struct testdev *device, const struct message *message, struct reply *reply)
{
	struct vu_feature request;
	if (message->bytes < sizeof(request))
		return -EINVAL;
	memcpy(&request, message->payload, sizeof(request));
	uint32_t methods = request.flags & METHODS, offered = methods_of(device, request.flags & VU_FEATURE_NUMBER);
	if (request.argsz < sizeof(request) || request.flags & ~(METHODS | VU_FEATURE_NUMBER))
		return -EINVAL;
	if (offered == 0)
		return -ENOTTY;
	if (methods & ~VU_FEATURE_PROBE & ~offered)
		return -ENOTTY;
	if (methods & VU_FEATURE_PROBE)
		return echo(message, reply) ? 0 : -ENOMEM;
	if (methods == VU_FEATURE_GET)
		return get_feature(device, message, &request, reply);
	if (methods == VU_FEATURE_SET)
		return set_feature(device, message, &request, reply);
	return -EINVAL;
}

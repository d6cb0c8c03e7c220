// SPDX-License-Identifier: MIT
/*
 * The fake kernel's migratable devices: a driver that takes one arc at a time, and the file that the device's data goes through. After
 * drivers/vfio/vfio_main.c and samples/vfio-mdev/mtty.c. What is saved: initial bytes, what changed since, and at last the image.
 */
#include <errno.h>
#include <string.h>

#include "uapi.h"
#include "vfio_model.h"

enum { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P, STATES };

#define BIT(state)     (1u << (state))
#define SAVING         (BIT(STOP_COPY) | BIT(PRE_COPY) | BIT(PRE_COPY_P2P))
#define WITH_DATA      (SAVING | BIT(RESUMING))
#define ONLY_P2P       (BIT(RUNNING_P2P) | BIT(PRE_COPY_P2P))
#define ONLY_PRE       (BIT(PRE_COPY) | BIT(PRE_COPY_P2P))
#define IS(state, set) (((set) >> (state)) & 1u)

/* Where the driver goes from a state in one step, with P2P and without. */
static const uint32_t arcs[STATES][2] = {
	[STOP] = {BIT(RUNNING) | BIT(STOP_COPY) | BIT(RESUMING), BIT(RUNNING_P2P) | BIT(STOP_COPY) | BIT(RESUMING)},
	[RUNNING] = {BIT(STOP) | BIT(PRE_COPY), BIT(RUNNING_P2P) | BIT(PRE_COPY)},
	[STOP_COPY] = {BIT(STOP), BIT(STOP)},
	[RESUMING] = {BIT(STOP), BIT(STOP)},
	[RUNNING_P2P] = {0, BIT(RUNNING) | BIT(STOP) | BIT(PRE_COPY_P2P)},
	[PRE_COPY] = {BIT(RUNNING) | BIT(STOP_COPY), BIT(RUNNING) | BIT(PRE_COPY_P2P)},
	[PRE_COPY_P2P] = {0, BIT(PRE_COPY) | BIT(RUNNING_P2P) | BIT(STOP_COPY)},
};

static bool has_state(const struct fake_migration *migration, uint32_t state)
{
	return state < STATES && state != ERROR && (migration->p2p || !IS(state, ONLY_P2P)) &&
	       (migration->pre_copy || !IS(state, ONLY_PRE));
}

static void append(struct fake_migration *migration, const void *data, int byte, size_t bytes)
{
	if (bytes > FAKE_STREAM_MAX - migration->stream_bytes) {
		fake_report_misuse("a device's stream is longer than the model's %d bytes", FAKE_STREAM_MAX);
		return;
	}
	if (data)
		memcpy(migration->stream + migration->stream_bytes, data, bytes);
	else
		memset(migration->stream + migration->stream_bytes, byte, bytes);
	migration->stream_bytes += bytes;
}

void fake_state_changes(struct fake_device *device, unsigned bytes)
{
	append(&device->migration, NULL, 'd', bytes);
	device->migration.pre_copy_bytes = device->migration.stream_bytes;
}

void model_migration_wait(struct fake_device *device)
{
	if (device->slow)
		device->slow(device->slow_context);
}

static void end_session(struct fake_migration *migration)
{
	migration->session = NULL;
	migration->stream_bytes = migration->stream_at = migration->pre_copy_bytes = 0;
}

void model_migration_reset(struct fake_device *device)
{
	device->migration.state = RUNNING;
	end_session(&device->migration);
}

/* @return the new session's file, or -1 */
static int begin_session(struct fake_device *device)
{
	struct fake_migration *migration = &device->migration;
	end_session(migration);
	if (migration->no_file)
		return -1;
	migration->session = model_files_add(FILE_MIGRATION, model_files_real_fd());
	migration->session->device = device;
	return migration->session->real;
}

/* The image is what the stream ends with. */
static int load(struct fake_migration *migration)
{
	if (migration->stream_bytes < FAKE_IMAGE_BYTES)
		return -EINVAL;
	memcpy(migration->image, migration->stream + migration->stream_bytes - FAKE_IMAGE_BYTES, FAKE_IMAGE_BYTES);
	return 0;
}

static int take_arc(struct fake_device *device, uint32_t to, int32_t *data_fd)
{
	struct fake_migration *migration = &device->migration;
	uint32_t from = migration->state;
	int code = from == RESUMING ? load(migration) : 0;
	if (code < 0)
		return code;
	if (IS(from, WITH_DATA) && !(IS(from, SAVING) && IS(to, SAVING)))
		end_session(migration);
	if (IS(to, WITH_DATA) && !(IS(from, SAVING) && IS(to, SAVING)))
		*data_fd = begin_session(device);
	else if (migration->stray_file && !IS(to, WITH_DATA))
		*data_fd = begin_session(device);
	if (IS(to, ONLY_PRE) && !IS(from, SAVING)) {
		append(migration, NULL, 'i', migration->initial_bytes);
		migration->pre_copy_bytes = migration->stream_bytes;
	}
	if (to == STOP_COPY)
		append(migration, migration->image, 0, FAKE_IMAGE_BYTES);
	migration->state = to;
	fake_journal("%s goes from %u to %u", device->bdf, from, to);
	return 0;
}

static int set_state(struct fake_device *device, struct vfio_device_feature_mig_state *request)
{
	struct fake_migration *migration = &device->migration;
	uint32_t to = request->device_state;
	request->data_fd = -1;
	if (migration->failure.error && migration->failure.into == to) {
		int code = -migration->failure.error;
		migration->failure.error = 0;
		migration->state = migration->failure.in;
		if (!IS(migration->state, WITH_DATA))
			end_session(migration);
		return code;
	}
	if (!has_state(migration, to) || migration->state == ERROR)
		return -EINVAL;
	if (to == migration->state)
		return 0;
	if (!IS(to, arcs[migration->state][migration->p2p])) {
		fake_report_misuse("%s asked to go from %u to %u, which is no arc", device->bdf, migration->state, to);
		return -EINVAL;
	}
	return take_arc(device, to, &request->data_fd);
}

int model_migration_feature(struct fake_device *device, struct vfio_device_feature *request)
{
	struct fake_migration *migration = &device->migration;
	const struct vfio_device_feature_migration flags = {
		.flags = VFIO_MIGRATION_STOP_COPY | (migration->p2p ? (uint32_t)VFIO_MIGRATION_P2P : 0) |
			 (migration->pre_copy ? (uint32_t)VFIO_MIGRATION_PRE_COPY : 0)};
	const struct vfio_device_feature_mig_data_size size = {.stop_copy_length = FAKE_IMAGE_BYTES};
	struct vfio_device_feature_mig_state state;
	bool get = request->flags & VFIO_DEVICE_FEATURE_GET, set = request->flags & VFIO_DEVICE_FEATURE_SET;
	size_t room = request->argsz - sizeof(*request);
	int code = 0;
	if (!migration->present)
		return -ENOTTY;
	switch (request->flags & VFIO_DEVICE_FEATURE_MASK) {
	case VFIO_DEVICE_FEATURE_MIGRATION:
		if (!get || room < sizeof(flags))
			return -EINVAL;
		memcpy(request->data, &flags, sizeof(flags));
		return 0;
	case VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
		model_migration_wait(device);
		if (migration->no_data_size)
			return -ENOTTY;
		if (!get || room < sizeof(size))
			return -EINVAL;
		memcpy(request->data, &size, sizeof(size));
		return 0;
	default:
		if (get == set || room < sizeof(state))
			return -EINVAL;
		memcpy(&state, request->data, sizeof(state));
		if (set)
			code = set_state(device, &state);
		else
			state = (struct vfio_device_feature_mig_state){.device_state = migration->state, .data_fd = -1};
		memcpy(request->data, &state, sizeof(state));
		return code;
	}
}

/* In pieces, as a driver's buffers are. */
ssize_t model_migration_read(struct fake_file *file, void *buffer, size_t size)
{
	model_migration_wait(file->device);
	struct fake_migration *migration = &file->device->migration;
	size_t left = migration->stream_bytes - migration->stream_at, piece = left < 100 ? left : 100;
	if (migration->session != file)
		return -ENODEV;
	if (!IS(migration->state, SAVING))
		return -EINVAL;
	if (migration->late) {
		migration->late--;
		return -EAGAIN;
	}
	if (left == 0)
		return migration->state == STOP_COPY || migration->quiet_end ? 0 : -ENOMSG;
	if (piece > size)
		piece = size;
	memcpy(buffer, migration->stream + migration->stream_at, piece);
	migration->stream_at += piece;
	return (ssize_t)piece;
}

ssize_t model_migration_write(struct fake_file *file, const void *buffer, size_t size)
{
	model_migration_wait(file->device);
	struct fake_migration *migration = &file->device->migration;
	size_t piece = size < 100 ? size : 100;
	if (migration->session != file)
		return -ENODEV;
	if (migration->state != RESUMING)
		return -EINVAL;
	if (migration->late) {
		migration->late--;
		return -EAGAIN;
	}
	if (piece > FAKE_STREAM_MAX - migration->stream_bytes)
		return -ENOMEM;
	append(migration, buffer, 0, piece);
	return (ssize_t)piece;
}

int model_migration_ioctl(struct fake_file *file, void *argument, enum fake_call kind)
{
	struct fake_migration *migration = &file->device->migration;
	struct vfio_precopy_info *info = argument;
	model_migration_wait(file->device);
	if (kind != FAKE_PRECOPY_INFO)
		return -ENOTTY;
	if (info->argsz < sizeof(*info) || !IS(migration->state, ONLY_PRE))
		return -EINVAL;
	if (migration->session != file)
		return -ENODEV;
	size_t initial = migration->initial_bytes, at = migration->stream_at;
	info->initial_bytes = at < initial ? initial - at : 0;
	info->dirty_bytes = migration->pre_copy_bytes - (at < initial ? initial : at);
	return 0;
}

void model_migration_closed(struct fake_file *file)
{
	if (file->device->migration.session == file)
		file->device->migration.session = NULL;
	fake_journal("close data of %s", file->device->bdf);
}

/* uapi/linux/vfio.h: a device that stands keeps answering in config space, but for one whose data moves. */
void model_migration_accessed(const struct fake_device *device, bool config)
{
	uint32_t state = device->migration.state;
	if (IS(state, BIT(STOP_COPY) | BIT(RESUMING)) || (state == STOP && !config))
		fake_report_misuse("%s: a region is accessed in state %u", device->bdf, state);
}

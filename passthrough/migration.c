// SPDX-License-Identifier: MIT
/*
 * A device's way through the migration states, and its data. Owns the state as the library last saw it, and the file descriptor that
 * came with it. Which states follow each other is in migration_states.c; what the transport carries, in transport.h.
 * Source: Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "dirty.h"
#include "kernel.h"
#include "sized.h"

SIZED_WHOLE(struct tenon_migration_info, why);

/* What the first version had: never changed, whatever is appended. */
#define INFO_FIRST_BYTES SIZED_THROUGH(struct tenon_migration_info, why)

static const struct tenon_migration_rule *rule_of(const struct tenon_device *device)
{
	return tenon_migration_rule(device->migration.state);
}

static const char *name_of(enum tenon_migration_state state)
{
	return tenon_migration_rule(state)->name;
}

static void enter(struct tenon_device *device)
{
	pthread_mutex_lock(&device->lock);
	remote_begin(device, REMOTE_RESET_MS);
}

static void leave(struct tenon_device *device)
{
	remote_end(device);
	pthread_mutex_unlock(&device->lock);
}

/*
 * What may take its time while the guest runs. The kernel puts calls on a device in order by itself, and a vCPU at the device need not wait
 * for them; a vfio-user device's messages go over one socket, which its lock is for.
 */
static void enter_remote(struct tenon_device *device)
{
	if (device->transport->remote)
		enter(device);
}

static void leave_remote(struct tenon_device *device)
{
	if (device->transport->remote)
		leave(device);
}

/* ---- Features ---- */

int device_migration_feature(struct tenon_device *device, uint32_t operation, void *data, size_t bytes,
			     struct tenon_error *err)
{
	union {
		struct vfio_device_feature head;
		uint8_t bytes[sizeof(struct vfio_device_feature) + MIGRATION_FEATURE_BYTES];
		uint64_t aligned;
	} request = {.head = {.argsz = (uint32_t)(sizeof(request.head) + bytes), .flags = operation}};
	if (bytes)
		memcpy(request.bytes + sizeof(request.head), data, bytes);
	int code = device->transport->ops->feature(device->transport, &request.head, err);
	if (bytes)
		memcpy(data, request.bytes + sizeof(request.head), bytes);
	return code;
}

/* Once: what a device can does not change. @return 0 also when it cannot be migrated; or why that is not known */
static int ask(struct tenon_device *device, struct tenon_error *err)
{
	struct migration *migration = &device->migration;
	struct vfio_device_feature_migration answer = {0};
	if (migration->asked)
		return 0;
	int code = device_migration_feature(device, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, &answer,
					    sizeof(answer), err);
	if (code < 0 && code != -ENOTTY)
		return code;
	migration->asked = true;
	migration->migratable = answer.flags & VFIO_MIGRATION_STOP_COPY;
	migration->p2p = migration->migratable && answer.flags & VFIO_MIGRATION_P2P;
	migration->pre_copy = migration->migratable && answer.flags & VFIO_MIGRATION_PRE_COPY;
	return 0;
}

int tenon_device_migration_info(struct tenon_device *device, struct tenon_migration_info *out, struct tenon_error *err)
{
	struct tenon_migration_info info = {0};
	struct tenon_error error;
	if (!out || out->size < INFO_FIRST_BYTES)
		return tenon_fail(err, -EINVAL,
				  "%s: no room for what is asked; set .size = sizeof(struct tenon_migration_info)",
				  device->address.name);
	enter(device);
	int code = ask(device, &error);
	info.migratable = device->migration.migratable;
	info.p2p = device->migration.p2p;
	info.pre_copy = device->migration.pre_copy;
	info.dirty = dirty_tracking(device, info.why, sizeof(info.why));
	leave(device);
	if (code < 0)
		snprintf(info.why, sizeof(info.why), "%.*s", (int)sizeof(info.why) - 1, error.message);
	else if (!info.migratable)
		snprintf(info.why, sizeof(info.why),
			 "%s: cannot be migrated: its driver cannot save its state (VFIO_DEVICE_FEATURE_MIGRATION); "
			 "bind it to the VFIO driver of its vendor, or take it out of the VM first",
			 device->address.name);
	sized_fill(out, &info, sizeof(info), INFO_FIRST_BYTES);
	return 0;
}

int tenon_device_migration_size(struct tenon_device *device, uint64_t *bytes, struct tenon_error *err)
{
	struct vfio_device_feature_mig_data_size answer = {0};
	enter_remote(device);
	int code = device_migration_feature(device, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
					    &answer, sizeof(answer), err);
	leave_remote(device);
	if (code == -ENOTTY)
		return tenon_fail(err, -ENOTSUP,
				  "%s: does not say how much data it has to save; estimate the downtime without",
				  device->address.name);
	if (code < 0)
		return code;
	*bytes = answer.stop_copy_length;
	return 0;
}

/* ---- States ---- */

void device_migration_init(struct tenon_device *device)
{
	pthread_mutex_init(&device->migration.data_lock, NULL);
	device->migration.state = TENON_MIGRATION_RUNNING; /* what opening a device makes it */
	device->migration.data_fd = -1;
}

void device_migration_finish(struct tenon_device *device)
{
	if (device->migration.data_fd >= 0)
		kernel_close(device->migration.data_fd);
	device->migration.data_fd = -1;
	pthread_mutex_destroy(&device->migration.data_lock);
}

bool device_migration_is_moving(const struct tenon_device *device)
{
	const struct tenon_migration_rule *rule = rule_of(device);
	return !rule->answers && (rule->saves || rule->loads);
}

enum tenon_migration_state tenon_device_migration_state(struct tenon_device *device)
{
	pthread_mutex_lock(&device->lock);
	enum tenon_migration_state state = device->migration.state;
	pthread_mutex_unlock(&device->lock);
	return state;
}

/*
 * The device is in another state. The states that save share one file; entering them from elsewhere brings a new one, and so does
 * RESUMING.
 *
 * @param data_fd  that came with the state; consumed. -1: none
 */
static void settle(struct tenon_device *device, enum tenon_migration_state state, int data_fd)
{
	struct migration *migration = &device->migration;
	const struct tenon_migration_rule *now = tenon_migration_rule(state);
	pthread_mutex_lock(&migration->data_lock);
	bool goes_on = state == migration->state || (now->saves && rule_of(device)->saves);
	bool keep = goes_on && data_fd < 0;
	if (!keep && migration->data_fd >= 0)
		kernel_close(migration->data_fd);
	if (!keep)
		migration->data_fd = -1;
	if (data_fd >= 0 && (now->saves || now->loads))
		migration->data_fd = data_fd;
	else if (data_fd >= 0)
		kernel_close(data_fd);
	migration->state = state;
	pthread_mutex_unlock(&migration->data_lock);
	if (migration->quiesce_owed && !device_migration_is_moving(device))
		reset_quiesce_hardware(device);
}

void device_migration_was_reset(struct tenon_device *device)
{
	if (device->transport->remote) /* a server that is back may be another version */
		device->migration.asked = false;
	settle(device, TENON_MIGRATION_RUNNING, -1);
}

/* After a step that failed the device may be anywhere on its way. @return whether it says where */
static bool read_back(struct tenon_device *device)
{
	struct vfio_device_feature_mig_state answer = {.data_fd = -1};
	int code = device_migration_feature(device, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
					    &answer, sizeof(answer), NULL);
	/* A state that a later kernel may have is none from which we know a way. */
	bool known = code == 0 && answer.device_state < TENON_MIGRATION_STATES;
	settle(device, known ? (enum tenon_migration_state)answer.device_state : TENON_MIGRATION_ERROR, -1);
	return known;
}

static int fail_step(struct tenon_device *device, enum tenon_migration_state from, enum tenon_migration_state to,
		     int code, struct tenon_error *err)
{
	bool known = read_back(device);
	const char *name = device->address.name;
	if (!known)
		return tenon_fail(err, code, "%s: cannot go from %s to %s: %s; where it is is not known, so reset it",
				  name, name_of(from), name_of(to), strerror(-code));
	if (device->migration.state == TENON_MIGRATION_ERROR)
		return tenon_fail(err, code, "%s: cannot go from %s to %s: %s; it is in ERROR since, so reset it", name,
				  name_of(from), name_of(to), strerror(-code));
	return tenon_fail(err, code, "%s: cannot go from %s to %s: %s; it is in %s since: see the host's kernel log",
			  name, name_of(from), name_of(to), strerror(-code), name_of(device->migration.state));
}

static int step(struct tenon_device *device, enum tenon_migration_state to, struct tenon_error *err)
{
	enum tenon_migration_state from = device->migration.state;
	struct vfio_device_feature_mig_state request = {.device_state = to, .data_fd = -1};
	int code = device_migration_feature(device, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
					    &request, sizeof(request), NULL);
	if (code < 0)
		return fail_step(device, from, to, code, err);
	settle(device, to, device->transport->remote ? -1 : request.data_fd);
	return 0;
}

/* With the device's lock. */
static int set(struct tenon_device *device, enum tenon_migration_state state, struct tenon_error *err)
{
	struct migration *migration = &device->migration;
	int code = ask(device, err);
	if (code < 0)
		return code;
	while (migration->state != state) {
		int next = tenon_migration_next(migration->state, state, migration->p2p, migration->pre_copy);
		if (next < 0 || !migration->migratable)
			return tenon_fail(err, -EINVAL, "%s: there is no way from %s to %s; %s", device->address.name,
					  name_of(migration->state), name_of(state),
					  migration->state == TENON_MIGRATION_ERROR ? "reset it"
					  : migration->migratable                   ? "it may lack P2P or pre-copy"
										    : "it cannot be migrated");
		code = step(device, (enum tenon_migration_state)next, err);
		if (code < 0)
			return code;
	}
	return 0;
}

int tenon_device_migration_set(struct tenon_device *device, enum tenon_migration_state state, struct tenon_error *err)
{
	if (!tenon_migration_rule(state))
		return tenon_fail(err, -EINVAL, "%s: %d is no migration state; see <tenon/migration.h>",
				  device->address.name, (int)state);
	enter(device);
	int code = set(device, state, err);
	leave(device);
	return code;
}

/* ---- Data ---- */

static void data_begin(struct tenon_device *device)
{
	enter_remote(device);
	pthread_mutex_lock(&device->migration.data_lock);
}

static void data_end(struct tenon_device *device)
{
	pthread_mutex_unlock(&device->migration.data_lock);
	leave_remote(device);
}

/* @param may  whether the state has what is asked for */
static int check_data(const struct tenon_device *device, bool may, const char *what, struct tenon_error *err)
{
	const struct migration *migration = &device->migration;
	if (!may)
		return tenon_fail(err, -EINVAL,
				  "%s: cannot %s in %s; go to a state in which it can, if nothing reset it",
				  device->address.name, what, name_of(migration->state));
	if (migration->data_fd < 0 && !device->transport->remote)
		return tenon_fail(err, -EBADF, "%s: cannot %s: no file for it came with %s; go to STOP and try again",
				  device->address.name, what, name_of(migration->state));
	return 0;
}

static bool is_passing(int64_t code)
{
	return code == -EAGAIN || code == -ENOMSG;
}

/* A file that somebody made non-blocking. */
static int wait_for(const struct migration *migration, short events)
{
	struct pollfd poll_fd = {.fd = migration->data_fd, .events = events};
	return kernel_wait(&poll_fd, 1, -1);
}

/* In STOP_COPY the end is where nothing is read, so what is only late must be waited for. */
static int64_t read_data(struct tenon_device *device, void *data, size_t capacity, struct tenon_error *err)
{
	struct migration *migration = &device->migration;
	const struct transport_ops *ops = device->transport->ops;
	int64_t done = ops->migration_read(device->transport, migration->data_fd, data, capacity, err);
	if (is_passing(done) && rule_of(device)->answers)
		return 0;
	while (done == -EAGAIN && migration->data_fd >= 0) {
		int code = wait_for(migration, POLLIN);
		if (code < 0)
			return tenon_fail(err, code, "%s: cannot wait for its migration data: %s; try again",
					  device->address.name, strerror(-code));
		done = ops->migration_read(device->transport, migration->data_fd, data, capacity, err);
	}
	if (is_passing(done))
		return tenon_fail(err, -EPROTO,
				  "%s: says in STOP_COPY that there is no data for now (%s); report this driver",
				  device->address.name, strerror((int)-done));
	return done;
}

int64_t tenon_device_migration_read(struct tenon_device *device, void *data, size_t capacity, struct tenon_error *err)
{
	data_begin(device);
	int64_t done = check_data(device, rule_of(device)->saves, "read its data", err);
	if (done == 0)
		done = read_data(device, data, capacity, err);
	data_end(device);
	return done;
}

static int write_data(struct tenon_device *device, const uint8_t *data, size_t bytes, struct tenon_error *err)
{
	struct migration *migration = &device->migration;
	while (bytes) {
		int64_t done = device->transport->ops->migration_write(device->transport, migration->data_fd, data,
								       bytes, err);
		if (done > 0 && done <= (int64_t)bytes) {
			data += done;
			bytes -= (size_t)done;
			continue;
		}
		if (done < 0 && done != -EAGAIN)
			return (int)done;
		int code = done == -EAGAIN && migration->data_fd >= 0 ? wait_for(migration, POLLOUT) : -EIO;
		if (code < 0)
			return tenon_fail(err, code, "%s: takes no more migration data: %s; reset it",
					  device->address.name, strerror(-code));
	}
	return 0;
}

int tenon_device_migration_write(struct tenon_device *device, const void *data, size_t bytes, struct tenon_error *err)
{
	data_begin(device);
	int code = check_data(device, rule_of(device)->loads, "load its data", err);
	if (code == 0)
		code = write_data(device, data, bytes, err);
	data_end(device);
	return code;
}

int tenon_device_migration_pre_copy(struct tenon_device *device, uint64_t *initial_bytes, uint64_t *dirty_bytes,
				    struct tenon_error *err)
{
	data_begin(device);
	const struct tenon_migration_rule *rule = rule_of(device);
	int code = check_data(device, rule->saves && rule->answers, "tell how much is left", err);
	if (code == 0)
		code = device->transport->ops->migration_pre_copy(device->transport, device->migration.data_fd,
								  initial_bytes, dirty_bytes, err);
	data_end(device);
	return code;
}

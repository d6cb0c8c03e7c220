// SPDX-License-Identifier: MIT
/* libtenon's device as something that a migration moves. */
#include <tenon-migration/migratable.h>

static int info(void *context, struct tenon_migration_info *info, struct tenon_error *err)
{
	return tenon_device_migration_info(context, info, err);
}

static enum tenon_migration_state state(void *context)
{
	return tenon_device_migration_state(context);
}

static int set(void *context, enum tenon_migration_state state, struct tenon_error *err)
{
	return tenon_device_migration_set(context, state, err);
}

static int64_t data_read(void *context, void *data, size_t capacity, struct tenon_error *err)
{
	return tenon_device_migration_read(context, data, capacity, err);
}

static int data_write(void *context, const void *data, size_t bytes, struct tenon_error *err)
{
	return tenon_device_migration_write(context, data, bytes, err);
}

static int pre_copy(void *context, uint64_t *initial_bytes, uint64_t *dirty_bytes, struct tenon_error *err)
{
	return tenon_device_migration_pre_copy(context, initial_bytes, dirty_bytes, err);
}

static int size_bytes(void *context, uint64_t *bytes, struct tenon_error *err)
{
	return tenon_device_migration_size(context, bytes, err);
}

static int save(void *context, void **data, size_t *bytes, struct tenon_error *err)
{
	return tenon_device_state_save(context, data, bytes, err);
}

static int load(void *context, const void *data, size_t bytes, struct tenon_error *err)
{
	return tenon_device_state_load(context, data, bytes, err);
}

const struct tenon_migratable_ops tenon_migratable_device = {
	.size = sizeof(tenon_migratable_device),
	.info = info,
	.state = state,
	.set = set,
	.read = data_read,
	.write = data_write,
	.pre_copy = pre_copy,
	.size_bytes = size_bytes,
	.save = save,
	.load = load,
};

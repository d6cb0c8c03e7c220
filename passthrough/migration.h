/* SPDX-License-Identifier: MIT */
/*
 * A device's migration state and the file that its data goes through.
 *
 * Locks: the device's, then data_lock, which is held while data moves. A driver may keep a reader waiting for its device; a vCPU at the
 * same device, which runs on in PRE_COPY, must not wait with it, so whoever reads a VFIO file's data holds data_lock alone. What both
 * locks guard changes under both.
 */
#ifndef MIGRATION_H
#define MIGRATION_H

#include <pthread.h>
#include <stdbool.h>

#include <tenon/migration.h>

struct migration {
	pthread_mutex_t data_lock;
	/* Both locks; ERROR also when nobody knows it. */
	enum tenon_migration_state state;
	int data_fd; /* the state's data; -1: none */
	/* The device's lock. */
	bool asked, migratable, p2p, pre_copy;
	bool quiesce_owed; /* it could not be quiesced where it was */
};

void device_migration_init(struct tenon_device *device);
void device_migration_finish(struct tenon_device *device);

/** Its data is moving, which an access to its regions, config space included, may corrupt (STOP_COPY, RESUMING). */
bool device_migration_is_moving(const struct tenon_device *device);

/** A reset of any kind has hit it, or its server is another: it is in RUNNING, and its data is gone. With the device's lock. */
void device_migration_was_reset(struct tenon_device *device);

/**
 * VFIO_DEVICE_FEATURE; of a vfio-user device, with its lock held.
 *
 * @param operation  the feature's number, and what to do with it
 * @param data       `bytes` of the feature's struct, in and out; at most MIGRATION_FEATURE_BYTES
 * @return 0; -ENOTTY it has no such feature; or -errno
 */
#define MIGRATION_FEATURE_BYTES 64
int device_migration_feature(struct tenon_device *device, uint32_t operation, void *data, size_t bytes,
			     struct tenon_error *err);

#endif

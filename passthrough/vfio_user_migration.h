/* SPDX-License-Identifier: MIT */
/*
 * A vfio-user device's features, and the data of its migration. These calls are made by whoever migrates, not by a guest, and have a
 * time of their own: a change of state may take a device seconds. What the server answers is checked, as all that it says.
 *
 * The protocol knows no struct vfio_precopy_info. What is left before the device should stop is told from the server's
 * VU_FEATURE_STATE_BYTES, if it has that, and from how its reads end.
 */
#ifndef VFIO_USER_MIGRATION_H
#define VFIO_USER_MIGRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tenon/error.h>

#include "uapi.h"

#define VU_MIGRATION_TIMEOUT_MS 10000u /* for each message */

struct vu_socket;

/* One device's. */
struct vu_migration_peer {
	struct vu_socket *socket; /* borrowed, as is the name */
	const char *name;
	bool caught_up;      /* of this session: a read has brought all that there was */
	bool base_known;     /* what was left to read at that time is: */
	uint64_t base_bytes; /* of which most can be read in STOP_COPY only */
};

/* Each as the operation of struct transport_ops of that name. */
int vu_migration_feature(struct vu_migration_peer *peer, struct vfio_device_feature *argument, struct tenon_error *err);
int64_t vu_migration_read(struct vu_migration_peer *peer, void *data, size_t capacity, struct tenon_error *err);
int64_t vu_migration_write(struct vu_migration_peer *peer, const void *data, size_t bytes, struct tenon_error *err);
int vu_migration_pre_copy(struct vu_migration_peer *peer, uint64_t *initial, uint64_t *dirty, struct tenon_error *err);

#endif

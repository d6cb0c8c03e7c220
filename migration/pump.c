// SPDX-License-Identifier: MIT
/* A ring of pieces between a thread that reads a device and whoever sends them. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_calls.h"
#include "pump.h"

#define PIECES      4u
#define PIECE_BYTES (256u << 10)

struct pump {
	const struct tenon_migratable *device;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows; pieces between `taken` and `filled` are the taker's */
	pthread_cond_t changed;
	unsigned filled, taken; /* pieces so far */
	bool held;              /* the taker has the one at `taken` in use */
	bool end, stop;
	int64_t code; /* < 0: why it ended */
	struct tenon_error error;
	size_t bytes[PIECES];
	uint8_t data[PIECES][PIECE_BYTES];
};

static bool wait_for_room(struct pump *pump)
{
	pthread_mutex_lock(&pump->lock);
	while (!pump->stop && pump->filled - pump->taken == PIECES)
		pthread_cond_wait(&pump->changed, &pump->lock);
	bool stop = pump->stop;
	pthread_mutex_unlock(&pump->lock);
	return !stop;
}

static void *run(void *argument)
{
	struct pump *pump = argument;
	int64_t got = 1;
	while (got > 0 && wait_for_room(pump)) {
		unsigned at = pump->filled % PIECES;
		got = pump->device->ops->read(pump->device->context, pump->data[at], PIECE_BYTES, &pump->error);
		pthread_mutex_lock(&pump->lock);
		if (got > 0) {
			pump->bytes[at] = (size_t)got;
			pump->filled++;
		} else {
			pump->end = true;
			pump->code = got;
		}
		pthread_cond_broadcast(&pump->changed);
		pthread_mutex_unlock(&pump->lock);
	}
	return NULL;
}

int pump_create(const struct tenon_migratable *device, struct pump **out, struct tenon_error *err)
{
	struct pump *pump = calloc(1, sizeof(*pump));
	if (!pump)
		return tenon_fail(err, -ENOMEM, "%s: out of memory for its data; free some", device->name);
	pump->device = device;
	pthread_mutex_init(&pump->lock, NULL);
	pthread_cond_init(&pump->changed, NULL);
	int code = mcall_thread_start("migrate-device", run, pump, &pump->thread);
	if (code < 0) {
		free(pump);
		return tenon_fail(err, code, "%s: cannot start a thread: %s; raise the limit of processes (ulimit -u)",
				  device->name, strerror(-code));
	}
	*out = pump;
	return 0;
}

void pump_destroy(struct pump *pump)
{
	if (!pump)
		return;
	pthread_mutex_lock(&pump->lock);
	pump->stop = true;
	pthread_cond_broadcast(&pump->changed);
	pthread_mutex_unlock(&pump->lock);
	pthread_join(pump->thread, NULL);
	pthread_mutex_destroy(&pump->lock);
	pthread_cond_destroy(&pump->changed);
	free(pump);
}

int64_t pump_take(struct pump *pump, const void **data, struct tenon_error *err)
{
	pthread_mutex_lock(&pump->lock);
	if (pump->held) {
		pump->held = false;
		pump->taken++;
		pthread_cond_broadcast(&pump->changed);
	}
	while (pump->taken == pump->filled && !pump->end)
		pthread_cond_wait(&pump->changed, &pump->lock);
	int64_t got = pump->code;
	if (pump->taken != pump->filled) {
		unsigned at = pump->taken % PIECES;
		pump->held = true;
		*data = pump->data[at];
		got = (int64_t)pump->bytes[at];
	} else if (got < 0 && err) {
		*err = pump->error;
	}
	pthread_mutex_unlock(&pump->lock);
	return got;
}

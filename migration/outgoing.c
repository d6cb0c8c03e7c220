// SPDX-License-Identifier: MIT
/*
 * The source's side of a migration as a whole: the order of its steps, and the way back from each. Until the commit point every failure
 * ends with the machine running here as if nothing had been.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "clock.h"
#include "outgoing.h"

#define DOWNTIME_LIMIT_NS 100000000u
#define ROUNDS            50u

static int check_options(const struct tenon_outgoing_options *options, struct tenon_error *err)
{
	if (!options || options->size < sizeof(*options) || !options->address)
		return tenon_fail(err, -EINVAL, "migration: bad options: they need a size and an address");
	if (options->connections > RAM_LANES_MAX)
		return tenon_fail(err, -EINVAL, "migration: %u connections; give 1 to %u", options->connections,
				  RAM_LANES_MAX);
	return 0;
}

int tenon_outgoing_create(const struct tenon_migration_machine *machine, const struct tenon_outgoing_options *options,
			  struct tenon_outgoing **out, struct tenon_error *err)
{
	int code = check_options(options, err);
	if (code < 0)
		return code;
	struct tenon_outgoing *outgoing = calloc(1, sizeof(*outgoing));
	if (!outgoing)
		return tenon_fail(err, -ENOMEM, "migration: out of memory; free some");
	outgoing->machine = machine;
	outgoing->options = *options;
	outgoing->options.channel = channel_options_inside(&options->channel);
	outgoing->file = tenon_channel_is_file(options->address);
	if (!outgoing->options.downtime_limit_ns)
		outgoing->options.downtime_limit_ns = DOWNTIME_LIMIT_NS;
	if (!outgoing->options.rounds)
		outgoing->options.rounds = ROUNDS;
	outgoing->lane_count = options->connections && !outgoing->file ? options->connections : 1;
	outgoing->phase = COMMIT_SOURCE_MOVING;
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&outgoing->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutex_init(&outgoing->lock, NULL);
	outgoing->buffer = malloc(SECTION_BYTES_MAX);
	if (!outgoing->buffer) {
		tenon_outgoing_destroy(outgoing);
		return tenon_fail(err, -ENOMEM, "migration: out of memory; free some");
	}
	*out = outgoing;
	return 0;
}

void tenon_outgoing_destroy(struct tenon_outgoing *outgoing)
{
	if (!outgoing)
		return;
	outgoing_disconnect(outgoing);
	ram_sender_destroy(outgoing->ram);
	guardian_destroy(outgoing->guardian);
	pthread_mutex_destroy(&outgoing->lock);
	pthread_cond_destroy(&outgoing->changed);
	free(outgoing->buffer);
	free(outgoing);
}

int tenon_outgoing_cancel(struct tenon_outgoing *outgoing)
{
	pthread_mutex_lock(&outgoing->lock);
	int code = outgoing->committed ? -EALREADY : 0;
	if (code == 0) {
		outgoing->cancelled = true;
		for (unsigned i = 0; i < outgoing->lane_count; i++)
			if (outgoing->channels[i])
				tenon_channel_end(outgoing->channels[i]);
	}
	pthread_mutex_unlock(&outgoing->lock);
	return code;
}

static int check_devices(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	int code = devices_init(&outgoing->devices, outgoing->machine, err);
	return code < 0 ? code : devices_check(&outgoing->devices, outgoing->options.assume_all_dirty, err);
}

static int start_logging(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	const struct tenon_migration_machine *machine = outgoing->machine;
	int code = ram_sender_create(machine->ram, machine->ram_count, outgoing->lanes, outgoing->lane_count,
				     outgoing->options.bytes_per_second, &outgoing->ram, err);
	if (code == 0 && outgoing->options.compress)
		ram_sender_compress(outgoing->ram);
	if (code == 0)
		code = machine->ops->dirty_log(machine->context, true, err);
	outgoing->logging = code == 0;
	return code;
}

static int move(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	outgoing_phase(outgoing, TENON_MIGRATION_PHASE_SETUP);
	int code = check_devices(outgoing, err);
	if (code == 0)
		code = outgoing_connect(outgoing, err);
	if (code == 0)
		code = start_logging(outgoing, err);
	if (code == 0) {
		outgoing_phase(outgoing, TENON_MIGRATION_PHASE_PRE_COPY);
		code = devices_pre_copy(&outgoing->devices, err);
	}
	if (code == 0)
		code = outgoing_rounds(outgoing, err);
	return code < 0 ? code : outgoing_stop(outgoing, err);
}

/* The devices first: the guest must not find them standing. What fails here costs that device, not the guest. */
static void run_on(struct tenon_outgoing *outgoing, struct tenon_error *trouble)
{
	const struct tenon_migration_machine *machine = outgoing->machine;
	devices_start(&outgoing->devices, true, trouble);
	if (outgoing->paused)
		machine->ops->resume(machine->context);
	outgoing->paused = false;
	if (outgoing->logging)
		machine->ops->dirty_log(machine->context, false, NULL);
	outgoing->logging = false;
}

static bool was_cancelled(struct tenon_outgoing *outgoing)
{
	pthread_mutex_lock(&outgoing->lock);
	bool cancelled = outgoing->cancelled;
	pthread_mutex_unlock(&outgoing->lock);
	return cancelled;
}

/* The guest first: it stands, and what there is to say and to hear can wait. */
static enum tenon_outgoing_end resumed(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	struct tenon_error trouble = {0};
	bool cancelled = was_cancelled(outgoing);
	if (cancelled)
		tenon_fail(err, -ECANCELED, "migration: cancelled; the guest runs on here");
	bool tell = outgoing_abort(outgoing, err);
	run_on(outgoing, &trouble);
	if (!cancelled)
		outgoing_ask_why(outgoing, err);
	if (tell)
		stream_write_text(outgoing->lanes[0], SECTION_ABORT, err->message, NULL);
	if (trouble.code) {
		struct tenon_error before = *err;
		tenon_fail(err, before.code, "%.240s; and then: %.240s", before.message, trouble.message);
	}
	outgoing_phase(outgoing, TENON_MIGRATION_PHASE_FAILED);
	return TENON_OUTGOING_RESUMED;
}

/* The guest does not wait for the disk. */
static enum tenon_outgoing_end saved(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	struct tenon_error trouble = {0};
	if (!outgoing->options.stay_stopped)
		run_on(outgoing, &trouble);
	if (tenon_channel_commit_file(outgoing->channels[0], err) < 0)
		return resumed(outgoing, err);
	if (trouble.code) {
		*err = trouble;
		outgoing_phase(outgoing, TENON_MIGRATION_PHASE_FAILED);
		return TENON_OUTGOING_RESUMED;
	}
	outgoing_phase(outgoing, TENON_MIGRATION_PHASE_DONE);
	return TENON_OUTGOING_SAVED;
}

enum tenon_outgoing_end tenon_outgoing_run(struct tenon_outgoing *outgoing, struct tenon_error *err)
{
	struct tenon_error ignored;
	if (!err)
		err = &ignored;
	outgoing->started_ns = clock_now_ns();
	if (move(outgoing, err) < 0)
		return resumed(outgoing, err);
	if (outgoing->file)
		return saved(outgoing, err);
	outgoing_phase(outgoing, TENON_MIGRATION_PHASE_COMMIT);
	enum tenon_outgoing_end end = outgoing_commit(outgoing, err);
	if (end == TENON_OUTGOING_RESUMED)
		return resumed(outgoing, err);
	if (end == TENON_OUTGOING_MOVED)
		outgoing_phase(outgoing, TENON_MIGRATION_PHASE_DONE);
	return end;
}

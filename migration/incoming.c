// SPDX-License-Identifier: MIT
/* The destination's side of a migration as a whole. What fails before the machine was promised to run here leaves nothing behind. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "channel.h"
#include "clock.h"
#include "incoming.h"
#include "kernel_calls.h"
#include "listener.h"

#define REPORT_NS 100000000u

int tenon_incoming_create(const struct tenon_migration_machine *machine, const struct tenon_incoming_options *options,
			  struct tenon_incoming **out, struct tenon_error *err)
{
	if (!options || options->size < sizeof(*options) || !options->address)
		return tenon_fail(err, -EINVAL, "migration: bad options: they need a size and an address");
	struct tenon_incoming *incoming = calloc(1, sizeof(*incoming));
	if (!incoming)
		return tenon_fail(err, -ENOMEM, "migration: out of memory; free some");
	incoming->machine = machine;
	incoming->options = *options;
	incoming->options.channel = channel_options_inside(&options->channel);
	incoming->file = tenon_channel_is_file(options->address);
	incoming->phase = COMMIT_DESTINATION_LOADING;
	for (unsigned i = 0; i < RAM_LANES_MAX; i++)
		incoming->lanes[i] = (struct incoming_lane){.incoming = incoming, .number = i};
	pthread_mutex_init(&incoming->lock, NULL);
	incoming->wake = mcall_eventfd();
	int code = incoming->wake < 0 ? incoming->wake : devices_init(&incoming->devices, machine, err);
	if (incoming->wake < 0)
		tenon_fail(err, code,
			   "migration: cannot make an eventfd: %s; raise the limit of open files (ulimit -n)",
			   strerror(-code));
	if (code == 0 && !incoming->file)
		code = tenon_listener_open(options->address, &incoming->options.channel, &incoming->listener, err);
	if (code < 0) {
		tenon_incoming_destroy(incoming);
		return code;
	}
	if (incoming->listener && options->listening)
		options->listening(options->listening_context, tenon_listener_address(incoming->listener));
	*out = incoming;
	return 0;
}

void tenon_incoming_destroy(struct tenon_incoming *incoming)
{
	if (!incoming)
		return;
	for (unsigned i = 0; i < RAM_LANES_MAX; i++) {
		stream_reader_finish(&incoming->lanes[i].reader);
		tenon_channel_close(incoming->lanes[i].channel);
	}
	resolve_visitor_finish(&incoming->visitor);
	if (incoming->phase == COMMIT_DESTINATION_FAILED && incoming->guardian)
		listener_leave_path(incoming->listener); /* where the source may still come and ask the guardian */
	tenon_listener_close(incoming->listener);
	if (incoming->wake >= 0)
		close(incoming->wake);
	ram_receiver_destroy(incoming->ram);
	guardian_destroy(incoming->guardian);
	pthread_mutex_destroy(&incoming->lock);
	part_finish(&incoming->part);
	free(incoming);
}

bool incoming_cancelled(struct tenon_incoming *incoming)
{
	pthread_mutex_lock(&incoming->lock);
	bool cancelled = incoming->cancelled;
	pthread_mutex_unlock(&incoming->lock);
	return cancelled;
}

int tenon_incoming_cancel(struct tenon_incoming *incoming)
{
	pthread_mutex_lock(&incoming->lock);
	int code = incoming->promised ? -EALREADY : 0;
	if (code == 0) {
		incoming->cancelled = true;
		if (incoming->listener)
			tenon_listener_end(incoming->listener);
		for (unsigned i = 0; i < RAM_LANES_MAX; i++)
			if (incoming->lanes[i].channel)
				tenon_channel_end(incoming->lanes[i].channel);
	}
	pthread_mutex_unlock(&incoming->lock);
	return code;
}

void tenon_incoming_leave(struct tenon_incoming *incoming)
{
	if (tenon_incoming_cancel(incoming) == 0)
		return;
	pthread_mutex_lock(&incoming->lock);
	incoming->leave = true;
	pthread_mutex_unlock(&incoming->lock);
	eventfd_write(incoming->wake, 1);
}

void incoming_report(struct tenon_incoming *incoming, bool now)
{
	uint64_t time_ns = clock_now_ns();
	if (!incoming->options.progress || (!now && time_ns - incoming->reported_ns < REPORT_NS))
		return;
	struct tenon_migration_progress *progress = &incoming->progress;
	struct ram_sender_counts counts = {0};
	incoming->reported_ns = time_ns;
	if (incoming->ram)
		ram_receiver_counts(incoming->ram, &counts);
	progress->size = sizeof(*progress);
	progress->ram_bytes = 0;
	for (unsigned i = 0; i < incoming->machine->ram_count; i++)
		progress->ram_bytes += incoming->machine->ram[i].size_bytes;
	progress->elapsed_ns = incoming->started_ns ? time_ns - incoming->started_ns : 0;
	progress->pages = counts.pages;
	progress->zero_pages = counts.zero_pages;
	progress->sent_bytes = counts.bytes;
	incoming->options.progress(incoming->options.progress_context, progress);
}

static int run(struct tenon_incoming *incoming, struct tenon_error *err)
{
	int code = incoming_accept(incoming, err);
	if (code < 0)
		return code;
	incoming->started_ns = clock_now_ns();
	incoming->progress.phase = TENON_MIGRATION_PHASE_PRE_COPY;
	incoming_report(incoming, true);
	code = incoming_load(incoming, err);
	if (code < 0) {
		incoming_say_failed(incoming, err);
		return code;
	}
	incoming->progress.phase = TENON_MIGRATION_PHASE_COMMIT;
	return incoming->file ? incoming_start(incoming, err) : incoming_commit(incoming, err);
}

int tenon_incoming_run(struct tenon_incoming *incoming, struct tenon_error *err)
{
	struct tenon_error error = {0};
	int code = run(incoming, &error);
	if (code < 0 && incoming_cancelled(incoming))
		code = tenon_fail(&error, -ECANCELED, "migration: cancelled at the destination");
	if (code < 0 && err)
		*err = error;
	incoming->progress.phase = code < 0 ? TENON_MIGRATION_PHASE_FAILED : TENON_MIGRATION_PHASE_DONE;
	incoming_report(incoming, true);
	return code;
}

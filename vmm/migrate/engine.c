// SPDX-License-Identifier: MIT
/*
 * The machine's migrations, each on a thread of its own, which has the machine's topology for as long as it lasts. What it says of itself is
 * kept for whoever asks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine.h"
#include "log.h"
#include "offer.h"
#include "quiet.h"
#include "thread.h"

struct engine {
	struct machine *machine;
	struct hotplug *hotplug;
	pthread_mutex_t lock; /* of all below */
	pthread_t thread;
	bool has_thread; /* to be joined */
	/* Of the guest's arrival: goes on for as long as its source may ask who runs, which may be longer than the guest stays. */
	pthread_t arrival;
	bool has_arrival;
	bool told;        /* the outcome was asked for since it is over */
	bool cancelled;   /* perhaps before there was anything to cancel */
	bool guest_first; /* the migration's thread gave it up for what the guest wanted */
	struct engine_request request;
	struct tenon_outgoing *outgoing;
	struct tenon_incoming *incoming;
	struct tenon_migration_progress progress;
	struct engine_outcome outcome;
	int event; /* eventfd */
};

static const char *const guardian_command[] = {"/proc/self/exe", "migration-guardian", NULL};

int engine_create(struct machine *machine, struct hotplug *hotplug, struct engine **out, struct tenon_error *err)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	if (!engine)
		return tenon_fail(err, -ENOMEM, "migration: out of memory; free some");
	engine->machine = machine;
	engine->hotplug = hotplug;
	engine->told = true;
	pthread_mutex_init(&engine->lock, NULL);
	engine->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (engine->event < 0) {
		int code = -errno;
		engine_destroy(engine);
		return tenon_fail(err, code,
				  "migration: cannot make an eventfd: %s; raise the limit of open files (ulimit -n)",
				  strerror(-code));
	}
	*out = engine;
	return 0;
}

int engine_fd(const struct engine *engine)
{
	return engine->event;
}

/* ---- What the thread says ---- */

static void keep_progress(void *context, const struct tenon_migration_progress *progress)
{
	struct engine *engine = context;
	pthread_mutex_lock(&engine->lock);
	engine->progress = *progress;
	if (engine->outcome.state == ENGINE_BLOCKED && progress->phase != TENON_MIGRATION_PHASE_RESOLVE)
		engine->outcome.state = ENGINE_RUNNING;
	pthread_mutex_unlock(&engine->lock);
	eventfd_write(engine->event, 1);
}

/* What the guest itself wants does not wait for the end of pre-copy. */
static void watch_guest(void *context, const struct tenon_migration_progress *progress)
{
	struct engine *engine = context;
	bool runs = progress->phase == TENON_MIGRATION_PHASE_PRE_COPY;
	if (runs && (machine_wants_reset(engine->machine) || atomic_load(&engine->machine->stop) != MACHINE_RUNNING)) {
		engine->guest_first = true;
		tenon_outgoing_cancel(engine->outgoing);
	}
	keep_progress(context, progress);
}

static void blocked(void *context, const char *message)
{
	struct engine *engine = context;
	pthread_mutex_lock(&engine->lock);
	engine->outcome.state = ENGINE_BLOCKED;
	tenon_fail(&engine->outcome.error, -EUNATCH, "%s", message);
	pthread_mutex_unlock(&engine->lock);
	log_warning("%s", message);
	eventfd_write(engine->event, 1);
}

static void listening(void *context, const char *address)
{
	log_info("migration: waiting for a source at %s", address);
}

static void over(struct engine *engine, enum tenon_outgoing_end end, const struct tenon_error *error)
{
	pthread_mutex_lock(&engine->lock);
	engine->outcome.state = ENGINE_OVER;
	engine->outcome.end = end;
	engine->outcome.error = *error;
	engine->told = false;
	pthread_mutex_unlock(&engine->lock);
	eventfd_write(engine->event, 1);
}

/* ---- Outgoing ---- */

static struct tenon_channel_options channel_options(const struct engine *engine, const struct engine_tls *tls,
						    bool insecure)
{
	const struct run_options *options = engine->machine->options;
	bool own = insecure || tls->ca || tls->psk;
	const struct engine_tls *which = own ? tls : &options->tls;
	return (struct tenon_channel_options){
		.size = sizeof(struct tenon_channel_options),
		.insecure = own ? insecure : options->migration_insecure,
		.tls_ca = which->ca,
		.tls_cert = which->cert,
		.tls_key = which->key,
		.tls_psk_file = which->psk,
		.tls_peer_name = which->peer,
	};
}

static int create_outgoing(struct engine *engine, struct offer *offer, struct tenon_error *err)
{
	const struct engine_request *request = &engine->request;
	const struct tenon_outgoing_options options = {
		.size = sizeof(options),
		.address = request->address,
		.channel = channel_options(engine, &request->tls, request->insecure),
		.downtime_limit_ns = request->downtime_limit_ns,
		.bytes_per_second = request->bytes_per_second,
		.connections = request->connections,
		.rounds = request->rounds,
		.assume_all_dirty = request->assume_all_dirty,
		.force = request->force,
		.stay_stopped = request->stay_stopped,
		.compress = request->compress,
		.progress = watch_guest,
		.progress_context = engine,
		.guardian_command = guardian_command,
		.blocked = blocked,
		.blocked_context = engine,
	};
	struct tenon_outgoing *outgoing = NULL;
	int code = tenon_outgoing_create(&offer->what, &options, &outgoing, err);
	pthread_mutex_lock(&engine->lock);
	engine->outgoing = outgoing;
	if (outgoing && engine->cancelled)
		tenon_outgoing_cancel(outgoing);
	pthread_mutex_unlock(&engine->lock);
	return code;
}

static void forget_outgoing(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	struct tenon_outgoing *outgoing = engine->outgoing;
	engine->outgoing = NULL;
	pthread_mutex_unlock(&engine->lock);
	tenon_outgoing_destroy(outgoing);
}

static void *run_outgoing(void *argument)
{
	struct engine *engine = argument;
	struct machine *machine = engine->machine;
	struct tenon_error error = {0};
	struct offer offer;
	enum tenon_outgoing_end end = TENON_OUTGOING_RESUMED;

	engine->guest_first = false;
	machine_lock_topology(machine);
	int code = offer_init(&offer, machine, engine->hotplug, &error);
	if (code == 0)
		code = create_outgoing(engine, &offer, &error);
	if (code == 0)
		end = tenon_outgoing_run(engine->outgoing, &error);
	forget_outgoing(engine);
	offer_finish(&offer);
	if (end == TENON_OUTGOING_LEFT)
		tenon_fail(&error, -ECANCELED,
			   "migration: this VM ends while it is open who runs the guest: what it leaves behind tells "
			   "the destination");
	else if (end != TENON_OUTGOING_RESUMED)
		error.code = 0;
	else if (engine->guest_first)
		tenon_fail(&error, -ECANCELED,
			   "migration: the guest reset a bus, or itself, or ended; migrate it again if it runs");
	if (end == TENON_OUTGOING_MOVED || (end == TENON_OUTGOING_SAVED && engine->request.stay_stopped))
		machine_request_stop(machine, MACHINE_MOVED, 0, NULL);
	if (end == TENON_OUTGOING_MOVED)
		log_info("migration: the guest runs at %s", engine->request.address);
	else if (end == TENON_OUTGOING_SAVED)
		log_info("migration: the guest is saved in %s", engine->request.address);
	machine_unlock_topology(machine);
	over(engine, end, &error);
	return NULL;
}

/* ---- Incoming ---- */

static int create_incoming(struct engine *engine, struct offer *offer, struct tenon_error *err)
{
	const struct run_options *run = engine->machine->options;
	const struct tenon_incoming_options options = {
		.size = sizeof(options),
		.address = run->incoming,
		.channel = channel_options(engine, &run->tls, run->migration_insecure),
		.progress = keep_progress,
		.progress_context = engine,
		.listening = listening,
		.listening_context = engine,
		.guardian_command = guardian_command,
		.blocked = blocked,
		.blocked_context = engine,
	};
	struct tenon_incoming *incoming = NULL;
	int code = tenon_incoming_create(&offer->what, &options, &incoming, err);
	pthread_mutex_lock(&engine->lock);
	engine->incoming = incoming;
	if (incoming && engine->cancelled)
		tenon_incoming_cancel(incoming);
	pthread_mutex_unlock(&engine->lock);
	return code;
}

static void *run_incoming(void *argument)
{
	struct engine *engine = argument;
	struct machine *machine = engine->machine;
	struct tenon_error error = {0};
	struct offer offer;
	uint64_t started = log_now_ns();

	machine_lock_topology(machine);
	int code = offer_init(&offer, machine, engine->hotplug, &error);
	if (code == 0)
		code = create_incoming(engine, &offer, &error);
	if (code == 0)
		code = tenon_incoming_run(engine->incoming, &error);
	machine_unlock_topology(machine);
	hotplug_wake(engine->hotplug);
	if (code < 0) {
		machine_request_stop(machine, MACHINE_FAILED, 0, error.message);
	} else {
		error.code = 0;
		log_step(log_now_ns() - started, "migration: the guest runs here");
	}
	over(engine, TENON_OUTGOING_MOVED, &error);
	if (code == 0)
		tenon_incoming_settle(engine->incoming);

	pthread_mutex_lock(&engine->lock);
	struct tenon_incoming *incoming = engine->incoming;
	engine->incoming = NULL;
	pthread_mutex_unlock(&engine->lock);
	tenon_incoming_destroy(incoming);
	offer_finish(&offer);
	return NULL;
}

/* ---- What users do ---- */

static int begin(struct engine *engine, bool incoming, struct tenon_error *err)
{
	pthread_mutex_lock(&engine->lock);
	engine->outcome = (struct engine_outcome){.state = ENGINE_RUNNING, .incoming = incoming};
	engine->cancelled = false;
	engine->progress = (struct tenon_migration_progress){0};
	pthread_mutex_unlock(&engine->lock);
	int code = incoming ? thread_start(&engine->arrival, 0, run_incoming, engine)
			    : thread_start(&engine->thread, 0, run_outgoing, engine);
	if (code < 0) {
		engine->outcome.state = ENGINE_IDLE;
		return tenon_fail(err, code,
				  "migration: cannot start its thread: %s; raise the limit of processes (ulimit -u)",
				  strerror(-code));
	}
	engine->has_thread = engine->has_thread || !incoming;
	engine->has_arrival = engine->has_arrival || incoming;
	return 0;
}

int engine_incoming(struct engine *engine, struct tenon_error *err)
{
	return begin(engine, true, err);
}

int engine_migrate(struct engine *engine, struct engine_request *request, struct tenon_error *err)
{
	pthread_mutex_lock(&engine->lock);
	bool busy = !engine->told || engine->outcome.state == ENGINE_RUNNING || engine->outcome.state == ENGINE_BLOCKED;
	pthread_mutex_unlock(&engine->lock);
	if (busy) {
		engine_request_finish(request);
		return tenon_fail(err, -EBUSY, "migration: one is under way; wait for it, or cancel it");
	}
	if (engine->has_thread)
		pthread_join(engine->thread, NULL);
	engine->has_thread = false;
	engine_request_finish(&engine->request);
	engine->request = *request;
	*request = (struct engine_request){0};
	return begin(engine, false, err);
}

int engine_cancel(struct engine *engine, struct tenon_error *err)
{
	int code = -ENOENT;
	pthread_mutex_lock(&engine->lock);
	if (engine->outgoing)
		code = tenon_outgoing_cancel(engine->outgoing);
	else if (engine->incoming)
		code = tenon_incoming_cancel(engine->incoming);
	else if (engine->outcome.state == ENGINE_RUNNING)
		code = 0;
	engine->cancelled = engine->cancelled || code == 0;
	pthread_mutex_unlock(&engine->lock);
	if (code == -EALREADY)
		return tenon_fail(err, code, "migration: the commit point is passed; wait for its end");
	return code < 0 ? tenon_fail(err, code, "migration: none is under way") : 0;
}

int engine_check(struct engine *engine, bool assume_all_dirty, struct tenon_migration_check *check,
		 struct tenon_error *err)
{
	struct offer offer;
	if (!machine_try_topology(engine->machine))
		return tenon_fail(err, -EBUSY, "migration: devices come or go, or one is under way; ask again");
	int code = offer_init(&offer, engine->machine, engine->hotplug, err);
	if (code == 0)
		code = tenon_migration_check(&offer.what, assume_all_dirty, check, err);
	offer_finish(&offer);
	machine_unlock_topology(engine->machine);
	return code;
}

void engine_status(struct engine *engine, struct tenon_migration_progress *progress, struct engine_outcome *outcome)
{
	pthread_mutex_lock(&engine->lock);
	*progress = engine->progress;
	*outcome = engine->outcome;
	if (outcome->state == ENGINE_OVER)
		engine->told = true;
	pthread_mutex_unlock(&engine->lock);
}

int engine_resolve(struct engine *engine, bool run, struct tenon_error *err)
{
	int code = -ENOENT;
	pthread_mutex_lock(&engine->lock);
	if (engine->outgoing)
		code = tenon_outgoing_resolve(engine->outgoing, run);
	else if (engine->incoming)
		code = tenon_incoming_resolve(engine->incoming, run);
	pthread_mutex_unlock(&engine->lock);
	return code < 0 ? tenon_fail(err, code, "migration: nothing waits for a decision") : 0;
}

void engine_stop(struct engine *engine)
{
	if (!engine)
		return;
	/* Past the commit point nobody waits here for the other side: the guardian speaks for this one. */
	pthread_mutex_lock(&engine->lock);
	engine->cancelled = true;
	if (engine->outgoing && tenon_outgoing_cancel(engine->outgoing) < 0)
		tenon_outgoing_leave(engine->outgoing);
	if (engine->incoming)
		tenon_incoming_leave(engine->incoming);
	pthread_mutex_unlock(&engine->lock);
	if (engine->has_thread)
		pthread_join(engine->thread, NULL);
	if (engine->has_arrival)
		pthread_join(engine->arrival, NULL);
	engine->has_thread = engine->has_arrival = false;
}

void engine_destroy(struct engine *engine)
{
	if (!engine)
		return;
	engine_stop(engine);
	engine_request_finish(&engine->request);
	if (engine->event >= 0)
		close(engine->event);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

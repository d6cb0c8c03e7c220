/* SPDX-License-Identifier: MIT */
/*
 * An engine that migrates nothing: the test says how far it is, and it says what it was asked. It takes the place of vmm/migrate/engine.c
 * in the one program that includes this.
 */
#ifndef VMM_ENGINE_FAKE_H
#define VMM_ENGINE_FAKE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "migrate/engine.h"

struct engine {
	pthread_mutex_t lock;
	int fd;
	bool untold; /* it is over, and nobody asked since */
	struct tenon_migration_progress progress;
	struct engine_outcome outcome;
	struct tenon_migration_check check;
	struct engine_request request; /* the last one */
	bool chosen, chose_run, check_assumed;
	unsigned cancels;
};

static inline struct engine *fake_engine_create(void)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	cr_assert(engine);
	pthread_mutex_init(&engine->lock, NULL);
	engine->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cr_assert_geq(engine->fd, 0);
	return engine;
}

static inline void fake_engine_destroy(struct engine *engine)
{
	engine_request_finish(&engine->request);
	pthread_mutex_destroy(&engine->lock);
	close(engine->fd);
	free(engine);
}

int engine_migrate(struct engine *engine, struct engine_request *request, struct tenon_error *err)
{
	int code = 0;
	pthread_mutex_lock(&engine->lock);
	if (engine->untold || engine->outcome.state == ENGINE_RUNNING || engine->outcome.state == ENGINE_BLOCKED)
		code = tenon_fail(err, -EBUSY, "migration: one is under way; wait for it, or cancel it");
	if (code < 0) {
		engine_request_finish(request);
	} else {
		engine_request_finish(&engine->request);
		engine->request = *request;
		*request = (struct engine_request){0};
		engine->progress = (struct tenon_migration_progress){.size = sizeof(engine->progress)};
		engine->outcome = (struct engine_outcome){.state = ENGINE_RUNNING};
	}
	pthread_mutex_unlock(&engine->lock);
	return code;
}

int engine_cancel(struct engine *engine, struct tenon_error *err)
{
	pthread_mutex_lock(&engine->lock);
	bool running = engine->outcome.state == ENGINE_RUNNING;
	engine->cancels += running;
	pthread_mutex_unlock(&engine->lock);
	return running ? 0 : tenon_fail(err, -ENOENT, "migration: none is under way; there is nothing to cancel");
}

int engine_check(struct engine *engine, bool assume_all_dirty, struct tenon_migration_check *check,
		 struct tenon_error *err)
{
	cr_assert(check->size == sizeof(*check) && !err->code);
	engine->check_assumed = assume_all_dirty;
	*check = engine->check;
	return 0;
}

void engine_status(struct engine *engine, struct tenon_migration_progress *progress, struct engine_outcome *outcome)
{
	pthread_mutex_lock(&engine->lock);
	*progress = engine->progress;
	*outcome = engine->outcome;
	engine->untold = false;
	pthread_mutex_unlock(&engine->lock);
}

int engine_resolve(struct engine *engine, bool run, struct tenon_error *err)
{
	pthread_mutex_lock(&engine->lock);
	bool blocked = engine->outcome.state == ENGINE_BLOCKED;
	engine->chosen = blocked;
	engine->chose_run = run;
	pthread_mutex_unlock(&engine->lock);
	return blocked ? 0 : tenon_fail(err, -ENOENT, "migration: nothing waits for a decision; see --status");
}

int engine_fd(const struct engine *engine)
{
	return engine->fd;
}

/* ---- For the test ---- */

/* It is in this phase and round now. */
static inline void fake_engine_advance(struct engine *engine, enum tenon_migration_phase phase, unsigned round)
{
	pthread_mutex_lock(&engine->lock);
	engine->progress.phase = phase;
	engine->progress.round = round;
	pthread_mutex_unlock(&engine->lock);
	eventfd_write(engine->fd, 1);
}

/* It is over, or blocked. @param message  NULL: it went well */
static inline void fake_engine_become(struct engine *engine, enum engine_state state, enum tenon_outgoing_end end,
				      const char *message)
{
	pthread_mutex_lock(&engine->lock);
	engine->outcome = (struct engine_outcome){.state = state, .end = end};
	if (message)
		tenon_fail(&engine->outcome.error, -EIO, "%s", message);
	if (state == ENGINE_OVER)
		engine->progress.phase =
			end == TENON_OUTGOING_RESUMED ? TENON_MIGRATION_PHASE_FAILED : TENON_MIGRATION_PHASE_DONE;
	engine->untold = state == ENGINE_OVER;
	pthread_mutex_unlock(&engine->lock);
	eventfd_write(engine->fd, 1);
}

#endif

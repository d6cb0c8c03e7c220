// SPDX-License-Identifier: MIT
/*
 * The thread that devices come and go by: what wakes it, and the queue of requests. What it does with them is in hotplug_tasks.c;
 * what takes time is done one after the other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hotplug.h"
#include "hotplug_tasks.h"
#include "log.h"
#include "thread.h"

struct hotplug {
	pthread_t thread;
	pthread_mutex_t lock; /* innermost; vCPU threads take it */
	pthread_cond_t changed;
	bool news, stop;
	struct hotplug_request *first, **last;
	struct hotplug_tasks tasks; /* not under the lock */
};

/* Waits for something to do. @return false: the end */
static bool wait_for_work(struct hotplug *hotplug, struct hotplug_request **request)
{
	uint64_t deadline = hotplug_tasks_deadline(&hotplug->tasks);
	const struct timespec until = {.tv_sec = (time_t)(deadline / HOTPLUG_SECOND_NS),
				       .tv_nsec = (long)(deadline % HOTPLUG_SECOND_NS)};
	pthread_mutex_lock(&hotplug->lock);
	while (!hotplug->stop && !hotplug->news && !hotplug->first && log_now_ns() < deadline) {
		if (deadline == UINT64_MAX)
			pthread_cond_wait(&hotplug->changed, &hotplug->lock);
		else
			pthread_cond_timedwait(&hotplug->changed, &hotplug->lock, &until);
	}
	hotplug->news = false;
	*request = hotplug->first;
	if (*request && !(hotplug->first = (*request)->next))
		hotplug->last = &hotplug->first;
	bool stop = hotplug->stop;
	pthread_mutex_unlock(&hotplug->lock);
	return !stop;
}

static void *run(void *argument)
{
	struct hotplug *hotplug = argument;
	struct hotplug_request *request;
	while (wait_for_work(hotplug, &request))
		hotplug_tasks_step(&hotplug->tasks, request);
	if (request)
		hotplug_request_cancel(request);
	return NULL;
}

static void tell(struct hotplug *hotplug)
{
	hotplug->news = true;
	pthread_cond_signal(&hotplug->changed);
}

void hotplug_wake(struct hotplug *hotplug)
{
	pthread_mutex_lock(&hotplug->lock);
	tell(hotplug);
	pthread_mutex_unlock(&hotplug->lock);
}

int hotplug_settled(struct hotplug *hotplug, struct tenon_error *err)
{
	static const char *const doings[] = {
		[HOTPLUG_TASK_NONE] = "an event of its device waits to be looked at; try again",
		[HOTPLUG_TASK_INSERT] = "a device is being plugged in; wait until the guest has it, or remove it",
		[HOTPLUG_TASK_REMOVE] = "the guest is asked to release its device; wait until it has",
		[HOTPLUG_TASK_AWAY] = "the server of its device is gone; start it again, or remove the device",
	};
	const struct slots *slots = &hotplug->tasks.machine->slots;
	for (unsigned i = 0; i < slots->count; i++) {
		const struct hotplug_task *task = &hotplug->tasks.of[i];
		char name[16];
		if (task->state == HOTPLUG_TASK_NONE && !atomic_load(&task->events))
			continue;
		slot_name(&slots->slot[i], name, sizeof(name));
		return tenon_fail(err, -EBUSY, "the guest's %s: %s", name, doings[task->state]);
	}
	return 0;
}

static void slot_changed(void *context)
{
	hotplug_wake(context);
}

int hotplug_create(struct machine *machine, struct hotplug **out, struct tenon_error *err)
{
	struct hotplug *hotplug = calloc(1, sizeof(*hotplug));
	if (!hotplug)
		return tenon_fail(err, -ENOMEM, "hot-plug: out of memory; free some memory");
	hotplug->tasks.machine = machine;
	hotplug->last = &hotplug->first;
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&hotplug->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&hotplug->lock, NULL);

	int code = thread_start(&hotplug->thread, 0, run, hotplug);
	if (code < 0) {
		free(hotplug);
		return tenon_fail(err, code,
				  "hot-plug: cannot start its thread: %s; raise the limit of processes (ulimit -u)",
				  strerror(-code));
	}
	machine->slots.context = hotplug;
	machine->slots.changed = slot_changed;
	*out = hotplug;
	return 0;
}

void hotplug_stop(struct hotplug *hotplug)
{
	if (!hotplug || hotplug->stop)
		return;
	pthread_mutex_lock(&hotplug->lock);
	hotplug->stop = true;
	tell(hotplug);
	pthread_mutex_unlock(&hotplug->lock);
	pthread_join(hotplug->thread, NULL);
	hotplug->tasks.machine->slots.changed = NULL;
	hotplug_tasks_cancel(&hotplug->tasks);
	while (hotplug->first) {
		struct hotplug_request *request = hotplug->first;
		hotplug->first = request->next;
		hotplug_request_cancel(request);
	}
}

void hotplug_destroy(struct hotplug *hotplug)
{
	if (!hotplug)
		return;
	hotplug_stop(hotplug);
	pthread_cond_destroy(&hotplug->changed);
	pthread_mutex_destroy(&hotplug->lock);
	free(hotplug);
}

void hotplug_submit(struct hotplug *hotplug, struct hotplug_request *request)
{
	request->next = NULL;
	pthread_mutex_lock(&hotplug->lock);
	bool stopped = hotplug->stop;
	if (!stopped) {
		*hotplug->last = request;
		hotplug->last = &request->next;
		pthread_cond_signal(&hotplug->changed);
	}
	pthread_mutex_unlock(&hotplug->lock);
	if (stopped)
		hotplug_request_cancel(request);
}

void hotplug_device_event(struct hotplug *hotplug, unsigned index, enum hotplug_event event)
{
	atomic_uint *events = &hotplug->tasks.of[index].events;
	unsigned pending = atomic_load(events);
	while (!atomic_compare_exchange_weak(events, &pending, hotplug_tasks_merge(pending, event)))
		;
	hotplug_wake(hotplug);
}

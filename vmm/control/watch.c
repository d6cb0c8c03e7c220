// SPDX-License-Identifier: MIT
/* Who asked for a migration hears how it goes. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "describe.h"
#include "log.h"
#include "migrate/progress_json.h"
#include "watch.h"

#define APART_NS UINT64_C(100000000) /* of two lines in the same phase and round */
#define LAST_NS  UINT64_C(1000000000)

static bool has_passed(const struct client *client, uint64_t now_ns)
{
	return now_ns - client->told_ns >= APART_NS;
}

static bool is_due(const struct watch *watch, const struct client *client)
{
	bool changed = client->phase != watch->progress.phase || client->round != watch->progress.round;
	return client->watching && client->stale && (changed || has_passed(client, log_now_ns()));
}

static void tell_blocked(struct watch *watch, struct client *client)
{
	json_object *object = json_object_new_object();
	json_object_object_add(object, "event", json_object_new_string("blocked"));
	json_object_object_add(object, "error", json_object_new_string(watch->outcome.error.message));
	client->blocked = true;
	client_answer(client, object);
}

void watch_tell(struct watch *watch, struct client *client)
{
	if (client->fd < 0 || client->answer)
		return;
	if (is_due(watch, client)) {
		client->stale = false;
		client->phase = watch->progress.phase;
		client->round = watch->progress.round;
		client->told_ns = log_now_ns();
		client_answer(client, progress_json(&watch->progress));
	}
	if (client->fd >= 0 && !client->answer && client->watching && watch->outcome.state == ENGINE_BLOCKED &&
	    !client->blocked)
		tell_blocked(watch, client);
	if (client->fd >= 0 && !client->answer && client->last) {
		char *last = client->last;
		client->last = NULL;
		client->busy = false;
		client_answer_text(client, last);
	}
}

/* Where everything stood at the end, unless it was told, and how it ended: made now, since the next migration may begin before the client has read it. */
static void keep_last(const struct watch *watch, struct client *client, json_object *end)
{
	char *progress = client->stale ? client_line(progress_json(&watch->progress)) : strdup("");
	char *line = client_line(end);
	if (!progress || !line || asprintf(&client->last, "%s%s", progress, line) < 0) {
		client->last = NULL;
		client_close(client);
	}
	free(progress);
	free(line);
	client->watching = client->stale = false;
}

void watch_update(struct watch *watch)
{
	const struct tenon_migration_progress before = watch->progress;
	eventfd_t count;
	/* Before the look, so that what changes after it wakes again. */
	eventfd_read(engine_fd(watch->engine), &count);
	engine_status(watch->engine, &watch->progress, &watch->outcome);
	for (unsigned i = 0; i < watch->client_count; i++) {
		struct client *client = &watch->clients[i];
		if (client->fd < 0 || !client->watching)
			continue;
		client->stale |= memcmp(&before, &watch->progress, sizeof(before)) != 0;
		if (watch->outcome.state == ENGINE_OVER)
			keep_last(watch, client, end_json(&watch->outcome));
		watch_tell(watch, client);
	}
}

/* The client's own descriptor is this one here; it is the client's still, unless a migration begins. */
static int name_descriptor(struct client *client, struct engine_request *request, struct tenon_error *err)
{
	if (strncmp(request->address, "fd:", 3) != 0)
		return 0;
	if (client->passed < 0)
		return tenon_fail(err, -EBADF,
				  "%s: did not come with the request; send the open file along (SCM_RIGHTS), as tenon "
				  "migrate does",
				  request->address);
	char *address;
	if (asprintf(&address, "fd:%d", client->passed) < 0)
		return tenon_fail(err, -ENOMEM, "out of memory; free some memory");
	free(request->address);
	request->address = address;
	return 0;
}

void watch_migrate(struct watch *watch, struct client *client, struct engine_request *request)
{
	struct tenon_error error = {0};
	/* Whoever watches the one before, which may just have ended, hears of that one. */
	watch_update(watch);
	bool passes = strncmp(request->address, "fd:", 3) == 0;
	int code = name_descriptor(client, request, &error);
	if (code == 0)
		code = engine_migrate(watch->engine, request, &error);
	if (code < 0) {
		client_answer_error(client, &error);
		return;
	}
	if (passes)
		client->passed = -1;
	client->busy = client->watching = client->stale = true;
	client->blocked = false;
	client->told_ns = 0;
	watch_update(watch);
}

int watch_wait_ms(const struct watch *watch)
{
	uint64_t now = log_now_ns(), wait = UINT64_MAX;
	for (unsigned i = 0; i < watch->client_count; i++) {
		const struct client *client = &watch->clients[i];
		if (client->fd < 0 || !client->watching || !client->stale || client->answer)
			continue;
		uint64_t left = has_passed(client, now) ? 0 : APART_NS - (now - client->told_ns);
		wait = left < wait ? left : wait;
	}
	/* Rounded up, or it would wake too early and find nothing due. */
	return wait == UINT64_MAX ? -1 : (int)((wait + 999999) / 1000000);
}

static void finish_sending(struct watch *watch, struct client *client, uint64_t until_ns)
{
	for (;;) {
		client_send(client);
		watch_tell(watch, client);
		uint64_t now = log_now_ns();
		if (client->fd < 0 || !client->answer || now >= until_ns)
			return;
		struct pollfd room = {.fd = client->fd, .events = POLLOUT};
		poll(&room, 1, (int)((until_ns - now) / 1000000) + 1);
	}
}

void watch_end(struct watch *watch)
{
	uint64_t until = log_now_ns() + LAST_NS;
	struct tenon_error error;
	tenon_fail(&error, -ECANCELED, "the VM ends before its migration is over; see what tenon run says");
	watch_update(watch);
	for (unsigned i = 0; i < watch->client_count; i++) {
		struct client *client = &watch->clients[i];
		if (client->fd >= 0 && client->watching)
			keep_last(watch, client, describe_error(&error));
		if (client->fd >= 0)
			finish_sending(watch, client, until);
	}
}

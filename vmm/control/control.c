// SPDX-License-Identifier: MIT
/*
 * The control socket's thread. Everything a client can make it keep is bounded: the clients, one line of input and one answer
 * each; the lines that a migration has for whoever asked for it replace each other. While a client's request is under way, or its answer
 * unsent, nothing more is read from it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "control.h"
#include "describe.h"
#include "listener.h"
#include "log.h"
#include "migrate/progress_json.h"
#include "thread.h"
#include "watch.h"

/* Epoll data: a client's index, or one of these. */
enum { SOURCE_LISTENER = CONTROL_CLIENTS_MAX, SOURCE_WAKE, SOURCE_ENGINE };

/* A request that hotplug has; made on the control thread, comes back from hotplug's. */
struct pending {
	struct control *control;
	unsigned client, generation;
	struct hotplug_result result;
	struct pending *next;
};

struct control {
	struct machine *machine;
	struct hotplug *hotplug;
	uint64_t started_ns;
	struct control_listener listener;
	int epoll, wake;
	pthread_t thread;
	bool threaded;
	struct client clients[CONTROL_CLIENTS_MAX];
	struct watch watch;

	pthread_mutex_t lock;
	struct pending *done;
	bool stop;
};

/* ---- Requests ---- */

static void done(void *context, const struct hotplug_result *result)
{
	struct pending *pending = context;
	struct control *control = pending->control;
	pending->result = *result;
	pthread_mutex_lock(&control->lock);
	pending->next = control->done;
	control->done = pending;
	pthread_mutex_unlock(&control->lock);
	eventfd_write(control->wake, 1);
}

static void submit(struct control *control, struct client *client, struct control_request *request)
{
	struct hotplug_request *work = calloc(1, sizeof(*work));
	struct pending *pending = calloc(1, sizeof(*pending));
	struct tenon_error error;
	if (!work || !pending) {
		free(work);
		free(pending);
		tenon_fail(&error, -ENOMEM, "out of memory; free some memory");
		client_answer_error(client, &error);
		return;
	}
	pending->control = control;
	pending->client = (unsigned)(client - control->clients);
	pending->generation = client->generation;
	work->done = done;
	work->context = pending;
	if (request->command == CONTROL_DEVICE_ADD) {
		work->action = HOTPLUG_ADD;
		work->device = request->device;
		request->device = (struct device_options){0};
	} else {
		work->action = HOTPLUG_REMOVE;
		snprintf(work->address, sizeof(work->address), "%s", request->device.address);
		work->force = request->force;
		work->group = request->group;
		work->timeout_seconds = request->timeout_seconds;
	}
	client->busy = true;
	hotplug_submit(control->hotplug, work);
}

/* What its caller is told of something that either worked, or did not. */
static void answer_code(struct client *client, int code, const struct tenon_error *error)
{
	if (code < 0)
		client_answer_error(client, error);
	else
		client_answer(client, describe_success());
}

static void check_migration(struct control *control, struct client *client, bool assume_all_dirty)
{
	struct tenon_migration_check check = {.size = sizeof(check)};
	struct tenon_error error = {0};
	if (engine_check(control->watch.engine, assume_all_dirty, &check, &error) < 0)
		client_answer_error(client, &error);
	else
		client_answer(client, check_json(&check));
}

static void execute_migration(struct control *control, struct client *client, struct control_request *request)
{
	struct engine *engine = control->watch.engine;
	struct tenon_error error = {0};
	switch (request->command) {
	case CONTROL_MIGRATE:
		watch_migrate(&control->watch, client, &request->migrate);
		break;
	case CONTROL_MIGRATE_CHECK:
		check_migration(control, client, request->migrate.assume_all_dirty);
		break;
	case CONTROL_MIGRATE_STATUS:
		watch_update(&control->watch);
		client_answer(client, outcome_json(&control->watch.outcome, &control->watch.progress));
		break;
	case CONTROL_MIGRATE_CANCEL:
		answer_code(client, engine_cancel(engine, &error), &error);
		break;
	default:
		answer_code(client, engine_resolve(engine, request->run, &error), &error);
		break;
	}
}

static void execute(struct control *control, struct client *client, struct control_request *request)
{
	switch (request->command) {
	case CONTROL_DEVICES:
		client_answer(client, describe_devices(&control->machine->slots));
		break;
	case CONTROL_TOPOLOGY:
		client_answer(client, describe_topology(&control->machine->slots));
		break;
	case CONTROL_STATUS:
		watch_update(&control->watch);
		client_answer(client, describe_status(control->machine, &control->watch.outcome, control->started_ns));
		break;
	case CONTROL_QUIT:
		client_answer(client, describe_success());
		log_info("the VM ends: tenon ctl quit");
		machine_request_stop(control->machine, MACHINE_QUIT, 0, NULL);
		break;
	case CONTROL_DEVICE_ADD:
	case CONTROL_DEVICE_REMOVE:
		submit(control, client, request);
		break;
	default:
		execute_migration(control, client, request);
		break;
	}
}

static void take_line(struct control *control, struct client *client, size_t bytes)
{
	struct control_request request;
	struct tenon_error error;
	if (control_request_parse(client->line, bytes, &request, &error) < 0) {
		client_answer_error(client, &error);
		return;
	}
	execute(control, client, &request);
	control_request_finish(&request);
}

/* Takes the lines that are there, as far as each can be answered at once. */
static void take_lines(struct control *control, struct client *client)
{
	while (client->fd >= 0 && !client->busy && !client->answer && !client->refused) {
		char *end = memchr(client->line, '\n', client->used);
		struct tenon_error error;
		if (!end && client->used < sizeof(client->line))
			break;
		if (!end) {
			client->refused = true;
			tenon_fail(&error, -EMSGSIZE, "request: longer than %d bytes; send one JSON object per line",
				   CONTROL_LINE_MAX);
			client_answer_error(client, &error);
			break;
		}
		unsigned generation = client->generation;
		take_line(control, client, (size_t)(end - client->line));
		if (client->generation != generation)
			return;
		client->used -= (size_t)(end + 1 - client->line);
		memmove(client->line, end + 1, client->used);
	}
}

/* ---- Clients ---- */

/* After anything happened: closes the client if it is through, and waits for what it is to do next. */
static void settle(struct control *control, struct client *client)
{
	if (client->fd < 0)
		return;
	if (!client->busy && !client->answer && (client->ended || client->refused)) {
		client_close(client);
		return;
	}
	uint32_t events = client->answer ? EPOLLOUT : client->busy || client->ended ? 0 : EPOLLIN;
	if (events == client->events)
		return;
	struct epoll_event event = {.events = events, .data.u32 = (uint32_t)(client - control->clients)};
	client->events = events;
	epoll_ctl(control->epoll, EPOLL_CTL_MOD, client->fd, &event);
}

static void on_client(struct control *control, struct client *client, uint32_t events)
{
	if (client->fd < 0)
		return;
	/* Nobody is there to read an answer. What it asked for is done all the same. */
	if ((events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN)) {
		client_close(client);
		return;
	}
	if (client->answer)
		client_send(client);
	watch_tell(&control->watch, client);
	if (client->fd >= 0 && (events & EPOLLIN))
		client_receive(client);
	take_lines(control, client);
	settle(control, client);
}

static void refuse(int fd)
{
	static const char full[] = "{\"ok\":false,\"error\":\"control socket: too many clients; try again\"}\n";
	send(fd, full, sizeof(full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

static void accept_client(struct control *control)
{
	int fd = accept4(control->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	unsigned index = 0;
	if (fd < 0) {
		/* Out of descriptors, say: the client stays in the queue, and asking for it without pause helps nobody. */
		if (errno != EAGAIN && errno != ECONNABORTED)
			usleep(100000);
		return;
	}
	while (index < CONTROL_CLIENTS_MAX && control->clients[index].fd >= 0)
		index++;
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
	if (index == CONTROL_CLIENTS_MAX || epoll_ctl(control->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		refuse(fd);
		return;
	}
	client_open(&control->clients[index], fd);
	control->clients[index].events = EPOLLIN;
}

static bool take_done(struct control *control)
{
	pthread_mutex_lock(&control->lock);
	struct pending *pending = control->done;
	control->done = NULL;
	bool stop = control->stop;
	pthread_mutex_unlock(&control->lock);
	while (pending) {
		struct pending *next = pending->next;
		struct client *client = &control->clients[pending->client];
		if (client->fd >= 0 && client->generation == pending->generation) {
			client->busy = false;
			client_answer(client, describe_result(&pending->result));
			take_lines(control, client);
			settle(control, client);
		}
		free(pending);
		pending = next;
	}
	return !stop;
}

/* A migration may have news for any of them, or have let it go. */
static void tell_clients(struct control *control)
{
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *client = &control->clients[i];
		if (client->fd < 0)
			continue;
		watch_tell(&control->watch, client);
		take_lines(control, client);
		settle(control, client);
	}
}

static void *run(void *argument)
{
	struct control *control = argument;
	for (;;) {
		struct epoll_event events[8];
		eventfd_t count;
		int ready = epoll_wait(control->epoll, events, 8, watch_wait_ms(&control->watch));
		for (int i = 0; i < ready; i++) {
			uint32_t source = events[i].data.u32;
			if (source == SOURCE_LISTENER)
				accept_client(control);
			else if (source == SOURCE_WAKE)
				eventfd_read(control->wake, &count);
			else if (source == SOURCE_ENGINE)
				watch_update(&control->watch);
			else
				on_client(control, &control->clients[source], events[i].events);
		}
		tell_clients(control);
		if (!take_done(control))
			break;
	}
	watch_end(&control->watch);
	return NULL;
}

/* ---- Life ---- */

static int open_files(struct control *control, const char *path, struct tenon_error *err)
{
	struct epoll_event listener = {.events = EPOLLIN, .data.u32 = SOURCE_LISTENER};
	struct epoll_event wake = {.events = EPOLLIN, .data.u32 = SOURCE_WAKE};
	struct epoll_event engine = {.events = EPOLLIN, .data.u32 = SOURCE_ENGINE};
	control->epoll = epoll_create1(EPOLL_CLOEXEC);
	control->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control->epoll < 0 || control->wake < 0)
		return tenon_fail(err, -errno, "--control %s: %s; raise the limit of open files (ulimit -n)", path,
				  strerror(errno));
	int code = control_listener_open(path, &control->listener, err);
	if (code == 0 && (epoll_ctl(control->epoll, EPOLL_CTL_ADD, control->listener.fd, &listener) < 0 ||
			  epoll_ctl(control->epoll, EPOLL_CTL_ADD, control->wake, &wake) < 0 ||
			  epoll_ctl(control->epoll, EPOLL_CTL_ADD, engine_fd(control->watch.engine), &engine) < 0))
		code = tenon_fail(err, -errno, "--control %s: cannot watch it: %s; report this", path, strerror(errno));
	return code;
}

static int start_thread(struct control *control, const char *path, struct tenon_error *err)
{
	int code = thread_start(&control->thread, 0, run, control);
	if (code < 0)
		return tenon_fail(err, code,
				  "--control %s: cannot start its thread: %s; raise the limit of processes (ulimit -u)",
				  path, strerror(-code));
	control->threaded = true;
	return 0;
}

int control_create(const char *path, struct machine *machine, struct hotplug *hotplug, struct engine *engine,
		   struct control **out, struct tenon_error *err)
{
	struct control *control = calloc(1, sizeof(*control));
	if (!control)
		return tenon_fail(err, -ENOMEM, "--control %s: out of memory; free some memory", path);
	control->machine = machine;
	control->hotplug = hotplug;
	control->watch =
		(struct watch){.engine = engine, .clients = control->clients, .client_count = CONTROL_CLIENTS_MAX};
	control->started_ns = log_now_ns();
	control->epoll = control->wake = control->listener.fd = -1;
	pthread_mutex_init(&control->lock, NULL);
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		control->clients[i].fd = -1;
	int code = open_files(control, path, err);
	if (code == 0)
		code = start_thread(control, path, err);
	if (code < 0) {
		control_destroy(control);
		return code;
	}
	*out = control;
	return 0;
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	if (control->threaded) {
		pthread_mutex_lock(&control->lock);
		control->stop = true;
		pthread_mutex_unlock(&control->lock);
		eventfd_write(control->wake, 1);
		pthread_join(control->thread, NULL);
	}
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (control->clients[i].fd >= 0)
			client_close(&control->clients[i]);
	}
	control_listener_close(&control->listener);
	if (control->wake >= 0)
		close(control->wake);
	if (control->epoll >= 0)
		close(control->epoll);
	pthread_mutex_destroy(&control->lock);
	free(control);
}

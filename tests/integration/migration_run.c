// SPDX-License-Identifier: MIT
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "migration_run.h"
#include "tenon_guest.h"

#define WORDS_MAX 48

/* ---- VMs ---- */

static void start_devices(struct mover *mover, const struct mover_plan *plan)
{
	mover->device_count = plan->devices;
	for (unsigned i = 0; i < plan->devices; i++)
		testdev_start(&mover->devices[i], plan->device_options);
}

void mover_start(struct mover *mover, const struct mover_plan *plan, const char *incoming)
{
	const char *args[WORDS_MAX] = {"run", "--memory", plan->memory, "--control", mover->control};
	char devices[MOVER_DEVICES_MAX][112];
	unsigned count = 5;
	*mover = (struct mover){0};
	snprintf(mover->folder, sizeof(mover->folder), "/tmp/tenon-mover-XXXXXX");
	cr_assert(mkdtemp(mover->folder));
	snprintf(mover->control, sizeof(mover->control), "%s/control", mover->folder);
	args[count++] = plan->kernel ? "--kernel" : "--firmware";
	args[count++] = plan->kernel ? plan->kernel : "default";
	if (plan->append) {
		args[count++] = "--append";
		args[count++] = plan->append;
	}
	start_devices(mover, plan);
	for (unsigned i = 0; i < plan->devices; i++) {
		/* A server that a busy machine keeps waiting is not a dead one. */
		snprintf(devices[i], sizeof(devices[i]), "vfio-user:%s,timeout=10000", mover->devices[i].path);
		args[count++] = "--device";
		args[count++] = devices[i];
	}
	if (incoming) {
		args[count++] = "--incoming";
		args[count++] = incoming;
	}
	for (unsigned i = 0; plan->run_options && plan->run_options[i] && count + 1 < WORDS_MAX; i++)
		args[count++] = plan->run_options[i];
	run_start(&mover->run, args, NULL);
}

void mover_expect_listening(struct mover *mover)
{
	static const char words[] = "waiting for a source at ";
	run_expect_complaint(&mover->run, words);
	const char *at = strstr(mover->run.complained.bytes, words) + strlen(words);
	snprintf(mover->address, sizeof(mover->address), "%.*s", (int)strcspn(at, "\n"), at);
}

void mover_start_destination(struct mover *mover, const struct mover_plan *plan)
{
	mover_start(mover, plan, "tcp:127.0.0.1:0");
	mover_expect_listening(mover);
}

void mover_expect_filled(struct mover *mover)
{
	run_expect_within(&mover->run, "# load pages=", 1, LONG_MS);
}

void mover_expect_goes_on(struct mover *mover)
{
	/* A line that was half said when it was stopped is not of afterwards. */
	run_expect(&mover->run, " errors=0\r", run_count(&mover->run.said, " errors=0\r") + 2);
	cr_assert_not(strstr(mover->run.said.bytes, "corruption"), "%s", mover->run.said.bytes);
	cr_assert_not(strstr(mover->run.said.bytes, "trouble"), "%s", mover->run.said.bytes);
}

void mover_quit(struct mover *mover)
{
	run_send(&mover->run, "q");
	cr_assert_eq(run_wait(&mover->run, LONG_MS), 0, "%s\n%s", mover->run.said.bytes, mover->run.complained.bytes);
	cr_assert(strstr(mover->run.said.bytes, "\nok 1 - load: "), "%s", mover->run.said.bytes);
}

static void remove_folder(struct mover *mover)
{
	unlink(mover->control);
	cr_expect_eq(rmdir(mover->folder), 0, "%s: %s", mover->folder, strerror(errno));
}

void mover_finish(struct mover *mover)
{
	cr_expect_eq(access(mover->control, F_OK), -1, "its control socket is left behind");
	for (unsigned i = 0; i < mover->device_count; i++) {
		cr_expect_eq(testdev_stop(&mover->devices[i]), 0, "device %u: %s", i, mover->devices[i].run.said.bytes);
		testdev_finish(&mover->devices[i]);
	}
	run_finish(&mover->run);
	remove_folder(mover);
}

void mover_drop(struct mover *mover)
{
	if (mover->run.pid) {
		kill(mover->run.pid, SIGKILL);
		run_wait(&mover->run, ENDING_MS);
	}
	for (unsigned i = 0; i < mover->device_count; i++) {
		testdev_stop(&mover->devices[i]);
		testdev_finish(&mover->devices[i]);
	}
	run_finish(&mover->run);
	remove_folder(mover);
}

/* ---- Migrations ---- */

static json_object *parse(const char *text)
{
	json_object *object = json_tokener_parse(text);
	cr_assert_not_null(object, "%s", text);
	return object;
}

void mover_migrate_begin(struct mover *mover, const char *address, const char *more, int passed, struct talk *talk)
{
	struct tenon_error error;
	char request[512];
	snprintf(request, sizeof(request), "{\"command\":\"migrate\",\"address\":\"%s\"%s%s}", address, more ? "," : "",
		 more ? more : "");
	cr_assert_eq(talk_open(talk, mover->control, &error), 0, "%s", error.message);
	cr_assert_eq(talk_send(talk, parse(request), passed, &error), 0, "%s", error.message);
}

/* @return json_object_put; NULL: the VM has gone */
static json_object *next_event(struct talk *talk)
{
	struct pollfd wait = {.fd = talk->fd, .events = POLLIN};
	struct tenon_error error;
	json_object *object = NULL;
	cr_assert(memchr(talk->text ? talk->text : "", '\n', talk->used) || poll(&wait, 1, LONG_MS) == 1,
		  "nothing was said of the migration");
	return talk_receive(talk, NULL, &object, &error) == 0 ? object : NULL;
}

static uint64_t number(json_object *object, const char *key)
{
	return json_object_get_uint64(json_object_object_get(object, key));
}

void mover_migrate_expect(struct talk *talk, const char *phase, unsigned round)
{
	for (bool there = false; !there;) {
		json_object *event = next_event(talk);
		cr_assert_not_null(event, "the VM has gone before %s", phase);
		cr_assert_not(json_object_object_get(event, "ok"), "over before %s: %s", phase,
			      json_object_to_json_string(event));
		there = strcmp(talk_text(event, "phase"), phase) == 0 && number(event, "round") >= round;
		json_object_put(event);
	}
}

static void take_progress(json_object *event, struct moved *moved)
{
	moved->rounds = (unsigned)number(event, "round");
	moved->total_ns = number(event, "elapsed_ns");
	moved->downtime_ns = number(event, "downtime_ns");
	moved->estimate_ns = number(event, "downtime_estimate_ns");
	moved->sent_bytes = number(event, "sent_bytes");
}

void mover_migrate_end(struct talk *talk, struct moved *moved)
{
	*moved = (struct moved){0};
	for (bool over = false; !over;) {
		json_object *event = next_event(talk), *ok = NULL;
		if (!event) {
			snprintf(moved->error, sizeof(moved->error), "the VM has gone");
			break;
		}
		over = json_object_object_get_ex(event, "ok", &ok);
		if (strcmp(talk_text(event, "event"), "progress") == 0)
			take_progress(event, moved);
		if (over) {
			moved->ok = json_object_get_boolean(ok);
			snprintf(moved->end, sizeof(moved->end), "%s", talk_text(event, "end"));
			snprintf(moved->error, sizeof(moved->error), "%s", talk_text(event, "error"));
		}
		json_object_put(event);
	}
	talk_close(talk);
}

void mover_migrate(struct mover *mover, const char *address, const char *more, struct moved *moved)
{
	struct talk talk;
	mover_migrate_begin(mover, address, more, -1, &talk);
	mover_migrate_end(&talk, moved);
}

int mover_ask(struct mover *mover, const char *request, struct tenon_error *err)
{
	return talk_once(mover->control, parse(request), NULL, err);
}

void mover_move(struct mover *mover, const struct mover_plan *plan, const char *more, struct moved *moved)
{
	struct mover next;
	mover_start_destination(&next, plan);
	mover_migrate(mover, next.address, more, moved);
	cr_assert(moved->ok, "%s; the destination said '%s'", moved->error, next.run.complained.bytes);
	cr_assert_str_eq(moved->end, "moved");
	cr_assert_eq(run_wait(&mover->run, PATIENCE_MS), 0, "%s", mover->run.complained.bytes);
	cr_assert_not(strstr(mover->run.said.bytes, "corruption"), "%s", mover->run.said.bytes);
	mover_finish(mover);
	*mover = next;
}

/* ---- What is left ---- */

static struct run last; /* keeps run_finish from looking for processes before guardians have ended */

void movers_begin(void)
{
	guest_skip_without_kvm();
	run_start_program(&last, TENON_TESTDEV, ARGS("--help"), NULL);
	cr_assert_eq(run_wait(&last, PATIENCE_MS), 0);
}

static bool nothing_is_left(void *context)
{
	(void)context;
	pid_t ended;
	while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
		;
	return ended < 0 && errno == ECHILD;
}

/* Our children that are guardians. They wait ten minutes for a source that may not have heard that its guest runs. */
static void end_guardians(void)
{
	char path[64], name[32] = "";
	FILE *children = fopen("/proc/thread-self/children", "r");
	cr_assert_not_null(children);
	for (int pid; fscanf(children, "%d", &pid) == 1;) {
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		FILE *comm = fopen(path, "r");
		if (comm && fgets(name, sizeof(name), comm) && strcmp(name, "tenon-guardian\n") == 0)
			kill(pid, SIGKILL);
		if (comm)
			fclose(comm);
	}
	fclose(children);
}

/* They are ours since their parents are dead. */
void movers_end(void)
{
	if (!run_until(nothing_is_left, NULL))
		end_guardians();
	cr_expect(run_until(nothing_is_left, NULL), "something that is no guardian is left behind");
	run_finish(&last);
}

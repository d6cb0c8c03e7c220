// SPDX-License-Identifier: MIT
/*
 * `tenon migrate`: asks a VM to migrate, and shows how that goes. The migration is the VM's: what happens to this command does not
 * matter to it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../control/talk.h"
#include "../log.h"
#include "../loop.h"
#include "command.h"
#include "command_options.h"
#include "display.h"
#include "history.h"
#include "progress_json.h"
#include "report.h"
#include "units.h"

#define FAILED 1

/* One migration, from the request to its end. */
struct follower {
	const struct command_options *options;
	struct talk talk;
	struct display display;
	struct history history;
	FILE *report;
	bool saved, resumed; /* as the VM says at the end */
	unsigned interrupts; /* that were acted on */
	sigset_t sleeping;   /* SIGINT comes only while it waits */
};

/* The only thing that a signal may touch. */
static volatile sig_atomic_t interrupts;

static void on_interrupt(int signal)
{
	interrupts++;
}

static void catch_interrupts(struct follower *follower)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, &follower->sleeping);
	sigdelset(&follower->sleeping, SIGINT);
	sigaction(SIGINT, &action, NULL);
}

/* ---- What is told ---- */

static void note(struct follower *follower, const char *text)
{
	if (follower->options->json || follower->options->quiet)
		log_info("%s", text);
	else
		display_note(&follower->display, text);
}

static const char *json_text(json_object *object)
{
	return json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

static void on_progress(struct follower *follower, json_object *event)
{
	struct tenon_migration_progress progress;
	struct tenon_error error;
	if (progress_parse(event, &progress, &error) < 0)
		return; /* of a VM of another version; its end is understood all the same */
	history_add(&follower->history, &progress);
	if (!follower->options->json && !follower->options->quiet)
		display_progress(&follower->display, &progress);
}

static void on_blocked(struct follower *follower, json_object *event)
{
	if (follower->options->json)
		return;
	note(follower, talk_text(event, "error"));
	note(follower, "decide by tenon migrate SOCKET --resolve run (the other side never will) or --resolve stop");
}

static int over(struct follower *follower, json_object *line, struct tenon_error *err)
{
	follower->saved = strcmp(talk_text(line, "end"), "saved") == 0;
	follower->resumed = strcmp(talk_text(line, "end"), "resumed") == 0;
	if (json_object_get_boolean(json_object_object_get(line, "ok")))
		return 1;
	return tenon_fail(err, -EREMOTEIO, "%s", talk_text(line, "error"));
}

/* @return 0 it goes on, 1 it went well, or an error: the VM's words, or why there are none */
static int on_line(struct follower *follower, json_object *line, struct tenon_error *err)
{
	if (follower->options->json) {
		puts(json_text(line));
		fflush(stdout);
	}
	if (strcmp(talk_text(line, "event"), "progress") == 0)
		on_progress(follower, line);
	else if (strcmp(talk_text(line, "event"), "blocked") == 0)
		on_blocked(follower, line);
	else if (json_object_object_get(line, "ok"))
		return over(follower, line, err);
	return 0;
}

/* ---- Ctrl-C ---- */

/* By a connection of its own: the one that asked for the migration hears of it, no more. */
static void cancel(struct follower *follower)
{
	const struct command_options options = {.action = COMMAND_CANCEL};
	struct tenon_error error;
	note(follower, "cancelling; Ctrl-C again leaves it to itself");
	if (talk_once(follower->options->socket, command_request(&options), NULL, &error) < 0)
		note(follower, error.message);
}

/* @return 0, or -EINTR: it is to be left alone */
static int on_interrupts(struct follower *follower, struct tenon_error *err)
{
	if ((unsigned)interrupts == follower->interrupts)
		return 0;
	follower->interrupts++;
	if (follower->interrupts == 1) {
		cancel(follower);
		return 0;
	}
	return tenon_fail(err, -EINTR, "left: whether it was cancelled, tenon migrate %s --status tells",
			  follower->options->socket);
}

/* ---- From begin to end ---- */

static int follow(struct follower *follower, struct tenon_error *err)
{
	int code = 0;
	while (code == 0) {
		json_object *line = NULL;
		code = talk_receive(&follower->talk, &follower->sleeping, &line, err);
		if (code == -EINTR)
			code = on_interrupts(follower, err);
		else if (code == 0)
			code = on_line(follower, line, err);
		json_object_put(line);
	}
	if (code == -EPROTO && follower->history.last.size)
		tenon_fail(err, code,
			   "%s: the connection to the VM broke; whether the guest moved, tenon run there and "
			   "at its destination tell",
			   follower->options->socket);
	return code;
}

static int open_report(struct follower *follower, struct tenon_error *err)
{
	const char *path = follower->options->report;
	if (!path)
		return 0;
	/* Before anything moves, since afterwards it is too late to choose another. */
	follower->report = fopen(path, "we");
	return follower->report
		       ? 0
		       : tenon_fail(err, -errno, "--report %s: %s; choose another file", path, strerror(errno));
}

static int write_report(struct follower *follower, const char *failure, struct tenon_error *err)
{
	const struct report_facts facts = {.vm = follower->options->socket,
					   .address = follower->options->address,
					   .error = failure,
					   .saved = follower->saved};
	if (!follower->report)
		return 0;
	report_write(follower->report, &follower->history, &facts);
	bool bad = ferror(follower->report);
	bad |= fclose(follower->report) != 0;
	follower->report = NULL;
	return bad ? tenon_fail(err, -EIO, "--report %s: cannot write: %s; the migration is over all the same",
				follower->options->report, strerror(errno))
		   : 0;
}

/* What the guest does when it did not move. */
static void tell_failure(const struct follower *follower, const struct tenon_error *error)
{
	log_error(error);
	/* Only the VM knows: of one that is gone nothing is said. */
	if (follower->resumed)
		log_info("the guest runs on where it was");
}

static int run(struct follower *follower, struct tenon_error *err)
{
	json_object *request = command_request(follower->options);
	if (!request)
		return tenon_fail(err, -ENOMEM, "tenon migrate: out of memory; free some memory");
	int code = talk_open(&follower->talk, follower->options->socket, err);
	if (code < 0) {
		json_object_put(request);
		return code;
	}
	catch_interrupts(follower);
	code = talk_send(&follower->talk, request, command_passed(follower->options), err);
	if (code == 0)
		code = follow(follower, err);
	talk_close(&follower->talk);
	return code;
}

static int migrate(const struct command_options *options)
{
	struct follower *follower = calloc(1, sizeof(*follower));
	struct tenon_error error = {0};
	if (!follower) {
		tenon_fail(&error, -ENOMEM, "tenon migrate: out of memory; free some memory");
		log_error(&error);
		return FAILED;
	}
	follower->options = options;
	follower->display =
		(struct display){.out = stdout, .address = options->address, .terminal = isatty(STDOUT_FILENO)};
	int code = open_report(follower, &error);
	if (code == 0)
		code = run(follower, &error);
	if (code < 0)
		tell_failure(follower, &error);
	else if (!options->json && !options->quiet)
		display_end(&follower->history.last, options->address, follower->saved, stdout);
	int status = code >= 0 ? 0 : code == -EINTR ? RUN_SIGNALLED + SIGINT : FAILED;
	struct tenon_error report_error;
	if (write_report(follower, code < 0 ? error.message : NULL, &report_error) < 0) {
		log_error(&report_error);
		status = status ? status : FAILED;
	}
	free(follower);
	return status;
}

/* ---- Questions ---- */

static int print_check(json_object *answer)
{
	json_object *blockers = json_object_object_get(answer, "blockers");
	bool possible = json_object_get_boolean(json_object_object_get(answer, "possible"));
	uint64_t total = json_object_get_uint64(json_object_object_get(answer, "total_ns"));
	uint64_t downtime = json_object_get_uint64(json_object_object_get(answer, "downtime_ns"));
	puts(possible ? "possible" : "not possible:");
	for (size_t i = 0; blockers && i < json_object_array_length(blockers); i++)
		printf("  %s\n", json_object_get_string(json_object_array_get_idx(blockers, i)));
	if (total)
		printf("time      about %s\n", units_time(total).text);
	if (downtime)
		printf("downtime  about %s\n", units_time(downtime).text);
	return possible ? 0 : FAILED;
}

static int print_status(json_object *answer)
{
	struct tenon_migration_progress progress;
	struct tenon_error error;
	const char *state = talk_text(answer, "state");
	bool incoming = json_object_get_boolean(json_object_object_get(answer, "incoming"));
	bool over = strcmp(state, "over") == 0, failed = json_object_object_get(answer, "error");
	printf("%s%s", incoming ? "incoming: " : "", strcmp(state, "idle") == 0 ? "there has been none" : state);
	if (over)
		printf(", %s", !incoming ? talk_text(answer, "end") : failed ? "failed" : "the guest runs here");
	putchar('\n');
	if (json_object_object_get(answer, "error"))
		puts(talk_text(answer, "error"));
	json_object *object = json_object_object_get(answer, "progress");
	if (object && progress_parse(object, &progress, &error) == 0)
		display_block(&progress, NULL, 200, stdout);
	return 0;
}

static int ask(const struct command_options *options)
{
	struct tenon_error error;
	json_object *answer = NULL;
	int status = 0;
	if (talk_once(options->socket, command_request(options), &answer, &error) < 0) {
		log_error(&error);
		return FAILED;
	}
	if (options->json)
		puts(json_text(answer));
	if (options->action == COMMAND_CHECK)
		status = options->json ? !json_object_get_boolean(json_object_object_get(answer, "possible"))
				       : print_check(answer);
	else if (options->action == COMMAND_STATUS && !options->json)
		status = print_status(answer);
	json_object_put(answer);
	return status;
}

int migrate_main(int argc, char **argv)
{
	struct command_options options;
	struct tenon_error error;
	if (command_options_parse(argc, argv, &options, &error) < 0) {
		log_error(&error);
		return RUN_USAGE;
	}
	if (options.help)
		return 0;
	return options.action == COMMAND_MIGRATE ? migrate(&options) : ask(&options);
}

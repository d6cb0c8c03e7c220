// SPDX-License-Identifier: MIT
/* What `tenon migrate` was told, checked as far as it can be before the VM is asked, and as a request in its words. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../control/request.h"
#include "command_options.h"
#include "units.h"

enum {
	KEY_DOWNTIME = 256,
	KEY_BANDWIDTH,
	KEY_CONNECTIONS,
	KEY_ROUNDS,
	KEY_FORCE,
	KEY_INSECURE,
	KEY_COMPRESS,
	KEY_ASSUME,
	KEY_STAY,
	KEY_CA,
	KEY_CERT,
	KEY_KEY,
	KEY_PSK,
	KEY_PEER,
	KEY_JSON,
	KEY_REPORT,
	KEY_CHECK,
	KEY_STATUS,
	KEY_CANCEL,
	KEY_RESOLVE,
	KEY_HELP
};

static const struct argp_option argp_options[] = {
	{"downtime-limit", KEY_DOWNTIME, "TIME", 0,
	 "Stop the guest for the switch once that is expected to take no longer, e.g. 20ms or 0.5s (default 100ms)", 0},
	{"bandwidth", KEY_BANDWIDTH, "BYTES", 0, "Send no more than so much a second, e.g. 500M or 1G", 0},
	{"connections", KEY_CONNECTIONS, "N", 0, "Send over so many connections, 1 to 16 (default 1)", 0},
	{"rounds", KEY_ROUNDS, "N", 0, "Give up when the limit is not met after so many rounds (default 50)", 0},
	{"force", KEY_FORCE, NULL, 0, "Do not give up then: stop the guest for as long as it takes", 0},
	{"insecure", KEY_INSECURE, NULL, 0, "Let the guest's memory go over TCP to another host without encryption", 0},
	{"compress", KEY_COMPRESS, NULL, 0, "Compress (zstd), for slow networks", 0},
	{"assume-all-dirty", KEY_ASSUME, NULL, 0,
	 "Let devices through whose writes to memory nobody tracks: all of it is sent again while the guest stands "
	 "still",
	 0},
	{"stay-stopped", KEY_STAY, NULL, 0, "After a snapshot, do not let the guest run on", 0},
	{"tls-ca", KEY_CA, "FILE", 0, "As for tenon run, for this migration alone", 0},
	{"tls-cert", KEY_CERT, "FILE", 0, "Likewise", 0},
	{"tls-key", KEY_KEY, "FILE", 0, "Likewise", 0},
	{"tls-psk", KEY_PSK, "FILE", 0, "Likewise", 0},
	{"tls-peer", KEY_PEER, "NAME", 0, "Likewise", 0},
	{"report", KEY_REPORT, "FILE", 0, "Write a page (HTML) about it, also when it fails", 0},
	{"json", KEY_JSON, NULL, 0, "Print what the VM says as it comes, one JSON object per line", 0},
	{"quiet", 'q', NULL, 0, "Print nothing while it goes on", 0},
	{"check", KEY_CHECK, NULL, 0, "Move nothing: say what stands in the way, and how long it would take", 0},
	{"status", KEY_STATUS, NULL, 0, "Say how far a migration of this VM is, or how its last one ended", 0},
	{"cancel", KEY_CANCEL, NULL, 0, "End it; the guest runs on where it is", 0},
	{"resolve", KEY_RESOLVE, "WHO", 0,
	 "When the VM asks for a decision: run, this VM goes on, the other side never will; or stop, this VM ends", 0},
	{"help", KEY_HELP, NULL, 0, "Print this", 0},
	{0},
};

static const char argp_doc[] =
	"Moves the guest of a VM that runs with --control SOCKET, with its devices, to a VM that waits for it there "
	"(tenon run --incoming ADDRESS), or saves it.\v"
	"ADDRESS: tcp:HOST:PORT, unix:PATH, fd:N (a connected socket, or a file, that this command has open), or "
	"file:PATH, "
	"a snapshot, which tenon run --incoming file:PATH restores.\n"
	"Ctrl-C cancels it; a second one leaves it to itself. It also goes on when this command is killed.\n"
	"\n"
	"Exit status: 0 moved or saved, or the check found nothing in the way; 1 it failed, and the guest runs on "
	"where it "
	"was unless the message says otherwise; 2 wrong usage; 130 left by a second Ctrl-C.";

struct parser {
	struct command_options *options;
	struct tenon_error *err;
};

static int parse_number(const char *option, const char *text, unsigned long last, uint64_t *out,
			struct tenon_error *err)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || value < 1 || value > last)
		return tenon_fail(err, -EINVAL, "%s %s: not a number from 1 to %lu; give one", option, text, last);
	*out = value;
	return 0;
}

/* Those that are there or not. @return false: the key is another's */
static bool parse_flag(int key, struct command_options *options)
{
	const struct {
		int key;
		bool *flag;
	} flags[] = {
		{KEY_FORCE, &options->force},
		{KEY_INSECURE, &options->insecure},
		{KEY_COMPRESS, &options->compress},
		{KEY_ASSUME, &options->assume_all_dirty},
		{KEY_STAY, &options->stay_stopped},
		{KEY_JSON, &options->json},
		{'q', &options->quiet},
		{KEY_HELP, &options->help},
	};
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (flags[i].key == key)
			return *flags[i].flag = true;
	}
	return false;
}

static bool parse_text(int key, const char *text, struct command_options *options)
{
	const struct {
		int key;
		const char **text;
	} texts[] = {
		{KEY_CA, &options->tls.ca},   {KEY_CERT, &options->tls.cert}, {KEY_KEY, &options->tls.key},
		{KEY_PSK, &options->tls.psk}, {KEY_PEER, &options->tls.peer}, {KEY_REPORT, &options->report},
	};
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (texts[i].key != key)
			continue;
		*texts[i].text = text;
		return true;
	}
	return false;
}

static bool parse_action(int key, const char *text, struct command_options *options)
{
	if (key < KEY_CHECK || key > KEY_RESOLVE)
		return false;
	options->action = (enum command_action)(COMMAND_CHECK + (key - KEY_CHECK));
	options->actions++;
	options->choose = text;
	return true;
}

static int parse_word(const char *text, struct command_options *options, struct tenon_error *err)
{
	if (options->address)
		return tenon_fail(err, -EINVAL, "%s: one argument too many; see tenon migrate --help", text);
	if (options->socket)
		options->address = text;
	else
		options->socket = text;
	return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct parser *parser = state->input;
	struct command_options *options = parser->options;
	struct tenon_error *err = parser->err;
	switch (key) {
	case KEY_DOWNTIME:
		return -units_parse_time("--downtime-limit", text, &options->downtime_limit_ms, err);
	case KEY_BANDWIDTH:
		return -units_parse_bytes("--bandwidth", text, &options->bytes_per_second, err);
	case KEY_CONNECTIONS:
		return -parse_number("--connections", text, CONTROL_CONNECTIONS_MAX, &options->connections, err);
	case KEY_ROUNDS:
		return -parse_number("--rounds", text, CONTROL_ROUNDS_MAX, &options->rounds, err);
	case ARGP_KEY_ARG:
		return -parse_word(text, options, err);
	case ARGP_KEY_ERROR:
		if (err->code == 0)
			tenon_fail(err, -EINVAL,
				   "%s: unknown option, or its value is missing; see tenon migrate --help",
				   state->argv[state->next - 1]);
		return 0;
	default:
		if (parse_flag(key, options) || parse_text(key, text, options) || parse_action(key, text, options))
			return 0;
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- Checks ---- */

static bool is_snapshot(const char *address)
{
	return strncmp(address, "file:", 5) == 0 || strncmp(address, "fd:", 3) == 0;
}

static int check_address(const struct command_options *options, struct tenon_error *err)
{
	int code = engine_address_check("tenon migrate", options->address, err);
	if (code == 0)
		code = engine_tls_check("tenon migrate", &options->tls, err);
	if (code < 0)
		return code;
	if (options->stay_stopped && !is_snapshot(options->address))
		return tenon_fail(err, -EINVAL, "--stay-stopped: is for a snapshot; leave it out, or give file:PATH");
	int passed = command_passed(options);
	if (passed >= 0 && fcntl(passed, F_GETFD) < 0)
		return tenon_fail(err, -EBADF, "%s: is not open; open it when you start this command, as by %d<>FILE",
				  options->address, passed);
	return 0;
}

static bool has_settings(const struct command_options *options)
{
	const struct engine_tls *tls = &options->tls;
	return options->downtime_limit_ms || options->bytes_per_second || options->connections || options->rounds ||
	       options->force || options->insecure || options->compress || options->stay_stopped || tls->ca ||
	       tls->cert || tls->key || tls->psk || tls->peer || options->report || options->assume_all_dirty;
}

static int check(const struct command_options *options, struct tenon_error *err)
{
	if (!options->socket)
		return tenon_fail(err, -EINVAL,
				  "tenon migrate: a VM's control socket is needed; see tenon migrate --help");
	if (options->actions > 1)
		return tenon_fail(
			err, -EINVAL,
			"tenon migrate: --check, --status, --cancel and --resolve exclude each other; give one");
	if (options->action == COMMAND_RESOLVE && strcmp(options->choose, "run") != 0 &&
	    strcmp(options->choose, "stop") != 0)
		return tenon_fail(err, -EINVAL, "--resolve %s: not known; give run or stop", options->choose);
	if (options->action == COMMAND_MIGRATE && !options->address)
		return tenon_fail(err, -EINVAL,
				  "tenon migrate: where to is missing; give an address such as tcp:host:4444");
	/* What would be done may be asked of a check, word for word. */
	if (options->address && options->action <= COMMAND_CHECK)
		return check_address(options, err);
	if (options->address || (options->action != COMMAND_CHECK && has_settings(options)))
		return tenon_fail(
			err, -EINVAL,
			"tenon migrate: --status, --cancel and --resolve take nothing but the VM's socket; leave "
			"the rest out");
	return 0;
}

int command_options_parse(int argc, char **argv, struct command_options *options, struct tenon_error *err)
{
	static const struct argp argp = {
		.options = argp_options, .parser = parse_option, .args_doc = "SOCKET [ADDRESS]", .doc = argp_doc};
	struct parser parser = {.options = options, .err = err};
	*options = (struct command_options){0};
	err->code = 0;
	error_t code = argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &parser);
	if (code == 0 && options->help) {
		argp_help(&argp, stdout, ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, argv[0]);
		return 0;
	}
	return code ? -code : check(options, err);
}

/* ---- The request ---- */

int command_passed(const struct command_options *options)
{
	bool passes = options->action == COMMAND_MIGRATE && strncmp(options->address, "fd:", 3) == 0;
	return passes ? atoi(options->address + 3) : -1;
}

/* `text` with the path that begins at `path` in it from the root on. */
static json_object *from_root(const char *text, const char *path)
{
	char folder[PATH_MAX], *whole = NULL;
	if (*path == '/' || !getcwd(folder, sizeof(folder)))
		return json_object_new_string(text);
	if (asprintf(&whole, "%.*s%s/%s", (int)(path - text), text, folder, path) < 0)
		return NULL;
	json_object *object = json_object_new_string(whole);
	free(whole);
	return object;
}

static void add_tls(json_object *object, const struct engine_tls *tls)
{
	const struct {
		const char *key, *path;
	} files[] = {{"tls-ca", tls->ca}, {"tls-cert", tls->cert}, {"tls-key", tls->key}, {"tls-psk", tls->psk}};
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (files[i].path)
			json_object_object_add(object, files[i].key, from_root(files[i].path, files[i].path));
	}
	if (tls->peer)
		json_object_object_add(object, "tls-peer", json_object_new_string(tls->peer));
}

static void add_settings(json_object *object, const struct command_options *options)
{
	const struct {
		const char *key;
		uint64_t value;
	} numbers[] = {
		{"downtime-limit-ms", options->downtime_limit_ms},
		{"bandwidth", options->bytes_per_second},
		{"connections", options->connections},
		{"rounds", options->rounds},
	};
	const struct {
		const char *key;
		bool set;
	} flags[] = {
		{"force", options->force},
		{"insecure", options->insecure},
		{"compress", options->compress},
		{"stay-stopped", options->stay_stopped},
	};
	const char *address = options->address;
	bool path = strncmp(address, "unix:", 5) == 0 || strncmp(address, "file:", 5) == 0;
	json_object_object_add(object, "address",
			       path ? from_root(address, address + 5) : json_object_new_string(address));
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (numbers[i].value)
			json_object_object_add(object, numbers[i].key, json_object_new_uint64(numbers[i].value));
	}
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (flags[i].set)
			json_object_object_add(object, flags[i].key, json_object_new_boolean(true));
	}
	add_tls(object, &options->tls);
}

json_object *command_request(const struct command_options *options)
{
	static const char *const names[] = {[COMMAND_MIGRATE] = "migrate",
					    [COMMAND_CHECK] = "migrate-check",
					    [COMMAND_STATUS] = "migrate-status",
					    [COMMAND_CANCEL] = "migrate-cancel",
					    [COMMAND_RESOLVE] = "migrate-resolve"};
	json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	json_object_object_add(object, "command", json_object_new_string(names[options->action]));
	if (options->action == COMMAND_MIGRATE)
		add_settings(object, options);
	if (options->assume_all_dirty)
		json_object_object_add(object, "assume-all-dirty", json_object_new_boolean(true));
	if (options->action == COMMAND_RESOLVE)
		json_object_object_add(object, "choose", json_object_new_string(options->choose));
	return object;
}

// SPDX-License-Identifier: MIT
/* `tenon ctl`: one request to the control socket of a running VM, and its answer in the words of a terminal. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "control/request.h"
#include "control/talk.h"
#include "ctl.h"
#include "log.h"
#include "loop.h"
#include "topology_json.h"

enum { KEY_FORCE = 256, KEY_GROUP, KEY_TIMEOUT, KEY_JSON, KEY_HELP };

static const struct argp_option argp_options[] = {
	{"force", KEY_FORCE, NULL, 0, "device-remove: take the device out without asking the guest", 0},
	{"group", KEY_GROUP, NULL, 0, "device-remove: with the devices that share its slot", 0},
	{"timeout", KEY_TIMEOUT, "SECONDS", 0, "device-remove: how long the guest may take (default 30)", 0},
	{"json", KEY_JSON, NULL, 0, "Print the VM's answer as it is", 0},
	{"help", KEY_HELP, NULL, 0, "Print this", 0},
	{0},
};

static const char argp_doc[] =
	"Asks a VM that runs with --control SOCKET.\v"
	"Commands:\n"
	"  device-add ADDRESS[,OPTION]   plug a host device in; prints the guest's slot. Options as for --device\n"
	"  device-remove ADDRESS         ask the guest to release the device, and give it back to the host\n"
	"  devices                       list devices and empty ports\n"
	"  topology                      which devices the guest sees reset together\n"
	"  status                        what the VM does\n"
	"  quit                          end the VM at once\n"
	"\n"
	"Exit status: 0 done; 1 the VM refused, or cannot be reached; 2 wrong usage.";

struct request {
	const char *words[3]; /* socket, command, device */
	unsigned count;
	bool force, group, json, help;
	int timeout;
	struct tenon_error *err;
};

static int set_timeout(struct request *request, const char *text)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < 1 || value > CONTROL_TIMEOUT_MAX)
		return tenon_fail(request->err, -EINVAL, "--timeout %s: not a number from 1 to %d; give one", text,
				  CONTROL_TIMEOUT_MAX);
	request->timeout = (int)value;
	return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case KEY_FORCE:
		request->force = true;
		return 0;
	case KEY_GROUP:
		request->group = true;
		return 0;
	case KEY_TIMEOUT:
		return -set_timeout(request, text);
	case KEY_JSON:
		request->json = true;
		return 0;
	case KEY_HELP:
		request->help = true;
		return 0;
	case ARGP_KEY_ARG:
		if (request->count == 3)
			return -tenon_fail(request->err, -EINVAL, "%s: one argument too many; see tenon ctl --help",
					   text);
		request->words[request->count++] = text;
		return 0;
	case ARGP_KEY_ERROR:
		if (request->err->code == 0)
			tenon_fail(request->err, -EINVAL,
				   "%s: unknown option, or its value is missing; see tenon ctl --help",
				   state->argv[state->next - 1]);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int check(const struct request *request, struct tenon_error *err)
{
	const char *name = request->count > 1 ? request->words[1] : NULL;
	if (!name)
		return tenon_fail(err, -EINVAL, "tenon ctl: a socket and a command are needed; see tenon ctl --help");
	enum control_command command = control_command_of(name);
	if (command == CONTROL_COMMANDS)
		return tenon_fail(err, -EINVAL, "%s: no such command; tenon ctl --help lists them", name);
	if (command >= CONTROL_MIGRATE)
		return tenon_fail(err, -EINVAL, "%s: has a command of its own; see tenon migrate --help", name);
	bool device = command == CONTROL_DEVICE_ADD || command == CONTROL_DEVICE_REMOVE;
	if (device != (request->count == 3))
		return tenon_fail(err, -EINVAL, "%s: %s; see tenon ctl --help", name,
				  device ? "needs a device's address" : "takes no argument");
	if (command != CONTROL_DEVICE_REMOVE && (request->force || request->group || request->timeout))
		return tenon_fail(err, -EINVAL,
				  "%s: takes none of --force, --group and --timeout; see tenon ctl --help", name);
	return 0;
}

static json_object *make_request(const struct request *request)
{
	json_object *object = json_object_new_object();
	json_object_object_add(object, "command", json_object_new_string(request->words[1]));
	if (request->count == 3)
		json_object_object_add(object, "device", json_object_new_string(request->words[2]));
	if (request->force)
		json_object_object_add(object, "force", json_object_new_boolean(true));
	if (request->group)
		json_object_object_add(object, "group", json_object_new_boolean(true));
	if (request->timeout)
		json_object_object_add(object, "timeout", json_object_new_int(request->timeout));
	return object;
}

static void print_devices(json_object *answer)
{
	json_object *slots = json_object_object_get(answer, "slots");
	printf("%-14s %-9s %-9s %-10s %s\n", "DEVICE", "SLOT", "PORT", "ID", "STATE");
	for (size_t i = 0; slots && i < json_object_array_length(slots); i++) {
		json_object *slot = json_object_array_get_idx(slots, i);
		printf("%-14s %-9s %-9s %-10s %s\n", talk_text(slot, "device"), talk_text(slot, "slot"),
		       talk_text(slot, "port"), talk_text(slot, "id"), talk_text(slot, "state"));
	}
}

static void print_status(json_object *answer)
{
	printf("state        %s\nuptime       %s s\nCPUs         %s\nmemory       %llu MiB\ndevices      %s\n"
	       "empty ports  %s\n",
	       talk_text(answer, "state"), talk_text(answer, "uptime_seconds"), talk_text(answer, "cpus"),
	       (unsigned long long)json_object_get_uint64(json_object_object_get(answer, "memory_bytes")) >> 20,
	       talk_text(answer, "devices"), talk_text(answer, "empty_ports"));
}

static void print_answer(const struct request *request, json_object *answer)
{
	if (request->json) {
		puts(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
		return;
	}
	switch (control_command_of(request->words[1])) {
	case CONTROL_DEVICE_ADD:
		puts(talk_text(answer, "slot"));
		break;
	case CONTROL_DEVICES:
		print_devices(answer);
		break;
	case CONTROL_TOPOLOGY:
		topology_print(json_object_object_get(answer, "topology"));
		break;
	case CONTROL_STATUS:
		print_status(answer);
		break;
	default:
		break;
	}
}

int ctl_main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = argp_options, .parser = parse_option, .args_doc = "SOCKET COMMAND", .doc = argp_doc};
	struct tenon_error error = {0};
	struct request request = {.err = &error};
	json_object *answer = NULL;
	int code = argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &request);
	if (code == 0 && request.help) {
		argp_help(&argp, stdout, ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, argv[0]);
		return 0;
	}
	if (code || check(&request, &error) < 0) {
		log_error(&error);
		return RUN_USAGE;
	}
	if (talk_once(request.words[0], make_request(&request), &answer, &error) < 0) {
		log_error(&error);
		return RUN_SETUP_FAILED;
	}
	print_answer(&request, answer);
	json_object_put(answer);
	return 0;
}

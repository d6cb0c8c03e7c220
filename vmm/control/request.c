// SPDX-License-Identifier: MIT
/* The parser of the control socket's requests. It sees whatever a client sends. */
#include <errno.h>
#include <string.h>

#include <json-c/json.h>

#include "request.h"

#define DEPTH_MAX 4 /* of nested objects and arrays, none of which a request has */

static const char *const names[CONTROL_COMMANDS] = {
	[CONTROL_DEVICE_ADD] = "device-add", [CONTROL_DEVICE_REMOVE] = "device-remove",
	[CONTROL_DEVICES] = "devices",       [CONTROL_TOPOLOGY] = "topology",
	[CONTROL_STATUS] = "status",         [CONTROL_QUIT] = "quit",
};

enum control_command control_command_of(const char *name)
{
	enum control_command command = 0;
	while (command < CONTROL_COMMANDS && strcmp(names[command], name) != 0)
		command++;
	return command;
}

/* A string that can go into messages: no control characters, no zero byte inside. */
static int get_text(json_object *value, const char *key, const char **out, struct tenon_error *err)
{
	const char *text = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
	bool plain = text && strlen(text) == (size_t)json_object_get_string_len(value);
	for (const char *at = text; plain && *at; at++)
		plain = (unsigned char)*at >= 0x20 && *at != 0x7f;
	if (!plain)
		return tenon_fail(err, -EINVAL, "request: \"%s\" is no plain string; give one", key);
	*out = text;
	return 0;
}

static int get_timeout(json_object *value, unsigned *out, struct tenon_error *err)
{
	int64_t seconds = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : 0;
	if (seconds < 1 || seconds > CONTROL_TIMEOUT_MAX)
		return tenon_fail(err, -EINVAL, "request: \"timeout\" is no whole number from 1 to %d; give seconds",
				  CONTROL_TIMEOUT_MAX);
	*out = (unsigned)seconds;
	return 0;
}

static int get_flag(json_object *value, const char *key, bool *out, struct tenon_error *err)
{
	if (!json_object_is_type(value, json_type_boolean))
		return tenon_fail(err, -EINVAL, "request: \"%s\" is neither true nor false; give one of them", key);
	*out = json_object_get_boolean(value);
	return 0;
}

struct fields {
	const char *command, *device;
};

static int get_field(const char *key, json_object *value, struct fields *fields, struct control_request *request,
		     struct tenon_error *err)
{
	if (strcmp(key, "command") == 0)
		return get_text(value, key, &fields->command, err);
	if (strcmp(key, "device") == 0)
		return get_text(value, key, &fields->device, err);
	if (strcmp(key, "timeout") == 0)
		return get_timeout(value, &request->timeout_seconds, err);
	if (strcmp(key, "force") == 0)
		return get_flag(value, key, &request->force, err);
	if (strcmp(key, "group") == 0)
		return get_flag(value, key, &request->group, err);
	return tenon_fail(err, -EINVAL,
			  "request: a member is not known; command, device, force, group and timeout are");
}

static int check(const struct fields *fields, struct control_request *request, struct tenon_error *err)
{
	if (!fields->command)
		return tenon_fail(err, -EINVAL, "request: \"command\" is missing; give one such as \"devices\"");
	request->command = control_command_of(fields->command);
	if (request->command == CONTROL_COMMANDS)
		return tenon_fail(err, -EINVAL,
				  "request: %.40s: no such command; device-add, device-remove, devices, topology, "
				  "status and quit "
				  "are known",
				  fields->command);
	bool removes = request->command == CONTROL_DEVICE_REMOVE;
	bool wants_device = removes || request->command == CONTROL_DEVICE_ADD;
	if (wants_device != (fields->device != NULL))
		return tenon_fail(err, -EINVAL, "request: %s %s; see tenon ctl --help", fields->command,
				  wants_device ? "needs a \"device\"" : "takes no \"device\"");
	if (!removes && (request->force || request->group || request->timeout_seconds))
		return tenon_fail(
			err, -EINVAL,
			"request: %s takes none of \"force\", \"group\" and \"timeout\"; see tenon ctl --help",
			fields->command);
	if (!wants_device)
		return 0;
	int code = options_parse_device(fields->device, &request->device, err);
	if (code == 0 && removes && strchr(fields->device, ',')) {
		options_finish_device(&request->device);
		code = tenon_fail(err, -EINVAL,
				  "request: device-remove takes a device's address alone; leave the options out");
	}
	return code;
}

static int parse_object(json_object *object, struct control_request *request, struct tenon_error *err)
{
	struct fields fields = {0};
	int code = 0;
	if (!json_object_is_type(object, json_type_object))
		return tenon_fail(err, -EINVAL, "request: no JSON object; send one per line");
	json_object_object_foreach(object, key, value)
	{
		if (code == 0)
			code = get_field(key, value, &fields, request, err);
	}
	return code < 0 ? code : check(&fields, request, err);
}

int control_request_parse(const char *line, size_t bytes, struct control_request *request, struct tenon_error *err)
{
	*request = (struct control_request){0};
	if (bytes == 0 || bytes > CONTROL_LINE_MAX)
		return tenon_fail(err, -EINVAL,
				  "request: empty, or longer than %d bytes; send one JSON object per line",
				  CONTROL_LINE_MAX);
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener)
		return tenon_fail(err, -ENOMEM, "request: out of memory; free some memory");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	json_object *object = json_tokener_parse_ex(tokener, line, (int)bytes);
	enum json_tokener_error why = json_tokener_get_error(tokener);
	int code;
	if (why == json_tokener_success && json_tokener_get_parse_end(tokener) == bytes)
		code = parse_object(object, request, err);
	else
		code = tenon_fail(err, -EINVAL, "request: no JSON: %s; send one JSON object per line",
				  why == json_tokener_success    ? "something follows the object"
				  : why == json_tokener_continue ? "it ends too early"
								 : json_tokener_error_desc(why));
	json_object_put(object);
	json_tokener_free(tokener);
	return code;
}

void control_request_finish(struct control_request *request)
{
	options_finish_device(&request->device);
}

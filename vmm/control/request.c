// SPDX-License-Identifier: MIT
/* The parser of the control socket's requests. It sees whatever a client sends. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "request.h"

#define DEPTH_MAX 4 /* of nested objects and arrays, none of which a request has */

static const char *const names[CONTROL_COMMANDS] = {
	[CONTROL_DEVICE_ADD] = "device-add",
	[CONTROL_DEVICE_REMOVE] = "device-remove",
	[CONTROL_DEVICES] = "devices",
	[CONTROL_TOPOLOGY] = "topology",
	[CONTROL_STATUS] = "status",
	[CONTROL_QUIT] = "quit",
	[CONTROL_MIGRATE] = "migrate",
	[CONTROL_MIGRATE_CHECK] = "migrate-check",
	[CONTROL_MIGRATE_STATUS] = "migrate-status",
	[CONTROL_MIGRATE_CANCEL] = "migrate-cancel",
	[CONTROL_MIGRATE_RESOLVE] = "migrate-resolve",
};

enum control_command control_command_of(const char *name)
{
	enum control_command command = 0;
	while (command < CONTROL_COMMANDS && strcmp(names[command], name) != 0)
		command++;
	return command;
}

/* ---- The members of a request ---- */

struct fields {
	const char *device, *address, *choose;
	struct engine_tls tls;
	uint64_t timeout, downtime_ms, bandwidth, connections, rounds;
	bool force, group, assume_all_dirty, insecure, compress, stay_stopped;
};

#define ADD     (1u << CONTROL_DEVICE_ADD)
#define REMOVE  (1u << CONTROL_DEVICE_REMOVE)
#define MIGRATE (1u << CONTROL_MIGRATE)
#define CHECK   (1u << CONTROL_MIGRATE_CHECK)
#define RESOLVE (1u << CONTROL_MIGRATE_RESOLVE)

static const struct member {
	const char *key;
	enum { TEXT, NUMBER, FLAG } kind;
	unsigned commands; /* that take it */
	size_t offset;     /* in struct fields */
	int64_t last;      /* of a NUMBER, from 1 */
} members[] = {
#define MEMBER(name) offsetof(struct fields, name)
	{"device", TEXT, ADD | REMOVE, MEMBER(device), 0},
	{"timeout", NUMBER, REMOVE, MEMBER(timeout), CONTROL_TIMEOUT_MAX},
	{"force", FLAG, REMOVE | MIGRATE, MEMBER(force), 0},
	{"group", FLAG, REMOVE, MEMBER(group), 0},
	{"address", TEXT, MIGRATE, MEMBER(address), 0},
	{"downtime-limit-ms", NUMBER, MIGRATE, MEMBER(downtime_ms), CONTROL_DOWNTIME_MS_MAX},
	{"bandwidth", NUMBER, MIGRATE, MEMBER(bandwidth), INT64_MAX},
	{"connections", NUMBER, MIGRATE, MEMBER(connections), CONTROL_CONNECTIONS_MAX},
	{"rounds", NUMBER, MIGRATE, MEMBER(rounds), CONTROL_ROUNDS_MAX},
	{"assume-all-dirty", FLAG, MIGRATE | CHECK, MEMBER(assume_all_dirty), 0},
	{"insecure", FLAG, MIGRATE, MEMBER(insecure), 0},
	{"compress", FLAG, MIGRATE, MEMBER(compress), 0},
	{"stay-stopped", FLAG, MIGRATE, MEMBER(stay_stopped), 0},
	{"tls-ca", TEXT, MIGRATE, MEMBER(tls.ca), 0},
	{"tls-cert", TEXT, MIGRATE, MEMBER(tls.cert), 0},
	{"tls-key", TEXT, MIGRATE, MEMBER(tls.key), 0},
	{"tls-psk", TEXT, MIGRATE, MEMBER(tls.psk), 0},
	{"tls-peer", TEXT, MIGRATE, MEMBER(tls.peer), 0},
	{"choose", TEXT, RESOLVE, MEMBER(choose), 0},
#undef MEMBER
};

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

static int get_number(json_object *value, const struct member *member, uint64_t *out, struct tenon_error *err)
{
	int64_t number = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : 0;
	if (number < 1 || number > member->last)
		return tenon_fail(err, -EINVAL,
				  "request: \"%s\" is no whole number from 1 to %" PRId64 "; give one, or leave it out",
				  member->key, member->last);
	*out = (uint64_t)number;
	return 0;
}

static int get_flag(json_object *value, const char *key, bool *out, struct tenon_error *err)
{
	if (!json_object_is_type(value, json_type_boolean))
		return tenon_fail(err, -EINVAL, "request: \"%s\" is neither true nor false; give one of them", key);
	*out = json_object_get_boolean(value);
	return 0;
}

static int get_member(const char *key, json_object *value, enum control_command command, struct fields *fields,
		      struct tenon_error *err)
{
	const struct member *member = members, *const end = members + sizeof(members) / sizeof(members[0]);
	while (member < end && strcmp(member->key, key) != 0)
		member++;
	if (member == end || !(member->commands & 1u << command))
		return tenon_fail(err, -EINVAL, "request: %s takes no \"%s\"; see CONTROL SOCKET in tenon(1)",
				  names[command], member == end ? "member of that name" : member->key);
	void *out = (char *)fields + member->offset;
	switch (member->kind) {
	case TEXT:
		return get_text(value, member->key, out, err);
	case NUMBER:
		return get_number(value, member, out, err);
	default:
		return get_flag(value, member->key, out, err);
	}
}

static int get_command(json_object *object, enum control_command *command, struct tenon_error *err)
{
	json_object *value = NULL;
	const char *name = NULL;
	if (!json_object_object_get_ex(object, "command", &value))
		return tenon_fail(err, -EINVAL, "request: \"command\" is missing; give one such as \"devices\"");
	int code = get_text(value, "command", &name, err);
	if (code < 0)
		return code;
	*command = control_command_of(name);
	if (*command == CONTROL_COMMANDS)
		return tenon_fail(
			err, -EINVAL,
			"request: %.40s: no such command; CONTROL SOCKET in tenon(1) has those that are known", name);
	return 0;
}

/* ---- Requests ---- */

static int make_device(const struct fields *fields, struct control_request *request, struct tenon_error *err)
{
	bool removes = request->command == CONTROL_DEVICE_REMOVE;
	if (!fields->device)
		return tenon_fail(err, -EINVAL, "request: %s needs a \"device\"; see tenon ctl --help",
				  names[request->command]);
	request->force = fields->force;
	request->group = fields->group;
	request->timeout_seconds = (unsigned)fields->timeout;
	int code = options_parse_device(fields->device, &request->device, err);
	if (code == 0 && removes && strchr(fields->device, ',')) {
		options_finish_device(&request->device);
		code = tenon_fail(err, -EINVAL,
				  "request: device-remove takes a device's address alone; leave the options out");
	}
	return code;
}

static int check_migrate(const struct fields *fields, struct tenon_error *err)
{
	if (!fields->address)
		return tenon_fail(err, -EINVAL,
				  "request: migrate needs an \"address\"; give one such as \"tcp:host:4444\"");
	int code = engine_address_check("request: migrate", fields->address, err);
	if (code == 0)
		code = engine_tls_check("request: migrate", &fields->tls, err);
	if (code < 0)
		return code;
	bool snapshot = strncmp(fields->address, "file:", 5) == 0 || strncmp(fields->address, "fd:", 3) == 0;
	if (fields->stay_stopped && !snapshot)
		return tenon_fail(err, -EINVAL, "request: migrate: \"stay-stopped\" is for a snapshot; leave it out");
	return 0;
}

/* @return whether there was memory */
static bool copy_text(const char *text, const char **out)
{
	*out = text ? strdup(text) : NULL;
	return !text || *out;
}

static int make_migrate(const struct fields *fields, struct engine_request *migrate, struct tenon_error *err)
{
	int code = check_migrate(fields, err);
	if (code < 0)
		return code;
	*migrate = (struct engine_request){
		.address = strdup(fields->address),
		.downtime_limit_ns = fields->downtime_ms * 1000000,
		.bytes_per_second = fields->bandwidth,
		.connections = (unsigned)fields->connections,
		.rounds = (unsigned)fields->rounds,
		.force = fields->force,
		.assume_all_dirty = fields->assume_all_dirty,
		.insecure = fields->insecure,
		.compress = fields->compress,
		.stay_stopped = fields->stay_stopped,
	};
	bool copied = migrate->address && copy_text(fields->tls.ca, &migrate->tls.ca) &&
		      copy_text(fields->tls.cert, &migrate->tls.cert) &&
		      copy_text(fields->tls.key, &migrate->tls.key) && copy_text(fields->tls.psk, &migrate->tls.psk) &&
		      copy_text(fields->tls.peer, &migrate->tls.peer);
	if (copied)
		return 0;
	engine_request_finish(migrate);
	return tenon_fail(err, -ENOMEM, "request: out of memory; free some memory");
}

static int make_resolve(const struct fields *fields, struct control_request *request, struct tenon_error *err)
{
	const char *choose = fields->choose ? fields->choose : "";
	request->run = strcmp(choose, "run") == 0;
	if (!request->run && strcmp(choose, "stop") != 0)
		return tenon_fail(
			err, -EINVAL,
			"request: migrate-resolve: \"choose\" is neither \"run\" nor \"stop\"; give one of them");
	return 0;
}

static int make_request(const struct fields *fields, struct control_request *request, struct tenon_error *err)
{
	switch (request->command) {
	case CONTROL_DEVICE_ADD:
	case CONTROL_DEVICE_REMOVE:
		return make_device(fields, request, err);
	case CONTROL_MIGRATE:
		return make_migrate(fields, &request->migrate, err);
	case CONTROL_MIGRATE_CHECK:
		request->migrate.assume_all_dirty = fields->assume_all_dirty;
		return 0;
	case CONTROL_MIGRATE_RESOLVE:
		return make_resolve(fields, request, err);
	default:
		return 0;
	}
}

static int parse_object(json_object *object, struct control_request *request, struct tenon_error *err)
{
	struct fields fields = {0};
	if (!json_object_is_type(object, json_type_object))
		return tenon_fail(err, -EINVAL, "request: no JSON object; send one per line");
	int code = get_command(object, &request->command, err);
	json_object_object_foreach(object, key, value)
	{
		if (code == 0 && strcmp(key, "command") != 0)
			code = get_member(key, value, request->command, &fields, err);
	}
	return code < 0 ? code : make_request(&fields, request, err);
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
	engine_request_finish(&request->migrate);
}

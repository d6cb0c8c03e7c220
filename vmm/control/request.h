/* SPDX-License-Identifier: MIT */
/*
 * What a client of the control socket may ask: one JSON object per line, at most CONTROL_LINE_MAX bytes of it.
 *
 *   {"command": "device-add", "device": "0000:3b:00.0,rom=off"}      what --device takes
 *   {"command": "device-remove", "device": "0000:3b:00.0", "force": false, "group": false, "timeout": 30}
 *   {"command": "devices"}   {"command": "topology"}   {"command": "status"}   {"command": "quit"}
 *   {"command": "migrate", "address": "tcp:host:4444", "downtime-limit-ms": 20, "bandwidth": 1000000000, "connections": 4, "rounds": 50,
 *    "force": false, "assume-all-dirty": false, "insecure": false, "compress": false, "stay-stopped": false,
 *    "tls-ca": "/path", "tls-cert": "/path", "tls-key": "/path", "tls-psk": "/path", "tls-peer": "name"}    all but the address may be left out
 *   {"command": "migrate-check", "assume-all-dirty": false}   {"command": "migrate-status"}   {"command": "migrate-cancel"}
 *   {"command": "migrate-resolve", "choose": "run"}           or "stop": see engine_resolve
 *
 * Clients are not trusted with anything but these: whatever else they send is refused in one sentence.
 */
#ifndef CONTROL_REQUEST_H
#define CONTROL_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include <tenon/error.h>

#include "options.h"

#define CONTROL_LINE_MAX        4096
#define CONTROL_TIMEOUT_MAX     3600 /* seconds */
#define CONTROL_DOWNTIME_MS_MAX 3600000
#define CONTROL_CONNECTIONS_MAX 16
#define CONTROL_ROUNDS_MAX      100000

enum control_command {
	CONTROL_DEVICE_ADD,
	CONTROL_DEVICE_REMOVE,
	CONTROL_DEVICES,
	CONTROL_TOPOLOGY,
	CONTROL_STATUS,
	CONTROL_QUIT,
	CONTROL_MIGRATE,
	CONTROL_MIGRATE_CHECK,
	CONTROL_MIGRATE_STATUS,
	CONTROL_MIGRATE_CANCEL,
	CONTROL_MIGRATE_RESOLVE,
	CONTROL_COMMANDS,
};

struct control_request {
	enum control_command command;
	struct device_options device; /* CONTROL_DEVICE_ADD, and its address for CONTROL_DEVICE_REMOVE */
	bool force, group;
	unsigned timeout_seconds;      /* 0: not said */
	struct engine_request migrate; /* CONTROL_MIGRATE; of CONTROL_MIGRATE_CHECK assume_all_dirty */
	bool run;                      /* CONTROL_MIGRATE_RESOLVE: this machine, not the other */
};

/** The command of this name, or CONTROL_COMMANDS. */
enum control_command control_command_of(const char *name);

/**
 * Parses one line, without its newline.
 *
 * @param request  finished by control_request_finish; nothing to finish after a failure
 */
int control_request_parse(const char *line, size_t bytes, struct control_request *request, struct tenon_error *err);
void control_request_finish(struct control_request *request);

#endif

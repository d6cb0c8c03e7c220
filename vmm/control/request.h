/* SPDX-License-Identifier: MIT */
/*
 * What a client of the control socket may ask: one JSON object per line, at most CONTROL_LINE_MAX bytes of it.
 *
 *   {"command": "device-add", "device": "0000:3b:00.0,rom=off"}      what --device takes
 *   {"command": "device-remove", "device": "0000:3b:00.0", "force": false, "group": false, "timeout": 30}
 *   {"command": "devices"}   {"command": "topology"}   {"command": "status"}   {"command": "quit"}
 *
 * Clients are not trusted with anything but these: whatever else they send is refused in one sentence.
 */
#ifndef CONTROL_REQUEST_H
#define CONTROL_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include <tenon/error.h>

#include "options.h"

#define CONTROL_LINE_MAX    4096
#define CONTROL_TIMEOUT_MAX 3600 /* seconds */

enum control_command {
	CONTROL_DEVICE_ADD,
	CONTROL_DEVICE_REMOVE,
	CONTROL_DEVICES,
	CONTROL_TOPOLOGY,
	CONTROL_STATUS,
	CONTROL_QUIT,
	CONTROL_COMMANDS,
};

struct control_request {
	enum control_command command;
	struct device_options device; /* CONTROL_DEVICE_ADD, and its address for CONTROL_DEVICE_REMOVE */
	bool force, group;
	unsigned timeout_seconds; /* 0: not said */
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

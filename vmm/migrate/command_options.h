/* SPDX-License-Identifier: MIT */
/* The command line of `tenon migrate`, and the requests that it makes of a VM. */
#ifndef MIGRATE_COMMAND_OPTIONS_H
#define MIGRATE_COMMAND_OPTIONS_H

#include <stdbool.h>

#include <json-c/json.h>

#include "engine.h"

enum command_action { COMMAND_MIGRATE, COMMAND_CHECK, COMMAND_STATUS, COMMAND_CANCEL, COMMAND_RESOLVE };

struct command_options {
	enum command_action action;
	unsigned actions;             /* that were given */
	const char *socket, *address; /* borrowed from argv, as all here */
	const char *report, *choose;
	struct engine_tls tls;
	uint64_t downtime_limit_ms, bytes_per_second; /* 0: not given */
	uint64_t connections, rounds;                 /* likewise */
	bool force, insecure, compress, assume_all_dirty, stay_stopped, json, quiet, help;
};

/** @param err  required */
int command_options_parse(int argc, char **argv, struct command_options *options, struct tenon_error *err);

/** Of the action. Paths are from the root on, since the VM has a folder of its own. @return NULL: out of memory */
json_object *command_request(const struct command_options *options);

/** The open file that goes with the request, or -1. */
int command_passed(const struct command_options *options);

#endif
